//! Everything that is known before an image is opened: rows, boxes, splits, and which files are there.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use cxr::{DatasetKind, FindingBox, ImageRecord, Split, SplitKind};
use rayon::prelude::*;
use tables::images;

use crate::config::{Config, Form, OnProblem};
use crate::division::{Division, divide, given};
use crate::folder::{self, Tree};
use crate::scan::{File, scan};
use crate::summary::{Counts, Summary, known_as};
use crate::texts::{Texts, file_name};
use crate::{Error, nih};

/// Names under which the label table is looked for, the best first.
const LABELS: [&str; 3] = ["Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv", "sample_labels.csv"];
const BOXES: &str = "BBox_List_2017.csv";

/// How many names an error message lists.
const FIRST: usize = 10;
/// Files hashed between two questions whether to go on: some 30 MB.
const CHUNK: usize = 64;

/// One image that the split wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its row of the label table.
    pub record: ImageRecord,
    /// What it may be used for.
    pub split: Split,
    /// Its boxes, in the frame of [`nih::BOX_FRAME_PX`].
    pub boxes: Vec<FindingBox>,
    /// Its file; `None` where the folder lacks it.
    pub file: Option<File>,
}

/// What a folder's texts say, and its files.
struct Raw {
    label_table: String,
    records: Vec<ImageRecord>,
    impossible_ages: usize,
    box_list: Option<String>,
    boxes: Vec<(String, FindingBox)>,
    division: Division,
    files: Files,
    notes: Vec<String>,
}

/// The files of a folder, by `image_id`.
enum Files {
    Names(HashMap<String, File>),
    Tree(Tree),
}

impl Files {
    fn take(&mut self, image_id: &str) -> Option<File> {
        match self {
            Files::Names(names) => names.remove(image_id),
            Files::Tree(tree) => tree.take(image_id),
        }
    }
}

impl Raw {
    /// NIH's table, boxes and lists.
    fn of_nih(texts: &mut Texts<'_>, root: &Path, config: &Config) -> Result<Raw, Error> {
        let (labels, bytes) = match config.labels.as_str() {
            "auto" => texts
                .first(&LABELS)?
                .ok_or_else(|| Error::NoTable { root: root.to_owned(), tried: LABELS.join(", ") })?,
            name => texts.named(name)?,
        };
        let entries = nih::entries(&labels, &bytes)?;
        let box_list = match config.boxes.as_str() {
            "none" => None,
            "auto" => texts.first(&[BOXES])?,
            name => Some(texts.named(name)?),
        };
        let boxes = box_list.as_ref().map_or(Ok(Vec::new()), |(path, bytes)| nih::boxes(path, bytes))?;
        Ok(Raw {
            label_table: file_name(&labels),
            division: divide(texts, &entries.records, config)?,
            records: entries.records,
            impossible_ages: entries.impossible_ages,
            box_list: box_list.map(|(path, _)| file_name(path)),
            boxes,
            files: Files::Names(scan(root)?),
            notes: Vec::new(),
        })
    }

    /// One table with a row per image.
    fn of_folder(texts: &mut Texts<'_>, root: &Path, config: &Config) -> Result<Raw, Error> {
        let (path, bytes) = match config.labels.as_str() {
            "auto" => texts.named(&only_table(root)?)?,
            name => texts.named(name)?,
        };
        let tree = Tree::scan(root)?;
        let rows = folder::read(&path, &bytes, &tree, config)?;
        let division = match config.split_column.is_empty() {
            true => divide(texts, &rows.records, config)?,
            false => given(&rows.records, &rows.splits)?,
        };
        Ok(Raw {
            label_table: file_name(&path),
            records: rows.records,
            impossible_ages: rows.impossible_ages,
            box_list: None,
            boxes: Vec::new(),
            division,
            files: Files::Tree(tree),
            notes: rows.notes,
        })
    }
}

/// The name of the one table that a folder has.
fn only_table(root: &Path) -> Result<String, Error> {
    let mut tables = Vec::new();
    for entry in fs_err::read_dir(root)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let lower = name.to_ascii_lowercase();
        if (lower.ends_with(".csv") || lower.ends_with(".csv.gz")) && root.join(&name).is_file() {
            tables.push(name);
        }
    }
    tables.sort();
    match <[String; 1]>::try_from(tables) {
        Ok([name]) => Ok(name),
        Err(got) => Err(folder::Error::Tables { root: root.to_owned(), got }.into()),
    }
}

/// A dataset on disk, its images still closed.
#[derive(Debug)]
pub struct Dataset {
    /// The folder.
    pub root: PathBuf,
    /// All images that the split wants, sorted by `image_id`.
    pub items: Vec<Item>,
    /// What was found.
    pub summary: Summary,
    /// File name and hash of each text file that was read.
    texts: Vec<(String, blake3::Hash)>,
}

impl Dataset {
    /// Reads table, boxes and lists of the folder `root`, divides the images, and looks which are there. Opens no image.
    ///
    /// # Errors
    /// A folder, table or list that is not there; a text file that is not as it should be; a bad division; one image
    /// in two places. That images are absent is no error here: see [`Dataset::take`].
    pub fn read(root: &Path, config: &Config) -> Result<Dataset, Error> {
        if !root.is_dir() {
            return Err(Error::NoFolder { path: root.to_owned() });
        }
        let mut texts = Texts::new(root);
        let raw = match config.dataset {
            Form::Nih => Raw::of_nih(&mut texts, root, config)?,
            Form::Folder => Raw::of_folder(&mut texts, root, config)?,
        };
        let Raw { label_table, records, impossible_ages, box_list, boxes, division, mut files, notes } = raw;
        let Division { plan, kind, relabelled } = division;

        let mut of_image: HashMap<String, Vec<FindingBox>> = HashMap::new();
        for (image_id, found) in boxes {
            of_image.entry(image_id).or_default().push(found);
        }
        let all_boxes: usize = of_image.values().map(Vec::len).sum();
        let mut summary = Summary {
            label_table,
            rows: records.len(),
            patients: records.iter().map(|record| record.patient_id).collect::<BTreeSet<_>>().len(),
            impossible_ages,
            box_list,
            boxes: 0,
            boxed_images: 0,
            foreign_boxes: 0,
            kind,
            known_as: None,
            unlisted: plan.splits.iter().filter(|split| split.is_none()).count(),
            relabelled,
            shared_patients: plan.shared.len(),
            splits: [Counts::default(); 3],
            notes,
        };
        let mut items = Vec::with_capacity(records.len());
        for (record, split) in records.into_iter().zip(plan.splits) {
            let boxes = of_image.remove(&record.image_id).unwrap_or_default();
            summary.boxes += boxes.len();
            summary.boxed_images += usize::from(!boxes.is_empty());
            if let Some(split) = split {
                let file = files.take(&record.image_id);
                items.push(Item { record, split, boxes, file });
            }
        }
        summary.foreign_boxes = all_boxes - summary.boxes;
        items.sort_unstable_by(|a, b| a.record.image_id.cmp(&b.record.image_id));
        summary.splits = Split::ALL.map(|split| {
            let images = items.iter().filter(|item| item.split == split);
            Counts::of(images.map(|item| (&item.record, item.file.is_some())))
        });
        summary.known_as = known_as(config, summary.splits.map(|counts| counts.images));
        Ok(Dataset { root: root.to_owned(), items, summary, texts: texts.into_hashes() })
    }

    /// The images to prepare, sorted by `image_id`: those that are there, and of them at most `limit` per split,
    /// evenly spread.
    ///
    /// # Errors
    /// No image at all; images that are not there, unless `missing` says to skip them; a split left without images.
    pub fn take(&self, missing: OnProblem, limit: Option<usize>) -> Result<Vec<&Item>, Error> {
        let absent: Vec<&Item> = self.items.iter().filter(|item| item.file.is_none()).collect();
        if absent.len() == self.items.len() {
            return Err(Error::NoImages { root: self.root.clone(), wanted: self.items.len() });
        }
        if missing == OnProblem::Error && !absent.is_empty() {
            return Err(Error::Absent {
                root: self.root.clone(),
                count: absent.len(),
                wanted: self.items.len(),
                first: absent.iter().take(FIRST).map(|item| item.record.image_id.clone()).collect(),
            });
        }
        let mut taken = Vec::new();
        for split in Split::ALL {
            let there: Vec<&Item> =
                self.items.iter().filter(|item| item.split == split && item.file.is_some()).collect();
            let wanted = self.summary.splits[split as usize].images;
            if there.is_empty() && wanted == 0 && self.summary.kind == SplitKind::Test && split != Split::Test {
                continue;
            }
            if there.is_empty() {
                return Err(Error::EmptySplit { split, wanted });
            }
            let kept = limit.unwrap_or(there.len()).min(there.len());
            taken.extend((0..kept).map(|i| there[i * there.len() / kept]));
        }
        taken.sort_unstable_by(|a, b| a.record.image_id.cmp(&b.record.image_id));
        Ok(taken)
    }

    /// What holds for all rows of the table to be written.
    pub fn facts(&self, config: &Config) -> images::Facts {
        images::Facts {
            size_px: config.size,
            contrast: config.contrast,
            split: self.summary.kind,
            label_table: self.summary.label_table.clone(),
            dataset: match config.dataset {
                Form::Folder => DatasetKind::Folder,
                Form::Nih if config.root == Config::PHANTOM => DatasetKind::Phantom,
                Form::Nih => DatasetKind::Nih,
            },
        }
    }

    /// A cheap fingerprint of the raw data: BLAKE3 over the text files' contents, and path, size and time of last change
    /// of the `taken` files. Equal for equal contents unless files were touched or copied.
    ///
    /// Neither fingerprint depends on where the folder is or what it is called.
    pub fn quick_fingerprint(&self, taken: &[&Item]) -> String {
        let mut hasher = self.texts_hasher();
        for File { path, bytes, modified_ns } in taken.iter().filter_map(|item| item.file.as_ref()) {
            hasher.update(path.as_bytes()).update(&[0]);
            hasher.update(&bytes.to_le_bytes()).update(&modified_ns.to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The fingerprint of the raw data: BLAKE3 over the text files' contents, and path and contents of the `taken` files.
    ///
    /// Reads all of them, in parallel. `watch` hears the number of files read since it was last called, and may stop.
    ///
    /// # Errors
    /// A file cannot be read; [`Error::Interrupted`].
    pub fn contents_fingerprint(
        &self,
        taken: &[&Item],
        watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<String, Error> {
        let mut hasher = self.texts_hasher();
        let files: Vec<&File> = taken.iter().filter_map(|item| item.file.as_ref()).collect();
        for chunk in files.chunks(CHUNK) {
            let hash = |file: &&File| -> Result<blake3::Hash, Error> {
                let mut hasher = blake3::Hasher::new();
                hasher.update_reader(guard::open(&self.root.join(&file.path))?)?;
                Ok(hasher.finalize())
            };
            let hashes = chunk.par_iter().map(hash).collect::<Result<Vec<_>, Error>>()?;
            for (file, hash) in chunk.iter().zip(hashes) {
                hasher.update(file.path.as_bytes()).update(&[0]).update(hash.as_bytes());
            }
            if watch(chunk.len()).is_break() {
                return Err(Error::Interrupted);
            }
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    fn texts_hasher(&self) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new();
        for (name, hash) in &self.texts {
            hasher.update(name.as_bytes()).update(&[0]).update(hash.as_bytes());
        }
        hasher
    }
}
