//! Tables as their authors publish them, and as spreadsheets save them.

use std::path::Path;

use cxr::{Finding, Labels, Sex, Split, ViewPosition};
use fs_err as fs;

use super::{Rows, Tree, read};
use crate::config::{Blank, Config, Uncertain, Views};
use crate::scan::scan;
use labels::Error;

/// The embedded defaults for a folder.
fn config() -> Config {
    let defaults: toml::Table = include_str!("../../default.toml").parse().unwrap();
    let mut config: Config = defaults["prep"].clone().try_into().unwrap();
    config.image_column = "image".to_owned();
    config
}

/// A folder of files that hold their own names.
fn folder(files: &[&str]) -> (tempfile::TempDir, Tree) {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    let tree = Tree::new(folder.path(), scan(folder.path()).unwrap().images);
    (folder, tree)
}

fn rows(table: &[u8], files: &[&str], config: &Config) -> Result<Rows, Error> {
    read(Path::new("raw/labels.csv"), table, &folder(files).1, &config.reading())
}

/// Labels from names: `Mass ?Hernia` is Mass present, Hernia unknown, all else absent.
fn labels(text: &str) -> Labels {
    let mut labels = Labels::default();
    for name in text.split_whitespace() {
        match name.strip_prefix('?') {
            Some(name) => labels.set(name.parse().unwrap(), None),
            None => labels.set(name.parse().unwrap(), Some(true)),
        }
    }
    labels
}

/// The labels of every image, all other findings than those that are said being unknown.
fn said(rows: &Rows) -> Vec<String> {
    let mark = |labels: Labels, finding: Finding| match labels.get(finding) {
        Some(true) => format!("+{finding}"),
        Some(false) => format!("-{finding}"),
        None => String::new(),
    };
    let line = |labels: Labels| Finding::ALL.map(|finding| mark(labels, finding)).concat();
    rows.records.iter().map(|record| format!("{} {}", record.image_id, line(record.labels))).collect()
}

#[test]
fn chexpert() {
    let table = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Edema,Pleural Effusion\n\
        CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,0.0\n\
        CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg,Male,87,Frontal,PA,,,-1.0,1.0,1.0,\n\
        CheXpert-v1.0-small/train/patient00002/study1/view2_lateral.jpg,Male,83,Lateral,,,,,1.0,,1.0\n\
        CheXpert-v1.0-small/train/patient00003/study1/view1_frontal.jpg,Unknown,0,Frontal,AP,,,1.0,,,0.0\n";
    let files = ["train/patient00001/study1/view1_frontal.jpg", "train/patient00002/study2/view1_frontal.jpg"];
    let columns = Config {
        image_column: "Path".into(),
        age_column: "Age".into(),
        sex_column: "sex".into(),
        view_column: "Frontal/Lateral".into(),
        ..config()
    };
    let rows = rows(table.as_bytes(), &files, &columns).unwrap();
    assert_eq!(
        said(&rows),
        [
            // The third is not there: its name stays as it is.
            "CheXpert-v1.0-small/train/patient00003/study1/view1_frontal.jpg +Cardiomegaly-Effusion",
            "train/patient00001/study1/view1_frontal.jpg -Cardiomegaly-Effusion-Edema",
            "train/patient00002/study2/view1_frontal.jpg +Edema",
        ]
    );
    let [third, first, second] = &rows.records[..] else { panic!("three images") };
    assert_eq!((first.age_years, first.sex, first.follow_up), (Some(68), Some(Sex::Female), None));
    assert_eq!((second.sex, third.sex), (Some(Sex::Male), None));
    assert_eq!(rows.records.iter().map(|record| record.patient_id).collect::<Vec<_>>(), [1, 2, 3]);
    insta::assert_snapshot!(rows.notes.join("\n"));

    for (uncertain, expected) in
        [(Uncertain::Positive, "+Cardiomegaly+Edema"), (Uncertain::Negative, "-Cardiomegaly+Edema")]
    {
        let rows = self::rows(table.as_bytes(), &files, &Config { uncertain, ..columns.clone() }).unwrap();
        assert!(said(&rows)[2].ends_with(expected), "{:?}", said(&rows));
    }
    let rows = self::rows(table.as_bytes(), &files, &Config { blank: Blank::Negative, ..columns.clone() }).unwrap();
    assert!(said(&rows)[2].ends_with(" -Effusion+Edema"), "{:?}", said(&rows));
    let all = self::rows(table.as_bytes(), &files, &Config { views: Views::All, ..columns }).unwrap();
    assert_eq!(all.records.len(), 4);
}

#[test]
fn vinbig() {
    let table = "image_id,Pleural thickening,Nodule/Mass,Infiltration,Pulmonary fibrosis,Pleural effusion,No finding\n\
        0a1aef5326b7b24378c6692f7a454e52,0,1,0,1,1,0\n9a5094b2563a1ef3ff50dc5c7ff71345,0,0,0,0,0,1\n";
    let files =
        ["train/9a5094b2563a1ef3ff50dc5c7ff71345.png", "train/0a1aef5326b7b24378c6692f7a454e52.png", "masks/x.png"];
    let rename = [("Nodule/Mass", "Nodule"), ("Pulmonary fibrosis", "Fibrosis")];
    let rename = rename.map(|(theirs, ours)| (theirs.to_owned(), ours.to_owned())).into();
    let rows = rows(table.as_bytes(), &files, &Config { image_column: "image_id".into(), rename, ..config() }).unwrap();
    assert_eq!(
        said(&rows),
        [
            "train/0a1aef5326b7b24378c6692f7a454e52.png +Effusion-Infiltration+Nodule+Fibrosis-Pleural_Thickening",
            "train/9a5094b2563a1ef3ff50dc5c7ff71345.png -Effusion-Infiltration-Nodule-Fibrosis-Pleural_Thickening",
        ]
    );
}

#[test]
fn rsna() {
    let table = "patientId,x,y,width,height,Target\n\
        00436515-870c-4b36-a041-de91049b9ab4,264.0,152.0,213.0,379.0,1\n\
        00436515-870c-4b36-a041-de91049b9ab4,562.0,152.0,256.0,453.0,1\n\
        0004cfab-14fd-4e49-80ba-63a80b6bddd6,,,,,0\n";
    let files = [
        "stage_2_train_images/00436515-870c-4b36-a041-de91049b9ab4.dcm",
        "stage_2_train_images/0004cfab-14fd-4e49-80ba-63a80b6bddd6.dcm",
    ];
    let columns = Config {
        image_column: "patientId".into(),
        patient_column: "patientId".into(),
        rename: [("Target".to_owned(), "Pneumonia".to_owned())].into(),
        ..config()
    };
    let rows = rows(table.as_bytes(), &files, &columns).unwrap();
    assert_eq!(
        said(&rows),
        [
            "stage_2_train_images/0004cfab-14fd-4e49-80ba-63a80b6bddd6.dcm -Pneumonia",
            "stage_2_train_images/00436515-870c-4b36-a041-de91049b9ab4.dcm +Pneumonia",
        ]
    );
    insta::assert_snapshot!(rows.notes.join("\n"));
}

#[test]
fn one_column_of_findings() {
    let columns = Config { findings_column: "findings".into(), ..config() };
    for (cell, expected) in [
        ("Mass|Pleural_Thickening", labels("Mass Pleural_Thickening")),
        ("mass; pleural thickening", labels("Mass Pleural_Thickening")),
        ("\"['Pleural Effusion', 'Hernia']\"", labels("Effusion Hernia")),
        ("No Finding", labels("")),
        ("Lung Opacity|Edema", labels("Edema")),
        ("", Labels::UNKNOWN),
        ("NaN", Labels::UNKNOWN),
    ] {
        let columns = Config { rename: [("Lung Opacity".to_owned(), String::new())].into(), ..columns.clone() };
        let rows = rows(format!("image,findings\na.png,{cell}\n").as_bytes(), &["a.png"], &columns).unwrap();
        assert_eq!(rows.records[0].labels, expected, "{cell}");
    }
    let blank = Config { blank: Blank::Negative, ..columns };
    assert_eq!(rows(b"image,findings\na.png,\n", &["a.png"], &blank).unwrap().records[0].labels, Labels::default());
}

#[test]
fn cells() {
    let of = |cell: &str, config: &Config| {
        rows(format!("image,Mass\na.png,{cell}\n").as_bytes(), &[], config)
            .map(|rows| rows.records[0].labels.get(Finding::Mass))
    };
    for (cell, expected) in [
        ("1", Some(true)),
        ("1.0", Some(true)),
        ("True", Some(true)),
        ("TRUE", Some(true)),
        ("0", Some(false)),
        ("0.0", Some(false)),
        ("false", Some(false)),
        ("", None),
        ("nan", None),
        ("NA", None),
        ("-1", None),
        ("-1.0", None),
    ] {
        assert_eq!(of(cell, &config()).unwrap(), expected, "{cell}");
    }
    for cell in ["2", "0.5", "yes?", "inf", "1e999"] {
        assert!(of(cell, &config()).is_err(), "{cell}");
    }
}

#[test]
fn patients_ages_and_views() {
    let columns = Config {
        patient_column: "Patient".into(),
        age_column: "age".into(),
        sex_column: "sex".into(),
        view_column: "view".into(),
        ..config()
    };
    let numbers = "image,patient,age,sex,view,Mass\nb,7.0,58.0,M,pa,1\na,00012,058Y,female,AP,0\nc,12,414,,LL,0\nd,3,,o,AP AXIAL,\n";
    let read = rows(numbers.as_bytes(), &["a.png", "b.png", "c.png", "d.png"], &columns).unwrap();
    let of = |index: usize| {
        let record = &read.records[index];
        (record.image_id.as_str(), record.patient_id, record.age_years, record.sex, record.view_position)
    };
    assert_eq!(of(0), ("a.png", 12, Some(58), Some(Sex::Female), Some(ViewPosition::Ap)));
    assert_eq!(of(1), ("b.png", 7, Some(58), Some(Sex::Male), Some(ViewPosition::Pa)));
    assert_eq!((of(2), read.records.len()), (("d.png", 3, None, None, None), 3));
    insta::assert_snapshot!(read.notes.join("\n"));
    let all = rows(numbers.as_bytes(), &[], &Config { views: Views::All, ..columns.clone() }).unwrap();
    assert_eq!((all.records.len(), all.impossible_ages), (4, 1));

    // Texts are numbered by their order, so that more of them or another order of rows changes little.
    let texts = "image,patient,age,sex,view,Mass\nb.png,zoe,,,,1\na.png,adam,,,,0\nc.png,zoe,,,,0\n";
    let rows = rows(texts.as_bytes(), &[], &columns).unwrap();
    assert_eq!(rows.records.iter().map(|record| record.patient_id).collect::<Vec<_>>(), [1, 2, 2]);
    assert!(rows.notes.iter().any(|note| note.contains("the 2 texts of column \"patient\"")), "{:?}", rows.notes);
}

#[test]
fn a_column_of_splits() {
    let columns = Config { split_column: "Set".into(), ..config() };
    let table = "image,set,Mass\na,TRAIN,1\nb,valid,0\nc,val,0\nd,Validation,0\ne,dev,0\nf,Test,0\ng,,0\n";
    let splits = rows(table.as_bytes(), &[], &columns).unwrap().splits;
    let [train, validation, test] = Split::ALL.map(Some);
    assert_eq!(splits, [train, validation, validation, validation, validation, test, None]);
}

#[test]
fn dialects() {
    let plain = "image,Mass,note\r\na.png,1,\"é, \"\"x\"\"\nnext line\"\r\nb.png,0,\r\n";
    let expected = said(&rows(plain.as_bytes(), &[], &config()).unwrap());
    assert_eq!(expected, ["a.png +Mass", "b.png -Mass"]);
    let utf16: Vec<u8> = plain.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked: Vec<u8> = [0xfe, 0xff].into_iter().chain(plain.encode_utf16().flat_map(u16::to_be_bytes)).collect();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gz, plain.as_bytes()).unwrap();
    let tables: [Vec<u8>; 8] = [
        [b"\xef\xbb\xbf", plain.as_bytes()].concat(),
        plain.replace("\r\n", "\n").into(),
        plain.replace("\r\n", "\r").into(),
        plain
            .replace("image,Mass,note", "image;Mass;note")
            .replace("png,1,", "png;1;")
            .replace("png,0,", "png;0;")
            .into(),
        plain
            .replace("image,Mass,note", "image\tMass\tnote")
            .replace("png,1,", "png\t1\t")
            .replace("png,0,", "png\t0\t")
            .into(),
        utf16,
        marked,
        gz.finish().unwrap(),
    ];
    for (index, table) in tables.into_iter().enumerate() {
        assert_eq!(said(&rows(&table, &[], &config()).unwrap()), expected, "{index}");
    }
    // Windows-1252: é is one byte.
    let cp1252: Vec<u8> = plain.chars().map(|c| u8::try_from(c as u32).unwrap()).collect();
    let columns = Config { patient_column: "note".into(), ..config() };
    let read = rows(&[&cp1252[..cp1252.len() - 2], b"z"].concat(), &[], &columns).unwrap();
    assert_eq!(read.records.len(), 2);
}

#[test]
fn files_are_found() {
    let (_folder, tree) =
        folder(&["x/a.png", "x/a.jpg", "y/b.JPG", "z/b.jpg", "deep/er/still/c.dicom", "d.txt", ".e.png"]);
    let find = |name: &str| format!("{:?}", tree.find(name));
    insta::assert_snapshot!(
        [
            "x/a.png",
            "x/a.jpg",
            "x/a",
            "a.png",
            "v1/x/a.jpg",
            "b",
            "b.jpg",
            "c",
            "still/c",
            "er/still/c.dicom",
            "d.txt",
            "d",
            ".e",
            "no/a.png"
        ]
        .map(|name| format!("{name}: {}", find(name)))
        .join("\n")
    );
}

#[test]
fn bad_tables_are_named() {
    let message = |table: &str, config: &Config| {
        let error = rows(table.as_bytes(), &["x/a.png", "y/a.png"], config).unwrap_err();
        let hint = error.hint().map_or(String::new(), |hint| format!("\n  hint: {hint}"));
        format!("{error}{hint}")
    };
    let list = Config { findings_column: "findings".into(), ..config() };
    let full =
        Config { patient_column: "patient".into(), age_column: "age".into(), split_column: "set".into(), ..config() };
    let messages = [
        message("", &config()),
        message("image,Mass\n", &config()),
        message("file,Mass\nb.png,1\n", &config()),
        message("image,Tumour\nb.png,1\n", &config()),
        message("image,Effusion,Pleural Effusion\nb.png,1,1\n", &config()),
        message("image,Mass\nb.png,2\n", &config()),
        message("image,Mass\n../../b.png,1\n", &config()),
        message("image,Mass\n,1\n", &config()),
        message("image,Mass\na.png,1\n", &config()),
        message("image,Mass\nb.png,1\nc.png,0\n\nb.png,0\n", &config()),
        message("image,findings\nb.png,Mass|Covid\n", &list),
        message("image,findings\nb.png,Mass|No Finding\n", &list),
        message("image,patient,age,set,Mass\nb.png,,5,test,1\n", &full),
        message("image,patient,age,set,Mass\nb.png,1,old,test,1\n", &full),
        message("image,patient,age,set,Mass\nb.png,1,5,holdout,1\n", &full),
    ];
    insta::assert_snapshot!(messages.join("\n"));
    let cut = rows(b"\x1f\x8b\x08\x00\x00", &[], &config()).unwrap_err().to_string();
    assert!(cut.contains("not a whole gzip file"), "{cut}");
}

proptest::proptest! {
    /// Whatever the bytes, there is an answer.
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        let _ = rows(&bytes, &[], &config());
    }
}
