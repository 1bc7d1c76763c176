//! What SSE and x87 instructions refuse, report and store: faults, masks, pending exceptions, environments.

mod host;

use std::sync::atomic::Ordering;

use host::{AT, Block, CODE, MEM, Nothing, OPERAND, guest, guest_on, run_guest};
use iced_x86::code_asm::*;
use x86::state::{Mode, Segment, cr0, cr4, rflags, seg, stop};
use x86::{Vcpu, decode};

const GP: u8 = 13;
const UD: u8 = 6;
const NM: u8 = 7;
const MF: u8 = 16;
const XM: u8 = 19;

fn bytes(f: impl FnOnce(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>) -> Vec<u8> {
    let mut a = CodeAssembler::new(64).unwrap();
    f(&mut a).unwrap();
    a.assemble(CODE).unwrap()
}

fn run(cpu: &mut Vcpu, code: &[u8], b: &mut Block) -> Result<(), u8> {
    run_guest(cpu, code, b)
}

#[test]
fn aligned_forms_fault_on_unaligned_memory() {
    let mut cpu = guest();
    let m = OPERAND as i32 + 1;
    let faulting = [
        bytes(|a| a.movaps(xmm1, xmmword_ptr(r15 + m))),
        bytes(|a| a.movaps(xmmword_ptr(r15 + m), xmm1)),
        bytes(|a| a.movdqa(xmm1, xmmword_ptr(r15 + m))),
        bytes(|a| a.paddb(xmm1, xmmword_ptr(r15 + m))),
        bytes(|a| a.addpd(xmm1, xmmword_ptr(r15 + m))),
        bytes(|a| a.movntdq(xmmword_ptr(r15 + m), xmm1)),
        bytes(|a| a.cvtdq2ps(xmm1, xmmword_ptr(r15 + m))),
        bytes(|a| a.dpps(xmm1, xmmword_ptr(r15 + m), 0xff)),
    ];
    for code in faulting {
        let mut b = Block::new();
        b.set_xmm(1, 77);
        assert_eq!(run(&mut cpu, &code, &mut b), Err(GP), "{code:x?}");
        assert_eq!(cpu.st.fault.code, 0);
        assert_eq!((b.xmm(1), b.mem), (77, [0; 128]));
    }
    let fine = [
        bytes(|a| a.movups(xmm1, xmmword_ptr(r15 + m))),
        bytes(|a| a.movdqu(xmmword_ptr(r15 + m), xmm1)),
        bytes(|a| a.lddqu(xmm1, xmmword_ptr(r15 + m))),
        bytes(|a| a.addsd(xmm1, qword_ptr(r15 + m))),
        bytes(|a| a.cvtdq2pd(xmm1, qword_ptr(r15 + m))),
        bytes(|a| a.pmovzxbw(xmm1, qword_ptr(r15 + m))),
        bytes(|a| a.pcmpistri(xmm1, xmmword_ptr(r15 + m), 0)),
    ];
    for code in fine {
        assert_eq!(run(&mut cpu, &code, &mut Block::new()), Ok(()), "{code:x?}");
    }
}

#[test]
fn control_registers_refuse_instructions() {
    let sse = bytes(|a| a.paddb(xmm1, xmm2));
    let mmx = bytes(|a| a.paddb(mm1, mm2));
    let both = bytes(|a| a.movq2dq(xmm1, mm2));
    let x87 = bytes(|a| a.fld1());
    let plain = bytes(|a| a.movnti(dword_ptr(r15 + OPERAND as i32), ecx));
    let cases = [
        // CR0, CR4 -> SSE, MMX, both, x87.
        (cr0::TS, cr4::OSFXSR, [Some(NM), Some(NM), Some(NM), Some(NM)]),
        (cr0::EM, cr4::OSFXSR, [Some(UD), Some(UD), Some(UD), Some(NM)]),
        (cr0::EM | cr0::TS, cr4::OSFXSR, [Some(UD), Some(UD), Some(UD), Some(NM)]),
        (0, 0, [Some(UD), None, Some(UD), None]),
        (cr0::TS, 0, [Some(UD), Some(NM), Some(UD), Some(NM)]),
        (0, cr4::OSFXSR, [None; 4]),
    ];
    for (c0, c4, want) in cases {
        let mut cpu = guest();
        cpu.st.cr0 |= c0;
        cpu.st.cr4 = c4;
        cpu.mode_changed();
        for (code, want) in [&sse, &mmx, &both, &x87].into_iter().zip(want) {
            assert_eq!(run(&mut cpu, code, &mut Block::new()).err(), want, "{code:x?} {c0:x} {c4:x}");
        }
        assert_eq!(run(&mut cpu, &plain, &mut Block::new()), Ok(()));
    }
}

#[test]
fn fwait_looks_at_mp_and_ts() {
    let code = bytes(|a| a.wait());
    for (bits, want) in
        [(0, None), (cr0::TS, None), (cr0::MP, None), (cr0::MP | cr0::TS, Some(NM)), (cr0::EM, None)]
    {
        let mut cpu = guest();
        cpu.st.cr0 |= bits;
        cpu.mode_changed();
        assert_eq!(run(&mut cpu, &code, &mut Block::new()).err(), want, "{bits:x}");
    }
}

#[test]
fn unmasked_simd_exceptions_leave_the_destination() {
    let one = 1.0f64.to_bits();
    for (osxmmexcpt, want) in [(true, XM), (false, UD)] {
        let mut cpu = guest();
        if !osxmmexcpt {
            cpu.st.cr4 &= !cr4::OSXMMEXCPT;
        }
        let mut b = Block::new();
        b.set_mxcsr(0x1f80 & !(1 << 9));
        b.set_xmm(1, one.into());
        assert_eq!(run(&mut cpu, &bytes(|a| a.divsd(xmm1, xmm2)), &mut b), Err(want));
        assert_eq!(b.xmm(1), one.into());
        assert_eq!(b.mxcsr() & 0x3f, 4, "ZE is set all the same");
        // A packed one: no lane is written.
        b.set_mxcsr(0x1f80 & !(1 << 9));
        b.set_xmm(1, u128::from(one) << 64 | 5);
        b.set_xmm(2, u128::from(one));
        assert_eq!(run(&mut cpu, &bytes(|a| a.divpd(xmm1, xmm2)), &mut b), Err(want));
        assert_eq!(b.xmm(1), u128::from(one) << 64 | 5);
    }
}

#[test]
fn the_mode_follows_mxcsr() {
    let mut cpu = guest();
    let mut b = Block::new();
    let load = bytes(|a| a.ldmxcsr(dword_ptr(r15 + OPERAND as i32)));
    for (v, fast) in [(0x1fa0u32, true), (0x1f80, false), (0x3fa0, false), (0x9fa0, false), (0x1fbf, true)] {
        b.mem[32..36].copy_from_slice(&v.to_le_bytes());
        assert_eq!(run(&mut cpu, &load, &mut b), Ok(()));
        assert_eq!(b.mxcsr(), v);
        assert_eq!(cpu.st.mode.has(Mode::FAST_FP), fast, "{v:x}");
        assert_eq!(cpu.st.rip, CODE + load.len() as u64);
    }
    assert!(decode::single(&load, CODE, cpu.st.mode).unwrap().insns[0].ends);
    b.mem[32..36].copy_from_slice(&0x1_1f80u32.to_le_bytes());
    assert_eq!(run(&mut cpu, &load, &mut b), Err(GP), "a reserved bit");
    // An inexact result sets PE, and with it the fast mode.
    b.set_mxcsr(0x1f80);
    b.set_xmm(1, 1.0f64.to_bits().into());
    b.set_xmm(2, 3.0f64.to_bits().into());
    assert_eq!(run(&mut cpu, &bytes(|a| a.divsd(xmm1, xmm2)), &mut b), Ok(()));
    assert!(cpu.st.mode.has(Mode::FAST_FP));
    assert_eq!(run(&mut cpu, &bytes(|a| a.stmxcsr(dword_ptr(r15 + OPERAND as i32))), &mut b), Ok(()));
    assert_eq!(b.mem[32..36], 0x1fa0u32.to_le_bytes());
}

#[test]
fn masked_stores_touch_only_selected_bytes() {
    let mut cpu = guest();
    let code = bytes(|a| a.maskmovdqu(xmm1, xmm2));
    let mut b = Block::new();
    b.mem = [0xee; 128];
    b.gpr[5] = AT + OPERAND as u64 + 3;
    b.set_xmm(1, u128::from_le_bytes(std::array::from_fn(|k| k as u8)));
    b.set_xmm(2, u128::from_le_bytes(std::array::from_fn(|k| if k % 3 == 0 { 0x80 } else { 0x7f })));
    assert_eq!(run(&mut cpu, &code, &mut b), Ok(()));
    for k in 0..16 {
        assert_eq!(b.mem[OPERAND - MEM + 3 + k], if k % 3 == 0 { k as u8 } else { 0xee }, "{k}");
    }
    let code = bytes(|a| a.maskmovq(mm1, mm2));
    b.mem = [0xee; 128];
    b.set_st(1, [9; 10]);
    b.set_st(2, [0, 0xff, 0, 0, 0x80, 0, 0, 0xff, 0, 0]);
    assert_eq!(run(&mut cpu, &code, &mut b), Ok(()));
    let at = OPERAND - MEM + 3;
    assert_eq!(b.mem[at..at + 8], [0xee, 9, 0xee, 0xee, 9, 0xee, 0xee, 9]);
    // Nothing selected: no access, not even to nowhere.
    b.set_xmm(2, 0);
    b.gpr[5] = 1 << 50;
    assert_eq!(run(&mut cpu, &bytes(|a| a.maskmovdqu(xmm1, xmm2)), &mut b), Ok(()));
}

#[test]
fn device_memory_is_accessed_once_and_alone() {
    // Beyond the RAM of 64 KiB; the bus reads as ones.
    let mut cpu = guest();
    cpu.st.gpr[0] = 0x2_0000;
    let code = bytes(|a| a.movups(xmm1, xmmword_ptr(rax)));
    let block = decode::single(&code, CODE, cpu.st.mode).unwrap();
    (block.insns[0].run)(&mut cpu, &block.insns[0], [].iter());
    assert_eq!((cpu.st.stop, cpu.st.xmm[1]), (stop::REDO, [0, 0]));
    cpu.st.budget = 10;
    x86::interp::run_single(&mut cpu, &block.insns[0]);
    assert_eq!((cpu.st.stop, cpu.st.xmm[1]), (stop::AFTER, [!0, !0]));
}

/// Divides by zero with ZE unmasked, so that an exception is pending.
fn make_pending(cpu: &mut Vcpu, b: &mut Block) {
    b.set16(0, 0x37b);
    b.fx[4] = 0;
    b.set16(2, 0);
    assert_eq!(run(cpu, &bytes(|a| a.fld1()), b), Ok(()));
    assert_eq!(run(cpu, &bytes(|a| a.fldz()), b), Ok(()));
    assert_eq!(run(cpu, &bytes(|a| a.fdivp(st1, st0)), b), Ok(()), "the instruction itself only notes it");
    assert_eq!(b.get16(2) & 0x8084, 0x8084);
    assert_eq!(b.get16(2) >> 11 & 7, 6, "suppressed: no pop");
}

#[test]
fn pending_exceptions_are_reported_by_the_next_waiting_instruction() {
    let mut cpu = guest();
    let mut b = Block::new();
    make_pending(&mut cpu, &mut b);
    let waiting: [Vec<u8>; 5] = [
        bytes(|a| a.fld1()),
        bytes(|a| a.wait()),
        bytes(|a| a.fldcw(word_ptr(r15 + OPERAND as i32))),
        bytes(|a| a.paddb(mm1, mm2)),
        bytes(|a| a.emms()),
    ];
    for code in waiting {
        assert_eq!(run(&mut cpu, &code, &mut b), Err(MF), "{code:x?}");
    }
    let not_waiting =
        [bytes(|a| a.fnstcw(word_ptr(r15 + OPERAND as i32))), bytes(|a| a.fnstsw(ax)), bytes(|a| a.fnclex())];
    for code in not_waiting {
        assert_eq!(run(&mut cpu, &code, &mut b), Ok(()), "{code:x?}");
    }
    assert_eq!(b.gpr[0] & 0x8084, 0x8084);
    assert_eq!(run(&mut cpu, &bytes(|a| a.fld1()), &mut b), Ok(()), "cleared by FNCLEX");
}

#[test]
fn without_ne_the_board_is_told() {
    let bus = Nothing::default();
    let ferr = bus.ferr.clone();
    let mut cpu = guest_on(bus);
    cpu.st.cr0 &= !cr0::NE;
    let mut b = Block::new();
    make_pending(&mut cpu, &mut b);
    assert!(!ferr.load(Ordering::Relaxed));
    assert_eq!(run(&mut cpu, &bytes(|a| a.fld1()), &mut b), Ok(()));
    assert!(ferr.load(Ordering::Relaxed));
    assert_eq!(cpu.st.stop, stop::AFTER, "the interrupt is looked for at once");
    assert_eq!(run(&mut cpu, &bytes(|a| a.fnclex()), &mut b), Ok(()));
    assert!(!ferr.load(Ordering::Relaxed));
}

#[test]
fn the_interrupt_for_an_error_comes_before_the_waiting_instruction() {
    let bus = Nothing { interrupts: true, ..Nothing::default() };
    let mut cpu = guest_on(bus);
    cpu.st.cr0 &= !cr0::NE;
    make_pending(&mut cpu, &mut Block::new());
    let failed = cpu.st.x87;
    let code = bytes(|a| a.fld1());
    let fld1 = decode::single(&code, CODE + 0x10, cpu.st.mode).unwrap();
    cpu.st.flags |= rflags::IF;
    let budget = cpu.st.budget;
    x86::interp::run_single(&mut cpu, &fld1.insns[0]);
    assert_eq!((cpu.st.stop, cpu.st.rip, cpu.st.budget), (stop::EVENT, CODE + 0x10, budget));
    assert_eq!(cpu.st.x87, failed, "the handler finds the pointers of the division");
    // No interrupt is accepted: the instruction does not wait for ever.
    cpu.st.flags &= !rflags::IF;
    x86::interp::run_single(&mut cpu, &fld1.insns[0]);
    assert_eq!((cpu.st.stop, cpu.st.x87.sw >> 11 & 7), (stop::AFTER, 5));
    assert_eq!(cpu.st.x87.fip, CODE + 0x10);
}

#[test]
fn fxrstor_can_settle_an_error() {
    let bus = Nothing::default();
    let ferr = bus.ferr.clone();
    let mut cpu = guest_on(bus);
    cpu.st.cr0 &= !cr0::NE;
    let mut b = Block::new();
    make_pending(&mut cpu, &mut b);
    assert_eq!(run(&mut cpu, &bytes(|a| a.wait()), &mut b), Ok(()));
    assert!(ferr.load(Ordering::Relaxed));
    // An image of zeros but for the control word, which lies above the block.
    let at = AT as i32 + 0x400;
    cpu.mmu.space().write(softmmu::Gpa(at as u64), &[0; 512]).unwrap();
    cpu.mmu.space().write(softmmu::Gpa(at as u64), &[0x7f, 3]).unwrap();
    assert_eq!(run(&mut cpu, &bytes(|a| a.fxrstor(ptr(r15 + 0x400))), &mut b), Ok(()));
    assert_eq!(b.get16(2), 0);
    assert!(!ferr.load(Ordering::Relaxed));
}

#[test]
fn fldcw_can_make_an_old_flag_pending() {
    let mut cpu = guest();
    let mut b = Block::new();
    b.set16(2, 0x20);
    b.mem[32..34].copy_from_slice(&0xffdfu16.to_le_bytes());
    assert_eq!(run(&mut cpu, &bytes(|a| a.fldcw(word_ptr(r15 + OPERAND as i32))), &mut b), Ok(()));
    assert_eq!(b.get16(0), 0x1f5f, "reserved bits");
    assert_eq!(b.get16(2) & 0x8080, 0x8080);
}

/// Fields of the environment at the operand.
fn fields<const N: usize>(b: &Block) -> [u32; 7] {
    std::array::from_fn(|k| {
        let at = OPERAND - MEM + k * N;
        let mut v = [0; 4];
        v[..N].copy_from_slice(&b.mem[at..at + N]);
        u32::from_le_bytes(v)
    })
}

#[test]
fn environments_in_all_formats() {
    let m = OPERAND as i32;
    let wide = bytes(|a| a.fnstenv(dword_ptr(r15 + m)));
    let narrow: Vec<u8> = [&[0x66][..], &wide].concat();
    let load: Vec<u8> = bytes(|a| a.fldenv(dword_ptr(r15 + m)));
    let load_narrow: Vec<u8> = [&[0x66][..], &load].concat();
    let fmul = bytes(|a| a.fmul(qword_ptr(r15 + m)));
    // FMUL m64: DC /1 with an 8- or 32-bit displacement on R15.
    let fop = u32::from(fmul[1] & 7) << 8 | u32::from(fmul[2]);
    for real in [false, true] {
        let mut cpu = guest();
        cpu.st.seg[seg::CS as usize].selector = 0x1234;
        cpu.st.seg[seg::DS as usize].selector = 0x5678;
        let mut b = Block::new();
        b.fx[4] = 0b0110_0000;
        b.set16(2, 5 << 11);
        b.set_st(0, [0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f]);
        assert_eq!(run(&mut cpu, &fmul, &mut b), Ok(()));
        if real {
            cpu.st.cr0 &= !cr0::PE;
            cpu.mode_changed();
        }
        let (ip, dp) = (CODE as u32, (AT + OPERAND as u64) as u32);
        let (lip, ldp) = (0x12340 + ip, 0x56780 + dp);
        let after_fmul = cpu.st.x87;
        assert_eq!(run(&mut cpu, &wide, &mut b), Ok(()));
        let f = fields::<4>(&b);
        assert_eq!(f[0], 0xffff_037f);
        assert_eq!(f[1], 0xffff_0000 | 5 << 11);
        // R5 = 1 * 0 is zero (01), R6 was zero too, the rest is empty.
        assert_eq!(f[2], 0xffff_d7ff);
        let want = if real {
            [lip & 0xffff | 0xffff_0000, lip >> 16 << 12 | fop, ldp & 0xffff | 0xffff_0000, ldp >> 16 << 12]
        } else {
            [ip, 0x1234 | fop << 16, dp, 0xffff_5678]
        };
        assert_eq!(f[3..], want, "real {real}");
        assert_eq!(b.get16(0) & 0x3f, 0x3f);
        assert_eq!(run(&mut cpu, &load, &mut b), Ok(()));
        if !real {
            assert_eq!(cpu.st.x87, after_fmul);
        }
        assert_eq!(run(&mut cpu, &narrow, &mut b), Ok(()));
        let f = fields::<2>(&b);
        let want = if real {
            [lip & 0xffff, lip >> 16 << 12 | fop, ldp & 0xffff, ldp >> 16 << 12]
        } else {
            [ip, 0x1234, dp, 0x5678]
        };
        assert_eq!((f[0], f[1], f[2]), (0x37f, 5 << 11, 0xd7ff));
        assert_eq!(f[3..], want, "16-bit, real {real}");
        let before = cpu.st.x87;
        assert_eq!(run(&mut cpu, &load_narrow, &mut b), Ok(()));
        assert_eq!((cpu.st.x87.sw, cpu.st.x87.empty), (before.sw, before.empty));
    }
}

#[test]
fn fnsave_and_frstor_round_trip() {
    let m = MEM as i32;
    for prefix in [&[][..], &[0x66]] {
        let save: Vec<u8> = [prefix, &bytes(|a| a.fnsave(dword_ptr(r15 + m)))].concat();
        let restore: Vec<u8> = [prefix, &bytes(|a| a.frstor(dword_ptr(r15 + m)))].concat();
        let mut cpu = guest();
        let mut b = Block::new();
        for n in 0..8 {
            b.set_st(n, std::array::from_fn(|k| (n * 16 + k) as u8));
        }
        b.fx[4] = 0x5a;
        b.set16(2, 0x3d41);
        b.set16(0, 0x0b7f);
        let start = b.clone();
        assert_eq!(run(&mut cpu, &save, &mut b), Ok(()));
        assert_eq!((b.get16(0), b.get16(2), b.fx[4]), (0x37f, 0, 0), "as after FNINIT");
        let image = b.mem;
        b = Block::new();
        b.mem = image;
        assert_eq!(run(&mut cpu, &restore, &mut b), Ok(()));
        assert!(b.fx == start.fx);
    }
}

#[test]
fn the_last_opcode_is_what_the_bytes_say() {
    let forms = [
        bytes(|a| a.fadd(qword_ptr(rax))),
        bytes(|a| a.fadd(qword_ptr(rsp))),
        bytes(|a| a.fadd(qword_ptr(rbp))),
        bytes(|a| a.fadd(qword_ptr(r12))),
        bytes(|a| a.fadd(qword_ptr(r13 + 0x1000))),
        bytes(|a| a.fadd(qword_ptr(rax + rcx * 8))),
        bytes(|a| a.fadd(qword_ptr(rax + rcx * 8 + 5))),
        bytes(|a| a.fsubr(qword_ptr(rcx * 8 + 5))),
        bytes(|a| a.fdiv(qword_ptr(rbx + 5))),
        // FST qword [rip + 5].
        vec![0xdd, 0x15, 5, 0, 0, 0],
        // FMUL dword [1000h], by a SIB byte; an index that is none; a displacement of zero.
        vec![0xd8, 0x0c, 0x25, 0, 0x10, 0, 0],
        vec![0xd8, 0x0c, 0x20],
        vec![0xd8, 0x48, 0],
        // Prefixes in front: REP, GS, REX.
        vec![0xf3, 0x65, 0x41, 0xdd, 0x00],
        bytes(|a| a.fld(tbyte_ptr(rdi))),
        bytes(|a| a.fistp(qword_ptr(rsi - 5))),
        bytes(|a| a.fadd_2(st0, st3)),
        bytes(|a| a.fadd_2(st3, st0)),
        bytes(|a| a.fmulp(st5, st0)),
        bytes(|a| a.fxch(st0, st7)),
        bytes(|a| a.fld(st4)),
        bytes(|a| a.fcompp()),
        bytes(|a| a.fld1()),
        bytes(|a| a.fsqrt()),
        bytes(|a| a.fucomip(st0, st2)),
        bytes(|a| a.fstp(st1)),
    ];
    let cpu = guest();
    for code in forms {
        let i = &decode::single(&code, CODE, cpu.st.mode).unwrap().insns[0];
        let at = code.iter().position(|b| (0xd8..=0xdf).contains(b)).unwrap();
        let want = u64::from(code[at] & 7) << 8 | u64::from(code[at + 1]);
        assert_eq!(i.imm, want, "{code:x?}");
    }
    // 16-bit addressing.
    let mut cpu = guest();
    cpu.st.msr.efer = 0;
    cpu.st.seg[seg::CS as usize].attrs &= !Segment::L;
    cpu.mode_changed();
    for rm in 0..8u8 {
        for mode in 0..3u8 {
            let code = [0xd8, mode << 6 | 1 << 3 | rm, 0x12, 0x34];
            let i = &decode::single(&code, CODE, cpu.st.mode).unwrap().insns[0];
            assert_eq!(i.imm, u64::from(code[1]), "{code:x?}");
        }
    }
}

#[test]
fn comparisons_clear_the_other_flags() {
    let mut cpu = guest();
    let mut b = Block::new();
    b.flags = rflags::ARITH;
    b.set_xmm(1, 2.0f64.to_bits().into());
    assert_eq!(run(&mut cpu, &bytes(|a| a.comisd(xmm1, xmm2)), &mut b), Ok(()));
    assert_eq!(b.flags, 0);
}
