//! Where tensors live.

use candle_core::Device;

use crate::{Error, Result};

/// The device called `auto`, `cpu`, `cuda` or `cuda:N`.
///
/// `auto` is the first CUDA device if this build and machine have one, else the CPU. The first use also tells the C
/// library to keep freed memory ([`ops::host::keep_heap`]): a training step frees and allocates gigabytes, and page
/// faults would cost more than the arithmetic.
///
/// # Errors
/// An unknown name; CUDA in a build without it.
pub fn device(name: &str) -> Result<Device> {
    let refused = |reason: String| Err(Error::Device { got: name.to_owned(), reason });
    let number = match name {
        "auto" | "cpu" => None,
        "cuda" => Some(0),
        _ => match name.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(number)) => Some(number),
            _ => return refused("expected auto, cpu, cuda or cuda:N".to_owned()),
        },
    };
    match number {
        Some(number) => cuda(number).or_else(refused),
        None if name == "auto" => cuda(0).or_else(|_| Ok(cpu())),
        None => Ok(cpu()),
    }
}

/// What a device is called: `2 CPU threads`, or the name of a GPU.
pub fn describe(device: &Device) -> String {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = device {
        return cuda.cuda_stream().context().name().unwrap_or_else(|_| "CUDA".to_owned());
    }
    let _ = device;
    format!("{} CPU threads", rayon::current_num_threads())
}

fn cpu() -> Device {
    ops::host::keep_heap();
    Device::Cpu
}

/// A CUDA device, or why there is none.
#[cfg(feature = "cuda")]
fn cuda(number: usize) -> std::result::Result<Device, String> {
    let device =
        Device::new_cuda_with_stream(number).map_err(|error| format!("{error}; --device cpu goes on without"))?;
    ops::host::one_stream(&device).map_err(|error| error.to_string())?;
    Ok(device)
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> std::result::Result<Device, String> {
    Err("this build has no CUDA".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(device("cpu").unwrap().is_cpu());
        let message = |name| device(name).unwrap_err().to_string();
        if cfg!(not(feature = "cuda")) {
            assert!(device("auto").unwrap().is_cpu());
            assert_eq!(message("cuda:1"), "no device \"cuda:1\": this build has no CUDA");
        }
        assert!(message("cuda:99").starts_with("no device \"cuda:99\": "));
        assert_eq!(message("cuda:x"), "no device \"cuda:x\": expected auto, cpu, cuda or cuda:N");
    }
}
