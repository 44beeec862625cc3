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
    match name {
        "auto" | "cpu" => {
            ops::host::keep_heap();
            Ok(Device::Cpu)
        }
        _ if name == "cuda" || is_cuda_number(name) => {
            Err(Error::Device { got: name.to_owned(), reason: "this build has no CUDA".to_owned() })
        }
        _ => Err(Error::Device { got: name.to_owned(), reason: "expected auto, cpu, cuda or cuda:N".to_owned() }),
    }
}

fn is_cuda_number(name: &str) -> bool {
    name.strip_prefix("cuda:").is_some_and(|number| number.parse::<usize>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(device("auto").unwrap().is_cpu());
        assert!(device("cpu").unwrap().is_cpu());
        let message = |name| device(name).unwrap_err().to_string();
        assert_eq!(message("cuda:1"), "no device \"cuda:1\": this build has no CUDA");
        assert_eq!(message("cuda:x"), "no device \"cuda:x\": expected auto, cpu, cuda or cuda:N");
    }
}
