//! The attended regions of all images.

use std::ops::ControlFlow;

use cxr::heatmap::{Cells, NormalisedMap};
use cxr::{BBox, EvalFrame, Finding};
use model::region::{self, Region, Threshold};
use rayon::prelude::*;
use tables::class_maps;

use crate::config::Config;
use crate::error::Error;
use crate::heat::{Heat, Subjects};
use crate::place::place;

/// Images between two questions whether to go on.
const CHUNK: usize = 256;

/// Finds the attended regions of all images, given their ids and maps, in parallel, and puts them where `region` of the
/// configuration says; boxes are in pixels of the stored images. `watch` hears the number of images done since it was last
/// called, and may stop the work.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn locate(
    maps: &[(&str, NormalisedMap<'_>)],
    frame: EvalFrame,
    config: &Config,
    watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<Region>, Error> {
    let mut regions = Vec::with_capacity(maps.len());
    for chunk in maps.chunks(CHUNK) {
        regions.par_extend(chunk.par_iter().map(|&(image_id, map)| {
            let region = region::find(map, frame.input_px, config.threshold);
            let placed = |bbox| place(bbox, frame.input_px, config.region, config.region_seed, image_id);
            Region { bbox: region.bbox.map(|bbox| frame.to_image(placed(bbox))), ..region }
        }));
        if watch(chunk.len()).is_break() {
            return Err(Error::Interrupted);
        }
    }
    Ok(regions)
}

/// The regions of all class activation maps, in the order of image ids; `cells` says where their cells lie. `None` where there
/// are no such maps.
pub fn of_classes(
    heat: &Heat,
    subjects: &Subjects,
    frame: EvalFrame,
    cells: Option<Cells>,
    threshold: Threshold,
) -> Option<Vec<class_maps::Row>> {
    let whole = BBox::frame(frame.image_px as f32, frame.image_px as f32);
    let maps: Vec<(&usize, &Vec<f32>)> = heat.class_maps.as_ref()?.iter().collect();
    let row = |(&place, maps): (&usize, &Vec<f32>)| {
        let mut regions = [whole; Finding::COUNT];
        for (region, map) in regions.iter_mut().zip(maps.chunks_exact(heat.shape.0 * heat.shape.1)) {
            let found = region::locate(NormalisedMap::new(map, heat.shape, cells), frame, threshold);
            *region = found.bbox.unwrap_or(whole);
        }
        class_maps::Row { image_id: subjects.images[place].0.image_id.clone(), maps: maps.clone(), regions }
    };
    Some(maps.into_par_iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use cxr::heatmap::{Alignment, Normalise, Statistic};
    use cxr::{BBox, CropSource, EvalCrop, Placement};
    use model::region::Threshold;

    use super::*;

    fn config(region: Placement) -> Config {
        Config {
            threshold: Threshold::Otsu,
            statistic: Statistic::Max,
            normalise: Normalise::Minmax,
            alignment: Alignment::Grid,
            crop: 0,
            region,
            region_seed: 0,
            source: CropSource::Prepared,
            size: 0,
            contrast: 1.0,
            precision: nets::Precision::F32,
            eval_batch: 1,
            memory_mb: 0,
        }
    }

    #[test]
    fn a_search_stops_when_asked() {
        let maps = [("a.png", NormalisedMap::new(&[0.0, 1.0, 0.0, 1.0], (2, 2), None))];
        let frame = EvalFrame { crop: EvalCrop::Whole, image_px: 16, input_px: 8 };
        let config = config(Placement::Attended);
        let all = locate(&maps, frame, &config, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(all, [region::locate(maps[0].1, frame, config.threshold)], "as a model does it");
        let stopped = locate(&maps, frame, &config, &mut |_| ControlFlow::Break(()));
        assert!(matches!(stopped, Err(Error::Interrupted)));
    }

    #[test]
    fn controls_have_the_attended_sizes_whatever_the_order_of_images() {
        // A hot column each, and one image without any.
        let heat: Vec<Vec<f32>> =
            (0..40).map(|n| (0..64).map(|cell| f32::from(u8::from(n > 0 && cell % 8 == n % 8))).collect()).collect();
        let ids: Vec<String> = (0..40).map(|n| format!("{n}.png")).collect();
        let maps: Vec<_> =
            ids.iter().zip(&heat).map(|(id, heat)| (id.as_str(), NormalisedMap::new(heat, (8, 8), None))).collect();
        let reversed: Vec<_> = maps.iter().rev().copied().collect();
        let frame = EvalFrame { crop: EvalCrop::Centre, image_px: 64, input_px: 56 };
        let go_on = &mut |_| ControlFlow::Continue(());
        let mut at = |maps: &[_], placement| locate(maps, frame, &config(placement), &mut *go_on).unwrap();
        let attended = at(&maps, Placement::Attended);
        for placement in [Placement::Random, Placement::Centre] {
            let mut control = at(&reversed, placement);
            control.reverse();
            assert_eq!(at(&maps, placement), control);
            let inside = frame.bbox();
            for (attended, control) in attended.iter().zip(control) {
                let size = |region: Region| region.bbox.map(|bbox: BBox| (bbox.width(), bbox.height()));
                assert_eq!(size(*attended), size(control));
                assert!(control.bbox.is_none_or(|bbox| bbox.union(&inside) == inside), "{control:?}");
                assert_eq!((attended.tau, attended.mask_frac), (control.tau, control.mask_frac));
            }
        }
        let whole = at(&maps, Placement::Whole);
        assert_eq!((whole[0].bbox, whole[1].bbox), (None, Some(frame.bbox())));
    }
}
