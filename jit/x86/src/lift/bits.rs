//! Bit tests, scans, BMI1/BMI2/ADX, CRC32.

use super::{Loc, Src, get, loc, read, read_for_write, write};
use crate::cc::CcKind;
use crate::emit::{Addr, Emitter, R, Rmw, Stop};
use crate::insn::{BitScan, BitTest, Bmi, Cond, Insn, Opnd, Width, prefix};
use crate::state::{reg, rflags};

/// BT, BTS, BTR, BTC. A register bit offset reaches outside a memory operand (SDM BT): the address moves by whole
/// operands.
#[inline(always)]
pub fn bit_test<E: Emitter>(e: &mut E, i: &Insn, op: BitTest, w: Width) -> R<()> {
    let n = get(e, i, i.src, w)?;
    let mask = e.imm(w, u64::from(w.bits() - 1));
    let bit = e.and(w, n, mask);
    let bit8 = e.trunc(Width::B, bit);
    let l = match loc(e, i, i.dst) {
        Loc::Mem(a) if i.src != Opnd::Imm => Loc::Mem(moved(e, i, a, w, n)),
        l => l,
    };
    let one = e.imm(w, 1);
    let m = e.shl(w, one, bit8);
    let old = match (op, l) {
        (BitTest::Bt, l) => read(e, l, w)?,
        (_, Loc::Mem(at)) if i.has(prefix::LOCK) => {
            let (rmw, v) = match op {
                BitTest::Bts => (Rmw::Or, m),
                BitTest::Btr => (Rmw::And, e.not(w, m)),
                _ => (Rmw::Xor, m),
            };
            e.atomic(at, w, rmw, v)?
        }
        (_, l) => {
            let old = read_for_write(e, l, w)?;
            let v = match op {
                BitTest::Bts => e.or(w, old, m),
                BitTest::Btr => {
                    let m = e.not(w, m);
                    e.and(w, old, m)
                }
                _ => e.xor(w, old, m),
            };
            write(e, l, w, v)?;
            old
        }
    };
    let cf = e.shr(w, old, bit8);
    let one = e.imm(w, 1);
    let cf = e.and(w, cf, one);
    let cf = if w > Width::D { e.trunc(Width::D, cf) } else { e.zext(w, Width::D, cf) };
    let always = e.imm(Width::B, 1);
    e.set_flag_bits(always, rflags::CF, cf);
    Ok(())
}

/// The address of the operand that holds bit `n` (signed) of the bit string at `a`.
#[inline(always)]
fn moved<E: Emitter>(e: &mut E, i: &Insn, a: Addr<E::V>, w: Width, n: E::V) -> Addr<E::V> {
    let n = e.sext(w, Width::Q, n);
    // n >> log2(bits) operands, each of bytes(w).
    let log = e.imm(Width::B, u64::from(w.bits().trailing_zeros()));
    let q = e.sar(Width::Q, n, log);
    let scale = e.imm(Width::B, u64::from(w.bytes().trailing_zeros()));
    let d = e.shl(Width::Q, q, scale);
    let d = e.trunc(i.aw, d);
    Addr { off: e.add(i.aw, a.off, d), ..a }
}

/// BSF, BSR, TZCNT, LZCNT, POPCNT.
#[inline(always)]
pub fn scan<E: Emitter, S: Src>(e: &mut E, i: &Insn, op: BitScan, w: Width) -> R<()> {
    let v = S::get(e, i, w)?;
    let z = e.imm(w, 0);
    let empty = e.eq(w, v, z);
    let res = match op {
        BitScan::Bsf | BitScan::Tzcnt => e.ctz(w, v),
        BitScan::Bsr => {
            let n = e.clz(w, v);
            let top = e.imm(w, u64::from(w.bits() - 1));
            e.sub(w, top, n)
        }
        BitScan::Lzcnt => e.clz(w, v),
        BitScan::Popcnt => e.popcnt(w, v),
    };
    match op {
        BitScan::Bsf | BitScan::Bsr => {
            // A zero source leaves the whole destination unchanged (AMD APM; Intel processors do the same).
            let old = e.gpr(Width::Q, i.rd);
            let wide = if w == Width::W {
                let low = e.zext(w, Width::Q, res);
                let m = e.imm(Width::Q, !0xffff);
                let high = e.and(Width::Q, old, m);
                e.or(Width::Q, high, low)
            } else {
                e.zext(w, Width::Q, res)
            };
            let v2 = e.select(Width::Q, empty, old, wide);
            e.set_gpr(Width::Q, i.rd, v2);
            // ZF by the source; the others are undefined.
            e.set_cc(CcKind::Logic, w, v, v, v);
        }
        BitScan::Tzcnt | BitScan::Lzcnt => {
            e.set_gpr(w, i.rd, res);
            let cf = e.zext(Width::B, w, empty);
            e.set_cc(CcKind::Bmi, w, res, cf, cf);
        }
        BitScan::Popcnt => {
            e.set_gpr(w, i.rd, res);
            let zf = e.zext(Width::B, Width::D, empty);
            let n = e.imm(Width::B, 6);
            let f = e.shl(Width::D, zf, n);
            let none = e.imm(Width::D, 0);
            e.set_cc(CcKind::Flags, Width::D, f, none, none);
        }
    }
    Ok(())
}

/// BMI1, BMI2, ADX. Operands: `dst`, `src` (first source), `src2` (second source), as the encoding lists them.
#[inline(always)]
pub fn bmi<E: Emitter>(e: &mut E, i: &Insn, op: Bmi, w: Width) -> R<()> {
    let one = e.imm(w, 1);
    let z = e.imm(w, 0);
    match op {
        Bmi::Andn => {
            let a = get(e, i, i.src, w)?;
            let b = get(e, i, i.src2, w)?;
            let a = e.not(w, a);
            let r = e.and(w, a, b);
            e.set_gpr(w, i.rd, r);
            e.set_cc(CcKind::Logic, w, r, r, r);
        }
        Bmi::Blsi | Bmi::Blsmsk | Bmi::Blsr => {
            let a = get(e, i, i.src, w)?;
            let less = e.sub(w, a, one);
            let empty = e.eq(w, a, z);
            let (r, cf) = match op {
                Bmi::Blsi => {
                    let n = e.neg(w, a);
                    let one = e.imm(Width::B, 1);
                    (e.and(w, a, n), e.xor(Width::B, empty, one))
                }
                Bmi::Blsmsk => (e.xor(w, a, less), empty),
                _ => (e.and(w, a, less), empty),
            };
            let cf = e.zext(Width::B, w, cf);
            e.set_gpr(w, i.rd, r);
            e.set_cc(CcKind::Bmi, w, r, cf, cf);
        }
        Bmi::Bextr | Bmi::Bzhi => {
            let a = get(e, i, i.src, w)?;
            let c = get(e, i, i.src2, w)?;
            let start = e.trunc(Width::B, c);
            let start = e.zext(Width::B, Width::Q, start);
            let bits = e.imm(Width::Q, u64::from(w.bits()));
            let a64 = e.zext(w, Width::Q, a);
            let c64 = e.zext(w, Width::Q, c);
            let (r, cf) = if op == Bmi::Bextr {
                let eight = e.imm(Width::B, 8);
                let len = e.shr(Width::Q, c64, eight);
                let len = e.trunc(Width::B, len);
                let len = e.zext(Width::B, Width::Q, len);
                let inside = e.ult(Width::Q, start, bits);
                let v = e.shr(Width::Q, a64, start);
                let none = e.imm(Width::Q, 0);
                let v = e.select(Width::Q, inside, v, none);
                (keep_low(e, v, len), z)
            } else {
                let inside = e.ult(Width::Q, start, bits);
                let one8 = e.imm(Width::B, 1);
                let cf = e.xor(Width::B, inside, one8);
                (keep_low(e, a64, start), e.zext(Width::B, w, cf))
            };
            let r = e.trunc(w, r);
            e.set_gpr(w, i.rd, r);
            e.set_cc(CcKind::Bmi, w, r, cf, cf);
        }
        Bmi::Mulx => {
            let b = get(e, i, i.src2, w)?;
            let a = e.gpr(w, reg::RDX);
            let lo = e.mul(w, a, b);
            let hi = e.mulhu(w, a, b);
            // If both destinations are one register, it holds the high half (SDM MULX).
            e.set_gpr(w, i.rs, lo);
            e.set_gpr(w, i.rd, hi);
        }
        Bmi::Pdep | Bmi::Pext => {
            if e.prefer_helper() {
                return Err(Stop);
            }
            let a = get(e, i, i.src, w)?;
            let m = get(e, i, i.src2, w)?;
            let r = scatter_gather(e, w, a, m, op == Bmi::Pdep);
            e.set_gpr(w, i.rd, r);
        }
        Bmi::Rorx => {
            let a = get(e, i, i.src, w)?;
            let n = e.imm(Width::B, i.imm & u64::from(w.bits() - 1));
            let r = e.rotr(w, a, n);
            e.set_gpr(w, i.rd, r);
        }
        Bmi::Sarx | Bmi::Shlx | Bmi::Shrx => {
            let a = get(e, i, i.src, w)?;
            let n = get(e, i, i.src2, w)?;
            let m = e.imm(w, u64::from(w.bits() - 1));
            let n = e.and(w, n, m);
            let r = match op {
                Bmi::Sarx => e.sar(w, a, n),
                Bmi::Shlx => e.shl(w, a, n),
                _ => e.shr(w, a, n),
            };
            e.set_gpr(w, i.rd, r);
        }
        Bmi::Adcx | Bmi::Adox => {
            let b = get(e, i, i.src, w)?;
            let a = e.gpr(w, i.rd);
            let cin = e.cond(if op == Bmi::Adcx { Cond::B } else { Cond::O });
            let cin = e.zext(Width::B, w, cin);
            let s = e.add(w, a, b);
            let c1 = e.ult(w, s, a);
            let r = e.add(w, s, cin);
            let c2 = e.ult(w, r, s);
            let c = e.or(Width::B, c1, c2);
            let c = e.zext(Width::B, Width::D, c);
            let (mask, place) = if op == Bmi::Adcx { (rflags::CF, 0) } else { (rflags::OF, 11) };
            let n = e.imm(Width::B, place);
            let bits = e.shl(Width::D, c, n);
            let always = e.imm(Width::B, 1);
            e.set_gpr(w, i.rd, r);
            e.set_flag_bits(always, mask, bits);
        }
    }
    Ok(())
}

/// The low `n` bits of a 64-bit value; all of it for `n >= 64`.
#[inline(always)]
fn keep_low<E: Emitter>(e: &mut E, v: E::V, n: E::V) -> E::V {
    let c64 = e.imm(Width::Q, 64);
    let small = e.ult(Width::Q, n, c64);
    let one = e.imm(Width::Q, 1);
    let m = e.shl(Width::Q, one, n);
    let m = e.sub(Width::Q, m, one);
    let cut = e.and(Width::Q, v, m);
    e.select(Width::Q, small, cut, v)
}

/// PDEP (scatter) and PEXT, bit by bit.
#[inline(always)]
fn scatter_gather<E: Emitter>(e: &mut E, w: Width, a: E::V, mask: E::V, scatter: bool) -> E::V {
    let one = e.imm(w, 1);
    let mut r = e.imm(w, 0);
    let mut k = e.imm(w, 0);
    for place in 0..w.bits() {
        let p = e.imm(Width::B, u64::from(place));
        let m = e.shr(w, mask, p);
        let m = e.and(w, m, one);
        let k8 = e.trunc(Width::B, k);
        let (from, to) = if scatter { (k8, p) } else { (p, k8) };
        let b = e.shr(w, a, from);
        let b = e.and(w, b, m);
        let b = e.shl(w, b, to);
        r = e.or(w, r, b);
        k = e.add(w, k, m);
    }
    r
}

/// CRC32 (polynomial 11EDC6F41h, reflected), `w2` is the source's width.
#[inline(always)]
pub fn crc32<E: Emitter>(e: &mut E, i: &Insn) -> R<()> {
    if e.prefer_helper() {
        return Err(Stop);
    }
    let b = get(e, i, i.src, i.w2)?;
    let b = e.zext(i.w2, Width::Q, b);
    let acc = e.gpr(Width::D, i.rd);
    let acc = e.zext(Width::D, Width::Q, acc);
    let mut v = e.xor(Width::Q, acc, b);
    let one = e.imm(Width::Q, 1);
    let shift = e.imm(Width::B, 1);
    let poly = e.imm(Width::Q, 0x82f6_3b78);
    for _ in 0..i.w2.bits() {
        let low = e.and(Width::Q, v, one);
        let m = e.neg(Width::Q, low);
        let p = e.and(Width::Q, poly, m);
        let s = e.shr(Width::Q, v, shift);
        v = e.xor(Width::Q, s, p);
    }
    let r = e.trunc(Width::D, v);
    e.set_gpr(Width::Q, i.rd, r);
    Ok(())
}
