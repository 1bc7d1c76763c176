//! Which flags an instruction leaves undefined, so that processors may differ there.

use iced_x86::{Instruction, Mnemonic, RflagsBits};

use super::state::State;

/// The undefined flags of `x` executed in `before`, as RFLAGS bits.
pub fn flags(x: &Instruction, before: &State) -> u64 {
    use Mnemonic as M;
    let bits = x.rflags_undefined();
    let named = [
        (RflagsBits::OF, 11),
        (RflagsBits::SF, 7),
        (RflagsBits::ZF, 6),
        (RflagsBits::AF, 4),
        (RflagsBits::CF, 0),
        (RflagsBits::PF, 2),
        (RflagsBits::DF, 10),
    ];
    let mut undefined = named.iter().filter(|(r, _)| bits & r != 0).fold(0, |m, (_, b)| m | 1u64 << b);
    match x.mnemonic() {
        M::Shl | M::Sal | M::Shr | M::Sar | M::Shld | M::Shrd | M::Rol | M::Ror | M::Rcl | M::Rcr => {
            let last = x.op_count() - 1;
            let count =
                if x.op_kind(last) == iced_x86::OpKind::Register { before.gpr[1] } else { x.immediate(last) };
            let (size, wide) = operand_bits(x);
            let count = count & if wide { 63 } else { 31 };
            let double = matches!(x.mnemonic(), M::Shld | M::Shrd);
            let through_carry = matches!(x.mnemonic(), M::Rcl | M::Rcr);
            if count == 0 {
                // SDM: a masked count of 0 leaves every flag unchanged.
                undefined = 0;
            } else if count == 1 {
                undefined &= !(1 << 11);
            } else {
                undefined |= 1 << 11;
            }
            if double && count > size {
                undefined |= super::state::ARITH;
            }
            // CF is undefined for SHL and SHR beyond the operand's size.
            if matches!(x.mnemonic(), M::Shl | M::Sal | M::Shr) && count >= size {
                undefined |= 1;
            }
            if through_carry && count % (size + 1) == 0 {
                // The count that is left is 0: OF may be taken from the result or left alone.
                undefined |= 1 << 11;
            }
        }
        _ => {}
    }
    undefined
}

/// Is the destination undefined too?
pub fn result(x: &Instruction, before: &State) -> bool {
    use Mnemonic as M;
    match x.mnemonic() {
        M::Shld | M::Shrd => {
            let last = x.op_count() - 1;
            let count =
                if x.op_kind(last) == iced_x86::OpKind::Register { before.gpr[1] } else { x.immediate(last) };
            let (size, wide) = operand_bits(x);
            count & if wide { 63 } else { 31 } > size
        }
        // SDM BSWAP: the result for a 16-bit operand is undefined.
        M::Bswap => operand_bits(x).0 == 16,
        _ => false,
    }
}

/// The bits of the x87 status word that count after these instructions.
pub fn status(insns: &[Instruction]) -> u16 {
    use Mnemonic as M;
    let has = |of: &[Mnemonic]| insns.iter().any(|x| of.contains(&x.mnemonic()));
    if !insns.iter().any(|x| format!("{:?}", x.mnemonic()).starts_with('F')) {
        return !0;
    }
    // C0, C2 and C3 are undefined after most x87 instructions; FCOMI's C1 is cleared or left alone.
    let compares = [
        M::Fcom,
        M::Fcomp,
        M::Fcompp,
        M::Fucom,
        M::Fucomp,
        M::Fucompp,
        M::Ficom,
        M::Ficomp,
        M::Ftst,
        M::Fxam,
        M::Fprem,
        M::Fprem1,
    ];
    if has(&compares) {
        !0
    } else if has(&[M::Fcomi, M::Fcomip, M::Fucomi, M::Fucomip]) {
        !0x4700
    } else {
        !0x4500
    }
}

/// Size of the first operand in bits, and whether it is 64.
fn operand_bits(x: &Instruction) -> (u64, bool) {
    let bytes = match x.op0_kind() {
        iced_x86::OpKind::Register => x.op0_register().size(),
        _ => x.memory_size().size(),
    };
    (bytes as u64 * 8, bytes == 8)
}
