//! The command line. What a model says is tested in `crates/e2e/tests/predict.rs`, where there is one.

use std::path::Path;

use assert_cmd::Command;

/// Exit code, stdout and stderr of `predict ARGS` in an empty folder, with nothing on stdin.
fn predict(arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    predict_in(folder.path(), arguments)
}

fn predict_in(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("predict"));
    let output = command.current_dir(folder).args(arguments).env("NO_COLOR", "1").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_teaches() {
    let (code, help, _) = predict(&["--help"]);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!("help", help);
    let (code, help, _) = predict(&["export", "--help"]);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!("help_export", help);
}

#[test]
fn the_configuration_is_printed() {
    let (code, config, said) = predict(&["--print-config"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    insta::assert_snapshot!("print_config", config);
    let (code, config, _) = predict(&["evaluate", "--print-config", "--set", "evaluate.model=there"]);
    assert_eq!((code, config.as_str()), (Some(0), "[evaluate]\nmodel = \"there\"\n"));
}

#[test]
fn wrong_usage_is_said_before_any_work() {
    for (arguments, expected) in [
        (&[][..], "no images: none were named"),
        (&["a.png", "--format", "parquet"], "a Parquet table cannot go to stdout"),
        (&["a.png", "--out", "."], ".: is a folder"),
        (&["a.png", "--abstain", "2"], "expected a number above 0, below 1"),
        (&["a.png", "--abstain", "nan"], "expected a number above 0, below 1"),
        (&["a.png", "--format", "xml"], "xml"),
        (&["selftest"], "selftest needs --model FOLDER"),
        (&["evaluate"], "evaluate needs a model"),
        (&["export"], "<FOLDER>"),
        (&["a.png", "--set", "predict.max_novelty=101"], "predict.max_novelty = 101, expected 0 to 100"),
        (&["a.png", "--set", "predict.criterion=best"], "criterion"),
        (&["a.png", "--set", "predict.novelty=3"], "novelty"),
    ] {
        let (code, answers, message) = predict(arguments);
        assert_eq!((code, answers.as_str()), (Some(2), ""), "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
}

#[test]
fn what_is_missing_is_said_with_what_helps() {
    for (arguments, expected) in [
        (&["a.png"][..], "hint: run just prep first"),
        (&["export", "model"], "hint: run just prep first"),
        (&["a.png", "--model", "nothing"], "nothing/config.json: no model: there is no such file"),
        (&["a.png", "--model", "."], "./config.json: no model: there is no such file"),
        (&["selftest", "--model", "."], "hint: `just predict export --run RUN MODEL` writes a model"),
        (&["evaluate", "--model", "."], "./config.json: no model: there is no such file"),
    ] {
        let (code, answers, message) = predict(arguments);
        assert_eq!((code, answers.as_str()), (Some(3), ""), "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
    // A file where a folder should be, and a name that a terminal would obey.
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("model\x1b[31m"), "no folder").unwrap();
    let (code, _, message) = predict_in(folder.path(), &["a.png", "--model", "model\x1b[31m"]);
    assert_eq!(code, Some(3), "{message}");
    assert!(message.starts_with("error: model\\u{1b}[31m/config.json: no model"), "{message}");
}

#[test]
fn a_config_json_of_another_program_is_bad_data() {
    let folder = tempfile::tempdir().unwrap();
    for (text, expected) in [
        (&b"{"[..], "EOF while parsing"),
        (b"{\"model_type\": \"\xff\"}", "utf-8"),
        (br#"{"model_type": "densenet"}"#, "missing field `format_version`"),
        (
            br#"{"model_type": "densenet", "format_version": 1}"#,
            "it is \"densenet\", format_version 1; expected \"ag-cnn\", 1",
        ),
        (
            br#"{"model_type": "ag-cnn", "format_version": 3, "new": []}"#,
            "it is \"ag-cnn\", format_version 3; expected \"ag-cnn\", 1 or 2",
        ),
        (br#"{"model_type": "ag-cnn", "format_version": 1}"#, "missing field"),
        (br#"{"model_type": "ag-cnn", "format_version": 2}"#, "missing field"),
        (&[b' '; (1 << 20) + 1], "1048577 bytes, expected at most 1048576"),
    ] {
        fs_err::write(folder.path().join("config.json"), text).unwrap();
        let (code, _, message) = predict_in(folder.path(), &["a.png", "--model", "."]);
        assert_eq!(code, Some(4), "{message}");
        assert!(message.starts_with("error: ./config.json: ") && message.contains(expected), "{message}");
    }
}

#[test]
fn nothing_is_exported_over_something() {
    let folder = tempfile::tempdir().unwrap();
    for taken in ["folder", "folder/", "file", "link"] {
        let path = folder.path().join(taken.trim_end_matches('/'));
        match taken {
            "file" => fs_err::write(&path, "").unwrap(),
            "link" => std::os::unix::fs::symlink("nowhere", &path).unwrap(),
            _ => fs_err::create_dir_all(&path).unwrap(),
        }
        let (code, _, message) = predict_in(folder.path(), &["export", taken]);
        assert_eq!(code, Some(2), "{message}");
        assert!(message.contains("exists already"), "{taken}: {message}");
    }
}
