//! How the cells of a table of labels are read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How the cells of a table of labels are read. The default is how NIH's own table is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// What other names of findings mean: theirs to ours.
    pub rename: BTreeMap<String, String>,
    /// Which views are taken.
    pub views: Views,
    /// Characters between the findings of a list.
    pub separators: String,
    /// What -1 means.
    pub uncertain: Uncertain,
    /// What an empty cell means.
    pub blank: Blank,
    /// What the columns of a table that is not NIH's are called.
    pub columns: ColumnNames,
}

/// What the columns of a table are called; empty where there is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ColumnNames {
    /// The images' paths or names.
    pub image: String,
    /// The patients; empty: each image is a patient.
    pub patient: String,
    /// The list of findings; empty: a column for each.
    pub findings: String,
    /// The split.
    pub split: String,
    /// The age.
    pub age: String,
    /// The sex.
    pub sex: String,
    /// The view.
    pub view: String,
}

/// What the label -1 means: CheXpert has it where a report is uncertain (Irvin et al., AAAI 2019, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Uncertain {
    /// Nothing: U-Ignore.
    Unknown,
    /// Present: U-Ones.
    Positive,
    /// Absent: U-Zeros.
    Negative,
}

/// What an empty cell of a column of labels means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blank {
    /// Nothing.
    Unknown,
    /// Absent.
    Negative,
}

/// Which views are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Views {
    /// Rows that say they are lateral are left out.
    Frontal,
    /// All.
    All,
}

impl Default for Reading {
    fn default() -> Self {
        Reading {
            rename: BTreeMap::new(),
            views: Views::Frontal,
            separators: "|;,".to_owned(),
            uncertain: Uncertain::Unknown,
            blank: Blank::Unknown,
            columns: ColumnNames::default(),
        }
    }
}
