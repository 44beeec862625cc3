//! RLE (PS3.5, annex G): one run-length coded plane per byte of a sample.

/// Decodes the planes of one frame, each of `pixels` bytes; the most significant byte of a sample comes first.
pub(crate) fn decode(frame: &[u8], planes: usize, pixels: usize) -> Result<Vec<Vec<u8>>, String> {
    let header: Vec<usize> = frame
        .chunks_exact(4)
        .take(16)
        .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]) as usize)
        .collect();
    match header.as_slice() {
        [count, offsets @ ..] if *count == planes && offsets.len() == 15 && planes <= 15 => (0..planes)
            .map(|i| {
                let end = if i + 1 < planes { offsets[i + 1] } else { frame.len() };
                let segment =
                    frame.get(offsets[i]..end).ok_or_else(|| format!("an RLE segment from {} to {end}", offsets[i]))?;
                plane(segment, pixels)
            })
            .collect(),
        [count, ..] => Err(format!("{count} RLE segments, expected {planes}")),
        [] => Err("an empty RLE frame".to_owned()),
    }
}

fn plane(segment: &[u8], pixels: usize) -> Result<Vec<u8>, String> {
    let ends = || "an RLE segment ends early".to_owned();
    let mut plane = Vec::with_capacity(pixels);
    let mut at = 0;
    while plane.len() < pixels {
        let &control = segment.get(at).ok_or_else(ends)?;
        at += 1;
        let left = pixels - plane.len();
        match control {
            0..=127 => {
                let len = usize::from(control) + 1;
                let literal = segment.get(at..at + len).ok_or_else(ends)?;
                plane.extend_from_slice(&literal[..len.min(left)]);
                at += len;
            }
            128 => {}
            129..=255 => {
                let &value = segment.get(at).ok_or_else(ends)?;
                let len = 257 - usize::from(control);
                plane.resize(plane.len() + len.min(left), value);
                at += 1;
            }
        }
    }
    Ok(plane)
}
