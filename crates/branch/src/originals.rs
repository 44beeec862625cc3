//! The files behind the prepared images.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use cxr::DatasetKind;
use picture::{Grey, Radiograph};
use stage::{Fail, Input, Run};
use tables::images;

use crate::error::Error;

/// The folder that `prep` read: the run's phantom, or `prep.root`, or else where prep found the images.
///
/// # Errors
/// Exit code 3 where it is not known; a file that is no `images` table.
pub fn raw_folder(run: &mut Run, prep: &Input) -> Result<PathBuf, Fail> {
    if images::facts(&[prep.first("images/")?]).map_err(Error::from)?.dataset == DatasetKind::Phantom {
        return Ok(run.input("phantom", &["images_"])?.on_disk()?.to_owned());
    }
    // Where the user says they are, or else where prep found them.
    let said = run.setting("prep.root").and_then(|root| root.as_str()).map(files::plain);
    said.or_else(|| prep.manifest().place("raw data").map(Path::to_owned)).ok_or_else(|| {
        Fail::missing(anyhow::anyhow!("it is not known where the raw images are"))
            .hint("name their folder with --set prep.root=FOLDER")
    })
}

/// The files behind the prepared images; each must be the one that `prep` read.
#[derive(Debug)]
pub struct Originals {
    root: PathBuf,
    /// What prep did to every image.
    contrast: f32,
    depth: u32,
    /// By `image_id`.
    files: HashMap<String, Original>,
}

/// What the names of archives end with that prep reads.
const ARCHIVES: [&str; 3] = [".tar.gz", ".tgz", ".tar"];

/// One file behind a prepared image.
#[derive(Debug)]
struct Original {
    /// Below the root.
    path: String,
    /// BLAKE3 as prep read it.
    blake3: String,
}

impl Originals {
    /// Takes paths, hashes and contrast from the files of `prep/images`; paths start from `root`, see [`raw_folder`].
    ///
    /// # Errors
    /// A folder that is not there; images inside an archive; a file that is no `images` table.
    pub fn new(root: PathBuf, files: &[PathBuf]) -> Result<Originals, Error> {
        if !root.as_os_str().is_empty() && !files::is_folder(&root)? {
            return Err(Error::NoOriginals { folder: root });
        }
        let images::Facts { contrast, depth, .. } = images::facts(files)?;
        let rows = images::read_meta(files)?.into_iter();
        let original = |row: images::Row| (row.record.image_id, Original { path: row.path, blake3: row.source_blake3 });
        let files: HashMap<String, Original> = rows.map(original).collect();
        let mut folders = HashSet::new();
        for (image_id, Original { path, .. }) in files.iter().filter(|_| !root.as_os_str().is_empty()) {
            let Some(folder) = Path::new(path).parent().filter(|folder| folders.insert(*folder)) else { continue };
            if let Some(archive) = file_in(&root, folder)? {
                return Err(Error::Packed { image_id: image_id.clone(), archive });
            }
        }
        Ok(Originals { root, contrast, depth, files })
    }

    /// The image's path below the root.
    ///
    /// # Errors
    /// An image that prep does not have.
    pub fn path(&self, image_id: &str) -> Result<&str, Error> {
        Ok(&self.of(image_id)?.path)
    }

    /// The bytes of the image's file, which are those that prep read.
    ///
    /// # Errors
    /// The file is gone, or has changed.
    pub fn bytes(&self, image_id: &str) -> Result<Vec<u8>, Error> {
        let Original { path, blake3 } = self.of(image_id)?;
        let path = self.root.join(path);
        let bytes = match files::is_remote(&path) {
            true => files::read(&path, picture::MAX_BYTES)?,
            false => picture::read(&path).map_err(Error::Original)?,
        };
        match blake3::hash(&bytes).to_hex().as_str() == blake3 {
            true => Ok(bytes),
            false => Err(Error::Changed { image_id: image_id.to_owned(), path }),
        }
    }

    /// The image at full size, as it is in the file.
    ///
    /// # Errors
    /// As [`Originals::bytes`]; a damaged file.
    pub fn source(&self, image_id: &str) -> Result<Grey, Error> {
        let path = self.root.join(&self.of(image_id)?.path);
        let decoded = Radiograph::decode_deep(&path.display().to_string(), &self.bytes(image_id)?, self.depth);
        Ok(decoded.map_err(Error::Original)?.image)
    }

    /// The image at full size, with prep's contrast.
    ///
    /// # Errors
    /// As [`Originals::source`].
    pub fn read(&self, image_id: &str) -> Result<Grey, Error> {
        let mut image = self.source(image_id)?;
        image.contrast(self.contrast);
        Ok(image)
    }

    fn of(&self, image_id: &str) -> Result<&Original, Error> {
        self.files.get(image_id).ok_or_else(|| Error::Unmatched {
            image_id: image_id.to_owned(),
            present: "the images",
            absent: "prep/images",
        })
    }
}

/// A file where a path below `root` expects a folder: an archive.
fn file_in(root: &Path, path: &Path) -> Result<Option<PathBuf>, Error> {
    let is_packed =
        |part: &&Path| part.to_str().is_some_and(|name| ARCHIVES.iter().any(|ending| name.ends_with(ending)));
    for part in path.ancestors().filter(is_packed).map(|part| root.join(part)) {
        if files::is_file(&part)? {
            return Ok(Some(part));
        }
    }
    Ok(None)
}
