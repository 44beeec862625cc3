//! The one writer and the one reader of tables that are split into several files and hold an image per row.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use arrow::array::ArrayRef;
use arrow::error::ArrowError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::schema::Schema;
use crate::sink::Sink;
use crate::source::{self, Batch, Source};

/// Rows per file, at most.
const ROWS_PER_FILE: usize = 4000;
/// A row group ends at this many rows or bytes of images: a reader holds one at most.
const ROWS_PER_GROUP: usize = 512;
const BYTES_PER_GROUP: usize = 64 << 20;
/// Rows handed on at a time when images are read, and when they are not.
const ROWS_PER_BATCH: usize = 64;
const ROWS_PER_BATCH_WITHOUT_IMAGES: usize = 8192;

/// A row of a table in several files, and how it becomes columns and is read back.
pub trait Row: Sized {
    /// What holds for the whole table; stored in each file's metadata.
    type Facts: Serialize + DeserializeOwned + PartialEq;

    /// The table's name.
    const TABLE: &'static str;
    /// The version of its schema.
    const VERSION: u32;
    /// The column with the images.
    const IMAGE: &'static str;

    /// The key.
    fn image_id(&self) -> &str;
    /// Size of the image's file, bytes.
    fn image_bytes(&self) -> usize;
    /// Refuses facts that cannot be, with a field and what is allowed.
    fn check_facts(facts: &Self::Facts) -> Result<(), String>;
    /// Refuses values that cannot be; for writer and reader.
    fn check(&self, facts: &Self::Facts) -> Result<(), Wrong>;
    /// The columns' names and types.
    fn schema(facts: &Self::Facts) -> Schema;
    /// The rows by column, in the schema's order.
    fn columns(rows: &[Self], facts: &Self::Facts) -> Result<Vec<ArrayRef>, ArrowError>;
    /// The rows of a batch; [`Row::check`] follows.
    fn from_batch(batch: &Batch, facts: &Self::Facts) -> Result<Vec<Self>, Error>;
}

/// A value that [`Row::check`] refuses.
pub struct Wrong {
    pub(crate) column: &'static str,
    pub(crate) expected: String,
    pub(crate) got: String,
}

impl Wrong {
    pub(crate) fn unless(
        right: bool,
        column: &'static str,
        expected: impl ToString,
        got: impl ToString,
    ) -> Result<(), Wrong> {
        if right { Ok(()) } else { Err(Wrong { column, expected: expected.to_string(), got: got.to_string() }) }
    }
}

/// One file of a table that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its name, `<prefix>-NNNNN-of-NNNNN.parquet`.
    pub name: String,
    /// Its rows.
    pub rows: u64,
}

/// Writes the rows of one table, sorted by `image_id`, into files `<prefix>-NNNNN-of-NNNNN.parquet` of nearly equal
/// numbers of rows. Row groups are bounded in rows and bytes, so that a reader's memory is.
pub struct Shards<R: Row> {
    folder: PathBuf,
    prefix: String,
    stage: String,
    facts: R::Facts,
    /// Rows that were announced, and those of them that came or were left out.
    total: usize,
    seen: usize,
    last_id: Option<String>,
    open: Option<Open<R>>,
    done: Vec<Shard>,
}

/// The file that is being written, and the rows of its next row group.
struct Open<R> {
    name: String,
    sink: Sink,
    rows: Vec<R>,
    bytes: usize,
}

impl<R: Row> Shards<R> {
    /// Prepares to write `total` rows into files of `folder`, made by `stage`. No rows make no file.
    pub fn new(folder: &Path, prefix: &str, total: usize, stage: &str, facts: R::Facts) -> Self {
        Shards {
            folder: folder.to_owned(),
            prefix: prefix.to_owned(),
            stage: stage.to_owned(),
            facts,
            total,
            seen: 0,
            last_id: None,
            open: None,
            done: Vec::new(),
        }
    }

    /// Appends a row; rows are kept until a row group is full.
    ///
    /// # Errors
    /// `image_id` does not come after the one before; a value that cannot be; the disk is full.
    ///
    /// # Panics
    /// At more rows than were announced.
    pub fn write(&mut self, row: R) -> Result<(), Error> {
        self.advance()?;
        let open = self.open.as_mut().expect("a file is open for every row");
        let at = open.rows.len();
        if let Err(Wrong { column, expected, got }) = row.check(&self.facts) {
            return Err(open.sink.value(column, at, &expected, &got));
        }
        open.sink.next_id(at, self.last_id.as_deref(), row.image_id())?;
        self.last_id = Some(row.image_id().to_owned());
        open.bytes += row.image_bytes();
        open.rows.push(row);
        if open.rows.len() >= ROWS_PER_GROUP || open.bytes >= BYTES_PER_GROUP {
            open.flush(&self.facts)?;
        }
        Ok(())
    }

    /// Counts a row that was announced and will not come.
    ///
    /// # Errors
    /// The disk is full.
    ///
    /// # Panics
    /// At more rows than were announced.
    pub fn leave_out(&mut self) -> Result<(), Error> {
        self.advance()
    }

    /// Completes and syncs the last file; returns all of them.
    ///
    /// # Errors
    /// The disk is full.
    ///
    /// # Panics
    /// At fewer rows than were announced.
    pub fn finish(mut self) -> Result<Vec<Shard>, Error> {
        assert_eq!(self.seen, self.total, "rows of {} that were announced", R::TABLE);
        self.close()?;
        Ok(self.done)
    }

    /// The file that begins with the next row, by its name, and how many of the announced rows are its; `None` where all
    /// rows were seen. To be asked between two files.
    pub fn next_file(&self) -> Option<(String, usize)> {
        let rows = self.start(self.done.len() + 1) - self.seen;
        (rows > 0).then(|| (self.name(), rows))
    }

    /// Completes and syncs the file of the last row.
    ///
    /// # Errors
    /// The disk is full.
    ///
    /// # Panics
    /// Where no row was seen since the last file.
    pub fn end_file(&mut self) -> Result<Shard, Error> {
        assert!(self.open.is_some(), "a file is open");
        self.close()?;
        Ok(self.done.last().cloned().expect("the file that was closed"))
    }

    /// The file that begins with the next row is there already, with `rows` rows: it is left as it is.
    pub fn keep(&mut self, rows: u64) {
        let name = self.name();
        self.seen = self.start(self.done.len() + 1);
        self.done.push(Shard { name, rows });
    }

    fn files(&self) -> usize {
        self.total.div_ceil(ROWS_PER_FILE)
    }

    /// How many of the announced rows lie before a file.
    fn start(&self, file: usize) -> usize {
        if self.total == 0 { 0 } else { file.min(self.files()) * self.total / self.files() }
    }

    /// The name of the file after those that are done.
    fn name(&self) -> String {
        format!("{}-{:05}-of-{:05}.parquet", self.prefix, self.done.len(), self.files())
    }

    /// Opens the file of the next row, if it begins one.
    fn advance(&mut self) -> Result<(), Error> {
        assert!(self.seen < self.total, "more than the {} rows of {} that were announced", self.total, R::TABLE);
        if self.open.is_some() && self.seen == self.start(self.done.len() + 1) {
            self.close()?;
        }
        self.seen += 1;
        if self.open.is_none() {
            let name = self.name();
            let facts = serde_json::to_string(&self.facts).expect("facts are plain data");
            let sink = Sink::create(&self.folder.join(&name), R::schema(&self.facts), &self.stage, Some(facts))?;
            self.open = Some(Open { name, sink, rows: Vec::new(), bytes: 0 });
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Error> {
        if let Some(mut open) = self.open.take() {
            open.flush(&self.facts)?;
            self.done.push(Shard { name: open.name, rows: open.sink.finish()? });
        }
        Ok(())
    }
}

impl<R: Row> Open<R> {
    fn flush(&mut self, facts: &R::Facts) -> Result<(), Error> {
        if !self.rows.is_empty() {
            self.sink.write_with(|| R::columns(&self.rows, facts))?;
        }
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }
}

/// Reads all rows with their images, file by file; at most one row group is in memory.
pub(crate) fn read<R: Row, E: From<Error>>(
    files: &[PathBuf],
    mut each: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    read_files(files, ROWS_PER_BATCH, None, &mut each)
}

/// Reads the rows of some images; of the others no image is read from disk.
pub(crate) fn read_some<R: Row, E: From<Error>>(
    files: &[PathBuf],
    images: &BTreeSet<&str>,
    mut each: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let mut first = None;
    for path in files {
        let rows = Source::open(path, R::TABLE, R::VERSION)?.rows_of(images)?;
        if !rows.is_empty() {
            let source = Source::open_indexed(path, R::TABLE, R::VERSION)?.only(&rows);
            read_source(&mut first, path, source, 1, None, &mut each)?;
        }
    }
    Ok(())
}

/// Reads all rows without their images, whose bytes are not even read from disk.
pub(crate) fn read_meta<R: Row>(files: &[PathBuf]) -> Result<Vec<R>, Error> {
    let mut rows = Vec::new();
    let bytes = format!("{}.bytes", R::IMAGE);
    read_files(files, ROWS_PER_BATCH_WITHOUT_IMAGES, Some(&bytes), &mut |row| -> Result<(), Error> {
        rows.push(row);
        Ok(())
    })?;
    Ok(rows)
}

/// What the files say of the whole table; all must say the same.
pub(crate) fn facts<R: Row>(files: &[PathBuf]) -> Result<R::Facts, Error> {
    let mut first = None;
    for path in files {
        agree::<R>(&mut first, path, &Source::open(path, R::TABLE, R::VERSION)?)?;
    }
    first.map(|(_, facts)| facts).ok_or(Error::NoFiles { table: R::TABLE })
}

/// The number of rows of each split, in the order of [`cxr::Split::ALL`].
pub(crate) fn split_rows<R: Row>(files: &[PathBuf]) -> Result<[usize; 3], Error> {
    source::split_rows(files, R::TABLE, R::VERSION)
}

fn read_files<R: Row, E: From<Error>>(
    files: &[PathBuf],
    rows: usize,
    without: Option<&str>,
    each: &mut impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let mut first = None;
    for path in files {
        read_source(&mut first, path, Source::open(path, R::TABLE, R::VERSION)?, rows, without, each)?;
    }
    Ok(())
}

fn read_source<R: Row, E: From<Error>>(
    first: &mut Option<(PathBuf, R::Facts)>,
    path: &Path,
    source: Source,
    rows: usize,
    without: Option<&str>,
    each: &mut impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let facts = agree::<R>(first, path, &source)?;
    let mut batches = source.batches(&R::schema(facts), rows, without)?;
    while let Some(batch) = batches.next_images()? {
        for (index, row) in R::from_batch(&batch, facts)?.into_iter().enumerate() {
            row.check(facts).map_err(|Wrong { column, expected, got }| batch.value(column, index, &expected, &got))?;
            each(row)?;
        }
    }
    Ok(())
}

/// The facts of a file, which must be those of the first.
fn agree<'a, R: Row>(
    first: &'a mut Option<(PathBuf, R::Facts)>,
    path: &Path,
    source: &Source,
) -> Result<&'a R::Facts, Error> {
    let facts: R::Facts = source.facts()?;
    let text = |facts: &R::Facts| serde_json::to_string(facts).unwrap_or_default();
    if let Err(problem) = R::check_facts(&facts) {
        return Err(Error::Facts {
            path: path.to_owned(),
            table: R::TABLE,
            got: format!("{}: {problem}", text(&facts)),
        });
    }
    if let Some((other, agreed)) = first.as_ref()
        && facts != *agreed
    {
        return Err(Error::FactsDiffer {
            path: path.to_owned(),
            table: R::TABLE,
            got: text(&facts),
            other: other.clone(),
            expected: text(agreed),
        });
    }
    Ok(&first.get_or_insert((path.to_owned(), facts)).1)
}
