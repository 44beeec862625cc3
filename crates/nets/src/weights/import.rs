//! Weights of torchvision and timm, as people have them.
//!
//! | file | read by |
//! |---|---|
//! | safetensors | the crate `safetensors` |
//! | a zip of a pickle and its storages (PyTorch since 1.6), compressed or not | `pth.rs` |
//! | pickles followed by storages (before; torchvision's DenseNet-121 still is) | `pth.rs` |
//!
//! The first bytes tell the kind (`sniff.rs`), not the name. The network's names tell which tensors are meant
//! (`choose.rs`): a state_dict may lie in a checkpoint, beside an optimiser, and its names may have something in front. A
//! pickle is a program; `pickle.rs` runs it on a machine that can make tensors and nothing else, so a hostile file gets an
//! error, not a shell.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;

use candle_core::{Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use tracing::{info, warn};

use crate::error::{Error, Result};
use crate::weights::choose::{Choice, Table, choices, today};
use crate::weights::matched;
use crate::weights::pth;
use crate::weights::safetensors::{MAX_FILE, floats, own_digest};
use crate::weights::sniff::{Kind, kind};
use crate::weights::words::{brief, sample};

/// A network that weights are wanted for.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// Its name, for messages.
    pub(crate) backbone: &'a str,
    /// Names and shapes as files have them, OIHW: one list for each program that calls them in its own way. That which has
    /// most of its names in a file is meant.
    pub(crate) layouts: Vec<Vec<(String, Vec<usize>)>>,
    /// Names of the head, which may be there or not.
    pub(crate) ignored: fn(&str) -> bool,
}

/// Reads the wanted tensors, f32: which of the layouts the file has, and they in its order.
///
/// f16, bf16 and f64 become f32. `num_batches_tracked` is left out: nothing here uses it. What is in front of every name
/// (`module.`, `model.`, `_orig_mod.`, …) is dropped, tensors without it are left, and the `norm.1` of DenseNets before
/// 2018 becomes `norm1`, as in torchvision's own loader; the log says so.
///
/// # Errors
/// The disk; a file that is no weights file, cut short or damaged; tensors that are missing, unknown, of another shape or
/// not finite.
pub(crate) fn read(path: &Path, wanted: &Wanted) -> Result<(usize, Vec<Tensor>)> {
    let kind = kind(path)?;
    let bytes = guard::read(path, MAX_FILE)?;
    let malformed = |reason: String| Error::malformed(path, reason);
    match kind {
        Kind::Safetensors => {
            own_digest(path, &bytes)?;
            let file = SafeTensors::deserialize(&bytes)
                .map_err(|error| malformed(format!("no whole safetensors file: {error}")))?;
            let views = file.tensors();
            let floats_only = |dtype| matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64);
            let views: Vec<_> = views.iter().filter(|(_, view)| floats_only(view.dtype())).collect();
            let tensors = views.iter().map(|(name, view)| (Cow::Borrowed(name.as_str()), view.shape().to_vec()));
            let table = Table { place: String::new(), tensors: tensors.collect() };
            take(path, wanted, &[table], &[], |_, index| {
                let (name, view) = views[index];
                let values = floats(view.data(), &format!("{:?}", view.dtype()));
                let values = values.map_err(|reason| malformed(format!("{name}: {reason}")))?.unwrap_or_default();
                Ok(Tensor::from_vec(values, view.shape(), &Device::Cpu)?)
            })
        }
        Kind::Zip | Kind::Legacy(_) | Kind::Pickle => {
            let mut taken = None;
            let read = pth::open(&bytes, kind, |tables, foreign, load| {
                let load = |table, index| load(table, index).map_err(malformed);
                taken = Some(take(path, wanted, tables, foreign, load));
            });
            match (read, taken) {
                (Ok(()), Some(taken)) => taken,
                (Err(reason), _) => Err(malformed(reason)),
                (Ok(()), None) => Err(malformed("no tensors".to_owned())),
            }
        }
    }
}

/// The wanted tensors out of all that a file has; `foreign` are some of the classes that it names.
fn take(
    path: &Path,
    wanted: &Wanted,
    tables: &[Table],
    foreign: &[String],
    mut load: impl FnMut(usize, usize) -> Result<Tensor>,
) -> Result<(usize, Vec<Tensor>)> {
    let mut best: (usize, Vec<Choice>) = (0, Vec::new());
    for (index, layout) in wanted.layouts.iter().enumerate() {
        let expected: HashSet<&str> = layout.iter().map(|(name, _)| name.as_str()).collect();
        let choices = choices(tables, &expected);
        let count = |choices: &[Choice]| choices.first().map_or(0, |choice| choice.count);
        if count(&choices) > count(&best.1) {
            best = (index, choices);
        }
    }
    let (layout, choices) = best;
    let Some(choice) = choices.first() else {
        return Err(nothing(path, wanted, tables, foreign));
    };
    say(path, tables, choice, &choices[1..]);
    let table = &tables[choice.table];
    let mut given = Vec::new();
    let mut beside = Vec::new();
    for (index, (name, shape)) in table.tensors.iter().enumerate() {
        match name.strip_prefix(&*choice.prefix) {
            None => beside.push(&**name),
            Some(name) if name.ends_with("num_batches_tracked") || (wanted.ignored)(name) => {}
            Some(name) => given.push((today(name), shape.as_slice(), index)),
        }
    }
    if !beside.is_empty() {
        let names = sample(beside.iter().copied());
        info!("{}: {} tensors without that prefix are not taken: {names}", path.display(), beside.len());
    }
    let names: Vec<(&str, &[usize])> = given.iter().map(|(name, shape, _)| (&**name, *shape)).collect();
    let wants = wanted.layouts[layout].iter().map(|(name, shape)| (name.as_str(), shape.clone()));
    let taken = matched((path, wanted.backbone), wants, &names, true, |at| load(choice.table, given[at].2))?;
    Ok((layout, taken))
}

/// Says which tensors of a file were taken, where it is not simply all of them.
fn say(path: &Path, tables: &[Table], choice: &Choice, others: &[Choice]) {
    let path = path.display();
    let place = |choice: &Choice| match (&*tables[choice.table].place, &*choice.prefix) {
        ("", prefix) => format!("the names that begin with {:?}", brief(prefix)),
        (place, "") => format!("{place:?}"),
        (place, prefix) => format!("the names in {place:?} that begin with {:?}", brief(prefix)),
    };
    if !choice.prefix.is_empty() {
        info!("{path}: the prefix {:?} of its tensors' names is dropped", brief(&choice.prefix));
    }
    if !tables[choice.table].place.is_empty() {
        let average = if choice.averages { ", averages of weights (EMA)" } else { "" };
        info!("{path}: the tensors in {:?} are taken{average}", tables[choice.table].place);
    }
    for other in others.iter().filter(|other| other.count == choice.count) {
        match (other.averages, choice.averages) {
            (true, false) => info!("{path}: {} are averages of weights (EMA), which are not taken", place(other)),
            _ => warn!("{path}: {} would fit as well; the first in the file are taken", place(other)),
        }
    }
}

/// The error of a file without any tensor of the network's.
fn nothing(path: &Path, wanted: &Wanted, tables: &[Table], foreign: &[String]) -> Error {
    let names = || tables.iter().flat_map(|table| table.tensors.iter().map(|(name, _)| &**name));
    let each = wanted.layouts.iter().map(|layout| sample(layout.iter().map(|(name, _)| name.as_str())));
    let expected = each.collect::<Vec<_>>().join("; or ");
    let classes = match foreign {
        [] => String::new(),
        names => format!("; it names {}, which is not run", names.join(", ")),
    };
    let problems = match names().count() {
        0 => format!("there is no dict of tensors by name in it{classes}; expected {expected}"),
        count => format!(
            "none of its {count} tensors has a name of that network; the file has {}; expected {expected}",
            sample(names())
        ),
    };
    Error::Keys { path: path.to_owned(), backbone: wanted.backbone.to_owned(), problems }
}
