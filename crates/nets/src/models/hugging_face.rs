//! What Hugging Face's `transformers` calls the tensors of a DINOv2 (`Dinov2Model`), and how they become ours.

use candle_core::Tensor;

use crate::error::Result;

/// Names of one kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    /// Of the queries, keys and values of a layer.
    qkv: [&'static str; 3],
    /// Of what comes behind them.
    proj: &'static str,
}

/// Of files, whatever version wrote them; and of `model.state_dict()` since version 5.
pub(crate) const KINDS: [Names; 2] = [
    Names {
        qkv: ["attention.attention.query", "attention.attention.key", "attention.attention.value"],
        proj: "attention.output.dense",
    },
    Names { qkv: ["attention.q_proj", "attention.k_proj", "attention.v_proj"], proj: "attention.o_proj" },
];

impl Names {
    /// The tensors that make up one of ours, which is called as in DINOv2's own code: their rows one below the other.
    fn parts(self, name: &str) -> Vec<String> {
        let layer = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
        let Some((index, rest)) = layer else {
            return vec![match name {
                "cls_token" => "embeddings.cls_token".to_owned(),
                "pos_embed" => "embeddings.position_embeddings".to_owned(),
                _ => match (name.strip_prefix("patch_embed.proj."), name.strip_prefix("norm.")) {
                    (Some(field), _) => format!("embeddings.patch_embeddings.projection.{field}"),
                    (_, Some(field)) => format!("layernorm.{field}"),
                    _ => name.to_owned(),
                },
            }];
        };
        let layer = |rest: &str| format!("encoder.layer.{index}.{rest}");
        if let Some(field) = rest.strip_prefix("attn.qkv.") {
            return self.qkv.map(|part| layer(&format!("{part}.{field}"))).into();
        }
        vec![match rest.strip_prefix("attn.proj.") {
            Some(field) => layer(&format!("{}.{field}", self.proj)),
            None if rest == "ls1.gamma" => layer("layer_scale1.lambda1"),
            None if rest == "ls2.gamma" => layer("layer_scale2.lambda1"),
            None => layer(rest),
        }]
    }

    /// Their names and shapes for a layout of ours, in its order.
    pub(crate) fn layout(self, ours: &[(String, Vec<usize>)]) -> Vec<(String, Vec<usize>)> {
        let each = ours.iter().flat_map(|(name, shape)| {
            let parts = self.parts(name);
            let mut shape = shape.clone();
            shape[0] /= parts.len();
            parts.into_iter().map(move |name| (name, shape.clone()))
        });
        each.collect()
    }

    /// Our tensors of theirs, which are in the order of [`Names::layout`].
    pub(crate) fn joined(self, ours: &[(String, Vec<usize>)], theirs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let mut theirs = theirs.into_iter();
        let each = ours.iter().map(|(name, _)| {
            let parts: Vec<Tensor> = theirs.by_ref().take(self.parts(name).len()).collect();
            Ok(match &parts[..] {
                [one] => one.clone(),
                several => Tensor::cat(several, 0)?,
            })
        });
        each.collect()
    }
}
