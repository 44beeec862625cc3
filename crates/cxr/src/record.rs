//! One image of the dataset: whose it is, how it was taken, what it shows.

use std::fmt;
use std::str::FromStr;

use crate::{BBox, Finding, Labels};

/// What an image may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    pub const ALL: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

    /// `train`, `validation` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Split::ALL
            .into_iter()
            .find(|split| split.name() == text)
            .ok_or_else(|| format!("unknown split {text:?}, expected train, validation or test"))
    }
}

/// The patient's sex as recorded by NIH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sex {
    /// `F`
    Female,
    /// `M`
    Male,
}

impl Sex {
    /// NIH's letter.
    pub fn name(self) -> &'static str {
        match self {
            Sex::Female => "F",
            Sex::Male => "M",
        }
    }
}

/// View position: where the beam entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum View {
    /// Anteroposterior, usually a bedside film of a sicker patient.
    Ap,
    /// Posteroanterior, the standard upright film.
    Pa,
}

impl View {
    /// NIH's letters.
    pub fn name(self) -> &'static str {
        match self {
            View::Ap => "AP",
            View::Pa => "PA",
        }
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

/// One row of NIH's table.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageRecord {
    /// NIH's `Image Index`, e.g. `00000001_000.png`: the key of every table.
    pub image_id: String,
    /// NIH's `Patient ID`.
    pub patient_id: u32,
    /// NIH's `Follow-up #` (not always the number in the file name).
    pub follow_up: u32,
    /// Age in years; `None` where the table has an impossible one (over 120).
    pub age_years: Option<u16>,
    /// Sex, if recorded.
    pub sex: Option<Sex>,
    /// View position, if recorded.
    pub view: Option<View>,
    /// What the image shows.
    pub labels: Labels,
}
