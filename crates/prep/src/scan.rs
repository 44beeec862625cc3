//! The images' files on disk.

use std::collections::HashMap;
use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::Error;

/// What the names of images end with, in any case; what is in them is found out when they are read.
const EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "dcm", "dicom"];

/// How deep below the root images may lie: `images_001/images/x.png` is 3.
const DEPTH: usize = 3;

/// An image's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Path relative to the dataset's root, with `/`.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Last change, in nanoseconds since 1970.
    pub modified_ns: u128,
}

/// All files with a name of an image at most [`DEPTH`] levels below `root`, by name.
pub(crate) fn scan(root: &Path) -> Result<HashMap<String, File>, Error> {
    let mut files: HashMap<String, File> = HashMap::new();
    let mut folders = vec![(root.to_owned(), String::new(), 1)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        for entry in fs_err::read_dir(&folder)? {
            let entry = entry?;
            // A name that is not text is in no table; hidden files are leftovers of archivers.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            let extension = Path::new(&name).extension();
            let is_image = extension.is_some_and(|ext| EXTENSIONS.iter().any(|known| ext.eq_ignore_ascii_case(known)));
            let is_link = entry.file_type()?.is_symlink();
            if !is_image && !is_link && !entry.file_type()?.is_dir() {
                continue;
            }
            // Follows links: datasets are often linked into place.
            let Ok(about) = fs_err::metadata(entry.path()) else {
                continue;
            };
            let path = format!("{prefix}{name}");
            if about.is_dir() && depth < DEPTH {
                folders.push((entry.path(), format!("{path}/"), depth + 1));
            } else if about.is_file() && is_image {
                let modified = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                let modified_ns = modified.map_or(0, |since| since.as_nanos());
                let file = File { path, bytes: about.len(), modified_ns };
                if let Some(other) = files.insert(name.clone(), file) {
                    let mut paths = [other.path, files[&name].path.clone()];
                    paths.sort();
                    let [first, second] = paths;
                    return Err(Error::TwoFiles { root: root.to_owned(), image_id: name, first, second });
                }
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_by_their_extension_in_any_case() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs_err::create_dir_all(root.join("a/b")).unwrap();
        let images = ["1.png", "2.PNG", "a/3.jpg", "a/4.Jpeg", "a/b/5.dcm", "a/b/6.DICOM"];
        for path in images.into_iter().chain(["7.txt", "png", ".8.png", "a/9.dcm.gz"]) {
            fs_err::write(root.join(path), path).unwrap();
        }
        let mut found: Vec<String> = scan(root).unwrap().into_values().map(|file| file.path).collect();
        found.sort();
        assert_eq!(found, images);
    }
}
