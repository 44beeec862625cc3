//! The settings that most recipes leave alone: their ranges, and what the training loop makes of them.

use cxr::{EvalCrop, Tta};
use nets::recipe::{MOST_GAMMA, MOST_RATIO};
use nets::{Ema, Loss};
use stage::{Fail, Section};

use super::Config;
use super::defaults::LossName;

impl Config {
    /// Checks the ranges of these settings.
    pub(super) fn check_options(&self, section: Section) -> Result<(), Fail> {
        section.within("label_smoothing", self.label_smoothing, 0.0..1.0)?;
        if !(self.focal_alpha > 0.0 && self.focal_alpha < 1.0) {
            return Err(section.refuse("focal_alpha", &self.focal_alpha, "above 0, below 1"));
        }
        section.within("focal_gamma", self.focal_gamma, 0.0..=MOST_GAMMA)?;
        section.within("gamma_positive", self.gamma_positive, 0.0..=MOST_GAMMA)?;
        section.within("gamma_negative", self.gamma_negative, 0.0..=MOST_GAMMA)?;
        section.within("probability_clip", self.probability_clip, 0.0..1.0)?;
        section.within("clip_norm", self.clip_norm, 0.0..=1e6)?;
        section.within("ema_decay", self.ema_decay, 0.0..1.0)?;
        section.within("lr_patience", self.lr_patience, 0..=10_000)?;
        section.within("ratio_max", self.ratio_max, 1.0..=MOST_RATIO)?;
        if self.ema_warmup && self.ema_decay == 0.0 {
            let expected = "false where ema_decay is 0, which is off";
            return Err(section.refuse("ema_warmup", &true, expected).hint("set ema_decay too, e.g. to 0.9998"));
        }
        self.check_crop_schedule(section)?;
        if self.tta == Tta::TenCrop && self.view == EvalCrop::Whole {
            let expected = "none or flip where view = \"whole\": no corner is left to crop";
            let refused = section.refuse("tta", &self.tta, expected);
            return Err(refused.hint("view = \"centre\" cuts the views from the image"));
        }
        Ok(())
    }

    fn check_crop_schedule(&self, section: Section) -> Result<(), Fail> {
        let (schedule, least) = (&self.crop_schedule, self.backbone.min_side());
        let begins = schedule.first().is_none_or(|(epoch, _)| *epoch == 0);
        let ascending = schedule.is_sorted_by(|(a, _), (b, _)| a < b);
        let inside = schedule.iter().all(|(_, side)| (least..=self.crop).contains(side));
        if begins && ascending && inside {
            return Ok(());
        }
        let expected = format!(
            "[epoch, px] with ascending epochs, the first 0, and {least} (what the backbone needs) to {} px (crop)",
            self.crop
        );
        Err(section.refuse("crop_schedule", &format!("{schedule:?}"), &expected).hint("e.g. [[0, 128], [10, 224]]"))
    }

    /// The loss with its constants.
    pub(super) fn loss(&self) -> Loss {
        match self.loss {
            LossName::Bce => Loss::Bce,
            LossName::Weighted => Loss::Weighted,
            LossName::Focal => Loss::Focal { alpha: self.focal_alpha, gamma: self.focal_gamma },
            LossName::Asymmetric => Loss::Asymmetric {
                gamma_positive: self.gamma_positive,
                gamma_negative: self.gamma_negative,
                clip: self.probability_clip,
            },
        }
    }

    /// The average that is published.
    pub(super) fn ema(&self) -> Option<Ema> {
        (self.ema_decay > 0.0).then_some(Ema { decay: self.ema_decay, warmup: self.ema_warmup })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stage::Settings;

    use super::*;

    fn config(changes: &serde_json::Value) -> Config {
        let mut settings = json!({
            "backbone": "resnet50", "pool": "max", "init": "imagenet", "crop": 224, "view": "centre", "epochs": 50,
            "batch": 128, "optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0001, "schedule": "step",
            "lr_milestones": [20], "lr_factor": 0.1, "warmup_epochs": 0, "scale_min": 0.08, "flip": true,
            "rotate_deg": 0.0, "brightness": 0.0, "contrast": 0.0, "precision": "f32", "eval_batch": 32,
            "checkpoint_minutes": 10.0, "memory_mb": 0,
        });
        for (key, value) in changes.as_object().unwrap() {
            settings[key] = value.clone();
        }
        serde_json::from_value(settings).unwrap()
    }

    /// What is hashed of a recipe without options is what was hashed before there were any; so is its training's identity.
    #[test]
    fn what_is_off_is_in_no_key() {
        let plain = config(&json!({}));
        let hashed = serde_json::to_value(&plain).unwrap();
        assert_eq!(hashed.as_object().unwrap().len(), 24, "{hashed}");
        let said = json!({
            "loss": "bce", "focal_alpha": 0.25, "focal_gamma": 2.0, "gamma_positive": 1.0, "gamma_negative": 4.0,
            "probability_clip": 0.05, "label_smoothing": 0.0, "clip_norm": 0.0, "ema_decay": 0.0, "ema_warmup": false,
            "lr_patience": 10, "ratio_max": 1.3333333333333333, "crop_schedule": [], "tta": "none", "stream": 0,
        });
        assert_eq!(config(&said), plain);
        assert_eq!(serde_json::to_value(config(&said)).unwrap(), hashed);
        let recipe = serde_json::to_value((plain.recipe(1), plain.image_recipe())).unwrap();
        let texts = ["loss", "label", "clip", "ema", "ratio", "crop_schedule"];
        assert!(!texts.iter().any(|text| recipe.to_string().contains(text)), "{recipe}");
        // Another stream is another seed, and another key.
        let second = config(&json!({ "stream": 1 }));
        assert_eq!(serde_json::to_value(&second).unwrap()["stream"], 1);
        assert_ne!(second.recipe(1).seed, plain.recipe(1).seed);
    }

    #[test]
    fn options_reach_the_recipe() {
        let changes = json!({
            "loss": "asymmetric", "label_smoothing": 0.1, "clip_norm": 1.0, "ema_decay": 0.9998, "ema_warmup": true,
            "schedule": "plateau", "lr_patience": 3, "ratio_max": 1.1, "crop_schedule": [[0, 128], [10, 224]], "tta": "flip",
        });
        let config = config(&changes);
        config.check(Section("global")).unwrap();
        let recipe = config.recipe(1);
        assert_eq!(recipe.loss, Loss::Asymmetric { gamma_positive: 1.0, gamma_negative: 4.0, clip: 0.05 });
        assert_eq!((recipe.label_smoothing, recipe.clip_norm), (0.1, Some(1.0)));
        assert_eq!(recipe.ema, Some(Ema { decay: 0.9998, warmup: true }));
        assert_eq!(recipe.schedule, nets::Schedule::Plateau { patience: 3, factor: 0.1 });
        let images = config.image_recipe();
        assert_eq!((images.ratio_max, images.side(9), images.side(10)), (1.1, 128, 224));
        assert_eq!(serde_json::to_value(&config).unwrap()["tta"], "flip");
    }

    #[test]
    fn corners_need_room() {
        let whole = config(&json!({ "tta": "ten-crop", "view": "whole" }));
        let refused = whole.check(Section("local")).unwrap_err().to_string();
        assert!(refused.contains("local.tta = ten-crop, expected none or flip"), "{refused}");
        let centre = config(&json!({ "tta": "ten-crop" }));
        centre.check(Section("global")).unwrap();
        assert!(centre.fits(256).is_ok());
        assert!(centre.fits(224).unwrap_err().to_string().contains("all crops are the same"));
    }
}
