//! Compiles the CUDA kernels to PTX, and makes Rust constants of the numbers in `cuda/constants.h`, if the feature `cuda`
//! is on.

#![allow(clippy::print_stdout)] // how a build script speaks to cargo

use std::{env, fmt::Write, fs, path::PathBuf, process::Command};

#[expect(clippy::disallowed_methods, reason = "a build script without dependencies")]
fn main() {
    println!("cargo:rerun-if-changed=cuda");
    for name in ["NVCC", "CUDA_COMPUTE_CAP"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let header = fs::read_to_string("cuda/constants.h").expect("the header is a part of this crate");
    fs::write(out.join("constants.rs"), constants(&header)).expect("cargo makes OUT_DIR");

    let nvcc = env::var("NVCC").unwrap_or_else(|_| "nvcc".into());
    let capability = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| "80".into());
    let status = Command::new(&nvcc)
        .args(["-O3", "--ptx", &format!("-arch=compute_{capability}"), "--output-directory"])
        .arg(&out)
        .arg("cuda/kernels.cu")
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{nvcc} ended with {status}; hint: just cuda-toolkit installs one that works"),
        Err(error) => panic!("{nvcc} did not start: {error}; hint: just cuda-toolkit installs one, without root"),
    }
}

/// A `u32` constant for every `#define NAME NUMBER`.
fn constants(header: &str) -> String {
    let mut constants = String::new();
    for line in header.lines().filter(|line| line.starts_with('#')) {
        let [_, name, number] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("constants.h: expected `#define NAME NUMBER`, got `{line}`");
        };
        let number: u32 = number.parse().unwrap_or_else(|error| panic!("constants.h: {name}: {error}"));
        writeln!(constants, "pub(crate) const {name}: u32 = {number};").expect("a string takes any text");
    }
    constants
}
