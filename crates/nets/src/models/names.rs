//! What other programs call the tensors of a frozen trunk, and how theirs become ours.

use candle_core::Tensor;

use crate::error::Result;
use crate::models::backbone::Backbone;

/// Names with shapes as on disk.
pub(crate) type Layout = Vec<(String, Vec<usize>)>;

/// The tensors, by name and shape, whose rows one below the other are one of ours.
type Parts = fn(&str, &[usize]) -> Layout;

/// Other programs' names for a trunk, beside its own.
pub(crate) fn kinds(backbone: Backbone) -> &'static [Parts] {
    match backbone {
        _ if !backbone.is_frozen() => &[],
        _ if backbone.has_class_token() => &[hugging_face, hugging_face_5],
        _ => &[torchvision],
    }
}

/// Their names and shapes for a layout of ours, in its order.
pub(crate) fn layout(parts: Parts, ours: &Layout) -> Layout {
    ours.iter().flat_map(|(name, shape)| parts(name, shape)).collect()
}

/// Our tensors of theirs, which are in the order of [`layout`].
pub(crate) fn joined(parts: Parts, ours: &Layout, theirs: Vec<Tensor>) -> Result<Vec<Tensor>> {
    let mut theirs = theirs.into_iter();
    let each = ours.iter().map(|(name, shape)| {
        let parts: Vec<Tensor> = theirs.by_ref().take(parts(name, shape).len()).collect();
        Ok(Tensor::cat(&parts, 0)?.reshape(shape.as_slice())?)
    });
    each.collect()
}

/// Hugging Face's files of a DINOv2 (`Dinov2Model`), whatever version wrote them.
fn hugging_face(name: &str, shape: &[usize]) -> Layout {
    const ATTENTION: [&str; 4] =
        ["attention.attention.query", "attention.attention.key", "attention.attention.value", "attention.output.dense"];
    dinov2(ATTENTION, name, shape)
}

/// What `model.state_dict()` says of a `Dinov2Model` since transformers 5.
fn hugging_face_5(name: &str, shape: &[usize]) -> Layout {
    dinov2(["attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj"], name, shape)
}

/// `attention` are the names of queries, keys, values and what comes behind them; ours are those of DINOv2's own code.
fn dinov2([q, k, v, proj]: [&str; 4], name: &str, shape: &[usize]) -> Layout {
    let one = |name: String| vec![(name, shape.to_vec())];
    let Some((index, rest)) = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) else {
        return one(match name {
            "cls_token" => "embeddings.cls_token".to_owned(),
            "pos_embed" => "embeddings.position_embeddings".to_owned(),
            _ => match (name.strip_prefix("patch_embed.proj."), name.strip_prefix("norm.")) {
                (Some(field), _) => format!("embeddings.patch_embeddings.projection.{field}"),
                (_, Some(field)) => format!("layernorm.{field}"),
                _ => name.to_owned(),
            },
        });
    };
    let layer = |rest: &str| format!("encoder.layer.{index}.{rest}");
    if let Some(field) = rest.strip_prefix("attn.qkv.") {
        let third = [&[shape[0] / 3], &shape[1..]].concat();
        return [q, k, v].map(|part| (layer(&format!("{part}.{field}")), third.clone())).into();
    }
    one(match rest.strip_prefix("attn.proj.") {
        Some(field) => layer(&format!("{proj}.{field}")),
        None if rest == "ls1.gamma" => layer("layer_scale1.lambda1"),
        None if rest == "ls2.gamma" => layer("layer_scale2.lambda1"),
        None => layer(rest),
    })
}

/// torchvision's ConvNeXt; ours are timm's names.
fn torchvision(name: &str, shape: &[usize]) -> Layout {
    let one = |name: String| vec![(name, shape.to_vec())];
    if let Some(rest) = name.strip_prefix("stem.") {
        return one(format!("features.0.{rest}"));
    }
    let mut parts = name.strip_prefix("stages.").unwrap_or(name).splitn(3, '.');
    let (stage, what, rest) = (parts.next(), parts.next(), parts.next());
    let (Some(Ok(stage)), Some(what), Some(rest)) = (stage.map(str::parse::<usize>), what, rest) else {
        return one(name.to_owned());
    };
    if what == "downsample" {
        return one(format!("features.{}.{rest}", 2 * stage));
    }
    let (block, field) = rest.split_once('.').unwrap_or((rest, ""));
    let layer = |field: String| format!("features.{}.{block}.{field}", 2 * stage + 1);
    if field == "gamma" {
        return vec![(layer("layer_scale".to_owned()), vec![shape[0], 1, 1])];
    }
    const FIELDS: [(&str, &str); 4] = [("conv_dw", "0"), ("norm", "2"), ("mlp.fc1", "3"), ("mlp.fc2", "5")];
    let known = FIELDS.iter().find_map(|(ours, theirs)| Some((theirs, field.strip_prefix(ours)?)));
    one(layer(known.map_or(field.to_owned(), |(theirs, rest)| format!("block.{theirs}{rest}"))))
}
