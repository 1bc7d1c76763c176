//! Direct jumps between blocks, which are written into generated code.
//!
//! Each static exit of a block is a direct jump. Until it is linked it leads to its *way out*, a few instructions behind the block's
//! code that hand the link to the stub of the thunks. Linking and unlinking replace the jump's four bytes by one store, while other vCPUs
//! may execute them. They are aligned (aarch64) or do not cross a 64-byte line (x86-64:
//! [`CodeCache::install`](crate::code::CodeCache::install) sees to that), so that another processor fetches the old jump or the new one
//! (Arm ARM, B2.2.5: B is among the instructions that may be replaced while they are executed, and by B only is it replaced here; Intel and
//! AMD: a store within a line is seen as a whole). What else an aarch64 host asks for stands in [`crate::platform`].

#[cfg(not(loom))]
use cranelift_codegen::isa::TargetIsa;

use crate::layout::Link;

/// Bytes of a jump that are replaced.
pub const PATCHED: usize = 4;

/// How functions begin on x86-64: PUSH RBP; MOV RBP, RSP. Before a tail call they undo it.
const X86_FRAME: [u8; 4] = [0x55, 0x48, 0x89, 0xe5];
/// And on aarch64: STP X29, X30, [SP, #-16]!; MOV X29, SP. The return address in it is the same for all blocks: the dispatcher's.
const ARM_FRAME: [u8; 8] = [0xfd, 0x7b, 0xbf, 0xa9, 0xfd, 0x03, 0x00, 0x91];
/// LDP X29, X30, [SP], #16, before a tail call.
const ARM_POP: [u8; 4] = [0xfd, 0x7b, 0xc1, 0xa8];
/// NOP.
const ARM_NOP: [u8; 4] = [0x1f, 0x20, 0x03, 0xd5];

/// A host's instruction set, as far as jumps between blocks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jumps {
    /// JMP rel32.
    X86_64,
    /// B.
    Aarch64,
}

impl Jumps {
    /// Those of this host. `None`: no code is generated for it.
    pub const HERE: Option<Self> = if cfg!(target_arch = "x86_64") {
        Some(Self::X86_64)
    } else if cfg!(target_arch = "aarch64") {
        Some(Self::Aarch64)
    } else {
        None
    };

    /// Those of a compiler's target.
    #[cfg(not(loom))]
    pub fn of(isa: &dyn TargetIsa) -> Option<Self> {
        match isa.name() {
            "x64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// The bytes at host address `site` that make the jump there lead to `to`. `None`: too far.
    pub fn to(self, site: usize, to: usize) -> Option<[u8; PATCHED]> {
        let distance = (to as i64).wrapping_sub(site as i64);
        match self {
            // From the end of the displacement.
            Self::X86_64 => i32::try_from(distance - PATCHED as i64).ok().map(i32::to_le_bytes),
            // 26 bits of words.
            Self::Aarch64 => {
                let words = distance >> 2;
                let near = (-(1 << 25)..1 << 25).contains(&words);
                near.then(|| (0x1400_0000 | words as u32 & 0x03ff_ffff).to_le_bytes())
            }
        }
    }

    /// The way out of `link`, whatever its place: loads the link's address where `stub` wants it and jumps there. The state
    /// stays where Cranelift's tail convention has the first argument. `frame`: the jumps that lead here leave the frame set up.
    pub fn way_out(self, link: *const Link, stub: usize, frame: bool) -> Vec<u8> {
        let (link, stub) = ((link as u64).to_le_bytes(), (stub as u64).to_le_bytes());
        match self {
            Self::X86_64 => {
                // pop rbp; mov rsi, link; mov rax, stub; jmp rax
                let pop: &[u8] = if frame { &[0x5d] } else { &[] };
                [pop, &[0x48, 0xbe], &link, &[0x48, 0xb8], &stub, &[0xff, 0xe0]].concat()
            }
            Self::Aarch64 => {
                // ldr x3, 16; ldr x9, 20; br x9; nop; and the two addresses
                let code = [0x5800_0083u32, 0x5800_00a9, 0xd61f_0120, 0xd503_201f];
                let pop: &[u8] = if frame { &ARM_POP } else { &[] };
                let code = code.iter().flat_map(|i| i.to_le_bytes());
                pop.iter().copied().chain(code).chain(link).chain(stub).collect()
            }
        }
    }

    /// Offset of the entry for jumps that leave the frame set up ([`Self::keep_frame`]); 0: there is none.
    pub fn entry_with_frame(self, code: &[u8]) -> usize {
        let frame: &[u8] = match self {
            Self::X86_64 => &X86_FRAME,
            Self::Aarch64 => &ARM_FRAME,
        };
        if code.starts_with(frame) { frame.len() } else { 0 }
    }

    /// Makes the jump with its bytes at `site` leave the frame set up for the next block to use: what takes it down becomes NOP.
    /// `false`: nothing was changed.
    pub fn keep_frame(self, code: &mut [u8], site: usize) -> bool {
        let before = |n: usize| site.checked_sub(n).map(|at| at..site);
        match self {
            // POP RBP; JMP rel32.
            Self::X86_64 => match before(2).and_then(|r| code.get_mut(r)) {
                Some(end @ [0x5d, 0xe9]) => {
                    end[0] = 0x90;
                    true
                }
                _ => false,
            },
            Self::Aarch64 => match before(ARM_POP.len()).and_then(|r| code.get_mut(r)) {
                Some(end) if *end == ARM_POP => {
                    end.copy_from_slice(&ARM_NOP);
                    true
                }
                _ => false,
            },
        }
    }
}

/// Is this instruction of an aarch64 host B (Arm ARM, C6.2)?
pub const fn is_arm_branch(word: u32) -> bool {
    word >> 26 == 0b00_0101
}

/// May the bytes at this host address be replaced while another processor executes them?
pub const fn patchable(site: usize) -> bool {
    site % 64 <= 64 - PATCHED
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn displacements_count_from_their_end() {
        let x = Jumps::X86_64;
        assert_eq!(x.to(0x1000, 0x1004), Some([0; 4]));
        assert_eq!(x.to(0x1000, 0x1000), Some((-4i32).to_le_bytes()));
        assert_eq!(x.to(0, 0x8000_0003), Some(i32::MAX.to_le_bytes()));
        assert_eq!(x.to(0, 0x8000_0004), None);
    }

    #[test]
    fn branches_count_words() {
        let a = Jumps::Aarch64;
        assert_eq!(a.to(0x1000, 0x1000), Some(0x1400_0000u32.to_le_bytes()));
        assert_eq!(a.to(0x1000, 0xffc), Some(0x17ff_ffffu32.to_le_bytes()));
        assert_eq!(a.to(0, (1 << 27) - 4), Some(0x15ff_ffffu32.to_le_bytes()));
        assert_eq!(a.to(0, 1 << 27), None);
    }

    /// Arm ARM, B2.2.5: what is replaced while it is executed, and what replaces it, must be of a few kinds.
    #[test]
    fn only_branches_are_stored_over_branches() {
        let site = 0x7f00_0000_1000;
        for words in [-(1i64 << 25), -1, 0, 1, 77, (1 << 25) - 1] {
            let jump = Jumps::Aarch64.to(site, (site as i64 + words * 4) as usize).expect("near enough");
            assert!(is_arm_branch(u32::from_le_bytes(jump)), "{words}: {jump:x?}");
        }
        assert!(!is_arm_branch(0x9400_0000) && !is_arm_branch(0x5400_0000), "BL and B.cond are others");
    }

    #[test]
    fn only_a_frame_that_is_undone_is_kept() {
        let x = Jumps::X86_64;
        let mut code = [0x5d, 0xe9, 0, 0, 0, 0];
        assert!(x.keep_frame(&mut code, 2));
        assert_eq!(code[..2], [0x90, 0xe9]);
        assert!(!x.keep_frame(&mut code, 2) && !x.keep_frame(&mut code, 1) && !x.keep_frame(&mut code, 7));
        assert_eq!(x.entry_with_frame(&X86_FRAME), 4);
        assert_eq!(x.entry_with_frame(&X86_FRAME[1..]), 0);
        let a = Jumps::Aarch64;
        let mut code = [ARM_POP, [0, 0, 0, 0x14]].concat();
        assert!(a.keep_frame(&mut code, 4) && !a.keep_frame(&mut code, 4) && !a.keep_frame(&mut code, 2));
        assert_eq!(a.entry_with_frame(&ARM_FRAME), 8);
    }

    #[test]
    fn no_jump_crosses_a_line() {
        assert!(patchable(0) && patchable(60) && patchable(64));
        assert!(!patchable(61) && !patchable(63));
    }
}
