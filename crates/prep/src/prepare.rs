//! From images' files, or archives of them, to rows; in bounded memory.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;

use cxr::FindingBox;
use picture::{MAX_BYTES, Radiograph};
use rayon::prelude::*;
use tables::images;

use crate::archive::{self, Copies};
use crate::budget::{Budget, Part};
use crate::config::Config;
use crate::dataset::Item;
use crate::error::Error;
use crate::threads;
use labels::nih::BOX_FRAME_PX;

/// Bytes in front of a file in which its header is looked for.
const HEAD: u64 = 1 << 16;

/// A row, and how many bits its values need where they were stored in 16.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) row: images::Row,
    pub(crate) bits: Option<u32>,
    /// How many of 256 grey levels the file's image has.
    pub(crate) levels: u32,
}

/// An image as a row, or why it cannot be one.
pub(crate) type Outcome = Result<Prepared, Error>;

/// Hears the number of images done since it was last called, and may stop the work.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(usize) -> ControlFlow<()>;

/// Prepares some images, in parallel; what becomes of each, in their order.
///
/// # Errors
/// An archive that cannot be read; [`Error::Interrupted`]. What is wrong with an image is its own outcome.
pub(crate) fn prepare(
    root: &Path,
    items: &[&Item],
    config: &Config,
    (budget, copies): (&Budget, &Copies),
    watch: Watch<'_>,
) -> Result<Vec<Outcome>, Error> {
    let mut outcomes: Vec<Option<Outcome>> = items.iter().map(|_| None).collect();
    let mut archives: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, item) in items.iter().enumerate() {
        if let Some(archive) = item.file.as_ref().and_then(|file| file.archive()) {
            archives.entry(archive).or_default().push(at);
        }
    }
    for (archive, members) in archives {
        let path = (root.join(archive), copies.place(root, archive));
        from_archive((&path.0, &path.1), items, &members, (config, budget), &mut outcomes, watch)?;
    }
    let rest = outcomes.iter().filter(|outcome| outcome.is_none()).count();
    let file = |(at, outcome): (usize, Option<Outcome>)| match outcome {
        Some(outcome) => outcome,
        None => from_file(root, items[at], config, budget),
    };
    let outcomes = threads::enough(root, || outcomes.into_par_iter().enumerate().map(file).collect());
    if watch(rest).is_break() { Err(Error::Interrupted) } else { Ok(outcomes) }
}

/// An image from a file of its own.
fn from_file(root: &Path, item: &Item, config: &Config, budget: &Budget) -> Outcome {
    let place = item.file.as_ref().map(|file| file.path.as_str()).unwrap_or_default();
    let path = root.join(place);
    let name = path.display().to_string();
    // Opened as images are, which refuses what is no regular file, and read in two parts.
    let files::Opened { mut contents, bytes: size } = open(&path)?;
    let failed = |source| match files::is_remote(&path) {
        true => Error::Files(files::Error::from_reader(source)),
        false => Error::Picture(picture::Error::Read { path: path.clone(), source }),
    };
    let mut bytes = Vec::new();
    contents.by_ref().take(HEAD).read_to_end(&mut bytes).map_err(failed)?;
    let _part = claim(&name, &bytes, size, budget)?;
    bytes.reserve_exact((size as usize).saturating_sub(bytes.len()));
    contents.take(MAX_BYTES - HEAD).read_to_end(&mut bytes).map_err(failed)?;
    row(item, &name, place, &bytes, (config, budget))
}

/// An image's file, on disk or in a bucket.
fn open(path: &Path) -> Result<files::Opened, Error> {
    if files::is_remote(path) {
        return Ok(files::open(path)?);
    }
    let picture::Opened { file, bytes } = picture::open(path)?;
    Ok(files::Opened { contents: Box::new(file), bytes })
}

/// Images of an archive, which is read at `place`, one after the other; decoded in parallel.
fn from_archive(
    (path, place): (&Path, &Path),
    items: &[&Item],
    members: &[usize],
    (config, budget): (&Config, &Budget),
    outcomes: &mut [Option<Outcome>],
    watch: Watch<'_>,
) -> Result<(), Error> {
    let packed = |&at: &usize| items[at].file.as_ref().and_then(|file| Some((file, file.packed.as_ref()?)));
    let files: Vec<_> = members.iter().filter_map(packed).collect();
    let entries: Vec<u64> = files.iter().map(|(_, packed)| packed.entry).collect();
    let done = Mutex::new(Vec::with_capacity(members.len()));
    rayon::in_place_scope(|scope| {
        archive::read(path, place, &entries, &mut |member, contents, size| {
            let (item, (file, packed)) = (items[members[member]], files[member]);
            let name = format!("{}/{}", path.display(), file.path[packed.archive..].trim_start_matches('/'));
            let failed = |error: std::io::Error| Error::Archive {
                path: path.to_owned(),
                images: member,
                problem: error.to_string(),
            };
            let done = &done;
            let finished = move |outcome| done.lock().unwrap_or_else(PoisonError::into_inner).push((member, outcome));
            let mut bytes = Vec::new();
            (&mut *contents).take(HEAD).read_to_end(&mut bytes).map_err(failed)?;
            let part = match claim(&name, &bytes, size, budget) {
                Ok(part) => part,
                Err(error) => {
                    finished(Err(error));
                    return Ok(());
                }
            };
            bytes.reserve_exact((size as usize).saturating_sub(bytes.len()));
            contents.take(MAX_BYTES - HEAD).read_to_end(&mut bytes).map_err(failed)?;
            if blake3::hash(&bytes) != packed.blake3 {
                return Err(failed(std::io::Error::other(format!("{name} has changed since it was looked through"))));
            }
            scope.spawn(move |_| {
                let outcome = row(item, &name, &file.path, &bytes, (config, budget));
                drop((bytes, part));
                finished(outcome);
            });
            if watch(1).is_break() { Err(Error::Interrupted) } else { Ok(()) }
        })
    })?;
    for (member, outcome) in done.into_inner().unwrap_or_else(PoisonError::into_inner) {
        outcomes[members[member]] = Some(outcome);
    }
    Ok(())
}

/// The memory that an image takes while it becomes a row: its file, its decoder, a square of it. `None` where the header
/// is not in the part that is known.
fn demand(name: &str, head: &[u8], size: u64) -> Option<u64> {
    picture::needs(name, head).ok().map(|decoder| 2 * decoder + size)
}

/// The memory for an image with this beginning and size, as soon as it is free.
fn claim<'a>(name: &str, head: &[u8], size: u64, budget: &'a Budget) -> Result<Part<'a>, Error> {
    if size > MAX_BYTES {
        return Err(picture::Error::TooManyBytes { path: name.into(), bytes: size }.into());
    }
    let (needs, total) = (demand(name, head, size), budget.total());
    match needs.unwrap_or(size) {
        needs if needs > total => Err(Error::Memory { name: name.to_owned(), needs, total }),
        // What is not known may take everything.
        _ => Ok(budget.take(needs.unwrap_or(total))),
    }
}

/// One image, hashed and decoded; `name` is for messages, `path` is stored.
fn row(item: &Item, name: &str, path: &str, bytes: &[u8], (config, budget): (&Config, &Budget)) -> Outcome {
    let needs = demand(name, bytes, bytes.len() as u64).unwrap_or(0);
    if needs > budget.total() {
        return Err(Error::Memory { name: name.to_owned(), needs, total: budget.total() });
    }
    let Radiograph { image: source, about } = Radiograph::decode_deep(name, bytes, config.depth)?;
    let mut stored = source.square(config.size);
    stored.contrast(config.contrast);
    let scale = config.size as f32 / BOX_FRAME_PX;
    let boxes = item.boxes.iter();
    let boxes = boxes.map(|b| FindingBox { finding: b.finding, bbox: b.bbox.scaled(scale, scale) });
    let row = images::Row {
        record: item.record.clone(),
        split: item.split,
        png: stored.encode(),
        path: path.to_owned(),
        source_blake3: blake3::hash(bytes).to_hex().to_string(),
        width_px: stored.width,
        height_px: stored.height,
        source_width_px: source.width,
        source_height_px: source.height,
        boxes: boxes.collect(),
    };
    Ok(Prepared { row, bits: about.bits, levels: if about.bits.is_some() { source.levels() } else { 0 } })
}
