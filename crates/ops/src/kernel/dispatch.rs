//! Kernels that are written in registers, compiled once for each instruction set and form of result.

use super::{Isa, isa, vector::Leave};

/// How floats are left in a row of scratch memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Form {
    /// As they are.
    Floats = FLOATS,
    /// As bf16, two in the place of a float.
    Halves = HALVES,
    /// As bf16 in the lower half of each float's place, the upper half zero.
    Low = LOW,
    /// As bf16 in the upper half of each float's place; the lower half stays.
    High = HIGH,
    /// Two rows in one: the first [`Form::Low`], the second [`Form::High`].
    Pairs = PAIRS,
}

pub(super) const FLOATS: u8 = 0;
pub(super) const HALVES: u8 = 1;
pub(super) const LOW: u8 = 2;
pub(super) const HIGH: u8 = 3;
pub(super) const PAIRS: u8 = 4;

impl Form {
    /// Elements of a row of so many floats.
    pub(super) fn room(self, floats: usize) -> usize {
        if self == Form::Halves { 2 * floats } else { floats }
    }
}

/// Work for vectors.
pub(super) trait Job {
    /// # Safety
    ///
    /// The CPU has the instructions of `V`, and what the job says of its pointers and lengths is true.
    unsafe fn run<V: Leave, const FORM: u8>(&self);
}

/// Runs a job with the widest vectors of the instruction set in use.
///
/// # Safety
///
/// What the job says of its pointers and lengths is true.
#[inline]
pub(super) unsafe fn dispatch<J: Job>(form: Form, job: &J) {
    // SAFETY: `isa` and `bf16` return what this CPU has; the rest is the caller's promise.
    unsafe {
        match form {
            #[cfg(target_arch = "x86_64")]
            Form::Floats if isa() == Isa::Avx512 => x86::avx512(job),
            #[cfg(target_arch = "x86_64")]
            Form::Floats if isa() == Isa::Avx2 => x86::avx2(job),
            Form::Floats => job.run::<[f32; 4], FLOATS>(),
            #[cfg(target_arch = "x86_64")]
            Form::Halves if bf16() => x86::avx512_bf16::<J, HALVES>(job),
            #[cfg(target_arch = "x86_64")]
            Form::Low if bf16() => x86::avx512_bf16::<J, LOW>(job),
            #[cfg(target_arch = "x86_64")]
            Form::High if bf16() => x86::avx512_bf16::<J, HIGH>(job),
            #[cfg(target_arch = "x86_64")]
            Form::Pairs if bf16() => x86::avx512_bf16::<J, PAIRS>(job),
            Form::Halves => job.run::<[f32; 4], HALVES>(),
            Form::Low => job.run::<[f32; 4], LOW>(),
            Form::High => job.run::<[f32; 4], HIGH>(),
            Form::Pairs => job.run::<[f32; 4], PAIRS>(),
        }
    }
}

/// Whether the instruction set in use multiplies bf16 numbers.
pub fn bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return isa() == Isa::Avx512 && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256, __m512};

    use super::{FLOATS, Job};

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) unsafe fn avx512<J: Job>(job: &J) {
        // SAFETY: this function has the instructions, in the two below as well; the rest is the caller's promise.
        unsafe { job.run::<__m512, FLOATS>() }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2<J: Job>(job: &J) {
        // SAFETY: as above.
        unsafe { job.run::<__m256, FLOATS>() }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    pub(super) unsafe fn avx512_bf16<J: Job, const FORM: u8>(job: &J) {
        // SAFETY: as above.
        unsafe { job.run::<__m512, FORM>() }
    }
}
