//! Helpers of the tests.

use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor, WithDType};

/// `n` numbers in `-1..1` that look random: SplitMix64, started at `seed`.
pub(crate) fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..n).map(|_| (next() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// [`noise`] of a shape.
pub(crate) fn random(shape: &[usize], seed: u64) -> Tensor {
    tensor(&noise(shape.iter().product(), seed), shape)
}

/// A tensor of these values.
pub(crate) fn tensor<T: WithDType>(values: &[T], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, device()).unwrap()
}

/// Where the tests run: the CPU, or, as `AGCNN_DEVICE=cuda` asks, the first CUDA device.
pub(crate) fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| match std::env::var("AGCNN_DEVICE").as_deref() {
        #[cfg(feature = "cuda")]
        Ok("cuda") => {
            let device = Device::new_cuda_with_stream(0).unwrap();
            ops::device::use_one_stream(&device).unwrap();
            device
        }
        Err(_) | Ok("cpu") => Device::Cpu,
        other => panic!("AGCNN_DEVICE={other:?}: expected cpu, or cuda with the feature of this name"),
    })
}

/// The values of a tensor of `f32` or bf16, in row-major order.
pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|t| t.to_dtype(DType::F32)?.to_vec1()).unwrap()
}

/// A tensor as bf16, rounded as candle does.
#[allow(dead_code)] // not every file has tests in bf16
pub(crate) fn halved(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::BF16).unwrap()
}

/// Asserts that two vectors differ nowhere by more than `tolerance` times the largest magnitude in `expected`.
#[track_caller]
pub(crate) fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0f32, |scale, v| scale.max(v.abs()));
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        // Written so that a NaN fails.
        let close = (g - e).abs() <= tolerance * scale;
        assert!(close, "{what}: element {i} is {g}, expected {e} (largest magnitude {scale})");
    }
}
