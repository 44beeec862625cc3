//! Networks as ONNX files, which other programs run: [ONNX Runtime](https://onnxruntime.ai), image viewers, browsers.
//!
//! | file | written by | inputs | outputs |
//! |---|---|---|---|
//! | a branch | [`write`](fn@write) | `image [N, 1, S, S]`, grey values 0 to 255 | `logits`, `probabilities` `[N, 15]`, `features [N, K]`; `heat_map [N, h, w]` where asked for |
//! | the fusion layer | [`write_fusion`] | `global_features [N, K1]`, `local_features [N, K2]` | `logits`, `probabilities` `[N, 15]` |
//!
//! All values are `f32`, N is free. A branch's graph normalises the image itself, as evaluation here does.
//! Operator set 17; the outputs are those of [`Network::forward_eval`] but for rounding.
//!
//! | metadata | value |
//! |---|---|
//! | `agcnn.format` | `agcnn-onnx` |
//! | `agcnn.findings` | the outputs in order, snake_case, separated by commas |
//! | `agcnn.backbone`, `agcnn.pool` | names of the network's parts; `fusion` and none for the fusion layer |
//! | `agcnn.frame` | how inputs are cut from stored images, [`EvalFrame`] as JSON; not for the fusion layer |
//! | `agcnn.tta` | the views whose scores are to be averaged, [`Tta`]; absent where it is the frame alone |
//! | `agcnn.heat_map` | [`HeatMap`] as JSON, where there is one |
//! | `agcnn.notice` | `not for clinical use` |
//!
//! Equal networks give equal bytes.

mod builder;
mod proto;
#[cfg(test)]
mod tests;
mod trunk;

use std::io::Write;
use std::path::Path;

use candle_core::Tensor;
use cxr::heatmap::{Cells, Normalise, Statistic};
use cxr::{EvalFrame, Tta};
use prost::Message;
use serde::Serialize;
use serde_json::json;

use crate::canonical::canonical;
use crate::colours::COLOURS;
use crate::error::{Error, Result};
use crate::models::backbone::Pool;
use crate::models::network::{LSE_R, Network};
use crate::onnx::builder::GraphBuilder;
use crate::onnx::proto::{Attribute, Entry, Graph, IR_VERSION, Model, OPSET, OperatorSet};
use crate::weights::safetensors::write_atomic;

const FORMAT: &str = "agcnn-onnx";
const NOTICE: &str = "not for clinical use";

/// The heat map of a branch that attends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HeatMap {
    /// How the channels of the last map become one; the graph computes it.
    pub statistic: Statistic,
    /// How a map is normalised before a threshold is applied; the graph leaves that to its caller.
    pub normalise: Normalise,
    /// Where the map's cells lie in the network's input; none: they divide it evenly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cells: Option<Cells>,
}

/// Writes a branch as an ONNX file, atomically.
///
/// The image is the part of a stored image under `frame`, at the frame's input side. The graph scores one view; `tta` tells
/// its user which views of an image the model's scores are means over.
///
/// # Errors
/// A frozen trunk; an input side below [`Backbone::min_side`](crate::Backbone::min_side); the disk, with the path, which then is as it
/// was.
pub fn write(network: &Network, (frame, tta): (EvalFrame, Tta), heat_map: Option<HeatMap>, path: &Path) -> Result<()> {
    let (backbone, side) = (network.backbone(), frame.input_px);
    if backbone.is_frozen() {
        let expected = "a convolutional trunk: foundation models are not written as ONNX";
        return Err(Error::Setting { key: "backbone", got: backbone.to_string(), expected: expected.to_owned() });
    }
    if side < backbone.min_side() {
        let expected = format!("at least {} for {backbone}", backbone.min_side());
        return Err(Error::Setting { key: "crop", got: side.to_string(), expected });
    }
    let mut build = GraphBuilder::default();
    let doc = "the radiograph, grey values 0 to 255; the graph normalises them";
    let image = build.input("image", &[1, side, side], doc);
    let x = normalised(&mut build, &image);
    let map = trunk::trunk(&mut build, network.params(), network.trunk(), &x)?;
    let features = pooled(&mut build, network.pool(), &map);
    let (weight, bias) = network.head_params();
    let [weight, bias] = [weight, bias].map(|id| build.tensor(network.params().name(id), network.params().get(id)));
    scored(&mut build, &features, &weight?, Some(&bias?));
    let doc = format!("the {} of the last map over its positions", network.pool());
    build.output(&features, &[backbone.channels()], &doc);
    let mut doc = format!(
        "{backbone} with {} pooling, as AG-CNN (arXiv 1801.09927) uses it: findings in a chest radiograph. The graph \
         divides grey values by 255 and normalises them by ImageNet's mean and deviation; do not do it again.",
        network.pool()
    );
    if let Some(heat_map) = heat_map {
        let side = backbone.map_side(side);
        attended(&mut build, heat_map.statistic, backbone.channels(), &map);
        build.output("heat_map", &[side; 2], statistic(heat_map.statistic));
        doc += " heat_map is not normalised. ";
        doc += normalisation(heat_map.normalise);
    }
    let mut metadata = metadata(backbone.name(), network.pool().name());
    metadata.push(("agcnn.frame", canonical(&json!(frame))));
    if tta != Tta::None {
        metadata.push(("agcnn.tta", tta.to_string()));
    }
    metadata.extend(heat_map.map(|heat_map| ("agcnn.heat_map", canonical(&json!(heat_map)))));
    save(path, build.finish(backbone.name(), doc), metadata)
}

/// Writes the fusion layer as an ONNX file, atomically: `weight [15, K1 + K2]`, `bias [15]`, `features` = `[K1, K2]`, the
/// numbers of features of the global and of the local branch.
///
/// # Errors
/// Another shape; the disk, with the path, which then is as it was.
pub fn write_fusion(weight: &Tensor, bias: Option<&Tensor>, features: [usize; 2], path: &Path) -> Result<()> {
    let outputs = cxr::output_names().len();
    let expected = [outputs, features[0] + features[1]];
    if weight.dims() != expected {
        return Err(Error::shape("fusion weight", format!("{expected:?}"), format!("{:?}", weight.dims())));
    }
    if let Some(bias) = bias.filter(|bias| bias.dims() != [outputs]) {
        return Err(Error::shape("fusion bias", format!("[{outputs}]"), format!("{:?}", bias.dims())));
    }
    let mut build = GraphBuilder::default();
    let [global, local] = ["global", "local"].map(|branch| (format!("{branch}_features"), branch));
    let inputs = [(global, features[0]), (local, features[1])].map(|((name, branch), features)| {
        build.input(&name, &[features], &format!("output features of the {branch} branch"))
    });
    let both = build.node("Concat", "features", &[&inputs[0], &inputs[1]], vec![Attribute::int("axis", 1)]);
    let weight = build.tensor("fc.weight", weight)?;
    let bias = bias.map(|bias| build.tensor("fc.bias", bias)).transpose()?;
    scored(&mut build, &both, &weight, bias.as_deref());
    let doc = "The fusion layer of AG-CNN (arXiv 1801.09927): findings in a chest radiograph, from the features of the \
               whole image and of its attended region.";
    save(path, build.finish("fusion", doc.to_owned()), metadata("fusion", ""))
}

/// Grey values `[N, 1, S, S]` to `[N, 3, S, S]`, in the loader's order of operations.
fn normalised(build: &mut GraphBuilder, image: &str) -> String {
    let white = build.constant("normalise.white", &[1], &[255.0]);
    let mean = build.constant("normalise.mean", &[1, 3, 1, 1], &COLOURS.mean);
    let deviation = build.constant("normalise.deviation", &[1, 3, 1, 1], &COLOURS.deviation);
    let x = build.node("Div", "normalise.unit", &[image, &white], vec![]);
    let x = build.node("Sub", "normalise.centred", &[&x, &mean], vec![]);
    build.node("Div", "normalise.scaled", &[&x, &deviation], vec![])
}

/// A map to `features`.
fn pooled(build: &mut GraphBuilder, pool: Pool, map: &str) -> String {
    let pooled = match pool {
        Pool::Max => build.node("GlobalMaxPool", "pool.max", &[map], vec![]),
        Pool::Avg => build.node("GlobalAveragePool", "pool.mean", &[map], vec![]),
        Pool::Class => unreachable!("only a frozen trunk has a class token, and none is written"),
        Pool::Lse => {
            let sharpness = build.constant("pool.sharpness", &[1], &[LSE_R]);
            let max = build.node("GlobalMaxPool", "pool.max", &[map], vec![]);
            let below = build.node("Sub", "pool.below", &[map, &max], vec![]);
            let scaled = build.node("Mul", "pool.scaled", &[&below, &sharpness], vec![]);
            let exp = build.node("Exp", "pool.exp", &[&scaled], vec![]);
            let mean = build.node("GlobalAveragePool", "pool.mean", &[&exp], vec![]);
            let log = build.node("Log", "pool.log", &[&mean], vec![]);
            let less = build.node("Div", "pool.less", &[&log, &sharpness], vec![]);
            build.node("Add", "pool.lse", &[&max, &less], vec![])
        }
    };
    build.node("Flatten", "features", &[&pooled], vec![Attribute::int("axis", 1)])
}

/// A map to `heat_map`.
fn attended(build: &mut GraphBuilder, statistic: Statistic, channels: usize, map: &str) {
    let over_channels = || vec![Attribute::ints("axes", &[1]), Attribute::int("keepdims", 0)];
    match statistic {
        Statistic::Max => {
            let magnitude = build.node("Abs", "attend.magnitude", &[map], vec![]);
            build.node("ReduceMax", "heat_map", &[&magnitude], over_channels());
        }
        Statistic::L1 | Statistic::L2 => {
            let norm = if statistic == Statistic::L1 { "ReduceL1" } else { "ReduceL2" };
            let channels = build.constant("attend.channels", &[1], &[channels as f32]);
            let norm = build.node(norm, "attend.norm", &[map], over_channels());
            build.node("Div", "heat_map", &[&norm, &channels], vec![]);
        }
    }
}

fn statistic(statistic: Statistic) -> &'static str {
    match statistic {
        Statistic::Max => "max over k of |f_k|, f_k the K channels of the last map",
        Statistic::L1 => "1/K sum over k of |f_k|, f_k the K channels of the last map",
        Statistic::L2 => "1/K sqrt(sum over k of f_k^2), f_k the K channels of the last map",
    }
}

fn normalisation(how: Normalise) -> &'static str {
    match how {
        Normalise::Minmax => "Thresholds apply to (H - min H) / (max H - min H), of each map H by itself.",
        Normalise::Max => "Thresholds apply to H / max H, of each map H by itself.",
        Normalise::None => "Thresholds apply to it as it is.",
    }
}

/// Features to `logits` and `probabilities`, which become outputs.
fn scored(build: &mut GraphBuilder, features: &str, weight: &str, bias: Option<&str>) {
    let outputs = cxr::output_names().len();
    let inputs: Vec<&str> = [features, weight].into_iter().chain(bias).collect();
    let logits = build.node("Gemm", "logits", &inputs, vec![Attribute::int("transB", 1)]);
    let probabilities = build.node("Sigmoid", "probabilities", &[&logits], vec![]);
    let doc = "by output, in the order of the metadata agcnn.findings";
    build.output(&logits, &[outputs], doc);
    build.output(&probabilities, &[outputs], &format!("sigmoid of the logits, {doc}"));
}

/// What every file says.
fn metadata(backbone: &str, pool: &str) -> Vec<(&'static str, String)> {
    vec![
        ("agcnn.format", FORMAT.to_owned()),
        ("agcnn.findings", cxr::output_names().join(",")),
        ("agcnn.backbone", backbone.to_owned()),
        ("agcnn.pool", pool.to_owned()),
        ("agcnn.notice", NOTICE.to_owned()),
    ]
}

fn save(path: &Path, graph: Graph, metadata: Vec<(&'static str, String)>) -> Result<()> {
    let entry = |(key, value): (&str, String)| Entry { key: key.to_owned(), value };
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "agcnn".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        doc_string: format!("{} Research software, {NOTICE}.", graph.doc_string),
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: Some(String::new()), version: OPSET }],
        metadata_props: metadata.into_iter().map(entry).collect(),
    };
    write_atomic(path, |file| Ok(file.write_all(&model.encode_to_vec())?))
}
