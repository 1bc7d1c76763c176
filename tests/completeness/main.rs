//! The proof of completeness: what `-cpu max` reports, and the table of instructions.

use iced_x86::Mnemonic;
use tests::completeness::{features, named, owed, table};
use x86::CpuState;
use x86::model::CpuModel;
use x86::state::Mode;

fn reported(feature: &features::Feature) -> bool {
    let mut st = CpuState::power_on();
    // Where Intel's processors show SYSCALL.
    st.mode = Mode(Mode::LONG | Mode::CODE64);
    let (leaf, sub, reg, bit) = feature.place;
    CpuModel::default().cpuid(&st, leaf, sub)[reg as usize] >> bit & 1 != 0
}

#[test]
fn max_reports_every_feature_that_is_not_owed() {
    for feature in features::FEATURES {
        let owed = owed::FEATURES.contains(&feature.name);
        assert_eq!(
            reported(feature),
            !owed,
            "{}: {}",
            feature.name,
            if owed { "it is there: take it off the list of what is owed" } else { "CPUID does not show it" }
        );
    }
    for name in owed::FEATURES {
        assert!(features::FEATURES.iter().any(|f| f.name == *name), "{name} is not a feature of the list");
    }
}

#[test]
fn every_instruction_is_implemented_and_tested() {
    let table = table();
    assert!(table.len() > 1000, "the table has {} lines", table.len());
    let holes: Vec<_> = table
        .iter()
        .filter(|line| !line.is_complete() && !owed::INSTRUCTIONS.contains(&line.code.mnemonic()))
        .collect();
    let names: Vec<_> = holes
        .iter()
        .map(|l| format!("{:?} missing {:?}, tested {:?}", l.code, l.missing, l.tested))
        .collect();
    assert!(holes.is_empty(), "{} holes:\n{}", holes.len(), names.join("\n"));
    for mnemonic in owed::INSTRUCTIONS {
        let mut lines = table.iter().filter(|line| line.code.mnemonic() == *mnemonic).peekable();
        assert!(lines.peek().is_some(), "{mnemonic:?} is not in the table");
        assert!(
            lines.any(|line| !line.is_complete()),
            "{mnemonic:?} is complete: take it off the list of what is owed"
        );
    }
    // An instance of each form was encoded in some mode: else nothing was asked.
    let silent: Vec<_> =
        table.iter().filter(|l| l.modes.is_empty()).map(|l| format!("{:?}", l.code)).collect();
    assert!(silent.is_empty(), "never encoded: {silent:?}");
}

/// The tests that are named exist: renaming or removing one shows here.
#[test]
fn named_tests_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_PATH")).parent().and_then(|p| p.parent());
    let root = root.expect("the workspace");
    let mut seen: Vec<Mnemonic> = Vec::new();
    for (test, mnemonics) in named::TESTS {
        let (file, function) = test.split_once("::").expect("file::function");
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(text.contains(&format!("fn {function}(")), "{file} has no test {function}");
        for m in *mnemonics {
            assert!(!seen.contains(m), "{m:?} is named twice");
            seen.push(*m);
        }
    }
}
