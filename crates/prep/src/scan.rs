//! What lies in a folder: images, archives of images, tables, and the rest, which is counted.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::Error;
use labels::names::stem;

/// How deep below the root files may lie: more than any dataset needs.
const DEPTH: usize = 64;
/// Folders that systems and not people make, in which no dataset lies.
const FOREIGN: [&str; 6] =
    ["lost+found", "System Volume Information", "$RECYCLE.BIN", "RECYCLER", "__MACOSX", "@eaDir"];
/// Why they are passed over.
const NO_PART: &str = "no part of a dataset";
/// What the names of archives end with that are read.
const ARCHIVES: [&str; 3] = [".tar.gz", ".tgz", ".tar"];
/// What the names of tables end with.
const TABLES: [&str; 2] = [".csv", ".csv.gz"];

/// An image's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Path relative to the dataset's root, with `/`; of an image in an archive, behind that of the archive.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Last change, in nanoseconds since 1970; of an image in an archive, that of the archive.
    pub modified_ns: u128,
    /// Where it lies in an archive; `None` for a file of its own.
    pub packed: Option<Packed>,
    /// The mark that an object store puts on the contents; `None` on disk.
    pub(crate) tag: Option<String>,
    /// Device and inode: two paths to one file have the same.
    pub(crate) inode: (u64, u64),
}

/// An image's place in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// How many bytes of [`File::path`] are the path of the archive.
    pub(crate) archive: usize,
    /// The entry's number in the archive, from 0.
    pub(crate) entry: u64,
    /// BLAKE3 of its contents.
    pub(crate) blake3: blake3::Hash,
}

impl File {
    /// The path of the archive that it lies in, relative to the root.
    pub fn archive(&self) -> Option<&str> {
        self.packed.as_ref().map(|packed| &self.path[..packed.archive])
    }
}

/// All files of a folder.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Files with the ending of an image, by path.
    pub(crate) images: Vec<File>,
    /// Images in archives that nobody wanted.
    pub(crate) packed: Vec<File>,
    /// Archives that can be read, by path.
    pub(crate) archives: Vec<File>,
    /// Paths of tables.
    pub(crate) tables: Vec<String>,
    /// All other files by their ending, and how many there are.
    pub(crate) others: BTreeMap<String, usize>,
    /// Links that lead nowhere.
    pub(crate) dead: usize,
    /// Folders that were passed over, and why.
    pub(crate) passed: Vec<(String, String)>,
}

/// Looks through a folder. Hidden files are left out. Links are followed, each target once and never back into the folder
/// or above it. Folders that may not be read, and those that systems make, are passed over.
///
/// # Errors
/// The folder itself cannot be read; [`Error::Interrupted`].
pub(crate) fn scan(root: &Path) -> Result<Scan, Error> {
    if files::is_remote(root) { listed(root) } else { walked(root) }
}

/// The files of a folder in an object store, of which there is a list.
fn listed(root: &Path) -> Result<Scan, Error> {
    let mut found = Scan::default();
    let mut passed = BTreeSet::new();
    for (number, object) in (0..).zip(files::objects(root)?) {
        let files::Object { path, bytes, modified_ns, tag } = object;
        let (folders, _) = path.rsplit_once('/').unwrap_or_default();
        if path.split('/').any(|part| part.starts_with('.')) || folders.split('/').count() > DEPTH {
            continue;
        }
        if let Some(foreign) = folders.split('/').position(|part| FOREIGN.contains(&part)) {
            let parts: Vec<&str> = folders.split('/').take(foreign + 1).collect();
            passed.insert(parts.join("/"));
            continue;
        }
        // No two objects are the same file.
        found.add(File { path, bytes, modified_ns, packed: None, tag, inode: (u64::MAX, number) });
    }
    found.passed = passed.into_iter().map(|path| (path, NO_PART.to_owned())).collect();
    found.sort();
    Ok(found)
}

/// The files of a folder on disk.
fn walked(root: &Path) -> Result<Scan, Error> {
    let mut found = Scan::default();
    let root = &fs_err::canonicalize(root)?;
    let mut linked = HashSet::new();
    let mut folders = vec![(root.to_owned(), String::new(), 1)];
    let mut progress = stage::progress(0, "files found");
    while let Some((folder, prefix, depth)) = folders.pop() {
        let entries = match fs_err::read_dir(&folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>) {
            Err(error) if !prefix.is_empty() => {
                found.passed.push((prefix.trim_end_matches('/').to_owned(), cause(&error)));
                continue;
            }
            entries => entries?,
        };
        for entry in entries {
            progress.inc(1);
            if stage::interrupted() {
                return Err(Error::Interrupted);
            }
            // A name that is not text is in no table; hidden files are leftovers of archivers.
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let path = format!("{prefix}{name}");
            let Ok(about) = fs_err::metadata(entry.path()) else {
                found.dead += 1;
                continue;
            };
            if !about.is_dir() {
                found.file(path, &about);
                continue;
            }
            if FOREIGN.contains(&name.as_str()) {
                found.passed.push((path, NO_PART.to_owned()));
                continue;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                let Ok(target) = fs_err::canonicalize(entry.path()) else { continue };
                let here = target.starts_with(root) || root.starts_with(&target);
                if here || !linked.insert(target) {
                    continue;
                }
            }
            if depth < DEPTH {
                folders.push((entry.path(), format!("{path}/"), depth + 1));
            }
        }
    }
    progress.finish();
    found.sort();
    Ok(found)
}

/// What the system says, without the path that `fs_err` puts in front.
fn cause(error: &std::io::Error) -> String {
    error.kind().to_string()
}

impl Scan {
    fn file(&mut self, path: String, about: &std::fs::Metadata) {
        if !about.is_file() {
            *self.others.entry("special".to_owned()).or_default() += 1;
            return;
        }
        let modified = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        self.add(File {
            path,
            bytes: about.len(),
            modified_ns: modified.map_or(0, |since| since.as_nanos()),
            packed: None,
            tag: None,
            inode: (about.dev(), about.ino()),
        });
    }

    /// Puts a file where its name says that it belongs.
    fn add(&mut self, file: File) {
        let name = file.path.rsplit('/').next().unwrap_or(&file.path);
        let lower = name.to_ascii_lowercase();
        let ends = |endings: &[&str]| endings.iter().any(|ending| lower.ends_with(ending));
        if stem(name).is_some() {
            self.images.push(file);
        } else if ends(&ARCHIVES) {
            self.archives.push(file);
        } else if ends(&TABLES) {
            self.tables.push(file.path);
        } else {
            let ending = lower.rsplit_once('.').map_or("", |(_, ending)| ending);
            *self.others.entry(ending.chars().take(12).collect()).or_default() += 1;
        }
    }

    fn sort(&mut self) {
        self.images.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.archives.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.tables.sort_unstable();
        self.passed.sort_unstable();
    }

    /// What is there, for a message about what is not: `40 .jpg (pics/a.jpg, ...), 3 .zip`.
    pub(crate) fn census(&self) -> String {
        let mut kinds: BTreeMap<String, (usize, &str)> = BTreeMap::new();
        let mut images: Vec<&File> = self.images.iter().chain(&self.packed).collect();
        images.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        for file in images {
            let ending = file.path.rsplit_once('.').map_or("", |(_, ending)| ending);
            let kind = kinds.entry(format!(".{ending}")).or_insert((0, &file.path));
            kind.0 += 1;
        }
        let mut parts: Vec<String> =
            kinds.into_iter().map(|(ending, (count, first))| format!("{count} {ending} ({first})")).collect();
        if let Some(first) = self.archives.first() {
            parts.push(format!("{} archives ({})", self.archives.len(), first.path));
        }
        let others = self.others.iter().filter(|(ending, _)| !ending.is_empty() && *ending != "txt");
        parts.extend(others.take(8).map(|(ending, count)| format!("{count} .{ending}")));
        if self.dead > 0 {
            parts.push(format!("{} links that lead nowhere", self.dead));
        }
        if parts.is_empty() { "neither an image nor an archive".to_owned() } else { parts.join(", ") }
    }

    /// What the log says of it.
    pub(crate) fn notes(&self) -> Vec<String> {
        if self.passed.is_empty() {
            return Vec::new();
        }
        let some: Vec<String> = self.passed.iter().take(5).map(|(path, why)| format!("{path} ({why})")).collect();
        vec![format!("folders passed over: {}, {}", self.passed.len(), some.join(", "))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_by_their_extension_in_any_case() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs_err::create_dir_all(root.join("a/b/c/d/e/f")).unwrap();
        fs_err::create_dir_all(root.join("lost+found")).unwrap();
        let images = ["1.png", "2.PNG", "a/3.jpg", "a/4.Jpeg", "a/b/5.dcm", "a/b/c/d/e/f/6.DICOM"];
        let others = ["7.txt", "png", ".8.png", "a/9.dcm.gz", "a/x.tar.gz", "a/y.CSV", "lost+found/10.png"];
        for path in images.into_iter().chain(others) {
            fs_err::write(root.join(path), path).unwrap();
        }
        let up = fs_err::os::unix::fs::symlink("..", root.join("a/up"));
        up.and_then(|()| fs_err::os::unix::fs::symlink("nowhere", root.join("dead.png"))).unwrap();
        let found = scan(root).unwrap();
        assert_eq!(found.images.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), images);
        assert_eq!((found.archives[0].path.as_str(), found.tables[0].as_str()), ("a/x.tar.gz", "a/y.CSV"));
        assert_eq!(found.notes(), ["folders passed over: 1, lost+found (no part of a dataset)"]);
        assert_eq!(
            found.census(),
            "1 .DICOM (a/b/c/d/e/f/6.DICOM), 1 .Jpeg (a/4.Jpeg), 1 .PNG (2.PNG), 1 .dcm (a/b/5.dcm), 1 .jpg (a/3.jpg), \
             1 .png (1.png), 1 archives (a/x.tar.gz), 1 .gz, 1 links that lead nowhere"
        );
    }
}
