//! The vectors of x86-64: AVX-512 and AVX2.

use std::arch::x86_64::*;

use super::{Arithmetic, Convert, FLOATS, HALVES, HIGH, PARTS, Vector};

/// Rounded to bf16, ties away from zero.
#[inline(always)]
unsafe fn rounded(v: __m512) -> __m512 {
    // SAFETY: the caller promises the instructions.
    unsafe {
        let bits = _mm512_add_epi32(_mm512_castps_si512(v), _mm512_set1_epi32(0x8000));
        _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(0xffff_0000_u32 as i32)))
    }
}

/// Writes the parts of two vectors, whose bf16 numbers are taken from both in this order.
///
/// # Safety
/// The rows have room for them.
#[inline(always)]
unsafe fn store_mixed(low: __m512, high: __m512, order: &[u16; 32], row: *mut f32, part: usize) {
    // SAFETY: the caller promises the instructions and room.
    unsafe {
        let order = _mm512_loadu_si512(order.as_ptr().cast());
        let (low, high) = (low.parts(), high.parts());
        let mut index = 0;
        while index < PARTS {
            let (low, high) = (_mm512_castps_si512(low[index]), _mm512_castps_si512(high[index]));
            _mm512_storeu_si512(row.add(index * part).cast(), _mm512_permutex2var_epi16(low, order, high));
            index += 1;
        }
    }
}

impl Convert for __m512 {
    #[inline(always)]
    unsafe fn parts(self) -> [Self; PARTS] {
        // SAFETY: the caller promises the instructions.
        unsafe {
            let first = rounded(self);
            let rest = _mm512_sub_ps(self, first);
            let second = rounded(rest);
            [first, second, _mm512_sub_ps(rest, second)]
        }
    }

    #[inline(always)]
    unsafe fn store_half_parts(self, next: Self, row: *mut f32, at: usize, part: usize) {
        // SAFETY: the caller's promise; an element takes half a float.
        unsafe { store_mixed(self, next, &UPPER_HALVES, row.cast::<u16>().add(at).cast(), part) }
    }

    #[inline(always)]
    unsafe fn store_pair_parts(self, high: Self, row: *mut f32, at: usize, part: usize) {
        // SAFETY: the caller's promise.
        unsafe { store_mixed(self, high, &PAIRED_HALVES, row.add(at), part) }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32) {
        // SAFETY: the caller promises room for a vector; its start is aligned where that is needed.
        unsafe { if to.addr().is_multiple_of(size_of::<Self>()) { _mm512_stream_ps(to, self) } else { self.store(to) } }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the caller promises the instructions and 16 readable elements.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: the caller promises room for 16 bytes.
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(self))) }
    }

    #[inline(always)]
    unsafe fn store_as<const FORM: u8>(self, row: *mut f32, at: usize) {
        // SAFETY: the caller promises room; for all forms but `FLOATS`, `dispatch` has checked that the CPU has bf16. The
        // transmuted types are 32 bytes of plain data.
        unsafe {
            if FORM == FLOATS {
                return self.store(row.add(at));
            }
            let halves = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(self));
            if FORM == HALVES {
                return _mm256_storeu_si256(row.cast::<u16>().add(at).cast(), halves);
            }
            let (to, wide) = (row.add(at).cast::<__m512i>(), _mm512_cvtepu16_epi32(halves));
            match FORM {
                HIGH => {
                    let both = _mm512_or_si512(_mm512_slli_epi32::<16>(wide), _mm512_loadu_si512(to));
                    _mm512_storeu_si512(to, both);
                }
                _ => _mm512_storeu_si512(to, wide),
            }
        }
    }

    #[inline(always)]
    unsafe fn store_pairs(self, high: Self, row: *mut f32, at: usize) {
        // SAFETY: the caller promises room, and `dispatch` has checked that the CPU has bf16. The transmuted types are 64
        // bytes of plain data.
        unsafe {
            let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, self));
            let order = _mm512_loadu_si512(INTERLEAVED.as_ptr().cast());
            _mm512_storeu_si512(row.add(at).cast(), _mm512_permutexvar_epi16(order, both));
        }
    }

    #[inline(always)]
    unsafe fn pair_bf16(low: *const u16, high: *const u16, row: *mut f32, at: usize) {
        // SAFETY: the caller promises the instructions, 16 readable elements each, and room.
        unsafe {
            let low = _mm512_castsi256_si512(_mm256_loadu_si256(low.cast()));
            let both = _mm512_inserti64x4::<1>(low, _mm256_loadu_si256(high.cast()));
            let order = _mm512_loadu_si512(INTERLEAVED.as_ptr().cast());
            _mm512_storeu_si512(row.add(at).cast(), _mm512_permutexvar_epi16(order, both));
        }
    }
}

/// A permutation of the halves of two vectors: `first, second, first + step, second + step, ...`.
const fn order(first: u16, second: u16, step: u16) -> [u16; 32] {
    let mut order = [0; 32];
    let mut at = 0;
    while at < 32 {
        let from = if at % 2 == 0 { first } else { second };
        order[at] = from + at as u16 / 2 * step;
        at += 1;
    }
    order
}

/// The upper halves of the floats of two vectors, one vector after the other.
static UPPER_HALVES: [u16; 32] = order(1, 3, 4);
/// The upper halves of the floats of two vectors, in turn.
static PAIRED_HALVES: [u16; 32] = order(1, 33, 2);
/// The halves of the first half of a vector and those of its second half, in turn.
static INTERLEAVED: [u16; 32] = order(0, 16, 1);

impl Convert for __m256 {
    #[inline(always)]
    unsafe fn parts(self) -> [Self; PARTS] {
        // SAFETY: the types are 32 bytes of plain data; each part has 8 floats.
        unsafe {
            let [first, second, third] = std::mem::transmute::<__m256, [f32; 8]>(self).parts();
            [Self::load(first.as_ptr()), Self::load(second.as_ptr()), Self::load(third.as_ptr())]
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the caller promises the instructions and 8 readable elements.
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: the types are 32 bytes of plain data; the caller promises room for 8 bytes.
        unsafe { std::mem::transmute::<__m256, [f32; 8]>(self).store_bytes(to) }
    }

    #[inline(always)]
    unsafe fn store_as<const FORM: u8>(self, row: *mut f32, at: usize) {
        // SAFETY: the caller's promise. Forms in bf16 have no AVX2 instructions, so plain Rust computes them.
        unsafe {
            if FORM == FLOATS {
                return self.store(row.add(at));
            }
            std::mem::transmute::<__m256, [f32; 8]>(self).store_as::<FORM>(row, at);
        }
    }
}

#[inline(always)]
unsafe fn positive512(v: __m512, of: __m512) -> __m512 {
    // SAFETY: the caller promises the instructions.
    unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(of, _mm512_setzero_ps()), v) }
}

#[inline(always)]
unsafe fn positive256(v: __m256, of: __m256) -> __m256 {
    // SAFETY: as above.
    unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(of, _mm256_setzero_ps()), v) }
}

#[inline(always)]
unsafe fn equal512(v: __m512, a: __m512, b: __m512) -> __m512 {
    // SAFETY: as above.
    unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b), v) }
}

#[inline(always)]
unsafe fn equal256(v: __m256, a: __m256, b: __m256) -> __m256 {
    // SAFETY: as above.
    unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_EQ_OQ>(a, b), v) }
}

#[inline(always)]
unsafe fn larger512(v: __m512, mine: __m512, other: __m512, others: __m512) -> (__m512, __m512) {
    // SAFETY: as above. "Not less or equal" is true where `other` is larger or one of the two is NaN.
    unsafe {
        let wins = _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(other, v) & _mm512_cmp_ps_mask::<_CMP_ORD_Q>(v, v);
        (_mm512_mask_mov_ps(v, wins, other), _mm512_mask_mov_ps(mine, wins, others))
    }
}

#[inline(always)]
unsafe fn larger256(v: __m256, mine: __m256, other: __m256, others: __m256) -> (__m256, __m256) {
    // SAFETY: as above.
    unsafe {
        let wins = _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLE_UQ>(other, v), _mm256_cmp_ps::<_CMP_ORD_Q>(v, v));
        (_mm256_blendv_ps(v, other, wins), _mm256_blendv_ps(mine, others, wins))
    }
}

macro_rules! vector {
    (
        $type:ty, $lanes:literal, $zero:ident, $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident,
        $sub:ident, $mul:ident, $max:ident, $positive:ident, $equal:ident, $larger:ident
    ) => {
        impl Vector for $type {
            const LANES: usize = $lanes;

            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: the caller promises the instruction, here and in all methods below.
                unsafe { $zero() }
            }
            #[inline(always)]
            unsafe fn splat(from: *const f32) -> Self {
                // SAFETY: the caller promises a readable float.
                unsafe { $splat(*from) }
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                // SAFETY: the caller promises a readable vector; the load needs no alignment.
                unsafe { $load(from) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                // SAFETY: the caller promises room for a vector; the store needs no alignment.
                unsafe { $store(to, self) }
            }
            #[inline(always)]
            unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
                // SAFETY: as for `zero`.
                unsafe { $fma(self, by, plus) }
            }
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                // SAFETY: as for `zero`.
                unsafe { $add(self, other) }
            }
        }

        impl Arithmetic for $type {
            #[inline(always)]
            unsafe fn sub(self, other: Self) -> Self {
                // SAFETY: as for `zero`.
                unsafe { $sub(self, other) }
            }
            #[inline(always)]
            unsafe fn mul(self, other: Self) -> Self {
                // SAFETY: as for `zero`.
                unsafe { $mul(self, other) }
            }
            #[inline(always)]
            unsafe fn at_least(self, floor: Self) -> Self {
                // SAFETY: as for `zero`. Where one is NaN, the instruction returns the second.
                unsafe { $max(floor, self) }
            }
            #[inline(always)]
            unsafe fn where_positive(self, of: Self) -> Self {
                // SAFETY: as for `zero`.
                unsafe { $positive(self, of) }
            }
            #[inline(always)]
            unsafe fn where_equal(self, a: Self, b: Self) -> Self {
                // SAFETY: as for `zero`.
                unsafe { $equal(self, a, b) }
            }
            #[inline(always)]
            unsafe fn larger(self, mine: Self, other: Self, others: Self) -> (Self, Self) {
                // SAFETY: as for `zero`.
                unsafe { $larger(self, mine, other, others) }
            }
        }
    };
}
vector!(
    __m512,
    16,
    _mm512_setzero_ps,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_fmadd_ps,
    _mm512_add_ps,
    _mm512_sub_ps,
    _mm512_mul_ps,
    _mm512_max_ps,
    positive512,
    equal512,
    larger512
);
vector!(
    __m256,
    8,
    _mm256_setzero_ps,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_mul_ps,
    _mm256_max_ps,
    positive256,
    equal256,
    larger256
);
