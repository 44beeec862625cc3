//! What unique identifiers mean (PS3.6, annex A).

/// How pixels are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// As they are.
    Native,
    /// Run lengths of bytes (PS3.5, annex G).
    Rle,
    /// ISO/IEC 10918.
    Jpeg,
    /// ISO/IEC 14495.
    JpegLs,
    /// ISO/IEC 15444.
    Jpeg2000,
}

pub(crate) const IMPLICIT: &str = "1.2.840.10008.1.2";
pub(crate) const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub(crate) const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
pub(crate) const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// How a transfer syntax writes pixels, where we decode it.
pub(crate) fn coding(transfer_syntax: &str) -> Option<Coding> {
    match transfer_syntax {
        IMPLICIT | EXPLICIT | DEFLATED | BIG_ENDIAN => Some(Coding::Native),
        "1.2.840.10008.1.2.5" => Some(Coding::Rle),
        "1.2.840.10008.1.2.4.50" | "1.2.840.10008.1.2.4.51" | "1.2.840.10008.1.2.4.57" | "1.2.840.10008.1.2.4.70" => {
            Some(Coding::Jpeg)
        }
        "1.2.840.10008.1.2.4.80" | "1.2.840.10008.1.2.4.81" => Some(Coding::JpegLs),
        "1.2.840.10008.1.2.4.90" | "1.2.840.10008.1.2.4.91" => Some(Coding::Jpeg2000),
        _ => None,
    }
}

/// The identifier and, where it is known, its name in brackets.
pub(crate) fn named(uid: &str) -> String {
    let tables = [
        ("1.2.840.10008.1.2", TRANSFER_SYNTAXES),
        ("1.2.840.10008.5.1.4.1.1.", SOP_CLASSES),
        ("1.2.840.10008.1.3.10", &[("", "Media Storage Directory")]),
    ];
    for (root, names) in tables {
        if let Some(rest) = uid.strip_prefix(root)
            && let Some((_, name)) = names.iter().find(|(end, _)| *end == rest)
        {
            return format!("{uid} ({name})");
        }
    }
    uid.to_owned()
}

const TRANSFER_SYNTAXES: &[(&str, &str)] = &[
    ("", "Implicit VR Little Endian"),
    (".1", "Explicit VR Little Endian"),
    (".1.98", "Encapsulated Uncompressed Explicit VR Little Endian"),
    (".1.99", "Deflated Explicit VR Little Endian"),
    (".2", "Explicit VR Big Endian"),
    (".4.50", "JPEG Baseline (Process 1)"),
    (".4.51", "JPEG Extended (Process 2 & 4)"),
    (".4.53", "JPEG Spectral Selection, Non-Hierarchical (Process 6 & 8)"),
    (".4.55", "JPEG Full Progression, Non-Hierarchical (Process 10 & 12)"),
    (".4.57", "JPEG Lossless, Non-Hierarchical (Process 14)"),
    (".4.70", "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14, Selection Value 1)"),
    (".4.80", "JPEG-LS Lossless"),
    (".4.81", "JPEG-LS Near-Lossless"),
    (".4.90", "JPEG 2000 Lossless"),
    (".4.91", "JPEG 2000"),
    (".4.92", "JPEG 2000 Part 2 Multi-component Lossless"),
    (".4.93", "JPEG 2000 Part 2 Multi-component"),
    (".4.94", "JPIP Referenced"),
    (".4.95", "JPIP Referenced Deflate"),
    (".4.100", "MPEG2 Main Profile / Main Level"),
    (".4.101", "MPEG2 Main Profile / High Level"),
    (".4.102", "MPEG-4 AVC/H.264 High Profile / Level 4.1"),
    (".4.103", "MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1"),
    (".4.110", "JPEG XL Lossless"),
    (".4.111", "JPEG XL JPEG Recompression"),
    (".4.112", "JPEG XL"),
    (".4.201", "High-Throughput JPEG 2000 Lossless"),
    (".4.202", "High-Throughput JPEG 2000 with RPCL Options Lossless"),
    (".4.203", "High-Throughput JPEG 2000"),
    (".5", "RLE Lossless"),
    (".8.1", "Deflated Image Frame Compression"),
];

const SOP_CLASSES: &[(&str, &str)] = &[
    ("1", "Computed Radiography Image"),
    ("1.1", "Digital X-Ray Image, For Presentation"),
    ("1.1.1", "Digital X-Ray Image, For Processing"),
    ("1.2", "Digital Mammography X-Ray Image, For Presentation"),
    ("1.2.1", "Digital Mammography X-Ray Image, For Processing"),
    ("1.3", "Digital Intra-Oral X-Ray Image, For Presentation"),
    ("2", "CT Image"),
    ("2.1", "Enhanced CT Image"),
    ("3.1", "Ultrasound Multi-frame Image"),
    ("4", "MR Image"),
    ("4.1", "Enhanced MR Image"),
    ("6.1", "Ultrasound Image"),
    ("7", "Secondary Capture Image"),
    ("7.1", "Multi-frame Single Bit Secondary Capture Image"),
    ("7.2", "Multi-frame Grayscale Byte Secondary Capture Image"),
    ("7.3", "Multi-frame Grayscale Word Secondary Capture Image"),
    ("7.4", "Multi-frame True Color Secondary Capture Image"),
    ("9.1.1", "12-lead ECG Waveform"),
    ("11.1", "Grayscale Softcopy Presentation State"),
    ("11.2", "Color Softcopy Presentation State"),
    ("12.1", "X-Ray Angiographic Image"),
    ("12.2", "X-Ray Radiofluoroscopic Image"),
    ("20", "Nuclear Medicine Image"),
    ("66", "Raw Data"),
    ("66.4", "Segmentation"),
    ("77.1.4", "VL Photographic Image"),
    ("88.11", "Basic Text SR"),
    ("88.22", "Enhanced SR"),
    ("88.33", "Comprehensive SR"),
    ("88.59", "Key Object Selection Document"),
    ("88.65", "Chest CAD SR"),
    ("88.67", "X-Ray Radiation Dose SR"),
    ("104.1", "Encapsulated PDF"),
    ("104.2", "Encapsulated CDA"),
    ("128", "Positron Emission Tomography Image"),
    ("481.1", "RT Image"),
    ("481.2", "RT Dose"),
    ("481.3", "RT Structure Set"),
    ("481.5", "RT Plan"),
];
