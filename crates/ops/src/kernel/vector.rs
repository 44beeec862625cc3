//! Vectors of floats, in registers.

use super::{
    bf16,
    form::{FLOATS, HALF_PARTS, HALVES, HIGH, HIGH_PARTS, LOW, LOW_PARTS},
    operands::PARTS,
};

/// A vector register of floats.
///
/// # Safety
///
/// For every method: the CPU has the instructions, and the pointer has `LANES` floats (`splat` reads one).
pub(crate) trait Vector: Copy {
    const LANES: usize;

    unsafe fn zero() -> Self;
    unsafe fn splat(from: *const f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// `self * by + plus`, rounded once where the CPU can.
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
}

/// Arithmetic beyond multiply and add. Same safety contract as [`Vector`].
pub(crate) trait Arithmetic: Vector {
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// The larger of the two; NaN in `self` stays NaN.
    unsafe fn at_least(self, floor: Self) -> Self;
    /// `self` where `of > 0`, else 0.
    unsafe fn where_positive(self, of: Self) -> Self;
    /// `self` where `a == b`, else 0.
    unsafe fn where_equal(self, a: Self, b: Self) -> Self;
    /// The larger of `self` and `other` (`self` if equal, NaN is the largest), and that one's index: `mine` or `others`.
    unsafe fn larger(self, mine: Self, other: Self, others: Self) -> (Self, Self);
}

/// Conversion to and from bf16 and bytes. Same safety contract as [`Vector`].
pub(crate) trait Convert: Arithmetic {
    /// Writes the elements of a row from element `at` on, in a [`Form`](super::form::Form).
    ///
    /// # Safety
    /// The row has room for them; for `HIGH`, its lower halves are initialised.
    unsafe fn store_as<const FORM: u8>(self, row: *mut f32, at: usize);

    /// As [`Vector::store`], past the caches where the CPU can and `to` is a multiple of the vector's size.
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { self.store(to) }
    }

    /// As [`Convert::store_as`]; as floats past the caches, if asked to. The writer calls [`fence`] then, before another thread
    /// reads.
    #[inline(always)]
    unsafe fn write<const FORM: u8>(self, row: *mut f32, at: usize, past_caches: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            if FORM == FLOATS && past_caches {
                return self.stream(row.add(at));
            }
            self.store_as::<FORM>(row, at)
        }
    }

    /// The bf16 numbers whose sum is the value: each is what the ones before it leave, rounded, ties away from zero.
    ///
    /// `f32` has 24 significant bits, bf16 has 8, so that three of them are the value exactly. Values that bf16 rounds to
    /// infinity, above 3.39e38, become NaN.
    unsafe fn parts(self) -> [Self; PARTS];

    /// Writes the parts of the elements in a form with parts, whose rows are `part` floats apart.
    ///
    /// # Safety
    /// The rows have room for them; for `HIGH_PARTS`, their lower halves are initialised.
    #[inline(always)]
    unsafe fn store_parts<const FORM: u8>(self, row: *mut f32, at: usize, part: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let parts = self.parts();
            let mut index = 0;
            while index < PARTS {
                let row = row.add(index * part);
                match FORM {
                    LOW_PARTS => parts[index].store_as::<LOW>(row, at),
                    HIGH_PARTS => parts[index].store_as::<HIGH>(row, at),
                    _ => parts[index].store_as::<HALVES>(row, at),
                }
                index += 1;
            }
        }
    }

    /// Writes the parts of the elements as bf16, and those of `next` behind them; rows are `part` floats apart.
    ///
    /// # Safety
    /// The rows have room for them.
    #[inline(always)]
    unsafe fn store_half_parts(self, next: Self, row: *mut f32, at: usize, part: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            self.store_parts::<HALF_PARTS>(row, at, part);
            next.store_parts::<HALF_PARTS>(row, at + Self::LANES, part);
        }
    }

    /// Writes the parts as bf16 pairs: those of `self` in the lower halves, those of `high` in the upper ones; rows are `part`
    /// floats apart.
    ///
    /// # Safety
    /// The rows have room for them.
    #[inline(always)]
    unsafe fn store_pair_parts(self, high: Self, row: *mut f32, at: usize, part: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            self.store_parts::<LOW_PARTS>(row, at, part);
            high.store_parts::<HIGH_PARTS>(row, at, part);
        }
    }

    /// Loads `LANES` bf16 numbers.
    unsafe fn load_bf16(from: *const u16) -> Self;

    /// Loads `LANES` bytes as numbers.
    unsafe fn load_bytes(from: *const u8) -> Self;

    /// Writes whole numbers from 0 to 255 as bytes.
    unsafe fn store_bytes(self, to: *mut u8);

    /// Writes bf16 pairs: the elements of `self` in the lower halves, those of `high` in the upper ones.
    ///
    /// # Safety
    /// The row has room for them.
    #[inline(always)]
    unsafe fn store_pairs(self, high: Self, row: *mut f32, at: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            self.store_as::<LOW>(row, at);
            high.store_as::<HIGH>(row, at);
        }
    }

    /// As [`Convert::store_pairs`], of `LANES` bf16 numbers each.
    ///
    /// # Safety
    /// The row has room for them.
    #[inline(always)]
    unsafe fn pair_bf16(low: *const u16, high: *const u16, row: *mut f32, at: usize) {
        // SAFETY: the caller's promise.
        unsafe { Self::load_bf16(low).store_pairs(Self::load_bf16(high), row, at) }
    }
}

/// Makes what [`Convert::stream`] has written visible to other threads before anything that this thread writes later.
#[inline(always)]
pub(crate) fn fence() {
    // SAFETY: every x86-64 CPU has the instruction.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_sfence()
    }
}

/// Portable vectors, vectorised by the compiler; `[f32; 1]` computes the last elements of a row.
impl<const N: usize> Vector for [f32; N] {
    const LANES: usize = N;

    #[inline(always)]
    unsafe fn zero() -> Self {
        [0.0; N]
    }
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: the caller's promise, as in the two below.
        unsafe { [*from; N] }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as above; the read needs no alignment.
        unsafe { from.cast::<[f32; N]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as above; the write needs no alignment.
        unsafe { to.cast::<[f32; N]>().write_unaligned(self) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
        std::array::from_fn(|lane| self[lane] * by[lane] + plus[lane])
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] + other[lane])
    }
}

impl<const N: usize> Arithmetic for [f32; N] {
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] - other[lane])
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] * other[lane])
    }
    #[inline(always)]
    unsafe fn at_least(self, floor: Self) -> Self {
        std::array::from_fn(|lane| if self[lane] < floor[lane] { floor[lane] } else { self[lane] })
    }
    #[inline(always)]
    unsafe fn where_positive(self, of: Self) -> Self {
        std::array::from_fn(|lane| if of[lane] > 0.0 { self[lane] } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn where_equal(self, a: Self, b: Self) -> Self {
        std::array::from_fn(|lane| if a[lane] == b[lane] { self[lane] } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn larger(self, mine: Self, other: Self, others: Self) -> (Self, Self) {
        let wins: [bool; N] =
            std::array::from_fn(|lane| (other[lane] > self[lane]) | (other[lane].is_nan() & !self[lane].is_nan()));
        let either = |a: Self, b: Self| std::array::from_fn(|lane| if wins[lane] { b[lane] } else { a[lane] });
        (either(self, other), either(mine, others))
    }
}

impl<const N: usize> Convert for [f32; N] {
    #[inline(always)]
    unsafe fn parts(self) -> [Self; PARTS] {
        let rounded = |v: [f32; N]| v.map(|v| f32::from_bits(v.to_bits().wrapping_add(0x8000) & 0xffff_0000));
        let first = rounded(self);
        let rest: [f32; N] = std::array::from_fn(|lane| self[lane] - first[lane]);
        let second = rounded(rest);
        [first, second, std::array::from_fn(|lane| rest[lane] - second[lane])]
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the caller's promise; the read needs no alignment.
        let halves = unsafe { from.cast::<[u16; N]>().read_unaligned() };
        std::array::from_fn(|lane| f32::from_bits(u32::from(halves[lane]) << 16))
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        // SAFETY: the caller's promise; bytes have no alignment.
        unsafe { from.cast::<[u8; N]>().read() }.map(f32::from)
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: as above.
        unsafe { to.cast::<[u8; N]>().write(self.map(|v| v as u8)) }
    }

    #[inline(always)]
    unsafe fn store_as<const FORM: u8>(self, row: *mut f32, at: usize) {
        for (lane, v) in self.into_iter().enumerate() {
            let at = at + lane;
            // SAFETY: the caller promises room and, for `HIGH`, initialised memory.
            unsafe {
                match FORM {
                    HALVES => row.cast::<u16>().add(at).write(bf16::bits(v)),
                    LOW => row.cast::<u32>().add(at).write(bf16::bits(v).into()),
                    HIGH => *row.cast::<u32>().add(at) |= u32::from(bf16::bits(v)) << 16,
                    _ => row.add(at).write(v),
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
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
            unsafe {
                if to.addr().is_multiple_of(size_of::<Self>()) { _mm512_stream_ps(to, self) } else { self.store(to) }
            }
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

    /// The permutation that takes the upper halves of the floats of two vectors, one vector after the other.
    static UPPER_HALVES: [u16; 32] = {
        let mut order = [0; 32];
        let mut at = 0;
        while at < 32 {
            order[at] = (2 * at + 1) as u16;
            at += 1;
        }
        order
    };

    /// The permutation that takes the upper halves of the floats of two vectors, in turn.
    static PAIRED_HALVES: [u16; 32] = {
        let mut order = [0; 32];
        let mut at = 0;
        while at < 32 {
            order[at] = (at / 2 * 2 + 1 + at % 2 * 32) as u16;
            at += 1;
        }
        order
    };

    /// The permutation that interleaves two vectors: `low[0], high[0], low[1], ...`.
    static INTERLEAVED: [u16; 32] = {
        let mut order = [0; 32];
        let mut at = 0;
        while at < 32 {
            order[at] = (at / 2 + at % 2 * 16) as u16;
            at += 1;
        }
        order
    };

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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::isa::isa;

    /// Sixteen numbers of every size, from the 24 bits of each.
    fn numbers() -> impl Iterator<Item = [f32; 16]> {
        let bits = |at: u32| f32::from_bits(at.wrapping_mul(0x9e37_79b9) & 0xbfff_ffff);
        let some =
            [0.0, -0.0, 1.0, -1.5, f32::MIN_POSITIVE, 3.38e38, 1.0 + f32::EPSILON, 255.5, 256.5, 1e-40].into_iter();
        let all: Vec<f32> = some.chain((0..4096).map(bits)).collect();
        all.chunks_exact(16).map(|few| few.try_into().unwrap()).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn parts_are_bf16_and_add_up() {
        for numbers in numbers() {
            // SAFETY: arrays need no instruction.
            let parts = unsafe { numbers.parts() };
            for lane in 0..16 {
                let of = parts.map(|part| part[lane]);
                let sum: f64 = of.iter().map(|part| f64::from(*part)).sum();
                assert_eq!(sum, f64::from(numbers[lane]));
                let is_bf16 = |part: &f32| part.to_bits() & 0xffff == 0;
                // A number near the smallest has fewer bits than its parts could have.
                assert!(of.iter().all(is_bf16) || numbers[lane].abs() < 1e-32, "{of:?}");
            }
        }
        for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::from_bits(0x7fff_ffff)] {
            // SAFETY: as above.
            let parts = unsafe { [bad; 16].parts() };
            assert!(!parts.iter().map(|part| part[0]).sum::<f32>().is_finite(), "{bad}");
        }
    }

    /// Vectors store what arrays do.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn vectors_split_as_arrays_do() {
        use std::arch::x86_64::__m512;

        const PART: usize = 64;

        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
        unsafe fn vectors(low: &[f32; 16], high: &[f32; 16], rows: &mut [Vec<f32>; 3]) {
            let [singles, halves, pairs] = rows.each_mut().map(|row| row.as_mut_ptr());
            // SAFETY: this function has the instructions; every row has room for three parts.
            unsafe {
                let (low, high) = (__m512::load(low.as_ptr()), __m512::load(high.as_ptr()));
                low.store_parts::<HALF_PARTS>(singles, 1, PART);
                low.store_half_parts(high, halves, 3, PART);
                low.store_pair_parts(high, pairs, 5, PART);
            }
        }

        if !isa().has_avx512() || !is_x86_feature_detected!("avx512bf16") {
            return;
        }
        // Where a part is denormal, the instruction makes it zero.
        let all: Vec<_> = numbers().map(|few| few.map(|v| if v.abs() < 1e-30 { 0.0 } else { v })).collect();
        for both in all.windows(2) {
            let [low, high] = [both[0], both[1]];
            let mut got = [(); 3].map(|()| vec![0.0; 3 * PART]);
            let mut expected = got.clone();
            let [singles, halves, pairs] = expected.each_mut().map(|row| row.as_mut_ptr());
            // SAFETY: the CPU has the instructions, as just checked; arrays need none; every row has room for three parts.
            unsafe {
                vectors(&low, &high, &mut got);
                low.store_parts::<HALF_PARTS>(singles, 1, PART);
                low.store_half_parts(high, halves, 3, PART);
                low.store_pair_parts(high, pairs, 5, PART);
            }
            let bits =
                |rows: &[Vec<f32>; 3]| rows.each_ref().map(|row| row.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
            assert_eq!(bits(&got), bits(&expected), "{low:?} {high:?}");
        }
    }
}
