//! VEX encodings (SDM vol. 2, 2.3): what has a legacy form, under its name with a V; FMA3; and what AVX adds.

use std::sync::LazyLock;

use iced_x86::{CpuidFeature, Instruction, Mnemonic, OpKind};

use super::{Choice, UNDEFINED, general, number, record, refuse, tables};
use crate::eval::done;
use crate::insn::{Insn, Opnd, Width, prefix};
use crate::state::Mode;
use crate::vec::emitter::{FmaOp, Prec, VBin};
use crate::vec::lift::{FmaOrder, Shuffle};
use crate::vec::{VecOp, gather, half};

/// The extensions with VEX encodings that some model of ours reports. Others are #UD.
const KNOWN: [CpuidFeature; 6] = [
    CpuidFeature::AVX,
    CpuidFeature::AVX2,
    CpuidFeature::FMA,
    CpuidFeature::F16C,
    CpuidFeature::AES,
    CpuidFeature::PCLMULQDQ,
];

/// What a VEX mnemonic's name tells.
#[derive(Clone, Copy)]
enum Named {
    /// The instruction that is called so without the V.
    Legacy(Mnemonic),
    /// FMA3.
    Fma(VecOp),
    /// Nothing.
    New,
}

/// By mnemonic.
static NAMED: LazyLock<Vec<Named>> = LazyLock::new(|| {
    let all: Vec<(String, Mnemonic)> = Mnemonic::values().map(|m| (format!("{m:?}"), m)).collect();
    all.iter()
        .map(|(name, _)| {
            let Some(rest) = name.strip_prefix('V') else { return Named::New };
            if let Some(op) = fma(rest) {
                return Named::Fma(op);
            }
            // The dword and quadword logic of AVX-512 shares no name with a legacy instruction.
            match all.iter().find(|(n, _)| n.eq_ignore_ascii_case(rest)) {
                Some((_, m)) => Named::Legacy(*m),
                None => Named::New,
            }
        })
        .collect()
});

/// FMA3 by its name without the V: `f`, `madd` or its kin, the order, the format.
fn fma(name: &str) -> Option<VecOp> {
    let name = name.strip_prefix('f')?;
    let digits = name.find(|c: char| c.is_ascii_digit())?;
    let (op, rest) = name.split_at(digits);
    let op = match op {
        "madd" => FmaOp::Madd,
        "msub" => FmaOp::Msub,
        "nmadd" => FmaOp::Nmadd,
        "nmsub" => FmaOp::Nmsub,
        "maddsub" => FmaOp::MaddSub,
        "msubadd" => FmaOp::MsubAdd,
        _ => return None,
    };
    let order = match rest.get(..3)? {
        "132" => FmaOrder::O132,
        "213" => FmaOrder::O213,
        "231" => FmaOrder::O231,
        _ => return None,
    };
    Some(match rest.get(3..)? {
        "ps" => VecOp::FmaPacked(op, order, Prec::F32),
        "pd" => VecOp::FmaPacked(op, order, Prec::F64),
        "ss" => VecOp::FmaScalar(op, order, Prec::F32),
        "sd" => VecOp::FmaScalar(op, order, Prec::F64),
        _ => return None,
    })
}

/// Recognises a vector instruction in a VEX encoding; every one that is not known raises #UD.
pub(super) fn select(x: &Instruction, i: &mut Insn, mode: Mode) -> bool {
    i.prefix |= prefix::VEX;
    operands(x, i);
    let known = x.code().cpuid_features().iter().all(|f| KNOWN.contains(f));
    let Some(c) = choose(x, i).filter(|_| known) else {
        refuse(i, UNDEFINED);
        return true;
    };
    record(x, i, mode, c);
    i.run = match c.op {
        VecOp::Cold => c.run[0],
        op => general(op).run[0],
    };
    let distinct = !is_gather(x) || gather::describe(x, i);
    if is_masked_move(x) {
        i.w = if matches!(x.mnemonic(), Mnemonic::Vmaskmovps | Mnemonic::Vpmaskmovd) {
            Width::D
        } else {
            Width::Q
        };
    }
    // SDM vol. 2, 2.3.1 and table 2-17: not in real and virtual-8086 mode, and enabled by CR4.OSXSAVE and XCR0 only; CR0.EM and
    // CR4.OSFXSR do not matter.
    let there = mode.has(Mode::AVX) && mode.has(Mode::PROTECTED) && !mode.has(Mode::VM86);
    if !there || !distinct {
        refuse(i, UNDEFINED);
    } else if mode.has(Mode::TS) {
        refuse(i, |c, _, rest| done(Err(c.nm()), c, rest));
    }
    true
}

/// Operands in the places where `lift` looks for them.
fn operands(x: &Instruction, i: &mut Insn) {
    let n = x.op_count();
    for k in 0..n {
        match x.op_kind(k) {
            OpKind::Immediate8 => i.imm = x.immediate(k),
            // The fourth operand of a variable blend is in the immediate's upper half.
            OpKind::Register if k == 3 => i.imm = x.op_register(k).number() as u64,
            _ => {}
        }
    }
    let three = n > 2 && x.op_kind(2) != OpKind::Immediate8;
    if three {
        (i.src, i.src2) = (i.src2, i.src);
    }
    (i.rd, i.rs) = (number(i.dst), number(i.src));
    i.rv = if three { number(i.src2) } else { i.rs };
    let named = (0..n).any(|k| x.op_kind(k) == OpKind::Register && x.op_register(k).is_ymm());
    let wide = named || x.memory_index().is_ymm();
    if wide || x.memory_size().size() == 32 {
        i.prefix |= prefix::L256;
    }
}

fn is_gather(x: &Instruction) -> bool {
    x.memory_index().is_vector_register()
}

fn is_masked_move(x: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(x.mnemonic(), Vmaskmovps | Vmaskmovpd | Vpmaskmovd | Vpmaskmovq)
}

fn choose(x: &Instruction, i: &Insn) -> Option<Choice> {
    match NAMED[x.mnemonic() as usize] {
        Named::Legacy(m) => tables::choose(m, x, i),
        Named::Fma(op) => Some(general(op)),
        Named::New => added(x, i),
    }
}

/// What AVX, AVX2 and F16C add.
fn added(x: &Instruction, i: &Insn) -> Option<Choice> {
    use Mnemonic::*;
    let by_immediate = i.src2 == Opnd::Imm;
    Some(match x.mnemonic() {
        Vzeroupper => general(VecOp::ZeroUpper),
        Vzeroall => general(VecOp::ZeroAll),
        Vbroadcastss | Vpbroadcastd => general(VecOp::Broadcast(Width::D)),
        Vbroadcastsd | Vpbroadcastq => general(VecOp::Broadcast(Width::Q)),
        Vpbroadcastb => general(VecOp::Broadcast(Width::B)),
        Vpbroadcastw => general(VecOp::Broadcast(Width::W)),
        Vbroadcastf128 | Vbroadcasti128 => general(VecOp::BroadcastHalf),
        Vperm2f128 | Vperm2i128 => general(VecOp::PermuteHalves),
        Vinsertf128 | Vinserti128 => general(VecOp::InsertHalf),
        Vextractf128 | Vextracti128 => general(VecOp::ExtractHalf),
        Vpermq | Vpermpd => general(VecOp::PermuteQuads),
        Vpermd | Vpermps => general(VecOp::PermuteDwords),
        Vpermilps if by_immediate => general(VecOp::Shuffle(Shuffle::Pshufd)),
        Vpermilps => general(VecOp::Bin(VBin::PermD)),
        Vpermilpd if by_immediate => general(VecOp::Shuffle(Shuffle::Permilpd)),
        Vpermilpd => general(VecOp::Bin(VBin::PermQ)),
        Vpblendd => general(VecOp::Blend(Width::D)),
        Vpsllvd => general(VecOp::Bin(VBin::ShlvD)),
        Vpsllvq => general(VecOp::Bin(VBin::ShlvQ)),
        Vpsrlvd => general(VecOp::Bin(VBin::ShrvD)),
        Vpsrlvq => general(VecOp::Bin(VBin::ShrvQ)),
        Vpsravd => general(VecOp::Bin(VBin::SarvD)),
        Vtestps => general(VecOp::TestSigns(Width::D)),
        Vtestpd => general(VecOp::TestSigns(Width::Q)),
        Vcvtph2ps => cold!(half::to_single),
        Vcvtps2ph => cold!(half::from_single),
        _ if is_masked_move(x) && i.dst == Opnd::Mem => cold!(gather::masked_store),
        _ if is_masked_move(x) => cold!(gather::masked_load),
        _ if is_gather(x) => cold!(gather::gather),
        _ => return None,
    })
}
