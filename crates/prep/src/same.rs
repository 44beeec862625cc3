//! One image by several paths: links, and folders that were unpacked twice.

use std::io::Read;
use std::path::Path;

use crate::scan::File;

/// Bytes compared at a time.
const PART: usize = 1 << 16;

/// Which of the files is another than the first; `None` where all are the same file, or have the same contents. A file
/// that cannot be read is another.
pub(crate) fn same(root: &Path, files: &[&File]) -> Option<usize> {
    let (first, others) = files.split_first()?;
    let equal = |other: &File| {
        first.inode == other.inode
            || (first.bytes == other.bytes
                && equal_contents(&root.join(&first.path), &root.join(&other.path)).unwrap_or(false))
    };
    others.iter().position(|other| !equal(other)).map(|at| at + 1)
}

fn equal_contents(a: &Path, b: &Path) -> std::io::Result<bool> {
    let (mut a, mut b) = (files::open(a)?.contents, files::open(b)?.contents);
    let (mut part_a, mut part_b) = (Vec::with_capacity(PART), Vec::with_capacity(PART));
    loop {
        part_a.clear();
        part_b.clear();
        a.by_ref().take(PART as u64).read_to_end(&mut part_a)?;
        b.by_ref().take(PART as u64).read_to_end(&mut part_b)?;
        if part_a != part_b {
            return Ok(false);
        }
        if part_a.is_empty() {
            return Ok(true);
        }
    }
}
