//! Recognises the integer instructions at decode time and chooses their tier-0 handlers.

use iced_x86::{ConditionCode, Instruction, Mnemonic, OpKind};

use super::handlers::{
    alu_handler, call_handler, cmov_handler, extend_handler, form, imul_handler, jcc_handler, lea_handler,
    leave_handler, mov_handler, pop_handler, push_handler, reach, ret_handler, setcc_handler, shift_handler,
    unary_handler,
};
use super::{Any, AnyStack, alu, bits, flow, mov, muldiv, shift};
use crate::emit::{Emitter as _, Fence};
use crate::eval::{done, go_on};
use crate::insn::{
    Alu, BitScan, BitTest, Bmi, Cond, Handler, Insn, Op, Opnd, Rest, Shift, Str, Unary, Width,
};
use crate::state::{Mode, reg};
use crate::string;
use crate::vcpu::Vcpu;

/// The width of the first operand that has one.
fn operand_width(x: &Instruction, n: u32) -> Option<Width> {
    let bytes = match x.op_kind(n) {
        OpKind::Register => x.op_register(n).size() as u32,
        OpKind::Memory => x.memory_size().size() as u32,
        _ => return None,
    };
    Width::from_bytes(bytes)
}

/// Are all operands general registers, memory or immediates (no segment, control, debug or vector register)?
fn general(i: &Insn) -> bool {
    [i.dst, i.src, i.src2]
        .iter()
        .all(|o| matches!(o, Opnd::None | Opnd::Gpr(_) | Opnd::High(_) | Opnd::Mem | Opnd::Imm))
}

/// Width of what the instruction pushes or pops.
fn stack_width(x: &Instruction) -> Width {
    Width::from_bytes(x.stack_pointer_increment().unsigned_abs()).unwrap_or(Width::Q)
}

/// Width by address size of instructions that count in rCX.
fn counter_width(x: &Instruction) -> Width {
    match x.op_code().address_size() {
        16 => Width::W,
        32 => Width::D,
        _ => Width::Q,
    }
}

fn condition(x: &Instruction) -> Option<Cond> {
    match x.condition_code() {
        ConditionCode::None => None,
        c => Some(Cond::from_u8(c as u8 - 1)),
    }
}

/// Recognises an integer instruction: fills `op`, widths and the handler.
pub fn select(x: &Instruction, i: &mut Insn, mode: Mode) -> bool {
    let mask = ip_mask(mode);
    if branch(x, i, mask) {
        return true;
    }
    if x.is_string_instruction() {
        return string_op(x, i);
    }
    if !general(i) {
        return false;
    }
    let w0 = operand_width(x, 0);
    i.w = w0.unwrap_or(Width::D);
    macro_rules! set {
        ($op:expr, $run:expr) => {{
            i.op = $op;
            i.run = $run;
            true
        }};
    }
    use Mnemonic as M;
    match x.mnemonic() {
        M::Add => arith(i, Alu::Add),
        M::Or => arith(i, Alu::Or),
        M::Adc => arith(i, Alu::Adc),
        M::Sbb => arith(i, Alu::Sbb),
        M::And => arith(i, Alu::And),
        M::Sub => arith(i, Alu::Sub),
        M::Xor => arith(i, Alu::Xor),
        M::Cmp => arith(i, Alu::Cmp),
        M::Test => arith(i, Alu::Test),
        M::Inc => one_operand(i, Unary::Inc),
        M::Dec => one_operand(i, Unary::Dec),
        M::Neg => one_operand(i, Unary::Neg),
        M::Not => one_operand(i, Unary::Not),
        M::Rol => shifted(i, Shift::Rol),
        M::Ror => shifted(i, Shift::Ror),
        M::Rcl => shifted(i, Shift::Rcl),
        M::Rcr => shifted(i, Shift::Rcr),
        M::Shl | M::Sal => shifted(i, Shift::Shl),
        M::Shr => shifted(i, Shift::Shr),
        M::Sar => shifted(i, Shift::Sar),
        M::Shld => set!(Op::ShiftDouble(false), |c, i, rest| done(shift::double(c, i, false, i.w), c, rest)),
        M::Shrd => set!(Op::ShiftDouble(true), |c, i, rest| done(shift::double(c, i, true, i.w), c, rest)),
        M::Mov => set!(Op::Mov, mov_handler(i.w, form(i), reach(i))),
        M::Movzx | M::Movsx | M::Movsxd => {
            let Some(from) = operand_width(x, 1) else { return false };
            i.w2 = from;
            let signed = x.mnemonic() != M::Movzx;
            set!(
                if signed { Op::Movsx } else { Op::Movzx },
                extend_handler(signed, from, i.w, i.src, reach(i))
            )
        }
        M::Lea => set!(Op::Lea, lea_handler(i)),
        M::Xchg => set!(Op::Xchg, |c, i, rest| done(mov::xchg(c, i, i.w), c, rest)),
        M::Bswap => set!(Op::Bswap, |c, i, rest| done(mov::bswap(c, i, i.w), c, rest)),
        M::Movbe => set!(Op::Movbe, |c, i, rest| done(mov::movbe(c, i, i.w), c, rest)),
        M::Cbw => extend(i, Op::ExtendAcc, Width::W),
        M::Cwde => extend(i, Op::ExtendAcc, Width::D),
        M::Cdqe => extend(i, Op::ExtendAcc, Width::Q),
        M::Cwd => extend(i, Op::ExtendDx, Width::W),
        M::Cdq => extend(i, Op::ExtendDx, Width::D),
        M::Cqo => extend(i, Op::ExtendDx, Width::Q),
        M::Push => {
            i.w = stack_width(x);
            i.src = i.dst;
            i.rs = i.rd;
            set!(Op::Push, push_handler(i))
        }
        M::Pop => {
            i.w = stack_width(x);
            if i.base == reg::RSP {
                i.disp = i.disp.wrapping_add(u64::from(i.w.bytes()));
            }
            set!(Op::Pop, pop_handler(i))
        }
        M::Leave => {
            i.w = match x.code() {
                iced_x86::Code::Leavew => Width::W,
                iced_x86::Code::Leaved => Width::D,
                _ => Width::Q,
            };
            set!(Op::Leave, leave_handler(i))
        }
        M::Mul => set!(Op::Mul, one_source(i, |c, i, rest| done(muldiv::mul::<_, Any>(c, i, i.w), c, rest))),
        M::Div => set!(Op::Div, one_source(i, |c, i, rest| done(muldiv::div(c, i, i.w), c, rest))),
        M::Idiv => set!(Op::Idiv, one_source(i, |c, i, rest| done(muldiv::idiv(c, i, i.w), c, rest))),
        M::Imul if i.src == Opnd::None => {
            set!(
                Op::ImulAcc,
                one_source(i, |c, i, rest| done(muldiv::imul_acc::<_, Any>(c, i, i.w), c, rest))
            )
        }
        M::Imul => set!(Op::Imul, imul_handler(i.w, i.src, reach(i))),
        M::Bt => bit_test(i, BitTest::Bt),
        M::Bts => bit_test(i, BitTest::Bts),
        M::Btr => bit_test(i, BitTest::Btr),
        M::Btc => bit_test(i, BitTest::Btc),
        M::Bsf => bit_scan(i, BitScan::Bsf),
        M::Bsr => bit_scan(i, BitScan::Bsr),
        M::Tzcnt => bit_scan(i, BitScan::Tzcnt),
        M::Lzcnt => bit_scan(i, BitScan::Lzcnt),
        M::Popcnt => bit_scan(i, BitScan::Popcnt),
        // SDM vol. 2, table 2-29: as all that is encoded with VEX, not in real and virtual-8086 mode.
        M::Andn
        | M::Bextr
        | M::Blsi
        | M::Blsmsk
        | M::Blsr
        | M::Bzhi
        | M::Mulx
        | M::Pdep
        | M::Pext
        | M::Rorx
        | M::Sarx
        | M::Shlx
        | M::Shrx
            if !mode.has(Mode::PROTECTED) || mode.has(Mode::VM86) =>
        {
            i.op = Op::Cold;
            i.run = |c, _, rest| done(Err(c.ud()), c, rest);
            true
        }
        M::Andn => bmi(i, Bmi::Andn),
        M::Bextr => bmi(i, Bmi::Bextr),
        M::Blsi => bmi(i, Bmi::Blsi),
        M::Blsmsk => bmi(i, Bmi::Blsmsk),
        M::Blsr => bmi(i, Bmi::Blsr),
        M::Bzhi => bmi(i, Bmi::Bzhi),
        M::Mulx => bmi(i, Bmi::Mulx),
        M::Pdep => bmi(i, Bmi::Pdep),
        M::Pext => bmi(i, Bmi::Pext),
        M::Rorx => bmi(i, Bmi::Rorx),
        M::Sarx => bmi(i, Bmi::Sarx),
        M::Shlx => bmi(i, Bmi::Shlx),
        M::Shrx => bmi(i, Bmi::Shrx),
        M::Adcx => bmi(i, Bmi::Adcx),
        M::Adox => bmi(i, Bmi::Adox),
        M::Crc32 => {
            i.w2 = operand_width(x, 1).unwrap_or(Width::B);
            set!(Op::Crc32, |c, i, rest| done(bits::crc32(c, i), c, rest))
        }
        M::Cmpxchg => set!(Op::Cmpxchg, |c, i, rest| done(alu::cmpxchg(c, i, i.w), c, rest)),
        M::Xadd => set!(Op::Xadd, |c, i, rest| done(alu::xadd(c, i, i.w), c, rest)),
        M::Nop | M::Pause | M::Endbr32 | M::Endbr64 | M::Reservednop => {
            set!(Op::Nop, |c, _, rest| go_on(c, rest))
        }
        M::Prefetchnta
        | M::Prefetcht0
        | M::Prefetcht1
        | M::Prefetcht2
        | M::Prefetchw
        | M::Prefetch
        | M::Prefetchwt1 => {
            // A hint: no access, no fault.
            i.dst = Opnd::None;
            set!(Op::Nop, |c, _, rest| go_on(c, rest))
        }
        M::Clc => set!(Op::Clc, |c, i, rest| done(alu::flag_op(c, i.op), c, rest)),
        M::Stc => set!(Op::Stc, |c, i, rest| done(alu::flag_op(c, i.op), c, rest)),
        M::Cmc => set!(Op::Cmc, |c, i, rest| done(alu::flag_op(c, i.op), c, rest)),
        M::Cld => set!(Op::Cld, |c, i, rest| done(alu::flag_op(c, i.op), c, rest)),
        M::Std => set!(Op::Std, |c, i, rest| done(alu::flag_op(c, i.op), c, rest)),
        M::Lahf => set!(Op::Lahf, |c, i, rest| done(alu::flag_op(c, i.op), c, rest)),
        M::Sahf => set!(Op::Sahf, |c, i, rest| done(alu::flag_op(c, i.op), c, rest)),
        M::Lfence => set!(Op::Fence(Fence::Loads), |c, _, rest| fence(c, Fence::Loads, rest)),
        M::Sfence => set!(Op::Fence(Fence::Stores), |c, _, rest| fence(c, Fence::Stores, rest)),
        M::Mfence => set!(Op::Fence(Fence::All), |c, _, rest| fence(c, Fence::All, rest)),
        _ => set_or_move(x, i),
    }
}

fn fence(cpu: &mut Vcpu, what: Fence, rest: Rest<'_>) -> usize {
    cpu.fence(what);
    go_on(cpu, rest)
}

/// SETcc and CMOVcc, whose mnemonics are one per condition.
fn set_or_move(x: &Instruction, i: &mut Insn) -> bool {
    let Some(c) = condition(x) else { return false };
    if i.src == Opnd::None {
        i.op = Op::Setcc(c);
        i.run = setcc_handler(c, i.dst);
    } else if matches!(i.dst, Opnd::Gpr(_)) {
        i.op = Op::Cmov(c);
        i.run = cmov_handler(c, i.w);
    } else {
        return false;
    }
    true
}

/// Where RIP wraps as it goes on from instruction to instruction. EIP has 32 bits in 16-bit code as well: only branches truncate
/// it, and what runs on behind FFFFh meets the limit of its segment. (The first processors' IP has 16 bits.)
pub fn ip_mask(mode: Mode) -> u64 {
    if mode.has(Mode::CODE64) {
        u64::MAX
    } else if mode.has(Mode::IP16) {
        0xffff
    } else {
        0xffff_ffff
    }
}

fn branch(x: &Instruction, i: &mut Insn, mask: u64) -> bool {
    use iced_x86::Code as C;
    let next = x.next_ip() & mask;
    let near = matches!(x.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64);
    if near && x.op_count() > 0 {
        // With an operand size of 32 bits, 16-bit code may name a target that its segment does not have.
        i.imm =
            x.near_branch_target() & if x.op0_kind() == OpKind::NearBranch32 { 0xffff_ffff } else { mask };
        i.disp = next;
        i.ends = true;
        i.dst = Opnd::None;
        i.aw = counter_width(x);
        match x.mnemonic() {
            Mnemonic::Jmp => set(i, Op::Jmp, |c, i, rest| done(flow::jmp(c, i), c, rest)),
            Mnemonic::Call => {
                i.w = stack_width(x);
                set(i, Op::Call, call_handler(i));
            }
            Mnemonic::Loop => set(i, Op::Loop(0), |c, i, rest| done(flow::loop_(c, i, 0), c, rest)),
            Mnemonic::Loope => set(i, Op::Loop(1), |c, i, rest| done(flow::loop_(c, i, 1), c, rest)),
            Mnemonic::Loopne => set(i, Op::Loop(2), |c, i, rest| done(flow::loop_(c, i, 2), c, rest)),
            Mnemonic::Jcxz | Mnemonic::Jecxz | Mnemonic::Jrcxz => {
                i.aw = match x.mnemonic() {
                    Mnemonic::Jcxz => Width::W,
                    Mnemonic::Jecxz => Width::D,
                    _ => Width::Q,
                };
                set(i, Op::Jcxz, |c, i, rest| done(flow::jcxz(c, i), c, rest));
            }
            _ => {
                let Some(c) = condition(x) else { return false };
                i.op = Op::Jcc(c);
                i.run = jcc_handler(c);
            }
        }
        return true;
    }
    if x.is_jmp_near_indirect() || x.is_call_near_indirect() {
        i.w = operand_width(x, 0).unwrap_or(Width::Q);
        (i.src, i.rs, i.dst) = (i.dst, i.rd, Opnd::None);
        i.imm = next;
        i.ends = true;
        (i.op, i.run) = if x.is_jmp_near_indirect() {
            (Op::JmpInd, (|c, i, rest| done(flow::jmp_ind::<_, Any>(c, i), c, rest)) as Handler)
        } else {
            (Op::CallInd, (|c, i, rest| done(flow::call_ind::<_, AnyStack, Any>(c, i), c, rest)) as Handler)
        };
        return true;
    }
    let w = match x.code() {
        C::Retnw | C::Retnw_imm16 => Width::W,
        C::Retnd | C::Retnd_imm16 => Width::D,
        C::Retnq | C::Retnq_imm16 => Width::Q,
        _ => return false,
    };
    i.w = w;
    i.imm = if x.op_count() > 0 { u64::from(x.immediate16()) } else { 0 };
    i.dst = Opnd::None;
    i.ends = true;
    set(i, Op::Ret, ret_handler(i));
    true
}

fn set(i: &mut Insn, op: Op, run: Handler) {
    (i.op, i.run) = (op, run);
}

fn string_op(x: &Instruction, i: &mut Insn) -> bool {
    use Mnemonic as M;
    let (s, w) = match x.mnemonic() {
        M::Movsb => (Str::Movs, Width::B),
        M::Movsw => (Str::Movs, Width::W),
        M::Movsd => (Str::Movs, Width::D),
        M::Movsq => (Str::Movs, Width::Q),
        M::Stosb => (Str::Stos, Width::B),
        M::Stosw => (Str::Stos, Width::W),
        M::Stosd => (Str::Stos, Width::D),
        M::Stosq => (Str::Stos, Width::Q),
        M::Lodsb => (Str::Lods, Width::B),
        M::Lodsw => (Str::Lods, Width::W),
        M::Lodsd => (Str::Lods, Width::D),
        M::Lodsq => (Str::Lods, Width::Q),
        M::Scasb => (Str::Scas, Width::B),
        M::Scasw => (Str::Scas, Width::W),
        M::Scasd => (Str::Scas, Width::D),
        M::Scasq => (Str::Scas, Width::Q),
        M::Cmpsb => (Str::Cmps, Width::B),
        M::Cmpsw => (Str::Cmps, Width::W),
        M::Cmpsd => (Str::Cmps, Width::D),
        M::Cmpsq => (Str::Cmps, Width::Q),
        M::Insb => (Str::Ins, Width::B),
        M::Insw => (Str::Ins, Width::W),
        M::Insd => (Str::Ins, Width::D),
        M::Outsb => (Str::Outs, Width::B),
        M::Outsw => (Str::Outs, Width::W),
        M::Outsd => (Str::Outs, Width::D),
        _ => return false,
    };
    // Address size: from whichever index register the operands use.
    i.aw = match (0..x.op_count()).map(|n| x.op_kind(n)).find_map(|k| match k {
        OpKind::MemorySegSI | OpKind::MemoryESDI => Some(Width::W),
        OpKind::MemorySegESI | OpKind::MemoryESEDI => Some(Width::D),
        OpKind::MemorySegRSI | OpKind::MemoryESRDI => Some(Width::Q),
        _ => None,
    }) {
        Some(w) => w,
        None => return false,
    };
    i.seg = crate::decode::segment(x.memory_segment());
    i.w = w;
    i.op = Op::Str(s);
    i.ends = x.has_rep_prefix() || x.has_repne_prefix() || matches!(s, Str::Ins | Str::Outs);
    (i.dst, i.src, i.src2) = (Opnd::None, Opnd::None, Opnd::None);
    i.run = string::handler(s, w, i.ends);
    true
}

fn arith(i: &mut Insn, op: Alu) -> bool {
    // TEST and XCHG list a memory operand first, whatever the assembler's order was.
    i.op = Op::Alu(op);
    i.run = alu_handler(op, i.w, form(i), reach(i));
    true
}

fn one_operand(i: &mut Insn, op: Unary) -> bool {
    i.op = Op::Unary(op);
    i.run = unary_handler(op, i.w, i.dst);
    true
}

fn shifted(i: &mut Insn, op: Shift) -> bool {
    i.op = Op::Shift(op);
    i.run = shift_handler(op, i.w, i.dst);
    true
}

fn extend(i: &mut Insn, op: Op, w: Width) -> bool {
    (i.op, i.w) = (op, w);
    i.run = if op == Op::ExtendAcc {
        |c, i, rest| done(mov::extend_acc(c, i.w), c, rest)
    } else {
        |c, i, rest| done(mov::extend_dx(c, i.w), c, rest)
    };
    true
}

/// MUL and DIV name their explicit operand first; to us it is the source.
fn one_source(i: &mut Insn, run: Handler) -> Handler {
    (i.src, i.rs, i.dst) = (i.dst, i.rd, Opnd::None);
    run
}

fn bit_test(i: &mut Insn, op: BitTest) -> bool {
    i.op = Op::BitTest(op);
    i.run = match op {
        BitTest::Bt => |c, i, rest| done(bits::bit_test(c, i, BitTest::Bt, i.w), c, rest),
        BitTest::Bts => |c, i, rest| done(bits::bit_test(c, i, BitTest::Bts, i.w), c, rest),
        BitTest::Btr => |c, i, rest| done(bits::bit_test(c, i, BitTest::Btr, i.w), c, rest),
        BitTest::Btc => |c, i, rest| done(bits::bit_test(c, i, BitTest::Btc, i.w), c, rest),
    };
    true
}

fn bit_scan(i: &mut Insn, op: BitScan) -> bool {
    i.op = Op::BitScan(op);
    i.run = match op {
        BitScan::Bsf => |c, i, rest| done(bits::scan::<_, Any>(c, i, BitScan::Bsf, i.w), c, rest),
        BitScan::Bsr => |c, i, rest| done(bits::scan::<_, Any>(c, i, BitScan::Bsr, i.w), c, rest),
        BitScan::Tzcnt => |c, i, rest| done(bits::scan::<_, Any>(c, i, BitScan::Tzcnt, i.w), c, rest),
        BitScan::Lzcnt => |c, i, rest| done(bits::scan::<_, Any>(c, i, BitScan::Lzcnt, i.w), c, rest),
        BitScan::Popcnt => |c, i, rest| done(bits::scan::<_, Any>(c, i, BitScan::Popcnt, i.w), c, rest),
    };
    true
}

fn bmi(i: &mut Insn, op: Bmi) -> bool {
    i.op = Op::Bmi(op);
    i.run = |c, i, rest| {
        let Op::Bmi(op) = i.op else { return done(Err(c.unimplemented(i)), c, rest) };
        done(bits::bmi(c, i, op, i.w), c, rest)
    };
    true
}
