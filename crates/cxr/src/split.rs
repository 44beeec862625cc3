//! Who is trained on, who chooses the epoch, who is reported on.
//!
//! Four ways to divide a table of images ([`random`], [`official`], [`paper`], [`files`]) and the one check that
//! matters ([`check_patients`]): pictures of one patient look alike, so a patient in two splits flatters the result.
//! All draws use ChaCha8 from a seed and depend on the set of images only, never on the order of the table's rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::{ImageRecord, Split};

/// Shares of train, validation and test in percent (AG-CNN, section IV-A: "70 % for training, 10 % for validation and 20 % for testing").
const PERCENT: [usize; 3] = [70, 10, 20];

/// Share of `train_val_list.txt` that the de-facto official validation list takes: 11,212 of 86,524 images.
pub const OFFICIAL_VALIDATION_FRACTION: f64 = 11_212.0 / 86_524.0;

/// How many names an error message lists.
const FIRST: usize = 10;

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
pub enum Validation<'a> {
    /// Whole patients of the train_val list, drawn until they hold this share of its images.
    Cut {
        /// Share of the images, above 0 and below 1; [`OFFICIAL_VALIDATION_FRACTION`] where nothing speaks against it.
        fraction: f64,
        /// Seed of the draw.
        seed: u64,
    },
    /// Exactly these.
    List(&'a List),
}

/// Patient-wise random division: of the patients, 70 % to train, 10 % to validation, 20 % to test.
///
/// Returns the split of each record, in the records' order.
pub fn random(records: &[ImageRecord], seed: u64) -> Vec<Split> {
    let mut patients: Vec<u32> =
        records.iter().map(|record| record.patient_id).collect::<BTreeSet<_>>().into_iter().collect();
    patients.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let cuts = cuts(patients.len());
    let split: HashMap<u32, Split> =
        patients.into_iter().enumerate().map(|(i, patient)| (patient, split_at(i, cuts))).collect();
    records.iter().map(|record| split[&record.patient_id]).collect()
}

/// The paper's division: of the images, 70 % to train, 10 % to validation, 20 % to test, whoever's they are.
///
/// It puts most patients with several images into several splits ([`shared_patients`] counts them), which flatters
/// results: the paper's authors report 0.80 instead of 0.84 for the same network on NIH's own split (CRAL, table 2).
/// Returns the split of each record, in the records' order.
pub fn paper(records: &[ImageRecord], seed: u64) -> Vec<Split> {
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

/// NIH's division: `test_list.txt` is test; `train_val_list.txt` is train, less the validation images.
///
/// Returns the split of each record, in the records' order; `None` where no list names it.
///
/// # Errors
/// A listed image that no record has, or that is listed twice; a test image in another list. Patients are not
/// checked here but by [`check_patients`].
pub fn official(
    records: &[ImageRecord],
    train_val: &List,
    test: &List,
    validation: Validation<'_>,
) -> Result<Vec<Option<Split>>, Error> {
    let index = index(records);
    match validation {
        Validation::List(list) => {
            let held_out: BTreeSet<&str> = list.image_ids.iter().map(String::as_str).collect();
            let train = List {
                name: train_val.name.clone(),
                image_ids: train_val
                    .image_ids
                    .iter()
                    .filter(|image_id| !held_out.contains(image_id.as_str()))
                    .cloned()
                    .collect(),
            };
            assign(records, &index, [&train, list, test])
        }
        Validation::Cut { fraction, seed } => {
            let none = List::default();
            let mut splits = assign(records, &index, [train_val, &none, test])?;
            cut(records, &mut splits, fraction, seed);
            Ok(splits)
        }
    }
}

/// The division that three lists give.
///
/// Returns the split of each record, in the records' order; `None` where no list names it.
///
/// # Errors
/// A listed image that no record has, that is listed twice, or that two lists name. Patients are not checked here but
/// by [`check_patients`].
pub fn files(
    records: &[ImageRecord],
    train: &List,
    validation: &List,
    test: &List,
) -> Result<Vec<Option<Split>>, Error> {
    assign(records, &index(records), [train, validation, test])
}

/// The patients in more than one split, by patient number.
pub fn shared_patients(records: &[ImageRecord], splits: &[Option<Split>]) -> Vec<Shared> {
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

/// Checks that no patient is in two splits.
///
/// # Errors
/// [`Error::SharedPatients`], naming the first ten.
pub fn check_patients(records: &[ImageRecord], splits: &[Option<Split>]) -> Result<(), Error> {
    let mut shared = shared_patients(records, splits);
    if shared.is_empty() {
        return Ok(());
    }
    let count = shared.len();
    shared.truncate(FIRST);
    Err(Error::SharedPatients { count, first: shared })
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

/// Moves whole patients from train to validation, in drawn order, until validation holds `fraction` of the images,
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

fn index(records: &[ImageRecord]) -> HashMap<&str, usize> {
    records.iter().enumerate().map(|(i, record)| (record.image_id.as_str(), i)).collect()
}

/// Lists in the order of [`Split::ALL`].
fn assign(
    records: &[ImageRecord],
    index: &HashMap<&str, usize>,
    lists: [&List; 3],
) -> Result<Vec<Option<Split>>, Error> {
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Labels;

    /// One record per entry; the entry is its patient.
    fn table(patients: &[u32]) -> Vec<ImageRecord> {
        patients
            .iter()
            .enumerate()
            .map(|(i, &patient_id)| ImageRecord {
                image_id: format!("{patient_id:08}_{i:03}.png"),
                patient_id,
                follow_up: i as u32,
                age_years: None,
                sex: None,
                view: None,
                labels: Labels::default(),
            })
            .collect()
    }

    fn list(name: &str, records: &[ImageRecord], which: &[usize]) -> List {
        List { name: name.into(), image_ids: which.iter().map(|&i| records[i].image_id.clone()).collect() }
    }

    fn count(splits: &[Option<Split>], split: Split) -> usize {
        splits.iter().filter(|s| **s == Some(split)).count()
    }

    fn some(splits: Vec<Split>) -> Vec<Option<Split>> {
        splits.into_iter().map(Some).collect()
    }

    proptest! {
        #[test]
        fn random_keeps_patients_together_whatever_the_row_order(
            patients in prop::collection::vec(0u32..60, 0..200), seed: u64, turn in 0usize..200,
        ) {
            let mut records = table(&patients);
            let splits = random(&records, seed);
            check_patients(&records, &some(splits.clone())).unwrap();
            let by_id: BTreeMap<String, Split> =
                records.iter().map(|r| r.image_id.clone()).zip(splits).collect();
            if !records.is_empty() {
                let turn = turn % records.len();
                records.rotate_left(turn);
            }
            for (record, split) in records.iter().zip(random(&records, seed)) {
                prop_assert_eq!(by_id[&record.image_id], split);
            }
        }

        #[test]
        fn no_split_is_empty_from_three_patients_on(n in 3u32..400, seed: u64) {
            let records = table(&(0..n).collect::<Vec<_>>());
            for splits in [random(&records, seed), paper(&records, seed)] {
                let splits = some(splits);
                for (split, percent) in Split::ALL.into_iter().zip(PERCENT) {
                    let got = count(&splits, split);
                    prop_assert!(got >= 1);
                    prop_assert!((got as f64 - f64::from(n) * percent as f64 / 100.0).abs() < 1.5);
                }
            }
        }

        #[test]
        fn the_cut_is_by_patient_and_near_its_size(
            patients in prop::collection::vec(0u32..80, 2..300), seed: u64, fraction in 0.05f64..0.5,
        ) {
            let records = table(&patients);
            let all: Vec<usize> = (0..records.len()).collect();
            let train_val = list("train_val", &records, &all);
            let splits =
                official(&records, &train_val, &List::default(), Validation::Cut { fraction, seed }).unwrap();
            check_patients(&records, &splits).unwrap();
            let mut images: HashMap<u32, usize> = HashMap::new();
            for &patient in &patients {
                *images.entry(patient).or_default() += 1;
            }
            let largest = *images.values().max().unwrap() as f64;
            let held = count(&splits, Split::Validation) as f64;
            prop_assert!((held - fraction * records.len() as f64).abs() <= largest);
            if images.len() > 1 {
                prop_assert!(held >= 1.0 && count(&splits, Split::Train) >= 1);
            }
        }
    }

    #[test]
    fn a_seed_means_the_same_split_for_ever() {
        let records = table(&(0..20).collect::<Vec<_>>());
        let which = |splits: &[Split], split| -> Vec<usize> { (0..20).filter(|&i| splits[i] == split).collect() };
        let drawn = random(&records, 1);
        assert_eq!(which(&drawn, Split::Test), [0, 10, 12, 16]);
        assert_eq!(which(&drawn, Split::Validation).len(), 2);
        assert_eq!(paper(&records, 1), drawn); // one image per patient: the same draw
        assert_ne!(random(&records, 2), drawn);
    }

    #[test]
    fn paper_leaks_and_says_so() {
        let records = table(&(0..100).map(|i| i / 5).collect::<Vec<_>>());
        let splits = some(paper(&records, 7));
        let shared = shared_patients(&records, &splits);
        assert!(shared.len() > 10, "{shared:?}");
        let error = check_patients(&records, &splits).unwrap_err();
        let Error::SharedPatients { count, first } = &error else { panic!("{error}") };
        assert_eq!((*count, first.len()), (shared.len(), 10));
        assert!(error.to_string().contains("patients are in more than one split, the first: 0 (train and "));
    }

    #[test]
    fn lists_are_taken_as_they_are() {
        let records = table(&[1, 1, 2, 3, 4]);
        let (train, validation, test) =
            (list("a", &records, &[1, 0]), list("b", &records, &[2]), list("c", &records, &[4]));
        let splits = files(&records, &train, &validation, &test).unwrap();
        use Split::{Test, Train, Validation as Val};
        assert_eq!(splits, [Some(Train), Some(Train), Some(Val), None, Some(Test)]);

        // The official form: the validation list is a part of train_val.
        let train_val = list("train_val", &records, &[0, 1, 2]);
        assert_eq!(official(&records, &train_val, &test, Validation::List(&validation)).unwrap(), splits);
    }

    #[test]
    fn bad_lists_are_named() {
        let records = table(&[1, 1, 2, 3, 4]);
        let none = List::default();
        let ok = list("ok.txt", &records, &[0, 1]);
        let twice = list("twice.txt", &records, &[2, 3, 2]);
        let overlap = list("overlap.txt", &records, &[4, 1]);
        let mut unknown = list("unknown.txt", &records, &[3]);
        unknown.image_ids.extend(["x.png".into(), "y.png".into()]);
        let message = |train, validation, test| files(&records, train, validation, test).unwrap_err().to_string();
        assert_eq!(message(&ok, &twice, &none), "twice.txt names 00000002_002.png twice");
        assert_eq!(
            message(&ok, &none, &overlap),
            "00000001_001.png is in ok.txt and in overlap.txt; lists must not share images"
        );
        assert_eq!(
            message(&ok, &none, &unknown),
            "2 of the 3 images in unknown.txt are not in the label table, the first: x.png, y.png"
        );
    }
}
