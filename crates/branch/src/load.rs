//! From Parquet to grey values, in memory or in a file.

use std::ops::Range;
use std::path::{Path, PathBuf};

use cxr::{ImageKey, Split};
use picture::Grey;
use rayon::prelude::*;

use crate::error::{Error, gigabytes};

/// Images decoded at a time, in parallel.
const CHUNK: usize = 256;

/// The share of the free memory that images take where nobody says how much they may: one part of so many.
const SHARE: u64 = 2;

/// Where images are kept while a stage is at work.
#[derive(Debug, Clone, Copy)]
pub struct Room<'a> {
    /// The most memory that all images may take, MB; 0 is half of what the machine has free. More images than that are
    /// kept in a file.
    pub memory_mb: usize,
    /// The folder of that file, which has no name and ends with the process.
    pub folder: &'a Path,
}

/// All images of a branch, by split.
#[derive(Debug, Default)]
pub struct Images {
    keys: [Vec<ImageKey>; 3],
    images: [nets::Images; 3],
    /// Where, in its split, the first image is whose grey values are there.
    first: [usize; 3],
}

impl Images {
    /// The keys of a split, in the order of its images.
    pub fn keys(&self, split: Split) -> &[ImageKey] {
        &self.keys[split as usize]
    }

    /// The grey values and labels of a split; of a share of the images ([`images_of`]), those from [`Images::first`] on.
    pub fn of(&self, split: Split) -> &nets::Images {
        &self.images[split as usize]
    }

    /// Where, in its split, the first image is that [`Images::of`] has; 0 where all are loaded.
    pub fn first(&self, split: Split) -> usize {
        self.first[split as usize]
    }

    /// Side of all images, px.
    pub fn size(&self) -> usize {
        self.images[0].size()
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.keys.iter().map(Vec::len).sum()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// 64 hex digits over ids, labels and grey values of some splits, in order: what a training learns from.
    ///
    /// # Errors
    /// Images on disk that cannot be read; [`Error::Interrupted`].
    pub fn digest(&self, splits: &[Split]) -> Result<String, Error> {
        let mut hasher = blake3::Hasher::new();
        for &split in splits {
            let (keys, images) = (self.keys(split), self.of(split));
            let header = format!("{split} {} images of {} px\n", keys.len(), images.size());
            hasher.update(header.as_bytes());
            for (index, key) in keys.iter().enumerate() {
                hasher.update(format!("{} {}\n", key.image_id, key.labels).as_bytes());
                hasher.update(&images.image(index)?);
                if index % CHUNK == 0 && stage::interrupted() {
                    return Err(Error::Interrupted);
                }
            }
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// 64 hex digits over ids and grey values of all images, sorted by id: what features are computed from. Neither labels nor
    /// splits are part of it.
    ///
    /// # Errors
    /// As [`Images::digest`].
    pub fn pixels_digest(&self) -> Result<String, Error> {
        let mut order: Vec<(&str, Split, usize)> = Vec::with_capacity(self.len());
        for split in Split::ALL {
            order.extend(self.keys(split).iter().enumerate().map(|(index, key)| (key.image_id.as_str(), split, index)));
        }
        order.sort_by_key(|&(image_id, ..)| image_id);
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{} images of {} px\n", order.len(), self.size()).as_bytes());
        for (place, (image_id, split, index)) in order.into_iter().enumerate() {
            hasher.update(format!("{image_id}\n").as_bytes());
            hasher.update(&self.of(split).image(index)?);
            if place % CHUNK == 0 && stage::interrupted() {
                return Err(Error::Interrupted);
            }
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Decodes images and appends them to their splits.
    fn extend(&mut self, chunk: &mut Vec<(ImageKey, Vec<u8>)>, size: usize) -> Result<(), Error> {
        let decoded: Vec<Grey> = chunk
            .par_iter()
            .map(|(key, png)| Ok(Grey::decode_stored(&key.image_id, png)?))
            .collect::<Result<_, Error>>()?;
        for ((key, _), image) in chunk.drain(..).zip(decoded) {
            let side = image.width as usize;
            if side != size {
                let (expected, got) = (format!("{size} x {size} px as the table says"), format!("{side} x {side} px"));
                return Err(Error::Image { image_id: key.image_id, expected, got });
            }
            let split = key.split as usize;
            self.images[split].push(&image.pixels, key.labels).map_err(Error::Images)?;
        }
        Ok(())
    }
}

/// Loads whole images, at most `limit` per split.
///
/// # Errors
/// A file that is no `images` table; an image that is no square 8-bit grey PNG or of another size than the table says;
/// the disk is full; [`Error::Interrupted`].
pub fn images(files: &[PathBuf], limit: Option<usize>, room: Room) -> Result<Images, Error> {
    images_of(files, limit, room, &|counts| 0..counts.iter().sum())
}

/// As [`images`], and the grey values of a share of them only: `share` says which, by their place among all in the order of the
/// splits, given the number of images of each split.
///
/// # Errors
/// As [`images`].
pub fn images_of(
    files: &[PathBuf],
    limit: Option<usize>,
    room: Room,
    share: &dyn Fn([usize; 3]) -> Range<usize>,
) -> Result<Images, Error> {
    let size = tables::images::facts(files)?.size_px as usize;
    load(size, limit, room, (tables::images::rows(files)?, share), |each| {
        tables::images::read(files, |row| each(row.key(), row.png))
    })
}

/// Loads the crops of attended regions, at most `limit` per split.
///
/// # Errors
/// As [`images`], for `regions`.
pub fn regions(files: &[PathBuf], limit: Option<usize>, room: Room) -> Result<Images, Error> {
    let size = tables::regions::facts(files)?.size_px as usize;
    let all = |counts: [usize; 3]| 0..counts.iter().sum();
    load(size, limit, room, (tables::regions::rows(files)?, &all), |each| {
        tables::regions::read(files, |row| each(row.key, row.crop_png))
    })
}

/// Side of whole images, px.
///
/// # Errors
/// A file that is no `images` table.
pub fn images_px(files: &[PathBuf]) -> Result<u32, tables::Error> {
    Ok(tables::images::facts(files)?.size_px)
}

/// Side of the crops of attended regions, px.
///
/// # Errors
/// A file that is no `regions` table.
pub fn regions_px(files: &[PathBuf]) -> Result<u32, tables::Error> {
    Ok(tables::regions::facts(files)?.size_px)
}

type Each<'a> = &'a mut dyn FnMut(ImageKey, Vec<u8>) -> Result<(), Error>;

/// The part of a range among all images that is of each split, by the places there.
pub(crate) fn by_split(counts: [usize; 3], range: &Range<usize>) -> [Range<usize>; 3] {
    let mut before = 0;
    counts.map(|count| {
        let [start, end] = [range.start, range.end].map(|at| at.clamp(before, before + count) - before);
        before += count;
        start..end
    })
}

/// `rows` says how many images each split has.
fn load(
    size: usize,
    limit: Option<usize>,
    room: Room,
    (rows, share): ([usize; 3], &dyn Fn([usize; 3]) -> Range<usize>),
    read: impl FnOnce(Each) -> Result<(), Error>,
) -> Result<Images, Error> {
    let most = rows.map(|rows| rows.min(limit.unwrap_or(rows)));
    let mine = by_split(most, &share(most));
    let of_mine = [0, 1, 2].map(|split| mine[split].len());
    let first = [0, 1, 2].map(|split| mine[split].start);
    let mut images = Images { keys: Default::default(), images: place(size, of_mine, room)?, first };
    let count = of_mine.iter().sum::<usize>() as u64;
    let mut progress = stage::progress(count, "images loaded");
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut taken = [0; 3];
    read(&mut |key, png| {
        let split = key.split as usize;
        if taken[split] == most[split] {
            return Ok(());
        }
        images.keys[split].push(key.clone());
        taken[split] += 1;
        if !mine[split].contains(&(taken[split] - 1)) {
            return Ok(());
        }
        chunk.push((key, png));
        if chunk.len() < CHUNK {
            return Ok(());
        }
        progress.inc(chunk.len() as u64);
        if stage::interrupted() { Err(Error::Interrupted) } else { images.extend(&mut chunk, size) }
    })?;
    progress.inc(chunk.len() as u64);
    images.extend(&mut chunk, size)?;
    progress.finish();
    Ok(images)
}

/// Room for `most` images of each split, in memory where they fit.
fn place(size: usize, most: [usize; 3], room: Room) -> Result<[nets::Images; 3], Error> {
    let count = most.iter().sum::<usize>();
    // Every rank on this machine keeps all images.
    let free = stage::memory().map(|free| free / ranks::world().local_size() as u64);
    let bytes = (count * size * size) as u64;
    let allowed = match (room.memory_mb, free) {
        (0, Some(free)) => free / SHARE,
        (0, None) => u64::MAX,
        (said, _) => (said as u64) << 20,
    };
    if bytes <= allowed {
        if let Some(free) = free.filter(|&free| bytes > free) {
            return Err(Error::Memory { count, size, bytes, free });
        }
        stage::debug!("{} for {count} images of {size} px, in memory", gigabytes(bytes));
        return Ok(most.map(|most| nets::Images::in_memory(size, most)));
    }
    stage::info!(
        "{} for {count} images of {size} px, {} of memory: they are read from a file in {}",
        gigabytes(bytes),
        gigabytes(allowed),
        room.folder.display()
    );
    let disk = |error: std::io::Error| Error::Disk { folder: room.folder.to_owned(), bytes, error };
    let file = || tempfile::tempfile_in(room.folder).map_err(disk);
    Ok([file()?, file()?, file()?].map(|file| nets::Images::on_disk(size, file)))
}
