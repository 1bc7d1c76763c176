//! PCI configuration: mechanism #1 (CF8h/CFCh), memory-mapped configuration space (ECAM) where the chipset has it, the type 0
//! header, and the functions of the boards. (PCI Local Bus specification 3.0, chapters 3.2.2.3 and 6; PCI Express base
//! specification, 7.2.2.)
//!
//! A function is its [`ConfigSpace`]: bytes with a mask of what software may write. Base address registers need no
//! code: their address bits above the size are writable, which is all that the sizing protocol looks at.
//!
//! A function that is plugged in gets a [`PciSlot`]: its way to memory, its interrupt pin, and the [`MessagePort`] for
//! [`Msi`] and [`Msix`]. It uses the pin while neither of these is on. It stands behind a lock of its own ([`LockedFunction`]).

mod bridge_memory;
mod chipset;
mod config;
mod functions;
mod ich9;
mod locked;
mod message;
mod msi;
mod msix;
mod q35_host;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::block::Disk;
use crate::memory::Dma;
use crate::vga::Vga;
use crate::{IrqLine, Ns, PortDevice, Timed};
pub use bridge_memory::{BridgeMemory, HIGH_SMRAM, PAM_START, SMRAM, Shadow};
pub use chipset::Chipset;
pub use config::{BarKind, ConfigSpace};
pub use functions::{I440Fx, Piix3Isa, Piix4Pm};
pub use ich9::{Ich9Lpc, Ich9Smbus, RCBA_LEN};
pub use locked::LockedFunction;
pub use message::{MessagePort, MsiMessage};
pub use msi::{MSI, Msi};
pub use msix::{MSI_X, MSIX_ENTRY, Msix, MsixLayout, MsixState};
pub use q35_host::Q35Host;

/// CONFIG_ADDRESS port (32-bit accesses only).
pub const CONFIG_ADDRESS: u16 = 0xcf8;
/// CONFIG_DATA port.
pub const CONFIG_DATA: u16 = 0xcfc;

const ENABLE: u32 = 1 << 31;

/// What the board gives a function that is plugged in.
#[derive(Clone, Debug)]
pub struct PciSlot {
    /// Guest memory. It can be reached while the command register allows it ([`ConfigSpace::is_bus_master`]): the function's
    /// business.
    pub memory: Dma,
    /// INTA#; see [`ConfigSpace::drive_intx`].
    pub intx: IrqLine,
    /// For [`Msi::new`] and [`Msix::new`].
    pub messages: MessagePort,
}

/// One function on bus 0.
pub trait PciFunction: Send {
    /// Its configuration space.
    fn config(&self) -> &ConfigSpace;
    /// Its configuration space, to write.
    fn config_mut(&mut self) -> &mut ConfigSpace;
    /// Software wrote `len` bytes at `offset`.
    fn config_written(&mut self, _offset: u8, _len: u8) {}
    /// Software is about to read at `offset`: for the rare register whose value is made by reading it.
    fn config_reading(&mut self, _offset: u8, _now: Ns) {}
    /// A read of `size` bytes at `offset` of what base address register `bar` maps.
    fn bar_read(&mut self, _bar: u8, _offset: u64, _size: u8, _now: Ns) -> u64 {
        u64::MAX
    }
    /// A write there.
    fn bar_write(&mut self, _bar: u8, _offset: u64, _size: u8, _value: u64, _now: Ns) {}
    /// The function's block `index` of ports that no base address register maps.
    fn fixed_ports(&mut self, _index: u8) -> Option<&mut dyn PortDevice> {
        None
    }
    /// Reset of what is not in the configuration space.
    fn reset(&mut self) {}
    /// The function as something that acts on its own as time passes.
    fn timed(&self) -> Option<&dyn Timed> {
        None
    }
    /// The same, to be advanced. A function that gives one here gives it there.
    fn timed_mut(&mut self) -> Option<&mut dyn Timed> {
        None
    }
    /// Flushes what its drives hold: for the end of the run.
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
    /// Puts another medium (or none) into the CD drive at one of its places. False: no CD drive is there, or its door is locked and
    /// `force` was not given.
    fn change_medium(&mut self, _place: usize, _medium: Option<Disk>, _force: bool) -> bool {
        false
    }
    /// The state that is not in the configuration space.
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }
    /// Restores what `save` gave; bytes that do not fit are hostile input, not a bug.
    fn restore(&mut self, _state: &[u8]) {}
}

/// A place that a base address register maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarHit {
    at: u8,
    bar: u8,
    offset: u64,
}

/// Device and function number as in CONFIG_ADDRESS bits 8 to 15.
pub const fn devfn(device: u8, function: u8) -> u8 {
    device << 3 | function & 7
}

/// Where the IDE function of a board with a PIIX is.
pub const IDE: u8 = devfn(1, 1);
/// Where the AHCI controller of a board with an ICH9 is.
pub const SATA: u8 = devfn(0x1f, 2);

/// Configuration address and spaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PciState {
    address: u32,
    /// (device and function, 256 bytes, other state), in order.
    functions: Vec<(u8, Vec<u8>, Vec<u8>)>,
}

/// Bus 0 and its configuration mechanisms.
pub struct PciBus {
    address: u32,
    /// What the board has always.
    pub chipset: Chipset,
    /// Where the display is.
    vga_place: u8,
    /// The display, if the board has one.
    pub vga: Option<Vga>,
    /// What else there is: first the board's own disk controller ([`IDE`] or [`SATA`]), if it has one, then the rest by their places.
    cards: Vec<Arc<LockedFunction>>,
    /// How many of these are the board's own.
    own: usize,
    /// Something may decode another place since the last [`PciBus::find_alone`].
    moved: bool,
}

impl PciBus {
    /// The chipset's own functions.
    pub fn new(chipset: Chipset) -> Self {
        // The first device that the chipset leaves free, as in QEMU.
        let vga_place = devfn(if matches!(chipset, Chipset::Q35 { .. }) { 1 } else { 2 }, 0);
        Self { address: 0, chipset, vga_place, vga: None, cards: Vec::new(), own: 0, moved: true }
    }

    /// The first device that is not the chipset's or the display's.
    pub fn first_slot(&self) -> u8 {
        (self.vga_place >> 3) + 1
    }

    /// Plugs a function into a free place.
    pub fn attach(&mut self, at: u8, function: Box<dyn PciFunction>) {
        assert!(!self.has(at), "two PCI functions at {at:#04x}");
        let index = self.cards[self.own..].partition_point(|card| card.at() < at) + self.own;
        self.cards.insert(index, Arc::new(LockedFunction::new(at, function)));
        self.moved = true;
    }

    /// The board's own disk controller, at [`IDE`] or [`SATA`].
    pub fn attach_own(&mut self, at: u8, function: Box<dyn PciFunction>) {
        assert!(!self.has(at), "two PCI functions at {at:#04x}");
        self.cards.insert(self.own, Arc::new(LockedFunction::new(at, function)));
        self.own += 1;
        self.moved = true;
    }

    /// The first device from `from` on at whose place there is nothing.
    pub fn free_device(&mut self, from: u8) -> Option<u8> {
        (from..32).find(|device| (0..8).all(|function| !self.has(devfn(*device, function))))
    }

    /// Whether there is a function at this place.
    pub fn has(&mut self, at: u8) -> bool {
        self.vga.is_some() && at == self.vga_place
            || self.chipset.function(at).is_some()
            || self.card(at).is_some()
    }

    /// Functions with locks of their own.
    pub fn cards(&self) -> &[Arc<LockedFunction>] {
        &self.cards
    }

    /// The one at this place.
    pub fn card(&self, at: u8) -> Option<&LockedFunction> {
        self.cards.iter().find(|card| card.at() == at).map(Arc::as_ref)
    }

    /// Platform reset.
    pub fn reset(&mut self) {
        self.address = 0;
        self.moved = true;
        let mut places: Vec<u8> = self.chipset.functions().map(|(at, _)| at).into();
        places.extend(self.vga.as_ref().map(|_| self.vga_place));
        places.extend(self.cards.iter().map(|card| card.at()));
        places.sort_unstable();
        for at in places {
            self.with(at, |function| {
                function.config_mut().reset();
                function.config_written(0, 255);
                function.reset();
            });
        }
    }

    /// Uses the function at this place, if there is one.
    fn with<R>(&mut self, at: u8, f: impl FnOnce(&mut dyn PciFunction) -> R) -> Option<R> {
        let display = self.vga.as_mut().filter(|_| at == self.vga_place);
        match display.map(|vga| vga as &mut dyn PciFunction).or(self.chipset.function(at)) {
            Some(function) => Some(f(function)),
            None => self.card(at).map(|card| card.with(f)),
        }
    }

    /// Something that decodes places on the board was moved or plugged in.
    pub fn note_move(&mut self) {
        self.moved = true;
    }

    /// Finds out which functions are the only ones to decode what their registers map. `taken` says whether the board decodes some of it.
    pub fn find_alone(&self, taken: impl Fn(bool, u64, u64) -> bool) {
        let decoded = |function: &dyn PciFunction| {
            let config = function.config();
            let place = |bar| config.bar_kind(bar).zip(config.bar(bar)).map(|((io, len), at)| (io, at, len));
            (0..6).filter_map(place).collect::<Vec<_>>()
        };
        let mut all: Vec<locked::Decoded> = self.cards.iter().flat_map(|card| card.decoded()).collect();
        all.extend(self.chipset.functions().into_iter().flat_map(|(_, function)| decoded(function)));
        all.extend(self.vga.iter().flat_map(|vga| decoded(vga)));
        for card in &self.cards {
            card.set_alone(|(io, start, len)| {
                let end = start.saturating_add(len);
                let meets = |(other_io, at, n): &&locked::Decoded| {
                    *other_io == io && *at < end && start < at.saturating_add(*n)
                };
                // One of them is itself.
                all.iter().filter(meets).count() == 1 && !taken(io, start, len)
            });
        }
    }

    /// Must [`PciBus::find_alone`] be called, since the last call?
    pub fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// A read of memory-mapped configuration space: the offset names bus, device, function and register. Functions have 256
    /// bytes; beyond these, and where no function is, nothing answers.
    pub fn ecam_read(&mut self, offset: u64, size: u8, now: Ns) -> u64 {
        let (at, register) = ((offset >> 12) as u8, offset & 0xfff);
        if offset >> 20 != 0 || register + u64::from(size) > 256 {
            return u64::MAX;
        }
        let read = self.with(at, |function| {
            function.config_reading(register as u8, now);
            let bytes = &function.config().bytes()[register as usize..][..usize::from(size.min(8))];
            bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
        });
        read.unwrap_or(u64::MAX)
    }

    /// A write there.
    pub fn ecam_write(&mut self, offset: u64, size: u8, value: u64) {
        let (at, register) = ((offset >> 12) as u8, offset & 0xfff);
        if offset >> 20 != 0 || register + u64::from(size) > 256 {
            return;
        }
        self.moved = true;
        self.with(at, |function| {
            for (n, byte) in value.to_le_bytes().into_iter().enumerate().take(size.into()) {
                function.config_mut().write(register as u8 + n as u8, byte);
            }
            function.config_written(register as u8, size);
        });
    }

    /// The function that decodes the I/O port (`io`) or physical address `at`. Takes no function's lock.
    pub fn claim(&self, io: bool, at: u64) -> Option<BarHit> {
        let plain = |devfn: u8, function: &dyn PciFunction| {
            (0..6).find_map(|bar| {
                let (is_io, len) = function.config().bar_kind(bar)?;
                let offset = at.wrapping_sub(function.config().bar(bar)?);
                (is_io == io && offset < len).then_some(BarHit { at: devfn, bar: bar as u8, offset })
            })
        };
        let locked = |cards: &[Arc<LockedFunction>]| {
            cards.iter().find_map(|card| {
                let (bar, offset) = card.decodes(io, at)?;
                Some(BarHit { at: card.at(), bar, offset })
            })
        };
        let (own, others) = self.cards.split_at(self.own);
        let chipset = self.chipset.functions().into_iter().find_map(|(devfn, f)| plain(devfn, f));
        let display = || self.vga.as_ref().and_then(|vga| plain(self.vga_place, vga));
        chipset.or_else(|| locked(own)).or_else(display).or_else(|| locked(others))
    }

    /// A read of what [`PciBus::claim`] found.
    pub fn bar_read(&mut self, hit: BarHit, size: u8, now: Ns) -> u64 {
        self.with(hit.at, |function| function.bar_read(hit.bar, hit.offset, size, now)).unwrap_or(u64::MAX)
    }

    /// A write there.
    pub fn bar_write(&mut self, hit: BarHit, size: u8, value: u64, now: Ns) {
        self.with(hit.at, |function| function.bar_write(hit.bar, hit.offset, size, value, now));
    }

    /// Uses the function that CONFIG_ADDRESS selects, if there is one: bus 0 is all there is.
    fn with_selected<R>(&mut self, f: impl FnOnce(&mut dyn PciFunction) -> R) -> Option<R> {
        let address = self.address;
        if address & ENABLE == 0 || address >> 16 & 0xff != 0 {
            return None;
        }
        self.with((address >> 8) as u8, f)
    }

    /// Configuration address and spaces.
    pub fn save(&self) -> PciState {
        let Self { address, chipset, vga_place, vga, cards, own, moved: _ } = self;
        let one =
            |at: u8, function: &dyn PciFunction| (at, function.config().bytes().to_vec(), function.save());
        let locked = |card: &Arc<LockedFunction>| card.with(|function| one(card.at(), function));
        let (own, others) = cards.split_at(*own);
        let mut functions: Vec<_> = chipset.functions().map(|(at, function)| one(at, function)).into();
        functions.extend(own.iter().map(locked));
        functions.extend(vga.as_ref().map(|vga| one(*vga_place, vga)));
        functions.extend(others.iter().map(locked));
        PciState { address: *address, functions }
    }

    /// Restores what `save` gave, for the functions that are there.
    pub fn restore(&mut self, state: PciState) {
        let PciState { address, functions } = state;
        self.address = address;
        self.moved = true;
        for (at, bytes, state) in functions {
            self.with(at, |function| {
                function.config_mut().restore(&bytes);
                function.config_written(0, 255);
                function.restore(&state);
            });
        }
    }
}

/// Ports CF8h to CFFh, but for the reset register at CF9h.
impl PortDevice for PciBus {
    fn port_read(&mut self, port: u16, size: u8, now: Ns) -> u32 {
        let ones = u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4)));
        if port < CONFIG_DATA {
            return if port == CONFIG_ADDRESS && size == 4 { self.address } else { ones };
        }
        let register = self.address as u8 & 0xfc;
        let read = self.with_selected(|function| {
            function.config_reading(register + (port & 3) as u8, now);
            // Byte lanes: those beyond the register are not selected.
            (0..u16::from(size)).fold(0, |value, n| {
                let lane = (port & 3) + n;
                let byte = if lane < 4 { function.config().read(register + lane as u8) } else { 0xff };
                value | u32::from(byte) << (8 * n)
            })
        });
        read.unwrap_or(ones)
    }

    fn port_write(&mut self, port: u16, size: u8, value: u32, _now: Ns) {
        if port < CONFIG_DATA {
            if port == CONFIG_ADDRESS && size == 4 {
                self.address = value & 0x80ff_fffc;
            }
            return;
        }
        let register = self.address as u8 & 0xfc;
        let first = (port & 3) as u8;
        let len = size.min(4 - first);
        self.moved = true;
        self.with_selected(|function| {
            for n in 0..len {
                function.config_mut().write(register + first + n, (value >> (8 * n)) as u8);
            }
            function.config_written(register + first, len);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: u8 = devfn(0, 0);
    const ISA: u8 = devfn(1, 0);
    const PM: u8 = devfn(1, 3);

    fn read(pci: &mut PciBus, at: u8, register: u32) -> u32 {
        pci.port_write(CONFIG_ADDRESS, 4, ENABLE | u32::from(at) << 8 | register & 0xfc, 0);
        pci.port_read(CONFIG_DATA, 4, 0)
    }
    fn write(pci: &mut PciBus, at: u8, register: u32, value: u32) {
        pci.port_write(CONFIG_ADDRESS, 4, ENABLE | u32::from(at) << 8 | register & 0xfc, 0);
        pci.port_write(CONFIG_DATA, 4, value, 0);
    }

    struct Card(ConfigSpace);
    impl PciFunction for Card {
        fn config(&self) -> &ConfigSpace {
            &self.0
        }
        fn config_mut(&mut self) -> &mut ConfigSpace {
            &mut self.0
        }
    }

    #[test]
    fn a_scan_finds_the_chipset() {
        let mut pci = PciBus::new(Chipset::i440fx());
        // How Linux checks for mechanism #1.
        pci.port_write(CONFIG_ADDRESS, 4, 0x8000_0000, 0);
        assert_eq!(pci.port_read(CONFIG_ADDRESS, 4, 0), 0x8000_0000);
        let found: Vec<_> =
            (0..=255).map(|at| (at, read(&mut pci, at, 0))).filter(|(_, id)| *id != u32::MAX).collect();
        assert_eq!(found, [(0, 0x1237_8086), (8, 0x7000_8086), (11, 0x7113_8086)]);
        assert_eq!(read(&mut pci, ISA, 8) >> 8, 0x06_0100);
        assert_eq!(pci.port_read(CONFIG_DATA + 2, 2, 0), 0x0601);
        pci.port_write(CONFIG_ADDRESS, 4, 0x8001_0000, 0);
        assert_eq!(pci.port_read(CONFIG_DATA, 4, 0), u32::MAX, "no bus 1");
        pci.port_write(CONFIG_ADDRESS, 1, 0, 0);
        assert_eq!(pci.port_read(CONFIG_ADDRESS, 4, 0), 0x8001_0000);
    }

    #[test]
    fn base_address_registers_are_sized() {
        let mut pci = PciBus::new(Chipset::i440fx());
        let mut config = ConfigSpace::endpoint(0x1af4, 0x1000, 0x02_0000, 0);
        config.add_bar(0, BarKind::Io, 32);
        config.add_bar(1, BarKind::Memory32, 4096);
        config.add_bar(4, BarKind::Memory64Prefetchable, 1 << 33);
        config.set_interrupt_pin(1);
        let at = devfn(3, 0);
        pci.attach(at, Box::new(Card(config)));
        for (register, all_ones, value) in [
            (0x10, 0xffff_ffe1, 0x0000_c001),
            (0x14, 0xffff_f000, 0xfebc_0000),
            (0x18, 0, 0),
            (0x20, 0x0000_000c, 0x0000_000c),
            (0x24, 0xffff_fffe, 0x0000_0004),
        ] {
            write(&mut pci, at, register, u32::MAX);
            assert_eq!(read(&mut pci, at, register), all_ones);
            write(&mut pci, at, register, value);
            assert_eq!(read(&mut pci, at, register), value);
        }
        let bars =
            |pci: &PciBus| pci.card(at).unwrap().with(|card| [0, 1, 4].map(|bar| card.config().bar(bar)));
        assert_eq!(bars(&pci)[0], None, "decoding is off");
        write(&mut pci, at, 4, 3);
        assert_eq!(bars(&pci), [Some(0xc000), Some(0xfebc_0000), Some(4 << 32)]);
        let state = pci.save();
        pci.reset();
        assert_eq!(read(&mut pci, at, 0x10), 1);
        pci.restore(state);
        assert_eq!(read(&mut pci, at, 0x10), 0xc001);
    }

    #[test]
    fn interrupt_routes_and_pm_base() {
        let mut pci = PciBus::new(Chipset::i440fx());
        assert_eq!(pci.chipset.pirq_route(0), None);
        write(&mut pci, ISA, 0x60, 0x8080_0b0a);
        assert_eq!([0, 1, 2].map(|pirq| pci.chipset.pirq_route(pirq)), [Some(10), Some(11), None]);
        assert_eq!(pci.chipset.pm_base(), Some(0x600));
        write(&mut pci, PM, 0x40, 0xb01f);
        assert_eq!((read(&mut pci, PM, 0x40), pci.chipset.pm_base()), (0xb001, Some(0xb000)));
        write(&mut pci, PM, 0x80, 0);
        assert_eq!(pci.chipset.pm_base(), None);
        write(&mut pci, HOST, 0x58, 0xffff_ff00);
        // PAM0 to PAM2: F0000h, C0000h to CFFFFh.
        let shadow = pci.chipset.memory(false, 1 << 24).shadow;
        let full = Shadow { reads: true, writes: true };
        assert!(shadow.iter().enumerate().all(|(n, s)| (*s == full) == (n < 4 || n == 12)));
        write(&mut pci, HOST, 0x5c, 0x0000_0012);
        let memory = pci.chipset.memory(false, 1 << 24);
        assert_eq!(memory.shadow_at(0xd_3fff).unwrap(), Shadow { reads: false, writes: true });
        assert_eq!(memory.shadow_at(0xd_4000).unwrap(), Shadow { reads: true, writes: false });
        assert_eq!(memory.shadow_at(0xf_ffff).unwrap(), full);
        assert_eq!((memory.shadow_at(0xb_ffff), memory.shadow_at(0x10_0000)), (None, None));
    }

    #[test]
    fn smram_opens_closes_and_locks() {
        let mut pci = PciBus::new(Chipset::i440fx());
        let seen = |pci: &mut PciBus, value: u32| {
            write(pci, HOST, 0x70, value << 16);
            [false, true].map(|smm| pci.chipset.memory(smm, 1 << 24).smram)
        };
        assert_eq!(seen(&mut pci, 0x42), [false; 2], "G_SMRAME is off");
        assert_eq!(seen(&mut pci, 0x0a), [false, true]);
        assert_eq!(seen(&mut pci, 0x4a), [true, true]);
        assert_eq!(seen(&mut pci, 0x2a), [false, false], "D_CLS hides the data from SMM, too");
        // Locked while open: closed, and it stays so, whatever is written.
        assert_eq!(seen(&mut pci, 0x5a), [false, true]);
        assert_eq!(seen(&mut pci, 0x42), [false, true]);
        assert_eq!(read(&mut pci, HOST, 0x70) >> 16 & 0xff, 0x1a);
        assert_eq!(seen(&mut pci, 0x20), [false, false]);
        // A restored state is locked as it was saved; reset unlocks.
        let state = pci.save();
        pci.reset();
        assert_eq!(seen(&mut pci, 0x4a), [true, true]);
        pci.restore(state);
        assert_eq!(seen(&mut pci, 0x48), [false, true]);
        pci.reset();
        assert_eq!(read(&mut pci, HOST, 0x70) >> 16 & 0xff, 0x02);
    }

    #[test]
    fn configuration_space_is_seen_in_memory() {
        let mut pci = PciBus::new(Chipset::q35(IrqLine::unconnected()));
        let found: Vec<_> = (0..=255u8)
            .map(|at| (at, pci.ecam_read(u64::from(at) << 12, 4, 0)))
            .filter(|(_, id)| *id as u32 != u32::MAX)
            .collect();
        assert_eq!(found, [(0, 0x29c0_8086), (0xf8, 0x2918_8086), (0xfb, 0x2930_8086)]);
        pci.ecam_write(0xf8 << 12 | 0x60, 4, 0x0b0a_0a80);
        assert_eq!([0, 1, 3].map(|pirq| pci.chipset.pirq_route(pirq)), [None, Some(10), Some(11)]);
        assert_eq!(read(&mut pci, 0xf8, 0x60), 0x0b0a_0a80);
        // The last bytes, what is beyond them, and another bus.
        assert_eq!(pci.ecam_read(0xfc, 4, 0), 0);
        assert_eq!([0xfd, 0x100, 1 << 20].map(|at| pci.ecam_read(at, 4, 0)), [u64::MAX; 3]);
        pci.ecam_write(0xf8 << 12 | 0xff, 8, u64::MAX);
        pci.ecam_write(1 << 20, 4, 0);
        assert_eq!(pci.chipset.ecam(), None);
        pci.ecam_write(0x60, 8, 0xb000_0001);
        assert_eq!(pci.chipset.ecam(), Some(0xb000_0000..0xc000_0000));
        let state = pci.save();
        pci.reset();
        assert_eq!((pci.chipset.ecam(), pci.chipset.pirq_route(1)), (None, None));
        pci.restore(state);
        assert_eq!((pci.chipset.ecam().is_some(), pci.chipset.pirq_route(1)), (true, Some(10)));
    }

    /// A register at 44h that counts its reads.
    struct Counter(ConfigSpace);

    impl PciFunction for Counter {
        fn config(&self) -> &ConfigSpace {
            &self.0
        }
        fn config_mut(&mut self) -> &mut ConfigSpace {
            &mut self.0
        }
        fn config_reading(&mut self, offset: u8, _now: Ns) {
            if offset == 0x44 {
                let count = self.0.read(0x44);
                self.0.fill(0x44, &[count + 1]);
            }
        }
    }

    #[test]
    fn a_register_that_reading_makes_is_made_by_ports_and_by_memory() {
        let mut pci = PciBus::new(Chipset::q35(IrqLine::unconnected()));
        pci.attach(devfn(9, 0), Box::new(Counter(ConfigSpace::endpoint(0x1234, 0x5678, 0xff_0000, 0))));
        assert_eq!(read(&mut pci, devfn(9, 0), 0x44) & 0xff, 1);
        assert_eq!(pci.ecam_read(u64::from(devfn(9, 0)) << 12 | 0x44, 1, 0), 2);
    }
}
