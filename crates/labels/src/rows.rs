//! What the cells of a row say about an image: the same for NIH's tables and for all others.

mod columns;
mod findings;
mod names;
mod patients;

use std::collections::BTreeMap;

use cxr::{ImageRecord, Labels, Sex, Split, ViewPosition};

use crate::reading::{Reading, Views};
use crate::table::{Column, Error, Table, alike, blank, cell, short};
pub use columns::{Columns, Findings};
use findings::{CELL, LIST, by_column, by_list};
pub use names::{Name, Names, is_name};

/// The oldest age in years that is believed; NIH's first table has ages up to 414.
pub const MAX_AGE_YEARS: u32 = 120;

/// One row, its image and patient still texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The patient, as the table names them.
    pub patient: String,
    /// NIH's follow-up number.
    pub follow_up: Option<u32>,
    /// Age in years.
    pub age_years: Option<u16>,
    /// Sex.
    pub sex: Option<Sex>,
    /// View position.
    pub view_position: Option<ViewPosition>,
    /// What the image shows.
    pub labels: Labels,
    /// The split that the table gives.
    pub split: Option<Split>,
}

/// How often something happened.
#[derive(Debug, Default)]
pub struct Counts {
    /// Ages above [`MAX_AGE_YEARS`].
    pub impossible_ages: usize,
    /// Rows that repeat an image.
    pub repeated: usize,
    lateral: usize,
    other_views: BTreeMap<String, usize>,
    other_sexes: usize,
}

/// What all rows are read by.
pub struct Reader<'a> {
    /// The table.
    pub table: &'a Table,
    /// Which column is what.
    pub columns: &'a Columns,
    /// What findings are called.
    pub names: &'a Names,
    /// The settings.
    pub reading: &'a Reading,
}

impl Reader<'_> {
    /// What the row says of its image; `None` for a view that is left out.
    pub fn row(&self, line: u64, record: &csv::StringRecord, counts: &mut Counts) -> Result<Option<Row>, Error> {
        let columns = self.columns;
        let of = |column: &Option<Column>| -> &str {
            let text = cell(record, column.as_ref());
            if blank(text) { "" } else { text }
        };
        let bad = |column: &Column, text: &str, expected: &str| self.table.bad(line, column, text, expected);
        let view_position = match view(of(&columns.view)) {
            View::Frontal(position) => position,
            View::Lateral if self.reading.views == Views::Frontal => {
                counts.lateral += 1;
                return Ok(None);
            }
            View::Lateral | View::Other => {
                *counts.other_views.entry(short(of(&columns.view))).or_default() += 1;
                None
            }
        };
        let labels = match &columns.findings {
            Findings::List(column) => {
                let text = cell(record, Some(column));
                by_list(text, self.names, self.reading).ok_or_else(|| bad(column, text, LIST))?
            }
            Findings::Each(each) => {
                by_column(each, record, self.reading).map_err(|(column, text)| bad(column, text, CELL))?
            }
        };
        let patient = of(&columns.patient);
        if let Some(column) = columns.patient.as_ref().filter(|_| patient.is_empty()) {
            return Err(bad(column, patient, "a patient's number or name"));
        }
        let follow_up = match &columns.follow_up {
            Some(column) => whole(of(&columns.follow_up))
                .ok_or_else(|| bad(column, of(&columns.follow_up), "a whole number or nothing"))?,
            None => None,
        };
        let age = of(&columns.age);
        let years = match &columns.age {
            Some(column) => age_years(age).ok_or_else(|| bad(column, age, "an age such as 58, 58.0, 058Y or 013M"))?,
            None => None,
        };
        let age_years = years.filter(|&years| years <= MAX_AGE_YEARS).map(|years| years as u16);
        counts.impossible_ages += usize::from(years.is_some() && age_years.is_none());
        let sex = match of(&columns.sex).to_ascii_lowercase().as_str() {
            "f" | "female" => Some(Sex::Female),
            "m" | "male" => Some(Sex::Male),
            other => {
                counts.other_sexes += usize::from(!other.is_empty());
                None
            }
        };
        let split = match &columns.split {
            Some(column) => {
                let text = of(&columns.split);
                split(text).ok_or_else(|| bad(column, text, "train, validation (valid, val, dev), test or nothing"))?
            }
            None => None,
        };
        Ok(Some(Row { patient: patient.to_owned(), follow_up, age_years, sex, view_position, labels, split }))
    }

    /// The rows as records, in their order, their patients numbered; and what the log says of the whole table.
    pub fn records(&self, rows: Vec<(String, Row)>, counts: &Counts) -> (Vec<ImageRecord>, Vec<String>) {
        let mut notes = Vec::new();
        let numbers = match &self.columns.patient {
            None => {
                notes.push(
                    "patients: no prep.patient_column, so each image is a patient of its own; several images of one \
                     person make intervals too narrow, and a random split leaks"
                        .to_owned(),
                );
                (1..=rows.len() as u32).collect()
            }
            Some(column) => {
                let names: Vec<&str> = rows.iter().map(|(_, row)| row.patient.as_str()).collect();
                let (numbers, texts) = patients::numbers(&names);
                notes.extend(texts.map(|count| {
                    let name = &column.name;
                    format!("patients: the {count} texts of column {name:?} were numbered from 1 in sorted order")
                }));
                numbers
            }
        };
        let record = |((image_id, row), patient_id): ((String, Row), u32)| ImageRecord {
            image_id,
            patient_id,
            follow_up: row.follow_up,
            age_years: row.age_years,
            sex: row.sex,
            view_position: row.view_position,
            labels: row.labels,
        };
        let records = rows.into_iter().zip(numbers).map(record).collect();
        notes.extend(self.notes(counts));
        (records, notes)
    }

    fn notes(&self, counts: &Counts) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.columns.ignored.is_empty() {
            notes.push(format!("columns that nothing reads: {}", self.columns.ignored.join(", ")));
        }
        if counts.repeated > 0 {
            notes.push(format!("labels: {} rows repeat an image and say the same", counts.repeated));
        }
        if counts.lateral > 0 {
            notes.push(format!("views: {} lateral images left out (prep.views = \"frontal\")", counts.lateral));
        }
        for (view, count) in counts.other_views.iter().take(10) {
            notes.push(format!("views: {count} images say {view:?}, which is neither PA nor AP: left empty"));
        }
        if counts.other_sexes > 0 {
            notes.push(format!("sex: {} values are neither F nor M: left empty", counts.other_sexes));
        }
        notes
    }
}

/// What a view is for us.
enum View {
    Frontal(Option<ViewPosition>),
    Lateral,
    Other,
}

fn view(text: &str) -> View {
    match alike(text).as_str() {
        "" | "frontal" => View::Frontal(None),
        "pa" => View::Frontal(Some(ViewPosition::Pa)),
        "ap" => View::Frontal(Some(ViewPosition::Ap)),
        "ll" | "rl" | "l" => View::Lateral,
        lateral if lateral.contains("lat") => View::Lateral,
        _ => View::Other,
    }
}

/// A split by any of its usual names, or nothing; the outer `None` where the text is neither.
fn split(text: &str) -> Option<Option<Split>> {
    match text.to_ascii_lowercase().as_str() {
        "" => Some(None),
        "train" | "training" => Some(Some(Split::Train)),
        "validation" | "valid" | "val" | "dev" => Some(Some(Split::Validation)),
        "test" | "testing" => Some(Some(Split::Test)),
        _ => None,
    }
}

/// A whole number, `3.0` being 3, or nothing; the outer `None` where the text is neither.
fn whole(text: &str) -> Option<Option<u32>> {
    match text {
        "" => Some(None),
        text => text.strip_suffix(".0").unwrap_or(text).parse().ok().map(Some),
    }
}

/// An age in whole years, or nothing; the outer `None` where the text is no age.
///
/// Years (`58`, `58.0`, `058Y`), months (`013M`) or days (`001D`), fractions and the latter two rounded down to years.
pub fn age_years(text: &str) -> Option<Option<u32>> {
    let per_year = match text.as_bytes().last() {
        None => return Some(None),
        Some(b'Y' | b'y') => 1,
        Some(b'M' | b'm') => 12,
        Some(b'D' | b'd') => 365,
        Some(_) => {
            let years = text.parse::<f64>().ok().filter(|years| (0.0..1e6).contains(years));
            return years.map(|years| Some(years as u32));
        }
    };
    Some(Some(text[..text.len() - 1].parse::<u32>().ok()? / per_year))
}
