//! What a network computes of every image, saved on the way: whoever is interrupted goes on behind the last image.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use cxr::{ImageKey, Split, Tta};
use nets::Network;
use nets::weights::{self, Meta};
use stage::{info, warn};

use crate::error::Error;

/// Version of the files; those of another one are not found.
const VERSION: u32 = 1;

/// Between two saves, so what a power cut costs. A pass that takes less writes no file.
const BETWEEN: Duration = Duration::from_secs(300);

/// Images after which a file ends: all that a pass of less than [`BETWEEN`] did may be saved at once.
const FULL: usize = 4096;

/// A row of values for every image, in the order of the splits: computed one after another, and saved into a folder every
/// few minutes and after Ctrl-C.
///
/// Each file `<digest>-<first image>.safetensors` has some rows in its tensor `rows`, one behind the other, and its own digest
/// as every weights file. The digest in the name is of the ids of all images, in order, of the lengths of their rows, and of
/// what these are computed from.
///
/// A continued pass ends with the bits of one that was not interrupted: it computes the same batches from there on. On a CPU
/// it may also have another batch, on which the outputs of a network do not depend; on CUDA it then begins anew.
#[derive(Debug)]
pub struct Parts {
    folder: PathBuf,
    name: String,
    meta: Meta,
    /// The number of images of each split.
    counts: [usize; 3],
    /// Where the row of each image begins in all of them, and where the last one ends.
    offsets: Vec<usize>,
    /// Images that are done.
    done: usize,
    /// Images whose rows are on disk.
    saved: usize,
    /// Where, behind them, full files will end: always with a batch, since a pass may have to go on from there.
    ends: Vec<usize>,
    /// Images of a full file.
    full: usize,
    /// Since the last save.
    clock: Instant,
    /// Time between two saves.
    between: Duration,
}

impl Parts {
    /// No rows yet, of the images with these `keys` by split. `length` is that of the row of an image, given its index among
    /// all. `what` stands for everything that the values are computed from and by, beside the images' ids, the device and, on
    /// CUDA, the `batch`.
    ///
    /// While it is in use, signals are to be held ([`stage::hold`]).
    pub fn new(
        folder: &Path,
        what: &str,
        keys: [&[ImageKey]; 3],
        (network, batch): (&Network, usize),
        length: &dyn Fn(usize) -> usize,
    ) -> Parts {
        let device = network.device();
        let by = match device.is_cuda() {
            true => format!("{}, {batch} at a time", nets::describe(device)),
            false => format!("CPU, {}", nets::isa().name()),
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{VERSION}\n{what}\n{by}\n").as_bytes());
        let mut offsets = vec![0];
        let mut end = 0;
        for (index, key) in keys.iter().copied().flatten().enumerate() {
            let length = length(index);
            hasher.update(format!("{length} {}\n", key.image_id).as_bytes());
            end += length;
            offsets.push(end);
        }
        Parts {
            folder: folder.to_owned(),
            name: hasher.finalize().to_hex()[..16].to_owned(),
            meta: Meta {
                backbone: network.backbone().name().to_owned(),
                pool: network.pool().name().to_owned(),
                frame: None,
                tta: Tta::None,
            },
            counts: keys.map(<[ImageKey]>::len),
            offsets,
            done: 0,
            saved: 0,
            ends: Vec::new(),
            full: FULL,
            clock: Instant::now(),
            between: BETWEEN,
        }
    }

    /// Gives what an interrupted pass saved to `take`, by the index of the image among all, up to the first file that is
    /// missing or damaged. Returns the number of images that are done so.
    ///
    /// # Errors
    /// A tensor operation.
    pub fn read(&mut self, take: &mut dyn FnMut(usize, &[f32])) -> Result<usize, Error> {
        while let Some((end, rows)) = self.part(self.saved)? {
            let first = self.offsets[self.saved];
            for index in self.saved..end {
                take(index, &rows[self.offsets[index] - first..self.offsets[index + 1] - first]);
            }
            self.saved = end;
        }
        self.done = self.saved;
        if self.done > 0 {
            info!("continues after {} of {} images", self.done, self.count());
        }
        Ok(self.done)
    }

    /// The index of a split's first image among all, and how many of the split's images are done.
    pub fn of(&self, split: Split) -> (usize, usize) {
        let first: usize = self.counts[..split as usize].iter().sum();
        (first, self.done.saturating_sub(first).min(self.counts[split as usize]))
    }

    /// The next `count` images, a batch, are done. `row` appends the row of an image, given its index among all; it is asked for those
    /// that are to be saved.
    ///
    /// # Errors
    /// [`Error::Interrupted`], and then all that is done is saved; the disk.
    pub fn add(&mut self, count: usize, row: &dyn Fn(usize, &mut Vec<f32>)) -> Result<(), Error> {
        self.done += count;
        if self.done - self.ends.last().copied().unwrap_or(self.saved) >= self.full {
            self.ends.push(self.done);
        }
        let stop = stage::interrupted();
        // What comes behind the last image may be interrupted too; a short pass is not worth a file.
        let last = self.done == self.count() && self.saved > 0;
        if stop || last || self.clock.elapsed() >= self.between {
            self.save(row)?;
        }
        if stop { Err(Error::Interrupted) } else { Ok(()) }
    }

    fn save(&mut self, row: &dyn Fn(usize, &mut Vec<f32>)) -> Result<(), Error> {
        let ends = std::mem::take(&mut self.ends);
        for end in ends.into_iter().chain([self.done]) {
            if end == self.saved {
                continue; // the last file is full too
            }
            let length = self.offsets[end] - self.offsets[self.saved];
            let mut rows = Vec::with_capacity(length);
            (self.saved..end).for_each(|index| row(index, &mut rows));
            let rows = Tensor::from_vec(rows, length, &Device::Cpu)?;
            weights::write(&self.path(self.saved), &[("rows".to_owned(), rows)], &self.meta)?;
            self.saved = end;
        }
        self.clock = Instant::now();
        Ok(())
    }

    /// The number of all images.
    fn count(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The file that begins with the image `first`.
    fn path(&self, first: usize) -> PathBuf {
        self.folder.join(format!("{}-{first:07}.safetensors", self.name))
    }

    /// The rows in the file that begins with the image `first`, and the image behind its last one; `None` where it is missing
    /// or damaged.
    fn part(&self, first: usize) -> Result<Option<(usize, Vec<f32>)>, Error> {
        let path = self.path(first);
        if !path.exists() {
            return Ok(None);
        }
        let tensors = match weights::read(&path, &Device::Cpu) {
            Ok((tensors, _)) => tensors,
            Err(error) => {
                warn!("{error}; its images are computed again");
                return Ok(None);
            }
        };
        let rows = match &tensors[..] {
            [(_, tensor)] => tensor.flatten_all()?.to_vec1::<f32>()?,
            _ => Vec::new(),
        };
        let ends = self.offsets.get(first + 1..).unwrap_or_default();
        match ends.binary_search(&(self.offsets[first] + rows.len())) {
            Ok(more) => Ok(Some((first + 1 + more, rows))),
            Err(_) => {
                let count = rows.len();
                warn!("{}: {count} values, expected those of whole images, which are computed again", path.display());
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cxr::Labels;
    use nets::{Backbone, Pool};

    use super::*;

    const IDS: [&str; 6] = ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png"];
    /// The third image has more to say.
    const LENGTHS: [usize; 6] = [2, 2, 5, 2, 2, 2];

    /// Parts of images: one of train, two of validation, the rest of test. They are saved whenever some are added.
    fn parts(folder: &Path, what: &str, ids: &[&str], lengths: &[usize]) -> Parts {
        let key = |&id: &&str| ImageKey {
            image_id: id.to_owned(),
            patient_id: 0,
            split: Split::Test,
            labels: Labels::default(),
        };
        let keys: Vec<ImageKey> = ids.iter().map(key).collect();
        let network = Network::new(Backbone::Mini, Pool::Max, 1, &Device::Cpu).unwrap();
        let by_split = [&keys[..1], &keys[1..3], &keys[3..]];
        let parts = Parts::new(folder, what, by_split, (&network, 4), &|index| lengths[index]);
        Parts { between: Duration::ZERO, ..parts }
    }

    /// Those of the images that most tests are about.
    fn usual(folder: &Path) -> Parts {
        parts(folder, "weights", &IDS, &LENGTHS)
    }

    fn expected(index: usize) -> Vec<f32> {
        (0..LENGTHS[index]).map(|at| (10 * index + at) as f32).collect()
    }

    fn row(index: usize, rows: &mut Vec<f32>) {
        rows.extend(expected(index));
    }

    /// Adds images, and ends as a power cut would.
    fn added(mut parts: Parts, counts: &[usize]) {
        counts.iter().for_each(|&count| parts.add(count, &row).unwrap());
    }

    /// How many images there are, whose rows are what they were.
    fn found(parts: &mut Parts) -> usize {
        let mut next = 0;
        let there = parts.read(&mut |index, row| {
            assert_eq!((index, row), (next, &expected(index)[..]));
            next += 1;
        });
        assert_eq!(there.unwrap(), next);
        next
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn what_was_saved_is_there_and_the_rest_is_computed() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = usual(folder.path());
        assert_eq!(found(&mut first), 0);
        assert_eq!(Split::ALL.map(|split| first.of(split)), [(0, 0), (1, 0), (3, 0)]);
        added(first, &[1, 1, 2]);
        assert_eq!(files(folder.path()).len(), 3);
        let mut second = usual(folder.path());
        assert_eq!(found(&mut second), 4);
        assert_eq!(Split::ALL.map(|split| second.of(split)), [(0, 1), (1, 2), (3, 1)]);
        added(second, &[2]);
        let mut third = usual(folder.path());
        assert_eq!(found(&mut third), 6);
        assert_eq!(third.of(Split::Test), (3, 3));
    }

    #[test]
    fn a_short_pass_writes_nothing_and_a_long_one_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let short = || Parts { between: Duration::MAX, ..usual(folder.path()) };
        added(short(), &[1, 2, 3]);
        assert_eq!(files(folder.path()).len(), 0);
        // Another one was interrupted, and goes on.
        added(usual(folder.path()), &[1]);
        let mut rest = short();
        assert_eq!(found(&mut rest), 1);
        added(rest, &[2, 3]);
        assert_eq!(files(folder.path()).len(), 2);
        assert_eq!(found(&mut usual(folder.path())), 6);
    }

    #[test]
    fn full_files_end_with_a_batch() {
        let folder = tempfile::tempdir().unwrap();
        let mut parts = Parts { between: Duration::MAX, full: 2, ..usual(folder.path()) };
        [1, 2, 1].iter().for_each(|&count| parts.add(count, &row).unwrap());
        parts.between = Duration::ZERO;
        added(parts, &[1]);
        let ends: Vec<bool> = (0..6).map(|first| usual(folder.path()).path(first).exists()).collect();
        assert_eq!(ends, [true, false, false, true, false, false]);
        assert_eq!(found(&mut usual(folder.path())), 5);
    }

    #[test]
    fn what_is_damaged_is_computed_again() {
        let folder = tempfile::tempdir().unwrap();
        added(usual(folder.path()), &[2, 2, 1]);
        let saved = files(folder.path());
        let [_, second, third] = &saved[..] else { panic!("{saved:?}") };
        let whole = fs_err::read(second).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let of_others = fs_err::read(third).unwrap();
        for damaged in [&flipped[..], &whole[..whole.len() / 2], &[], &of_others[..]] {
            fs_err::write(second, damaged).unwrap();
            let mut parts = usual(folder.path());
            assert_eq!(found(&mut parts), 2);
            // The file behind it is whole.
            added(parts, &[2]);
            assert!(fs_err::read(second).unwrap() == whole);
            assert_eq!(found(&mut usual(folder.path())), 5);
        }
        fs_err::remove_file(second).unwrap();
        assert_eq!(found(&mut usual(folder.path())), 2);
    }

    /// The folder's key may know no split: what was saved of one must not be taken for another's.
    #[test]
    fn saved_rows_are_of_the_images_their_order_and_what_they_are_made_of() {
        let folder = tempfile::tempdir().unwrap();
        added(usual(folder.path()), &[4]);
        let there = |what: &str, ids: &[&str], lengths: &[usize]| {
            parts(folder.path(), what, ids, lengths).read(&mut |_, _| ()).unwrap()
        };
        assert_eq!(there("weights", &IDS, &LENGTHS), 4);
        assert_eq!(there("other weights", &IDS, &LENGTHS), 0);
        assert_eq!(there("weights", &IDS[..5], &LENGTHS), 0);
        let mut ids = IDS;
        ids.swap(0, 1);
        assert_eq!(there("weights", &ids, &LENGTHS), 0);
        assert_eq!(there("weights", &["a.png", "b.png", "c.png", "d.png", "e.png", "g.png"], &LENGTHS), 0);
        assert_eq!(there("weights", &IDS, &[4, 2, 3, 2, 2, 2]), 0);
    }
}
