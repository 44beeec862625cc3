//! Tests only: every reader of files and requests of others, given anything.
//!
//! A [`Target`] is a function of bytes that must return: no panic, no more than 1 GB, within 10 seconds. Three things call it: libFuzzer (`just fuzz SECONDS`, programs in `fuzz_targets`), the test `corpus`
//! with what a target begins with and with every input that once broke it (`regressions/<target>`), and the test `mutated`
//! with a thousand damaged ones.
//!
//! Where a checksum stands before a parser, a target mends it: otherwise nothing behind it would ever be reached.

mod documents;
mod images;
mod requests;
mod tables;
mod texts;
mod weights;

use std::path::Path;

/// A reader, and what it is fuzzed with.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: of the program, of its folder of inputs.
    pub name: &'static str,
    /// Reads, and says whether it was right, as seeds are.
    pub read: fn(&[u8]) -> bool,
    /// Right inputs, from which wrong ones are made.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 22] = [
    Target { name: "png", read: images::png, seeds: images::png_seeds },
    Target { name: "jpeg", read: images::any, seeds: images::jpeg_seeds },
    Target { name: "dicom", read: images::any, seeds: images::dicom_seeds },
    Target { name: "jpegls", read: images::jpegls, seeds: images::jpegls_seeds },
    Target { name: "jpeg2000", read: images::jpeg2000, seeds: images::jpeg2000_seeds },
    Target { name: "lossless_jpeg", read: images::lossless_jpeg, seeds: images::lossless_jpeg_seeds },
    Target { name: "labels", read: texts::labels, seeds: texts::labels_seeds },
    Target { name: "lists", read: texts::lists, seeds: texts::lists_seeds },
    Target { name: "boxes", read: texts::boxes, seeds: texts::boxes_seeds },
    Target { name: "folder_table", read: texts::folder_table, seeds: texts::folder_table_seeds },
    Target { name: "scores", read: texts::scores, seeds: texts::scores_seeds },
    Target { name: "experts", read: texts::experts, seeds: texts::experts_seeds },
    Target { name: "archive", read: texts::archive, seeds: texts::archive_seeds },
    Target { name: "tables", read: tables::ours, seeds: tables::ours_seeds },
    Target { name: "pictures", read: tables::pictures, seeds: tables::pictures_seeds },
    Target { name: "weights", read: weights::ours, seeds: weights::ours_seeds },
    Target { name: "pth", read: weights::imported, seeds: weights::imported_seeds },
    Target { name: "pickle", read: weights::pickle, seeds: weights::pickle_seeds },
    Target { name: "manifest", read: documents::manifest, seeds: documents::manifest_seeds },
    Target { name: "config", read: documents::config, seeds: documents::config_seeds },
    Target { name: "model", read: documents::model, seeds: documents::model_seeds },
    Target { name: "http", read: requests::http, seeds: requests::http_seeds },
];

/// Gives a target an input.
///
/// # Panics
/// Where there is no target of that name; and where the target panics, which is a finding.
pub fn run(name: &str, bytes: &[u8]) {
    (target(name).read)(bytes);
}

/// Writes what a target begins with, its seeds and what broke it once, into the folder that the variable `AGCNN_CORPUS`
/// names.
///
/// # Panics
/// Where there is no target of that name, or the folder cannot be written.
pub fn plant(name: &str) {
    let Some(folder) = std::env::var_os("AGCNN_CORPUS") else { return };
    for (index, seed) in (target(name).seeds)().iter().enumerate() {
        put(Path::new(&folder), &format!("seed-{index:03}"), seed);
    }
    for (name, bytes) in regressions(name) {
        put(Path::new(&folder), &name, &bytes);
    }
}

fn target(name: &str) -> Target {
    TARGETS.into_iter().find(|target| target.name == name).unwrap_or_else(|| panic!("{name} is no target"))
}

/// Inputs that broke a target once, by name.
///
/// # Panics
/// Where they cannot be read.
pub fn regressions(target: &str) -> Vec<(String, Vec<u8>)> {
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target))
}

/// The files of a folder by name, sorted; none where there is no folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs_err::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a folder can be listed").path()).collect();
    paths.sort();
    let named = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, fs_err::read(path).expect("a file can be read"))
    };
    paths.iter().filter(|path| path.is_file()).map(named).collect()
}

/// A folder of one input, in memory where `TMPDIR` is.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

/// Puts a file into a folder.
fn put(folder: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    fs_err::write(&path, bytes).expect("a temporary file can be written");
    path
}
