//! What activations are stored in.

use half::bf16;

use super::{
    bf16::bits,
    dispatch::{Form, HALVES, Job, dispatch},
    vector::{Leave, Vector},
};

/// `f32`, or its upper half; sums are `f32` either way.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// Whether it is bf16.
    const BF16: bool;
    const ZERO: Self;

    fn wide(self) -> f32;
    /// To nearest, ties to even.
    fn narrow(v: f32) -> Self;

    /// A vector of them.
    ///
    /// # Safety
    /// The CPU has `V`, and there is one at `from`.
    unsafe fn load<V: Leave>(from: *const Self) -> V;

    /// Writes floats as elements.
    ///
    /// # Safety
    /// There is room for them at `to`, which is nobody else's.
    unsafe fn put(values: &[f32], to: *mut Self);
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
    unsafe fn load<V: Leave>(from: *const f32) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load(from) }
    }
    #[inline(always)]
    unsafe fn put(values: &[f32], to: *mut f32) {
        // SAFETY: the caller's promise; `values` is borrowed elsewhere.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), to, values.len()) }
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
    unsafe fn load<V: Leave>(from: *const bf16) -> V {
        // SAFETY: the caller's promise; a bf16 is its bits.
        unsafe { V::load_halves(from.cast()) }
    }
    #[inline(always)]
    unsafe fn put(values: &[f32], to: *mut bf16) {
        // SAFETY: as long as `values`, the caller says.
        unsafe { dispatch(Form::Halves, &Put { values, to: to.cast() }) }
    }
}

/// Writing floats as bf16.
struct Put<'a> {
    values: &'a [f32],
    to: *mut f32,
}

impl Job for Put<'_> {
    #[inline(always)]
    unsafe fn run<V: Leave, const FORM: u8>(&self) {
        let (from, len) = (self.values.as_ptr(), self.values.len());
        let mut done = 0;
        // SAFETY: `done` stays below the length by a vector, then by one float; room is the caller's promise.
        unsafe {
            while done + V::LANES <= len {
                V::load(from.add(done)).leave::<HALVES>(self.to, done);
                done += V::LANES;
            }
            while done < len {
                <[f32; 1]>::load(from.add(done)).leave::<HALVES>(self.to, done);
                done += 1;
            }
        }
    }
}
