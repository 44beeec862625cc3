use std::path::{Path, PathBuf};

use anyhow::anyhow;
use candle_core::Device;
use nets::Network;
use stage::{Fail, Run};

use crate::{Config, Error};

/// Folder of ImageNet weights, `<backbone>.safetensors` or `<backbone>.pth`; `data/README.md` says how to fill it.
const PRETRAINED: &str = "data/pretrained";

/// Where the weights start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    /// Anew, by seed.
    Random,
    /// The trunk of a torchvision or timm file.
    ImageNet(PathBuf),
    /// A weights file of ours, with its head.
    Ours(PathBuf),
}

impl Init {
    /// Finds what `init` of the configuration names, and makes the file's content part of the run's key.
    ///
    /// # Errors
    /// Exit code 3 where there is no such file.
    pub fn find(run: &mut Run, section: &str, config: &Config) -> Result<Init, Fail> {
        let init = match config.init.as_str() {
            "random" => Init::Random,
            "imagenet" => Init::ImageNet(pretrained(Path::new(PRETRAINED), section, config)?),
            text => match text.strip_prefix("imagenet:") {
                Some(path) => Init::ImageNet(path.into()),
                None => Init::Ours(text.into()),
            },
        };
        if let Init::ImageNet(path) | Init::Ours(path) = &init {
            let fingerprint = fingerprint(path).map_err(|error| {
                Fail::missing(anyhow!(error).context(format!("{section}.init = {:?}", config.init)))
                    .hint("expected \"imagenet\", \"imagenet:PATH\", \"random\" or the path of a weights file")
            })?;
            run.outside("init", fingerprint);
        }
        Ok(init)
    }

    /// A network that starts there.
    pub(crate) fn network(&self, config: &Config, seed: u64, device: &Device) -> Result<Network, Error> {
        let mut network = Network::new(config.backbone, config.pool, seed, device)?;
        match self {
            Init::Random => {}
            Init::ImageNet(path) => network.load_imagenet(path)?,
            Init::Ours(path) => drop(network.load(path)?),
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

fn fingerprint(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs_err::File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}
