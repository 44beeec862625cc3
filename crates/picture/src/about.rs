//! What a radiograph's file says beside its pixels.

use std::fmt;

/// What a file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Portable Network Graphics.
    Png,
    /// JPEG, baseline or progressive.
    Jpeg,
    /// A DICOM Part 10 file, or a bare data set.
    Dicom,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Png => "PNG",
            Format::Jpeg => "JPEG",
            Format::Dicom => "DICOM",
        })
    }
}

/// What is known of a radiograph beside its grey values.
#[derive(Debug, Clone, PartialEq)]
pub struct About {
    /// What the file is.
    pub format: Format,
    /// Mean of max(R, G, B) - min(R, G, B) over the pixels, in grey levels: 0 for a grey file, and for a file of colours
    /// that are all grey.
    pub colour: f32,
    /// Of a PNG file with 16 bits a sample, how many of them its greatest value needs: 12 where a detector's values were
    /// stored without scaling.
    pub bits: Option<u32>,
    /// The header, of a DICOM file.
    pub dicom: Option<Dicom>,
}

/// Attributes of a DICOM file. Empty ones are absent, text is trimmed, of several values there is the whole text with its
/// backslashes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dicom {
    /// UID of the transfer syntax, and its name where it is known: `1.2.840.10008.1.2.1 (Explicit VR Little Endian)`.
    pub transfer_syntax: String,
    /// UID of the SOP class, and its name where it is known; empty where the file has none.
    pub sop_class: String,
    /// Photometric Interpretation: `MONOCHROME1`, `RGB`, ...
    pub photometric: String,
    /// How many frames there are, of which the first is decoded.
    pub frames: u32,
    /// Bits Stored.
    pub bits_stored: u32,
    /// Modality: `CR`, `DX`, `CT`, ...
    pub modality: Option<String>,
    /// Body Part Examined: `CHEST`, ...
    pub body_part: Option<String>,
    /// View Position: `PA`, `AP`, `LL`, ...
    pub view_position: Option<String>,
    /// Presentation Intent Type: `FOR PRESENTATION`, or `FOR PROCESSING` for a detector's raw values.
    pub presentation_intent: Option<String>,
    /// Image Type: `ORIGINAL\PRIMARY`, ...
    pub image_type: Option<String>,
    /// Study Description.
    pub study_description: Option<String>,
    /// Series Description.
    pub series_description: Option<String>,
    /// Patient ID.
    pub patient_id: Option<String>,
    /// Patient's Age: `058Y`.
    pub patient_age: Option<String>,
    /// Patient's Sex: `F`, `M`, `O`.
    pub patient_sex: Option<String>,
}
