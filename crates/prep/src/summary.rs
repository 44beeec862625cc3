//! What a dataset holds, in numbers and in words.

use std::collections::BTreeSet;
use std::fmt;

use cxr::{ImageRecord, OUTPUTS, SplitKind, output_names};

use crate::config::Config;
use labels::MAX_AGE_YEARS;

/// Images in NIH's `train_val_list.txt` and `test_list.txt`.
const OFFICIAL: [usize; 2] = [86_524, 25_596];
/// The validation cut of train_val that BenchmarkTransformers, Ark, medical_mae and EVA-X share.
const OFFICIAL_CUT: [usize; 3] = [75_312, 11_212, 25_596];
/// The random split that arnoweng/CheXNet shipped and many copied.
const ARNOWENG: [usize; 3] = [78_468, 11_219, 22_433];

/// What a dataset holds; its [`Display`](fmt::Display) is the table that `--dry-run` prints.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The label table's file name.
    pub label_table: String,
    /// Rows in it.
    pub rows: usize,
    /// Patients in it.
    pub patients: usize,
    /// Ages above [`labels::MAX_AGE_YEARS`] that were dropped.
    pub impossible_ages: usize,
    /// The box list's file name.
    pub box_list: Option<String>,
    /// Boxes on images of the table.
    pub boxes: usize,
    /// Images of the table with a box.
    pub boxed_images: usize,
    /// Boxes on images that the table does not have, which are left out.
    pub foreign_boxes: usize,
    /// How the images were divided.
    pub kind: SplitKind,
    /// What is known about this division, e.g. that it is NIH's.
    pub known_as: Option<&'static str>,
    /// Images of the table that no list names.
    pub unlisted: usize,
    /// Images of the lists that the table does not have, which are left out.
    pub unknown: usize,
    /// Images for which a list carries other labels than the table, whose labels are used.
    pub relabelled: usize,
    /// Patients in more than one split (`paper` only; an error otherwise).
    pub shared_patients: usize,
    /// What was taken, left out or made, one sentence each.
    pub notes: Vec<String>,
    /// Images, patients, files and labels of train, validation and test.
    pub splits: [Counts; 3],
}

/// Numbers of one split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Images wanted.
    pub images: usize,
    /// Their patients.
    pub patients: usize,
    /// Images whose file is there.
    pub present: usize,
    /// Images with each output's label, in output order.
    pub positives: [usize; OUTPUTS],
    /// Images of which it is known whether they have it.
    pub known: [usize; OUTPUTS],
}

impl Counts {
    /// Counts the images of a split: the record of each, and whether its file is there.
    pub(crate) fn of<'a>(images: impl Iterator<Item = (&'a ImageRecord, bool)>) -> Counts {
        let mut counts = Counts::default();
        let mut patients = BTreeSet::new();
        for (record, present) in images {
            counts.images += 1;
            counts.present += usize::from(present);
            patients.insert(record.patient_id);
            for (output, shown) in record.labels.outputs().into_iter().enumerate() {
                counts.positives[output] += usize::from(shown == Some(true));
                counts.known[output] += usize::from(shown.is_some());
            }
        }
        counts.patients = patients.len();
        counts
    }
}

/// Recognises the divisions that other projects use, by their sizes.
pub(crate) fn known_as(config: &Config, images: [usize; 3]) -> Option<&'static str> {
    let [train, validation, test] = images;
    let lists = matches!(config.split, SplitKind::Official | SplitKind::Files);
    // Our own cut may have the same size as the shared list, but not the same images.
    match images {
        OFFICIAL_CUT if lists && !config.validation_list.is_empty() => Some(
            "as large as the shared official split 75,312 / 11,212 / 25,596 (BenchmarkTransformers, Ark, medical_mae, EVA-X)",
        ),
        ARNOWENG if lists => Some(
            "as large as arnoweng/CheXNet's random split 78,468 / 11,219 / 22,433, which trains on 70 % of NIH's official test images",
        ),
        _ if config.split == SplitKind::Official && [train + validation, test] == OFFICIAL => {
            Some("NIH's complete lists, 86,524 / 25,596")
        }
        _ if config.split == SplitKind::Official => Some("not NIH's complete lists (86,524 / 25,596)"),
        _ => None,
    }
}

/// `112120` as `112,120`.
fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Summary {
    /// Images that the split wants.
    pub fn images(&self) -> usize {
        self.splits.iter().map(|counts| counts.images).sum()
    }

    /// Images that it wants and that are there.
    pub fn present(&self) -> usize {
        self.splits.iter().map(|counts| counts.present).sum()
    }

    /// What the log says: one sentence per line.
    pub fn sentences(&self) -> Vec<String> {
        let n = |n| thousands(n);
        let [train, validation, test] = self.splits;
        let mut lines =
            vec![format!("labels: {}, {} rows, {} patients", self.label_table, n(self.rows), n(self.patients))];
        lines.extend(self.notes.iter().cloned());
        if self.impossible_ages > 0 {
            lines.push(format!(
                "ages: {} above {} years are not believed and left empty",
                n(self.impossible_ages),
                MAX_AGE_YEARS
            ));
        }
        lines.push(match &self.box_list {
            Some(name) => format!("boxes: {name}, {} boxes on {} images", n(self.boxes), n(self.boxed_images)),
            None => "boxes: none".to_owned(),
        });
        if self.foreign_boxes > 0 {
            lines.push(format!("boxes: {} more on images that the label table lacks", n(self.foreign_boxes)));
        }
        let known = self.known_as.map_or(String::new(), |known| format!("; {known}"));
        lines.push(format!(
            "split: {}, {} train / {} validation / {} test images{known}",
            self.kind,
            n(train.images),
            n(validation.images),
            n(test.images)
        ));
        if self.unlisted > 0 {
            lines.push(format!("split: {} images of the label table are in none", n(self.unlisted)));
        }
        if self.unknown > 0 {
            lines.push(format!(
                "split: {} images of the lists are not in {} and left out (prep.missing = \"skip\")",
                n(self.unknown),
                self.label_table
            ));
        }
        if self.relabelled > 0 {
            lines.push(format!(
                "split: the lists label {} images otherwise than {}, whose labels are used",
                n(self.relabelled),
                self.label_table
            ));
        }
        let absent = self.images() - self.present();
        lines.push(format!("images: {} of {} are there, {} are not", n(self.present()), n(self.images()), n(absent)));
        lines
    }

    /// What the log warns of.
    pub fn warning(&self) -> Option<String> {
        (self.shared_patients > 0).then(|| {
            format!(
                "{} of {} patients are in more than one split: results will look better than they are",
                thousands(self.shared_patients),
                thousands(self.patients)
            )
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.sentences().iter().chain(&self.warning()) {
            writeln!(f, "{line}")?;
        }
        let row = |f: &mut fmt::Formatter<'_>, name: &str, of: &dyn Fn(&Counts) -> usize, total: Option<usize>| {
            write!(f, "{name:<20}")?;
            for counts in &self.splits {
                write!(f, "{:>12}", thousands(of(counts)))?;
            }
            let total = total.unwrap_or_else(|| self.splits.iter().map(of).sum());
            writeln!(f, "{:>12}", thousands(total))
        };
        writeln!(f, "\n{:<20}{:>12}{:>12}{:>12}{:>12}", "", "train", "validation", "test", "all")?;
        row(f, "images", &|counts| counts.images, None)?;
        row(f, "images missing", &|counts| counts.images - counts.present, None)?;
        let patients: usize = self.splits.iter().map(|counts| counts.patients).sum();
        row(f, "patients", &|counts| counts.patients, Some(patients.min(self.patients)))?;
        for (i, name) in output_names().into_iter().enumerate() {
            row(f, name, &|counts| counts.positives[i], None)?;
            if self.splits.iter().any(|counts| counts.known[i] < counts.images) {
                row(f, "  of known", &|counts| counts.known[i], None)?;
            }
        }
        Ok(())
    }
}
