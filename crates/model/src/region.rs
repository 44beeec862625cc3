//! From a heat map to one box: threshold, largest connected component, bounding box.

use std::fmt;
use std::str::FromStr;

use cxr::heatmap::NormalisedMap;
use cxr::{BBox, EvalFrame};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where the mask M = H > tau begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    /// The same tau for every image (AG-CNN, eq. 4; 0.7 in the paper).
    Tau(f32),
    /// Otsu's method per image, on the enlarged heat map (256 bins, as scikit-image's `threshold_otsu`).
    Otsu,
}

impl Serialize for Threshold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Threshold::Tau(tau) => serializer.serialize_f32(*tau),
            Threshold::Otsu => serializer.serialize_str("otsu"),
        }
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrOtsu;

        impl Visitor<'_> for NumberOrOtsu {
            type Value = Threshold;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or \"otsu\"")
            }

            fn visit_f64<E: de::Error>(self, tau: f64) -> Result<Threshold, E> {
                Ok(Threshold::Tau(tau as f32))
            }

            fn visit_i64<E: de::Error>(self, tau: i64) -> Result<Threshold, E> {
                Ok(Threshold::Tau(tau as f32))
            }

            fn visit_u64<E: de::Error>(self, tau: u64) -> Result<Threshold, E> {
                Ok(Threshold::Tau(tau as f32))
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Threshold, E> {
                if name == "otsu" {
                    Ok(Threshold::Otsu)
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(name), &self))
                }
            }
        }

        deserializer.deserialize_any(NumberOrOtsu)
    }
}

impl FromStr for Threshold {
    type Err = &'static str;

    /// Reads what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text.parse::<f32>() {
            Ok(tau) if tau.is_finite() => Ok(Threshold::Tau(tau)),
            _ if text == "otsu" => Ok(Threshold::Otsu),
            _ => Err("a number or \"otsu\""),
        }
    }
}

impl fmt::Display for Threshold {
    /// As it is configured: `0.7`, `otsu`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Threshold::Tau(tau) => tau.fmt(f),
            Threshold::Otsu => f.write_str("otsu"),
        }
    }
}

/// What the network attended to in one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Bounding box of the largest component, half-open; [`find`] and [`locate`] say in which frame.
    /// `None` where the map is constant or the mask empty, and the whole image is taken instead.
    pub bbox: Option<BBox>,
    /// The tau that was applied, in units of the normalised map.
    pub tau: f32,
    /// Share of the evaluation frame in which H > tau, before a component is chosen; 0 for a constant map.
    pub mask_frac: f32,
}

/// Finds the attended region of one image; the box is in pixels of the stored image, of which `frame` is the part that the
/// map covers.
pub fn locate(map: NormalisedMap<'_>, frame: EvalFrame, threshold: Threshold) -> Region {
    let region = find(map, frame.input_px, threshold);
    Region { bbox: region.bbox.map(|bbox| frame.to_image(bbox)), ..region }
}

/// Finds the attended region of one image; the box is in pixels of the network's input, which has `side` x `side`.
///
/// Components are 8-connected. The largest one wins; of equally large ones that with the highest peak, then the one
/// that comes first in row-major order. The paper says neither; its peers (scikit-image's `label`) use 8.
pub fn find(map: NormalisedMap<'_>, side: usize, threshold: Threshold) -> Region {
    if map.is_constant() {
        let tau = if let Threshold::Tau(tau) = threshold { tau } else { map.values()[0] };
        return Region { bbox: None, tau, mask_frac: 0.0 };
    }
    let heat = map.upsampled(side);
    let tau = match threshold {
        Threshold::Tau(tau) => tau,
        Threshold::Otsu => otsu(&heat),
    };
    let components = components(&heat, side, tau);
    let masked: usize = components.iter().map(|component| component.area).sum();
    // Strictly greater: of equals the first in row-major order stays.
    let largest = components
        .into_iter()
        .reduce(|best, next| if (next.area, next.peak) > (best.area, best.peak) { next } else { best });
    Region { bbox: largest.map(|component| component.bbox), tau, mask_frac: masked as f32 / (side * side) as f32 }
}

/// One 8-connected part of the mask.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Component {
    /// Pixels.
    area: usize,
    /// Highest value.
    peak: f32,
    /// Half-open.
    bbox: BBox,
}

impl Component {
    fn join(&mut self, other: Component) {
        self.area += other.area;
        self.peak = self.peak.max(other.peak);
        self.bbox = self.bbox.union(&other.bbox);
    }
}

/// The 8-connected components of `heat > tau` in the row-major order of their first pixels; `heat` has rows of `width`. A NaN
/// is in none.
fn components(heat: &[f32], width: usize, tau: f32) -> Vec<Component> {
    // Every horizontal run of masked pixels is a component, until it touches one of the row above:
    // then `parent` leads to the earlier of the two.
    let mut runs: Vec<Component> = Vec::new();
    let mut parent: Vec<usize> = Vec::new();
    let mut above = 0..0;
    for (y, row) in heat.chunks_exact(width).enumerate() {
        let first = runs.len();
        let mut x = 0;
        let mut candidate = above.start;
        // Not `<=`, which a NaN is not either: the scan would stand still before one.
        let masked = |x: usize| row[x] > tau;
        while x < width {
            if !masked(x) {
                x += 1;
                continue;
            }
            let start = x;
            let mut peak = row[x];
            while x < width && masked(x) {
                peak = peak.max(row[x]);
                x += 1;
            }
            let bbox = BBox::from_corners((start as f32, y as f32), (x as f32, (y + 1) as f32));
            let run = runs.len();
            runs.push(Component { area: x - start, peak, bbox });
            parent.push(run);
            // Runs of the row above that end before this one begins, diagonals included, cannot touch later ones either.
            while candidate < above.end && runs[candidate].bbox.x_max < bbox.x_min {
                candidate += 1;
            }
            let touching = (candidate..above.end).take_while(|&i| runs[i].bbox.x_min <= bbox.x_max);
            for other in touching {
                let (a, b) = (root(&mut parent, other), root(&mut parent, run));
                parent[a.max(b)] = a.min(b);
            }
        }
        above = first..runs.len();
    }
    let mut whole: Vec<Option<Component>> = vec![None; runs.len()];
    for (run, &part) in runs.iter().enumerate() {
        match &mut whole[root(&mut parent, run)] {
            Some(component) => component.join(part),
            empty => *empty = Some(part),
        }
    }
    whole.into_iter().flatten().collect()
}

/// The earliest run of the component that `run` belongs to; halves the path on its way.
fn root(parent: &mut [usize], mut run: usize) -> usize {
    while parent[run] != run {
        parent[run] = parent[parent[run]];
        run = parent[run];
    }
    run
}

/// Bins of the histogram in [`otsu`], scikit-image's default.
const BINS: usize = 256;

/// Otsu's threshold (IEEE Trans. SMC 9, 1979): the bin centre that best separates values at most as large from larger ones.
///
/// Computed as scikit-image's `threshold_otsu`, in f64, so that the two agree bit for bit.
fn otsu(heat: &[f32]) -> f32 {
    let min = heat.iter().copied().fold(f32::INFINITY, f32::min);
    let max = heat.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if min >= max {
        return min;
    }
    let (min, max) = (f64::from(min), f64::from(max));
    let step = (max - min) / BINS as f64;
    let edge = |i: usize| if i == BINS { max } else { i as f64 * step + min };
    let mut counts = [0.0_f64; BINS];
    for &value in heat {
        let value = f64::from(value);
        let mut bin = (((value - min) / (max - min) * BINS as f64) as usize).min(BINS - 1);
        if value < edge(bin) {
            bin -= 1;
        } else if bin + 1 < BINS && value >= edge(bin + 1) {
            bin += 1;
        }
        counts[bin] += 1.0;
    }
    let centre = |i: usize| (edge(i) + edge(i + 1)) / 2.0;
    let all: f64 = counts.iter().sum();
    let all_sum: f64 = (0..BINS).map(|i| counts[i] * centre(i)).sum();
    let (mut below, mut below_sum) = (0.0, 0.0);
    let mut best = (f64::NEG_INFINITY, 0);
    for (i, &count) in counts[..BINS - 1].iter().enumerate() {
        below += count;
        below_sum += count * centre(i);
        let above = all - below;
        let between = below * above * (below_sum / below - (all_sum - below_sum) / above).powi(2);
        if between > best.0 {
            best = (between, i);
        }
    }
    centre(best.1) as f32
}

#[cfg(test)]
mod tests {
    use cxr::EvalCrop;

    use super::*;

    fn boxes(heat: &[f32], width: usize) -> Vec<(usize, f32, [f32; 4])> {
        components(heat, width, 0.5)
            .into_iter()
            .map(|c| (c.area, c.peak, [c.bbox.x_min, c.bbox.y_min, c.bbox.x_max, c.bbox.y_max]))
            .collect()
    }

    #[test]
    fn diagonal_neighbours_are_one_component() {
        #[rustfmt::skip]
        let heat = [
            1.0, 0.0, 0.0, 0.9,
            0.0, 1.0, 0.0, 0.0,
            0.0, 0.0, 0.0, 0.8,
        ];
        assert_eq!(
            boxes(&heat, 4),
            [(2, 1.0, [0.0, 0.0, 2.0, 2.0]), (1, 0.9, [3.0, 0.0, 4.0, 1.0]), (1, 0.8, [3.0, 2.0, 4.0, 3.0])]
        );
    }

    #[test]
    fn arms_that_meet_below_are_one_component() {
        #[rustfmt::skip]
        let heat = [
            1.0, 0.0, 1.0, 0.0, 1.0,
            1.0, 0.0, 1.0, 0.0, 1.0,
            0.0, 1.0, 0.0, 1.0, 0.0,
        ];
        assert_eq!(boxes(&heat, 5), [(8, 1.0, [0.0, 0.0, 5.0, 3.0])]);
    }

    #[test]
    fn a_nan_is_in_no_component() {
        const NAN: f32 = f32::NAN;
        #[rustfmt::skip]
        let heat = [
            NAN, 1.0, NAN, 0.9,
            NAN, NAN, NAN, NAN,
            0.0, 0.8, 0.8, NAN,
        ];
        assert_eq!(
            boxes(&heat, 4),
            [(1, 1.0, [1.0, 0.0, 2.0, 1.0]), (1, 0.9, [3.0, 0.0, 4.0, 1.0]), (2, 0.8, [1.0, 2.0, 3.0, 3.0])]
        );
        // Nor does a mask that begins at NaN.
        assert!(components(&[1.0; 4], 2, NAN).is_empty());
    }

    fn map(values: &[f32], shape: (usize, usize)) -> NormalisedMap<'_> {
        NormalisedMap::new(values, shape, None)
    }

    #[test]
    fn ties_go_to_the_higher_peak_then_to_the_first() {
        let at = |heat: &[f32]| find(map(heat, (2, 4)), 4, Threshold::Tau(0.5)).bbox;
        // A 2 x 4 map enlarged to 4 x 4 repeats rows only.
        let right = at(&[0.9, 0.0, 0.0, 1.0, 0.9, 0.0, 0.0, 1.0]);
        assert_eq!(right, Some(BBox::new(3.0, 0.0, 4.0, 4.0).unwrap()));
        let left = at(&[1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]);
        assert_eq!(left, Some(BBox::new(0.0, 0.0, 1.0, 4.0).unwrap()));
    }

    #[test]
    fn nothing_to_attend_to_is_said() {
        let constant = find(map(&[0.0; 4], (2, 2)), 8, Threshold::Tau(0.7));
        assert_eq!(constant, Region { bbox: None, tau: 0.7, mask_frac: 0.0 });
        let empty = find(map(&[0.0, 0.1, 0.2, 0.3], (2, 2)), 8, Threshold::Tau(0.7));
        assert_eq!(empty, Region { bbox: None, tau: 0.7, mask_frac: 0.0 });
        let otsu = find(map(&[0.3; 4], (2, 2)), 8, Threshold::Otsu);
        assert_eq!(otsu, Region { bbox: None, tau: 0.3, mask_frac: 0.0 });
    }

    #[test]
    fn regions_are_found_in_the_stored_image() {
        let (heat, flat) = ([0.0, 1.0, 0.0, 1.0], [0.0; 4]);
        let centre = EvalFrame { crop: EvalCrop::Centre, image_px: 13, input_px: 8 };
        let whole = EvalFrame { crop: EvalCrop::Whole, image_px: 16, input_px: 8 };
        let at = |heat, frame| locate(map(heat, (2, 2)), frame, Threshold::Tau(0.7)).bbox;
        // The right three columns of the input; 13 - 8 is odd, so the crop begins at 2.
        assert_eq!(at(&heat, centre), Some(BBox::new(7.0, 2.0, 10.0, 10.0).unwrap()));
        assert_eq!(at(&heat, whole), Some(BBox::new(10.0, 0.0, 16.0, 16.0).unwrap()));
        assert_eq!(at(&flat, whole), None);
    }

    #[test]
    fn a_threshold_is_written_as_configured() {
        assert_eq!(
            [Threshold::Tau(0.7), Threshold::Tau(1.0), Threshold::Otsu].map(|t| t.to_string()),
            ["0.7", "1", "otsu"]
        );
        assert_eq!(["0.7", "otsu"].map(str::parse), [Ok(Threshold::Tau(0.7)), Ok(Threshold::Otsu)]);
        assert!("NaN".parse::<Threshold>().is_err() && "".parse::<Threshold>().is_err());
    }
}
