//! Predecoded instructions: one cache line each, with everything that execution and compilation need.

use crate::Vcpu;
use crate::emit::Fence;

/// Operand width of integer operations.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// 8 bits.
    B = 0,
    /// 16 bits.
    W = 1,
    /// 32 bits.
    D = 2,
    /// 64 bits.
    Q = 3,
}

impl Width {
    /// Width in bytes.
    #[inline(always)]
    pub const fn bytes(self) -> u32 {
        1 << self as u32
    }
    /// Width in bits.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        8 << self as u32
    }
    /// All bits of this width.
    #[inline(always)]
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }
    /// The sign bit of this width.
    #[inline(always)]
    pub const fn sign(self) -> u64 {
        1 << (self.bits() - 1)
    }
    /// The width of `n` bytes (1, 2, 4, 8).
    pub const fn from_bytes(n: u32) -> Option<Self> {
        match n {
            1 => Some(Self::B),
            2 => Some(Self::W),
            4 => Some(Self::D),
            8 => Some(Self::Q),
            _ => None,
        }
    }
    /// From the discriminant (for const-generic handlers).
    #[inline(always)]
    pub const fn from_u8(n: u8) -> Self {
        match n {
            0 => Self::B,
            1 => Self::W,
            2 => Self::D,
            _ => Self::Q,
        }
    }
    /// `v` sign-extended from this width to 64 bits.
    #[inline(always)]
    pub const fn sext(self, v: u64) -> u64 {
        let s = 64 - self.bits();
        ((v << s) as i64 >> s) as u64
    }
}

/// An operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opnd {
    /// No operand.
    None,
    /// General register 0..15 (low part of the operation's width).
    Gpr(u8),
    /// AH, CH, DH, BH as 0..3.
    High(u8),
    /// The memory operand described by the instruction's address fields.
    Mem,
    /// The immediate.
    Imm,
    /// XMM or YMM register.
    Xmm(u8),
    /// MMX register.
    Mm(u8),
    /// x87 stack register ST(n).
    St(u8),
    /// Segment register.
    Seg(u8),
    /// Control register.
    Cr(u8),
    /// Debug register.
    Dr(u8),
}

/// How an offset becomes a linear address, decided at decode time from the mode.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddrMode {
    /// The offset is the linear address (64-bit mode without FS/GS, or a flat segment).
    Flat = 0,
    /// Segment base + offset, no limit (FS/GS in 64-bit mode).
    Base = 1,
    /// Limit, rights and base of the segment register are looked at on every access.
    Checked = 2,
}

/// Prefix and encoding facts ([`Insn::prefix`]).
pub mod prefix {
    /// LOCK.
    pub const LOCK: u8 = 1 << 0;
    /// REP / REPE.
    pub const REP: u8 = 1 << 1;
    /// REPNE.
    pub const REPNE: u8 = 1 << 2;
    /// VEX-encoded: upper halves of the destination are cleared.
    pub const VEX: u8 = 1 << 3;
    /// VEX.L: 256-bit operation.
    pub const L256: u8 = 1 << 4;
    /// The RSP in an address is already popped (POP m: SDM "POP: ... after the increment").
    pub const POPPED: u8 = 1 << 5;
}

/// The records of a block that follow the one in hand: two addresses, of which a handler moves only the first.
pub type Rest<'a> = std::slice::Iter<'a, Insn>;

/// Executes one predecoded instruction and then the rest of its block, which is the last argument: empty to execute one alone.
/// Gives how many of them were not reached. What went wrong, if anything, is in `CpuState::stop`.
pub type Handler = fn(&mut Vcpu, &Insn, Rest<'_>) -> usize;

/// A predecoded instruction.
#[repr(C, align(64))]
#[derive(Clone)]
pub struct Insn {
    /// Tier 0's code for it.
    pub run: Handler,
    /// RIP of its first byte (offset in CS).
    pub ip: u64,
    /// Immediate, sign-extended where the instruction says so; for direct branches the target offset.
    pub imm: u64,
    /// Displacement, sign-extended; RIP-relative ones are made absolute.
    pub disp: u64,
    /// iced-x86 `Code`, for reports and cold dispatch.
    pub code: u16,
    /// Position in its block.
    pub idx: u16,
    /// What it does.
    pub op: Op,
    /// Operation width.
    pub w: Width,
    /// Second width: the source of MOVZX/MOVSX, the vector element, the x87 memory format.
    pub w2: Width,
    /// Length in bytes.
    pub len: u8,
    /// See [`prefix`].
    pub prefix: u8,
    /// First operand (destination).
    pub dst: Opnd,
    /// Second operand.
    pub src: Opnd,
    /// Third operand.
    pub src2: Opnd,
    /// Register number of `dst`, where it is a general register.
    pub rd: u8,
    /// Register number of `src`, where it is a general register.
    pub rs: u8,
    /// Vector instructions: register number of the first source (VEX.vvvv; in legacy encodings the destination).
    pub rv: u8,
    /// Base register of the address ([`crate::state::reg::ZERO`] for none).
    pub base: u8,
    /// Index register.
    pub index: u8,
    /// What the index is multiplied by: 1, 2, 4 or 8.
    pub factor: u8,
    /// Segment of the memory operand.
    pub seg: u8,
    /// How `seg` is applied.
    pub am: AddrMode,
    /// Address width: offsets wrap at this width.
    pub aw: Width,
    /// Stack-pointer width.
    pub sw: Width,
    /// How SS is applied to implicit stack accesses.
    pub sm: AddrMode,
    /// Last of its block; its handler sets RIP (also when it goes on with the next instruction).
    pub ends: bool,
}

impl Insn {
    /// RIP of the next instruction (before it wraps: see `lift::select::ip_mask`).
    #[inline(always)]
    pub fn next(&self) -> u64 {
        self.ip.wrapping_add(u64::from(self.len))
    }
    /// Has it this prefix bit?
    #[inline(always)]
    pub fn has(&self, p: u8) -> bool {
        self.prefix & p != 0
    }
}

const _: () = assert!(size_of::<Insn>() == 64, "one cache line each");

impl std::fmt::Debug for Insn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}: {:?} {:?} {:?}, {:?}", self.ip, self.op, self.w, self.dst, self.src)
    }
}

/// Two-operand ALU operations.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "mnemonics")]
pub enum Alu {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    Cmp,
    Test,
}

/// One-operand ALU operations.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "mnemonics")]
pub enum Unary {
    Inc,
    Dec,
    Neg,
    Not,
}

/// Shifts and rotates.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "mnemonics")]
pub enum Shift {
    Rol,
    Ror,
    Rcl,
    Rcr,
    Shl,
    Shr,
    Sar,
}

/// Bit tests.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "mnemonics")]
pub enum BitTest {
    Bt,
    Bts,
    Btr,
    Btc,
}

/// Bit counts and scans.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "mnemonics")]
pub enum BitScan {
    Bsf,
    Bsr,
    Tzcnt,
    Lzcnt,
    Popcnt,
}

/// BMI1/BMI2/ADX operations on general registers.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "mnemonics")]
pub enum Bmi {
    Andn,
    Bextr,
    Blsi,
    Blsmsk,
    Blsr,
    Bzhi,
    Mulx,
    Pdep,
    Pext,
    Rorx,
    Sarx,
    Shlx,
    Shrx,
    Adcx,
    Adox,
}

/// Condition codes in their encoding (SDM vol. 1, appendix B).
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "mnemonics")]
pub enum Cond {
    O,
    No,
    B,
    Ae,
    E,
    Ne,
    Be,
    A,
    S,
    Ns,
    P,
    Np,
    L,
    Ge,
    Le,
    G,
}

impl Cond {
    /// From the low four bits of an opcode.
    #[inline(always)]
    pub const fn from_u8(n: u8) -> Self {
        match n & 15 {
            0 => Self::O,
            1 => Self::No,
            2 => Self::B,
            3 => Self::Ae,
            4 => Self::E,
            5 => Self::Ne,
            6 => Self::Be,
            7 => Self::A,
            8 => Self::S,
            9 => Self::Ns,
            10 => Self::P,
            11 => Self::Np,
            12 => Self::L,
            13 => Self::Ge,
            14 => Self::Le,
            _ => Self::G,
        }
    }
}

/// String instructions.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "mnemonics")]
pub enum Str {
    Movs,
    Stos,
    Lods,
    Scas,
    Cmps,
    Ins,
    Outs,
}

/// What an instruction does. Families that `lift` expresses over [`crate::Emitter`] come first; the last ones are
/// helpers: plain functions over `Vcpu` that every tier calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "mnemonics")]
pub enum Op {
    Alu(Alu),
    Unary(Unary),
    Shift(Shift),
    /// SHLD (false), SHRD (true).
    ShiftDouble(bool),
    Mov,
    Movzx,
    Movsx,
    Lea,
    Xchg,
    Bswap,
    Movbe,
    /// CBW/CWDE/CDQE: sign-extend the low half of the accumulator.
    ExtendAcc,
    /// CWD/CDQ/CQO.
    ExtendDx,
    Push,
    Pop,
    Leave,
    Jmp,
    JmpInd,
    Jcc(Cond),
    /// LOOP (with condition on ZF: 0 none, 1 LOOPE, 2 LOOPNE).
    Loop(u8),
    Jcxz,
    Call,
    CallInd,
    /// Near return; `imm` bytes are released.
    Ret,
    Setcc(Cond),
    Cmov(Cond),
    /// One-operand MUL.
    Mul,
    /// One-operand IMUL.
    ImulAcc,
    /// Two- and three-operand IMUL.
    Imul,
    Div,
    Idiv,
    BitTest(BitTest),
    BitScan(BitScan),
    Bmi(Bmi),
    Crc32,
    Cmpxchg,
    Xadd,
    Nop,
    Clc,
    Stc,
    Cmc,
    Cld,
    Std,
    Lahf,
    Sahf,
    /// End of a block that no branch ends: sets RIP. Not counted.
    EndBlock,
    /// LFENCE, MFENCE, SFENCE.
    Fence(Fence),
    Str(Str),
    /// SSE and MMX.
    Vec(crate::vec::VecOp),
    /// x87; meaning of the payload is `x87`'s.
    X87(u8),
    /// IN: a helper, too.
    In,
    /// Everything else: helpers in `sys` and `lift::cold`.
    Cold,
}
