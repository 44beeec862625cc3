//! Files as people have them.

use super::pickled::{Py, dict, saved};
use super::*;

/// `{"w": tensor}` with a prefix in front of the name.
fn weights_at(prefix: &str, first: f32) -> Py {
    Py::Dict(vec![
        (format!("{prefix}w"), Py::Tensor(vec![4], vec![first, 1.0, 2.0, 3.0])),
        (format!("{prefix}fc.weight"), Py::Tensor(vec![1], vec![0.0])),
    ])
}

/// The first element of what is taken of a file.
fn first(value: &Py) -> f32 {
    values(&read_bytes("model", &saved(value, false)).unwrap()[0])[0]
}

#[test]
fn any_prefix_is_dropped() {
    for prefix in ["", "module.", "model.", "backbone.", "encoder.", "_orig_mod.", "module._orig_mod.", "a.b.c."] {
        assert_eq!(first(&weights_at(prefix, 7.0)), 7.0, "{prefix:?}");
    }
    // the same in safetensors; what has no prefix is left
    let header = r#"{"net.w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},
                     "loss.w2":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#;
    let header = header.replacen("\"data_offsets\":[0,16]}}", "\"data_offsets\":[16,32]}}", 1);
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 32]].concat();
    assert_eq!(values(&read_bytes("model.bin", &file).unwrap()[0]), [0.0; 4]);
}

#[test]
fn weights_are_found_wherever_they_lie() {
    let lone = || ("n_averaged", Py::Tensor(vec![1], vec![3.0]));
    let model = |key| dict([lone(), ("epoch", Py::Int(3)), (key, weights_at("module.", 7.0))]);
    for key in ["state_dict", "model", "model_state_dict", "net", "network", "module", "params", "model_ema", "ema"] {
        assert_eq!(first(&model(key)), 7.0, "{key}");
    }
    let nested = dict([("a", dict([("state_dict", weights_at("", 7.0))]))]);
    assert_eq!(first(&nested), 7.0);
    assert_eq!(first(&Py::Tuple(vec![weights_at("", 7.0), Py::Int(3)])), 7.0);
    // weights before their averages, whatever comes first; the first of several
    let ema = |name| (name, weights_at("", 8.0));
    for name in ["model_ema", "state_dict_ema", "ema_state_dict", "ema", "EMA"] {
        assert_eq!(first(&dict([ema(name), ("other", weights_at("", 7.0))])), 7.0, "{name}");
    }
    let inside = Py::Dict(vec![
        ("ema.w".to_owned(), Py::Tensor(vec![4], vec![8.0; 4])),
        ("model.w".to_owned(), Py::Tensor(vec![4], vec![7.0; 4])),
    ]);
    assert_eq!(first(&inside), 7.0);
    assert_eq!(first(&dict([("student", weights_at("", 7.0)), ("teacher", weights_at("", 8.0))])), 7.0);
}

#[test]
fn a_whole_model_is_read_by_its_modules() {
    let class = || Box::new(Py::Global("mine.models", "Net"));
    let leaf = Py::Instance(
        class(),
        vec![
            ("_parameters".to_owned(), dict([("w", Py::Tensor(vec![4], vec![7.0; 4])), ("bias", Py::None)])),
            ("_buffers".to_owned(), dict([])),
            ("_modules".to_owned(), dict([])),
        ],
    );
    let whole = Py::Instance(class(), vec![("_modules".to_owned(), dict([("features", leaf)]))]);
    assert_eq!(first(&whole), 7.0);
}

#[test]
fn objects_beside_the_weights_are_skipped() {
    let got = take(&fixture("objects.pth"), &layout()).unwrap();
    for (tensor, (name, _, start)) in got.iter().zip(&weights()) {
        assert_eq!(values(tensor), ramp(tensor.elem_count(), *start), "{name}");
    }
}

#[test]
fn a_compressed_file_is_read() {
    let tensor = dict([("w", Py::Tensor(vec![4], vec![7.0, 1.0, 2.0, 3.0]))]);
    let [plain, compressed] = [false, true].map(|compressed| read_bytes("model", &saved(&tensor, compressed)).unwrap());
    assert_eq!(values(&plain[0]), values(&compressed[0]));
}

/// As NumPy pickles its scalars: the type by another call, the value as bytes.
#[test]
fn numpys_scalars_are_skipped() {
    let dtype = Py::Call(Box::new(Py::Global("numpy", "dtype")), vec![Py::Text("f8".to_owned())]);
    let value = Py::Bytes(0.15f64.to_le_bytes().to_vec());
    let scalar = Py::Call(Box::new(Py::Global("numpy._core.multiarray", "scalar")), vec![dtype, value]);
    assert_eq!(first(&dict([("best_loss", scalar), ("state_dict", weights_at("module.", 7.0))])), 7.0);
}

/// A convolution of one channel becomes one of three that sees the same in a grey image: that of one channel, normalised
/// by the mean and deviation that the documentation states.
#[test]
fn one_channel_becomes_three_equal_ones() {
    let weight: Vec<f32> = (0..18).map(|index| (index as f32 * 0.7).sin()).collect();
    let file = dict([("conv1.weight", Py::Tensor(vec![2, 1, 3, 3], weight.clone()))]);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("grey.pth");
    fs_err::write(&path, saved(&file, false)).unwrap();
    let three = take(&path, &[("conv1.weight", vec![2, 3, 3, 3])]).unwrap().remove(0);
    assert_eq!(three.dims(), [2, 3, 3, 3]);

    let grey: Vec<f32> = (0..64).map(|index| (index as f32 * 1.3).cos().abs()).collect();
    let [mean, deviation] = [[0.485f64, 0.456, 0.406], [0.229, 0.224, 0.225]];
    let inverse = deviation.iter().map(|deviation| 1.0 / deviation).sum::<f64>() / 3.0;
    let one_mean = mean.iter().zip(&deviation).map(|(mean, deviation)| mean / deviation).sum::<f64>() / 3.0 / inverse;
    assert!((one_mean - 0.4488).abs() < 5e-5 && (1.0 / inverse - 0.2260).abs() < 5e-5, "as documented");
    let normalised = |mean: f64, deviation: f64| {
        let values: Vec<f32> = grey.iter().map(|&value| ((f64::from(value) - mean) / deviation) as f32).collect();
        Tensor::from_vec(values, (1, 1, 8, 8), &Device::Cpu).unwrap()
    };
    let channels: Vec<Tensor> = mean.iter().zip(&deviation).map(|(&m, &s)| normalised(m, s)).collect();
    let ours = Tensor::cat(&channels, 1).unwrap().conv2d(&three, 1, 1, 1, 1).unwrap();
    let one = Tensor::from_vec(weight, (2, 1, 3, 3), &Device::Cpu).unwrap();
    let theirs = normalised(one_mean, 1.0 / inverse).conv2d(&one, 1, 1, 1, 1).unwrap();
    for (ours, theirs) in values(&ours).into_iter().zip(values(&theirs)) {
        assert!((ours - theirs).abs() < 1e-5, "{ours} {theirs}");
    }
}

#[test]
fn what_is_no_weights_file_says_so() {
    let mut tar = vec![b'a'; 512];
    tar[257..262].copy_from_slice(b"ustar");
    for (bytes, words) in [
        (&b""[..], "an empty file, 0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:5c\nsize 46830571\n", "a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html>404", "an HTML page"),
        (b"<?xml version='1.0'?><Error/>", "XML"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0", "a gzip file"),
        (&tar, "a tar archive"),
        (b"PK\x05\x06\0\0\0\0\0\0", "zip file"),
        (b"\x89HDF\r\n\x1a\n\0", "an HDF5 file"),
        (b"(dp0\nVconv1\np1\n", "a Python pickle of protocol 0"),
        (b"{\"error\": \"not found\"}", "JSON text"),
        (&[0; 100], "zeros"),
        (b"not found", "text, which begins \"not found\""),
        (b"\xca\xfe\xba\xbe", "it begins ca fe ba be"),
        (b"\x80\x04\x95\x05\0\0\0\0\0\0\0}\x94.", "a Python pickle that torch.save did not write"),
        (&saved(&dict([("epoch", Py::Int(3))]), false), "no dict of tensors by name"),
        (&super::pickled::zipped([("notes.txt".to_owned(), &b"x"[..])].into_iter(), false), "without data.pkl"),
    ] {
        for name in ["model.pth", "model.safetensors", "model"] {
            let reason = refusal(name, bytes);
            assert!(reason.contains(words), "{words}: {reason}");
        }
    }
    let folder = TempDir::new().unwrap();
    let error = take(folder.path(), &layout()).unwrap_err();
    assert!(error.to_string().ends_with("no weights: a folder") && error.hint().is_some(), "{error}");
    assert!(matches!(take(&fixture("absent.pth"), &layout()), Err(Error::Io(_))));
}

#[test]
fn where_nothing_fits_both_sides_are_shown() {
    let names = ["a", "b", "c", "d", "e", "f"].map(|name| (name, Py::Tensor(vec![1], vec![0.0])));
    assert_eq!(
        refusal("model", &saved(&dict(names), false)),
        "none of its 6 tensors has a name of that network; the file has a, b, c, d, e, …; expected w"
    );
    // escapes of a terminal are written out
    let reason = refusal("model", &saved(&dict([("\u{1b}[2J", Py::Tensor(vec![1], vec![0.0]))]), false));
    assert!(reason.contains(r"\u{1b}[2J"), "{reason}");
}
