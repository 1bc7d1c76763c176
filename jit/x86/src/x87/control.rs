//! Control and state: control and status words, environment, whole-state save and restore.

use softmmu::Access;

use super::stack::{BUSY, ES, begin, full_tag_word};
use crate::emit::{Emitter, R};
use crate::insn::{Insn, Opnd, Width};
use crate::state::{Mode, X87, cr0, reg};
use crate::vcpu::Vcpu;

/// Tells the board that no error is pending any more, if it may have been told of one.
pub(crate) fn settled(cpu: &mut Vcpu, i: &Insn, before: u16) {
    if before & ES != 0 && cpu.st.x87.sw & ES == 0 && cpu.st.cr0 & cr0::NE == 0 {
        let now = cpu.now_at(i);
        cpu.bus.ferr(false, now);
        cpu.stop_after();
    }
}

/// The control word as FLDCW leaves it: bit 6 reads as one, undefined bits as zeros.
pub(super) const fn control_word(v: u16) -> u16 {
    v & 0x1f3f | 0x40
}

fn init(f: &mut X87) {
    // The registers' contents stay (SDM vol. 2, FINIT).
    *f = X87 { mant: f.mant, sexp: f.sexp, ..X87::default() };
}

/// FNINIT.
pub(super) fn fninit(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let before = cpu.st.x87.sw;
    init(&mut cpu.st.x87);
    settled(cpu, i, before);
    Ok(())
}

/// FNCLEX.
pub(super) fn fnclex(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let before = cpu.st.x87.sw;
    cpu.st.x87.sw &= !(BUSY | 0xff);
    settled(cpu, i, before);
    Ok(())
}

/// FLDCW.
pub(super) fn fldcw(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    super::wait(cpu, i)?;
    let at = cpu.operand(i, 2, Access::Read)?;
    let v = cpu.read::<u16>(i.seg, at)?;
    let before = cpu.st.x87.sw;
    cpu.st.x87.cw = control_word(v);
    cpu.st.x87.summarize();
    settled(cpu, i, before);
    Ok(())
}

fn store_word(cpu: &mut Vcpu, i: &Insn, v: u16) -> R<()> {
    let at = cpu.operand(i, 2, Access::Write)?;
    cpu.write::<u16>(i.seg, at, v)
}

/// FNSTCW.
pub(super) fn fnstcw(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let v = cpu.st.x87.cw;
    store_word(cpu, i, v)
}

/// FNSTSW AX or memory.
pub(super) fn fnstsw(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let v = cpu.st.x87.sw;
    if i.dst == Opnd::Mem {
        return store_word(cpu, i, v);
    }
    cpu.set_gpr(Width::W, reg::RAX, v.into());
    Ok(())
}

/// FWAIT: #NM if CR0.MP and CR0.TS (SDM vol. 2, WAIT).
pub(super) fn fwait(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    if cpu.st.cr0 & (cr0::MP | cr0::TS) == cr0::MP | cr0::TS {
        return Err(cpu.nm());
    }
    super::wait(cpu, i)
}

/// FNOP.
pub(super) fn fnop(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    begin(cpu, i)
}

/// FNENI, FNDISI, FNSETPM: of the 8087 and 80287; they do nothing since.
pub(super) fn obsolete(_: &mut Vcpu, _: &Insn) -> R<()> {
    Ok(())
}

/// FINCSTP (1), FDECSTP (7).
#[inline(always)]
pub(super) fn rotate(cpu: &mut Vcpu, i: &Insn, by: u16) -> R<()> {
    begin(cpu, i)?;
    cpu.st.x87.clear_c1();
    cpu.st.x87.rotate(by);
    Ok(())
}

/// FFREE, FFREEP.
#[inline(always)]
pub(super) fn free(cpu: &mut Vcpu, i: &Insn, pop: bool) -> R<()> {
    begin(cpu, i)?;
    let s = &mut cpu.st.x87;
    s.clear_c1();
    s.empty |= 1 << s.physical(i.rd);
    if pop {
        s.pop();
    }
    Ok(())
}

/// Does the environment have the real-address format (linear pointers)?
fn real_format(cpu: &Vcpu) -> bool {
    !cpu.st.mode.has(Mode::PROTECTED) || cpu.st.mode.has(Mode::VM86)
}

/// The environment as seven fields of `i.w2`'s width (SDM vol. 1, figures 8-9 to 8-12).
fn environment(cpu: &Vcpu, w: Width) -> [u32; 7] {
    let f = &cpu.st.x87;
    let (cw, sw, tw) = (f.cw.into(), f.sw.into(), full_tag_word(f).into());
    let (ip, cs, dp, ds, op) =
        (f.fip as u32, u32::from(f.fcs), f.fdp as u32, u32::from(f.fds), u32::from(f.fop & 0x7ff));
    let linear = |sel: u32, off: u32| (sel << 4).wrapping_add(off);
    match (w, real_format(cpu)) {
        (Width::D, false) => {
            const ONES: u32 = 0xffff_0000;
            [cw | ONES, sw | ONES, tw | ONES, ip, cs | op << 16, dp, ds | ONES]
        }
        (Width::D, true) => {
            const ONES: u32 = 0xffff_0000;
            let (ip, dp) = (linear(cs, ip), linear(ds, dp));
            let high = |p: u32| p >> 16 << 12;
            [
                cw | ONES,
                sw | ONES,
                tw | ONES,
                ip & 0xffff | ONES,
                high(ip) & 0x0fff_f000 | op,
                dp & 0xffff | ONES,
                high(dp) & 0x0fff_f000,
            ]
        }
        (_, false) => [cw, sw, tw, ip & 0xffff, cs, dp & 0xffff, ds],
        (_, true) => {
            let (ip, dp) = (linear(cs, ip), linear(ds, dp));
            [cw, sw, tw, ip & 0xffff, ip >> 4 & 0xf000 | op, dp & 0xffff, dp >> 4 & 0xf000]
        }
    }
}

/// Takes the environment from its seven fields.
fn set_environment(cpu: &mut Vcpu, w: Width, v: [u32; 7]) {
    let real = real_format(cpu);
    let f = &mut cpu.st.x87;
    f.cw = control_word(v[0] as u16);
    f.sw = v[1] as u16;
    f.empty = (0..8).fold(0, |e, r| e | u8::from(v[2] >> (2 * r) & 3 == 3) << r);
    f.summarize();
    let low = |v: u32| u64::from(v & 0xffff);
    match (w, real) {
        (Width::D, false) => {
            (f.fip, f.fcs, f.fop) = (v[3].into(), v[4] as u16, (v[4] >> 16) as u16 & 0x7ff);
            (f.fdp, f.fds) = (v[5].into(), v[6] as u16);
        }
        (Width::D, true) => {
            let high = |v: u32| u64::from(v >> 12 & 0xffff) << 16;
            (f.fip, f.fcs, f.fop) = (low(v[3]) | high(v[4]), 0, v[4] as u16 & 0x7ff);
            (f.fdp, f.fds) = (low(v[5]) | high(v[6]), 0);
        }
        (_, false) => {
            (f.fip, f.fcs) = (low(v[3]), v[4] as u16);
            (f.fdp, f.fds) = (low(v[5]), v[6] as u16);
        }
        (_, true) => {
            let high = |v: u32| u64::from(v >> 12 & 0xf) << 16;
            (f.fip, f.fcs, f.fop) = (low(v[3]) | high(v[4]), 0, v[4] as u16 & 0x7ff);
            (f.fdp, f.fds) = (low(v[5]) | high(v[6]), 0);
        }
    }
}

/// Bytes of an environment.
fn environment_len(w: Width) -> u32 {
    7 * w.bytes()
}

/// The linear address of the operand, with all `len` bytes known to be accessible.
fn area(cpu: &mut Vcpu, i: &Insn, len: u32, access: Access) -> R<u64> {
    let at = cpu.operand(i, len, access)?;
    cpu.probe(i.seg, at, len.into(), access)?;
    if cpu.mmu.probe(at, len.into(), access).is_err() {
        // A device: no part may be accessed twice.
        cpu.need_single()?;
    }
    Ok(at)
}

fn write_environment(cpu: &mut Vcpu, i: &Insn, at: u64) -> R<()> {
    for (k, v) in (0u64..).zip(environment(cpu, i.w2)) {
        cpu.write_w(i.seg, at.wrapping_add(k * u64::from(i.w2.bytes())), i.w2, v.into())?;
    }
    Ok(())
}

fn read_environment(cpu: &mut Vcpu, i: &Insn, at: u64) -> R<[u32; 7]> {
    let mut v = [0; 7];
    for (k, v) in (0u64..).zip(&mut v) {
        *v = cpu.read_w(i.seg, at.wrapping_add(k * u64::from(i.w2.bytes())), i.w2)? as u32;
    }
    Ok(v)
}

/// FNSTENV: then all exceptions are masked.
pub(super) fn fnstenv(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let at = area(cpu, i, environment_len(i.w2), Access::Write)?;
    write_environment(cpu, i, at)?;
    let before = cpu.st.x87.sw;
    cpu.st.x87.cw |= 0x3f;
    cpu.st.x87.summarize();
    settled(cpu, i, before);
    Ok(())
}

/// FLDENV.
pub(super) fn fldenv(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    super::wait(cpu, i)?;
    let at = area(cpu, i, environment_len(i.w2), Access::Read)?;
    let v = read_environment(cpu, i, at)?;
    let before = cpu.st.x87.sw;
    set_environment(cpu, i.w2, v);
    settled(cpu, i, before);
    Ok(())
}

/// FNSAVE: environment and registers, then FNINIT.
pub(super) fn fnsave(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let env = environment_len(i.w2);
    let at = area(cpu, i, env + 80, Access::Write)?;
    write_environment(cpu, i, at)?;
    for n in 0..8 {
        let v = cpu.st.x87.st(n);
        let at = at.wrapping_add(u64::from(env) + 10 * u64::from(n));
        cpu.write::<u64>(i.seg, at, v.mantissa)?;
        cpu.write::<u16>(i.seg, at.wrapping_add(8), v.sign_exp)?;
    }
    fninit(cpu, i)
}

/// FRSTOR.
pub(super) fn frstor(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    super::wait(cpu, i)?;
    let env = environment_len(i.w2);
    let at = area(cpu, i, env + 80, Access::Read)?;
    let fields = read_environment(cpu, i, at)?;
    let mut regs = [(0, 0); 8];
    for (n, r) in (0u64..).zip(&mut regs) {
        let at = at.wrapping_add(u64::from(env) + 10 * n);
        *r = (cpu.read::<u64>(i.seg, at)?, cpu.read::<u16>(i.seg, at.wrapping_add(8))?);
    }
    let before = cpu.st.x87.sw;
    set_environment(cpu, i.w2, fields);
    let f = &mut cpu.st.x87;
    for (n, r) in (0u8..).zip(regs) {
        let p = f.physical(n);
        (f.mant[p], f.sexp[p]) = r;
    }
    settled(cpu, i, before);
    Ok(())
}
