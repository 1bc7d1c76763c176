//! Files that lie or end early: an error each time, and never a panic, endless loop or great allocation.

use proptest::prelude::*;
use tests::singlestep::run::{Beside, Machine};
use tests::singlestep::{Vectors, parse};
use x86::model::CpuModel;

use crate::build::{case, json, moo};

fn sample() -> Vectors {
    let cases = vec![case(false, &[0x90], &[]), case(false, &[0x01, 0xc8], &[])];
    Vectors { cpu: "8088".into(), cases, ..Vectors::default() }
}

#[test]
fn every_shorter_file_is_refused() {
    for bytes in [moo(&sample(), false), json(&sample(), false)] {
        for len in 0..bytes.len() {
            assert!(parse(&bytes[..len]).is_err(), "{len} of {}", bytes.len());
        }
        assert!(parse(&bytes).is_ok());
    }
}

#[test]
fn lies_are_named() {
    let good = moo(&sample(), false);
    let change = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        parse(&bytes).unwrap_err()
    };
    assert!(change(8, 2).contains("version 2"));
    assert!(change(12, 9).contains("promises 9 tests, the file has 2"));
    assert!(change(7, 0x7f).contains("are left"), "a chunk longer than the file");
    for text in ["", "{}", "[1]", "[{\"bytes\": [300]}]", "MOO"] {
        assert!(parse(text.as_bytes()).is_err(), "{text}");
    }
}

/// A fault whose handler faults at once: no instruction is ever counted.
#[test]
fn cases_without_an_end_are_given_up() {
    for cpu in ["286", "386"] {
        for code in [&[0x0f, 0xff][..], &[0xeb, 0xfe], &[0xe5, 0x10, 0xeb, 0xfc], &[0xcd, 6]] {
            let mut endless = case(false, code, &[]);
            endless.initial.ram.extend([(24, 0), (25, 6), (26, 0), (27, 0), (0x600, 0x0f), (0x601, 0xff)]);
            let vectors = Vectors { cases: vec![endless], ..Vectors::default() };
            let mut machine = Machine::new(CpuModel::new(cpu).unwrap(), jit::TierPolicy::Zero);
            let (tally, _) = machine.run(&vectors, &Beside::default(), 1);
            assert_eq!(tally.passed, 0, "{cpu}: {code:02x?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// Whatever is read from a damaged file can be run.
    #[test]
    fn damaged_files_do_no_harm(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), text: bool) {
        let mut bytes = if text { json(&sample(), false) } else { moo(&sample(), false) };
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(vectors) = parse(&bytes) {
            let mut machine = Machine::new(CpuModel::new("8086").unwrap(), jit::TierPolicy::Zero);
            let (tally, _) = machine.run(&vectors, &Beside::default(), usize::MAX);
            prop_assert_eq!(tally.passed + tally.failed, vectors.cases.len());
        }
    }
}
