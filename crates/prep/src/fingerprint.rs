//! What stands for the contents of a dataset.

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
    /// Reads all of them, in parallel, but for those in archives, which were read when they were found. `watch` hears the
    /// number of files read since it was last called, and may stop.
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
                if let Some(packed) = &file.packed {
                    return Ok(packed.blake3);
                }
                let mut hasher = blake3::Hasher::new();
                let file = files::open(&self.root.join(&file.path))?;
                hasher.update_reader(file.contents).map_err(files::Error::from_reader)?;
                Ok(hasher.finalize())
            };
            let hashes = threads::enough(&self.root, || chunk.par_iter().map(hash).collect::<Result<Vec<_>, Error>>())?;
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
