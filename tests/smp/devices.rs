//! Devices that several processors use at the same time, and what that costs them.

use emulator::config::SmpMode;
use emulator::machine::{Ended, Why};
use jit::TierPolicy;
use tests::harness::smp::{Mode, Program};

#[test]
fn one_counter_for_all_while_it_is_stopped_and_moved() {
    let program = Program::new(4, include_str!("hpet.asm"), &[("ROUNDS", 500)]);
    program.check(|results| assert_eq!(results, [0; 4]));
}

#[test]
fn timers_local_apics_and_translations_all_the_time() {
    let program = Program::new(4, include_str!("quiet.asm"), &[("ROUNDS", 300)]);
    program.check(|results| assert_eq!(results, [300; 4]));
}

fn functions(rounds: u64) -> Program {
    let constants = [("ROUNDS", rounds as i64), ("REGISTERS", 0x5000_0000), ("PIN", 22)];
    Program::new(4, include_str!("functions.asm"), &constants).on_q35_with_functions()
}

fn functions_are_right(results: &[u64], rounds: u64) {
    assert_eq!(results, [rounds, rounds, rounds, rounds, u64::from_le_bytes(*b"virtio-d")]);
}

#[test]
fn registers_of_several_functions_at_once() {
    functions(300).check(|results| functions_are_right(results, 300));
}

/// Registers of PCI functions by ports and memory, their interrupts by pins, the acknowledgement and the end of these: twenty times as many of
/// them take the board's lock no more often.
#[test]
fn functions_take_no_lock_but_their_own() {
    const FEW: u64 = 100;
    const MANY: u64 = 2000;
    if !SmpMode::PARALLEL_HERE {
        return;
    }
    for tier in [TierPolicy::Zero, TierPolicy::Auto] {
        let (few, many) = (functions(FEW).counted(tier).0, functions(MANY).counted(tier).0);
        for cpu in 0..4 {
            let (few, many) = (few.cpu(cpu), many.cpu(cpu));
            assert_eq!(few.devices(), many.devices(), "CPU {cpu}, tier {tier:?}: {few:?}, {many:?}");
            assert_eq!(few.of(Why::MemoryMap), many.of(Why::MemoryMap));
            // A write and a read.
            let more = many.of(Why::Function) - few.of(Why::Function);
            assert!(more >= 2 * (MANY - FEW), "CPU {cpu}, tier {tier:?}: only {more} more");
        }
        let more = |why| many.cpu(0).of(why) - few.cpu(0).of(why);
        assert!(
            more(Why::ControllersEoi) >= MANY - FEW,
            "tier {tier:?}: only {} more",
            more(Why::ControllersEoi)
        );
        // Who looks at the pins when one has moved carries it, now and then another than the one that moved it, or a function's thread.
        assert!(
            more(Why::ControllersPin) >= MANY / 2,
            "tier {tier:?}: only {} more",
            more(Why::ControllersPin)
        );
        let others = |why| (1..4).map(|cpu| many.cpu(cpu).of(why)).sum::<u64>();
        assert_eq!(others(Why::ControllersEoi), 0);
        assert!(others(Why::ControllersPin) < MANY / 10, "{} pins by others", others(Why::ControllersPin));
    }
}

/// Functions go over each other while others read them: who is asked is the one that decodes the address at that moment.
#[test]
fn functions_that_move_while_they_are_read() {
    const ROUNDS: u64 = 100;
    let constants = [("ROUNDS", ROUNDS as i64), ("REGISTERS", 0x5000_0000)];
    let program = Program::new(4, include_str!("moves.asm"), &constants).on_q35_with_functions();
    program.patient(1_000_000_000).check(|results| {
        assert_eq!(results[0], ROUNDS);
        assert!(results[1..].iter().all(|seen| *seen >= ROUNDS), "{results:?}");
    });
}

/// It is found out although nobody is told when the last one halts.
#[test]
fn processors_that_are_halted_for_good_end_the_machine() {
    let program = Program::new(3, "test: cli\n.stop: hlt; jmp .stop\nresults: dq 0", &[]);
    let (ended, ends) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        Mode::all().into_iter().for_each(|mode| {
            let _ = ended.send(program.end(mode, TierPolicy::Zero));
        });
    });
    for mode in Mode::all() {
        let end = ends.recv_timeout(std::time::Duration::from_secs(300)).expect("it ends");
        assert_eq!(end, Ended::HaltedForever, "{mode:?}");
    }
}

/// TLB misses, block look-ups, the HPET's counter, the PM timer, task priority, IPIs and EOI: fifty times as many of them take the devices'
/// lock, the memory map's and the block table's no more often.
#[test]
fn hot_paths_take_no_lock_that_is_shared() {
    const CPUS: usize = 4;
    const FEW: u64 = 100;
    const MANY: u64 = 5000;
    if !SmpMode::PARALLEL_HERE {
        return;
    }
    for tier in [TierPolicy::Zero, TierPolicy::Auto] {
        let run = |rounds: u64| {
            let program = Program::new(CPUS as u32, include_str!("quiet.asm"), &[("ROUNDS", rounds as i64)]);
            program.counted(tier)
        };
        let ((few, few_stats), (many, many_stats)) = (run(FEW), run(MANY));
        for cpu in 0..CPUS {
            let (few, many) = (few.cpu(cpu), many.cpu(cpu));
            assert_eq!(few.devices(), many.devices(), "CPU {cpu}, tier {tier:?}: {few:?}, {many:?}");
            assert_eq!(few.of(Why::MemoryMap), many.of(Why::MemoryMap));
            for why in [Why::SampledMemory, Why::SampledPort, Why::LocalApic, Why::Ipi] {
                let more = many.of(why) - few.of(why);
                assert!(more >= MANY - FEW, "{why:?} of CPU {cpu}, tier {tier:?}: only {more} more");
            }
        }
        // Each block is put into the table once (or once more, where two have decoded it at the same time).
        let more = many_stats.decoded.saturating_sub(few_stats.decoded);
        assert!(more < MANY / 10, "tier {tier:?}: {more} more blocks");
        let more = many_stats.links.saturating_sub(few_stats.links);
        assert!(more < MANY / 10, "tier {tier:?}: {more} more links");
    }
}
