//! String instructions: MOVS, STOS, LODS, SCAS, CMPS, INS, OUTS, with and without REP.
//!
//! Each iteration counts as one retired instruction (an instruction with a zero count as one), and an iteration is the
//! unit at which REP instructions are interrupted: registers are exact after every iteration, RIP stays at the
//! instruction until the last. MOVS and STOS go page-wise where both sides are plain memory. Executed alone
//! (`CpuState::single`), exactly one iteration is done.

use softmmu::Access;

use crate::cc::CcKind;
use crate::emit::{Emitter, R};
use crate::eval::done;
use crate::insn::{AddrMode, Handler, Insn, Str, Width, prefix};
use crate::state::{reg, rflags, seg, stop};
use crate::vcpu::{Vcpu, addr_mode};

/// Chooses the tier-0 handler.
pub fn handler(s: Str, w: Width, ends: bool) -> Handler {
    macro_rules! by_width {
        ($($s:ident)*) => {
            match (s, w) {
                $((Str::$s, Width::B) => h!($s, B), (Str::$s, Width::W) => h!($s, W),
                  (Str::$s, Width::D) => h!($s, D), (Str::$s, Width::Q) => h!($s, Q),)*
            }
        };
    }
    macro_rules! h {
        ($s:ident, $w:ident) => {
            if ends {
                |c, i, rest| done(repeat(c, i, Str::$s, Width::$w), c, rest)
            } else {
                |c, i, rest| done(once(c, i, Str::$s, Width::$w), c, rest)
            }
        };
    }
    by_width!(Movs Stos Lods Scas Cmps Ins Outs)
}

/// One iteration.
#[inline(always)]
fn once(c: &mut Vcpu, i: &Insn, s: Str, w: Width) -> R<()> {
    let step =
        if c.st.flags & rflags::DF != 0 { u64::from(w.bytes()).wrapping_neg() } else { u64::from(w.bytes()) };
    let (si, di) = (c.gpr(i.aw, reg::RSI), c.gpr(i.aw, reg::RDI));
    let src_mode = addr_mode(c.st.mode, i.seg);
    let (uses_si, uses_di) = match s {
        Str::Movs => {
            let from = c.linear(i.seg, src_mode, si, w.bytes(), Access::Read)?;
            let to = destination(c, di, w)?;
            // The destination is probed before a source that may be a device is read.
            if c.st.single {
                c.probe(seg::ES, to, u64::from(w.bytes()), Access::Write)?;
            }
            let v = c.read_w(i.seg, from, w)?;
            c.write_w(seg::ES, to, w, v)?;
            (true, true)
        }
        Str::Stos => {
            let to = destination(c, di, w)?;
            let v = c.gpr(w, reg::RAX);
            c.write_w(seg::ES, to, w, v)?;
            (false, true)
        }
        Str::Lods => {
            let from = c.linear(i.seg, src_mode, si, w.bytes(), Access::Read)?;
            let v = c.read_w(i.seg, from, w)?;
            c.set_gpr(w, reg::RAX, v);
            (true, false)
        }
        Str::Scas => {
            let mode = addr_mode(c.st.mode, seg::ES);
            let at = c.linear(seg::ES, mode, di, w.bytes(), Access::Read)?;
            let b = c.read_w(seg::ES, at, w)?;
            let a = c.gpr(w, reg::RAX);
            let r = c.sub(w, a, b);
            c.set_cc(CcKind::Sub, w, r, b, a);
            (false, true)
        }
        Str::Cmps => {
            let from = c.linear(i.seg, src_mode, si, w.bytes(), Access::Read)?;
            let mode = addr_mode(c.st.mode, seg::ES);
            let at = c.linear(seg::ES, mode, di, w.bytes(), Access::Read)?;
            let a = c.read_w(i.seg, from, w)?;
            let b = c.read_w(seg::ES, at, w)?;
            let r = c.sub(w, a, b);
            c.set_cc(CcKind::Sub, w, r, b, a);
            (true, true)
        }
        Str::Ins => {
            let port = c.gpr(Width::W, reg::RDX) as u16;
            crate::sys::check_io(c, port, w)?;
            let to = destination(c, di, w)?;
            c.probe(seg::ES, to, u64::from(w.bytes()), Access::Write)?;
            c.need_single()?;
            let now = c.now_single();
            let v = c.bus.port_in(port, w.bytes() as u8, now);
            c.write_w(seg::ES, to, w, u64::from(v) & w.mask())?;
            c.pass_time(i, port);
            crate::sys::note_access(c, i, port, w, true);
            crate::sys::note_port(c, port, w.bytes());
            c.stop_after();
            (false, true)
        }
        Str::Outs => {
            let port = c.gpr(Width::W, reg::RDX) as u16;
            crate::sys::check_io(c, port, w)?;
            let from = c.linear(i.seg, src_mode, si, w.bytes(), Access::Read)?;
            c.need_single()?;
            let v = c.read_w(i.seg, from, w)?;
            let now = c.now_single();
            c.bus.port_out(port, w.bytes() as u8, v as u32, now);
            c.sync_a20();
            c.pass_time(i, port);
            crate::sys::note_access(c, i, port, w, false);
            crate::sys::note_port(c, port, w.bytes());
            c.stop_after();
            (true, false)
        }
    };
    if uses_si {
        let v = c.add(i.aw, si, step);
        c.set_gpr(i.aw, reg::RSI, v);
    }
    if uses_di {
        let v = c.add(i.aw, di, step);
        c.set_gpr(i.aw, reg::RDI, v);
    }
    if i.ends && !i.has(prefix::REP | prefix::REPNE) {
        c.st.rip = crate::sys::next_rip(c, i);
    }
    Ok(())
}

#[inline(always)]
fn destination(c: &mut Vcpu, di: u64, w: Width) -> R<u64> {
    let mode = addr_mode(c.st.mode, seg::ES);
    c.linear(seg::ES, mode, di, w.bytes(), Access::Write)
}

/// The instruction with a REP prefix (or INS and OUTS, which end their block as well).
fn repeat(c: &mut Vcpu, i: &Insn, s: Str, w: Width) -> R<()> {
    if !i.has(prefix::REP | prefix::REPNE) {
        return once(c, i, s, w);
    }
    let mut left = c.gpr(i.aw, reg::RCX);
    if left == 0 && matches!(s, Str::Ins | Str::Outs) {
        // Whether the port may be reached is asked before the count is looked at (seen on processors).
        let port = c.gpr(Width::W, reg::RDX) as u16;
        crate::sys::check_io(c, port, w)?;
    }
    // The block has paid for one iteration; `budget` says how many more there may be.
    let allowed = if c.st.single { 1 } else { c.st.budget.max(0) as u64 + 1 };
    let mut done = 0u64;
    let mut over = left == 0;
    let flags = (c.st.cc_op, c.st.cc_res, c.st.cc_src, c.st.cc_aux);
    let result = loop {
        if over || done == allowed || c.st.stop != stop::NONE {
            break Ok(());
        }
        let fast = if c.st.single { 0 } else { pagewise(c, i, s, w, left.min(allowed - done)) };
        if fast > 0 {
            left -= fast;
            done += fast;
        } else {
            if let Err(e) = once(c, i, s, w) {
                break Err(e);
            }
            left = left.wrapping_sub(1) & i.aw.mask();
            done += 1;
        }
        over = left == 0;
        if matches!(s, Str::Scas | Str::Cmps) {
            let equal = c.st.cc_res == 0;
            over |= equal == i.has(prefix::REPNE);
        }
    };
    // The count register is written at once with the others: nothing looks at it in between.
    if done > 0 {
        c.set_gpr(i.aw, reg::RCX, left);
    }
    match result {
        Ok(()) => {
            c.st.budget -= done.saturating_sub(1) as i64;
            // SDM vol. 3, 17.3.1.1: what interrupts an unfinished repetition pushes RF set.
            (c.st.rip, c.st.flags) = if over {
                (crate::sys::next_rip(c, i), c.st.flags & !rflags::RF)
            } else {
                (i.ip, c.st.flags | rflags::RF)
            };
            Ok(())
        }
        Err(e) => {
            // SDM vol. 2, REP: where CMPS or SCAS faults, RFLAGS is as before the instruction.
            (c.st.cc_op, c.st.cc_res, c.st.cc_src, c.st.cc_aux) = flags;
            // The instruction's own count is given back by the caller; the finished iterations are retired.
            c.st.budget -= done as i64;
            Err(e)
        }
    }
}

/// Does as many iterations of MOVS or STOS as lie within the pages at hand, at most `max`; 0 if this is not the case for
/// it (then `once` sorts it out).
fn pagewise(c: &mut Vcpu, i: &Insn, s: Str, w: Width, max: u64) -> u64 {
    if max < 2
        || c.mmu.checks_alignment()
        || c.st.flags & rflags::DF != 0
        || i.aw == Width::W
        || !matches!(s, Str::Movs | Str::Stos)
    {
        return 0;
    }
    if addr_mode(c.st.mode, seg::ES) != AddrMode::Flat {
        return 0;
    }
    let size = u64::from(w.bytes());
    let room = |at: u64| (0x1000 - (at & 0xfff)) / size;
    let di = c.gpr(i.aw, reg::RDI);
    let n = max.min(room(di));
    let n = if s == Str::Movs {
        let from = match addr_mode(c.st.mode, i.seg) {
            AddrMode::Flat => c.gpr(i.aw, reg::RSI),
            _ => return 0,
        };
        let n = n.min(room(from));
        // Overlapping forward copies replicate: element by element.
        if n < 2 || di.wrapping_sub(from) < n * size || c.mmu.copy(di, from, n * size).is_err() {
            return 0;
        }
        let si = c.add(i.aw, from, n * size);
        c.set_gpr(i.aw, reg::RSI, si);
        n
    } else {
        let v = c.gpr(w, reg::RAX);
        let ok = n >= 2
            && match w {
                Width::B => c.mmu.fill(di, v as u8, n),
                Width::W => c.mmu.fill(di, v as u16, n),
                Width::D => c.mmu.fill(di, v as u32, n),
                Width::Q => c.mmu.fill(di, v, n),
            }
            .is_ok();
        if !ok {
            return 0;
        }
        n
    };
    let di = c.add(i.aw, di, n * size);
    c.set_gpr(i.aw, reg::RDI, di);
    c.check_code_write();
    n
}
