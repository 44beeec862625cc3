//! The binary, on a run that its upstream stages might have published.

mod scene;

use cxr::metrics::auroc;
use cxr::{Finding, Split};
use report::results::Results;
use scene::{Report, Scene};

#[test]
fn help() {
    let (code, help, _) = Report::new().run(&["--help"]);
    assert_eq!(code, 0);
    insta::assert_snapshot!(help);
}

#[test]
fn a_report() {
    let report = Report::new();
    let scene = Scene::new(270, 4);
    scene.publish(&report.artifacts(), "default", 0.7);
    let (code, stdout, stderr) = report.run(&[]);
    assert_eq!(code, 0, "{stderr}");
    insta::assert_snapshot!(stdout);
    let out = report.artifacts().join("default/report");

    let results = Results(tables::metrics::read(&out.join("metrics.parquet")).unwrap());
    let get = |branch, finding, metric| results.get(branch, finding, metric, Split::Test).unwrap();

    // The number is the metric of the rows that were read.
    let rows: Vec<_> = scene.predictions[2].iter().filter(|row| row.split == Split::Test).collect();
    let scores: Vec<f32> = rows.iter().map(|row| row.logits[0]).collect();
    let truth: Vec<bool> = rows.iter().map(|row| row.labels.contains(Finding::ALL[0])).collect();
    let row = get("fusion", "atelectasis", "auroc");
    assert_eq!(row.value, auroc(&scores, &truth));
    assert!(row.ci_low < row.value && row.value < row.ci_high);
    assert_eq!((row.n_pos + row.n_neg) as usize, rows.len());

    // A finding that no image shows is null, never 0.5; the mean says over how many findings it is.
    let hernia = get("fusion", "hernia", "auroc");
    assert_eq!((hernia.value, hernia.ci_low, hernia.n_pos), (None, None, 0));
    assert_eq!(get("fusion-global", "hernia", "average_precision").value, None);
    assert_eq!(get("fusion", "mean", "findings_defined").value, Some(4.0));

    // The pair is the difference of the two, and more certain than they are.
    let [fusion, global, pair] = ["fusion", "global", "fusion-global"].map(|b| get(b, "mean", "auroc"));
    assert!((pair.value.unwrap() - (fusion.value.unwrap() - global.value.unwrap())).abs() < 1e-12);
    let width = |row: &tables::metrics::Row| row.ci_high.unwrap() - row.ci_low.unwrap();
    assert!(width(pair) < width(fusion) + width(global));

    // Boxes: the centre is hit where it lies inside the region.
    let test = scene.images.iter().zip(&scene.regions).filter(|(image, _)| image.split == Split::Test);
    let hits: Vec<bool> =
        test.flat_map(|(image, region)| image.boxes.iter().map(|b| region.bbox.contains(b.bbox.center()))).collect();
    let hit_rate = hits.iter().filter(|&&hit| hit).count() as f64 / hits.len() as f64;
    let row = get("attend", "all", "hit_rate");
    assert_eq!((row.value, row.n_pos), (Some(hit_rate), hits.len() as u64));

    assert_eq!(get("attend", "all", "fallback_rate").value, Some(0.0));

    // Validation has values and no intervals.
    let row = results.get("global", "mean", "auroc", Split::Validation).unwrap();
    assert!(row.value.is_some() && row.ci_low.is_none());

    // One page without outside parts.
    let page = fs_err::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains("undefined (no positives)") && page.contains("Not comparable"));
    assert!(page.contains("arXiv 1801.09927v1, Table I"));
    assert!(!page.contains("src=\"http") && !page.contains("<script") && !page.contains("<link"));
    assert!(page.contains("&#x22;&lt;b&gt;") || page.contains("&quot;&lt;b&gt;"), "settings are escaped");
    for file in ["figures/roc.svg", "figures/roc.png", "figures/auroc.svg", "figures/auroc.png"] {
        assert!(fs_err::metadata(out.join(file)).unwrap().len() > 1000, "{file}");
    }
    assert_eq!(fs_err::read_dir(out.join("overlays")).unwrap().count(), 3);

    // Again: current. The same again by force: the same bytes.
    let (_, stdout, stderr) = report.run(&[]);
    assert!(stdout.is_empty() && stderr.contains("current"), "{stderr}");
    let before = fs_err::read(out.join("metrics.parquet")).unwrap();
    assert_eq!(report.run(&["--force"]).0, 0);
    assert_eq!(fs_err::read(out.join("metrics.parquet")).unwrap(), before);
}

#[test]
fn a_sweep() {
    let report = Report::new();
    let scene = Scene::new(90, 3);
    for (run, threshold) in [("a", 0.5), ("b", 0.8)] {
        scene.publish(&report.artifacts(), run, threshold);
        assert_eq!(report.run(&["--run", run]).0, 0);
    }
    let (code, stdout, stderr) = report.run(&["--run", "main", "--sweep", "b,a"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.starts_with("run,threshold,branch,split,mean_auroc,ci_low,ci_high\nb,0.8,global,test,0."));
    assert_eq!(stdout.lines().count(), 1 + 2 * 5);
    let out = report.artifacts().join("main/sweep");
    for file in ["sweep.csv", "sweep.svg", "sweep.png", "manifest.json"] {
        assert!(out.join(file).exists(), "{file}");
    }
    assert!(report.run(&["--run", "main", "--sweep", "b,a"]).2.contains("current"));
    let (code, _, stderr) = report.run(&["--run", "main", "--sweep", "a,c"]);
    assert_eq!(code, 3, "{stderr}");
}

#[test]
fn failures_name_what_is_wrong() {
    let report = Report::new();
    let fails = |code: i32, args: &[&str], expected: &str| {
        let (got, _, stderr) = report.run(args);
        assert_eq!(got, code, "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    };
    fails(3, &[], "hint: run just prep first");
    fails(2, &["--set", "report.split=train"], "report.split = \"train\", expected");
    fails(2, &["--set", "report.confidence=1.0"], "report.confidence = 1, expected above 0 and below 1");
    fails(2, &["--set", "report.draw=10"], "unknown key report.draw");

    let mut scene = Scene::new(90, 3);
    let missing = scene.predictions[1].pop().unwrap().image_id;
    scene.publish(&report.artifacts(), "default", 0.7);
    fails(4, &[], &format!("global and local scored different test images: 1 are in one only, the first: {missing}"));

    let mut scene = Scene::new(90, 3);
    scene.predictions[2].last_mut().unwrap().patient_id += 1;
    scene.publish(&report.artifacts(), "default", 0.7);
    fails(4, &[], "global and fusion differ in label or patient of 1 test images");

    let mut scene = Scene::new(90, 3);
    scene.regions.pop();
    scene.publish(&report.artifacts(), "default", 0.7);
    fails(4, &[], "attend has no region for it");

    let mut scene = Scene::new(90, 3);
    for image in &mut scene.images {
        image.png.truncate(60);
    }
    scene.publish(&report.artifacts(), "default", 0.7);
    fails(4, &[], "stored picture cannot be decoded");
    assert!(!report.artifacts().join("default/report").exists(), "nothing half-made is published");
}
