//! How many blocks of threads a kernel is launched with. Compiled for tests without CUDA too.

use crate::error::Error;

/// The most blocks of an element-wise pass: enough to fill any device several times.
const BLOCKS: u32 = 4096;

/// The grid of an element-wise pass over `count` vectors, in blocks of `threads`.
pub(crate) fn blocks(count: usize, threads: u32) -> (u32, u32) {
    (u32::try_from(count.div_ceil(threads as usize)).unwrap_or(BLOCKS).clamp(1, BLOCKS), 1)
}

/// As [`blocks`], for `count` elements in vectors of `vector` whose kernel divides 32-bit indices.
///
/// # Errors
///
/// 2³² vectors or more.
pub(crate) fn blocks_32(
    op: &'static str,
    name: &'static str,
    count: usize,
    (vector, threads): (usize, u32),
) -> Result<(u32, u32), Error> {
    let vectors = count / vector;
    if u32::try_from(vectors).is_err() {
        let (expected, got) = (format!("less than 2^32 vectors of {vector} elements"), format!("{count} elements"));
        return Err(Error::Parameter { op, name, expected, got });
    }
    Ok(blocks(vectors, threads))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_cover_and_refuse() {
        assert_eq!(blocks(0, 256), (1, 1));
        assert_eq!(blocks(257, 256), (2, 1));
        assert_eq!(blocks(usize::MAX, 256), (BLOCKS, 1));
        let most = u32::MAX as usize;
        assert_eq!(blocks_32("normalise", "x", 4 * most, (4, 256)).unwrap(), (BLOCKS, 1));
        let error = blocks_32("normalise", "x", 4 * (most + 1), (4, 256)).unwrap_err().to_string();
        assert!(
            error.contains("normalise: `x` must be less than 2^32 vectors of 4 elements, got 17179869184 elements"),
            "{error}"
        );
    }
}
