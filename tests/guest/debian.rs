//! Debian's kernels to the marker and to power-off.

use emulator::guests::*;
use emulator::machine::Ended;
use emulator::machine::gate::InputGate;
use jit::TierPolicy;
use tests::harness::boot::{Final, Guest, Screen, final_state, run};

/// More than any of these kernels needs; a boot that hangs ends here.
pub const PATIENCE: u64 = 20_000_000_000;

pub fn boot(guest: &Guest, tier: TierPolicy) -> (Final, Screen) {
    let start = std::time::Instant::now();
    let mut machine = guest.power_on(tier);
    let mut screen = Screen::default();
    let ended = run(&mut machine, &mut InputGate::sealed(), &mut screen, Some(PATIENCE));
    let end = final_state(&mut machine, ended);
    eprintln!(
        "tier {tier:?}: {} instructions, {:.1} s, {:?}",
        end.icount,
        start.elapsed().as_secs_f64(),
        end.ended
    );
    (end, screen)
}

pub fn reaches_the_marker((end, screen): &(Final, Screen)) {
    assert_eq!(end.ended, Ended::PowerOff, "{}", screen.tail(2000));
    assert!(screen.shows("RETRO-BOOT-OK"), "{}", screen.tail(2000));
    for bad in ["Kernel panic", "BUG:", "Oops", "Call Trace", "WARNING: CPU"] {
        assert!(!screen.shows(bad), "{bad} on the console:\n{}", screen.tail(6000));
    }
}

/// The same boot in every tier, and in the mixture that is the default: same console output, same number of instructions, same registers, devices and memory.
#[test]
fn the_cloud_kernel_boots_alike_in_every_tier() {
    let Some(guest) = Guest::linux(&KERNEL_CLOUD_AMD64, &INITRAMFS_AMD64, "console=ttyS0") else { return };
    let tiers = [TierPolicy::Zero, TierPolicy::One, TierPolicy::Two, TierPolicy::Auto];
    let runs = std::thread::scope(|s| {
        let guest = &guest;
        let threads = tiers.map(|tier| s.spawn(move || boot(guest, tier)));
        threads.map(|t| t.join().expect("a boot panicked"))
    });
    reaches_the_marker(&runs[0]);
    for (tier, other) in tiers.iter().zip(&runs).skip(1) {
        assert_eq!(runs[0].1.tail(usize::MAX), other.1.tail(usize::MAX), "console, tier Zero and {tier:?}");
        assert_eq!(runs[0].0, other.0, "end, tier Zero and {tier:?}");
    }
}

#[test]
fn the_general_kernel_boots() {
    let Some(guest) = Guest::linux(&KERNEL_AMD64, &INITRAMFS_AMD64, "console=ttyS0") else { return };
    reaches_the_marker(&boot(&guest, TierPolicy::Auto));
}

#[test]
fn the_32_bit_kernel_with_pae_boots() {
    let Some(guest) = Guest::linux(&KERNEL_686_PAE, &INITRAMFS_I386, "console=ttyS0") else { return };
    reaches_the_marker(&boot(&guest, TierPolicy::Auto));
}

#[test]
fn the_32_bit_kernel_without_pae_boots() {
    let Some(guest) = Guest::linux(&KERNEL_686, &INITRAMFS_I386, "console=ttyS0") else { return };
    reaches_the_marker(&boot(&guest, TierPolicy::Auto));
}
