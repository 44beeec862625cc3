//! Tables and lists.

use cxr::{Finding, Sex, ViewPosition};
use fs_err as fs;

use crate::make::{Case, IMAGES, TABLE, TEST, TRAIN_VAL, gzip, names, said};

#[test]
fn rows_dropped_from_a_table_leave_the_official_lists_usable() {
    // Notebooks drop the 16 rows of age 100 and more: LEEMOARE/GOAT_41.
    let case = Case::new();
    case.edit(TABLE, |text| {
        text.lines().enumerate().filter(|(line, _)| *line != 7).map(|(_, l)| format!("{l}\n")).collect()
    });
    let said = case.bad(4, &[]);
    assert!(said.contains("1 of the 30 images in raw/train_val_list.txt are not in the label table"), "{said}");
    assert!(said.contains("prep.missing=skip"), "{said}");
    let (rows, log) = case.good(&["prep.missing=skip"]);
    assert_eq!(rows.len(), 39);
    assert!(log.contains("1 images of the lists are not in Data_Entry_2017_v2020.csv and left out"), "{log}");
}

#[test]
fn half_a_table_works_with_the_official_lists() {
    let case = Case::new();
    case.edit(TABLE, |text| {
        text.lines().enumerate().filter(|(line, _)| line % 4 < 2).map(|(_, l)| format!("{l}\n")).collect()
    });
    let (rows, log) = case.good(&["prep.missing=skip"]);
    assert!(rows.len() == 20 && log.contains("20 images of the lists"), "{log}");
}

#[test]
fn a_table_saved_again_by_pandas_says_the_same() {
    // pandas-dev/pandas#28335, calpaterson/csvbase#11: whole numbers become 58.0, an index stands in front, NaN is empty.
    let case = Case::new();
    let (expected, _) = case.good(&[]);
    case.edit(TABLE, |text| {
        let rows = text.lines().enumerate().map(|(row, line)| {
            let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
            if row > 0 {
                [2, 3, 4].iter().for_each(|&at| cells[at] += ".0");
            }
            let index = if row == 0 { String::new() } else { (row - 1).to_string() };
            format!("{index},{}\n", cells.join(","))
        });
        rows.collect()
    });
    assert_eq!(case.good(&[]).0, expected);
}

#[test]
fn findings_are_read_however_they_are_written() {
    let case = Case::new();
    let (expected, _) = case.good(&[]);
    case.rows(|row, cells| {
        let text = cells[1]
            .replace("Pleural_Thickening", ["pleural thickening", "PLEURAL_THICKENING", "Pleural-Thickening"][row % 3]);
        cells[1] = format!(" {} |", text.replace('|', " | "));
    });
    assert_eq!(case.good(&[]).0, expected);
    // A name of somebody else's is refused with the setting that translates it, which works.
    case.rows(|row, cells| {
        if row == 0 {
            cells[1] = "Lung Tumour".to_owned();
        }
    });
    assert!(case.bad(4, &[]).contains("prep.rename"));
    let (rows, _) = case.good(&["prep.rename={ \"Lung Tumour\" = \"Mass\" }"]);
    assert!(rows[0].record.labels.contains(Finding::Mass));
}

#[test]
fn an_own_table_with_image_findings_and_patient_is_enough() {
    // jrzech/reproduce-chexnet#13.
    let case = Case::new();
    case.edit(TABLE, |text| {
        let cells = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
        text.lines().map(cells).map(|cells| format!("{},{},{}\n", cells[0], cells[1], cells[3])).collect()
    });
    let (rows, _) = case.good(&[]);
    let record = &rows[0].record;
    assert_eq!(
        (rows.len(), record.follow_up, record.age_years, record.sex, record.view_position),
        (40, None, None, None, None)
    );
}

#[test]
fn patients_that_are_texts_are_numbered() {
    // mlmed/torchxrayvision#39.
    let case = Case::new();
    case.rows(|_, cells| cells[3] = format!("patient{:05}", cells[3].parse::<u32>().unwrap()));
    let (rows, log) = case.good(&[]);
    assert_eq!((rows[0].record.patient_id, rows[39].record.patient_id), (1, 20));
    assert!(log.contains("the 20 texts of column \"Patient ID\" were numbered from 1 in sorted order"), "{log}");
}

#[test]
fn sexes_and_views_are_read_or_left_empty_and_counted() {
    // ieee8023/covid-chestxray-dataset#109.
    let case = Case::new();
    let sexes = ["Male", "f", "FEMALE", "O", "unknown"];
    let views = ["ap", "Pa", "LATERAL", "LL", "oblique", ""];
    case.rows(|row, cells| {
        if let Some(sex) = sexes.get(row) {
            cells[5] = (*sex).to_owned();
        }
        if let Some(view) = row.checked_sub(10).and_then(|at| views.get(at)) {
            cells[6] = (*view).to_owned();
        }
    });
    let (rows, log) = case.good(&[]);
    let sex: Vec<_> = rows[..5].iter().map(|row| row.record.sex).collect();
    assert_eq!(sex, [Some(Sex::Male), Some(Sex::Female), Some(Sex::Female), None, None]);
    // The two lateral images are left out, although the lists name them.
    assert_eq!(rows.len(), 38);
    let view: Vec<_> = rows[10..14].iter().map(|row| row.record.view_position).collect();
    assert_eq!(view, [Some(ViewPosition::Ap), Some(ViewPosition::Pa), None, None]);
    for line in ["2 lateral images left out", "1 images say \"oblique\"", "2 values are neither F nor M"] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert_eq!(case.good(&["prep.views=all"]).0.len(), 40);
}

/// How a text becomes bytes.
type Encode<'a> = &'a dyn Fn(&str) -> Vec<u8>;

#[test]
fn texts_in_every_encoding_and_line_end_say_the_same() {
    // Excel's "Unicode text", PowerShell's redirection (openwall/john#2802), Excel for Mac, a gzipped table
    // (mlmed/torchxrayvision#124), European Excel, tabs.
    let case = Case::new();
    let (expected, _) = case.good(&[]);
    let expected = said(expected);
    let texts = [TABLE, TRAIN_VAL, TEST].map(|name| (name, case.text(name)));
    let utf16 = |text: &str| {
        let text = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()
    };
    let encodings: [(&str, Encode<'_>); 6] = [
        ("UTF-16", &utf16),
        ("CR", &|text| text.replace('\n', "\r").into_bytes()),
        ("gzip", &|text| gzip(text.as_bytes())),
        ("Windows-1252", &|text| [text.as_bytes(), b"\n"].concat()),
        ("semicolons", &|text| text.replace(',', ";").into_bytes()),
        ("tabs", &|text| text.replace(',', "\t").into_bytes()),
    ];
    for (name, encode) in encodings {
        for (path, text) in &texts {
            case.write(path, &encode(text));
        }
        assert_eq!(said(case.good(&[]).0), expected, "{name}");
    }
    // Under the name that a compressed file has.
    for (path, text) in &texts {
        fs::remove_file(case.path(path)).unwrap();
        case.write(&format!("{path}.gz"), &gzip(text.as_bytes()));
    }
    assert_eq!(said(case.good(&[]).0), expected);
    let utf8 = texts[0].1.replace("Patient Gender", "Geschlecht").replace(",M,", ",männlich,");
    let cp1252: Vec<u8> = utf8.chars().map(|c| c as u32 as u8).collect();
    fs::remove_file(case.path(&format!("{TABLE}.gz"))).unwrap();
    case.write(TABLE, &cp1252);
    assert!(case.good(&[]).0.iter().all(|row| row.record.sex.is_none()));
}

#[test]
fn names_in_the_table_without_their_ending_or_with_a_folder() {
    let case = Case::new();
    let (expected, _) = case.good(&[]);
    let text = case.text(TABLE);
    case.rows(|_, cells| cells[0] = format!("images_001\\images/{}", cells[0]));
    assert_eq!(case.good(&[]).0, expected);
    case.write(TABLE, text.as_bytes());
    case.rows(|_, cells| cells[0] = cells[0].trim_end_matches(".png").to_owned());
    let (rows, _) = case.good(&[]);
    assert_eq!((rows.len(), rows[0].record.image_id.as_str()), (40, "00000001_000"));
    assert_eq!((rows[0].path.as_str(), rows[0].split), (expected[0].path.as_str(), expected[0].split));
}

#[test]
fn lists_as_other_programs_write_them() {
    // R's write.table, pandas' to_csv, Windows.
    let case = Case::new();
    let (expected, _) = case.good(&[]);
    let lists = [TRAIN_VAL, TEST].map(|name| (name, case.text(name)));
    for form in ["images\\{}", "/data/nih/images/{}", "./images/{}", "\"{}\"", "{} ", "C:\\nih\\{}", "header", "bare"] {
        for (path, text) in &lists {
            let lines = text.lines().map(|name| match form {
                "header" => format!("\"{name}\"\n"),
                "bare" => format!("{}\n", name.trim_end_matches(".png")),
                form => format!("{}\n", form.replace("{}", name)),
            });
            let head = if form == "header" { "Image Index\n" } else { "" };
            case.write(path, (head.to_owned() + &lines.collect::<String>()).as_bytes());
        }
        assert_eq!(case.good(&[]).0, expected, "{form}");
    }
}

#[test]
fn names_with_spaces_and_letters_that_macos_writes_apart() {
    let case = Case::new();
    let (composed, apart) = ("Thorax M\u{fc}ller 1.png", "Thorax Mu\u{308}ller 1.png");
    for text in [TABLE, TRAIN_VAL] {
        case.edit(text, |text| text.replace("00000001_000.png", composed));
    }
    fs::rename(case.path(IMAGES).join("00000001_000.png"), case.path(IMAGES).join(apart)).unwrap();
    let (rows, _) = case.good(&[]);
    let row = rows.iter().find(|row| row.record.image_id == composed).unwrap();
    assert!(row.path.ends_with(apart));
}

#[test]
fn a_table_that_is_not_one_says_what_it_is() {
    let case = Case::new();
    for (bytes, words) in [
        (&b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 7\n"[..], "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"PK\x03\x04 and so on", "a ZIP or Excel file"),
        (b"\x1f\x8b\x08\x00cut", "not a whole gzip file"),
    ] {
        case.write(TABLE, bytes);
        let said = case.bad(4, &[]);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn splits_that_cannot_be_are_refused_or_work() {
    // stefyste/RIAWELC#2 (an image in two lists), UCSD-AI4H/COVID-CT#11 (a validation list that shares patients), lists
    // with flags and folders (arnoweng/CheXNet#10, zoogzog/chexnet).
    let case = Case::new();
    let all = names();
    case.write(TEST, (all[0].clone() + "\n" + &all[30..].join("\n")).as_bytes());
    assert!(case.bad(4, &[]).contains("00000001_000.png is in raw/train_val_list.txt and in raw/test_list.txt"));
    case.write(TRAIN_VAL, all[1..30].join("\n").as_bytes());
    assert!(case.bad(4, &[]).contains("1 patients are in more than one split"));
    let flags = |names: &[String], folder: &str| -> String {
        names.iter().map(|name| format!("{folder}{name} 0 0 0 0 1 0 0 0 0 0 0 0 0 0\n")).collect()
    };
    case.write("raw/tr.txt", flags(&all[..28], "").as_bytes());
    case.write("raw/va.txt", flags(&all[28..32], "images_001/").as_bytes());
    case.write("raw/te.txt", flags(&all[32..], "").as_bytes());
    let files = ["prep.split=files", "prep.train_list=tr.txt", "prep.validation_list=va.txt", "prep.test_list=te.txt"];
    assert_eq!(case.good(&files).0.len(), 40);
    case.write("raw/va.txt", flags(&all[27..32], "").as_bytes());
    assert_eq!(case.prep(&files).code, 4);
}

#[test]
fn few_patients_are_divided_or_refused_with_a_hint_that_helps() {
    let case = Case::new();
    for (patients, code) in [(10, 0), (4, 0), (3, 0), (1, 4)] {
        let whole = case.text(TABLE);
        case.edit(TABLE, |text| text.lines().take(1 + 2 * patients).map(|line| format!("{line}\n")).collect());
        let said = case.bad(code, &["prep.split=random"]);
        if code == 4 {
            assert!(!said.contains("prep.split=random") && said.contains("three patients"), "{said}");
        }
        case.write(TABLE, whole.as_bytes());
    }
}

#[test]
fn mutated_tables_and_lists_end_in_an_answer() {
    let case = Case::new();
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let words: [&[u8]; 10] =
        [b"\"", b",", b"\r", b"\n\n", b"|", b"\xff\xfe", b"\0", b"../", b"999999999999", b"\x1f\x8b\x08\x00"];
    for round in 0..30 {
        let name = [TABLE, TRAIN_VAL, TEST][round % 3];
        let whole = fs::read(case.path(name)).unwrap();
        let mut bytes = whole.clone();
        for _ in 0..1 + random(6) {
            let at = random(bytes.len());
            match random(3) {
                0 => bytes[at] = random(256) as u8,
                1 => drop(bytes.splice(at..at, words[random(words.len())].iter().copied())),
                _ => bytes.truncate(at.max(1)),
            }
        }
        case.write(name, &bytes);
        let ran = case.prep(&["prep.missing=skip"]);
        assert!([0, 2, 3, 4].contains(&ran.code), "{ran}");
        case.write(name, &whole);
    }
}
