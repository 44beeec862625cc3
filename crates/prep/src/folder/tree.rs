//! The images of a folder, found by whatever a table calls them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::Error;
use crate::scan::File;

/// Endings of image files.
const ENDINGS: [&str; 5] = ["png", "jpg", "jpeg", "dcm", "dicom"];
/// How deep below the root images may lie.
const DEPTH: usize = 16;

/// All image files of a folder.
#[derive(Debug, Default)]
pub(crate) struct Tree {
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
    /// Looks through the folder. Hidden files are left out; links that lead out of the folder are followed.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub(crate) fn scan(root: &Path) -> Result<Tree, Error> {
        let mut tree = Tree::default();
        // What links lead to, each once: a link into the folder itself shows no file that is not found without it.
        let root = &fs_err::canonicalize(root)?;
        let mut linked = HashSet::new();
        let mut folders = vec![(root.to_owned(), String::new(), 1)];
        while let Some((folder, prefix, depth)) = folders.pop() {
            for entry in fs_err::read_dir(&folder)? {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                let Ok(about) = fs_err::metadata(entry.path()) else { continue };
                if name.starts_with('.') {
                    continue;
                }
                let path = format!("{prefix}{name}");
                let is_link = entry.file_type()?.is_symlink();
                if about.is_dir() && is_link {
                    let target = fs_err::canonicalize(entry.path())?;
                    let here = target.starts_with(root) || root.starts_with(&target);
                    if here || !linked.insert(target) {
                        continue;
                    }
                }
                if about.is_dir() && depth < DEPTH {
                    folders.push((entry.path(), format!("{path}/"), depth + 1));
                } else if about.is_file() && stem(&name).is_some() {
                    let modified = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                    let modified_ns = modified.map_or(0, |since| since.as_nanos());
                    tree.add(File { path, bytes: about.len(), modified_ns });
                }
            }
        }
        for paths in tree.stems.values_mut().chain(tree.names.values_mut()) {
            paths.sort_by_key(|path| (rank(path), path.clone()));
        }
        Ok(tree)
    }

    fn add(&mut self, file: File) {
        let path = file.path.clone();
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
    /// (`CheXpert-v1.0-small/train/...`), or its name wherever it lies; each with its ending or without.
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
        match self.names.get(name).map(Vec::as_slice) {
            Some([path]) => Found::File(path.clone()),
            Some([first, second, ..]) => Found::Several([first.clone(), second.clone()]),
            _ => Found::Nothing,
        }
    }

    /// The file at a path, which is no longer in the tree.
    pub(crate) fn take(&mut self, path: &str) -> Option<File> {
        self.files.remove(path)
    }
}

/// A name without the ending of an image file; `None` where it has none.
fn stem(name: &str) -> Option<&str> {
    let (stem, ending) = name.rsplit_once('.')?;
    let is_image = ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known));
    (is_image && !stem.is_empty() && !stem.ends_with('/')).then_some(stem)
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
    whole.then(|| path.to_owned())
}
