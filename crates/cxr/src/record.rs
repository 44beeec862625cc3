//! One image of the dataset: whose it is, how it was taken, what it shows.

use strum::{VariantArray, VariantNames};

use crate::{BBox, Finding, Labels, UnknownName};

/// What an image may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray, strum::VariantNames)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = UnknownName, parse_err_fn = unknown_split)]
pub enum Split {
    /// Weights are fitted on these.
    Train,
    /// The best epoch is chosen on these.
    Validation,
    /// Results are reported on these, and on nothing else.
    Test,
}

impl Split {
    /// All splits, in file order.
    pub const ALL: [Split; 3] = *<Split as VariantArray>::VARIANTS.first_chunk().unwrap();

    /// `train`, `validation` or `test`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn unknown_split(text: &str) -> UnknownName {
    UnknownName { what: "split", got: text.to_owned(), allowed: <Split as VariantNames>::VARIANTS.join(", ") }
}

/// Where images come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray, strum::VariantNames)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum DatasetKind {
    /// NIH ChestX-ray14, all of it or a part.
    Nih,
    /// The synthetic dataset, which has NIH's form.
    Phantom,
    /// Any other folder of images with a table of labels.
    Folder,
}

/// The patient's sex as recorded by NIH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray, strum::VariantNames)]
#[strum(parse_err_ty = UnknownName, parse_err_fn = unknown_sex)]
pub enum Sex {
    /// `F`
    #[strum(serialize = "F")]
    Female,
    /// `M`
    #[strum(serialize = "M")]
    Male,
}

impl Sex {
    /// NIH's letter.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn unknown_sex(text: &str) -> UnknownName {
    UnknownName { what: "sex", got: text.to_owned(), allowed: <Sex as VariantNames>::VARIANTS.join(", ") }
}

/// Where the beam entered the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray, strum::VariantNames)]
#[strum(serialize_all = "UPPERCASE", parse_err_ty = UnknownName, parse_err_fn = unknown_view_position)]
pub enum ViewPosition {
    /// Anteroposterior, usually a bedside film of a sicker patient.
    Ap,
    /// Posteroanterior, the standard upright film.
    Pa,
}

impl ViewPosition {
    /// NIH's letters, `AP` or `PA`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn unknown_view_position(text: &str) -> UnknownName {
    UnknownName {
        what: "view position",
        got: text.to_owned(),
        allowed: <ViewPosition as VariantNames>::VARIANTS.join(", "),
    }
}

/// A box that a radiologist (or the phantom) drew around a finding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FindingBox {
    /// What it encloses.
    pub finding: Finding,
    /// Where, in pixels of a frame that the holder states.
    pub bbox: BBox,
}

/// The columns that every table of images begins with: whose image it is, what it may be used for, what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageKey {
    /// NIH's `Image Index`, e.g. `00000001_000.png`: tables are sorted and joined by it.
    pub image_id: String,
    /// NIH's `Patient ID`: intervals are drawn by patient.
    pub patient_id: u32,
    /// What the image may be used for.
    pub split: Split,
    /// What the image shows, as reported.
    pub labels: Labels,
}

/// One row of NIH's table.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageRecord {
    /// NIH's `Image Index`, e.g. `00000001_000.png`.
    pub image_id: String,
    /// NIH's `Patient ID`.
    pub patient_id: u32,
    /// NIH's `Follow-up #` (not always the number in the file name); `None` in data without one.
    pub follow_up: Option<u32>,
    /// Age in years; `None` where the table has an impossible one (over 120).
    pub age_years: Option<u16>,
    /// Sex, if recorded.
    pub sex: Option<Sex>,
    /// View position, if recorded.
    pub view_position: Option<ViewPosition>,
    /// What the image shows.
    pub labels: Labels,
}
