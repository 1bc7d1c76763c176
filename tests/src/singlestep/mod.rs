//! The public single-step vectors: files in which real processors say what one instruction does.
//!
//! A file holds the cases of one opcode, each with registers and memory before and after. There are two formats, the
//! chunked MOO and the older JSON, and both may be compressed with gzip. [`read`] takes all four; what cannot be read is
//! an error with its place, however damaged the file is. [`run`] executes the cases; bus cycles and prefetch queues are
//! not looked at.

pub mod json;
pub mod metadata;
pub mod moo;
pub mod run;

use std::io::Read as _;
use std::path::Path;

/// Names of the registers, in the order of [`Registers`]: that of the format's 32-bit register chunk.
pub const NAMES: [&str; 20] = [
    "cr0", "cr3", "eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp", "cs", "ds", "es", "fs", "gs", "ss",
    "eip", "eflags", "dr6", "dr7",
];
/// Positions of the 16-bit registers in [`Registers`], in the order of the format's 16-bit register chunk: AX, BX, CX,
/// DX, CS, SS, DS, ES, SP, BP, SI, DI, IP, FLAGS.
pub const SHORT: [usize; 14] = [2, 3, 4, 5, 10, 15, 11, 12, 9, 8, 6, 7, 16, 17];
/// What the 16-bit register at a position is called.
pub fn short_name(position: usize) -> &'static str {
    match NAMES[position] {
        name if matches!(position, 2..=9 | EIP | EFLAGS) => &name[1..],
        name => name,
    }
}

/// Position of EIP.
pub const EIP: usize = 16;
/// Position of EFLAGS.
pub const EFLAGS: usize = 17;

/// Registers that a file names, by position in [`NAMES`].
pub type Registers = [Option<u32>; 20];

/// Registers and memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Registers; in the final state only those that changed.
    pub registers: Registers,
    /// Bytes by physical address.
    pub ram: Vec<(u32, u8)>,
}

/// An exception or interrupt that the case ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Vector.
    pub number: u8,
    /// Where FLAGS were pushed.
    pub flags_at: u32,
}

/// One case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// Its number in the file.
    pub index: u32,
    /// Disassembly.
    pub name: String,
    /// The instruction's bytes.
    pub bytes: Vec<u8>,
    /// Before.
    pub initial: Snapshot,
    /// After: what changed.
    pub last: Snapshot,
    /// Bits of the registers that count; all of them where nothing is said.
    pub mask: Registers,
    /// What the case ran into.
    pub exception: Option<Exception>,
    /// The processor shuts down instead of halting.
    pub shuts_down: bool,
    /// What identifies the case: SHA-1 over it.
    pub hash: Option<Hash>,
}

/// See [`Case::hash`].
pub type Hash = [u8; 20];

/// A file's contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vectors {
    /// The processor that made it, in the format's name for it; empty if the file does not say.
    pub cpu: String,
    /// Bits of the registers that count in every case.
    pub mask: Registers,
    /// The cases.
    pub cases: Vec<Case>,
}

/// Larger files are refused: none of the public ones comes near.
const MAX_FILE: u64 = 1 << 30;

/// Reads a file in any of the formats.
pub fn read(path: &Path) -> Result<Vectors, String> {
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    parse(&bytes)
}

/// Takes a file's bytes apart.
pub fn parse(bytes: &[u8]) -> Result<Vectors, String> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes)
            .take(MAX_FILE)
            .read_to_end(&mut plain)
            .map_err(|e| format!("gzip: {e}"))?;
        return parse_plain(&plain);
    }
    parse_plain(bytes)
}

fn parse_plain(bytes: &[u8]) -> Result<Vectors, String> {
    if bytes.starts_with(b"MOO ") {
        return moo::parse(bytes);
    }
    match bytes.iter().find(|b| !b.is_ascii_whitespace()) {
        Some(b'[') => json::parse(bytes),
        _ => Err("neither a MOO file nor a JSON array".into()),
    }
}
