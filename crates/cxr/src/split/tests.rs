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
            follow_up: Some(i as u32),
            age_years: None,
            sex: None,
            view_position: None,
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
        prop_assert_eq!(plan(&records, Rule::Random { seed }).unwrap().splits, some(splits.clone()));
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
        let (test, validation) = (List::default(), ValidationSplit::Cut { fraction, seed });
        let rule = Rule::Official { train_val: &train_val, test: &test, validation };
        let splits = plan(&records, rule).unwrap().splits;
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
    let Plan { splits, shared } = plan(&records, Rule::Paper { seed: 7 }).unwrap();
    assert!(shared.len() > 10, "{shared:?}");
    // The same division as three lists is refused.
    let lists = Split::ALL.map(|split| {
        let which: Vec<usize> = (0..100).filter(|&i| splits[i] == Some(split)).collect();
        list(split.name(), &records, &which)
    });
    let error = plan(&records, Rule::Files(lists.each_ref())).unwrap_err();
    let Error::SharedPatients { count, first } = &error else { panic!("{error}") };
    assert_eq!((*count, first.len()), (shared.len(), 10));
    assert!(error.to_string().contains("patients are in more than one split, the first: 0 (train and "));
}

#[test]
fn lists_are_taken_as_they_are() {
    let records = table(&[1, 1, 2, 3, 4]);
    let (train, validation, test) =
        (list("a", &records, &[1, 0]), list("b", &records, &[2]), list("c", &records, &[4]));
    let splits = plan(&records, Rule::Files([&train, &validation, &test])).unwrap().splits;
    use Split::{Test, Train, Validation as Val};
    assert_eq!(splits, [Some(Train), Some(Train), Some(Val), None, Some(Test)]);

    // The official form: the validation list is a part of train_val.
    let train_val = list("train_val", &records, &[0, 1, 2]);
    let official = |validation| {
        let validation = ValidationSplit::List(validation);
        plan(&records, Rule::Official { train_val: &train_val, test: &test, validation })
    };
    assert_eq!(official(&validation).unwrap().splits, splits);

    // One that is none is refused, and the strangers are named.
    let strangers = list("b", &records, &[2, 3, 4]);
    let error = official(&strangers).unwrap_err();
    assert_eq!(
        error.to_string(),
        "2 of the 3 images in b are not in train_val, of which it must be a part, the first: 00000003_003.png, 00000004_004.png"
    );
    assert!(error.hint().is_some_and(|hint| hint.contains("prep.validation_list")));
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
    let message =
        |train, validation, test| plan(&records, Rule::Files([train, validation, test])).unwrap_err().to_string();
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

#[test]
fn all_images_may_be_test_or_what_a_table_says() {
    let records = table(&[1, 1, 2]);
    assert_eq!(plan(&records, Rule::Test).unwrap().splits, [Some(Split::Test); 3]);
    let given = [Some(Split::Train), None, Some(Split::Test)];
    assert_eq!(plan(&records, Rule::Given(&given)).unwrap().splits, given);
    let shared = plan(&records, Rule::Given(&some(vec![Split::Train, Split::Test, Split::Test]))).unwrap_err();
    assert_eq!(shared.to_string(), "1 patients are in more than one split, the first: 1 (train and test)");
}
