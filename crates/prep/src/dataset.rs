//! Everything that is known before an image is opened: rows, boxes, splits, and which files are there.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cxr::{DatasetKind, Expert, Finding, FindingBox, ImageRecord, Split, SplitKind};
use labels::names::known_by;
use labels::nih::{self, BOXES, LABELS};
use labels::texts::file_name;
use labels::{Texts, table};
use rayon::prelude::*;
use tables::{experts, images};

use crate::by_name::{ByName, only};
use crate::config::{Config, Form, OnProblem};
use crate::division::{Division, divide, given};
use crate::folder::{self, Tree};
use crate::scan::{File, Scan, scan};
use crate::summary::{Counts, Summary, known_as};
use crate::{Error, archive};

/// How many names an error message lists.
const FIRST: usize = 10;

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

/// Remembers a text that takes long to compute, by a name that stands for what it is computed from.
pub type Remember<'a> = &'a (dyn Fn(&str, &mut dyn FnMut() -> Result<String, Error>) -> Result<String, Error> + Sync);

/// What a folder's texts say.
struct Raw {
    label_table: String,
    records: Vec<ImageRecord>,
    impossible_ages: usize,
    box_list: Option<String>,
    boxes: Vec<(String, FindingBox)>,
    division: Division,
    notes: Vec<String>,
    experts: Vec<experts::Row>,
}

impl Raw {
    /// NIH's table, boxes and lists.
    fn of_nih(texts: &mut Texts<'_>, root: &Path, config: &Config) -> Result<Raw, Error> {
        let (labels, bytes) = match config.labels.as_str() {
            "auto" => texts.first(&LABELS)?.ok_or_else(|| no_table(root))?,
            name => texts.named("labels", name)?,
        };
        texts.look_beside(&labels);
        let mut entries = nih::entries(&labels, &bytes, &config.reading())?;
        let box_list = match config.boxes.as_str() {
            "none" => None,
            "auto" => texts.first(&[BOXES])?,
            name => Some(texts.named("boxes", name)?),
        };
        let (experts, made) = experts_of(texts, &entries.records, config)?;
        entries.notes.extend(made);
        let boxes = box_list.as_ref().map_or(Ok(Vec::new()), |(path, bytes)| nih::boxes(path, bytes))?;
        Ok(Raw {
            label_table: file_name(&labels),
            division: divide(texts, &entries.records, &entries.left_out, config)?,
            records: entries.records,
            impossible_ages: entries.impossible_ages,
            box_list: box_list.map(|(path, _)| file_name(path)),
            boxes,
            notes: entries.notes,
            experts,
        })
    }

    /// One table with a row per image.
    fn of_folder(texts: &mut Texts<'_>, root: &Path, tree: &Tree, config: &Config) -> Result<Raw, Error> {
        let (path, bytes) = match config.labels.as_str() {
            "auto" => texts.named("labels", &only_table(root)?)?,
            name => texts.named("labels", name)?,
        };
        let rows = folder::read(&path, &bytes, tree, &config.reading())?;
        let division = match config.split_column.is_empty() {
            true => divide(texts, &rows.records, &HashSet::new(), config)?,
            false => given(&rows.records, &rows.splits)?,
        };
        Ok(Raw {
            label_table: file_name(&path),
            records: rows.records,
            impossible_ages: rows.impossible_ages,
            box_list: None,
            boxes: Vec::new(),
            division,
            notes: rows.notes,
            experts: Vec::new(),
        })
    }
}

/// What experts say of images of the table, sorted by `image_id`; and, for the log, which of their findings are made of
/// others. The report has a setting for that, and prep, which comes before it, has not: it says what it did.
fn experts_of(
    texts: &mut Texts<'_>,
    records: &[ImageRecord],
    config: &Config,
) -> Result<(Vec<experts::Row>, Vec<String>), Error> {
    if config.expert_labels.is_empty() {
        return Ok(Default::default());
    }
    let (path, bytes) = texts.named("expert_labels", &config.expert_labels)?;
    let mapping: Vec<_> = Expert::ALL.map(|expert| (expert, expert.findings().to_vec())).into();
    let read = labels::experts::experts(&path, &bytes, &mapping)?;
    let note = |(expert, findings): &(Expert, Vec<Finding>)| {
        let findings: Vec<&str> = findings.iter().map(|finding| finding.name()).collect();
        format!(
            "experts: {} has no column for {expert}, which is made of {}, whatever report.experts says",
            config.expert_labels,
            findings.join(" or ")
        )
    };
    let notes = read.made.iter().map(note).collect();
    let called: HashMap<&str, &str> = records.iter().map(|r| (known_by(&r.image_id), r.image_id.as_str())).collect();
    let row =
        |(name, labels): (String, _)| Some(experts::Row { image_id: (*called.get(name.as_str())?).to_owned(), labels });
    let mut rows: Vec<experts::Row> = read.rows.into_iter().filter_map(row).collect();
    rows.sort_unstable_by(|a, b| a.image_id.cmp(&b.image_id));
    Ok((rows, notes))
}

/// The error of a folder without NIH's table; says where one lies near it.
fn no_table(root: &Path) -> Error {
    let is_table =
        |path: &str| LABELS.iter().any(|name| path.rsplit('/').next().is_some_and(|last| last.starts_with(name)));
    let below = scan(root).map(|found| found.tables).unwrap_or_default();
    let parent = |path: &Path| path.parent().map(Path::to_owned).filter(|folder| !folder.as_os_str().is_empty());
    let below = below.iter().filter(|path| is_table(path)).find_map(|path| parent(&root.join(path)));
    let above = fs_err::canonicalize(root).ok().as_deref().and_then(parent);
    let above = above.filter(|folder| LABELS.iter().any(|name| folder.join(name).is_file()));
    Error::NoTable { root: root.to_owned(), tried: LABELS.join(", "), near: below.or(above) }
}

/// The name of the one table that a folder has.
fn only_table(root: &Path) -> Result<String, Error> {
    let mut tables = Vec::new();
    for name in files::names(root)? {
        let lower = name.to_ascii_lowercase();
        if (lower.ends_with(".csv") || lower.ends_with(".csv.gz")) && files::is_file(&root.join(&name))? {
            tables.push(name);
        }
    }
    match <[String; 1]>::try_from(tables) {
        Ok([name]) => Ok(name),
        Err(got) => Err(table::Error::Tables { root: root.to_owned(), got }.into()),
    }
}

/// The wanted images of NIH's form with their files: those of their own first, then those in archives.
fn files_by_name(
    root: &Path,
    found: &mut Scan,
    wanted: &[&str],
    remember: Remember<'_>,
) -> Result<Vec<Option<File>>, Error> {
    let mut by_name = ByName::new(std::mem::take(&mut found.images));
    let candidates: Vec<(&str, Vec<File>)> = wanted.iter().map(|id| (*id, by_name.take(id))).collect();
    let chosen = candidates.into_par_iter().map(|(image_id, files)| only(root, image_id, files));
    let mut files = chosen.collect::<Result<Vec<_>, Error>>()?;
    found.images = by_name.into_files();
    if files.iter().all(Option::is_some) || found.archives.is_empty() {
        return Ok(files);
    }
    let mut packed = ByName::new(packed(root, &found.archives, remember)?);
    for (file, image_id) in files.iter_mut().zip(wanted).filter(|(file, _)| file.is_none()) {
        *file = only(root, image_id, packed.take(image_id))?;
    }
    found.packed = packed.into_files();
    Ok(files)
}

/// The images in archives, each of which is looked through once: what is in it is remembered by its name, size and date.
fn packed(root: &Path, archives: &[File], remember: Remember<'_>) -> Result<Vec<File>, Error> {
    let megabytes = archives.iter().map(|archive| archive.bytes >> 20).sum();
    let progress = Mutex::new(stage::progress(megabytes, "MB of archives read"));
    let index = |archive: &File| {
        let File { path, bytes, modified_ns, tag, .. } = archive;
        let tag = tag.as_ref().map_or(String::new(), |tag| format!("\n{tag}"));
        let name = format!("archive 1\n{path}\n{bytes}\n{modified_ns}{tag}");
        let name = blake3::hash(name.as_bytes()).to_hex().to_string();
        let read = |megabytes| progress.lock().unwrap_or_else(PoisonError::into_inner).inc(megabytes);
        let index = remember(&name, &mut || archive::index(root, archive, &read))?;
        Ok(archive::files(archive, &index))
    };
    let files: Vec<Vec<File>> = archives.par_iter().map(index).collect::<Result<_, Error>>()?;
    progress.into_inner().unwrap_or_else(PoisonError::into_inner).finish();
    Ok(files.concat())
}

/// A dataset on disk or in a bucket, its images still closed.
#[derive(Debug)]
pub struct Dataset {
    /// The folder.
    pub root: PathBuf,
    /// All images that the split wants, sorted by `image_id`.
    pub items: Vec<Item>,
    /// What was found.
    pub summary: Summary,
    /// What experts say of images of the table, sorted by `image_id`; empty without `prep.expert_labels`.
    pub experts: Vec<experts::Row>,
    /// What else lies in the folder, for messages.
    census: String,
    /// File name and hash of each text file that was read.
    pub(crate) texts: Vec<(String, blake3::Hash)>,
}

impl Dataset {
    /// Reads table, boxes and lists of the folder `root`, divides the images, and looks which are there. Opens no image,
    /// but of those that lie in archives; what is in an archive is remembered by `remember`.
    ///
    /// # Errors
    /// A folder, table or list that is not there; a text file that is not as it should be; a bad division; two images
    /// of one name; an archive that cannot be read. That images are absent is no error here: see [`Dataset::take`].
    pub fn read(root: &Path, config: &Config, remember: Remember<'_>) -> Result<Dataset, Error> {
        if !files::is_folder(root)? {
            return Err(Error::NoFolder { path: root.to_owned() });
        }
        let mut texts = Texts::new(root);
        let (raw, mut found, mut tree) = match config.dataset {
            Form::Nih => (Raw::of_nih(&mut texts, root, config)?, scan(root)?, None),
            Form::Folder => {
                let mut found = scan(root)?;
                let tree = Tree::new(root, std::mem::take(&mut found.images));
                (Raw::of_folder(&mut texts, root, &tree, config)?, found, Some(tree))
            }
        };
        let Raw { label_table, records, impossible_ages, box_list, boxes, division, mut notes, experts } = raw;
        if !experts.is_empty() {
            notes.push(format!("experts: {} images have labels of {}", experts.len(), config.expert_labels));
        }
        let Division { plan, kind, relabelled, unknown } = division;
        notes.extend(found.notes());

        let mut of_image: HashMap<String, Vec<FindingBox>> = HashMap::new();
        for (image_id, drawn) in boxes {
            of_image.entry(known_by(&image_id).to_owned()).or_default().push(drawn);
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
            unknown,
            relabelled,
            shared_patients: plan.shared.len(),
            splits: [Counts::default(); 3],
            notes,
        };
        let mut items = Vec::with_capacity(records.len());
        for (record, split) in records.into_iter().zip(plan.splits) {
            let boxes = of_image.remove(known_by(&record.image_id)).unwrap_or_default();
            summary.boxes += boxes.len();
            summary.boxed_images += usize::from(!boxes.is_empty());
            if let Some(split) = split {
                let file = tree.as_mut().and_then(|tree| tree.take(&record.image_id));
                items.push(Item { record, split, boxes, file });
            }
        }
        summary.foreign_boxes = all_boxes - summary.boxes;
        items.sort_unstable_by(|a, b| a.record.image_id.cmp(&b.record.image_id));
        if tree.is_none() {
            let wanted: Vec<&str> = items.iter().map(|item| item.record.image_id.as_str()).collect();
            let files = files_by_name(root, &mut found, &wanted, remember)?;
            items.iter_mut().zip(files).for_each(|(item, file)| item.file = file);
        }
        found.images.extend(tree.into_iter().flat_map(Tree::into_files));
        summary.splits = Split::ALL.map(|split| {
            let images = items.iter().filter(|item| item.split == split);
            Counts::of(images.map(|item| (&item.record, item.file.is_some())))
        });
        summary.known_as = known_as(config, summary.splits.map(|counts| counts.images));
        Ok(Dataset {
            root: root.to_owned(),
            items,
            summary,
            experts,
            census: found.census(),
            texts: texts.into_hashes(),
        })
    }

    /// The images to prepare, sorted by `image_id`: those that are there, and of them at most `limit` per split,
    /// evenly spread.
    ///
    /// # Errors
    /// No image at all; images that are not there, unless `missing` says to skip them; a split left without images.
    pub fn take(&self, missing: OnProblem, limit: Option<usize>) -> Result<Vec<&Item>, Error> {
        let absent: Vec<&Item> = self.items.iter().filter(|item| item.file.is_none()).collect();
        if absent.len() == self.items.len() {
            return Err(Error::NoImages {
                root: self.root.clone(),
                wanted: self.items.len(),
                first: self.items.first().map(|item| item.record.image_id.clone()).unwrap_or_default(),
                there: self.census.clone(),
            });
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
                let random = matches!(self.summary.kind, SplitKind::Random | SplitKind::Paper);
                return Err(Error::EmptySplit { split, wanted, random });
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
            depth: config.depth,
            split: self.summary.kind,
            label_table: self.summary.label_table.clone(),
            dataset: match config.dataset {
                Form::Folder => DatasetKind::Folder,
                Form::Nih if config.root == Config::PHANTOM => DatasetKind::Phantom,
                Form::Nih => DatasetKind::Nih,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_that_are_made_of_others_are_said() {
        let folder = tempfile::tempdir().unwrap();
        let all = "Image ID,Pneumothorax,Nodule,Mass\na.png,YES,NO,YES\n";
        fs_err::write(folder.path().join("all.csv"), all).unwrap();
        let four = "Image ID,Pneumothorax,Nodule or mass\na.png,YES,NO\n";
        fs_err::write(folder.path().join("four.csv"), four).unwrap();
        let said = |file: &str| {
            let defaults: toml::Table = include_str!("../default.toml").parse().unwrap();
            let mut config: Config = defaults["prep"].clone().try_into().unwrap();
            config.expert_labels = file.to_owned();
            experts_of(&mut Texts::new(folder.path()), &[], &config).unwrap().1
        };
        let made = "has no column for nodule_or_mass, which is made of Nodule or Mass, whatever report.experts says";
        assert_eq!(said("all.csv"), [format!("experts: all.csv {made}")]);
        assert!(said("four.csv").is_empty() && said("").is_empty());
    }
}
