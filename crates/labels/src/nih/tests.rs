//! Every variant of the files, and bad ones.

use proptest::prelude::*;

use std::collections::HashSet;
use std::path::Path;

use cxr::{BBox, Finding, FindingBox, ImageRecord, Labels, Sex, ViewPosition};

use super::*;
use crate::reading::Reading;
use crate::rows::age_years;
use crate::table::Error;

const HEADER: &str = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,\
    OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]";

fn read(text: &str) -> Result<Entries, Error> {
    entries(Path::new("raw/Data_Entry.csv"), text.as_bytes(), &Reading::default())
}

fn one(row: &str) -> Result<ImageRecord, Error> {
    read(&format!("{HEADER}\n{row}\n")).map(|mut entries| entries.records.remove(0))
}

#[test]
fn both_tables_of_nih_and_kaggles_say_the_same() {
    let v2020 = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]
00000001_001.png,Emphysema|Cardiomegaly,1,1,58,M,PA,2894,2729,0.143,0.143
";
    let v2017 = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],
00000001_001.png,Cardiomegaly|Emphysema,001,00000001,058Y,M,PA,2894,2729,0.143,0.143
";
    let sex = "\u{feff}Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Sex,View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],
00000001_001.png,Cardiomegaly|Emphysema,1,1,58,M,PA,2894,2729,0.143,0.143,";
    let kaggle = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImageWidth,OriginalImageHeight,OriginalImagePixelSpacing_x,OriginalImagePixelSpacing_y\r
00000001_001.png,Cardiomegaly|Emphysema,001,00000001,058Y,M,PA,2894,2729,0.143,0.143\r
\r
";
    let shuffled = "Patient Sex,Patient Age,Patient ID,Follow-up #,View Position,Finding Labels,Image Index
M,58,1,1,PA,\"Cardiomegaly|Emphysema\",00000001_001.png";
    let expected = Entries {
        records: vec![ImageRecord {
            image_id: "00000001_001.png".into(),
            patient_id: 1,
            follow_up: Some(1),
            age_years: Some(58),
            sex: Some(Sex::Male),
            view_position: Some(ViewPosition::Pa),
            labels: [Finding::Cardiomegaly, Finding::Emphysema].into_iter().collect(),
        }],
        left_out: HashSet::new(),
        impossible_ages: 0,
        notes: Vec::new(),
    };
    for text in [v2020, v2017, sex, kaggle, shuffled] {
        assert_eq!(read(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn ages() {
    for (text, years) in [
        ("58", 58),
        ("058Y", 58),
        ("013M", 1),
        ("11M", 0),
        ("001D", 0),
        ("730D", 2),
        ("120", 120),
        ("58.0", 58),
        ("5.5", 5),
    ] {
        assert_eq!(age_years(text), Some(Some(years)), "{text}");
    }
    assert_eq!(age_years(""), Some(None));
    for text in ["Y", "old", "-1", "58X", "99999999999Y", "é", "inf"] {
        assert_eq!(age_years(text), None, "{text}");
    }
    let table = read(&format!("{HEADER}\na.png,Mass,0,1,411Y,M,PA\nb.png,Mass,0,1,,,\n")).unwrap();
    assert_eq!(table.impossible_ages, 1);
    assert!(table.records.iter().all(|record| record.age_years.is_none()));
    assert_eq!((table.records[1].sex, table.records[1].view_position), (None, None));
}

#[test]
fn bad_tables_are_named_by_path_line_and_column() {
    let said = |text: &str| read(text).unwrap_err().to_string();
    let row = |row: &str| one(row).unwrap_err().to_string();
    let messages = [
        said(""),
        said(HEADER),
        said("Image Index;Finding Labels;Follow-up #\na.png;Mass;0"),
        said(&HEADER.replace("Patient ID", "Patient")),
        row("a.png,Covid,0,1,58,M,PA"),
        row("a.png,No Finding|Mass,0,1,58,M,PA"),
        row("a.png,Mass,0,,58,M,PA"),
        row("a.png,Mass,x,1,58,M,PA"),
        row("a.png,Mass,0,1,58 years,M,PA"),
        row("images/,Mass,0,1,58,M,PA"),
        row("a.png,Mass"),
        row("a.png,,0,1,58,M,PA"),
        row("a.png,Mass,0,1,58,M,lateral"),
        said(&format!("{HEADER}\r\na.png,Mass,0,1,58,M,PA\r\nb.png,Mass,0,1,58,M,PA\r\na.jpg,Mass,0,1,58,M,PA\r\n")),
        said("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"),
        said("<!DOCTYPE html>\n<html>"),
        entries(Path::new("raw/x.csv"), b"Image Index\n\xff\xfe\n", &Reading::default()).unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn boxes_in_three_headers_and_two_forms() {
    let expected = vec![(
        "00013118_008.png".to_owned(),
        FindingBox {
            finding: Finding::Infiltration,
            bbox: BBox::new(225.5, 547.25, 225.5 + 86.75, 547.25 + 79.5).unwrap(),
        },
    )];
    let row = "00013118_008.png,Infiltrate,225.5,547.25,86.75,79.5";
    for text in [
        format!("Image Index,Finding Label,Bbox [x,y,w,h],,,\n{row}\n"),
        format!("Image Index,Finding Label,Bbox [x,y,w,h]\r\n{row}\r\n"),
        format!("Image Index,Finding Label,\"Bbox [x,y,w,h]\"\n{row},,,"),
        format!("Image Index,Finding Label,x,y,w,h\n{row}"),
        "Image Index,Finding Label,\"Bbox [x,y,w,h]\"\n00013118_008.png,Infiltrate,\"[225.5, 547.25, 86.75, 79.5]\"\n"
            .to_owned(),
    ] {
        assert_eq!(boxes(Path::new("b.csv"), text.as_bytes()).unwrap(), expected, "{text}");
    }
}

#[test]
fn bad_boxes_are_named() {
    let said = |row: &str| {
        let text = format!("Image Index,Finding Label,Bbox [x,y,w,h],,,\n{row}\n");
        boxes(Path::new("raw/BBox.csv"), text.as_bytes()).unwrap_err().to_string()
    };
    let messages = [
        said("a.png,Mass,1,2,3"),
        said("a.png,Mass,1,2,0,4"),
        said("a.png,Mass,1,2,nan,4"),
        said("a.png,Mass,900,2,200,4"),
        said("a.png,Mass,1024.25,2,0.5,4"),
        said("a.png,Tumour,1,2,3,4"),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn a_list_of_no_boxes_has_a_header() {
    let read = |text: &str| boxes(Path::new("raw/BBox.csv"), text.as_bytes());
    assert_eq!(read("Image Index,Finding Label,Bbox [x,y,w,h],,,\n").unwrap(), []);
    for text in ["", "\n\n", "\0", "Image Ind", "404: Not Found\n"] {
        let error = read(text).expect_err(text);
        assert!(matches!(error, Error::NoRows { .. } | Error::Lacks { .. }), "{text:?}: {error}");
    }
}

#[test]
fn lists_bare_and_labelled() {
    let read = |text: &str| list(Path::new("raw/list.txt"), text.as_bytes());
    let names = |text: &str| read(text).unwrap().list.image_ids;
    let expected = ["a_0.png", "b_1.png"];
    assert_eq!(names("a_0.png\nb_1.png"), expected);
    assert_eq!(names("\u{feff}a_0.png\r\n\r\n  b_1.png  \r\n"), expected);
    assert_eq!(names("images_001/images/a_0.png\nb_1.png\n"), expected);
    assert_eq!(names("images\\a_0.png\rC:\\x\\b_1.png\r"), expected);
    assert_eq!(names("Image Index\n\"a_0.png\"\n\"images/b_1.png\"\n"), expected);
    assert_eq!(names("./a_0.png \n/data/b_1.png\n"), expected);
    assert_eq!(names("a b 1.png\nc d\ne.JPG\nu\u{308}.png"), ["a b 1.png", "c d", "e.JPG", "\u{fc}.png"]);
    let utf16: Vec<u8> = "\u{feff}a_0.png\r\nb_1.png".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(list(Path::new("l"), &utf16).unwrap().list.image_ids, expected);
    let flags = "1 0 0 0 0 0 0 0 0 0 0 0 0 0";
    for name in ["a b.png", "a b", "\"a b.png\""] {
        let read = read(&format!("{name} {flags}")).unwrap();
        assert_eq!((read.list.image_ids[0].trim_end_matches(".png"), read.labels.len()), ("a b", 1), "{name}");
    }
    let labelled = read("a_0.png 0 0 1 0 1 0 0 0 0 0 0 0 0 0\nb_1.png 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1\n").unwrap();
    assert_eq!(labelled.list.image_ids, expected);
    assert_eq!(labelled.labels, [Labels::parse("Effusion|Mass").unwrap(), Labels::default()]);
    let messages: Vec<String> = [
        "",
        "a_0.png\nimages/",
        "a_0.png\nb_1.png\n\na_0.png",
        "a_0.png 0 1",
        "a_0.png 0 0 1 0 1 0 0 0 0 0 0 0 0 2",
        "a_0.png 0 0 1 0 1 0 0 0 0 0 0 0 0 0\nb_1.png",
    ]
    .into_iter()
    .map(|text| read(text).unwrap_err().to_string())
    .collect();
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn mutated_texts_end_in_an_answer() {
    let table = format!(
        "{HEADER}\r\n{}",
        (0..40)
            .map(|i| format!(
                "0000000{}_{i:03}.png,Mass|Effusion,{i},{i},0{i:02}Y,M,PA,2894,2729,0.143,0.143\r\n",
                i % 9
            ))
            .collect::<String>()
    );
    let boxes_text =
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\n00013118_008.png,Infiltrate,225.5,547.25,86.75,79.5\n".repeat(5);
    let names =
        (0..40).map(|i| format!("images_001\\{i:08}_000.png 0 0 1 0 1 0 0 0 0 0 0 0 0 0\n")).collect::<String>();
    let words: [&[u8]; 12] = [
        b"\"",
        b",",
        b"\r",
        b"|",
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\x1f\x8b\x08\0",
        b"../..",
        b"nan",
        b"1e999",
        b"\n\n",
    ];
    let mut state = 16_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (path, config, mut read) = (Path::new("x"), Reading::default(), [0; 3]);
    for round in 0..3000 {
        let mut bytes = [&table, &boxes_text, &names][round % 3].clone().into_bytes();
        // Many changes in half of the texts and one or two in the others, so that some of every kind are still read.
        for _ in 0..1 + random([8, 2][round / 3 % 2]) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => drop(bytes.splice(at..at, words[random(words.len())].iter().copied())),
                2 => drop(bytes.splice(at..(at + random(60)).min(bytes.len()), [])),
                _ => bytes.truncate(at.max(bytes.len() / 2).max(1)),
            }
            if bytes.is_empty() {
                break;
            }
        }
        let whole = [entries(path, &bytes, &config).is_ok(), boxes(path, &bytes).is_ok(), list(path, &bytes).is_ok()];
        read[round % 3] += usize::from(whole[round % 3]);
    }
    // Not all is refused, and not all is believed.
    assert!((300..2700).contains(&read.iter().sum::<usize>()), "{read:?}");
    assert!(read.iter().all(|&read| read > 0), "{read:?}");
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300), row in "[a.png,0-9MYD|\"\\r\\n\\[\\] é]{0,80}", headed: bool,
    ) {
        if headed {
            bytes.splice(..0, format!("{HEADER},Finding Label,x,y,w,h\n{row}").into_bytes());
        }
        let path = Path::new("x");
        let _ = (entries(path, &bytes, &Reading::default()), boxes(path, &bytes), list(path, &bytes));
    }
}
