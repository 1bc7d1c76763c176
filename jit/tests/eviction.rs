//! A code cache or a table of blocks that is too small for what is hot: blocks lose their code or go, come back, and nobody can tell.

mod rig;

use iced_x86::code_asm::*;
use jit::{EngineConfig, Exit, Stats, TierPolicy};
use rig::{DATA, Rig, Seen, config};

/// Where the blocks lie, each in its own 256 bytes.
const BLOCKS: u64 = 0x40_0000;
const DISTANCE: u64 = 0x100;
/// With some 2 KiB of host code each they need more than the smallest cache, 1 MiB.
const COUNT: u64 = 1200;
const ROUNDS: u64 = 4;
/// The loop that closes a round.
const END: u64 = BLOCKS + COUNT * DISTANCE;

/// Every block mixes a constant and words of memory into RAX and leads to the next one.
fn load_blocks(r: &mut Rig) {
    for k in 0..COUNT {
        let at = BLOCKS + k * DISTANCE;
        r.load_asm(at, |a| {
            // The constant is at offset 2: what the guest changes.
            a.add(rax, 0x1234_5678i32).unwrap();
            for n in 0..8 {
                let word = ((k * 8 + n) % 0x100 * 8) as i32;
                a.xor(rax, qword_ptr(rbx + word)).unwrap();
                a.rol(rax, 7i32).unwrap();
                a.mov(qword_ptr(rbx + word), rax).unwrap();
            }
            a.jmp(at + DISTANCE).unwrap();
        });
    }
}

fn run(config: EngineConfig, end: impl FnOnce(&mut CodeAssembler)) -> (Seen, Stats) {
    let mut r = Rig::new(config);
    load_blocks(&mut r);
    r.load_asm(END, end);
    r.cpu.st.rip = BLOCKS;
    r.cpu.st.gpr[3] = DATA;
    r.cpu.st.gpr[1] = ROUNDS;
    assert_eq!(r.run(10_000_000), Exit::Halted);
    assert!(r.cpu.st.icount() > ROUNDS * COUNT * 26);
    // Else each slow store would leave its block.
    assert!(!r.cpu.mmu.has_written_code(), "a safepoint is past what was written");
    (r.seen(), r.engine.stats())
}

fn small(tier: TierPolicy) -> EngineConfig {
    EngineConfig { code_cache_bytes: 1, verify: false, ..config(tier) }
}

fn next_round(a: &mut CodeAssembler) {
    next_rounds(a);
    a.hlt().unwrap();
}

/// Goes on with what follows when all rounds are over.
fn next_rounds(a: &mut CodeAssembler) {
    a.dec(ecx).unwrap();
    a.jne(BLOCKS).unwrap();
}

/// Before the next round, the guest changes the constant of every 16th block.
fn next_round_with_other_code(a: &mut CodeAssembler) {
    let mut patch = a.create_label();
    a.mov(rsi, BLOCKS).unwrap();
    a.set_label(&mut patch).unwrap();
    a.add(dword_ptr(rsi + 2), ecx).unwrap();
    a.add(rsi, (16 * DISTANCE) as i32).unwrap();
    a.cmp(rsi, END as i32).unwrap();
    a.jb(patch).unwrap();
    next_round(a);
}

#[test]
fn evicted_blocks_are_compiled_again() {
    let (want, _) = run(config(TierPolicy::Zero), next_round);
    for tier in [TierPolicy::One, TierPolicy::Two, TierPolicy::Auto] {
        let (seen, stats) = run(small(tier), next_round);
        want.same_as(&seen, &format!("{tier:?}"));
        if tier != TierPolicy::Auto {
            // In order, and more than fits: each round finds nothing of what the last one left at its beginning.
            assert!(stats.evicted > COUNT, "{tier:?}: {stats}");
            assert!(stats.compiled > 2 * COUNT, "{tier:?}: {stats}");
        }
        // The same with room for all.
        if tier == TierPolicy::One {
            let (seen, stats) = run(config(tier), next_round);
            want.same_as(&seen, "with room");
            // The blocks, the end of a round, and HLT.
            assert_eq!((stats.evicted, stats.compiled), (0, COUNT + 2), "{stats}");
        }
    }
}

#[test]
fn evicted_blocks_that_change_are_decoded_again() {
    let (want, _) = run(config(TierPolicy::Zero), next_round_with_other_code);
    let (unchanged, _) = run(config(TierPolicy::Zero), next_round);
    assert_ne!(want.gpr[0], unchanged.gpr[0], "the changes matter");
    for tier in [TierPolicy::One, TierPolicy::Two, TierPolicy::Auto] {
        let (seen, stats) = run(small(tier), next_round_with_other_code);
        want.same_as(&seen, &format!("{tier:?}"));
        assert!(stats.invalidated >= ROUNDS * COUNT / 16, "{tier:?}: {stats}");
        assert!(tier == TierPolicy::Auto || stats.evicted > COUNT, "{tier:?}: {stats}");
    }
}

/// A table that has room for few blocks, each of which may be compiled.
fn few(tier: TierPolicy) -> EngineConfig {
    EngineConfig { blocks: FEW, hot_threshold: 30, verify: false, ..config(tier) }
}
const FEW: usize = 100;

#[test]
fn blocks_make_room_for_others() {
    for (end, name) in
        [(next_round as fn(&mut CodeAssembler), "same"), (next_round_with_other_code, "other code")]
    {
        let (want, _) = run(config(TierPolicy::Zero), end);
        for tier in [TierPolicy::Zero, TierPolicy::Auto] {
            let (seen, stats) = run(few(tier), end);
            want.same_as(&seen, &format!("{name}, {tier:?}"));
            assert!(stats.blocks <= FEW as u64, "{name}, {tier:?}: {stats}");
            assert!(stats.swept > COUNT, "{name}, {tier:?}: {stats}");
        }
    }
}

/// Data where code was that nobody has run for long: a store there is a store like any other, after the first one.
#[test]
fn lines_of_blocks_that_have_gone_are_tracked_no_more() {
    let end = |a: &mut CodeAssembler| {
        next_rounds(a);
        let mut again = a.create_label();
        a.mov(edx, 1000).unwrap();
        a.mov(rsi, BLOCKS).unwrap();
        a.set_label(&mut again).unwrap();
        a.mov(dword_ptr(rsi), edx).unwrap();
        a.dec(edx).unwrap();
        a.jne(again).unwrap();
        a.hlt().unwrap();
    };
    let (want, _) = run(config(TierPolicy::Zero), end);
    for tier in [TierPolicy::Zero, TierPolicy::One] {
        let (seen, stats) = run(few(tier), end);
        want.same_as(&seen, &format!("{tier:?}"));
        assert!(stats.slow_stores < 100 && stats.redos < 100, "{tier:?}: {stats}");
    }
}
