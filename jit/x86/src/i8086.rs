//! The 8086 and its kin: their decoder, and what their instructions do differently from all later processors'.
//!
//! The 8086 knows no invalid opcode: each of the 256 does something, often what another one does, because its decoder looks at
//! fewer bits. So bytes are brought into the form that means the same to a later processor, then decoded as everywhere,
//! and the few instructions with rules of their own get handlers from here (Intel's 8086 Family User's Manual; what it
//! leaves open is as the public single-step vectors show it on hardware):
//! - PUSH SP stores the decremented pointer; counts of shifts and rotates are not masked;
//! - division faults push the address of the next instruction, and the quotients -128 and -32768 are faults; a repeat
//!   prefix before IDIV negates the quotient;
//! - 0F is POP CS, and MOV to CS works; 60-6F are 70-7F, C0, C1, C8, C9 are the returns, F1 is LOCK;
//! - D0-D3 with extension 6 set all bits (SETMO), D2 and D3 if CL is not zero;
//! - coprocessor escapes without a coprocessor read their operand and do nothing.
//!
//! The 80186 adds its instructions, masks counts and raises #UD; what the V30 does differently is in [`crate::v30`].

use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction, Mnemonic};

use crate::Vcpu;
use crate::block::Block;
use crate::decode::{MAX_LEN, blank, end_of_block, instruction, undefined};
use crate::emit::R;
use crate::eval::done;
use crate::insn::{Insn, Op, Opnd, Width};
use crate::lift;
use crate::model::{Era, Isa};
use crate::old::{self, flag, result_flags, set_arith};
use crate::state::{Mode, reg, rflags, seg};
use crate::v30;

/// What precedes the opcode.
#[derive(Clone, Copy, Default)]
pub(crate) struct Prefixes {
    pub len: usize,
    pub segment: Option<u8>,
    pub repeat: Option<u8>,
}

fn prefixes(bytes: &[u8], era: Era) -> Prefixes {
    let mut p = Prefixes::default();
    for b in bytes.iter().take(MAX_LEN) {
        match b {
            0x26 | 0x2e | 0x36 | 0x3e => p.segment = Some(*b),
            0xf2 | 0xf3 => p.repeat = Some(*b),
            0x64 | 0x65 if era == Era::V30 => p.repeat = Some(*b),
            0xf0 => {}
            0xf1 if era != Era::I186 => {}
            _ => break,
        }
        p.len += 1;
    }
    p
}

/// Bytes of a ModR/M operand, the ModR/M byte included.
pub(crate) fn modrm_len(modrm: u8) -> usize {
    match (modrm >> 6, modrm & 7) {
        (0, 6) | (2, _) => 3,
        (1, _) => 2,
        _ => 1,
    }
}

/// Decodes a block. `None`: the first instruction reaches beyond `bytes`.
pub(crate) fn block(bytes: &[u8], ip: u64, mode: Mode, max: usize, isa: Option<&Isa>) -> Option<Block> {
    let era = isa.map_or(Era::I8086, Isa::era);
    let mut insns = Vec::new();
    let mut len = 0;
    while insns.len() < max && len < bytes.len() {
        let at = ip.wrapping_add(len as u64) & 0xffff;
        // An operand whose bytes say nothing is part of the instruction all the same.
        let whole = |i: &Insn| usize::from(i.len) <= bytes.len() - len;
        let Some(mut i) = single(&bytes[len..], at, mode, era).filter(whole) else { break };
        (i.ip, i.idx) = (at, insns.len() as u16);
        len += usize::from(i.len);
        let ends = i.ends;
        insns.push(i);
        if ends {
            break;
        }
    }
    let count = insns.len() as u32;
    if !insns.last()?.ends {
        insns.push(end_of_block(ip.wrapping_add(len as u64) & 0xffff, count));
    }
    Some(Block { insns: insns.into(), count, ip, mode, len: len as u32 })
}

fn single(bytes: &[u8], ip: u64, mode: Mode, era: Era) -> Option<Insn> {
    let p = prefixes(bytes, era);
    let rest = &bytes[p.len..];
    let opcode = *rest.first()?;
    let modrm = rest.get(1).copied();
    match opcode {
        0x0f if era == Era::I8086 => {
            return Some(own(p.len + 1, true, |c, i, rest| done(pop_cs(c, i), c, rest)));
        }
        0x0f if era == Era::V30 => return v30::extended(rest, ip, mode, p),
        0x0f | 0x63..=0x67 | 0xf1 if era == Era::I186 => return Some(undefined()),
        0x9b => return Some(nothing(p.len + 1)),
        0x63 | 0x66 | 0x67 if era == Era::V30 => return Some(nothing(p.len + 1 + modrm_len(modrm?))),
        0xd8..=0xdf => return Some(nothing(p.len + 1 + modrm_len(modrm?))),
        // Operands in memory only.
        0x62 if era == Era::I8086 => {}
        0x62 | 0xc4 | 0xc5 if modrm? >= 0xc0 => {
            return Some(if era == Era::I186 { undefined() } else { nothing(p.len + 2) });
        }
        _ => {}
    }
    // As a later processor wants it: one segment prefix, a repeat prefix for strings only, the opcode that is meant.
    let is_string =
        matches!(opcode, 0xa4..=0xa7 | 0xaa..=0xaf) || matches!(opcode, 0x6c..=0x6f if era > Era::I8086);
    let carry = p.repeat.filter(|r| *r < 0xf2 && matches!(opcode, 0xa6 | 0xa7 | 0xae | 0xaf));
    let repeat = p.repeat.filter(|_| is_string && carry.is_none()).map(|r| if r < 0xf2 { 0xf3 } else { r });
    let mut plain: Vec<u8> = p.segment.into_iter().chain(repeat).collect();
    let added = plain.len();
    plain.extend_from_slice(&rest[..rest.len().min(MAX_LEN - added)]);
    let (code, fields) = meant(opcode, modrm, era);
    plain[added] = code;
    if let Some(fields) = fields {
        plain[added + 1] = fields;
    }
    // What was left out counts for the places that branches lead to.
    let start = ip.wrapping_add(p.len.saturating_sub(added) as u64);
    let mut decoder = Decoder::with_ip(16, &plain, start, DecoderOptions::NONE);
    let x = decoder.decode();
    if decoder.last_error() == DecoderError::NoMoreBytes {
        return None;
    }
    if x.is_invalid() || era == Era::I186 && plain[added] == 0x8f && modrm? & 0x38 != 0 {
        if era == Era::I186 {
            return Some(undefined());
        }
        // A form that it has no meaning for here: nothing happens. All of them have a ModR/M byte.
        return Some(nothing(p.len + 1 + modrm_len(modrm?)));
    }
    let mut i = instruction(&x, mode);
    crate::x87::note_opcode(&mut i, &plain);
    // A direct branch has the offset of the next instruction there.
    i.disp &= 0xffff;
    i.len = (x.len() - added + p.len) as u8;
    rules(&x, &mut i, opcode, modrm.unwrap_or(0), p.repeat.is_some(), era);
    if era == Era::V30 {
        v30::rules(&mut i, opcode, carry);
    }
    (usize::from(i.len) <= bytes.len()).then_some(i)
}

/// The opcode that a later processor knows by this meaning, and the ModR/M byte if that differs.
fn meant(opcode: u8, modrm: Option<u8>, era: Era) -> (u8, Option<u8>) {
    let field = |keep: u8, set: u8| modrm.map(|m| m & !0x38 | (m & keep | set));
    match opcode {
        0x60..=0x6f if era == Era::I8086 => (opcode | 0x10, None),
        0xc0 | 0xc1 | 0xc8 | 0xc9 if era == Era::I8086 => (opcode | 2, None),
        0xd6 if era == Era::V30 => (0xd7, None),
        // Two bits of the segment register's number are looked at.
        // MOV to CS is decoded as one to ES, and gets its own handler.
        0x8e if modrm.is_some_and(|m| m & 0x18 == 0x08) => (opcode, field(0, 0)),
        0x8c | 0x8e => (opcode, field(0x18, 0)),
        0x8f | 0xc6 | 0xc7 if era != Era::I186 => (opcode, field(0, 0)),
        0xf6 | 0xf7 if modrm.is_some_and(|m| m & 0x38 == 0x08) => (opcode, field(0, 0)),
        0xff if era != Era::I186 && modrm.is_some_and(|m| m & 0x38 == 0x38) => (opcode, field(0, 0x30)),
        _ => (opcode, None),
    }
}

/// Handlers for what has rules of its own.
fn rules(x: &Instruction, i: &mut Insn, opcode: u8, modrm: u8, repeated: bool, era: Era) {
    macro_rules! run {
        ($ends:expr, $f:expr) => {{
            i.op = Op::Cold;
            i.ends = $ends;
            i.run = |c, i, rest| done($f(c, i), c, rest);
        }};
    }
    let extension = modrm >> 3 & 7;
    match opcode {
        0x54 => run!(false, push_sp),
        0xff if extension >= 6 && modrm >> 6 == 3 && modrm & 7 == 4 => run!(false, push_sp),
        0x8e if extension & 3 == 1 => run!(true, mov_cs),
        0xc0 | 0xc1 | 0xd0..=0xd3 if era > Era::I8086 || opcode >= 0xd0 => {
            if opcode >= 0xd2 {
                i.src = Opnd::Gpr(reg::RCX);
            } else if opcode >= 0xd0 {
                (i.src, i.imm) = (Opnd::Imm, 1);
            }
            macro_rules! kinds {
                ($($n:literal)*) => {
                    match extension {
                        $($n => run!(false, |c: &mut Vcpu, i: &Insn| shift(c, i, $n)),)*
                        _ => run!(false, |c: &mut Vcpu, i: &Insn| shift(c, i, 7)),
                    }
                };
            }
            kinds!(0 1 2 3 4 5 6);
        }
        0xd4 => run!(true, aam),
        0xf6 | 0xf7 if extension == 6 => run!(true, |c: &mut Vcpu, i: &Insn| divide(c, i, false, false)),
        0xf6 | 0xf7 if extension == 7 && repeated && era == Era::I8086 => {
            run!(true, |c: &mut Vcpu, i: &Insn| divide(c, i, true, true))
        }
        0xf6 | 0xf7 if extension == 7 => run!(true, |c: &mut Vcpu, i: &Insn| divide(c, i, true, false)),
        _ => match x.mnemonic() {
            Mnemonic::Aaa => run!(false, |c: &mut Vcpu, _: &Insn| ascii_adjust(c, false)),
            Mnemonic::Aas => run!(false, |c: &mut Vcpu, _: &Insn| ascii_adjust(c, true)),
            Mnemonic::Daa => run!(false, |c: &mut Vcpu, _: &Insn| decimal_adjust(c, false)),
            Mnemonic::Das => run!(false, |c: &mut Vcpu, _: &Insn| decimal_adjust(c, true)),
            _ => {}
        },
    }
}

pub(crate) fn own(len: usize, ends: bool, run: crate::insn::Handler) -> Insn {
    let mut i = blank();
    (i.len, i.ends, i.run) = (len as u8, ends, run);
    i
}

pub(crate) fn nothing(len: usize) -> Insn {
    own(len, false, |c, _, rest| done(Ok(()), c, rest))
}

pub(crate) fn word(c: &Vcpu, r: u8) -> u64 {
    c.st.gpr[r as usize] & 0xffff
}

pub(crate) fn set_word(c: &mut Vcpu, r: u8, v: u64) {
    let g = &mut c.st.gpr[r as usize];
    *g = *g & !0xffff | v & 0xffff;
}

pub(crate) fn push(c: &mut Vcpu, v: u64) -> R<()> {
    let sp = word(c, reg::RSP).wrapping_sub(2) & 0xffff;
    c.write_seg(seg::SS, sp, Width::W, v & 0xffff)?;
    set_word(c, reg::RSP, sp);
    Ok(())
}

/// The value pushed is the new one.
fn push_sp(c: &mut Vcpu, _: &Insn) -> R<()> {
    let sp = word(c, reg::RSP).wrapping_sub(2);
    push(c, sp)
}

fn load_cs(c: &mut Vcpu, i: &Insn, selector: u64) {
    let cs = &mut c.st.seg[seg::CS as usize];
    (cs.selector, cs.base) = (selector as u16, (selector & 0xffff) << 4);
    c.st.rip = i.next() & 0xffff;
    c.mode_changed();
    c.stop_after();
}

fn pop_cs(c: &mut Vcpu, i: &Insn) -> R<()> {
    let sp = word(c, reg::RSP);
    let v = c.read_seg(seg::SS, sp, Width::W)?;
    set_word(c, reg::RSP, sp + 2);
    load_cs(c, i, v);
    Ok(())
}

fn mov_cs(c: &mut Vcpu, i: &Insn) -> R<()> {
    let v = lift::get(c, i, i.src, Width::W)?;
    load_cs(c, i, v);
    Ok(())
}

/// Shifts and rotates: as often as the count says, which only the 80186 masks. Extension 6 is SETMO on the 8086: all bits
/// are set.
fn shift(c: &mut Vcpu, i: &Insn, kind: u8) -> R<()> {
    let era = c.model.era();
    let mask = if era == Era::I186 { 0x1f } else { 0xff };
    let count = mask & if i.src == Opnd::Imm { i.imm } else { word(c, reg::RCX) };
    if kind != 6 || count == 0 || era != Era::I8086 {
        return old::shift(c, i, kind, count);
    }
    let w = i.w;
    let at = lift::loc(c, i, i.dst);
    lift::read_for_write(c, at, w)?;
    lift::write(c, at, w, w.mask())?;
    set_arith(c, rflags::ARITH, result_flags(w.mask(), w));
    Ok(())
}

/// An interrupt by an instruction: unlike later processors' faults it returns behind it.
pub(crate) fn interrupt(c: &mut Vcpu, i: &Insn, number: u64) -> R<()> {
    let flags = c.rflags();
    let (cs, next) = (u64::from(c.st.seg[seg::CS as usize].selector), i.next() & 0xffff);
    for v in [flags, cs, next] {
        push(c, v)?;
    }
    let table = c.st.idtr.base + number * 4;
    let (ip, cs) = (c.read_w(seg::DS, table, Width::W)?, c.read_w(seg::DS, table + 2, Width::W)?);
    c.set_rflags(flags & !(rflags::IF | rflags::TF));
    load_cs(c, i, cs);
    c.st.rip = ip;
    Ok(())
}

fn aam(c: &mut Vcpu, i: &Insn) -> R<()> {
    let (al, base) = (word(c, reg::RAX) & 0xff, i.imm & 0xff);
    let (Some(high), Some(low)) = (al.checked_div(base), al.checked_rem(base)) else {
        // The microcode has compared the upper half, 0, with the divisor.
        set_arith(c, rflags::ARITH, result_flags(0, Width::B));
        return interrupt(c, i, 0);
    };
    set_word(c, reg::RAX, high << 8 | low);
    set_arith(c, rflags::ARITH, result_flags(low, Width::B));
    c.st.rip = i.next() & 0xffff;
    Ok(())
}

/// DIV and IDIV. The flags stay as they are: they are undefined.
fn divide(c: &mut Vcpu, i: &Insn, signed: bool, negated: bool) -> R<()> {
    let w = i.w;
    let divisor = lift::get(c, i, i.src, w)? & w.mask();
    let (ax, dx) = (word(c, reg::RAX), word(c, reg::RDX));
    let dividend = if w == Width::B { ax } else { dx << 16 | ax };
    let bits = w.bits();
    let result = if signed {
        let wide = 64 - 2 * bits;
        let (n, d) = ((dividend << wide) as i64 >> wide, w.sext(divisor) as i64);
        let limit = (w.mask() >> 1) as i64;
        n.checked_div(d).filter(|q| (-limit..=limit).contains(q)).map(|q| {
            let q = if negated { -q } else { q };
            (q as u64, n.wrapping_rem(d) as u64)
        })
    } else {
        dividend.checked_div(divisor).filter(|q| *q <= w.mask()).map(|q| (q, dividend % divisor))
    };
    let Some((quotient, remainder)) = result else { return interrupt(c, i, 0) };
    if w == Width::B {
        set_word(c, reg::RAX, (remainder & 0xff) << 8 | quotient & 0xff);
    } else {
        set_word(c, reg::RAX, quotient);
        set_word(c, reg::RDX, remainder);
    }
    c.st.rip = i.next() & 0xffff;
    Ok(())
}

/// AAA and AAS: AL and AH are adjusted each for itself.
fn ascii_adjust(c: &mut Vcpu, subtract: bool) -> R<()> {
    let f = c.rflags();
    let (al, ah) = (word(c, reg::RAX) as u8, (word(c, reg::RAX) >> 8) as u8);
    let adjust = al & 0xf > 9 || f & rflags::AF != 0;
    let (al, ah) = match (adjust, subtract) {
        (false, _) => (al, ah),
        (true, false) => (al.wrapping_add(6), ah.wrapping_add(1)),
        (true, true) => (al.wrapping_sub(6), ah.wrapping_sub(1)),
    };
    set_word(c, reg::RAX, u64::from(ah) << 8 | u64::from(al & 0xf));
    let both = flag(adjust, rflags::CF | rflags::AF);
    set_arith(c, rflags::CF | rflags::AF, both);
    Ok(())
}

/// DAA and DAS: the limit for the upper digit depends on AF.
fn decimal_adjust(c: &mut Vcpu, subtract: bool) -> R<()> {
    let f = c.rflags();
    let old = word(c, reg::RAX) as u8;
    let limit = if f & rflags::AF != 0 { 0x9f } else { 0x99 };
    let low = old & 0xf > 9 || f & rflags::AF != 0;
    let high = old > limit || f & rflags::CF != 0;
    let by = if low { 6 } else { 0 } + if high { 0x60 } else { 0 };
    let v = if subtract { old.wrapping_sub(by) } else { old.wrapping_add(by) };
    let g = &mut c.st.gpr[reg::RAX as usize];
    *g = *g & !0xff | u64::from(v);
    let out = flag(low, rflags::AF) | flag(high, rflags::CF) | result_flags(v.into(), Width::B);
    set_arith(c, rflags::ARITH & !rflags::OF, out);
    Ok(())
}
