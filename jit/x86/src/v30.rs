//! The V20 and V30 in native mode: what NEC's processors add to the 80186, and what they do differently from the 8086
//! (NEC's 16-bit V Series User's Manual; what it leaves open is as the public single-step vectors show it on hardware):
//! - 0F introduces bit operations, decimal strings, nibble rotates and bit fields;
//! - 64 and 65 repeat string comparisons while there is no carry, or while there is; 66 and 67 are escapes as D8-DF are;
//! - BOUND's interrupt returns behind the instruction as that of a division does;
//! - AAM by 0 is no interrupt, AAD multiplies by 10 whatever its base is, ENTER does not mask its level.
//!
//! Limit: BRKEM, the entry to the emulation of the 8080, does nothing.

use iced_x86::{Decoder, DecoderError, DecoderOptions};

use crate::Vcpu;
use crate::emit::R;
use crate::eval::done;
use crate::i8086::{Prefixes, interrupt, modrm_len, nothing, own, push, set_word, word};
use crate::insn::{Handler, Insn, Op, Opnd, Width};
use crate::lift;
use crate::old::{flag, result_flags, set_arith};
use crate::state::{Mode, reg, rflags, seg};

fn helper(i: &mut Insn, ends: bool, run: Handler) {
    (i.op, i.ends, i.run) = (Op::Cold, ends, run);
}

fn segment(prefix: Option<u8>) -> u8 {
    prefix.map_or(seg::DS, |p| p >> 3 & 3)
}

/// What 0F introduces. `rest` begins with it.
pub(crate) fn extended(rest: &[u8], ip: u64, mode: Mode, p: Prefixes) -> Option<Insn> {
    let code = *rest.get(1)?;
    let before = p.len + 2;
    macro_rules! run {
        ($f:expr) => {
            |c, i, rest| done($f(c, i), c, rest)
        };
    }
    let strings: Option<Handler> = match code {
        0x20 => Some(run!(|c: &mut Vcpu, i: &Insn| decimal_string(c, i, false, true))),
        0x22 => Some(run!(|c: &mut Vcpu, i: &Insn| decimal_string(c, i, true, true))),
        0x26 => Some(run!(|c: &mut Vcpu, i: &Insn| decimal_string(c, i, true, false))),
        _ => None,
    };
    if let Some(run) = strings {
        let mut i = own(before, false, run);
        i.seg = segment(p.segment);
        return Some(i);
    }
    let (immediate, handler): (bool, Handler) = match code {
        0x10 | 0x11 | 0x18 | 0x19 => (code & 8 != 0, run!(test_bit)),
        0x12 | 0x13 | 0x1a | 0x1b => {
            (code & 8 != 0, run!(|c: &mut Vcpu, i: &Insn| change_bit(c, i, |v, bit| v & !bit)))
        }
        0x14 | 0x15 | 0x1c | 0x1d => {
            (code & 8 != 0, run!(|c: &mut Vcpu, i: &Insn| change_bit(c, i, |v, bit| v | bit)))
        }
        0x16 | 0x17 | 0x1e | 0x1f => {
            (code & 8 != 0, run!(|c: &mut Vcpu, i: &Insn| change_bit(c, i, |v, bit| v ^ bit)))
        }
        0x28 => (false, run!(|c: &mut Vcpu, i: &Insn| rotate_nibble(c, i, false))),
        0x2a => (false, run!(|c: &mut Vcpu, i: &Insn| rotate_nibble(c, i, true))),
        0x31 | 0x39 => (code == 0x39, run!(insert_field)),
        0x33 | 0x3b => (code == 0x3b, run!(extract_field)),
        // BRKEM, and what nobody knows.
        0xff => return Some(nothing(before + 1)),
        _ => return Some(nothing(before)),
    };
    let modrm = *rest.get(2)?;
    let field = code >= 0x30;
    // The operand as in MOV from a register, which has the same ModR/M byte.
    let word = !field && code < 0x20 && code & 1 != 0;
    let mut plain: Vec<u8> = p.segment.into_iter().collect();
    plain.push(if word { 0x89 } else { 0x88 });
    let added = plain.len();
    plain.push(if field { modrm | 0xc0 } else { modrm });
    plain.extend(rest[3..].iter().take(4));
    let mut decoder = Decoder::with_ip(16, &plain, ip, DecoderOptions::NONE);
    let x = decoder.decode();
    if decoder.last_error() == DecoderError::NoMoreBytes {
        return None;
    }
    let mut i = crate::decode::instruction(&x, mode);
    let operand = if field { 1 } else { modrm_len(modrm) };
    let len = before + operand + usize::from(immediate);
    debug_assert_eq!(operand, x.len() - added, "the ModR/M byte's length");
    if immediate {
        (i.src, i.imm) = (Opnd::Imm, u64::from(*rest.get(2 + operand)?));
    } else if !field {
        i.src = Opnd::Gpr(reg::RCX);
    }
    if field {
        i.seg = segment(p.segment);
    }
    i.len = len as u8;
    helper(&mut i, false, handler);
    Some(i)
}

/// Handlers for what the 8086 does differently. `carry`: the prefix 64 or 65 before a comparison.
pub(crate) fn rules(i: &mut Insn, opcode: u8, carry: Option<u8>) {
    macro_rules! run {
        ($ends:expr, $f:expr) => {
            helper(i, $ends, |c, i, rest| done($f(c, i), c, rest))
        };
    }
    match opcode {
        0x62 => run!(true, bound),
        0xa6 | 0xa7 | 0xae | 0xaf if carry.is_some() => {
            let scan = opcode >= 0xae;
            i.w = if opcode & 1 == 0 { Width::B } else { Width::W };
            match (scan, carry == Some(0x65)) {
                (false, false) => run!(false, |c: &mut Vcpu, i: &Insn| compare(c, i, false, 0)),
                (false, true) => run!(false, |c: &mut Vcpu, i: &Insn| compare(c, i, false, 1)),
                (true, false) => run!(false, |c: &mut Vcpu, i: &Insn| compare(c, i, true, 0)),
                (true, true) => run!(false, |c: &mut Vcpu, i: &Insn| compare(c, i, true, 1)),
            }
        }
        0xc8 => run!(false, enter),
        0xd4 => run!(false, aam),
        0xd5 => run!(false, aad),
        _ => {}
    }
}

fn bit(c: &mut Vcpu, i: &Insn) -> R<u64> {
    let n = lift::get(c, i, i.src, Width::B)?;
    Ok(1 << (n & u64::from(i.w.bits() - 1)))
}

fn test_bit(c: &mut Vcpu, i: &Insn) -> R<()> {
    let bit = bit(c, i)?;
    let v = lift::get(c, i, i.dst, i.w)?;
    let mask = rflags::CF | rflags::OF | rflags::ZF;
    set_arith(c, mask, flag(v & bit == 0, rflags::ZF));
    Ok(())
}

fn change_bit(c: &mut Vcpu, i: &Insn, change: fn(u64, u64) -> u64) -> R<()> {
    let bit = bit(c, i)?;
    let at = lift::loc(c, i, i.dst);
    let v = lift::read_for_write(c, at, i.w)?;
    lift::write(c, at, i.w, change(v, bit) & i.w.mask())
}

/// ROL4 and ROR4: the operand's two digits and AL's lower one go round.
fn rotate_nibble(c: &mut Vcpu, i: &Insn, right: bool) -> R<()> {
    let ax = word(c, reg::RAX);
    let at = lift::loc(c, i, i.dst);
    let v = lift::read_for_write(c, at, Width::B)? & 0xff;
    let (new, al) =
        if right { ((ax & 0xf) << 4 | v >> 4, v) } else { ((v << 4 | ax & 0xf) & 0xff, ax & 0xf0 | v >> 4) };
    lift::write(c, at, Width::B, new)?;
    // The operand may be AL itself, which then holds what was written.
    if at_al(i) {
        return Ok(());
    }
    set_word(c, reg::RAX, ax & 0xff00 | al);
    Ok(())
}

fn at_al(i: &Insn) -> bool {
    i.dst == Opnd::Gpr(reg::RAX)
}

/// DAA or DAS of a byte.
fn adjust(v: u8, carry: bool, aux: bool, subtract: bool) -> (u8, bool, bool) {
    let low = v & 0xf > 9 || aux;
    let high = v > if aux { 0x9f } else { 0x99 } || carry;
    let by = if low { 6 } else { 0 } + if high { 0x60 } else { 0 };
    (if subtract { v.wrapping_sub(by) } else { v.wrapping_add(by) }, high, low)
}

/// ADD4S, SUB4S and CMP4S: CL digits, two of them in a byte, from DS:SI to ES:DI.
fn decimal_string(c: &mut Vcpu, i: &Insn, subtract: bool, store: bool) -> R<()> {
    let bytes = (word(c, reg::RCX) & 0xff).div_ceil(2);
    let (mut carry, mut zero) = (false, true);
    for k in 0..bytes {
        let (si, di) = ((word(c, reg::RSI) + k) & 0xffff, (word(c, reg::RDI) + k) & 0xffff);
        let from = c.read_seg(i.seg, si, Width::B)? as u8;
        let to = c.read_seg(seg::ES, di, Width::B)? as u8;
        let (v, out, aux) = if subtract {
            let (a, first) = to.overflowing_sub(from);
            let (a, second) = a.overflowing_sub(carry.into());
            (a, first | second, (to ^ from ^ a) & 0x10 != 0)
        } else {
            let (a, first) = to.overflowing_add(from);
            let (a, second) = a.overflowing_add(carry.into());
            (a, first | second, (to ^ from ^ a) & 0x10 != 0)
        };
        let (v, out, _) = adjust(v, out, aux, subtract);
        carry = out;
        zero &= v == 0;
        if store {
            c.write_seg(seg::ES, di, Width::B, v.into())?;
        }
    }
    set_arith(c, rflags::CF | rflags::ZF, flag(carry, rflags::CF) | flag(zero, rflags::ZF));
    Ok(())
}

/// A bit field's offset in its word and its length; the register that says the offset is moved behind the field, and the
/// pointer with it.
fn field(c: &mut Vcpu, i: &Insn, pointer: u8) -> R<(u64, u64, u64)> {
    let offset = lift::get(c, i, i.dst, Width::B)? & 15;
    let len = (lift::get(c, i, i.src, Width::B)? & 15) + 1;
    let at = word(c, pointer);
    let to = lift::loc(c, i, i.dst);
    lift::write(c, to, Width::B, (offset + len) & 15)?;
    if offset + len > 15 {
        set_word(c, pointer, at.wrapping_add(2));
    }
    Ok((at, offset, len))
}

fn insert_field(c: &mut Vcpu, i: &Insn) -> R<()> {
    let source = word(c, reg::RAX);
    let (at, offset, len) = field(c, i, reg::RDI)?;
    let mask = ((1 << len) - 1) << offset;
    let value = source << offset & mask;
    for (k, shift) in [(0, 0), (2, 16)] {
        let mask = mask >> shift & 0xffff;
        if mask != 0 {
            let at = (at + k) & 0xffff;
            let old = c.read_seg(seg::ES, at, Width::W)?;
            c.write_seg(seg::ES, at, Width::W, old & !mask | value >> shift & mask)?;
        }
    }
    Ok(())
}

fn extract_field(c: &mut Vcpu, i: &Insn) -> R<()> {
    let (at, offset, len) = field(c, i, reg::RSI)?;
    let mut v = c.read_seg(i.seg, at, Width::W)?;
    if offset + len > 16 {
        v |= c.read_seg(i.seg, (at + 2) & 0xffff, Width::W)? << 16;
    }
    set_word(c, reg::RAX, v >> offset & ((1 << len) - 1));
    Ok(())
}

fn bound(c: &mut Vcpu, i: &Insn) -> R<()> {
    let index = lift::get(c, i, i.dst, Width::W)? as i16;
    let at = c.ea(i);
    let low = c.read_seg(i.seg, at, Width::W)? as i16;
    let high = c.read_seg(i.seg, (at + 2) & 0xffff, Width::W)? as i16;
    if (low..=high).contains(&index) {
        c.st.rip = i.next() & 0xffff;
        return Ok(());
    }
    interrupt(c, i, 5)
}

fn enter(c: &mut Vcpu, i: &Insn) -> R<()> {
    let (size, level) = (i.imm & 0xffff, i.disp & 0xff);
    let mut bp = word(c, reg::RBP);
    push(c, bp)?;
    let frame = word(c, reg::RSP);
    for _ in 1..level {
        bp = bp.wrapping_sub(2) & 0xffff;
        let v = c.read_seg(seg::SS, bp, Width::W)?;
        push(c, v)?;
    }
    if level > 0 {
        push(c, frame)?;
    }
    set_word(c, reg::RBP, frame);
    set_word(c, reg::RSP, word(c, reg::RSP).wrapping_sub(size));
    Ok(())
}

fn aam(c: &mut Vcpu, i: &Insn) -> R<()> {
    let (al, base) = (word(c, reg::RAX) & 0xff, i.imm & 0xff);
    let high = al.checked_div(base).unwrap_or(0xff);
    let low = al.checked_rem(base).unwrap_or(al);
    set_word(c, reg::RAX, high << 8 | low);
    set_arith(c, rflags::ARITH, result_flags(low, Width::B));
    Ok(())
}

fn aad(c: &mut Vcpu, _: &Insn) -> R<()> {
    let ax = word(c, reg::RAX);
    let v = ((ax >> 8) * 10 + (ax & 0xff)) & 0xff;
    set_word(c, reg::RAX, v);
    set_arith(c, rflags::ARITH, result_flags(v, Width::B));
    Ok(())
}

/// CMPS or SCAS as often as CX says, while the carry is as wanted.
fn compare(c: &mut Vcpu, i: &Insn, scan: bool, wanted: u64) -> R<()> {
    let step =
        if c.rflags() & rflags::DF != 0 { 0u64.wrapping_sub(i.w.bytes().into()) } else { i.w.bytes().into() };
    while word(c, reg::RCX) != 0 {
        let di = word(c, reg::RDI);
        let a = if scan {
            word(c, reg::RAX)
        } else {
            let si = word(c, reg::RSI);
            let a = c.read_seg(i.seg, si, i.w)?;
            set_word(c, reg::RSI, si.wrapping_add(step));
            a
        } & i.w.mask();
        let b = c.read_seg(seg::ES, di, i.w)? & i.w.mask();
        set_word(c, reg::RDI, di.wrapping_add(step));
        set_word(c, reg::RCX, word(c, reg::RCX) - 1);
        let v = a.wrapping_sub(b) & i.w.mask();
        let flags = result_flags(v, i.w)
            | flag(a < b, rflags::CF)
            | (a ^ b ^ v) & rflags::AF
            | flag((a ^ b) & (a ^ v) & i.w.sign() != 0, rflags::OF);
        set_arith(c, rflags::ARITH, flags);
        if flags & rflags::CF != wanted {
            break;
        }
    }
    Ok(())
}
