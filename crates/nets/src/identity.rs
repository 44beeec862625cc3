//! When two trainings are the same, and when one may continue another.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::canonical::canonical;
use crate::recipe::Recipe;

/// Goes up when the same recipe gives other weights than before.
const VERSION: u32 = 1;

/// Everything that decides the weights at the end of a training, on one kind of device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The model and how it sees its examples, e.g. [`ImageRecipe::model`](crate::ImageRecipe::model).
    pub model: Value,
    /// A digest of the training and validation examples, in order.
    pub data: String,
    /// A digest of the initial weights, or how they follow from the recipe's seed.
    pub start: String,
    /// The recipe.
    pub recipe: Recipe,
}

impl Identity {
    /// 64 hex digits that differ wherever the identity differs.
    pub fn key(&self) -> String {
        digest(&self.json())
    }

    /// 64 hex digits that are the same for trainings that differ in nothing but their number of epochs and their
    /// [`Schedule`](crate::Schedule): as long as their learning rates are the same, so are their weights.
    pub fn lineage(&self) -> String {
        let mut json = self.json();
        for name in ["epochs", "schedule"] {
            json["recipe"][name] = Value::Null;
        }
        digest(&json)
    }

    fn json(&self) -> Value {
        json!({ "version": VERSION, "model": self.model, "data": self.data, "start": self.start, "recipe": self.recipe })
    }
}

fn digest(json: &Value) -> String {
    blake3::hash(canonical(json).as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::Loss;
    use crate::recipe::{OptimizerKind, Schedule};

    fn identity() -> Identity {
        Identity {
            model: json!({ "pool": "max", "backbone": "mini", "scale_min": 0.5 }),
            data: "d".to_owned(),
            start: "random".to_owned(),
            recipe: Recipe {
                epochs: 50,
                batch: 128,
                lr: 0.01,
                momentum: 0.9,
                weight_decay: 1e-4,
                optimizer: OptimizerKind::Sgd,
                schedule: Schedule::Step { milestones: vec![20], factor: 0.1 },
                warmup_epochs: 0,
                seed: 1,
                loss: Loss::Bce,
                label_smoothing: 0.0,
                clip_norm: None,
                ema: None,
            },
        }
    }

    /// If this test fails, every training of every user would be repeated: raise `VERSION` only on purpose.
    #[test]
    fn the_key_is_known() {
        assert_eq!(
            canonical(&identity().json()),
            "{\"data\":\"d\",\"model\":{\"backbone\":\"mini\",\"pool\":\"max\",\"scale_min\":0.5},\
             \"recipe\":{\"batch\":128,\"epochs\":50,\"lr\":0.01,\"momentum\":0.9,\"optimizer\":\"sgd\",\
             \"schedule\":{\"step\":{\"factor\":0.1,\"milestones\":[20]}},\"seed\":1,\"warmup_epochs\":0,\
             \"weight_decay\":0.0001},\"start\":\"random\",\"version\":1}"
        );
        assert_eq!(identity().key(), "ccf74eaa76577e7c1a951824499e69d6e01d762e8fa03e354ed33c4879bcdf89");
        assert_eq!(identity().lineage(), "3793c6a6eab2c4337f8153b0aded43fd4ef7fd850ea92d554958885e3b416228");
    }

    #[test]
    fn a_lineage_has_any_epochs_and_schedule_and_nothing_else() {
        let identity = identity();
        let longer = Recipe { epochs: 60, schedule: Schedule::Cosine, ..identity.recipe.clone() };
        let longer = Identity { recipe: longer, ..identity.clone() };
        assert_eq!(longer.lineage(), identity.lineage());
        assert_ne!(longer.key(), identity.key());
        let others = [
            Identity { data: "e".to_owned(), ..identity.clone() },
            Identity { start: "imagenet".to_owned(), ..identity.clone() },
            Identity { model: json!("fusion"), ..identity.clone() },
            Identity { recipe: Recipe { seed: 2, ..identity.recipe.clone() }, ..identity.clone() },
            Identity { recipe: Recipe { loss: Loss::Weighted, ..identity.recipe.clone() }, ..identity.clone() },
            Identity { recipe: Recipe { clip_norm: Some(1.0), ..identity.recipe.clone() }, ..identity.clone() },
        ];
        for other in others {
            assert_ne!(other.lineage(), identity.lineage(), "{other:?}");
            assert_ne!(other.key(), identity.key(), "{other:?}");
        }
    }
}
