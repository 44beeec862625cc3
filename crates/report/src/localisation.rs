//! Does the attended region lie where a radiologist (or the phantom) drew the finding?

use std::collections::BTreeMap;

use cxr::heatmap::Cells;
use cxr::metrics::{Cell, Metric, Overlap, Sampled, Scope, Series, Subset};
use cxr::{BBox, Branch, Finding, Placement, Split};
use tables::metrics::Row;
use tables::{class_maps, images, regions};

use crate::Error;
use crate::cohort::Cohort;
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
    /// The centre of the hottest cell of the heat map, in pixels of the stored image.
    pub fn peak(&self, facts: &regions::Facts) -> (f32, f32) {
        hottest(&self.region.heatmap, facts)
    }

    /// Share of the image that a region takes.
    fn share(&self, region: &BBox) -> f64 {
        f64::from(region.area()) / (f64::from(self.image.width_px) * f64::from(self.image.height_px))
    }
}

/// The centre of the hottest cell of a map, in pixels of the stored image; of equals, the first.
fn hottest(map: &[f32], facts: &regions::Facts) -> (f32, f32) {
    let [rows, columns] = facts.heatmap;
    let hottest = (0..map.len()).reduce(|best, cell| if map[cell] > map[best] { cell } else { best }).unwrap_or(0);
    let input = facts.frame.input_px;
    let [across, down] = [columns, rows].map(|cells| facts.cells.unwrap_or(Cells::even(cells.max(1), input)));
    let (x, y) = (across.centre_px(hottest % columns.max(1)), down.centre_px(hottest / columns.max(1)));
    facts.frame.point_to_image((x, y))
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

/// The metrics of one box and a region of its image; `peak` is the heat map's.
fn of_box(region: &BBox, peak: (f32, f32), drawn: &BBox) -> Vec<(Metric, f64)> {
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

/// What is held against the boxes of a split.
#[derive(Debug, Clone, Copy)]
pub struct Regions<'a> {
    /// All images of the split.
    pub attended: &'a [Attended<'a>],
    /// How the regions were found.
    pub facts: &'a regions::Facts,
    /// The class activation maps of images with boxes; `None` where attend has none, as in an evaluation of a model from
    /// elsewhere.
    pub class_maps: Option<&'a [class_maps::Row]>,
    /// The split, with the global branch's logits.
    pub cohort: &'a Cohort,
    /// Why boxes must not be held against the regions.
    pub refusal: Option<&'a str>,
}

/// A box, and what the two kinds of regions say of its image.
struct Boxed<'a> {
    attended: &'a Attended<'a>,
    finding: Finding,
    drawn: BBox,
    class_map: Option<&'a class_maps::Row>,
}

impl Boxed<'_> {
    /// The region of a series and its heat map's maximum; `None`: it has none.
    fn region(&self, series: Series, facts: &regions::Facts) -> Option<(BBox, (f32, f32))> {
        match series {
            Series::Attention => Some((self.attended.region.bbox, self.attended.peak(facts))),
            _ => {
                let maps = self.class_map?;
                Some((maps.regions[self.finding.index()], hottest(maps.map(self.finding), facts)))
            }
        }
    }
}

/// Rows for every finding with boxes, and for all together; without any box, only how large the regions are.
///
/// For the attended regions, the same for all findings of an image, and for those of the class activation maps:
///
/// - `pointing_game`: share of boxes that contain the heat map's maximum (Zhang et al., ECCV 2016, without a margin);
/// - `hit_rate`: share of boxes whose centre lies inside the region;
/// - `attention_area`: share of the image that the region takes, about what a region would hit by chance;
/// - `fallback_rate` (of `all`): share of images where the region is the whole image for want of a mask;
/// - `iou`, `iobb`: mean overlap over union and over the region;
/// - `iou_at_0.1`, ..., `iobb_at_0.7`: share of boxes with a larger overlap (Wang et al., CVPR 2017, Table 4);
/// - `loc_acc_at_0.1`, ..., `loc_acc_at_0.7`: localisation accuracy as WSRPN defines it, and its
///   `mean` over the findings that have boxes; `loc_acc_nothing`, the same of a model that predicts nothing;
///   `box_predicted`, the share of boxes whose finding is predicted there.
///
/// `n_pos` counts boxes (for `attention_area` and `fallback_rate` of `all`: images). Only images with a box of the
/// finding count. No interval where all draws agree, as with one patient: it would look like certainty. Where `refusal`
/// says why, the numbers about boxes are null.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn measure(regions: &Regions<'_>, split: Split, plan: &Plan) -> Result<Vec<Row>, Error> {
    let &Regions { attended, facts, refusal, .. } = regions;
    let mut rows = Vec::new();
    let mut push =
        |(series, scope, metric): (Series, Scope, Metric), sampled: Sampled, n: usize, reason: Option<&str>| {
            let estimate = sampled.estimate(plan.confidence);
            let (low, high) = if estimate.low < estimate.high { (estimate.low, estimate.high) } else { (None, None) };
            let agree = (low.is_none() && estimate.value.is_some() && sampled.drawn())
                .then_some("no interval: all draws of patients agree, or most have no box");
            rows.push(Row {
                cell: Cell { series, scope, metric, subset: Subset::All, split },
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
    let class_maps: BTreeMap<&str, &class_maps::Row> =
        regions.class_maps.unwrap_or_default().iter().map(|row| (row.image_id.as_str(), row)).collect();
    let of_image = |attended: &Attended| class_maps.get(attended.image.record.image_id.as_str()).copied();
    let boxes: Vec<Boxed> = attended
        .iter()
        .flat_map(|attended| attended.image.boxes.iter().map(move |drawn| (attended, drawn.finding, drawn.bbox)))
        .map(|(attended, finding, drawn)| Boxed { attended, finding, drawn, class_map: of_image(attended) })
        .collect();
    let all_series = [Some(Series::Attention), regions.class_maps.map(|_| Series::ClassMap)];
    for series in all_series.into_iter().flatten() {
        for finding in Finding::ALL.into_iter().map(Some).chain([None]) {
            plan.check()?;
            let boxes: Vec<&Boxed> =
                boxes.iter().filter(|boxed| finding.is_none_or(|finding| boxed.finding == finding)).collect();
            let found: Option<Vec<(BBox, (f32, f32))>> =
                boxes.iter().map(|boxed| boxed.region(series, facts)).collect();
            let Some(found) = found.filter(|found| !found.is_empty()) else { continue };
            let scope = finding.map_or(Scope::All, Scope::Finding);
            let patients: Vec<u32> = boxes.iter().map(|boxed| boxed.attended.image.record.patient_id).collect();
            let resamples = plan.bootstrap.resample(&patients);
            let mean = |values: &[f64]| if refusal.is_some() { Sampled::default() } else { resamples.mean(values) };
            let of_boxes: Vec<Vec<(Metric, f64)>> =
                boxes.iter().zip(&found).map(|(boxed, (region, peak))| of_box(region, *peak, &boxed.drawn)).collect();
            for (index, &(metric, _)) in of_boxes[0].iter().enumerate() {
                let values: Vec<f64> = of_boxes.iter().map(|values| values[index].1).collect();
                push((series, scope, metric), mean(&values), boxes.len(), refusal);
            }
            if finding.is_some() || series == Series::ClassMap {
                let areas: Vec<f64> =
                    boxes.iter().zip(&found).map(|(boxed, (region, _))| boxed.attended.share(region)).collect();
                push((series, scope, Metric::AttentionArea), mean(&areas), boxes.len(), refusal);
            }
        }
        for (metric, accuracies) in localisation_accuracy(regions, &boxes, series, plan)? {
            let of_findings =
                accuracies.iter().map(|(finding, n, sampled)| (Scope::from(*finding), *n, sampled.clone()));
            let mean = Sampled::mean(accuracies.iter().map(|(.., sampled)| sampled));
            for (scope, n, sampled) in of_findings.chain([(Scope::Mean, boxes.len(), mean)]) {
                let sampled = if refusal.is_some() { Sampled::default() } else { sampled };
                push((series, scope, metric), sampled, n, refusal);
            }
        }
    }
    plan.check()?;
    let patients: Vec<u32> = attended.iter().map(|attended| attended.image.record.patient_id).collect();
    let resamples = plan.bootstrap.resample(&patients);
    let of_all = |metric| (Series::Attention, Scope::All, metric);
    let areas: Vec<f64> = attended.iter().map(|attended| attended.share(&attended.region.bbox)).collect();
    push(of_all(Metric::AttentionArea), resamples.mean(&areas), areas.len(), None);
    let fallbacks: Vec<f64> = attended.iter().map(|attended| whether(attended.region.fallback)).collect();
    push(of_all(Metric::FallbackRate), resamples.mean(&fallbacks), fallbacks.len(), None);
    Ok(rows)
}

/// Each metric's accuracies, by finding with the number of its boxes.
type Accuracies = Vec<(Metric, Vec<(Finding, usize, Sampled)>)>;

/// Localisation accuracy as WSRPN (Mueller et al., IEEE TMI 2024, arXiv 2402.11985) defines it, for every overlap T and every finding with boxes:
/// (TP + TN) / (TP + TN + FP + FN) over the images that have boxes of any finding
/// (<https://github.com/philip-mueller/wsrpn>, commit 869ba4a, `src/metrics/detection_metrics.py`, `PRAtIoUMetric`).
///
/// A finding is predicted where its probability by the global branch is above 0.5, with one region per image. TP counts
/// the boxes of the finding whose IoU with it is above T, TN the images without such a box in which it is not predicted; FP
/// the regions predicted less TP, FN the boxes less TP.
///
/// Such an accuracy rewards silence: most images with boxes have none of a given finding, so a model that predicts nothing
/// has [`Metric::LocAccNothing`]. [`Metric::BoxPredicted`] says how many boxes were looked for at all.
fn localisation_accuracy(
    regions: &Regions<'_>,
    boxes: &[Boxed<'_>],
    series: Series,
    plan: &Plan,
) -> Result<Accuracies, Error> {
    let cohort = regions.cohort;
    let place: BTreeMap<&str, usize> =
        cohort.image_ids.iter().enumerate().map(|(place, image)| (image.as_str(), place)).collect();
    let mut images: BTreeMap<&str, Vec<&Boxed>> = BTreeMap::new();
    for boxed in boxes {
        images.entry(boxed.attended.image.record.image_id.as_str()).or_default().push(boxed);
    }
    let patients: Vec<u32> = images.values().map(|boxes| boxes[0].attended.image.record.patient_id).collect();
    if images.is_empty() || images.keys().any(|image| !place.contains_key(image)) {
        return Ok(Vec::new());
    }
    let resamples = plan.bootstrap.resample(&patients);
    // A logit above 0 is a probability above 0.5.
    let predicted =
        |image: &str, finding: Finding| -> bool { cohort.logits(Branch::Global)[place[image]][finding.index()] > 0.0 };
    // What is counted as right in an image with these boxes of a finding, and of how much.
    let accuracy = |predicted: bool, of_finding: &[&Boxed], overlap: Overlap| -> (f64, f64) {
        let overlaps = |boxed: &&&Boxed| {
            let region = boxed.region(series, regions.facts);
            predicted && region.is_some_and(|(region, _)| region.iou(&boxed.drawn) > overlap.value())
        };
        let positives = of_finding.iter().filter(overlaps).count() as f64;
        let negatives = whether(!predicted && of_finding.is_empty());
        let wrong = whether(predicted) + of_finding.len() as f64 - 2.0 * positives;
        (positives + negatives, positives + negatives + wrong)
    };
    let mut metrics: Vec<Metric> = Overlap::ALL.map(Metric::LocAccAt).into();
    if series == Series::Attention {
        metrics.extend([Metric::LocAccNothing, Metric::BoxPredicted]);
    }
    let mut all = Vec::new();
    for metric in metrics {
        plan.check()?;
        let mut accuracies = Vec::new();
        for finding in Finding::ALL {
            let count = boxes.iter().filter(|boxed| boxed.finding == finding).count();
            if count == 0 {
                continue;
            }
            let of_image = |(image, boxes): (&&str, &Vec<&Boxed>)| -> (f64, f64) {
                let of_finding: Vec<&Boxed> = boxes.iter().copied().filter(|boxed| boxed.finding == finding).collect();
                let predicted = predicted(image, finding);
                match metric {
                    Metric::LocAccAt(overlap) => accuracy(predicted, &of_finding, overlap),
                    // No region is any overlap's.
                    Metric::LocAccNothing => accuracy(false, &of_finding, Overlap::HALF),
                    _ => (whether(predicted) * of_finding.len() as f64, of_finding.len() as f64),
                }
            };
            let (right, of): (Vec<f64>, Vec<f64>) = images.iter().map(of_image).unzip();
            accuracies.push((finding, count, resamples.ratio(&right, &of)));
        }
        all.push((metric, accuracies));
    }
    Ok(all)
}
