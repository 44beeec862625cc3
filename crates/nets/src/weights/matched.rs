//! Tensors against a network's layout, every one checked.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};
use crate::weights::words::{brief, sample};

/// The number of problems that an error names; it counts the rest.
const NAMED: usize = 10;

/// The tensors of a file in the order of `layout`, names and shapes as on disk, every one checked.
///
/// `given` are the names and shapes that the file has; `load` reads one of them, by its index, and only if name and shape
/// are right. A grey picture's network (see [`of_one_channel`]) has the shape `[C, 1, k, k]` for `[C, 3, k, k]`, where
/// `grey` allows it.
///
/// # Errors
/// [`Error::Keys`] with the first ten problems and their number: tensors that are missing, unknown, there twice, of
/// another shape, not finite, or a negative variance. Where names differ, it shows some of both sides.
pub(crate) fn matched<'a>(
    (path, backbone): (&Path, &str),
    layout: impl Iterator<Item = (&'a str, Vec<usize>)>,
    given: &[(&str, &[usize])],
    grey: bool,
    mut load: impl FnMut(usize) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let mut problems = Vec::new();
    let mut at = HashMap::new();
    for (index, (name, _)) in given.iter().enumerate() {
        if at.insert(*name, index).is_some() {
            problems.push(format!("{} is there twice", brief(name)));
        }
    }
    let mut taken = Vec::new();
    let mut missing = Vec::new();
    for (name, shape) in layout {
        let Some(index) = at.remove(name) else {
            problems.push(format!("{name} is missing"));
            missing.push(name);
            continue;
        };
        let got = given[index].1;
        let widen = grey && matches!((got, &shape[..]), ([a, 1, b, c], [x, 3, y, z]) if (a, b, c) == (x, y, z));
        if got != shape && !widen {
            problems.push(format!("{name} is {got:?}, expected {shape:?}"));
            continue;
        }
        let tensor = load(index)?;
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let bad = values.iter().filter(|value| !value.is_finite()).count();
        if bad > 0 {
            problems.push(format!("{name} has {bad} of {} values that are not finite", values.len()));
        } else if name.ends_with(".running_var") && values.iter().any(|&value| value < 0.0) {
            problems.push(format!("{name} has a negative variance"));
        }
        if widen {
            tracing::info!(
                "{}: {name} has one channel; each of the network's three equal ones gets a third of it",
                path.display()
            );
        }
        taken.push(if widen { of_one_channel(&values, &shape)? } else { tensor });
    }
    let mut seen = HashSet::new();
    let unknown: Vec<&str> =
        given.iter().map(|&(name, _)| name).filter(|name| at.contains_key(name) && seen.insert(*name)).collect();
    problems.extend(unknown.iter().map(|name| format!("{} is unknown", brief(name))));
    if problems.is_empty() {
        return Ok(taken);
    }
    let mut text = problems[..problems.len().min(NAMED)].join("; ");
    if problems.len() > NAMED {
        text += &format!("; … ({} problems)", problems.len());
        if !missing.is_empty() {
            text += &format!(
                "; the file has {}; expected {}",
                sample(given.iter().map(|&(name, _)| name)),
                sample(missing.into_iter())
            );
        }
    }
    Err(Error::Keys { path: path.to_owned(), backbone: backbone.to_owned(), problems: text })
}

/// A convolution of one grey channel, `[C, 1, k, k]`, as one of three, `[C, 3, k, k]`: a third of it each.
///
/// A grey image `g` comes to us as three channels `(g - m_c) / s_c`. Their convolution with a third of `w` each is that of
/// `w` with `(g - M) / S`, where `1 / S` is the mean of `1 / s_c` and `M / S` that of `m_c / s_c`: for ImageNet's numbers,
/// one channel of mean 0.4488 and deviation 0.2260. timm's networks of one channel (`in_chans=1`) expect 0.449 and 0.226.
/// A network that was trained on another range (torchxrayvision: -1024 to 1024) starts with statistics of its first batch
/// norm that do not fit.
fn of_one_channel(weight: &[f32], shape: &[usize]) -> Result<Tensor> {
    let third: Vec<f32> = weight.iter().map(|value| value / 3.0).collect();
    let kernel = shape[2] * shape[3];
    let three = third.chunks(kernel).flat_map(|kernel| [kernel; 3].concat()).collect();
    Ok(Tensor::from_vec(three, shape, &Device::Cpu)?)
}
