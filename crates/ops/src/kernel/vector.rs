//! Vectors of floats, in registers.

#[cfg(target_arch = "x86_64")]
mod x86;

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
