//! The element types of activations.

use half::bf16;

use super::{
    bf16::bits,
    dispatch::{Rows, dispatch},
    form::Form,
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

    /// Converts floats to elements and writes them.
    ///
    /// # Safety
    /// `to` has room for as many elements, and no other thread uses it.
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
    unsafe fn load<V: Convert>(from: *const f32) -> V {
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
    unsafe fn load<V: Convert>(from: *const bf16) -> V {
        // SAFETY: the caller's promise; a bf16 is its bits.
        unsafe { V::load_bf16(from.cast()) }
    }
    #[inline(always)]
    unsafe fn put(values: &[f32], to: *mut bf16) {
        // SAFETY: the caller's promise; a bf16 is its bits.
        unsafe { dispatch(Form::Halves, &Put { values, to: to.cast() }) }
    }
}

impl Form {
    /// The form in which results of this type are stored.
    pub(super) fn of<T: Element>() -> Form {
        if T::BF16 { Form::Halves } else { Form::Floats }
    }
}

/// Writes floats as bf16.
struct Put<'a> {
    values: &'a [f32],
    to: *mut f32,
}

impl Rows for Put<'_> {
    #[inline(always)]
    fn row_len(&self) -> usize {
        self.values.len()
    }

    #[inline(always)]
    unsafe fn vector<V: Convert, const FORM: u8>(&self, _: usize, at: usize) {
        // SAFETY: the caller's promise; `to` has room for as many elements as `values`.
        unsafe { V::load(self.values.as_ptr().add(at)).store_as::<FORM>(self.to, at) };
    }
}
