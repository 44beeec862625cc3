//! JSON and TOML: manifests, configurations, the two documents of a model.

use std::sync::OnceLock;

use candle_core::Device;
use clap::{Args, FromArgMatches};
use model::folder::names;
use model::{Model, Question};
use picture::Radiograph;
use serde_json::{Value, json};
use stage::{Begin, Common, Run, Settings, Spec};
use tempfile::TempDir;

use crate::images::png_seeds;
use crate::{put, scratch};

#[path = "../../predict/tests/serve/tiny.rs"]
#[expect(unreachable_pub, reason = "a module of another crate's test")]
mod tiny;

/// A folder with a tiny model.
pub(crate) fn tiny_model() -> TempDir {
    let folder = scratch();
    tiny::model(folder.path());
    folder
}

/// The flags of a stage that are not given.
fn common() -> Common {
    let matches = Common::augment_args(clap::Command::new("fuzz")).get_matches_from(["fuzz", "--quiet"]);
    Common::from_arg_matches(&matches).expect("defaults are right")
}

/// A key of the store.
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// The manifest of a result, whose own digest and place are made right; another stage reads it.
pub(crate) fn manifest(bytes: &[u8]) -> bool {
    let mut text = bytes.to_vec();
    if let Ok(Value::Object(mut manifest)) = serde_json::from_slice(bytes) {
        manifest.remove("blake3");
        manifest.insert("key".to_owned(), json!(KEY));
        let digest = stage::digest(&Value::Object(manifest.clone()));
        manifest.insert("blake3".to_owned(), json!(digest));
        text = Value::Object(manifest).to_string().into_bytes();
    }
    let folder = scratch();
    let result = folder.path().join("store/prep").join(KEY);
    fs_err::create_dir_all(&result).expect("a temporary folder can be made");
    fs_err::create_dir_all(folder.path().join("default")).expect("a temporary folder can be made");
    let target = std::path::Path::new("../store/prep").join(KEY);
    fs_err::os::unix::fs::symlink(target, folder.path().join("default/prep")).expect("a link can be made");
    put(&result, "manifest.json", &text);
    let table = put(&result, "table", b"rows");
    if let Ok(inventory) = stage::inventory::inventory(folder.path()) {
        let _ = inventory.find(&table);
        let _ = inventory.garbage(std::time::Duration::ZERO).len();
    }
    let common = Common { artifacts_dir: folder.path().to_owned(), ..common() };
    let (mut run, _) = Run::open::<branch::Config>(&global::SPEC, &common).expect("defaults are right");
    let input = run.input("prep", &["table", "images/"]);
    if let Ok(input) = &input {
        let _ = input.verify("");
        let _ = input.digest("");
        let _ = (input.manifest().made_by(), input.manifest().place("raw"));
        assert_eq!(run.key().len(), KEY.len());
    }
    input.is_ok()
}

/// A configuration file, read by every stage.
pub(crate) fn config(bytes: &[u8]) -> bool {
    fn open<C: Settings>(spec: &Spec, common: &Common) -> bool {
        Run::open::<C>(spec, common).map(|(run, _)| run.key()).is_ok()
    }
    let folder = scratch();
    let path = put(folder.path(), "input.toml", bytes);
    let common = Common { artifacts_dir: folder.path().to_owned(), config: vec![path], print_config: true, ..common() };
    let opened = [
        open::<phantom::Config>(&phantom::SPEC, &common),
        open::<prep::Config>(&prep::SPEC, &common),
        open::<branch::Config>(&global::SPEC, &common),
        open::<attend::Config>(&attend::SPEC, &common),
        open::<branch::Config>(&local::SPEC, &common),
        open::<fusion::Config>(&fusion::SPEC, &common),
        open::<report::Config>(&report::SPEC, &common),
        open::<predict::Config>(&predict::SPEC, &common),
    ];
    opened == [true; 8]
}

/// `config.json` and `preprocessor_config.json` of a model, a zero byte between them, whose digests are made right; the
/// model is asked about an image.
pub(crate) fn model(bytes: &[u8]) -> bool {
    static TINY: OnceLock<TempDir> = OnceLock::new();
    let tiny = TINY.get_or_init(tiny_model).path();
    let (config, preprocessor) = bytes.split_at(bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len()));
    let folder = scratch();
    let path = folder.path();
    for name in names::WEIGHTS.into_iter().chain([names::NOVELTY, names::VALIDATION]) {
        fs_err::hard_link(tiny.join(name), path.join(name)).expect("a file can have two names");
    }
    put(path, names::PREPROCESSOR, preprocessor.get(1..).unwrap_or_default());
    put(path, names::CONFIG, config);
    if let Ok(Value::Object(mut fields)) = serde_json::from_slice(config) {
        let digests = names::DIGESTED.map(|name| {
            let digest = model::folder::digest(&path.join(name)).expect("a file has a digest");
            (name.to_owned(), json!(digest))
        });
        let own = "0".repeat(64);
        let mut digests: serde_json::Map<String, Value> = digests.into_iter().collect();
        digests.insert(names::CONFIG.to_owned(), json!(own));
        fields.insert("blake3".to_owned(), Value::Object(digests));
        let text = Value::Object(fields).to_string();
        put(path, names::CONFIG, text.as_bytes());
        let digest = model::folder::digest(&path.join(names::CONFIG)).expect("a file has a digest");
        put(path, names::CONFIG, text.replacen(&own, &digest, 1).as_bytes());
    }
    Model::open(path, &Device::Cpu).is_ok_and(|model| {
        static IMAGE: OnceLock<Radiograph> = OnceLock::new();
        let image = IMAGE.get_or_init(|| Radiograph::decode("seed", &png_seeds()[4]).expect("a seed is right"));
        model.answer(&[image], Question { no_gate: true, error_rate: Some(0.1) }).is_ok()
    })
}

pub(crate) fn manifest_seeds() -> Vec<Vec<u8>> {
    let folder = scratch();
    let common = Common { artifacts_dir: folder.path().to_owned(), ..common() };
    let (mut run, _) = Run::open::<prep::Config>(&prep::SPEC, &common).expect("defaults are right");
    run.outside("raw", KEY.to_owned(), Some(folder.path()));
    let Ok(Begin::Work(mut work)) = run.begin() else { panic!("an empty store has no result") };
    put(work.out(), "table", b"rows");
    work.rows("table", 1);
    work.part("maps", KEY.to_owned());
    work.publish(json!({"headline": "1 image"})).expect("a result is published");
    let text = fs_err::read(folder.path().join("default/prep/manifest.json")).expect("a result has a manifest");
    vec![text]
}

pub(crate) fn config_seeds() -> Vec<Vec<u8>> {
    let specs =
        [phantom::SPEC, prep::SPEC, global::SPEC, attend::SPEC, local::SPEC, fusion::SPEC, report::SPEC, predict::SPEC];
    let values = |text: &str| -> String {
        text.lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
            .map(|line| format!("{line}\n"))
            .collect()
    };
    specs.iter().map(|spec| values(spec.defaults).into_bytes()).collect()
}

pub(crate) fn model_seeds() -> Vec<Vec<u8>> {
    let folder = tiny_model();
    let [config, preprocessor] = [names::CONFIG, names::PREPROCESSOR].map(|name| {
        let text = fs_err::read_to_string(folder.path().join(name)).expect("a model has its documents");
        serde_json::from_str::<Value>(&text).expect("JSON").to_string()
    });
    vec![format!("{config}\0{preprocessor}").into_bytes()]
}
