//! A run as the upstream stages would have published it, with made-up images and scores.

#![allow(unreachable_pub)] // a module of a test

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use cxr::heatmap::{Normalise, Statistic};
use cxr::{
    BBox, CropSource, EvalCrop, EvalFrame, Finding, FindingBox, ImageKey, ImageRecord, Labels, OUTPUTS, Sex, Split,
    SplitKind, ViewPosition,
};
use picture::Grey;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use stage::{Begin, Common, Run, Spec, Unchecked};
use tables::{epochs, images, predictions, regions};

/// Side of the images, pixels.
const SIZE: u32 = 64;

/// What the upstream stages found.
#[derive(Clone)]
pub struct Scene {
    pub images: Vec<images::Row>,
    pub regions: Vec<regions::Row>,
    /// global, local, fusion
    pub predictions: [Vec<predictions::Row>; 3],
    /// Of the same three.
    pub epochs: [Vec<epochs::Row>; 3],
    /// What experts say, where somebody asked them.
    pub experts: Vec<tables::experts::Row>,
    /// What trainings draw from.
    pub seed: u64,
}

impl Scene {
    /// `n` images, three per patient, the last third test; the first `findings` findings occur.
    pub fn new(n: usize, findings: usize) -> Scene {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let epoch = |epoch: u32| epochs::Row {
            epoch,
            lr: 0.01,
            train_loss: 0.5 / f64::from(epoch),
            validation_loss: Some(0.6 / f64::from(epoch)),
            validation_auroc: Some(1.0 - 0.4 / f64::from(epoch)),
            best: epoch == 3,
        };
        let epochs = std::array::from_fn(|_| [1, 2, 3, 4].map(epoch).into());
        let mut scene = Scene {
            images: Vec::new(),
            regions: Vec::new(),
            predictions: Default::default(),
            epochs,
            experts: Vec::new(),
            seed: 1,
        };
        for i in 0..n {
            let patient_id = 1 + (i / 3) as u32;
            let image_id = format!("{patient_id:08}_{:03}.png", i % 3);
            let split = match 3 * i / n {
                0 => Split::Train,
                1 => Split::Validation,
                _ => Split::Test,
            };
            let shown = (0..findings).filter(|_| rng.random_bool(0.25));
            let labels: Labels = shown.map(|f| Finding::ALL[f]).collect();
            let side = SIZE as f32;
            let (x, y) = (rng.random_range(8.0..40.0), rng.random_range(8.0..40.0));
            let truth = BBox::from_corners((x, y), (x + 14.0, y + 12.0));
            let wobble = rng.random_range(-10.0..10.0);
            let region =
                BBox::from_corners((x - 6.0 + wobble, y - 4.0), (x + 16.0 + wobble, y + 18.0)).clipped(side, side);
            let boxed = (split == Split::Test && i % 2 == 0).then(|| labels.findings().next()).flatten();
            scene.images.push(images::Row {
                record: ImageRecord {
                    image_id: image_id.clone(),
                    patient_id,
                    follow_up: Some((i % 3) as u32),
                    age_years: Some(30 + (patient_id % 4) as u16 * 20),
                    sex: Some(if patient_id.is_multiple_of(2) { Sex::Female } else { Sex::Male }),
                    view_position: (!patient_id.is_multiple_of(3)).then_some(if i.is_multiple_of(3) {
                        ViewPosition::Pa
                    } else {
                        ViewPosition::Ap
                    }),
                    labels,
                },
                split,
                png: picture(&truth, labels.no_finding() == Some(false)),
                path: format!("images_001/images/{image_id}"),
                source_blake3: "0".repeat(64),
                width_px: SIZE,
                height_px: SIZE,
                source_width_px: SIZE,
                source_height_px: SIZE,
                boxes: boxed.map(|finding| FindingBox { finding, bbox: truth }).into_iter().collect(),
            });
            let key = ImageKey { image_id: image_id.clone(), patient_id, split, labels };
            let (cx, cy) = region.center();
            let heat = |cell: usize| {
                let (u, v) = ((cell % 7) as f32 + 0.5, (cell / 7) as f32 + 0.5);
                let (dx, dy) = (u - 7.0 * (cx - 4.0) / 56.0, v - 7.0 * (cy - 4.0) / 56.0);
                (-(dx * dx + dy * dy) / 3.0).exp()
            };
            scene.regions.push(regions::Row {
                key: key.clone(),
                heatmap: (0..49).map(heat).collect(),
                heatmap_height: 7,
                heatmap_width: 7,
                threshold: 0.7,
                bbox: region,
                mask_frac: 0.2,
                peak: 3.0,
                fallback: false,
                crop_png: picture(&truth, false),
                path: format!("images_001/images/{image_id}"),
            });
            let mut noise = || -> f32 { (0..4).map(|_| rng.random_range(-1.0..1.0)).sum() };
            let shared: Vec<f32> = (0..OUTPUTS).map(|_| noise()).collect();
            for (predictions, skill) in scene.predictions.iter_mut().zip([1.2, 0.8, 1.9]) {
                let targets = labels.outputs().map(|shown| f32::from(u8::from(shown == Some(true))));
                let mut logit = |output: usize| {
                    skill * targets[output] * (1.0 + output as f32 / 14.0) + shared[output] + 0.5 * noise()
                };
                let mut logits = [0.0; OUTPUTS];
                for (output, value) in logits.iter_mut().enumerate() {
                    *value = logit(output);
                }
                predictions.push(predictions::Row { key: key.clone(), logits });
            }
        }
        scene
    }

    /// For every image with a box, maps that are hottest in the cell of the box's centre, and regions that are larger than
    /// the box by as much as the finding's number.
    pub fn class_maps(&self) -> Vec<tables::class_maps::Row> {
        let boxed = self.images.iter().filter(|image| !image.boxes.is_empty());
        boxed
            .map(|image| {
                let (drawn, side) = (image.boxes[0].bbox, SIZE as f32);
                let (x, y) = drawn.center();
                let hottest = ((y - 4.0) / 8.0) as usize * 7 + ((x - 4.0) / 8.0) as usize;
                let larger = |more: f32| {
                    BBox::from_corners((drawn.x_min, drawn.y_min), (drawn.x_max + more, drawn.y_max))
                        .clipped(side, side)
                };
                tables::class_maps::Row {
                    image_id: image.record.image_id.clone(),
                    maps: (0..Finding::COUNT * 49).map(|cell| f32::from(u8::from(cell % 49 == hottest))).collect(),
                    regions: std::array::from_fn(|finding| larger(4.0 * finding as f32)),
                }
            })
            .collect()
    }

    /// Publishes everything that `report` reads, as run `run`, with `attend.threshold = threshold`.
    pub fn publish(&self, artifacts: &Path, run: &str, threshold: f64) {
        let stage = |name, defaults: String, write: &dyn Fn(&Path, &str)| {
            publish((artifacts, run, self.seed), name, &defaults, write)
        };
        let prep = "[prep]\nroot = \"data/raw\"\nsplit = \"official\"\nsize = 64\n".to_owned();
        stage("prep", prep, &|out, stage| {
            if !self.experts.is_empty() {
                tables::experts::write(&out.join("experts.parquet"), &self.experts, stage).unwrap();
            }
            fs_err::create_dir(out.join("images")).unwrap();
            for split in Split::ALL {
                let rows: Vec<_> = self.images.iter().filter(|row| row.split == split).collect();
                let facts = images::Facts {
                    size_px: SIZE,
                    contrast: 1.0,
                    depth: 16,
                    split: SplitKind::Official,
                    label_table: "Data_Entry_2017_v2020.csv".into(),
                    dataset: cxr::DatasetKind::Nih,
                };
                let mut writer = images::Writer::new(&out.join("images"), split.name(), rows.len(), stage, facts);
                for row in rows {
                    writer.write(row.clone()).unwrap();
                }
                writer.finish().unwrap();
            }
        });
        stage("attend", format!("[attend]\nthreshold = {threshold}\ncrop = 56\n"), &|out, stage| {
            let facts = regions::Facts {
                frame: EvalFrame { crop: EvalCrop::Centre, image_px: SIZE as usize, input_px: 56 },
                threshold: threshold.to_string(),
                statistic: Statistic::Max,
                normalise: Normalise::Minmax,
                cells: None,
                region: cxr::Placement::Attended,
                region_seed: None,
                source: CropSource::Prepared,
                contrast: 1.0,
                size_px: SIZE,
                heatmap: [7, 7],
            };
            let mut writer = regions::Writer::new(out, "regions", self.regions.len(), stage, facts);
            for row in &self.regions {
                writer.write(row.clone()).unwrap();
            }
            writer.finish().unwrap();
            tables::class_maps::write(&out.join("class_maps.parquet"), &self.class_maps(), (7, 7), stage).unwrap();
        });
        let branches = ["global", "local", "fusion"].into_iter().zip(&self.predictions).zip(&self.epochs);
        for ((name, rows), epochs) in branches {
            stage(name, format!("[{name}]\ncrop = 56\nnote = \"<b>\"\n"), &|out, stage| {
                predictions::write(&out.join("predictions.parquet"), rows, stage).unwrap();
                epochs::write(&out.join("epochs.parquet"), epochs, stage).unwrap();
            });
        }
    }
}

/// How many results were published.
static PUBLISHED: AtomicUsize = AtomicUsize::new(0);

/// What the stage `name` would do: publish what `write` writes.
fn publish(
    (artifacts, run, seed): (&Path, &str, u64),
    name: &'static str,
    defaults: &str,
    write: &dyn Fn(&Path, &str),
) {
    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        common: Common,
    }
    let artifacts = artifacts.to_str().unwrap();
    let seed = seed.to_string();
    let flags = ["test", "--quiet", "--artifacts-dir", artifacts, "--run", run, "--seed", &seed];
    let common = Flags::parse_from(flags).common;
    let defaults: &'static str = defaults.to_owned().leak();
    let spec = Spec { name, version: 1, seeded: true, defaults, about: "" };
    let (mut run, Unchecked(_)) = Run::open(&spec, &common).unwrap();
    // Whatever is published is of other raw data: keys follow from inputs, which a scene does not have.
    run.outside("raw data", PUBLISHED.fetch_add(1, Ordering::Relaxed).to_string(), None);
    let Begin::Work(work) = run.begin().unwrap() else { panic!("a new key") };
    write(work.out(), name);
    work.publish(json!({})).unwrap();
}

/// A grey gradient, with a bright patch where the finding is, as PNG.
fn picture(truth: &BBox, patch: bool) -> Vec<u8> {
    let pixel = |i: u32| {
        let (x, y) = (i % SIZE, i / SIZE);
        let bright = patch && truth.contains((x as f32 + 0.5, y as f32 + 0.5));
        if bright { 230 } else { (40 + 2 * x.min(SIZE - x) + y) as u8 }
    };
    Grey { width: SIZE, height: SIZE, pixels: (0..SIZE * SIZE).map(pixel).collect() }.encode()
}

/// The binary in a folder.
pub struct Report {
    pub folder: tempfile::TempDir,
}

impl Report {
    pub fn new() -> Self {
        Report { folder: tempfile::tempdir().unwrap() }
    }

    pub fn artifacts(&self) -> PathBuf {
        self.folder.path().join("artifacts")
    }

    /// Runs it; returns exit code, stdout, stderr.
    pub fn run(&self, args: &[&str]) -> (i32, String, String) {
        let output = assert_cmd::Command::cargo_bin("report")
            .unwrap()
            .current_dir(self.folder.path())
            .args(["--set", "report.draws=60", "--set", "report.cases=9"])
            .args(args)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}
