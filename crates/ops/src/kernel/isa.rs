//! The instruction set of the kernels.

use std::sync::OnceLock;

/// An instruction set the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 with AVX512-BF16, and matrix tiles of bf16 (AMX-BF16): Intel's Xeons since 2023.
    Amx,
    /// x86-64 with AVX-512 F, BW, DQ and VL, which have come together since 2017 (x86-64-v4).
    Avx512,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// Plain Rust, any CPU.
    Portable,
}

/// The instruction set in use: the best one of this CPU, or the one that the environment variable `AGCNN_ISA` (`amx`,
/// `avx512`, `avx2`, `portable`) names, if the CPU has it. Decided once per process.
pub fn isa() -> Isa {
    static CHOSEN: OnceLock<Isa> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let asked = std::env::var("AGCNN_ISA").unwrap_or_default();
        let supported = || Isa::ALL.into_iter().filter(|isa| isa.is_supported());
        supported().find(|isa| isa.name() == asked).or_else(|| supported().next()).unwrap_or(Isa::Portable)
    })
}

/// Whether the instruction set in use multiplies bf16 numbers.
pub(super) fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return isa().has_avx512() && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether products of bf16 are faster than those of `f32`: by matrix tiles, and by AVX512-BF16 on AMD's CPUs. On an Intel
/// Xeon (Emerald Rapids), AVX512-BF16 alone took 1.3 times as long as `f32`.
pub fn bf16_is_fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let vendor = std::arch::x86_64::__cpuid(0);
        let intel = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel";
        isa() == Isa::Amx || (has_bf16() && !intel)
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

impl Isa {
    /// The fastest first.
    const ALL: [Isa; 4] = [Isa::Amx, Isa::Avx512, Isa::Avx2, Isa::Portable];

    /// `amx`, `avx512`, `avx2` or `portable`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Amx => "amx",
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Portable => "portable",
        }
    }

    /// Whether AVX-512 is part of it.
    pub(super) fn has_avx512(self) -> bool {
        matches!(self, Isa::Amx | Isa::Avx512)
    }

    /// Whether this CPU has the instructions.
    pub fn is_supported(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => {
                Isa::Avx512.is_supported() && is_x86_feature_detected!("avx512bf16") && super::amx::is_supported()
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Amx | Isa::Avx512 | Isa::Avx2 => false,
            Isa::Portable => true,
        }
    }
}

/// Runs `f` compiled for the instruction set in use, so that its plain loops become vector code.
#[inline(always)]
pub(crate) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn avx512<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        match isa() {
            // SAFETY: `isa` returns only what this CPU supports.
            Isa::Amx | Isa::Avx512 => return unsafe { avx512(f) },
            // SAFETY: as above.
            Isa::Avx2 => return unsafe { avx2(f) },
            Isa::Portable => {}
        }
    }
    f()
}
