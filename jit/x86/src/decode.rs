//! From bytes to [`Block`]s of predecoded instructions.

use iced_x86::{
    Code, Decoder, DecoderError, DecoderOptions, Formatter, Instruction, NasmFormatter, OpKind, Register,
};

use crate::block::{Block, MAX_INSNS};
use crate::emit::R;
use crate::eval::{done, go_on};
use crate::insn::{AddrMode, Insn, Op, Opnd, Width, prefix};
use crate::lift;
use crate::model::{Era, Isa};
use crate::state::{Mode, reg, seg};
use crate::vcpu::{Vcpu, addr_mode};

/// The longest instruction (SDM vol. 2, 2.3.11).
pub const MAX_LEN: usize = 15;

/// Decodes a block from `bytes`, which begin at RIP `ip` and end with the page (or the code segment). `None`: the first
/// instruction reaches beyond them; decode it with [`single`].
pub fn block(bytes: &[u8], ip: u64, mode: Mode) -> Option<Block> {
    block_of(bytes, ip, mode, None)
}

/// [`block`] for a model's instructions; without one, for all of them.
pub(crate) fn block_of(bytes: &[u8], ip: u64, mode: Mode, isa: Option<&Isa>) -> Option<Block> {
    decode(bytes, ip, mode, MAX_INSNS, isa)
}

/// Decodes the one instruction at `ip` as a block of its own; `bytes` may span two pages. When even these bytes end
/// within the instruction, the result raises #GP if they are all there can be ([`MAX_LEN`]), else `None`.
pub fn single(bytes: &[u8], ip: u64, mode: Mode) -> Option<Block> {
    single_of(bytes, ip, mode, None)
}

/// [`single`] for a model's instructions; without one, for all of them.
pub(crate) fn single_of(bytes: &[u8], ip: u64, mode: Mode, isa: Option<&Isa>) -> Option<Block> {
    decode(bytes, ip, mode, 1, isa)
}

fn decode(bytes: &[u8], ip: u64, mode: Mode, max: usize, isa: Option<&Isa>) -> Option<Block> {
    if isa.is_some_and(|isa| isa.era() < Era::I286) {
        return crate::i8086::block(bytes, ip, mode, max, isa);
    }
    let mask = lift::select::ip_mask(mode);
    // 0F 0D and 0F 18..1F are hints: what this processor has no meaning for is a NOP there (CET, MPX, PREFETCHIT).
    let options = DecoderOptions::FORCE_RESERVED_NOP;
    let mut decoder = Decoder::with_ip(mode.bitness(), bytes, ip, options);
    let mut insns: Vec<Insn> = Vec::with_capacity(8);
    let mut x = Instruction::default();
    let mut len = 0;
    let mut flags = None;
    while insns.len() < max {
        if !decoder.can_decode() {
            break;
        }
        decoder.decode_out(&mut x);
        let era = isa.map_or(Era::Modern, Isa::era);
        match era {
            Era::I286 => as_80286(&mut x, &mut decoder, &bytes[len..], mode),
            Era::I386 if x.is_invalid() => as_80386(&mut x, &mut decoder, &bytes[len..], mode),
            _ => {}
        }
        let mut i = if x.is_invalid() {
            match decoder.last_error() {
                DecoderError::NoMoreBytes if bytes.len() - len < MAX_LEN => break,
                error => invalid(error, &x, &bytes[len..], mode),
            }
        } else if isa.is_none_or(|isa| isa.admits(&mut x)) {
            let mut i = instruction(&x, mode);
            if isa.is_some_and(Isa::yields) {
                crate::sys::yield_at_pause(&x, &mut i);
            }
            if era <= Era::I386 {
                crate::old::rules(&x, &mut i, era);
            }
            i
        } else {
            undefined()
        };
        crate::x87::note_opcode(&mut i, &bytes[len..bytes.len().min(len + x.len())]);
        i.ip = ip.wrapping_add(len as u64) & mask;
        i.idx = insns.len() as u16;
        len += x.len();
        i.len = x.len() as u8;
        let ends = i.ends;
        if let Some(flags) = flags {
            lift::handlers::specialise(&mut i, flags);
        }
        if let (Op::Jcc(c), Some(before)) = (i.op, insns.last_mut()) {
            lift::handlers::fuse(before, c);
        }
        flags = lift::handlers::flags_after(&i, flags);
        insns.push(i);
        if ends {
            break;
        }
    }
    let last = insns.last()?;
    let count = insns.len() as u32;
    if !last.ends {
        insns.push(end_of_block(ip.wrapping_add(len as u64) & mask, count));
    }
    Some(Block { insns: insns.into(), count, ip, mode, len: len as u32 })
}

/// The record behind `count` instructions that no branch ended: goes on at `ip`.
pub(crate) fn end_of_block(ip: u64, count: u32) -> Insn {
    let mut end = blank();
    end.op = Op::EndBlock;
    (end.ip, end.imm) = (ip, ip);
    end.idx = count as u16;
    end.ends = true;
    end.run = |c, i, rest| done(lift::flow::end_block(c, i), c, rest);
    end
}

pub(crate) fn blank() -> Insn {
    Insn {
        run: |c, _, rest| go_on(c, rest),
        ip: 0,
        imm: 0,
        disp: 0,
        code: 0,
        idx: 0,
        op: Op::Cold,
        w: Width::D,
        w2: Width::D,
        len: 0,
        prefix: 0,
        dst: Opnd::None,
        src: Opnd::None,
        src2: Opnd::None,
        rd: 0,
        rs: 0,
        rv: 0,
        base: reg::ZERO,
        index: reg::ZERO,
        factor: 1,
        seg: seg::DS,
        am: AddrMode::Flat,
        aw: Width::Q,
        sw: Width::Q,
        sm: AddrMode::Flat,
        ends: false,
    }
}

/// An encoding that is no instruction: #UD; one that is longer than 15 bytes: #GP(0).
fn invalid(error: DecoderError, x: &Instruction, bytes: &[u8], mode: Mode) -> Insn {
    let mut i = blank();
    i.ends = true;
    i.run = if error == DecoderError::NoMoreBytes || x.len() >= MAX_LEN && is_too_long(bytes, mode) {
        |c, _, rest| done(Err(c.gp(0)), c, rest)
    } else {
        |c, _, rest| done(Err(c.ud()), c, rest)
    };
    i
}

const LOCK: u8 = 0xf0;

/// Decodes again without LOCK what a later processor refuses for it, and goes on behind it.
fn without_lock(x: &mut Instruction, decoder: &mut Decoder, bytes: &[u8], prefixes: usize, mode: Mode) {
    let locks = bytes[..prefixes].iter().filter(|b| **b == LOCK).count();
    if locks == 0 {
        return;
    }
    let mut plain: Vec<u8> = bytes[..prefixes].iter().filter(|b| **b != LOCK).copied().collect();
    plain.extend_from_slice(&bytes[prefixes..bytes.len().min(prefixes + MAX_LEN)]);
    let at = x.ip().wrapping_add(locks as u64);
    let y = Decoder::with_ip(mode.bitness(), &plain, at, DecoderOptions::FORCE_RESERVED_NOP).decode();
    if !y.is_invalid() {
        let start = decoder.position() - x.len();
        let len = y.len() + locks;
        *x = y;
        x.set_len(len);
        x.set_ip(at.wrapping_sub(locks as u64));
        // Cannot fail: the bytes are there.
        let _ = decoder.set_position(start + len);
        decoder.set_ip(x.next_ip());
    }
}

fn count_prefixes(bytes: &[u8], is_prefix: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|b| is_prefix(**b)).count()
}

/// What the 80286 sees differently: it ignores LOCK where later processors refuse it, and refuses more than ten bytes, the
/// prefixes of the i386 and its segment registers.
#[cold]
fn as_80286(x: &mut Instruction, decoder: &mut Decoder, bytes: &[u8], mode: Mode) {
    let prefixes = count_prefixes(bytes, |b| matches!(b, 0x26 | 0x2e | 0x36 | 0x3e | LOCK | 0xf2 | 0xf3));
    if x.is_invalid() {
        without_lock(x, decoder, bytes, prefixes, mode);
    }
    let later =
        |n: u32| x.op_kind(n) == OpKind::Register && matches!(x.op_register(n), Register::FS | Register::GS);
    let refused = matches!(bytes.get(prefixes), Some(0x64..=0x67)) || (0..x.op_count()).any(later);
    if x.len() > 10 || refused {
        x.set_code(Code::INVALID);
    }
}

/// LOCK may precede BT of memory on the i386 (80386 Programmer's Reference, LOCK).
#[cold]
fn as_80386(x: &mut Instruction, decoder: &mut Decoder, bytes: &[u8], mode: Mode) {
    let prefix = |b| matches!(b, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | LOCK | 0xf2 | 0xf3);
    let prefixes = count_prefixes(bytes, prefix);
    let memory = |modrm: u8| modrm < 0xc0;
    let bt = match bytes[prefixes..] {
        [0x0f, 0xa3, modrm, ..] => memory(modrm),
        [0x0f, 0xba, modrm, ..] => memory(modrm) && modrm & 0x38 == 0x20,
        _ => false,
    };
    if bt {
        without_lock(x, decoder, bytes, prefixes, mode);
    }
}

/// An instruction that the model has not: #UD.
pub(crate) fn undefined() -> Insn {
    let mut i = blank();
    i.ends = true;
    i.run = |c, _, rest| done(Err(c.ud()), c, rest);
    i
}

/// Is it an instruction once some of its prefixes are left out? (The decoder calls both kinds invalid.)
fn is_too_long(bytes: &[u8], mode: Mode) -> bool {
    let prefixes = bytes
        .iter()
        .take_while(|b| matches!(b, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3));
    let skip = prefixes.count().min(MAX_LEN);
    let mut rest = Decoder::with_ip(mode.bitness(), &bytes[skip..], 0, DecoderOptions::FORCE_RESERVED_NOP);
    let x = rest.decode();
    !x.is_invalid() && skip + x.len() > MAX_LEN
}

/// Fills everything that does not depend on the operation, then asks the families.
pub(crate) fn instruction(x: &Instruction, mode: Mode) -> Insn {
    let mut i = prepared(x, mode);
    if !(recognised(x, &mut i, mode) || crate::sys::deny(x, &mut i)) {
        i.op = Op::Cold;
        i.ends = true;
        i.run = |c, i, rest| done(Err(c.unimplemented(i)), c, rest);
    }
    lift::limited::choose(&mut i, mode);
    i
}

/// What does not depend on the operation.
fn prepared(x: &Instruction, mode: Mode) -> Insn {
    let mut i = blank();
    i.code = x.code() as u16;
    i.sw = match (mode.has(Mode::CODE64), mode.has(Mode::STACK32)) {
        (true, _) => Width::Q,
        (_, true) => Width::D,
        _ => Width::W,
    };
    i.sm = addr_mode(mode, seg::SS);
    for (have, bit) in [
        (x.has_lock_prefix(), prefix::LOCK),
        (x.has_rep_prefix(), prefix::REP),
        (x.has_repne_prefix(), prefix::REPNE),
    ] {
        if have {
            i.prefix |= bit;
        }
    }
    memory(x, &mut i, mode);
    let ops = [0, 1, 2].map(|n| if n < x.op_count() { operand(x, n, &mut i.imm) } else { Opnd::None });
    [i.dst, i.src, i.src2] = ops;
    if let Opnd::Gpr(r) = i.dst {
        i.rd = r;
    }
    if let Opnd::Gpr(r) = i.src {
        i.rs = r;
    }
    i.ip = x.ip();
    i.len = x.len() as u8;
    i
}

/// Asks the families, one after another.
fn recognised(x: &Instruction, i: &mut Insn, mode: Mode) -> bool {
    lift::select(x, i, mode)
        || crate::vec::select(x, i, mode)
        || crate::x87::select(x, i, mode)
        || crate::sys::select(x, i, mode)
}

/// Does one of the families know this instruction, so that it is neither undefined for want of its feature nor reported?
pub fn is_implemented(x: &Instruction, mode: Mode) -> bool {
    let mut i = prepared(x, mode);
    recognised(x, &mut i, mode)
}

fn memory(x: &Instruction, i: &mut Insn, mode: Mode) {
    i.aw = if mode.has(Mode::CODE64) {
        Width::Q
    } else if mode.has(Mode::CODE32) {
        Width::D
    } else {
        Width::W
    };
    if !(0..x.op_count()).any(|n| x.op_kind(n) == OpKind::Memory) {
        return;
    }
    let (base, index) = (x.memory_base(), x.memory_index());
    let size = |r: Register| Width::from_bytes(r.size() as u32);
    i.disp = x.memory_displacement64();
    if x.is_ip_rel_memory_operand() {
        i.aw = if base == Register::EIP { Width::D } else { Width::Q };
    } else {
        let by_reg = [base, index]
            .iter()
            .filter(|r| **r != Register::None && !r.is_vector_register())
            .find_map(|r| size(*r));
        i.aw = by_reg
            .or_else(|| Width::from_bytes(x.memory_displ_size()).filter(|w| *w != Width::B))
            .unwrap_or(i.aw);
        if base != Register::None {
            i.base = base.number() as u8;
        }
        if index != Register::None && !index.is_vector_register() {
            i.index = index.number() as u8;
            i.factor = x.memory_index_scale() as u8;
        }
        // Displacements wrap with the address; keep them sign-extended so that 64-bit sums work.
        i.disp = match i.aw {
            Width::Q => i.disp,
            w => i.disp & w.mask(),
        };
    }
    i.seg = segment(x.memory_segment());
    if mode.has(Mode::CODE64) && i.seg < seg::FS {
        // SDM vol. 1, 3.3.7.1: CS, DS, ES and SS prefixes are ignored. Which segment is meant still decides between #SS
        // and #GP for an address that is not canonical.
        i.seg = if matches!(i.base, reg::RSP | reg::RBP) { seg::SS } else { seg::DS };
    }
    i.am = addr_mode(mode, i.seg);
    if i.am == AddrMode::Flat && mode.has(Mode::CODE64) && i.seg >= seg::FS {
        i.am = AddrMode::Base;
    }
}

/// Number of a segment register (DS for none).
pub fn segment(r: Register) -> u8 {
    match r {
        Register::ES => seg::ES,
        Register::CS => seg::CS,
        Register::SS => seg::SS,
        Register::FS => seg::FS,
        Register::GS => seg::GS,
        _ => seg::DS,
    }
}

fn operand(x: &Instruction, n: u32, imm: &mut u64) -> Opnd {
    match x.op_kind(n) {
        OpKind::Register => register(x.op_register(n)),
        OpKind::Memory => Opnd::Mem,
        OpKind::Immediate8
        | OpKind::Immediate8_2nd
        | OpKind::Immediate16
        | OpKind::Immediate32
        | OpKind::Immediate64
        | OpKind::Immediate8to16
        | OpKind::Immediate8to32
        | OpKind::Immediate8to64
        | OpKind::Immediate32to64 => {
            *imm = x.immediate(n);
            Opnd::Imm
        }
        _ => Opnd::None,
    }
}

fn register(r: Register) -> Opnd {
    if r >= Register::AH && r <= Register::BH {
        return Opnd::High(r as u8 - Register::AH as u8);
    }
    if r.is_gpr() {
        return Opnd::Gpr(r.full_register().number() as u8);
    }
    let n = r.number() as u8;
    if r.is_xmm() || r.is_ymm() {
        Opnd::Xmm(n)
    } else if r.is_mm() {
        Opnd::Mm(n)
    } else if r.is_st() {
        Opnd::St(n)
    } else if r.is_segment_register() {
        Opnd::Seg(segment(r))
    } else if r.is_cr() {
        Opnd::Cr(n)
    } else if r.is_dr() {
        Opnd::Dr(n)
    } else {
        Opnd::None
    }
}

/// The linear address of RIP, checked against the code segment's limit and for being canonical (#GP(0)).
pub fn fetch_address(cpu: &mut Vcpu) -> R<u64> {
    let rip = cpu.st.rip;
    if cpu.st.mode.has(Mode::CODE64) {
        if !cpu.canonical(rip) {
            return Err(cpu.gp(0));
        }
        return Ok(rip);
    }
    let cs = &cpu.st.seg[seg::CS as usize];
    if rip > u64::from(cs.limit) {
        return Err(cpu.gp(0));
    }
    Ok(cs.base.wrapping_add(rip) & 0xffff_ffff)
}

/// How many bytes from RIP on lie within the code segment's limit.
pub fn fetch_room(cpu: &Vcpu) -> u64 {
    if cpu.st.mode.has(Mode::CODE64) {
        return u64::MAX;
    }
    (u64::from(cpu.st.seg[seg::CS as usize].limit) + 1).saturating_sub(cpu.st.rip)
}

/// One line about the instruction at RIP: bytes, disassembly, place and mode.
pub fn describe(cpu: &mut Vcpu, i: &Insn) -> String {
    let mode = cpu.st.mode;
    let base = if mode.has(Mode::CODE64) { 0 } else { cpu.st.seg[seg::CS as usize].base };
    let mut bytes = Vec::new();
    for k in 0..u64::from(i.len) {
        match cpu.mmu.read_as::<u8>(softmmu::Privilege::Supervisor, base.wrapping_add(i.ip).wrapping_add(k)) {
            Ok(b) => bytes.push(b),
            Err(_) => break,
        }
    }
    let mut text = String::new();
    let mut decoder = Decoder::with_ip(mode.bitness(), &bytes, i.ip, DecoderOptions::NONE);
    if decoder.can_decode() {
        NasmFormatter::new().format(&decoder.decode(), &mut text);
    }
    let hex = bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
    format!(
        "instruction not implemented: {text} ({hex}) at RIP {:#x}, CS {:#06x}, {}-bit code, CPL {}",
        i.ip,
        cpu.st.seg[seg::CS as usize].selector,
        mode.bitness(),
        cpu.st.cpl
    )
}
