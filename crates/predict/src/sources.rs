//! What a user names, as images: files, folders, tables, a list on stdin.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::BufRead;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use stage::warn;

use crate::error::Error;

/// An image that is to be asked about, or several in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// Whether the user named the file itself: what was found in a folder and is no image is passed over.
    pub named: bool,
}

impl Source {
    /// Whether it is a Parquet table: a file with that ending.
    pub fn is_table(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet")) && self.path.is_file()
    }
}

/// All that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// In the order in which they are asked about.
    pub files: Vec<Source>,
    /// Folders that could not be read, named in the log.
    pub unreadable: usize,
}

/// All files that `arguments` name, in their order; `-` stands for a list of paths in `list`, one a line. Folders are
/// walked to any depth, sorted, hidden files left out, and links to folders followed once.
///
/// # Errors
/// [`Error::NoImages`] where nothing is left; a list that cannot be read.
pub fn sources(arguments: &[PathBuf], list: &mut dyn BufRead) -> Result<Sources, Error> {
    let mut found = Sources::default();
    for argument in arguments {
        if argument.as_os_str() == "-" {
            for line in list.split(b'\n') {
                let line = line?;
                // A path is bytes, of whatever encoding.
                let path = line.strip_suffix(b"\r").unwrap_or(&line);
                if !path.trim_ascii().is_empty() {
                    add(Path::new(OsStr::from_bytes(path)), &mut found);
                }
            }
        } else {
            add(argument, &mut found);
        }
    }
    if found.files.is_empty() && found.unreadable == 0 {
        let named: Vec<String> = arguments.iter().map(|path| shown(path)).collect();
        let what =
            if named.is_empty() { "none were named".to_owned() } else { format!("none in {}", named.join(", ")) };
        return Err(Error::NoImages { what });
    }
    Ok(found)
}

/// A file, or all files of a folder. What is not there stays in the list: it is an error of its own later.
fn add(path: &Path, found: &mut Sources) {
    if path.is_dir() {
        walk(path, found);
    } else {
        found.files.push(Source { path: path.to_owned(), named: true });
    }
}

fn walk(root: &Path, found: &mut Sources) {
    let (mut folders, mut seen) = (vec![root.to_owned()], HashSet::new());
    while let Some(folder) = folders.pop() {
        let Ok(about) = fs_err::metadata(&folder) else { continue };
        if !seen.insert((about.dev(), about.ino())) {
            continue;
        }
        let entries = fs_err::read_dir(&folder);
        let paths = entries.and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>());
        let mut paths = match paths {
            Ok(paths) => paths,
            Err(error) => {
                found.unreadable += 1;
                warn!("bad folder: {}", shown(Path::new(&error.to_string())));
                continue;
            }
        };
        paths.retain(|path| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")));
        paths.sort();
        let (deeper, files): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.is_dir());
        found.files.extend(files.into_iter().map(|path| Source { path, named: false }));
        folders.extend(deeper.into_iter().rev());
    }
}

/// A path for people: what a terminal would obey is escaped.
pub fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(arguments: &[&Path], list: &str) -> Vec<String> {
        let arguments: Vec<PathBuf> = arguments.iter().map(|path| path.to_path_buf()).collect();
        let found = sources(&arguments, &mut list.as_bytes()).unwrap();
        found.files.iter().map(|source| source.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn folders_are_walked_and_lists_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs_err::create_dir_all(root.join("b/c")).unwrap();
        for name in ["z.png", "a ä.dcm", ".hidden.png", "b/2.jpg", "b/c/3.png"] {
            fs_err::write(root.join(name), name).unwrap();
        }
        symlink(root, root.join("b/loop")).unwrap();
        assert_eq!(names(&[root], ""), ["a ä.dcm", "z.png", "2.jpg", "3.png"]);
        assert_eq!(names(&[Path::new("-")], "x/1.png\r\n\n  \ny.dcm\n"), ["1.png", "y.dcm"]);
        let of_bytes = sources(&[PathBuf::from("-")], &mut &b"\xff \xfe.png\n"[..]).unwrap();
        assert_eq!(of_bytes.files[0].path.as_os_str().as_bytes(), b"\xff \xfe.png");
        let error = sources(&[], &mut "".as_bytes()).unwrap_err().to_string();
        assert_eq!(error, "no images: none were named");
    }

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        assert_eq!(shown(Path::new("a\x1b[31m\n.png")), "a\\u{1b}[31m\\n.png");
        assert_eq!(shown(Path::new("Thoräx 1.png")), "Thoräx 1.png");
    }
}
