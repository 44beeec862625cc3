use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use candle_core::Device;
use nets::Network;
use stage::{Fail, Run};

use crate::config::Config;
use crate::error::Error;

/// Folder of ImageNet weights; `data/README.md` says how to fill it.
const PRETRAINED: &str = "data/pretrained";

/// The initial weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    /// Anew, by seed.
    Random,
    /// The trunk of a torchvision or timm file, or of a foundation model's.
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
    /// Finds the file that `init` of the configuration names.
    ///
    /// # Errors
    /// Exit code 3 where there is no such file, 4 where it is something else than weights; several that are meant.
    pub fn find(section: &str, config: &Config) -> Result<Init, Fail> {
        let (path, imagenet) = match config.init.as_str() {
            "random" => return Ok(Init::Random),
            "imagenet" | "pretrained" => (pretrained(Path::new(PRETRAINED), section, config)?, true),
            text => match text.strip_prefix("imagenet:").or_else(|| text.strip_prefix("pretrained:")) {
                Some(path) => (path.into(), true),
                None => (text.into(), false),
            },
        };
        let named = |error: nets::Error| match error.kind() {
            ErrorKind::NotFound => Fail::missing(anyhow!(error).context(format!("{section}.init = {:?}", config.init)))
                .hint("expected \"imagenet\", \"imagenet:PATH\", \"random\" or the path of a weights file"),
            _ => Error::from(error).into(),
        };
        let ours = nets::weights::is_safetensors(&path).map_err(named)?;
        if !ours && !imagenet {
            let message =
                anyhow!("{section}.init = {:?}: a PyTorch file, expected a weights.safetensors of ours", config.init);
            return Err(
                Fail::bad_data(message).hint(format!("--set {section}.init=imagenet:{} takes its trunk", config.init))
            );
        }
        let blake3 = content_digest(&path)?;
        let file = WeightsFile { path, blake3 };
        Ok(if imagenet { Init::ImageNet(file) } else { Init::Ours(file) })
    }

    /// Makes the file's content part of the run's key.
    pub fn record(&self, run: &mut Run) {
        // A trunk's weights and a whole network's are not the same start.
        let (label, file) = match self {
            Init::Random => return,
            Init::ImageNet(file) => ("init: imagenet", file),
            Init::Ours(file) => ("init: weights", file),
        };
        run.outside(label, file.blake3.clone(), Some(&file.path));
    }

    /// The initial weights, for the identity of a training; random ones follow from its seed.
    pub fn digest(&self) -> String {
        match self {
            Init::Random => "random".to_owned(),
            Init::ImageNet(file) => format!("imagenet {}", file.blake3),
            Init::Ours(file) => format!("weights {}", file.blake3),
        }
    }

    /// A network with these weights, in a run with `seed`.
    ///
    /// # Errors
    /// A file that is damaged, has the weights of another network, or has changed since it was found.
    pub fn network(&self, config: &Config, seed: u64, device: &Device) -> Result<Network, Error> {
        let mut network = Network::new(config.backbone, config.pool, config.seed(seed), device)?;
        let file = match self {
            Init::Random => return Ok(network),
            Init::ImageNet(file) => {
                network.load_imagenet(&file.path)?;
                file
            }
            Init::Ours(file) => {
                network.load(&file.path)?;
                file
            }
        };
        match content_digest(&file.path).map_err(nets::Error::from)? == file.blake3 {
            true => Ok(network),
            false => Err(Error::Replaced { path: file.path.clone() }),
        }
    }
}

/// The file of pretrained weights in `folder`: `<backbone>.safetensors`, `<backbone>.pth`, or torchvision's own name,
/// `<backbone>-<8 hex digits>.pth`; DINOv2's own, `<backbone>_pretrain.pth` with `_` for `-`.
fn pretrained(folder: &Path, section: &str, config: &Config) -> Result<PathBuf, Fail> {
    let backbone = config.backbone;
    let plain = ["safetensors", "pth"].map(|ending| folder.join(format!("{backbone}.{ending}")));
    if backbone.is_frozen() {
        // DINOv2's own files are called so.
        let theirs = folder.join(format!("{}_pretrain.pth", backbone.name().replace('-', "_")));
        let names = [&plain[..], &[theirs]].concat();
        return names.iter().find(|path| path.exists()).cloned().ok_or_else(|| {
            let names: Vec<String> = names.iter().map(|path| path.display().to_string()).collect();
            let needs = format!("{section}.init = {:?} needs {}: no such file", config.init, names.join(" or "));
            Fail::missing(anyhow!(needs)).hint(format!(
                "docs/foundation.md says where to get {backbone}; --set {section}.init=pretrained:PATH takes a file elsewhere"
            ))
        });
    }
    if let Some(path) = plain.iter().find(|path| path.exists()) {
        return Ok(path.clone());
    }
    let start = format!("{backbone}-");
    let torchvisions = |name: &str| {
        let hash = name.strip_prefix(&start).and_then(|rest| rest.strip_suffix(".pth"));
        hash.is_some_and(|hash| hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| torchvisions(name)).collect();
    names.sort();
    let needs = format!("{section}.init = \"imagenet\" needs");
    match &names[..] {
        [name] => Ok(folder.join(name)),
        [] => {
            let [first, second] = plain.map(|path| path.display().to_string());
            let third = folder.join(format!("{start}<8 hex digits>.pth"));
            Err(Fail::missing(anyhow!("{needs} {first}, {second} or {}: no such file", third.display())).hint(format!(
                "put torchvision's {backbone} there, as data/README.md says, or train from scratch with --set {section}.init=random"
            )))
        }
        several => Err(Fail::usage(anyhow!("{needs} one file, {} has {}", folder.display(), several.join(" and ")))
            .hint(format!("--set {section}.init=imagenet:{} takes that one", folder.join(&several[0]).display()))),
    }
}

fn content_digest(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(guard::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}
