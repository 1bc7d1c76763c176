//! The system ROM at 0xF0000: the place where guests search for the RSDP, the MP table and SMBIOS, and the code that runs
//! when something jumps to the reset vector or to a BIOS entry.
//!
//! There are no BIOS services: every interrupt vector points at an `IRET`, and the reset vector resets the board, which
//! starts the kernel again. A ROM with services is another image.

use crate::bytes::put;
use crate::e820::{SYSTEM_ROM, SYSTEM_ROM_LEN};

/// Offset of the dummy interrupt handler, where IBM's ROM had its own.
pub const IRET: u16 = 0xff53;
/// Offset of the code that resets the board (the POST entry of IBM's ROM).
const RESET: u16 = 0xe05b;
/// First offset past the tables.
const TABLES_END: usize = 0xe000;

/// The ROM image under construction: tables are appended from its start.
pub struct Rom {
    image: Vec<u8>,
    next: usize,
}

impl Rom {
    /// A ROM with the reset code and no tables; `reset` is the port and value that reset the board.
    pub fn new(reset: (u16, u8)) -> Self {
        let mut image = vec![0; SYSTEM_ROM_LEN as usize];
        let [lo, hi] = reset.0.to_le_bytes();
        // mov dx, port; mov al, value; out dx, al; cli; hlt; jmp to the hlt
        let code = [0xba, lo, hi, 0xb0, reset.1, 0xee, 0xfa, 0xf4, 0xeb, 0xfd];
        put(&mut image, RESET.into(), &code);
        image[usize::from(IRET)] = 0xcf;
        let [lo, hi] = RESET.to_le_bytes();
        put(&mut image, 0xfff0, &[0xea, lo, hi, 0x00, 0xf0]);
        put(&mut image, 0xfff5, b"01/01/26");
        image[0xfffe] = 0xfc; // model byte: AT
        Self { image, next: 0 }
    }

    /// Appends a table and gives its address. `None` when the ROM is full (a machine with hundreds of processors).
    pub fn append(&mut self, table: &[u8], align: usize) -> Option<u64> {
        let at = self.next.next_multiple_of(align);
        let end = at.checked_add(table.len()).filter(|end| *end <= TABLES_END)?;
        self.image[at..end].copy_from_slice(table);
        self.next = end;
        Some(SYSTEM_ROM + at as u64)
    }

    /// The finished image.
    pub fn into_image(self) -> Vec<u8> {
        self.image
    }
}
