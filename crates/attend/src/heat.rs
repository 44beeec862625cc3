//! The heat map of every image: computed by the network, or stored by an earlier result.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use branch::{Images, Parts};
use candle_core::D;
use cxr::heatmap::{Cells, Normalise, NormalisedMap, normalise};
use cxr::{EvalFrame, Finding, ImageKey, Split};
use model::heat_map::{heat_maps, not_finite};
use nets::{Backbone, Evaluated, Network, Pool, Precision, Taken};
use stage::Shards;
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

/// How class activation maps are brought to a range in which the threshold of the heat maps means something: they are signed,
/// and a division by the maximum would turn those upside down that are negative everywhere.
const OF_CLASSES: Normalise = Normalise::Minmax;

/// Whether there are class activation maps to be held against the boxes. The linear layer must have been trained on what it is
/// applied to: on a pool of the cells, not on a class token. And the threshold must be on a scale of its own, not one of
/// magnitudes, which these maps do not share.
pub fn has_class_maps(pool: Pool, of_heat_maps: Normalise) -> bool {
    pool != Pool::Class && of_heat_maps != Normalise::None
}

/// Refuses a side of the network's input that it cannot be shown, px.
///
/// # Errors
/// [`Error::Small`], [`Error::Patches`].
pub fn check_crop(crop: usize, backbone: Backbone) -> Result<(), Error> {
    let (least, patch) = (backbone.min_side(), backbone.patch_px());
    if crop < least {
        return Err(Error::Small { crop, least, backbone });
    }
    if !crop.is_multiple_of(patch) {
        return Err(Error::Patches { crop, patch, backbone });
    }
    Ok(())
}

/// Refuses numbers that the network does not compute in.
///
/// # Errors
/// [`Error::Precision`].
pub fn check_precision(precision: Precision, backbone: Backbone) -> Result<(), Error> {
    if precision.suits(backbone) { Ok(()) } else { Err(Error::Precision { precision, backbone }) }
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
    /// Class activation maps `[14, height, width]` of some subjects, by their places, each on 0 to 1; all 0 where one was
    /// constant. `None` where there are none to be held against boxes ([`has_class_maps()`]).
    pub class_maps: Option<BTreeMap<usize, Vec<f32>>>,
}

impl Heat {
    /// Computes the map of every image, of which the network sees the part under `frame`, and the class activation maps of
    /// those in `boxed`; `None`: no class activation maps. They are saved on their way ([`Parts`]); `what` stands for
    /// everything that they are computed from. A shard computes its share, and leaves the others' 0.
    ///
    /// # Errors
    /// Shards that are missing where they are to be merged.
    /// A frame that does not fit into the images or the network; a feature map that is not finite; an interruption; the disk.
    pub fn computed(
        network: &Network,
        all: &Images,
        subjects: &Subjects,
        boxed: Option<&BTreeSet<String>>,
        frame: EvalFrame,
        config: &Config,
        (shards, what): (&Shards, &str),
    ) -> Result<(Heat, Parts), Error> {
        check_crop(frame.input_px, network.backbone())?;
        let side = network.backbone().map_side(frame.input_px);
        let cells = side * side;
        let count = subjects.images.len();
        let (maps, peaks) = (vec![0.0; count * cells], vec![0.0; count]);
        let mut heat = Heat { shape: (side, side), maps, peaks, class_maps: boxed.map(|_| BTreeMap::new()) };
        // Where each image in the order of the splits is.
        let places = subjects.places.concat();
        let wanted = |place: usize| boxed.is_some_and(|boxed| boxed.contains(&subjects.images[place].0.image_id));
        let (batch, keys) = (config.eval_batch, Split::ALL.map(|split| all.keys(split)));
        let length = |index: usize| 1 + cells + if wanted(places[index]) { Finding::COUNT * cells } else { 0 };
        let mut parts = Parts::new(shards, what, keys, (network, batch), &length);
        let mut progress = stage::progress(count as u64, "heat maps");
        // After Ctrl-C, what is computed is saved before the process ends.
        let _hold = stage::hold();
        let there = parts.read(&mut |index, row| heat.set_row(places[index], row))?;
        progress.inc(there as u64);
        let take = |evaluated: Evaluated| {
            let [heat, sums] = heat_maps(&evaluated.map, config.statistic)?;
            let classes = network.class_maps(&evaluated.map)?.narrow(D::Minus1, 0, Finding::COUNT)?;
            Ok([heat, sums, classes.permute((0, 3, 1, 2))?.contiguous()?])
        };
        let missing = Split::ALL.map(|split| parts.missing(split).into_iter().map(move |range| (split, range)));
        for (split, range) in missing.into_iter().flatten() {
            // Of a share of the images, only its own are loaded.
            let (of_split, loaded) = (all.of(split), all.first(split));
            let range = range.start - loaded..range.end - loaded;
            let before = parts.first(split) + loaded;
            nets::evaluate_with_range(network, of_split, range, frame, batch, &take, &mut |batch: Taken<3>| {
                let [raw, sums, classes] = &batch.values;
                let first = before + batch.first;
                if let Some(index) = not_finite(sums, cells) {
                    let image_id = subjects.images[places[first + index]].0.image_id.clone();
                    return Err(Error::NotFinite { image_id });
                }
                for (index, raw) in raw.chunks_exact(cells).enumerate() {
                    let place = places[first + index];
                    heat.peaks[place] = raw.iter().copied().fold(f32::MIN, f32::max);
                    if let Some(map) = normalise(raw, config.normalise) {
                        heat.maps[place * cells..][..cells].copy_from_slice(&map);
                    }
                    if let Some(class_maps) = heat.class_maps.as_mut().filter(|_| wanted(place)) {
                        let classes = &classes[index * Finding::COUNT * cells..][..Finding::COUNT * cells];
                        class_maps.insert(place, on_unit_range(classes, cells));
                    }
                }
                progress.inc((raw.len() / cells) as u64);
                parts.add(first, raw.len() / cells, &|index, row| heat.add_row(places[index], row))?;
                Ok(ControlFlow::Continue(()))
            })?;
        }
        progress.finish();
        Ok((heat, parts))
    }

    /// Appends what there is of a subject: peak, map, class activation maps if it has any.
    fn add_row(&self, place: usize, row: &mut Vec<f32>) {
        let cells = self.shape.0 * self.shape.1;
        row.push(self.peaks[place]);
        row.extend_from_slice(&self.maps[place * cells..][..cells]);
        if let Some(maps) = self.class_maps.as_ref().and_then(|maps| maps.get(&place)) {
            row.extend_from_slice(maps);
        }
    }

    /// Takes over what [`Heat::add_row`] appended, of a subject that is still without.
    fn set_row(&mut self, place: usize, row: &[f32]) {
        let cells = self.shape.0 * self.shape.1;
        let Some((&peak, maps)) = row.split_first() else { return };
        let (map, of_classes) = maps.split_at(cells);
        self.peaks[place] = peak;
        self.maps[place * cells..][..cells].copy_from_slice(map);
        if let Some(class_maps) = self.class_maps.as_mut().filter(|_| !of_classes.is_empty()) {
            class_maps.insert(place, of_classes.to_vec());
        }
    }

    /// The heat maps that an earlier result stored, given its `regions` and `class_maps`, if it has those; `None` where an image
    /// has none.
    ///
    /// # Errors
    /// A file that is no such table.
    pub fn stored(files: &[PathBuf], class_maps: Option<&Path>, subjects: &Subjects) -> Result<Option<Heat>, Error> {
        let rows: HashMap<String, regions::Row> =
            regions::read_meta(files)?.into_iter().map(|row| (row.key.image_id.clone(), row)).collect();
        let mut heat = Heat { shape: (0, 0), maps: Vec::new(), peaks: Vec::new(), class_maps: None };
        for (key, ..) in &subjects.images {
            let Some(row) = rows.get(&key.image_id) else { return Ok(None) };
            heat.shape = (row.heatmap_height, row.heatmap_width);
            heat.maps.extend(&row.heatmap);
            heat.peaks.push(row.peak);
        }
        let (height, width) = heat.shape;
        if let Some(path) = class_maps {
            let places: HashMap<&str, usize> =
                subjects.images.iter().enumerate().map(|(place, (key, ..))| (key.image_id.as_str(), place)).collect();
            let rows = class_maps::read(path, heat.shape)?.into_iter();
            let placed = rows.filter_map(|row| Some((*places.get(row.image_id.as_str())?, row.maps)));
            heat.class_maps = Some(placed.collect());
        }
        Ok((heat.maps.len() == height * width * subjects.images.len()).then_some(heat))
    }

    /// The maps of all subjects, whose cells lie where `cells` says.
    pub fn normalised(&self, cells: Option<Cells>) -> Vec<NormalisedMap<'_>> {
        let maps = self.maps.chunks_exact(self.shape.0 * self.shape.1);
        maps.map(|map| NormalisedMap::new(map, self.shape, cells)).collect()
    }
}

/// Class activation maps `[14, height, width]`, each normalised by itself; all 0 where one is constant.
fn on_unit_range(maps: &[f32], cells: usize) -> Vec<f32> {
    maps.chunks_exact(cells).flat_map(|raw| normalise(raw, OF_CLASSES).unwrap_or_else(|| vec![0.0; cells])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_activation_maps_are_hottest_where_they_are_highest() {
        // By their maximum, which is negative, the second map would be hottest where it is lowest.
        let maps = on_unit_range(&[-1.0, 0.0, 3.0, -4.0, -2.0, -3.0, 5.0, 5.0, 5.0], 3);
        assert_eq!(maps, [0.0, 0.25, 1.0, 0.0, 1.0, 0.5, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_row_has_all_of_a_subject() {
        let empty = Heat { shape: (1, 2), maps: vec![0.0; 4], peaks: vec![0.0; 2], class_maps: Some(BTreeMap::new()) };
        let mut heat = empty.clone();
        heat.maps = vec![0.25, 1.0, 0.0, 0.5];
        heat.peaks = vec![7.0, -1.0];
        heat.class_maps = Some(BTreeMap::from([(1, vec![0.5; 2 * Finding::COUNT])]));
        let mut copy = empty;
        for (place, length) in [(0, 3), (1, 3 + 2 * Finding::COUNT)] {
            let mut row = Vec::new();
            heat.add_row(place, &mut row);
            assert_eq!(row.len(), length);
            copy.set_row(place, &row);
        }
        assert_eq!(copy, heat);
    }

    #[test]
    fn class_activation_maps_need_a_layer_of_cells_and_a_threshold_without_units() {
        assert!(has_class_maps(Pool::Max, Normalise::Minmax) && has_class_maps(Pool::Avg, Normalise::Max));
        assert!(!has_class_maps(Pool::Max, Normalise::None) && !has_class_maps(Pool::Class, Normalise::Minmax));
    }

    #[test]
    fn a_frozen_network_computes_in_f32() {
        let refused = check_precision(Precision::Bf16, Backbone::RadDino).unwrap_err().to_string();
        assert_eq!(refused, "attend.precision = bf16, expected f32 or auto: rad-dino computes in f32");
        check_precision(Precision::Auto, Backbone::RadDino).unwrap();
        check_precision(Precision::Bf16, Backbone::Resnet50).unwrap();
    }

    #[test]
    fn crops_that_a_network_cannot_be_shown_are_refused() {
        let refused = |crop, backbone| check_crop(crop, backbone).unwrap_err().to_string();
        assert_eq!(refused(16, Backbone::Mini), "attend.crop = 16, expected at least 17 px, what mini needs");
        let small = refused(14, Backbone::RadDino);
        assert_eq!(small, "attend.crop = 14, expected at least 28 px, what rad-dino needs");
        let patches = refused(43, Backbone::RadDino);
        assert_eq!(patches, "attend.crop = 43, expected a multiple of 14, the side of a patch of rad-dino");
        for (crop, backbone) in [(17, Backbone::Mini), (42, Backbone::RadDino)] {
            check_crop(crop, backbone).unwrap();
        }
    }
}
