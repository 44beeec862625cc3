//! Weights: ours, ImageNet's, and the pickle inside.

use std::cell::RefCell;
use std::io::Cursor;
use std::path::Path;

use candle_core::{Device, Tensor};
use cxr::{EvalCrop, EvalFrame, Labels, OUTPUTS};
use model::{Novelty, Validation};
use nets::weights::{self, Meta};
use nets::{Backbone, Network, Pool};

use crate::{files, put, scratch};

#[path = "../../nets/tests/import/pickled.rs"]
#[allow(dead_code, reason = "this crate uses a part of what tests share")]
mod pickled;

/// A file of ours, whose own digest is made right.
pub(crate) fn ours(bytes: &[u8]) -> bool {
    let folder = scratch();
    let path = put(folder.path(), "weights.safetensors", &mended(bytes));
    let whole = weights::read(&path, &Device::Cpu);
    if let Ok((tensors, _)) = &whole {
        let elements: usize = tensors.iter().map(|(_, tensor)| tensor.elem_count()).sum();
        assert!(elements <= bytes.len(), "{elements} elements of {} bytes", bytes.len());
        assert!(weights::meta(&path).is_ok());
    }
    let _ = Validation::open(&path);
    let _ = Novelty::open(&path, 2);
    let _ = Network::open(&path, &Device::Cpu);
    whole.is_ok()
}

/// The file with the digest that it should have, where it has one.
fn mended(bytes: &[u8]) -> Vec<u8> {
    const BEFORE: &[u8] = b"\"agcnn.blake3\":\"";
    let mut bytes = bytes.to_vec();
    let at = bytes.windows(BEFORE.len()).position(|window| window == BEFORE).map(|at| at + BEFORE.len());
    if let Some(at) = at
        && at + 64 <= bytes.len()
    {
        bytes[at..at + 64].fill(b'0');
        let digest = model::folder::digest(&put(scratch().path(), "bytes", &bytes)).expect("a file has a digest");
        bytes[at..at + 64].copy_from_slice(digest.as_bytes());
    }
    bytes
}

thread_local! {
    /// What imported weights are meant for.
    static NETWORK: RefCell<Network> =
        RefCell::new(Network::new(Backbone::Mini, Pool::Max, 1, &Device::Cpu).expect("a network"));
}

/// Weights of torchvision or timm, in any of their formats; right where nothing is wrong but that they are another network's.
pub(crate) fn imported(bytes: &[u8]) -> bool {
    let folder = scratch();
    let path = put(folder.path(), "weights.safetensors", &mended(bytes));
    let loaded = NETWORK.with_borrow_mut(|network| network.load_imagenet(&path));
    loaded.is_ok() || matches!(loaded, Err(nets::Error::Keys { .. }))
}

/// The pickle of a file as `torch.save` writes it; checksums of zip would hide it.
pub(crate) fn pickle(bytes: &[u8]) -> bool {
    imported(&zipped(bytes))
}

fn zipped(pickle: &[u8]) -> Vec<u8> {
    let storage: Vec<u8> = (0..32_u8).flat_map(|value| f32::from(value).to_le_bytes()).collect();
    let entries = [("data.pkl", pickle), ("byteorder", b"little"), ("data/0", &storage), ("data/1", &storage)];
    pickled::zipped(entries.into_iter().map(|(name, data)| (name.to_owned(), data)), false)
}

/// Two tensors of the network that imports are meant for, and two things that are none.
fn state() -> pickled::Py {
    let tensor = || pickled::Py::Tensor(vec![32], vec![0.5; 32]);
    let state = pickled::dict([("module.bn1.weight", tensor()), ("module.bn1.running_var", tensor())]);
    pickled::dict([
        ("epoch", pickled::Py::Int(3)),
        ("state_dict", state),
        ("name", pickled::Py::Text("mini".to_owned())),
    ])
}

/// The fixtures of imports.
fn fixtures() -> Vec<(String, Vec<u8>)> {
    let mut fixtures = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../nets/tests/import"));
    fixtures.retain(|(name, _)| name.ends_with(".pth") || name.ends_with(".safetensors"));
    fixtures
}

pub(crate) fn ours_seeds() -> Vec<Vec<u8>> {
    let folder = scratch();
    let mut seeds = Vec::new();
    let tensor = |shape: &[usize]| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| i as f32 / 7.0).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor")
    };
    let frame = EvalFrame { crop: EvalCrop::Centre, image_px: 8, input_px: 7 };
    let tensors = [("fc.weight".to_owned(), tensor(&[OUTPUTS, 2])), ("fc.bias".to_owned(), tensor(&[OUTPUTS]))];
    for (backbone, frame) in [("fusion", None), ("mini", Some(frame))] {
        let meta = Meta { backbone: backbone.to_owned(), pool: String::new(), frame, tta: cxr::Tta::None };
        let path = folder.path().join(backbone);
        weights::write(&path, &tensors, &meta).expect("a temporary file can be written");
        seeds.push(fs_err::read(path).expect("a temporary file can be read"));
    }
    let path = folder.path().join("validation");
    let logits = vec![[0.5; OUTPUTS], [-0.5; OUTPUTS]];
    let validation = Validation {
        logits: [logits.clone(), logits.clone(), logits],
        labels: vec![Labels::default(), Labels::UNKNOWN],
    };
    validation.write(&path).expect("a temporary file can be written");
    seeds.push(fs_err::read(path).expect("a temporary file can be read"));
    seeds
}

pub(crate) fn imported_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = fixtures().into_iter().map(|(_, bytes)| bytes).collect();
    seeds.extend([pickled::saved(&state(), false), pickled::saved(&state(), true)]);
    let folder = scratch();
    let meta = Meta { backbone: "mini".to_owned(), pool: String::new(), frame: None, tta: cxr::Tta::None };
    let tensor = Tensor::ones(32, candle_core::DType::F32, &Device::Cpu).expect("a tensor");
    weights::write(&folder.path().join("ours"), &[("bn1.weight".to_owned(), tensor)], &meta).expect("a file");
    seeds.push(fs_err::read(folder.path().join("ours")).expect("a file"));
    seeds.extend(pickle_seeds().iter().map(|pickle| zipped(pickle)));
    seeds
}

pub(crate) fn pickle_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let saved = fixtures().into_iter().map(|(_, bytes)| bytes).chain([pickled::saved(&state(), false)]);
    for bytes in saved.filter(|bytes| bytes.starts_with(b"PK")) {
        let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).expect("a fixture is a zip file");
        let name = zip
            .file_names()
            .filter_map(|name| name.ok().map(|name| name.into_owned()))
            .find(|name| name.ends_with("data.pkl"));
        let mut pickle = Vec::new();
        let mut entry = zip.by_name(&name.expect("a fixture has a pickle")).expect("a fixture has a pickle");
        std::io::copy(&mut entry, &mut pickle).expect("a fixture is whole");
        seeds.push(pickle);
    }
    seeds
}
