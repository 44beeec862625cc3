use std::path::{Path, PathBuf};

use anyhow::anyhow;
use candle_core::Device;
use nets::Network;
use stage::{Fail, Run};

use crate::config::Config;
use crate::error::Error;

/// Folder of ImageNet weights, `<backbone>.safetensors` or `<backbone>.pth`; `data/README.md` says how to fill it.
const PRETRAINED: &str = "data/pretrained";

/// The initial weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    /// Anew, by seed.
    Random,
    /// The trunk of a torchvision or timm file.
    ImageNet(WeightsFile),
    /// A weights file of ours, with its head.
    Ours(WeightsFile),
}

/// A file of initial weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsFile {
    /// Where it is.
    pub path: PathBuf,
    /// BLAKE3 of its content, 64 hex digits.
    pub blake3: String,
}

impl Init {
    /// Finds the file that `init` of the configuration names, and makes the file's content part of the run's key.
    ///
    /// # Errors
    /// Exit code 3 where there is no such file.
    pub fn find(run: &mut Run, section: &str, config: &Config) -> Result<Init, Fail> {
        let (path, imagenet) = match config.init.as_str() {
            "random" => return Ok(Init::Random),
            "imagenet" => (pretrained(Path::new(PRETRAINED), section, config)?, true),
            text => match text.strip_prefix("imagenet:") {
                Some(path) => (path.into(), true),
                None => (text.into(), false),
            },
        };
        let blake3 = content_digest(&path).map_err(|error| {
            Fail::missing(anyhow!(error).context(format!("{section}.init = {:?}", config.init)))
                .hint("expected \"imagenet\", \"imagenet:PATH\", \"random\" or the path of a weights file")
        })?;
        // A trunk's weights and a whole network's are not the same start.
        run.outside(if imagenet { "init: imagenet" } else { "init: weights" }, blake3.clone(), Some(&path));
        let file = WeightsFile { path, blake3 };
        Ok(if imagenet { Init::ImageNet(file) } else { Init::Ours(file) })
    }

    /// The initial weights, for the identity of a training; random ones follow from its seed.
    pub fn digest(&self) -> String {
        match self {
            Init::Random => "random".to_owned(),
            Init::ImageNet(file) => format!("imagenet {}", file.blake3),
            Init::Ours(file) => format!("weights {}", file.blake3),
        }
    }

    /// A network with these weights.
    pub(crate) fn network(&self, config: &Config, seed: u64, device: &Device) -> Result<Network, Error> {
        let mut network = Network::new(config.backbone, config.pool, seed, device)?;
        match self {
            Init::Random => {}
            Init::ImageNet(file) => network.load_imagenet(&file.path)?,
            Init::Ours(file) => drop(network.load(&file.path)?),
        }
        Ok(network)
    }
}

fn pretrained(folder: &Path, section: &str, config: &Config) -> Result<PathBuf, Fail> {
    let backbone = config.backbone;
    let paths = ["safetensors", "pth"].map(|extension| folder.join(format!("{backbone}.{extension}")));
    paths.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        let [first, second] = paths.map(|path| path.display().to_string());
        Fail::missing(anyhow!("{section}.init = \"imagenet\" needs {first} or {second}: no such file")).hint(format!(
            "put torchvision's {backbone} there, as data/README.md says, or train from scratch with --set {section}.init=random"
        ))
    })
}

fn content_digest(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(guard::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}
