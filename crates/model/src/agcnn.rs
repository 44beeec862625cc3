//! The three branches on an image that no table has.

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::Device;
use cxr::heatmap::{Cells, Normalise, NormalisedMap, Statistic, normalise};
use cxr::{BBox, CropSource, EvalFrame, Labels, OUTPUTS, Tta};
use nets::{Backbone, Evaluated, Network, Precision, Scores, Taken};
use picture::Grey;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::crop::crop_of;
use crate::error::Error;
use crate::fusion::FusionLayer;
use crate::heat_map::{heat_maps, not_finite};
use crate::region::{Region, Threshold, locate};

/// What `prep` does to an image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preparation {
    /// Side of the square image that the global branch is shown a part of, px.
    pub size_px: u32,
    /// Factor on every grey value's distance from the image's mean; 1 is none.
    pub contrast: f32,
}

/// How `attend` finds and cuts a region; the keys of its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// The part of the prepared image that heat maps lie in.
    pub frame: EvalFrame,
    /// Where the mask begins.
    pub threshold: Threshold,
    /// How channels become one heat map.
    pub statistic: Statistic,
    /// How heat maps are normalised.
    pub normalise: Normalise,
    /// Where the heat map's cells lie in the network's input; `None`: they divide it evenly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cells: Option<Cells>,
    /// Where the pixels of the crop come from.
    pub source: CropSource,
    /// Factor on every grey value's distance from the crop's mean; 1 is none.
    pub contrast: f32,
    /// Side of the crop, px.
    pub size_px: u32,
}

/// The three branches.
#[derive(Debug)]
pub struct AgCnn {
    global: Network,
    /// What the global branch is shown when it predicts.
    global_shown: Shown,
    local: Network,
    local_shown: Shown,
    fusion: FusionLayer,
    preparation: Preparation,
    attention: Attention,
}

/// What a branch is shown of an image when it predicts: a part, and the views of it whose scores are averaged.
type Shown = (EvalFrame, Tta);

/// What the three branches see in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Sight {
    /// Scores before the sigmoid by branch, in the order of [`cxr::Branch::ALL`], then of [`cxr::output_names`].
    pub logits: [[f32; OUTPUTS]; 3],
    /// The global branch's pooled features, `[K]`.
    pub features: Vec<f32>,
    /// The normalised heat map, `[height, width]` row-major; all 0 where it was constant.
    pub heat_map: Vec<f32>,
    /// Its height and width, cells.
    pub heat_map_shape: (usize, usize),
    /// The highest value before normalisation.
    pub peak: f32,
    /// What the global branch attends to; the box is in the prepared image.
    pub region: Region,
    /// The attended region, or the whole prepared image where there is none.
    pub bbox: BBox,
    /// What `prep` would store.
    pub prepared: Grey,
    /// What `attend` would store.
    pub crop: Grey,
}

/// The largest side of an image that a network is shown, px: a bound on memory that holds before any is taken.
const MAX_SIDE: usize = 4096;

fn within(key: &'static str, side: usize, least: usize) -> Result<(), Error> {
    match (least..=MAX_SIDE).contains(&side) {
        true => Ok(()),
        false => Err(Error::Setting { key, got: side.to_string(), expected: format!("{least} to {MAX_SIDE} px") }),
    }
}

/// Refuses heat maps that the global branch cannot make, and cells that lie nowhere: a model's configuration may say anything.
fn check(attention: &Attention, global: Backbone) -> Result<(), Error> {
    let (side, patch) = (attention.frame.input_px, global.patch_px());
    within("attention.frame.input_px", side, global.min_side())?;
    if !side.is_multiple_of(patch) {
        let expected = format!("a multiple of {patch} px, the side of a patch of {global}");
        return Err(Error::Setting { key: "attention.frame.input_px", got: side.to_string(), expected });
    }
    if let Some(cells) = attention.cells.filter(|cells| !cells.is_valid()) {
        let Cells { first_px, step_px } = cells;
        return Err(Error::Setting {
            key: "attention.cells",
            got: format!("first_px {first_px}, step_px {step_px}"),
            expected: "first_px of 0 or more and step_px above 0, both finite".to_owned(),
        });
    }
    Ok(())
}

impl AgCnn {
    /// Reads the weights of `global`, `local` and `fusion`.
    ///
    /// # Errors
    /// A file that is damaged or not what it should be; branches that do not fit each other or the settings.
    pub fn open(
        [global, local, fusion]: [&Path; 3],
        preparation: Preparation,
        attention: Attention,
        device: &Device,
    ) -> Result<AgCnn, Error> {
        within("size.height", preparation.size_px as usize, 1)?;
        within("attention.size_px", attention.size_px as usize, 1)?;
        let foreign = |path: &Path, what: &str, expected: String, got: String| Error::Foreign {
            path: path.to_owned(),
            what: what.to_owned(),
            expected,
            got,
        };
        let open = |path: &Path, image_px: usize| {
            let (network, meta) = Network::open(path, device)?;
            let frame = meta.frame.ok_or_else(|| {
                foreign(path, "evaluation frame", "the part of an image that is shown".to_owned(), "none".to_owned())
            })?;
            let sides = network.backbone().min_side()..=MAX_SIDE;
            let whole = frame.input_px.is_multiple_of(network.backbone().patch_px());
            if frame.image_px != image_px || !frame.fits() || !sides.contains(&frame.input_px) || !whole {
                let (expected, got) = (format!("a part of an image of {image_px} px"), format!("{frame:?}"));
                return Err(foreign(path, "evaluation frame", expected, got));
            }
            network.prepare_to_evaluate()?;
            Ok((network, (frame, meta.tta)))
        };
        // The two networks are read and folded side by side.
        let (global_opened, local_opened) =
            rayon::join(|| open(global, preparation.size_px as usize), || open(local, attention.size_px as usize));
        let ((global, global_shown), (local, local_shown)) = (global_opened?, local_opened?);
        check(&attention, global.backbone())?;
        let layer = FusionLayer::open(fusion)?;
        let dims = [&global, &local].map(|network| network.backbone().channels());
        if layer.dim() != dims.iter().sum::<usize>() {
            let (expected, got) = (format!("{} + {} features", dims[0], dims[1]), layer.dim().to_string());
            return Err(foreign(fusion, "fusion layer", expected, got));
        }
        if !attention.frame.fits() || attention.frame.image_px != preparation.size_px as usize {
            let expected = format!("a part of an image of {} px", preparation.size_px);
            return Err(Error::Setting { key: "attention.frame", got: format!("{:?}", attention.frame), expected });
        }
        Ok(AgCnn { global, global_shown, local, local_shown, fusion: layer, preparation, attention })
    }

    /// Chooses in what numbers both networks compute; at first `f32`. What they see is then no longer what the stages store, but
    /// near it. A frozen network computes in `f32` all the same.
    ///
    /// # Errors
    /// The device fails.
    pub fn evaluate_in(&mut self, precision: Precision) -> Result<(), Error> {
        for network in [&mut self.global, &mut self.local] {
            network.evaluate_in(precision);
            network.prepare_to_evaluate()?;
        }
        Ok(())
    }

    /// What `prep` does to an image.
    pub fn preparation(&self) -> Preparation {
        self.preparation
    }

    /// How regions are found and cut.
    pub fn attention(&self) -> Attention {
        self.attention
    }

    /// The networks of the global and of the local branch.
    pub fn branches(&self) -> [&Network; 2] {
        [&self.global, &self.local]
    }

    /// What the local branch is shown of a crop.
    pub fn local_frame(&self) -> EvalFrame {
        self.local_shown.0
    }

    /// Which views the global and the local branch score.
    pub fn tta(&self) -> [Tta; 2] {
        [self.global_shown.1, self.local_shown.1]
    }

    /// The fusion layer.
    pub fn fusion(&self) -> &FusionLayer {
        &self.fusion
    }

    /// The image as `prep` stores it.
    pub fn prepare(&self, source: &Grey) -> Grey {
        let mut image = source.square(self.preparation.size_px);
        image.contrast(self.preparation.contrast);
        image
    }

    /// Runs the three branches over images of any size. On a CPU, what they see in an image does not depend on the others,
    /// and is what the pipeline's stages store for it, bit for bit.
    ///
    /// # Errors
    /// A feature map that is not finite; a tensor operation.
    pub fn see(&self, sources: &[&Grey]) -> Result<Vec<Sight>, Error> {
        let prepared: Vec<Grey> = sources.par_iter().map(|source| self.prepare(source)).collect();
        self.see_prepared(prepared, sources)
    }

    /// As [`AgCnn::see`], of images that are prepared already; `sources` are the images behind them, which are looked at
    /// only where crops come from there ([`CropSource::Original`]).
    ///
    /// # Errors
    /// As [`AgCnn::see`].
    pub fn see_prepared(&self, prepared: Vec<Grey>, sources: &[&Grey]) -> Result<Vec<Sight>, Error> {
        if prepared.is_empty() {
            return Ok(Vec::new());
        }
        let looks = self.look(&prepared)?;
        let crop = |((look, source), prepared): ((&Look, &&Grey), &Grey)| self.crop(&look.region, prepared, source);
        let crops: Vec<Grey> = looks.par_iter().zip(sources).zip(&prepared).map(crop).collect();
        let local = scores(&self.local, &images(&crops)?, self.local_shown)?;
        let dim = self.local.backbone().channels();
        let local = local.pool.chunks_exact(dim).zip(local.logits);
        let sights = looks.into_iter().zip(prepared).zip(crops).zip(local);
        Ok(sights
            .map(|(((look, prepared), crop), (pool, local))| {
                let fusion = self.fusion.logits([&look.features, pool]);
                Sight {
                    logits: [look.logits, local, fusion],
                    features: look.features,
                    heat_map: look.heat_map,
                    heat_map_shape: look.shape,
                    peak: look.peak,
                    bbox: self.bbox(&look.region),
                    region: look.region,
                    prepared,
                    crop,
                }
            })
            .collect())
    }

    /// The global branch's pooled features `[K]` of prepared images, and nothing else.
    ///
    /// # Errors
    /// A tensor operation.
    pub fn features(&self, prepared: &[Grey]) -> Result<Vec<Vec<f32>>, Error> {
        let dim = self.global.backbone().channels();
        let scores = scores(&self.global, &images(prepared)?, self.global_shown)?;
        Ok(scores.pool.chunks_exact(dim).map(<[f32]>::to_vec).collect())
    }

    /// The attended region of a prepared image, or all of it where there is none.
    pub fn bbox(&self, region: &Region) -> BBox {
        let size = self.attention.frame.image_px as f32;
        region.bbox.unwrap_or(BBox::frame(size, size))
    }

    /// What `attend` would store of a prepared image with that region; `source` is the image behind it, which is looked at only
    /// where crops come from there ([`CropSource::Original`]).
    pub fn crop(&self, region: &Region, prepared: &Grey, source: &Grey) -> Grey {
        let (area, size) = (self.bbox(region), self.attention.frame.image_px);
        let mut crop = match self.attention.source {
            CropSource::Prepared => crop_of(prepared, area, size, self.attention.size_px),
            CropSource::Original => {
                let mut image = source.clone();
                image.contrast(self.preparation.contrast);
                crop_of(&image, area, size, self.attention.size_px)
            }
        };
        crop.contrast(self.attention.contrast);
        crop
    }

    /// The global branch: one pass where its predictions and its heat maps come from the same part of the image.
    fn look(&self, prepared: &[Grey]) -> Result<Vec<Look>, Error> {
        let images = images(prepared)?;
        let attention = &self.attention;
        let side = self.global.backbone().map_side(attention.frame.input_px);
        let dim = self.global.backbone().channels();
        let take = |evaluated: Evaluated| {
            let [heat, sums] = heat_maps(&evaluated.map, attention.statistic)?;
            Ok([heat, sums, evaluated.pool, evaluated.logits])
        };
        let mut taken: [Vec<f32>; 4] = Default::default();
        let mut each = |batch: Taken<4>| -> nets::Result<ControlFlow<()>> {
            taken.iter_mut().zip(batch.values).for_each(|(all, values)| all.extend(values));
            Ok(ControlFlow::Continue(()))
        };
        nets::evaluate_with(&self.global, &images, attention.frame, images.len(), &take, &mut each)?;
        let [maps, sums, pool, logits] = taken;
        if let Some(index) = not_finite(&sums, side * side) {
            return Err(Error::NotFinite { index });
        }
        let (pool, logits) = match self.global_shown == (attention.frame, Tta::None) {
            true => (pool, logits.as_chunks().0.to_vec()),
            false => {
                let scores = scores(&self.global, &images, self.global_shown)?;
                (scores.pool, scores.logits)
            }
        };
        let shape = (side, side);
        let looks = maps.par_chunks_exact(side * side).zip(pool.par_chunks_exact(dim)).zip(logits);
        let look = |((raw, features), logits): ((&[f32], &[f32]), [f32; OUTPUTS])| {
            let heat_map = normalise(raw, attention.normalise).unwrap_or_else(|| vec![0.0; raw.len()]);
            let region =
                locate(NormalisedMap::new(&heat_map, shape, attention.cells), attention.frame, attention.threshold);
            let peak = raw.iter().copied().fold(f32::MIN, f32::max);
            Look { logits, features: features.to_vec(), heat_map, shape, peak, region }
        };
        Ok(looks.map(look).collect())
    }
}

/// What the global branch sees.
struct Look {
    logits: [f32; OUTPUTS],
    features: Vec<f32>,
    heat_map: Vec<f32>,
    shape: (usize, usize),
    peak: f32,
    region: Region,
}

fn images(greys: &[Grey]) -> Result<nets::Images, Error> {
    let size = greys.first().map_or(0, |grey| grey.width as usize);
    let mut images = nets::Images::in_memory(size, greys.len());
    greys.iter().try_for_each(|grey| images.push(&grey.pixels, Labels::default()))?;
    Ok(images)
}

/// Features and logits of a few images.
fn scores(network: &Network, images: &nets::Images, shown: Shown) -> Result<Scores, Error> {
    let mut scores = Scores { first: 0, pool: Vec::new(), logits: Vec::new() };
    score(network, images, shown, &mut |batch| {
        scores.pool.extend(batch.pool);
        scores.logits.extend(batch.logits);
    })?;
    Ok(scores)
}

/// Scores images in batches of as many views as there are images, so that test-time augmentation takes more time, but no more
/// memory.
fn score(
    network: &Network,
    images: &nets::Images,
    (frame, tta): Shown,
    each: &mut dyn FnMut(Scores),
) -> Result<(), Error> {
    nets::evaluate(network, images, frame, tta, images.len(), &mut |batch: Scores| -> nets::Result<ControlFlow<()>> {
        each(batch);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Tensor};
    use cxr::EvalCrop;
    use nets::Pool;
    use nets::weights::{self, Meta};

    use super::*;
    use crate::fusion::{BIAS, WEIGHT};

    /// Side of the prepared image, px.
    const SIZE: usize = 60;

    fn frame(input_px: usize) -> EvalFrame {
        EvalFrame { crop: EvalCrop::Whole, image_px: SIZE, input_px }
    }

    /// Opens a model of two networks of such a backbone.
    fn opened(backbone: Backbone, attention: Attention) -> Result<AgCnn, Error> {
        let folder = tempfile::tempdir().unwrap();
        let [global, local, fusion] = ["global", "local", "fusion"].map(|name| folder.path().join(name));
        for path in [&global, &local] {
            let network = Network::new(backbone, Pool::Max, 1, &Device::Cpu).unwrap();
            network.save(path, Some(frame(42))).unwrap();
        }
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
        let layer =
            [(WEIGHT.to_owned(), zeros(&[OUTPUTS, 2 * backbone.channels()])), (BIAS.to_owned(), zeros(&[OUTPUTS]))];
        let meta = Meta { backbone: "fusion".to_owned(), pool: String::new(), frame: None, tta: Tta::None };
        weights::write(&fusion, &layer, &meta).unwrap();
        let preparation = Preparation { size_px: SIZE as u32, contrast: 1.0 };
        AgCnn::open([&global, &local, &fusion], preparation, attention, &Device::Cpu)
    }

    fn attention(input_px: usize, cells: Option<Cells>) -> Attention {
        Attention {
            frame: frame(input_px),
            threshold: Threshold::Tau(0.7),
            statistic: Statistic::Max,
            normalise: Normalise::Minmax,
            cells,
            source: CropSource::Prepared,
            contrast: 1.0,
            size_px: SIZE as u32,
        }
    }

    /// A step of 0 made heat maps of NaN, in which the search for regions never ended.
    #[test]
    fn attention_that_cannot_be_is_refused() {
        let refused = |backbone, attention| opened(backbone, attention).unwrap_err().to_string();
        for (first_px, step_px) in [(0.5, 0.0), (-1.0, 16.0), (0.5, f32::INFINITY), (f32::NAN, 16.0)] {
            let message = refused(Backbone::Mini, attention(42, Some(Cells { first_px, step_px })));
            assert_eq!(
                message,
                format!(
                    "attention.cells = first_px {first_px}, step_px {step_px}, \
                     expected first_px of 0 or more and step_px above 0, both finite"
                )
            );
        }
        let message = refused(Backbone::DinoV2Tiny, attention(43, None));
        assert_eq!(
            message,
            "attention.frame.input_px = 43, expected a multiple of 14 px, the side of a patch of dinov2-tiny"
        );
        opened(Backbone::DinoV2Tiny, attention(28, None)).unwrap();
        opened(Backbone::Mini, attention(43, Some(Backbone::Mini.cells()))).unwrap();
    }

    #[test]
    fn numbers_of_three_digits_see_nearly_the_same() {
        let mut model = opened(Backbone::Mini, attention(42, None)).unwrap();
        let pixels = (0..SIZE * SIZE).map(|at| ((at * 37 + at / SIZE * 11) % 251) as u8).collect();
        let grey = Grey { width: SIZE as u32, height: SIZE as u32, pixels };
        let exact = model.see(&[&grey]).unwrap();
        model.evaluate_in(Precision::Bf16).unwrap();
        let near = model.see(&[&grey]).unwrap();
        let largest = exact[0].features.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        let pairs = exact[0].features.iter().zip(&near[0].features);
        let apart = pairs.fold(0.0, |apart: f32, (a, b)| apart.max((a - b).abs()));
        assert!(apart > 0.0 && apart < 0.05 * largest, "{apart} of {largest}");
        model.evaluate_in(Precision::F32).unwrap();
        assert!(model.see(&[&grey]).unwrap()[0].features == exact[0].features, "back again");
    }

    /// Ten views of an image are no reason to hold ten times as many activations.
    #[test]
    fn views_are_scored_in_batches_of_as_many_as_there_are_images() {
        let network = Network::new(Backbone::Mini, Pool::Max, 1, &Device::Cpu).unwrap();
        let grey = |image: u32| {
            let pixels = (0..48 * 48).map(|at: u32| ((at * (image + 3)) % 251) as u8).collect();
            Grey { width: 48, height: 48, pixels }
        };
        let greys: Vec<Grey> = (0..12).map(grey).collect();
        let frame = EvalFrame { crop: EvalCrop::Centre, image_px: 48, input_px: 40 };
        for (tta, expected) in [(Tta::None, [12_usize].as_slice()), (Tta::Flip, &[6, 6]), (Tta::TenCrop, &[1; 12])] {
            let shown = (frame, tta);
            let mut batches = Vec::new();
            score(&network, &images(&greys).unwrap(), shown, &mut |batch| batches.push(batch.logits.len())).unwrap();
            assert_eq!(batches, expected, "{tta}");
            // All of them, in their order.
            let together = scores(&network, &images(&greys).unwrap(), shown).unwrap();
            let (mut pool, mut logits) = (Vec::new(), Vec::new());
            for grey in &greys {
                let alone = scores(&network, &images(std::slice::from_ref(grey)).unwrap(), shown).unwrap();
                pool.extend(alone.pool);
                logits.extend(alone.logits);
            }
            assert!(together.pool == pool && together.logits == logits, "{tta}");
        }
    }
}
