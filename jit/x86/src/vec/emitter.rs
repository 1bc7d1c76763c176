//! The vector side of [`Emitter`]: what SSE instructions are made of.
//!
//! [`VecEmitter::X`] is a 128-bit value: two quadwords in the evaluator, a vector SSA value in the compiler; 256-bit operands
//! are pairs of them, and methods take arrays where more than the lanes themselves decides (faults, flags). Scalar
//! floating-point values are ordinary [`Emitter::V`]s that hold the raw bits (`f32` at width D, `f64` at width Q), so
//! that `lane` and `set_xmm_lane` connect both worlds.
//!
//! Every computing method returns [`R`]: the compiler may refuse any of them (it then calls the instruction's tier-0
//! handler), and floating-point ones may raise #XM in the evaluator. The lifts therefore do all of them before the first
//! register write. Reading registers, picking lanes and constants cannot fail.
//!
//! Floating-point methods update MXCSR's sticky flags (that is not a "register write" in the sense above: the flags of an
//! instruction that raises #XM are set too, SDM vol. 1, 11.5.2.2). A compiler back end that runs them on the host must leave the
//! same flags and bits; it may branch to the tier-0 handler at run time as long as nothing has been written.

use crate::emit::{Addr, Emitter, R};
use crate::insn::Width;

/// Floating-point format of an element.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prec {
    /// Single precision.
    F32,
    /// Double precision.
    F64,
}

impl Prec {
    /// Width of an element.
    #[inline(always)]
    pub const fn width(self) -> Width {
        match self {
            Self::F32 => Width::D,
            Self::F64 => Width::Q,
        }
    }
}

/// Declares [`VBin`] together with the list of its values.
macro_rules! vbins {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Integer operations of two vectors, lane by lane unless said otherwise. `a` is the first operand
        /// (destination), `b` the second.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "lane operation and lane width; the unusual ones are described")]
        pub enum VBin { $($(#[$doc])* $name),* }

        impl VBin {
            /// All of them, for tests.
            pub const ALL: &[VBin] = &[$(VBin::$name),*];
        }
    };
}

vbins! {
    And,
    /// `!a & b`.
    Andn,
    Or, Xor,
    AddB, AddW, AddD, AddQ, SubB, SubW, SubD, SubQ,
    /// Signed (S) and unsigned (Us) saturation.
    AddSB, AddSW, AddUsB, AddUsW, SubSB, SubSW, SubUsB, SubUsW,
    MulLoW, MulHiW, MulHiUW, MulLoD,
    /// Even dwords, unsigned, into quadwords.
    MulUD,
    /// Even dwords, signed, into quadwords.
    MulSD,
    /// PMULHRSW: `(a * b >> 14) + 1 >> 1`.
    MulHrsW,
    /// PMADDWD: sums of adjacent signed word products.
    MaddWD,
    /// PMADDUBSW: unsigned bytes of `a` times signed bytes of `b`, adjacent sums saturated.
    MaddUbSW,
    /// PSADBW: per quadword, the sum of absolute byte differences.
    SadBW,
    AvgB, AvgW,
    MinUB, MaxUB, MinSW, MaxSW, MinSB, MaxSB, MinUW, MaxUW, MinSD, MaxSD, MinUD, MaxUD,
    CmpEqB, CmpEqW, CmpEqD, CmpEqQ, CmpGtB, CmpGtW, CmpGtD, CmpGtQ,
    /// Low half of the result from `a`, high half from `b`; signed source lanes saturated to signed (Ss) or unsigned (Us).
    PackSsWB, PackUsWB, PackSsDW, PackUsDW,
    /// Interleaves the low (Lo) or high (Hi) halves, `a`'s lanes first.
    UnpackLoB, UnpackLoW, UnpackLoD, UnpackLoQ, UnpackHiB, UnpackHiW, UnpackHiD, UnpackHiQ,
    /// PSHUFB: byte `b[k] & 15` of `a`, zero where `b[k]` is negative.
    ShufB,
    SignB, SignW, SignD,
    /// Horizontal: adjacent pairs, low half of the result from `a`, high half from `b`.
    HaddW, HaddD, HaddSW, HsubW, HsubD, HsubSW,
    /// Shifts of each lane of `a` by the same lane of `b`.
    ShlvD, ShlvQ, ShrvD, ShrvQ, SarvD,
    /// VPERMILPS: doubleword `b[k] & 3` of `a`.
    PermD,
    /// VPERMILPD: quadword `b[k] >> 1 & 1` of `a`.
    PermQ,
    /// AESENC and its kin: a round on the state `a` with the key `b`.
    AesEnc, AesEncLast, AesDec, AesDecLast,
    /// SHA extensions; `a` is the destination.
    Sha1NextE, Sha1Msg1, Sha1Msg2, Sha256Msg1, Sha256Msg2,
}

/// Shifts of all lanes by one count; a count of the lane's width or more gives zero (sign for `Sar`).
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "direction and lane width")]
pub enum VShift {
    ShlW,
    ShlD,
    ShlQ,
    ShrW,
    ShrD,
    ShrQ,
    SarW,
    SarD,
}

impl VShift {
    /// Lane width.
    pub const fn width(self) -> Width {
        match self {
            Self::ShlW | Self::ShrW | Self::SarW => Width::W,
            Self::ShlD | Self::ShrD | Self::SarD => Width::D,
            Self::ShlQ | Self::ShrQ => Width::Q,
        }
    }
}

/// Operations of one vector.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VUn {
    /// Absolute values.
    AbsB,
    /// Absolute values.
    AbsW,
    /// Absolute values.
    AbsD,
    /// PHMINPOSUW: the smallest unsigned word and its index.
    MinPos,
    /// AESIMC.
    AesImc,
}

/// Operations of two vectors with an immediate.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VImm {
    /// PCLMULQDQ: the carry-less product of one quadword of each.
    Clmul,
    /// MPSADBW.
    Mpsadbw,
    /// SHA1RNDS4.
    Sha1Rounds,
    /// AESKEYGENASSIST, of the second vector.
    AesKey,
}

/// Fused multiply-add: what becomes of the signs of product and addend.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FmaOp {
    /// `a * b + c`.
    Madd,
    /// `a * b - c`.
    Msub,
    /// `-(a * b) + c`.
    Nmadd,
    /// `-(a * b) - c`.
    Nmsub,
    /// Even lanes `a * b - c`, odd lanes `a * b + c`; packed only.
    MaddSub,
    /// Even lanes `a * b + c`, odd lanes `a * b - c`; packed only.
    MsubAdd,
}

impl FmaOp {
    /// What is done in lane `k`: one of the first four.
    #[inline(always)]
    pub const fn in_lane(self, k: usize) -> Self {
        match (self, k & 1) {
            (Self::MaddSub, 0) | (Self::MsubAdd, 1) => Self::Msub,
            (Self::MaddSub | Self::MsubAdd, _) => Self::Madd,
            (op, _) => op,
        }
    }
    /// Is the product negated, is the addend? (Of one lane's operation.)
    #[inline(always)]
    pub const fn negates(self) -> (bool, bool) {
        match self {
            Self::Msub => (false, true),
            Self::Nmadd => (true, false),
            Self::Nmsub => (true, true),
            _ => (false, false),
        }
    }
}

/// Floating-point operations of two operands (`a` the destination, `b` the source).
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FpOp {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`.
    Div,
    /// MINSS rule: `b` when either is a NaN or both are zero.
    Min,
    /// MAXSS rule.
    Max,
    /// Square root of `b`; `a` is not looked at.
    Sqrt,
    /// RCPSS: approximate reciprocal of `b`, no exceptions; single precision only.
    Rcp,
    /// RSQRTSS: approximate reciprocal square root of `b`, no exceptions; single precision only.
    Rsqrt,
    /// ADDSUBPS: even lanes `a - b`, odd lanes `a + b`; packed only.
    AddSub,
}

/// Conversions of one scalar. Integers are at their width, two's complement; out of range gives the integer indefinite.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "source, destination; Trunc rounds towards zero")]
pub enum Cvt {
    F32ToF64,
    F64ToF32,
    I32ToF32,
    I64ToF32,
    I32ToF64,
    I64ToF64,
    F32ToI32,
    F32ToI64,
    F64ToI32,
    F64ToI64,
    F32ToI32Trunc,
    F32ToI64Trunc,
    F64ToI32Trunc,
    F64ToI64Trunc,
}

/// Conversions of a vector.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CvtX {
    /// CVTDQ2PS: four.
    I32ToF32,
    /// CVTPS2DQ: four.
    F32ToI32,
    /// CVTTPS2DQ: four.
    F32ToI32Trunc,
    /// CVTDQ2PD: two from the low half.
    I32ToF64,
    /// CVTPD2DQ: two into the low half, zeros above.
    F64ToI32,
    /// CVTTPD2DQ: likewise.
    F64ToI32Trunc,
    /// CVTPS2PD: two from the low half.
    F32ToF64,
    /// CVTPD2PS: two into the low half, zeros above.
    F64ToF32,
}

/// What SSE instructions are made of. See the module for the rules.
#[expect(missing_docs, reason = "operations are named by their meaning; the rest is in the operation enums")]
pub trait VecEmitter: Emitter {
    /// A 128-bit value.
    type X: Copy;

    // Registers.
    /// XMM register (`r` 0..15), low 128 bits.
    fn xmm(&mut self, r: u8) -> Self::X;
    /// Writes the low 128 bits; bits 255:128 stay (legacy SSE encodings).
    fn set_xmm(&mut self, r: u8, x: Self::X);
    /// Bits 255:128.
    fn ymm_hi(&mut self, r: u8) -> Self::X;
    /// Writes bits 255:128; the others stay.
    fn set_ymm_hi(&mut self, r: u8, x: Self::X);
    /// One lane, straight from the register file.
    fn xmm_lane(&mut self, w: Width, r: u8, lane: u8) -> Self::V;
    /// Writes one lane; everything else stays.
    fn set_xmm_lane(&mut self, w: Width, r: u8, lane: u8, v: Self::V);

    // Memory.
    /// Reads `N` times 16 bytes, all or nothing; `aligned` raises #GP(0) unless the linear address is a multiple of that.
    fn load_vector<const N: usize>(&mut self, at: Addr<Self::V>, aligned: bool) -> R<[Self::X; N]>;
    /// Writes as many bytes; likewise.
    fn store_vector<const N: usize>(&mut self, at: Addr<Self::V>, aligned: bool, x: [Self::X; N]) -> R<()>;

    // Building and taking apart.
    fn const128(&mut self, x: [u64; 2]) -> Self::X;
    /// `v` (width `w`) in the lowest lane, zeros above.
    fn zext128(&mut self, w: Width, v: Self::V) -> Self::X;
    /// Lane `lane` (constant) of width `w`.
    fn lane(&mut self, w: Width, x: Self::X, lane: u8) -> Self::V;
    /// `x` with one lane replaced.
    fn with_lane(&mut self, w: Width, x: Self::X, lane: u8, v: Self::V) -> Self::X;

    // Integer operations.
    fn vbin(&mut self, op: VBin, a: Self::X, b: Self::X) -> R<Self::X>;
    fn vun(&mut self, op: VUn, a: Self::X) -> R<Self::X>;
    fn vimm(&mut self, op: VImm, a: Self::X, b: Self::X, imm: u8) -> R<Self::X>;
    /// SHA256RNDS2: state `a` (C, D, G, H) and `b` (A, B, E, F), round constants added to messages in `wk`.
    fn sha256_rounds(&mut self, a: Self::X, b: Self::X, wk: Self::X) -> R<Self::X>;
    /// The lowest lane in all lanes.
    fn splat(&mut self, w: Width, a: Self::X) -> R<Self::X>;
    /// Shifts by a constant (0..255).
    fn vshift_imm(&mut self, op: VShift, a: Self::X, n: u8) -> R<Self::X>;
    /// Shifts by a 64-bit count.
    fn vshift(&mut self, op: VShift, a: Self::X, n: Self::V) -> R<Self::X>;
    /// Widens the low lanes of width `from` to lanes of width `to`.
    fn extend(&mut self, signed: bool, from: Width, to: Width, a: Self::X) -> R<Self::X>;
    /// Result dword k is dword `pick[k]` (0..7) of `a` (0..3) and `b` (4..7).
    fn shuffle32(&mut self, a: Self::X, b: Self::X, pick: [u8; 4]) -> R<Self::X>;
    /// Result word k is word `pick[k]` (0..7) of `a`.
    fn shuffle16(&mut self, a: Self::X, pick: [u8; 8]) -> R<Self::X>;
    /// The low 128 bits of the 256-bit value `high:low` shifted right by `n` bytes (any `n`).
    fn align_bytes(&mut self, high: Self::X, low: Self::X, n: u8) -> R<Self::X>;
    /// Bytes of `b` where bit k of `pick` is set, else of `a`.
    fn blend(&mut self, a: Self::X, b: Self::X, pick: u16) -> R<Self::X>;
    /// Lanes (B, D or Q) of `b` where the lane of `mask` is negative, else of `a`.
    fn blend_var(&mut self, w: Width, a: Self::X, b: Self::X, mask: Self::X) -> R<Self::X>;
    /// The sign bits of the lanes (B, D or Q), lane 0 in bit 0; width D.
    fn move_mask(&mut self, w: Width, a: Self::X) -> R<Self::V>;
    /// PTEST: ZF = `a & b` is zero, CF = `!a & b` is zero, at their RFLAGS places; width D.
    fn test(&mut self, a: Self::X, b: Self::X) -> R<Self::V>;

    // Floating point.
    fn fp_scalar(&mut self, op: FpOp, p: Prec, a: Self::V, b: Self::V) -> R<Self::V>;
    fn fp_packed<const N: usize>(
        &mut self,
        op: FpOp,
        p: Prec,
        a: [Self::X; N],
        b: [Self::X; N],
    ) -> R<[Self::X; N]>;
    /// Multiplicand, multiplier, addend; one of the operations without alternation.
    fn fma_scalar(&mut self, op: FmaOp, p: Prec, abc: [Self::V; 3]) -> R<Self::V>;
    fn fma_packed<const N: usize>(&mut self, op: FmaOp, p: Prec, abc: [[Self::X; N]; 3]) -> R<[Self::X; N]>;
    /// ROUNDSS/ROUNDSD with its immediate.
    fn fp_round(&mut self, p: Prec, imm: u8, a: Self::V) -> R<Self::V>;
    /// ROUNDPS/ROUNDPD.
    fn fp_round_packed<const N: usize>(&mut self, p: Prec, imm: u8, a: [Self::X; N]) -> R<[Self::X; N]>;
    /// CMPSS/CMPSD predicate (0..31): all ones or zero.
    fn fp_cmp(&mut self, p: Prec, predicate: u8, a: Self::V, b: Self::V) -> R<Self::V>;
    fn fp_cmp_packed<const N: usize>(
        &mut self,
        p: Prec,
        predicate: u8,
        a: [Self::X; N],
        b: [Self::X; N],
    ) -> R<[Self::X; N]>;
    /// COMISS/UCOMISS (`quiet`): ZF, PF, CF at their RFLAGS places, width D.
    fn fp_flags(&mut self, p: Prec, quiet: bool, a: Self::V, b: Self::V) -> R<Self::V>;
    fn convert(&mut self, op: Cvt, a: Self::V) -> R<Self::V>;
    fn convert_packed<const N: usize>(&mut self, op: CvtX, a: [Self::X; N]) -> R<[Self::X; N]>;
}
