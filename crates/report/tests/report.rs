//! The binary, on a run that its upstream stages might have published.

mod scene;

use cxr::metrics::calibration::{brier, expected_calibration_error, sigmoid};
use cxr::metrics::decision::{Confusion, Criterion, threshold};
use cxr::metrics::{Decision, Metric, Overlap, Pair, Scope, Series, Subset, auroc};
use cxr::{Branch, Finding, Labels, Sex, Split};
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

    let results = Results::new(tables::metrics::read(&out.join("metrics.parquet")).unwrap()).unwrap();
    let get = |series: Series, scope: Scope, metric: Metric| results.get(series, scope, metric, Split::Test);
    let [global, fusion] = [Branch::Global, Branch::Fusion].map(Series::Branch);
    let pair = Series::Pair(Pair::FusionGlobal);
    let [atelectasis, hernia] = [Finding::Atelectasis, Finding::Hernia].map(Scope::Finding);

    // The number is the metric of the rows that were read.
    let rows: Vec<_> = scene.predictions[2].iter().filter(|row| row.key.split == Split::Test).collect();
    let scores: Vec<f32> = rows.iter().map(|row| row.logits[0]).collect();
    let truth: Vec<bool> = rows.iter().map(|row| row.key.labels.contains(Finding::Atelectasis)).collect();
    let row = get(fusion, atelectasis, Metric::Auroc);
    assert_eq!(row.value, auroc(&scores, &truth));
    assert!(row.ci_low < row.value && row.value < row.ci_high);
    assert_eq!((row.n_pos + row.n_neg) as usize, rows.len());

    // A finding that no image shows is null, never 0.5; the mean says over how many findings it is.
    let row = get(fusion, hernia, Metric::Auroc);
    assert_eq!((row.value, row.ci_low, row.n_pos), (None, None, 0));
    assert_eq!(get(pair, hernia, Metric::AveragePrecision).value, None);
    assert_eq!(get(fusion, Scope::Mean, Metric::FindingsDefined).value, Some(4.0));

    // The pair is the difference of the two, and more certain than they are.
    let [a, b, difference] = [fusion, global, pair].map(|series| get(series, Scope::Mean, Metric::Auroc));
    assert!((difference.value.unwrap() - (a.value.unwrap() - b.value.unwrap())).abs() < 1e-12);
    let width = |row: &tables::metrics::Row| row.ci_high.unwrap() - row.ci_low.unwrap();
    assert!(width(difference) < width(a) + width(b));

    // Boxes: the centre is hit where it lies inside the region.
    let test = scene.images.iter().zip(&scene.regions).filter(|(image, _)| image.split == Split::Test);
    let hits: Vec<bool> =
        test.flat_map(|(image, region)| image.boxes.iter().map(|b| region.bbox.contains(b.bbox.center()))).collect();
    let hit_rate = hits.iter().filter(|&&hit| hit).count() as f64 / hits.len() as f64;
    let row = get(Series::Attention, Scope::All, Metric::HitRate);
    assert_eq!((row.value, row.n_pos), (Some(hit_rate), hits.len() as u64));

    assert_eq!(get(Series::Attention, Scope::All, Metric::FallbackRate).value, Some(0.0));

    // The maximum of the heat map is the cell nearest to the region's centre: found where that lies in the box.
    let row = get(Series::Attention, Scope::All, Metric::PointingGame);
    assert!(row.value > Some(0.0) && row.value < Some(1.0) && row.n_pos == hits.len() as u64);
    let found = Overlap::ALL.map(|overlap| get(Series::Attention, Scope::All, Metric::IouAt(overlap)).value.unwrap());
    assert!(found.is_sorted_by(|a, b| a >= b), "{found:?}");

    // The class maps' regions, counted anew by WSRPN's rules.
    let test: Vec<_> =
        scene.images.iter().filter(|image| image.split == Split::Test && !image.boxes.is_empty()).collect();
    let class_maps = scene.class_maps();
    for overlap in Overlap::ALL {
        let mut accuracies = Vec::new();
        for finding in Finding::ALL {
            let (mut found, mut predicted, mut drawn, mut neither) = (0, 0, 0, 0);
            for image in &test {
                let id = &image.record.image_id;
                let maps = class_maps.iter().find(|row| row.image_id == *id).unwrap();
                let logits = scene.predictions[0].iter().find(|row| row.key.image_id == *id).unwrap().logits;
                let here: Vec<_> = image.boxes.iter().filter(|drawn| drawn.finding == finding).collect();
                let says = logits[finding.index()] > 0.0;
                predicted += usize::from(says);
                drawn += here.len();
                neither += usize::from(!says && here.is_empty());
                let region = maps.regions[finding.index()];
                found += here.iter().filter(|drawn| says && region.iou(&drawn.bbox) > overlap.value()).count();
            }
            let row = results.located(Series::ClassMap, finding, Metric::LocAccAt(overlap), Split::Test);
            assert_eq!(row.map_or(0, |row| row.n_pos as usize), drawn, "{finding}");
            if let Some(row) = row {
                let accuracy = (found + neither) as f64 / (predicted + drawn - found + neither) as f64;
                assert!((row.value.unwrap() - accuracy).abs() < 1e-12, "{finding} {overlap}: {row:?}");
                accuracies.push(accuracy);
            }
        }
        let mean = get(Series::ClassMap, Scope::Mean, Metric::LocAccAt(overlap)).value.unwrap();
        assert!((mean - accuracies.iter().sum::<f64>() / accuracies.len() as f64).abs() < 1e-12);
        assert!(get(Series::Attention, Scope::Mean, Metric::LocAccAt(overlap)).value.is_some());
    }
    // A model that predicts nothing is right about all images that have no box of a finding.
    let boxes = |finding: Finding| test.iter().flat_map(|image| &image.boxes).filter(|b| b.finding == finding).count();
    let without =
        |finding: Finding| test.iter().filter(|image| image.boxes.iter().all(|b| b.finding != finding)).count();
    let of_boxed = Finding::ALL.into_iter().filter(|&finding| boxes(finding) > 0);
    let silent: Vec<f64> =
        of_boxed.map(|finding| without(finding) as f64 / (without(finding) + boxes(finding)) as f64).collect();
    let row = get(Series::Attention, Scope::Mean, Metric::LocAccNothing);
    assert!((row.value.unwrap() - silent.iter().sum::<f64>() / silent.len() as f64).abs() < 1e-12);
    let predicted = get(Series::Attention, Scope::Mean, Metric::BoxPredicted).value.unwrap();
    assert!(0.0 < predicted && predicted < 1.0, "{predicted}");
    // Their hottest cells are those of the boxes' centres, and those of the attended regions are not.
    let of = |series: Series| get(series, Scope::All, Metric::PointingGame).value.unwrap();
    assert!(of(Series::ClassMap) > of(Series::Attention) && of(Series::ClassMap) > 0.9);
    assert_eq!(
        get(Series::ClassMap, atelectasis, Metric::Iou).value,
        Some(1.0),
        "the first finding's regions are the boxes"
    );

    // DeLong's interval is the bootstrap's, about; its p says the same as the interval.
    let delong = get(pair, Scope::Mean, Metric::AurocDelong);
    assert!((delong.value.unwrap() - difference.value.unwrap()).abs() < 1e-12);
    assert!((delong.ci_low.unwrap() - difference.ci_low.unwrap()).abs() < 0.1 * width(a) + 0.02);
    let p = get(pair, Scope::Mean, Metric::AurocDelongP).value.unwrap();
    assert_eq!(p < 0.05, delong.ci_low.unwrap() > 0.0 || delong.ci_high.unwrap() < 0.0);

    // A threshold comes from validation, what it gives from test.
    let validation: Vec<_> = scene.predictions[2].iter().filter(|row| row.key.split == Split::Validation).collect();
    let [scores, others] = [&validation, &rows].map(|rows| rows.iter().map(|r| r.logits[0]).collect::<Vec<f32>>());
    let [shown, other_truth] = [&validation, &rows]
        .map(|rows| rows.iter().map(|r| r.key.labels.contains(Finding::Atelectasis)).collect::<Vec<bool>>());
    let chosen = threshold(&scores, &shown, Criterion::Youden).unwrap();
    let youden = |decision: Decision| Metric::Decision(decision, Criterion::Youden);
    let level = get(fusion, atelectasis, youden(Decision::Threshold)).value.unwrap();
    assert!((level - 1.0 / (1.0 + f64::from(-chosen).exp())).abs() < 1e-9);
    let confusion = Confusion::at(chosen, &others, &other_truth);
    let sensitivity = get(fusion, atelectasis, youden(Decision::Sensitivity));
    assert!((sensitivity.value.unwrap() - confusion.sensitivity().unwrap()).abs() < 1e-12);
    assert!(sensitivity.ci_low <= sensitivity.value && sensitivity.value <= sensitivity.ci_high);
    let row = get(fusion, hernia, youden(Decision::Threshold));
    assert_eq!((row.value, row.reason.as_deref()), (None, Some("validation has 0 positives of 90 images")));
    assert!(get(global, Scope::All, Metric::Temperature).value.unwrap() > 0.0);
    assert!(get(fusion, Scope::Mean, Metric::BrierScaled).value <= get(fusion, Scope::Mean, Metric::Brier).value);

    // Subgroups are measured on their own images.
    let women = |row: &&&tables::predictions::Row| row.key.patient_id.is_multiple_of(2);
    let (scores, shown): (Vec<f32>, Vec<bool>) =
        rows.iter().filter(women).map(|row| (row.logits[0], row.key.labels.contains(Finding::Atelectasis))).unzip();
    let subset = Subset::Sex(Sex::Female);
    let row = results.of_subset(fusion, atelectasis, Metric::Auroc, &subset, Split::Test);
    assert_eq!((row.value, (row.n_pos + row.n_neg) as usize), (auroc(&scores, &shown), scores.len()));
    let parts: Vec<String> = results.subsets(Split::Test).iter().map(|subset| subset.to_string()).collect();
    let expected = ["all", "sex=F", "sex=M", "age=0-39", "age=40-59", "age=60-79", "age=80+", "view=PA", "view=AP"];
    assert_eq!(parts, expected);

    // Whatever has no value says why. Small groups lack findings in some draws, and say in how many.
    assert!(results.rows().iter().all(|row| row.value.is_some() || row.reason.is_some()));
    assert!(results.rows().iter().all(|row| row.undefined_draws <= 60));
    assert!(results.rows().iter().any(|row| row.undefined_draws > 0 && row.ci_low.is_some()));

    // Validation has values and no intervals.
    let row = results.get(global, Scope::Mean, Metric::Auroc, Split::Validation);
    assert!(row.value.is_some() && row.ci_low.is_none());

    // One page without outside parts.
    let page = fs_err::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains("undefined (no positives)") && page.contains("Not comparable"));
    assert!(page.contains("arXiv 1801.09927v1, Table I"));
    assert!(!page.contains("src=\"http") && !page.contains("href=\"http") && !page.contains("url("));
    assert!(page.contains("&#x22;&lt;b&gt;") || page.contains("&quot;&lt;b&gt;"), "settings are escaped");
    for figure in ["auroc", "roc", "pr", "calibration", "subgroups", "training", "localisation"] {
        for ending in ["svg", "png"] {
            let file = out.join(format!("figures/{figure}.{ending}"));
            assert!(fs_err::metadata(&file).unwrap().len() > 1000, "{}", file.display());
        }
    }
    assert_eq!(fs_err::read_dir(out.join("overlays")).unwrap().count(), 9);
    for kind in ["best", "worst", "random"] {
        assert_eq!(page.matches(&format!("data-kind=\"{kind}\"")).count(), 3);
    }

    // Again: current. The same again by force: the same bytes.
    let (_, stdout, stderr) = report.run(&[]);
    assert!(stdout.is_empty() && stderr.contains("current"), "{stderr}");
    let before = fs_err::read(out.join("metrics.parquet")).unwrap();
    assert_eq!(report.run(&["--force"]).0, 0);
    assert_eq!(fs_err::read(out.join("metrics.parquet")).unwrap(), before);
}

/// What nobody knows is left out of every number, finding by finding.
#[test]
fn unknown_labels_are_left_out() {
    let report = Report::new();
    let mut scene = Scene::new(270, 4);
    let unknown = |image: usize, labels: &mut Labels| {
        labels.set(Finding::Hernia, None);
        labels.set(Finding::Edema, None);
        if image.is_multiple_of(4) {
            labels.set(Finding::Atelectasis, None);
        }
    };
    for (i, image) in scene.images.iter_mut().enumerate() {
        unknown(i, &mut image.record.labels);
        unknown(i, &mut scene.regions[i].key.labels);
        scene.predictions.iter_mut().for_each(|rows| unknown(i, &mut rows[i].key.labels));
    }
    scene.publish(&report.artifacts(), "default", 0.7);
    let (code, stdout, stderr) = report.run(&[]);
    assert_eq!(code, 0, "{stderr}");
    insta::assert_snapshot!(stdout);
    let out = report.artifacts().join("default/report");
    let rows = tables::metrics::read(&out.join("metrics.parquet")).unwrap();
    let of_hernia = rows.iter().filter(|row| row.cell.scope == Scope::Finding(Finding::Hernia));
    for row in of_hernia.filter(|row| row.cell.split == Split::Test) {
        assert_eq!((row.value, row.n_pos, row.n_neg), (None, 0, 0), "{}", row.cell);
        assert_eq!(row.reason.as_deref(), Some("no labels"), "{}", row.cell);
    }
    let results = Results::new(rows).unwrap();
    let get = |scope: Scope, metric: Metric| results.get(Branch::Fusion, scope, metric, Split::Test);

    // Every number of a partly known finding is that of the images that are known.
    let of_split = |split: Split| -> (Vec<f32>, Vec<bool>) {
        let rows = scene.predictions[2].iter().filter(|row| row.key.split == split);
        rows.filter_map(|row| Some((row.logits[0], row.key.labels.get(Finding::Atelectasis)?))).unzip()
    };
    let (scores, truth) = of_split(Split::Test);
    let row = get(Finding::Atelectasis.into(), Metric::Auroc);
    assert_eq!((row.value, (row.n_pos + row.n_neg) as usize), (auroc(&scores, &truth), scores.len()));
    assert_eq!(row.n_pos + row.n_neg + row.n_unknown, 90);
    assert!(row.n_unknown > 20 && row.ci_low < row.value && row.value < row.ci_high);
    let p: Vec<f64> = scores.iter().map(|&score| sigmoid(f64::from(score))).collect();
    let brier_score = get(Finding::Atelectasis.into(), Metric::Brier).value.unwrap();
    assert!((brier_score - brier(&p, &truth).unwrap()).abs() < 1e-12);
    assert_eq!(get(Finding::Atelectasis.into(), Metric::Ece).value, expected_calibration_error(&p, &truth));
    let (tuning, tuning_truth) = of_split(Split::Validation);
    let chosen = threshold(&tuning, &tuning_truth, Criterion::Youden).unwrap();
    let confusion = Confusion::at(chosen, &scores, &truth);
    let decided = |decision| get(Finding::Atelectasis.into(), Metric::Decision(decision, Criterion::Youden)).value;
    assert_eq!(decided(Decision::Sensitivity), confusion.sensitivity());
    assert_eq!(decided(Decision::Precision), confusion.precision());
    assert_eq!(decided(Decision::F1), confusion.f1());

    // No Finding is known only where a finding is present: it has no negatives to rank against.
    let row = get(Scope::NoFinding, Metric::Auroc);
    assert_eq!((row.value, row.n_pos, row.reason.as_deref()), (None, 0, Some("no positives")));
    assert_eq!(get(Scope::Mean, Metric::FindingsDefined).value, Some(4.0));

    // The page names what it leaves out, once.
    let page = fs_err::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains("Not in these data: Edema, Hernia.") && page.contains("known</small>"));
    assert!(!page.contains("<th scope=\"row\">Hernia"));
    let roc = fs_err::read_to_string(out.join("figures/roc.svg")).unwrap();
    assert!(roc.contains("Mass") && !roc.contains("Hernia"));
}

#[test]
fn a_sweep() {
    let report = Report::new();
    let scene = Scene::new(90, 3);
    for (run, threshold) in [("a", 0.5), ("b", 0.8)] {
        scene.publish(&report.artifacts(), run, threshold);
        assert_eq!(report.run(&["--run", run]).0, 0);
    }
    let (code, stdout, stderr) = report.run(&["--run", "main", "sweep", "b", "a"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.starts_with("threshold,branch,split,mean_auroc,ci_low,ci_high\n0.8,global,test,0."));
    assert_eq!(stdout.lines().count(), 1 + 2 * 5);
    let out = report.artifacts().join("main/sweep");
    for file in ["sweep.csv", "sweep.parquet", "sweep.svg", "sweep.png", "manifest.json"] {
        assert!(out.join(file).exists(), "{file}");
    }
    assert!(report.run(&["--run", "main", "sweep", "b", "a"]).2.contains("current"));
    let (code, _, stderr) = report.run(&["sweep", "a", "c", "--run", "main"]);
    assert_eq!(code, 3, "{stderr}");

    // The run's own report shows it, and is out of date until it does; the runs of the sweep are as they were.
    scene.publish(&report.artifacts(), "main", 0.7);
    assert_eq!(report.run(&["--run", "main"]).0, 0);
    let page = fs_err::read_to_string(report.artifacts().join("main/report/index.html")).unwrap();
    assert!(page.contains("id=\"sweep\"") && page.contains("beside the paper"));
    let rows = tables::metrics::read(&report.artifacts().join("main/report/metrics.parquet")).unwrap();
    let at = |threshold: &str| {
        let subset = Subset::Threshold(threshold.to_owned());
        rows.iter().filter(|row| row.cell.subset == subset).count()
    };
    assert_eq!((at("0.5"), at("0.8")), (7, 7));
    assert!(report.run(&["--run", "main"]).2.contains("current") && report.run(&["--run", "a"]).2.contains("current"));
    let (code, _, stderr) = report.run(&["sweep", "a", "main", "--run", "main"]);
    assert!(code == 2 && stderr.contains("cannot be part of it"), "{stderr}");

    // Two runs with one threshold are no sweep.
    scene.publish(&report.artifacts(), "c", 0.5);
    assert_eq!(report.run(&["--run", "c"]).0, 0);
    let (code, _, stderr) = report.run(&["--run", "main", "sweep", "a", "b", "c"]);
    assert!(code == 2 && stderr.contains("runs a and c both have attend.threshold = 0.5"), "{stderr}");
}

/// The scene as another training would have left it: every logit is another one.
fn retrained(scene: &mut Scene, by: f32) {
    for (branch, rows) in scene.predictions.iter_mut().enumerate() {
        for (index, row) in rows.iter_mut().enumerate() {
            for (output, logit) in row.logits.iter_mut().enumerate() {
                *logit += by * ((index * 7 + output * 3 + branch) % 5) as f32;
            }
        }
    }
}

#[test]
fn several_seeds() {
    let report = Report::new();
    let mut scene = Scene::new(270, 4);
    for run in ["s-1", "s-2", "s-3"] {
        scene.publish(&report.artifacts(), run, 0.7);
        retrained(&mut scene, 0.15);
        scene.seed += 1;
    }
    let runs = ["s-1", "s-2", "s-3"];
    let of_run = |run: &str, branch: Branch| -> f64 {
        let predictions = report.artifacts().join(format!("{run}/{branch}/predictions.parquet"));
        let rows = tables::predictions::read(&predictions).unwrap();
        let rows: Vec<_> = rows.into_iter().filter(|row| row.key.split == Split::Test).collect();
        let scores: Vec<f32> = rows.iter().map(|row| row.logits[0]).collect();
        auroc(&scores, &rows.iter().map(|row| row.key.labels.contains(Finding::Atelectasis)).collect::<Vec<_>>())
            .unwrap()
    };
    let (code, stdout, stderr) = report.run(&["--run", "s", "seeds", "s-1", "s-2", "s-3"]);
    assert_eq!(code, 0, "{stderr}");
    insta::assert_snapshot!(stdout);
    let out = report.artifacts().join("s/seeds");
    let results = Results::new(tables::metrics::read(&out.join("metrics.parquet")).unwrap()).unwrap();
    let get = |series: Series| results.get(series, Finding::Atelectasis, Metric::Auroc, Split::Test);

    // Mean, standard deviation and wins are those of the runs.
    let fusion = runs.map(|run| of_run(run, Branch::Fusion));
    let global = runs.map(|run| of_run(run, Branch::Global));
    let mean = fusion.iter().sum::<f64>() / 3.0;
    let sd = (fusion.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
    let row = get(Branch::Fusion.into());
    let seeds = row.seeds.unwrap();
    assert!((row.value.unwrap() - mean).abs() < 1e-12 && (seeds.sd.unwrap() - sd).abs() < 1e-12 && sd > 0.0);
    assert!(row.ci_low < row.value && row.value < row.ci_high && seeds.count == 3 && seeds.above.is_none());
    let wins = fusion.iter().zip(&global).filter(|(fusion, global)| fusion > global).count() as u64;
    assert_eq!(get(Pair::FusionGlobal.into()).seeds.unwrap().above, Some(wins));
    // The ensemble is one model.
    let ensemble = get(Series::Ensemble).seeds.unwrap();
    assert_eq!((ensemble.count, ensemble.sd, ensemble.above), (3, None, None));
    let gain = get(Series::EnsembleGain);
    assert!((gain.value.unwrap() - (get(Series::Ensemble).value.unwrap() - mean)).abs() < 1e-12);

    let page = fs_err::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains("several seeds") && page.contains("ensemble") && !page.contains("s-1"));
    assert!(out.join("figures/auroc.svg").exists());
    assert!(report.run(&["--run", "s", "seeds", "s-1", "s-2", "s-3"]).2.contains("current"));

    // A training counts once; all are about the same images.
    let (code, _, stderr) = report.run(&["--run", "s", "seeds", "s-1", "s-2", "s-1"]);
    assert!(code == 2 && stderr.contains("the fusions of the runs s-1 and s-1 are the same result"), "{stderr}");
    let mut other = Scene::new(90, 4);
    other.seed = 9;
    retrained(&mut other, 0.3);
    other.publish(&report.artifacts(), "other", 0.7);
    let (code, _, stderr) = report.run(&["--run", "s", "seeds", "s-1", "other"]);
    assert!(code == 4 && stderr.contains("s-1 and other do not have the same images in test"), "{stderr}");
    // They are one recipe, and their seeds are different ones.
    for (run, threshold, seed, why) in [
        (
            "higher",
            0.8,
            4,
            "s-1 and higher are not the same recipe: attend.threshold is 0.7 in the one and 0.8 in the other",
        ),
        ("again", 0.7, 1, "the seeds of the runs s-1, again are [1, 1], expected different ones"),
    ] {
        scene.seed = seed;
        scene.publish(&report.artifacts(), run, threshold);
        retrained(&mut scene, 0.15);
        let (code, _, stderr) = report.run(&["--run", "s", "seeds", "s-1", run]);
        assert!(code == 2 && stderr.contains(why) && stderr.contains("hint: "), "{stderr}");
    }
    let (code, _, stderr) = report.run(&["--run", "s", "seeds", "s-1", "nobody"]);
    assert!(code == 3 && stderr.contains("nobody"), "{stderr}");
}

#[test]
fn a_study() {
    let report = Report::new();
    let config = report.artifacts().join("study.toml");
    fs_err::create_dir_all(report.artifacts()).unwrap();
    let text = "[study]\nseeds = [5, 6]\narms = [{ name = \"paper\", about = \"as published\" }, \
                { name = \"low\", set = { \"attend.threshold\" = 0.3 } }]\n";
    fs_err::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let (code, plan, stderr) = report.run(&["--config", config, "--run", "st", "study", "--plan"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(
        plan,
        "--run\tst-paper-seed-5\t--seed\t5\n--run\tst-low-seed-5\t--seed\t5\t--set\tattend.threshold=0.3\n\
         --run\tst-paper-seed-6\t--seed\t6\n--run\tst-low-seed-6\t--seed\t6\t--set\tattend.threshold=0.3\n"
    );
    let mut scene = Scene::new(270, 4);
    for (run, threshold, seed) in [
        ("st-paper-seed-5", 0.7, 5),
        ("st-paper-seed-6", 0.7, 6),
        ("st-low-seed-5", 0.3, 5),
        ("st-low-seed-6", 0.7, 6),
        ("st-low-seed-6", 0.3, 7),
        ("st-low-seed-6", 0.3, 6),
    ] {
        scene.seed = seed;
        scene.publish(&report.artifacts(), run, threshold);
        retrained(&mut scene, 0.15);
        if (run, threshold, seed) == ("st-low-seed-6", 0.3, 6) {
            break;
        }
        // A run that is not what its arm says is no part of the study.
        let (code, _, stderr) = report.run(&["--config", config, "--run", "st", "study"]);
        let why = match (run, threshold, seed) {
            ("st-low-seed-6", 0.7, _) => {
                "run st-low-seed-6 is not the arm low of the study: its attend.threshold is 0.7, expected 0.3"
            }
            ("st-low-seed-6", _, 7) => "the seeds of the runs st-low-seed-5, st-low-seed-6 are [5, 7], expected [5, 6]",
            _ => "which has not run in run",
        };
        assert!(code != 0 && stderr.contains(why) && stderr.contains("hint: "), "{stderr}");
    }
    let (code, stdout, stderr) = report.run(&["--config", config, "--run", "st", "study"]);
    assert_eq!(code, 0, "{stderr}");
    insta::assert_snapshot!(stdout);
    let out = report.artifacts().join("st/study");
    let rows = tables::metrics::read(&out.join("metrics.parquet")).unwrap();
    let results = Results::new(rows).unwrap();
    let get = |subset: Subset, branch: Branch| {
        results.of_subset(branch, Scope::Mean, Metric::Auroc, &subset, Split::Test).clone()
    };
    let versus = get(Subset::Versus("paper".to_owned(), "low".to_owned()), Branch::Fusion);
    let [paper, low] = ["paper", "low"].map(|arm| get(Subset::Arm(arm.to_owned()), Branch::Fusion).value.unwrap());
    assert!((versus.value.unwrap() - (paper - low)).abs() < 1e-12 && versus.seeds.unwrap().above.is_some());
    let page = fs_err::read_to_string(out.join("index.html")).unwrap();
    assert!(
        page.contains("as published") && page.contains("paper \u{2212} low") && page.contains("attend.threshold = 0.3")
    );
    assert!(page.contains("What was trained") && page.contains("Not comparable with published results"));
    for figure in ["arms", "contrasts"] {
        assert!(out.join(format!("figures/{figure}.svg")).exists());
    }
    // The same again, bit for bit.
    let before = fs_err::read(out.join("metrics.parquet")).unwrap();
    assert_eq!(report.run(&["--config", config, "--run", "st", "study", "--force"]).0, 0);
    assert!(before == fs_err::read(out.join("metrics.parquet")).unwrap());
}

#[test]
fn an_input_that_is_not_right_is_an_error_and_not_a_dash() {
    let report = Report::new();
    let scene = Scene::new(90, 3);
    scene.publish(&report.artifacts(), "default", 0.7);
    let id = scene.images.iter().find(|image| image.split == Split::Test).unwrap().record.image_id.as_str();
    let published = |file: &str| report.artifacts().join("default").join(file);

    // A branch that has not run yet has no column, and no report no threshold.
    fs_err::rename(published("local"), published("aside")).unwrap();
    let (code, stdout, stderr) = report.run(&["show", id]);
    assert!(code == 0 && stdout.contains("        -"), "{stderr}");
    fs_err::rename(published("aside"), published("local")).unwrap();
    assert_eq!(report.run(&[]).0, 0);

    for file in ["local/predictions.parquet", "report/metrics.parquet"] {
        let before = fs_err::read(published(file)).unwrap();
        fs_err::write(published(file), &before[..before.len() - 1]).unwrap();
        let (code, _, stderr) = report.run(&["show", id]);
        assert!(code == 4 && stderr.contains("was changed since it was published"), "{stderr}");
        fs_err::write(published(file), before).unwrap();
    }
    assert_eq!(report.run(&["show", id]).0, 0);

    // A report of other predictions is stale; a branch that was published without this image is bad data.
    let mut other = scene.clone();
    other.predictions[1].retain(|row| row.key.image_id != id);
    other.publish(&report.artifacts(), "default", 0.7);
    let (code, _, stderr) = report.run(&["show", id]);
    assert!(code == 4 && stderr.contains("local has no prediction for it"), "{stderr}");
    let mut other = scene.clone();
    other.predictions[1][0].logits[0] += 1.0;
    other.publish(&report.artifacts(), "default", 0.7);
    let (code, _, stderr) = report.run(&["show", id]);
    assert!(code == 3 && stderr.contains("report is stale"), "{stderr}");
}

#[test]
fn one_image() {
    let report = Report::new();
    let scene = Scene::new(270, 4);
    scene.publish(&report.artifacts(), "default", 0.7);
    let id = &scene.images.iter().find(|image| !image.boxes.is_empty()).unwrap().record.image_id;
    let (code, before, stderr) = report.run(&["show", id]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(report.run(&[]).0, 0);
    // Flags may stand on either side; with a report there are thresholds.
    let (_, after, _) = report.run(&["--run", "default", "show", id, "--output", "there.png"]);
    assert!(!before.contains("called") && after.contains("called"));
    insta::assert_snapshot!(after);
    for overlay in [format!("{}-overlay.png", id.strip_suffix(".png").unwrap()), "there.png".to_owned()] {
        let bytes = fs_err::read(report.folder.path().join(overlay)).unwrap();
        let picture = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        assert_eq!((picture.info().width, picture.info().height), (3 * 256, 256));
    }
    let (code, _, stderr) = report.run(&["show", "nobody.png"]);
    assert!(code == 4 && stderr.contains("nobody.png: no such image") && stderr.contains("hint: "), "{stderr}");
}

#[test]
fn two_runs() {
    let report = Report::new();
    let mut scene = Scene::new(270, 4);
    scene.publish(&report.artifacts(), "a", 0.5);
    // Another fusion, a third image less in its test split, one image in another split.
    for row in &mut scene.predictions[2] {
        row.logits[0] = -row.logits[0];
    }
    let last = scene.predictions[2].len() - 1;
    scene.predictions[2][last].key.split = Split::Train;
    scene.publish(&report.artifacts(), "b", 0.8);
    let (code, stdout, stderr) = report.run(&["compare", "a", "b"]);
    assert_eq!(code, 0, "{stderr}");
    insta::assert_snapshot!(stdout);
    let (_, same, _) = report.run(&["compare", "a", "b", "--branch", "global"]);
    assert!(same.contains("AUROC of global: a (A) and b (B) on 90 common test images of 30 patients"), "{same}");
    assert!(same.lines().filter(|line| line.starts_with("Mean")).all(|line| line.contains("+0.000")), "{same}");
    let (code, _, stderr) = report.run(&["compare", "a", "c"]);
    assert!(code == 3 && stderr.contains("run c"), "{stderr}");
    scene.predictions[2][last - 1].key.patient_id += 1;
    scene.publish(&report.artifacts(), "b", 0.8);
    let (code, _, stderr) = report.run(&["compare", "a", "b"]);
    assert!(code == 4 && stderr.contains("differ in its label or patient"), "{stderr}");
}

#[test]
fn boxes_that_were_trained_on_are_refused() {
    let report = Report::new();
    let mut scene = Scene::new(270, 4);
    let boxes = scene.images.iter().find(|image| !image.boxes.is_empty()).unwrap().boxes.clone();
    scene.images[0].boxes = boxes;
    scene.publish(&report.artifacts(), "default", 0.7);
    let (code, stdout, stderr) = report.run(&[]);
    assert_eq!(code, 0, "{stderr}");
    let out = report.artifacts().join("default/report");
    let results = Results::new(tables::metrics::read(&out.join("metrics.parquet")).unwrap()).unwrap();
    let get = |metric: Metric| results.get(Series::Attention, Scope::All, metric, Split::Test);
    let row = get(Metric::IouAt(Overlap::THREE_TENTHS));
    let reason = row.reason.clone().unwrap();
    assert!(row.value.is_none() && reason.starts_with("1 of "), "{reason}");
    assert!(get(Metric::AttentionArea).value.is_some());
    assert!(stdout.contains(&reason) && !out.join("figures/localisation.svg").exists());
    assert!(fs_err::read_to_string(out.join("index.html")).unwrap().contains("Boxes are not held against the regions"));
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
    fails(2, &["--set", "report.confidence=1.0"], "report.confidence = 1, expected above 0, below 1");
    fails(2, &["--set", "report.draw=10"], "unknown key report.draw");

    let mut scene = Scene::new(90, 3);
    let missing = scene.predictions[1].pop().unwrap().key.image_id;
    scene.publish(&report.artifacts(), "default", 0.7);
    fails(4, &[], &format!("global and local scored different test images: 1 are in one only, the first: {missing}"));

    let mut scene = Scene::new(90, 3);
    scene.predictions[2].last_mut().unwrap().key.patient_id += 1;
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
    fails(4, &[], "stored image cannot be decoded");
    assert!(!report.artifacts().join("default/report").exists(), "nothing half-made is published");
}
