//! What the firmware does to the hardware before it starts a kernel: interrupt routing and memory types.

use crate::board::Board;
use crate::e820::PCI_HOLE;

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
    /// Base and mask of the first variable range (MSRs 200h, 201h).
    pub variable: (u64, u64),
}

/// Everything to be done, in this order: ports, then registers of every processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Port writes, in order.
    pub ports: Vec<PortWrite>,
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
        shadow_ram(&mut ports);
        Self { ports, mtrrs: mtrrs(board.phys_bits) }
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

/// PIRQ route registers, in the configuration space of device 1, function 0.
fn pirq_routes(board: &Board, ports: &mut Vec<PortWrite>) {
    let routes = u32::from_le_bytes(board.pci.routes);
    ports.push(PortWrite { port: 0xcf8, size: 4, value: 0x8000_0860 });
    ports.push(PortWrite { port: 0xcfc, size: 4, value: routes });
    ports.push(PortWrite { port: 0xcf8, size: 4, value: 0 });
}

/// Shadow RAM at C0000h to FFFFFh is read and not written: PAM registers 59h to 5Fh of the host bridge.
fn shadow_ram(ports: &mut Vec<PortWrite>) {
    let config = |address, value| {
        [(0xcf8, address), (0xcfc, value)].map(|(port, value)| PortWrite { port, size: 4, value })
    };
    ports.extend(config(0x8000_0058, 0x1111_1000));
    ports.extend(config(0x8000_005c, 0x1111_1111));
    ports.push(PortWrite { port: 0xcf8, size: 4, value: 0 });
}

/// RAM is write-back, ROM write-protected, video memory and the PCI hole uncacheable.
fn mtrrs(phys_bits: u8) -> Mtrrs {
    const UNCACHEABLE: u64 = 0;
    const WRITE_PROTECTED: u64 = 5;
    const WRITE_BACK: u64 = 6;
    const ENABLED: u64 = 1 << 11;
    const FIXED_ENABLED: u64 = 1 << 10;
    const VALID: u64 = 1 << 11;
    let all = |kind: u64| kind * 0x0101_0101_0101_0101;
    let mut fixed = [all(WRITE_PROTECTED); 11];
    (fixed[0], fixed[1], fixed[2]) = (all(WRITE_BACK), all(WRITE_BACK), all(UNCACHEABLE));
    let hole = (1u64 << 32) - PCI_HOLE;
    let mask = ((1u64 << phys_bits.clamp(32, 52)) - 1) & !(hole - 1);
    Mtrrs {
        default_type: ENABLED | FIXED_ENABLED | WRITE_BACK,
        fixed,
        variable: (PCI_HOLE | UNCACHEABLE, mask | VALID),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::e820::MemoryLayout;

    #[test]
    fn the_pci_hole_is_uncacheable_and_ram_is_not() {
        let (base, mask) = mtrrs(40).variable;
        let mask = mask & !0xfff;
        let hit = |address: u64| address & mask == base & mask;
        assert!(hit(0xfee0_0000) && hit(PCI_HOLE) && !hit(PCI_HOLE - 1) && !hit(1 << 32));
        assert_eq!(mtrrs(40).default_type, 0xc06);
    }

    #[test]
    fn routes_and_triggers_agree() {
        let setup = Setup::new(&Board::pc(MemoryLayout::new(64 << 20).unwrap(), 1));
        let value = |port| setup.ports.iter().find(|w| w.port == port).unwrap().value;
        assert_eq!(value(0xcfc), 0x0b0b_0a0a);
        assert_eq!(value(0x4d1), 0x0e);
    }
}
