//! What a board may have or not: drives, floppies, a display, flash.

use std::sync::Arc;

use super::wiring::{LINE_FLOPPY, LINE_IDE};
use super::{BootPlace, PcDevices};
use crate::ahci::{Ahci, PortSpecs};
use crate::block::Disk;
use crate::clock::earlier;
use crate::flash::{Flash, UNITS};
use crate::floppy::Floppy;
use crate::ide::{DriveSpec, DriveSpecs, Ide};
use crate::pci::{self, ConfigSpace, PciFunction, PciSlot, devfn};
use crate::vga::{Picture, TextScreen, VIDEO_MEMORY, Vga, VideoMemory, WINDOW, WINDOW_LEN};
use crate::{Ns, Timed};

/// To be plugged into a board before it starts.
#[derive(Default)]
pub struct Peripherals {
    /// The IDE function with these drives (it may be there without any).
    pub ide: Option<DriveSpecs>,
    /// The board's own AHCI controller with these drives, at 00:1f.2.
    pub sata: Option<PortSpecs>,
    /// The floppy controller with these drives.
    pub floppies: Option<[Option<Option<Disk>>; 2]>,
    /// The display: its memory, and the length of its ROM BAR (0 for none).
    pub vga: Option<(Arc<dyn VideoMemory>, u64)>,
    /// More PCI functions.
    pub cards: Vec<PciCard>,
    /// CMOS registers 3Dh and 38h: the boot order.
    pub boot_order: [u8; 2],
    /// What to boot from before that, the first one first.
    pub boot_first: Vec<BootPlace>,
}

/// A PCI function to be plugged in.
pub struct PciCard {
    /// Device and function number; `None`: function 0 of the first free device.
    pub at: Option<(u8, u8)>,
    /// Makes it, with what the board has for it.
    pub make: Box<dyn FnOnce(PciSlot) -> Box<dyn PciFunction>>,
}

/// Where a CD drive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CdPlace {
    /// At the board's own controller: IDE place 0 to 3, or an AHCI port.
    Board(usize),
    /// At a controller that was plugged in.
    Card {
        /// Which of [`Peripherals::cards`].
        card: usize,
        /// Its port there.
        port: usize,
    },
}

/// Memory of PCI functions that is plain memory: the board maps it where the guest has put it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MappedBars {
    /// Video memory.
    pub frame_buffer: Option<u64>,
    /// The display's ROM.
    pub vga_rom: Option<u64>,
    /// Flash that does not give its array for now, from its start to its end: reads go to the chip.
    pub busy_flash: [Option<(u64, u64)>; UNITS],
}

/// CMOS registers.
mod cmos {
    pub const FLOPPY_TYPES: u8 = 0x10;
    pub const EQUIPMENT: u8 = 0x14;
    pub const BOOT_FLAG_1: u8 = 0x38;
    pub const DISK_TRANSLATION: u8 = 0x39;
    pub const BOOT_FLAG_2: u8 = 0x3d;
}

/// Largest disk whose cylinders, heads and sectors a BIOS need not translate.
const UNTRANSLATED: u64 = 1024 * 16 * 63;

impl PcDevices {
    /// Plugs peripherals in.
    pub fn plug(&mut self, peripherals: Peripherals) {
        let Peripherals { ide, sata, floppies, vga, cards, boot_order, boot_first } = peripherals;
        // FPU and PS/2 mouse.
        let mut equipment = 0x06;
        if let Some(drives) = ide {
            self.rtc.set_cmos(cmos::DISK_TRANSLATION, translations(&drives));
            let irqs = [LINE_IDE, LINE_IDE + 1].map(|line| self.interrupts.lines().line(line));
            self.pci.attach_own(pci::IDE, Box::new(Ide::new(drives, &self.memory, irqs)));
        }
        if let Some(drives) = sata {
            let slot = self.slot(0x1f);
            self.pci.attach_own(pci::SATA, Box::new(Ahci::new(drives, slot)));
        }
        if let Some(floppies) = floppies {
            let floppy =
                Floppy::new(floppies, self.memory.clone(), self.interrupts.lines().line(LINE_FLOPPY));
            let types = floppy.cmos_types();
            self.rtc.set_cmos(cmos::FLOPPY_TYPES, types);
            equipment |= match (types >> 4, types & 0xf) {
                (0, 0) => 0,
                (0, _) | (_, 0) => 0x01,
                _ => 0x41,
            };
            self.floppy = Some(floppy);
        }
        if let Some((memory, rom_len)) = vga {
            self.pci.vga = Some(Vga::new(memory, rom_len));
        }
        // Those with a place first, so that no other takes it.
        let (placed, free): (Vec<_>, Vec<_>) =
            cards.into_iter().enumerate().partition(|(_, card)| card.at.is_some());
        self.cards = vec![None; placed.len() + free.len()];
        for (number, card) in placed.into_iter().chain(free) {
            self.cards[number] = self.plug_card(card);
        }
        self.offer_boot_paths(&boot_first);
        self.rtc.set_cmos(cmos::EQUIPMENT, equipment);
        self.rtc.set_cmos(cmos::BOOT_FLAG_2, boot_order[0]);
        self.rtc.set_cmos(cmos::BOOT_FLAG_1, boot_order[1]);
        self.settle();
    }

    /// Is a card of the user's choice possible there? Two functions of one place are a mistake of whoever wired the board.
    pub fn has_pci_function(&mut self, device: u8, function: u8) -> bool {
        self.pci.has(devfn(device, function))
    }

    /// Plugs a card in; its place.
    fn plug_card(&mut self, card: PciCard) -> Option<u8> {
        let free = |pci: &mut crate::pci::PciBus| pci.free_device(pci.first_slot()).map(|device| (device, 0));
        let Some((device, function)) = card.at.or_else(|| free(&mut self.pci)) else {
            tracing::warn!("there is no free PCI slot: a card was left out");
            return None;
        };
        let slot = self.slot(device);
        let at = devfn(device, function);
        self.pci.attach(at, (card.make)(slot));
        Some(at)
    }

    fn slot(&mut self, device: u8) -> PciSlot {
        PciSlot {
            memory: self.memory.clone(),
            intx: self.connect_pci_interrupt(device, 1),
            messages: self.interrupts.messages().clone(),
        }
    }

    pub(super) fn storage_deadline(&self) -> Option<Ns> {
        let cards = self.pci.cards().iter().filter(|_| !self.apart).filter_map(|card| card.deadline()).min();
        earlier(cards, self.floppy.as_ref().and_then(Timed::next_deadline))
    }

    /// Where one of [`Peripherals::cards`] is.
    pub(super) fn card_at(&self, card: usize) -> Option<u8> {
        self.cards.get(card).copied().flatten()
    }

    pub(super) fn advance_storage(&mut self, now: Ns) {
        if !self.apart {
            self.pci.cards().iter().for_each(|card| card.advance(|| now));
        }
        if let Some(floppy) = &mut self.floppy {
            floppy.run(now, &mut self.dma);
        }
    }

    /// The display and the offset into its window, if `gpa` is there.
    pub(super) fn vga_window(&mut self, gpa: u64) -> Option<(&mut Vga, u64)> {
        let offset = gpa.checked_sub(WINDOW).filter(|offset| *offset < WINDOW_LEN)?;
        Some((self.pci.vga.as_mut()?, offset))
    }

    /// Where the guest has put memory that is plain memory.
    pub fn mapped_bars(&self) -> MappedBars {
        let vga = self.pci.vga.as_ref().map(PciFunction::config);
        let busy = |unit: usize| {
            self.flash[unit].as_ref().filter(|flash| !flash.reads_array())?;
            self.flash_range(unit).map(|range| (range.start, range.end))
        };
        MappedBars {
            frame_buffer: vga.and_then(|config| config.bar(0)),
            vga_rom: vga.and_then(ConfigSpace::rom),
            busy_flash: [busy(0), busy(1)],
        }
    }

    /// Plugs a flash chip in: number 0 ends at 4 GiB, number 1 below it.
    pub fn plug_flash(&mut self, unit: usize, flash: Flash) {
        self.flash[unit] = Some(flash);
        self.pci.note_move();
    }

    fn flash_start(&self, unit: usize) -> u64 {
        let above = self.flash[..=unit].iter().flatten();
        (1 << 32) - above.map(Flash::len).sum::<u64>()
    }

    /// Where a flash chip is.
    pub(super) fn flash_range(&self, unit: usize) -> Option<std::ops::Range<u64>> {
        let start = self.flash_start(unit);
        self.flash[unit].as_ref().map(|flash| start..start + flash.len())
    }

    /// The flash chip at `gpa`, and the offset in it.
    pub(super) fn flash_window(&mut self, gpa: u64) -> Option<(&mut Flash, u64)> {
        let unit = (0..UNITS).find(|unit| {
            let offset = gpa.wrapping_sub(self.flash_start(*unit));
            self.flash[*unit].as_ref().is_some_and(|flash| offset < flash.len())
        })?;
        let offset = gpa - self.flash_start(unit);
        Some((self.flash[unit].as_mut()?, offset))
    }

    /// The length of what [`MappedBars::frame_buffer`] maps.
    pub const FRAME_BUFFER_LEN: u64 = VIDEO_MEMORY;

    /// What the display shows.
    pub fn picture(&self, now: Ns) -> Option<Picture> {
        self.pci.vga.as_ref().map(|vga| vga.picture(now))
    }

    /// The characters on the display, if it is in a text mode.
    pub fn text_screen(&self, now: Ns) -> Option<TextScreen> {
        self.pci.vga.as_ref()?.text(now)
    }

    /// Changes the medium of a CD drive; see [`PciFunction::change_medium`].
    pub fn change_cd(&mut self, place: CdPlace, medium: Option<Disk>, force: bool) -> bool {
        let (card, place) = match place {
            CdPlace::Board(place) => (self.pci.card(pci::IDE).or(self.pci.card(pci::SATA)), place),
            CdPlace::Card { card, port } => (self.card_at(card).and_then(|at| self.pci.card(at)), port),
        };
        let changed = card.is_some_and(|card| card.with(|card| card.change_medium(place, medium, force)));
        self.settle();
        changed
    }

    /// Changes the floppy in drive 0 or 1.
    pub fn change_floppy(&mut self, drive: usize, medium: Option<Disk>) -> bool {
        self.floppy.as_mut().is_some_and(|floppy| floppy.change_medium(drive, medium))
    }

    /// Flushes every disk, and what is in flash.
    pub fn flush_disks(&mut self) -> std::io::Result<()> {
        self.pci.cards().iter().try_for_each(|card| card.with(|card| card.flush()))?;
        self.flash.iter_mut().flatten().try_for_each(Flash::flush)?;
        self.floppy.as_mut().map_or(Ok(()), Floppy::flush)
    }
}

/// How a BIOS translates the geometry of the four IDE disks, two bits each: 1 is LBA translation.
fn translations(drives: &DriveSpecs) -> u8 {
    (0..).zip(drives).fold(0, |all, (place, drive)| match drive {
        Some(DriveSpec::HardDisk(disk)) if disk.len() / 512 > UNTRANSLATED => all | 1 << (2 * place),
        _ => all,
    })
}
