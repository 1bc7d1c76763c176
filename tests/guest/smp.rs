//! Several vCPUs that take turns by a schedule from a seed.

use emulator::guests::{INITRAMFS_AMD64, KERNEL_CLOUD_AMD64};
use jit::TierPolicy;
use tests::harness::boot::{Final, Guest, Screen};

use super::debian::{boot, reaches_the_marker};

/// A boot with `cpus` processors and the seed of their schedule.
fn with(cpus: u32, seed: u64, tier: TierPolicy) -> Option<(Final, Screen)> {
    let guest = Guest::linux(&KERNEL_CLOUD_AMD64, &INITRAMFS_AMD64, "console=ttyS0")?;
    let run = boot(&guest.with_processors(cpus, seed), tier);
    reaches_the_marker(&run);
    let all = format!("Brought up 1 node, {cpus} CPUs");
    assert!(run.1.shows(&all), "not \"{all}\":\n{}", run.1.tail(6000));
    Some(run)
}

/// The same console, count, registers, devices and memory for the same seed, compiled when hot or interpreted; others for
/// another.
#[test]
fn the_seed_decides_how_processors_interleave() {
    let Some(first) = with(2, 1, TierPolicy::Auto) else { return };
    let again = with(2, 1, TierPolicy::Zero).expect("the guest was there");
    assert_eq!(first.1.tail(usize::MAX), again.1.tail(usize::MAX), "console");
    assert_eq!(first.0, again.0, "end");
    let other = with(2, 2, TierPolicy::Auto).expect("the guest was there");
    assert_ne!(first.0.icount, other.0.icount, "another seed, the same count");
}

#[test]
fn four_processors_come_up() {
    let _ = with(4, 7, TierPolicy::Auto);
}
