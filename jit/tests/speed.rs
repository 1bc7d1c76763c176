//! Loops to measure with: `cargo test --release -p jit --test speed -- --ignored --nocapture`.

mod rig;

use std::time::Instant;

use iced_x86::code_asm::*;
use jit::{EngineConfig, TierPolicy};
use rig::{CODE, DATA, Rig};

type Program = (&'static str, fn(&mut CodeAssembler));

const PROGRAMS: &[Program] = &[
    ("lock add", |a| {
        let mut top = a.create_label();
        a.mov(rbx, DATA).unwrap();
        a.set_label(&mut top).unwrap();
        a.lock().add(dword_ptr(rbx), eax).unwrap();
        a.dec(ecx).unwrap();
        a.jne(top).unwrap();
        a.jmp(top).unwrap();
    }),
    ("lock cmpxchg", |a| {
        let mut top = a.create_label();
        a.mov(rbx, DATA).unwrap();
        a.set_label(&mut top).unwrap();
        a.lock().cmpxchg(qword_ptr(rbx), rdx).unwrap();
        a.dec(ecx).unwrap();
        a.jne(top).unwrap();
        a.jmp(top).unwrap();
    }),
    // In parallel a call of tier 0's handler.
    ("lock neg", |a| {
        let mut top = a.create_label();
        a.mov(rbx, DATA).unwrap();
        a.set_label(&mut top).unwrap();
        a.lock().neg(dword_ptr(rbx)).unwrap();
        a.dec(ecx).unwrap();
        a.jne(top).unwrap();
        a.jmp(top).unwrap();
    }),
    ("sum", |a| {
        let mut top = a.create_label();
        a.mov(rcx, 0x200i64 as u64).unwrap();
        a.mov(rbx, DATA).unwrap();
        let mut again = a.create_label();
        a.set_label(&mut again).unwrap();
        a.xor(ecx, ecx).unwrap();
        a.set_label(&mut top).unwrap();
        a.add(rax, qword_ptr(rbx + rcx * 8)).unwrap();
        a.inc(rcx).unwrap();
        a.cmp(rcx, 0x400i32).unwrap();
        a.jne(top).unwrap();
        a.jmp(again).unwrap();
    }),
    ("register loop", |a| {
        let mut top = a.create_label();
        a.set_label(&mut top).unwrap();
        a.lea(rax, rax + rcx * 4).unwrap();
        a.xor(rdx, rax).unwrap();
        a.shr(rdx, 3i32).unwrap();
        a.add(rcx, rdx).unwrap();
        a.dec(rsi).unwrap();
        a.jne(top).unwrap();
        a.jmp(top).unwrap();
    }),
    ("memcpy bytes", |a| {
        let (mut top, mut again) = (a.create_label(), a.create_label());
        a.set_label(&mut again).unwrap();
        a.mov(rsi, DATA).unwrap();
        a.mov(rdi, DATA + 0x8000).unwrap();
        a.mov(ecx, 0x1000i32).unwrap();
        a.set_label(&mut top).unwrap();
        a.mov(al, byte_ptr(rsi)).unwrap();
        a.mov(byte_ptr(rdi), al).unwrap();
        a.inc(rsi).unwrap();
        a.inc(rdi).unwrap();
        a.dec(ecx).unwrap();
        a.jne(top).unwrap();
        a.jmp(again).unwrap();
    }),
    ("fib calls", |a| {
        let (mut fib, mut small, mut again) = (a.create_label(), a.create_label(), a.create_label());
        a.set_label(&mut again).unwrap();
        a.mov(edi, 20i32).unwrap();
        a.call(fib).unwrap();
        a.jmp(again).unwrap();
        a.set_label(&mut fib).unwrap();
        a.cmp(edi, 2i32).unwrap();
        a.jb(small).unwrap();
        a.push(rdi).unwrap();
        a.dec(edi).unwrap();
        a.call(fib).unwrap();
        a.pop(rdi).unwrap();
        a.push(rax).unwrap();
        a.sub(edi, 2i32).unwrap();
        a.call(fib).unwrap();
        a.pop(rdx).unwrap();
        a.add(eax, edx).unwrap();
        a.ret().unwrap();
        a.set_label(&mut small).unwrap();
        a.mov(eax, edi).unwrap();
        a.ret().unwrap();
    }),
    ("dispatch", |a| {
        // A bytecode interpreter: 8 handlers by a jump table.
        let mut labels: Vec<_> = (0..8).map(|_| a.create_label()).collect();
        let mut table = a.create_label();
        let (mut next, mut start) = (a.create_label(), a.create_label());
        a.lea(r8, ptr(table)).unwrap();
        a.set_label(&mut start).unwrap();
        a.xor(esi, esi).unwrap();
        for l in &mut labels {
            a.set_label(l).unwrap();
            a.add(eax, 3i32).unwrap();
            a.imul_2(edx, eax).unwrap();
            a.inc(esi).unwrap();
            a.mov(edi, esi).unwrap();
            a.imul_3(edi, edi, 0x9e37i32).unwrap();
            a.shr(edi, 5i32).unwrap();
            a.and(edi, 7i32).unwrap();
            a.jmp(qword_ptr(r8 + rdi * 8)).unwrap();
        }
        a.set_label(&mut next).unwrap();
        a.hlt().unwrap();
        a.set_label(&mut table).unwrap();
        // Filled by the caller: eight addresses.
        for _ in 0..8 {
            a.dq(&[0]).unwrap();
        }
    }),
];

#[test]
#[ignore = "a measurement"]
fn loops() {
    for (name, program) in PROGRAMS {
        print!("{name:16}");
        for (tier, optimise, parallel) in [
            (TierPolicy::Zero, false, false),
            (TierPolicy::One, false, false),
            (TierPolicy::Two, false, false),
            (TierPolicy::Two, true, false),
            (TierPolicy::One, false, true),
            (TierPolicy::Two, false, true),
        ] {
            let mut r = Rig::new(EngineConfig { tier, optimise, parallel, ..EngineConfig::default() });
            let mut a = CodeAssembler::new(64).unwrap();
            program(&mut a);
            let mut bytes = a.assemble(CODE).unwrap();
            if *name == "dispatch" {
                // The handlers are equally long; the table is the last 64 bytes.
                let n = bytes.len();
                let first = 7 + 2;
                let each = (n - 64 - 1 - first) / 8;
                for k in 0..8 {
                    let at = CODE + (first + k * each) as u64;
                    bytes[n - 64 + 8 * k..n - 56 + 8 * k].copy_from_slice(&at.to_le_bytes());
                }
            }
            r.load(CODE, &bytes);
            r.run(1_000_000);
            let n = if tier == TierPolicy::Zero { 50_000_000 } else { 400_000_000 };
            let t = Instant::now();
            r.run(1_000_000 + n);
            let s = t.elapsed().as_secs_f64();
            let how = if optimise { "+" } else { "" };
            let how = if parallel { "||" } else { how };
            print!("  {tier:?}{how} {:6.0} MIPS", n as f64 / s / 1e6);
        }
        println!();
    }
}

#[test]
#[ignore = "a dump"]
fn dump() {
    let mut r = Rig::new(EngineConfig { tier: TierPolicy::One, ..EngineConfig::default() });
    let name = std::env::var("PROGRAM").unwrap_or_else(|_| "sum".into());
    let (_, program) = PROGRAMS.iter().find(|(n, _)| *n == name).unwrap();
    r.load_asm(CODE, program);
    r.run(10_000);
    for text in r.engine.dump_blocks() {
        println!("{text}");
    }
}
