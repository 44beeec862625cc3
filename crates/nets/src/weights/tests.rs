use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use tempfile::TempDir;

mod hostile;
mod people;
#[path = "../../tests/import/pickled.rs"]
mod pickled;

use crate::error::{Error, Result};
use crate::models::backbone::{Backbone, Pool};
use crate::models::network::Network;
use crate::weights::import::{Wanted, read};
use crate::weights::{Meta, file, matched};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(name)
}

/// The tensors that `make.py` writes, by today's names.
fn weights() -> Vec<(&'static str, Vec<usize>, f32)> {
    vec![
        ("conv1.weight", vec![2, 3, 1, 2], -1.0),
        ("bn1.running_mean", vec![2], 5.0),
        ("features.denseblock1.denselayer1.norm1.weight", vec![3], 0.0),
        ("features.denseblock1.denselayer12.conv2.weight", vec![1, 2, 1, 1], 0.0),
    ]
}

fn layout() -> Vec<(&'static str, Vec<usize>)> {
    weights().into_iter().map(|(name, shape, _)| (name, shape)).collect()
}

fn ramp(count: usize, start: f32) -> Vec<f32> {
    (0..count).map(|index| start + index as f32 / 4.0).collect()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Reads tensors of these names and shapes.
fn take(path: &Path, layout: &[(&str, Vec<usize>)]) -> Result<Vec<Tensor>> {
    let layout = layout.iter().map(|(name, shape)| ((*name).to_owned(), shape.clone())).collect();
    let wanted = Wanted { backbone: "mini", layouts: vec![layout], ignored: |name| name.starts_with("fc.") };
    read(path, &wanted).map(|(_, tensors)| tensors)
}

/// Reads `w`, of four elements, of `bytes` under a name.
fn read_bytes(name: &str, bytes: &[u8]) -> Result<Vec<Tensor>> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    fs_err::write(&path, bytes).unwrap();
    take(&path, &[("w", vec![4])])
}

fn refusal(name: &str, bytes: &[u8]) -> String {
    match read_bytes(name, bytes) {
        Err(Error::Malformed { reason, .. }) => reason,
        Err(Error::Keys { problems, .. }) => problems,
        Err(Error::NotWeights { what, .. }) => what,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn every_kind_of_file_has_the_same_tensors() {
    for name in ["zip.pth", "legacy.pth", "plain.safetensors", "checkpoint.pth", "mixed.safetensors"] {
        let got = take(&fixture(name), &layout()).unwrap();
        for (tensor, (expected, shape, start)) in got.iter().zip(&weights()) {
            assert_eq!(tensor.dims(), shape, "{name} {expected}");
            assert_eq!(tensor.dtype(), DType::F32);
            assert_eq!(values(tensor), ramp(tensor.elem_count(), *start), "{name} {expected}");
        }
    }
}

#[test]
fn views_are_gathered() {
    let names = ["tied", "transposed", "slice", "channels_last"];
    let shapes = [vec![4, 3], vec![3, 4], vec![2, 2], vec![2, 3, 2, 2]];
    let layout: Vec<_> = names.into_iter().zip(shapes).collect();
    let got: HashMap<_, _> = names.into_iter().zip(take(&fixture("views.pth"), &layout).unwrap()).collect();
    let whole = Tensor::from_vec(ramp(12, 0.0), (4, 3), &Device::Cpu).unwrap();
    assert_eq!(values(&got["tied"]), values(&whole));
    assert_eq!(values(&got["transposed"]), values(&whole.t().unwrap()));
    assert_eq!(values(&got["slice"]), [1.0, 1.25, 1.75, 2.0]);
    assert_eq!(values(&got["channels_last"]), ramp(24, 0.0));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for name in ["zip.pth", "legacy.pth", "plain.safetensors"] {
        let bytes = fs_err::read(fixture(name)).unwrap();
        for length in 0..bytes.len() {
            let reason = refusal(name, &bytes[..length]);
            assert!(!reason.contains("missing"), "{name} cut to {length} bytes: {reason}");
        }
    }
}

/// A zip as `torch.save` writes it.
fn pth(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("archive/data.pkl", stored).unwrap();
    zip.write_all(pickle).unwrap();
    for (key, data) in storages {
        zip.start_file(format!("archive/data/{key}"), stored).unwrap();
        zip.write_all(data).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A pickle of `{"w": tensor}` with a storage `0` of `count` elements, shape and stride as pickled tuples.
fn tensor(count: &[u8], shape: &[u8], stride: &[u8]) -> Vec<u8> {
    let mut pickle =
        b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n".to_vec();
    pickle.extend(b"X\x01\0\0\x000X\x03\0\0\0cpu");
    pickle.extend(count);
    pickle.extend(b"tQK\0");
    pickle.extend(shape);
    pickle.extend(stride);
    pickle.extend(b"\x89}tRs.");
    pickle
}

#[test]
fn a_file_that_claims_more_than_it_has_is_refused() {
    let four = [0; 16];
    let fine = pth(&tensor(b"K\x04", b"K\x04\x85", b"K\x01\x85"), &[("0", &four)]);
    assert_eq!(read_bytes("model.pth", &fine).unwrap()[0].dims(), [4]);

    let huge = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"; // i64::MAX
    let square = [b"(".as_slice(), huge, huge, b"t"].concat();
    let zero = [b"(".as_slice(), huge, huge, b"K\0t"].concat();
    for (what, pickle) in [
        ("storage larger than its data", tensor(b"K\x05", b"K\x04\x85", b"K\x01\x85")),
        ("storage of all memory", tensor(huge, b"K\x04\x85", b"K\x01\x85")),
        ("shape beyond the storage", tensor(b"K\x04", b"K\x05\x85", b"K\x01\x85")),
        ("shape expanded", tensor(b"K\x04", b"K\x05\x85", b"K\0\x85")),
        ("stride beyond the storage", tensor(b"K\x04", b"K\x02\x85", b"K\x04\x85")),
        ("negative size", tensor(b"K\x04", b"J\xff\xff\xff\xff\x85", b"K\x01\x85")),
        ("product overflows", tensor(b"K\x04", &square, b"K\0K\0\x86")),
        ("product overflows before a zero", tensor(b"K\x04", &zero, b"K\0K\0K\0\x87")),
        ("empty", tensor(b"K\x04", b"K\0\x85", b"K\x01\x85")),
        ("ranks differ", tensor(b"K\x04", b"K\x04\x85", b")")),
    ] {
        let reason = refusal("model.pth", &pth(&pickle, &[("0", &four)]));
        assert!(!reason.is_empty(), "{what}");
    }

    // a text of 4 GiB, a call without arguments, a stack that is empty, a dict with a loose key, no end
    for pickle in [
        b"X\xff\xff\xff\xff".as_slice(),
        b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"R.",
        b"0.",
        b".",
        b"}(K\x01u.",
        b"h\x07.",
        b"}",
        b"\x8a\xff",
    ] {
        refusal("model.pth", &pth(pickle, &[]));
    }

    // the same for safetensors
    let header = |json: &str| [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &four].concat();
    for bytes in [
        u64::MAX.to_le_bytes().to_vec(),
        header(r#"{"w":{"dtype":"F32","shape":[5],"data_offsets":[0,16]}}"#),
        header(r#"{"w":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,16]}}"#),
        header(r#"{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,99999999999999]}}"#),
        header(r#"{"w":{"dtype":"F8_E4M3","shape":[16],"data_offsets":[0,16]}}"#),
    ] {
        refusal("model.safetensors", &bytes);
    }
}

#[test]
fn every_key_is_checked() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("mini.safetensors");
    let source = Network::new(Backbone::Mini, Pool::Max, 1, &Device::Cpu).unwrap();
    source.save(&path, None).unwrap();
    let mut network = Network::new(Backbone::Mini, Pool::Max, 2, &Device::Cpu).unwrap();
    network.load_imagenet(&path).unwrap();
    for ((name, got), (_, expected)) in network.trained().unwrap().iter().zip(&source.trained().unwrap()) {
        assert_eq!(values(got) == values(expected), !name.starts_with("fc."), "{name}");
    }

    let layout = || [("a.weight", vec![2]), ("b.running_var", vec![2]), ("c", vec![2])].into_iter();
    let given = |tensors: &[(&str, &[f32])]| {
        let shapes: Vec<[usize; 1]> = tensors.iter().map(|(_, values)| [values.len()]).collect();
        let given: Vec<_> = tensors.iter().zip(&shapes).map(|((name, _), shape)| (*name, &shape[..])).collect();
        let load = |at: usize| Ok(Tensor::from_slice(tensors[at].1, shapes[at][0], &Device::Cpu)?);
        matched((&path, "mini"), layout(), &given, false, load)
    };
    let order = [("c", [3.0, 3.0].as_slice()), ("a.weight", &[1.0, 1.0]), ("b.running_var", &[2.0, 0.0])];
    let taken = given(&order).unwrap();
    assert_eq!(taken.iter().map(values).collect::<Vec<_>>(), [[1.0, 1.0], [2.0, 0.0], [3.0, 3.0]]);

    let problems = |tensors: &[(&str, &[f32])]| match given(tensors) {
        Err(Error::Keys { problems, .. }) => problems,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        problems(&[("a.weight", &[f32::NAN, 1.0]), ("b.running_var", &[1.0, -1.0]), ("x", &[]), ("x", &[])]),
        "x is there twice; a.weight has 1 of 2 values that are not finite; b.running_var has a negative variance; \
         c is missing; x is unknown"
    );
    assert_eq!(
        problems(&[("a.weight", &[1.0]), ("b.running_var", &[1.0, 1.0]), ("c", &[1.0, 1.0])]),
        "a.weight is [1], expected [2]"
    );
    let many: Vec<_> = (0..20).map(|index| format!("x{index}")).collect();
    let many: Vec<(&str, &[f32])> = many.iter().map(|name| (name.as_str(), [].as_slice())).collect();
    let text = problems(&many);
    let end = "x6 is unknown; … (23 problems); the file has x0, x1, x2, x3, x4, …; expected a.weight, b.running_var, c";
    assert!(text.starts_with("a.weight is missing; ") && text.ends_with(end), "{text}");
}

#[test]
fn the_frame_is_kept_and_old_files_have_none() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    let frame = cxr::EvalFrame { crop: cxr::EvalCrop::Centre, image_px: 256, input_px: 224 };
    let tensors = [("fc.bias".to_owned(), Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap())];
    for frame in [Some(frame), None] {
        let meta = Meta { backbone: "mini".to_owned(), pool: "max".to_owned(), frame, tta: cxr::Tta::None };
        file::write(&path, &tensors, &meta).unwrap();
        assert_eq!(file::read(&path, &Device::Cpu).unwrap().1, meta);
    }
    // Version 1 had a key, and no frame; versions 1 and 2 had no digest; version 5 does not exist yet. Texts of equal
    // length keep the header's length.
    let bytes = fs_err::read(&path).unwrap();
    let replaced = |bytes: &[u8], from: &str, to: &str| {
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
    };
    let changed = |version: u32| {
        let bytes = replaced(&bytes, r#""agcnn.blake3":"#, r#""other.blake3":"#);
        let bytes = replaced(&bytes, r#""agcnn.version":"3""#, &format!(r#""agcnn.version":"{version}""#));
        fs_err::write(&path, bytes).unwrap();
        file::read(&path, &Device::Cpu)
    };
    assert_eq!(changed(1).unwrap().1.frame, None);
    changed(2).unwrap();
    let message = changed(3).unwrap_err().to_string();
    assert!(message.ends_with("no metadata \"agcnn.blake3\""), "{message}");
    let message = changed(5).unwrap_err().to_string();
    assert!(message.ends_with("format version is 5, expected at most 4"), "{message}");
}

/// A file says so, and has another version, only where there is test-time augmentation.
#[test]
fn the_views_are_kept() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    let tensors = [("fc.bias".to_owned(), Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap())];
    for (tta, said) in [(cxr::Tta::None, None), (cxr::Tta::TenCrop, Some("ten-crop"))] {
        let meta = Meta { backbone: "mini".to_owned(), pool: "max".to_owned(), frame: None, tta };
        file::write(&path, &tensors, &meta).unwrap();
        assert_eq!(file::read(&path, &Device::Cpu).unwrap().1, meta);
        let text = String::from_utf8_lossy(&fs_err::read(&path).unwrap()).into_owned();
        assert_eq!(text.contains("agcnn.tta"), said.is_some());
        assert!(text.contains(if said.is_some() { r#""agcnn.version":"4""# } else { r#""agcnn.version":"3""# }));
    }
    let bytes = fs_err::read(&path).unwrap();
    let at = bytes.windows(8).position(|window| window == b"ten-crop").unwrap();
    fs_err::write(&path, [&bytes[..at], b"ten-crap", &bytes[at + 8..]].concat()).unwrap();
    assert!(file::meta(&path).unwrap_err().to_string().contains("metadata \"agcnn.tta\" is \"ten-crap\""));
}

/// Heat maps are kept by it: other views of an image make no other heat map.
#[test]
fn the_digest_is_of_the_network_and_not_of_how_it_is_evaluated() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    let plain = Meta { backbone: "mini".to_owned(), pool: "max".to_owned(), frame: None, tta: cxr::Tta::None };
    let digest = |name: &str, values: &[f32], meta: &Meta| {
        let tensors = [(name.to_owned(), Tensor::new(values, &Device::Cpu).unwrap())];
        file::write(&path, &tensors, meta).unwrap();
        file::digest(&path).unwrap()
    };
    let expected = digest("fc.bias", &[1.0, 2.0], &plain);
    let frame = cxr::EvalFrame { crop: cxr::EvalCrop::Centre, image_px: 256, input_px: 224 };
    let scored = Meta { frame: Some(frame), tta: cxr::Tta::TenCrop, ..plain.clone() };
    assert_eq!(digest("fc.bias", &[1.0, 2.0], &scored), expected);
    let of_mean = Meta { pool: "avg".to_owned(), ..plain.clone() };
    for other in [
        digest("fc.bias", &[1.0, 2.5], &plain),
        digest("fc.bias", &[1.0], &plain),
        digest("fc.weight", &[1.0, 2.0], &plain),
        digest("fc.bias", &[1.0, 2.0], &of_mean),
    ] {
        assert_ne!(other, expected);
    }
}

/// Every bit of a small file.
#[test]
fn no_flipped_bit_is_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    let tensors = [("fc.bias".to_owned(), Tensor::new(&[1f32, -2.5, 3e-9], &Device::Cpu).unwrap())];
    file::write(
        &path,
        &tensors,
        &Meta { backbone: "mini".into(), pool: "max".into(), frame: None, tta: cxr::Tta::None },
    )
    .unwrap();
    let mut bytes = fs_err::read(&path).unwrap();
    assert_eq!(values(&file::read(&path, &Device::Cpu).unwrap().0[0].1), [1.0, -2.5, 3e-9]);
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs_err::write(&path, &bytes).unwrap();
        let read = file::read(&path, &Device::Cpu);
        assert!(read.is_err(), "bit {bit} of {}", bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}
