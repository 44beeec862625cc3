//! The command line.

use assert_cmd::Command;

fn local(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(assert_cmd::cargo::cargo_bin!("local")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_teaches() {
    let (code, help, _) = local(&["--help"]);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!(help);
}

#[test]
fn values_out_of_range_are_usage_errors() {
    for (set, expected) in [
        ("lr=0", "local.lr = 0, expected above 0, at most 10"),
        ("crop=16", "local.crop = 16, expected 33 to 2048"),
        ("precision=f16", "expected one of `f32`, `tf32`, `bf16`, `auto`"),
        ("backbone=vgg", "backbone"),
        ("epoch=3", "epoch"),
        ("loss=hinge", "expected one of `bce`, `weighted`, `focal`, `asymmetric`"),
        ("focal_alpha=1", "local.focal_alpha = 1, expected above 0, below 1"),
        ("gamma_negative=11", "local.gamma_negative = 11, expected 0 to 10"),
        ("probability_clip=1", "local.probability_clip = 1, expected at least 0, below 1"),
        ("label_smoothing=1", "local.label_smoothing = 1, expected at least 0, below 1"),
        ("clip_norm=-1", "local.clip_norm = -1, expected 0 to 1000000"),
        ("ema_decay=1", "local.ema_decay = 1, expected at least 0, below 1"),
        ("ema_warmup=true", "hint: set ema_decay too"),
        ("ratio_max=0.9", "local.ratio_max = 0.9, expected 1 to 4"),
        ("crop_schedule=[[1, 128]]", "[epoch, px] with ascending epochs, the first 0, and 33"),
        ("crop_schedule=[[0, 256]]", "to 224 px (crop)"),
        ("tta=six", "expected one of `none`, `flip`, `ten-crop`"),
        ("schedule=linear", "expected one of `step`, `cosine`, `plateau`"),
    ] {
        let (code, _, message) = local(&["--set", &format!("local.{set}")]);
        assert_eq!(code, Some(2), "{message}");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn without_its_upstream_it_names_the_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, message) = local(&["--artifacts-dir", folder.path().to_str().unwrap(), "--set", "local.init=random"]);
    assert_eq!(code, Some(3));
    assert!(message.contains("hint: run just attend first"), "{message}");
}
