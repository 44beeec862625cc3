//! Tables with random damage: none makes a reader panic, take long or take much memory.
//!
//! `AGCNN_MUTANTS=1000 cargo test -p tables --test mutated` tries more than the usual few. One test, because it measures
//! the whole process.

use std::path::Path;
use std::time::{Duration, Instant};

use cxr::heatmap::{Normalise, Statistic};
use cxr::metrics::{Cell, Metric, Scope, Subset};
use cxr::{
    BBox, Branch, CropSource, DatasetKind, EvalCrop, EvalFrame, ImageKey, ImageRecord, Labels, OUTPUTS, Sex, Split,
    SplitKind, ViewPosition,
};
use peak_alloc::PeakAlloc;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tables::{Error, epochs, features, images, metrics, pictures, predictions, regions};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const ROWS: u32 = 60;
const MADE_BY: &str = "test";

/// Of every kind of table.
fn mutants() -> usize {
    std::env::var("AGCNN_MUTANTS").map_or(200, |text| text.parse().expect("AGCNN_MUTANTS is a number"))
}

fn key(index: u32) -> ImageKey {
    let labels = Labels::parse(if index.is_multiple_of(2) { "Mass|Hernia" } else { "No Finding" }).unwrap();
    ImageKey { image_id: format!("{index:08}_000.png"), patient_id: index, split: Split::Test, labels }
}

fn png(side: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&vec![7; (side * side) as usize]).unwrap();
    bytes
}

fn write_images(folder: &Path) {
    let facts = images::Facts {
        depth: 16,
        size_px: 8,
        contrast: 1.0,
        split: SplitKind::Official,
        label_table: "Data_Entry_2017.csv".to_owned(),
        dataset: DatasetKind::Nih,
    };
    let mut writer = images::Writer::new(folder, "images", ROWS as usize, MADE_BY, facts);
    for index in 0..ROWS {
        let ImageKey { image_id, patient_id, split, labels } = key(index);
        let (follow_up, age_years) = (Some(index), Some(58));
        let (sex, view_position) = (Some(Sex::Female), Some(ViewPosition::Ap));
        let record = ImageRecord { image_id, patient_id, follow_up, age_years, sex, view_position, labels };
        let row = images::Row {
            path: record.image_id.clone(),
            record,
            split,
            png: png(8),
            source_blake3: format!("{index:064x}"),
            width_px: 8,
            height_px: 8,
            source_width_px: 1024,
            source_height_px: 1024,
            boxes: Vec::new(),
        };
        writer.write(row).unwrap();
    }
    writer.finish().unwrap();
}

fn write_regions(folder: &Path) {
    let facts = regions::Facts {
        frame: EvalFrame { crop: EvalCrop::Centre, image_px: 8, input_px: 7 },
        threshold: "0.7".into(),
        statistic: Statistic::Max,
        normalise: Normalise::Minmax,
        cells: None,
        region: cxr::Placement::Attended,
        region_seed: None,
        source: CropSource::Prepared,
        contrast: 1.0,
        size_px: 4,
        heatmap: [2, 3],
    };
    let mut writer = regions::Writer::new(folder, "regions", ROWS as usize, MADE_BY, facts);
    for index in 0..ROWS {
        let row = regions::Row {
            key: key(index),
            heatmap: (0..6).map(|value| value as f32 / (index + 6) as f32).collect(),
            heatmap_height: 2,
            heatmap_width: 3,
            threshold: 0.7,
            bbox: BBox::new(0.0, 1.0, 7.0, 8.0).unwrap(),
            mask_frac: 0.25,
            peak: 12.5,
            fallback: false,
            crop_png: png(4),
            path: "a.png".into(),
        };
        writer.write(row).unwrap();
    }
    writer.finish().unwrap();
}

fn write_metrics(path: &Path) {
    let cell = |scope: Scope| Cell {
        series: Branch::Local.into(),
        scope,
        metric: Metric::Auroc,
        subset: Subset::All,
        split: Split::Test,
    };
    let row = |scope: Scope| metrics::Row {
        cell: cell(scope),
        value: Some(0.5),
        ci_low: Some(0.4),
        ci_high: Some(0.6),
        n_pos: 3,
        n_neg: 4,
        n_unknown: 0,
        undefined_draws: 0,
        reason: None,
        seeds: None,
    };
    metrics::write(path, &Scope::outputs().into_iter().map(row).collect::<Vec<_>>(), MADE_BY).unwrap();
}

type Read = fn(&Path) -> Result<(), Error>;

/// A file of every kind of table, and its reader.
fn tables(folder: &Path) -> Vec<(&'static str, Vec<u8>, Read)> {
    write_images(folder);
    write_regions(folder);
    write_metrics(&folder.join("metrics"));
    let rows: Vec<_> = (0..ROWS).map(|index| predictions::Row { key: key(index), logits: [0.25; OUTPUTS] }).collect();
    predictions::write(&folder.join("predictions"), &rows, MADE_BY).unwrap();
    let image_ids: Vec<_> = (0..ROWS).map(|index| key(index).image_id).collect();
    let pool = (0..ROWS * 64).map(|value| value as f32).collect();
    features::write(&folder.join("features"), &features::Features { image_ids, dim: 64, pool }, MADE_BY).unwrap();
    let row = |epoch: u32| epochs::Row { epoch, lr: 0.01, train_loss: 0.5, best: epoch == 1, ..Default::default() };
    epochs::write(&folder.join("epochs"), &(1..=ROWS).map(row).collect::<Vec<_>>(), MADE_BY).unwrap();
    let some = |path: &Path| -> Result<(), Error> {
        images::read_some(&[path.to_owned()], &["00000007_000.png", "00000042_000.png"].into(), |_| Ok(()))
    };
    let readers: [(&str, &str, Read); 8] = [
        ("images", "images-00000-of-00001.parquet", |path| images::read(&[path.to_owned()], |_| Ok(()))),
        ("some images", "images-00000-of-00001.parquet", some),
        ("pictures", "images-00000-of-00001.parquet", |path| pictures::read(path, &mut |_| Ok(()))),
        ("regions", "regions-00000-of-00001.parquet", |path| regions::read(&[path.to_owned()], |_| Ok(()))),
        ("predictions", "predictions", |path| predictions::read(path).map(drop)),
        ("features", "features", |path| features::read(path).map(drop)),
        ("epochs", "epochs", |path| epochs::read(path).map(drop)),
        ("metrics", "metrics", |path| metrics::read(path).map(drop)),
    ];
    readers.map(|(name, file, read)| (name, fs_err::read(folder.join(file)).unwrap(), read)).into()
}

#[test]
fn damaged_tables_never_panic_nor_take_long_nor_take_much() {
    // What a panic would print is the proof that one was not caught.
    std::panic::set_hook(Box::new(|panic| panic!("a panic reached stderr: {panic}")));
    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("damaged.parquet");
    let mut random = ChaCha8Rng::seed_from_u64(16);
    for (name, good, read) in tables(folder.path()) {
        fs_err::write(&damaged, &good).unwrap();
        read(&damaged).unwrap();
        let (mut most, mut longest) = (0, Duration::ZERO);
        for mutant in 0..mutants() {
            let mut bad = good.clone();
            // A flipped bit in the pages; or many bytes, mostly of the footer, where sizes, offsets and types are.
            if random.random_bool(0.5) {
                let at = random.random_range(0..bad.len());
                bad[at] ^= 1 << random.random_range(0..8);
            } else {
                for _ in 0..random.random_range(1..20) {
                    let start = if random.random_bool(0.5) { bad.len().saturating_sub(12_000) } else { 0 };
                    let at = random.random_range(start..bad.len());
                    bad[at] = random.random();
                }
            }
            fs_err::write(&damaged, &bad).unwrap();
            MEMORY.reset_peak_usage();
            let (before, start) = (MEMORY.current_usage(), Instant::now());
            if let Err(error) = read(&damaged) {
                assert!(error.to_string().contains("damaged.parquet"), "{name} {mutant}: {error}");
            }
            let (taken, time) = (MEMORY.peak_usage() - before, start.elapsed());
            (most, longest) = (most.max(taken), longest.max(time));
            assert!(taken < 1 << 30, "{name} {mutant}: {taken} bytes");
        }
        assert!(longest < Duration::from_secs(10), "{name}: {longest:?}, {most} bytes");
    }
}
