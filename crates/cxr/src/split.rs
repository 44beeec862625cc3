//! Division of the images into train, validation and test.
//!
//! [`plan`] divides a table of images in one of several ways ([`Rule`]) and makes the one check that matters: images of
//! one patient look alike, so a patient in two splits flatters the result. Random choices use ChaCha8 from a seed and
//! depend on the set of images only, never on the order of the table's rows.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{ImageRecord, Split};

/// Shares of train, validation and test in percent (AG-CNN, section IV-A: "70 % for training, 10 % for validation and 20 % for testing").
const PERCENT: [usize; 3] = [70, 10, 20];

/// Share of `train_val_list.txt` that the de-facto official validation list takes: 11,212 of 86,524 images.
pub const OFFICIAL_VALIDATION_FRACTION: f64 = 11_212.0 / 86_524.0;

/// How many names an error message lists.
const FIRST: usize = 10;

/// The names of the ways to divide; see [`Rule`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum SplitKind {
    /// NIH's lists.
    Official,
    /// By patient.
    Random,
    /// By image.
    Paper,
    /// Three lists, or a column of a table.
    Files,
    /// All images are test: an external evaluation.
    Test,
}

/// A division that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A list names images that the table does not have.
    #[error("{count} of the {listed} images in {list} are not in the label table, the first: {}", .first.join(", "))]
    UnknownImages {
        /// Which list.
        list: String,
        /// How many of its names are unknown.
        count: usize,
        /// How many names it has.
        listed: usize,
        /// The first ten unknown names.
        first: Vec<String>,
    },
    /// A validation list names images that are not in the list that it is a part of.
    #[error("{count} of the {listed} images in {list} are not in {whole}, of which it must be a part, the first: {}", .first.join(", "))]
    Strangers {
        /// The validation list.
        list: String,
        /// The list of training and validation images.
        whole: String,
        /// How many of its names are not in `whole`.
        count: usize,
        /// How many names it has.
        listed: usize,
        /// The first ten of them.
        first: Vec<String>,
    },
    /// A list names an image twice.
    #[error("{list} names {image_id} twice")]
    Twice {
        /// Which list.
        list: String,
        /// The image.
        image_id: String,
    },
    /// Two lists name the same image.
    #[error("{image_id} is in {first} and in {second}; lists must not share images")]
    TwoLists {
        /// The image.
        image_id: String,
        /// One list.
        first: String,
        /// The other.
        second: String,
    },
    /// Patients whose images are in more than one split.
    #[error("{count} patients are in more than one split, the first: {}", .first.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    SharedPatients {
        /// How many.
        count: usize,
        /// The first ten, by patient number.
        first: Vec<Shared>,
    },
}

impl Error {
    /// Lists and label table are data: a division that cannot be used is bad data.
    pub fn kind(&self) -> std::io::ErrorKind {
        std::io::ErrorKind::InvalidData
    }

    /// What helps.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::UnknownImages { .. } => {
                "`--set prep.missing=skip` leaves them out and counts them, where the label table lost rows; otherwise \
                 lists and table are of different datasets: `--set prep.split=random` needs no lists"
            }
            Error::Strangers { .. } => {
                "with prep.split = \"official\", prep.validation_list is cut from the train_val list; \
                 `--set prep.split=files` takes three lists as they are"
            }
            Error::Twice { .. } | Error::TwoLists { .. } | Error::SharedPatients { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// A patient in more than one split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// NIH's `Patient ID`.
    pub patient_id: u32,
    /// The splits, in order.
    pub splits: Vec<Split>,
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let splits: Vec<&str> = self.splits.iter().map(|split| split.name()).collect();
        write!(f, "{} ({})", self.patient_id, splits.join(" and "))
    }
}

/// A list of images: where it came from, for messages, and its names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// What messages call it, usually its path.
    pub name: String,
    /// `Image Index` values in any order.
    pub image_ids: Vec<String>,
}

/// Where the official division takes its validation images from.
#[derive(Debug, Clone, Copy)]
pub enum ValidationSplit<'a> {
    /// Whole patients of the train_val list, chosen at random until they hold this share of its images.
    Cut {
        /// Share of the images, above 0 and below 1; usually [`OFFICIAL_VALIDATION_FRACTION`].
        fraction: f64,
        /// Seed of the choice.
        seed: u64,
    },
    /// Exactly these, all of them in the train_val list.
    List(&'a List),
}

/// How to divide, with all that this needs.
#[derive(Debug, Clone, Copy)]
pub enum Rule<'a> {
    /// NIH's division: `test_list.txt` is test; `train_val_list.txt` is train, less the validation images.
    Official {
        /// NIH's list of training and validation images.
        train_val: &'a List,
        /// NIH's list of test images.
        test: &'a List,
        /// Which part of `train_val` is for validation.
        validation: ValidationSplit<'a>,
    },
    /// Of the patients, 70 % to train, 10 % to validation, 20 % to test.
    Random {
        /// Seed of the choice.
        seed: u64,
    },
    /// The paper's division: of the images, 70 % to train, 10 % to validation, 20 % to test, whoever's they are.
    ///
    /// It puts most patients with several images into several splits, which flatters results: the paper's authors report
    /// 0.80 instead of 0.84 for the same network on NIH's own split (CRAL, table 2).
    Paper {
        /// Seed of the choice.
        seed: u64,
    },
    /// Three lists, for train, validation and test.
    Files([&'a List; 3]),
    /// The split of each record, as a table says; `None` where it says nothing.
    Given(&'a [Option<Split>]),
    /// All images are test.
    Test,
}

/// A division of a table of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The split of each record, in the records' order; `None` where no list names it.
    pub splits: Vec<Option<Split>>,
    /// The patients in more than one split, by patient number: none but with [`Rule::Paper`].
    pub shared: Vec<Shared>,
}

/// Divides the images.
///
/// # Errors
/// A listed image that no record has, that is listed twice, or that two lists name; a validation list that is no part
/// of train_val; a patient in two splits, unless the rule is [`Rule::Paper`].
pub fn plan(records: &[ImageRecord], rule: Rule<'_>) -> Result<Plan, Error> {
    let splits = match rule {
        Rule::Official { train_val, test, validation } => official(records, train_val, test, validation)?,
        Rule::Random { seed } => random(records, seed).into_iter().map(Some).collect(),
        Rule::Paper { seed } => paper(records, seed).into_iter().map(Some).collect(),
        Rule::Files(lists) => assign(records, lists)?,
        Rule::Given(splits) => splits.to_vec(),
        Rule::Test => vec![Some(Split::Test); records.len()],
    };
    let mut shared = shared_patients(records, &splits);
    if shared.is_empty() || matches!(rule, Rule::Paper { .. }) {
        return Ok(Plan { splits, shared });
    }
    let count = shared.len();
    shared.truncate(FIRST);
    Err(Error::SharedPatients { count, first: shared })
}

/// The split of each record by [`Rule::Random`].
fn random(records: &[ImageRecord], seed: u64) -> Vec<Split> {
    let mut patients: Vec<u32> =
        records.iter().map(|record| record.patient_id).collect::<BTreeSet<_>>().into_iter().collect();
    patients.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let cuts = cuts(patients.len());
    let split: HashMap<u32, Split> =
        patients.into_iter().enumerate().map(|(i, patient)| (patient, split_at(i, cuts))).collect();
    records.iter().map(|record| split[&record.patient_id]).collect()
}

/// The split of each record by [`Rule::Paper`].
fn paper(records: &[ImageRecord], seed: u64) -> Vec<Split> {
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.sort_unstable_by(|&a, &b| records[a].image_id.cmp(&records[b].image_id));
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let cuts = cuts(order.len());
    let mut splits = vec![Split::Train; records.len()];
    for (i, record) in order.into_iter().enumerate() {
        splits[record] = split_at(i, cuts);
    }
    splits
}

/// The split of each record by [`Rule::Official`].
fn official(
    records: &[ImageRecord],
    train_val: &List,
    test: &List,
    validation: ValidationSplit<'_>,
) -> Result<Vec<Option<Split>>, Error> {
    match validation {
        ValidationSplit::List(list) => {
            let whole: HashSet<&str> = train_val.image_ids.iter().map(String::as_str).collect();
            let strangers: Vec<&String> = list.image_ids.iter().filter(|id| !whole.contains(id.as_str())).collect();
            if !strangers.is_empty() {
                return Err(Error::Strangers {
                    list: list.name.clone(),
                    whole: train_val.name.clone(),
                    count: strangers.len(),
                    listed: list.image_ids.len(),
                    first: strangers.into_iter().take(FIRST).cloned().collect(),
                });
            }
            let held_out: HashSet<&str> = list.image_ids.iter().map(String::as_str).collect();
            let rest = train_val.image_ids.iter().filter(|id| !held_out.contains(id.as_str()));
            let train = List { name: train_val.name.clone(), image_ids: rest.cloned().collect() };
            assign(records, [&train, list, test])
        }
        ValidationSplit::Cut { fraction, seed } => {
            let mut splits = assign(records, [train_val, &List::default(), test])?;
            cut(records, &mut splits, fraction, seed);
            Ok(splits)
        }
    }
}

/// The patients in more than one split, by patient number.
fn shared_patients(records: &[ImageRecord], splits: &[Option<Split>]) -> Vec<Shared> {
    let mut seen: BTreeMap<u32, BTreeSet<Split>> = BTreeMap::new();
    for (record, split) in records.iter().zip(splits) {
        if let Some(split) = split {
            seen.entry(record.patient_id).or_default().insert(*split);
        }
    }
    seen.into_iter()
        .filter(|(_, splits)| splits.len() > 1)
        .map(|(patient_id, splits)| Shared { patient_id, splits: splits.into_iter().collect() })
        .collect()
}

/// Where train ends and where validation ends among `n`; no split is empty where `n` allows it.
fn cuts(n: usize) -> (usize, usize) {
    let percent = |p: usize| (n * p + 50) / 100;
    let validation = percent(PERCENT[1]).max(usize::from(n >= 3));
    let test = percent(PERCENT[2]).max(usize::from(n >= 2));
    let train = n - (validation + test).min(n);
    (train, train + validation)
}

fn split_at(i: usize, (train, validation): (usize, usize)) -> Split {
    match i {
        _ if i < train => Split::Train,
        _ if i < validation => Split::Validation,
        _ => Split::Test,
    }
}

/// Moves whole patients from train to validation, in random order, until validation holds `fraction` of the images,
/// rounded to the nearer patient; at least one patient moves and one stays, where there are two.
fn cut(records: &[ImageRecord], splits: &mut [Option<Split>], fraction: f64, seed: u64) {
    let mut images: BTreeMap<u32, usize> = BTreeMap::new();
    for (record, split) in records.iter().zip(&*splits) {
        if *split == Some(Split::Train) {
            *images.entry(record.patient_id).or_default() += 1;
        }
    }
    let wanted = images.values().sum::<usize>() as f64 * fraction;
    let mut patients: Vec<(u32, usize)> = images.into_iter().collect();
    patients.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut moved = BTreeSet::new();
    let mut held = 0;
    for &(patient, count) in patients.iter().take(patients.len().saturating_sub(1)) {
        if !moved.is_empty() && held as f64 + count as f64 / 2.0 > wanted {
            break;
        }
        held += count;
        moved.insert(patient);
    }
    for (record, split) in records.iter().zip(splits) {
        if *split == Some(Split::Train) && moved.contains(&record.patient_id) {
            *split = Some(Split::Validation);
        }
    }
}

/// The division that the lists of train, validation and test give.
fn assign(records: &[ImageRecord], lists: [&List; 3]) -> Result<Vec<Option<Split>>, Error> {
    let index: HashMap<&str, usize> =
        records.iter().enumerate().map(|(i, record)| (record.image_id.as_str(), i)).collect();
    let mut splits: Vec<Option<Split>> = vec![None; records.len()];
    for (split, list) in Split::ALL.into_iter().zip(lists) {
        let mut unknown: Vec<&String> = Vec::new();
        for image_id in &list.image_ids {
            let Some(&i) = index.get(image_id.as_str()) else {
                unknown.push(image_id);
                continue;
            };
            match splits[i].replace(split) {
                None => {}
                Some(before) if before == split => {
                    return Err(Error::Twice { list: list.name.clone(), image_id: image_id.clone() });
                }
                Some(before) => {
                    return Err(Error::TwoLists {
                        image_id: image_id.clone(),
                        first: lists[before as usize].name.clone(),
                        second: list.name.clone(),
                    });
                }
            }
        }
        if !unknown.is_empty() {
            return Err(Error::UnknownImages {
                list: list.name.clone(),
                count: unknown.len(),
                listed: list.image_ids.len(),
                first: unknown.into_iter().take(FIRST).cloned().collect(),
            });
        }
    }
    Ok(splits)
}

#[cfg(test)]
mod tests;
