//! Files of the table that are finished, each with a record beside it, so that an interrupted `prep` goes on behind them.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;

/// How many damaged images are named.
const NAMED: usize = 10;
/// From so many bits of 16 on, values fill enough of the 256 grey levels.
const ENOUGH_BITS: u32 = 15;

/// What happened while images became rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Damaged images that were left out.
    pub corrupt: usize,
    /// What is wrong with the first of them.
    pub first_corrupt: Vec<String>,
    /// 16-bit PNG files whose values fill few of the bits.
    pub shallow: usize,
    /// The most bits that one of them needs.
    pub most_bits: u32,
    /// One of them, and how many of the 256 grey levels it has.
    pub example: Option<(String, u32)>,
}

impl Found {
    /// Counts a damaged image.
    pub(crate) fn damaged(&mut self, problem: String) {
        self.corrupt += 1;
        if self.first_corrupt.len() < NAMED {
            self.first_corrupt.push(problem);
        }
    }

    /// Looks at an image of 16 bits, whose values need `bits` of them and were stretched where they fit into `depth`.
    pub(crate) fn deep(&mut self, name: &str, bits: u32, levels: u32, depth: u32) {
        let stretched = depth < u16::BITS && bits <= depth;
        if !stretched && (1..ENOUGH_BITS).contains(&bits) {
            self.shallow += 1;
            self.most_bits = self.most_bits.max(bits);
            self.example.get_or_insert((name.to_owned(), levels));
        }
    }

    /// Adds what was found elsewhere.
    pub(crate) fn add(&mut self, other: Found) {
        self.corrupt += other.corrupt;
        self.first_corrupt.extend(other.first_corrupt);
        self.first_corrupt.truncate(NAMED);
        self.shallow += other.shallow;
        self.most_bits = self.most_bits.max(other.most_bits);
        self.example = self.example.take().or(other.example);
    }
}

/// What is recorded beside a finished file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) blake3: String,
    pub(crate) rows: u64,
    pub(crate) found: Found,
}

/// Where finished files and their records lie.
#[derive(Debug)]
pub(crate) struct Finished {
    folder: PathBuf,
}

impl Finished {
    pub(crate) fn new(folder: &Path) -> std::io::Result<Finished> {
        fs_err::create_dir_all(folder)?;
        Ok(Finished { folder: folder.to_owned() })
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn record(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// Records that a file is finished, which is synced already: a record is either whole or not there.
    pub(crate) fn keep(&self, name: &str, rows: u64, found: Found) -> Result<(), Error> {
        let record = Record { blake3: hash(&self.folder.join(name))?, rows, found };
        let text = serde_json::to_string(&record).map_err(std::io::Error::other)?;
        let part = self.folder.join(format!("{name}.part"));
        let mut file = fs_err::File::create(&part)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all())?;
        fs_err::rename(&part, self.record(name))?;
        Ok(fs_err::File::open(&self.folder)?.sync_all()?)
    }

    /// The record of a file that is finished and has the contents that it had then.
    pub(crate) fn find(&self, name: &str) -> Option<Record> {
        find(&self.folder, name)
    }

    /// Makes room for a file that is written anew.
    pub(crate) fn clear(&self, name: &str) -> std::io::Result<()> {
        for path in [self.record(name), self.folder.join(name)] {
            match fs_err::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Shows a finished file in the folder `out`, too.
    pub(crate) fn publish(&self, name: &str, out: &Path) -> std::io::Result<()> {
        let (from, to) = (self.folder.join(name), out.join(name));
        // Where the file system has no links, the file moves: then it is written anew after an interruption.
        fs_err::hard_link(&from, &to).or_else(|_| fs_err::rename(&from, &to))
    }
}

/// The record of a finished file of a folder, if the file has the contents that it had then.
pub(crate) fn find(folder: &Path, name: &str) -> Option<Record> {
    let record: Record =
        serde_json::from_str(&fs_err::read_to_string(folder.join(format!("{name}.json"))).ok()?).ok()?;
    hash(&folder.join(name)).is_ok_and(|hash| hash == record.blake3).then_some(record)
}

/// BLAKE3 of a file, hex.
pub(crate) fn hash(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs_err::File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}
