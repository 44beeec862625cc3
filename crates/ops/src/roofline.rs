//! The speed that no convolution can exceed.

use std::time::{Duration, Instant};

use candle_core::DType;

use crate::kernel::{self, conv::Precision};

/// The peak speed of all threads on this CPU, in floating-point operations per second, for activations of this type:
/// the speed of the convolutions' innermost loop with operands in registers and the first-level cache. Takes half a second.
pub fn peak_flops(activations: DType) -> f64 {
    let tile = if activations == DType::BF16 { Precision::Bf16 } else { Precision::F32 }.tile();
    let run = |seconds: f64| {
        let start = Instant::now();
        let flop = rayon::broadcast(|_| {
            let mut flop = 0;
            while start.elapsed() < Duration::from_secs_f64(seconds) {
                flop += kernel::exercise(&tile, 1000);
            }
            flop
        });
        let flop: usize = flop.into_iter().sum();
        flop as f64 / start.elapsed().as_secs_f64()
    };
    (0..5).map(|_| run(0.1)).fold(0.0, f64::max)
}
