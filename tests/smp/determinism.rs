//! In turns, a run is its seed's: whatever else the host does, and in whatever tier.

use std::sync::atomic::{AtomicBool, Ordering};

use jit::TierPolicy;
use tests::harness::smp::Program;

/// Runs `f` while other threads keep the host's processors busy.
fn under_load<R>(f: impl FnOnce() -> R) -> R {
    let over = AtomicBool::new(false);
    std::thread::scope(|s| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            s.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let result = f();
        over.store(true, Ordering::Relaxed);
        result
    })
}

/// Results, the count of each processor, and all of memory, devices and registers.
#[test]
fn a_seed_gives_the_same_run_under_load() {
    let programs = [
        Program::new(4, include_str!("spin.asm"), &[("ROUNDS", 300)]),
        Program::new(3, include_str!("shootdown.asm"), &[("ROUNDS", 40)]),
        Program::new(3, include_str!("code.asm"), &[("ROUNDS", 100), ("PATCHES", 25), ("PLACE", 61)]),
    ];
    let mut other_runs = 0;
    for program in &programs {
        let first = program.trace(1, TierPolicy::Auto);
        let tiers = [TierPolicy::Auto, TierPolicy::Zero, TierPolicy::One, TierPolicy::Two];
        let again = under_load(|| tiers.map(|tier| program.trace(1, tier)));
        for (tier, again) in tiers.iter().zip(again) {
            assert_eq!(first, again, "tier {tier:?}");
        }
        other_runs += u32::from(program.trace(2, TierPolicy::Auto).counts != first.counts);
    }
    assert_ne!(other_runs, 0, "the seed decides nothing");
}
