//! Compiles the CUDA kernels to PTX, where the feature `cuda` asks for them.

#![allow(clippy::print_stdout)] // how a build script speaks to cargo

use std::{env, path::PathBuf, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=cuda");
    for name in ["NVCC", "CUDA_COMPUTE_CAP"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let nvcc = env::var("NVCC").unwrap_or_else(|_| "nvcc".into());
    let capability = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| "80".into());
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
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
