//! Small datasets in NIH's shape.

use std::io::Write;
use std::path::{Path, PathBuf};

use e2e::{Pipeline, Ran, contents};
use flate2::Compression;
use flate2::write::GzEncoder;
use fs_err as fs;
use picture::Grey;
use tables::images::Row;

/// A folder `raw` in a pipeline's: 20 patients with two images each, of which the last five are on the test list.
pub(crate) struct Case {
    pub(crate) pipeline: Pipeline,
}

pub(crate) const TABLE: &str = "raw/Data_Entry_2017_v2020.csv";
pub(crate) const TRAIN_VAL: &str = "raw/train_val_list.txt";
pub(crate) const TEST: &str = "raw/test_list.txt";
pub(crate) const IMAGES: &str = "raw/images_001/images";

/// The images' names, in order.
pub(crate) fn names() -> Vec<String> {
    (1..=20).flat_map(|patient| (0..2).map(move |image| format!("{patient:08}_{image:03}.png"))).collect()
}

/// A picture of noise, another one for every number.
pub(crate) fn noise(number: u32) -> Grey {
    let mut state = number.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut pixel = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    Grey { width: 32, height: 32, pixels: (0..32 * 32).map(|_| pixel()).collect() }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

impl Case {
    pub(crate) fn new() -> Case {
        let case = Case { pipeline: Pipeline::new() };
        fs::create_dir_all(case.path(IMAGES)).unwrap();
        let mut table = String::from(
            "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,\
             OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n",
        );
        for (index, name) in (0_u32..).zip(names()) {
            let findings =
                ["No Finding", "Mass|Pleural_Thickening", "Effusion", "No Finding", "Hernia"][index as usize % 5];
            let (sex, view) = (["M", "F"][index as usize % 2], ["PA", "AP"][index as usize / 2 % 2]);
            table += &format!(
                "{name},{findings},{},{},{},{sex},{view},2500,2048,0.168,0.168\n",
                index % 2,
                index / 2 + 1,
                30 + index
            );
            fs::write(case.path(IMAGES).join(name), noise(index).encode()).unwrap();
        }
        let all = names();
        case.write(TABLE, table.as_bytes());
        case.write(TRAIN_VAL, all[..30].join("\n").as_bytes());
        case.write(TEST, all[30..].join("\n").as_bytes());
        case
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.pipeline.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Changes a text.
    pub(crate) fn edit(&self, name: &str, change: impl FnOnce(String) -> String) {
        let text = change(self.text(name));
        self.write(name, text.as_bytes());
    }

    /// Changes the cells of all rows of the table but its first, which is the header.
    pub(crate) fn rows(&self, change: impl Fn(usize, &mut Vec<String>)) {
        self.edit(TABLE, |text| {
            let rows = text.lines().enumerate().map(|(row, line)| {
                let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
                if row > 0 {
                    change(row - 1, &mut cells);
                }
                cells.join(",") + "\n"
            });
            rows.collect()
        });
    }

    /// Runs `prep` with these settings on `raw`.
    pub(crate) fn prep(&self, settings: &[&str]) -> Ran {
        let set = ["prep.root=raw"].iter().chain(settings).flat_map(|setting| ["--set", setting]);
        self.pipeline.stage("prep", &set.collect::<Vec<_>>())
    }

    /// The rows that `prep` wrote, sorted by image.
    pub(crate) fn prepared(&self) -> Vec<Row> {
        let folder = self.pipeline.published("default", "prep").join("images");
        let files: Vec<PathBuf> = contents(&folder).into_keys().map(|name| folder.join(name)).collect();
        let mut rows = Vec::new();
        tables::images::read(&files, |row| -> Result<(), tables::Error> {
            rows.push(row);
            Ok(())
        })
        .unwrap();
        rows.sort_by(|a, b| a.record.image_id.cmp(&b.record.image_id));
        rows
    }

    /// Runs `prep`, which must succeed, and returns its rows and what it said.
    #[track_caller]
    pub(crate) fn good(&self, settings: &[&str]) -> (Vec<Row>, String) {
        let ran = self.prep(settings).expect(0);
        (self.prepared(), ran.stderr)
    }

    /// Runs `prep`, which must end with this code, and returns what it said.
    #[track_caller]
    pub(crate) fn bad(&self, code: i32, settings: &[&str]) -> String {
        self.prep(settings).expect(code).stderr
    }

    /// Packs the images into an archive `raw/<name>`, in the order of `names`, and removes their files.
    pub(crate) fn pack(&self, name: &str, names: &[String]) {
        let mut tar = tar::Builder::new(Vec::new());
        for name in names {
            tar.append_path_with_name(self.path(IMAGES).join(name), format!("images/{name}")).unwrap();
        }
        self.write(&format!("raw/{name}"), &gzip(&tar.into_inner().unwrap()));
        for name in names {
            fs::remove_file(self.path(IMAGES).join(name)).unwrap();
        }
    }
}

/// What the rows say but for where their files lie.
pub(crate) fn said(rows: Vec<Row>) -> Vec<Row> {
    rows.into_iter().map(|row| Row { path: String::new(), ..row }).collect()
}

/// Moves all files of one folder into another.
pub(crate) fn move_all(from: &Path, to: &Path, name: impl Fn(&str) -> String) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::rename(entry.path(), to.join(name(entry.file_name().to_str().unwrap()))).unwrap();
    }
}
