//! The register tile behind every convolution pass, once per instruction set.
//!
//! `C[r][j] = sum_k A[r][k] B[k][j]` for up to [`MAX_ROWS`] rows and two vectors of columns. The sums live in
//! registers; one step of `k` broadcasts each row's `A` and multiplies it with two vectors of `B`.
//!
//! With the CPU's bf16 instructions a step takes two values of `k`: each float of `A` and `B` is then a pair of bf16
//! numbers. With matrix tiles ([`amx`](super::amx)) it takes sixteen such pairs, and the sums are in registers of their own.

use super::{
    isa::{Isa, has_bf16, isa},
    operands::{DEPTH, MAX_ROWS, ONE_TAP, Operands, PART, PITCH, Tile},
    vector::Vector,
};
use crate::buffer::Aligned;

/// The fastest tile for products of `f32`.
pub(crate) fn f32_tile() -> Tile {
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Amx => super::amx::F32,
        _ => tile(),
    }
}

/// The tile of `f32` vectors for the instruction set in use.
pub(crate) fn tile() -> Tile {
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Amx | Isa::Avx512 => x86::AVX512,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => x86::AVX2,
        _ => Tile {
            rows: 4,
            columns: 8,
            group: 1,
            parts: 1,
            depth: DEPTH,
            steps: 1,
            taps: 0,
            span: usize::MAX,
            pixels: 112,
            pitched: portable::<PITCH>,
            adjacent: Some(portable::<1>),
            lines: None,
        },
    }
}

/// The tile for products of bf16 numbers, where the CPU has instructions for them.
pub(crate) fn bf16_tile() -> Option<Tile> {
    #[cfg(target_arch = "x86_64")]
    if has_bf16() {
        return Some(if isa() == Isa::Amx { super::amx::BF16 } else { x86::AVX512_BF16 });
    }
    None
}

/// Computes a tile `times` times with operands that stay in the first-level cache; returns the floating-point operations.
pub(crate) fn exercise(tile: &Tile, times: usize) -> usize {
    let steps = if tile.parts > 1 { PART } else { 128 };
    let a = Aligned::zeros(MAX_ROWS * PITCH);
    let b = Aligned::zeros(tile.parts * 32 * steps);
    let mut c = Aligned::zeros(MAX_ROWS * 32);
    let operands = Operands {
        depth: steps,
        a: a.as_ptr(),
        a_step: 1,
        b: b.as_ptr(),
        b_step: tile.columns,
        b_part: tile.columns * steps,
        taps: ONE_TAP,
        b_tap: 0,
        accumulate: false,
        c: c.as_mut_ptr(),
        c_row: 32,
    };
    for _ in 0..times {
        // SAFETY: `A` has MAX_ROWS rows of PITCH floats, `B` 32 for each step and part, `C` rows of 32; all are local to this
        // function.
        unsafe { (tile.pitched)(tile.rows, std::hint::black_box(&operands)) };
    }
    2 * times * steps * tile.rows * tile.columns * tile.group
}

/// Prefetches the cache line of a float that will be read or written.
#[inline(always)]
pub(crate) fn prefetch(at: *const f32) {
    // SAFETY: a prefetch affects only the caches, wherever it points; every x86-64 CPU has it.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// # Safety
/// As [`Tile::pitched`], with `A_ROW` floats between the rows of `A`, on a CPU that has `V`.
#[inline(always)]
unsafe fn run<V: Vector, const ROWS: usize, const A_ROW: usize>(operands: &Operands) {
    let Operands { depth, mut a, a_step, mut b, b_step, accumulate, c, c_row, .. } = *operands;
    // SAFETY: the caller promises the instructions and valid memory for everything the tile covers; nothing else is touched.
    unsafe {
        // The rows of `C` arrive in the cache during the multiplications.
        for row in 0..ROWS {
            prefetch(c.wrapping_add(row * c_row));
            prefetch(c.wrapping_add(row * c_row + V::LANES));
        }
        let mut sums = [[V::zero(); 2]; ROWS];
        for _ in 0..depth {
            let (left, right) = (V::load(b), V::load(b.add(V::LANES)));
            for (index, row) in sums.iter_mut().enumerate() {
                let value = V::splat(a.add(index * A_ROW));
                row[0] = value.mul_add(left, row[0]);
                row[1] = value.mul_add(right, row[1]);
            }
            a = a.wrapping_add(a_step);
            b = b.wrapping_add(b_step);
        }
        // Added last: a sum of short sums rounds less than one long sum (measured against f64 on whole networks).
        if accumulate {
            for (index, row) in sums.iter_mut().enumerate() {
                let c = c.add(index * c_row);
                *row = [V::load(c).add(row[0]), V::load(c.add(V::LANES)).add(row[1])];
            }
        }
        for (index, row) in sums.iter().enumerate() {
            let c = c.add(index * c_row);
            row[0].store(c);
            row[1].store(c.add(V::LANES));
        }
    }
}

/// # Safety
/// As [`run`], with at most `MOST` rows.
#[inline(always)]
unsafe fn by_rows<V: Vector, const MOST: usize, const A_ROW: usize>(rows: usize, operands: &Operands) {
    debug_assert!((1..=MOST).contains(&rows));
    macro_rules! cases {
        ($($n:literal)*) => {
            match rows {
                // SAFETY: passed on to the caller.
                $($n if $n <= MOST => unsafe { run::<V, $n, A_ROW>(operands) },)*
                _ => {}
            }
        };
    }
    cases!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
}

unsafe fn portable<const A_ROW: usize>(rows: usize, operands: &Operands) {
    // SAFETY: needs no special instruction; the rest is the caller's promise.
    unsafe { by_rows::<[f32; 4], 4, A_ROW>(rows, operands) }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::by_rows;
    use crate::kernel::{
        operands::{DEPTH, Operands, PITCH, Tile},
        vector::Vector,
    };

    /// 28 of 32 registers hold sums.
    pub(super) const AVX512: Tile = Tile {
        rows: 14,
        columns: 32,
        group: 1,
        parts: 1,
        depth: DEPTH,
        steps: 1,
        taps: 0,
        span: usize::MAX,
        pixels: 112,
        pitched: avx512::<PITCH>,
        adjacent: Some(avx512::<1>),
        lines: None,
    };
    pub(super) const AVX2: Tile = Tile {
        rows: 6,
        columns: 16,
        group: 1,
        parts: 1,
        depth: DEPTH,
        steps: 1,
        taps: 0,
        span: usize::MAX,
        pixels: 112,
        pitched: avx2::<PITCH>,
        adjacent: Some(avx2::<1>),
        lines: None,
    };

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    unsafe fn avx512<const A_ROW: usize>(rows: usize, operands: &Operands) {
        // SAFETY: this function has the instructions; the rest is the caller's promise.
        unsafe { by_rows::<__m512, 14, A_ROW>(rows, operands) }
    }

    pub(super) const AVX512_BF16: Tile =
        Tile { group: 2, depth: 2 * DEPTH, pitched: avx512_bf16::<PITCH>, adjacent: Some(avx512_bf16::<1>), ..AVX512 };

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    unsafe fn avx512_bf16<const A_ROW: usize>(rows: usize, operands: &Operands) {
        // SAFETY: this function has the instructions; the rest is the caller's promise.
        unsafe { by_rows::<Pairs, 14, A_ROW>(rows, operands) }
    }

    /// Sixteen sums, or sixteen pairs of bf16.
    #[derive(Clone, Copy)]
    struct Pairs(__m512);

    impl Vector for Pairs {
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: the caller promises the instruction, here and in all methods below.
            Pairs(unsafe { _mm512_setzero_ps() })
        }
        #[inline(always)]
        unsafe fn splat(from: *const f32) -> Self {
            // SAFETY: the caller promises a readable pair; it is moved as bits.
            Pairs(unsafe { _mm512_castsi512_ps(_mm512_set1_epi32(from.cast::<i32>().read())) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller promises a readable vector; the load needs no alignment.
            Pairs(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller promises room for a vector; the store needs no alignment.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
            // SAFETY: the two types are 64 bytes of plain data.
            let pairs = |v: __m512| unsafe { std::mem::transmute::<__m512, __m512bh>(v) };
            // SAFETY: as for `zero`.
            Pairs(unsafe { _mm512_dpbf16_ps(plus.0, pairs(self.0), pairs(by.0)) })
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: as for `zero`.
            Pairs(unsafe { _mm512_add_ps(self.0, other.0) })
        }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2<const A_ROW: usize>(rows: usize, operands: &Operands) {
        // SAFETY: this function has the instructions; the rest is the caller's promise.
        unsafe { by_rows::<__m256, 6, A_ROW>(rows, operands) }
    }
}
