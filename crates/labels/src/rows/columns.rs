//! Which column is what.

use super::findings::Meaning;
use super::names::{Name, Names};
use crate::reading::Reading;
use crate::table::{Column, Error, Table};

/// How the table holds findings.
#[derive(Debug)]
pub enum Findings {
    /// One column with names.
    List(Column),
    /// A column for each.
    Each(Vec<(Column, Meaning)>),
}

/// The columns of a table.
#[derive(Debug)]
pub struct Columns {
    /// The images.
    pub image: Column,
    /// The patients.
    pub patient: Option<Column>,
    /// Follow-up numbers.
    pub follow_up: Option<Column>,
    /// Splits.
    pub split: Option<Column>,
    /// Ages.
    pub age: Option<Column>,
    /// Sexes.
    pub sex: Option<Column>,
    /// View positions.
    pub view: Option<Column>,
    /// Findings.
    pub findings: Findings,
    /// Columns that nothing reads.
    pub ignored: Vec<String>,
}

impl Columns {
    /// As NIH calls them; image, findings and patient are all that is needed.
    pub fn of_nih(table: &Table) -> Result<Columns, Error> {
        Ok(Columns {
            image: table.needed(&["Image Index"])?,
            findings: Findings::List(table.needed(&["Finding Labels"])?),
            patient: Some(table.needed(&["Patient ID"])?),
            follow_up: table.find(&["Follow-up #", "Follow-up"]),
            split: None,
            age: table.find(&["Patient Age"]),
            sex: table.find(&["Patient Gender", "Patient Sex"]),
            view: table.find(&["View Position"]),
            ignored: Vec::new(),
        })
    }

    /// As the settings call them.
    pub fn of_settings(table: &Table, names: &Names, reading: &Reading) -> Result<Columns, Error> {
        let image = table.named("image_column", &reading.columns.image)?;
        // An empty name is refused with the settings.
        let image = image.unwrap_or(Column { index: 0, name: table.header[0].clone() });
        let patient = table.named("patient_column", &reading.columns.patient)?;
        let split = table.named("split_column", &reading.columns.split)?;
        let age = table.named("age_column", &reading.columns.age)?;
        let sex = table.named("sex_column", &reading.columns.sex)?;
        let view = table.named("view_column", &reading.columns.view)?;
        let list = table.named("findings_column", &reading.columns.findings)?;
        let read: Vec<usize> = [Some(&image), patient.as_ref(), split.as_ref(), age.as_ref(), sex.as_ref()]
            .into_iter()
            .chain([view.as_ref(), list.as_ref()])
            .flatten()
            .map(|column| column.index)
            .collect();
        let rest = table.header.iter().enumerate().filter(|(index, _)| !read.contains(index));
        let rest = rest.map(|(index, name)| Column { index, name: name.clone() });
        let (findings, ignored) = match list {
            Some(column) => (Findings::List(column), rest.map(|column| column.name).collect()),
            None => {
                let (each, ignored) = each(table, names, rest)?;
                (Findings::Each(each), ignored)
            }
        };
        let ignored = ignored.into_iter().filter(|name: &String| !name.is_empty()).collect();
        Ok(Columns { image, patient, follow_up: None, split, age, sex, view, findings, ignored })
    }
}

type Each = (Vec<(Column, Meaning)>, Vec<String>);

/// The columns that mean a finding, and the others.
fn each(table: &Table, names: &Names, columns: impl Iterator<Item = Column>) -> Result<Each, Error> {
    let mut each: Vec<(Column, Meaning)> = Vec::new();
    let mut ignored = Vec::new();
    for column in columns {
        let meaning = match names.get(&column.name) {
            Some(Name::Finding(finding)) => Meaning::Finding(finding),
            Some(Name::NoFinding) => Meaning::NoFinding,
            Some(Name::LeftOut) | None => {
                ignored.push(column.name);
                continue;
            }
        };
        if let Some((first, _)) = each.iter().find(|(_, other)| *other == meaning) {
            let finding = match meaning {
                Meaning::Finding(finding) => finding.to_string(),
                Meaning::NoFinding => "No Finding".to_owned(),
            };
            let (first, second) = (first.name.clone(), column.name);
            return Err(Error::TwoColumns { path: table.path(), first, second, finding });
        }
        each.push((column, meaning));
    }
    if !each.iter().any(|(_, meaning)| matches!(meaning, Meaning::Finding(_))) {
        return Err(Error::NoFindings { path: table.path(), got: table.columns() });
    }
    Ok((each, ignored))
}
