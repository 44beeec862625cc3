//! The structure of a DICOM data set (PS3.5): elements, sequences and fragments, borrowed from the file's bytes.
//!
//! Written here because of what files may claim: dicom-object 0.10.1 takes 4 GB for a file of 237 bytes that claims them,
//! and overflows the stack in sequences of sequences, which no caller can catch. Here nothing is copied, nesting is
//! bounded, and only what [`wanted`] names is kept.

use std::collections::BTreeMap;

use crate::dicom::tag::{self, Tag};

/// How deep sequences may lie in each other.
const MAX_DEPTH: usize = 32;

/// The length of what ends with a delimiter.
const UNDEFINED: u32 = u32::MAX;

const ITEM: Tag = 0xfffe_e000;
const ITEM_END: Tag = 0xfffe_e00d;
const SEQUENCE_END: Tag = 0xfffe_e0dd;

/// How elements are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encoding {
    /// Each element says its value representation.
    pub(crate) explicit: bool,
    /// Most significant byte first.
    pub(crate) big_endian: bool,
}

impl Encoding {
    pub(crate) const EXPLICIT: Encoding = Encoding { explicit: true, big_endian: false };
    pub(crate) const IMPLICIT: Encoding = Encoding { explicit: false, big_endian: false };
}

/// The value of an element.
#[derive(Debug, Clone)]
pub(crate) enum Value<'a> {
    /// As it lies in the file.
    Bytes(&'a [u8]),
    /// The first item of a sequence, where it has one.
    FirstItem(Option<DataSet<'a>>),
    /// Encapsulated pixels: the table of offsets, then the fragments.
    Fragments(Vec<&'a [u8]>),
}

/// An element, without its tag.
#[derive(Debug, Clone)]
pub(crate) struct Element<'a> {
    /// Value representation, where the file says it.
    pub(crate) vr: Option<[u8; 2]>,
    pub(crate) value: Value<'a>,
}

/// The elements of a data set, or of an item, that are [`wanted`].
#[derive(Debug, Clone)]
pub(crate) struct DataSet<'a> {
    elements: BTreeMap<Tag, Element<'a>>,
    pub(crate) encoding: Encoding,
}

impl<'a> DataSet<'a> {
    /// Reads elements up to and with the pixels, or up to the end.
    pub(crate) fn read(bytes: &'a [u8], encoding: Encoding) -> Result<DataSet<'a>, String> {
        Reader { bytes, at: 0, encoding }.elements(0, false)
    }

    /// Reads a file's meta information (group 2), and says what follows it.
    pub(crate) fn read_meta(bytes: &'a [u8]) -> Result<(DataSet<'a>, &'a [u8]), String> {
        let mut reader = Reader { bytes, at: 0, encoding: Encoding::EXPLICIT };
        let mut meta = DataSet { elements: BTreeMap::new(), encoding: Encoding::EXPLICIT };
        while bytes[reader.at..].starts_with(&[2, 0]) {
            reader.element(&mut meta, 0, false)?;
        }
        Ok((meta, &bytes[reader.at..]))
    }

    pub(crate) fn get(&self, tag: Tag) -> Option<&Element<'a>> {
        self.elements.get(&tag)
    }

    /// The bytes of an element that has a plain value.
    pub(crate) fn bytes(&self, tag: Tag) -> Option<&'a [u8]> {
        match self.get(tag)?.value {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The first item of a sequence.
    pub(crate) fn first_item(&self, tag: Tag) -> Option<&DataSet<'a>> {
        match &self.get(tag)?.value {
            Value::FirstItem(item) => item.as_ref(),
            _ => None,
        }
    }

    /// Text without what pads it. Bytes that are not UTF-8 are taken for Latin-1.
    pub(crate) fn text(&self, tag: Tag) -> Option<String> {
        let bytes = self.bytes(tag)?;
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
        };
        let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The first number of a text (DS, IS).
    pub(crate) fn number(&self, tag: Tag) -> Result<Option<f64>, String> {
        let Some(text) = self.text(tag) else {
            return Ok(None);
        };
        let first = text.split('\\').next().unwrap_or_default().trim();
        match first.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Some(value)),
            _ => Err(format!("{} is {text:?}, expected a number", tag::name(tag))),
        }
    }

    /// The 16-bit numbers of an element (US, SS, OW).
    pub(crate) fn words(&self, tag: Tag) -> Option<impl Iterator<Item = u16> + 'a> {
        let big_endian = self.encoding.big_endian;
        Some(self.bytes(tag)?.chunks_exact(2).map(move |pair| word([pair[0], pair[1]], big_endian)))
    }

    /// The first 16-bit number of an element (US).
    pub(crate) fn word(&self, tag: Tag) -> Option<u16> {
        self.words(tag)?.next()
    }
}

fn word(bytes: [u8; 2], big_endian: bool) -> u16 {
    if big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
}

/// What is kept of a data set.
fn wanted(tag: Tag) -> bool {
    tag::NAMES.iter().any(|&(wanted, _)| wanted == tag)
}

/// Whether a value representation has a length of 32 bits, after two bytes of nothing.
fn is_long(vr: [u8; 2]) -> bool {
    matches!(&vr, b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"SQ" | b"SV" | b"UC" | b"UN" | b"UR" | b"UT" | b"UV")
}

/// Whether these are a value representation.
pub(crate) fn is_vr(vr: [u8; 2]) -> bool {
    const SHORT: &[u8] = b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US";
    is_long(vr) || SHORT.chunks(3).any(|known| known[..2] == vr)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    encoding: Encoding,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let left = &self.bytes[self.at..];
        let Some(taken) = left.get(..len) else {
            return Err(format!("it ends {} bytes into a value of {len}", left.len()));
        };
        self.at += len;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, String> {
        let bytes = self.take(2)?;
        Ok(word([bytes[0], bytes[1]], self.encoding.big_endian))
    }

    fn u32(&mut self) -> Result<u32, String> {
        let (first, second) = (u32::from(self.u16()?), u32::from(self.u16()?));
        Ok(if self.encoding.big_endian { first << 16 | second } else { second << 16 | first })
    }

    fn tag(&mut self) -> Result<Tag, String> {
        Ok(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }

    /// The elements of the data set (`depth` 0), or of an item, which a delimiter ends where it is `open`.
    fn elements(&mut self, depth: usize, open: bool) -> Result<DataSet<'a>, String> {
        if depth > MAX_DEPTH {
            return Err(format!("sequences in more than {MAX_DEPTH} sequences"));
        }
        let mut set = DataSet { elements: BTreeMap::new(), encoding: self.encoding };
        while open || self.at < self.bytes.len() {
            match self.element(&mut set, depth, open)? {
                Some(tag) if depth == 0 && tag >= tag::PIXEL_DATA => break,
                Some(_) => {}
                None => break,
            }
        }
        Ok(set)
    }

    /// One element, which `set` keeps where it is wanted; nothing at the delimiter of an `open` item.
    fn element(&mut self, set: &mut DataSet<'a>, depth: usize, open: bool) -> Result<Option<Tag>, String> {
        let tag = self.tag()?;
        if tag == ITEM_END && open {
            self.u32()?;
            return Ok(None);
        }
        let (vr, len) = self.vr_and_length(tag)?;
        let is_sequence = vr == Some(*b"SQ") || tag::SEQUENCES.contains(&tag);
        let value = if len == UNDEFINED && tag == tag::PIXEL_DATA && self.encoding.explicit {
            Value::Fragments(self.fragments()?)
        } else if len == UNDEFINED && matches!(vr.as_ref(), None | Some(b"SQ" | b"UN")) {
            // A sequence of unknown representation is written implicitly (PS3.5, 6.2.2, note 4).
            let outside = self.encoding;
            if vr == Some(*b"UN") {
                self.encoding = Encoding::IMPLICIT;
            }
            let item = self.first_item(depth, true);
            self.encoding = outside;
            Value::FirstItem(item?)
        } else if len == UNDEFINED {
            return Err(format!("{} has no length", tag::name(tag)));
        } else {
            let bytes = self.take(len as usize)?;
            if is_sequence && wanted(tag) {
                let encoding = if vr == Some(*b"UN") { Encoding::IMPLICIT } else { self.encoding };
                Value::FirstItem(Reader { bytes, at: 0, encoding }.first_item(depth, false)?)
            } else {
                Value::Bytes(bytes)
            }
        };
        if wanted(tag) {
            set.elements.insert(tag, Element { vr, value });
        }
        Ok(Some(tag))
    }

    fn vr_and_length(&mut self, tag: Tag) -> Result<(Option<[u8; 2]>, u32), String> {
        if !self.encoding.explicit {
            return Ok((None, self.u32()?));
        }
        let bytes = self.take(2)?;
        let vr = [bytes[0], bytes[1]];
        if !is_vr(vr) {
            let vr = String::from_utf8_lossy(bytes);
            return Err(format!("{} has the value representation {vr:?}, which there is not", tag::name(tag)));
        }
        if is_long(vr) {
            self.take(2)?;
            return Ok((Some(vr), self.u32()?));
        }
        Ok((Some(vr), u32::from(self.u16()?)))
    }

    /// The items of a sequence, which a delimiter ends where it is `open`; all but the first are skipped.
    fn first_item(&mut self, depth: usize, open: bool) -> Result<Option<DataSet<'a>>, String> {
        let mut first = None;
        while open || self.at < self.bytes.len() {
            let (tag, len) = (self.tag()?, self.u32()?);
            match tag {
                SEQUENCE_END if open => break,
                ITEM => {}
                _ => return Err(format!("{} in a sequence, expected an item", tag::name(tag))),
            }
            let item = if len == UNDEFINED {
                Some(self.elements(depth + 1, true)?)
            } else {
                let bytes = self.take(len as usize)?;
                let mut reader = Reader { bytes, at: 0, encoding: self.encoding };
                if first.is_none() { Some(reader.elements(depth + 1, false)?) } else { None }
            };
            first = first.or(item);
        }
        Ok(first)
    }

    /// Encapsulated pixels.
    fn fragments(&mut self) -> Result<Vec<&'a [u8]>, String> {
        let mut fragments = Vec::new();
        loop {
            let (tag, len) = (self.tag()?, self.u32()?);
            match tag {
                SEQUENCE_END => return Ok(fragments),
                ITEM => fragments.push(self.take(len as usize)?),
                _ => return Err(format!("{} among the fragments, expected an item", tag::name(tag))),
            }
        }
    }
}
