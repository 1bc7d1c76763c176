//! MIN, MAX, CMP, COMI and UCOMI.

use super::MxEnv;
use super::number::accept_denormals;
use crate::softfp::format::{DOUBLE, Format, SINGLE};
use crate::softfp::{IE, Relation};

/// Compares; raises IE for signalling NaNs, for quiet ones too if `signal_quiet`, and DE.
#[inline]
fn relate(format: Format, a: u64, b: u64, signal_quiet: bool, env: &mut MxEnv) -> Relation {
    if format.is_nan(a) || format.is_nan(b) {
        if signal_quiet || format.is_signalling(a) || format.is_signalling(b) {
            env.raise(IE);
        }
        return Relation::Unordered;
    }
    let (a, b) = (format.flushed(a, env), format.flushed(b, env));
    if format.is_denormal(a) || format.is_denormal(b) {
        accept_denormals(format, &[a, b], env);
    }
    // Sign and magnitude as one ordered integer; both zeros are 0.
    let key = |bits: u64| {
        let magnitude = (bits & (format.sign_bit() - 1)) as i64;
        if format.is_negative(bits) { -magnitude } else { magnitude }
    };
    match key(a).cmp(&key(b)) {
        core::cmp::Ordering::Less => Relation::Less,
        core::cmp::Ordering::Equal => Relation::Equal,
        core::cmp::Ordering::Greater => Relation::Greater,
    }
}

/// MIN or MAX: the second operand if they are equal or unordered.
#[inline]
fn select(format: Format, a: u64, b: u64, wanted: Relation, env: &mut MxEnv) -> u64 {
    let relation = relate(format, a, b, true, env);
    let chosen = if relation == wanted { a } else { b };
    format.flushed(chosen, env)
}

/// MINSS: `a < b ? a : b`.
#[inline]
pub fn min32(a: u32, b: u32, env: &mut MxEnv) -> u32 {
    select(SINGLE, u64::from(a), u64::from(b), Relation::Less, env) as u32
}

/// MINSD: `a < b ? a : b`.
#[inline]
pub fn min64(a: u64, b: u64, env: &mut MxEnv) -> u64 {
    select(DOUBLE, a, b, Relation::Less, env)
}

/// MAXSS: `a > b ? a : b`.
#[inline]
pub fn max32(a: u32, b: u32, env: &mut MxEnv) -> u32 {
    select(SINGLE, u64::from(a), u64::from(b), Relation::Greater, env) as u32
}

/// MAXSD: `a > b ? a : b`.
#[inline]
pub fn max64(a: u64, b: u64, env: &mut MxEnv) -> u64 {
    select(DOUBLE, a, b, Relation::Greater, env)
}

const LT: u8 = 1;
const EQ: u8 = 2;
const GT: u8 = 4;
const UN: u8 = 8;

/// The relations for which a predicate holds, by its low four bits (SDM vol. 2, CMPPD, table 3-1).
const PREDICATES: [u8; 16] = [
    EQ,
    LT,
    LT | EQ,
    UN,
    LT | GT | UN,
    EQ | GT | UN,
    GT | UN,
    LT | EQ | GT,
    EQ | UN,
    LT | UN,
    LT | EQ | UN,
    0,
    LT | GT,
    EQ | GT,
    GT,
    LT | EQ | GT | UN,
];

#[inline]
fn holds(format: Format, a: u64, b: u64, predicate: u8, env: &mut MxEnv) -> bool {
    // The ordering predicates signal quiet NaNs; bit 4 turns that round for each.
    let signal_quiet = matches!(predicate & 3, 1 | 2) != (predicate & 0x10 != 0);
    let relation = match relate(format, a, b, signal_quiet, env) {
        Relation::Less => LT,
        Relation::Equal => EQ,
        Relation::Greater => GT,
        Relation::Unordered => UN,
    };
    PREDICATES[usize::from(predicate & 15)] & relation != 0
}

/// CMPSS, VCMPSS; legacy encodings have predicates 0-7.
#[inline]
pub fn cmp32(a: u32, b: u32, predicate: u8, env: &mut MxEnv) -> bool {
    holds(SINGLE, u64::from(a), u64::from(b), predicate, env)
}

/// CMPSD, VCMPSD; legacy encodings have predicates 0-7.
#[inline]
pub fn cmp64(a: u64, b: u64, predicate: u8, env: &mut MxEnv) -> bool {
    holds(DOUBLE, a, b, predicate, env)
}

/// COMISS: every NaN is invalid.
#[inline]
pub fn comi32(a: u32, b: u32, env: &mut MxEnv) -> Relation {
    relate(SINGLE, u64::from(a), u64::from(b), true, env)
}

/// COMISD: every NaN is invalid.
#[inline]
pub fn comi64(a: u64, b: u64, env: &mut MxEnv) -> Relation {
    relate(DOUBLE, a, b, true, env)
}

/// UCOMISS: signalling NaNs are invalid.
#[inline]
pub fn ucomi32(a: u32, b: u32, env: &mut MxEnv) -> Relation {
    relate(SINGLE, u64::from(a), u64::from(b), false, env)
}

/// UCOMISD: signalling NaNs are invalid.
#[inline]
pub fn ucomi64(a: u64, b: u64, env: &mut MxEnv) -> Relation {
    relate(DOUBLE, a, b, false, env)
}
