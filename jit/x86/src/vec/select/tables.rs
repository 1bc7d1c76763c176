//! The instructions that have legacy encodings, by those encodings' mnemonics.

use iced_x86::{Code, Instruction, Mnemonic};

use super::{Choice, general, integer_width};
use crate::emit::Order;
use crate::eval::done;
use crate::insn::{Insn, Opnd, Width};
use crate::vcpu::Vcpu;
use crate::vec::emitter::{CvtX, FpOp, Prec, VBin, VImm, VShift, VUn};
use crate::vec::lift::{self, Form, Shuffle};
use crate::vec::{VecOp, cold, string};

/// What the instruction that is called `m` in its legacy encoding does.
pub(super) fn choose(m: Mnemonic, x: &Instruction, i: &Insn) -> Option<Choice> {
    integer(m, i).or_else(|| moves(m, x, i)).or_else(|| float(m, x)).or_else(|| rare(m))
}

/// Integer arithmetic, logic, comparisons, packing, shifts.
fn integer(m: Mnemonic, i: &Insn) -> Option<Choice> {
    use Mnemonic::*;
    Some(match m {
        Pand | Andps | Andpd => bin!(And),
        Pandn | Andnps | Andnpd => bin!(Andn),
        Por | Orps | Orpd => bin!(Or),
        Pxor | Xorps | Xorpd => bin!(Xor),
        Paddb => bin!(AddB),
        Paddw => bin!(AddW),
        Paddd => bin!(AddD),
        Paddq => bin!(AddQ),
        Psubb => bin!(SubB),
        Psubw => bin!(SubW),
        Psubd => bin!(SubD),
        Psubq => bin!(SubQ),
        Paddsb => bin!(AddSB),
        Paddsw => bin!(AddSW),
        Paddusb => bin!(AddUsB),
        Paddusw => bin!(AddUsW),
        Psubsb => bin!(SubSB),
        Psubsw => bin!(SubSW),
        Psubusb => bin!(SubUsB),
        Psubusw => bin!(SubUsW),
        Pmullw => bin!(MulLoW),
        Pmulhw => bin!(MulHiW),
        Pmulhuw => bin!(MulHiUW),
        Pmulld => bin!(MulLoD),
        Pmuludq => bin!(MulUD),
        Pmuldq => bin!(MulSD),
        Pmulhrsw => bin!(MulHrsW),
        Pmaddwd => bin!(MaddWD),
        Pmaddubsw => bin!(MaddUbSW),
        Psadbw => bin!(SadBW),
        Pavgb => bin!(AvgB),
        Pavgw => bin!(AvgW),
        Pminub => bin!(MinUB),
        Pmaxub => bin!(MaxUB),
        Pminsw => bin!(MinSW),
        Pmaxsw => bin!(MaxSW),
        Pminsb => bin!(MinSB),
        Pmaxsb => bin!(MaxSB),
        Pminuw => bin!(MinUW),
        Pmaxuw => bin!(MaxUW),
        Pminsd => bin!(MinSD),
        Pmaxsd => bin!(MaxSD),
        Pminud => bin!(MinUD),
        Pmaxud => bin!(MaxUD),
        Pcmpeqb => bin!(CmpEqB),
        Pcmpeqw => bin!(CmpEqW),
        Pcmpeqd => bin!(CmpEqD),
        Pcmpeqq => bin!(CmpEqQ),
        Pcmpgtb => bin!(CmpGtB),
        Pcmpgtw => bin!(CmpGtW),
        Pcmpgtd => bin!(CmpGtD),
        Pcmpgtq => bin!(CmpGtQ),
        Packsswb => bin!(PackSsWB),
        Packuswb => bin!(PackUsWB),
        Packssdw => bin!(PackSsDW),
        Packusdw => bin!(PackUsDW),
        Punpcklbw => bin!(UnpackLoB),
        Punpcklwd => bin!(UnpackLoW),
        Punpckldq | Unpcklps => bin!(UnpackLoD),
        Punpcklqdq | Unpcklpd => bin!(UnpackLoQ),
        Punpckhbw => bin!(UnpackHiB),
        Punpckhwd => bin!(UnpackHiW),
        Punpckhdq | Unpckhps => bin!(UnpackHiD),
        Punpckhqdq | Unpckhpd => bin!(UnpackHiQ),
        Pshufb => bin!(ShufB),
        Psignb => bin!(SignB),
        Psignw => bin!(SignW),
        Psignd => bin!(SignD),
        Phaddw => bin!(HaddW),
        Phaddd => bin!(HaddD),
        Phaddsw => bin!(HaddSW),
        Phsubw => bin!(HsubW),
        Phsubd => bin!(HsubD),
        Phsubsw => bin!(HsubSW),
        Psllw => shift!(i, ShlW),
        Pslld => shift!(i, ShlD),
        Psllq => shift!(i, ShlQ),
        Psrlw => shift!(i, ShrW),
        Psrld => shift!(i, ShrD),
        Psrlq => shift!(i, ShrQ),
        Psraw => shift!(i, SarW),
        Psrad => shift!(i, SarD),
        Pslldq => hot!(VecOp::ShiftBytes(true), lift::shift_bytes::<Vcpu, 1>, true),
        Psrldq => hot!(VecOp::ShiftBytes(false), lift::shift_bytes::<Vcpu, 1>, false),
        Palignr => hot!(VecOp::Align, lift::align::<Vcpu, 1>),
        Pshufd => hot!(VecOp::Shuffle(Shuffle::Pshufd), lift::shuffle::<Vcpu, 1>, Shuffle::Pshufd),
        Shufps => hot!(VecOp::Shuffle(Shuffle::Shufps), lift::shuffle::<Vcpu, 1>, Shuffle::Shufps),
        Shufpd => hot!(VecOp::Shuffle(Shuffle::Shufpd), lift::shuffle::<Vcpu, 1>, Shuffle::Shufpd),
        Pshuflw => hot!(VecOp::ShuffleWords(false), lift::shuffle_words::<Vcpu, 1>, false),
        Pshufhw => hot!(VecOp::ShuffleWords(true), lift::shuffle_words::<Vcpu, 1>, true),
        Pmovmskb => hot!(VecOp::MoveMask(Width::B), lift::move_mask::<Vcpu, 1>, Width::B),
        Movmskps => hot!(VecOp::MoveMask(Width::D), lift::move_mask::<Vcpu, 1>, Width::D),
        Movmskpd => hot!(VecOp::MoveMask(Width::Q), lift::move_mask::<Vcpu, 1>, Width::Q),
        _ => return None,
    })
}

/// Moves, insertion and extraction, shuffles, blends, extensions.
fn moves(m: Mnemonic, x: &Instruction, i: &Insn) -> Option<Choice> {
    use Mnemonic::*;
    let load = matches!(i.dst, Opnd::Xmm(_));
    Some(match m {
        Movaps | Movapd | Movdqa if load => hot!(VecOp::Load(true), lift::mov_load::<Vcpu, 1>, true),
        Movaps | Movapd | Movdqa => hot!(VecOp::Store(true), lift::mov_store::<Vcpu, 1>, true, Order::Tso),
        Movups | Movupd | Movdqu if load => hot!(VecOp::Load(false), lift::mov_load::<Vcpu, 1>, false),
        Movups | Movupd | Movdqu => hot!(VecOp::Store(false), lift::mov_store::<Vcpu, 1>, false, Order::Tso),
        Lddqu => general(VecOp::Load(false)),
        Movntdqa => general(VecOp::Load(true)),
        Movntps | Movntpd | Movntdq => {
            hot!(VecOp::StoreNonTemporal, lift::mov_store::<Vcpu, 1>, true, Order::NonTemporal)
        }
        Movss if load => hot!(VecOp::ScalarLoad(Width::D), lift::scalar_load, Width::D),
        Movss => hot!(VecOp::LaneStore(Width::D, 0), lift::lane_store, Width::D, 0),
        Movsd => match x.code() {
            Code::Movsd_xmm_xmmm64
            | Code::VEX_Vmovsd_xmm_m64
            | Code::VEX_Vmovsd_xmm_xmm_xmm
            | Code::VEX_Vmovsd_xmm_xmm_xmm_0F11 => {
                hot!(VecOp::ScalarLoad(Width::Q), lift::scalar_load, Width::Q)
            }
            Code::Movsd_xmmm64_xmm | Code::VEX_Vmovsd_m64_xmm => {
                hot!(VecOp::LaneStore(Width::Q, 0), lift::lane_store, Width::Q, 0)
            }
            _ => return None,
        },
        Movlps | Movlpd if load => hot!(VecOp::HalfLoad(0), lift::half_load, 0),
        Movlps | Movlpd => hot!(VecOp::LaneStore(Width::Q, 0), lift::lane_store, Width::Q, 0),
        Movhps | Movhpd if load => hot!(VecOp::HalfLoad(1), lift::half_load, 1),
        Movhps | Movhpd => hot!(VecOp::LaneStore(Width::Q, 1), lift::lane_store, Width::Q, 1),
        Movhlps => hot!(VecOp::HalfLoad(0), lift::half_load, 0),
        Movlhps => hot!(VecOp::HalfLoad(1), lift::half_load, 1),
        Movq => match x.code() {
            Code::Movq_xmm_xmmm64 | Code::VEX_Vmovq_xmm_xmmm64 => hot!(VecOp::Movq, lift::movq),
            Code::Movq_xmmm64_xmm | Code::VEX_Vmovq_xmmm64_xmm if load => hot!(VecOp::Movq, lift::movq),
            Code::Movq_xmmm64_xmm | Code::VEX_Vmovq_xmmm64_xmm => {
                hot!(VecOp::LaneStore(Width::Q, 0), lift::lane_store, Width::Q, 0)
            }
            Code::Movq_xmm_rm64 | Code::VEX_Vmovq_xmm_rm64 => {
                hot!(VecOp::FromInteger(Width::Q), lift::from_integer, Width::Q)
            }
            _ => hot!(VecOp::ToInteger(Width::Q), lift::to_integer, Width::Q),
        },
        Movd if load => hot!(VecOp::FromInteger(Width::D), lift::from_integer, Width::D),
        Movd => hot!(VecOp::ToInteger(Width::D), lift::to_integer, Width::D),
        Movddup => hot!(VecOp::Movddup, lift::movddup::<Vcpu, 1>),
        Movsldup => general(VecOp::Shuffle(Shuffle::Movsldup)),
        Movshdup => general(VecOp::Shuffle(Shuffle::Movshdup)),
        Pinsrb => general(VecOp::Insert(Width::B)),
        Pinsrw => hot!(VecOp::Insert(Width::W), lift::insert, Width::W),
        Pinsrd => hot!(VecOp::Insert(Width::D), lift::insert, Width::D),
        Pinsrq => hot!(VecOp::Insert(Width::Q), lift::insert, Width::Q),
        Pextrb => general(VecOp::Extract(Width::B)),
        Pextrw => hot!(VecOp::Extract(Width::W), lift::extract, Width::W),
        Pextrd | Extractps => hot!(VecOp::Extract(Width::D), lift::extract, Width::D),
        Pextrq => hot!(VecOp::Extract(Width::Q), lift::extract, Width::Q),
        Insertps => general(VecOp::Insertps),
        Pblendw => general(VecOp::Blend(Width::W)),
        Blendps => general(VecOp::Blend(Width::D)),
        Blendpd => general(VecOp::Blend(Width::Q)),
        Pblendvb => general(VecOp::BlendVar(Width::B)),
        Blendvps => general(VecOp::BlendVar(Width::D)),
        Blendvpd => general(VecOp::BlendVar(Width::Q)),
        Pmovsxbw => general(VecOp::Extend(true, Width::B, Width::W)),
        Pmovsxbd => general(VecOp::Extend(true, Width::B, Width::D)),
        Pmovsxbq => general(VecOp::Extend(true, Width::B, Width::Q)),
        Pmovsxwd => general(VecOp::Extend(true, Width::W, Width::D)),
        Pmovsxwq => general(VecOp::Extend(true, Width::W, Width::Q)),
        Pmovsxdq => general(VecOp::Extend(true, Width::D, Width::Q)),
        Pmovzxbw => general(VecOp::Extend(false, Width::B, Width::W)),
        Pmovzxbd => general(VecOp::Extend(false, Width::B, Width::D)),
        Pmovzxbq => general(VecOp::Extend(false, Width::B, Width::Q)),
        Pmovzxwd => general(VecOp::Extend(false, Width::W, Width::D)),
        Pmovzxwq => general(VecOp::Extend(false, Width::W, Width::Q)),
        Pmovzxdq => general(VecOp::Extend(false, Width::D, Width::Q)),
        Pabsb => general(VecOp::Un(VUn::AbsB)),
        Pabsw => general(VecOp::Un(VUn::AbsW)),
        Pabsd => general(VecOp::Un(VUn::AbsD)),
        Phminposuw => general(VecOp::Un(VUn::MinPos)),
        Ptest => general(VecOp::Test),
        Aesenc => general(VecOp::Bin(VBin::AesEnc)),
        Aesenclast => general(VecOp::Bin(VBin::AesEncLast)),
        Aesdec => general(VecOp::Bin(VBin::AesDec)),
        Aesdeclast => general(VecOp::Bin(VBin::AesDecLast)),
        Aesimc => general(VecOp::Un(VUn::AesImc)),
        Aeskeygenassist => general(VecOp::Imm(VImm::AesKey)),
        Pclmulqdq => general(VecOp::Imm(VImm::Clmul)),
        Sha1nexte => general(VecOp::Bin(VBin::Sha1NextE)),
        Sha1msg1 => general(VecOp::Bin(VBin::Sha1Msg1)),
        Sha1msg2 => general(VecOp::Bin(VBin::Sha1Msg2)),
        Sha1rnds4 => general(VecOp::Imm(VImm::Sha1Rounds)),
        Sha256msg1 => general(VecOp::Bin(VBin::Sha256Msg1)),
        Sha256msg2 => general(VecOp::Bin(VBin::Sha256Msg2)),
        Sha256rnds2 => general(VecOp::Sha256Rounds),
        _ => return None,
    })
}

/// Floating-point arithmetic, comparisons, conversions.
fn float(m: Mnemonic, x: &Instruction) -> Option<Choice> {
    use Mnemonic::*;
    Some(match m {
        Addss => scalar!(Add, F32),
        Addsd => scalar!(Add, F64),
        Subss => scalar!(Sub, F32),
        Subsd => scalar!(Sub, F64),
        Mulss => scalar!(Mul, F32),
        Mulsd => scalar!(Mul, F64),
        Divss => scalar!(Div, F32),
        Divsd => scalar!(Div, F64),
        Minss => scalar!(Min, F32),
        Minsd => scalar!(Min, F64),
        Maxss => scalar!(Max, F32),
        Maxsd => scalar!(Max, F64),
        Sqrtss => scalar!(Sqrt, F32),
        Sqrtsd => scalar!(Sqrt, F64),
        Rcpss => general(VecOp::FpScalar(FpOp::Rcp, Prec::F32)),
        Rsqrtss => general(VecOp::FpScalar(FpOp::Rsqrt, Prec::F32)),
        Addps => packed!(Add, F32),
        Addpd => packed!(Add, F64),
        Subps => packed!(Sub, F32),
        Subpd => packed!(Sub, F64),
        Mulps => packed!(Mul, F32),
        Mulpd => packed!(Mul, F64),
        Divps => packed!(Div, F32),
        Divpd => packed!(Div, F64),
        Minps => general(VecOp::FpPacked(FpOp::Min, Prec::F32)),
        Minpd => general(VecOp::FpPacked(FpOp::Min, Prec::F64)),
        Maxps => general(VecOp::FpPacked(FpOp::Max, Prec::F32)),
        Maxpd => general(VecOp::FpPacked(FpOp::Max, Prec::F64)),
        Sqrtps => general(VecOp::FpPacked(FpOp::Sqrt, Prec::F32)),
        Sqrtpd => general(VecOp::FpPacked(FpOp::Sqrt, Prec::F64)),
        Rcpps => general(VecOp::FpPacked(FpOp::Rcp, Prec::F32)),
        Rsqrtps => general(VecOp::FpPacked(FpOp::Rsqrt, Prec::F32)),
        Addsubps => general(VecOp::FpPacked(FpOp::AddSub, Prec::F32)),
        Addsubpd => general(VecOp::FpPacked(FpOp::AddSub, Prec::F64)),
        Haddps => general(VecOp::FpHorizontal(FpOp::Add, Prec::F32)),
        Haddpd => general(VecOp::FpHorizontal(FpOp::Add, Prec::F64)),
        Hsubps => general(VecOp::FpHorizontal(FpOp::Sub, Prec::F32)),
        Hsubpd => general(VecOp::FpHorizontal(FpOp::Sub, Prec::F64)),
        Cmpps => general(VecOp::FpCmpPacked(Prec::F32)),
        Cmppd => general(VecOp::FpCmpPacked(Prec::F64)),
        Cmpss => general(VecOp::FpCmp(Prec::F32)),
        Cmpsd if matches!(x.code(), Code::Cmpsd_xmm_xmmm64_imm8 | Code::VEX_Vcmpsd_xmm_xmm_xmmm64_imm8) => {
            general(VecOp::FpCmp(Prec::F64))
        }
        Comiss => hot!(VecOp::FpFlags(Prec::F32, false), lift::fp_flags, Prec::F32, false),
        Comisd => hot!(VecOp::FpFlags(Prec::F64, false), lift::fp_flags, Prec::F64, false),
        Ucomiss => hot!(VecOp::FpFlags(Prec::F32, true), lift::fp_flags, Prec::F32, true),
        Ucomisd => hot!(VecOp::FpFlags(Prec::F64, true), lift::fp_flags, Prec::F64, true),
        Roundss => general(VecOp::FpRound(Prec::F32)),
        Roundsd => general(VecOp::FpRound(Prec::F64)),
        Roundps => general(VecOp::FpRoundPacked(Prec::F32)),
        Roundpd => general(VecOp::FpRoundPacked(Prec::F64)),
        Cvtss2sd => hot!(VecOp::ConvertFloat(Prec::F32), lift::convert_float, Prec::F32),
        Cvtsd2ss => hot!(VecOp::ConvertFloat(Prec::F64), lift::convert_float, Prec::F64),
        Cvtdq2ps => general(VecOp::ConvertPacked(CvtX::I32ToF32)),
        Cvtps2dq => general(VecOp::ConvertPacked(CvtX::F32ToI32)),
        Cvttps2dq => general(VecOp::ConvertPacked(CvtX::F32ToI32Trunc)),
        Cvtdq2pd => general(VecOp::ConvertPacked(CvtX::I32ToF64)),
        Cvtpd2dq => general(VecOp::ConvertPacked(CvtX::F64ToI32)),
        Cvttpd2dq => general(VecOp::ConvertPacked(CvtX::F64ToI32Trunc)),
        Cvtps2pd => general(VecOp::ConvertPacked(CvtX::F32ToF64)),
        Cvtpd2ps => general(VecOp::ConvertPacked(CvtX::F64ToF32)),
        _ => return integer_conversion(m, x),
    })
}

/// Conversions between general registers and scalars.
fn integer_conversion(m: Mnemonic, x: &Instruction) -> Option<Choice> {
    use Mnemonic::*;
    macro_rules! from {
        ($w:ident, $p:ident) => {
            hot!(
                VecOp::ConvertFromInteger(Width::$w, Prec::$p),
                lift::convert_from_integer,
                Width::$w,
                Prec::$p
            )
        };
    }
    macro_rules! to {
        ($p:ident, $w:ident, $t:expr) => {
            hot!(
                VecOp::ConvertToInteger(Prec::$p, Width::$w, $t),
                lift::convert_to_integer,
                Prec::$p,
                Width::$w,
                $t
            )
        };
    }
    let quad = match m {
        Cvtsi2ss | Cvtsi2sd => integer_width(x, x.op_count() - 1) == Width::Q,
        _ => x.op0_register().size() == 8,
    };
    Some(match (m, quad) {
        (Cvtsi2ss, false) => from!(D, F32),
        (Cvtsi2ss, true) => from!(Q, F32),
        (Cvtsi2sd, false) => from!(D, F64),
        (Cvtsi2sd, true) => from!(Q, F64),
        (Cvtss2si, false) => to!(F32, D, false),
        (Cvtss2si, true) => to!(F32, Q, false),
        (Cvttss2si, false) => to!(F32, D, true),
        (Cvttss2si, true) => to!(F32, Q, true),
        (Cvtsd2si, false) => to!(F64, D, false),
        (Cvtsd2si, true) => to!(F64, Q, false),
        (Cvttsd2si, false) => to!(F64, D, true),
        (Cvttsd2si, true) => to!(F64, Q, true),
        _ => return None,
    })
}

/// Instructions with a handler of their own.
fn rare(m: Mnemonic) -> Option<Choice> {
    use Mnemonic::*;
    Some(match m {
        Ldmxcsr => cold!(cold::ldmxcsr),
        Stmxcsr => cold!(cold::stmxcsr),
        Maskmovdqu => cold!(cold::maskmovdqu),
        Mpsadbw => general(VecOp::Imm(VImm::Mpsadbw)),
        Dpps => general(VecOp::DotProduct(Prec::F32)),
        Dppd => general(VecOp::DotProduct(Prec::F64)),
        Pcmpestri => cold!(string::pcmpestri::<false>),
        Pcmpestri64 => cold!(string::pcmpestri::<true>),
        Pcmpestrm => cold!(string::pcmpestrm::<false>),
        Pcmpestrm64 => cold!(string::pcmpestrm::<true>),
        Pcmpistri => cold!(string::pcmpistri),
        Pcmpistrm => cold!(string::pcmpistrm),
        _ => return None,
    })
}
