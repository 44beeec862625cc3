//! The attributes that are read (PS3.6).

/// Group and element, 16 bits each.
pub(crate) type Tag = u32;

macro_rules! attributes {
    ($($constant:ident = $tag:literal, $name:literal;)*) => {
        $(pub(crate) const $constant: Tag = $tag;)*

        /// All of them, with the names of PS3.6.
        pub(crate) const NAMES: &[(Tag, &str)] = &[$(($tag, $name)),*];
    };
}

attributes! {
    MEDIA_STORAGE_SOP_CLASS = 0x0002_0002, "Media Storage SOP Class UID";
    TRANSFER_SYNTAX = 0x0002_0010, "Transfer Syntax UID";
    IMAGE_TYPE = 0x0008_0008, "Image Type";
    SOP_CLASS = 0x0008_0016, "SOP Class UID";
    MODALITY = 0x0008_0060, "Modality";
    PRESENTATION_INTENT = 0x0008_0068, "Presentation Intent Type";
    STUDY_DESCRIPTION = 0x0008_1030, "Study Description";
    SERIES_DESCRIPTION = 0x0008_103e, "Series Description";
    PATIENT_ID = 0x0010_0020, "Patient ID";
    PATIENT_SEX = 0x0010_0040, "Patient's Sex";
    PATIENT_AGE = 0x0010_1010, "Patient's Age";
    BODY_PART = 0x0018_0015, "Body Part Examined";
    VIEW_POSITION = 0x0018_5101, "View Position";
    SAMPLES_PER_PIXEL = 0x0028_0002, "Samples per Pixel";
    PHOTOMETRIC = 0x0028_0004, "Photometric Interpretation";
    PLANAR = 0x0028_0006, "Planar Configuration";
    FRAMES = 0x0028_0008, "Number of Frames";
    ROWS = 0x0028_0010, "Rows";
    COLUMNS = 0x0028_0011, "Columns";
    BITS_ALLOCATED = 0x0028_0100, "Bits Allocated";
    BITS_STORED = 0x0028_0101, "Bits Stored";
    HIGH_BIT = 0x0028_0102, "High Bit";
    PIXEL_REPRESENTATION = 0x0028_0103, "Pixel Representation";
    PADDING = 0x0028_0120, "Pixel Padding Value";
    PADDING_LIMIT = 0x0028_0121, "Pixel Padding Range Limit";
    WINDOW_CENTER = 0x0028_1050, "Window Center";
    WINDOW_WIDTH = 0x0028_1051, "Window Width";
    RESCALE_INTERCEPT = 0x0028_1052, "Rescale Intercept";
    RESCALE_SLOPE = 0x0028_1053, "Rescale Slope";
    VOI_FUNCTION = 0x0028_1056, "VOI LUT Function";
    MODALITY_LUT = 0x0028_3000, "Modality LUT Sequence";
    LUT_DESCRIPTOR = 0x0028_3002, "LUT Descriptor";
    LUT_DATA = 0x0028_3006, "LUT Data";
    VOI_LUT = 0x0028_3010, "VOI LUT Sequence";
    EXTENDED_OFFSETS = 0x7fe0_0001, "Extended Offset Table";
    PIXEL_DATA = 0x7fe0_0010, "Pixel Data";
}

/// Those whose value is a sequence.
pub(crate) const SEQUENCES: [Tag; 2] = [MODALITY_LUT, VOI_LUT];

/// Number and, where it is known, name: `(0028,0010) Rows`.
pub(crate) fn name(tag: Tag) -> String {
    let number = format!("({:04X},{:04X})", tag >> 16, tag & 0xffff);
    match NAMES.iter().find(|&&(known, _)| known == tag) {
        Some((_, name)) => format!("{number} {name}"),
        None => number,
    }
}
