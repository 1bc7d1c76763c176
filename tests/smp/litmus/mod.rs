//! Litmus tests: which outcomes of a few loads and stores by several processors come, and that none comes which x86's total store
//! order forbids; where processors take turns, none that sequential consistency forbids.
//!
//! How often each outcome came is written with `--nocapture`.

mod model;
mod program;

use jit::TierPolicy;
use model::Act::{R, W};
use model::{Shape, X, Y, outcomes};
use program::{Fence, Form, TORN, VALUE_BITS, program, values};
use tests::harness::smp::Mode;

/// The shapes, by their names in the literature on relaxed memory.
const SHAPES: [Shape; 9] = [
    Shape { name: "SB", threads: &[&[W(X, 1), R(Y)], &[W(Y, 1), R(X)]], last: &[] },
    Shape { name: "LB", threads: &[&[R(X), W(Y, 1)], &[R(Y), W(X, 1)]], last: &[] },
    Shape { name: "MP", threads: &[&[W(X, 1), W(Y, 1)], &[R(Y), R(X)]], last: &[] },
    Shape { name: "IRIW", threads: &[&[W(X, 1)], &[W(Y, 1)], &[R(X), R(Y)], &[R(Y), R(X)]], last: &[] },
    Shape { name: "R", threads: &[&[W(X, 1), W(Y, 1)], &[W(Y, 2), R(X)]], last: &[Y] },
    Shape { name: "S", threads: &[&[W(X, 2), W(Y, 1)], &[R(Y), W(X, 1)]], last: &[X] },
    Shape { name: "2+2W", threads: &[&[W(X, 1), W(Y, 2)], &[W(Y, 1), W(X, 2)]], last: &[X, Y] },
    Shape { name: "CoRR", threads: &[&[W(X, 1)], &[R(X), R(X)]], last: &[] },
    Shape { name: "SB+rfi", threads: &[&[W(X, 1), R(X), R(Y)], &[W(Y, 1), R(Y), R(X)]], last: &[] },
];

/// Aligned accesses of every width (16 bytes by SSE, which processors with AVX do at once; see [`may_tear`]), and unaligned ones
/// within a line.
const FORMS: [Form; 8] = [
    Form { width: 1, offset: 0 },
    Form { width: 2, offset: 0 },
    Form { width: 4, offset: 0 },
    Form { width: 8, offset: 0 },
    Form { width: 16, offset: 16 },
    Form { width: 2, offset: 1 },
    Form { width: 4, offset: 59 },
    Form { width: 8, offset: 5 },
];

/// Whether another processor may see half of an access: of 16 bytes, on a host that cannot move so many in one step (a limit
/// stated in `softmmu::ram`). Such values come as 3 and say nothing of the order. Where processors take turns nothing tears.
fn may_tear(form: Form, mode: Mode) -> bool {
    #[cfg(target_arch = "x86_64")]
    let whole = true;
    #[cfg(target_arch = "aarch64")]
    let whole = std::arch::is_aarch64_feature_detected!("lse2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let whole = false;
    form.width == 16 && !whole && !mode.is_sequential()
}

fn check(shape: &Shape, fence: Fence, form: Form, rounds: i64, mode: Mode, tier: TierPolicy) {
    let seed = i64::from(form.width * 64 + form.offset) << 8 | fence as i64;
    let results = program(shape, fence, form, rounds, seed).patient(u64::MAX).run(mode, tier);
    let fenced = fence != Fence::No;
    let (ordered, sequential) = (outcomes(shape, true, fenced), outcomes(shape, false, fenced));
    let what = format!("{} {fence:?} {form:?} {mode:?} tier {tier:?}", shape.name);
    let mut counts = String::new();
    let mut forbidden = false;
    for (index, count) in results.iter().enumerate().filter(|(_, count)| **count > 0) {
        let count_of = values(shape);
        let outcome: Vec<u8> = (0..count_of)
            .map(|n| (index >> (VALUE_BITS * (count_of - 1 - n)) & ((1 << VALUE_BITS) - 1)) as u8)
            .collect();
        if may_tear(form, mode) && outcome.contains(&TORN) {
            counts += &format!("  {outcome:?}/ {count}");
            continue;
        }
        let relaxed = if sequential.contains(&outcome) { "" } else { "!" };
        counts += &format!("  {outcome:?}{relaxed} {count}");
        forbidden |= !ordered.contains(&outcome) || mode.is_sequential() && !relaxed.is_empty();
    }
    eprintln!("{what}:{counts}");
    assert!(!forbidden, "{what}:{counts}");
    assert!(
        results.iter().filter(|count| **count > 0).count() > 1,
        "nothing happens at the same time: {what}"
    );
}

/// Every shape with every fence, and in each form.
fn check_all(name: &str, rounds: i64) {
    let shape = SHAPES.iter().find(|shape| shape.name == name).expect("a shape");
    let tiers = [TierPolicy::Auto, TierPolicy::One, TierPolicy::Zero];
    let mut number = 0;
    for mode in Mode::all() {
        for form in FORMS {
            for fence in [Fence::No, Fence::Mfence, Fence::Lock, Fence::Xchg] {
                if fence == Fence::Xchg && form.width == 16 {
                    continue;
                }
                number += 1;
                // Other hosts are emulated ones here, and slow: one in five, so that each form and each fence comes.
                if cfg!(not(target_arch = "x86_64")) && number % 5 != 0 {
                    continue;
                }
                check(shape, fence, form, rounds, mode, tiers[number % tiers.len()]);
            }
        }
    }
}

/// Rounds of 64 tests each.
const ROUNDS: i64 = 12;
/// As many as take some minutes.
const MANY: i64 = 100;

macro_rules! shapes {
    ($($test:ident $many:ident $name:literal;)*) => { $(
        #[test]
        fn $test() {
            check_all($name, ROUNDS);
        }
        #[test]
        #[ignore = "slow: cargo xtask test --nightly"]
        fn $many() {
            check_all($name, MANY);
        }
    )* };
}

shapes! {
    store_buffering store_buffering_often "SB";
    load_buffering load_buffering_often "LB";
    message_passing message_passing_often "MP";
    independent_reads independent_reads_often "IRIW";
    write_and_read write_and_read_often "R";
    write_after_read write_after_read_often "S";
    two_and_two_writes two_and_two_writes_often "2+2W";
    coherence_of_reads coherence_of_reads_often "CoRR";
    reading_own_writes reading_own_writes_often "SB+rfi";
}
