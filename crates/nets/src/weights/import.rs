//! ImageNet weights of torchvision and timm.
//!
//! | file | read by |
//! |---|---|
//! | `.safetensors` | the crate `safetensors` |
//! | `.pth`, a zip of a pickle and its storages (PyTorch since 1.6) | `pth.rs` |
//! | `.pth`, pickles followed by storages (before; torchvision's DenseNet-121 still is) | `pth.rs` |
//!
//! The first bytes tell the kind, not the name. A pickle is a program; `pickle.rs` runs it on a machine that can make
//! tensors and nothing else, so a hostile file gets an error, not a shell.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};
use crate::weights::pth;
use crate::weights::safetensors::{MAX_FILE, Tensors, read_safetensors};

/// The number of problems that an error names; it counts the rest.
const NAMED: usize = 10;

/// Reads an ImageNet file of torchvision or timm: f32 tensors by torchvision's names, OIHW, in the order of the file.
///
/// f16, bf16 and f64 become f32. `num_batches_tracked` is left out: nothing here uses it. The `module.` of a model saved
/// inside `DataParallel` is dropped, and the `norm.1` of DenseNets before 2018 becomes `norm1`, as in torchvision's own
/// loader.
///
/// # Errors
/// The disk; a file that is neither safetensors nor PyTorch's, cut short or damaged; a pickle that calls for anything
/// but tensors.
pub fn read(path: &Path) -> Result<Tensors> {
    let mut start = Vec::with_capacity(pth::SNIFF);
    guard::open(path)?.take(pth::SNIFF as u64).read_to_end(&mut start)?;
    let tensors = if pth::is_pth(&start) {
        let bytes = guard::read(path, MAX_FILE)?;
        pth::read(&bytes).map_err(|reason| Error::malformed(path, reason))?
    } else if path.extension().is_some_and(|extension| extension == "safetensors") {
        read_safetensors(path, &Device::Cpu)?.0
    } else {
        return Err(Error::malformed(path, "neither a PyTorch file nor named .safetensors"));
    };
    let parallel = !tensors.is_empty() && tensors.iter().all(|(name, _)| name.starts_with("module."));
    let tensors = tensors.into_iter().filter_map(|(name, tensor)| {
        let name = if parallel { &name["module.".len()..] } else { &name };
        (!name.ends_with(".num_batches_tracked")).then(|| (today(name), tensor))
    });
    Ok(tensors.collect())
}

/// The name that a tensor of an old DenseNet file has today: `…denselayer1.norm.1.weight` is `…denselayer1.norm1.weight`.
fn today(name: &str) -> String {
    if let Some((layer, field)) = name.split_once(".denselayer") {
        for (old, new) in [(".norm.", ".norm"), (".conv.", ".conv")] {
            if let Some((number, rest)) = field.split_once(old) {
                return format!("{layer}.denselayer{number}{new}{rest}");
            }
        }
    }
    name.to_owned()
}

/// The tensors of a file in the order of `layout`, names and shapes as on disk, every one checked.
///
/// Tensors whose name is `ignored` may be there or not.
///
/// # Errors
/// [`Error::Keys`] with the first ten problems and their number: tensors that are missing, unknown, there twice, of
/// another shape, not finite, or a negative variance.
pub(crate) fn matched<'a>(
    path: &Path,
    backbone: &str,
    layout: impl Iterator<Item = (&'a str, Vec<usize>)>,
    tensors: Tensors,
    ignored: impl Fn(&str) -> bool,
) -> Result<Vec<Tensor>> {
    let mut problems = Vec::new();
    let mut given = HashMap::new();
    let mut order = Vec::new();
    for (name, tensor) in tensors.into_iter().filter(|(name, _)| !ignored(name)) {
        if given.insert(name.clone(), tensor).is_some() {
            problems.push(format!("{name} is there twice"));
        }
        order.push(name);
    }
    let mut taken = Vec::new();
    for (name, shape) in layout {
        let Some(tensor) = given.remove(name) else {
            problems.push(format!("{name} is missing"));
            continue;
        };
        if tensor.dims() != shape {
            problems.push(format!("{name} is {:?}, expected {shape:?}", tensor.dims()));
            continue;
        }
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let bad = values.iter().filter(|value| !value.is_finite()).count();
        if bad > 0 {
            problems.push(format!("{name} has {bad} of {} values that are not finite", values.len()));
        } else if name.ends_with(".running_var") && values.iter().any(|&value| value < 0.0) {
            problems.push(format!("{name} has a negative variance"));
        }
        taken.push(tensor);
    }
    let mut seen = HashSet::new();
    let unknown = order.into_iter().filter(|name| given.contains_key(name) && seen.insert(name.clone()));
    problems.extend(unknown.map(|name| format!("{name} is unknown")));
    if problems.is_empty() {
        return Ok(taken);
    }
    let mut text = problems[..problems.len().min(NAMED)].join("; ");
    if problems.len() > NAMED {
        text += &format!("; … ({} problems)", problems.len());
    }
    Err(Error::Keys { path: path.to_owned(), backbone: backbone.to_owned(), problems: text })
}
