//! The command line.

use assert_cmd::Command;

fn attend(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(assert_cmd::cargo::cargo_bin!("attend")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_teaches() {
    let (code, help, _) = attend(&["--help"]);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!(help);
}

#[test]
fn values_out_of_range_are_usage_errors() {
    for (set, expected) in [
        ("threshold=1.5", "attend.threshold = 1.5, expected at least 0, below 1, or \"otsu\""),
        ("contrast=0", "attend.contrast = 0, expected above 0, at most 10"),
        ("size=8", "attend.size = 8, expected 16 to 2048, or 0"),
        ("precision=f16", "expected one of `f32`, `tf32`, `bf16`, `auto`"),
        ("eval_batch=0", "attend.eval_batch = 0, expected 1 to 4096"),
        ("source=elsewhere", "source"),
        ("treshold=0.5", "treshold"),
    ] {
        let (code, _, message) = attend(&["--set", &format!("attend.{set}")]);
        assert_eq!(code, Some(2), "{message}");
        assert!(message.contains(expected), "{message}");
    }
    let (code, config, _) = attend(&["--set", "attend.threshold=otsu", "--print-config"]);
    assert_eq!(code, Some(0));
    assert!(config.contains("threshold = \"otsu\""), "{config}");
}

#[test]
fn without_its_upstream_it_names_the_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, message) = attend(&["--artifacts-dir", folder.path().to_str().unwrap()]);
    assert_eq!(code, Some(3));
    assert!(message.contains("hint: run just prep first"), "{message}");
}
