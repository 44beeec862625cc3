//! Where tensors live.

use candle_core::Device;

use crate::error::{Error, Result};

/// The device called `auto`, `cpu`, `cuda` or `cuda:N`.
///
/// `auto` is the first CUDA device if this build and machine have one, else the CPU; of several ranks on a machine, `auto` and
/// `cuda` give each the device of its number among them. A program that trains on a CPU should
/// also call [`keep_freed_memory`](crate::keep_freed_memory) when it starts.
///
/// # Errors
/// An unknown name; CUDA in a build without it.
pub fn device(name: &str) -> Result<Device> {
    let refused = |reason: String| Err(Error::Device { got: name.to_owned(), reason });
    let number = match name {
        "auto" | "cpu" => None,
        "cuda" => Some(own()),
        _ => match name.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(number)) => Some(number),
            _ => return refused("expected auto, cpu, cuda or cuda:N".to_owned()),
        },
    };
    match number {
        Some(number) => cuda(number).or_else(refused),
        None if name == "auto" => cuda(own()).or_else(|reason| {
            if let Some(warning) = without_cuda(&reason) {
                tracing::warn!("{warning}");
            }
            Ok(Device::Cpu)
        }),
        None => Ok(Device::Cpu),
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

/// Runs a step's operators on a thread of the pool that their kernels run on. From any other thread, each operator would wake
/// two threads and wait for both, which small networks notice: one of 64 px trains 1.13 times as fast so.
///
/// With a GPU, whose context belongs to this thread, it stays here, and with ranks that only this thread may speak to.
pub(crate) fn in_pool<T: Send>(device: &Device, work: impl FnOnce() -> T + Send) -> T {
    if device.is_cpu() && ranks::world().any_thread() { rayon::scope(|_| work()) } else { work() }
}

/// The number of this rank's CUDA device. Where a scheduler shows each rank only its own, that is the first.
fn own() -> usize {
    #[cfg(feature = "cuda")]
    {
        use candle_core::cuda_backend::cudarc::driver::CudaContext;
        let rank = ranks::world().local_rank();
        // Asked only where there are several ranks: a driver that is missing has its own words below.
        if rank > 0 {
            let devices = CudaContext::device_count().map_or(1, |count| usize::try_from(count).unwrap_or(1));
            return rank % devices.max(1);
        }
    }
    0
}

/// What to say where `auto` finds no CUDA device: nothing on a machine without a GPU, unless the build expects one.
fn without_cuda(reason: &str) -> Option<String> {
    if cfg!(feature = "cuda") {
        return Some(format!("no GPU: {reason}; the CPU computes, and --device cpu says so without this line"));
    }
    let driver = std::path::Path::new("/proc/driver/nvidia/version").exists();
    driver.then(|| {
        "this machine has a GPU and this build no CUDA; hint: `just all` uses it where nvcc is found".to_owned()
    })
}

/// A CUDA device, or why there is none, in a line.
#[cfg(feature = "cuda")]
fn cuda(number: usize) -> std::result::Result<Device, String> {
    let made = Device::new_cuda_with_stream(number).and_then(|device| {
        ops::device::use_one_stream(&device)?;
        Ok(device)
    });
    made.map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
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

    /// A test program of its own, from which the driver hides its devices.
    #[cfg(feature = "cuda")]
    #[test]
    fn without_a_gpu_the_cpu_computes() {
        const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";
        if std::env::var_os(VISIBLE).is_some_and(|devices| devices.is_empty()) {
            assert!(device("auto").unwrap().is_cpu());
            let message = device("cuda").unwrap_err().to_string();
            assert!(message.starts_with("no device \"cuda\": "), "{message}");
            assert!(message.contains("NO_DEVICE") && !message.contains('\n'), "{message}");
            assert!(without_cuda("none").unwrap().starts_with("no GPU: none; the CPU computes"));
            return;
        }
        let program = std::env::current_exe().unwrap();
        let name = "device::tests::without_a_gpu_the_cpu_computes";
        let child = std::process::Command::new(program).args(["--exact", name]).env(VISIBLE, "").output().unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
    }
}
