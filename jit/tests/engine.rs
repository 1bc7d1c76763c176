//! The engine as a whole: loops, calls, counts, faults, self-modifying code, in each tier.

mod rig;

use iced_x86::code_asm::*;
use jit::{EngineConfig, Exit, TierPolicy, Trace};
use rig::{CODE, DATA, Rig, config};

const TIERS: [TierPolicy; 4] = [TierPolicy::Zero, TierPolicy::One, TierPolicy::Two, TierPolicy::Auto];

#[test]
fn a_loop_gives_the_same_in_each_tier() {
    for tier in TIERS {
        let mut r = Rig::new(config(tier));
        r.load_asm(CODE, |a| {
            let mut top = a.create_label();
            a.xor(eax, eax).unwrap();
            a.mov(ecx, 1000i32).unwrap();
            a.mov(rbx, DATA).unwrap();
            a.set_label(&mut top).unwrap();
            a.add(rax, rcx).unwrap();
            a.mov(qword_ptr(rbx + rcx * 8), rax).unwrap();
            a.add(rax, qword_ptr(rbx + rcx * 8)).unwrap();
            a.dec(ecx).unwrap();
            a.jne(top).unwrap();
            a.hlt().unwrap();
        });
        assert_eq!(r.run(1_000_000), Exit::Halted, "{tier:?}");
        let mut want = 0u64;
        for c in (1..=1000u64).rev() {
            want = want.wrapping_add(c).wrapping_mul(2);
        }
        assert_eq!(r.cpu.st.gpr[0], want, "{tier:?}");
        assert_eq!(r.cpu.st.icount(), 3 + 5 * 1000 + 1, "{tier:?}");
        if tier == TierPolicy::One {
            assert!(r.engine.stats().compiled > 0, "{}", r.engine.stats());
        }
    }
}

#[test]
fn calls_and_returns() {
    for tier in TIERS {
        let mut r = Rig::new(config(tier));
        // Recursive Fibonacci of 15.
        r.load_asm(CODE, |a| {
            let (mut fib, mut small) = (a.create_label(), a.create_label());
            a.mov(edi, 15i32).unwrap();
            a.call(fib).unwrap();
            a.hlt().unwrap();
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
        });
        assert_eq!(r.run(1_000_000), Exit::Halted, "{tier:?}");
        assert_eq!(r.cpu.st.gpr[0], 610, "{tier:?}");
    }
}

#[test]
fn stops_at_every_count() {
    let program = |r: &mut Rig| {
        r.load_asm(CODE, |a| {
            let (mut top, mut f) = (a.create_label(), a.create_label());
            a.mov(ecx, 7i32).unwrap();
            a.mov(rbx, DATA).unwrap();
            a.set_label(&mut top).unwrap();
            a.call(f).unwrap();
            a.add(dword_ptr(rbx), ecx).unwrap();
            a.loop_(top).unwrap();
            a.hlt().unwrap();
            a.set_label(&mut f).unwrap();
            a.inc(edx).unwrap();
            a.adc(edx, 3i32).unwrap();
            a.rol(edx, 5i32).unwrap();
            a.ret().unwrap();
        });
    };
    let mut zero = Rig::new(config(TierPolicy::Zero));
    program(&mut zero);
    let mut others: Vec<Rig> = [TierPolicy::One, TierPolicy::Two].map(|t| Rig::new(config(t))).into();
    // Nor can the guest tell whether its blocks are logged.
    let trace = Trace { blocks: true, ..Trace::default() };
    others.extend(TIERS.map(|t| Rig::new(EngineConfig { trace, ..config(t) })));
    others.iter_mut().for_each(program);
    for n in 1.. {
        let a = zero.run(n);
        for other in &mut others {
            let b = other.run(n);
            assert_eq!(a, b, "at {n}");
            zero.seen().same_as(&other.seen(), &format!("at {n}"));
        }
        if a == Exit::Halted {
            break;
        }
        assert_eq!(a, Exit::Deadline);
        assert_eq!(zero.cpu.st.icount(), n);
    }
}

#[test]
fn page_faults_are_precise() {
    for tier in TIERS {
        let mut r = Rig::new(config(tier));
        let hole = DATA + 0x5000;
        r.split(DATA & !0x1f_ffff, 0x2_0000, |page| if page == hole { 0 } else { page | 7 });
        // A store in the middle of a block faults on the fourth turn; the handler counts and skips it.
        let handler = CODE + 0x1000;
        r.load_asm(CODE, |a| {
            let mut top = a.create_label();
            a.mov(rbx, DATA + 0x2000).unwrap();
            a.mov(ecx, 6i32).unwrap();
            a.set_label(&mut top).unwrap();
            a.add(rsi, 1i32).unwrap();
            a.cmp(ecx, 3i32).unwrap();
            a.mov(qword_ptr(rbx), rsi).unwrap();
            a.add(rbx, 0x1000i32).unwrap();
            a.dec(ecx).unwrap();
            a.jne(top).unwrap();
            a.hlt().unwrap();
        });
        r.load_asm(handler, |a| {
            a.inc(r8).unwrap();
            a.pop(r9).unwrap(); // error code
            a.pop(r10).unwrap(); // RIP
            a.mov(r11, qword_ptr(rsp + 8)).unwrap(); // RFLAGS
            a.add(r10, 3i32).unwrap(); // mov [rbx], rsi
            a.push(r10).unwrap();
            a.mov(r12, cr2).unwrap();
            a.iretq().unwrap();
        });
        // IDT at 0x3000, GDT at 0x4000.
        let mut gate = [0u8; 16];
        gate[..2].copy_from_slice(&(handler as u16).to_le_bytes());
        gate[2] = 8;
        gate[5] = 0x8e;
        gate[6..8].copy_from_slice(&((handler >> 16) as u16).to_le_bytes());
        r.load(0x3000 + 14 * 16, &gate);
        r.load(0x4008, &0x00af_9b00_0000_ffffu64.to_le_bytes());
        r.load(0x4010, &0x00cf_9300_0000_ffffu64.to_le_bytes());
        r.cpu.st.idtr = x86::state::TableReg { base: 0x3000, limit: 0xfff };
        r.cpu.st.gdtr = x86::state::TableReg { base: 0x4000, limit: 0x17 };
        assert_eq!(r.run(10_000), Exit::Halted, "{tier:?}");
        let g = r.cpu.st.gpr;
        assert_eq!(g[8], 1, "{tier:?}: one fault");
        assert_eq!(g[9], 2, "{tier:?}: a write to a page that is not present");
        assert_eq!(g[12], hole, "{tier:?}: CR2");
        assert_eq!(g[6], 6, "{tier:?}: every turn counted once");
        // cmp ecx, 3 with ecx = 3: ZF and PF.
        assert_eq!(g[11] & 0x8d5, 0x44, "{tier:?}: flags at the fault");
    }
}

#[test]
fn self_modifying_code() {
    for tier in TIERS {
        let mut r = Rig::new(config(tier));
        // The loop rewrites the immediate of its own `mov eax, imm32` each turn.
        r.load_asm(CODE, |a| {
            let (mut top, mut patch) = (a.create_label(), a.create_label());
            a.mov(ecx, 50i32).unwrap();
            a.lea(rbx, ptr(patch)).unwrap();
            a.set_label(&mut top).unwrap();
            a.mov(dword_ptr(rbx + 1), ecx).unwrap();
            a.set_label(&mut patch).unwrap();
            a.mov(eax, 0x1111_1111i32).unwrap();
            a.add(rdx, rax).unwrap();
            a.dec(ecx).unwrap();
            a.jne(top).unwrap();
            a.hlt().unwrap();
        });
        assert_eq!(r.run(10_000), Exit::Halted, "{tier:?}");
        assert_eq!(r.cpu.st.gpr[2], (1..=50).sum::<u64>(), "{tier:?}");
        assert_eq!(r.cpu.st.icount(), 2 + 5 * 50 + 1, "{tier:?}");
    }
}

#[test]
fn code_written_from_outside_is_noticed() {
    for tier in TIERS {
        let mut r = Rig::new(config(tier));
        let program = |r: &mut Rig, v: i32| {
            r.load_asm(CODE, |a| {
                a.mov(eax, v).unwrap();
                a.jmp(CODE + 0x2000).unwrap();
            });
        };
        r.load_asm(CODE + 0x2000, |a| {
            a.add(ebx, eax).unwrap();
            a.hlt().unwrap();
        });
        for v in 1..20 {
            program(&mut r, v);
            r.cpu.st.rip = CODE;
            r.cpu.st.halted = false;
            assert_eq!(r.run(1_000_000), Exit::Halted);
        }
        assert_eq!(r.cpu.st.gpr[3], (1..20).sum::<u64>(), "{tier:?}");
    }
}

#[test]
fn devices_see_exact_times() {
    let mut logs = Vec::new();
    for tier in TIERS {
        let mut r = Rig::new(config(tier));
        r.load_asm(CODE, |a| {
            let mut top = a.create_label();
            a.mov(ecx, 5i32).unwrap();
            a.mov(rbx, rig::DEVICE).unwrap();
            a.set_label(&mut top).unwrap();
            a.mov(eax, ecx).unwrap();
            a.out(0x80i32, al).unwrap();
            a.add(edx, 1i32).unwrap();
            a.mov(eax, dword_ptr(rbx + 8)).unwrap();
            a.mov(dword_ptr(rbx + 16), ecx).unwrap();
            a.dec(ecx).unwrap();
            a.jne(top).unwrap();
            a.hlt().unwrap();
        });
        assert_eq!(r.run(10_000), Exit::Halted, "{tier:?}");
        logs.push(r.log.lock().unwrap().clone());
        assert_eq!(r.cpu.st.gpr[0], 24, "{tier:?}");
    }
    assert_eq!(logs[0].len(), 15);
    assert_eq!(logs[0][0], (0x80, 1, 5, 3));
    assert_eq!(logs[0], logs[1]);
    assert_eq!(logs[0], logs[2]);
    assert_eq!(logs[0], logs[3]);
}

/// An instruction over two pages, the second of which is mapped elsewhere half-way: the loop runs first the one and then
/// the other second half.
#[test]
fn an_instruction_over_two_pages_follows_its_second_page() {
    for tier in TIERS {
        let mut r = Rig::new(config(tier));
        let page = 0x60_0000;
        let (first, second) = (0x40_0000, 0x40_1000);
        // Code at page..page + 2 pages; the second page is `second` at first, and `second + 0x1000` later.
        r.split(page, 0x2_0000, |at| {
            if at == page {
                first | 7
            } else if at == page + 0x1000 {
                second | 7
            } else {
                at | 7
            }
        });
        // mov eax, imm32 with its last two bytes on the second page; then dec ecx; jne back; hlt.
        let start = page + 0xffd;
        for (at, high) in [(second, 1u8), (second + 0x1000, 2)] {
            r.load(at, &[0, high]);
            r.load(at + 2, &[0x01, 0xc3, 0xff, 0xc9, 0x75, 0xf5, 0xf4]); // add ebx, eax; dec ecx; jne start; hlt
        }
        r.load(first + 0xffd, &[0xb8, 7, 0]);
        for (round, to) in [(1u64, second), (2, second + 0x1000)] {
            r.space.store(softmmu::Gpa(0x2_0000 + 8), to | 7).unwrap();
            r.cpu.mmu.invlpg(page + 0x1000);
            r.cpu.st.rip = start;
            r.cpu.st.halted = false;
            r.cpu.st.gpr[1] = 50;
            r.cpu.st.gpr[3] = 0;
            assert_eq!(r.run(1_000_000), Exit::Halted, "{tier:?}");
            assert_eq!(r.cpu.st.gpr[3], (50 * (7 + (round << 24))) & 0xffff_ffff, "{tier:?}, round {round}");
        }
    }
}

/// Two vCPUs take turns in a loop over two pages: each goes on where it was, though the block knows one epoch only. (Without that,
/// this never ends.)
#[test]
fn vcpus_in_turns_share_a_block_over_two_pages() {
    for tier in TIERS {
        let mut r = Rig::new(config(tier));
        let start = CODE + 0xffd;
        // mov eax, imm32 over the page's end; then add ebx, eax; dec ecx; jne start; hlt.
        r.load(start, &[0xb8, 7, 0, 0, 0, 0x01, 0xc3, 0xff, 0xc9, 0x75, 0xf5, 0xf4]);
        let (mut other, mut engine) = (r.another(), r.engine.another());
        for cpu in [&mut r.cpu, &mut other] {
            (cpu.st.rip, cpu.st.gpr[1]) = (start, 1000);
        }
        for turn in 0..20 {
            let until = r.cpu.st.icount() + 301;
            assert_eq!(r.run(until), Exit::Deadline, "{tier:?}, turn {turn}");
            assert_eq!(r.cpu.st.icount(), until, "{tier:?}, turn {turn}");
            std::mem::swap(&mut r.cpu, &mut other);
            std::mem::swap(&mut r.engine, &mut engine);
        }
        for vcpu in [0, 1] {
            assert_eq!(r.run(u64::MAX), Exit::Halted, "{tier:?}");
            assert_eq!((r.cpu.st.gpr[1], r.cpu.st.gpr[3]), (0, 7000), "{tier:?}, vCPU {vcpu}");
            std::mem::swap(&mut r.cpu, &mut other);
            std::mem::swap(&mut r.engine, &mut engine);
        }
    }
}
