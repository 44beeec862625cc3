//! The matrix tiles of Intel's Xeons since 2023 (AMX-BF16): sixteen rows of 64 bytes in a register, multiplied as a whole.
//!
//! Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18. The instructions are written as
//! assembly, because Rust 1.95 has no stable functions for them.

use std::{
    arch::{asm, x86_64::__cpuid_count},
    cell::Cell,
    mem::MaybeUninit,
    sync::OnceLock,
};

use super::operands::{MAX_ROWS, Operands, PITCH, Tile};

/// Rows of `A` and of `C` that a product takes, and columns of `C`: two registers each way.
pub(super) const SIDE: usize = 32;
/// Steps of `k`, pairs of bf16, in a register.
const STEPS: usize = 16;

/// Whether the CPU has the instructions, and the kernel lets this process use their registers.
pub(super) fn is_supported() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| {
        let features = __cpuid_count(7, 0).edx;
        let (bf16, tiles) = (features >> 22 & 1, features >> 24 & 1);
        bf16 == 1 && tiles == 1 && ask_kernel()
    })
}

/// Asks for the registers, which make a thread's state 8 KiB larger: `ARCH_REQ_XCOMP_PERM` of `XTILEDATA`
/// (<https://docs.kernel.org/arch/x86/xstate.html>). Threads that start later inherit the permission.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn ask_kernel() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XTILEDATA: libc::c_long = 18;
    // SAFETY: this call changes only what this process may use; a kernel that does not know it returns an error.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0 }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn ask_kernel() -> bool {
    false
}

pub(super) const TILE: Tile =
    Tile { rows: SIDE, columns: SIDE, group: 2, steps: STEPS, pixels: 4 * SIDE, pitched: product, adjacent: None };

/// The shapes of the eight registers (palette 1): sixteen rows of 64 bytes each.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static SHAPES: Shapes = Shapes {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Gives the registers of this thread their shapes. They keep them: nothing else uses these registers.
fn shape_registers() {
    thread_local! { static SHAPED: Cell<bool> = const { Cell::new(false) } }
    if SHAPED.replace(true) {
        return;
    }
    // SAFETY: only called where `is_supported`; `SHAPES` is a valid configuration of 64 bytes.
    unsafe { asm!("ldtilecfg [{shapes}]", shapes = in(reg) &raw const SHAPES, options(nostack, readonly)) };
}

/// A tile, as [`Tile::pitched`]. Rows of `A` beyond `rows` are read, and their products dropped.
///
/// # Safety
/// As [`Tile::pitched`]; the CPU and the kernel allow it.
unsafe fn product(rows: usize, operands: &Operands, c: &[*mut f32; MAX_ROWS]) {
    const FLOAT: usize = size_of::<f32>();
    let Operands { depth, a, a_step, b, b_step, accumulate } = *operands;
    debug_assert!((1..=SIDE).contains(&rows) && a_step == 1 && depth.is_multiple_of(STEPS));
    shape_registers();
    let mut sums = MaybeUninit::<[[f32; SIDE]; SIDE]>::uninit();
    // Sums of `C` are in tmm0 to tmm3, two registers of `A` in tmm4 and tmm5, of `B` in tmm6 and tmm7.
    //
    // SAFETY: the caller promises that `A` has SIDE rows and `B` SIDE columns for every step; `sums` has room for the four
    // registers. No other code of this process uses these registers, so that they need not be named as clobbered.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "test {count}, {count}",
            "jz 3f",
            "2:",
            "tileloadd tmm4, [{a} + {a_row}]",
            "tileloadd tmm6, [{b} + {b_row}]",
            "tileloadd tmm7, [{b} + {b_row} + 64]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{lower} + {a_row}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 64",
            "add {lower}, 64",
            "add {b}, {b_block}",
            "dec {count}",
            "jnz 2b",
            "3:",
            "tilestored [{sums} + {sums_row}], tmm0",
            "tilestored [{sums} + {sums_row} + 64], tmm1",
            "tilestored [{sums} + {sums_row} + 2048], tmm2",
            "tilestored [{sums} + {sums_row} + 2112], tmm3",
            count = inout(reg) depth / STEPS => _,
            a = inout(reg) a => _,
            lower = inout(reg) a.wrapping_add(SIDE / 2 * PITCH) => _,
            a_row = in(reg) PITCH * FLOAT,
            b = inout(reg) b => _,
            b_row = in(reg) b_step * FLOAT,
            b_block = in(reg) STEPS * b_step * FLOAT,
            sums = in(reg) sums.as_mut_ptr(),
            sums_row = in(reg) SIDE * FLOAT,
            options(nostack),
        );
        add(rows, &*sums.as_ptr(), accumulate, c);
    }
}

/// Adds rows of sums to `C`, or stores them there.
///
/// # Safety
/// As [`product`].
#[target_feature(enable = "avx512f")]
unsafe fn add(rows: usize, sums: &[[f32; SIDE]; SIDE], accumulate: bool, c: &[*mut f32; MAX_ROWS]) {
    for (sums, &c) in sums.iter().zip(c).take(rows) {
        let c = c.cast::<[f32; SIDE]>();
        // SAFETY: the caller promises that each row of `C` has SIDE floats, which nobody else uses.
        unsafe {
            let mut row = *sums;
            if accumulate {
                let before = c.read_unaligned();
                row.iter_mut().zip(before).for_each(|(sum, before)| *sum += before);
            }
            c.write_unaligned(row);
        }
    }
}
