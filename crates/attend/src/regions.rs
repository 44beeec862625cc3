//! The attended regions of all images.

use std::ops::ControlFlow;

use cxr::EvalFrame;
use cxr::heatmap::NormalisedMap;
use model::region::{self, Region, Threshold};
use rayon::prelude::*;

use crate::error::Error;

/// Images between two questions whether to go on.
const CHUNK: usize = 256;

/// Finds the attended regions of all images, in parallel; boxes are in pixels of the stored images. `watch` hears the
/// number of images done since it was last called, and may stop the work.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn locate(
    maps: &[NormalisedMap<'_>],
    frame: EvalFrame,
    threshold: Threshold,
    watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<Region>, Error> {
    let mut regions = Vec::with_capacity(maps.len());
    for chunk in maps.chunks(CHUNK) {
        regions.par_extend(chunk.par_iter().map(|&map| region::locate(map, frame, threshold)));
        if watch(chunk.len()).is_break() {
            return Err(Error::Interrupted);
        }
    }
    Ok(regions)
}

#[cfg(test)]
mod tests {
    use cxr::EvalCrop;

    use super::*;

    #[test]
    fn a_search_stops_when_asked() {
        let maps = [NormalisedMap::new(&[0.0, 1.0, 0.0, 1.0], (2, 2))];
        let frame = EvalFrame { crop: EvalCrop::Whole, image_px: 16, input_px: 8 };
        let all = locate(&maps, frame, Threshold::Otsu, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(all.len(), 1);
        let stopped = locate(&maps, frame, Threshold::Otsu, &mut |_| ControlFlow::Break(()));
        assert!(matches!(stopped, Err(Error::Interrupted)));
    }
}
