//! What the targets begin with, and all that broke one of them once.

use std::collections::BTreeSet;
use std::path::Path;

use fuzz::{TARGETS, regressions};

#[test]
fn seeds_are_right_and_nonsense_is_not() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        for (index, seed) in seeds.iter().enumerate() {
            assert!(seed.len() < 1 << 16, "{}: seed {index} has {} bytes", target.name, seed.len());
            assert!((target.read)(seed), "{}: seed {index} is not right", target.name);
        }
        assert!(!(target.read)(&[0xff; 8]), "{}", target.name);
        // Of which a configuration may be.
        (target.read)(&[]);
    }
}

#[test]
fn what_broke_a_target_is_read() {
    let mut count = 0;
    for target in TARGETS {
        for (_, bytes) in regressions(target.name) {
            (target.read)(&bytes);
            count += 1;
        }
    }
    assert!(count > 0);
}

#[test]
fn every_target_has_a_program_and_every_regression_a_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let manifest: toml::Table = fs_err::read_to_string(root.join("Cargo.toml")).unwrap().parse().unwrap();
    let programs = manifest["bin"].as_array().unwrap().iter();
    let programs: BTreeSet<String> = programs.map(|program| program["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(programs, names);
    for entry in fs_err::read_dir(root.join("regressions")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&name), "regressions/{name}");
    }
}
