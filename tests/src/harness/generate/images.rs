//! Images of states that instructions load.

use super::state;
use crate::harness::guest::Bits;
use crate::harness::random::Rng;

/// The environment of FLDENV, and FRSTOR's registers after it: `len` bytes.
pub(super) fn environment(rng: &mut Rng, len: usize) -> Vec<u8> {
    let mut image = vec![0; len];
    let wide = matches!(len, 28 | 108);
    let word = if wide { 4 } else { 2 };
    let control = if rng.one_in(2) { 0x37f } else { rng.draw() as u16 & 0xf3f | 0x40 };
    let mut status = rng.draw() as u16 & 0x7f7f;
    if rng.one_in(2) {
        status &= !0x3f;
    }
    let tags = if rng.one_in(2) { rng.draw() as u16 } else { 0xffff };
    for (n, v) in [control, status, tags].into_iter().enumerate() {
        image[n * word..n * word + 2].copy_from_slice(&v.to_le_bytes());
    }
    let registers = if wide { 28 } else { 14 };
    for register in image[registers.min(len)..].chunks_exact_mut(10) {
        register.copy_from_slice(&rng.extended());
    }
    image
}

/// The image of FXRSTOR.
pub(super) fn fxsave(rng: &mut Rng, bits: Bits) -> Vec<u8> {
    let s = state(rng, bits);
    let mut image = vec![0; 512];
    image[..2].copy_from_slice(&s.fp.cw.to_le_bytes());
    image[2..4].copy_from_slice(&s.fp.sw.to_le_bytes());
    image[4] = s.fp.tag;
    // Sometimes with a reserved bit; 17 means something on AMD's processors.
    let mxcsr = if rng.one_in(10) { s.mxcsr | 1 << (18 + rng.below(14)) } else { s.mxcsr };
    image[24..28].copy_from_slice(&mxcsr.to_le_bytes());
    for n in 0..8 {
        image[32 + 16 * n..][..10].copy_from_slice(&s.fp.st[n]);
    }
    for n in 0..16 {
        image[160 + 16 * n..][..16].copy_from_slice(&s.xmm[n].to_le_bytes());
    }
    image
}

/// The image of XRSTOR: mostly in the standard format, sometimes compacted, sometimes with a header that is wrong.
pub(super) fn xsave(rng: &mut Rng, bits: Bits) -> Vec<u8> {
    let mut image = fxsave(rng, bits);
    image.resize(832, 0);
    image[512] = rng.below(8) as u8;
    match rng.below(8) {
        0 | 1 => {
            // XCOMP_BV: bit 63, and the components.
            image[520] = 7;
            image[527] = 0x80;
        }
        2 => {
            image[520] = image[512] | rng.below(8) as u8;
            image[527] = 0x80;
        }
        3 => image[512 + rng.below(64) as usize] |= 1 << rng.below(8),
        _ => {}
    }
    for chunk in image[576..].chunks_exact_mut(16) {
        chunk.copy_from_slice(&rng.vector().to_le_bytes());
    }
    image
}
