//! What can be asked of an x86 host, and what has no single answer.

use iced_x86::{CpuidFeature, Instruction, Mnemonic};

use crate::harness::generate::address;
use crate::harness::layout::{STACK, STACK_LEN};
use crate::harness::state::State;

/// Has the host's CPU all of these?
#[cfg(target_arch = "x86_64")]
pub fn supports(features: &[CpuidFeature]) -> bool {
    use CpuidFeature as F;
    features.iter().all(|f| match f {
        F::SSE3 => is_x86_feature_detected!("sse3"),
        F::SSSE3 => is_x86_feature_detected!("ssse3"),
        F::SSE4_1 => is_x86_feature_detected!("sse4.1"),
        F::SSE4_2 => is_x86_feature_detected!("sse4.2"),
        F::POPCNT => is_x86_feature_detected!("popcnt"),
        F::LZCNT => is_x86_feature_detected!("lzcnt"),
        F::BMI1 => is_x86_feature_detected!("bmi1"),
        F::BMI2 => is_x86_feature_detected!("bmi2"),
        F::ADX => is_x86_feature_detected!("adx"),
        F::MOVBE => is_x86_feature_detected!("movbe"),
        F::AES => is_x86_feature_detected!("aes"),
        F::PCLMULQDQ => is_x86_feature_detected!("pclmulqdq"),
        F::SHA => is_x86_feature_detected!("sha"),
        F::AVX => is_x86_feature_detected!("avx"),
        F::AVX2 => is_x86_feature_detected!("avx2"),
        F::FMA => is_x86_feature_detected!("fma"),
        F::F16C => is_x86_feature_detected!("f16c"),
        F::CMPXCHG16B => is_x86_feature_detected!("cmpxchg16b"),
        // Linux lets programs use these four only from 5.9 on; the hosts that have them and an older kernel are gone.
        F::FSGSBASE => fsgsbase(),
        F::CLFLUSHOPT | F::CLWB => is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("adx"),
        _ => true,
    })
}

/// Has the host's CPU all of these? Not here.
#[cfg(not(target_arch = "x86_64"))]
pub fn supports(_: &[CpuidFeature]) -> bool {
    false
}

/// AT_HWCAP2, bit 1: the kernel allows RDFSBASE and its kin.
#[cfg(target_arch = "x86_64")]
pub fn fsgsbase() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|t| t.contains(" fsgsbase"))
}

/// Is there more than one right answer in this state, although the manual calls nothing undefined?
/// * register forms of 0F 0D: a NOP on Intel's processors, #UD on AMD's;
/// * FLD of a denormal with DE unmasked: Intel's leave the stack alone, AMD's push;
/// * CVTPI2PS from memory: Intel's switch the x87 unit to MMX state, AMD's do not;
/// * MOVSXD to a 16-bit register: Intel's read 16 bits of memory, AMD's 32;
/// * the SHA extensions with an operand that is not aligned: #GP by the manual, nothing on AMD's;
/// * LDMXCSR of a bit that is reserved and means something on AMD's, 17 (the generator keeps it out of aligned operands);
/// * alignment checks of operands of more than eight bytes: not on Intel's processors (SDM vol. 2, 2.4), but on AMD's;
/// * far pointers with 64-bit offsets: AMD's processors do not have them;
/// * alignment of the place that ENTER looks at last, where nothing is written, and of MASKMOVQ's;
/// * RETF that releases a number of bytes which is no multiple of the operand's size, with alignment checks: AMD's read there;
/// * which of its two operands CMPS meets first, when one is not aligned and the other not mapped;
/// * a near CALL to an address that is not canonical whose push faults, too: #GP first by the SDM, the push's fault on AMD's;
/// * PUSH of a selector in 32-bit code: Intel's write two bytes, AMD's four (SDM vol. 2, PUSH, leaves both open);
/// * INT1, whose saved RIP some hypervisors get wrong;
/// * SYSRET outside 64-bit mode: #UD on Intel's, #GP on AMD's;
/// * XSAVE and its kin of components that one side lacks;
/// * a ten-byte operand, or a longer one of several parts, of which some bytes are not canonical: #GP or the page fault of the first part.
pub fn is_open(x: &Instruction, state: &State) -> bool {
    use Mnemonic as M;
    use iced_x86::{Code as C, OpKind};
    let code = x.code();
    let reserved = matches!(
        code,
        C::Reservednop_rm16_r16_0F0D | C::Reservednop_rm32_r32_0F0D | C::Reservednop_rm64_r64_0F0D
    );
    if reserved && x.op0_kind() == OpKind::Register {
        return true;
    }
    if matches!(code, C::Fld_m32fp | C::Fld_m64fp) && state.fp.cw & 2 == 0 {
        return true;
    }
    if matches!(code, C::Cvtpi2ps_xmm_mmm64 | C::Movsxd_r16_rm16) && x.op1_kind() == OpKind::Memory {
        return true;
    }
    let wide = matches!(x.memory_size().size(), 0 | 10 | 14 | 28 | 94 | 108 | 512);
    let at = address(x, state);
    let sha = x.cpuid_features().contains(&CpuidFeature::SHA);
    if sha && x.memory_size().size() == 16 && at.is_some_and(|at| at & 15 != 0) {
        return true;
    }
    if matches!(x.mnemonic(), Mnemonic::Ldmxcsr | Mnemonic::Vldmxcsr) && at.is_some_and(|at| at & 3 != 0) {
        return true;
    }
    let size = x.memory_size().size();
    let unsaid = match x.mnemonic() {
        M::Enter | M::Maskmovq | M::Cmpsw | M::Cmpsd | M::Cmpsq => true,
        M::Retf => match code {
            C::Retfw_imm16 => x.immediate16() & 1 != 0,
            C::Retfd_imm16 => x.immediate16() & 3 != 0,
            C::Retfq_imm16 => x.immediate16() & 7 != 0,
            _ => false,
        },
        _ => false,
    };
    if state.rflags >> 18 & 1 != 0 && (unsaid || at.is_some() && size == 0 || size > 8) {
        return true;
    }
    if matches!(x.mnemonic(), M::Lss | M::Lfs | M::Lgs | M::Jmp | M::Call) && size == 10
        || matches!(x.mnemonic(), M::Sysret | M::Int1)
        || x.mnemonic() == M::Push
            && x.op0_register().is_segment_register()
            && x.stack_pointer_increment() == -4
    {
        return true;
    }
    let pushes = STACK + 8..=STACK + STACK_LEN as u64;
    if code == C::Call_rm64 && (!pushes.contains(&state.gpr[4]) || state.rflags >> 18 & 1 != 0) {
        return true;
    }
    let components = matches!(
        x.mnemonic(),
        M::Xsave
            | M::Xsave64
            | M::Xsaveopt
            | M::Xsaveopt64
            | M::Xsavec
            | M::Xsavec64
            | M::Xrstor
            | M::Xrstor64
    );
    if components && (state.gpr[0] as u32 > 7 || state.gpr[2] as u32 != 0) {
        return true;
    }
    let last = x.memory_size().size().max(16) as u64;
    wide && at.is_some_and(|at| (at.wrapping_add(last) ^ at) >> 47 != 0)
}

/// Instructions whose results differ between processors without being called undefined.
pub fn differs_between_makers(x: &Instruction) -> bool {
    is_approximation(x) || is_transcendental(x)
}

/// Approximations from a table of the processor's own.
pub fn is_approximation(x: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(
        x.mnemonic(),
        M::Rcpps | M::Rcpss | M::Rsqrtps | M::Rsqrtss | M::Vrcpps | M::Vrcpss | M::Vrsqrtps | M::Vrsqrtss
    )
}

/// x87 functions whose last place is the processor's own.
pub fn is_transcendental(x: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(
        x.mnemonic(),
        M::F2xm1 | M::Fyl2x | M::Fyl2xp1 | M::Fsin | M::Fcos | M::Fsincos | M::Fptan | M::Fpatan
    )
}
