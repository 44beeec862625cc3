//! Predictions of others, experts' labels and the leaderboard, by the binary.

mod scene;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use cxr::metrics::{Metric, Scope, Series, Subset, auroc};
use cxr::{Branch, Expert, Finding, OUTPUTS, Split, any_of};
use report::results::Results;
use scene::{Report, Scene};
use tables::predictions;

/// Writes NIH's table and lists as they would be of the scene's images; returns the folder.
fn nih(report: &Report, scene: &Scene) -> String {
    let root = report.folder.path().join("nih");
    fs_err::create_dir_all(&root).unwrap();
    let (mut table, mut lists) = ("Image Index,Finding Labels,Patient ID\n".to_owned(), [String::new(), String::new()]);
    for image in &scene.images {
        let (id, record) = (&image.record.image_id, &image.record);
        let _ = writeln!(table, "{id},{},{}", record.labels, record.patient_id);
        let _ = writeln!(lists[usize::from(image.split == Split::Test)], "{id}");
    }
    fs_err::write(root.join("Data_Entry_2017_v2020.csv"), table).unwrap();
    fs_err::write(root.join("train_val_list.txt"), &lists[0]).unwrap();
    fs_err::write(root.join("test_list.txt"), &lists[1]).unwrap();
    root.to_str().unwrap().to_owned()
}

/// The fusion's test rows.
fn fusion(scene: &Scene) -> Vec<&predictions::Row> {
    scene.predictions[2].iter().filter(|row| row.key.split == Split::Test).collect()
}

/// The fusion's test rows as others would write them: probabilities, 14 findings, from the last to the first.
fn file(report: &Report, scene: &Scene) -> String {
    let mut text = "Image Index".to_owned();
    Finding::ALL.iter().for_each(|finding| text += &format!(",prob_{finding}"));
    for row in fusion(scene).into_iter().rev() {
        text += &format!("\nimages/{}", row.key.image_id.replace(".png", ".jpg"));
        row.logits[..Finding::COUNT]
            .iter()
            .for_each(|logit| text += &format!(",{}", 1.0 / (1.0 + (-f64::from(*logit)).exp())));
    }
    let path = report.folder.path().join("peer.csv.gz");
    let mut gzip = flate2::write::GzEncoder::new(fs_err::File::create(&path).unwrap(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    gzip.finish().unwrap();
    path.to_str().unwrap().to_owned()
}

/// The value of a line of the table: `Mean  0.8383 [0.8324-0.8443]`.
fn line(stdout: &str, name: &str) -> (f64, [f64; 2]) {
    let line = stdout.lines().rfind(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {stdout}"));
    let mut words = line[name.len()..].split_whitespace();
    let value = words.next().unwrap().parse().unwrap();
    let (low, high) = words.next().unwrap().trim_matches(['[', ']']).split_once('-').unwrap();
    (value, [low.parse().unwrap(), high.parse().unwrap()])
}

#[test]
fn a_file_of_predictions_is_scored_as_a_branch_is() {
    let report = Report::new();
    let scene = Scene::new(270, 4);
    scene.publish(&report.artifacts(), "default", 0.7);
    let (root, file) = (nih(&report, &scene), file(&report, &scene));
    let (code, stdout, stderr) = report.run(&["import", "peer", &file, "--root", &root]);
    assert_eq!(code, 0, "{stderr}");
    insta::assert_snapshot!(stdout);
    let rows = fusion(&scene);
    let scores: Vec<f32> = rows.iter().map(|row| row.logits[0]).collect();
    let truth: Vec<bool> = rows.iter().map(|row| row.key.labels.contains(Finding::Atelectasis)).collect();
    let (value, [low, high]) = line(&stdout, "Atelectasis");
    assert!((value - auroc(&scores, &truth).unwrap()).abs() < 6e-5 && low < value && value < high);

    // It is a result like others: found again, listed, read by whoever reads predictions.
    let stored = predictions::read(&report.artifacts().join("peer/import/predictions.parquet")).unwrap();
    assert_eq!(stored.len(), rows.len());
    assert!(stored.iter().zip(&rows).all(|(a, b)| a.key == b.key && (a.logits[3] - b.logits[3]).abs() < 1e-5));
    let (_, again, stderr) = report.run(&["import", "peer", &file, "--root", &root]);
    assert!(again == stdout && stderr.contains("current"), "{stderr}");

    // Beside the run's branches it is the fusion, in every way but No Finding.
    let (code, stdout, stderr) = report.run(&["import", "peer", &file, "--root", &root, "--run", "default"]);
    assert!(code == 0 && stderr.contains("report.peers"), "{stderr}");
    for branch in Branch::ALL {
        assert!(
            stdout.contains(&format!("AUROC of {branch} of default (A) and peer (imported) (B) on 90 common test"))
        );
    }
    let (_, stdout, _) = report.run(&["compare", "default", "peer"]);
    let differences: Vec<&str> = stdout.lines().filter(|line| line.contains("[+") || line.contains("[-")).collect();
    assert!(
        differences.len() == 5 && differences.iter().all(|line| line.contains("+0.000  [+0.000, +0.000]")),
        "{stdout}"
    );
    assert!(stdout.lines().any(|line| line.starts_with("No Finding") && line.ends_with("-")), "{stdout}");

    // In the page, and in its numbers.
    let peers = "report.peers=[\"peer\"]";
    let (code, _, stderr) = report.run(&["--set", peers]);
    assert_eq!(code, 0, "{stderr}");
    let out = report.artifacts().join("default/report");
    let results = Results::new(tables::metrics::read(&out.join("metrics.parquet")).unwrap()).unwrap();
    let on = |series: Series| {
        results.of_subset(series, Scope::Mean, Metric::Auroc, &Subset::Peer("peer".to_owned()), Split::Test).clone()
    };
    let [ours, theirs, global] = [Branch::Fusion.into(), Series::Peer, Branch::Global.into()].map(on);
    assert!((ours.value.unwrap() - theirs.value.unwrap()).abs() < 1e-9 && theirs.ci_low < theirs.value);
    let against = on(Series::AgainstPeer(Branch::Global));
    assert!((against.value.unwrap() - (global.value.unwrap() - theirs.value.unwrap())).abs() < 1e-12);
    assert!(results.rows().iter().all(|row| row.value.is_some() || row.reason.is_some()));
    let page = fs_err::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains("id=\"peers\"") && page.contains("peer: Mean (4 of 14)"));
    let (code, _, stderr) = report.run(&["--set", "report.peers=[\"nobody\"]"]);
    assert!(code == 3 && stderr.contains("nobody is no imported model"), "{stderr}");

    // A name that a run has is not for a model.
    let (code, _, stderr) = report.run(&["import", "default", &file, "--root", &root]);
    assert!(code == 2 && stderr.contains("trains models of its own"), "{stderr}");
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let report = Report::new();
    let scene = Scene::new(90, 3);
    let root = nih(&report, &scene);
    let first = &fusion(&scene)[0].key.image_id;
    let said = |text: &str, more: &[&str]| {
        let path = report.folder.path().join("bad.csv");
        fs_err::write(&path, text).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let (code, stdout, stderr) = report.run(&[&["import", "bad", &path, "--root", &root], more].concat());
        (code, stdout + &stderr)
    };
    for (text, code, expected) in [
        ("Image Index,Mass\nsomebody.png,0.5\n".to_owned(), 4, "expected names such as 00000001_000.png"),
        ("id,Mass\n7,0.5\n".to_owned(), 4, "bad.csv, column \"id\": none of its 1 images is in"),
        (format!("Image Index,Mass\n{first},1\n"), 4, "begin with the columns Mass (only 0 and 1: labels or decisions"),
        (format!("Image Index,Mass\n{first},nan\n"), 4, "column \"Mass\": got \"nan\""),
        (
            format!("Image Index,Massive\n{first},0.5\n"),
            4,
            "no column has scores, got the columns Image Index, Massive",
        ),
        (format!("Image Index,size\n{first},0.5\n"), 4, "no column has scores, got the columns Image Index, size"),
        (format!("picture,x\n{first}x,0.5\n"), 4, "no column has the images' names, got the columns picture, x"),
    ] {
        let (got, said) = said(&text, &[]);
        assert!(got == code && said.contains(expected), "{text}: {got} {said}");
    }
    // Columns of 0 and 1 are scores for who says so.
    let (code, stdout) = said(&format!("Image Index,Mass\n{first},1\n"), &["--columns", ""]);
    assert!(code == 0 && stdout.contains("the first in \"Mass\""), "{stdout}");
    // What is missing, foreign or trained on is counted.
    let train = &scene.images[0].record.image_id;
    let text = format!("file,logit_Mass\n{first},-3\n{train},2\nsomebody.png,0\n");
    let (code, stdout) = said(&text, &[]);
    assert_eq!(code, 0, "{stdout}");
    for expected in [
        "scores: taken for logits, for some lie outside 0 to 1",
        "images: 1 of the file are not in Data_Entry_2017_v2020.csv, the first: somebody",
        "split: no list that is known here",
        // Only NIH's own list may be called so.
        "split: 1 of the images are in test_list.txt, 1 in train_val_list.txt, on which",
        "columns: no scores of Atelectasis, Cardiomegaly",
    ] {
        assert!(stdout.contains(expected), "{expected}: {stdout}");
    }
    let (_, stdout) = said(&text, &["--official"]);
    assert!(stdout.contains("images: 1 outside test_list.txt left out"), "{stdout}");
    assert!(stdout.contains("1 of the 30 images of test_list.txt, which is not NIH's official list"), "{stdout}");
    let (code, _, stderr) = report.run(&["import", "bad", "nowhere.csv", "--root", &root]);
    assert!(code == 3 && stderr.contains("nowhere.csv"), "{stderr}");
    let (code, _, stderr) = report.run(&["import", "bad", &format!("{root}/test_list.txt"), "--root", "nowhere"]);
    assert!(code != 0 && stderr.contains("hint: "), "{stderr}");
}

#[test]
fn models_on_other_images_are_never_ranked_together() {
    let report = Report::new();
    let scene = Scene::new(270, 4);
    scene.publish(&report.artifacts(), "default", 0.7);
    let (code, _, stderr) = report.run(&["leaderboard", "--run", "empty", "nobody"]);
    assert!(code == 3 && stderr.contains("nobody is neither an imported model"), "{stderr}");
    let (root, file) = (nih(&report, &scene), file(&report, &scene));
    assert_eq!(report.run(&["import", "peer", &file, "--root", &root]).0, 0);
    let few = report.folder.path().join("few.csv");
    let rows = fusion(&scene);
    let text: String = rows[..60].iter().map(|row| format!("\n{},{}", row.key.image_id, row.logits[0])).collect();
    fs_err::write(&few, format!("image,Atelectasis{text}")).unwrap();
    assert_eq!(report.run(&["import", "few", few.to_str().unwrap(), "--root", &root]).0, 0);

    let (code, stdout, stderr) = report.run(&["leaderboard"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.starts_with("These models were evaluated on different images"), "{stdout}");
    let blocks: Vec<&str> = stdout.split("\n\n").collect();
    let of = |model: &str| blocks.iter().position(|block| block.lines().any(|line| line.starts_with(model))).unwrap();
    assert_eq!((of("peer"), of("default: fusion"), of("default: global")), (1, 1, 1), "{stdout}");
    assert_eq!(of("few"), 2, "{stdout}");
    let list = "60 of the 90 images of test_list.txt, which is not NIH's official list";
    assert!(blocks[2].starts_with(&format!("60 images of 20 patients, {list}")), "{stdout}");
    let out = report.artifacts().join("default/leaderboard");
    let page = fs_err::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains("These models were evaluated on different images") && page.contains("default: local"));
    let csv = fs_err::read_to_string(out.join("leaderboard.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 5, "{csv}");
    assert!(report.run(&["leaderboard"]).2.contains("current"));
    // One set of images needs no warning.
    let (_, one, _) = report.run(&["leaderboard", "peer", "default"]);
    assert!(!one.contains("different images") && one.contains("imported"), "{one}");

    // The same scores, imported with other lists, are said to be of other images: the page is another one.
    fs_err::remove_file(Path::new(&root).join("test_list.txt")).unwrap();
    assert_eq!(report.run(&["import", "few", few.to_str().unwrap(), "--root", &root]).0, 0);
    let (_, _, stderr) = report.run(&["leaderboard"]);
    assert!(!stderr.contains("current"), "{stderr}");
    let page = fs_err::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains("60 images of 20 patients, no list that is known here"), "{page}");
}

#[test]
fn a_run_is_an_imported_model_or_a_training() {
    let report = Report::new();
    let scene = Scene::new(270, 4);
    scene.publish(&report.artifacts(), "default", 0.7);
    let (root, file) = (nih(&report, &scene), file(&report, &scene));
    assert_eq!(report.run(&["import", "peer", &file, "--root", &root]).0, 0);
    // Training asks nobody whether a model of that name was imported.
    scene.publish(&report.artifacts(), "peer", 0.6);
    for args in [&["compare", "default", "peer"][..], &["leaderboard", "peer"], &["--set", "report.peers=[\"peer\"]"]] {
        let (code, _, stderr) = report.run(args);
        let named = ["peer/import", "peer/fusion", "hint: choose another name", "remove the link peer/import"];
        assert!(code == 2 && named.iter().all(|name| stderr.contains(name)), "{args:?}: {stderr}");
    }
    // Who names no model is told what is left out.
    let (code, stdout, stderr) = report.run(&["leaderboard"]);
    assert!(code == 0 && stderr.contains("peer is left out: run peer has an imported model"), "{stderr}");
    assert!(stdout.contains("default: fusion") && !stdout.contains("peer"), "{stdout}");
}

#[test]
fn what_of_an_imported_model_does_not_count_is_said() {
    let report = Report::new();
    let scene = Scene::new(270, 4);
    scene.publish(&report.artifacts(), "default", 0.7);
    let root = nih(&report, &scene);
    // Two of the findings that the images show and one that they do not; 60 of the test images, 5 of training.
    let train = scene.predictions[2].iter().filter(|row| row.key.split == Split::Train).take(5);
    let mut text = "image,logit_Atelectasis,logit_Effusion,logit_Hernia".to_owned();
    for row in fusion(&scene)[..60].iter().copied().chain(train) {
        let _ = write!(text, "\n{},{},{},-3", row.key.image_id, row.logits[0], row.logits[2]);
    }
    let part = report.folder.path().join("part.csv");
    fs_err::write(&part, text).unwrap();
    assert_eq!(report.run(&["import", "part", part.to_str().unwrap(), "--root", &root]).0, 0);
    let (code, _, stderr) = report.run(&["--set", "report.peers=[\"part\"]"]);
    assert_eq!(code, 0, "{stderr}");

    let out = report.artifacts().join("default/report");
    let page = fs_err::read_to_string(out.join("index.html")).unwrap();
    let said = "<p>part: 60 test images count, which both have; left out: 30 of this run that part lacks, 0 of part that this \
                run lacks, 5 of part on which this run was trained or chose its epoch.</p>";
    assert!(page.contains(said), "{page}");
    assert!(page.contains("part: Mean (2 of 14)"), "{page}");
    let results = Results::new(tables::metrics::read(&out.join("metrics.parquet")).unwrap()).unwrap();
    let subset = Subset::Peer("part".to_owned());
    let defined = results.of_subset(Series::Peer, Scope::Mean, Metric::FindingsDefined, &subset, Split::Test);
    assert_eq!(defined.value, Some(2.0));
    // The scores are the fusion's: there are scores, and no difference.
    let why = |scope: Scope| {
        let against = Series::AgainstPeer(Branch::Fusion);
        let row = results.of_subset(against, scope, Metric::AurocDelongP, &subset, Split::Test);
        (row.value, row.reason.clone())
    };
    for (scope, reason) in [
        (Finding::Atelectasis.into(), "the difference does not vary"),
        (Scope::Mean, "the difference does not vary"),
        (Finding::Cardiomegaly.into(), "no scores"),
        (Finding::Hernia.into(), "no positives"),
    ] {
        assert_eq!(why(scope), (None, Some(reason.to_owned())), "{scope}");
    }
}

#[test]
fn experts_are_another_truth() {
    let report = Report::new();
    let mut scene = Scene::new(270, 8);
    // Experts agree with NIH about every other patient, and see a nodule or mass in none of the others.
    let mapping = Expert::ALL.map(|expert| (expert, expert.findings()));
    for image in &scene.images {
        let agrees = image.record.patient_id.is_multiple_of(2);
        let labels = mapping.map(|(_, findings)| any_of(image.record.labels, findings).map(|shown| shown && agrees));
        scene.experts.push(tables::experts::Row { image_id: image.record.image_id.clone(), labels });
    }
    scene.publish(&report.artifacts(), "default", 0.7);
    let root = nih(&report, &scene);
    let mut text = "Image ID,Patient ID,Fracture,Pneumothorax,Airspace opacity,Nodule or mass\n".to_owned();
    for row in &scene.experts {
        let cells = row.labels.map(|shown| if shown == Some(true) { "YES" } else { "NO" });
        let _ = writeln!(text, "{},7,{}", row.image_id, cells.join(","));
    }
    let file = report.folder.path().join("experts.csv");
    fs_err::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let (code, stdout, stderr) = report.run(&["experts", file, "default", "--root", &root]);
    assert_eq!(code, 0, "{stderr}");
    insta::assert_snapshot!(stdout);

    // Every positive of the experts is NIH's, and about half the other way round.
    let test = || scene.images.iter().zip(&scene.experts).filter(|(image, _)| image.split == Split::Test);
    let union =
        |image: &tables::images::Row| any_of(image.record.labels, Expert::NoduleOrMass.findings()) == Some(true);
    let nih_positives = test().filter(|(image, _)| union(image)).count();
    let positives = test().filter(|(_, row)| row.labels[Expert::NoduleOrMass.index()] == Some(true)).count();
    let precision = positives as f64 / nih_positives as f64;

    // The report has the same numbers, and those of every branch by both kinds of truth.
    assert_eq!(report.run(&[]).0, 0);
    let out = report.artifacts().join("default/report");
    let results = Results::new(tables::metrics::read(&out.join("metrics.parquet")).unwrap()).unwrap();
    let scope = Scope::Expert(Expert::NoduleOrMass);
    let of = |series: Series, metric: Metric, subset: &Subset| {
        results.of_subset(series, scope, metric, subset, Split::Test).value.unwrap()
    };
    let nih = |metric: Metric| of(Series::Nih, metric, &Subset::Experts);
    assert_eq!((nih(Metric::Sensitivity), nih(Metric::Precision)), (1.0, precision));
    let kappa = nih(Metric::Kappa);
    assert!(0.0 < kappa && kappa < 1.0);
    let rows: Vec<&predictions::Row> = fusion(&scene);
    let highest = |row: &&predictions::Row| {
        let [a, b] = [Finding::Nodule, Finding::Mass].map(|finding| row.logits[finding.index()]);
        a.max(b)
    };
    let scores: Vec<f32> = rows.iter().map(highest).collect();
    let by_experts: Vec<bool> = test().map(|(_, row)| row.labels[Expert::NoduleOrMass.index()] == Some(true)).collect();
    let by_nih: Vec<bool> = test().map(|(image, _)| union(image)).collect();
    let fusion = Series::from(Branch::Fusion);
    assert_eq!(Some(of(fusion, Metric::Auroc, &Subset::Experts)), auroc(&scores, &by_experts));
    assert_eq!(Some(of(fusion, Metric::Auroc, &Subset::ExpertImages)), auroc(&scores, &by_nih));
    let page = fs_err::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains("id=\"experts\"") && page.contains("nodule or mass"));

    let (code, _, stderr) = report.run(&["experts", file, "--root", &root, "--set", "report.experts={ cough = [] }"]);
    assert!(code == 2 && stderr.contains("\"cough\""), "{stderr}");
}

/// The defaults are the unions that `prep` reads files of all findings by.
#[test]
fn the_default_mapping_is_that_of_the_vocabulary() {
    let defaults: toml::Table = report::SPEC.defaults.parse().unwrap();
    let config: report::Config = defaults["report"].clone().try_into().unwrap();
    let expected = Expert::ALL.map(|expert| (expert, expert.findings().to_vec()));
    assert_eq!(config.mapping(), expected.into_iter().filter(|(_, findings)| !findings.is_empty()).collect::<Vec<_>>());
    assert_eq!(OUTPUTS, 15);
}

/// NIH's folder, and that of others' predictions, for the tests that `just test-nih` runs.
fn real() -> [PathBuf; 2] {
    ["AGCNN_NIH", "AGCNN_PEERS"].map(|name| {
        let folder = std::env::var_os(name).map(PathBuf::from).unwrap_or_else(|| panic!("{name} names a folder"));
        assert!(Path::new(&folder).is_dir(), "{name}: {} is not a folder", folder.display());
        folder
    })
}

/// AUROCs that John Zech published of his own predictions, by the labels of 2017.
const JRZECH: [f64; Finding::COUNT] =
    [0.8180, 0.9090, 0.8827, 0.7156, 0.8377, 0.7756, 0.7617, 0.8776, 0.8002, 0.8945, 0.9316, 0.8251, 0.7889, 0.9175];

#[test]
#[ignore = "needs NIH's files: just test-nih"]
fn nihs_labels_and_predictions_of_others() {
    let [nih, peers] = real();
    let report = Report::new();
    let file = peers.join("jrzech_preds.csv.gz");
    let args =
        ["import", "jrzech", file.to_str().unwrap(), "--root", nih.to_str().unwrap(), "--set", "report.draws=2000"];
    let (code, stdout, stderr) = report.run(&args);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("on 22433 images of"), "{stdout}");
    assert!(stdout.contains("split: arnoweng/CheXNet's test list"), "{stdout}");
    assert!(
        stdout.contains("split: 5213 of the images are in NIH's official test list, 17220 in its train_val list"),
        "{stdout}"
    );
    // 300 draws elsewhere gave .832 to .844.
    let (mean, [low, high]) = line(&stdout, "Mean");
    assert!((mean - 0.8383).abs() < 6e-5 && (low - 0.832).abs() < 0.001 && (high - 0.844).abs() < 0.001, "{stdout}");
    // The labels of 181 images are others than in 2017.
    for (finding, published) in Finding::ALL.into_iter().zip(JRZECH) {
        let (value, _) = line(&stdout, &report::results::title(finding));
        assert!((value - published).abs() < 0.003, "{finding}: {value}, published {published}");
    }
}

#[test]
#[ignore = "needs NIH's files: just test-nih"]
fn nihs_labels_against_experts() {
    let [nih, peers] = real();
    let report = Report::new();
    let file = peers.join("google2019_nih-chest-xray-labels.csv.gz");
    let (code, stdout, stderr) = report.run(&["experts", file.to_str().unwrap(), "--root", nih.to_str().unwrap()]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("on 1962 images of 860 patients in NIH's official test list"), "{stdout}");
    for (name, positives, sensitivity, precision) in
        [("pneumothorax", 195, 0.50, 0.48), ("airspace opacity", 1135, 0.51, 0.77), ("nodule or mass", 295, 0.45, 0.57)]
    {
        let found = stdout.lines().rfind(|line| line.starts_with(name)).unwrap();
        let words: Vec<&str> = found[name.len()..].split_whitespace().collect();
        let number = |at: usize| words[at].parse::<f64>().unwrap();
        assert_eq!((words[0], words[1]), ("1962", positives.to_string().as_str()), "{stdout}");
        assert!((number(3) - sensitivity).abs() < 0.0051 && (number(5) - precision).abs() < 0.0051, "{stdout}");
    }
}
