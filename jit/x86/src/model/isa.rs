//! The gate: which instructions a model has.
//!
//! One place decides, when an instruction is decoded: a bit for each of iced-x86's `Code` values says that the model has
//! no such instruction, and then it is #UD. What decodes to another instruction where a feature is missing (LZCNT is BSR
//! there, TZCNT is BSF, PAUSE is NOP) is replaced here. Tests of single bits cost what modern models can afford; the 8086,
//! whose decoder knows no invalid opcode, has a decoder of its own ([`crate::i8086`]), as have the 80186 and the V30.
//!
//! A feature that is not implemented yet is left to the instruction's own family when the model is to have everything:
//! so that it can be developed before CPUID shows it.

use iced_x86::{Code, CpuidFeature as C, Instruction};

use super::Feature as F;
use super::presets::Identity;
use crate::block::Block;
use crate::decode;
use crate::state::Mode;

/// Generations of processors whose instruction sets contain one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Era {
    /// 8086, 8088.
    I8086,
    /// 80186, 80188.
    I186,
    /// NEC's V20 and V30.
    V30,
    /// 80286.
    I286,
    /// i386.
    I386,
    /// i486.
    I486,
    /// Pentium and later: features tell.
    Modern,
}

/// What one of iced-x86's feature names asks of a model.
enum Need {
    Nothing,
    Since(Era),
    Feature(F),
    /// CPUID itself.
    Cpuid,
    /// No model has it, or its family says so itself.
    Unknown,
}

fn need(f: C) -> Need {
    Need::Feature(match f {
        C::INTEL8086 | C::FPU | C::FPU287 | C::FPU387 => return Need::Nothing,
        C::INTEL186 => return Need::Since(Era::I186),
        C::INTEL286 => return Need::Since(Era::I286),
        C::INTEL386 => return Need::Since(Era::I386),
        C::INTEL486 | C::SMM => return Need::Since(Era::I486),
        C::CPUID => return Need::Cpuid,
        C::X64 => F::Lm,
        C::ADX => F::Adx,
        C::AES => F::Aes,
        C::AVX => F::Avx,
        C::AVX2 => F::Avx2,
        C::BMI1 => F::Bmi1,
        C::BMI2 => F::Bmi2,
        C::CLFLUSHOPT => F::Clflushopt,
        C::CLFSH => F::Clflush,
        C::CLWB => F::Clwb,
        C::CMOV | C::MULTIBYTENOP => F::Cmov,
        C::CMPXCHG16B => F::Cx16,
        C::CX8 => F::Cx8,
        C::F16C => F::F16c,
        C::FMA => F::Fma,
        C::FSGSBASE => F::Fsgsbase,
        C::FXSR => F::Fxsr,
        C::INVPCID => F::Invpcid,
        C::LZCNT => F::Lzcnt,
        C::MMX => F::Mmx,
        C::MONITOR => F::Monitor,
        C::MOVBE => F::Movbe,
        C::MSR => F::Msr,
        C::PCLMULQDQ => F::Pclmulqdq,
        C::PKU => F::Pku,
        C::POPCNT => F::Popcnt,
        C::PREFETCHW => F::Prefetchw,
        C::RDPID => F::Rdpid,
        C::RDPMC => F::Mmx,
        C::RDRAND => F::Rdrand,
        C::RDSEED => F::Rdseed,
        C::RDTSCP => F::Rdtscp,
        C::SEP => F::Sep,
        C::SHA => F::Sha,
        C::SMAP => F::Smap,
        C::SSE => F::Sse,
        C::SSE2 => F::Sse2,
        C::SSE3 => F::Sse3,
        C::SSE4_1 => F::Sse41,
        C::SSE4_2 => F::Sse42,
        C::SSE4A => F::Sse4a,
        C::SSSE3 => F::Ssse3,
        C::SYSCALL => F::Syscall,
        C::TSC => F::Tsc,
        C::XSAVE => F::Xsave,
        C::XSAVEC => F::Xsavec,
        C::XSAVEOPT => F::Xsaveopt,
        C::XSAVES => F::Xsaves,
        _ => return Need::Unknown,
    })
}

/// See the module.
#[derive(Debug)]
pub struct Isa {
    /// Bit n: the model lacks the instruction with `Code` n.
    denied: Box<[u64]>,
    era: Era,
    yields: bool,
}

impl Isa {
    /// The instructions of a model. `max`: it is to have everything, also what is being developed.
    pub(super) fn new(era: Era, identity: Identity, features: u128, max: bool, yields: bool) -> Self {
        let mut denied = vec![0u64; Code::values().len().div_ceil(64)].into_boxed_slice();
        for code in Code::values() {
            let lacks = |f: &C| match need(*f) {
                Need::Nothing | Need::Unknown => false,
                Need::Since(since) => era < since,
                Need::Cpuid => identity.max_basic == 0,
                Need::Feature(f) => (!max || f.is_implemented()) && features >> f as u8 & 1 == 0,
            };
            if code.cpuid_features().iter().any(lacks) {
                denied[code as usize / 64] |= 1 << (code as usize % 64);
            }
        }
        Self { denied, era, yields }
    }

    /// The generation.
    pub fn era(&self) -> Era {
        self.era
    }

    /// Does PAUSE end a block, so that another processor gets its turn? (One alone has nobody to wait for.)
    pub fn yields(&self) -> bool {
        self.yields
    }

    fn lacks(&self, code: Code) -> bool {
        self.denied[code as usize / 64] >> (code as usize % 64) & 1 != 0
    }

    /// Has the model this instruction? Replaces it where it means something else on processors without its feature.
    #[inline]
    pub(crate) fn admits(&self, x: &mut Instruction) -> bool {
        !self.lacks(x.code()) || self.replaced(x)
    }

    #[cold]
    fn replaced(&self, x: &mut Instruction) -> bool {
        let instead = match x.code() {
            Code::Lzcnt_r16_rm16 => Code::Bsr_r16_rm16,
            Code::Lzcnt_r32_rm32 => Code::Bsr_r32_rm32,
            Code::Lzcnt_r64_rm64 => Code::Bsr_r64_rm64,
            Code::Tzcnt_r16_rm16 => Code::Bsf_r16_rm16,
            Code::Tzcnt_r32_rm32 => Code::Bsf_r32_rm32,
            Code::Tzcnt_r64_rm64 => Code::Bsf_r64_rm64,
            // Intel's 64-bit processors before PREFETCHW take 0F 0D for a NOP.
            Code::Prefetchw_m8 | Code::Prefetch_m8 => {
                if self.lacks(Code::Cdqe) {
                    return false;
                } else {
                    Code::Nop_rm32
                }
            }
            _ => return false,
        };
        x.set_code(instead);
        !self.lacks(instead)
    }

    /// [`decode::block`] for this model.
    pub fn block(&self, bytes: &[u8], ip: u64, mode: Mode) -> Option<Block> {
        decode::block_of(bytes, ip, mode, Some(self))
    }

    /// [`decode::single`] for this model.
    pub fn single(&self, bytes: &[u8], ip: u64, mode: Mode) -> Option<Block> {
        decode::single_of(bytes, ip, mode, Some(self))
    }
}
