//! Parquet: our tables, and anybody's with images.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::tables::{Error, epochs, features, images, metrics, pictures, predictions, regions};
use arrow::array::{ArrayRef, BinaryArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Schema};
use cxr::heatmap::{Normalise, Statistic};
use cxr::metrics::cell::{Cell, Scope, Subset};
use cxr::metrics::{Metric, Overlap};
use cxr::{
    BBox, Branch, CropSource, DatasetKind, EvalCrop, EvalFrame, Finding, FindingBox, ImageRecord, Labels, OUTPUTS, Sex,
    Split, SplitKind, ViewPosition,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use picture::Grey;

use crate::{put, scratch};

const STAGE: &str = "test";

/// A file that any of our readers may be given.
pub(crate) fn ours(bytes: &[u8]) -> bool {
    let folder = scratch();
    let path = put(folder.path(), "table.parquet", bytes);
    let files = [path.clone()];
    let mut rows = 0;
    let counted = images::read(&files, |_| -> Result<(), Error> {
        rows += 1;
        Ok(())
    });
    if counted.is_ok() {
        assert_eq!(images::read_meta(&files).map(|rows| rows.len()).ok(), Some(rows));
    }
    let _ = (images::facts(&files), images::rows(&files));
    let _ = (regions::read_meta(&files), regions::facts(&files), regions::rows(&files));
    [
        counted.is_ok(),
        regions::read(&files, |_| -> Result<(), Error> { Ok(()) }).is_ok(),
        features::read(&path).is_ok(),
        predictions::read(&path).is_ok(),
        epochs::read(&path).is_ok(),
        metrics::read(&path).is_ok(),
    ]
    .contains(&true)
}

/// Anybody's table with images.
pub(crate) fn pictures(bytes: &[u8]) -> bool {
    let folder = scratch();
    let path = put(folder.path(), "table.parquet", bytes);
    pictures::read(&path, &mut |_| -> Result<(), Error> { Ok(()) }).is_ok()
}

/// A file and the same rows written in other ways.
fn with_others(path: &Path) -> Vec<Vec<u8>> {
    let whole = fs_err::read(path).expect("a temporary file can be read");
    let open = fs_err::File::open(path).expect("a temporary file can be read").into_parts().0;
    let file = ParquetRecordBatchReaderBuilder::try_new(open).expect("a table");
    let mut metadata: Vec<KeyValue> = file.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    metadata.retain(|entry| entry.key != "ARROW:schema");
    let schema = file.schema().clone();
    let rows: Vec<RecordBatch> = file.build().expect("a table").map(|batch| batch.expect("rows")).collect();
    let plain = || {
        WriterProperties::builder()
            .set_key_value_metadata(Some(metadata.clone()))
            .set_compression(Compression::UNCOMPRESSED)
            .set_statistics_enabled(EnabledStatistics::None)
    };
    let split = plain().set_dictionary_enabled(false).set_encoding(Encoding::PLAIN);
    let others = [
        plain().set_dictionary_enabled(false).build(),
        plain().set_writer_version(WriterVersion::PARQUET_2_0).set_dictionary_enabled(false).build(),
        plain().set_dictionary_enabled(true).set_data_page_row_count_limit(1).build(),
        split.set_column_encoding("pool.list.item".into(), Encoding::BYTE_STREAM_SPLIT).build(),
    ];
    let written = others.into_iter().filter_map(|properties| {
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, schema.clone(), Some(properties)).ok()?;
        rows.iter().try_for_each(|batch| writer.write(batch)).ok()?;
        writer.close().ok()?;
        Some(bytes)
    });
    [whole].into_iter().chain(written).collect()
}

fn record(index: u32) -> ImageRecord {
    ImageRecord {
        image_id: format!("{index:08}_000.png"),
        patient_id: index,
        follow_up: Some(index),
        age_years: (index > 0).then_some(58),
        sex: [None, Some(Sex::Female)][index as usize % 2],
        view_position: [Some(ViewPosition::Ap), None][index as usize % 2],
        labels: if index == 0 { Labels::UNKNOWN } else { [Finding::Mass, Finding::Hernia].into_iter().collect() },
    }
}

fn stored(side: u32) -> Vec<u8> {
    Grey { width: side, height: side, pixels: vec![7; (side * side) as usize] }.encode()
}

fn bbox() -> BBox {
    BBox::new(1.0, 2.0, 3.5, 4.25).expect("a box")
}

fn image(index: u32) -> images::Row {
    let record = record(index);
    images::Row {
        boxes: record.labels.findings().map(|finding| FindingBox { finding, bbox: bbox() }).collect(),
        record,
        split: Split::Train,
        png: stored(8),
        path: format!("images_001/{index}.png"),
        source_blake3: format!("{index:064x}"),
        width_px: 8,
        height_px: 8,
        source_width_px: 1024,
        source_height_px: 1024,
    }
}

fn images_table(folder: &Path) -> PathBuf {
    let label_table = "Data_Entry_2017.csv".to_owned();
    let facts = images::Facts {
        size_px: 8,
        contrast: 1.0,
        depth: 16,
        split: SplitKind::Official,
        label_table,
        dataset: DatasetKind::Nih,
    };
    let mut writer = images::Writer::new(folder, "train", 3, STAGE, facts);
    (0..3).for_each(|index| writer.write(image(index)).expect("a row"));
    folder.join(&writer.finish().expect("a table")[0].name)
}

fn regions_table(folder: &Path) -> PathBuf {
    let facts = regions::Facts {
        frame: EvalFrame { crop: EvalCrop::Centre, image_px: 8, input_px: 7 },
        threshold: "0.7".into(),
        statistic: Statistic::Max,
        normalise: Normalise::Minmax,
        cells: None,
        region: cxr::Placement::Attended,
        region_seed: None,
        source: CropSource::Original,
        contrast: 1.0,
        size_px: 4,
        heatmap: [2, 3],
    };
    let mut writer = regions::Writer::new(folder, "regions", 3, STAGE, facts);
    for index in 0..3 {
        let row = regions::Row {
            key: image(index).key(),
            heatmap: (0..6).map(|value| value as f32 / 6.0).collect(),
            heatmap_height: 2,
            heatmap_width: 3,
            threshold: 0.7,
            bbox: bbox(),
            mask_frac: 0.25,
            peak: 12.5,
            fallback: index == 1,
            crop_png: stored(4),
            path: "images_001/x.png".into(),
        };
        writer.write(row).expect("a row");
    }
    folder.join(&writer.finish().expect("a table")[0].name)
}

pub(crate) fn ours_seeds() -> Vec<Vec<u8>> {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    let table = features::Features {
        image_ids: (0..3).map(|index| record(index).image_id).collect(),
        dim: 4,
        pool: (0..12).map(|value| value as f32).collect(),
    };
    features::write(&path("features"), &table, STAGE).expect("a table");
    let rows: Vec<_> =
        (0..3).map(|index| predictions::Row { key: image(index).key(), logits: [0.5; OUTPUTS] }).collect();
    predictions::write(&path("predictions"), &rows, STAGE).expect("a table");
    let rows = [epochs::Row { epoch: 1, lr: 0.01, train_loss: 0.5, best: true, ..Default::default() }];
    epochs::write(&path("epochs"), &rows, STAGE).expect("a table");
    let cell = Cell {
        series: Branch::Fusion.into(),
        scope: Scope::Mean,
        metric: Metric::IouAt(Overlap::HALF),
        subset: Subset::Threshold("0.70".into()),
        split: Split::Test,
    };
    let row = metrics::Row {
        cell,
        value: Some(0.8),
        ci_low: Some(0.7),
        ci_high: None,
        n_pos: 3,
        n_neg: 4,
        n_unknown: 2,
        undefined_draws: 5,
        reason: None,
        seeds: None,
    };
    metrics::write(&path("metrics"), &[row], STAGE).expect("a table");
    let written = ["features", "predictions", "epochs", "metrics"].map(path);
    let written = written.into_iter().chain([images_table(folder.path()), regions_table(folder.path())]);
    written.flat_map(|path| with_others(&path)).collect()
}

pub(crate) fn pictures_seeds() -> Vec<Vec<u8>> {
    let folder = scratch();
    let png = stored(8);
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&png[..]), None, Some(&[])]));
    let paths: ArrayRef = Arc::new(StringArray::from(vec![Some("a.png"), Some("../b.png"), None]));
    let field = |name: &str, data_type: &DataType| Arc::new(Field::new(name, data_type.clone(), true));
    let both = StructArray::from(vec![
        (field("bytes", &DataType::Binary), bytes),
        (field("path", &DataType::Utf8), paths.clone()),
    ]);
    let mut seeds = Vec::new();
    for (name, column) in [("image", Arc::new(both) as ArrayRef), ("file_name", paths)] {
        let schema = Arc::new(Schema::new(vec![field(name, column.data_type())]));
        let rows = RecordBatch::try_new(schema.clone(), vec![column]).expect("rows");
        let path = folder.path().join(name);
        let file = fs_err::File::create(&path).expect("a temporary file can be written").into_parts().0;
        let mut writer = ArrowWriter::try_new(file, schema, None).expect("a table");
        writer.write(&rows).expect("rows");
        writer.close().expect("a table");
        seeds.extend(with_others(&path));
    }
    seeds
}
