//! Labels that experts gave NIH's images.
//!
//! Reads Google's files (Majkowska et al., Radiology 2020; `four_findings_expert_labels_{test,validation}_labels.csv`,
//! `all_findings_expert_labels_*`, with `Image ID`) and torchxrayvision's
//! `google2019_nih-chest-xray-labels.csv.gz`, which joins them with NIH's table (`Image Index`).

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use cxr::{Expert, ExpertLabels, Finding, Labels, any_of};

use crate::names::{image_name, known_by};
use crate::rows::{Name, Names};
use crate::table::{Column, Error, Limits, Table, alike, blank, cell};

/// What is believed of a file: NIH has 112,120 images.
const LIMITS: Limits = Limits { bytes: 1 << 26, rows: 500_000, cells: 1000 };

/// What the file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    /// What each image is called, without folders and without the ending of an image file, in the file's order.
    pub rows: Vec<(String, ExpertLabels)>,
    /// The findings that have no column, and are made of columns that have: which ones.
    pub made: Vec<(Expert, Vec<Finding>)>,
}

/// Where one of the experts' findings comes from.
enum Source {
    Column(Column),
    Union(Vec<(Finding, Column)>),
}

/// Reads the labels of experts. A finding without a column of its own is the union of NIH's findings that `mapping`
/// gives, where all of these have columns, as in Google's file of all findings; else it is unknown.
///
/// # Errors
/// No text; no column of images or of findings; a cell that is neither YES nor NO; two rows that differ about an image.
pub fn experts(path: &Path, bytes: &[u8], mapping: &[(Expert, Vec<Finding>)]) -> Result<Experts, Error> {
    let table = Table::within(path, bytes, LIMITS)?;
    let image = table.needed(&["Image Index", "Image ID", "image", "image_id"])?;
    let sources = Expert::ALL.map(|expert| source(&table, expert, mapping));
    if sources.iter().all(Option::is_none) {
        return Err(Error::NoExperts { path: table.path(), got: table.columns() });
    }
    let mut rows: Vec<(String, ExpertLabels)> = Vec::new();
    let mut lines: HashMap<String, (u64, usize)> = HashMap::new();
    for (line, record) in &table.rows {
        let text = cell(record, Some(&image));
        let name = image_name(text).ok_or_else(|| table.bad(*line, &image, text, "the name of an image's file"))?;
        let read = |column: &Column| {
            let text = cell(record, Some(column));
            opinion(text).ok_or_else(|| table.bad(*line, column, text, "YES, NO or nothing"))
        };
        let mut labels = ExpertLabels::default();
        for (label, source) in labels.iter_mut().zip(&sources) {
            *label = match source {
                None => None,
                Some(Source::Column(column)) => read(column)?,
                Some(Source::Union(columns)) => {
                    let mut each = Labels::UNKNOWN;
                    for (finding, column) in columns {
                        each.set(*finding, read(column)?);
                    }
                    any_of(each, &columns.iter().map(|(finding, _)| *finding).collect::<Vec<_>>())
                }
            };
        }
        let image_id = known_by(&name).to_owned();
        match lines.get(&image_id) {
            Some(&(_, at)) if rows[at].1 == labels => {}
            Some(&(first, _)) => {
                return Err(Error::Differ { path: path.to_owned(), line: *line, first, image_id });
            }
            None => {
                lines.insert(image_id.clone(), (*line, rows.len()));
                rows.push((image_id, labels));
            }
        }
    }
    if rows.is_empty() {
        return Err(Error::NoRows { path: table.path() });
    }
    let made = Expert::ALL.into_iter().zip(sources).filter_map(|(expert, source)| match source {
        Some(Source::Union(columns)) => Some((expert, columns.into_iter().map(|(finding, _)| finding).collect())),
        _ => None,
    });
    Ok(Experts { rows, made: made.collect() })
}

fn source(table: &Table, expert: Expert, mapping: &[(Expert, Vec<Finding>)]) -> Option<Source> {
    if let Some(column) = table.find(&[expert.name()]) {
        return Some(Source::Column(column));
    }
    let names = Names::new(&BTreeMap::new());
    let column = |finding: Finding| {
        let is_it = |name: &String| names.get(name) == Some(Name::Finding(finding));
        let index = table.header.iter().position(is_it)?;
        Some((finding, Column { index, name: table.header[index].clone() }))
    };
    let (_, findings) = mapping.iter().find(|(mapped, findings)| *mapped == expert && !findings.is_empty())?;
    findings.iter().map(|&finding| column(finding)).collect::<Option<Vec<_>>>().map(Source::Union)
}

/// What a cell says; the outer `None` where it is no answer.
fn opinion(text: &str) -> Option<Option<bool>> {
    if blank(text) {
        return Some(None);
    }
    match alike(text).as_str() {
        "yes" | "true" | "1" | "1.0" => Some(Some(true)),
        "no" | "false" | "0" | "0.0" => Some(Some(false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping() -> Vec<(Expert, Vec<Finding>)> {
        vec![
            (Expert::Pneumothorax, vec![Finding::Pneumothorax]),
            (Expert::NoduleOrMass, vec![Finding::Nodule, Finding::Mass]),
            (Expert::AirspaceOpacity, vec![Finding::Edema, Finding::Consolidation]),
        ]
    }

    fn read(text: &str) -> Result<Experts, Error> {
        experts(Path::new("experts.csv"), text.as_bytes(), &mapping())
    }

    #[test]
    fn googles_files_and_the_merged_one() {
        let (yes, no) = (Some(true), Some(false));
        let merged = "Image Index,Finding Labels,Fracture,Pneumothorax,Airspace opacity,Nodule or mass,Set Id\n\
            00000013_008.png,No Finding,NO,NO,YES,NO,test\n";
        let four = "Image ID,Patient ID,Patient Age,Fracture,Pneumothorax,Airspace opacity,Nodule or mass\n\
            00000013_008.png,13,60,NO,NO,YES,NO\n";
        for file in [merged, four] {
            assert_eq!(read(file).unwrap().rows, [("00000013_008".to_owned(), [no, no, yes, no])], "{file}");
        }
        // All findings: what has no column is a union, where all parts of it have one.
        let all = "Image ID,Patient ID,Pneumothorax,Nodule,Mass,Edema\n00000013_008.png,13,YES,NO,YES,NO\n";
        let all = read(all).unwrap();
        assert_eq!(all.rows, [("00000013_008".to_owned(), [None, yes, None, yes])]);
        assert_eq!(all.made, [(Expert::NoduleOrMass, vec![Finding::Nodule, Finding::Mass])]);
        let gap = "Image ID,Fracture\na.png,\nb.png,yes\nb.png,YES\n";
        assert_eq!(read(gap).unwrap().rows, [("a".to_owned(), [None; 4]), ("b".to_owned(), [yes, None, None, None])]);
    }

    #[test]
    fn bad_files_are_named() {
        let said = |text: &str| read(text).unwrap_err().to_string();
        assert!(said("").ends_with("no rows"));
        assert!(said("x,Fracture\n1,NO\n").contains("no column \"Image Index\", got \"x,Fracture\""));
        assert!(
            said("Image ID,Cough\na.png,NO\n")
                .contains("no column is called as a finding of experts, got Image ID, Cough")
        );
        assert!(said("Image ID,Fracture\na.png,maybe\n").contains("got \"maybe\", expected YES, NO or nothing"));
        // One row a reader.
        assert!(said("Image ID,Fracture\na.png,YES\na.png,NO\n").contains("lines 2 and 3 differ about image a"));
        assert!(said("Image ID,Fracture\n").ends_with("no rows"));
    }
}
