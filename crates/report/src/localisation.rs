//! Does the attended region lie where a radiologist (or the phantom) drew the finding?

use std::collections::BTreeMap;

use cxr::metrics::{Cell, Metric, Overlap, Sampled, Scope, Series, Subset};
use cxr::{BBox, EvalFrame, Finding, Placement, Split};
use tables::metrics::Row;
use tables::{images, regions};

use crate::Error;
use crate::plan::Plan;

/// An image that prep stored, with the region that attend found in it.
#[derive(Debug, Clone, Copy)]
pub struct Attended<'a> {
    /// From prep, without its pixels.
    pub image: &'a images::Row,
    /// From attend, without the crop.
    pub region: &'a regions::Row,
}

impl Attended<'_> {
    /// The centre of the hottest cell of the heat map, in pixels of the stored image; of equals, the first.
    pub fn peak(&self, frame: &EvalFrame) -> (f32, f32) {
        let frame = frame.bbox();
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

/// Where regions are put, if that is a control and not where the network looks.
pub fn control(facts: &regions::Facts) -> Option<String> {
    let where_put = match facts.region {
        Placement::Attended => return None,
        Placement::Random => {
            let seed = facts.region_seed.map_or("unknown".to_owned(), |seed| seed.to_string());
            format!("boxes of the attended ones' sizes at random places (attend.region_seed = {seed})")
        }
        Placement::Centre => {
            "boxes of the attended ones' sizes in the middle of what the global branch sees".to_owned()
        }
        Placement::Whole => "all that the global branch sees".to_owned(),
    };
    Some(format!("attend.region = \"{}\", regions are {where_put}, not where it looks", facts.region))
}

/// 1 for yes, 0 for no.
fn whether(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

/// The metrics of one box and the region of its image; `peak` is the heat map's.
fn of_box(attended: &Attended, peak: (f32, f32), drawn: &BBox) -> Vec<(Metric, f64)> {
    let region = &attended.region.bbox;
    let (iou, iobb) = (region.iou(drawn), region.iobb(drawn));
    let mut values = vec![
        (Metric::PointingGame, whether(drawn.contains(peak))),
        (Metric::HitRate, whether(region.contains(drawn.center()))),
        (Metric::Iou, f64::from(iou)),
        (Metric::Iobb, f64::from(iobb)),
    ];
    for overlap in Overlap::ALL {
        values.push((Metric::IouAt(overlap), whether(iou > overlap.value())));
        values.push((Metric::IobbAt(overlap), whether(iobb > overlap.value())));
    }
    values
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
///
/// # Errors
/// [`Error::Interrupted`].
pub fn measure(
    attended: &[Attended],
    frame: &EvalFrame,
    refusal: Option<&str>,
    split: Split,
    plan: &Plan,
) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    let mut push = |scope: Scope, metric: Metric, sampled: Sampled, n: usize, reason: Option<&str>| {
        let estimate = sampled.estimate(plan.confidence);
        let (low, high) = if estimate.low < estimate.high { (estimate.low, estimate.high) } else { (None, None) };
        let agree = (low.is_none() && estimate.value.is_some() && sampled.drawn())
            .then_some("no interval: all draws of patients agree, or most have no box");
        rows.push(Row {
            cell: Cell { series: Series::Attention, scope, metric, subset: Subset::All, split },
            value: estimate.value,
            ci_low: low,
            ci_high: high,
            n_pos: n as u64,
            n_neg: 0,
            n_unknown: 0,
            undefined_draws: estimate.undefined as u64,
            reason: reason.or(agree).map(str::to_owned),
            seeds: None,
        });
    };
    let boxes: Vec<(&Attended, Finding, BBox)> = attended
        .iter()
        .flat_map(|attended| attended.image.boxes.iter().map(move |drawn| (attended, drawn.finding, drawn.bbox)))
        .collect();
    for finding in Finding::ALL.into_iter().map(Some).chain([None]) {
        plan.check()?;
        let boxes: Vec<_> = boxes.iter().filter(|(_, of, _)| finding.is_none_or(|finding| *of == finding)).collect();
        if boxes.is_empty() {
            continue;
        }
        let scope = finding.map_or(Scope::All, Scope::Finding);
        let patients: Vec<u32> = boxes.iter().map(|(attended, ..)| attended.image.record.patient_id).collect();
        let resamples = plan.bootstrap.resample(&patients);
        let mean = |values: &[f64]| if refusal.is_some() { Sampled::default() } else { resamples.mean(values) };
        let of_boxes: Vec<Vec<(Metric, f64)>> =
            boxes.iter().map(|(attended, _, drawn)| of_box(attended, attended.peak(frame), drawn)).collect();
        for (index, &(metric, _)) in of_boxes[0].iter().enumerate() {
            let values: Vec<f64> = of_boxes.iter().map(|values| values[index].1).collect();
            push(scope, metric, mean(&values), boxes.len(), refusal);
        }
        if finding.is_some() {
            let areas: Vec<f64> = boxes.iter().map(|(attended, ..)| attended.area()).collect();
            push(scope, Metric::AttentionArea, mean(&areas), boxes.len(), refusal);
        }
    }
    plan.check()?;
    let patients: Vec<u32> = attended.iter().map(|attended| attended.image.record.patient_id).collect();
    let resamples = plan.bootstrap.resample(&patients);
    let areas: Vec<f64> = attended.iter().map(Attended::area).collect();
    push(Scope::All, Metric::AttentionArea, resamples.mean(&areas), areas.len(), None);
    let fallbacks: Vec<f64> = attended.iter().map(|attended| whether(attended.region.fallback)).collect();
    push(Scope::All, Metric::FallbackRate, resamples.mean(&fallbacks), fallbacks.len(), None);
    Ok(rows)
}
