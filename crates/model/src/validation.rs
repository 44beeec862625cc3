//! The validation images in short: what was said of each, and what it shows. Everything that is chosen follows from them.

use std::path::Path;

use candle_core::{Device, Tensor};
use cxr::{Branch, Finding, Labels, OUTPUTS, Tta};
use nets::weights::{self, Meta};

use crate::error::Error;

/// Logits and labels of the validation images.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Validation {
    /// By branch, in the order of [`Branch::ALL`], then by image.
    pub logits: [Vec<[f32; OUTPUTS]>; 3],
    /// By image.
    pub labels: Vec<Labels>,
}

impl Validation {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// One branch's logits.
    pub fn of(&self, branch: Branch) -> &[[f32; OUTPUTS]] {
        &self.logits[branch as usize]
    }

    /// Writes them as a weights file of ours: `logits.<branch> [N, 15]`, and `labels [N, 14]`: 1 present, 0 absent, -1
    /// unknown.
    ///
    /// # Errors
    /// The disk, with the path.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let mut tensors = Vec::new();
        for branch in Branch::ALL {
            let shape = (self.len(), OUTPUTS);
            let tensor = Tensor::from_slice(self.of(branch).as_flattened(), shape, &Device::Cpu)?;
            tensors.push((format!("logits.{branch}"), tensor));
        }
        let labels: Vec<f32> =
            self.labels.iter().flat_map(|labels| Finding::ALL.map(|f| code(labels.get(f)))).collect();
        tensors.push(("labels".to_owned(), Tensor::from_vec(labels, (self.len(), Finding::COUNT), &Device::Cpu)?));
        Ok(weights::write(
            path,
            &tensors,
            &Meta { backbone: KIND.to_owned(), pool: String::new(), frame: None, tta: Tta::None },
        )?)
    }

    /// Reads what [`Validation::write`] wrote.
    ///
    /// # Errors
    /// A file that is damaged or none of that kind; numbers that are not finite.
    pub fn open(path: &Path) -> Result<Validation, Error> {
        let (tensors, meta) = weights::read(path, &Device::Cpu)?;
        let foreign = |what: &str, expected: &str, got: String| Error::Foreign {
            path: path.to_owned(),
            what: what.to_owned(),
            expected: expected.to_owned(),
            got,
        };
        if meta.backbone != KIND {
            return Err(foreign("content", KIND, meta.backbone));
        }
        let take = |name: &str, width: usize| -> Result<Vec<f32>, Error> {
            let found = tensors.iter().find(|(found, _)| found == name).map(|(_, tensor)| tensor);
            let expected = format!("finite numbers [N, {width}]");
            let tensor = found.ok_or_else(|| foreign(name, &expected, "none".to_owned()))?;
            match *tensor.dims() {
                [_, got] if got == width => {}
                ref got => return Err(foreign(name, &expected, format!("{got:?}"))),
            }
            let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
            match values.iter().find(|value| !value.is_finite()) {
                Some(value) => Err(foreign(name, &expected, value.to_string())),
                None => Ok(values),
            }
        };
        let codes = take("labels", Finding::COUNT)?;
        let labels: Vec<Labels> = codes.as_chunks::<{ Finding::COUNT }>().0.iter().map(labels).collect();
        let mut logits: [Vec<[f32; OUTPUTS]>; 3] = Default::default();
        for branch in Branch::ALL {
            let name = format!("logits.{branch}");
            let rows = take(&name, OUTPUTS)?.as_chunks().0.to_vec();
            if rows.len() != labels.len() {
                return Err(foreign(&name, &format!("{} rows, one per label", labels.len()), rows.len().to_string()));
            }
            logits[branch as usize] = rows;
        }
        Ok(Validation { logits, labels })
    }
}

/// What stands for the backbone in the file's metadata.
const KIND: &str = "validation";

fn code(shown: Option<bool>) -> f32 {
    match shown {
        Some(true) => 1.0,
        Some(false) => 0.0,
        None => -1.0,
    }
}

fn labels(codes: &[f32; Finding::COUNT]) -> Labels {
    let mut labels = Labels::default();
    for (finding, &code) in Finding::ALL.into_iter().zip(codes) {
        labels.set(finding, if code < 0.0 { None } else { Some(code > 0.5) });
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_survives_its_file() {
        let mut partly = Labels::parse("Mass").unwrap();
        partly.set(Finding::Hernia, None);
        let rows = |shift: f32| vec![[shift; OUTPUTS], [-shift; OUTPUTS]];
        let validation =
            Validation { logits: [rows(1.0), rows(2.0), rows(3.0)], labels: vec![Labels::default(), partly] };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("validation.safetensors");
        validation.write(&path).unwrap();
        assert_eq!(Validation::open(&path).unwrap(), validation);
        let short = Validation { labels: validation.labels[..1].to_vec(), ..validation };
        assert!(short.write(&path).is_err() || Validation::open(&path).is_err());
    }
}
