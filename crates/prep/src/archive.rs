//! Images in archives as NIH ships them (`images_001.tar.gz`), read in one pass and never unpacked to disk.
//!
//! Nothing in an archive is believed: it becomes at most [`MOST_TIMES`] as large when unpacked, an image has at most
//! [`picture::MAX_BYTES`], names are short, and only the ending of a name matters, for nothing is written under it.

use std::collections::BTreeMap;
use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tar::{Archive, EntryType};

use crate::Error;
use crate::scan::{File, Packed};
use labels::names::stem;

/// How much larger an archive may become; DICOM files with black margins shrink most, to a tenth or so.
const MOST_TIMES: u64 = 100;
/// What any archive may become, however small it is.
const LEAST: u64 = 64 << 20;
/// The longest name of an entry, bytes.
const LONGEST_NAME: u64 = 4096;
/// Bytes read of the file at a time.
const BUFFER: usize = 1 << 20;

/// What is left of an archive: tells how much of the file was read, and ends where too much came out.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            let problem = format!("it becomes more than {MOST_TIMES} times as large when unpacked");
            return Err(std::io::Error::other(problem));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}

/// Counts what was read of the file.
struct Counted {
    inner: BufReader<Box<dyn Read + Send>>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

type Opened = Archive<Bounded<Box<dyn Read + Send>>>;

fn open(path: &Path, read: Arc<AtomicU64>) -> std::io::Result<Opened> {
    let files::Opened { mut contents, bytes } = files::open(path)?;
    let mut magic = Vec::new();
    contents.by_ref().take(2).read_to_end(&mut magic)?;
    let packed = magic == [0x1f, 0x8b];
    let whole: Box<dyn Read + Send> = Box::new(Cursor::new(magic).chain(contents));
    let counted = Counted { inner: BufReader::with_capacity(BUFFER, whole), read };
    let inner: Box<dyn Read + Send> =
        if packed { Box::new(flate2::read::MultiGzDecoder::new(counted)) } else { Box::new(counted) };
    Ok(Archive::new(Bounded { inner, left: bytes.saturating_mul(MOST_TIMES).max(LEAST) }))
}

/// Calls `each` with the number, name and bytes of every image that `wanted` takes by its number and name, in their
/// order, until it says to stop.
fn walk(
    archive: &mut Opened,
    mut wanted: impl FnMut(u64, &str) -> bool,
    mut each: impl FnMut(u64, &str, &mut dyn Read, u64) -> std::io::Result<bool>,
) -> std::io::Result<()> {
    let mut long_name: Option<String> = None;
    // Raw: long names are read here, where they are bounded.
    for (number, entry) in (0..).zip(archive.entries()?.raw(true)) {
        let mut entry = entry?;
        let bytes = entry.size();
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::GNULongName | EntryType::XHeader) {
            let mut text = Vec::new();
            entry.by_ref().take(LONGEST_NAME).read_to_end(&mut text)?;
            let text = String::from_utf8_lossy(&text).into_owned();
            long_name = if kind == EntryType::XHeader { pax_path(&text) } else { Some(text) }.or(long_name);
            continue;
        }
        let short = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = long_name.take().unwrap_or(short);
        let name = name.trim_end_matches('\0');
        if kind == EntryType::Regular && wanted(number, name) && !each(number, name, &mut entry, bytes)? {
            return Ok(());
        }
    }
    Ok(())
}

/// The path in an extended header, whose records are `LENGTH KEY=VALUE\n`.
fn pax_path(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.split_once(" path=")).map(|(_, path)| path.to_owned())
}

/// Whether an entry's name is that of an image.
fn is_image(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    stem(last).is_some() && !last.starts_with('.') && !name.contains(['\n', '\0'])
}

/// The images of an archive, as lines `ENTRY BYTES BLAKE3 NAME`: reads all of it. `read` hears how many more megabytes of
/// the file were read.
///
/// # Errors
/// [`Error::Archive`]; [`Error::Interrupted`].
pub(crate) fn index(root: &Path, archive: &File, read: &dyn Fn(u64)) -> Result<String, Error> {
    let path = root.join(&archive.path);
    let mut lines = String::new();
    let (mut images, mut said) = (0, 0);
    let bytes_read = Arc::new(AtomicU64::new(0));
    let walked = open(&path, bytes_read.clone()).and_then(|mut archive| {
        walk(
            &mut archive,
            |_, name| is_image(name),
            |number, name, contents, bytes| {
                let mut hasher = blake3::Hasher::new();
                hasher.update_reader(contents)?;
                images += 1;
                let now = bytes_read.load(Ordering::Relaxed) >> 20;
                read(now - said);
                said = now;
                lines += &format!("{number} {bytes} {} {name}\n", hasher.finalize().to_hex());
                Ok(!stage::interrupted())
            },
        )
    });
    if stage::interrupted() {
        return Err(Error::Interrupted);
    }
    walked.map_err(|error| Error::Archive { path, images, problem: error.to_string() })?;
    Ok(lines)
}

/// The images of an archive, from its index.
pub(crate) fn files(archive: &File, index: &str) -> Vec<File> {
    let file = |line: &str| {
        let mut words = line.splitn(4, ' ');
        let (entry, bytes, hash, name) = (words.next()?, words.next()?, words.next()?, words.next()?);
        Some(File {
            path: format!("{}/{}", archive.path, name.trim_start_matches("./")),
            bytes: bytes.parse().ok()?,
            modified_ns: archive.modified_ns,
            packed: Some(Packed {
                archive: archive.path.len(),
                entry: entry.parse().ok()?,
                blake3: blake3::Hash::from_hex(hash).ok()?,
            }),
            tag: archive.tag.clone(),
            inode: archive.inode,
        })
    };
    index.lines().filter_map(file).collect()
}

/// Archives in a bucket, copied into a folder: each is read once for every file of the table that has images from it, and
/// a bucket asks for money and time each time.
#[derive(Debug, Default)]
pub(crate) struct Copies(BTreeMap<String, PathBuf>);

impl Copies {
    /// Copies those of the archives that are in a bucket; each may be named many times. Those that an earlier attempt copied
    /// are taken over. What is in them is compared with its digests when it is read.
    ///
    /// # Errors
    /// An archive that cannot be read, a full disk; [`Error::Interrupted`].
    pub(crate) fn new<'a>(
        root: &Path,
        archives: impl Iterator<Item = &'a str>,
        folder: &Path,
    ) -> Result<Copies, Error> {
        let mut copies = BTreeMap::new();
        if !files::is_remote(root) {
            return Ok(Copies(copies));
        }
        for archive in archives {
            if copies.contains_key(archive) {
                continue;
            }
            let name = &blake3::hash(archive.as_bytes()).to_hex()[..16];
            let copy = folder.join(name);
            if !copy.exists() {
                stage::replace(folder, name, |part| fetch(&root.join(archive), part))?;
            }
            copies.insert(archive.to_owned(), copy);
        }
        Ok(Copies(copies))
    }

    /// Where an archive is read.
    pub(crate) fn place(&self, root: &Path, archive: &str) -> PathBuf {
        self.0.get(archive).cloned().unwrap_or_else(|| root.join(archive))
    }
}

/// Copies an archive of a bucket into a file.
fn fetch(url: &Path, to: &Path) -> Result<(), Error> {
    let files::Opened { mut contents, bytes } = files::open(url)?;
    stage::info!("copies {}, {} MB, next to the table, since it is read several times", url.display(), bytes >> 20);
    let (mut file, mut progress) = (fs_err::File::create(to)?, stage::progress(bytes >> 20, "MB copied"));
    loop {
        if stage::interrupted() {
            return Err(Error::Interrupted);
        }
        let copied = std::io::copy(&mut contents.by_ref().take(BUFFER as u64), &mut file);
        if copied.map_err(files::Error::from_reader)? == 0 {
            break;
        }
        progress.inc(1);
    }
    progress.finish();
    Ok(file.sync_all()?)
}

/// An image read from an archive: which of those asked for, and what is to be done with its contents.
pub(crate) type Each<'a> = dyn FnMut(usize, &mut dyn Read, u64) -> Result<(), Error> + 'a;

/// Reads some images of an archive, given by their entries, in the order in which they lie there.
///
/// # Errors
/// Those of `each`; [`Error::Archive`], with `path`, for one that cannot be read, or has changed.
pub(crate) fn read(path: &Path, place: &Path, entries: &[u64], each: &mut Each<'_>) -> Result<(), Error> {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_unstable_by_key(|&at| entries[at]);
    let mut next = 0;
    let mut failed = None;
    let walked = open(place, Arc::default()).and_then(|mut archive| {
        let wanted = std::cell::Cell::new(order.first().map(|&at| entries[at]));
        walk(
            &mut archive,
            |number, _| wanted.get() == Some(number),
            |_, _, contents, bytes| {
                failed = each(order[next], contents, bytes).err();
                next += 1;
                wanted.set(order.get(next).map(|&at| entries[at]));
                Ok(failed.is_none() && next < order.len())
            },
        )
    });
    let broken = |problem: String| Error::Archive { path: PathBuf::from(path), images: next, problem };
    match failed {
        Some(error) => Err(error),
        None if walked.is_ok() && next < order.len() => {
            Err(broken("it has changed since it was looked through".into()))
        }
        None => walked.map_err(|error| broken(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
