//! The matrix tiles of Intel's Xeons since 2023 (AMX-BF16): sixteen rows of 64 bytes in a register, multiplied as a whole.
//!
//! Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18. The instructions are written as
//! assembly, because Rust 1.95 has no stable functions for them.

use std::{
    arch::{asm, x86_64::__cpuid_count},
    cell::Cell,
    sync::OnceLock,
};

use super::operands::{DEPTH, LINE_STEP, Operands, PART, PARTS, PITCH, PLANE, Tile};

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

/// Products of bf16.
pub(super) const BF16: Tile = Tile {
    rows: SIDE,
    columns: SIDE,
    group: 2,
    parts: 1,
    depth: 2 * DEPTH,
    steps: STEPS,
    taps: 128,
    span: 128,
    pixels: 4 * SIDE,
    pitched: product::<PITCH>,
    adjacent: None,
    lines: Some(product::<LINE_STEP>),
};

/// Products of `f32`, as sums of three bf16 numbers.
///
/// Of the nine products of two values' parts, the six largest are computed; what is left out is at most 2^-24 of the product
/// (a second part is at most 2^-8 of the value, a third 2^-17), as much as `f32` rounds once (Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For
/// Higher-Precision Computations", 2019, <https://arxiv.org/abs/1904.06376>).
pub(super) const F32: Tile = Tile {
    pixels: 8 * SIDE,
    parts: PARTS,
    depth: 2 * PART,
    taps: usize::MAX,
    pitched: product_of_parts::<PITCH, PART>,
    lines: Some(product_of_parts::<LINE_STEP, PLANE>),
    ..BF16
};

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

/// The sums, loaded from `C` or zero.
macro_rules! load_sums {
    () => {
        concat!(
            "test {a}, {a}; lea {a}, [{c} + 8 * {c_row}]; lea {a}, [{a} + 8 * {c_row}]; jz 4f; ",
            "tileloadd tmm0, [{c} + {c_row}]; tileloadd tmm1, [{c} + {c_row} + 64]; ",
            "tileloadd tmm2, [{a} + {c_row}]; tileloadd tmm3, [{a} + {c_row} + 64]; jmp 5f; ",
            "4: tilezero tmm0; tilezero tmm1; tilezero tmm2; tilezero tmm3"
        )
    };
}

/// The sums, stored.
macro_rules! store_sums {
    () => {
        concat!(
            "lea {a}, [{c} + 8 * {c_row}]; lea {a}, [{a} + 8 * {c_row}]; ",
            "tilestored [{c} + {c_row}], tmm0; tilestored [{c} + {c_row} + 64], tmm1; ",
            "tilestored [{a} + {c_row}], tmm2; tilestored [{a} + {c_row} + 64], tmm3"
        )
    };
}

/// `A` for the tap that is next, and its steps.
macro_rules! next_tap {
    () => {
        "mov {a}, qword ptr [{tap}]; lea {a}, [4 * {a}]; add {a}, qword ptr [{frame} + 24]; mov {count}, qword ptr [{frame}]"
    };
}

/// A tile, as [`Tile::pitched`], for several [taps](Operands::taps). Rows of `A` are `ROW` floats apart. Those of `A` and `C`
/// beyond `rows` are read, and those of `C` written.
///
/// # Safety
/// As [`Tile::pitched`], for every tap; the CPU and the kernel allow it.
unsafe fn product<const ROW: usize>(rows: usize, operands: &Operands) {
    const FLOAT: usize = size_of::<f32>();
    let Operands { depth, a_step, b, b_step, taps, accumulate, c, c_row, .. } = *operands;
    debug_assert!((1..=SIDE).contains(&rows) && a_step == 1 && depth.is_multiple_of(STEPS));
    // SAFETY: passed on to the caller.
    let Some(frame) = (unsafe { Frame::new(operands) }) else { return };
    let taps = taps.as_ptr_range();
    // Sums of `C` are in tmm0 to tmm3, two registers of `A` in tmm4 and tmm5, of `B` in tmm6 and tmm7.
    //
    // SAFETY: the caller promises that `A` and `C` have SIDE rows, `C` SIDE columns, and `B` SIDE columns for every step. No
    // other code of this process uses these registers, so that they need not be named as clobbered.
    unsafe {
        asm!(
            load_sums!(),
            // For each tap,
            "5:",
            next_tap!(),
            // for each sixteen steps:
            "2:",
            "tileloadd tmm4, [{a} + {a_row}]",
            "tileloadd tmm6, [{b} + {b_row}]",
            "tileloadd tmm7, [{b} + {b_row} + 64]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a} + {a_row} + {lower}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 64",
            "add {b}, qword ptr [{frame} + 8]",
            "dec {count}",
            "jnz 2b",
            "add {b}, qword ptr [{frame} + 16]",
            "add {tap}, 8",
            "cmp {tap}, {end}",
            "jne 5b",
            store_sums!(),
            lower = const SIDE / 2 * ROW * FLOAT,
            frame = in(reg) &raw const frame,
            tap = inout(reg) taps.start => _,
            end = in(reg) taps.end,
            count = out(reg) _,
            a = inout(reg) usize::from(accumulate) => _,
            a_row = in(reg) ROW * FLOAT,
            b = inout(reg) b => _,
            b_row = in(reg) b_step * FLOAT,
            c = in(reg) c,
            c_row = in(reg) c_row * FLOAT,
            options(nostack),
        );
    }
}

/// The products of two registers of `A` and two of `B`, added to their sums.
macro_rules! multiply {
    () => {
        "tdpbf16ps tmm0, tmm4, tmm6; tdpbf16ps tmm1, tmm4, tmm7; tdpbf16ps tmm2, tmm5, tmm6; tdpbf16ps tmm3, tmm5, tmm7"
    };
}

/// The three parts of `B` further by what the frame has at an offset.
macro_rules! advance {
    ($offset:literal) => {
        concat!(
            "add {b}, qword ptr [{frame} + ",
            $offset,
            "]; add {b1}, qword ptr [{frame} + ",
            $offset,
            "]; ",
            "add {b2}, qword ptr [{frame} + ",
            $offset,
            "]"
        )
    };
}

/// As [`product`], of values that are sums of three parts, and for several [taps](Operands::taps). Rows of `A` are `ROW` floats
/// apart, their parts `NEXT`.
///
/// # Safety
/// As [`product`], for every tap; `B` has its parts `b_part` floats apart.
unsafe fn product_of_parts<const ROW: usize, const NEXT: usize>(rows: usize, operands: &Operands) {
    const FLOAT: usize = size_of::<f32>();
    let Operands { depth, a_step, b, b_step, b_part, taps, accumulate, c, c_row, .. } = *operands;
    debug_assert!((1..=SIDE).contains(&rows) && a_step == 1 && depth.is_multiple_of(STEPS) && depth <= PART);
    // SAFETY: passed on to the caller.
    let Some(frame) = (unsafe { Frame::new(operands) }) else { return };
    let taps = taps.as_ptr_range();
    // The registers are used as in `product`. The smallest products are added first; the order loads as few registers as
    // possible.
    //
    // SAFETY: as in `product`.
    unsafe {
        asm!(
            load_sums!(),
            // For each tap,
            "5:",
            next_tap!(),
            // for each sixteen steps:
            "2:",
            // the first part of `A` by the third of `B`,
            "tileloadd tmm4, [{a} + {a_row}]",
            "tileloadd tmm6, [{b2} + {b_row}]; tileloadd tmm7, [{b2} + {b_row} + 64]",
            "tileloadd tmm5, [{a} + {a_row} + {lower}]",
            multiply!(),
            // the first by the second,
            "tileloadd tmm6, [{b1} + {b_row}]; tileloadd tmm7, [{b1} + {b_row} + 64]",
            multiply!(),
            // the second by the second,
            "tileloadd tmm4, [{a} + {a_row} + {second}]",
            "tileloadd tmm5, [{a} + {a_row} + {lower} + {second}]",
            multiply!(),
            // the second by the first,
            "tileloadd tmm6, [{b} + {b_row}]; tileloadd tmm7, [{b} + {b_row} + 64]",
            multiply!(),
            // the third by the first,
            "tileloadd tmm4, [{a} + {a_row} + 2 * {second}]",
            "tileloadd tmm5, [{a} + {a_row} + {lower} + 2 * {second}]",
            multiply!(),
            // the first by the first.
            "tileloadd tmm4, [{a} + {a_row}]",
            "tileloadd tmm5, [{a} + {a_row} + {lower}]",
            multiply!(),
            "add {a}, 64",
            advance!(8),
            "dec {count}",
            "jnz 2b",
            advance!(16),
            "add {tap}, 8",
            "cmp {tap}, {end}",
            "jne 5b",
            store_sums!(),
            lower = const SIDE / 2 * ROW * FLOAT,
            second = const NEXT * FLOAT,
            frame = in(reg) &raw const frame,
            tap = inout(reg) taps.start => _,
            end = in(reg) taps.end,
            count = out(reg) _,
            a = inout(reg) usize::from(accumulate) => _,
            a_row = in(reg) ROW * FLOAT,
            b = inout(reg) b => _,
            b1 = inout(reg) b.wrapping_add(b_part) => _,
            b2 = inout(reg) b.wrapping_add(2 * b_part) => _,
            b_row = in(reg) b_step * FLOAT,
            c = in(reg) c,
            c_row = in(reg) c_row * FLOAT,
            options(nostack),
        );
    }
}

/// What a product has no register for.
#[repr(C)]
struct Frame {
    steps: usize,
    /// Bytes from sixteen steps of `B` to the next.
    b_block: usize,
    /// Bytes from behind the steps of a tap to those of the next.
    b_rest: usize,
    a: *const u8,
}

impl Frame {
    /// Prepares the registers for a product. Where nothing is multiplied there is none, and `C` is complete.
    ///
    /// # Safety
    /// As for the product.
    unsafe fn new(operands: &Operands) -> Option<Frame> {
        const FLOAT: usize = size_of::<f32>();
        let Operands { depth, a, b_step, taps, b_tap, accumulate, c, c_row, .. } = *operands;
        if depth == 0 || taps.is_empty() {
            for row in (0..SIDE).filter(|_| !accumulate) {
                // SAFETY: the caller promises that `C` has SIDE rows and columns.
                unsafe { c.add(row * c_row).write_bytes(0, SIDE) };
            }
            return None;
        }
        shape_registers();
        Some(Frame {
            steps: depth / STEPS,
            b_block: STEPS * b_step * FLOAT,
            b_rest: b_tap.wrapping_sub(depth * b_step).wrapping_mul(FLOAT),
            a: a.cast(),
        })
    }
}
