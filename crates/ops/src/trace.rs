//! Trace spans, for profiles.

use candle_core::Tensor;
use tracing::{Level, span, span::EnteredSpan};

use crate::kernel::conv::Geometry;

/// A span for a pass of a convolution; `plus` is a tensor that it reads besides its operands.
pub(crate) fn conv(op: &'static str, g: &Geometry, plus: Option<&Tensor>) -> EnteredSpan {
    let (x, y) = (g.n * g.h * g.w * g.ci, g.n * g.oh * g.ow * g.co);
    let depth = g.kh * g.kw * g.ci;
    let bytes = || g.precision.bytes() * (x + y) + 4 * g.co * depth + plus.map_or(0, bytes_of);
    span!(
        target: "ops",
        Level::TRACE,
        "op",
        op,
        shape = %format_args!("{}x{} {} > {} {}x{} /{}", g.h, g.w, g.ci, g.co, g.kh, g.kw, g.stride),
        flop = 2 * (y * depth) as u64,
        bytes = bytes() as u64,
    )
    .entered()
}

/// A span for an operator without counted operations that reads or writes each of these tensors once.
pub(crate) fn pass(op: &'static str, tensors: &[&Tensor]) -> EnteredSpan {
    let bytes = || tensors.iter().map(|tensor| bytes_of(tensor)).sum::<usize>();
    span!(
        target: "ops",
        Level::TRACE,
        "op",
        op,
        shape = ?tensors.first().map(|tensor| tensor.dims()),
        flop = 0u64,
        bytes = bytes() as u64,
    )
    .entered()
}

fn bytes_of(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}
