//! Executes an instruction on the host, from a [`Block`]; which forms of it there are, and with what values to try them.

use iced_x86::code_asm::{
    CodeAssembler, dword_ptr, qword_ptr, r12, r13, r14, r15, rax, rbp, rbx, rcx, rdi, rdx, rsi, rsp,
};
use iced_x86::{Code, Encoder, Instruction, MemoryOperand, OpCodeOperandKind as Kind, Register};
use memmap2::{Mmap, MmapMut};

use crate::host::{ARITH, Block, CODE, FLAGS, GPR, OPERAND};

/// Host code around one instruction.
pub struct HostCode {
    map: Mmap,
}

impl HostCode {
    pub fn new(bytes: &[u8]) -> Self {
        let mut a = CodeAssembler::new(64).unwrap();
        let saved = [rbx, rbp, r12, r13, r14, r15];
        let gprs = [rax, rcx, rdx, rbx, rsi, rdi];
        for r in saved {
            a.push(r).unwrap();
        }
        a.mov(r15, rdi).unwrap();
        a.fxrstor64(r15 + 0).unwrap();
        a.push(qword_ptr(r15 + FLAGS as i32)).unwrap();
        a.popfq().unwrap();
        for (k, r) in gprs.into_iter().enumerate() {
            a.mov(r, r15 + (GPR + 8 * k) as i32).unwrap();
        }
        a.db(bytes).unwrap();
        for (k, r) in gprs.into_iter().enumerate() {
            a.mov(r15 + (GPR + 8 * k) as i32, r).unwrap();
        }
        a.pushfq().unwrap();
        a.pop(qword_ptr(r15 + FLAGS as i32)).unwrap();
        a.fxsave64(r15 + 0).unwrap();
        a.fninit().unwrap();
        a.push(0x1f80).unwrap();
        a.ldmxcsr(dword_ptr(rsp)).unwrap();
        a.pop(rax).unwrap();
        for r in saved.into_iter().rev() {
            a.pop(r).unwrap();
        }
        a.ret().unwrap();
        let code = a.assemble(0).unwrap();
        let mut map = MmapMut::map_anon(4096).unwrap();
        map[..code.len()].copy_from_slice(&code);
        Self { map: map.make_exec().unwrap() }
    }

    pub fn run(&self, b: &mut Block) {
        // SAFETY: the code in the map follows the C calling convention: it saves what the convention asks for, touches only
        // the block, and leaves the x87 unit and MXCSR in their default state. The block is aligned for FXSAVE.
        unsafe {
            let f: extern "sysv64" fn(*mut Block) = std::mem::transmute(self.map.as_ptr());
            f(b);
        }
        b.flags &= ARITH;
    }
}

/// The encoded forms of `code` that the harness can run: registers and memory, and immediates from `imms`.
pub fn forms(code: Code, imms: &[u8]) -> Vec<(Instruction, Vec<u8>)> {
    let info = code.op_code();
    let mut all = Vec::new();
    let has_mem = info.op_kinds().iter().any(|k| {
        matches!(k, Kind::mem | Kind::r32_or_mem | Kind::r64_or_mem | Kind::mm_or_mem | Kind::xmm_or_mem)
    });
    let only_mem = info.op_kinds().contains(&Kind::mem);
    let has_imm = info.op_kinds().contains(&Kind::imm8);
    for memory in [false, true] {
        if memory && !has_mem || !memory && only_mem {
            continue;
        }
        for &imm in if has_imm { imms } else { &imms[..1] } {
            let mut x = Instruction::new();
            x.set_code(code);
            let mut ok = true;
            let mut gprs = [Register::RCX, Register::RDX].into_iter();
            for (n, k) in info.op_kinds().iter().enumerate() {
                let mut reg = |r: Register| {
                    x.set_op_kind(n as u32, iced_x86::OpKind::Register);
                    x.set_op_register(n as u32, r);
                };
                let narrow = |r: Register| if r == Register::RCX { Register::ECX } else { Register::EDX };
                match k {
                    Kind::r32_reg | Kind::r32_rm => reg(narrow(gprs.next().unwrap())),
                    Kind::r64_reg | Kind::r64_rm => reg(gprs.next().unwrap()),
                    Kind::r32_or_mem if !memory => reg(narrow(gprs.next().unwrap())),
                    Kind::r64_or_mem if !memory => reg(gprs.next().unwrap()),
                    Kind::xmm_reg => reg(Register::XMM1),
                    Kind::xmm_rm => reg(Register::XMM2),
                    Kind::xmm_or_mem if !memory => reg(Register::XMM2),
                    Kind::mm_reg => reg(Register::MM1),
                    Kind::mm_rm => reg(Register::MM2),
                    Kind::mm_or_mem if !memory => reg(Register::MM2),
                    Kind::ax => reg(Register::AX),
                    Kind::st0 => reg(Register::ST0),
                    Kind::sti_opcode => reg(Register::ST2),
                    Kind::imm8 => {
                        x.set_op_kind(n as u32, iced_x86::OpKind::Immediate8);
                        x.set_immediate8(imm);
                    }
                    Kind::mem | Kind::r32_or_mem | Kind::r64_or_mem | Kind::mm_or_mem | Kind::xmm_or_mem => {
                        let m = MemoryOperand::with_base_displ(Register::R15, OPERAND as i64);
                        x.set_op_kind(n as u32, iced_x86::OpKind::Memory);
                        x.set_memory_base(m.base);
                        x.set_memory_displacement64(m.displacement as u64);
                        x.set_memory_displ_size(4);
                    }
                    _ => ok = false,
                }
            }
            if !ok {
                continue;
            }
            let mut e = Encoder::new(64);
            if e.encode(&x, CODE).is_ok() {
                all.push((x, e.take_buffer()));
            }
        }
    }
    all
}

/// A small deterministic generator.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
    /// A double that is likely to be a special one.
    pub fn f64(&mut self) -> u64 {
        const EDGES: &[u64] = &[
            0,
            1 << 63,
            1,
            0x8000_0000_0000_0001,
            0x000f_ffff_ffff_ffff,
            0x0010_0000_0000_0000,
            0x3ff0_0000_0000_0000,
            0xbff0_0000_0000_0000,
            0x7fef_ffff_ffff_ffff,
            0x7ff0_0000_0000_0000,
            0xfff0_0000_0000_0000,
            0x7ff8_0000_0000_0000,
            0xfff8_0000_0000_0000,
            0x7ff0_0000_0000_0001,
            0xfff4_0000_0000_1234,
            0x7ff8_0000_dead_beef,
            0x41df_ffff_ffc0_0000,
            0xc1e0_0000_0000_0000,
            0x43e0_0000_0000_0000,
            0xc3e0_0000_0000_0000,
            0x3fe0_0000_0000_0000,
            0x3ff8_0000_0000_0000,
            0x4008_0000_0000_0000,
            0x380f_ffff_ffff_ffff,
            0x3690_0000_0000_0000,
            0x47ef_ffff_f000_0000,
            0x3ca0_0000_0000_0000,
        ];
        match self.below(4) {
            0 | 1 => self.pick(EDGES),
            2 => self.next(),
            // Near one: results round.
            _ => {
                self.next() >> 12
                    | (0x3f0 + self.below(0x1e)) << 56 & 0x7ff0_0000_0000_0000
                    | self.next() << 63
            }
        }
    }
    /// A single that is likely to be a special one.
    pub fn f32(&mut self) -> u32 {
        const EDGES: &[u32] = &[
            0,
            1 << 31,
            1,
            0x8000_0001,
            0x007f_ffff,
            0x0080_0000,
            0x3f80_0000,
            0xbf80_0000,
            0x7f7f_ffff,
            0x7f80_0000,
            0xff80_0000,
            0x7fc0_0000,
            0xffc0_0000,
            0x7f80_0001,
            0xffa0_1234,
            0x7fc0_beef,
            0x4eff_ffff,
            0xcf00_0000,
            0x4f00_0000,
            0x5f00_0000,
            0xdf00_0000,
            0x3f00_0000,
            0x3fc0_0000,
            0x4040_0000,
            0x3400_0000,
        ];
        match self.below(4) {
            0 | 1 => self.pick(EDGES),
            2 => self.next() as u32,
            _ => self.next() as u32 & 0x807f_ffff | (0x70 + self.below(0x20) as u32) << 23,
        }
    }
    /// 128 bits for any kind of lanes.
    pub fn vector(&mut self) -> u128 {
        let mut v = 0u128;
        match self.below(6) {
            0 | 1 => v = u128::from(self.f64()) | u128::from(self.f64()) << 64,
            2 | 3 => {
                for k in 0..4 {
                    v |= u128::from(self.f32()) << (32 * k);
                }
            }
            4 => {
                for k in 0..8 {
                    v |= u128::from(
                        self.pick(&[0u16, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x0100, 0xff80]),
                    ) << (16 * k);
                }
            }
            _ => v = u128::from(self.next()) | u128::from(self.next()) << 64,
        }
        v
    }
    /// An x87 register.
    pub fn f80(&mut self) -> [u8; 10] {
        const EXPONENTS: &[u16] = &[
            0, 1, 0x3fff, 0x4000, 0x3ffe, 0x3fc0, 0x403e, 0x401e, 0x7ffe, 0x7fff, 0x3c01, 0x43fe, 0x3f81,
            0x407e,
        ];
        const MANTISSAS: &[u64] = &[
            0,
            1,
            1 << 63,
            1 << 63 | 1,
            !0,
            0xc000_0000_0000_0000,
            0xa000_0000_0000_0000,
            0x7fff_ffff_ffff_ffff,
            0xffff_ffff_ffff_f800,
            0xffff_ff00_0000_0000,
            0xffff_ffff_ffff_fc00,
            0x8000_0080_0000_0000,
        ];
        let e = if self.below(3) == 0 { self.next() as u16 & 0x7fff } else { self.pick(EXPONENTS) };
        let mut m = if self.below(3) == 0 { self.next() } else { self.pick(MANTISSAS) };
        if e != 0 && self.below(16) != 0 {
            m |= 1 << 63;
        }
        let mut v = [0; 10];
        v[..8].copy_from_slice(&m.to_le_bytes());
        v[8..].copy_from_slice(&(e | (self.next() as u16) << 15).to_le_bytes());
        v
    }
}
