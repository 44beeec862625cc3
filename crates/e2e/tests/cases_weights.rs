//! What happened to people with weights files and configurations.
//!
//! The weights are those of a tiny network that the test trains; each file holds them as somebody's did. A file was read
//! right if the training that starts from it ends with the same bytes as the one that starts from the plain file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use e2e::{Pipeline, Ran, STAGES};
use pickled::{Py, dict, saved, zipped};

#[allow(dead_code)] // not every test uses all of it
#[path = "../../nets/tests/import/pickled.rs"]
mod pickled;

/// Names, shapes and values of f32.
type Weights = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A run with images, and a tiny network's weights.
struct Case {
    pipeline: Pipeline,
    weights: Weights,
    /// The published weights of a training that starts from the plain file.
    expected: Vec<u8>,
}

const SHORT: [&str; 4] = ["--set", "global.epochs=1", "--limit", "8"];

impl Case {
    fn new() -> Case {
        let pipeline = Pipeline::new();
        for stage in ["phantom", "prep"] {
            pipeline.stage(stage, &["--limit", "8"]).expect(0);
        }
        pipeline.stage("global", &SHORT).expect(0);
        let file = pipeline.published("default", "global").join("weights.safetensors");
        let mut case = Case { weights: read(&fs_err::read(file).unwrap()), pipeline, expected: Vec::new() };
        let plain = saved(&state_dict(&case.weights, ""), false);
        case.file("plain.pth", &plain);
        case.start("plain.pth", &[]).expect(0);
        case.expected = case.published();
        case
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.pipeline.path().join(name);
        fs_err::write(&path, bytes).unwrap();
        path
    }

    /// Trains from a file.
    fn start(&self, name: &str, args: &[&str]) -> Ran {
        let init = format!("global.init=imagenet:{name}");
        self.pipeline.stage("global", &[&SHORT[..], &["--set", &init], args].concat())
    }

    fn published(&self) -> Vec<u8> {
        fs_err::read(self.pipeline.published("default", "global").join("weights.safetensors")).unwrap()
    }

    /// The file has the plain file's weights; returns what the stage said.
    #[track_caller]
    fn loads(&self, name: &str, bytes: &[u8]) -> String {
        self.file(name, bytes);
        let ran = self.start(name, &[]).expect(0);
        assert!(!ran.current(), "{ran}");
        assert!(self.published() == self.expected, "{name}: other weights\n{ran}");
        ran.stderr
    }

    /// The file is refused with these words, by the stage, its dry run and its check.
    #[track_caller]
    fn refuses(&self, name: &str, code: i32, words: &str) {
        for args in [&[][..], &["--dry-run"], &["--check"]] {
            let ran = self.start(name, args).expect(code);
            assert!(ran.stderr.contains(words), "{words:?} is missing\n{ran}");
            assert!(!ran.stderr.contains("train,"), "it is found out before the images are loaded\n{ran}");
        }
    }
}

/// Reads a safetensors file of f32.
fn read(bytes: &[u8]) -> Weights {
    let (length, rest) = bytes.split_first_chunk().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header: serde_json::Value = serde_json::from_slice(header).unwrap();
    let tensors = header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__");
    let tensor = |(name, entry): (&String, &serde_json::Value)| {
        let numbers = |value: &serde_json::Value| -> Vec<usize> {
            value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as usize).collect()
        };
        let ends = numbers(&entry["data_offsets"]);
        let values = data[ends[0]..ends[1]].as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        (name.clone(), (numbers(&entry["shape"]), values.collect()))
    };
    tensors.map(tensor).collect()
}

/// A safetensors file, the names behind a prefix.
fn safetensors(weights: &Weights, prefix: &str) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data: Vec<u8> = Vec::new();
    for (name, (shape, values)) in weights {
        let start = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(format!("{prefix}{name}"), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

fn state_dict(weights: &Weights, prefix: &str) -> Py {
    let entry = |(name, (shape, values)): (&String, &(Vec<usize>, Vec<f32>))| {
        (format!("{prefix}{name}"), Py::Tensor(shape.clone(), values.clone()))
    };
    Py::Dict(weights.iter().map(entry).collect())
}

/// Lightning puts `model.` in front of every name, others `backbone.`, CheXNet's `module.densenet121.`
/// (huggingface/transformers#9209, Lightning-AI/pytorch-lightning#2798, arnoweng/CheXNet).
#[test]
fn names_have_something_in_front() {
    let case = Case::new();
    let wrapped = |prefix| dict([("epoch", Py::Int(3)), ("state_dict", state_dict(&case.weights, prefix))]);
    for (index, prefix) in ["module.", "model.", "backbone.", "module.densenet121.", "encoder."].into_iter().enumerate()
    {
        let said = case.loads(&format!("prefix-{index}.ckpt"), &saved(&wrapped(prefix), false));
        assert!(said.contains(&format!("the prefix \"{prefix}\"")), "{said}");
        assert!(said.contains("the tensors in \"state_dict\" are taken"), "{said}");
    }
}

/// torch.compile puts `_orig_mod.` in front (pytorch/pytorch#101107, huggingface/pytorch-image-models#2003).
#[test]
fn the_model_was_compiled() {
    let case = Case::new();
    for (name, prefix) in [("compiled.pth", "_orig_mod."), ("parallel.pth", "module._orig_mod.")] {
        case.loads(name, &saved(&state_dict(&case.weights, prefix), false));
    }
}

/// A checkpoint has a NumPy scalar, an `argparse.Namespace` beside the weights (pytorch/pytorch#138985,
/// deepmodeling/deepmd-kit#4147).
#[test]
fn a_checkpoint_has_more_than_tensors() {
    let case = Case::new();
    let dtype = Py::Call(Box::new(Py::Global("numpy", "dtype")), vec![Py::Text("f8".to_owned())]);
    let value = Py::Bytes(0.15f64.to_le_bytes().to_vec());
    let scalar = Py::Call(Box::new(Py::Global("numpy._core.multiarray", "scalar")), vec![dtype, value]);
    let args = Py::Instance(Box::new(Py::Global("argparse", "Namespace")), vec![("lr".to_owned(), Py::None)]);
    let checkpoint =
        dict([("best_loss", scalar), ("args", args), ("state_dict", state_dict(&case.weights, "module."))]);
    case.loads("checkpoint.pth.tar", &saved(&checkpoint, false));
}

/// Weights beside their averages, and a lone tensor in front of both (own).
#[test]
fn averages_lie_beside_the_weights() {
    let case = Case::new();
    let lone = || ("n_averaged", Py::Tensor(vec![1], vec![3.0]));
    let other: Weights = case
        .weights
        .iter()
        .map(|(name, (shape, values))| (name.clone(), (shape.clone(), vec![0.5; values.len()])))
        .collect();
    let both = dict([lone(), ("state_dict_ema", state_dict(&other, "")), ("model", state_dict(&case.weights, ""))]);
    let said = case.loads("both.pth", &saved(&both, false));
    assert!(said.contains("\"state_dict_ema\" are averages of weights (EMA), which are not taken"), "{said}");
    let alone = dict([lone(), ("model_ema", state_dict(&case.weights, "module."))]);
    let said = case.loads("alone.pth", &saved(&alone, false));
    assert!(said.contains("averages of weights (EMA)"), "{said}");
    case.loads("net.pth", &saved(&dict([("net", state_dict(&case.weights, "")), ("acc", Py::Int(91))]), false));
}

/// A `.pth` that was unpacked, and zipped again; a blob without an ending (arnoweng/CheXNet#48); safetensors under
/// another name (safetensors/safetensors#414).
#[test]
fn a_file_is_what_it_holds() {
    let case = Case::new();
    case.loads("rezipped.pth", &saved(&state_dict(&case.weights, ""), true));
    case.loads("5c106cde386e87d4", &safetensors(&case.weights, ""));
    case.loads("pytorch_model.bin", &safetensors(&case.weights, "model."));
    case.loads("model.safetensors", &saved(&dict([("net", state_dict(&case.weights, ""))]), false));
    fs_err::create_dir(case.pipeline.path().join("unpacked")).unwrap();
    case.refuses("unpacked", 4, "no weights: a folder");
    let inner = saved(&state_dict(&case.weights, ""), false);
    case.file("download.zip", &zipped([("r18.pth".to_owned(), inner.as_slice())].into_iter(), false));
    case.refuses("download.zip", 4, "archive/r18.pth: unpack it");
}

/// A Git LFS pointer, an HTML page, an empty file in the place of weights (YBIGTA/pytorch-hair-segmentation#60,
/// huggingface/diffusers#13559, microsoft/OmniParser#34).
#[test]
fn the_file_is_something_else() {
    let case = Case::new();
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:5c106cde\nsize 46830571\n";
    for name in ["model.pth", "model.safetensors"] {
        case.file(name, pointer);
        case.refuses(name, 4, "a Git LFS pointer");
        case.refuses(name, 4, "hint: git lfs pull");
        case.file(name, b"<!DOCTYPE html><html><head><title>403 Forbidden</title></head></html>\n");
        case.refuses(name, 4, "an HTML page");
        case.file(name, b"");
        case.refuses(name, 4, "an empty file, 0 bytes");
    }
    case.file("other.pth", &saved(&dict([("a", Py::Tensor(vec![1], vec![0.0]))]), false));
    case.refuses("other.pth", 4, "the file has a; expected conv1.weight");
}

/// A network for grey pictures has one input channel (alexsax/midlevel-reps#12, Cadene/pretrained-models.pytorch#226).
/// Its weights become a third for each of three channels: the same as a file that says so.
#[test]
fn the_network_had_one_channel() {
    let case = Case::new();
    let mut grey = case.weights.clone();
    let (shape, values) = grey.get_mut("conv1.weight").unwrap();
    let area = shape[2] * shape[3];
    *values = values.as_chunks::<1>().0.chunks(3 * area).flat_map(|three| three[..area].iter().map(|[v]| *v)).collect();
    shape[1] = 1;
    let mut three = grey.clone();
    let (shape, values) = three.get_mut("conv1.weight").unwrap();
    let third: Vec<f32> = values.iter().map(|value| value / 3.0).collect();
    *values = third.chunks(area).flat_map(|one| [one, one, one].concat()).collect();
    shape[1] = 3;
    case.file("three.pth", &saved(&state_dict(&three, ""), false));
    case.start("three.pth", &[]).expect(0);
    let case = Case { expected: case.published(), ..case };
    let said = case.loads("grey.pth", &saved(&state_dict(&grey, ""), false));
    assert!(said.contains("conv1.weight has one channel"), "{said}");
}

/// Ours as a start; another backbone's; a PyTorch file as ours (own).
#[test]
fn our_own_weights_are_a_start() {
    let case = Case::new();
    case.file("mine.safetensors", &case.published());
    let start = |args: &[&str]| case.pipeline.stage("global", &[&SHORT[..], args].concat());
    start(&["--set", "global.init=mine.safetensors"]).expect(0);
    let ran = start(&["--set", "global.init=mine.safetensors", "--set", "global.pool=avg", "--dry-run"]).expect(4);
    assert!(ran.stderr.contains("pool is max, expected avg"), "{ran}");
    let ran = start(&["--set", "global.init=plain.pth"]).expect(4);
    assert!(ran.stderr.contains("hint: --set global.init=imagenet:plain.pth takes its trunk"), "{ran}");
    let ran = start(&["--set", "global.init=imagenet:mine.safetensors", "--set", "global.backbone=resnet18"]).expect(4);
    assert!(ran.stderr.contains("not the weights of resnet18"), "{ran}");
}

/// torchvision's own names in `data/pretrained` (own).
#[test]
fn torchvisions_file_names_are_found() {
    let case = Case::new();
    let check = |code| case.pipeline.stage("global", &["--set", "global.init=imagenet", "--check"]).expect(code).stderr;
    assert!(check(3).contains("data/pretrained/mini-<8 hex digits>.pth"));
    fs_err::create_dir_all(case.pipeline.path().join("data/pretrained")).unwrap();
    let plain = saved(&state_dict(&case.weights, ""), false);
    case.file("data/pretrained/mini-large-0676ba61.pth", b"another");
    case.file("data/pretrained/mini-0676ba61.pth", &plain);
    check(0);
    case.file("data/pretrained/mini-11ad3fa6.pth", &plain);
    let said = check(2);
    assert!(said.contains("has mini-0676ba61.pth and mini-11ad3fa6.pth"), "{said}");
    case.file("data/pretrained/mini.pth", &plain);
    check(0);
}

/// A bad weights file was found out after all pictures had been decoded, and never by `--dry-run`
/// (huggingface/transformers#8497).
#[test]
fn a_bad_weights_file_is_found_at_once() {
    let case = Case::new();
    let whole = saved(&state_dict(&case.weights, ""), false);
    case.file("truncated.pth", &whole[..whole.len() * 2 / 3]);
    case.refuses("truncated.pth", 4, "no whole PyTorch file");
}

/// `--dry-run` of all stages on a fresh run is a plan of the whole pipeline (own).
#[test]
fn a_fresh_run_is_planned() {
    let pipeline = Pipeline::new();
    let plan = |stage: &str| pipeline.stage(stage, &["--dry-run"]).expect(0).stderr;
    assert!(plan("phantom").contains("phantom: would run (not run yet)"));
    for (stage, after) in [
        ("prep", "phantom"),
        ("global", "prep"),
        ("attend", "prep"),
        ("local", "attend"),
        ("fusion", "global"),
        ("report", "prep"),
    ] {
        let said = plan(stage);
        assert!(said.contains(&format!("{stage}: would run after {after}")), "{said}");
    }
    assert!(!pipeline.path().join("artifacts").exists());
    // without --dry-run it is a failure, as ever
    pipeline.stage("global", &[]).expect(3);
}

/// A typing error in a later stage's section surfaced hours later (own).
#[test]
fn every_section_is_checked_before_the_work() {
    let pipeline = Pipeline::new();
    for stage in STAGES {
        let ran = pipeline.stage(stage, &["--set", "fusion.epoch=3"]).expect(2);
        assert!(ran.stderr.contains("unknown key fusion.epoch = 3"), "{ran}");
        let ran = pipeline.stage(stage, &["--check"]).expect(0);
        assert_eq!((&*ran.stdout, &*ran.stderr), ("", ""), "{ran}");
    }
    // as `just all` does it: every stage is asked, and the one that cannot run says so
    for (set, stage, code, words) in [
        ("fusion.lr=0", "fusion", 2, "fusion.lr = 0"),
        ("attend.threshold=2", "attend", 2, "attend.threshold = 2"),
        ("report.draws=-1", "report", 2, "draws"),
        ("global.crop=200", "global", 2, "crop = 200, expected at most 48"),
        ("prep.size=36", "local", 2, "crop = 40, expected at most 36"),
        ("attend.crop=49", "attend", 2, "crop = 49, expected at most 48"),
        ("attend.size=39", "local", 2, "crop = 40, expected at most 39"),
        ("local.init=imagenet", "local", 3, "local.init = \"imagenet\" needs data/pretrained/mini.safetensors"),
        ("local.init=imagenet:no.pth", "local", 3, "no.pth"),
        ("prep.root=no/such", "prep", 3, "no/such"),
    ] {
        let ran = pipeline.stage(stage, &["--set", set, "--check"]).expect(code);
        assert!(ran.stderr.contains(words), "{ran}");
    }
    assert!(!pipeline.path().join("artifacts").exists());
}
