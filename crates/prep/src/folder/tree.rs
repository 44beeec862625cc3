//! The images of a folder, found by whatever a table calls them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use crate::same::same;
use crate::scan::File;
use labels::names::{ENDINGS, composed, stem};

/// All image files of a folder. Their paths are composed letters, as those of the table are.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    root: PathBuf,
    /// By path relative to the root, with `/`.
    files: BTreeMap<String, File>,
    /// The same paths without their ending.
    stems: HashMap<String, Vec<String>>,
    /// The same paths by their last part, with and without its ending.
    names: HashMap<String, Vec<String>>,
}

/// What a table's name of an image means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// This file, relative to the root.
    File(String),
    /// One of several, of which these are two.
    Several([String; 2]),
    /// None.
    Nothing,
}

impl Tree {
    /// A tree of these files, whose paths start from `root`.
    pub(crate) fn new(root: &Path, files: Vec<File>) -> Tree {
        let mut tree = Tree { root: root.to_owned(), ..Tree::default() };
        for file in files {
            tree.add(file);
        }
        for paths in tree.stems.values_mut().chain(tree.names.values_mut()) {
            paths.sort_by_key(|path| (rank(path), path.clone()));
        }
        tree
    }

    fn add(&mut self, file: File) {
        let path = composed(&file.path);
        let name = path.rsplit('/').next().unwrap_or(&path);
        if let Some(stem) = stem(&path) {
            self.stems.entry(stem.to_owned()).or_default().push(path.clone());
        }
        for key in [Some(name), stem(name)].into_iter().flatten() {
            self.names.entry(key.to_owned()).or_default().push(path.clone());
        }
        self.files.insert(path, file);
    }

    /// The file that a table calls `name`: its path below the root, its path behind folders that are not there
    /// (`CheXpert-v1.0-small/train/...`), or its name wherever it lies; each with its ending or without. Files that are
    /// equal are one.
    pub(super) fn find(&self, name: &str) -> Found {
        let mut rest = name;
        loop {
            if self.files.contains_key(rest) {
                return Found::File(rest.to_owned());
            }
            if let Some(path) = self.stems.get(rest).and_then(|paths| paths.first()) {
                return Found::File(path.clone());
            }
            let Some((_, behind)) = rest.split_once('/') else { break };
            rest = behind;
        }
        // A path that leads nowhere is not there; only a bare name is looked for everywhere.
        let Some(paths) = self.names.get(name) else { return Found::Nothing };
        let files = paths.iter().map(|path| &self.files[path]);
        let other = same(&self.root, &files.collect::<Vec<_>>());
        match (paths.as_slice(), other) {
            ([first, ..], None) => Found::File(first.clone()),
            ([first, ..], Some(other)) => Found::Several([first.clone(), paths[other].clone()]),
            ([], _) => Found::Nothing,
        }
    }

    /// All files that nobody took.
    pub(crate) fn into_files(self) -> impl Iterator<Item = File> {
        self.files.into_values()
    }

    /// The file at a path, which is no longer in the tree.
    pub(crate) fn take(&mut self, path: &str) -> Option<File> {
        self.files.remove(path)
    }
}

/// Which ending is tried first.
fn rank(path: &str) -> usize {
    let ending = path.rsplit('.').next().unwrap_or("");
    ENDINGS.iter().position(|known| ending.eq_ignore_ascii_case(known)).unwrap_or(ENDINGS.len())
}

/// A path as tables write it, with `/`, without `./` in front; `None` where it is none or could lead out of the folder.
pub(super) fn plain(text: &str) -> Option<String> {
    let path = text.replace('\\', "/");
    let path = path.trim_start_matches("./").trim_start_matches('/');
    let whole =
        !path.is_empty() && !path.contains('\0') && path.split('/').all(|part| !part.is_empty() && part != "..");
    whole.then(|| composed(path))
}
