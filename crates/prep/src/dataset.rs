//! Everything that is known before a picture is opened: rows, boxes, splits, and which files are there.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use cxr::split::{self, List, Shared};
use cxr::{FindingBox, ImageRecord, Labels, OUTPUTS, Split, output_names};

use crate::config::{Config, Kind, Trouble};
use crate::{Error, nih};

/// Names under which the label table is looked for, the best first.
const LABELS: [&str; 3] = ["Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv", "sample_labels.csv"];
const BOXES: &str = "BBox_List_2017.csv";
const TRAIN_VAL: &str = "train_val_list.txt";
const TEST: &str = "test_list.txt";

/// Images in NIH's `train_val_list.txt` and `test_list.txt`.
const OFFICIAL: [usize; 2] = [86_524, 25_596];
/// The validation cut of train_val that BenchmarkTransformers, Ark, medical_mae and EVA-X share.
const OFFICIAL_CUT: [usize; 3] = [75_312, 11_212, 25_596];
/// The random split that arnoweng/CheXNet shipped and many copied.
const ARNOWENG: [usize; 3] = [78_468, 11_219, 22_433];

/// How deep below the root pictures may lie: `images_001/images/x.png` is 3.
const DEPTH: usize = 3;
/// How many names an error message lists.
const FIRST: usize = 10;

/// A picture's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Path relative to the dataset's root, with `/`.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Last change, in nanoseconds since 1970.
    pub modified_ns: u128,
}

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

/// A dataset on disk, its pictures still closed.
#[derive(Debug)]
pub struct Dataset {
    /// The folder.
    pub root: PathBuf,
    /// All images that the split wants, sorted by `image_id`.
    pub items: Vec<Item>,
    /// What was found.
    pub summary: Summary,
    /// Hash of each text file read.
    texts: Vec<(String, blake3::Hash)>,
}

/// What a dataset holds; its [`Display`](fmt::Display) is the table that `--dry-run` prints.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The label table's file name.
    pub labels: String,
    /// Rows in it.
    pub rows: usize,
    /// Patients in it.
    pub patients: usize,
    /// Ages above [`nih::MAX_AGE_YEARS`] that were dropped.
    pub impossible_ages: usize,
    /// The box list's file name.
    pub box_list: Option<String>,
    /// Boxes on images of the table.
    pub boxes: usize,
    /// Images of the table with a box.
    pub boxed_images: usize,
    /// Boxes on images that the table does not have, which are left out.
    pub foreign_boxes: usize,
    /// How the images were divided.
    pub kind: Kind,
    /// What is known about this division, e.g. that it is NIH's.
    pub known_as: Option<&'static str>,
    /// Images of the table that no list names.
    pub unlisted: usize,
    /// Images for which a list carries other labels than the table, whose labels are used.
    pub relabelled: usize,
    /// Patients in more than one split (`paper` only; an error otherwise).
    pub shared_patients: usize,
    /// Images, patients, files and labels of train, validation and test.
    pub splits: [Counts; 3],
}

/// Numbers of one split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Images wanted.
    pub images: usize,
    /// Their patients.
    pub patients: usize,
    /// Images whose file is there.
    pub present: usize,
    /// Images with each output's label, in output order.
    pub positives: [usize; OUTPUTS],
}

impl Dataset {
    /// Reads table, boxes and lists of the folder `root`, divides the images, and looks which are there. Opens no picture.
    ///
    /// # Errors
    /// A folder, table or list that is not there; a text file that is not as it should be; a bad division; one image
    /// in two places. That images are absent is no error here: see [`Dataset::take`].
    pub fn read(root: &Path, config: &Config, seed: u64) -> Result<Dataset, Error> {
        if !root.is_dir() {
            return Err(Error::NoFolder { path: root.to_owned() });
        }
        let mut texts = Texts { root, read: Vec::new() };
        let (labels, bytes) = match config.labels.as_str() {
            "auto" => texts
                .first(&LABELS)?
                .ok_or_else(|| Error::NoTable { root: root.to_owned(), tried: LABELS.join(", ") })?,
            name => texts.named(name)?,
        };
        let entries = nih::entries(&labels, &bytes)?;
        let records = entries.records;
        let boxes = match config.boxes.as_str() {
            "none" => None,
            "auto" => texts.first(&[BOXES])?,
            name => Some(texts.named(name)?),
        };
        let (box_list, boxes) = match boxes {
            Some((path, bytes)) => (Some(path.clone()), nih::boxes(&path, &bytes)?),
            None => (None, Vec::new()),
        };
        let (splits, listed) = divide(&mut texts, &records, config, seed)?;
        let shared = shared(&records, &splits, config.split)?;
        let mut files = scan(root)?;

        let mut of_image: HashMap<String, Vec<FindingBox>> = HashMap::new();
        for (image_id, found) in boxes {
            of_image.entry(image_id).or_default().push(found);
        }
        let all_boxes: usize = of_image.values().map(Vec::len).sum();
        let mut summary = Summary {
            labels: file_name(&labels),
            rows: records.len(),
            patients: distinct_patients(&records),
            impossible_ages: entries.impossible_ages,
            box_list: box_list.as_deref().map(file_name),
            boxes: 0,
            boxed_images: 0,
            foreign_boxes: 0,
            kind: config.split,
            known_as: None,
            unlisted: splits.iter().filter(|split| split.is_none()).count(),
            relabelled: relabelled(&records, &listed),
            shared_patients: shared.len(),
            splits: [Counts::default(); 3],
        };
        let mut items = Vec::with_capacity(records.len());
        for (record, split) in records.into_iter().zip(splits) {
            let boxes = of_image.remove(&record.image_id).unwrap_or_default();
            summary.boxes += boxes.len();
            summary.boxed_images += usize::from(!boxes.is_empty());
            if let Some(split) = split {
                let file = files.remove(&record.image_id);
                items.push(Item { record, split, boxes, file });
            }
        }
        summary.foreign_boxes = all_boxes - summary.boxes;
        items.sort_unstable_by(|a, b| a.record.image_id.cmp(&b.record.image_id));
        summary.splits = Split::ALL.map(|split| counts(&items, split));
        summary.known_as = known_as(config, summary.splits.map(|counts| counts.images));
        Ok(Dataset { root: root.to_owned(), items, summary, texts: texts.read })
    }

    /// The images to prepare, sorted by `image_id`: those that are there, and of them at most `limit` per split,
    /// evenly spread.
    ///
    /// # Errors
    /// No image at all; images that are not there, unless `missing` says to skip them; a split left without images.
    pub fn take(&self, missing: Trouble, limit: Option<usize>) -> Result<Vec<&Item>, Error> {
        let absent: Vec<&Item> = self.items.iter().filter(|item| item.file.is_none()).collect();
        if absent.len() == self.items.len() {
            return Err(Error::NoImages { root: self.root.clone(), wanted: self.items.len() });
        }
        if missing == Trouble::Error && !absent.is_empty() {
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
            if there.is_empty() {
                return Err(Error::EmptySplit { split, wanted: self.summary.splits[split as usize].images });
            }
            let kept = limit.unwrap_or(there.len()).min(there.len());
            taken.extend((0..kept).map(|i| there[i * there.len() / kept]));
        }
        taken.sort_unstable_by(|a, b| a.record.image_id.cmp(&b.record.image_id));
        Ok(taken)
    }

    /// Stands for all that the result depends on: the text files' contents, and path, size and time of last change of
    /// the `taken` pictures.
    pub fn fingerprint(&self, taken: &[&Item]) -> String {
        let mut hasher = blake3::Hasher::new();
        for (name, hash) in &self.texts {
            hasher.update(name.as_bytes()).update(&[0]).update(hash.as_bytes());
        }
        for file in taken.iter().filter_map(|item| item.file.as_ref()) {
            hasher.update(file.path.as_bytes()).update(&[0]);
            hasher.update(&file.bytes.to_le_bytes()).update(&file.modified_ns.to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// Text files of the folder, hashed as they are read.
struct Texts<'a> {
    root: &'a Path,
    read: Vec<(String, blake3::Hash)>,
}

impl Texts<'_> {
    /// A file named by the configuration: in the root, or else from the current folder.
    fn named(&mut self, name: &str) -> Result<(PathBuf, Vec<u8>), Error> {
        let inside = self.root.join(name);
        let path = if inside.is_file() { inside } else { PathBuf::from(name) };
        if !path.is_file() {
            return Err(Error::NoFile { path: self.root.join(name) });
        }
        self.load(path)
    }

    /// The first of these that the root has.
    fn first(&mut self, names: &[&str]) -> Result<Option<(PathBuf, Vec<u8>)>, Error> {
        let path = names.iter().map(|name| self.root.join(name)).find(|path| path.is_file());
        path.map(|path| self.load(path)).transpose()
    }

    fn list(&mut self, name: &str) -> Result<nih::Listed, Error> {
        let (path, bytes) = self.named(name)?;
        Ok(nih::list(&path, &bytes)?)
    }

    fn load(&mut self, path: PathBuf) -> Result<(PathBuf, Vec<u8>), Error> {
        let bytes = fs_err::read(&path)?;
        self.read.push((file_name(&path), blake3::hash(&bytes)));
        Ok((path, bytes))
    }
}

/// The split of each record, and the lists that were read.
fn divide(
    texts: &mut Texts<'_>,
    records: &[ImageRecord],
    config: &Config,
    seed: u64,
) -> Result<(Vec<Option<Split>>, Vec<nih::Listed>), Error> {
    let or = |name: &str, usual: &str| {
        if name.is_empty() { usual.to_owned() } else { name.to_owned() }
    };
    match config.split {
        Kind::Random => Ok((split::random(records, seed).into_iter().map(Some).collect(), Vec::new())),
        Kind::Paper => Ok((split::paper(records, seed).into_iter().map(Some).collect(), Vec::new())),
        Kind::Official => {
            let mut lists =
                vec![texts.list(&or(&config.train_list, TRAIN_VAL))?, texts.list(&or(&config.test_list, TEST))?];
            if !config.validation_list.is_empty() {
                lists.push(texts.list(&config.validation_list)?);
            }
            let validation = match lists.get(2) {
                Some(listed) => split::Validation::List(&listed.list),
                None => split::Validation::Cut { fraction: config.validation_fraction, seed },
            };
            let splits = split::official(records, &lists[0].list, &lists[1].list, validation)?;
            Ok((splits, lists))
        }
        Kind::Files => {
            let lists = [&config.train_list, &config.validation_list, &config.test_list]
                .map(|name| texts.list(name))
                .into_iter()
                .collect::<Result<Vec<_>, _>>()?;
            let of = |i: usize| -> &List { &lists[i].list };
            Ok((split::files(records, of(0), of(1), of(2))?, lists))
        }
    }
}

/// Patients in more than one split, which only the paper's split may have.
fn shared(records: &[ImageRecord], splits: &[Option<Split>], kind: Kind) -> Result<Vec<Shared>, Error> {
    if kind != Kind::Paper {
        split::check_patients(records, splits)?;
    }
    Ok(split::shared_patients(records, splits))
}

/// All PNG files at most [`DEPTH`] levels below `root`, by name.
fn scan(root: &Path) -> Result<HashMap<String, File>, Error> {
    let mut files: HashMap<String, File> = HashMap::new();
    let mut folders = vec![(root.to_owned(), String::new(), 1)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        for entry in fs_err::read_dir(&folder)? {
            let entry = entry?;
            // A name that is not text is in no table; hidden files are leftovers of archivers.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            let is_png = Path::new(&name).extension().is_some_and(|ext| ext.eq_ignore_ascii_case("png"));
            let is_link = entry.file_type()?.is_symlink();
            if !is_png && !is_link && !entry.file_type()?.is_dir() {
                continue;
            }
            // Follows links: datasets are often linked into place.
            let Ok(about) = fs_err::metadata(entry.path()) else {
                continue;
            };
            let path = format!("{prefix}{name}");
            if about.is_dir() && depth < DEPTH {
                folders.push((entry.path(), format!("{path}/"), depth + 1));
            } else if about.is_file() && is_png {
                let modified = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                let modified_ns = modified.map_or(0, |since| since.as_nanos());
                let file = File { path, bytes: about.len(), modified_ns };
                if let Some(other) = files.insert(name.clone(), file) {
                    let mut paths = [other.path, files[&name].path.clone()];
                    paths.sort();
                    let [first, second] = paths;
                    return Err(Error::TwoFiles { root: root.to_owned(), image_id: name, first, second });
                }
            }
        }
    }
    Ok(files)
}

fn relabelled(records: &[ImageRecord], lists: &[nih::Listed]) -> usize {
    if lists.iter().all(|listed| listed.labels.is_empty()) {
        return 0;
    }
    let labels: HashMap<&str, Labels> =
        records.iter().map(|record| (record.image_id.as_str(), record.labels)).collect();
    let pairs = lists.iter().flat_map(|listed| listed.list.image_ids.iter().zip(&listed.labels));
    pairs.filter(|(image_id, theirs)| labels.get(image_id.as_str()).is_some_and(|ours| ours != *theirs)).count()
}

fn distinct_patients(records: &[ImageRecord]) -> usize {
    records.iter().map(|record| record.patient_id).collect::<BTreeSet<_>>().len()
}

fn counts(items: &[Item], split: Split) -> Counts {
    let mut counts = Counts::default();
    let mut patients = BTreeSet::new();
    for item in items.iter().filter(|item| item.split == split) {
        counts.images += 1;
        counts.present += usize::from(item.file.is_some());
        patients.insert(item.record.patient_id);
        for (positives, target) in counts.positives.iter_mut().zip(item.record.labels.targets()) {
            *positives += usize::from(target == 1.0);
        }
    }
    counts.patients = patients.len();
    counts
}

/// Recognises the divisions that other projects use, by their sizes.
fn known_as(config: &Config, images: [usize; 3]) -> Option<&'static str> {
    let [train, validation, test] = images;
    let lists = matches!(config.split, Kind::Official | Kind::Files);
    // Our own cut may have the same size as the shared list, but not the same images.
    match images {
        OFFICIAL_CUT if lists && !config.validation_list.is_empty() => Some(
            "as large as the shared official split 75,312 / 11,212 / 25,596 (BenchmarkTransformers, Ark, medical_mae, EVA-X)",
        ),
        ARNOWENG if lists => Some(
            "as large as arnoweng/CheXNet's random split 78,468 / 11,219 / 22,433, which trains on 70 % of NIH's official test images",
        ),
        _ if config.split == Kind::Official && [train + validation, test] == OFFICIAL => {
            Some("NIH's complete lists, 86,524 / 25,596")
        }
        _ if config.split == Kind::Official => Some("not NIH's complete lists (86,524 / 25,596)"),
        _ => None,
    }
}

fn file_name(path: impl AsRef<Path>) -> String {
    path.as_ref().file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// `112120` as `112,120`.
pub(crate) fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Summary {
    /// Images that the split wants.
    pub fn images(&self) -> usize {
        self.splits.iter().map(|counts| counts.images).sum()
    }

    /// Images that it wants and that are there.
    pub fn present(&self) -> usize {
        self.splits.iter().map(|counts| counts.present).sum()
    }

    /// What the log says: one sentence per line.
    pub fn sentences(&self) -> Vec<String> {
        let n = |n| thousands(n);
        let [train, validation, test] = self.splits;
        let mut lines = vec![format!("labels: {}, {} rows, {} patients", self.labels, n(self.rows), n(self.patients))];
        if self.impossible_ages > 0 {
            lines.push(format!(
                "ages: {} above {} years are not believed and left empty",
                n(self.impossible_ages),
                nih::MAX_AGE_YEARS
            ));
        }
        lines.push(match &self.box_list {
            Some(name) => format!("boxes: {name}, {} boxes on {} images", n(self.boxes), n(self.boxed_images)),
            None => "boxes: none".to_owned(),
        });
        if self.foreign_boxes > 0 {
            lines.push(format!("boxes: {} more on images that the label table lacks", n(self.foreign_boxes)));
        }
        let known = self.known_as.map_or(String::new(), |known| format!("; {known}"));
        lines.push(format!(
            "split: {}, {} train / {} validation / {} test images{known}",
            self.kind.name(),
            n(train.images),
            n(validation.images),
            n(test.images)
        ));
        if self.unlisted > 0 {
            lines.push(format!("split: {} images of the label table are in no list", n(self.unlisted)));
        }
        if self.relabelled > 0 {
            lines.push(format!(
                "split: the lists label {} images otherwise than {}, whose labels are used",
                n(self.relabelled),
                self.labels
            ));
        }
        let absent = self.images() - self.present();
        lines.push(format!("images: {} of {} are there, {} are not", n(self.present()), n(self.images()), n(absent)));
        lines
    }

    /// What the log warns of.
    pub fn warning(&self) -> Option<String> {
        (self.shared_patients > 0).then(|| {
            format!(
                "{} of {} patients are in more than one split: results will look better than they are",
                thousands(self.shared_patients),
                thousands(self.patients)
            )
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.sentences().iter().chain(&self.warning()) {
            writeln!(f, "{line}")?;
        }
        let row = |f: &mut fmt::Formatter<'_>, name: &str, of: &dyn Fn(&Counts) -> usize, total: Option<usize>| {
            write!(f, "{name:<20}")?;
            for counts in &self.splits {
                write!(f, "{:>12}", thousands(of(counts)))?;
            }
            let total = total.unwrap_or_else(|| self.splits.iter().map(of).sum());
            writeln!(f, "{:>12}", thousands(total))
        };
        writeln!(f, "\n{:<20}{:>12}{:>12}{:>12}{:>12}", "", "train", "validation", "test", "all")?;
        row(f, "images", &|counts| counts.images, None)?;
        row(f, "images missing", &|counts| counts.images - counts.present, None)?;
        let patients: usize = self.splits.iter().map(|counts| counts.patients).sum();
        row(f, "patients", &|counts| counts.patients, Some(patients.min(self.patients)))?;
        for (i, name) in output_names().into_iter().enumerate() {
            row(f, name, &|counts| counts.positives[i], None)?;
        }
        Ok(())
    }
}
