//! The command line.

use std::process::Command;

fn phantom(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_phantom")).args(arguments).output().unwrap()
}

#[test]
fn help_teaches() {
    insta::assert_snapshot!(String::from_utf8(phantom(&["--help"]).stdout).unwrap());
}

#[test]
fn a_value_out_of_range_is_a_usage_error() {
    let output = phantom(&["--set", "phantom.patients=3"]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("phantom.patients = 3, expected 10 to 100000"), "{message}");
}
