//! Kernels written with explicit vectors, compiled once per instruction set and [`Form`] of the result.

use super::{
    form::{FLOATS, Form, HALF_PARTS, HALVES, HIGH, LOW, PAIR_PARTS, PAIRS},
    isa::{Isa, has_bf16, isa},
    vector::Convert,
};

/// A computation that is generic in the vector type.
pub(super) trait Job {
    /// # Safety
    ///
    /// The CPU has the instructions of `V`, and the job's pointers and lengths are valid.
    unsafe fn run<V: Convert, const FORM: u8>(&self);
}

/// A [`Job`] over rows of elements, in which each vector is computed independently of the others.
pub(super) trait Rows {
    /// Number of rows.
    #[inline(always)]
    fn rows(&self) -> usize {
        1
    }

    /// Elements in a row.
    fn row_len(&self) -> usize;

    /// Computes the vector of a row that starts at element `at`. Implementations must be `#[inline(always)]` and must not
    /// call closures: a function that is not inlined is compiled without the vector instructions.
    ///
    /// # Safety
    ///
    /// The CPU has the instructions of `V`, and the row has `V::LANES` elements from `at` on.
    unsafe fn vector<V: Convert, const FORM: u8>(&self, row: usize, at: usize);
}

/// Computes a row from element `at` on: whole vectors first, then the remaining elements one by one.
///
/// # Safety
///
/// As [`Job::run`].
#[inline(always)]
pub(super) unsafe fn for_each_vector<R: Rows, V: Convert, const FORM: u8>(job: &R, row: usize, mut at: usize) {
    let len = job.row_len();
    // SAFETY: the row has a whole vector, then one element, from `at` on; the rest is the caller's promise.
    unsafe {
        while at + V::LANES <= len {
            job.vector::<V, FORM>(row, at);
            at += V::LANES;
        }
        while at < len {
            job.vector::<[f32; 1], FORM>(row, at);
            at += 1;
        }
    }
}

impl<R: Rows> Job for R {
    #[inline(always)]
    unsafe fn run<V: Convert, const FORM: u8>(&self) {
        for row in 0..self.rows() {
            // SAFETY: the caller's promise.
            unsafe { for_each_vector::<R, V, FORM>(self, row, 0) };
        }
    }
}

/// Runs a job with the widest vectors of the instruction set in use.
///
/// # Safety
///
/// The job's pointers and lengths are valid.
#[inline]
pub(super) unsafe fn dispatch<J: Job>(form: Form, job: &J) {
    // SAFETY: `isa` and `has_bf16` report what this CPU has; the rest is the caller's promise.
    unsafe {
        match form {
            #[cfg(target_arch = "x86_64")]
            Form::Floats if isa().has_avx512() => x86::avx512(job),
            #[cfg(target_arch = "x86_64")]
            Form::Floats if isa() == Isa::Avx2 => x86::avx2(job),
            Form::Floats => job.run::<[f32; 4], FLOATS>(),
            #[cfg(target_arch = "x86_64")]
            Form::Halves if has_bf16() => x86::avx512_bf16::<J, HALVES>(job),
            #[cfg(target_arch = "x86_64")]
            Form::Low if has_bf16() => x86::avx512_bf16::<J, LOW>(job),
            #[cfg(target_arch = "x86_64")]
            Form::High if has_bf16() => x86::avx512_bf16::<J, HIGH>(job),
            #[cfg(target_arch = "x86_64")]
            Form::Pairs if has_bf16() => x86::avx512_bf16::<J, PAIRS>(job),
            Form::Halves => job.run::<[f32; 4], HALVES>(),
            Form::Low => job.run::<[f32; 4], LOW>(),
            Form::High => job.run::<[f32; 4], HIGH>(),
            Form::Pairs => job.run::<[f32; 4], PAIRS>(),
            // Few jobs are compiled for these.
            Form::HalfParts | Form::PairParts => unreachable!("`dispatch_parts` has these"),
        }
    }
}

/// As [`dispatch`], for forms with parts, which only CPUs with bf16 instructions use.
///
/// # Safety
///
/// The job's pointers and lengths are valid.
///
/// # Panics
///
/// The CPU has no such instructions, or the form no parts.
pub(super) unsafe fn dispatch_parts<J: Job>(form: Form, job: &J) {
    assert!(has_bf16() && matches!(form, Form::HalfParts | Form::PairParts));
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the CPU has the instructions, as just checked; the rest is the caller's promise.
    unsafe {
        match form {
            Form::HalfParts => x86::avx512_bf16::<J, HALF_PARTS>(job),
            _ => x86::avx512_bf16::<J, PAIR_PARTS>(job),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = job;
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256, __m512};

    use super::{FLOATS, Job};

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) unsafe fn avx512<J: Job>(job: &J) {
        // SAFETY: this function has the instructions, as do the two below; the rest is the caller's promise.
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
