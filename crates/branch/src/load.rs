//! From Parquet to grey values in memory.

use std::io::Cursor;
use std::path::PathBuf;

use cxr::{ImageKey as Key, Split};
use nets::Pictures;
use rayon::prelude::*;

use crate::Error;

/// Pictures decoded at a time, in parallel.
const CHUNK: usize = 256;

/// All pictures of a branch, by split.
#[derive(Debug, Clone, Default)]
pub struct Images {
    keys: [Vec<Key>; 3],
    pictures: [Pictures; 3],
}

impl Images {
    /// The keys of a split, in the order of its pictures.
    pub fn keys(&self, split: Split) -> &[Key] {
        &self.keys[split as usize]
    }

    /// The pictures of a split.
    pub fn pictures(&self, split: Split) -> &Pictures {
        &self.pictures[split as usize]
    }

    /// Side of all pictures, px.
    pub fn size(&self) -> usize {
        self.pictures.iter().map(|pictures| pictures.size).max().unwrap_or(0)
    }

    /// Decodes pictures and appends them to their splits.
    fn extend(&mut self, chunk: &mut Vec<(Key, Vec<u8>)>) -> Result<(), Error> {
        let decoded: Vec<(usize, Vec<u8>)> =
            chunk.par_iter().map(|(key, png)| decode(&key.image_id, png)).collect::<Result<_, Error>>()?;
        for ((key, _), (side, pixels)) in chunk.drain(..).zip(decoded) {
            let size = if self.size() == 0 { side } else { self.size() };
            if side != size {
                let (expected, got) = (format!("{size} x {size} px as the first"), format!("{side} x {side} px"));
                return Err(Error::Picture { image_id: key.image_id, expected, got });
            }
            let pictures = &mut self.pictures[key.split as usize];
            pictures.size = size;
            pictures.pixels.extend_from_slice(&pixels);
            pictures.targets.push(key.labels.targets());
            self.keys[key.split as usize].push(key);
        }
        Ok(())
    }
}

/// Loads whole images, at most `limit` per split.
///
/// # Errors
/// A file that is no `images` table; a picture that is no square 8-bit grey PNG or of another size than the first.
pub fn images(files: &[PathBuf], limit: Option<usize>) -> Result<Images, Error> {
    load(limit, |each| {
        tables::images::read(files, |row| {
            let key = row.key();
            each(key, row.png)
        })
    })
}

/// Loads the crops of attended regions, at most `limit` per split.
///
/// # Errors
/// As [`images`], for `regions`.
pub fn regions(files: &[PathBuf], limit: Option<usize>) -> Result<Images, Error> {
    load(limit, |each| tables::regions::read(files, |row| each(row.key, row.crop_png)))
}

type Each<'a> = &'a mut dyn FnMut(Key, Vec<u8>) -> Result<(), Error>;

fn load(limit: Option<usize>, read: impl FnOnce(Each) -> Result<(), Error>) -> Result<Images, Error> {
    let mut images = Images::default();
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut taken = [0; 3];
    read(&mut |key, png| {
        let taken = &mut taken[key.split as usize];
        if limit.is_some_and(|limit| *taken >= limit) {
            return Ok(());
        }
        *taken += 1;
        chunk.push((key, png));
        if chunk.len() == CHUNK { images.extend(&mut chunk) } else { Ok(()) }
    })?;
    images.extend(&mut chunk)?;
    Ok(images)
}

/// Side and grey values of a square 8-bit grey PNG.
fn decode(image_id: &str, bytes: &[u8]) -> Result<(usize, Vec<u8>), Error> {
    let wrong = |got: String| {
        let expected = "a square 8-bit grey PNG".to_owned();
        Error::Picture { image_id: image_id.to_owned(), expected, got }
    };
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().map_err(|error| wrong(error.to_string()))?;
    let info = reader.info();
    let (width, height) = (info.width as usize, info.height as usize);
    if (info.color_type, info.bit_depth) != (png::ColorType::Grayscale, png::BitDepth::Eight) || width != height {
        return Err(wrong(format!("{width} x {height} px, {:?}, {:?}", info.color_type, info.bit_depth)));
    }
    let mut pixels = vec![0; width * height];
    reader.next_frame(&mut pixels).map_err(|error| wrong(error.to_string()))?;
    Ok((width, pixels))
}
