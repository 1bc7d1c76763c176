//! A small assembler over iced's code assembler: names for labels, local labels, tables of addresses, and a notation
//! that reads like a listing.
//!
//! A [`Section`] is assembled for one place and one width of code. [`code!`] turns a listing into calls: each line is a
//! method of [`Section`] (branches, data, directives) or of iced's assembler (everything else). Labels are strings; one
//! that begins with a dot belongs to the last `proc`. An address as an immediate is written with `offset`: it is filled in
//! after assembly, from the place that the label has got.

use std::collections::{HashMap, HashSet};
use std::ops::{Deref, DerefMut};

use iced_x86::BlockEncoderOptions;
use iced_x86::code_asm::asm_traits::{CodeAsmCall, CodeAsmJmp};
use iced_x86::code_asm::*;

use iced_x86::IcedError;

/// A mistake in the firmware's source.
#[derive(Debug, thiserror::Error)]
pub enum AsmError {
    /// Operands that no form of the instruction has, or a branch too far.
    #[error("the assembler: {0}")]
    Iced(#[from] IcedError),
    /// The same, with the line of the listing.
    #[error("{line}: {error}")]
    Line {
        /// Module, mnemonic and operands.
        line: &'static str,
        /// What the assembler says.
        error: Box<AsmError>,
    },
    /// A label that nothing defines.
    #[error("there is no label \"{0}\"")]
    NoLabel(String),
    /// More bytes than the place has.
    #[error("{what} is {bytes} bytes long; there is room for {room}")]
    TooLong {
        /// Which section.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The room.
        room: usize,
    },
}

impl AsmError {
    /// The error with the line that it belongs to.
    pub(crate) fn at(error: impl Into<AsmError>, line: &'static str) -> Self {
        Self::Line { line, error: Box::new(error.into()) }
    }
}

/// What each piece of firmware gives back when it has been written down.
pub type Emit = Result<(), AsmError>;

/// A listing: `code! { s; mov ax, 3; call "name"; ... }`. Each line is a method call on the section.
macro_rules! code {
    ($section:expr; $($mnemonic:ident $($operand:expr),* ;)*) => {
        $( $section.$mnemonic($($operand),*).map_err(|error| {
            $crate::pcbios::asm::AsmError::at(error, concat!(module_path!(), ": ", stringify!($mnemonic $($operand),*)))
        })?; )*
    };
}
pub(crate) use code;

/// An immediate that no short form fits, until the address is known.
const PLACEHOLDER: i32 = 0x5a5a;
const PLACEHOLDER_32: i32 = 0x5a5a_5a5a;

/// An address that is written into the code after assembly.
struct Fixup {
    instruction: usize,
    bytes: usize,
    label: String,
}

/// Code and data of one segment, under construction.
pub struct Section {
    inner: CodeAssembler,
    base: u32,
    labels: HashMap<String, CodeLabel>,
    defined: HashSet<String>,
    fixups: Vec<Fixup>,
    procedure: String,
    last_label: Option<(usize, CodeLabel)>,
}

/// The bytes of a section and where its labels are.
pub struct Assembled {
    /// The bytes.
    pub bytes: Vec<u8>,
    symbols: HashMap<String, u32>,
}

impl Assembled {
    /// The address of a label.
    pub fn address(&self, label: &str) -> Result<u32, AsmError> {
        self.symbols.get(label).copied().ok_or_else(|| AsmError::NoLabel(label.to_owned()))
    }
}

impl Deref for Section {
    type Target = CodeAssembler;
    fn deref(&self) -> &CodeAssembler {
        &self.inner
    }
}

impl DerefMut for Section {
    fn deref_mut(&mut self) -> &mut CodeAssembler {
        &mut self.inner
    }
}

/// Branches to labels, under the names of their mnemonics.
macro_rules! branches {
    ($($name:ident)*) => { $(
        pub fn $name(&mut self, label: &str) -> Emit {
            let target = self.label_for(label);
            Ok(self.inner.$name(target)?)
        }
    )* };
}

/// Repeated string instructions as one word.
macro_rules! repeated {
    ($($name:ident = $prefix:ident $instruction:ident;)*) => { $(
        pub fn $name(&mut self) -> Emit {
            Ok(self.inner.$prefix().$instruction()?)
        }
    )* };
}

impl Section {
    branches! { jmp call je jne jz jnz jb jae jc jnc ja jbe js jns jcxz }

    repeated! {
        rep_movsb = rep movsb; rep_movsw = rep movsw; rep_movsd = rep movsd;
        rep_stosb = rep stosb; rep_stosw = rep stosw; rep_stosd = rep stosd;
        rep_insw = rep insw; rep_outsw = rep outsw; rep_insb = rep insb; rep_insd = rep insd; rep_outsd = rep outsd;
        repe_cmpsb = repe cmpsb;
    }
}

impl Section {
    /// An empty section of 16- or 32-bit code whose first byte lies at `base`.
    pub fn new(bitness: u32, base: u32) -> Result<Self, AsmError> {
        Ok(Self {
            inner: CodeAssembler::new(bitness)?,
            base,
            labels: HashMap::new(),
            defined: HashSet::new(),
            fixups: Vec::new(),
            procedure: String::new(),
            last_label: None,
        })
    }

    fn full_name(&self, label: &str) -> String {
        if label.starts_with('.') { format!("{}{label}", self.procedure) } else { label.to_owned() }
    }

    fn label_for(&mut self, label: &str) -> CodeLabel {
        let name = self.full_name(label);
        let inner = &mut self.inner;
        *self.labels.entry(name).or_insert_with(|| inner.create_label())
    }

    /// Starts a procedure or a table: a label that later local labels belong to.
    pub fn proc(&mut self, name: &str) -> Emit {
        name.clone_into(&mut self.procedure);
        self.label(name)
    }

    /// Puts a label here.
    pub fn label(&mut self, label: &str) -> Emit {
        let name = self.full_name(label);
        let here = self.inner.instructions().len();
        match self.last_label {
            // iced has one label for an instruction. A second name for it is the same label, if nothing has used it yet ...
            Some((at, label)) if at == here && !self.labels.contains_key(&name) => {
                self.labels.insert(name.clone(), label);
                self.defined.insert(name);
                return Ok(());
            }
            // ... and has an instruction of its own otherwise.
            Some((at, _)) if at == here => self.inner.nop()?,
            _ => {}
        }
        let mut label = self.label_for(&name);
        self.inner.set_label(&mut label)?;
        self.last_label = Some((self.inner.instructions().len(), label));
        self.labels.insert(name.clone(), label);
        self.defined.insert(name);
        Ok(())
    }

    fn fix(&mut self, bytes: usize, label: &str) {
        let label = self.full_name(label);
        self.fixups.push(Fixup { instruction: self.inner.instructions().len() - 1, bytes, label });
    }

    /// `mov register, OFFSET label`
    pub fn offset(&mut self, register: AsmRegister16, label: &str) -> Emit {
        self.inner.mov(register, PLACEHOLDER)?;
        self.fix(2, label);
        Ok(())
    }

    /// `mov register, OFFSET label`
    pub fn offset32(&mut self, register: AsmRegister32, label: &str) -> Emit {
        self.inner.mov(register, PLACEHOLDER_32)?;
        self.fix(4, label);
        Ok(())
    }

    /// `push OFFSET label`
    pub fn push_offset(&mut self, label: &str) -> Emit {
        self.inner.push(PLACEHOLDER)?;
        self.fix(2, label);
        Ok(())
    }

    /// `call` through a register or memory.
    pub fn call_through<T>(&mut self, target: T) -> Emit
    where
        CodeAssembler: CodeAsmCall<T>,
    {
        Ok(self.inner.call(target)?)
    }

    /// `jmp` through a register or memory.
    pub fn jmp_through<T>(&mut self, target: T) -> Emit
    where
        CodeAssembler: CodeAsmJmp<T>,
    {
        Ok(self.inner.jmp(target)?)
    }

    /// A far jump of 16-bit code to a label of this section.
    pub fn jmp_to_segment(&mut self, segment: u16, label: &str) -> Emit {
        self.inner.jmp_far(segment, PLACEHOLDER as u32)?;
        let label = self.full_name(label);
        // EA offset selector: the offset is what is filled in, so it is found from the front.
        self.fixups.push(Fixup { instruction: self.inner.instructions().len() - 1, bytes: 0, label });
        Ok(())
    }

    /// `call far [fs:address]`
    pub fn call_far_fs(&mut self, address: i32) -> Emit {
        self.inner.db(&[0x64, 0xff, 0x1e])?;
        Ok(self.inner.dw(&[address as u16])?)
    }

    /// `jmp far [address]`
    pub fn jmp_far_memory(&mut self, address: i32) -> Emit {
        self.inner.db(&[0xff, 0x2e])?;
        Ok(self.inner.dw(&[address as u16])?)
    }

    /// For each value of `register` a procedure to jump to. Falls through when there is none.
    pub fn select(&mut self, register: AsmRegister8, cases: &[(i32, &str)]) -> Emit {
        for (value, label) in cases {
            self.inner.cmp(register, *value)?;
            self.je(label)?;
        }
        Ok(())
    }

    /// Bytes of a text with a zero after it.
    pub fn text(&mut self, text: &str) -> Emit {
        let mut bytes: Vec<u8> = text.bytes().collect();
        bytes.push(0);
        self.bytes(&bytes)
    }

    /// Bytes of data, as many as there are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Emit {
        Ok(bytes.chunks(16).try_for_each(|line| self.inner.db(line))?)
    }

    /// Words of data, as many as there are.
    pub fn words(&mut self, words: &[u16]) -> Emit {
        Ok(words.chunks(8).try_for_each(|line| self.inner.dw(line))?)
    }

    /// A word with the address of a label.
    pub fn address_word(&mut self, label: &str) -> Emit {
        self.inner.dw(&[PLACEHOLDER as u16])?;
        self.fix(2, label);
        Ok(())
    }

    /// Encodes everything and fills the addresses in.
    pub fn assemble(mut self) -> Result<Assembled, AsmError> {
        if let Some(missing) = self.labels.keys().find(|name| !self.defined.contains(*name)) {
            return Err(AsmError::NoLabel(missing.clone()));
        }
        self.inner.nop()?; // so that a label at the end has an instruction
        let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
        let result = self.inner.assemble_options(self.base.into(), options)?;
        let mut symbols = HashMap::new();
        for (name, label) in &self.labels {
            let address = result.label_ip(label)?;
            symbols.insert(name.clone(), address as u32);
        }
        let mut bytes = result.inner.code_buffer;
        let offsets = &result.inner.new_instruction_offsets;
        for fixup in &self.fixups {
            let value = symbols.get(&fixup.label).ok_or_else(|| AsmError::NoLabel(fixup.label.clone()))?;
            let value = value.to_le_bytes();
            let (at, len) = match fixup.bytes {
                0 => (offsets[fixup.instruction] as usize + 1, 2),
                len => (end_of(offsets, fixup.instruction) - len, len),
            };
            bytes[at..at + len].copy_from_slice(&value[..len]);
        }
        Ok(Assembled { bytes, symbols })
    }
}

/// Where the instruction after `index` begins. (There is always one: the last of a section is a NOP.)
fn end_of(offsets: &[u32], index: usize) -> usize {
    offsets[index + 1] as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assembled(write: impl Fn(&mut Section) -> Emit) -> Assembled {
        let mut section = Section::new(16, 0x100).unwrap();
        write(&mut section).unwrap();
        section.assemble().unwrap()
    }

    #[test]
    fn labels_and_addresses_meet() {
        let out = assembled(|s| {
            code! { s;
                proc "start";
                offset si, "message";
                label ".again";
                lodsb;
                test al, al;
                jnz ".again";
                jmp_to_segment 0xf000, "start";
                proc "message";
                text "hi";
                address_word "start";
            }
            Ok(())
        });
        assert_eq!(out.address("message").unwrap(), 0x10d);
        assert_eq!(&out.bytes[..3], [0xbe, 0x0d, 0x01]);
        assert_eq!(&out.bytes[6..8], [0x75, 0xfb]);
        assert_eq!(&out.bytes[8..13], [0xea, 0x00, 0x01, 0x00, 0xf0]);
        assert_eq!(&out.bytes[13..], [b'h', b'i', 0, 0x00, 0x01, 0x90]);
    }

    #[test]
    fn a_missing_label_is_an_error() {
        let mut section = Section::new(16, 0).unwrap();
        section.jmp("nowhere").unwrap();
        assert!(section.assemble().is_err());
    }
}
