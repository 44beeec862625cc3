//! The state of a training on disk: the last checkpoint, and the one before it in case the last is damaged.
//!
//! A safetensors file with the model's tensors (`model.NAME`), the optimiser's state (`optimizer.INDEX`), their moving
//! average where there is one (`ema.NAME`) and, after the first epoch, the tensors of the best epoch (`best.NAME`). Its metadata are the [`Identity`] of the training and its
//! [`Progress`], and a digest of the file. Random streams need no memory: they follow from seed, epoch and example.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::canonical::canonical;
use crate::ema::Average;
use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::layers::params::Params;
use crate::optimizer::Optimizer;
use crate::progress::Progress;
use crate::weights::safetensors::{DIGEST, Tensors, read_metadata, read_safetensors, write_safetensors};

/// Name of the checkpoint in the folder of a training.
pub const NAME: &str = "checkpoint.safetensors";

/// Name of the checkpoint before the last.
const PREVIOUS: &str = "checkpoint.previous.safetensors";

const FORMAT: &str = "agcnn-checkpoint-3";

/// What a checkpoint fills.
pub(crate) struct State<'a> {
    pub(crate) params: &'a mut Params,
    pub(crate) optimizer: &'a mut Optimizer,
    /// Where the training has one.
    pub(crate) average: Option<&'a mut Average>,
}

/// Where to continue.
#[derive(Debug)]
pub(crate) struct Resumed {
    pub(crate) progress: Progress,
    /// The tensors of the best epoch; none before the first epoch is finished.
    pub(crate) best: Vec<Tensor>,
    /// The checkpoint of another training, if it is one.
    pub(crate) from: Option<PathBuf>,
}

/// Writes the state of a training, atomically; the checkpoint that was there becomes the previous one.
///
/// # Errors
/// The disk, with the path; the checkpoint that was there is then the previous one.
pub(crate) fn write(
    path: &Path,
    identity: &Identity,
    progress: &Progress,
    params: &Params,
    optimizer: &Optimizer,
    average: &[Tensor],
    best: &[Tensor],
) -> Result<()> {
    let (steps, state) = optimizer.state();
    let metadata = BTreeMap::from([
        ("format", FORMAT.to_owned()),
        ("identity", canonical(&json!(identity))),
        ("optimizer_steps", steps.to_string()),
        ("progress", json!(progress).to_string()),
    ]);
    let mut tensors: Vec<(String, &Tensor)> = Vec::new();
    tensors.extend(params.iter().map(|(name, tensor)| (format!("model.{name}"), tensor)));
    tensors.extend(state.iter().enumerate().map(|(index, tensor)| (format!("optimizer.{index}"), tensor)));
    tensors.extend(params.iter().zip(average).map(|((name, _), tensor)| (format!("ema.{name}"), tensor)));
    tensors.extend(params.iter().zip(best).map(|((name, _), tensor)| (format!("best.{name}"), tensor)));
    if path.exists() {
        fs_err::rename(path, path.with_file_name(PREVIOUS))?;
    }
    write_safetensors(path, tensors.iter().map(|(name, tensor)| (name.as_str(), *tensor)), &metadata)
}

/// Continues the training `identity`, whose epochs have `steps` steps: from the checkpoint `own` if there is one, else
/// from the one before it, else from that of `others` which has the most steps in common with it; `None` if it must start
/// anew.
///
/// Damaged ones of its own are renamed to `*.damaged`, and damaged `others` are ignored.
///
/// # Errors
/// `own` is of another training; the disk.
pub(crate) fn resume(
    own: &Path,
    others: &[PathBuf],
    identity: &Identity,
    steps: usize,
    mut state: State,
) -> Result<Option<Resumed>> {
    for own in [own, &own.with_file_name(PREVIOUS)] {
        if !own.exists() {
            continue;
        }
        match Header::read(own).and_then(|header| header.load_own(identity, steps, &mut state)) {
            Ok(resumed) => return Ok(Some(resumed)),
            Err(error @ (Error::Malformed { .. } | Error::Shape { .. })) => set_aside(own, &error)?,
            Err(error) => return Err(error),
        }
    }
    let mut candidates = Vec::new();
    for path in others.iter().filter(|path| *path != own) {
        match Header::read(path) {
            Ok(header) if header.continues_as(identity, steps) => candidates.push(header),
            Ok(_) => tracing::debug!("{}: checkpoint of another training", path.display()),
            Err(error) => tracing::debug!("no checkpoint to continue from: {error}"),
        }
    }
    candidates.sort_by_key(|header| std::cmp::Reverse(header.progress.done(steps)));
    for header in candidates {
        match header.load(&mut state) {
            Ok(resumed) => return Ok(Some(Resumed { from: Some(header.path), ..resumed })),
            Err(error) => tracing::debug!("no checkpoint to continue from: {error}"),
        }
    }
    Ok(None)
}

fn set_aside(path: &Path, error: &Error) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    fs_err::rename(path, &name)?;
    tracing::warn!("{error}; it is now {}", Path::new(&name).display());
    Ok(())
}

/// The metadata of a checkpoint.
struct Header {
    path: PathBuf,
    identity: Identity,
    progress: Progress,
    optimizer_steps: u64,
}

impl Header {
    fn read(path: &Path) -> Result<Header> {
        let metadata = read_metadata(path)?;
        let format = metadata.get("format").map_or("", String::as_str);
        if format != FORMAT {
            return Err(Error::malformed(path, format!("format {format:?}, expected {FORMAT:?}")));
        }
        if !metadata.contains_key(DIGEST) {
            return Err(Error::malformed(path, format!("no metadata {DIGEST:?}")));
        }
        Ok(Header {
            path: path.to_owned(),
            identity: field(path, &metadata, "identity")?,
            progress: field(path, &metadata, "progress")?,
            optimizer_steps: field(path, &metadata, "optimizer_steps")?,
        })
    }

    /// Whether training `identity` would have come to the same state.
    fn continues_as(&self, identity: &Identity, steps: usize) -> bool {
        let losses = self.progress.validation_losses();
        self.identity.lineage() == identity.lineage()
            && self.progress.is_sound(identity.recipe.epochs, steps)
            && self.identity.recipe.same_rates(&identity.recipe, self.progress.done(steps), steps, &losses)
    }

    fn load_own(&self, identity: &Identity, steps: usize, state: &mut State) -> Result<Resumed> {
        // The file is whole: what it says of itself can be believed.
        let (tensors, _) = read_safetensors(&self.path, state.params.device())?;
        if self.identity.key() != identity.key() {
            let [got, expected] = [&self.identity, identity].map(|identity| canonical(&json!(identity)));
            return Err(Error::ForeignCheckpoint { path: self.path.clone(), got, expected });
        }
        if !self.progress.is_sound(identity.recipe.epochs, steps) {
            return Err(Error::malformed(&self.path, "metadata \"progress\" is not that of such a training"));
        }
        self.restore(tensors, state)
    }

    fn load(&self, state: &mut State) -> Result<Resumed> {
        let (tensors, _) = read_safetensors(&self.path, state.params.device())?;
        self.restore(tensors, state)
    }

    /// Restores model, optimiser and average; where this fails, they are as they were.
    fn restore(&self, tensors: Tensors, State { params, optimizer, average }: &mut State) -> Result<Resumed> {
        let (count, state) = (params.len(), optimizer.state().1.len());
        let averaged = if average.is_some() { count } else { 0 };
        let best = if self.progress.best_epoch > 0 { count } else { 0 };
        let expected = count + state + averaged + best;
        if tensors.len() != expected {
            let reason = format!("expected {expected} tensors, got {}", tensors.len());
            return Err(Error::malformed(&self.path, reason));
        }
        let mut tensors = tensors.into_iter().map(|(_, tensor)| tensor);
        let model: Vec<Tensor> = tensors.by_ref().take(count).collect();
        let state = tensors.by_ref().take(state).collect();
        let averages: Vec<Tensor> = tensors.by_ref().take(averaged).collect();
        let best: Vec<Tensor> = tensors.collect();
        for tensors in [&model, &averages, &best].into_iter().filter(|tensors| !tensors.is_empty()) {
            params.check(tensors)?;
        }
        optimizer.restore(self.optimizer_steps, state)?;
        if let Some(average) = average {
            average.restore(params, averages)?;
        }
        params.replace(model)?;
        Ok(Resumed { progress: self.progress.clone(), best, from: None })
    }
}

fn field<T: DeserializeOwned>(path: &Path, metadata: &HashMap<String, String>, name: &str) -> Result<T> {
    let text = metadata.get(name).map_or("", String::as_str);
    serde_json::from_str(text).map_err(|error| Error::malformed(path, format!("metadata {name:?}: {error}")))
}
