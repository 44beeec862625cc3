//! Does the attended region lie where a radiologist (or the phantom) drew the finding?

use std::collections::BTreeMap;

use cxr::metrics::Bootstrap;
use cxr::{Finding, Split};
use tables::metrics::Row;
use tables::{images, regions};

use crate::Error;

/// `branch` of these rows.
pub const BRANCH: &str = "attend";

/// `finding` of rows over all boxes, or all images.
pub const ALL: &str = "all";

/// Overlaps above which a box counts as found (the classic protocol's ends and middle; Wang et al., CVPR 2017).
const OVERLAPS: [f32; 3] = [0.1, 0.3, 0.5];

/// One drawn box against the one attended region of its image.
struct Found {
    patient: u32,
    finding: Finding,
    hit: bool,
    iou: f32,
    iobb: f32,
    /// Share of the image that the region takes.
    area: f64,
}

/// An image that prep stored, with the region that attend found in it.
#[derive(Debug, Clone, Copy)]
pub struct Attended<'a> {
    /// From prep, without the picture.
    pub image: &'a images::Row,
    /// From attend, without the crop.
    pub region: &'a regions::Row,
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
        regions.iter().map(|region| (region.image_id.as_str(), region)).collect();
    let of_split = images.iter().filter(|image| image.split == split);
    of_split
        .map(|image| match by_id.get(image.record.image_id.as_str()) {
            Some(region) => Ok(Attended { image, region }),
            None => Err(Error::NoRegion { image_id: image.record.image_id.clone() }),
        })
        .collect()
}

/// Rows for every finding with boxes, and for all together; without any box, only how large the regions are.
///
/// - `hit_rate`: share of boxes whose centre lies inside the region;
/// - `attention_area`: share of the image that the region takes, about what a region would hit by chance;
/// - `fallback_rate` (of `all`): share of images where the region is the whole image for want of a mask;
/// - `iou`, `iobb`: mean overlap over union and over the region;
/// - `iou_above_0.1`, ...: share of boxes with at least that overlap.
///
/// `n_pos` counts boxes (for `attention_area` and `fallback_rate` of `all`: images). Only images with a box of the
/// finding count. No interval where all draws agree, as with one patient: it would look like certainty.
pub fn measure(attended: &[Attended], split: Split, bootstrap: &Bootstrap) -> Vec<Row> {
    let mut found = Vec::new();
    for Attended { image, region } in attended {
        for drawn in &image.boxes {
            found.push(Found {
                patient: image.record.patient_id,
                finding: drawn.finding,
                hit: region.bbox.contains(drawn.bbox.center()),
                iou: region.bbox.iou(&drawn.bbox),
                iobb: region.bbox.iobb(&drawn.bbox),
                area: area(image, region),
            });
        }
    }
    let mut rows = Vec::new();
    let mut push = |finding: &str, metric: String, values: &[f64], patients: &[u32]| {
        let estimate = bootstrap.mean(values, patients);
        let (low, high) = if estimate.low < estimate.high { (estimate.low, estimate.high) } else { (None, None) };
        rows.push(Row {
            branch: BRANCH.to_owned(),
            finding: finding.to_owned(),
            metric,
            split,
            value: estimate.value,
            ci_low: low,
            ci_high: high,
            n_pos: values.len() as u64,
            n_neg: 0,
        });
    };
    for finding in Finding::ALL.into_iter().map(Some).chain([None]) {
        let boxes: Vec<&Found> = found.iter().filter(|f| finding.is_none_or(|finding| f.finding == finding)).collect();
        if boxes.is_empty() {
            continue;
        }
        let name = finding.map_or(ALL, Finding::snake);
        let patients: Vec<u32> = boxes.iter().map(|found| found.patient).collect();
        let mut each = |metric: String, of: &dyn Fn(&Found) -> f64| {
            let values: Vec<f64> = boxes.iter().map(|found| of(found)).collect();
            push(name, metric, &values, &patients);
        };
        each("hit_rate".into(), &|f| f64::from(u8::from(f.hit)));
        each("iou".into(), &|f| f64::from(f.iou));
        each("iobb".into(), &|f| f64::from(f.iobb));
        for least in OVERLAPS {
            each(format!("iou_above_{least}"), &|f| f64::from(u8::from(f.iou >= least)));
            each(format!("iobb_above_{least}"), &|f| f64::from(u8::from(f.iobb >= least)));
        }
        if finding.is_some() {
            each("attention_area".into(), &|f| f.area);
        }
    }
    let areas: Vec<f64> = attended.iter().map(|a| area(a.image, a.region)).collect();
    let patients: Vec<u32> = attended.iter().map(|a| a.image.record.patient_id).collect();
    push(ALL, "attention_area".into(), &areas, &patients);
    let fallbacks: Vec<f64> = attended.iter().map(|a| f64::from(u8::from(a.region.fallback))).collect();
    push(ALL, "fallback_rate".into(), &fallbacks, &patients);
    rows
}

fn area(image: &images::Row, region: &regions::Row) -> f64 {
    f64::from(region.bbox.area()) / (f64::from(image.width_px) * f64::from(image.height_px))
}
