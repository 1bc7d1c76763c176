//! What the firmware does to the hardware before it starts a kernel: interrupt routing and memory types.

use crate::board::{Board, Chipset, ECAM_LEN};
use crate::e820::PCI_HOLE;
use crate::pci_setup::PciResources;

/// A write to an I/O port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortWrite {
    /// Port.
    pub port: u16,
    /// Bytes: 1, 2 or 4.
    pub size: u8,
    /// Value.
    pub value: u32,
}

/// Memory type range registers (SDM vol. 3, 12.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtrrs {
    /// IA32_MTRR_DEF_TYPE.
    pub default_type: u64,
    /// The fixed ranges in ascending order of address: 1 of 64 KiB, 2 of 16 KiB, 8 of 4 KiB pages (MSRs 250h, 258h, 259h,
    /// 268h-26Fh).
    pub fixed: [u64; 11],
    /// Base and mask of the first variable ranges (MSRs 200h to 203h).
    pub variable: [(u64, u64); 2],
}

/// How a display gets its text mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextMode {
    /// Port writes before the font.
    pub before: Vec<PortWrite>,
    /// The font, written byte by byte from A0000h on.
    pub font: Vec<u8>,
    /// Port writes after it.
    pub after: Vec<PortWrite>,
}

impl TextMode {
    /// Where the font is written.
    pub const FONT: u64 = 0xa_0000;
    /// The screen, and what a blank one is made of: spaces, light grey on black.
    pub const SCREEN: u64 = 0xb_8000;
    /// One blank character.
    pub const BLANK: u16 = 0x0720;
    /// Characters in video memory.
    pub const CHARACTERS: u64 = 0x4000;
}

/// Everything to be done, in this order: ports, the display, then registers of every processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Port writes, in order.
    pub ports: Vec<PortWrite>,
    /// The display's text mode, if there is a display.
    pub text_mode: Option<TextMode>,
    /// Addresses for PCI functions, after the ports.
    pub pci: PciResources,
    /// The same for every processor.
    pub mtrrs: Mtrrs,
}

impl Setup {
    /// What `board` needs.
    pub fn new(board: &Board) -> Self {
        let mut ports = Vec::new();
        interrupt_controllers(&mut ports);
        level_triggers(board, &mut ports);
        pirq_routes(board, &mut ports);
        windows(board, &mut ports);
        shadow_ram(board.chipset, &mut ports);
        ports.push(PortWrite { port: 0xcf8, size: 4, value: 0 });
        let text_mode = board.vga.then(crate::pcbios::text_mode);
        Self { ports, text_mode, pci: PciResources::new(board), mtrrs: mtrrs(board) }
    }
}

fn byte(port: u16, value: u8) -> PortWrite {
    PortWrite { port, size: 1, value: value.into() }
}

/// The 8259A pair as a PC has it: vectors 08h and 70h, the slave on input 2, all inputs but that one masked.
fn interrupt_controllers(ports: &mut Vec<PortWrite>) {
    for (command, vector, cascade, mask) in [(0x20, 0x08, 0x04, 0xfb), (0xa0, 0x70, 0x02, 0xff)] {
        ports.push(byte(command, 0x11));
        ports.extend([vector, cascade, 0x01, mask].map(|value| byte(command + 1, value)));
    }
}

/// Level trigger (ELCR, ports 4D0h and 4D1h) for the SCI and the targets of PCI interrupts.
fn level_triggers(board: &Board, ports: &mut Vec<PortWrite>) {
    let sci = board.pm.iter().map(|pm| pm.sci);
    let level: u16 = sci.chain(board.pci.routes).filter(|irq| *irq < 16).fold(0, |mask, irq| mask | 1 << irq);
    let [low, high] = level.to_le_bytes();
    ports.extend([byte(0x4d0, low), byte(0x4d1, high)]);
}

/// A dword to a register of a function of bus 0.
fn config(device: u8, register: u8, value: u32) -> [PortWrite; 2] {
    let address = 1 << 31 | u32::from(device) << 11 | u32::from(register);
    [(0xcf8, address), (0xcfc, value)].map(|(port, value)| PortWrite { port, size: 4, value })
}

/// PIRQ route registers, in the configuration space of the bridge.
fn pirq_routes(board: &Board, ports: &mut Vec<PortWrite>) {
    let routes = u32::from_le_bytes(board.pci.routes);
    for bank in [0x60, 0x68].into_iter().take(board.chipset.lines() / 4) {
        ports.extend(config(board.chipset.bridge(), bank, routes));
    }
}

/// Memory windows of the chipset: PCIEXBAR and RCBA.
fn windows(board: &Board, ports: &mut Vec<PortWrite>) {
    if let Some(at) = board.ecam {
        ports.extend(config(0, 0x64, 0));
        ports.extend(config(0, 0x60, at | 1));
    }
    if let Some(at) = board.root_complex {
        ports.extend(config(board.chipset.bridge(), 0xf0, at | 1));
    }
}

/// Shadow RAM at C0000h to FFFFFh is read and not written: the PAM registers of the host bridge.
fn shadow_ram(chipset: Chipset, ports: &mut Vec<PortWrite>) {
    match chipset {
        Chipset::I440Fx => {
            ports.extend(config(0, 0x58, 0x1111_1000));
            ports.extend(config(0, 0x5c, 0x1111_1111));
        }
        Chipset::Q35 => {
            ports.extend(config(0, 0x90, 0x1111_1110));
            ports.extend(config(0, 0x94, 0x0011_1111));
        }
    }
}

/// RAM is write-back, ROM write-protected, video memory, the PCI hole and configuration space uncacheable.
fn mtrrs(board: &Board) -> Mtrrs {
    const UNCACHEABLE: u64 = 0;
    const WRITE_PROTECTED: u64 = 5;
    const WRITE_BACK: u64 = 6;
    const ENABLED: u64 = 1 << 11;
    const FIXED_ENABLED: u64 = 1 << 10;
    const VALID: u64 = 1 << 11;
    let all = |kind: u64| kind * 0x0101_0101_0101_0101;
    let mut fixed = [all(WRITE_PROTECTED); 11];
    (fixed[0], fixed[1], fixed[2]) = (all(WRITE_BACK), all(WRITE_BACK), all(UNCACHEABLE));
    let range = |base: u64, len: u64| {
        let mask = ((1u64 << board.phys_bits.clamp(32, 52)) - 1) & !(len - 1);
        (base | UNCACHEABLE, mask | VALID)
    };
    Mtrrs {
        default_type: ENABLED | FIXED_ENABLED | WRITE_BACK,
        fixed,
        variable: [
            range(PCI_HOLE, (1 << 32) - PCI_HOLE),
            board.ecam.map_or((0, 0), |base| range(base.into(), ECAM_LEN)),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::e820::MemoryLayout;

    #[test]
    fn the_pci_hole_is_uncacheable_and_ram_is_not() {
        let board = Board::pc(MemoryLayout::new(64 << 20).unwrap(), 1);
        let (base, mask) = mtrrs(&board).variable[0];
        let mask = mask & !0xfff;
        let hit = |address: u64| address & mask == base & mask;
        assert!(hit(0xfee0_0000) && hit(PCI_HOLE) && !hit(PCI_HOLE - 1) && !hit(1 << 32));
        assert_eq!(mtrrs(&board).default_type, 0xc06);
    }

    #[test]
    fn routes_and_triggers_agree() {
        let setup = Setup::new(&Board::pc(MemoryLayout::new(64 << 20).unwrap(), 1));
        let value = |port| setup.ports.iter().find(|w| w.port == port).unwrap().value;
        assert_eq!(value(0xcfc), 0x0b0b_0a0a);
        assert_eq!(value(0x4d1), 0x0e);
    }

    #[test]
    fn a_q35_gets_its_windows_and_both_banks_of_routes() {
        let setup = Setup::new(&Board::q35(MemoryLayout::new(64 << 20).unwrap(), 1));
        let pairs: Vec<_> = setup.ports.iter().filter(|w| w.size == 4).map(|w| w.value).collect();
        for (address, value) in [
            (0x8000_f860, 0x0b0b_0a0a),
            (0x8000_f868, 0x0b0b_0a0a),
            (0x8000_0060, 0xb000_0001),
            (0x8000_f8f0, 0xfed1_c001),
            (0x8000_0090, 0x1111_1110),
        ] {
            assert!(pairs.windows(2).any(|pair| pair == [address, value]), "{address:#x}");
        }
        let (base, mask) = setup.mtrrs.variable[1];
        assert!(0xbfff_f000u64 & mask & !0xfff == base & mask & !0xfff && mask & 0x800 != 0);
    }
}
