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

/// Programs pick code by the model number alone, as of a processor with AVX-512: stress-ng's clones for `arch=sapphirerapids`
/// ran into #UD when this was that processor's number.
#[test]
fn the_default_is_no_processor_with_more_instructions() {
    let (m, st) = (CpuModel::default(), CpuState::power_on());
    let signature = m.cpuid(&st, 1, 0)[0];
    let model = signature >> 4 & 15 | signature >> 12 & 0xf0;
    let avx512 =
        [0x55, 0x57, 0x66, 0x6a, 0x6c, 0x7d, 0x7e, 0x85, 0x8c, 0x8d, 0x8f, 0x9d, 0xa7, 0xad, 0xae, 0xcf];
    // Those of Intel's processors with AVX-VNNI, VAES or GFNI.
    let newer = [
        0x86, 0x96, 0x97, 0x9a, 0x9c, 0xaa, 0xac, 0xaf, 0xb5, 0xb6, 0xb7, 0xba, 0xbd, 0xbe, 0xbf, 0xc5, 0xc6,
        0xcc,
    ];
    assert_eq!(signature >> 8 & 15, 6);
    assert!(!avx512.contains(&model) && !newer.contains(&model), "{model:x}h");
}

#[test]
fn every_listed_model_exists_and_levels_nest() {
    assert!(CpuModel::models().all(|(name, _)| CpuModel::new(name).is_ok()));
    let of = |n| CpuModel::by_name(n).map(|m| m.features).unwrap_or(0);
    let ladder =
        ["8086", "286", "486", "pentium", "pentium2", "pentium3", "qemu32", "qemu64", "x86-64-v2", "max"];
    for pair in ladder.windows(2) {
        assert_eq!(of(pair[0]) & of(pair[1]), of(pair[0]), "{pair:?}");
    }
    assert_eq!(of("qemu32") & 1 << Feature::Lm as u8, 0);
    assert_eq!(CpuModel::new("athlon").err(), Some(Refusal::NoModel));
    for (name, _) in CpuModel::models() {
        assert_eq!(supported(of(name)), of(name), "{name} has what its features need");
    }
}

#[test]
fn features_need_others() {
    let change = |list: &[(&str, bool)]| {
        let mut model = CpuModel::by_name("qemu64").unwrap();
        let list: Vec<_> = list.iter().map(|(name, on)| ((*name).into(), *on)).collect();
        model.set_features(&list).map(|()| model)
    };
    let refused = |list: &[(&str, bool)]| change(list).err();
    assert_eq!(refused(&[("sse4.1", true)]), Some(("sse4.1".into(), Refusal::Needs("ssse3"))));
    assert_eq!(refused(&[("sse9", true)]), Some(("sse9".into(), Refusal::NoFeature)));
    assert_eq!(refused(&[("lm", true), ("pae", false)]), Some(("lm".into(), Refusal::Needs("pae"))));
    let m = change(&[("sse3", true), ("ssse3", true), ("sse4.1", true)]).unwrap();
    assert!(m.has(Feature::Sse41) && !m.has(Feature::Sse42));
    let m = change(&[("pae", false)]).unwrap();
    assert!(!m.has(Feature::Lm) && !m.has(Feature::Nx) && m.has(Feature::Pse36));
    assert_eq!(m.cpuid(&CpuState::power_on(), 0x8000_0001, 0)[3] & 1 << 29, 0);
    if let Some(owed) = FEATURES.iter().find(|f| f.4 == Level::Never) {
        assert_eq!(refused(&[(owed.1, true)]), Some((owed.1.into(), Refusal::Absent)));
    }
}

#[test]
fn old_models_have_their_leaves_and_no_others() {
    let st = CpuState::power_on();
    let m = CpuModel::by_name("pentium3").unwrap();
    assert_eq!(m.cpuid(&st, 0, 0)[0], 2);
    assert_eq!(m.cpuid(&st, 1, 0)[0], 0x673);
    // No extended leaves and no hypervisor: what is out of range is the last basic leaf.
    for leaf in [7, 0x4000_0000, 0x8000_0000, 0x8000_0001] {
        assert_eq!(m.cpuid(&st, leaf, 0), m.cpuid(&st, 2, 0), "{leaf:#x}");
    }
    let [_, _, c, d] = CpuModel::by_name("486").unwrap().cpuid(&st, 1, 0);
    assert_eq!((c, d & 1, d & 1 << 23), (0, 1, 0));
}

/// The gate for single instructions: what each model has and has not, and what becomes another instruction.
#[test]
fn each_model_has_its_instructions() {
    let ends = |name: &str, bytes: &[u8], mode| {
        let m = CpuModel::by_name(name).unwrap();
        let block = m.isa().single(bytes, 0x1000, Mode(mode)).unwrap();
        block.insns[0].clone()
    };
    let denied = |name: &str, bytes: &[u8]| {
        let i = ends(name, bytes, Mode::CODE32);
        i.ends && i.op == crate::Op::Cold && i.code == 0
    };
    let cpuid: &[u8] = &[0x0f, 0xa2];
    let table: &[(&[u8], &str, &str)] = &[
        (cpuid, "386", "486"),
        (&[0x0f, 0xc8], "386", "486"),                        // BSWAP EAX
        (&[0x0f, 0xa4, 0xc0, 1], "286", "386"),               // SHLD
        (&[0x0f, 0x31], "486", "pentium"),                    // RDTSC
        (&[0x0f, 0x6f, 0xc1], "486", "pentium"),              // MOVQ MM
        (&[0x0f, 0x44, 0xc1], "pentium", "pentium2"),         // CMOVE
        (&[0x0f, 0x1f, 0x00], "pentium", "pentium2"),         // NOP r/m
        (&[0x0f, 0x58, 0xc1], "pentium2", "pentium3"),        // ADDPS
        (&[0x66, 0x0f, 0x58, 0xc1], "pentium3", "qemu32"),    // ADDPD
        (&[0x0f, 0x38, 0x00, 0xc1], "qemu64", "core2duo"),    // PSHUFB
        (&[0xf3, 0x0f, 0xb8, 0xc1], "core2duo", "x86-64-v2"), // POPCNT
        (&[0x0f, 0x38, 0xf0, 0x00], "x86-64-v2", "max"),      // MOVBE
    ];
    for (bytes, without, with) in table {
        assert!(denied(without, bytes), "{bytes:x?} on {without}");
        assert!(!denied(with, bytes), "{bytes:x?} on {with}");
    }
    let scan = |name| ends(name, &[0xf3, 0x0f, 0xbd, 0xc1], Mode::CODE32).op;
    assert_eq!(scan("max"), crate::Op::BitScan(crate::insn::BitScan::Lzcnt));
    assert_eq!(scan("x86-64-v2"), crate::Op::BitScan(crate::insn::BitScan::Bsr));
    let i = ends("qemu64", &[0xf3, 0x0f, 0xbc, 0xc1], Mode::CODE64);
    assert_eq!(i.op, crate::Op::BitScan(crate::insn::BitScan::Bsf));
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

/// CPUID.(07H, 2) is there where it has something to say, and leaf 7 says so.
#[test]
fn branch_history_control_has_a_subleaf() {
    let st = CpuState::power_on();
    let seven = |name: &str| {
        let m = CpuModel::by_name(name).unwrap();
        (m.cpuid(&st, 7, 0)[0], m.cpuid(&st, 7, 1), m.cpuid(&st, 7, 2))
    };
    assert_eq!(seven("max"), (2, [0; 4], [0, 0, 0, 1 << 4 | 1 << 5]));
    assert_eq!(seven("qemu64"), (0, [0; 4], [0; 4]));
    assert_eq!(seven("IvyBridge"), (0, [0; 4], [0; 4]));
}

#[test]
fn out_of_range_leaves_repeat_the_last_basic_one() {
    let (m, st) = (CpuModel::default(), CpuState::power_on());
    assert_eq!(m.cpuid(&st, 0x1000, 0), m.cpuid(&st, 0x16, 0));
    assert_eq!(m.cpuid(&st, 0x8000_0009, 0), m.cpuid(&st, 0x16, 0));
}

#[test]
fn who_is_sent_to_leaf_4_finds_an_end_there() {
    // glibc asks leaf 4 for the next cache until there is none, wherever leaf 2 has the descriptor FFh.
    let st = CpuState::power_on();
    for (name, _) in CpuModel::models() {
        let m = CpuModel::by_name(name).unwrap();
        let [max, ..] = m.cpuid(&st, 0, 0);
        let sent = max >= 2 && m.cpuid(&st, 2, 0).iter().any(|r| r.to_le_bytes().contains(&0xff));
        if sent {
            assert!(max >= 4, "{name}");
            assert!((0..8).any(|sub| m.cpuid(&st, 4, sub)[0] & 0x1f == 0), "{name}");
        }
    }
}
