//! Direct jumps between blocks, which are written into generated code.
//!
//! Each static exit of a block is a direct jump. Until it is linked it leads to its *way out*, a few instructions behind the block's
//! code that hand the link to the stub of the thunks. Linking and unlinking replace the jump's four bytes. They are aligned (aarch64)
//! or do not cross a 64-byte line (x86-64: [`CodeCache::install`](crate::code::CodeCache::install) sees to that), so that another
//! processor fetches the old jump or the new one (Arm ARM B2.3.6: B is among the instructions that may be modified while they are
//! executed; Intel and AMD: a store within a line is seen as a whole).

use crate::layout::Link;

/// How Cranelift's functions begin on x86-64: PUSH RBP; MOV RBP, RSP. Before a tail call they undo it.
#[cfg(target_arch = "x86_64")]
const FRAME: [u8; 4] = [0x55, 0x48, 0x89, 0xe5];

/// Offset of the entry for jumps that leave the frame set up ([`keep_frame`]); 0: there is none.
#[cfg(target_arch = "x86_64")]
pub fn entry_with_frame(code: &[u8]) -> usize {
    if code.starts_with(&FRAME) { FRAME.len() } else { 0 }
}

/// There is none: not done on this host yet.
#[cfg(not(target_arch = "x86_64"))]
pub fn entry_with_frame(_: &[u8]) -> usize {
    0
}

/// Makes the jump with its displacement at `site` leave the frame set up for its target, which is the next block's to use: POP RBP
/// becomes NOP. `false`: nothing was changed.
pub fn keep_frame(code: &mut [u8], site: usize) -> bool {
    // POP RBP; JMP rel32.
    let end = site.checked_sub(2).and_then(|at| code.get_mut(at..site));
    match end {
        Some(end @ [0x5d, 0xe9]) => {
            end[0] = 0x90;
            true
        }
        _ => false,
    }
}

/// Bytes of a jump that are replaced.
pub const PATCHED: usize = 4;

/// The four bytes at host address `site` that make the jump there lead to `to`. `None`: too far.
#[cfg(target_arch = "x86_64")]
pub fn to(site: usize, to: usize) -> Option<[u8; PATCHED]> {
    // JMP rel32: from the end of the displacement.
    let distance = (to as i64).wrapping_sub(site as i64 + PATCHED as i64);
    i32::try_from(distance).ok().map(i32::to_le_bytes)
}

/// The instruction at host address `site` that jumps to `to`. `None`: too far.
#[cfg(target_arch = "aarch64")]
pub fn to(site: usize, to: usize) -> Option<[u8; PATCHED]> {
    // B: 26 bits of words.
    let words = (to as i64).wrapping_sub(site as i64) >> 2;
    let near = (-(1 << 25)..1 << 25).contains(&words);
    near.then(|| (0x1400_0000 | words as u32 & 0x03ff_ffff).to_le_bytes())
}

/// No code is generated for this host.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn to(_: usize, _: usize) -> Option<[u8; PATCHED]> {
    None
}

/// The way out of `link`, whatever its place: loads the link's address where `stub` wants it and jumps there. The state stays
/// where Cranelift's tail convention has the first argument. `frame`: the jumps that lead here keep it.
#[cfg(target_arch = "x86_64")]
pub fn way_out(link: *const Link, stub: usize, frame: bool) -> Vec<u8> {
    let mut code = if frame { vec![0x5d] } else { Vec::new() }; // pop rbp
    code.extend_from_slice(&[0x48, 0xbe]); // mov rsi, imm64
    code.extend_from_slice(&(link as u64).to_le_bytes());
    code.extend_from_slice(&[0x48, 0xb8]); // mov rax, imm64
    code.extend_from_slice(&(stub as u64).to_le_bytes());
    code.extend_from_slice(&[0xff, 0xe0]); // jmp rax
    code
}

/// As on x86-64.
#[cfg(target_arch = "aarch64")]
pub fn way_out(link: *const Link, stub: usize, _frame: bool) -> Vec<u8> {
    // ldr x3, 16; ldr x9, 20; br x9; nop; and the two addresses
    let mut code: Vec<u8> = [0x5800_0083u32, 0x5800_00a9, 0xd61f_0120, 0xd503_201f]
        .iter()
        .flat_map(|i| i.to_le_bytes())
        .collect();
    code.extend_from_slice(&(link as u64).to_le_bytes());
    code.extend_from_slice(&(stub as u64).to_le_bytes());
    code
}

/// No code is generated for this host.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn way_out(_: *const Link, _: usize, _: bool) -> Vec<u8> {
    Vec::new()
}

/// May the bytes at this host address be replaced while another processor executes them?
pub const fn patchable(site: usize) -> bool {
    site % 64 <= 64 - PATCHED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn displacements_count_from_their_end() {
        assert_eq!(to(0x1000, 0x1004), Some([0; 4]));
        assert_eq!(to(0x1000, 0x1000), Some((-4i32).to_le_bytes()));
        assert_eq!(to(0, 0x8000_0003), Some(i32::MAX.to_le_bytes()));
        assert_eq!(to(0, 0x8000_0004), None);
    }

    #[test]
    #[cfg(target_arch = "aarch64")]
    fn branches_count_words() {
        assert_eq!(to(0x1000, 0x1000), Some(0x1400_0000u32.to_le_bytes()));
        assert_eq!(to(0x1000, 0xffc), Some(0x17ff_ffffu32.to_le_bytes()));
        assert_eq!(to(0, (1 << 27) - 4), Some(0x15ff_ffffu32.to_le_bytes()));
        assert_eq!(to(0, 1 << 27), None);
    }

    #[test]
    fn no_jump_crosses_a_line() {
        assert!(patchable(0) && patchable(60) && patchable(64));
        assert!(!patchable(61) && !patchable(63));
    }
}
