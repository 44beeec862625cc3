//! What stands for the contents of a dataset.

use std::collections::HashMap;
use std::ops::ControlFlow;

use rayon::prelude::*;

use crate::dataset::{Dataset, Item};
use crate::error::Error;
use crate::scan::File;
use crate::threads;

/// Files hashed between two questions whether to go on: some 30 MB.
const CHUNK: usize = 64;

impl Dataset {
    /// A cheap fingerprint of the raw data: BLAKE3 over the text files' contents, and path, size and time of last change
    /// of the `taken` files, and an object store's mark of their contents. Equal for equal contents unless files were touched or copied.
    ///
    /// Neither fingerprint depends on where the folder is or what it is called.
    pub fn quick_fingerprint(&self, taken: &[&Item]) -> String {
        let mut hasher = self.texts_hasher();
        for File { path, bytes, modified_ns, tag, .. } in taken.iter().filter_map(|item| item.file.as_ref()) {
            hasher.update(path.as_bytes()).update(&[0]);
            hasher.update(&bytes.to_le_bytes()).update(&modified_ns.to_le_bytes());
            hasher.update(tag.as_deref().unwrap_or_default().as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The fingerprint of the raw data: BLAKE3 over the text files' contents, and path and contents of the `taken` files.
    ///
    /// Reads all of them, in parallel, but for those in archives, which were read when they were found, and those that are
    /// `known`, path and BLAKE3 by `image_id`. `watch` hears the number of files read since it was last called, and may stop.
    ///
    /// # Errors
    /// A file cannot be read; [`Error::Interrupted`].
    pub fn contents_fingerprint(
        &self,
        taken: &[&Item],
        known: &HashMap<String, (String, String)>,
        watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<String, Error> {
        let mut hasher = self.texts_hasher();
        let files: Vec<(&str, &File)> =
            taken.iter().filter_map(|item| Some((item.record.image_id.as_str(), item.file.as_ref()?))).collect();
        for chunk in files.chunks(CHUNK) {
            let hash = |&(image_id, file): &(&str, &File)| -> Result<blake3::Hash, Error> {
                let known = known.get(image_id).filter(|(path, _)| *path == file.path);
                let known = known.and_then(|(_, hash)| blake3::Hash::from_hex(hash).ok());
                if let Some(hash) = known.or(file.packed.as_ref().map(|packed| packed.blake3)) {
                    return Ok(hash);
                }
                let mut hasher = blake3::Hasher::new();
                let file = files::open(&self.root.join(&file.path))?;
                hasher.update_reader(file.contents).map_err(files::Error::from_reader)?;
                Ok(hasher.finalize())
            };
            let read = || chunk.par_iter().map(hash).collect::<Result<Vec<_>, Error>>();
            let hashes = threads::enough(&self.root, read)?;
            for ((_, file), hash) in chunk.iter().zip(hashes) {
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
