//! From stored values to what is shown (PS3.3, C.11.1 and C.11.2; PS3.4, N.2).

use crate::dicom::layout::Layout;
use crate::dicom::set::DataSet;
use crate::dicom::tag::{self, Tag};

/// Grey values of all words of a frame.
///
/// A word has 16 bits, so that every transform is a table of at most 65,536 entries, made once per image.
pub(crate) fn pixels(set: &DataSet<'_>, layout: &Layout, words: &[u16]) -> Result<Vec<u8>, String> {
    let mut occurs = vec![false; 1 << 16];
    for &word in words {
        occurs[usize::from(word)] = true;
    }
    let table = table(set, layout, &occurs)?;
    Ok(words.iter().map(|&word| table[usize::from(word)]).collect())
}

/// The grey value of every word that occurs.
fn table(set: &DataSet<'_>, layout: &Layout, occurs: &[bool]) -> Result<Vec<u8>, String> {
    let padding = Padding::read(set, layout);
    let modality = Modality::read(set, layout)?;
    // What occurs, with its stored value, and what that means; padding means nothing.
    let occurring = || (0..=u16::MAX).filter(|&word| occurs[usize::from(word)]);
    let value = |word| {
        let stored = stored(word, layout);
        (!padding.has(stored)).then(|| modality.value(stored))
    };
    let values = || occurring().filter_map(value);
    let negative = layout.signed || values().any(|value| value < 0.0);
    let voi = match Voi::read(set, negative)? {
        Some(voi) => voi,
        None if layout.stored == 8 && !layout.signed && modality == Modality::IDENTITY => Voi::Bytes,
        None => Voi::Range {
            least: values().fold(f64::INFINITY, f64::min),
            most: values().fold(f64::NEG_INFINITY, f64::max),
        },
    };
    let inverted = layout.photometric == "MONOCHROME1";
    let mut table = vec![0; 1 << 16];
    for word in occurring() {
        if let Some(value) = value(word) {
            let shown = (voi.shown(value).clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
            table[usize::from(word)] = if inverted { 255 - shown } else { shown };
        }
    }
    Ok(table)
}

/// The value that the bits of a word mean.
fn stored(word: u16, layout: &Layout) -> i32 {
    let shifted = i32::from(word >> (layout.high + 1 - layout.stored));
    let unused = 32 - layout.stored;
    if layout.signed { shifted << unused >> unused } else { ((shifted as u32) << unused >> unused) as i32 }
}

/// The stored values outside the image.
struct Padding(Option<(i32, i32)>);

impl Padding {
    fn read(set: &DataSet<'_>, layout: &Layout) -> Padding {
        let value =
            |tag| set.word(tag).map(|word| if layout.signed { i32::from(word as i16) } else { i32::from(word) });
        let limits = value(tag::PADDING).map(|one| {
            let other = value(tag::PADDING_LIMIT).unwrap_or(one);
            (one.min(other), one.max(other))
        });
        Padding(limits)
    }

    fn has(&self, stored: i32) -> bool {
        self.0.is_some_and(|(least, most)| (least..=most).contains(&stored))
    }
}

/// A table of output values, of which the first belongs to the input value `first`.
#[derive(Debug, PartialEq)]
struct Lut {
    first: i32,
    values: Vec<u16>,
    bits: u32,
}

impl Lut {
    /// Reads descriptor and data of an item; `signed` says what the input may be, where the file does not.
    fn read(item: &DataSet<'_>, sequence: Tag, signed: bool) -> Result<Lut, String> {
        let wrong = |what: String| format!("{}: {what}", tag::name(sequence));
        let descriptor: Vec<u16> = item.words(tag::LUT_DESCRIPTOR).into_iter().flatten().take(3).collect();
        let &[entries, first, bits] = descriptor.as_slice() else {
            return Err(wrong(format!("a descriptor of {} values, expected 3", descriptor.len())));
        };
        let signed = match item.get(tag::LUT_DESCRIPTOR).and_then(|element| element.vr) {
            Some(vr) if &vr == b"SS" => true,
            Some(vr) if &vr == b"US" => false,
            _ => signed,
        };
        let first = if signed { i32::from(first as i16) } else { i32::from(first) };
        let entries = if entries == 0 { 1 << 16 } else { usize::from(entries) };
        let data = item.bytes(tag::LUT_DATA).unwrap_or_default();
        // Entries of 8 bits may lie two in a word.
        let is_packed = bits <= 8 && entries > 1 && data.len() < 2 * entries;
        let values: Vec<u16> = if is_packed {
            data.iter().take(entries).map(|&value| u16::from(value)).collect()
        } else {
            item.words(tag::LUT_DATA).into_iter().flatten().take(entries).collect()
        };
        if values.len() < entries || !(1..=16).contains(&bits) {
            return Err(wrong(format!("{} entries of {bits} bits, expected {entries} of 1 to 16", values.len())));
        }
        Ok(Lut { first, values, bits: u32::from(bits) })
    }

    /// Inputs before the first and behind the last entry have those.
    fn at(&self, value: f64) -> u16 {
        let last = self.values.len() - 1;
        let index = (value.round() - f64::from(self.first)).clamp(0.0, last as f64);
        self.values[index as usize]
    }
}

/// From stored values to what the detector measured.
#[derive(Debug, PartialEq)]
enum Modality {
    Linear { slope: f64, intercept: f64 },
    Lut(Lut),
}

impl Modality {
    const IDENTITY: Modality = Modality::Linear { slope: 1.0, intercept: 0.0 };

    fn read(set: &DataSet<'_>, layout: &Layout) -> Result<Modality, String> {
        if let Some(item) = set.first_item(tag::MODALITY_LUT) {
            return Ok(Modality::Lut(Lut::read(item, tag::MODALITY_LUT, layout.signed)?));
        }
        let slope = set.number(tag::RESCALE_SLOPE)?.unwrap_or(1.0);
        Ok(Modality::Linear { slope, intercept: set.number(tag::RESCALE_INTERCEPT)?.unwrap_or(0.0) })
    }

    fn value(&self, stored: i32) -> f64 {
        match self {
            Modality::Linear { slope, intercept } => f64::from(stored) * slope + intercept,
            Modality::Lut(lut) => f64::from(lut.at(f64::from(stored))),
        }
    }
}

/// From measured values to shown ones.
#[derive(Debug)]
enum Voi {
    Lut(Lut),
    Window {
        center: f64,
        width: f64,
        function: Function,
    },
    /// 0..255 as they are.
    Bytes,
    /// From the least to the greatest.
    Range {
        least: f64,
        most: f64,
    },
}

/// The functions of a window (PS3.3, C.11.2.1.2 and C.11.2.1.3).
#[derive(Debug, Clone, Copy, PartialEq)]
enum Function {
    Linear,
    LinearExact,
    Sigmoid,
}

impl Voi {
    /// The first VOI LUT, or else the first window; a window without width says nothing.
    fn read(set: &DataSet<'_>, negative: bool) -> Result<Option<Voi>, String> {
        if let Some(item) = set.first_item(tag::VOI_LUT) {
            return Ok(Some(Voi::Lut(Lut::read(item, tag::VOI_LUT, negative)?)));
        }
        let (Some(center), Some(width)) = (set.number(tag::WINDOW_CENTER)?, set.number(tag::WINDOW_WIDTH)?) else {
            return Ok(None);
        };
        let function = match set.text(tag::VOI_FUNCTION).as_deref() {
            None | Some("LINEAR") => Function::Linear,
            Some("LINEAR_EXACT") => Function::LinearExact,
            Some("SIGMOID") => Function::Sigmoid,
            Some(other) => {
                let name = tag::name(tag::VOI_FUNCTION);
                return Err(format!("{name} is {other:?}, expected LINEAR, LINEAR_EXACT or SIGMOID"));
            }
        };
        let least = if function == Function::Linear { 1.0 } else { f64::MIN_POSITIVE };
        Ok((width >= least).then_some(Voi::Window { center, width, function }))
    }

    /// What is shown of a value, 0 to 1 within the window.
    fn shown(&self, value: f64) -> f64 {
        match self {
            Voi::Lut(lut) => f64::from(lut.at(value)) / f64::from((1_u32 << lut.bits) - 1),
            Voi::Bytes => value / 255.0,
            Voi::Range { least, most } if most > least => (value - least) / (most - least),
            Voi::Range { .. } => 0.0,
            &Voi::Window { center, width, function } => match function {
                // A width of 1 is a step.
                Function::Linear if value <= center - 0.5 - (width - 1.0) / 2.0 => 0.0,
                Function::Linear if value > center - 0.5 + (width - 1.0) / 2.0 => 1.0,
                Function::Linear => (value - (center - 0.5)) / (width - 1.0) + 0.5,
                Function::LinearExact => (value - center) / width + 0.5,
                Function::Sigmoid => 1.0 / (1.0 + (-4.0 * (value - center) / width).exp()),
            },
        }
    }
}
