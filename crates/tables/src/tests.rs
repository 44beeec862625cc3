//! Round trips, schemas as text, and files that are not what they should be.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use cxr::heatmap::{Normalise, Statistic};
use cxr::metrics::{Cell, Metric, Overlap, Scope, Subset};
use cxr::{
    BBox, Branch, CropSource, DatasetKind, EvalCrop, EvalFrame, Finding, FindingBox, ImageKey, ImageRecord, Labels,
    OUTPUTS, Sex, Split, SplitKind, ViewPosition,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use rand::{RngExt, SeedableRng};

use crate::*;

const STAGE: &str = "test";

fn image_facts() -> images::Facts {
    let label_table = "Data_Entry_2017.csv".to_owned();
    images::Facts {
        size_px: 8,
        contrast: 1.25,
        depth: 16,
        split: SplitKind::Official,
        label_table,
        dataset: DatasetKind::Nih,
    }
}

fn region_facts() -> regions::Facts {
    regions::Facts {
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
    }
}

fn bbox(edges: [f32; 4]) -> BBox {
    BBox::new(edges[0], edges[1], edges[2], edges[3]).unwrap()
}

fn png(side: u32, grey: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&vec![grey; (side * side) as usize]).unwrap();
    bytes
}

fn image(index: u32) -> images::Row {
    let mut partly = Labels::UNKNOWN;
    partly.set(Finding::Edema, Some(true));
    partly.set(Finding::Mass, Some(false));
    let labels =
        [Labels::default(), Labels::parse("Mass|Hernia").unwrap(), partly, Labels::UNKNOWN][index as usize % 4];
    let boxes = labels.findings().map(|finding| FindingBox { finding, bbox: bbox([1.0, 2.0, 3.5, 4.25]) });
    images::Row {
        record: ImageRecord {
            image_id: format!("{index:08}_000.png"),
            patient_id: index,
            follow_up: (!index.is_multiple_of(3)).then_some(index % 3),
            age_years: (!index.is_multiple_of(3)).then_some(58),
            sex: [None, Some(Sex::Female), Some(Sex::Male)][index as usize % 3],
            view_position: [Some(ViewPosition::Ap), None, Some(ViewPosition::Pa)][index as usize % 3],
            labels,
        },
        split: Split::Train,
        png: png(8, index as u8),
        path: format!("images_001/images/{index:08}_000.png"),
        source_blake3: format!("{index:064x}"),
        width_px: 8,
        height_px: 8,
        source_width_px: 1024,
        source_height_px: 1024,
        boxes: boxes.collect(),
    }
}

fn region(index: u32) -> regions::Row {
    regions::Row {
        key: ImageKey { split: Split::Test, ..image(index).key() },
        heatmap: (0..6).map(|value| value as f32 / (index + 6) as f32).collect(),
        heatmap_height: 2,
        heatmap_width: 3,
        threshold: 0.7,
        bbox: bbox([0.0, 1.0, 7.0, 8.0]),
        mask_frac: 0.25,
        peak: 12.5,
        fallback: index == 1,
        crop_png: png(4, index as u8),
        path: "images_001/images/x.png".into(),
    }
}

fn prediction(index: u32) -> predictions::Row {
    let mut logits = [0.0; OUTPUTS];
    logits[3] = index as f32 - 0.5;
    let labels = image(index).record.labels;
    let key = ImageKey { image_id: format!("{index:08}"), patient_id: index, split: Split::Validation, labels };
    predictions::Row { key, logits }
}

fn write_images(folder: &Path, rows: u32) -> PathBuf {
    let mut writer = images::Writer::new(folder, "train", rows as usize, STAGE, image_facts());
    for index in 0..rows {
        writer.write(image(index)).unwrap();
    }
    let name = "train-00000-of-00001.parquet";
    assert_eq!(writer.finish().unwrap(), [Shard { name: name.into(), rows: rows.into() }]);
    folder.join(name)
}

fn read_images(path: &Path) -> Result<Vec<images::Row>, Error> {
    let mut rows = Vec::new();
    images::read(&[path.to_owned()], |row| -> Result<(), Error> {
        rows.push(row);
        Ok(())
    })?;
    Ok(rows)
}

#[test]
fn schemas() {
    let all = [
        images::schema(),
        features::schema(2048),
        predictions::schema(),
        epochs::schema(),
        regions::schema([7, 7]),
        metrics::schema(),
    ];
    for schema in all {
        insta::assert_snapshot!(schema.table, schema::describe(&schema));
    }
}

#[test]
fn images_round_trip_over_row_groups() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_images(folder.path(), 700);
    let expected: Vec<_> = (0..700).map(image).collect();
    assert_eq!(read_images(&path).unwrap(), expected);
    let mut meta = images::read_meta(std::slice::from_ref(&path)).unwrap();
    assert!(meta.iter().all(|row| row.png.is_empty()));
    meta.iter_mut().zip(&expected).for_each(|(row, expected)| row.png = expected.png.clone());
    assert_eq!(meta, expected);
    let file = ParquetRecordBatchReaderBuilder::try_new(fs_err::File::open(&path).unwrap().into_parts().0).unwrap();
    assert_eq!(file.metadata().num_row_groups(), 2);
    let metadata = file.schema().metadata();
    assert_eq!(metadata["agcnn.stage"], STAGE);
    assert_eq!(
        metadata["agcnn.facts"],
        r#"{"size_px":8,"contrast":1.25,"split":"official","label_table":"Data_Entry_2017.csv","dataset":"nih"}"#
    );
    assert_eq!(images::facts(std::slice::from_ref(&path)).unwrap(), image_facts());
    assert_eq!(images::rows(&[path.clone(), path.clone()]).unwrap().iter().sum::<usize>(), 1400);
    assert_eq!(metadata["huggingface"], r#"{"info":{"features":{"image":{"_type":"Image"}}}}"#);
}

#[test]
fn other_tables_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.parquet");

    let image_ids = (0..5000).map(|index| format!("{index:05}")).collect();
    let table = features::Features { image_ids, dim: 3, pool: (0..15_000).map(|value| value as f32 * 0.1).collect() };
    features::write(&path, &table, STAGE).unwrap();
    assert_eq!(features::read(&path).unwrap(), table);

    let rows: Vec<_> = (0..10_000).map(prediction).collect();
    predictions::write(&path, &rows, STAGE).unwrap();
    assert_eq!(predictions::read(&path).unwrap(), rows);

    let rows = [
        epochs::Row { epoch: 1, lr: 0.01, train_loss: 0.5, best: true, ..Default::default() },
        epochs::Row { epoch: 2, validation_auroc: Some(0.75), validation_loss: Some(0.2), ..Default::default() },
    ];
    epochs::write(&path, &rows, STAGE).unwrap();
    assert_eq!(epochs::read(&path).unwrap(), rows);

    let row = |value| metrics::Row {
        cell: Cell {
            series: Branch::Fusion.into(),
            scope: Scope::Mean,
            metric: Metric::IouAt(Overlap::HALF),
            subset: Subset::Threshold("0.70".into()),
            split: Split::Test,
        },
        value,
        ci_low: value,
        ci_high: None,
        n_pos: 3,
        n_neg: 4,
        n_unknown: 2,
        undefined_draws: 5,
        reason: value.is_none().then(|| "no positives".into()),
        seeds: None,
    };
    let rows = [row(Some(0.8)), row(None)];
    metrics::write(&path, &rows, STAGE).unwrap();
    assert_eq!(metrics::read(&path).unwrap(), rows);

    let mut writer = regions::Writer::new(folder.path(), "regions", 3, STAGE, region_facts());
    let rows: Vec<_> = (0..3).map(region).collect();
    rows.iter().for_each(|row| writer.write(row.clone()).unwrap());
    assert_eq!(writer.finish().unwrap()[0].rows, 3);
    let files = [folder.path().join("regions-00000-of-00001.parquet")];
    assert_eq!(regions::facts(&files).unwrap(), region_facts());
    let mut read = Vec::new();
    regions::read(&files, |row| -> Result<(), Error> {
        read.push(row);
        Ok(())
    })
    .unwrap();
    assert_eq!(read, rows);
    assert!(regions::read_meta(&files).unwrap().iter().all(|row| row.crop_png.is_empty() && row.heatmap.len() == 6));
}

#[test]
fn empty_tables_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = images::Writer::new(folder.path(), "train", 0, STAGE, image_facts());
    assert_eq!(nothing.finish().unwrap(), []);
    let mut nothing = images::Writer::new(folder.path(), "train", 1, STAGE, image_facts());
    nothing.leave_out().unwrap();
    let name = "train-00000-of-00001.parquet";
    assert_eq!(nothing.finish().unwrap(), [Shard { name: name.into(), rows: 0 }]);
    assert_eq!(read_images(&folder.path().join(name)).unwrap(), []);
    let path = folder.path().join("table.parquet");
    predictions::write(&path, &[], STAGE).unwrap();
    assert_eq!(predictions::read(&path).unwrap(), []);
    features::write(&path, &features::Features { dim: 4, ..Default::default() }, STAGE).unwrap();
    assert_eq!(features::read(&path).unwrap().dim, 4);
}

#[test]
fn writers_refuse_what_readers_would() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.parquet");
    check(predictions::write(&path, &[prediction(1), prediction(1)], STAGE), "duplicate");

    let mut row = prediction(1);
    row.logits[14] = f32::NAN;
    check(predictions::write(&path, &[row], STAGE), "nan");

    let table = features::Features { image_ids: vec!["a".into(), "b".into()], dim: 3, pool: vec![0.0; 5] };
    check(features::write(&path, &table, STAGE), "shape");

    type Change<R> = fn(&mut R);
    let bad_regions: [(&str, Change<regions::Row>); 5] = [
        ("heatmap", |row| row.heatmap_height = 3),
        ("map_nan", |row| row.heatmap[1] = f32::NAN),
        ("threshold", |row| row.threshold = f32::INFINITY),
        ("mask_frac", |row| row.mask_frac = 1.5),
        ("box_outside", |row| row.bbox = bbox([0.0, 1.0, 7.0, 8.001])),
    ];
    for (name, change) in bad_regions {
        let mut writer = regions::Writer::new(folder.path(), "regions", 1, STAGE, region_facts());
        let mut row = region(0);
        change(&mut row);
        check(writer.write(row), name);
    }
    let bad_images: [(&str, Change<images::Row>); 3] = [
        ("hash", |row| row.source_blake3 = "ABC".into()),
        ("size", |row| row.height_px = 9),
        ("image_box", |row| row.boxes[0].bbox = bbox([4.0, 4.0, 4.0, 5.0])),
    ];
    for (name, change) in bad_images {
        let mut writer = images::Writer::new(folder.path(), "train", 1, STAGE, image_facts());
        let mut row = image(1);
        change(&mut row);
        check(writer.write(row), name);
    }
}

#[test]
fn rows_are_spread_over_files() {
    let folder = tempfile::tempdir().unwrap();
    let total = 9_001;
    let mut writer = images::Writer::new(folder.path(), "test", total, STAGE, image_facts());
    for index in 0..total as u32 {
        // What cannot be read is left out; the others stay where they were.
        if index == 17 { writer.leave_out().unwrap() } else { writer.write(image(index)).unwrap() }
    }
    let shards = writer.finish().unwrap();
    assert_eq!(shards.iter().map(|shard| shard.rows).collect::<Vec<_>>(), [2_999, 3_000, 3_001]);
    assert_eq!(shards[2].name, "test-00002-of-00003.parquet");
    let files: Vec<PathBuf> = shards.iter().map(|shard| folder.path().join(&shard.name)).collect();
    assert_eq!(images::rows(&files).unwrap().iter().sum::<usize>(), total - 1);
    let ids: Vec<String> = images::read_meta(&files).unwrap().into_iter().map(|row| row.record.image_id).collect();
    assert!(ids.is_sorted() && ids.len() == total - 1);

    // Order is kept from file to file, too.
    let mut writer = images::Writer::new(folder.path(), "train", 4_001, STAGE, image_facts());
    (0..2_000).for_each(|index| writer.write(image(index)).unwrap());
    check(writer.write(image(7)), "not_sorted_over_files");
}

#[test]
fn facts_are_checked_field_by_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_images(folder.path(), 2);
    let edited = folder.path().join("edited.parquet");
    let good = serde_json::to_string(&image_facts()).unwrap();
    let all = |facts: &str| {
        edit(&path, &edited, &[("agcnn.facts", facts)], |rows| rows);
        let read = read_images(&edited).unwrap_err().to_string();
        assert_eq!(read, images::facts(std::slice::from_ref(&edited)).unwrap_err().to_string());
        images::facts(std::slice::from_ref(&edited))
    };
    check(all(&good.replace("dataset", "source")), "facts_unknown");
    check(all(&good.replace(r#""contrast":1.25,"#, "")), "facts_missing");
    check(all(&good.replace("official", "by_luck")), "facts_split");
    check(all(&good.replace("8", "0")), "facts_size");
    check(all("{"), "facts_no_json");

    edit(&path, &edited, &[("agcnn.facts", &good.replace("1.25", "1.5"))], |rows| rows);
    let files = [path, edited];
    check(images::facts(&files), "facts_differ");
    check(images::read_meta(&files), "facts_differ");
    check(images::facts(&[]), "no_files");
}

#[test]
fn the_same_content_is_the_same_bytes() {
    let bytes = || {
        let folder = tempfile::tempdir().unwrap();
        fs_err::read(write_images(folder.path(), 20)).unwrap()
    };
    assert!(bytes() == bytes());
}

#[test]
fn wrong_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_images(folder.path(), 4);
    check(read_images(&folder.path().join("absent.parquet")), "absent");
    check(predictions::read(&path), "wrong_table");

    let rename = |from: &'static str, to: &'static str| {
        move |rows: RecordBatch| {
            let schema = rows.schema();
            let fields = schema.fields().iter().map(|field| {
                let name = if field.name() == from { to } else { field.name() };
                field.as_ref().clone().with_name(name)
            });
            let schema = arrow::datatypes::Schema::new(fields.collect::<Vec<Field>>());
            RecordBatch::try_new(schema.into(), rows.columns().to_vec()).unwrap()
        }
    };
    let retype = |column: &'static str, data_type: DataType| {
        move |rows: RecordBatch| {
            let index = rows.schema().index_of(column).unwrap();
            let mut columns = rows.columns().to_vec();
            columns[index] = cast(&columns[index], &data_type).unwrap();
            let mut fields: Vec<Field> = rows.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
            fields[index] = Field::new(column, data_type.clone(), true);
            RecordBatch::try_new(arrow::datatypes::Schema::new(fields).into(), columns).unwrap()
        }
    };

    let edited = folder.path().join("edited.parquet");
    edit(&path, &edited, &[("agcnn.schema_version", "2")], |rows| rows);
    check(read_images(&edited), "wrong_version");
    edit(&path, &edited, &[], rename("patient_id", "patient"));
    check(read_images(&edited), "no_column");
    edit(&path, &edited, &[], retype("width_px", DataType::Int64));
    check(read_images(&edited), "wrong_type");
    // As a tool that knows only nullable 64-bit integers would hand it back.
    edit(&path, &edited, &[], retype("image_id", DataType::LargeUtf8));
    check(read_images(&edited), "large_text");
    edit(&path, &edited, &[], |rows| {
        let order = arrow::array::UInt32Array::from(vec![1, 0, 2, 3]);
        arrow::compute::take_record_batch(&rows, &order).unwrap()
    });
    check(read_images(&edited), "not_sorted");
    edit(&path, &edited, &[], |rows| {
        let values = vec!["Mass", "Covid", "x", "y"];
        replace(rows, "split", std::sync::Arc::new(arrow::array::StringArray::from(values)))
    });
    check(read_images(&edited), "unknown_split");
    edit(&path, &edited, &[], |rows| {
        replace(rows, "label_no_finding", std::sync::Arc::new(arrow::array::BooleanArray::from(vec![true; 4])))
    });
    check(read_images(&edited), "labels_disagree");
    edit(&path, &edited, &[], |rows| {
        let sides = std::sync::Arc::new(arrow::array::UInt32Array::from(vec![8, 8, 9, 8]));
        replace(rows, "width_px", sides)
    });
    check(read_images(&edited), "wrong_size");
    edit(&path, &edited, &[], |rows| {
        let nulls = vec![Some("a"), None, Some("b"), Some("c")];
        replace(rows, "image_id", std::sync::Arc::new(arrow::array::StringArray::from(nulls)))
    });
    check(read_images(&edited), "null");
}

#[test]
fn damaged_files_are_errors_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_images(folder.path(), 40);
    let good = fs_err::read(&path).unwrap();
    let damaged = folder.path().join("damaged.parquet");
    for len in [0, 1, 7, good.len() / 2, good.len() - 1] {
        fs_err::write(&damaged, &good[..len]).unwrap();
        let error = read_images(&damaged).unwrap_err();
        assert!(error.to_string().contains("damaged.parquet"), "{error}");
    }
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    for _ in 0..2000 {
        let mut bad = good.clone();
        for _ in 0..random.random_range(1..20) {
            // Mostly the footer, where sizes, offsets and types are.
            let start = if random.random_bool(0.7) { good.len() - 12_000.min(good.len()) } else { 0 };
            let at = random.random_range(start..good.len());
            bad[at] = random.random();
        }
        fs_err::write(&damaged, &bad).unwrap();
        let _ = read_images(&damaged);
        let _ = images::read_meta(std::slice::from_ref(&damaged));
    }
}

/// Snapshots the message, without the folder.
fn check<T: std::fmt::Debug>(result: Result<T, Error>, name: &str) {
    let error = result.expect_err(name).to_string();
    insta::with_settings!({ filters => vec![(r"/\S*/", "[FOLDER]/")] }, {
        insta::assert_snapshot!(format!("error_{name}"), error);
    });
}

fn replace(rows: RecordBatch, column: &str, array: arrow::array::ArrayRef) -> RecordBatch {
    let index = rows.schema().index_of(column).unwrap();
    let mut columns = rows.columns().to_vec();
    columns[index] = array;
    let fields: Vec<Field> =
        rows.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    RecordBatch::try_new(arrow::datatypes::Schema::new(fields).into(), columns).unwrap()
}

/// Rewrites a file as a hand with a script would: same metadata but for `changes`, other rows.
fn edit(from: &Path, to: &Path, changes: &[(&str, &str)], rows: impl Fn(RecordBatch) -> RecordBatch) {
    let file = ParquetRecordBatchReaderBuilder::try_new(fs_err::File::open(from).unwrap().into_parts().0).unwrap();
    let mut metadata: Vec<KeyValue> = file.metadata().file_metadata().key_value_metadata().unwrap().clone();
    metadata.retain(|entry| entry.key != "ARROW:schema");
    for entry in &mut metadata {
        if let Some((_, value)) = changes.iter().find(|(key, _)| *key == entry.key) {
            entry.value = Some((*value).to_owned());
        }
    }
    let batches: Vec<RecordBatch> = file.build().unwrap().map(|batch| rows(batch.unwrap())).collect();
    let properties = WriterProperties::builder().set_key_value_metadata(Some(metadata)).build();
    let target = fs_err::File::create(to).unwrap();
    let mut writer = ArrowWriter::try_new(target, batches[0].schema(), Some(properties)).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
}

#[test]
fn some_images_are_read_alone() {
    let folder = tempfile::tempdir().unwrap();
    // Three row groups.
    let files = [write_images(folder.path(), 1200)];
    let all = read_images(&files[0]).unwrap();
    let wanted = [3, 4, 600, 1199].map(|index: usize| all[index].clone());
    let ids = wanted.iter().map(|row| row.record.image_id.as_str()).chain(["none.png"]).collect();
    let mut some = Vec::new();
    images::read_some(&files, &ids, |row| -> Result<(), Error> {
        some.push(row);
        Ok(())
    })
    .unwrap();
    assert_eq!(some, wanted);
}

#[test]
fn unknown_findings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_images(folder.path(), 2);
    let edited = folder.path().join("edited.parquet");
    edit(&path, &edited, &[], |rows| {
        let lists = rows.column_by_name("findings").unwrap();
        let lists = lists.as_any().downcast_ref::<arrow::array::ListArray>().unwrap();
        let (field, offsets, values, nulls) = lists.clone().into_parts();
        assert_eq!(values.len(), 2);
        let names = arrow::array::StringArray::from(vec![Finding::Mass.name(), "Covid"]);
        let lists = arrow::array::ListArray::new(field, offsets, std::sync::Arc::new(names), nulls);
        replace(rows, "findings", std::sync::Arc::new(lists))
    });
    check(read_images(&edited), "unknown_finding");
}

#[test]
fn unknown_metrics_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, edited) = (folder.path().join("metrics.parquet"), folder.path().join("edited.parquet"));
    let cell = Cell {
        series: Branch::Local.into(),
        scope: Scope::NoFinding,
        metric: Metric::Auroc,
        subset: Subset::All,
        split: Split::Test,
    };
    let [value, ci_low, ci_high] = [None; 3];
    let row = metrics::Row {
        cell,
        value,
        ci_low,
        ci_high,
        n_pos: 0,
        n_neg: 1,
        n_unknown: 0,
        undefined_draws: 0,
        reason: None,
        seeds: None,
    };
    metrics::write(&path, &[row], "report").unwrap();
    edit(&path, &edited, &[], |rows| {
        replace(rows, "branch", std::sync::Arc::new(arrow::array::StringArray::from(vec!["locale"])))
    });
    check(metrics::read(&edited), "unknown_branch");
}
