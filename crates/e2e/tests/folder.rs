//! A folder of one's own with a table of labels, some of them unknown, through all stages.

use std::fmt::Write;
use std::path::Path;

use cxr::metrics::{Metric, Scope};
use cxr::{Branch, Finding, Split};
use e2e::{Pipeline, STAGES, contents};

/// Findings without a column.
const NOT_THERE: [Finding; 2] = [Finding::Fibrosis, Finding::Hernia];

/// Copies the synthetic images into `own/films`, with a table whose every fifth label is empty.
fn own_folder(pipeline: &Pipeline) {
    pipeline.stage("phantom", &[]).expect(0);
    let phantom = pipeline.published("default", "phantom");
    let films = pipeline.path().join("own/films");
    fs_err::create_dir_all(&films).unwrap();
    for (name, bytes) in contents(&phantom) {
        if name.extension().is_some_and(|ending| ending == "png") {
            fs_err::write(films.join(name.file_name().unwrap()), bytes).unwrap();
        }
    }
    let findings: Vec<Finding> = Finding::ALL.into_iter().filter(|finding| !NOT_THERE.contains(finding)).collect();
    let names: Vec<String> = findings.iter().map(|finding| finding.name().replace('_', " ")).collect();
    let mut table = format!("file;person;AGE;Sex;{}\r\n", names.join(";"));
    let entries = fs_err::read_to_string(phantom.join("Data_Entry_2017_v2020.csv")).unwrap();
    for (row, line) in entries.lines().skip(1).enumerate() {
        let cells: Vec<&str> = line.split(',').collect();
        let shown: Vec<&str> = cells[1].split('|').collect();
        let _ = write!(
            table,
            "{};person {};{}.0;{}",
            cells[0].trim_end_matches(".png"),
            cells[3],
            cells[4].trim(),
            cells[5]
        );
        for (column, finding) in findings.iter().enumerate() {
            let known = if shown.contains(&finding.name()) { "1.0" } else { "0.0" };
            table += &format!(";{}", if (row * 7 + column * 3) % 5 == 0 { "" } else { known });
        }
        table += "\r\n";
    }
    fs_err::write(pipeline.path().join("own/labels.csv"), table).unwrap();
}

const OWN: [&str; 12] = [
    "--set",
    "prep.dataset=folder",
    "--set",
    "prep.root=own",
    "--set",
    "prep.image_column=file",
    "--set",
    "prep.patient_column=person",
    "--set",
    "prep.age_column=age",
    "--set",
    "prep.split=random",
];

fn metrics(pipeline: &Pipeline, run: &str) -> Vec<tables::metrics::Row> {
    let path = pipeline.published(run, "report").join("metrics.parquet");
    tables::metrics::read(&path).unwrap()
}

fn images(folder: &Path) -> Vec<tables::images::Row> {
    let files = contents(&folder.join("images"));
    tables::images::read_meta(&files.into_keys().map(|name| folder.join("images").join(name)).collect::<Vec<_>>())
        .unwrap()
}

#[test]
fn a_folder_with_unknown_labels_is_trained_and_reported() {
    let pipeline = Pipeline::new();
    own_folder(&pipeline);
    let dry = pipeline.stage("prep", &[&OWN[..], &["--dry-run"]].concat()).expect(0);
    assert!(dry.stdout.contains("of known"), "{dry}");
    for stage in &STAGES[1..] {
        let ran = pipeline.stage(stage, &OWN).expect(0);
        if *stage == "report" {
            assert!(ran.stdout.contains("Not in these data: Fibrosis, Hernia"), "{ran}");
            assert!(ran.stdout.contains("known)"), "{ran}");
        }
    }

    // The table says what the user's said: a fifth unknown, two findings not at all, patients numbered.
    let rows = images(&pipeline.published("default", "prep"));
    for row in &rows {
        assert!(row.path == row.record.image_id && row.path.starts_with("films/"), "{}", row.path);
        assert!(NOT_THERE.iter().all(|&finding| row.record.labels.get(finding).is_none()));
        assert_ne!(row.record.labels.no_finding(), Some(true));
        assert_eq!(row.record.follow_up, None);
    }
    let unknown = rows.iter().map(|row| row.record.labels.unknown().count() - NOT_THERE.len()).sum::<usize>();
    let share = unknown as f64 / (12 * rows.len()) as f64;
    assert!((0.19..0.21).contains(&share), "{share}");

    let metrics = metrics(&pipeline, "default");
    let test: Vec<_> = metrics.iter().filter(|row| row.cell.split == Split::Test).collect();
    for row in &test {
        match row.cell.scope {
            Scope::Finding(finding)
                if NOT_THERE.contains(&finding) && row.cell.series != cxr::metrics::Series::Attention =>
            {
                assert_eq!((row.value, row.reason.as_deref()), (None, Some("no labels")), "{}", row.cell);
            }
            _ => {}
        }
    }
    let auroc = |scope: Scope| {
        test.iter().find(|row| {
            let cell = &row.cell;
            (cell.series, cell.scope, cell.metric) == (Branch::Fusion.into(), scope, Metric::Auroc)
                && cell.subset == cxr::metrics::Subset::All
        })
    };
    assert!(auroc(Scope::Mean).unwrap().value.is_some());
    assert!(auroc(Finding::Infiltration.into()).unwrap().n_unknown > 0);
    let page = fs_err::read_to_string(pipeline.published("default", "report").join("index.html")).unwrap();
    assert!(page.contains("Not in these data: Fibrosis, Hernia."));

    // Nothing to do the second time; another word for the same unknown label changes nothing that is learnt.
    for stage in &STAGES[1..] {
        assert!(pipeline.stage(stage, &OWN).expect(0).current(), "{stage}");
    }
    let path = pipeline.path().join("own/labels.csv");
    let table = fs_err::read_to_string(&path).unwrap();
    fs_err::write(&path, table.replace(";;", ";nan;")).unwrap();
    pipeline.stage("prep", &OWN).expect(0);
    let ran = pipeline.stage("global", &OWN).expect(0);
    assert!(!ran.stderr.contains("epoch 1/"), "{ran}");
}

/// An external evaluation has no images to train on, and says so where it matters.
#[test]
fn all_images_are_test() {
    let pipeline = Pipeline::new();
    own_folder(&pipeline);
    let test = [&OWN[..10], &["--set", "prep.split=test"]].concat();
    pipeline.stage("prep", &test).expect(0);
    let rows = images(&pipeline.published("default", "prep"));
    assert!(!rows.is_empty() && rows.iter().all(|row| row.split == Split::Test));
    let ran = pipeline.stage("global", &test).expect(4);
    assert!(ran.stderr.contains("no images in the split `train`"), "{ran}");
}
