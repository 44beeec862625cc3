//! Where the global branch looks, as images: see [`picture::overlay`].

use cxr::BBox;
use picture::Grey;
use picture::overlay::{HeatMap, Overlay};

use tables::regions::{Facts, Row};

use crate::Error;
use crate::localisation::Attended;

/// Decodes a square PNG that prep or attend stored.
///
/// # Errors
/// [`Error::Decode`] or [`Error::Size`], naming the image.
pub fn decode(image_id: &str, bytes: &[u8]) -> Result<Grey, Error> {
    let image = Grey::decode_stored(image_id, bytes)
        .map_err(|source| Error::Decode { image_id: image_id.to_owned(), source })?;
    check_side(image_id, &image, image.width as usize)?;
    Ok(image)
}

/// The image is a square of `expected` pixels.
fn check_side(image_id: &str, &Grey { width, height, .. }: &Grey, expected: usize) -> Result<(), Error> {
    if (width as usize, height as usize) == (expected, expected) {
        return Ok(());
    }
    Err(Error::Size { image_id: image_id.to_owned(), width, height, expected })
}

/// Three panels side by side as one RGB PNG: the image with its boxes, the heat map over it, the crop.
/// `facts` are those of the regions: a control has another colour.
///
/// # Errors
/// [`Error::Size`] where the image is not the one of the facts' frame.
pub fn draw(image: &Grey, crop: &Grey, attended: &Attended, facts: &Facts) -> Result<Vec<u8>, Error> {
    check_side(&attended.image.record.image_id, image, facts.frame.image_px)?;
    let drawn: Vec<BBox> = attended.image.boxes.iter().map(|drawn| drawn.bbox).collect();
    let (heat, region) = (heat_map(attended.region, facts), attended.region.bbox);
    let control = facts.region.is_control();
    Ok(Overlay { image, crop, heat, frame: facts.frame, region, control, drawn: &drawn }.panels())
}

/// The heat map alone as a small RGBA PNG, to be laid over its frame in the image and smoothed by the viewer.
pub fn heat(region: &Row, facts: &Facts) -> Vec<u8> {
    heat_map(region, facts).layer()
}

fn heat_map<'a>(region: &'a Row, facts: &Facts) -> HeatMap<'a> {
    let shape = (region.heatmap_height, region.heatmap_width);
    HeatMap { values: &region.heatmap, shape, input_px: facts.frame.input_px, cells: facts.cells }
}
