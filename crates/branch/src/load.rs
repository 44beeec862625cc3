//! From Parquet to grey values in memory.

use std::path::PathBuf;

use cxr::{ImageKey, Split};
use picture::Grey;
use rayon::prelude::*;

use crate::error::Error;

/// Images decoded at a time, in parallel.
const CHUNK: usize = 256;

/// All images of a branch, by split.
#[derive(Debug, Clone, Default)]
pub struct Images {
    keys: [Vec<ImageKey>; 3],
    images: [nets::Images; 3],
}

impl Images {
    /// The keys of a split, in the order of its images.
    pub fn keys(&self, split: Split) -> &[ImageKey] {
        &self.keys[split as usize]
    }

    /// The grey values and labels of a split.
    pub fn of(&self, split: Split) -> &nets::Images {
        &self.images[split as usize]
    }

    /// Side of all images, px.
    pub fn size(&self) -> usize {
        self.images.iter().map(|images| images.size).max().unwrap_or(0)
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.keys.iter().map(Vec::len).sum()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// 64 hex digits over ids, labels and grey values of some splits, in order: what a training learns from them.
    pub fn digest(&self, splits: &[Split]) -> String {
        let mut hasher = blake3::Hasher::new();
        for &split in splits {
            let (keys, images) = (self.keys(split), self.of(split));
            let header = format!("{split} {} images of {} px\n", keys.len(), images.size);
            hasher.update(header.as_bytes());
            for (index, key) in keys.iter().enumerate() {
                hasher.update(format!("{} {}\n", key.image_id, key.labels).as_bytes());
                hasher.update(images.image(index));
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Decodes images and appends them to their splits, of which each gets at most `most`.
    fn extend(&mut self, chunk: &mut Vec<(ImageKey, Vec<u8>)>, most: &[usize; 3]) -> Result<(), Error> {
        let decoded: Vec<(usize, Vec<u8>)> =
            chunk.par_iter().map(|(key, png)| decode(&key.image_id, png)).collect::<Result<_, Error>>()?;
        for ((key, _), (side, pixels)) in chunk.drain(..).zip(decoded) {
            let size = if self.size() == 0 { side } else { self.size() };
            if side != size {
                let (expected, got) = (format!("{size} x {size} px as the first"), format!("{side} x {side} px"));
                return Err(Error::Image { image_id: key.image_id, expected, got });
            }
            let split = key.split as usize;
            let images = &mut self.images[split];
            if images.is_empty() {
                images.size = size;
                images.pixels.reserve_exact(most[split] * size * size);
            }
            images.pixels.extend_from_slice(&pixels);
            images.labels.push(key.labels);
            self.keys[split].push(key);
        }
        Ok(())
    }
}

/// Loads whole images, at most `limit` per split.
///
/// # Errors
/// A file that is no `images` table; an image that is no square 8-bit grey PNG or of another size than the first;
/// [`Error::Interrupted`].
pub fn images(files: &[PathBuf], limit: Option<usize>) -> Result<Images, Error> {
    load(limit, tables::images::rows(files)?, |each| tables::images::read(files, |row| each(row.key(), row.png)))
}

/// Loads the crops of attended regions, at most `limit` per split.
///
/// # Errors
/// As [`images`], for `regions`.
pub fn regions(files: &[PathBuf], limit: Option<usize>) -> Result<Images, Error> {
    load(limit, tables::regions::rows(files)?, |each| tables::regions::read(files, |row| each(row.key, row.crop_png)))
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

/// `rows` says how many images each split has.
fn load(limit: Option<usize>, rows: [usize; 3], read: impl FnOnce(Each) -> Result<(), Error>) -> Result<Images, Error> {
    let most = rows.map(|rows| rows.min(limit.unwrap_or(rows)));
    let mut images = Images::default();
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut taken = [0; 3];
    read(&mut |key, png| {
        let split = key.split as usize;
        if taken[split] == most[split] {
            return Ok(());
        }
        taken[split] += 1;
        chunk.push((key, png));
        if chunk.len() < CHUNK {
            return Ok(());
        }
        if stage::interrupted() { Err(Error::Interrupted) } else { images.extend(&mut chunk, &most) }
    })?;
    images.extend(&mut chunk, &most)?;
    Ok(images)
}

/// Side and grey values of a stored image.
fn decode(image_id: &str, bytes: &[u8]) -> Result<(usize, Vec<u8>), Error> {
    let image = Grey::decode_stored(image_id, bytes)?;
    Ok((image.width as usize, image.pixels))
}
