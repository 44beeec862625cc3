//! Readers of NIH's text files, in every variant found in the wild.
//!
//! Pure: bytes in, rows out; `path` is for messages only. Columns are found by name, so that their order, additional
//! columns, and the trailing commas that some headers or rows have do not matter; neither do a byte order mark,
//! CRLF line ends, blank lines, or a missing end of the last line.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cxr::split::List;
use cxr::{BBox, Finding, FindingBox, ImageRecord, Labels, Sex, View};

/// Side of the square frame, in pixels, in which NIH gives boxes, whatever the size of the file (Wang et al., CVPR
/// 2017: all pictures were released at 1024 x 1024).
pub const BOX_FRAME_PX: f32 = 1024.0;

/// The oldest age in years that is believed; NIH's first table has ages up to 414.
pub const MAX_AGE_YEARS: u32 = 120;

/// A text file that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The header lacks a column.
    #[error("{}: line 1: no column {column:?}, got {got:?}", path.display())]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// The column's usual name.
        column: &'static str,
        /// The header as it is, cut to 200 characters.
        got: String,
    },
    /// A cell that cannot be read.
    #[error("{}: line {line}, column {column:?}: got {value:?}, expected {expected}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: u64,
        /// The column's usual name.
        column: &'static str,
        /// What it holds, cut to 200 characters.
        value: String,
        /// What it should hold.
        expected: String,
    },
    /// One image on two lines.
    #[error("{}: line {line}: image {image_id} was on line {first} already", path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The later line, from 1.
        line: u64,
        /// The earlier line, from 1.
        first: u64,
        /// The image.
        image_id: String,
    },
    /// A line that is not text.
    #[error("{}: line {line}: not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: u64,
    },
    /// A header and nothing else, or not even that.
    #[error("{}: no rows", path.display())]
    NoRows {
        /// The file.
        path: PathBuf,
    },
}

/// The label table: `Data_Entry_2017_v2020.csv`, `Data_Entry_2017.csv`, or `sample_labels.csv` of Kaggle's sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Entries {
    /// One per image, in the file's order.
    pub records: Vec<ImageRecord>,
    /// How many ages above [`MAX_AGE_YEARS`] became `None`.
    pub impossible_ages: usize,
}

/// Reads a label table.
///
/// Ages are years (`58`, `058Y`), months (`013M`) or days (`001D`), the latter two rounded down to years. Empty ages,
/// sexes and views are `None`.
///
/// # Errors
/// A missing column; a cell that cannot be read; a finding outside the 14; an image on two lines; no rows.
pub fn entries(path: &Path, bytes: &[u8]) -> Result<Entries, Error> {
    let mut table = Table::new(path, bytes)?;
    let image = table.column(&["Image Index"])?;
    let findings = table.column(&["Finding Labels"])?;
    let follow_up = table.column(&["Follow-up #"])?;
    let patient = table.column(&["Patient ID"])?;
    let age = table.column(&["Patient Age"])?;
    let sex = table.column(&["Patient Gender", "Patient Sex"])?;
    let view = table.column(&["View Position"])?;

    let mut entries = Entries { records: Vec::new(), impossible_ages: 0 };
    let mut lines: HashMap<String, u64> = HashMap::new();
    while table.next()? {
        let image_id = table.parse(image, "the name of a PNG file", file_name)?.to_owned();
        if let Some(first) = lines.insert(image_id.clone(), table.line) {
            return Err(Error::Duplicate { path: path.to_owned(), line: table.line, first, image_id });
        }
        let age = table.parse(age, "an age such as 58, 058Y, 013M or 001D", age_years)?;
        let age_years = age.filter(|&years| years <= MAX_AGE_YEARS).map(|years| years as u16);
        entries.impossible_ages += usize::from(age.is_some() && age_years.is_none());
        let labels = table.cell(findings);
        let labels = Labels::parse(labels).map_err(|_| table.bad(findings, labels, expected_findings()))?;
        entries.records.push(ImageRecord {
            image_id,
            patient_id: table.parse(patient, "a patient number", |text| text.parse().ok())?,
            follow_up: table.parse(follow_up, "a whole number", |text| text.parse().ok())?,
            age_years,
            sex: table.parse(sex, "F, M or nothing", |text| match text {
                "F" => Some(Some(Sex::Female)),
                "M" => Some(Some(Sex::Male)),
                "" => Some(None),
                _ => None,
            })?,
            view: table.parse(view, "AP, PA or nothing", |text| match text {
                "AP" => Some(Some(View::Ap)),
                "PA" => Some(Some(View::Pa)),
                "" => Some(None),
                _ => None,
            })?,
            labels,
        });
    }
    if entries.records.is_empty() {
        return Err(Error::NoRows { path: path.to_owned() });
    }
    Ok(entries)
}

/// Reads `BBox_List_2017.csv`: image and box, in the file's order, in the frame of [`BOX_FRAME_PX`].
///
/// The header may have nine fields (NIH's own), six, or three (a quoted `"Bbox [x,y,w,h]"`); a row may hold the four
/// numbers in one quoted cell. `Infiltrate` means Infiltration.
///
/// # Errors
/// A missing column; a finding outside the 14; anything but four numbers; a box without area or outside the frame.
pub fn boxes(path: &Path, bytes: &[u8]) -> Result<Vec<(String, FindingBox)>, Error> {
    let mut table = Table::new(path, bytes)?;
    let image = table.column(&["Image Index"])?;
    let finding = table.column(&["Finding Label"])?;
    let corner = table.column(&["Bbox [x", "Bbox [x,y,w,h]", "x"])?;
    let mut boxes = Vec::new();
    while table.next()? {
        let image_id = table.parse(image, "the name of a PNG file", file_name)?.to_owned();
        let name = table.cell(finding);
        let finding: Finding = name.parse().map_err(|_| {
            let names: Vec<&str> = Finding::ALL.into_iter().map(Finding::name).collect();
            table.bad(finding, name, format!("one of {}", names.join(", ")))
        })?;
        let cells: Vec<&str> = table.record.iter().skip(corner.index).collect();
        let cells = cells.join(",");
        let cells = cells.trim_end_matches([',', ' ']);
        let bbox = frame_box(cells).ok_or_else(|| {
            let expected = format!("x,y,w,h in pixels of a {BOX_FRAME_PX} px square frame, w and h above 0");
            table.bad(corner, cells, expected)
        })?;
        boxes.push((image_id, FindingBox { finding, bbox }));
    }
    Ok(boxes)
}

/// A list of images, with the labels that some lists carry.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The names, and the path for messages.
    pub list: List,
    /// The labels beside each name; empty for a list of bare names.
    pub labels: Vec<Labels>,
}

/// Reads a list: one image per line, bare (`train_val_list.txt`) or followed by 14 flags in NIH's order, or by 15 with
/// No Finding last (`00000003_000.png 0 0 1 ...`, as arnoweng/CheXNet and its descendants ship). Folders before the
/// name are dropped.
///
/// # Errors
/// A line of another form; bare names mixed with labelled ones; an image on two lines; no lines.
pub fn list(path: &Path, bytes: &[u8]) -> Result<Listed, Error> {
    let name = path.display().to_string();
    let mut listed = Listed { list: List { name, image_ids: Vec::new() }, labels: Vec::new() };
    let mut lines: HashMap<&str, u64> = HashMap::new();
    let mut text = std::str::from_utf8(bytes).map_err(|e| {
        let line = 1 + bytes[..e.valid_up_to()].iter().filter(|&&b| b == b'\n').count() as u64;
        Error::NotText { path: path.to_owned(), line }
    })?;
    text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, row) in (1..).zip(text.lines()) {
        let bad = |column, value: &str, expected: &str| Error::Value {
            path: path.to_owned(),
            line,
            column,
            value: short(value),
            expected: expected.to_owned(),
        };
        let mut words = row.split([' ', '\t', ',']).map(str::trim).filter(|word| !word.is_empty());
        let Some(word) = words.next() else { continue };
        let image_id = file_name(word.rsplit('/').next().unwrap_or(word))
            .ok_or_else(|| bad("image", word, "the name of a PNG file"))?;
        if let Some(first) = lines.insert(image_id, line) {
            let image_id = image_id.to_owned();
            return Err(Error::Duplicate { path: path.to_owned(), line, first, image_id });
        }
        let flags: Vec<&str> = words.collect();
        if !flags.is_empty() {
            let labels =
                flagged(&flags).ok_or_else(|| bad("labels", &flags.join(" "), "14 or 15 flags, each 0 or 1"))?;
            listed.labels.push(labels);
        }
        listed.list.image_ids.push(image_id.to_owned());
        if !listed.labels.is_empty() && listed.labels.len() != listed.list.image_ids.len() {
            return Err(bad("labels", row, "flags on every line or on none"));
        }
    }
    if listed.list.image_ids.is_empty() {
        return Err(Error::NoRows { path: path.to_owned() });
    }
    Ok(listed)
}

fn flagged(flags: &[&str]) -> Option<Labels> {
    if ![Finding::COUNT, Finding::COUNT + 1].contains(&flags.len()) {
        return None;
    }
    let mut labels = Labels::default();
    for (i, flag) in flags.iter().enumerate() {
        match (*flag, Finding::ALL.get(i)) {
            ("1", Some(&finding)) => labels.insert(finding),
            ("0" | "1", _) => {}
            _ => return None,
        }
    }
    Some(labels)
}

fn frame_box(cells: &str) -> Option<BBox> {
    let numbers: Vec<f32> = cells
        .split(',')
        .map(|cell| cell.trim_matches(['[', ']', ' ', '\t']).parse::<f32>().ok())
        .collect::<Option<_>>()?;
    let [x, y, w, h] = numbers[..] else {
        return None;
    };
    if ![x, y, w, h].into_iter().all(f32::is_finite) || w <= 0.0 || h <= 0.0 {
        return None;
    }
    let bbox = BBox::new(x, y, x + w, y + h);
    // Rounding by the annotation tool may put an edge a pixel outside.
    let inside = x >= -1.0 && y >= -1.0 && bbox.x_max <= BOX_FRAME_PX + 1.0 && bbox.y_max <= BOX_FRAME_PX + 1.0;
    inside.then(|| bbox.clipped(BOX_FRAME_PX, BOX_FRAME_PX))
}

/// An age in whole years; the outer `None` where the text is no age.
fn age_years(text: &str) -> Option<Option<u32>> {
    if text.is_empty() {
        return Some(None);
    }
    let (number, per_year) = match text.as_bytes()[text.len() - 1] {
        b'Y' => (&text[..text.len() - 1], 1),
        b'M' => (&text[..text.len() - 1], 12),
        b'D' => (&text[..text.len() - 1], 365),
        _ => (text, 1),
    };
    Some(Some(number.parse::<u32>().ok()? / per_year))
}

/// A plain file name ending in `.png`: nothing that could lead out of the folder.
fn file_name(text: &str) -> Option<&str> {
    let stem = text.get(..text.len().checked_sub(4)?)?;
    let plain = !stem.is_empty() && !text.contains(['/', '\\', '\0']) && !text.starts_with('.');
    (plain && text[stem.len()..].eq_ignore_ascii_case(".png")).then_some(text)
}

fn expected_findings() -> String {
    let names: Vec<&str> = Finding::ALL.into_iter().map(Finding::name).collect();
    format!("No Finding alone, or one or more, joined by |, of {}", names.join(", "))
}

fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

/// A column: where it is, and what messages call it.
#[derive(Clone, Copy)]
struct Column {
    index: usize,
    name: &'static str,
}

/// Rows of a comma-separated file, one at a time.
struct Table<'a> {
    path: &'a Path,
    reader: csv::Reader<&'a [u8]>,
    header: csv::StringRecord,
    record: csv::StringRecord,
    bytes: &'a [u8],
    /// Line of `record`, from 1. The reader's own count is one behind in files with CRLF.
    line: u64,
    /// How many of `bytes` lie before `record`.
    before: usize,
}

impl<'a> Table<'a> {
    fn new(path: &'a Path, bytes: &'a [u8]) -> Result<Self, Error> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(bytes);
        let record = csv::StringRecord::new();
        let mut table = Table { path, reader, header: record.clone(), record, bytes, line: 1, before: 0 };
        if !table.next()? {
            return Err(Error::NoRows { path: path.to_owned() });
        }
        table.header = table.record.clone();
        Ok(table)
    }

    /// Goes to the next row that holds anything.
    fn next(&mut self) -> Result<bool, Error> {
        loop {
            let more = self.reader.read_record(&mut self.record);
            let more = more.map_err(|e| Error::NotText {
                path: self.path.to_owned(),
                line: self.line_at(e.position().map_or(0, csv::Position::byte)).0,
            })?;
            if !more {
                return Ok(false);
            }
            let byte = self.record.position().map_or(0, csv::Position::byte);
            (self.line, self.before) = self.line_at(byte);
            if self.record.iter().any(|cell| !cell.is_empty()) {
                return Ok(true);
            }
        }
    }

    /// The line on which the first text at or after `byte` stands, and where that text starts.
    fn line_at(&self, byte: u64) -> (u64, usize) {
        let mut start = usize::try_from(byte).map_or(self.bytes.len(), |byte| byte.min(self.bytes.len()));
        while self.bytes.get(start).is_some_and(|b| b"\r\n".contains(b)) {
            start += 1;
        }
        let passed = self.bytes.get(self.before..start).unwrap_or_default();
        (self.line + passed.iter().filter(|&&b| b == b'\n').count() as u64, start)
    }

    /// The column with one of these names, the first of which is the usual one.
    fn column(&self, names: &[&'static str]) -> Result<Column, Error> {
        let index = self.header.iter().position(|cell| names.iter().any(|name| cell.eq_ignore_ascii_case(name)));
        index.map(|index| Column { index, name: names[0] }).ok_or_else(|| Error::NoColumn {
            path: self.path.to_owned(),
            column: names[0],
            got: short(&self.header.iter().collect::<Vec<_>>().join(",")),
        })
    }

    /// The cell's text; empty where the row ends before it.
    fn cell(&self, column: Column) -> &str {
        self.record.get(column.index).unwrap_or("")
    }

    fn parse<'s, T>(
        &'s self,
        column: Column,
        expected: &str,
        read: impl FnOnce(&'s str) -> Option<T>,
    ) -> Result<T, Error> {
        let cell = self.cell(column);
        read(cell).ok_or_else(|| self.bad(column, cell, expected.to_owned()))
    }

    fn bad(&self, column: Column, value: &str, expected: String) -> Error {
        Error::Value { path: self.path.to_owned(), line: self.line, column: column.name, value: short(value), expected }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: &str = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,\
        OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]";

    fn read(text: &str) -> Result<Entries, Error> {
        entries(Path::new("raw/Data_Entry.csv"), text.as_bytes())
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
                follow_up: 1,
                age_years: Some(58),
                sex: Some(Sex::Male),
                view: Some(View::Pa),
                labels: [Finding::Cardiomegaly, Finding::Emphysema].into_iter().collect(),
            }],
            impossible_ages: 0,
        };
        for text in [v2020, v2017, sex, kaggle, shuffled] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn ages() {
        for (text, years) in [("58", 58), ("058Y", 58), ("013M", 1), ("11M", 0), ("001D", 0), ("730D", 2), ("120", 120)]
        {
            assert_eq!(age_years(text), Some(Some(years)), "{text}");
        }
        assert_eq!(age_years(""), Some(None));
        for text in ["Y", "old", "-1", "5.5", "58X", "99999999999Y", "é"] {
            assert_eq!(age_years(text), None, "{text}");
        }
        let table = read(&format!("{HEADER}\na.png,Mass,0,1,411Y,M,PA\nb.png,Mass,0,1,,,\n")).unwrap();
        assert_eq!(table.impossible_ages, 1);
        assert!(table.records.iter().all(|record| record.age_years.is_none()));
        assert_eq!((table.records[1].sex, table.records[1].view), (None, None));
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
            row("a.png,Mass,0,one,58,M,PA"),
            row("a.png,Mass,0,1,58 years,M,PA"),
            row("a.png,Mass,0,1,58,X,PA"),
            row("a.png,Mass,0,1,58,M,lateral"),
            row("../../a.png,Mass,0,1,58,M,PA"),
            row("a.png,Mass"),
            said(&format!(
                "{HEADER}\r\na.png,Mass,0,1,58,M,PA\r\nb.png,Mass,0,1,58,M,PA\r\na.png,Mass,0,1,58,M,PA\r\n"
            )),
            entries(Path::new("raw/x.csv"), b"Image Index\n\xff\xfe\n").unwrap_err().to_string(),
        ];
        insta::assert_snapshot!(messages.join("\n"));
    }

    #[test]
    fn boxes_in_three_headers_and_two_forms() {
        let expected = vec![(
            "00013118_008.png".to_owned(),
            FindingBox { finding: Finding::Infiltration, bbox: BBox::new(225.5, 547.25, 225.5 + 86.75, 547.25 + 79.5) },
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
            said("a.png,Tumour,1,2,3,4"),
        ];
        insta::assert_snapshot!(messages.join("\n"));
    }

    #[test]
    fn lists_bare_and_labelled() {
        let read = |text: &str| list(Path::new("raw/list.txt"), text.as_bytes());
        let names = |text: &str| read(text).unwrap().list.image_ids;
        let expected = ["a_0.png", "b_1.png"];
        assert_eq!(names("a_0.png\nb_1.png"), expected);
        assert_eq!(names("\u{feff}a_0.png\r\n\r\n  b_1.png  \r\n"), expected);
        assert_eq!(names("images_001/images/a_0.png\nb_1.png\n"), expected);
        let labelled = read("a_0.png 0 0 1 0 1 0 0 0 0 0 0 0 0 0\nb_1.png 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1\n").unwrap();
        assert_eq!(labelled.list.image_ids, expected);
        assert_eq!(labelled.labels, [Labels::parse("Effusion|Mass").unwrap(), Labels::default()]);
        let messages: Vec<String> = [
            "",
            "a_0.png\nb_1.jpg",
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

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..300), row in "[a.png,0-9MYD|\"\\r\\n\\[\\] é]{0,80}", headed: bool,
        ) {
            if headed {
                bytes.splice(..0, format!("{HEADER},Finding Label,x,y,w,h\n{row}").into_bytes());
            }
            let path = Path::new("x");
            let _ = (entries(path, &bytes), boxes(path, &bytes), list(path, &bytes));
        }
    }
}
