//! What a network computes of every image, saved on the way: whoever is interrupted goes on behind the last image.

use std::io::ErrorKind;
use std::ops::Range;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use cxr::{ImageKey, Split, Tta};
use nets::Network;
use nets::weights::{self, Meta};
use stage::{Shard, Shards, info, warn};

use crate::error::Error;
use crate::load::by_split;

/// Version of the files; those of another one are not found.
const VERSION: u32 = 2;

/// Between two saves, so what a power cut costs. A pass that takes less writes no file.
const BETWEEN: Duration = Duration::from_secs(300);

/// Images after which a file ends: all that a pass of less than [`BETWEEN`] did may be saved at once.
const FULL: usize = 4096;

/// A row of values for every image, in the order of the splits: computed one after another, and saved into a folder every
/// few minutes and after Ctrl-C. A shard computes its share only ([`Parts::share`]), and saves all of it.
///
/// Each file `<digest>-<first image>-<behind the last>.safetensors` has some rows in its tensor `rows`, one behind the other, and
/// its own digest as every weights file. The digest in the name is of the ids of all images, in order, of the lengths of their
/// rows, and of what these are computed from.
///
/// A continued pass ends with the bits of one that was not interrupted: it computes the same batches. On a CPU it may also
/// have another batch, on which the outputs of a network do not depend; on CUDA it then begins anew.
#[derive(Debug)]
pub struct Parts {
    shards: Shards,
    name: String,
    meta: Meta,
    /// The number of images of each split.
    counts: [usize; 3],
    /// Images of a batch.
    batch: usize,
    /// Where the row of each image begins in all of them, and where the last one ends.
    offsets: Vec<usize>,
    /// Which images are done.
    done: Vec<bool>,
    /// Images that are done and not yet on disk.
    unsaved: Range<usize>,
    /// Whether any image is on disk.
    any_saved: bool,
    /// Where, among those, full files will end: always with a batch, since a pass may have to go on from there.
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
        shards: &Shards,
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
            shards: shards.clone(),
            name: hasher.finalize().to_hex()[..16].to_owned(),
            meta: Meta {
                backbone: network.backbone().name().to_owned(),
                pool: network.pool().name().to_owned(),
                frame: None,
                tta: Tta::None,
            },
            counts: keys.map(<[ImageKey]>::len),
            batch,
            done: vec![false; offsets.len() - 1],
            offsets,
            unsaved: 0..0,
            any_saved: false,
            ends: Vec::new(),
            full: FULL,
            clock: Instant::now(),
            between: BETWEEN,
        }
    }

    /// The images of a shard, by their index among all, given the number of images of each split. It begins and ends between two
    /// batches of an undivided pass.
    pub fn share(counts: [usize; 3], batch: usize, shard: Shard) -> Range<usize> {
        let total = counts.iter().sum();
        let cut = |at: usize| {
            if at == total {
                return total;
            }
            let mut before = 0;
            for count in counts {
                if at < before + count {
                    return before + (at - before) / batch * batch;
                }
                before += count;
            }
            total
        };
        let share = shard.range(total);
        cut(share.start)..cut(share.end)
    }

    /// As [`Parts::share`], of the shard that this process computes; all images where it computes all.
    pub fn mine_of(counts: [usize; 3], batch: usize, shards: &Shards) -> Range<usize> {
        shards.mine().map_or(0..counts.iter().sum(), |shard| Parts::share(counts, batch, shard))
    }

    /// Gives what interrupted passes and shards saved to `take`, by the index of the image among all; files that are damaged are
    /// passed over. Returns the number of images that are done so.
    ///
    /// # Errors
    /// With `--merge`, shards that are missing; a tensor operation; the folder cannot be read.
    pub fn read(&mut self, take: &mut dyn FnMut(usize, &[f32])) -> Result<usize, Error> {
        for range in self.saved()? {
            let Some(rows) = self.part(&range)? else { continue };
            let first = self.offsets[range.start];
            for index in range.filter(|&index| !std::mem::replace(&mut self.done[index], true)) {
                take(index, &rows[self.offsets[index] - first..self.offsets[index + 1] - first]);
            }
        }
        self.shards.check(|shard| {
            let share = Parts::share(self.counts, self.batch, shard);
            self.done[share].contains(&false)
        })?;
        let done = self.done.iter().filter(|&&done| done).count();
        self.any_saved = done > 0;
        match (self.shards.mine(), done) {
            (_, 0) => {}
            (None, _) => info!("continues after {done} of {} images", self.count()),
            (Some(_), _) => info!("{done} of all {} images are done already", self.count()),
        }
        Ok(done)
    }

    /// Which images of a split are to be computed by this process: runs of neighbours, by their places in the split.
    pub fn missing(&self, split: Split) -> Vec<Range<usize>> {
        let first = self.first(split);
        let mine = by_split(self.counts, &self.mine())[split as usize].clone();
        let mut runs: Vec<Range<usize>> = Vec::new();
        for place in mine.filter(|place| !self.done[first + place]) {
            match runs.last_mut() {
                Some(run) if run.end == place => run.end += 1,
                _ => runs.push(place..place + 1),
            }
        }
        runs
    }

    /// The index of a split's first image among all.
    pub fn first(&self, split: Split) -> usize {
        self.counts[..split as usize].iter().sum()
    }

    /// Whether something of a shard is not on disk, by the names of the files.
    pub fn is_missing(&self, shard: Shard) -> bool {
        let mut missing = Parts::share(self.counts, self.batch, shard);
        for saved in self.saved().unwrap_or_default() {
            if saved.contains(&missing.start) {
                missing.start = saved.end;
            }
        }
        !missing.is_empty()
    }

    /// `count` images from `first` on, a batch, are done. `row` appends the row of an image, given its index among all; it is
    /// asked for those that are to be saved.
    ///
    /// # Errors
    /// [`Error::Interrupted`], and then all that is done is saved; the disk.
    pub fn add(&mut self, first: usize, count: usize, row: &dyn Fn(usize, &mut Vec<f32>)) -> Result<(), Error> {
        if first != self.unsaved.end {
            self.save(row)?;
            self.unsaved = first..first;
        }
        self.unsaved.end += count;
        self.done[first..first + count].fill(true);
        if self.unsaved.end - self.ends.last().copied().unwrap_or(self.unsaved.start) >= self.full {
            self.ends.push(self.unsaved.end);
        }
        let stop = stage::interrupted();
        // What comes behind the last image may be interrupted too; a short pass is not worth a file, if it is no shard.
        let is_kept = self.any_saved || self.shards.mine().is_some();
        let last = is_kept && !self.done[self.mine()].contains(&false);
        if stop || last || self.clock.elapsed() >= self.between {
            self.save(row)?;
        }
        if stop { Err(Error::Interrupted) } else { Ok(()) }
    }

    fn save(&mut self, row: &dyn Fn(usize, &mut Vec<f32>)) -> Result<(), Error> {
        let ends = std::mem::take(&mut self.ends);
        for end in ends.into_iter().chain([self.unsaved.end]) {
            let range = self.unsaved.start..end;
            if range.is_empty() {
                continue; // the last file is full too
            }
            let length = self.offsets[range.end] - self.offsets[range.start];
            let mut rows = Vec::with_capacity(length);
            range.clone().for_each(|index| row(index, &mut rows));
            let rows = [("rows".to_owned(), Tensor::from_vec(rows, length, &Device::Cpu)?)];
            stage::replace(self.shards.folder(), &self.file(&range), |path| {
                Ok::<_, Error>(weights::write(path, &rows, &self.meta)?)
            })?;
            self.unsaved.start = end;
            self.any_saved = true;
        }
        self.clock = Instant::now();
        Ok(())
    }

    /// The number of all images.
    fn count(&self) -> usize {
        self.done.len()
    }

    /// The images that this process computes, by their index among all.
    pub(crate) fn mine(&self) -> Range<usize> {
        Parts::mine_of(self.counts, self.batch, &self.shards)
    }

    /// The name of a file.
    fn file(&self, images: &Range<usize>) -> String {
        format!("{}-{:07}-{:07}.safetensors", self.name, images.start, images.end)
    }

    /// The images of all files that are there, by their names, in order.
    fn saved(&self) -> Result<Vec<Range<usize>>, Error> {
        let entries = match fs_err::read_dir(self.shards.folder()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut saved = Vec::new();
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let numbers: Vec<usize> =
                name.split(['-', '.']).skip(1).take(2).filter_map(|number| number.parse().ok()).collect();
            if let [start, end] = numbers[..]
                && start < end
                && end <= self.count()
                && self.file(&(start..end)) == name
            {
                saved.push(start..end);
            }
        }
        saved.sort_by_key(|images| (images.start, images.end));
        Ok(saved)
    }

    /// The rows in the file of these images; `None` where it is damaged.
    fn part(&self, images: &Range<usize>) -> Result<Option<Vec<f32>>, Error> {
        let path = self.shards.folder().join(self.file(images));
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
        let (got, expected) = (rows.len(), self.offsets[images.end] - self.offsets[images.start]);
        if got == expected {
            return Ok(Some(rows));
        }
        warn!("{}: {got} values, expected {expected}; its images are computed again", path.display());
        Ok(None)
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // ranges are what is compared
mod tests {
    use std::path::{Path, PathBuf};

    use cxr::Labels;
    use nets::{Backbone, Pool};
    use stage::Sharing;

    use super::*;

    const IDS: [&str; 6] = ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png"];
    /// The third image has more to say.
    const LENGTHS: [usize; 6] = [2, 2, 5, 2, 2, 2];

    /// Parts of images: one of train, two of validation, the rest of test. They are saved whenever some are added.
    fn parts(folder: &Path, what: &str, ids: &[&str], lengths: &[usize]) -> Parts {
        shared(folder, (what, ids, lengths), Sharing::default())
    }

    fn shared(folder: &Path, (what, ids, lengths): (&str, &[&str], &[usize]), sharing: Sharing) -> Parts {
        let key = |&id: &&str| ImageKey {
            image_id: id.to_owned(),
            patient_id: 0,
            split: Split::Test,
            labels: Labels::default(),
        };
        let keys: Vec<ImageKey> = ids.iter().map(key).collect();
        let network = Network::new(Backbone::Mini, Pool::Max, 1, &Device::Cpu).unwrap();
        let by_split = [&keys[..1], &keys[1..3], &keys[3..]];
        let shards = Shards::new("attend", folder.to_owned(), sharing);
        let parts = Parts::new(&shards, what, by_split, (&network, 2), &|index| lengths[index]);
        Parts { between: Duration::ZERO, ..parts }
    }

    /// Those of the images that most tests are about.
    fn usual(folder: &Path) -> Parts {
        parts(folder, "weights", &IDS, &LENGTHS)
    }

    /// Those of a shard, which saves nothing before it is done.
    fn shard(folder: &Path, shard: &str) -> Parts {
        let sharing = Sharing { shard: Some(shard.parse().unwrap()), merge: false };
        Parts { between: Duration::MAX, ..shared(folder, ("weights", &IDS, &LENGTHS), sharing) }
    }

    fn expected(index: usize) -> Vec<f32> {
        (0..LENGTHS[index]).map(|at| (10 * index + at) as f32).collect()
    }

    fn row(index: usize, rows: &mut Vec<f32>) {
        rows.extend(expected(index));
    }

    /// Adds images from the first on, and ends as a power cut would.
    fn added(mut parts: Parts, mut first: usize, counts: &[usize]) {
        for &count in counts {
            parts.add(first, count, &row).unwrap();
            first += count;
        }
    }

    /// Computes what is missing, two at a time.
    fn computed(mut parts: Parts) {
        parts.read(&mut |_, _| ()).unwrap();
        for split in Split::ALL {
            for range in parts.missing(split) {
                for first in range.clone().step_by(2) {
                    parts.add(parts.first(split) + first, (range.end - first).min(2), &row).unwrap();
                }
            }
        }
    }

    /// Which images are there, whose rows are what they were.
    fn found(parts: &mut Parts) -> Vec<usize> {
        let mut found = Vec::new();
        let there = parts.read(&mut |index, row| {
            assert_eq!(row, expected(index));
            found.push(index);
        });
        assert_eq!(there.unwrap(), found.len());
        found
    }

    /// What is to be computed: split, begin and end of every run.
    fn missing(parts: &Parts) -> Vec<(usize, usize, usize)> {
        let of = |split: Split| parts.missing(split).into_iter().map(move |run| (split as usize, run.start, run.end));
        Split::ALL.into_iter().flat_map(of).collect()
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
        assert_eq!(found(&mut first), [0; 0]);
        assert_eq!(missing(&first), [(0, 0, 1), (1, 0, 2), (2, 0, 3)]);
        added(first, 0, &[1, 1, 2]);
        assert_eq!(files(folder.path()).len(), 3);
        let mut second = usual(folder.path());
        assert_eq!(found(&mut second), [0, 1, 2, 3]);
        assert_eq!(missing(&second), [(2, 1, 3)]);
        added(second, 4, &[2]);
        let mut third = usual(folder.path());
        assert_eq!(found(&mut third), [0, 1, 2, 3, 4, 5]);
        assert!(missing(&third).is_empty());
    }

    #[test]
    fn a_short_pass_writes_nothing_and_a_long_one_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let short = || Parts { between: Duration::MAX, ..usual(folder.path()) };
        added(short(), 0, &[1, 2, 3]);
        assert_eq!(files(folder.path()).len(), 0);
        // Another one was interrupted, and goes on.
        added(usual(folder.path()), 0, &[1]);
        let mut rest = short();
        assert_eq!(found(&mut rest), [0]);
        added(rest, 1, &[2, 3]);
        assert_eq!(files(folder.path()).len(), 2);
        assert_eq!(found(&mut usual(folder.path())), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn full_files_end_with_a_batch() {
        let folder = tempfile::tempdir().unwrap();
        let mut parts = Parts { between: Duration::MAX, full: 2, ..usual(folder.path()) };
        [(0, 1), (1, 2), (3, 1)].iter().for_each(|&(first, count)| parts.add(first, count, &row).unwrap());
        parts.between = Duration::ZERO;
        added(parts, 4, &[1]);
        assert_eq!(usual(folder.path()).saved().unwrap(), [0..3, 3..5]);
        assert_eq!(found(&mut usual(folder.path())), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn what_is_damaged_is_computed_again() {
        let folder = tempfile::tempdir().unwrap();
        added(usual(folder.path()), 0, &[2, 2, 1]);
        let saved = files(folder.path());
        let [_, second, third] = &saved[..] else { panic!("{saved:?}") };
        let whole = fs_err::read(second).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let of_others = fs_err::read(third).unwrap();
        for damaged in [&flipped[..], &whole[..whole.len() / 2], &[], &of_others[..]] {
            fs_err::write(second, damaged).unwrap();
            let mut parts = usual(folder.path());
            assert_eq!(found(&mut parts), [0, 1, 4]);
            // The file behind it is whole.
            added(parts, 2, &[2]);
            assert!(fs_err::read(second).unwrap() == whole);
            assert_eq!(found(&mut usual(folder.path())), [0, 1, 2, 3, 4]);
        }
        fs_err::remove_file(second).unwrap();
        assert_eq!(found(&mut usual(folder.path())), [0, 1, 4]);
        // Files of other names are not looked at.
        for name in ["a", "0-1.safetensors", "x-0000000-0000009.safetensors"] {
            fs_err::write(folder.path().join(name), "").unwrap();
        }
        computed(usual(folder.path()));
        assert_eq!(found(&mut usual(folder.path())), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn shards_of_any_number_make_one_pass() {
        for counts in [[1, 1, 1], [3, 1, 3], [7, 7, 2]] {
            let folder = tempfile::tempdir().unwrap();
            for count in counts {
                // The last one first; one of them is repeated.
                for index in (0..count).rev().chain([0]) {
                    computed(shard(folder.path(), &format!("{index}/{count}")));
                }
                assert_eq!(found(&mut usual(folder.path())), [0, 1, 2, 3, 4, 5], "{counts:?}");
                let parts = usual(folder.path());
                assert!(Shard::all(5).all(|shard| !parts.is_missing(shard)), "{counts:?}");
            }
        }
    }

    #[test]
    fn a_shard_begins_and_ends_with_a_batch_and_a_missing_one_is_known() {
        for (count, ends) in [(1, vec![9]), (2, vec![2, 9]), (3, vec![2, 5, 9])] {
            let shares: Vec<Range<usize>> = Shard::all(count).map(|shard| Parts::share([2, 3, 4], 3, shard)).collect();
            assert_eq!(shares.iter().map(|share| share.end).collect::<Vec<_>>(), ends);
            assert_eq!(shares.iter().map(ExactSizeIterator::len).sum::<usize>(), 9);
        }
        let folder = tempfile::tempdir().unwrap();
        computed(shard(folder.path(), "1/3"));
        let parts = usual(folder.path());
        let missing: Vec<String> =
            Shard::all(3).filter(|&shard| parts.is_missing(shard)).map(|shard| shard.to_string()).collect();
        assert_eq!(missing, ["0/3", "2/3"]);
        // `--merge` refuses them, and what is not theirs is there.
        let merge = Sharing { shard: None, merge: true };
        let mut merge = shared(folder.path(), ("weights", &IDS, &LENGTHS), merge);
        let refused = merge.read(&mut |_, _| ()).unwrap_err().to_string();
        assert!(refused.contains("no shard of attend has run"), "{refused}");
        fs_err::write(folder.path().join("shards"), "3\n").unwrap();
        let refused = merge.read(&mut |_, _| ()).unwrap_err().to_string();
        assert_eq!(refused, "--merge: 2 of 3 shards of attend are missing: 0/3, 2/3");
        for index in [0, 2] {
            computed(shard(folder.path(), &format!("{index}/3")));
        }
        let mut merge = shared(folder.path(), ("weights", &IDS, &LENGTHS), Sharing { shard: None, merge: true });
        assert_eq!(found(&mut merge), [0, 1, 2, 3, 4, 5]);
    }

    /// The folder's key may know no split: what was saved of one must not be taken for another's.
    #[test]
    fn saved_rows_are_of_the_images_their_order_and_what_they_are_made_of() {
        let folder = tempfile::tempdir().unwrap();
        added(usual(folder.path()), 0, &[4]);
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
