//! Translations, page tables, PCI memory and code that change under processors that use them: see `stress.asm`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use jit::TierPolicy;
use tests::harness::smp::{Mode, Program};

/// `cpus`: a power of two, at most 4.
fn program(cpus: u32, seed: i64, rounds: i64) -> Program {
    program_that_tells(cpus, seed, rounds, true)
}

/// Without `telling` it does not say when a translation has changed.
fn program_that_tells(cpus: u32, seed: i64, rounds: i64, telling: bool) -> Program {
    let constants = [
        ("ROUNDS", rounds),
        ("SEED", seed),
        ("SILENT", i64::from(!telling)),
        ("FRAMES", 64),
        ("POOL", 0x25_0000),
        ("GUARD", 0x26_0000),
        ("CODES", 0x27_0000),
        // D0000000h and E0000000h.
        ("REGISTERS", 0x5000_0000),
        ("VIDEO", 0x6000_0000),
    ];
    Program::new(cpus, include_str!("stress.asm"), &constants).patient(100_000 * rounds as u64).on_q35()
}

fn judge(results: &[u64], cpus: u32, rounds: i64) {
    let wanted: Vec<u64> = (0..4).map(|cpu| if cpu < cpus { rounds as u64 } else { 0 }).collect();
    assert_eq!(results, wanted);
}

#[test]
fn every_access_is_what_its_translation_says() {
    for cpus in [2, 4] {
        program(cpus, 0x51_7e55, 1000).check(|results| judge(results, cpus, 1000));
    }
}

/// The schedule's seed and the guest's decide everything.
#[test]
fn the_same_stress_twice_is_the_same() {
    let run = |tier| program(4, 77, 500).trace(5, tier);
    assert_eq!(run(TierPolicy::Auto), run(TierPolicy::Auto));
    assert_eq!(run(TierPolicy::Zero), run(TierPolicy::One));
}

/// What a processor's TLB keeps when nobody asks it to forget is noticed.
#[test]
fn old_translations_are_noticed() {
    for mode in Mode::all() {
        let silent = program_that_tells(2, 3, 1000, false);
        let run = catch_unwind(AssertUnwindSafe(|| silent.run(mode, TierPolicy::Auto)));
        let said = run.expect_err("nothing is noticed").downcast::<String>().expect("a message");
        assert!(said.contains("it fails for reason"), "{said}");
    }
}

/// For as many seconds as `RETROGRADE_STRESS_SECONDS` says, three minutes otherwise: seeds one after another.
#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn stress_for_minutes() {
    let seconds = std::env::var("RETROGRADE_STRESS_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(180);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut seed = std::env::var("RETROGRADE_STRESS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut runs = 0;
    while Instant::now() < end {
        for tier in [TierPolicy::Auto, TierPolicy::One, TierPolicy::Zero] {
            let rounds = 10_000;
            for (mode, cpus) in Mode::all().into_iter().zip([2, 4, 4]) {
                let mode = if let Mode::Deterministic { .. } = mode {
                    Mode::Deterministic { seed: seed as u64 }
                } else {
                    mode
                };
                eprintln!("seed {seed}, tier {tier:?}, {mode:?}, {cpus} processors");
                judge(&program(cpus, seed, rounds).run(mode, tier), cpus, rounds);
                runs += 1;
            }
        }
        seed += 1;
    }
    eprintln!("{runs} runs of {} seeds", seed - 1);
}
