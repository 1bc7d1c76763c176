//! Several vCPUs: in turns by a schedule from a seed, and in parallel.

use std::num::NonZero;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use emulator::config::{MachineConfig, SmpMode};
use emulator::guests::{self, INITRAMFS_AMD64, KERNEL_CLOUD_AMD64};
use emulator::machine::Ended;
use emulator::machine::gate::InputGate;
use jit::TierPolicy;
use tests::harness::boot::{Final, Guest, Screen, final_state, run};
use tests::harness::pc::{Pc, configuration};
use x86::model::Topology;

use super::debian::{PATIENCE, boot, reaches_the_marker};

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

/// A state saved in the midst holds every processor and whose turn it is: what follows is as in the unbroken run.
#[test]
fn a_saved_state_goes_on_alike() {
    let guest = Guest::linux(&KERNEL_CLOUD_AMD64, &INITRAMFS_AMD64, "console=ttyS0");
    let Some(guest) = guest.map(|guest| guest.with_processors(2, 3)) else { return };
    let mut machine = guest.power_on(TierPolicy::Auto);
    let mut screen = Screen::default();
    let ended = run(&mut machine, &mut InputGate::sealed(), &mut screen, Some(PATIENCE));
    let whole = (final_state(&mut machine, ended), screen);
    reaches_the_marker(&whole);
    let counters = machine.vcpu(0).expect("the first processor").mmu.counters();
    assert!(counters.derived > 1000, "shadow page tables are in use: {counters:?}");

    let mut machine = guest.power_on(TierPolicy::Auto);
    let mut screen = Screen::default();
    for part in 1..4 {
        let ended = run(&mut machine, &mut InputGate::sealed(), &mut screen, Some(whole.0.icount / 4 * part));
        assert_eq!(ended, Ended::Count, "part {part}");
        let mut state = Vec::new();
        machine.save(&mut state).expect("memory takes everything");
        machine = guest.power_on(TierPolicy::Auto);
        machine.restore(&mut state.as_slice()).expect("a state of the same machine");
    }
    let ended = run(&mut machine, &mut InputGate::sealed(), &mut screen, None);
    assert_eq!(whole.1.tail(usize::MAX), screen.tail(usize::MAX), "console");
    assert_eq!(whole.0, final_state(&mut machine, ended), "end");
}

/// As many runs at once as the host has processors, and one more, so that each of them is interrupted and moved: console, end, memory
/// and the count of each processor are the seed's.
#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn twenty_boots_of_a_seed_are_one() {
    for cpus in [2, 4] {
        let Some(guest) = Guest::linux(&KERNEL_CLOUD_AMD64, &INITRAMFS_AMD64, "console=ttyS0") else {
            return;
        };
        let guest = guest.with_processors(cpus, 11);
        let left = AtomicU32::new(20);
        let one = || {
            let mut machine = guest.power_on(TierPolicy::Auto);
            let mut screen = Screen::default();
            let ended = run(&mut machine, &mut InputGate::sealed(), &mut screen, None);
            let counts: Vec<_> =
                (0..machine.cpus()).filter_map(|n| Some(machine.vcpu(n)?.st.icount())).collect();
            let run = (final_state(&mut machine, ended), screen);
            reaches_the_marker(&run);
            (counts, run.0, run.1.0)
        };
        let threads = std::thread::available_parallelism().map_or(2, NonZero::get) + 1;
        let all: Vec<_> = std::thread::scope(|s| {
            let work = || {
                let take = || left.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_ok();
                std::iter::from_fn(|| take().then(&one)).collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..threads).map(|_| s.spawn(work)).collect();
            threads.into_iter().flat_map(|t| t.join().expect("a boot panicked")).collect()
        });
        assert_eq!(all.len(), 20);
        for other in &all[1..] {
            assert_eq!(all[0].0, other.0, "counts of the processors");
            assert_eq!(all[0].1, other.1, "end");
            assert!(all[0].2 == other.2, "console:\n{}", String::from_utf8_lossy(&other.2));
        }
        eprintln!("{cpus} processors: 20 of 20 alike, {:?} {:?}", all[0].0, all[0].1);
    }
}

/// A thread for each, two and then more than the host may have cores. (Hosts that cannot do that take turns.)
#[test]
fn debian_boots_on_processors_in_parallel() {
    for cpus in [2, 8] {
        let guest = Guest::linux(&KERNEL_CLOUD_AMD64, &INITRAMFS_AMD64, "console=ttyS0");
        let Some(guest) = guest else { return };
        let run = boot(&guest.with_parallel_processors(cpus), TierPolicy::Auto);
        reaches_the_marker(&run);
        let all = format!("Brought up 1 node, {cpus} CPUs");
        assert!(run.1.shows(&all), "not \"{all}\":\n{}", run.1.tail(6000));
    }
}

/// Threads come back for a saved state, and what was saved goes on in another machine.
#[test]
fn a_state_saved_while_processors_run_in_parallel_goes_on() {
    let guest = Guest::linux(&KERNEL_CLOUD_AMD64, &INITRAMFS_AMD64, "console=ttyS0");
    let Some(guest) = guest.map(|guest| guest.with_parallel_processors(3)) else { return };
    let mut machine = guest.power_on(TierPolicy::Auto);
    let mut screen = Screen::default();
    for part in 1..4 {
        let count = machine.retired() + 60_000_000 * part;
        let ended = run(&mut machine, &mut InputGate::sealed(), &mut screen, Some(count));
        assert_eq!(ended, Ended::Count, "part {part}");
        let mut state = Vec::new();
        machine.save(&mut state).expect("memory takes everything");
        machine = guest.power_on(TierPolicy::Auto);
        machine.restore(&mut state.as_slice()).expect("a state of the same machine");
    }
    let ended = run(&mut machine, &mut InputGate::sealed(), &mut screen, None);
    reaches_the_marker(&(final_state(&mut machine, ended), screen));
}

/// Four jobs at a time, which hash the same.
const JOBS: &str = "for i in 1 2 3 4; do head -c 256k /dev/zero | md5sum > /tmp/job$i & done; wait; cat /tmp/job* | sort | uniq -c\n";
/// What all of them find.
const HASHES: &str = "4 ec87a838931d4d5d2e94a04644788a55";

/// Two processors, which the shell counts and gives jobs to. (On an emulated host, too: the limits are far away.)
fn two_processors_do_jobs(mode: SmpMode) {
    let (kernel, initrd) = (guests::for_test(&KERNEL_CLOUD_AMD64), guests::for_test(&INITRAMFS_AMD64));
    let (Some(kernel), Some(initrd)) = (kernel, initrd) else { return };
    let config = MachineConfig {
        kernel: Some(kernel),
        initrd: initrd.to_str().map(Into::into),
        append: "console=ttyS0 wl=shell".into(),
        topology: Topology::cores(2),
        smp_mode: Some(mode),
        ..configuration(256 << 20)
    };
    let mut pc = Pc::power_on(&config, TierPolicy::Auto);
    let commands =
        [("echo there are $(nproc)\n", "there are 2"), (JOBS, HASHES), ("sleep 1; poweroff\n", "poweroff")];
    pc.until_serial(":/root# ", 3600);
    for (command, answer) in commands {
        for bad in ["Kernel panic", "BUG:", "Oops", "Call Trace", "WARNING: CPU"] {
            assert!(!pc.serial.shows(bad), "{bad} on the console:\n{}", pc.serial.tail(6000));
        }
        pc.type_serial(command, answer, 1800);
    }
    pc.until_off(600);
}

#[test]
fn two_processors_in_turns_do_jobs() {
    two_processors_do_jobs(SmpMode::Deterministic { seed: Some(5) });
}

#[test]
fn two_processors_in_parallel_do_jobs() {
    if SmpMode::PARALLEL_HERE {
        two_processors_do_jobs(SmpMode::Parallel);
    }
}
