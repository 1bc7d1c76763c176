//! A PC with firmware, drives and a display, watched and typed at as a user does.

use std::path::{Path, PathBuf};

use emulator::boot::prepare;
use emulator::config::{BoardKind, Chardev, MachineConfig, SmpMode};
use emulator::guests::{self, SEABIOS, VGA_BIOS};
use emulator::keyboard::{combination, name_of};
use emulator::machine::gate::{Input, InputGate, Stamped};
use emulator::machine::{Ended, Machine, Spec};
use emulator::storage::{self, BootOrder, DriveConfig, Interface, Media};
use jit::{EngineConfig, TierPolicy};
use x86::model::CpuModel;

use super::boot::{EPOCH, Screen};

/// Instructions and virtual time between two looks at the screen.
const LOOK_COUNT: u64 = 5_000_000;
const LOOK_TIME: u64 = 200_000_000;
/// Nanoseconds between two characters typed at the serial port: time, since a guest that idles hardly counts.
const TYPING_TIME: u64 = 1_000_000;

/// See the module.
pub struct Pc {
    /// The machine.
    pub machine: Machine,
    /// What came from the first serial port.
    pub serial: Screen,
    /// Do several processors run in parallel? Then threads come and go for each look.
    parallel: bool,
}

/// A drive with the image at `path`, thrown away what is written to it unless `keep`.
pub fn drive(path: &Path, interface: Interface, media: Media, index: u8, keep: bool) -> DriveConfig {
    DriveConfig {
        option: "-drive".into(),
        id: None,
        file: Some(path.into()),
        format: None,
        interface,
        media,
        index,
        read_only: false,
        snapshot: !keep,
        serial: None,
    }
}

/// A hard disk as the first IDE drive.
pub fn hard_disk(path: &Path, keep: bool) -> DriveConfig {
    drive(path, Interface::Ide, Media::Disk, 0, keep)
}

/// A CD in the first drive of the second channel.
pub fn cd(path: &Path) -> DriveConfig {
    drive(path, Interface::Ide, Media::Cdrom, 2, false)
}

/// A floppy in drive A.
pub fn floppy(path: &Path) -> DriveConfig {
    drive(path, Interface::Floppy, Media::Disk, 0, false)
}

/// A flash chip: number 0 holds firmware, number 1 its variables. Only what is to be kept is written.
pub fn flash(path: &Path, index: u8, keep: bool) -> DriveConfig {
    DriveConfig {
        read_only: !keep,
        snapshot: false,
        ..drive(path, Interface::Flash, Media::Disk, index, keep)
    }
}

/// A PC's configuration with one serial port, which a test reads.
pub fn configuration(ram_bytes: u64) -> MachineConfig {
    MachineConfig { ram_bytes, serial: vec![Chardev::Null], no_reboot: true, ..MachineConfig::default() }
}

impl Pc {
    /// A PC that starts SeaBIOS, with these drives and this boot order. `None`: SeaBIOS is not in the cache.
    pub fn seabios(drives: Vec<DriveConfig>, order: &str, ram_bytes: u64, tier: TierPolicy) -> Option<Self> {
        Self::seabios_on(BoardKind::Pc, drives, order, ram_bytes, tier)
    }

    /// The same on another board.
    pub fn seabios_on(
        board: BoardKind,
        drives: Vec<DriveConfig>,
        order: &str,
        ram_bytes: u64,
        tier: TierPolicy,
    ) -> Option<Self> {
        let rom = guests::for_test(&SEABIOS)?;
        guests::for_test(&VGA_BIOS)?;
        Some(Self::with_firmware(board, rom, drives, order, ram_bytes, tier))
    }

    /// A PC that starts our own BIOS.
    pub fn own_bios(drives: Vec<DriveConfig>, order: &str, ram_bytes: u64, tier: TierPolicy) -> Self {
        Self::own_bios_on(BoardKind::Pc, drives, order, ram_bytes, tier)
    }

    /// The same on another board.
    pub fn own_bios_on(
        board: BoardKind,
        drives: Vec<DriveConfig>,
        order: &str,
        ram_bytes: u64,
        tier: TierPolicy,
    ) -> Self {
        Self::with_firmware(board, "builtin".into(), drives, order, ram_bytes, tier)
    }

    fn with_firmware(
        board: BoardKind,
        rom: PathBuf,
        drives: Vec<DriveConfig>,
        order: &str,
        ram_bytes: u64,
        tier: TierPolicy,
    ) -> Self {
        let boot = BootOrder { order: order.into(), menu: false };
        let config = configuration(ram_bytes);
        let config = MachineConfig { board, bios: Some(rom), drives, boot, no_reboot: false, ..config };
        Self::power_on(&config, tier)
    }

    /// A PC at its first instruction.
    pub fn power_on(config: &MachineConfig, tier: TierPolicy) -> Self {
        let prepared = prepare(config).unwrap_or_else(|e| panic!("{e}"));
        let drives = storage::open_all(config).unwrap_or_else(|e| panic!("{e}"));
        let mut model = CpuModel::by_name("max").expect("the model");
        model.set_topology(config.topology);
        let parallel = config.smp_mode == Some(SmpMode::Parallel);
        let spec = Spec {
            board: config.board,
            layout: prepared.layout,
            model,
            smp_seed: match config.smp_mode {
                Some(SmpMode::Deterministic { seed }) => seed.unwrap_or(0),
                _ => 0,
            },
            parallel,
            engine: EngineConfig { tier, verify: false, ..EngineConfig::default() },
            epoch_seconds: EPOCH,
            serial_ports: config.serial.len() as u8,
            harness: config.harness(),
            fw_cfg: prepared.fw_cfg.clone(),
            vga: prepared.vga.clone(),
            no_reboot: config.no_reboot,
        };
        let mut machine = Machine::new(spec).expect("a machine");
        machine.plug(drives, config.boot.cmos());
        let flash = storage::open_flash(&config.drives).unwrap_or_else(|e| panic!("{e}"));
        machine.plug_flash(flash).expect("the images can be read");
        if let Some(setup) = prepared.setup {
            machine.set_up(setup);
        }
        machine.boot(prepared.chunks, prepared.entry).expect("it fits");
        Self { machine, serial: Screen::default(), parallel }
    }

    /// The characters on the display, a line for each row; empty in graphics modes.
    pub fn text(&mut self) -> String {
        self.machine.text_screen().map(|screen| screen.to_text()).unwrap_or_default()
    }

    /// Runs for `count` instructions more, or until it ends.
    pub fn run(&mut self, count: u64) -> Ended {
        let until = self.machine.retired() + count;
        let ended = self.machine.run(&mut InputGate::sealed(), &mut self.serial, Some(until));
        ended.expect("the console takes everything")
    }

    /// Runs for one look: so many instructions, or so much time, that nothing which is shown for a while is missed.
    fn run_a_little(&mut self, gate: &mut InputGate) -> Ended {
        let (icount, now) = (self.machine.retired(), self.machine.cpu.st.now());
        self.machine.set_alarm(now + LOOK_TIME);
        let count = (!self.parallel).then_some(icount + LOOK_COUNT);
        let ended = self.machine.run(gate, &mut self.serial, count);
        ended.expect("the console takes everything")
    }

    /// Runs until `done`; panics with what is to be seen when `limit` virtual seconds have passed, or the machine ended.
    pub fn until(&mut self, what: &str, limit: u64, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.machine.cpu.st.now() + limit * 1_000_000_000;
        while !done(self) {
            let ended = self.run_a_little(&mut InputGate::sealed());
            let late = self.machine.cpu.st.now() > end;
            if ended != Ended::Count || late {
                let (screen, serial) = (self.text(), self.serial.tail(3000));
                assert!(done(self), "no {what}: {ended:?}, late: {late}\n{screen}\nserial:\n{serial}");
            }
        }
    }

    /// Runs until `text` is on the display.
    pub fn until_screen(&mut self, text: &str, limit: u64) {
        self.until(text, limit, |pc| pc.text().contains(text));
    }

    /// Runs until `text` has come from the serial port.
    pub fn until_serial(&mut self, text: &str, limit: u64) {
        self.until(text, limit, |pc| pc.serial.shows(text));
    }

    /// Runs until the guest has switched it off; panics with what is to be seen after `limit` virtual seconds, or at another end.
    pub fn until_off(&mut self, limit: u64) {
        let end = self.machine.cpu.st.now() + limit * 1_000_000_000;
        loop {
            let ended = self.run_a_little(&mut InputGate::sealed());
            if ended == Ended::PowerOff {
                return;
            }
            let late = self.machine.cpu.st.now() > end;
            assert!(ended == Ended::Count && !late, "{ended:?}, late: {late}\n{}", self.serial.tail(3000));
        }
    }

    /// Types at the keyboard.
    pub fn type_keys(&mut self, text: &str) {
        for c in text.chars() {
            let (name, shift) = name_of(c).unwrap_or_else(|| panic!("no key for {c:?}"));
            let keys = if shift { format!("shift-{name}") } else { name.to_owned() };
            self.machine.press(combination(&keys).expect("known keys"));
        }
    }

    /// Types at the first serial port, and runs until `answer` has come back, in what is written from now on.
    pub fn type_serial(&mut self, text: &str, answer: &str, limit: u64) {
        self.serial.0.clear();
        let end = self.machine.cpu.st.now() + limit * 1_000_000_000;
        for byte in text.bytes() {
            let icount = self.machine.retired();
            let input = Input::Serial { port: 0, byte };
            let mut gate = InputGate::script(vec![Stamped { icount, now: 0, input }]);
            loop {
                self.machine.set_alarm(self.machine.cpu.st.now() + TYPING_TIME);
                let ended = self.machine.run(&mut gate, &mut self.serial, None);
                let ended = ended.expect("the console takes everything");
                let late = self.machine.cpu.st.now() > end;
                assert!(ended == Ended::Count && !late, "{text:?} is not read: {}", self.serial.tail(3000));
                if !gate.has_byte(0) {
                    break;
                }
            }
        }
        while !self.serial.shows(answer) {
            let ended = self.run_a_little(&mut InputGate::sealed());
            let late = self.machine.cpu.st.now() > end;
            let tail = self.serial.tail(3000);
            assert!(
                ended == Ended::Count && !late || self.serial.shows(answer),
                "no {answer:?} after {text:?}: {ended:?}\n{tail}"
            );
        }
    }
}
