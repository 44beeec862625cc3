//! The element types of activations.

use half::bf16;

use super::{
    bf16::bits,
    form::Form,
    isa::{Isa, isa},
    vector::Convert,
};

/// `f32` or bf16, its upper half. Sums are `f32` for both.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// Whether the type is bf16.
    const BF16: bool;
    const ZERO: Self;

    fn wide(self) -> f32;
    /// Rounds to nearest, ties to even.
    fn narrow(v: f32) -> Self;

    /// Loads a vector as `f32`.
    ///
    /// # Safety
    /// The CPU has `V`, and `V::LANES` elements can be read at `from`.
    unsafe fn load<V: Convert>(from: *const Self) -> V;
}

impl Element for f32 {
    const BF16: bool = false;
    const ZERO: f32 = 0.0;

    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }
    #[inline(always)]
    fn narrow(v: f32) -> f32 {
        v
    }
    #[inline(always)]
    unsafe fn load<V: Convert>(from: *const f32) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load(from) }
    }
}

impl Element for bf16 {
    const BF16: bool = true;
    const ZERO: bf16 = bf16::ZERO;

    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    #[inline(always)]
    fn narrow(v: f32) -> bf16 {
        bf16::from_bits(bits(v))
    }
    #[inline(always)]
    unsafe fn load<V: Convert>(from: *const bf16) -> V {
        // SAFETY: the caller's promise; a bf16 is its bits.
        unsafe { V::load_bf16(from.cast()) }
    }
}

/// Whether an output of `len` elements is written past the caches ([`Convert::write`]): a cache would read each line before it
/// is written, and has nothing of a large output left when it is read. Measured on an Intel Xeon (family 6, model 167):
/// memory is written 2.4 times faster so, and a ResNet-50 is evaluated 1.1 times as fast.
pub(crate) fn past_caches<T: Element>(len: usize) -> bool {
    const FLOATS: usize = 2 << 20; // 8 MiB
    isa() == Isa::Amx && !T::BF16 && len >= FLOATS
}

impl Form {
    /// The form in which results of this type are stored.
    pub(super) fn of<T: Element>() -> Form {
        if T::BF16 { Form::Halves } else { Form::Floats }
    }
}
