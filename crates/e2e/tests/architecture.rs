//! The rules that ARCHITECTURE.md states and no compiler keeps: who may depend on whom, and what only one crate may do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::STAGES;
use fs_err as fs;
use serde_json::Value;

#[path = "architecture/circles.rs"]
mod circles;
#[path = "architecture/functions.rs"]
mod functions;
#[path = "architecture/unsafety.rs"]
mod unsafety;

use unsafety::Unsafety;

/// Which of our crates each of ours may use. A crate that is not here has no place yet.
const MAY_USE: [(&str, &[&str]); 20] = [
    ("guard", &[]),
    ("files", &["guard"]),
    ("cxr", &[]),
    ("ops", &[]),
    ("ranks", &[]),
    ("stage", &["files", "guard", "ranks"]),
    ("picture", &["cxr", "guard"]),
    ("labels", &["cxr", "files", "guard"]),
    ("tables", &["cxr", "guard"]),
    ("nets", &["cxr", "guard", "ops", "ranks"]),
    ("model", &["cxr", "nets", "picture"]),
    ("branch", &["cxr", "files", "guard", "nets", "picture", "ranks", "stage", "tables"]),
    ("phantom", &["cxr", "picture", "stage", "tables"]),
    ("prep", &["cxr", "files", "guard", "labels", "picture", "stage", "tables"]),
    ("global", &["branch", "stage"]),
    ("attend", &["branch", "cxr", "model", "nets", "ops", "picture", "stage", "tables"]),
    ("local", &["branch", "stage"]),
    ("fusion", &["branch", "cxr", "model", "nets", "ops", "stage", "tables"]),
    ("report", &["cxr", "guard", "labels", "picture", "stage", "tables"]),
    ("predict", &["branch", "cxr", "guard", "model", "nets", "picture", "stage", "tables"]),
];

/// What each may never reach, not even through another crate of ours; by the beginning of the name.
const NEVER: [(&str, &[&str]); 11] = [
    ("cxr", &["arrow", "candle", "parquet", "safetensors", "stage", "toml"]),
    ("ops", &["arrow", "parquet"]),
    ("stage", &["arrow", "candle", "cxr", "parquet"]),
    ("picture", &["arrow", "candle", "parquet"]),
    ("labels", &["arrow", "candle", "parquet", "stage"]),
    ("tables", &["candle"]),
    ("nets", &["arrow", "clap", "parquet"]),
    ("model", &["arrow", "clap", "parquet", "stage", "tables"]),
    ("prep", &["candle"]),
    ("report", &["candle"]),
    ("phantom", &["candle"]),
];

/// What may stand in the sources of one crate only.
const ONLY_IN: [(&str, &[&str]); 2] = [
    ("stage", &["println!", "print!", "process::exit", "\"artifacts"]), // of which eprintln! and eprint! are cases
    ("ops", &["unsafe "]),
];

/// Crates that are tests only, and may use anything.
const TESTS: [&str; 2] = [env!("CARGO_PKG_NAME"), "fuzz"];

/// The root of the workspace.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// What a crate of ours depends on.
#[derive(Debug, Default)]
struct Uses {
    /// To be built.
    built: BTreeSet<String>,
    /// For its tests.
    tested: BTreeSet<String>,
}

/// All crates of the workspace but [`TESTS`].
fn crates() -> BTreeMap<String, Uses> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let mut crates = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let mut uses = Uses::default();
        for dependency in package["dependencies"].as_array().unwrap() {
            let tested = dependency["kind"] == "dev";
            if tested { &mut uses.tested } else { &mut uses.built }.insert(name(dependency));
        }
        crates.insert(name(package), uses);
    }
    for name in TESTS {
        crates.remove(name).expect("a crate of the workspace");
    }
    crates
}

/// All that `name` is built from, as far as manifests of ours say.
fn reach<'a>(crates: &'a BTreeMap<String, Uses>, name: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![name];
    while let Some(next) = open.pop() {
        for name in crates.get(next).into_iter().flat_map(|uses| &uses.built) {
            if reached.insert(name.as_str()) {
                open.push(name);
            }
        }
    }
    reached
}

#[test]
fn crates_depend_on_those_they_may() {
    let crates = crates();
    let may_use = BTreeMap::from(MAY_USE);
    let (have, placed): (Vec<_>, Vec<_>) = (crates.keys().collect(), may_use.keys().collect());
    assert_eq!(have, placed, "crates in the workspace, crates with a place in the architecture");
    for (name, uses) in &crates {
        for other in uses.built.iter().filter(|other| crates.contains_key(*other)) {
            assert!(may_use[name.as_str()].contains(&other.as_str()), "{name} must not depend on {other}");
        }
    }
}

#[test]
fn the_table_of_crates_says_the_same() {
    let quoted = |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let text = fs::read_to_string(root().join("crates/README.md")).unwrap();
    let mut said = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let [_, names, _, uses, _] = row.split('|').collect::<Vec<_>>()[..] else { panic!("{row}") };
        said.extend(quoted(names).into_iter().map(|name| (name, quoted(uses))));
    }
    for name in TESTS {
        assert_eq!(said.remove(name), Some(Vec::new()), "{name}");
    }
    let uses = MAY_USE.map(|(name, uses)| (name.to_owned(), uses.iter().map(|&name| name.to_owned()).collect()));
    assert_eq!(said, BTreeMap::from(uses));
}

#[test]
fn stages_meet_only_on_disk() {
    for (name, uses) in crates() {
        for stage in STAGES.iter().filter(|&&stage| stage != name) {
            assert!(!uses.built.contains(*stage), "{name} must not depend on the stage {stage}");
            // The phantom is ground truth for anybody's tests.
            let for_tests = *stage != "phantom" && uses.tested.contains(*stage);
            assert!(!for_tests, "the tests of {name} must not depend on the stage {stage}");
        }
    }
}

#[test]
fn heavy_crates_stay_where_they_belong() {
    let crates = crates();
    for (name, never) in NEVER {
        for reached in reach(&crates, name) {
            let allowed = never.iter().all(|beginning| !reached.starts_with(beginning));
            assert!(allowed, "{name} must not reach {reached}");
        }
    }
}

#[test]
fn some_things_are_done_in_one_crate_only() {
    let mut files = 0;
    for name in crates().keys() {
        for path in sources(&root().join("crates").join(name).join("src")) {
            files += 1;
            let text = fs::read_to_string(&path).unwrap();
            for (line, code) in program(&text) {
                for (owner, things) in ONLY_IN.iter().filter(|(owner, _)| owner != name) {
                    let found = things.iter().find(|thing| code.contains(*thing));
                    assert!(found.is_none(), "{}:{line}: {code:?} may stand in {owner} only", path.display());
                }
            }
        }
    }
    assert!(files > 40, "{files} source files found");
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut found = Vec::new();
    for name in crates().keys() {
        let src = root().join("crates").join(name).join("src");
        let imports = circles::Modules::read(name, &src).imports();
        found.extend(circles::circles(&imports, &src).iter().map(|circle| format!("{name}: {circle}")));
    }
    assert!(found.is_empty(), "{} circles, each with what is imported:\n{}", found.len(), found.join("\n"));
}

#[test]
fn functions_are_shorter_than_100_lines() {
    let mut long = Vec::new();
    for path in sources(&root().join("crates")) {
        for function in functions::functions(&path).iter().filter(|function| function.lines >= 100) {
            let path = path.strip_prefix(root()).unwrap().display();
            long.push(format!("{path}:{}: {} has {} lines", function.line, function.name, function.lines));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// An example in the documentation of a crate whose examples are not run would never be.
#[test]
fn examples_in_documentation_are_run() {
    let folders = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path());
    for folder in folders.filter(|path| path.is_dir()) {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        if !manifest.contains("doctest = false") {
            continue;
        }
        for path in all_sources(&folder.join("src")) {
            let text = fs::read_to_string(&path).unwrap();
            let fence = text.lines().position(|line| ["/// ```", "//! ```"].iter().any(|it| line.contains(it)));
            assert!(fence.is_none(), "{}:{}: remove `doctest = false`", path.display(), fence.unwrap_or(0) + 1);
        }
    }
}

#[test]
fn unsafe_stands_in_one_crate_only_and_says_why() {
    let mut files = 0;
    for path in all_sources(&root().join("crates")) {
        let found = Unsafety::of(&path);
        let path = path.strip_prefix(root().join("crates")).unwrap();
        if found.blocks + found.functions + found.others > 0 {
            assert!(path.starts_with("ops/src"), "{}: {found:?}", path.display());
            assert_eq!(found.reasons, found.blocks + found.others, "{}: {found:?}", path.display());
            files += 1;
        }
    }
    assert!(files > 10, "{files} files");
}

/// All Rust files below `folder` but modules of tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = all_sources(folder);
    files.retain(|path| {
        let mut below = path.strip_prefix(folder).unwrap().iter();
        !below.any(|part| part == "tests" || part == "tests.rs")
    });
    files
}

/// All Rust files below `folder`.
fn all_sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(all_sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The lines of a source file, numbered from 1, without comments and inline modules of tests.
fn program(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..end].lines().map(|line| line.split_once("// ").map_or(line, |(code, _)| code).trim());
    lines.enumerate().filter(|(_, line)| !line.starts_with("//")).map(|(index, line)| (index + 1, line))
}

#[test]
fn the_scan_sees_programs_and_not_comments() {
    let text =
        "//! println!\nfn f() {\n    g(); // unsafe \n    println!();\n}\n#[cfg(test)]\nmod tests {\n    dbg!(1);\n}\n";
    let seen: Vec<_> = program(text).collect();
    assert_eq!(seen, [(2, "fn f() {"), (3, "g();"), (4, "println!();"), (5, "}")]);
}
