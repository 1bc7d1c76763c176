//! What the user does to the machine: keys, and the monitor's commands.

use std::collections::VecDeque;
use std::io;

use devices::i8042::MouseMove;
use devices::pc::CdPlace;
use devices::vga::TextScreen;

use super::desk::{Asked, Desk};
use super::gate::{Input, InputGate};
use super::{Console, Ended, Machine};
use crate::keyboard::Codes;
use crate::monitor::{self, Command, Removable};
use crate::storage::{DriveConfig, Interface, Media};

/// Virtual time between two movements of keys: slower than any guest reads, faster than any finger.
const KEY_GAP: u64 = 5_000_000;
/// Key movements that wait at most.
const KEYS: usize = 1024;

/// Keys on their way, and whether time stands still.
#[derive(Default)]
pub(super) struct Control {
    keys: VecDeque<Codes>,
    /// When the next movement may be made.
    next_key: u64,
    pub paused: bool,
    /// When [`Machine::run`] returns, whatever the count.
    alarm: Option<u64>,
    /// The mouse's buttons that are down.
    buttons: u8,
    /// The processor that the monitor's commands are about.
    chosen_cpu: usize,
}

impl Control {
    /// When keys have to be looked at again, or the alarm rings.
    pub(super) fn deadline(&self, now: u64) -> Option<u64> {
        let keys = (!self.keys.is_empty()).then_some(self.next_key.max(now + 1));
        keys.into_iter().chain(self.alarm).min()
    }

    /// Has the time come? The alarm rings once.
    pub(super) fn alarm_rings(&mut self, now: u64) -> bool {
        self.alarm.take_if(|at| *at <= now).is_some()
    }

    fn add(&mut self, keys: Vec<Codes>) {
        if self.keys.len() + keys.len() <= KEYS {
            self.keys.extend(keys);
        }
    }
}

impl Desk<'_> {
    /// Hands movements to the mouse.
    pub(super) fn move_mouse(&mut self, gate: &mut InputGate, icount: u64, now: u64) {
        while let Some(by) = gate.take_mouse(icount, now) {
            self.control.buttons = by.buttons;
            self.devices.mouse(by);
        }
    }

    /// Hands a key movement to the keyboard, if one is due.
    pub(super) fn move_keys(&mut self, gate: &mut InputGate, icount: u64, now: u64) {
        let arrived = gate.take_keys();
        self.control.add(arrived);
        if now < self.control.next_key {
            return;
        }
        let Some(codes) = self.control.keys.front().cloned() else { return };
        self.control.next_key = now + KEY_GAP;
        // A keyboard that does not scan loses keys, as a real one does.
        self.devices.key(&codes);
        self.control.keys.pop_front();
        gate.note(icount, now, Input::Key(codes));
    }

    /// Carries out the monitor's commands that have arrived.
    pub(super) fn obey(
        &mut self,
        gate: &mut InputGate,
        console: &mut dyn Console,
        icount: u64,
        now: u64,
    ) -> io::Result<Option<Asked>> {
        while let Some(line) = gate.take_command() {
            let (text, asked) = match monitor::parse(&line) {
                Err(problem) => (problem + "\n", None),
                Ok(command) => self.carry_out(command, gate, icount, now),
            };
            console.monitor(&text)?;
            if asked.is_some() {
                return Ok(asked);
            }
            console.monitor(monitor::PROMPT)?;
        }
        Ok(None)
    }

    fn carry_out(
        &mut self,
        command: Command,
        gate: &mut InputGate,
        icount: u64,
        now: u64,
    ) -> (String, Option<Asked>) {
        let mut text = String::new();
        match command {
            Command::Nothing => {}
            Command::Quit => {
                gate.note(icount, now, Input::Stop);
                return (text, Some(Asked::End(Ended::Stopped)));
            }
            Command::Help => text = monitor::HELP.into(),
            Command::Reset => {
                gate.note(icount, now, Input::Reset);
                return (text, Some(Asked::Reset));
            }
            Command::PowerButton => {
                gate.note(icount, now, Input::PowerButton);
                self.devices.press_power_button();
            }
            Command::Stop => self.control.paused = true,
            Command::Continue => self.control.paused = false,
            Command::SendKey(keys) => self.control.add(keys),
            Command::MouseMove { dx, dy, dz } => {
                let by = MouseMove { dx, dy, dz, buttons: self.control.buttons };
                gate.note(icount, now, Input::Mouse(by));
                self.devices.mouse(by);
            }
            Command::MouseButtons(buttons) => {
                let by = MouseMove { buttons, ..MouseMove::default() };
                gate.note(icount, now, Input::Mouse(by));
                self.control.buttons = buttons;
                self.devices.mouse(by);
            }
            Command::ScreenDump(path, ppm) => match self.devices.picture(now) {
                None => text = "this machine has no display\n".into(),
                Some(picture) => {
                    let write = if ppm { monitor::write_ppm } else { monitor::write_png };
                    if let Err(error) = write(&picture, &path) {
                        text = format!("{}: {error}\n", path.display());
                    }
                }
            },
            Command::Registers { .. }
            | Command::Cpus
            | Command::Jit
            | Command::Locks
            | Command::ChooseCpu(_) => {
                return (text, Some(Asked::Processors(command)));
            }
            Command::Status => {
                let what = if self.control.paused { "paused" } else { "running" };
                text = format!("VM status: {what}\n");
            }
            Command::Change { drive, medium, force } => {
                if let Err(problem) = self.change(drive, medium, force) {
                    text = problem + "\n";
                }
            }
        }
        (text, None)
    }

    fn change(
        &mut self,
        drive: Removable,
        medium: Option<std::path::PathBuf>,
        force: bool,
    ) -> Result<(), String> {
        let at = match &drive {
            Removable::Cd(name) => Some(self.cd_place(name)?),
            Removable::Floppy(_) => None,
        };
        let config = DriveConfig {
            option: "change".into(),
            id: None,
            file: medium,
            format: None,
            interface: if matches!(drive, Removable::Cd(_)) { Interface::Ide } else { Interface::Floppy },
            media: if matches!(drive, Removable::Cd(_)) { Media::Cdrom } else { Media::Disk },
            index: 0,
            read_only: false,
            snapshot: false,
            serial: None,
        };
        let path = config.file.clone();
        let disk = path.map(|path| crate::storage::open(&config, &path)).transpose();
        let disk = disk.map_err(|error| error.to_string())?;
        let done = match drive {
            Removable::Cd(_) => at.is_some_and(|at| self.devices.change_cd(at, disk, force)),
            Removable::Floppy(number) => self.devices.change_floppy(number.into(), disk),
        };
        if done {
            Ok(())
        } else {
            Err("there is no such drive, its door is locked, or the medium does not fit".into())
        }
    }

    fn cd_place(&self, name: &str) -> Result<CdPlace, String> {
        let found = self.cds.iter().find(|(known, _)| known == name);
        found.map(|(_, at)| *at).ok_or_else(|| {
            let names = self.cds.iter().map(|(known, _)| format!(", {known}")).collect::<String>();
            format!("there is no drive \"{name}\": use floppy0{names}")
        })
    }
}

impl Machine {
    /// Carries out a command that is about processors and their engines.
    pub(super) fn show(&mut self, command: &Command) -> String {
        match *command {
            Command::Registers { all } => self.show_registers(all),
            Command::Cpus => self.show_processors(),
            Command::Jit => format!("{}\n{}\n", self.stats(), self.show_translations()),
            Command::Locks => self.show_locks(),
            Command::ChooseCpu(number) if number < self.cpus() => {
                self.control.chosen_cpu = number;
                String::new()
            }
            Command::ChooseCpu(number) => {
                format!("there is no processor {number}: this machine has {}\n", self.cpus())
            }
            _ => String::new(),
        }
    }

    fn show_registers(&mut self, all: bool) -> String {
        let mut text = String::new();
        let several = self.cpus() > 1;
        let chosen = self.control.chosen_cpu;
        for index in if all { 0..self.cpus() } else { chosen..chosen + 1 } {
            let Some(cpu) = self.vcpu(index) else { continue };
            if several {
                text += &format!("\nCPU#{index}\n");
            }
            text += &format!("{}\n", x86::show::registers(cpu));
        }
        text
    }

    /// How all processors' linear addresses were translated.
    fn show_translations(&mut self) -> String {
        let (mut walks, mut derived, mut flushes) = (0, 0, 0);
        for index in 0..self.cpus() {
            let Some(cpu) = self.vcpu(index) else { continue };
            let counters = cpu.mmu.counters();
            walks += counters.walks;
            derived += counters.derived;
            flushes += counters.flushes;
        }
        let pages = self.space.shadow_pages();
        format!(
            "translation: {walks} page walks, {derived} TLB entries from {pages} shadow pages, {flushes} flushes"
        )
    }

    /// Which locks processors that run in parallel have taken, and what was done under that of the block table.
    fn show_locks(&mut self) -> String {
        let stats = self.stats();
        format!(
            "{}block table, by all: {} blocks put in, {} jumps linked, {} blocks given code, {} taken out\n",
            self.locks, stats.decoded, stats.links, stats.compiled, stats.invalidated
        )
    }

    /// A line for each processor, like QEMU's, with what it does instead of the number of its thread.
    fn show_processors(&mut self) -> String {
        let mut text = String::new();
        for index in 0..self.cpus() {
            let mark = if index == self.control.chosen_cpu { '*' } else { ' ' };
            let Some(cpu) = self.vcpu(index) else { continue };
            let st = &cpu.st;
            let doing = match (st.wait_sipi, st.halted) {
                (true, _) => "waiting for a start-up IPI",
                (_, true) => "halted",
                _ => "running",
            };
            let pc = st.seg[x86::state::seg::CS as usize].base.wrapping_add(st.rip);
            text += &format!("{mark} CPU #{index}: pc={pc:#018x} ({doing})\n");
        }
        text
    }

    /// The characters on the display.
    pub fn text_screen(&mut self) -> Option<TextScreen> {
        let now = self.cpu.st.now();
        self.devices().text_screen(now)
    }

    /// What the display shows.
    pub fn picture(&mut self) -> Option<devices::vga::Picture> {
        let now = self.cpu.st.now();
        self.devices().picture(now)
    }

    /// The next [`Machine::run`] ends at this virtual time at the latest, as if it were a count ([`Ended::Count`]): a machine
    /// that is halted most of the time hardly counts.
    pub fn set_alarm(&mut self, at: u64) {
        self.control.alarm = Some(at);
    }

    /// Presses keys: see [`crate::keyboard`].
    pub fn press(&mut self, keys: Vec<Codes>) {
        self.control.add(keys);
    }
}
