//! What NIH's table and lists say, without any image.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use cxr::ImageRecord;
use labels::names::known_by;
use labels::nih::{self, LABELS, TEST, TRAIN_VAL};
use labels::texts::file_name;
use labels::{Reading, Texts};

use crate::Error;

/// NIH's table, and the lists beside it where they are there.
#[derive(Debug)]
pub struct Truth {
    /// File name of the label table.
    pub table: String,
    /// Its rows.
    pub records: Vec<ImageRecord>,
    /// Row by what an image is known by, whatever its file ends with.
    by_name: HashMap<String, usize>,
    /// Images of the list of test images, NIH's or another; `None` where the list is not there.
    pub test: Option<HashSet<String>>,
    /// Images of the list of training and validation.
    pub train_val: Option<HashSet<String>>,
    /// File name and BLAKE3 of each text that was read.
    pub texts: Vec<(String, String)>,
}

impl Truth {
    /// Reads the label table of the folder `root` (`labels` names it, or else it is found as prep finds it) and the
    /// official lists beside it. Opens no image.
    ///
    /// # Errors
    /// A folder or table that is not there; a text that is not as it should be.
    pub fn read(root: &Path, labels: Option<&str>) -> Result<Truth, Error> {
        if !root.is_dir() {
            return Err(Error::NoFolder { path: root.to_owned() });
        }
        let mut texts = Texts::new(root);
        let (path, bytes) = match labels {
            Some(name) => texts.named("labels", name)?,
            None => texts
                .first(&LABELS)?
                .ok_or_else(|| Error::NoTable { root: root.to_owned(), tried: LABELS.join(", ") })?,
        };
        texts.look_beside(&path);
        let records = nih::entries(&path, &bytes, &Reading::default())?.records;
        let mut list = |name: &str| -> Result<Option<HashSet<String>>, Error> {
            let Some((path, bytes)) = texts.first(&[name])? else { return Ok(None) };
            let listed = nih::list(&path, &bytes)?.list.image_ids;
            Ok(Some(listed.iter().map(|name| known_by(name).to_owned()).collect()))
        };
        let (test, train_val) = (list(TEST)?, list(TRAIN_VAL)?);
        let by_name = records.iter().enumerate().map(|(at, row)| (known_by(&row.image_id).to_owned(), at)).collect();
        let texts = texts.into_hashes().into_iter().map(|(name, hash)| (name, hash.to_hex().to_string())).collect();
        Ok(Truth { table: file_name(&path), records, by_name, test, train_val, texts })
    }

    /// The row of an image, by its name without the ending of an image file.
    pub fn get(&self, name: &str) -> Option<&ImageRecord> {
        self.by_name.get(name).map(|&at| &self.records[at])
    }

    /// The bytes of a file that a user names.
    ///
    /// # Errors
    /// No regular file; more than `most` bytes.
    pub fn file(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
        guard::read(path, most).map_err(|source| Error::NoFile { path: PathBuf::from(path), source })
    }
}
