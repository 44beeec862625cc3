//! A model as a folder, in Hugging Face's layout.
//!
//! | file | content |
//! |---|---|
//! | `config.json` | networks, attention, decisions, gate, digests of the other files: [`Config`] |
//! | `preprocessor_config.json` | what is done to an image first: [`Preprocessor`] |
//! | `global.safetensors`, `local.safetensors`, `fusion.safetensors` | the three branches, torchvision's names |
//! | `novelty.safetensors` | the training images' features in short: [`Novelty`] |
//! | `validation.safetensors` | the validation images' logits and labels: [`Validation`] |

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use candle_core::Device;
use cxr::{Branch, output_names};
use serde::{Deserialize, Serialize};

use crate::agcnn::{AgCnn, Attention, Preparation};
use crate::decision::{Conformal, Decision};
use crate::error::Error;
use crate::gate::Gate;
use crate::novelty::Novelty;
use crate::validation::Validation;

/// Version of the folder's format; a newer one is refused.
pub const VERSION: u32 = 1;

/// Names of the folder's files.
pub mod names {
    /// Everything but numbers by the thousand.
    pub const CONFIG: &str = "config.json";
    /// What is done to an image first.
    pub const PREPROCESSOR: &str = "preprocessor_config.json";
    /// The branches' weights, in the order of [`cxr::Branch::ALL`].
    pub const WEIGHTS: [&str; 3] = ["global.safetensors", "local.safetensors", "fusion.safetensors"];
    /// The training images' features in short.
    pub const NOVELTY: &str = "novelty.safetensors";
    /// The validation images' logits and labels.
    pub const VALIDATION: &str = "validation.safetensors";
    /// All files that `config.json` has the digests of.
    pub const DIGESTED: [&str; 6] = [PREPROCESSOR, WEIGHTS[0], WEIGHTS[1], WEIGHTS[2], NOVELTY, VALIDATION];
}

/// `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `ag-cnn`.
    pub model_type: String,
    /// `AgCnn`.
    pub architectures: Vec<String>,
    /// [`VERSION`].
    pub format_version: u32,
    /// Backbone of the global and of the local branch.
    pub backbones: [String; 2],
    /// The outputs in order.
    pub id2label: BTreeMap<usize, String>,
    /// The order of the outputs.
    pub label2id: BTreeMap<String, usize>,
    /// How regions are found and cut.
    pub attention: Attention,
    /// Temperature and thresholds of the fusion branch.
    pub decision: Decision,
    /// What the gate lets through.
    pub gate: Gate,
    /// BLAKE3 of the other files, hexadecimal.
    pub blake3: BTreeMap<String, String>,
}

impl Config {
    /// Reads the `config.json` of a model.
    ///
    /// # Errors
    /// A folder that is no model, or has a newer format or other findings.
    pub fn read(folder: &Path) -> Result<Config, Error> {
        let config: Config = read(folder, names::CONFIG)?;
        let no_model = |reason: String| Error::NoModel { path: folder.join(names::CONFIG), reason };
        if config.model_type != MODEL_TYPE || config.format_version > VERSION {
            let got = format!("{} version {}", config.model_type, config.format_version);
            return Err(no_model(format!("it is {got}, expected {MODEL_TYPE}, version at most {VERSION}")));
        }
        if !config.id2label.values().map(String::as_str).eq(output_names()) {
            let got: Vec<&str> = config.id2label.values().map(String::as_str).collect();
            return Err(no_model(format!(
                "its findings are {}, expected {}",
                got.join(", "),
                output_names().join(", ")
            )));
        }
        Ok(config)
    }
}

/// `preprocessor_config.json`, in the words of Hugging Face's image processors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessor {
    /// `AgCnnImageProcessor`.
    pub image_processor_type: String,
    /// Always: to a square, whatever the shape.
    pub do_resize: bool,
    /// Side of the square, px.
    pub size: Size,
    /// Pillow's number of the filter: 2, bilinear with antialiasing.
    pub resample: u32,
    /// Factor on every grey value's distance from the image's mean; 1 is none.
    pub contrast: f32,
    /// Always: grey values of 0 to 255 times `rescale_factor`.
    pub do_rescale: bool,
    /// 1 / 255.
    pub rescale_factor: f64,
    /// Always.
    pub do_normalize: bool,
    /// Subtracted from each of three equal channels.
    pub image_mean: [f32; 3],
    /// Then each is divided by it.
    pub image_std: [f32; 3],
}

/// Height and width, px.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

impl Preprocessor {
    fn of(preparation: Preparation) -> Preprocessor {
        let (image_mean, image_std) = nets::normalisation();
        Preprocessor {
            image_processor_type: "AgCnnImageProcessor".to_owned(),
            do_resize: true,
            size: Size { height: preparation.size_px, width: preparation.size_px },
            resample: 2,
            contrast: preparation.contrast,
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: true,
            image_mean,
            image_std,
        }
    }
}

/// What a folder needs beside the files of weights, which are in it already.
#[derive(Debug)]
pub struct Parts<'a> {
    /// What is done to an image first.
    pub preparation: Preparation,
    /// How regions are found and cut.
    pub attention: Attention,
    /// Backbone of the global and of the local branch.
    pub backbones: [String; 2],
    /// Temperature and thresholds.
    pub decision: Decision,
    /// What the gate lets through.
    pub gate: Gate,
    /// The training images' features in short.
    pub novelty: &'a Novelty,
    /// The validation images' logits and labels.
    pub validation: &'a Validation,
}

/// Makes a model of a folder that has [`names::WEIGHTS`]: writes the other files, `config.json` last.
///
/// # Errors
/// The disk, with the path.
pub fn write(folder: &Path, parts: &Parts) -> Result<(), Error> {
    json(&folder.join(names::PREPROCESSOR), &Preprocessor::of(parts.preparation))?;
    parts.novelty.write(&folder.join(names::NOVELTY))?;
    parts.validation.write(&folder.join(names::VALIDATION))?;
    let digest = |name: &str| Ok((name.to_owned(), digest(&folder.join(name))?));
    let config = Config {
        model_type: MODEL_TYPE.to_owned(),
        architectures: vec!["AgCnn".to_owned()],
        format_version: VERSION,
        backbones: parts.backbones.clone(),
        id2label: output_names().map(str::to_owned).into_iter().enumerate().collect(),
        label2id: output_names().map(str::to_owned).into_iter().zip(0..).collect(),
        attention: parts.attention,
        decision: parts.decision.clone(),
        gate: parts.gate.clone(),
        blake3: names::DIGESTED.into_iter().map(digest).collect::<Result<_, Error>>()?,
    };
    json(&folder.join(names::CONFIG), &config)
}

/// Writes pretty JSON, synced.
fn json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(std::io::Error::from)? + "\n";
    let mut file = fs_err::File::create(path)?;
    file.write_all(text.as_bytes())?;
    Ok(file.sync_all()?)
}

const MODEL_TYPE: &str = "ag-cnn";

/// The most bytes of a JSON file that are read.
const MAX_JSON: u64 = 1 << 20;

/// A model that is ready to be asked.
#[derive(Debug)]
pub struct Model {
    /// The three branches.
    pub network: AgCnn,
    /// Temperature and thresholds.
    pub decision: Decision,
    /// What the gate lets through.
    pub gate: Gate,
    /// The training images' features in short.
    pub novelty: Novelty,
    /// The validation images' logits and labels.
    pub validation: Validation,
    /// The fusion branch's, for verdicts at a stated error rate.
    pub conformal: Conformal,
    /// One digest over all files, hexadecimal: which model it is.
    pub digest: String,
}

impl Model {
    /// Opens a folder that [`write`](fn@write) made; needs nothing else.
    ///
    /// # Errors
    /// A folder that is no model or has a newer format; a file that is missing, damaged, or not the one that `config.json`
    /// knows.
    pub fn open(folder: &Path, device: &Device) -> Result<Model, Error> {
        let config = Config::read(folder)?;
        let no_model = |reason: String| Error::NoModel { path: folder.join(names::CONFIG), reason };
        for name in names::DIGESTED {
            let expected = config.blake3.get(name).ok_or_else(|| no_model(format!("no digest of {name}")))?;
            let path = folder.join(name);
            let got = digest(&path)?;
            if got != *expected {
                return Err(Error::Changed { path, got, expected: expected.clone() });
            }
        }
        let preprocessor: Preprocessor = read(folder, names::PREPROCESSOR)?;
        let preparation = Preparation { size_px: preprocessor.size.height, contrast: preprocessor.contrast };
        if preprocessor != Preprocessor::of(preparation) || !(1..=4096).contains(&preparation.size_px) {
            let (expected, got) = (Preprocessor::of(preparation), preprocessor);
            return Err(Error::Foreign {
                path: folder.join(names::PREPROCESSOR),
                what: "preprocessing".to_owned(),
                expected: serde_json::json!(expected).to_string(),
                got: serde_json::json!(got).to_string(),
            });
        }
        let weights = names::WEIGHTS.map(|name| folder.join(name));
        let [global, local, fusion] = weights.each_ref().map(|path| path.as_path());
        let network = AgCnn::open([global, local, fusion], preparation, config.attention, device)?;
        let [of_global, _] = network.branches();
        let novelty = Novelty::open(&folder.join(names::NOVELTY), of_global.backbone().channels())?;
        let validation = Validation::open(&folder.join(names::VALIDATION))?;
        let conformal = Conformal::fit(validation.of(Branch::Fusion), &validation.labels);
        let digest = digest(&folder.join(names::CONFIG))?;
        Ok(Model { network, decision: config.decision, gate: config.gate, novelty, validation, conformal, digest })
    }
}

/// Reads a JSON file of a model.
fn read<T: serde::de::DeserializeOwned>(folder: &Path, name: &str) -> Result<T, Error> {
    let path = folder.join(name);
    let no_model = |reason: String| Error::NoModel { path: path.clone(), reason };
    let about = fs_err::metadata(&path).map_err(|error| no_model(error.to_string()))?;
    if !about.is_file() || about.len() > MAX_JSON {
        return Err(no_model(format!("{} bytes, expected a file of at most {MAX_JSON}", about.len())));
    }
    let text = fs_err::read_to_string(&path).map_err(|error| no_model(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| no_model(error.to_string()))
}

/// BLAKE3 of a file's contents, hexadecimal.
///
/// # Errors
/// The file cannot be read; the message names the path.
pub fn digest(path: &Path) -> Result<String, Error> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs_err::File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}
