//! Values of `f32` as sums of three bf16 numbers.
//!
//! `f32` has 24 significant bits, bf16 has 8: each part is the rest of the value rounded to bf16, so that the three are the
//! value exactly. Of the nine products of two values' parts, the six largest are computed; what is left out is at most 2^-25
//! of the product, less than `f32` rounds (Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype
//! For Higher-Precision Computations", 2019, <https://arxiv.org/abs/1904.06376>). Numbers that bf16 rounds to infinity, above
//! 3.39e38, become NaN.

use std::arch::x86_64::*;

use crate::kernel::operands::{PART, PITCH};

/// The parts of a value.
pub(in crate::kernel) const PARTS: usize = 3;
/// Values in a step of sixteen pairs.
const VALUES: usize = 32;

/// Splits the first `len` values of `rows` rows, `pitch` floats apart, into rows of `to`, [`PITCH`] floats apart: each has its
/// parts [`PART`] floats apart, followed by zeros up to a whole number of [`VALUES`].
///
/// # Panics
/// A row has no room for its values, or one of the two has too few rows.
pub(in crate::kernel) fn split_rows((from, pitch): (&[f32], usize), (rows, len): (usize, usize), to: &mut [f32]) {
    assert!(len <= 2 * PART && rows * PITCH <= to.len());
    assert!(rows == 0 || (rows - 1) * pitch + len <= from.len());
    for row in 0..rows {
        // SAFETY: only used where the CPU has AMX, and with it AVX-512. Both rows are long enough, as just checked.
        unsafe { split_row(from.as_ptr().add(row * pitch), len, to.as_mut_ptr().add(row * PITCH)) };
    }
}

/// # Safety
/// `len` floats can be read, PITCH written; the CPU has the instructions.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn split_row(from: *const f32, len: usize, to: *mut f32) {
    // SAFETY: the masks end with the last value; room for whole steps is the caller's promise.
    unsafe {
        let upper = _mm512_loadu_si512(UPPER_HALVES.as_ptr().cast());
        for at in (0..len).step_by(VALUES) {
            let (low, high) = (load(from, at, len), load(from, at + VALUES / 2, len));
            let parts = split(low).into_iter().zip(split(high));
            for (part, (low, high)) in parts.enumerate() {
                let to = to.add(part * PART + at / 2);
                _mm512_storeu_si512(to.cast(), _mm512_permutex2var_epi16(low, upper, high));
            }
        }
    }
}

/// Splits the values of two rows into pairs: those of part `p` go to `to` from `p part + at` on.
///
/// # Panics
/// The rows differ in length, or `to` has no room.
pub(in crate::kernel) fn split_pairs<F>(low: &[f32], high: &[f32], to: &mut [F], (part, at): (usize, usize)) {
    assert!(size_of::<F>() == size_of::<f32>(), "f32, initialised or not");
    assert!(high.len() == low.len() && (PARTS - 1) * part + at + low.len() <= to.len());
    // SAFETY: only used where the CPU has AMX, and with it AVX-512. Both rows have this length, and `to` has room, as just
    // checked.
    unsafe { split_pair(low.as_ptr(), high.as_ptr(), low.len(), to.as_mut_ptr().cast::<f32>().add(at), part) };
}

/// # Safety
/// `len` floats can be read from both, and be written at `to` and each `part` behind it; the CPU has the instructions.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn split_pair(low: *const f32, high: *const f32, len: usize, to: *mut f32, part: usize) {
    // SAFETY: the masks end with the last value.
    unsafe {
        let order = _mm512_loadu_si512(PAIRED_HALVES.as_ptr().cast());
        for at in (0..len).step_by(VALUES / 2) {
            let pairs = split(load(low, at, len)).into_iter().zip(split(load(high, at, len)));
            for (index, (low, high)) in pairs.enumerate() {
                let to = to.add(index * part + at);
                let pairs = _mm512_permutex2var_epi16(low, order, high);
                _mm512_mask_storeu_epi32(to.cast(), before(at, len), pairs);
            }
        }
    }
}

/// Which of sixteen values from `at` on are before `len`.
#[inline(always)]
fn before(at: usize, len: usize) -> __mmask16 {
    let count = len.saturating_sub(at).min(16);
    ((1u32 << count) - 1) as __mmask16
}

/// Sixteen values from `at` on; behind `len` are zeros.
///
/// # Safety
/// `len` floats can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn load(from: *const f32, at: usize, len: usize) -> __m512 {
    // SAFETY: the mask ends with the last value.
    unsafe { _mm512_maskz_loadu_ps(before(at, len), from.wrapping_add(at)) }
}

/// The parts of sixteen values, each in the upper half of a float; the lower halves are of no account.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn split(v: __m512) -> [__m512i; PARTS] {
    let first = rounded(v);
    let rest = _mm512_sub_ps(v, _mm512_castsi512_ps(first));
    let second = rounded(rest);
    let third = _mm512_sub_ps(rest, _mm512_castsi512_ps(second));
    [first, second, _mm512_castps_si512(third)]
}

/// Rounded to bf16, ties away from zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rounded(v: __m512) -> __m512i {
    let bits = _mm512_add_epi32(_mm512_castps_si512(v), _mm512_set1_epi32(0x8000));
    _mm512_and_si512(bits, _mm512_set1_epi32(0xffff_0000_u32 as i32))
}

/// The upper halves of the floats of two vectors, one vector after the other.
static UPPER_HALVES: [u16; 32] = {
    let mut order = [0; 32];
    let mut at = 0;
    while at < 32 {
        order[at] = (2 * at + 1) as u16;
        at += 1;
    }
    order
};

/// The upper halves of the floats of two vectors, in turn.
static PAIRED_HALVES: [u16; 32] = {
    let mut order = [0; 32];
    let mut at = 0;
    while at < 32 {
        order[at] = (at / 2 * 2 + 1 + at % 2 * 32) as u16;
        at += 1;
    }
    order
};
