//! The label table.

use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;

use cxr::{Finding, ImageRecord, Labels};

use super::error::Error;
use super::table::{Table, png_name};

/// The oldest age in years that is believed; NIH's first table has ages up to 414.
pub const MAX_AGE_YEARS: u32 = 120;

/// The label table: `Data_Entry_2017_v2020.csv`, `Data_Entry_2017.csv`, or `sample_labels.csv` of Kaggle's sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Entries {
    /// One per image, in the file's order.
    pub records: Vec<ImageRecord>,
    /// How many ages above [`MAX_AGE_YEARS`] became `None`.
    pub impossible_ages: usize,
}

/// Reads a label table.
///
/// Ages are years (`58`, `058Y`), months (`013M`) or days (`001D`), the latter two rounded down to years. Empty ages,
/// sexes and view positions are `None`.
///
/// # Errors
/// A missing column; a cell that cannot be read; a finding outside the 14; an image on two lines; no rows.
pub fn entries(path: &Path, bytes: &[u8]) -> Result<Entries, Error> {
    let mut table = Table::new(path, bytes)?;
    let image = table.column(&["Image Index"])?;
    let findings = table.column(&["Finding Labels"])?;
    let follow_up = table.column(&["Follow-up #"])?;
    let patient = table.column(&["Patient ID"])?;
    let age = table.column(&["Patient Age"])?;
    let sex = table.column(&["Patient Gender", "Patient Sex"])?;
    let view_position = table.column(&["View Position"])?;

    let mut entries = Entries { records: Vec::new(), impossible_ages: 0 };
    let mut lines: HashMap<String, u64> = HashMap::new();
    while table.next()? {
        let image_id = table.parse(image, "the name of a PNG file", png_name)?.to_owned();
        if let Some(first) = lines.insert(image_id.clone(), table.line) {
            return Err(Error::Duplicate { path: path.to_owned(), line: table.line, first, image_id });
        }
        let age = table.parse(age, "an age such as 58, 058Y, 013M or 001D", age_years)?;
        let age_years = age.filter(|&years| years <= MAX_AGE_YEARS).map(|years| years as u16);
        entries.impossible_ages += usize::from(age.is_some() && age_years.is_none());
        let labels = table.cell(findings);
        let labels = Labels::parse(labels).map_err(|_| table.bad(findings, labels, expected_findings()))?;
        entries.records.push(ImageRecord {
            image_id,
            patient_id: table.parse(patient, "a patient number", |text| text.parse().ok())?,
            follow_up: Some(table.parse(follow_up, "a whole number", |text| text.parse().ok())?),
            age_years,
            sex: table.parse(sex, "F, M or nothing", optional)?,
            view_position: table.parse(view_position, "AP, PA or nothing", optional)?,
            labels,
        });
    }
    if entries.records.is_empty() {
        return Err(Error::NoRows { path: path.to_owned() });
    }
    Ok(entries)
}

/// A value, or nothing; the outer `None` where the text is neither.
fn optional<T: FromStr>(text: &str) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
}

/// An age in whole years; the outer `None` where the text is no age.
pub(crate) fn age_years(text: &str) -> Option<Option<u32>> {
    if text.is_empty() {
        return Some(None);
    }
    let (number, per_year) = match text.as_bytes()[text.len() - 1] {
        b'Y' => (&text[..text.len() - 1], 1),
        b'M' => (&text[..text.len() - 1], 12),
        b'D' => (&text[..text.len() - 1], 365),
        _ => (text, 1),
    };
    Some(Some(number.parse::<u32>().ok()? / per_year))
}

fn expected_findings() -> String {
    let names: Vec<&str> = Finding::ALL.into_iter().map(Finding::name).collect();
    format!("No Finding alone, or one or more, joined by |, of {}", names.join(", "))
}
