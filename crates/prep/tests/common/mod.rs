//! What the tests of this crate share.

#![allow(dead_code, unreachable_pub)] // each test uses a part

use std::path::{Path, PathBuf};

use cxr::SplitKind;
use fs_err as fs;
use picture::Grey;
use prep::{Config, Dataset, Error};

/// The embedded defaults with another split.
pub fn config(split: SplitKind) -> Config {
    let defaults: toml::Table = include_str!("../../default.toml").parse().unwrap();
    let config: Config = defaults["prep"].clone().try_into().unwrap();
    Config { split, ..config }
}

/// The folder with NIH's own files, for the tests that `just test-nih` runs.
///
/// # Panics
/// Where `AGCNN_NIH` names no folder.
pub fn nih_folder() -> PathBuf {
    let folder = std::env::var_os("AGCNN_NIH").map(PathBuf::from).expect("AGCNN_NIH names the folder with NIH's files");
    assert!(folder.is_dir(), "AGCNN_NIH: {} is not a folder", folder.display());
    folder
}

/// A small dataset: patients 1 to 10, two images each, the later five patients on the test list.
pub fn small() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("images_001/images")).unwrap();
    let (mut table, mut lists) = (
        String::from("Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Sex,View Position,\r\n"),
        [String::new(), String::new()],
    );
    for i in 0..20u32 {
        let patient = i / 2 + 1;
        let name = format!("{patient:08}_{:03}.png", i % 2);
        let findings = if i % 3 == 0 { "Mass|Effusion" } else { "No Finding" };
        table += &format!("{name},{findings},{},{patient:08},050Y,F,AP\r\n", i % 2);
        lists[usize::from(patient > 5)] += &format!("{name}\r\n");
        let grey = Grey { width: 20, height: 20, pixels: vec![i as u8 * 10; 400] };
        fs::write(root.join("images_001/images").join(name), grey.encode()).unwrap();
    }
    fs::write(root.join("Data_Entry_2017.csv"), table).unwrap();
    fs::write(root.join("train_val_list.txt"), lists[0].trim_end()).unwrap();
    fs::write(root.join("test_list.txt"), &lists[1]).unwrap();
    let boxes = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000009_001.png,Infiltrate,64,128,256,512\n00000099_001.png,Mass,1,1,2,2\n";
    fs::write(root.join("BBox_List_2017.csv"), boxes).unwrap();
    folder
}

/// Reads a folder; nothing about archives is remembered.
pub fn dataset(root: &Path, config: &Config) -> Result<Dataset, Error> {
    Dataset::read(root, config, &|_, compute| compute())
}
