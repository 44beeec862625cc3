//! Does the attended region lie where a radiologist (or the phantom) drew the finding?

use std::collections::BTreeMap;

use cxr::metrics::{Resamples, Sampled};
use cxr::{BBox, Finding, Split};
use tables::metrics::Row;
use tables::{images, regions};

use crate::Error;
use crate::measure::{ALL, Plan};

/// `branch` of these rows.
pub const BRANCH: &str = "attend";

/// Overlaps above which a box counts as found: T of Wang et al., CVPR 2017, section 4.2.
pub const OVERLAPS: [&str; 7] = ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7"];

/// An image that prep stored, with the region that attend found in it.
#[derive(Debug, Clone, Copy)]
pub struct Attended<'a> {
    /// From prep, without the picture.
    pub image: &'a images::Row,
    /// From attend, without the crop.
    pub region: &'a regions::Row,
}

impl Attended<'_> {
    /// Where the heat map lies in the stored picture: the centre crop of side `crop` pixels that the network saw.
    pub fn frame(&self, crop: f32) -> BBox {
        let (width, height) = (self.image.width_px as f32, self.image.height_px as f32);
        let (x, y) = (((width - crop) / 2.0).max(0.0), ((height - crop) / 2.0).max(0.0));
        BBox::from_corners((x, y), ((x + crop).min(width), (y + crop).min(height)))
    }

    /// The centre of the hottest cell of the heat map, in pixels of the stored picture; of equals, the first.
    pub fn peak(&self, crop: f32) -> (f32, f32) {
        let frame = self.frame(crop);
        let (rows, columns) = (self.region.heatmap_height.max(1), self.region.heatmap_width.max(1));
        let mut hottest = 0;
        for (cell, heat) in self.region.heatmap.iter().enumerate() {
            if *heat > self.region.heatmap[hottest] {
                hottest = cell;
            }
        }
        let (row, column) = (hottest / columns, hottest % columns);
        (
            frame.x_min + (column as f32 + 0.5) / columns as f32 * frame.width(),
            frame.y_min + (row as f32 + 0.5) / rows as f32 * frame.height(),
        )
    }

    /// Share of the image that the region takes.
    fn area(&self) -> f64 {
        f64::from(self.region.bbox.area()) / (f64::from(self.image.width_px) * f64::from(self.image.height_px))
    }
}

/// Joins images and regions of one split by `image_id`.
///
/// # Errors
/// [`Error::NoRegion`]: an image without a region.
pub fn join<'a>(
    images: &'a [images::Row],
    regions: &'a [regions::Row],
    split: Split,
) -> Result<Vec<Attended<'a>>, Error> {
    let by_id: BTreeMap<&str, &regions::Row> =
        regions.iter().map(|region| (region.key.image_id.as_str(), region)).collect();
    let of_split = images.iter().filter(|image| image.split == split);
    of_split
        .map(|image| match by_id.get(image.record.image_id.as_str()) {
            Some(region) => Ok(Attended { image, region }),
            None => Err(Error::NoRegion { image_id: image.record.image_id.clone() }),
        })
        .collect()
}

/// Why boxes must not be held against the regions: the networks saw images that have them. NIH's boxes are all in its
/// official test list, so this happens with every other split.
pub fn refusal(images: &[images::Row]) -> Option<String> {
    let boxed = images.iter().filter(|image| !image.boxes.is_empty());
    let (seen, unseen): (Vec<_>, Vec<_>) = boxed.partition(|image| image.split != Split::Test);
    (!seen.is_empty()).then(|| {
        let of = seen.len() + unseen.len();
        format!("{} of {of} images with a drawn box were trained on or chose the epoch; prep.split = \"official\" keeps them apart", seen.len())
    })
}

/// Rows for every finding with boxes, and for all together; without any box, only how large the regions are.
///
/// - `pointing_game`: share of boxes that contain the heat map's maximum (Zhang et al., ECCV 2016, without a margin);
/// - `hit_rate`: share of boxes whose centre lies inside the region;
/// - `attention_area`: share of the image that the region takes, about what a region would hit by chance;
/// - `fallback_rate` (of `all`): share of images where the region is the whole image for want of a mask;
/// - `iou`, `iobb`: mean overlap over union and over the region;
/// - `iou_at_0.1`, ..., `iobb_at_0.7`: share of boxes with a larger overlap (Wang et al., CVPR 2017, Table 4).
///
/// `n_pos` counts boxes (for `attention_area` and `fallback_rate` of `all`: images). Only images with a box of the
/// finding count. No interval where all draws agree, as with one patient: it would look like certainty. Where `refusal`
/// says why, the numbers about boxes are null.
pub fn measure(attended: &[Attended], crop: f32, refusal: Option<&str>, split: Split, plan: &Plan) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut push = |finding: &str, metric: &str, sampled: Sampled, n: usize, reason: Option<&str>| {
        let estimate = sampled.estimate(plan.confidence);
        let (low, high) = if estimate.low < estimate.high { (estimate.low, estimate.high) } else { (None, None) };
        let certain = (low.is_none() && estimate.value.is_some() && sampled.drawn())
            .then_some("no interval: all draws of patients agree, or most have no box");
        rows.push(Row {
            branch: BRANCH.to_owned(),
            finding: finding.to_owned(),
            metric: metric.to_owned(),
            subset: ALL.to_owned(),
            split,
            value: estimate.value,
            ci_low: low,
            ci_high: high,
            n_pos: n as u64,
            n_neg: 0,
            reason: reason.or(certain).map(str::to_owned),
        });
    };
    let boxes: Vec<(&Attended, Finding, BBox)> = attended
        .iter()
        .flat_map(|attended| attended.image.boxes.iter().map(move |drawn| (attended, drawn.finding, drawn.bbox)))
        .collect();
    for finding in Finding::ALL.into_iter().map(Some).chain([None]) {
        let boxes: Vec<_> = boxes.iter().filter(|(_, of, _)| finding.is_none_or(|finding| *of == finding)).collect();
        if boxes.is_empty() {
            continue;
        }
        let name = finding.map_or(ALL, Finding::snake);
        let patients: Vec<u32> = boxes.iter().map(|(attended, ..)| attended.image.record.patient_id).collect();
        let resamples = plan.bootstrap.resample(&patients);
        let mut each = |metric: &str, of: &dyn Fn(&Attended, &BBox) -> f64| {
            let sampled = match refusal {
                Some(_) => Sampled::default(),
                None => resamples.mean(&boxes.iter().map(|(attended, _, bbox)| of(attended, bbox)).collect::<Vec<_>>()),
            };
            push(name, metric, sampled, boxes.len(), refusal);
        };
        let whether = |yes: bool| f64::from(u8::from(yes));
        each("pointing_game", &|a, bbox| whether(bbox.contains(a.peak(crop))));
        each("hit_rate", &|a, bbox| whether(a.region.bbox.contains(bbox.center())));
        each("iou", &|a, bbox| f64::from(a.region.bbox.iou(bbox)));
        each("iobb", &|a, bbox| f64::from(a.region.bbox.iobb(bbox)));
        for least in OVERLAPS {
            let t: f32 = least.parse().unwrap_or(f32::NAN);
            each(&format!("iou_at_{least}"), &|a, bbox| whether(a.region.bbox.iou(bbox) > t));
            each(&format!("iobb_at_{least}"), &|a, bbox| whether(a.region.bbox.iobb(bbox) > t));
        }
        if finding.is_some() {
            each("attention_area", &|a, _| a.area());
        }
    }
    let patients: Vec<u32> = attended.iter().map(|a| a.image.record.patient_id).collect();
    let resamples: Resamples = plan.bootstrap.resample(&patients);
    let areas: Vec<f64> = attended.iter().map(Attended::area).collect();
    push(ALL, "attention_area", resamples.mean(&areas), areas.len(), None);
    let fallbacks: Vec<f64> = attended.iter().map(|a| f64::from(u8::from(a.region.fallback))).collect();
    push(ALL, "fallback_rate", resamples.mean(&fallbacks), fallbacks.len(), None);
    rows
}
