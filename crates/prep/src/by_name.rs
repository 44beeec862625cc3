//! The files of images by their names, wherever they lie and whatever they end with.

use std::collections::HashMap;
use std::path::Path;

use crate::Error;
use crate::same::same;
use crate::scan::File;
use labels::names::{image_name, known_by};

/// Files by what their images are known by.
#[derive(Debug, Default)]
pub(crate) struct ByName(HashMap<String, Vec<File>>);

impl ByName {
    pub(crate) fn new(files: Vec<File>) -> ByName {
        let mut by_name: HashMap<String, Vec<File>> = HashMap::new();
        for file in files {
            if let Some(name) = image_name(&file.path) {
                by_name.entry(known_by(&name).to_owned()).or_default().push(file);
            }
        }
        ByName(by_name)
    }

    /// All files that nobody took.
    pub(crate) fn into_files(self) -> Vec<File> {
        self.0.into_values().flatten().collect()
    }

    /// The files that may be an image, which are no longer here: those that are called exactly so, or else so but for
    /// the case of their ending, or else those with another ending.
    pub(crate) fn take(&mut self, image_id: &str) -> Vec<File> {
        let mut files = self.0.remove(known_by(image_id)).unwrap_or_default();
        let rank = |file: &File| match file.path.rsplit('/').next() {
            Some(name) if image_name(name).as_deref() == Some(image_id) => 0,
            Some(name) if name.to_lowercase() == image_id.to_lowercase() => 1,
            _ => 2,
        };
        let best = files.iter().map(rank).min();
        files.retain(|file| Some(rank(file)) == best);
        files
    }
}

/// The one file of an image.
///
/// # Errors
/// [`Error::TwoFiles`] where there are several with different contents.
pub(crate) fn only(root: &Path, image_id: &str, mut files: Vec<File>) -> Result<Option<File>, Error> {
    let candidates: Vec<&File> = files.iter().collect();
    let other = match candidates.first().and_then(|first| first.packed.as_ref()) {
        Some(first) => candidates.iter().position(|file| file.packed.as_ref().is_none_or(|p| p.blake3 != first.blake3)),
        None if candidates.len() > 1 => same(root, &candidates),
        None => None,
    };
    if let Some(other) = other {
        let (first, second) = (files[0].path.clone(), files[other].path.clone());
        return Err(Error::TwoFiles { root: root.to_owned(), image_id: image_id.to_owned(), first, second });
    }
    Ok(if files.is_empty() { None } else { Some(files.swap_remove(0)) })
}
