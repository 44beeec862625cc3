//! What a model says about an image.

use cxr::OUTPUTS;
use cxr::metrics::calibration::sigmoid;
use picture::{Grey, Radiograph};
use rayon::prelude::*;

use crate::agcnn::Sight;
use crate::crop::in_image;
use crate::decision::Verdict;
use crate::error::Error;
use crate::folder::Model;
use crate::gate::Refusal;
use crate::novelty::Described;

/// How a model is asked.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Question {
    /// Asks about refused images too.
    pub no_gate: bool,
    /// The error rate of the verdicts, above 0, below 1; `None` for no verdicts.
    pub error_rate: Option<f64>,
}

/// What a model says about an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What was seen; `None` where the image was refused, and the gate heeded.
    pub seen: Option<Seen>,
    /// Percentile of the novelty, 0 to 100; `None` where the image was refused for another reason before.
    pub novelty: Option<f32>,
    /// Why the model should not be asked.
    pub refusal: Option<Refusal>,
}

/// What was seen in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Probability by branch, in the order of [`cxr::Branch::ALL`], then of [`cxr::output_names`]; as `predictions.parquet`
    /// has them.
    pub probabilities: [[f32; OUTPUTS]; 3],
    /// The fusion branch's probability after calibration.
    pub calibrated: [f32; OUTPUTS],
    /// Whether each finding is called; `None` where there is no threshold.
    pub calls: [Option<bool>; OUTPUTS],
    /// The verdict at the error rate that was asked for.
    pub verdicts: Option<[Option<Verdict>; OUTPUTS]>,
    /// Left, top, right and bottom edge of the attended region in the source image, px.
    pub box_px: [f64; 4],
    /// All that led there.
    pub sight: Sight,
}

/// A logit as `predictions.parquet` has its probability.
pub fn probability(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

impl Model {
    /// Answers for each image, in their order; on a CPU an answer does not depend on the other images.
    ///
    /// # Errors
    /// A feature map that is not finite; a tensor operation.
    pub fn answer(&self, radiographs: &[&Radiograph], question: Question) -> Result<Vec<Answer>, Error> {
        let first = |radiograph: &&Radiograph| {
            let prepared = self.network.prepare(&radiograph.image);
            (self.gate.refuses(radiograph, &prepared), prepared)
        };
        let (refusals, prepared): (Vec<Option<Refusal>>, Vec<Grey>) = radiographs.par_iter().map(first).unzip();
        let asked = |index: &usize| question.no_gate || refusals[*index].is_none();
        let asked: Vec<usize> = (0..radiographs.len()).filter(asked).collect();
        let images: Vec<&Grey> = asked.iter().map(|&index| &radiographs[index].image).collect();
        let prepared = prepared.into_iter().enumerate().filter(|(index, _)| asked.binary_search(index).is_ok());
        let sights = self.network.see_prepared(prepared.map(|(_, image)| image).collect(), &images)?;
        let novelties: Vec<f32> = sights.par_iter().map(|sight| self.novelty(sight)).collect();

        let mut answers: Vec<Answer> =
            refusals.into_iter().map(|refusal| Answer { seen: None, novelty: None, refusal }).collect();
        for ((index, sight), novelty) in asked.into_iter().zip(sights).zip(novelties) {
            let answer = &mut answers[index];
            answer.novelty = Some(novelty);
            if answer.refusal.is_none() {
                answer.refusal = self.gate.refuses_novel(novelty, || self.inverted_novelty(&sight.prepared))?;
            }
            if answer.refusal.is_none() || question.no_gate {
                let Grey { width, height, .. } = radiographs[index].image;
                answer.seen = Some(self.seen(sight, [width, height], question));
            }
        }
        Ok(answers)
    }

    fn inverted_novelty(&self, prepared: &Grey) -> Result<f32, Error> {
        let pixels = prepared.pixels.iter().map(|value| 255 - value).collect();
        let inverted = [Grey { pixels, ..*prepared }];
        let features = self.network.features(&inverted)?;
        let inverted = Described::new(&features[0], &inverted[0]);
        Ok(self.novelty.percentile(&inverted))
    }

    /// The novelty of an image that was seen: the share of the validation images that are at most as far from the training
    /// images, 0 to 100.
    pub fn novelty(&self, sight: &Sight) -> f32 {
        self.novelty.percentile(&Described::new(&sight.features, &sight.prepared))
    }

    fn seen(&self, sight: Sight, size_px: [u32; 2], question: Question) -> Seen {
        let [_, _, fusion] = &sight.logits;
        let frame_px = self.network.attention().frame.image_px;
        Seen {
            probabilities: sight.logits.map(|logits| logits.map(probability)),
            calibrated: fusion.map(|logit| self.decision.calibrated(logit)),
            calls: self.decision.calls(fusion),
            verdicts: question.error_rate.map(|error| self.conformal.verdicts(fusion, error)),
            box_px: in_image(sight.bbox, frame_px, size_px),
            sight,
        }
    }

    /// The thresholds on the scale of the calibrated probabilities; `None` where there is none.
    pub fn thresholds(&self) -> [Option<f64>; OUTPUTS] {
        let temperature = self.decision.temperature.unwrap_or(1.0);
        self.decision.thresholds.map(|logit| logit.map(|logit| sigmoid(f64::from(logit) / temperature)))
    }
}
