//! Loads, stores, arithmetic and comparisons; what an instruction is.

use cranelift_codegen::entity::EntityRef;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, Endianness, Function, Inst, InstructionData, Opcode, Type, Value};

use super::Quick;
use super::asm::{Alu, IMUL_WIDE, MUL, NEG, NOT, RAX, RCX, RDX, Reg, Rm, Shift, Size, op};
use super::live::NEVER;

/// Of a value in memory or a register.
fn size(t: Type) -> Option<Size> {
    if !t.is_int() {
        return None;
    }
    match t.bits() {
        8 => Some(Size::B),
        16 => Some(Size::W),
        32 => Some(Size::D),
        64 => Some(Size::Q),
        _ => None,
    }
}

/// Of arithmetic on it: what is above it does not matter.
pub(super) fn wide(s: Size) -> Size {
    if s == Size::Q { Size::Q } else { Size::D }
}

fn bits(s: Size) -> u32 {
    match s {
        Size::B => 8,
        Size::W => 16,
        Size::D => 32,
        Size::Q => 64,
    }
}

/// A constant of this size, zero-extended.
fn unsigned(s: Size, c: i64) -> i64 {
    if s == Size::Q { c } else { c & ((1 << bits(s)) - 1) }
}

/// Sign-extended.
pub(super) fn signed(s: Size, c: i64) -> i64 {
    let above = 64 - bits(s);
    c << above >> above
}

/// The condition's number in Jcc, SETcc and CMOVcc.
fn condition(cc: IntCC) -> u8 {
    match cc {
        IntCC::UnsignedLessThan => 0x2,
        IntCC::UnsignedGreaterThanOrEqual => 0x3,
        IntCC::Equal => 0x4,
        IntCC::NotEqual => 0x5,
        IntCC::UnsignedLessThanOrEqual => 0x6,
        IntCC::UnsignedGreaterThan => 0x7,
        IntCC::SignedLessThan => 0xc,
        IntCC::SignedGreaterThanOrEqual => 0xd,
        IntCC::SignedLessThanOrEqual => 0xe,
        IntCC::SignedGreaterThan => 0xf,
    }
}

/// The condition after a comparison.
pub(super) const NOT_ZERO: u8 = 0x5;

impl Quick {
    pub(super) fn size_of(&self, func: &Function, v: Value) -> Option<Size> {
        size(func.dfg.value_type(v))
    }

    pub(super) fn constant(&self, v: Value) -> Option<i64> {
        self.constants[v.index()]
    }

    /// Compiles `inst`. `following`: the instruction after it; `next`: the block whose code will be after this one's.
    pub(super) fn instruction(
        &mut self,
        func: &Function,
        inst: Inst,
        following: Option<Inst>,
        next: Option<Block>,
    ) -> Option<()> {
        let data = &func.dfg.insts[inst];
        let result = func.dfg.inst_results(inst).first().copied();
        let unused = result.is_some_and(|r| self.live.last[r.index()] == NEVER);
        match *data {
            InstructionData::UnaryImm { opcode: Opcode::Iconst, imm } => {
                let v = result?;
                self.constants[v.index()] = Some(unsigned(self.size_of(func, v)?, imm.bits()));
                self.clean[v.index()] = true;
                Some(())
            }
            InstructionData::Load { .. }
            | InstructionData::Unary { .. }
            | InstructionData::Binary { .. }
            | InstructionData::IntCompare { .. }
            | InstructionData::Ternary { .. }
                if unused =>
            {
                // None of ours traps.
                self.compared = None;
                Some(())
            }
            InstructionData::Load { opcode: Opcode::Load, arg, offset, flags } => {
                self.little(func, flags)?;
                let v = result?;
                let s = self.size_of(func, v)?;
                let base = self.input(arg, RAX)?;
                let reg = self.output(v, &[arg])?;
                self.asm.load(s, reg, Rm::M(base, offset.into()));
                self.clean[v.index()] = true;
                Some(())
            }
            InstructionData::Store { opcode: Opcode::Store, args: [v, to], offset, flags } => {
                self.little(func, flags)?;
                let s = self.size_of(func, v)?;
                let base = self.input(to, RCX)?;
                let to = Rm::M(base, offset.into());
                let imm = self.constant(v).and_then(|c| i32::try_from(signed(s, c)).ok());
                if let Some(imm) = imm {
                    self.asm.store_imm(s, imm, to);
                } else {
                    let reg = self.input(v, RAX)?;
                    self.asm.store(s, reg, to);
                }
                Some(())
            }
            InstructionData::Unary { opcode, arg } => self.unary(func, opcode, result?, arg),
            InstructionData::Binary { opcode, args } => self.binary(func, opcode, result?, args),
            InstructionData::IntCompare { opcode: Opcode::Icmp, cond, args } => {
                let v = result?;
                if self.live.last[v.index()] == self.now + 1 && following.is_some_and(|f| asks(func, f, v)) {
                    self.compared = Some(inst);
                    return Some(());
                }
                let cc = self.compare(func, cond, args)?;
                self.asm.set(cc, RAX);
                let reg = self.output(v, &args)?;
                self.asm.rm(Size::D, op::MOVZX_B, reg, Rm::R(RAX));
                self.clean[v.index()] = true;
                Some(())
            }
            InstructionData::Ternary { opcode: Opcode::Select, args: [c, yes, no] } => {
                let v = result?;
                let s = wide(self.size_of(func, v)?);
                // What comes after it leaves the flags alone.
                let cc = self.truth(func, c)?;
                let yes_in = self.input(yes, RCX)?;
                let reg = self.copy(v, no, s)?;
                self.asm.cmov(s, cc, reg, yes_in);
                self.clean[v.index()] = self.clean[yes.index()] && self.clean[no.index()]
                    || s == Size::D && bits_of(func, v) == 32;
                self.after_comparison(func);
                Some(())
            }
            InstructionData::Jump { destination, .. } => {
                self.arrive(func, destination, false)?;
                self.go(destination.block(&func.dfg.value_lists), next);
                Some(())
            }
            InstructionData::Brif { arg, blocks, .. } => self.branch(func, arg, blocks, next),
            InstructionData::MultiAry { opcode: Opcode::Return, .. } => {
                self.take_frame_down();
                self.asm.ret();
                Some(())
            }
            InstructionData::Call { opcode: Opcode::ReturnCall, func_ref, .. } => {
                self.tail_call(func, inst, func_ref)
            }
            InstructionData::CallIndirect { opcode, sig_ref, .. } => {
                let args = func.dfg.inst_args(inst);
                let conv = func.dfg.signatures[sig_ref].call_conv;
                self.call(func, opcode, conv, args, (result, following))
            }
            InstructionData::AtomicCas { args, flags, .. } => {
                self.little(func, flags)?;
                self.compare_and_swap(func, result?, args)
            }
            InstructionData::AtomicRmw { args, op, flags, .. } => {
                self.little(func, flags)?;
                self.atomic(func, result?, op, args)
            }
            InstructionData::NullAry { opcode: Opcode::Fence } => {
                self.asm.mfence();
                Some(())
            }
            _ => None,
        }
    }

    fn little(&self, func: &Function, flags: cranelift_codegen::ir::MemFlags) -> Option<()> {
        let flags = func.dfg.mem_flags[flags];
        (flags.explicit_endianness() != Some(Endianness::Big)).then_some(())
    }

    fn unary(&mut self, func: &Function, opcode: Opcode, v: Value, arg: Value) -> Option<()> {
        let (to, from) = (self.size_of(func, v)?, self.size_of(func, arg)?);
        if let (Some(c), Opcode::Uextend | Opcode::Ireduce | Opcode::Sextend) = (self.constant(arg), opcode) {
            let c = if opcode == Opcode::Sextend { signed(from, c) } else { c };
            self.constants[v.index()] = Some(unsigned(to, c));
            self.clean[v.index()] = true;
            return Some(());
        }
        let mut clean = to == Size::D || to == Size::Q;
        match opcode {
            Opcode::Ireduce => {
                let dies = self.live.last[arg.index()] <= self.now;
                self.copy(v, arg, wide(to))?;
                clean = to == Size::D && !dies;
            }
            Opcode::Uextend if self.clean[arg.index()] => {
                self.copy(v, arg, Size::D)?;
                clean = true;
            }
            Opcode::Uextend => {
                let a = self.input(arg, RAX)?;
                let reg = self.output(v, &[arg])?;
                match from {
                    Size::B => self.asm.rm(Size::D, op::MOVZX_B, reg, Rm::R(a)),
                    Size::W => self.asm.rm(Size::D, op::MOVZX_W, reg, Rm::R(a)),
                    _ => self.asm.mov(Size::D, reg, a),
                }
                clean = true;
            }
            Opcode::Sextend => {
                let a = self.input(arg, RAX)?;
                let reg = self.output(v, &[arg])?;
                match from {
                    Size::B => self.asm.rm(wide(to), op::MOVSX_B, reg, Rm::R(a)),
                    Size::W => self.asm.rm(wide(to), op::MOVSX_W, reg, Rm::R(a)),
                    _ => self.asm.rm(Size::Q, op::MOVSXD, reg, Rm::R(a)),
                }
            }
            Opcode::Bnot | Opcode::Ineg => {
                let reg = self.copy(v, arg, wide(to))?;
                self.asm.group3(wide(to), if opcode == Opcode::Bnot { NOT } else { NEG }, reg);
            }
            Opcode::Bswap if to == wide(to) => {
                let reg = self.copy(v, arg, to)?;
                self.asm.bswap(to, reg);
            }
            Opcode::Popcnt if self.features.popcnt => self.count(func, op::POPCNT, v, arg)?,
            Opcode::Clz if self.features.lzcnt && to == wide(to) => self.count(func, op::LZCNT, v, arg)?,
            Opcode::Ctz if self.features.bmi1 && to == wide(to) => self.count(func, op::TZCNT, v, arg)?,
            _ => return None,
        }
        self.clean[v.index()] = clean;
        Some(())
    }

    fn count(&mut self, func: &Function, opcode: u32, v: Value, arg: Value) -> Option<()> {
        let s = self.size_of(func, arg)?;
        let mut a = self.input(arg, RAX)?;
        if s != wide(s) {
            self.zero_extend(s, RAX, a);
            a = RAX;
        }
        let reg = self.output(v, &[arg])?;
        self.asm.counting(wide(s), opcode, reg, Rm::R(a));
        Some(())
    }

    fn zero_extend(&mut self, s: Size, to: Reg, from: Reg) {
        match s {
            Size::B => self.asm.rm(Size::D, op::MOVZX_B, to, Rm::R(from)),
            Size::W => self.asm.rm(Size::D, op::MOVZX_W, to, Rm::R(from)),
            s => self.asm.mov(s, to, from),
        }
    }

    fn binary(&mut self, func: &Function, opcode: Opcode, v: Value, [a, b]: [Value; 2]) -> Option<()> {
        let s = self.size_of(func, v)?;
        let w = wide(s);
        self.clean[v.index()] = s == w;
        match opcode {
            Opcode::Iadd => self.add(s, v, a, b),
            Opcode::Isub => self.arithmetic(Alu::Sub, s, v, a, b),
            Opcode::Band => {
                self.clean[v.index()] |=
                    self.constant(b).is_some() || self.clean[a.index()] || self.clean[b.index()];
                self.arithmetic(Alu::And, s, v, a, b)
            }
            Opcode::Bor | Opcode::Bxor => {
                self.clean[v.index()] |= self.clean[a.index()] && self.clean[b.index()];
                self.arithmetic(if opcode == Opcode::Bor { Alu::Or } else { Alu::Xor }, s, v, a, b)
            }
            Opcode::Imul => {
                if let Some(imm) = self.constant(b).and_then(|c| i32::try_from(signed(s, c)).ok()) {
                    let ra = self.input(a, RAX)?;
                    let reg = self.output(v, &[a])?;
                    self.asm.imul_imm(w, reg, ra, imm);
                    return Some(());
                }
                let rb = self.input(b, RAX)?;
                let reg = self.copy(v, a, w)?;
                self.asm.rm(w, op::IMUL, reg, Rm::R(rb));
                Some(())
            }
            Opcode::Umulhi | Opcode::Smulhi if s == Size::Q => {
                let rb = self.input(b, RCX)?;
                self.input_into(a, RAX)?;
                self.asm.group3(Size::Q, if opcode == Opcode::Umulhi { MUL } else { IMUL_WIDE }, rb);
                let reg = self.output(v, &[a, b])?;
                self.asm.mov(Size::Q, reg, RDX);
                Some(())
            }
            Opcode::Ishl => self.shift(func, Shift::Shl, s, v, a, b),
            Opcode::Ushr => self.shift(func, Shift::Shr, s, v, a, b),
            Opcode::Sshr => self.shift(func, Shift::Sar, s, v, a, b),
            Opcode::Rotl => self.shift(func, Shift::Rol, s, v, a, b),
            Opcode::Rotr => self.shift(func, Shift::Ror, s, v, a, b),
            _ => None,
        }
    }

    fn add(&mut self, s: Size, v: Value, a: Value, b: Value) -> Option<()> {
        let w = wide(s);
        let (a, b) = if self.constant(a).is_some() { (b, a) } else { (a, b) };
        if self.live.last[a.index()] <= self.now && self.constant(a).is_none() {
            return self.arithmetic(Alu::Add, s, v, a, b);
        }
        let imm = self.constant(b).map(|c| i32::try_from(signed(s, c)));
        match imm {
            Some(Ok(imm)) => {
                let ra = self.input(a, RAX)?;
                let reg = self.output(v, &[a])?;
                self.asm.rm(w, op::LEA, reg, Rm::M(ra, imm));
                Some(())
            }
            Some(Err(_)) => self.arithmetic(Alu::Add, s, v, a, b),
            None => {
                let (ra, rb) = (self.input(a, RAX)?, self.input(b, RCX)?);
                let reg = self.output(v, &[a, b])?;
                self.asm.lea_sum(w, reg, ra, rb);
                Some(())
            }
        }
    }

    fn arithmetic(&mut self, alu: Alu, s: Size, v: Value, mut a: Value, mut b: Value) -> Option<()> {
        let w = wide(s);
        let dies = |q: &Self, x: Value| q.live.last[x.index()] <= q.now && q.constant(x).is_none();
        if alu != Alu::Sub && (self.constant(a).is_some() || !dies(self, a) && dies(self, b)) {
            (a, b) = (b, a);
        }
        let imm = self.constant(b).and_then(|c| {
            // What is above the width does not matter, but keeps the result clean.
            let (c, s) = (unsigned(s, c), if s == Size::Q { Size::Q } else { Size::D });
            match (alu, u32::try_from(c)) {
                (Alu::And, Ok(c)) => Some((Size::D, c as i32)),
                _ => i32::try_from(signed(s, c)).ok().map(|c| (w, c)),
            }
        });
        if let Some((s, imm)) = imm {
            let reg = self.copy(v, a, w)?;
            self.asm.alu_imm(s, alu, Rm::R(reg), imm);
            return Some(());
        }
        let rb = self.input(b, RAX)?;
        let reg = self.copy(v, a, w)?;
        self.asm.alu(w, alu, reg, Rm::R(rb));
        Some(())
    }

    fn shift(&mut self, func: &Function, shift: Shift, s: Size, v: Value, a: Value, n: Value) -> Option<()> {
        let narrow = s != wide(s);
        let rotates = matches!(shift, Shift::Rol | Shift::Ror);
        let by = self.constant(n).map(|c| c as u8 & (bits(s) - 1) as u8);
        if by.is_none() {
            self.input_into(n, RCX)?;
            self.size_of(func, n)?;
            if narrow && !rotates {
                self.asm.alu_imm(Size::D, Alu::And, Rm::R(RCX), (bits(s) - 1) as i32);
            }
        }
        let reg = self.copy(v, a, wide(s))?;
        if narrow && !(shift == Shift::Shr && self.clean[a.index()]) {
            match (shift, s) {
                (Shift::Shr, _) => self.zero_extend(s, reg, reg),
                (Shift::Sar, Size::B) => self.asm.rm(Size::D, op::MOVSX_B, reg, Rm::R(reg)),
                (Shift::Sar, _) => self.asm.rm(Size::D, op::MOVSX_W, reg, Rm::R(reg)),
                _ => {}
            }
        }
        let at = if rotates { s } else { wide(s) };
        match by {
            Some(by) => self.asm.shift_imm(at, shift, reg, by),
            None => self.asm.shift_cl(at, shift, reg),
        }
        self.clean[v.index()] |= shift == Shift::Shr;
        Some(())
    }

    /// Compares; the condition's number.
    fn compare(&mut self, func: &Function, cc: IntCC, [a, b]: [Value; 2]) -> Option<u8> {
        let s = self.size_of(func, a)?;
        let ra = self.input(a, RAX)?;
        match self.constant(b).map(|c| i32::try_from(signed(s, c))) {
            Some(Ok(0)) => self.asm.sized(s, op::TEST, ra, Rm::R(ra)),
            Some(Ok(imm)) => self.asm.alu_imm(s, Alu::Cmp, Rm::R(ra), imm),
            _ => {
                let rb = self.input(b, RCX)?;
                self.asm.alu(s, Alu::Cmp, ra, Rm::R(rb));
            }
        }
        Some(condition(cc))
    }

    /// Flags for a condition; its number.
    pub(super) fn truth(&mut self, func: &Function, c: Value) -> Option<u8> {
        if let Some(inst) = self.compared {
            let InstructionData::IntCompare { cond, args, .. } = func.dfg.insts[inst] else { return None };
            return self.compare(func, cond, args);
        }
        let s = self.size_of(func, c)?;
        let reg = self.input(c, RAX)?;
        self.asm.sized(s, op::TEST, reg, Rm::R(reg));
        Some(NOT_ZERO)
    }

    /// What a comparison that became flags used may be free now.
    pub(super) fn after_comparison(&mut self, func: &Function) {
        if let Some(inst) = self.compared.take() {
            for v in func.dfg.inst_args(inst) {
                self.release(*v);
            }
        }
    }
}

fn bits_of(func: &Function, v: Value) -> u32 {
    func.dfg.value_type(v).bits()
}

/// Does `inst` branch or select on `v`, and use it for nothing else?
fn asks(func: &Function, inst: Inst, v: Value) -> bool {
    let condition = match func.dfg.insts[inst] {
        InstructionData::Brif { arg, .. } => arg,
        InstructionData::Ternary { opcode: Opcode::Select, args: [c, ..] } => c,
        _ => return false,
    };
    condition == v && func.dfg.inst_values(inst).filter(|x| *x == v).count() == 1
}
