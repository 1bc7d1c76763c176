//! The PC board's devices in one struct: [`PORTS`] and [`SOURCES`] say what sits where, this module dispatches.
//!
//! Each access brings all devices to `now`, acts, and lets interrupts settle. So between two accesses nothing is in
//! flight, and `interrupt_pending` and `next_deadline` are plain look-ups.
//!
//! What has a lock of its own can be shared with processors that run at the same time ([`apart`](PcDevices::set_apart)): PCI functions, the
//! interrupt controllers, local APICs. Here, too, it is reached under these locks, so that there is one way for all.
//!
//! Limit: a local APIC window that a guest relocates is found here only if the board maps that page as MMIO.

mod apart;
mod boot_paths;
mod bus_time;
mod interrupts;
mod peripherals;
mod samples;
mod state;
mod wiring;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::acpi_pm::{AcpiPm, pm_timer};
use crate::clock::earlier;
use crate::debug_ports::DebugPorts;
use crate::dma8237::Dma8237;
use crate::flash::{Flash, UNITS};
use crate::floppy::Floppy;
use crate::fpu_error::FpuError;
use crate::fw_cfg::{FwCfg, FwCfgContents};
use crate::harness::{Harness, HarnessConfig, IOMEM_BASE, IOMEM_LEN, PcTestdev, PciTestdev, PostPort};
use crate::hpet::{HPET_BASE, HPET_LEN, Hpet};
use crate::i8042::{I8042, MouseMove};
use crate::ioapic::{IOAPIC_BASE, IOAPIC_LEN};
use crate::lapic::{LAPIC_BASE, LAPIC_LEN, LocalApic, LocalApics, signal};
use crate::memory::Dma;
use crate::pci::{self, BridgeMemory, Chipset, PciBus, RCBA_LEN, devfn};
use crate::pic8259::PicPair;
use crate::pit8254::Pit8254;
use crate::rtc::{CmosMemory, Rtc};
use crate::uart16550::Uart16550;
use crate::{Lines, MmioDevice, Ns, PortDevice, PowerEvent, Timed};
pub use boot_paths::BootPlace;
pub use bus_time::port_time;
pub use interrupts::Interrupts;
pub use peripherals::{CdPlace, MappedBars, PciCard, Peripherals};
pub use samples::BoardSamples;
pub use state::{PcState, StateMismatch};
pub use wiring::{ApartPort, ApartPorts, PIRQ_FIRST_PIN, PORTS, PortRange, SOURCES, Source, Unit};
use wiring::{LINE_FPU, LINE_HPET, LINE_KEYBOARD, LINE_MOUSE, LINE_PIT, LINE_RTC, LINE_SCI, LINE_SERIAL};

/// Memory windows that the board maps as MMIO: (start, length in bytes, whole pages).
pub const MMIO_WINDOWS: [(u64, u64); 3] =
    [(IOAPIC_BASE, IOAPIC_LEN), (HPET_BASE, 0x1000), (LAPIC_BASE, LAPIC_LEN)];

/// The board: chipset and what belongs to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BoardKind {
    /// i440FX and PIIX, with IDE.
    #[default]
    Pc,
    /// Q35 and ICH9, with memory-mapped PCI configuration and AHCI.
    Q35,
}

/// What the board decides about its devices.
#[derive(Clone, Debug, Default)]
pub struct PcConfig {
    /// Which one it is.
    pub board: BoardKind,
    /// Number of vCPUs = local APICs, 1 to 254.
    pub cpus: u8,
    /// Their APIC ids, where those are not 0, 1, 2 ...; the first is 0.
    pub apic_ids: Vec<u32>,
    /// Guest RAM below 4 GiB in bytes, counted from address 0 (for the CMOS memory-size bytes).
    pub ram_below_4g: u64,
    /// Guest RAM above 4 GiB in bytes.
    pub ram_above_4g: u64,
    /// The clock's date at power-on, in seconds since 1970-01-01 (UTC).
    pub epoch_seconds: u64,
    /// Number of 16550A ports, 0 to 4, at 3F8h, 2F8h, 3E8h, 2E8h.
    pub serial_ports: u8,
    /// Devices for test suites.
    pub harness: HarnessConfig,
    /// What firmware can ask for at ports 510h to 51Bh.
    pub fw_cfg: FwCfgContents,
    /// Guest memory.
    pub memory: Dma,
}

/// All devices of the PC.
pub struct PcDevices {
    /// Lines, controllers, messages; under a lock that comes after the board's.
    interrupts: Arc<Interrupts>,
    /// End of RAM below 4 GiB.
    ram_below_4g: u64,
    /// Device and pin of each connected PCI interrupt.
    pci_pins: Vec<(u8, u8)>,
    dma: Dma8237,
    /// Where each of [`Peripherals::cards`] is.
    cards: Vec<Option<u8>>,
    pit: Pit8254,
    rtc: Rtc,
    keyboard_controller: I8042,
    serial: Vec<Uart16550>,
    debug: DebugPorts,
    harness: Harness,
    fpu_error: FpuError,
    acpi: AcpiPm,
    pci: PciBus,
    floppy: Option<Floppy>,
    /// Chips that end at 4 GiB, the second one below the first.
    flash: [Option<Flash>; UNITS],
    /// For devices that master the bus.
    memory: Dma,
    fw_cfg: FwCfg,
    hpet: Hpet,
    /// Their own locks come after whatever lock the devices stand behind.
    lapics: Arc<LocalApics>,
    /// Whose port accesses come.
    on_ports: usize,
    event: Option<PowerEvent>,
    /// A write to device memory changed what the board maps.
    map_changed: bool,
    /// PCI functions with locks of their own are looked after by others: see [`PcDevices::set_apart`].
    apart: bool,
    /// The earliest deadline of all devices, as of the last `settle`.
    deadline: Option<Ns>,
    /// The same without what no processor can notice: the PIT's ticks while they are masked. Firmware leaves it ticking, and a host that is
    /// woken for each tick of an idle guest has most of its wake-ups from that. Whoever looks at the board finds the
    /// ticks made up for, since `deadline` is what accesses go by.
    wake: Option<Ns>,
}

fn ones(size: u8) -> u64 {
    u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)))
}

/// For the log: an access that no device answers.
fn unassigned(what: &str, at: u64, written: Option<u64>) {
    match written {
        None => tracing::trace!(target: "guest_errors", "read of the unassigned {what} {at:#x}"),
        Some(v) => {
            tracing::trace!(target: "guest_errors", "write of {v:#x} to the unassigned {what} {at:#x}")
        }
    }
}

impl PcDevices {
    /// The devices at power-on.
    pub fn new(config: &PcConfig) -> Self {
        assert!(config.cpus > 0 && config.cpus < 255, "1 to 254 vCPUs, not {}", config.cpus);
        assert!(config.serial_ports <= 4, "at most 4 serial ports, not {}", config.serial_ports);
        let lines = Lines::new();
        let line = |index| lines.line(index);
        let memory =
            CmosMemory { below_4g: config.ram_below_4g, above_4g: config.ram_above_4g, cpus: config.cpus };
        let ids = (0..config.cpus)
            .map(|index| config.apic_ids.get(usize::from(index)).copied().unwrap_or(index.into()));
        let lapics = Arc::new(LocalApics::new(ids));
        let interrupts = Interrupts::new(Arc::clone(&lines), Arc::clone(&lapics), config.memory.clone());
        let mut devices = Self {
            interrupts: Arc::new(interrupts),
            ram_below_4g: config.ram_below_4g,
            pci_pins: Vec::new(),
            dma: Dma8237::new(),
            cards: Vec::new(),
            pit: Pit8254::new(line(LINE_PIT)),
            rtc: Rtc::new(line(LINE_RTC), config.epoch_seconds, memory),
            keyboard_controller: I8042::new(line(LINE_KEYBOARD), line(LINE_MOUSE)),
            serial: (0..config.serial_ports).map(|n| Uart16550::new(line(LINE_SERIAL + n))).collect(),
            debug: DebugPorts::new(),
            harness: Harness::new(&config.harness),
            fpu_error: FpuError::new(line(LINE_FPU)),
            acpi: match config.board {
                BoardKind::Pc => AcpiPm::new(line(LINE_SCI)),
                BoardKind::Q35 => AcpiPm::ich9(line(LINE_SCI)),
            },
            pci: PciBus::new(Chipset::i440fx()),
            floppy: None,
            flash: [None, None],
            memory: config.memory.clone(),
            fw_cfg: FwCfg::new(config.fw_cfg.clone(), config.memory.clone()),
            hpet: Hpet::new([0, 1, 2].map(|n| line(LINE_HPET + n))),
            lapics,
            on_ports: 0,
            event: None,
            map_changed: false,
            apart: false,
            deadline: None,
            wake: None,
        };
        if config.board == BoardKind::Q35 {
            let smbus = devices.connect_pci_interrupt(0x1f, 1);
            devices.pci = PciBus::new(Chipset::q35(smbus));
        }
        if let Some(port) = config.harness.debugcon {
            devices.debug.set_console(port);
        }
        if let Some(device) = config.harness.pci_testdev {
            devices.pci.attach(devfn(device, 0), Box::new(PciTestdev::new()));
        }
        devices.settle();
        devices
    }

    /// Platform reset at `now`. The clock and CMOS RAM keep running, and requests to the board are dropped.
    pub fn reset(&mut self, now: Ns) {
        self.advance(now);
        self.dma = Dma8237::new();
        self.interrupts.with(|controllers| {
            controllers.pic = PicPair::new();
            controllers.ioapic.reset();
        });
        self.pit.reset(now);
        self.rtc.reset();
        self.keyboard_controller.reset();
        self.serial.iter_mut().for_each(Uart16550::reset);
        self.harness.reset();
        self.fpu_error.reset();
        self.acpi.reset(now);
        self.pci.reset();
        self.acpi.set_smi_locked(false);
        self.floppy.iter_mut().for_each(Floppy::reset);
        self.flash.iter_mut().flatten().for_each(Flash::reset);
        self.fw_cfg.reset();
        self.hpet.reset();
        self.lapics.each(LocalApic::reset);
        self.interrupts.lines().take();
        self.interrupts.messages().take();
        self.event = None;
        self.settle();
    }

    /// Who decodes `port`, and the last port of that range.
    fn decode(&self, port: u16) -> Option<(Unit, u16)> {
        if let Some(found) = self.harness.decode(port) {
            return Some(found);
        }
        if let Some(range) = wiring::fixed(port) {
            return Some((range.unit, range.last));
        }
        let len = self.acpi.block_len();
        let base = self.pci.chipset.pm_base().filter(|base| port.wrapping_sub(*base) < len)?;
        Some((Unit::AcpiBlock, base + (len - 1)))
    }

    /// Uses `unit`, if it is there.
    fn with_unit<R>(&mut self, unit: Unit, f: impl FnOnce(&mut dyn PortDevice) -> R) -> Option<R> {
        let device: &mut dyn PortDevice = match unit {
            Unit::Pic => return Some(self.interrupts.with(|controllers| f(&mut controllers.pic))),
            Unit::Ide(index) => {
                let ide = self.pci.card(pci::IDE)?;
                return ide.with(|ide| ide.fixed_ports(index).map(f));
            }
            Unit::Dma => &mut self.dma,
            Unit::Pit => &mut self.pit,
            Unit::KeyboardController => &mut self.keyboard_controller,
            Unit::Rtc => &mut self.rtc,
            Unit::DebugPorts | Unit::DebugExit | Unit::Debugcon => &mut self.debug,
            Unit::PcTestdev => self.harness.pc_testdev.as_mut()?,
            Unit::Post(index) => self.harness.post.get_mut(usize::from(index))?,
            Unit::FpuError => &mut self.fpu_error,
            Unit::Acpi | Unit::AcpiBlock => &mut self.acpi,
            Unit::Serial(index) => self.serial.get_mut(usize::from(index))?,
            Unit::Pci => &mut self.pci,
            Unit::Floppy => self.floppy.as_mut()?,
            Unit::Vga => self.pci.vga.as_mut()?,
            Unit::FwCfg => &mut self.fw_cfg,
        };
        Some(f(device))
    }

    /// The unit for an access that one device takes as it is; `None` if it must be split (or nobody is there).
    fn whole(&self, port: u16, size: u8) -> Option<Unit> {
        let (unit, last) = self.decode(port)?;
        let fits = u32::from(port) + u32::from(size) <= u32::from(last) + 1;
        // CONFIG_ADDRESS is a dword over the reset register's port.
        let config_address = unit == Unit::Pci && size == 4 && port == crate::pci::CONFIG_ADDRESS;
        (size == 1 || config_address || fits && !unit.is_byte_wide()).then_some(unit)
    }

    fn read_port(&mut self, port: u16, size: u8, now: Ns) -> u32 {
        if let Some(unit) = self.whole(port, size) {
            let value = self.with_unit(unit, |device| device.port_read(port, size, now));
            return value.unwrap_or_else(|| {
                unassigned("port", port.into(), None);
                ones(size) as u32
            });
        }
        if let Some(hit) = self.pci.claim(true, port.into()) {
            return self.pci.bar_read(hit, size, now) as u32;
        }
        if size <= 1 {
            unassigned("port", port.into(), None);
            return 0xff;
        }
        (0..u16::from(size))
            .fold(0, |value, n| value | self.read_port(port.wrapping_add(n), 1, now) << (8 * n))
    }

    fn write_port(&mut self, port: u16, size: u8, value: u32, now: Ns) {
        if let Some(unit) = self.whole(port, size) {
            if self.with_unit(unit, |device| device.port_write(port, size, value, now)).is_none() {
                unassigned("port", port.into(), Some(value.into()));
            }
        } else if let Some(hit) = self.pci.claim(true, port.into()) {
            self.pci.bar_write(hit, size, value.into(), now);
        } else if size > 1 {
            for n in 0..u16::from(size) {
                self.write_port(port.wrapping_add(n), 1, value >> (8 * n) & 0xff, now);
            }
        } else {
            unassigned("port", port.into(), Some(value.into()));
        }
    }

    /// Port read of 1, 2 or 4 bytes. Unassigned ports read all ones.
    pub fn port_read(&mut self, port: u16, size: u8, now: Ns) -> u32 {
        self.advance(now);
        let value = self.read_port(port, size.min(4), now);
        self.settle();
        value & ones(size.min(4)) as u32
    }

    /// What [`Self::port_read`] would give where a read changes nothing and finds nothing to be done first: the PM timer.
    pub fn sample_port(&self, port: u16, size: u8, now: Ns) -> Option<u32> {
        let timer = size == 4 && self.acpi.is_timer(port) && self.pm_timer_port() == Some(port);
        (timer && !self.due(now)).then(|| pm_timer(now))
    }

    /// Likewise for [`Self::mmio_read`]: the HPET's counter.
    pub fn sample_mmio(&self, cpu: usize, gpa: u64, size: u8, now: Ns) -> Option<u64> {
        let offset = gpa.wrapping_sub(HPET_BASE);
        if offset >= HPET_LEN || self.due(now) || self.lapics.in_window(cpu, gpa) {
            return None;
        }
        self.hpet.sample(offset, size, now)
    }

    /// Port write of 1, 2 or 4 bytes. The board looks for a [`PowerEvent`] and at A20 afterwards.
    pub fn port_write(&mut self, port: u16, size: u8, value: u32, now: Ns) {
        self.advance(now);
        self.write_port(port, size.min(4), value & ones(size.min(4)) as u32, now);
        let event = self.keyboard_controller.take_event();
        let event = event.or(self.acpi.take_event()).or(self.debug.take_event());
        let event = event.or_else(|| self.harness.post.iter_mut().find_map(PostPort::take_event));
        self.acpi.set_smi_locked(self.pci.chipset.smi_locked());
        let enabled = self.pci.chipset.apmc_enabled().unwrap_or(self.acpi.apmc_enabled());
        if self.acpi.take_apm_write() && enabled {
            // As QEMU's chipsets do while nothing else is negotiated: only the processor that asked. What firmware relocates
            // one by one, a broadcast would start at addresses where nothing is.
            self.lapics.with(self.on_ports, LocalApic::raise_smi);
        }
        // The first request stands until the board takes it.
        self.event = self.event.or(event);
        self.settle();
    }

    /// Memory-mapped read by vCPU `cpu` (each sees its own local APIC). Unassigned addresses read all ones.
    pub fn mmio_read(&mut self, cpu: usize, gpa: u64, size: u8, now: Ns) -> u64 {
        self.advance(now);
        let value = if self.lapics.in_window(cpu, gpa) {
            self.lapics.with(cpu, |lapic| lapic.window_read(gpa & (LAPIC_LEN - 1), size, now))
        } else if Interrupts::in_window(gpa) {
            self.interrupts.window_read(gpa, size, now)
        } else if gpa.wrapping_sub(HPET_BASE) < HPET_LEN {
            self.hpet.mmio_read(gpa - HPET_BASE, size, now)
        } else if let Some(device) = self.testdev_window(gpa) {
            device.mmio_read(gpa - IOMEM_BASE, size, now)
        } else if let Some((vga, offset)) = self.vga_window(gpa) {
            vga.window_read(offset, size)
        } else if let Some((flash, offset)) = self.flash_window(gpa) {
            flash.read(offset, size)
        } else if let Some(offset) = self.ecam(gpa) {
            self.pci.ecam_read(offset, size, now)
        } else if let Some((offset, lpc)) = self.root_complex(gpa) {
            lpc.root_complex_read(offset, size)
        } else if let Some(hit) = self.pci.claim(false, gpa) {
            self.pci.bar_read(hit, size, now)
        } else {
            unassigned("address", gpa, None);
            u64::MAX
        };
        self.settle();
        value & ones(size)
    }

    /// Memory-mapped write by vCPU `cpu`.
    pub fn mmio_write(&mut self, cpu: usize, gpa: u64, size: u8, value: u64, now: Ns) {
        self.advance(now);
        let value = value & ones(size);
        if self.lapics.in_window(cpu, gpa) {
            let offset = gpa & (LAPIC_LEN - 1);
            let effect = self.lapics.with(cpu, |lapic| lapic.window_write(offset, size, value, now));
            self.perform(cpu, effect);
        } else if Interrupts::in_window(gpa) {
            self.interrupts.with(|controllers| {
                controllers.ioapic.mmio_write(gpa - IOAPIC_BASE, size, value, now);
            });
        } else if gpa.wrapping_sub(HPET_BASE) < HPET_LEN {
            self.hpet.mmio_write(gpa - HPET_BASE, size, value, now);
        } else if let Some(device) = self.testdev_window(gpa) {
            device.mmio_write(gpa - IOMEM_BASE, size, value, now);
        } else if let Some((vga, offset)) = self.vga_window(gpa) {
            vga.window_write(offset, size, value);
        } else if let Some((flash, offset)) = self.flash_window(gpa) {
            let before = flash.reads_array();
            flash.write(offset, size, value);
            self.map_changed |= flash.reads_array() != before;
        } else if let Some(offset) = self.ecam(gpa) {
            self.pci.ecam_write(offset, size, value);
            self.acpi.set_smi_locked(self.pci.chipset.smi_locked());
            self.map_changed = true;
        } else if let Some((offset, lpc)) = self.root_complex(gpa) {
            lpc.root_complex_write(offset, size, value);
        } else if let Some(hit) = self.pci.claim(false, gpa) {
            self.pci.bar_write(hit, size, value, now);
        } else {
            unassigned("address", gpa, Some(value));
        }
        self.settle();
    }

    fn testdev_window(&mut self, gpa: u64) -> Option<&mut PcTestdev> {
        self.harness.pc_testdev.as_mut().filter(|_| gpa.wrapping_sub(IOMEM_BASE) < IOMEM_LEN)
    }

    /// The offset into memory-mapped configuration space.
    fn ecam(&self, gpa: u64) -> Option<u64> {
        self.pci.chipset.ecam().filter(|range| range.contains(&gpa)).map(|range| gpa - range.start)
    }

    /// The offset into the root complex register block.
    fn root_complex(&mut self, gpa: u64) -> Option<(u64, &mut crate::pci::Ich9Lpc)> {
        let lpc = self.pci.chipset.lpc()?;
        let offset = gpa.checked_sub(lpc.root_complex_base()?).filter(|offset| *offset < RCBA_LEN)?;
        Some((offset, lpc))
    }

    /// When `advance` must be called next; later than the `now` of the last call. (Where nothing else is to come, a tick that nobody
    /// notices is named too: a machine that waits for it has not come to its end.)
    pub fn next_deadline(&self) -> Option<Ns> {
        earlier(self.wake, self.lapics.next_deadline()).or(self.deadline)
    }

    /// The same without the local APICs' timers, for a machine whose processors look after their own and use the interrupt controllers
    /// without the board: with all ticks of the PIT.
    pub fn device_deadline(&self) -> Option<Ns> {
        self.deadline
    }

    /// The local APICs, for processors that use them without the other devices.
    pub fn local_apics(&self) -> &Arc<LocalApics> {
        &self.lapics
    }

    /// Has a device something to do by `now`?
    #[inline]
    fn due(&self, now: Ns) -> bool {
        earlier(self.deadline, self.lapics.next_deadline()).is_some_and(|deadline| deadline <= now)
    }

    /// Brings all devices to `now`.
    pub fn advance(&mut self, now: Ns) {
        if !self.due(now) {
            return;
        }
        self.serial.iter_mut().for_each(|port| port.advance(now));
        self.lapics.advance(now);
        self.pit.advance(now);
        self.rtc.advance(now);
        self.hpet.advance(now);
        self.acpi.advance(now);
        self.advance_storage(now);
        self.settle();
    }

    /// Whether INTR is asserted to `cpu`: by the 8259A pair, or by its local APIC.
    pub fn interrupt_pending(&self, cpu: usize) -> bool {
        self.lapics.interrupt_pending(cpu)
    }

    /// INTA cycle by `cpu`: the vector to deliver, `None` if nothing was pending.
    pub fn acknowledge(&mut self, cpu: usize, now: Ns) -> Option<u8> {
        self.advance(now);
        let interrupts = &self.interrupts;
        let vector = interrupts.with(|controllers| interrupts.take_vector(controllers, cpu));
        self.settle();
        vector
    }

    /// Whether an NMI, INIT or start-up IPI waits for `cpu`.
    pub fn signal_pending(&self, cpu: usize) -> bool {
        self.lapics.has(cpu, signal::NMI | signal::INIT | signal::START_UP)
    }

    /// Takes a pending NMI.
    pub fn take_nmi(&mut self, cpu: usize) -> bool {
        self.lapics.take(cpu, signal::NMI)
    }

    /// Takes a pending SMI.
    pub fn take_smi(&mut self, cpu: usize) -> bool {
        self.lapics.take(cpu, signal::SMI)
    }

    /// Whether an SMI waits for `cpu`.
    pub fn smi_pending(&self, cpu: usize) -> bool {
        self.lapics.has(cpu, signal::SMI)
    }

    /// The memory map that the host bridge wants, for a processor that is in SMM or not.
    pub fn bridge_memory(&self, smm: bool) -> BridgeMemory {
        self.pci.chipset.memory(smm, self.ram_below_4g)
    }

    /// Whether a write to device memory changed what the board maps, since the last call. (After port writes the board
    /// looks anyway.)
    pub fn take_map_change(&mut self) -> bool {
        std::mem::take(&mut self.map_changed)
    }

    /// Takes a pending INIT (the local APIC has reset itself already).
    pub fn take_init(&mut self, cpu: usize) -> bool {
        self.lapics.take(cpu, signal::INIT)
    }

    /// From now on it is vCPU `cpu` that accesses ports.
    pub fn turn_to(&mut self, cpu: usize) {
        self.on_ports = cpu.min(self.lapics.count() - 1);
    }

    /// Takes a pending start-up IPI: execution starts at `vector << 12`. A CPU that does not wait for one drops it.
    pub fn take_sipi(&mut self, cpu: usize) -> Option<u8> {
        self.lapics.take_start_up(cpu)
    }

    /// The NMI button: LINT1 of every CPU, unless port 70h masks NMIs.
    pub fn raise_nmi(&mut self) {
        if !self.rtc.nmi_masked() {
            self.lapics.each(LocalApic::lint1_rose);
        }
    }

    /// IA32_APIC_BASE.
    pub fn apic_base(&self, cpu: usize) -> u64 {
        self.lapics.base(cpu)
    }

    /// Writes IA32_APIC_BASE; false means #GP. Bits beyond the CPU's physical address width are the caller's to refuse.
    pub fn set_apic_base(&mut self, cpu: usize, value: u64, now: Ns) -> bool {
        self.advance(now);
        let valid = self.lapics.with(cpu, |lapic| lapic.set_base(value));
        self.settle();
        valid
    }

    /// CR8 (task priority class).
    pub fn cr8(&self, cpu: usize) -> u8 {
        self.lapics.with(cpu, |lapic| lapic.cr8())
    }

    /// Writes CR8.
    pub fn set_cr8(&mut self, cpu: usize, cr8: u8) {
        self.lapics.with(cpu, |lapic| lapic.set_cr8(cr8));
    }

    /// IA32_TSC_DEADLINE.
    pub fn tsc_deadline(&mut self, cpu: usize, now: Ns) -> u64 {
        self.advance(now);
        self.lapics.with(cpu, |lapic| lapic.tsc_deadline(now))
    }

    /// Writes IA32_TSC_DEADLINE in virtual ns: a CPU whose TSC is offset from it subtracts the offset first.
    pub fn set_tsc_deadline(&mut self, cpu: usize, tsc: u64, now: Ns) {
        self.advance(now);
        self.lapics.with(cpu, |lapic| lapic.set_tsc_deadline(tsc, now));
        self.settle();
    }

    /// Reads an x2APIC MSR (800h to 8FFh); `None` means #GP.
    pub fn x2apic_read(&mut self, cpu: usize, msr: u32, now: Ns) -> Option<u64> {
        self.advance(now);
        self.lapics.with(cpu, |lapic| lapic.msr_read(msr, now))
    }

    /// Writes an x2APIC MSR; `None` means #GP.
    pub fn x2apic_write(&mut self, cpu: usize, msr: u32, value: u64, now: Ns) -> Option<()> {
        self.advance(now);
        let effect = self.lapics.with(cpu, |lapic| lapic.msr_write(msr, value, now));
        if let Some(effect) = effect {
            self.perform(cpu, effect);
        }
        self.settle();
        effect.map(|_| ())
    }

    /// A level-triggered interrupt with this vector has ended at a local APIC.
    pub fn end_of_interrupt(&mut self, vector: u8, now: Ns) {
        self.advance(now);
        self.interrupts.with(|controllers| controllers.ioapic.eoi(vector));
        self.settle();
    }

    /// The CPU drives FERR#: an x87 error to be reported as IRQ 13 (CR0.NE clear).
    pub fn ferr(&mut self, asserted: bool, now: Ns) {
        self.advance(now);
        self.fpu_error.set_ferr(asserted);
        self.settle();
    }

    /// The request to the board that a device made, if any.
    pub fn take_power_event(&mut self) -> Option<PowerEvent> {
        self.event.take()
    }

    /// Is there anything for the board to carry away: output, a power event?
    pub fn has_output(&self) -> bool {
        self.event.is_some()
            || self.serial.iter().any(Uart16550::has_output)
            || self.debug.has_output()
            || self.harness.post.iter().any(PostPort::has_output)
    }

    /// Presses the ACPI power button.
    pub fn press_power_button(&mut self) {
        self.acpi.press_power_button();
        self.settle();
    }

    /// Whether address line 20 is passed (true) or forced low.
    pub fn a20(&self) -> bool {
        self.keyboard_controller.a20()
    }

    /// Scan codes (set 2) of one key event; false if the keyboard did not take them.
    pub fn key(&mut self, scan_codes: &[u8]) -> bool {
        let taken = self.keyboard_controller.key(scan_codes);
        self.settle();
        taken
    }

    /// The PS/2 mouse moves, or a button of it does.
    pub fn mouse(&mut self, by: MouseMove) {
        self.keyboard_controller.mouse(by);
        self.settle();
    }

    /// Bytes that serial port `index` sent since the last call.
    pub fn take_serial_output(&mut self, index: usize) -> Vec<u8> {
        self.serial.get_mut(index).map(Uart16550::take_output).unwrap_or_default()
    }

    /// Whether serial port `index` has room for another byte.
    pub fn serial_can_receive(&self, index: usize) -> bool {
        self.serial.get(index).is_some_and(Uart16550::can_receive)
    }

    /// Gives serial port `index` a byte from outside; false: it was lost.
    pub fn serial_receive(&mut self, index: usize, byte: u8, now: Ns) -> bool {
        self.advance(now);
        let taken = self.serial.get_mut(index).is_some_and(|port| port.receive(byte, now));
        self.settle();
        taken
    }

    /// Bytes written to port E9h since the last call.
    pub fn take_debugcon_output(&mut self) -> Vec<u8> {
        self.debug.take_output()
    }

    /// What was written to retro-post number `index` since the last call.
    pub fn take_post_output(&mut self, index: usize) -> Vec<u8> {
        self.harness.post.get_mut(index).map(PostPort::take_output).unwrap_or_default()
    }

    /// The last POST code (port 80h).
    pub fn post_code(&self) -> u8 {
        self.debug.post_code()
    }
}

#[cfg(test)]
mod apart_tests;
#[cfg(test)]
mod tests;
