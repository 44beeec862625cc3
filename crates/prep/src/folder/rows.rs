//! The rows of the table as images, patients and splits.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use cxr::{ImageRecord, Labels, Sex, Split, ViewPosition};

use super::columns::{Columns, Findings};
use super::error::Error;
use super::findings::{CELL, LIST, by_column, by_list};
use super::names::Names;
use super::table::{Column, Table, alike, blank, cell, short};
use super::tree::{Found, Tree, plain};
use crate::config::{Config, Views};
use crate::nih::MAX_AGE_YEARS;

/// What a table says.
#[derive(Debug, Default, PartialEq)]
pub struct Rows {
    /// One per image, sorted by `image_id`, which is the path of its file relative to the folder.
    pub records: Vec<ImageRecord>,
    /// What `prep.split_column` says of each; empty without such a column.
    pub splits: Vec<Option<Split>>,
    /// How many ages above [`MAX_AGE_YEARS`] became `None`.
    pub impossible_ages: usize,
    /// What was taken, left out or made, one sentence each.
    pub notes: Vec<String>,
}

/// One row, its patient still a text.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    patient: String,
    age_years: Option<u16>,
    sex: Option<Sex>,
    view_position: Option<ViewPosition>,
    labels: Labels,
    split: Option<Split>,
}

/// How often something happened.
#[derive(Debug, Default)]
struct Counts {
    impossible_ages: usize,
    lateral: usize,
    other_views: BTreeMap<String, usize>,
    other_sexes: usize,
    repeated: usize,
}

/// Reads a table of labels; `tree` has the files.
///
/// # Errors
/// No text, no rows; a column that a setting names and that is not there; a cell that cannot be read; a name that several
/// files have; two rows that differ about one image.
pub(crate) fn read(path: &Path, bytes: &[u8], tree: &Tree, config: &Config) -> Result<Rows, Error> {
    let table = Table::read(path, bytes)?;
    let names = Names::new(&config.rename);
    let columns = Columns::of(&table, &names, config)?;
    let reader = Reader { table: &table, columns: &columns, names: &names, config };
    let mut counts = Counts::default();
    let mut images: BTreeMap<String, (u64, Row)> = BTreeMap::new();
    for (line, record) in &table.rows {
        let image_id = reader.image(*line, record, tree)?;
        let Some(row) = reader.row(*line, record, &mut counts)? else { continue };
        match images.get(&image_id) {
            None => {
                images.insert(image_id, (*line, row));
            }
            Some((_, other)) if *other == row => counts.repeated += 1,
            Some((first, _)) => {
                return Err(Error::Differ { path: path.to_owned(), line: *line, first: *first, image_id });
            }
        }
    }
    if images.is_empty() {
        return Err(Error::NoRows { path: path.to_owned() });
    }
    let mut rows = Rows { impossible_ages: counts.impossible_ages, ..Rows::default() };
    let numbers = patients(&images, columns.patient.as_ref(), &mut rows.notes);
    for (number, (image_id, (_, row))) in numbers.into_iter().zip(images) {
        let Row { age_years, sex, view_position, labels, split, .. } = row;
        rows.records.push(ImageRecord {
            image_id,
            patient_id: number,
            follow_up: None,
            age_years,
            sex,
            view_position,
            labels,
        });
        if columns.split.is_some() {
            rows.splits.push(split);
        }
    }
    rows.notes.extend(notes(&columns, &counts));
    Ok(rows)
}

/// What all rows are read by.
struct Reader<'a> {
    table: &'a Table,
    columns: &'a Columns,
    names: &'a Names,
    config: &'a Config,
}

impl Reader<'_> {
    /// The path of the row's file; as the table has it where the file is not there.
    fn image(&self, line: u64, record: &csv::StringRecord, tree: &Tree) -> Result<String, Error> {
        let column = &self.columns.image;
        let text = cell(record, Some(column));
        let name = plain(text).ok_or_else(|| self.table.bad(line, column, text, "the path or name of an image"))?;
        match tree.find(&name) {
            Found::File(path) => Ok(path),
            Found::Nothing => Ok(name),
            Found::Several(of) => Err(Error::Ambiguous { path: self.table.path(), line, image: short(&name), of }),
        }
    }

    /// The rest of the row; `None` for a view that is left out.
    fn row(&self, line: u64, record: &csv::StringRecord, counts: &mut Counts) -> Result<Option<Row>, Error> {
        let columns = self.columns;
        let of = |column: &Option<Column>| -> &str {
            let text = cell(record, column.as_ref());
            if blank(text) { "" } else { text }
        };
        let bad = |column: &Column, text: &str, expected: &str| self.table.bad(line, column, text, expected);
        let view_position = match view(of(&columns.view)) {
            View::Frontal(position) => position,
            View::Lateral if self.config.views == Views::Frontal => {
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
                by_list(text, self.names, self.config).ok_or_else(|| bad(column, text, LIST))?
            }
            Findings::Each(each) => {
                by_column(each, record, self.config).map_err(|(column, text)| bad(column, text, CELL))?
            }
        };
        let patient = of(&columns.patient);
        let age = of(&columns.age);
        if let Some(column) = columns.patient.as_ref().filter(|_| patient.is_empty()) {
            return Err(bad(column, patient, "a patient's number or name"));
        }
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
        Ok(Some(Row { patient: patient.to_owned(), age_years, sex, view_position, labels, split }))
    }
}

/// A number for the patient of each image, in the order of the images.
fn patients(images: &BTreeMap<String, (u64, Row)>, column: Option<&Column>, notes: &mut Vec<String>) -> Vec<u32> {
    let Some(column) = column else {
        notes.push(
            "patients: no prep.patient_column, so each image is a patient of its own; several images of one person \
             make intervals too narrow, and a random split leaks"
                .to_owned(),
        );
        return (1..=images.len() as u32).collect();
    };
    let texts: Vec<&str> = images.values().map(|(_, row)| row.patient.as_str()).collect();
    let number = |text: &&str| text.strip_suffix(".0").unwrap_or(text).parse::<u32>().ok();
    if let Some(numbers) = texts.iter().map(number).collect::<Option<Vec<u32>>>() {
        return numbers;
    }
    let mut sorted = texts.clone();
    sorted.sort_unstable();
    sorted.dedup();
    notes.push(format!(
        "patients: the {} texts of column {:?} were numbered from 1 in sorted order",
        sorted.len(),
        column.name
    ));
    let places: HashMap<&str, u32> = sorted.into_iter().zip(1..).collect();
    texts.into_iter().map(|text| places[text]).collect()
}

fn notes(columns: &Columns, counts: &Counts) -> Vec<String> {
    let mut notes = Vec::new();
    if !columns.ignored.is_empty() {
        notes.push(format!("columns that nothing reads: {}", columns.ignored.join(", ")));
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

/// An age in whole years, `58.0` being 58; the outer `None` where the text is no age.
fn age_years(text: &str) -> Option<Option<u32>> {
    let number = text.parse::<f64>().ok().filter(|years| (0.0..1e6).contains(years));
    // Years of a child may be a fraction: whole years, as for months and days.
    number.map(|years| Some(years as u32)).or_else(|| crate::nih::age_years(text))
}
