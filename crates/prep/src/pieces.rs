//! Pieces of the table's files, in which shards keep the images that they prepared.
//!
//! A piece is a table of its own, of some neighbours of one file, with a record beside it. Where pieces begin and end depends
//! on the table alone, so that those of any number of shards fit together, and those of an earlier number are not lost.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use cxr::Split;
use stage::{Incomplete, Shard, Shards, replace};
use tables::images;

use crate::archive::Copies;
use crate::budget::Budget;
use crate::config::Config;
use crate::dataset::{Dataset, Item};
use crate::error::Error;
use crate::prepare::{Watch, prepare};
use crate::rows::{chunk, is_packed, write};
use crate::shards::{Found, Record, find, hash};

/// Images of a piece, at most: enough for any number of cores, and what a shard that is killed prepares again.
const ROWS: usize = 64;

/// What a piece's file is called while it is written, by the table's writer.
const WRITTEN: &str = "piece";

/// Some neighbours of a file.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Its own file's name.
    name: String,
    /// The name of the table's file.
    file: String,
    split: Split,
    /// Where it lies in the file.
    pub(crate) rows: Range<usize>,
    /// Where it lies among the images of its split.
    items: Range<usize>,
}

/// All pieces of a table, and those that shards have prepared.
#[derive(Debug)]
pub struct Pieces<'a> {
    dataset: &'a Dataset,
    config: &'a Config,
    shards: &'a Shards,
    stage: &'a str,
    /// The images of each split.
    items: [Vec<&'a Item>; 3],
    all: Vec<Piece>,
    /// Records of pieces whose contents were compared with them; `None`: not there.
    compared: RefCell<HashMap<String, Option<Record>>>,
}

impl<'a> Pieces<'a> {
    /// The pieces of the table that `taken` images make, as the stage `stage`.
    pub fn new(
        dataset: &'a Dataset,
        taken: &[&'a Item],
        config: &'a Config,
        stage: &'a str,
        shards: &'a Shards,
    ) -> Pieces<'a> {
        let items = Split::ALL.map(|split| taken.iter().copied().filter(|item| item.split == split).collect());
        let mut all = Vec::new();
        for split in Split::ALL {
            let items: &Vec<&Item> = &items[split as usize];
            let mut files =
                images::Writer::new(shards.folder(), split.name(), items.len(), stage, dataset.facts(config));
            let mut before = 0;
            while let Some((file, count)) = files.next_file() {
                for start in (0..count).step_by(ROWS) {
                    let rows = start..(start + ROWS).min(count);
                    let name = format!("{}-{start:04}.parquet", file.trim_end_matches(".parquet"));
                    let items = before + rows.start..before + rows.end;
                    all.push(Piece { name, file: file.clone(), split, rows, items });
                }
                files.keep(count as u64);
                before += count;
            }
        }
        Pieces { dataset, config, shards, stage, items, all, compared: RefCell::default() }
    }

    /// How many images are this process's share.
    pub fn images(&self) -> usize {
        let mine = self.shards.mine().map_or(0..self.all.len(), |shard| shard.range(self.all.len()));
        self.all[mine].iter().map(|piece| piece.rows.len()).sum()
    }

    /// Prepares the images of this process's share that are not there, or damaged, and keeps them.
    ///
    /// # Errors
    /// As [`crate::write()`].
    pub fn prepare(&self, watch: Watch<'_>) -> Result<(), Error> {
        let budget = Budget::new(u64::from(self.config.memory_mb) << 20);
        let mine = self.shards.mine().map_or(0..self.all.len(), |shard| shard.range(self.all.len()));
        let (there, missing): (Vec<&Piece>, Vec<&Piece>) =
            self.all[mine].iter().partition(|piece| self.find(piece).is_some());
        if watch(there.iter().map(|piece| piece.rows.len()).sum()).is_break() {
            return Err(Error::Interrupted);
        }
        let items: Vec<&Item> = missing.iter().flat_map(|piece| self.items_of(piece)).copied().collect();
        let archives = items.iter().filter_map(|item| item.file.as_ref()?.archive());
        let copies = Copies::new(&self.dataset.root, archives, &self.shards.folder().join("archives"))?;
        // Of an archive, which is read from its beginning each time, as many as memory allows.
        let at_once = if is_packed(&items) { (chunk(&items, self.config) / ROWS).max(1) } else { 1 };
        for group in missing.chunks(at_once) {
            let items: Vec<&Item> = group.iter().flat_map(|piece| self.items_of(piece)).copied().collect();
            let mut outcomes = prepare(&self.dataset.root, &items, self.config, (&budget, &copies), watch)?.into_iter();
            for piece in group {
                let outcomes = outcomes.by_ref().take(piece.rows.len()).collect();
                self.keep(piece, |writer| write(outcomes, self.config, writer))?;
            }
        }
        Ok(())
    }

    /// Whether something of a shard is not there, at a look.
    pub fn is_missing(&self, shard: Shard) -> bool {
        let there = |name: &str| self.shards.folder().join(name).is_file();
        self.all[shard.range(self.all.len())].iter().any(|piece| !there(&piece.name) || !there(&record(&piece.name)))
    }

    /// With `--merge`, refuses shards that are missing or damaged.
    ///
    /// # Errors
    /// The shards.
    pub fn check(&self) -> Result<(), Incomplete> {
        self.shards.check(|shard| self.all[shard.range(self.all.len())].iter().any(|piece| self.find(piece).is_none()))
    }

    /// The contents of the images' files as shards read them: path and BLAKE3, by `image_id`. What a shard has read need not be
    /// read again to know what the result is made from.
    ///
    /// # Errors
    /// What the table's reader says.
    pub fn hashes(&self) -> Result<HashMap<String, (String, String)>, Error> {
        let there = self.all.iter().filter(|piece| self.find(piece).is_some());
        let files: Vec<_> = there.map(|piece| self.shards.folder().join(&piece.name)).collect();
        let rows = images::read_meta(&files)?.into_iter();
        Ok(rows.map(|row| (row.record.image_id, (row.path, row.source_blake3))).collect())
    }

    /// The pieces of a file of the table, in their order.
    pub(crate) fn of(&self, file: &str) -> impl Iterator<Item = &Piece> {
        self.all.iter().filter(move |piece| piece.file == file)
    }

    /// The record of a piece that is there and has the contents that it had when it was written.
    pub(crate) fn find(&self, piece: &Piece) -> Option<Record> {
        let mut compared = self.compared.borrow_mut();
        compared.entry(piece.name.clone()).or_insert_with(|| find(self.shards.folder(), &piece.name)).clone()
    }

    /// Appends the rows of a piece to a file of the table.
    pub(crate) fn copy(&self, piece: &Piece, record: &Record, writer: &mut images::Writer) -> Result<(), Error> {
        images::read(&[self.shards.folder().join(&piece.name)], |row| Ok::<_, Error>(writer.write(row)?))?;
        (record.rows..piece.rows.len() as u64).try_for_each(|_| Ok(writer.leave_out()?))
    }

    fn items_of(&self, piece: &Piece) -> &[&'a Item] {
        &self.items[piece.split as usize][piece.items.clone()]
    }

    /// Writes a piece, and its record behind it.
    fn keep(&self, piece: &Piece, rows: impl FnOnce(&mut images::Writer) -> Result<Found, Error>) -> Result<(), Error> {
        let mut record_of = None;
        replace(self.shards.folder(), &piece.name, |path| -> Result<(), Error> {
            // The table's writer names its files itself: a folder of its own.
            let folder = path.with_added_extension("d");
            fs_err::create_dir_all(&folder)?;
            let facts = self.dataset.facts(self.config);
            let mut writer = images::Writer::new(&folder, WRITTEN, piece.rows.len(), self.stage, facts);
            let found = rows(&mut writer)?;
            for written in writer.finish()? {
                fs_err::rename(folder.join(&written.name), path)?;
                record_of = Some(Record { blake3: hash(path)?, rows: written.rows, found: found.clone() });
            }
            Ok(fs_err::remove_dir_all(&folder)?)
        })?;
        let text = serde_json::to_string(&record_of).map_err(std::io::Error::other)?;
        replace(self.shards.folder(), &record(&piece.name), |path| {
            let mut file = fs_err::File::create(path)?;
            std::io::Write::write_all(&mut file, text.as_bytes())?;
            Ok(file.sync_all()?)
        })
    }
}

/// The name of a piece's record.
fn record(name: &str) -> String {
    format!("{name}.json")
}
