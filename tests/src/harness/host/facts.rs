//! What can be asked of an x86 host, and what has no single answer.

use iced_x86::{CpuidFeature, Instruction, Mnemonic};

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
fn fsgsbase() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|t| t.contains(" fsgsbase"))
}

/// Instructions whose results differ between processors without being called undefined: approximations, and
/// transcendental functions in their last place.
pub fn differs_between_makers(x: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(
        x.mnemonic(),
        M::Rcpps
            | M::Rcpss
            | M::Rsqrtps
            | M::Rsqrtss
            | M::F2xm1
            | M::Fyl2x
            | M::Fyl2xp1
            | M::Fsin
            | M::Fcos
            | M::Fsincos
            | M::Fptan
            | M::Fpatan
    )
}
