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
use std::io::{ErrorKind, Write};
use std::path::Path;

use candle_core::Device;
use cxr::{Branch, output_names};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::agcnn::{AgCnn, Attention, Preparation};
use crate::decision::{Conformal, Decision};
use crate::error::Error;
use crate::gate::Gate;
use crate::novelty::Novelty;
use crate::validation::Validation;

/// Version of the folder's format; a newer one is refused. Version 1 has no [`Attention::cells`]; a model without any is
/// written as such.
pub const VERSION: u32 = 2;

/// Version of a folder whose heat maps' cells divide the network's input evenly.
const PLAIN: u32 = 1;

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
    /// [`VERSION`], or an earlier one that can say the same.
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
    /// BLAKE3 of all files, hexadecimal; that of this one with 64 zeros in its own place.
    pub blake3: BTreeMap<String, String>,
}

/// What every version of `config.json` says.
#[derive(Debug, Deserialize)]
struct Versioned {
    model_type: String,
    format_version: u32,
}

impl Config {
    /// Reads the `config.json` of a model.
    ///
    /// # Errors
    /// A folder that is no model; one that has another format or other findings, or was changed.
    pub fn read(folder: &Path) -> Result<Config, Error> {
        let path = folder.join(names::CONFIG);
        let unusable = |reason: String| Error::Unusable { path: path.clone(), reason };
        let text = text(&path)?;
        // Before all other fields, which another version may have or lack.
        let Versioned { model_type, format_version } =
            serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
        if model_type != MODEL_TYPE || !(PLAIN..=VERSION).contains(&format_version) {
            return Err(unusable(format!(
                "it is {model_type:?}, format_version {format_version}; expected {MODEL_TYPE:?}, {PLAIN} or {VERSION}"
            )));
        }
        let config: Config = serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
        let expected = config.digest_of(names::CONFIG, &path)?;
        let got = digest_of_config(&text, expected);
        if got != *expected {
            return Err(Error::Changed { path, got, expected: expected.clone() });
        }
        if !config.id2label.values().map(String::as_str).eq(output_names()) {
            let got: Vec<&str> = config.id2label.values().map(String::as_str).collect();
            let (got, expected) = (got.join(", "), output_names().join(", "));
            return Err(unusable(format!("its findings are {got}, expected {expected}")));
        }
        Ok(config)
    }

    /// The digest that the file `name` should have.
    fn digest_of(&self, name: &str, path: &Path) -> Result<&String, Error> {
        let reason = || format!("no digest of {name}");
        self.blake3.get(name).ok_or_else(|| Error::Unusable { path: path.to_owned(), reason: reason() })
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
    create(&folder.join(names::PREPROCESSOR), &pretty(&Preprocessor::of(parts.preparation))?)?;
    parts.novelty.write(&folder.join(names::NOVELTY))?;
    parts.validation.write(&folder.join(names::VALIDATION))?;
    let digest = |name: &str| Ok((name.to_owned(), digest(&folder.join(name))?));
    let digests = names::DIGESTED.into_iter().map(digest);
    let digests = digests.chain([Ok((names::CONFIG.to_owned(), NOT_YET.to_owned()))]);
    let config = Config {
        model_type: MODEL_TYPE.to_owned(),
        architectures: vec!["AgCnn".to_owned()],
        format_version: if parts.attention.cells.is_none() { PLAIN } else { VERSION },
        backbones: parts.backbones.clone(),
        id2label: output_names().map(str::to_owned).into_iter().enumerate().collect(),
        label2id: output_names().map(str::to_owned).into_iter().zip(0..).collect(),
        attention: parts.attention,
        decision: parts.decision.clone(),
        gate: parts.gate.clone(),
        blake3: digests.collect::<Result<_, Error>>()?,
    };
    let text = pretty(&config)?;
    create(&folder.join(names::CONFIG), &text.replacen(NOT_YET, &digest_of_config(&text, NOT_YET), 1))
}

/// Stands in `config.json` for its own digest while that is taken.
const NOT_YET: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// BLAKE3 of the text of a `config.json` whose own digest is `own`.
fn digest_of_config(text: &str, own: &str) -> String {
    let text = if own.is_empty() { text.to_owned() } else { text.replacen(own, NOT_YET, 1) };
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

fn pretty(value: &impl Serialize) -> Result<String, Error> {
    Ok(serde_json::to_string_pretty(value).map_err(std::io::Error::from)? + "\n")
}

/// Writes a text, synced.
fn create(path: &Path, text: &str) -> Result<(), Error> {
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
    /// A folder that is no model or has another format; a file that is missing, damaged, or not the one that `config.json`
    /// knows.
    pub fn open(folder: &Path, device: &Device) -> Result<Model, Error> {
        let config = Config::read(folder)?;
        let check = |name: &&str| {
            let path = folder.join(name);
            let expected = config.digest_of(name, &folder.join(names::CONFIG))?;
            match digest(&path)? {
                got if got == *expected => Ok(()),
                got => Err(Error::Changed { path, got, expected: expected.clone() }),
            }
        };
        let checked: Vec<Result<(), Error>> = names::DIGESTED.par_iter().map(check).collect();
        checked.into_iter().collect::<Result<(), Error>>()?;
        let path = folder.join(names::PREPROCESSOR);
        let preprocessor: Preprocessor = serde_json::from_str(&text(&path)?)
            .map_err(|error| Error::Unusable { path: path.clone(), reason: error.to_string() })?;
        let preparation = Preparation { size_px: preprocessor.size.height, contrast: preprocessor.contrast };
        if preprocessor != Preprocessor::of(preparation) {
            let (expected, got) = (Preprocessor::of(preparation), preprocessor);
            return Err(Error::Foreign {
                path,
                what: "preprocessing".to_owned(),
                expected: serde_json::json!(expected).to_string(),
                got: serde_json::json!(got).to_string(),
            });
        }
        let weights = names::WEIGHTS.map(|name| folder.join(name));
        let [global, local, fusion] = weights.each_ref().map(|path| path.as_path());
        let network = AgCnn::open([global, local, fusion], preparation, config.attention, device);
        let network = network.map_err(|error| match error {
            Error::Setting { key, .. } if key.starts_with("attention.") => {
                Error::Unusable { path: folder.join(names::CONFIG), reason: error.to_string() }
            }
            error => error,
        })?;
        let [of_global, _] = network.branches();
        let novelty = Novelty::open(&folder.join(names::NOVELTY), of_global.backbone().channels())?;
        let validation = Validation::open(&folder.join(names::VALIDATION))?;
        let conformal = Conformal::fit(validation.of(Branch::Fusion), &validation.labels);
        let digest = digest(&folder.join(names::CONFIG))?;
        Ok(Model { network, decision: config.decision, gate: config.gate, novelty, validation, conformal, digest })
    }
}

/// A JSON file of a model as text.
fn text(path: &Path) -> Result<String, Error> {
    let about = regular(path)?;
    if about.len() > MAX_JSON {
        let reason = format!("{} bytes, expected at most {MAX_JSON}", about.len());
        return Err(Error::Unusable { path: path.to_owned(), reason });
    }
    let bytes = fs_err::read(path)?;
    String::from_utf8(bytes).map_err(|error| Error::Unusable { path: path.to_owned(), reason: error.to_string() })
}

/// What the disk says of a file; a folder without it is no model, and opening a pipe would wait for its other end.
fn regular(path: &Path) -> Result<std::fs::Metadata, Error> {
    let no_model = |reason: String| Error::NoModel { path: path.to_owned(), reason };
    match fs_err::metadata(path) {
        Ok(about) if about.is_file() => Ok(about),
        Ok(_) => Err(no_model("no regular file".to_owned())),
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => {
            Err(no_model("there is no such file".to_owned()))
        }
        Err(error) => Err(Error::Io(error)),
    }
}

/// BLAKE3 of a file's contents, hexadecimal.
///
/// # Errors
/// [`Error::NoModel`] where there is no regular file; it cannot be read. The message names the path.
pub fn digest(path: &Path) -> Result<String, Error> {
    regular(path)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs_err::File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Tensor};
    use cxr::heatmap::{Cells, Normalise, Statistic};
    use cxr::metrics::decision::Criterion;
    use cxr::{CropSource, EvalCrop, EvalFrame, Labels, OUTPUTS, Tta};
    use nets::weights::{self, Meta};
    use nets::{Backbone, Network, Pool};
    use picture::Grey;

    use super::*;
    use crate::fusion::{BIAS, WEIGHT};
    use crate::novelty::Described;
    use crate::region::Threshold;

    /// Side of all images, px.
    const SIZE: usize = 40;

    /// Writes a model whose heat maps have such cells; the text of its `config.json`.
    fn written(folder: &Path, cells: Option<Cells>) -> String {
        let frame = EvalFrame { crop: EvalCrop::Whole, image_px: SIZE, input_px: SIZE };
        let network = Network::new(Backbone::Mini, Pool::Max, 1, &Device::Cpu).unwrap();
        for name in &names::WEIGHTS[..2] {
            network.save(&folder.join(name), Some(frame)).unwrap();
        }
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
        let weight = zeros(&[OUTPUTS, 2 * Backbone::Mini.channels()]);
        let layer = [(WEIGHT.to_owned(), weight), (BIAS.to_owned(), zeros(&[OUTPUTS]))];
        let meta = Meta { backbone: "fusion".to_owned(), pool: String::new(), frame: None, tta: Tta::None };
        weights::write(&folder.join(names::WEIGHTS[2]), &layer, &meta).unwrap();
        let described = |image: usize| {
            let pixels = (0..SIZE * SIZE).map(|at| (at * (7 * image + 3) % 251) as u8).collect();
            let features = [image, image * image % 5, image * image % 7].map(|value| 1.0 + value as f32);
            Described::new(&features, &Grey { width: SIZE as u32, height: SIZE as u32, pixels })
        };
        let described: Vec<Described> = (0..20).map(described).collect();
        let logits = vec![[0.5; OUTPUTS], [-0.5; OUTPUTS]];
        let parts = Parts {
            preparation: Preparation { size_px: SIZE as u32, contrast: 1.0 },
            attention: Attention {
                frame,
                threshold: Threshold::Tau(0.5),
                statistic: Statistic::Max,
                normalise: Normalise::Minmax,
                cells,
                source: CropSource::Prepared,
                contrast: 1.0,
                size_px: SIZE as u32,
            },
            backbones: ["mini", "mini"].map(str::to_owned),
            decision: Decision { temperature: None, criterion: Criterion::Youden, thresholds: [None; OUTPUTS] },
            gate: Gate { min_side_px: 32, max_colour: 8.0, min_deviation: 4.0, min_levels: 16, max_novelty: 100.0 },
            novelty: &Novelty::fit(&described[..10], &described[10..]).unwrap(),
            validation: &Validation {
                logits: [logits.clone(), logits.clone(), logits],
                labels: vec![Labels::default(); 2],
            },
        };
        write(folder, &parts).unwrap();
        fs_err::read_to_string(folder.join(names::CONFIG)).unwrap()
    }

    /// So a program of version 1 reads every model that it can run.
    #[test]
    fn only_cells_raise_the_version() {
        let folder = tempfile::tempdir().unwrap();
        for (cells, version) in [(None, PLAIN), (Some(Backbone::Mini.cells()), VERSION)] {
            let text = written(folder.path(), cells);
            assert!(text.contains(&format!("\"format_version\": {version},")), "{text}");
            assert_eq!(text.contains("\"cells\""), cells.is_some(), "{text}");
            let config = Config::read(folder.path()).unwrap();
            assert_eq!((config.format_version, config.attention.cells), (version, cells));
        }
        let text = fs_err::read_to_string(folder.path().join(names::CONFIG)).unwrap();
        fs_err::write(
            folder.path().join(names::CONFIG),
            text.replace("\"format_version\": 2", "\"format_version\": 3"),
        )
        .unwrap();
        let refused = Config::read(folder.path()).unwrap_err().to_string();
        assert!(refused.ends_with("format_version 3; expected \"ag-cnn\", 1 or 2"), "{refused}");
    }

    #[test]
    fn cells_that_lie_nowhere_are_refused_with_the_file_that_has_them() {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path(), Some(Cells { first_px: 0.5, step_px: 0.0 }));
        let error = Model::open(folder.path(), &Device::Cpu).unwrap_err();
        let path = folder.path().join(names::CONFIG).display().to_string();
        let expected = format!("{path}: attention.cells = first_px 0.5, step_px 0, expected ");
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.hint().is_some());
    }
}
