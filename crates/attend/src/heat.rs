//! The heat map of every image: computed by the network, or stored by an earlier result.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use branch::Images;
use candle_core::D;
use cxr::heatmap::{Cells, NormalisedMap, normalise};
use cxr::{EvalFrame, Finding, ImageKey, Split};
use model::heat_map::{heat_maps, not_finite};
use nets::{Evaluated, Network, Taken};
use tables::{class_maps, regions};

use crate::config::Config;
use crate::error::Error;

/// The images in the order of the table to be written: by `image_id`.
pub struct Subjects<'a> {
    /// The key of each, and where its grey values are: the split, and the place in it.
    pub images: Vec<(&'a ImageKey, Split, usize)>,
    /// Side of all images, px.
    pub size: usize,
    /// By split, where its images are in `images`.
    places: [Vec<usize>; 3],
}

impl<'a> Subjects<'a> {
    /// Sorts all images of all splits.
    pub fn of(all: &'a Images) -> Subjects<'a> {
        let mut order: Vec<(&ImageKey, Split, usize)> = Vec::new();
        for split in Split::ALL {
            order.extend(all.keys(split).iter().enumerate().map(|(index, key)| (key, split, index)));
        }
        order.sort_by_key(|(key, ..)| &key.image_id);
        let mut places = Split::ALL.map(|split| vec![0; all.keys(split).len()]);
        for (place, &(_, split, index)) in order.iter().enumerate() {
            places[split as usize][index] = place;
        }
        Subjects { images: order, size: all.size(), places }
    }
}

/// Normalised heat maps, one per subject, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Heat {
    /// Cells from top to bottom, and from left to right.
    pub shape: (usize, usize),
    /// `[N, height, width]`; all 0 where a map was constant.
    pub maps: Vec<f32>,
    /// Highest value of each before normalisation.
    pub peaks: Vec<f32>,
    /// Normalised class activation maps `[14, height, width]` of some subjects, by their places; all 0 where one was constant.
    pub class_maps: BTreeMap<usize, Vec<f32>>,
}

impl Heat {
    /// Computes the map of every image, of which the network sees the part under `frame`, and the class activation maps of
    /// those in `boxed`.
    ///
    /// # Errors
    /// A frame that does not fit into the images, or is no whole number of patches; a feature map that is not finite; [`Error::Interrupted`].
    pub fn computed(
        network: &Network,
        all: &Images,
        subjects: &Subjects,
        boxed: &BTreeSet<String>,
        frame: EvalFrame,
        config: &Config,
    ) -> Result<Heat, Error> {
        let (backbone, crop) = (network.backbone(), frame.input_px);
        if !crop.is_multiple_of(backbone.patch_px()) {
            return Err(Error::Patches { crop, patch: backbone.patch_px(), backbone });
        }
        let side = backbone.map_side(crop);
        let cells = side * side;
        let count = subjects.images.len();
        let (maps, peaks) = (vec![0.0; count * cells], vec![0.0; count]);
        let mut heat = Heat { shape: (side, side), maps, peaks, class_maps: BTreeMap::new() };
        let mut progress = stage::progress(count as u64, "heat maps");
        for split in Split::ALL {
            let take = |evaluated: Evaluated| {
                let [heat, sums] = heat_maps(&evaluated.map, config.statistic)?;
                let classes = network.class_maps(&evaluated.map)?.narrow(D::Minus1, 0, Finding::COUNT)?;
                Ok([heat, sums, classes.permute((0, 3, 1, 2))?.contiguous()?])
            };
            nets::evaluate_with(network, all.of(split), frame, config.eval_batch, &take, &mut |batch: Taken<3>| {
                if stage::interrupted() {
                    return Err(Error::Interrupted);
                }
                let [raw, sums, classes] = &batch.values;
                if let Some(index) = not_finite(sums, cells) {
                    let image_id = all.keys(split)[batch.first + index].image_id.clone();
                    return Err(Error::NotFinite { image_id });
                }
                for (index, raw) in raw.chunks_exact(cells).enumerate() {
                    let place = subjects.places[split as usize][batch.first + index];
                    heat.peaks[place] = raw.iter().copied().fold(f32::MIN, f32::max);
                    if let Some(map) = normalise(raw, config.normalise) {
                        heat.maps[place * cells..][..cells].copy_from_slice(&map);
                    }
                    if boxed.contains(&subjects.images[place].0.image_id) {
                        let classes = &classes[index * Finding::COUNT * cells..][..Finding::COUNT * cells];
                        let maps = classes
                            .chunks_exact(cells)
                            .flat_map(|raw| normalise(raw, config.normalise).unwrap_or_else(|| vec![0.0; cells]));
                        heat.class_maps.insert(place, maps.collect());
                    }
                }
                progress.inc((raw.len() / cells) as u64);
                Ok(ControlFlow::Continue(()))
            })?;
        }
        progress.finish();
        Ok(heat)
    }

    /// The heat maps that an earlier result stored, given its `regions` and `class_maps`; `None` where an image has none.
    ///
    /// # Errors
    /// A file that is no such table.
    pub fn stored(files: &[PathBuf], class_maps: &Path, subjects: &Subjects) -> Result<Option<Heat>, Error> {
        let rows: HashMap<String, regions::Row> =
            regions::read_meta(files)?.into_iter().map(|row| (row.key.image_id.clone(), row)).collect();
        let mut heat = Heat { shape: (0, 0), maps: Vec::new(), peaks: Vec::new(), class_maps: BTreeMap::new() };
        for (key, ..) in &subjects.images {
            let Some(row) = rows.get(&key.image_id) else { return Ok(None) };
            heat.shape = (row.heatmap_height, row.heatmap_width);
            heat.maps.extend(&row.heatmap);
            heat.peaks.push(row.peak);
        }
        let (height, width) = heat.shape;
        let places: HashMap<&str, usize> =
            subjects.images.iter().enumerate().map(|(place, (key, ..))| (key.image_id.as_str(), place)).collect();
        for row in class_maps::read(class_maps, heat.shape)? {
            if let Some(&place) = places.get(row.image_id.as_str()) {
                heat.class_maps.insert(place, row.maps);
            }
        }
        Ok((heat.maps.len() == height * width * subjects.images.len()).then_some(heat))
    }

    /// The maps of all subjects, whose cells lie where `cells` says.
    pub fn normalised(&self, cells: Option<Cells>) -> Vec<NormalisedMap<'_>> {
        let maps = self.maps.chunks_exact(self.shape.0 * self.shape.1);
        maps.map(|map| NormalisedMap::new(map, self.shape, cells)).collect()
    }
}
