//! What the headers of a JPEG 2000 codestream ask of its decoder (ISO/IEC 15444-1, annex A), checked before it is asked.
//!
//! The decoder keeps a record of every code-block and of each of its layers. A header may ask for a code-block a pixel,
//! and 32 layers of each: a kilobyte a pixel.

/// Bytes of records that the decoder may keep for a pixel of a component; blocks of 64 x 64 px need less than one.
pub(crate) const RECORDS_PER_PIXEL: u64 = 16;
/// Bytes of records for a code-block and its precinct, and for each of its layers.
const PER_BLOCK: u64 = 256;
const PER_LAYER: u64 = 24;

const START: [u8; 4] = [0xff, 0x4f, 0xff, 0x51];
const COD: u8 = 0x52;
const COC: u8 = 0x53;
const SOT: u8 = 0x90;
const SOD: u8 = 0x93;

/// The frame has so many components, and no header of it asks for more than [`RECORDS_PER_PIXEL`].
pub(crate) fn check(frame: &[u8], components: usize) -> Result<(), String> {
    let mut starts = frame.windows(4).enumerate().filter(|(_, four)| *four == START).map(|(at, _)| at);
    let (Some(start), None) = (starts.next(), starts.next()) else {
        return Err("not one codestream".to_owned());
    };
    let stream = &frame[start..];
    // SIZ: length, capabilities, eight numbers of 4 bytes, then the number of components.
    let count = stream.get(40..).and_then(word).ok_or("it ends before its components")?;
    if usize::from(count) != components {
        return Err(format!("{count} components, the header has {components}"));
    }
    let (main, layers) = check_header(&stream[2..], SOT, count, 1)?;
    let mut at = 2 + main;
    while let Some(part) = stream.get(at..).filter(|part| part.starts_with(&[0xff, SOT])) {
        let length = part.get(6..10).and_then(|four| four.first_chunk()).map(|&four| u32::from_be_bytes(four) as usize);
        check_header(part, SOD, count, layers)?;
        match length {
            // The last part may leave its length open.
            Some(0) | None => break,
            Some(length) if length < 12 => return Err(format!("a tile part of {length} bytes")),
            Some(length) => at += length,
        }
    }
    Ok(())
}

fn word(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|&pair| u16::from_be_bytes(pair))
}

/// Looks through the markers of a header up to `end`; says where that is, and the number of layers.
fn check_header(header: &[u8], end: u8, components: u16, mut layers: u64) -> Result<(usize, u64), String> {
    let mut at = 0;
    loop {
        let ends = "it ends inside a header";
        let &[0xff, marker] = header.get(at..).and_then(|rest| rest.first_chunk()).ok_or(ends)? else {
            return Err("no marker in a header".to_owned());
        };
        if marker == end {
            return Ok((at, layers));
        }
        let length = usize::from(header.get(at + 2..).and_then(word).ok_or(ends)?);
        let data = header.get(at + 4..at + 2 + length).ok_or(ends)?;
        match (marker, data) {
            (COD, &[style, _, high, low, _, _, width, height, ref rest @ ..]) => {
                layers = u64::from(u16::from_be_bytes([high, low])).max(layers);
                check_blocks(style, [width, height], rest.get(2..).unwrap_or_default(), layers)?;
            }
            (COC, _) => {
                let data = data.get(if components < 257 { 1 } else { 2 }..).unwrap_or_default();
                if let &[style, _, width, height, ref rest @ ..] = data {
                    check_blocks(style, [width, height], rest.get(2..).unwrap_or_default(), layers)?;
                }
            }
            _ => {}
        }
        at += 2 + length;
    }
}

/// Code-blocks of these exponents less 2, cut by precincts of those exponents, where `style` says that there are such.
fn check_blocks(style: u8, block: [u8; 2], precincts: &[u8], layers: u64) -> Result<(), String> {
    let block = block.map(|exponent| u32::from(exponent & 15) + 2);
    // A precinct is halved among the sub-bands of its resolution.
    let precincts = if style & 1 == 1 { precincts } else { &[] };
    let cut = |size: u8| {
        let sides = [u32::from(size & 15), u32::from(size >> 4)].map(|side| side.saturating_sub(1));
        block[0].min(sides[0]) + block[1].min(sides[1])
    };
    let area = precincts.iter().map(|&size| cut(size)).chain([block[0] + block[1]]).min().unwrap_or_default();
    let records = (PER_BLOCK + PER_LAYER * layers) >> area;
    if records > RECORDS_PER_PIXEL {
        return Err(format!("code-blocks of {} px in {layers} layers", 1 << area));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A codestream of headers, one component, with this style, layers, block and precinct; and of a tile part.
    fn stream(style: u8, layers: u8, block: u8, precinct: &[u8], part: &[u8]) -> Vec<u8> {
        let siz = [&[0xff, 0x4f, 0xff, 0x51, 0, 41][..], &[0; 34], &[0, 1, 7, 1, 1]].concat();
        let cod = [&[0xff, COD, 0, 12 + precinct.len() as u8, style, 0, 0, layers, 0, 5, block, block, 0, 1], precinct]
            .concat();
        let length = 12 + part.len() as u8 + 2;
        let part = [&[0xff, SOT, 0, 10, 0, 0, 0, 0, 0, length, 0, 1], part, &[0xff, SOD]].concat();
        [siz, cod, part, vec![0xff, 0xd9]].concat()
    }

    #[test]
    fn headers_that_ask_for_too_many_blocks_are_refused() {
        assert_eq!(check(&stream(0, 1, 4, &[], &[]), 1), Ok(()));
        assert_eq!(check(&stream(1, 6, 4, &[0x77, 0x88], &[]), 1), Ok(()));
        let refused = |stream: &[u8]| check(stream, 1).unwrap_err();
        assert_eq!(refused(&stream(0, 32, 0, &[], &[])), "code-blocks of 16 px in 32 layers");
        assert_eq!(refused(&stream(1, 1, 4, &[0x77, 0x00], &[])), "code-blocks of 1 px in 1 layers");
        let hidden = [0xff, COC, 0, 9, 0, 1, 5, 4, 4, 0, 1];
        assert_eq!(check(&stream(0, 1, 4, &[], &hidden), 1), Ok(()));
        let hidden = [0xff, COC, 0, 10, 0, 1, 5, 4, 4, 0, 1, 0x11];
        assert_eq!(refused(&stream(0, 1, 4, &[], &hidden)), "code-blocks of 1 px in 1 layers");
        assert_eq!(check(&stream(0, 1, 4, &[], &[]), 3).unwrap_err(), "1 components, the header has 3");
        assert_eq!(refused(b"nothing"), "not one codestream");
        let whole = stream(0, 1, 4, &[], &[]);
        assert!((0..60).all(|cut| check(&whole[..cut], 1).is_err()));
    }
}
