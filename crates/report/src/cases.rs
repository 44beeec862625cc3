//! The cases of the gallery: their stored images, crops and heat maps.

use std::collections::{BTreeMap, BTreeSet};

use stage::{Fail, Input};
use tables::{images, regions};

use crate::Error;
use crate::cohort::Cohort;
use crate::gallery::Choice;
use crate::localisation::Attended;
use crate::overlay;
use crate::plan::{KeepGoing, check};

/// One case of the gallery.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// Position in the cohort.
    pub image: usize,
    /// Why it is shown.
    pub choice: Choice,
    /// Image and region.
    pub attended: Attended<'a>,
    /// The stored image and the crop.
    pub stored: Stored,
    /// The heat map, RGBA PNG.
    pub heat: Vec<u8>,
}

/// What prep and attend stored of one image.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// The image, PNG.
    pub image_png: Vec<u8>,
    /// The crop, PNG.
    pub crop_png: Vec<u8>,
}

/// Reads the images and crops of the chosen cases, and decodes no others.
///
/// # Errors
/// A table cannot be read, an image is missing or cannot be decoded; [`Error::Interrupted`].
pub fn read<'a>(
    prep: &Input,
    attend: &Input,
    cohort: &Cohort,
    (attended, facts): (&[Attended<'a>], &regions::Facts),
    chosen: &[(usize, Choice)],
    keep_going: KeepGoing,
) -> Result<Vec<Case<'a>>, Fail> {
    let by_id: BTreeMap<&str, &Attended> =
        attended.iter().map(|attended| (attended.image.record.image_id.as_str(), attended)).collect();
    let missing = |image_id: &str| Error::NoImage {
        image_id: image_id.to_owned(),
        images: attended.len(),
        first: attended.first().map_or(String::new(), |attended| attended.image.record.image_id.clone()),
    };
    let mut cases = Vec::new();
    for &(image, choice) in chosen {
        let id = cohort.image_ids[image].as_str();
        let attended = **by_id.get(id).ok_or_else(|| missing(id))?;
        let heat = overlay::heat(attended.region, facts);
        cases.push(Case { image, choice, attended, stored: Stored::default(), heat });
    }
    let wanted: Vec<&Attended> = cases.iter().map(|case| &case.attended).collect();
    let mut stored = stored(prep, attend, &wanted, keep_going)?;
    for case in &mut cases {
        let id = &case.attended.image.record.image_id;
        case.stored = stored.remove(id).unwrap_or_default();
        for png in [&case.stored.image_png, &case.stored.crop_png] {
            overlay::decode(id, png)?;
        }
    }
    Ok(cases)
}

/// The stored images and crops of some images, by `image_id`; what is not there stays empty.
///
/// # Errors
/// A table cannot be read; [`Error::Interrupted`].
pub fn stored(
    prep: &Input,
    attend: &Input,
    wanted: &[&Attended],
    keep_going: KeepGoing,
) -> Result<BTreeMap<String, Stored>, Fail> {
    let ids: BTreeSet<&str> = wanted.iter().map(|attended| attended.image.record.image_id.as_str()).collect();
    let splits: BTreeSet<_> = wanted.iter().map(|attended| attended.image.split).collect();
    let mut stored: BTreeMap<String, Stored> = ids.iter().map(|&id| (id.to_owned(), Stored::default())).collect();
    let mut files = Vec::new();
    for split in splits {
        files.extend(prep.files(&format!("images/{split}-"))?);
    }
    images::read_some(&files, &ids, |row| -> Result<(), Error> {
        if let Some(stored) = stored.get_mut(&row.record.image_id) {
            stored.image_png = row.png;
        }
        check(keep_going)
    })?;
    regions::read_some(&attend.files("regions")?, &ids, |row| -> Result<(), Error> {
        if let Some(stored) = stored.get_mut(&row.key.image_id) {
            stored.crop_png = row.crop_png;
        }
        check(keep_going)
    })?;
    Ok(stored)
}

/// An image's file name without its ending, with another.
pub fn file_name(image_id: &str, ending: &str) -> String {
    let stem = image_id.strip_suffix(".png").unwrap_or(image_id);
    format!("{}{ending}", stem.replace(['/', '\\'], "_"))
}
