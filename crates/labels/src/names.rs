//! Names of images, as tables and disks write them.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// What the names of image files end with, in any case, the first being preferred; what is in them is found out when
/// they are read.
pub const ENDINGS: [&str; 5] = ["png", "jpg", "jpeg", "dcm", "dicom"];

/// A text in the one form that we compare: macOS writes letters and their accents apart, all others together.
pub fn composed(text: &str) -> String {
    if is_nfc_quick(text.chars()) == IsNormalized::Yes { text.to_owned() } else { text.nfc().collect() }
}

/// The name of a file, composed: what stands behind the last `/` or `\`. `None` where that is no name, or hidden.
pub fn image_name(text: &str) -> Option<String> {
    let name = text.rsplit(['/', '\\']).next().unwrap_or(text).trim();
    (!name.is_empty() && !name.contains('\0') && !name.starts_with('.')).then(|| composed(name))
}

/// A name without the ending of an image file; `None` where it has none.
pub fn stem(name: &str) -> Option<&str> {
    let (stem, ending) = name.rsplit_once('.')?;
    let is_image = ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known));
    (is_image && !stem.is_empty() && !stem.ends_with('/')).then_some(stem)
}

/// What an image is known by, whatever its file ends with.
pub fn known_by(name: &str) -> &str {
    stem(name).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_what_systems_write_differently() {
        assert_eq!(image_name("images\\a b.png").as_deref(), Some("a b.png"));
        assert_eq!(image_name("/data/ü.PNG"), image_name("u\u{308}.PNG"));
        for none in ["", "a/", "..", "a/.b.png", "\0", " "] {
            assert_eq!(image_name(none), None, "{none:?}");
        }
        assert_eq!((known_by("a.b.DICOM"), known_by("a.000"), known_by(".png")), ("a.b", "a.000", ".png"));
    }
}
