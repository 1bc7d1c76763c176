//! A whole machine: processor, engine, memory, devices, and the loop that carries time and events between them.
//!
//! Time is counted: virtual nanoseconds are retired instructions plus what was skipped while the processor was halted.
//! Several processors take turns: see the module `turns`.
//! The loop runs the engine up to the next device deadline (or the end of a slice, so that input is looked at), brings
//! the devices to the exact virtual time, and goes on. Nothing here reads the wall clock; the input gate may.

pub mod bus;
mod control;
mod desk;
pub mod gate;
mod memory;
pub mod pacing;
mod parallel;
mod parked;
mod snapshot;
mod stages;
mod turns;

use std::io;
use std::sync::Arc;

use bios::{EntryState, MemoryLayout};
use devices::block::Disk;
use devices::flash::Flash;
use devices::fw_cfg::FwCfgContents;
use devices::harness::HarnessConfig;
use devices::memory::Dma;
use devices::pc::{BoardKind, CdPlace, PcConfig, PcDevices, Peripherals};
use jit::{Engine, EngineConfig, Exit, Stats};
use softmmu::{AddressSpace, GuestRam, MemoryMap, Mmu};
use x86::Vcpu;
use x86::model::CpuModel;
use x86::state::rflags;

use crate::storage::Drives;
use bus::PcBus;
use desk::{Asked, Desk};
use gate::{InputGate, Wait};
pub use parallel::{Counts, LockCounts, Why};

/// Longest run between looks at live input, in instructions.
const LIVE_SLICE: u64 = 1_000_000;
/// Longest run otherwise.
const SLICE: u64 = 100_000_000;

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The board.
    pub board: BoardKind,
    /// Memory.
    pub layout: MemoryLayout,
    /// Processor model, with the machine's topology.
    pub model: CpuModel,
    /// What decides whose turn it is, where there are several processors that take turns.
    pub smp_seed: u64,
    /// Several processors run at the same time, and time is the host's.
    pub parallel: bool,
    /// How code is executed.
    pub engine: EngineConfig,
    /// Real-time clock at power-on, seconds since 1970.
    pub epoch_seconds: u64,
    /// Number of serial ports, 0 to 4: COM1 first.
    pub serial_ports: u8,
    /// Devices for test suites.
    pub harness: HarnessConfig,
    /// What firmware can ask for.
    pub fw_cfg: FwCfgContents,
    /// A display with this ROM (which may be empty).
    pub vga: Option<Arc<[u8]>>,
    /// A reset request ends the machine (`-no-reboot`).
    pub no_reboot: bool,
}

/// Why a machine stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The guest switched it off.
    PowerOff,
    /// The guest asked for a reset, and `-no-reboot` was given.
    Reset,
    /// isa-debug-exit, with the status QEMU would exit with.
    DebugExit(u32),
    /// A triple fault: the processor shut down.
    TripleFault,
    /// The user asked for it.
    Stopped,
    /// Halted, and nothing can wake it.
    HaltedForever,
    /// A given instruction count, or the time of the alarm, was reached.
    Count,
    /// Something Retrograde cannot do, in one sentence.
    Report(String),
}

/// Where console bytes go.
pub trait Console {
    /// Bytes from serial port `port` (0 = COM1).
    fn serial(&mut self, port: u8, bytes: &[u8]) -> io::Result<()>;
    /// Bytes from the debug console at port E9h.
    fn debug(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Text from the monitor.
    fn monitor(&mut self, _text: &str) -> io::Result<()> {
        Ok(())
    }
    /// Is it time for another look at the display? Then [`Console::frame`] follows.
    fn wants_frame(&mut self) -> bool {
        false
    }
    /// What the display shows; `None`: no text mode.
    fn frame(&mut self, _screen: Option<&devices::vga::TextScreen>) -> io::Result<()> {
        Ok(())
    }
    /// Is it time for another picture of the display? Then [`Console::picture`] follows.
    fn wants_picture(&mut self) -> bool {
        false
    }
    /// What the display shows; `None`: there is no display.
    fn picture(&mut self, _picture: Option<devices::vga::Picture>) -> io::Result<()> {
        Ok(())
    }
    /// Whether time stands still, told on every round.
    fn paused(&mut self, _paused: bool) {}
    /// The longest that a halted machine may wait without another look, in nanoseconds.
    fn frame_interval(&self) -> Option<u64> {
        None
    }
    /// Bytes from retro-post number `index`.
    fn post(&mut self, _index: usize, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// See the module.
pub struct Machine {
    /// The processor whose turn it is: the only one, mostly.
    pub cpu: Box<Vcpu>,
    turns: turns::Turns,
    locks: LockCounts,
    engine: Engine,
    space: Arc<AddressSpace>,
    spec: Spec,
    display: Option<memory::Display>,
    control: control::Control,
    /// CD drives by their names.
    cds: Vec<(String, CdPlace)>,
    stages: stages::Stages,
    setup: Option<bios::Setup>,
    boot: Option<Boot>,
}

/// How the machine starts, kept for resets.
struct Boot {
    chunks: Vec<bios::Chunk<'static>>,
    entry: Option<EntryState>,
}

/// PCI configuration space, as firmware reaches it.
struct ConfigPorts<'a> {
    devices: &'a mut PcDevices,
    now: u64,
}

impl bios::pci_setup::ConfigAccess for ConfigPorts<'_> {
    fn read(&mut self, address: u32) -> u32 {
        self.devices.port_write(0xcf8, 4, address, self.now);
        self.devices.port_read(0xcfc, 4, self.now)
    }
    fn write(&mut self, address: u32, value: u32) {
        self.devices.port_write(0xcf8, 4, address, self.now);
        self.devices.port_write(0xcfc, 4, value, self.now);
    }
}

/// Where the display's memory and ROM lie in the guest's array, behind everything else.
fn place_display(layout: &MemoryLayout, rom: &[u8]) -> memory::Display {
    let frame_buffer = layout.array_bytes().next_multiple_of(bios::e820::RAM_GRANULE);
    let rom_len = match rom.len() as u64 {
        0 => 0,
        len => len.next_power_of_two().max(bios::e820::RAM_GRANULE),
    };
    memory::Display { frame_buffer, rom: frame_buffer + PcDevices::FRAME_BUFFER_LEN, rom_len }
}

/// A machine that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No memory for the guest.
    #[error("cannot get {0} bytes of memory for the guest: {1}")]
    Ram(u64, softmmu::RamError),
    /// The memory map is not usable.
    #[error("memory map: {0}")]
    Map(softmmu::MapError),
    /// The kernel or firmware cannot be placed.
    #[error(transparent)]
    Load(#[from] bios::LoadError),
}

impl Machine {
    /// A machine at its reset vector, with empty memory.
    pub fn new(spec: Spec) -> Result<Self, BuildError> {
        let display = spec.vga.as_ref().map(|rom| place_display(&spec.layout, rom));
        let bytes = display.map_or(spec.layout.array_bytes(), |d| d.rom + d.rom_len);
        let ram = GuestRam::new(bytes).map_err(|e| BuildError::Ram(bytes, e))?;
        let map = MemoryMap::new(spec.layout.regions()).map_err(BuildError::Map)?;
        let space = AddressSpace::new(ram, map);
        if let (Some(display), Some(rom)) = (&display, &spec.vga) {
            space.load_rom(display.rom, rom);
        }
        let devices = PcDevices::new(&PcConfig {
            board: spec.board,
            cpus: spec.model.topology().cpus as u8,
            apic_ids: spec.model.topology().apic_ids(),
            ram_below_4g: spec.layout.below_4g(),
            ram_above_4g: spec.layout.above_4g(),
            epoch_seconds: spec.epoch_seconds,
            serial_ports: spec.serial_ports,
            harness: spec.harness.clone(),
            fw_cfg: spec.fw_cfg.clone(),
            memory: Dma::new(Arc::new(bus::BusMaster(space.clone()))),
        });
        let memory = memory::Memory::new(space.clone(), spec.layout, display);
        let bus = Box::new(PcBus::new(devices, 0, memory));
        let cpu = Box::new(Vcpu::new(Mmu::new(space.clone()), bus, spec.model.clone()));
        let config = EngineConfig { parallel: spec.parallel, ..spec.engine.clone() };
        let engine = Engine::new(config, space.clone());
        let turns = turns::Turns::new(turns::others(&space, &spec.model, &engine), spec.smp_seed);
        Ok(Self {
            locks: LockCounts::new(spec.model.topology().cpus as usize),
            cpu,
            turns,
            engine,
            space,
            spec,
            display,
            control: Default::default(),
            cds: Vec::new(),
            stages: stages::Stages::new(),
            setup: None,
            boot: None,
        })
    }

    /// Plugs drives and cards in (and the display that the machine was made with): to be called before [`Machine::boot`].
    pub fn plug(&mut self, drives: Drives, boot_order: [u8; 2]) {
        let Drives { ide, sata, floppies, cards, cds, boot_first } = drives;
        self.cds = cds;
        let vga = self.display.map(|display| {
            let (space, len) = (self.space.clone(), PcDevices::FRAME_BUFFER_LEN);
            let memory = bus::ArrayPart { space, offset: display.frame_buffer, len };
            (Arc::new(memory) as Arc<dyn devices::vga::VideoMemory>, display.rom_len)
        });
        let floppies = floppies.iter().any(Option::is_some).then_some(floppies);
        self.devices().plug(Peripherals { ide, sata, floppies, vga, cards, boot_order, boot_first });
    }

    /// Plugs flash chips in, whose lengths the ROM's place in the layout was made for: to be called before
    /// [`Machine::boot`].
    ///
    /// # Errors
    /// When a chip's file cannot be read.
    pub fn plug_flash(&mut self, chips: [Option<Disk>; devices::flash::UNITS]) -> io::Result<()> {
        let mut start = 1 << 32;
        for (unit, disk) in chips.into_iter().enumerate() {
            let Some(disk) = disk else { continue };
            let len = disk.len();
            start -= len;
            let Some(offset) = self.spec.layout.rom_offset(start, len) else {
                return Err(io::Error::other("the image of a flash chip has another size than before"));
            };
            let array = bus::ArrayPart { space: self.space.clone(), offset, len };
            let flash = Flash::new(disk, Box::new(array), devices::flash::SECTOR)?;
            self.devices().plug_flash(unit, flash);
        }
        Ok(())
    }

    /// What the firmware does to the hardware, now and after each reset: to be called before [`Machine::boot`].
    pub fn set_up(&mut self, setup: bios::Setup) {
        self.setup = Some(setup);
    }

    fn apply_setup(&mut self) {
        let Some(setup) = &self.setup else { return };
        for cpu in std::iter::once(&mut *self.cpu).chain(self.turns.others().map(|(_, cpu)| cpu)) {
            let msr = &mut cpu.st.msr;
            (msr.mtrr_def_type, msr.mtrr_fixed) = (setup.mtrrs.default_type, setup.mtrrs.fixed);
            let [first, second] = setup.mtrrs.variable;
            (msr.mtrr_var[0], msr.mtrr_var[1]) = first;
            (msr.mtrr_var[2], msr.mtrr_var[3]) = second;
        }
        let (setup, now) = (setup.clone(), self.cpu.st.now());
        let devices = &mut self.bus().devices;
        let mut write = |ports: &[bios::PortWrite], memory: &[u8]| {
            ports.iter().for_each(|w| devices.port_write(w.port, w.size, w.value, now));
            for (at, byte) in (bios::TextMode::FONT..).zip(memory) {
                devices.mmio_write(0, at, 1, (*byte).into(), now);
            }
        };
        write(&setup.ports, &[]);
        if let Some(bios::TextMode { before, font, after }) = &setup.text_mode {
            write(before, font);
            write(after, &[]);
            for n in 0..bios::TextMode::CHARACTERS {
                let at = bios::TextMode::SCREEN + 2 * n;
                devices.mmio_write(0, at, 2, bios::TextMode::BLANK.into(), now);
            }
        }
        setup.pci.assign(&mut ConfigPorts { devices, now });
        devices.port_write(0xcf8, 4, 0, now);
    }

    /// Puts `chunks` where they belong and does what firmware does to the hardware.
    fn install(&mut self, chunks: &[bios::Chunk<'static>]) -> Result<(), BuildError> {
        bios::install(chunks, &self.spec.layout, &self.space)?;
        self.apply_setup();
        self.bus().restored(false);
        Ok(())
    }

    /// Puts firmware and kernel into memory and the processor at the kernel's entry; without one, it stays at the reset
    /// vector.
    pub fn boot(
        &mut self,
        chunks: Vec<bios::Chunk<'static>>,
        entry: impl Into<Option<EntryState>>,
    ) -> Result<(), BuildError> {
        let entry = entry.into();
        self.install(&chunks)?;
        if let Some(entry) = &entry {
            self.apply_entry(entry);
        }
        self.show_reset("power-on");
        let now = self.cpu.st.now();
        self.stages.reset(now, "power-on");
        if !self.spec.no_reboot {
            self.boot = Some(Boot { chunks, entry });
        }
        Ok(())
    }

    /// Guest memory.
    pub fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }
    /// The engine of the processor whose turn it is.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
    /// What all engines have counted.
    pub fn stats(&self) -> Stats {
        let mut all = self.engine.stats();
        self.turns.stats().for_each(|stats| all += stats);
        all
    }
    /// The locks that processors have taken while they ran in parallel.
    pub fn lock_counts(&self) -> &LockCounts {
        &self.locks
    }
    /// The devices.
    pub fn devices(&mut self) -> &mut PcDevices {
        &mut self.bus().devices
    }

    fn bus(&mut self) -> &mut PcBus {
        let any: &mut dyn std::any::Any = &mut *self.cpu.bus;
        any.downcast_mut::<PcBus>().expect("the machine made the bus")
    }

    fn apply_entry(&mut self, e: &EntryState) {
        let seg = |s: &bios::Segment| x86::state::Segment {
            base: s.base,
            limit: s.limit,
            attrs: s.attributes,
            selector: s.selector,
        };
        let st = &mut self.cpu.st;
        for (r, v) in [
            (x86::state::reg::RAX, e.rax),
            (x86::state::reg::RBX, e.rbx),
            (x86::state::reg::RSI, e.rsi),
            (x86::state::reg::RSP, e.rsp),
        ] {
            st.gpr[r as usize] = v;
        }
        st.rip = e.rip;
        (st.cr0, st.cr3, st.cr4, st.msr.efer) = (e.cr0, e.cr3, e.cr4, e.efer);
        st.gdtr = x86::state::TableReg { base: e.gdt.base, limit: e.gdt.limit };
        st.idtr = x86::state::TableReg { base: e.idt.base, limit: e.idt.limit };
        st.seg = [seg(&e.data); 6];
        st.seg[x86::state::seg::CS as usize] = seg(&e.cs);
        st.tr = seg(&e.tr);
        self.cpu.set_rflags(e.rflags | rflags::FIXED);
        self.cpu.load_state_changed();
    }

    /// For `-d cpu_reset`: where the processor begins.
    fn show_reset(&mut self, why: &str) {
        if tracing::enabled!(target: "cpu_reset", tracing::Level::TRACE) {
            for index in 0..self.cpus() {
                let Some(cpu) = self.vcpu(index) else { continue };
                let (count, registers) = (cpu.st.icount(), x86::show::registers(cpu));
                tracing::trace!(target: "cpu_reset", "CPU Reset (CPU {index}), {why} at {count}\n{registers}");
            }
        }
    }

    /// Starts again as after power-on, with the same kernel.
    fn reset(&mut self) -> Result<(), BuildError> {
        let now = self.cpu.st.now();
        self.bus().devices.reset(now);
        turns::power_on(&mut self.cpu);
        self.reset_turns(now);
        if let Some(b) = self.boot.take() {
            self.install(&b.chunks)?;
            if let Some(entry) = &b.entry {
                self.apply_entry(entry);
            }
            self.boot = Some(b);
        }
        self.show_reset("reset");
        self.stages.reset(now, "the machine starts anew");
        Ok(())
    }

    /// Runs until something ends the machine, or `stop_at` instructions are retired.
    pub fn run(
        &mut self,
        gate: &mut InputGate,
        console: &mut dyn Console,
        stop_at: Option<u64>,
    ) -> io::Result<Ended> {
        if self.spec.parallel && self.turns.several() {
            return self.run_in_parallel(gate, console, stop_at);
        }
        loop {
            let (icount, now) = (self.retired(), self.cpu.st.now());
            self.bus().devices.advance(now);
            if let Some(ended) = self.exchange(gate, console, icount, now)? {
                return Ok(ended);
            }
            if self.control.alarm_rings(now) || stop_at.is_some_and(|n| icount >= n) {
                return Ok(Ended::Count);
            }
            if console.wants_frame() {
                let screen = self.bus().devices.text_screen(now);
                console.frame(screen.as_ref())?;
            }
            if console.wants_picture() {
                let picture = self.bus().devices.picture(now);
                console.picture(picture)?;
            }
            if self.control.paused {
                console.paused(true);
                self.control.paused = gate.wait();
                continue;
            }
            console.paused(false);
            let deadline = self.bus().devices.next_deadline();
            let deadline = deadline.into_iter().chain(self.control.deadline(now)).min();
            let now = if self.turns.several() { self.next_turn(now, deadline) } else { now };
            if self.cpu.st.halted && !self.can_wake() {
                let left = deadline.map(|d| d.saturating_sub(now));
                let left = left.into_iter().chain(console.frame_interval()).min();
                match gate.idle(icount, now, left) {
                    Wait::Elapsed(ns) => self.cpu.st.time_offset = self.cpu.st.time_offset.wrapping_add(ns),
                    Wait::Forever => return Ok(Ended::HaltedForever),
                }
                continue;
            }
            let slice = if gate.is_live() { LIVE_SLICE } else { SLICE };
            let (count, time_offset) = (self.cpu.st.icount(), self.cpu.st.time_offset);
            let mut until = count + slice;
            if let Some(d) = deadline {
                let left = d.saturating_sub(now).max(1).saturating_mul(self.cpu.st.pace.divisor.into());
                until = until.min(count.saturating_add(left));
            }
            for n in [stop_at, gate.next_count()].into_iter().flatten() {
                until = until.min(count.saturating_add(n.saturating_sub(icount).max(1)));
            }
            until = self.turn_limit().map_or(until, |limit| until.min(limit));
            let exit = self.engine.run(&mut self.cpu, until);
            self.charge_turn(count, time_offset);
            match exit {
                Exit::Deadline | Exit::Event | Exit::Halted => {}
                Exit::Shutdown => {
                    tracing::trace!(target: "cpu_reset", "Triple fault at {}", self.cpu.st.icount());
                    if let Some(ended) = self.shut_down() {
                        return Ok(ended);
                    }
                }
                Exit::Report(text) => return Ok(Ended::Report(text.into())),
            }
        }
    }

    /// A processor has shut down: a reset, unless that ends the machine.
    fn shut_down(&mut self) -> Option<Ended> {
        if self.spec.no_reboot || self.boot.is_none() {
            return Some(Ended::TripleFault);
        }
        self.reset().err().map(|e| Ended::Report(e.to_string()))
    }

    /// Guest or user want a reset.
    fn reset_requested(&mut self) -> Option<Ended> {
        if self.spec.no_reboot || self.boot.is_none() {
            return Some(Ended::Reset);
        }
        self.reset().err().map(|e| Ended::Report(e.to_string()))
    }

    /// Is there an event that ends HLT?
    fn can_wake(&self) -> bool {
        let any: &dyn std::any::Any = &*self.cpu.bus;
        let bus = any.downcast_ref::<PcBus>().expect("the machine made the bus");
        turns::wakes(&self.cpu, bus.cpu, bus.devices.local_apics())
    }

    /// What the desk works on.
    fn desk(&mut self) -> Desk<'_> {
        let any: &mut dyn std::any::Any = &mut *self.cpu.bus;
        let bus = any.downcast_mut::<PcBus>().expect("the machine made the bus");
        Desk {
            devices: &mut bus.devices,
            control: &mut self.control,
            stages: &mut self.stages,
            cds: &self.cds,
            serial_ports: self.spec.serial_ports,
            posts: self.spec.harness.post.len(),
        }
    }

    /// Carries output to the console and input from the gate; tells whether the machine ends here.
    fn exchange(
        &mut self,
        gate: &mut InputGate,
        console: &mut dyn Console,
        icount: u64,
        now: u64,
    ) -> io::Result<Option<Ended>> {
        self.tell_stage(now);
        let asked = self.desk().exchange(gate, console, icount, now)?;
        self.answer(asked, console)
    }

    /// Does what the desk cannot.
    fn answer(&mut self, asked: Option<Asked>, console: &mut dyn Console) -> io::Result<Option<Ended>> {
        Ok(match asked {
            None => None,
            Some(Asked::End(ended)) => Some(ended),
            Some(Asked::Reset) => self.reset_requested(),
            Some(Asked::Processors(command)) => {
                console.monitor(&self.show(&command))?;
                console.monitor(crate::monitor::PROMPT)?;
                None
            }
        })
    }
}
