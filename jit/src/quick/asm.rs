//! An assembler for x86-64 hosts: the few instructions that [`super`] needs (SDM vol. 2).

/// A general register by its number in encodings.
pub type Reg = u8;
pub const RAX: Reg = 0;
pub const RCX: Reg = 1;
pub const RDX: Reg = 2;
pub const RBX: Reg = 3;
pub const RSP: Reg = 4;
pub const RBP: Reg = 5;
pub const RSI: Reg = 6;
pub const RDI: Reg = 7;

/// Operand size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    B,
    W,
    D,
    Q,
}

/// A register or memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rm {
    R(Reg),
    /// At base and displacement.
    M(Reg, i32),
    /// At the sum of RAX and an index.
    X(Reg),
}

/// Arithmetic by its number in encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Alu {
    Add = 0,
    Or = 1,
    And = 4,
    Sub = 5,
    Xor = 6,
    Cmp = 7,
}

/// Shifts likewise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Shift {
    Rol = 0,
    Ror = 1,
    Shl = 4,
    Shr = 5,
    Sar = 7,
}

/// Opcodes: the low byte, with [`X0F`] where it has that prefix.
const X0F: u32 = 0x100;
/// Two-operand instructions `reg, r/m`.
pub mod op {
    use super::X0F;
    pub const LOAD: u32 = 0x8b;
    pub const STORE: u32 = 0x89;
    pub const LEA: u32 = 0x8d;
    pub const TEST: u32 = 0x85;
    pub const XCHG: u32 = 0x87;
    pub const MOVSXD: u32 = 0x63;
    pub const IMUL: u32 = X0F | 0xaf;
    pub const MOVZX_B: u32 = X0F | 0xb6;
    pub const MOVZX_W: u32 = X0F | 0xb7;
    pub const MOVSX_B: u32 = X0F | 0xbe;
    pub const MOVSX_W: u32 = X0F | 0xbf;
    pub const CMPXCHG: u32 = X0F | 0xb1;
    pub const XADD: u32 = X0F | 0xc1;
    pub const CMOV: u32 = X0F | 0x40;
    /// After F3.
    pub const POPCNT: u32 = X0F | 0xb8;
    /// After F3.
    pub const TZCNT: u32 = X0F | 0xbc;
    /// After F3.
    pub const LZCNT: u32 = X0F | 0xbd;
}
/// Extensions of opcode F7.
pub const NOT: u8 = 2;
pub const NEG: u8 = 3;
pub const MUL: u8 = 4;
pub const IMUL_WIDE: u8 = 5;

/// Code being written.
#[derive(Debug, Default)]
pub struct Asm {
    pub code: Vec<u8>,
}

impl Asm {
    fn byte(&mut self, b: u8) {
        self.code.push(b);
    }

    fn dword(&mut self, v: i32) {
        self.code.extend_from_slice(&v.to_le_bytes());
    }

    /// Prefixes, opcode, ModRM and what follows it. `bytes`: which of the two operands are byte registers.
    fn encode(
        &mut self,
        mandatory: Option<u8>,
        size: Size,
        bytes: (bool, bool),
        opcode: u32,
        reg: u8,
        rm: Rm,
    ) {
        if size == Size::W {
            self.byte(0x66);
        }
        if let Some(prefix) = mandatory {
            self.byte(prefix);
        }
        let (base, index) = match rm {
            Rm::R(r) | Rm::M(r, _) => (r, 0),
            Rm::X(r) => (RAX, r),
        };
        let rex = u8::from(size == Size::Q) << 3 | (reg >> 3) << 2 | (index >> 3) << 1 | base >> 3;
        // SPL to DIL and not AH to BH.
        let low = bytes.0 && reg >= 4 || bytes.1 && matches!(rm, Rm::R(4..));
        if rex != 0 || low {
            self.byte(0x40 | rex);
        }
        if opcode & X0F != 0 {
            self.byte(0x0f);
        }
        self.byte(opcode as u8);
        self.mod_rm(reg, rm);
    }

    fn mod_rm(&mut self, reg: u8, rm: Rm) {
        let reg = (reg & 7) << 3;
        match rm {
            Rm::R(r) => self.byte(0xc0 | reg | r & 7),
            Rm::X(index) => {
                debug_assert_ne!(index, RSP, "cannot be an index");
                self.byte(0x04 | reg);
                self.byte((index & 7) << 3 | RAX);
            }
            Rm::M(base, disp) => {
                let short = i8::try_from(disp).ok();
                let mode = match short {
                    Some(0) if base & 7 != RBP => 0x00,
                    Some(_) => 0x40,
                    None => 0x80,
                };
                self.byte(mode | reg | base & 7);
                if base & 7 == RSP {
                    self.byte(0x24);
                }
                match (mode, short) {
                    (0x00, _) => {}
                    (_, Some(short)) => self.byte(short as u8),
                    (_, None) => self.dword(disp),
                }
            }
        }
    }

    /// `opcode reg, rm` of [`op`], at any size but a byte's.
    pub fn rm(&mut self, size: Size, opcode: u32, reg: Reg, rm: Rm) {
        let byte_source = matches!(opcode, op::MOVZX_B | op::MOVSX_B);
        self.encode(None, size, (false, byte_source), opcode, reg, rm);
    }

    /// As [`Self::rm`], at any size: those whose opcode for bytes is one less.
    pub fn sized(&mut self, size: Size, opcode: u32, reg: Reg, rm: Rm) {
        let byte = size == Size::B;
        self.encode(None, size, (byte, byte), opcode - u32::from(byte), reg, rm);
    }

    /// With the prefix F3: POPCNT, LZCNT, TZCNT.
    pub fn counting(&mut self, size: Size, opcode: u32, reg: Reg, rm: Rm) {
        self.encode(Some(0xf3), size, (false, false), opcode, reg, rm);
    }

    /// With LOCK: CMPXCHG, XADD.
    pub fn locked(&mut self, size: Size, opcode: u32, reg: Reg, rm: Rm) {
        self.byte(0xf0);
        self.sized(size, opcode, reg, rm);
    }

    /// `dst op= src`.
    pub fn alu(&mut self, size: Size, alu: Alu, dst: Reg, src: Rm) {
        self.sized(size, u32::from((alu as u8) << 3 | 3), dst, src);
    }

    /// `dst op= imm`, which is sign-extended from 32 bits.
    pub fn alu_imm(&mut self, size: Size, alu: Alu, dst: Rm, imm: i32) {
        let byte = size == Size::B;
        let short = i8::try_from(imm).ok().or_else(|| byte.then_some(imm as i8));
        let opcode = if byte {
            0x80
        } else if short.is_some() {
            0x83
        } else {
            0x81
        };
        self.encode(None, size, (false, byte), opcode, alu as u8, dst);
        match (short, size) {
            (Some(short), _) => self.byte(short as u8),
            (None, Size::W) => self.code.extend_from_slice(&(imm as i16).to_le_bytes()),
            (None, _) => self.dword(imm),
        }
    }

    /// Between registers: 32 bits clear the rest.
    pub fn mov(&mut self, size: Size, dst: Reg, src: Reg) {
        self.rm(size, op::LOAD, dst, Rm::R(src));
    }

    /// A constant, without touching flags.
    pub fn mov_imm(&mut self, dst: Reg, imm: i64) {
        if let Ok(imm) = u32::try_from(imm) {
            if dst >= 8 {
                self.byte(0x41);
            }
            self.byte(0xb8 | dst & 7);
            self.dword(imm as i32);
        } else if let Ok(imm) = i32::try_from(imm) {
            self.encode(None, Size::Q, (false, false), 0xc7, 0, Rm::R(dst));
            self.dword(imm);
        } else {
            self.byte(0x48 | dst >> 3);
            self.byte(0xb8 | dst & 7);
            self.code.extend_from_slice(&imm.to_le_bytes());
        }
    }

    /// Loads, zero-extended to 64 bits.
    pub fn load(&mut self, size: Size, dst: Reg, from: Rm) {
        match size {
            Size::B => self.rm(Size::D, op::MOVZX_B, dst, from),
            Size::W => self.rm(Size::D, op::MOVZX_W, dst, from),
            _ => self.rm(size, op::LOAD, dst, from),
        }
    }

    /// Stores.
    pub fn store(&mut self, size: Size, src: Reg, to: Rm) {
        self.sized(size, op::STORE, src, to);
    }

    /// Stores a constant, which is sign-extended from 32 bits.
    pub fn store_imm(&mut self, size: Size, imm: i32, to: Rm) {
        let byte = size == Size::B;
        self.encode(None, size, (false, false), 0xc7 - u32::from(byte), 0, to);
        match size {
            Size::B => self.byte(imm as u8),
            Size::W => self.code.extend_from_slice(&(imm as i16).to_le_bytes()),
            _ => self.dword(imm),
        }
    }

    /// `dst = a + b`, flags untouched.
    pub fn lea_sum(&mut self, size: Size, dst: Reg, a: Reg, b: Reg) {
        debug_assert_ne!(b, RSP, "cannot be an index");
        let rex = u8::from(size == Size::Q) << 3 | (dst >> 3) << 2 | (b >> 3) << 1 | a >> 3;
        if rex != 0 {
            self.byte(0x40 | rex);
        }
        self.byte(op::LEA as u8);
        // RBP and R13 as a base are there with a displacement only.
        let short = a & 7 == RBP;
        self.byte(if short { 0x44 } else { 0x04 } | (dst & 7) << 3);
        self.byte((b & 7) << 3 | a & 7);
        if short {
            self.byte(0);
        }
    }

    /// `dst = a * imm`.
    pub fn imul_imm(&mut self, size: Size, dst: Reg, a: Reg, imm: i32) {
        self.rm(size, 0x69, dst, Rm::R(a));
        self.dword(imm);
    }

    /// Shifts by a constant.
    pub fn shift_imm(&mut self, size: Size, shift: Shift, dst: Reg, by: u8) {
        let byte = size == Size::B;
        self.encode(None, size, (false, byte), 0xc1 - u32::from(byte), shift as u8, Rm::R(dst));
        self.byte(by);
    }

    /// Shifts by CL.
    pub fn shift_cl(&mut self, size: Size, shift: Shift, dst: Reg) {
        let byte = size == Size::B;
        self.encode(None, size, (false, byte), 0xd3 - u32::from(byte), shift as u8, Rm::R(dst));
    }

    /// NOT, NEG, MUL, IMUL by their extension.
    pub fn group3(&mut self, size: Size, extension: u8, dst: Reg) {
        self.encode(None, size, (false, false), 0xf7, extension, Rm::R(dst));
    }

    /// SETcc; of the register the rest stays.
    pub fn set(&mut self, cc: u8, dst: Reg) {
        self.encode(None, Size::D, (false, true), X0F | 0x90 | u32::from(cc), 0, Rm::R(dst));
    }

    /// CMOVcc.
    pub fn cmov(&mut self, size: Size, cc: u8, dst: Reg, src: Reg) {
        self.rm(size, op::CMOV | u32::from(cc), dst, Rm::R(src));
    }

    /// BSWAP of 32 or 64 bits.
    pub fn bswap(&mut self, size: Size, dst: Reg) {
        let rex = u8::from(size == Size::Q) << 3 | dst >> 3;
        if rex != 0 {
            self.byte(0x40 | rex);
        }
        self.code.extend_from_slice(&[0x0f, 0xc8 | dst & 7]);
    }

    /// Jcc rel32: gives the offset of its displacement.
    pub fn jcc(&mut self, cc: u8) -> usize {
        self.code.extend_from_slice(&[0x0f, 0x80 | cc, 0, 0, 0, 0]);
        self.code.len() - 4
    }

    /// JMP rel32: likewise.
    pub fn jmp(&mut self) -> usize {
        self.code.extend_from_slice(&[0xe9, 0, 0, 0, 0]);
        self.code.len() - 4
    }

    /// Makes the branch with its displacement at `site` lead to `to`.
    pub fn land(&mut self, site: usize, to: usize) {
        let distance = to as i32 - (site as i32 + 4);
        self.code[site..site + 4].copy_from_slice(&distance.to_le_bytes());
    }

    /// CALL and JMP to an address in a register.
    pub fn call(&mut self, to: Reg) {
        self.encode(None, Size::D, (false, false), 0xff, 2, Rm::R(to));
    }

    /// See [`Self::call`].
    pub fn jmp_to(&mut self, to: Reg) {
        self.encode(None, Size::D, (false, false), 0xff, 4, Rm::R(to));
    }

    /// POP RBP.
    pub fn pop_frame(&mut self) {
        self.byte(0x5d);
    }

    /// RET.
    pub fn ret(&mut self) {
        self.byte(0xc3);
    }

    /// MFENCE.
    pub fn mfence(&mut self) {
        self.code.extend_from_slice(&[0x0f, 0xae, 0xf0]);
    }
}
