//! Values as sums of parts, on CPUs whose tiles need that.

#[cfg(target_arch = "x86_64")]
pub(super) use crate::kernel::amx::parts::{split_pairs, split_rows};

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn split_rows(_: (&[f32], usize), _: (usize, usize), _: &mut [f32]) {
    unreachable!("no tile of this CPU has parts")
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn split_pairs<F>(_: &[f32], _: &[f32], _: &mut [F], _: (usize, usize)) {
    unreachable!("no tile of this CPU has parts")
}
