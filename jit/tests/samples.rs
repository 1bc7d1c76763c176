//! Devices that a read does not change are read inside blocks: with the same values, at the same counts and times, and with the
//! same looks of the machine around it, in every tier.

mod rig;

use iced_x86::code_asm::*;
use jit::{Exit, TierPolicy};
use rig::{CODE, COUNTER, COUNTER_PORT, DEVICE, Rig, config};
use x86::state::reg;

/// What the machine sees when the engine comes back: why, count, time, registers.
type Look = (Exit, u64, u64, Vec<u64>);

/// Counters at ports and in memory, the TSC, and now and then a device that must be looked at.
fn program(a: &mut CodeAssembler) -> Result<(), iced_x86::IcedError> {
    let (mut top, mut quiet) = (a.create_label(), a.create_label());
    a.mov(rbx, DEVICE)?;
    a.set_label(&mut top)?;
    a.mov(edx, u32::from(COUNTER_PORT))?;
    a.in_(eax, dx)?;
    a.add(rsi, rax)?;
    a.mov(eax, dword_ptr(rbx + (COUNTER - DEVICE) as i32))?;
    a.imul_3(rdi, rdi, 31)?;
    a.add(rdi, rax)?;
    a.xor(rdi, qword_ptr(rbx + (COUNTER - DEVICE) as i32))?;
    a.rdtsc()?;
    a.lea(rsi, qword_ptr(rsi + rax * 8))?;
    a.movzx(r8d, byte_ptr(rbx + (COUNTER - DEVICE) as i32))?;
    a.add(r9, r8)?;
    a.inc(rcx)?;
    a.test(ecx, 63)?;
    a.jnz(quiet)?;
    a.mov(eax, dword_ptr(rbx + 0x10))?;
    a.set_label(&mut quiet)?;
    a.jmp(top)
}

/// Runs towards counts of all kinds, as a machine does whose deadlines come at odd times.
fn looks(tier: TierPolicy) -> (Vec<Look>, Rig) {
    let mut rig = Rig::new(config(tier));
    rig.load_asm(CODE, |a| program(a).expect("assembles"));
    let mut seen = Vec::new();
    let mut steps = [1, 7, 300, 301, 302, 999, 5_000, 40_000, 250_000].iter().cycle();
    while rig.cpu.st.icount() < 200_000 {
        let until = rig.cpu.st.icount() + steps.next().expect("endless");
        let exit = rig.engine.run(&mut rig.cpu, until);
        let st = &rig.cpu.st;
        assert!(st.icount() <= until, "{tier:?}");
        seen.push((exit, st.icount(), st.now(), st.gpr[..16].to_vec()));
    }
    (seen, rig)
}

#[test]
fn every_tier_reads_the_same_and_is_looked_at_at_the_same_counts() {
    let (interpreted, _) = looks(TierPolicy::Zero);
    assert!(interpreted.iter().any(|look| look.0 == Exit::Event), "the other register is looked at");
    assert!(interpreted.iter().any(|look| look.0 == Exit::Deadline));
    for tier in [TierPolicy::One, TierPolicy::Two] {
        let (compiled, rig) = looks(tier);
        for (n, (a, b)) in interpreted.iter().zip(&compiled).enumerate() {
            assert_eq!(a, b, "look {n}, {tier:?}");
        }
        assert_eq!(interpreted.len(), compiled.len());
        let stats = rig.engine.stats();
        assert!(
            stats.samples > 10_000 && stats.redos < stats.samples / 20,
            "{tier:?} left its blocks: {stats}"
        );
    }
}

#[test]
fn an_access_that_takes_time_brings_the_end_of_the_run_nearer() {
    for tier in [TierPolicy::Zero, TierPolicy::One, TierPolicy::Two] {
        let mut rig = Rig::new(config(tier));
        rig.load_asm(CODE, |a| {
            a.mov(edx, u32::from(COUNTER_PORT)).expect("assembles");
            (0..8).for_each(|_| a.in_(eax, dx).expect("assembles"));
            (0..2000).for_each(|_| a.inc(rcx).expect("assembles"));
        });
        // Something is to happen at 1000 ns: after MOV and three accesses 904 have passed, after four it is late.
        assert_eq!(rig.engine.run(&mut rig.cpu, 1000), Exit::Deadline);
        assert_eq!((rig.cpu.st.icount(), rig.cpu.st.now()), (5, 1205), "{tier:?}");
        assert_eq!(rig.cpu.st.gpr[reg::RAX as usize], 904, "{tier:?}");
        // And without accesses it happens to the nanosecond.
        rig.cpu.st.rip = CODE + 5 + 8;
        assert_eq!(rig.engine.run(&mut rig.cpu, 1000), Exit::Deadline);
        assert_eq!((rig.cpu.st.icount(), rig.cpu.st.now()), (1000, 2200), "{tier:?}");
    }
}
