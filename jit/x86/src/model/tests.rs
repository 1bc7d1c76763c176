//! CPUID and the models, as software sees them.

use super::*;
use crate::state::{CpuState, Mode, cr4};

fn text(r: &[u32]) -> String {
    r.iter().flat_map(|v| v.to_le_bytes()).take_while(|b| *b != 0).map(char::from).collect()
}

#[test]
fn identity() {
    let (m, st) = (CpuModel::default(), CpuState::power_on());
    let [max, b, c, d] = m.cpuid(&st, 0, 0);
    assert_eq!((max, text(&[b, d, c]).as_str()), (0x16, "GenuineIntel"));
    assert_eq!(text(&m.cpuid(&st, 0x4000_0000, 0)[1..]), "RetrogradeVM");
    let name: Vec<u32> = (2..5).flat_map(|n| m.cpuid(&st, 0x8000_0000 + n, 0)).collect();
    assert_eq!(text(&name), "Retrograde vCPU @ 1.00GHz");
    assert_eq!(m.cpuid(&st, 0x15, 0), [1, 1, 1_000_000_000, 0]);
}

#[test]
fn every_listed_model_exists_and_levels_nest() {
    for (name, _) in MODELS {
        assert!(CpuModel::by_name(name).is_some(), "{name}");
    }
    let of = |n| CpuModel::by_name(n).map(|m| m.features).unwrap_or(0);
    assert_eq!(of("qemu64") & of("x86-64-v2") & of("max"), of("qemu64"));
    assert_eq!(of("qemu32") & 1 << Feature::Lm as u8, 0);
    assert!(CpuModel::by_name("athlon").is_none());
}

#[test]
fn absent_features_cannot_be_turned_on() {
    let mut m = CpuModel::default();
    assert!(!m.set_feature("sse4a", true));
    assert!(m.set_feature("x2apic", false));
    assert_eq!(m.cpuid(&CpuState::power_on(), 1, 0)[2] & 1 << 21, 0);
}

#[test]
fn osxsave_and_syscall_follow_the_state() {
    let (m, mut st) = (CpuModel::default(), CpuState::power_on());
    assert_eq!(m.cpuid(&st, 1, 0)[2] & 1 << 27, 0);
    assert_eq!(m.cpuid(&st, 0x8000_0001, 0)[3] & 1 << 11, 0);
    st.cr4 |= cr4::OSXSAVE;
    st.mode = Mode(Mode::CODE64);
    assert_ne!(m.cpuid(&st, 1, 0)[2] & 1 << 27, 0);
    assert_ne!(m.cpuid(&st, 0x8000_0001, 0)[3] & 1 << 11, 0);
}

#[test]
fn out_of_range_leaves_repeat_the_last_basic_one() {
    let (m, st) = (CpuModel::default(), CpuState::power_on());
    assert_eq!(m.cpuid(&st, 0x1000, 0), m.cpuid(&st, 0x16, 0));
    assert_eq!(m.cpuid(&st, 0x8000_0009, 0), m.cpuid(&st, 0x16, 0));
}
