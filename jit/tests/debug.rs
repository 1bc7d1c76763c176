//! Breakpoints and single-stepping in each tier: what they see does not depend on what was compiled before.

mod rig;

use iced_x86::code_asm::*;
use jit::{Exit, TierPolicy};
use rig::{CODE, DATA, Rig, config};
use x86::state::TableReg;

const TIERS: [TierPolicy; 4] = [TierPolicy::Zero, TierPolicy::One, TierPolicy::Two, TierPolicy::Auto];
const GDT: u64 = 0x8000;
const IDT: u64 = 0x9000;
const HANDLER: u64 = 0xa000;
/// The handler's counters: how often it ran, and the OR of DR6.
const COUNT: u64 = 0xb000;
const SEEN: u64 = 0xb008;

/// #DB counts, collects DR6, sets RF in the image and returns.
fn rig(tier: TierPolicy) -> Rig {
    let mut r = Rig::new(config(tier));
    r.space.store(softmmu::Gpa(GDT + 8), 0x00af_9b00_0000_ffff_u64).unwrap();
    r.space.store(softmmu::Gpa(GDT + 16), 0x00cf_9300_0000_ffff_u64).unwrap();
    r.space.store(softmmu::Gpa(IDT + 16), HANDLER & 0xffff | 8 << 16 | 0x8e00 << 32).unwrap();
    r.cpu.st.gdtr = TableReg { base: GDT, limit: 23 };
    r.cpu.st.idtr = TableReg { base: IDT, limit: 0xfff };
    r.load_asm(HANDLER, |a| {
        a.push(rax).unwrap();
        a.inc(qword_ptr(COUNT)).unwrap();
        a.mov(rax, dr6).unwrap();
        a.or(qword_ptr(SEEN), rax).unwrap();
        a.or(dword_ptr(rsp + 24), 0x1_0000).unwrap();
        a.pop(rax).unwrap();
        a.iretq().unwrap();
    });
    r
}

/// A loop that is hot before DR7 is written in its middle and after it is cleared.
fn program(r: &mut Rig, address: u64, control: u64) {
    r.load_asm(CODE, |a| {
        let (mut top, mut on, mut off, mut rest) =
            (a.create_label(), a.create_label(), a.create_label(), a.create_label());
        a.mov(rbx, DATA).unwrap();
        a.mov(rax, address).unwrap();
        a.mov(dr0, rax).unwrap();
        a.mov(ecx, 300i32).unwrap();
        a.set_label(&mut top).unwrap();
        a.add(qword_ptr(rbx), rcx).unwrap();
        a.cmp(ecx, 200i32).unwrap();
        a.je(on).unwrap();
        a.cmp(ecx, 190i32).unwrap();
        a.je(off).unwrap();
        a.set_label(&mut rest).unwrap();
        a.dec(ecx).unwrap();
        a.jne(top).unwrap();
        a.hlt().unwrap();
        a.set_label(&mut on).unwrap();
        a.mov(rax, control).unwrap();
        a.mov(dr7, rax).unwrap();
        a.jmp(rest).unwrap();
        a.set_label(&mut off).unwrap();
        a.xor(eax, eax).unwrap();
        a.mov(dr7, rax).unwrap();
        a.jmp(rest).unwrap();
    });
}

#[test]
fn breakpoints_see_the_same_in_each_tier() {
    // A write to DATA, an access to its last byte, the instruction at the loop's top; iterations 199 to 190.
    for (what, address, control) in
        [("write", DATA, 0x1_0001 | 2 << 18), ("access", DATA + 7, 0x3_0001), ("execute", 0, 1)]
    {
        let mut first = None;
        for tier in TIERS {
            let mut r = rig(tier);
            program(&mut r, address, control);
            if what == "execute" {
                // ADD [RBX], RCX lies behind two 10-byte MOVs, MOV DR0 and MOV ECX.
                let at = (CODE..CODE + 64).find(|at| r.word(*at) & 0xff_ffff == 0x0b_0148).expect("ADD");
                program(&mut r, at, control);
            }
            assert_eq!(r.run(1_000_000), Exit::Halted, "{what} {tier:?}");
            assert_eq!((r.word(COUNT), r.word(SEEN) & 0xe00f), (10, 1), "{what} {tier:?}");
            let seen = r.seen();
            first.get_or_insert_with(|| seen.clone()).same_as(&seen, &format!("{what} {tier:?}"));
        }
    }
}

#[test]
fn single_steps_count_the_same_in_each_tier() {
    let mut first = None;
    for tier in TIERS {
        let mut r = rig(tier);
        r.load_asm(CODE, |a| {
            let (mut top, mut again) = (a.create_label(), a.create_label());
            a.mov(ecx, 100i32).unwrap();
            a.set_label(&mut top).unwrap();
            a.dec(ecx).unwrap();
            a.jne(top).unwrap();
            a.pushfq().unwrap();
            a.or(dword_ptr(rsp), 0x100).unwrap();
            a.popfq().unwrap();
            a.mov(ecx, 5i32).unwrap();
            a.set_label(&mut again).unwrap();
            a.dec(ecx).unwrap();
            a.jne(again).unwrap();
            a.pushfq().unwrap();
            a.and(dword_ptr(rsp), !0x100).unwrap();
            a.popfq().unwrap();
            a.hlt().unwrap();
        });
        assert_eq!(r.run(1_000_000), Exit::Halted, "{tier:?}");
        // MOV, 5 times DEC and JNE, PUSHF, AND, POPF.
        assert_eq!((r.word(COUNT), r.word(SEEN) & 0xe00f), (14, 0x4000), "{tier:?}");
        let seen = r.seen();
        first.get_or_insert_with(|| seen.clone()).same_as(&seen, &format!("{tier:?}"));
    }
}
