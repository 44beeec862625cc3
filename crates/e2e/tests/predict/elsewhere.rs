//! External evaluation: the model on the images of another place, which are DICOM files with a table of labels.

use std::fmt::Write;
use std::path::PathBuf;

use cxr::metrics::decision::Criterion;
use cxr::metrics::{Decision, Metric, Scope, Series, Subset};
use cxr::{Branch, Finding, Split};
use e2e::Pipeline;
use picture::Radiograph;
use tables::metrics::Row;

use crate::exported;
use crate::files::{CHEST, Header, dicom};

/// Findings without a column.
const NOT_THERE: [Finding; 2] = [Finding::Fibrosis, Finding::Hernia];

const ELSEWHERE: [&str; 16] = [
    "--run",
    "elsewhere",
    "--set",
    "prep.dataset=folder",
    "--set",
    "prep.root=hospital",
    "--set",
    "prep.split=test",
    "--set",
    "prep.image_column=file",
    "--set",
    "prep.patient_column=person",
    "--set",
    "prep.age_column=age",
    "--set",
    "prep.sex_column=sex",
];

/// Writes another synthetic dataset as DICOM files and a table of labels into `hospital`.
fn hospital(pipeline: &Pipeline) {
    let other = ["--run", "source", "--set", "phantom.seed=2", "--set", "phantom.contrast=0.7"];
    pipeline.stage("phantom", &other).expect(0);
    let phantom = pipeline.published("source", "phantom");
    let folder = pipeline.path().join("hospital");
    fs_err::create_dir(&folder).unwrap();
    let findings: Vec<Finding> = Finding::ALL.into_iter().filter(|finding| !NOT_THERE.contains(finding)).collect();
    let mut table =
        format!("file,person,age,sex,{}\n", findings.iter().map(|f| f.name()).collect::<Vec<_>>().join(","));
    let entries = fs_err::read_to_string(phantom.join("Data_Entry_2017_v2020.csv")).unwrap();
    for (row, line) in entries.lines().skip(1).enumerate() {
        let cells: Vec<&str> = line.split(',').collect();
        let image = Radiograph::read(&phantom.join("images_001/images").join(cells[0])).unwrap().image;
        let name = cells[0].replace(".png", ".dcm");
        let header = Header { monochrome1: row % 2 == 1, ..CHEST };
        fs_err::write(folder.join(&name), dicom(&image, header)).unwrap();
        let shown: Vec<&str> = cells[1].split('|').collect();
        let labels = findings.iter().map(|finding| if shown.contains(&finding.name()) { ",1" } else { ",0" });
        let _ = writeln!(table, "{name},{},{},{}{}", cells[3], cells[4].trim(), cells[5], labels.collect::<String>());
    }
    fs_err::write(folder.join("labels.csv"), table).unwrap();
}

fn metrics(pipeline: &Pipeline, run: &str) -> Vec<Row> {
    tables::metrics::read(&pipeline.published(run, "report").join("metrics.parquet")).unwrap()
}

#[test]
fn a_model_is_evaluated_elsewhere() {
    let pipeline = exported(&[]);
    hospital(&pipeline);
    let evaluate = [&ELSEWHERE[..], &["evaluate", "--model", "model"]].concat();
    let first = pipeline.stage("predict", &evaluate).expect(3);
    assert!(first.stderr.contains("hint: run just prep first"), "{first}");
    // Prepared in another way than the model expects.
    let larger = [&ELSEWHERE[..], &["--set", "prep.size=64"]].concat();
    pipeline.stage("prep", &larger).expect(0);
    let ran = pipeline.stage("predict", &[&larger[..], &["evaluate", "--model", "model"]].concat()).expect(2);
    assert!(ran.stderr.contains("--set prep.size=48 --set prep.contrast=1"), "{ran}");

    pipeline.stage("prep", &ELSEWHERE).expect(0);
    let ran = pipeline.stage("predict", &evaluate).expect(0);
    assert!(ran.stderr.contains("farther from the training images"), "{ran}");
    assert!(pipeline.stage("predict", &evaluate).expect(0).current());
    let report = pipeline.stage("report", &ELSEWHERE).expect(0);
    assert!(report.stdout.contains("External evaluation of model"), "{report}");
    assert!(report.stdout.contains("Not in these data: Fibrosis, Hernia"), "{report}");
    let page = fs_err::read_to_string(pipeline.published("elsewhere", "report").join("index.html")).unwrap();
    assert!(page.contains("External evaluation of model") && page.contains("which was trained elsewhere"));
    let own = fs_err::read_to_string(pipeline.published("default", "report").join("index.html")).unwrap();
    let heading = |page: &str| page.contains("<h2>Training");
    assert!(heading(&own) && !heading(&page), "nothing was trained");

    let rows = metrics(&pipeline, "elsewhere");
    let test = |row: &&Row| row.cell.split == Split::Test && row.cell.subset == Subset::All;
    for branch in Branch::ALL {
        let aurocs = rows.iter().filter(test).filter(|row| {
            (row.cell.series, row.cell.metric) == (Series::from(branch), Metric::Auroc)
                && matches!(row.cell.scope, Scope::Finding(_))
        });
        let aurocs: Vec<&Row> = aurocs.collect();
        assert_eq!(aurocs.len(), Finding::COUNT);
        for row in aurocs {
            match row.cell.scope {
                Scope::Finding(finding) if NOT_THERE.contains(&finding) => {
                    assert_eq!((row.value, row.reason.as_deref()), (None, Some("no labels")), "{}", row.cell);
                }
                _ if row.n_pos > 0 => {
                    let within = row.ci_low <= row.value && row.value <= row.ci_high;
                    assert!(row.value.is_some() && row.ci_low.is_some() && within, "{row:?}");
                }
                _ => assert_eq!((row.value, row.reason.as_deref()), (None, Some("no positives")), "{}", row.cell),
            }
        }
    }
    // What is chosen is chosen on the model's validation images, there as here.
    let chosen = |rows: &[Row]| -> Vec<(String, Option<f64>)> {
        let is_chosen = |row: &&Row| {
            let thresholds = Criterion::ALL.map(|criterion| Metric::Decision(Decision::Threshold, criterion));
            row.cell.metric == Metric::Temperature || thresholds.contains(&row.cell.metric)
        };
        rows.iter().filter(test).filter(is_chosen).map(|row| (row.cell.to_string(), row.value)).collect()
    };
    let here = metrics(&pipeline, "default");
    let there: Vec<_> = chosen(&rows).into_iter().filter(|(_, value)| value.is_some()).collect();
    assert!(there.len() > 20, "{there:?}");
    let here = chosen(&here);
    for chosen in &there {
        assert!(here.contains(chosen), "{chosen:?} is not in {here:?}");
    }
    asked_afterwards(&pipeline);
}

/// The other commands of report take an external evaluation as any run, and a run that trained takes none.
fn asked_afterwards(pipeline: &Pipeline) {
    let report = |args: &[&str]| pipeline.stage("report", &[&ELSEWHERE[..], args].concat());
    let ids: Vec<String> = {
        let folder: PathBuf = pipeline.published("elsewhere", "evaluate");
        let rows = tables::predictions::read(&folder.join("fusion/predictions.parquet")).unwrap();
        let test = rows.into_iter().filter(|row| row.key.split == Split::Test);
        test.map(|row| row.key.image_id).collect()
    };
    assert!(ids.len() > 50 && ids.iter().all(|id| id.ends_with(".dcm")), "{ids:?}");
    let shown = report(&["show", &ids[3]]).expect(0);
    assert!(shown.stdout.contains("attended region") && shown.stdout.contains("Cardiomegaly"), "{shown}");
    let compared = report(&["compare", "elsewhere", "elsewhere"]).expect(0);
    assert!(compared.stdout.contains(&format!("on {} common test images", ids.len())), "{compared}");
    let apart = report(&["compare", "elsewhere", "default"]);
    assert!([2, 4].contains(&apart.code) && apart.stderr.contains("elsewhere"), "{apart}");

    let ran = pipeline.stage("predict", &["evaluate", "--model", "model"]).expect(2);
    assert!(ran.stderr.contains("--run ELSEWHERE"), "{ran}");
}
