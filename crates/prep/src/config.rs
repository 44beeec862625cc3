//! The stage's section of the configuration; `default.toml` explains every key.

use std::collections::BTreeMap;
use std::ops::Bound;

use cxr::SplitKind;
use labels::rows::is_name;
pub use labels::{Blank, Uncertain, Views};
use labels::{ColumnNames, Reading};
use serde::{Deserialize, Serialize};
use stage::{Fail, Section, Settings, Spec};

/// What this stage is.
pub const SPEC: Spec = Spec {
    name: "prep",
    version: 3,
    seeded: false,
    defaults: include_str!("../default.toml"),
    about: "Read the NIH files and write one Parquet row per image, with its split

Reads the label table, the box list, the split lists and the PNG files of the folder prep.root; writes images/{train,validation,test}-NNNNN-of-NNNNN.parquet. With --dry-run, prints what the folder holds and opens no image: it also works before the images have arrived.",
};

/// The `[prep]` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whose form the folder has.
    pub dataset: Form,
    /// Folder with the images, or [`Config::PHANTOM`].
    pub root: String,
    /// Label table, or `auto`.
    pub labels: String,
    /// Box list, `auto` or `none`.
    pub boxes: String,
    /// Labels of experts, kept beside NIH's; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub expert_labels: String,
    /// How images are divided.
    pub split: SplitKind,
    /// Seed of every random choice of the division.
    pub split_seed: u64,
    /// List of training images (with [`SplitKind::Official`]: of training and validation images).
    pub train_list: String,
    /// List of validation images.
    pub validation_list: String,
    /// List of test images.
    pub test_list: String,
    /// Share of the train_val images for validation.
    pub validation_fraction: f64,
    /// What to do about an image that is not there.
    pub missing: OnProblem,
    /// What to do about an image that cannot be read.
    pub corrupt: OnProblem,
    /// Side of the stored image in pixels.
    pub size: u32,
    /// Contrast factor, 1 = off.
    pub contrast: f32,
    /// Bits that the values of unscaled 16-bit PNG files use; 16 stretches none.
    pub depth: u32,
    /// Memory for images that are decoded at a time, MB.
    pub memory_mb: u32,
    /// What other names of findings mean: theirs to ours.
    pub rename: BTreeMap<String, String>,
    /// Which views are taken.
    pub views: Views,
    /// Column with the images' paths or names; this and all below are of [`Form::Folder`].
    pub image_column: String,
    /// Column with the patients; empty: each image is a patient.
    pub patient_column: String,
    /// Column that lists findings; empty: a column for each.
    pub findings_column: String,
    /// Characters between the findings of a list.
    pub separators: String,
    /// What -1 means.
    pub uncertain: Uncertain,
    /// What an empty cell means.
    pub blank: Blank,
    /// Column with the split; empty: `split` decides.
    pub split_column: String,
    /// Column with the age; may be empty, as the next two.
    pub age_column: String,
    /// Column with the sex.
    pub sex_column: String,
    /// Column with the view.
    pub view_column: String,
}

/// Whose form a dataset has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// NIH ChestX-ray14's.
    Nih,
    /// Any folder of images with a table of labels.
    Folder,
}

/// What to do about an image that is missing or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnProblem {
    /// Stop.
    Error,
    /// Leave it out, and count it.
    Skip,
}

impl Config {
    /// The `root` that means the synthetic dataset of the same run.
    pub const PHANTOM: &str = "phantom";

    /// How the cells of the label table are read.
    pub fn reading(&self) -> Reading {
        let named = |name: &String| name.clone();
        Reading {
            rename: self.rename.clone(),
            views: self.views,
            separators: self.separators.clone(),
            uncertain: self.uncertain,
            blank: self.blank,
            columns: ColumnNames {
                image: named(&self.image_column),
                patient: named(&self.patient_column),
                findings: named(&self.findings_column),
                split: named(&self.split_column),
                age: named(&self.age_column),
                sex: named(&self.sex_column),
                view: named(&self.view_column),
            },
        }
    }

    /// What a folder needs, beside what every dataset needs.
    fn check_folder(&self, section: Section) -> Result<(), Fail> {
        let because = "because prep.dataset = \"folder\"";
        if self.root == Config::PHANTOM {
            return Err(section.refuse("root", &"\"phantom\"", &format!("a folder of images, {because}")));
        }
        if self.image_column.is_empty() {
            return Err(section.refuse("image_column", &"\"\"", &format!("a column of the table, {because}")));
        }
        if self.separators.is_empty() && !self.findings_column.is_empty() {
            return Err(section.refuse("separators", &"\"\"", "at least one character"));
        }
        if !self.expert_labels.is_empty() {
            return Err(section.refuse("expert_labels", &self.expert_labels, &format!("\"\", {because}")));
        }
        if self.boxes != "auto" && self.boxes != "none" {
            return Err(section.refuse("boxes", &self.boxes, &format!("\"none\" or \"auto\", {because}")));
        }
        if self.split_column.is_empty() && matches!(self.split, SplitKind::Official | SplitKind::Files) {
            let expected = format!("\"random\", \"paper\" or \"test\", or a prep.split_column, {because}");
            return Err(section.refuse("split", &self.split, &expected));
        }
        Ok(())
    }
}

impl Settings for Config {
    // The contents of the raw data are an input of their own, wherever they lie.
    const EXECUTION: &'static [&'static str] = &["memory_mb", "root"];

    fn check(&self, section: Section) -> Result<(), Fail> {
        files::check(&self.root)?;
        section.within("size", self.size, 16..=2048)?;
        section.within("contrast", self.contrast, (Bound::Excluded(0.0), Bound::Included(10.0)))?;
        section.within(
            "validation_fraction",
            self.validation_fraction,
            (Bound::Excluded(0.0), Bound::Included(0.5)),
        )?;
        section.within("depth", self.depth, 8..=16)?;
        section.within("memory_mb", self.memory_mb, 16..=1 << 20)?;
        if let Some((theirs, ours)) = self.rename.iter().find(|(_, ours)| !is_name(ours)) {
            let expected = format!("one of the 14 findings, \"No Finding\" or \"\" for {theirs:?}");
            return Err(section.refuse("rename", &format!("{ours:?}"), &expected));
        }
        let lists = [
            ("train_list", &self.train_list),
            ("validation_list", &self.validation_list),
            ("test_list", &self.test_list),
        ];
        if self.dataset == Form::Folder {
            return self.check_folder(section);
        }
        match lists.into_iter().find(|(_, list)| self.split == SplitKind::Files && list.is_empty()) {
            Some((key, _)) => Err(section.refuse(key, &"\"\"", "a file, because prep.split = \"files\"")),
            None => Ok(()),
        }
    }
}
