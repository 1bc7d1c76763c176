//! A port: its registers, the command that runs, the queue, and the drive (AHCI 1.3.1, 3.3 and chapter 5).
//!
//! A command that memory holds badly ends in a fatal error of the port (PxIS.HBFS or TFES), as the specification has it: the
//! port stops until the guest clears PxCMD.ST. Invariant: `running` is a command whose drive is not idle, and then nothing
//! else begins; queued commands have left their slots and wait by their own times.

use serde::{Deserialize, Serialize};

use super::command::Command;
use super::fis::{self, HostFis, received};
use crate::Ns;
use crate::block::Disk;
use crate::clock::earlier;
use crate::ide::ata::Queued;
use crate::ide::drive::{COMMAND_LATENCY, Drive, DriveState, Phase, Work, status};
use crate::memory::Dma;

/// Register offsets.
mod register {
    pub const CLB: u32 = 0x00;
    pub const CLBU: u32 = 0x04;
    pub const FB: u32 = 0x08;
    pub const FBU: u32 = 0x0c;
    pub const IS: u32 = 0x10;
    pub const IE: u32 = 0x14;
    pub const CMD: u32 = 0x18;
    pub const TFD: u32 = 0x20;
    pub const SIG: u32 = 0x24;
    pub const SSTS: u32 = 0x28;
    pub const SCTL: u32 = 0x2c;
    pub const SERR: u32 = 0x30;
    pub const SACT: u32 = 0x34;
    pub const CI: u32 = 0x38;
}

/// PxIS.
mod is {
    pub const DHRS: u32 = 1 << 0;
    pub const PSS: u32 = 1 << 1;
    pub const SDBS: u32 = 1 << 3;
    pub const PCS: u32 = 1 << 6;
    pub const PRCS: u32 = 1 << 22;
    pub const OFS: u32 = 1 << 24;
    pub const HBFS: u32 = 1 << 29;
    pub const TFES: u32 = 1 << 30;
    /// Those that are cleared by writing 1: PCS and PRCS follow PxSERR.
    pub const CLEARED: u32 = 0x7d80_00af;
    /// PxIE can enable these.
    pub const ENABLE: u32 = 0x7dc0_00ff;
}

/// PxCMD.
mod cmd {
    pub const ST: u32 = 1 << 0;
    pub const SUD: u32 = 1 << 1;
    pub const POD: u32 = 1 << 2;
    pub const CLO: u32 = 1 << 3;
    pub const FRE: u32 = 1 << 4;
    pub const FR: u32 = 1 << 14;
    pub const CR: u32 = 1 << 15;
    pub const ATAPI: u32 = 1 << 24;
    /// What software sets and clears: ST, FRE, ATAPI, DLAE.
    pub const WRITABLE: u32 = ST | FRE | ATAPI | 1 << 25;
}

/// PxSERR: the PHY is ready or not; a COMINIT was received.
mod serr {
    pub const N: u32 = 1 << 16;
    pub const X: u32 = 1 << 26;
}

/// PxTFD while no drive speaks.
const NO_DRIVE: u32 = 0x7f;
/// Device present and communicating, 3 Gbit/s, active.
const LINK_UP: u32 = 0x123;
const SIGNATURE_DISK: u32 = 0x0000_0101;
const SIGNATURE_CD: u32 = 0xeb14_0101;

/// Registers and commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    list: u64,
    fis: u64,
    is: u32,
    ie: u32,
    cmd: u32,
    tfd: u32,
    sig: u32,
    ssts: u32,
    sctl: u32,
    serr: u32,
    sact: u32,
    ci: u32,
    /// A fatal error: nothing begins until ST is cleared.
    halted: bool,
    running: Option<Command>,
    /// The slot that was begun last: the search goes on after it.
    last: u8,
    queue: Vec<Waiting>,
}

/// A queued command and when it is carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    command: Command,
    queued: Queued,
    due: Ns,
}

/// A port's state with that of its drive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PortState {
    port: State,
    drive: Option<DriveState>,
}

/// See the module.
pub(super) struct Port {
    state: State,
    drive: Option<Drive>,
    /// Something happened that PxIS tells and did not tell before.
    pub event: bool,
}

impl Port {
    pub fn new(drive: Option<Drive>) -> Self {
        let state = State {
            list: 0,
            fis: 0,
            is: 0,
            ie: 0,
            cmd: 0,
            tfd: NO_DRIVE,
            sig: u32::MAX,
            ssts: 0,
            sctl: 0,
            serr: 0,
            sact: 0,
            ci: 0,
            halted: false,
            running: None,
            last: 31,
            queue: Vec::new(),
        };
        let mut port = Self { state, drive, event: false };
        port.reset();
        port
    }

    /// HBA or platform reset: the link is brought up again.
    pub fn reset(&mut self) {
        let s = &mut self.state;
        (s.list, s.fis, s.is, s.ie, s.sctl) = (0, 0, 0, 0, 0);
        s.cmd = cmd::SUD | cmd::POD;
        self.stop();
        self.state.serr = 0;
        self.link_reset();
        self.event = false;
    }

    /// The end of a COMRESET: if there is a drive it comes out of its reset and tells what it is.
    fn link_reset(&mut self) {
        let s = &mut self.state;
        (s.tfd, s.sig, s.ssts) = (NO_DRIVE, u32::MAX, 0);
        let Some(drive) = &mut self.drive else { return };
        drive.reset();
        s.ssts = LINK_UP;
        s.serr |= serr::X | serr::N;
        s.sig = if drive.is_cd() { SIGNATURE_CD } else { SIGNATURE_DISK };
        s.tfd = u32::from(drive.state.error) << 8 | u32::from(drive.state.status);
    }

    /// Nothing that was begun goes on.
    fn stop(&mut self) {
        let s = &mut self.state;
        (s.ci, s.sact, s.halted, s.running) = (0, 0, false, None);
        s.queue.clear();
        s.last = 31;
    }

    pub fn change_medium(&mut self, medium: Option<Disk>, force: bool) -> bool {
        self.drive.as_mut().is_some_and(|drive| drive.change_medium(medium, force))
    }

    pub fn flush(&mut self) -> std::io::Result<()> {
        self.drive.as_mut().map_or(Ok(()), Drive::flush)
    }

    /// PxIS, with the bits that follow PxSERR.
    fn status(&self) -> u32 {
        let s = &self.state;
        let bit = |set: bool, bit: u32| if set { bit } else { 0 };
        s.is | bit(s.serr & serr::X != 0, is::PCS) | bit(s.serr & serr::N != 0, is::PRCS)
    }

    /// Does the port ask for an interrupt?
    pub fn interrupts(&self) -> bool {
        self.status() & self.state.ie != 0
    }

    pub fn read(&self, register: u32) -> u32 {
        let s = &self.state;
        match register {
            register::CLB => s.list as u32,
            register::CLBU => (s.list >> 32) as u32,
            register::FB => s.fis as u32,
            register::FBU => (s.fis >> 32) as u32,
            register::IS => self.status(),
            register::IE => s.ie,
            register::CMD => {
                let mirror = |of: u32, bit: u32| if s.cmd & of != 0 { bit } else { 0 };
                let slot = s.running.as_ref().map_or(0, |command| u32::from(command.slot));
                s.cmd | slot << 8 | mirror(cmd::FRE, cmd::FR) | mirror(cmd::ST, cmd::CR)
            }
            register::TFD => s.tfd,
            register::SIG => s.sig,
            register::SSTS => s.ssts,
            register::SCTL => s.sctl,
            register::SERR => s.serr,
            register::SACT => s.sact,
            register::CI => s.ci,
            _ => 0,
        }
    }

    /// A write of the bits in `mask`.
    pub fn write(&mut self, register: u32, value: u32, mask: u32, now: Ns, dma: &Dma) {
        let s = &mut self.state;
        let value = value & mask;
        let half = |old: u64, shift: u32, keep: u32| {
            let mask = u64::from(mask & keep) << shift;
            old & !mask | u64::from(value) << shift & mask
        };
        match register {
            register::CLB => s.list = half(s.list, 0, !0x3ff),
            register::CLBU => s.list = half(s.list, 32, !0),
            register::FB => s.fis = half(s.fis, 0, !0xff),
            register::FBU => s.fis = half(s.fis, 32, !0),
            register::IS => s.is &= !(value & is::CLEARED),
            register::IE => s.ie = (s.ie & !mask | value) & is::ENABLE,
            register::CMD => {
                let value = s.cmd & !mask | value;
                self.write_cmd(value, now, dma);
            }
            register::SCTL => {
                let value = (s.sctl & !mask | value) & 0xfff;
                self.write_sctl(value, now, dma);
            }
            register::SERR => s.serr &= !value,
            register::SACT if s.cmd & cmd::ST != 0 => s.sact |= value,
            register::CI if s.cmd & cmd::ST != 0 => {
                s.ci |= value;
                self.run(now, dma);
            }
            _ => {}
        }
    }

    fn write_cmd(&mut self, value: u32, now: Ns, dma: &Dma) {
        let s = &mut self.state;
        let old = s.cmd;
        s.cmd = value & cmd::WRITABLE | cmd::SUD | cmd::POD;
        if value & cmd::CLO != 0 && value & cmd::ST == 0 {
            s.tfd &= !u32::from(status::BSY | status::DRQ);
        }
        if old & !s.cmd & cmd::ST != 0 {
            let busy = self.state.running.is_some();
            self.stop();
            if let Some(drive) = self.drive.as_mut().filter(|_| busy) {
                drive.abandon(now);
            }
        }
        if s_rose(old, self.state.cmd, cmd::FRE) && self.drive.is_some() {
            // The drive's first FIS, which told its signature, was held until now.
            self.send_registers(false, dma);
        }
        self.run(now, dma);
    }

    /// PxSCTL.DET: 1 holds the link in COMRESET, 0 lets it come up, 4 turns it off.
    fn write_sctl(&mut self, value: u32, now: Ns, dma: &Dma) {
        let (old, new) = (self.state.sctl & 0xf, value & 0xf);
        self.state.sctl = value;
        match (old, new) {
            (_, 1) if old != 1 => {
                let s = &mut self.state;
                (s.ssts, s.tfd, s.sig) = (0, NO_DRIVE, u32::MAX);
                s.running = None;
                s.queue.clear();
                self.drive.iter_mut().for_each(Drive::reset);
            }
            (1 | 4, 0) => {
                self.link_reset();
                self.event = true;
                if self.drive.is_some() {
                    self.send_registers(false, dma);
                }
                self.run(now, dma);
            }
            (_, 4) => {
                let s = &mut self.state;
                (s.ssts, s.tfd) = (4, NO_DRIVE);
            }
            _ => {}
        }
    }

    fn raise(&mut self, bits: u32) {
        self.state.is |= bits;
        self.event = true;
    }

    /// An error after which the guest must start the port again.
    fn halt(&mut self, bits: u32) {
        self.raise(bits);
        self.state.halted = true;
        self.state.running = None;
    }

    /// Puts a FIS where the guest receives them.
    fn receive(&mut self, at: u64, fis: &[u8], dma: &Dma) {
        if self.state.cmd & cmd::FRE != 0 && !dma.write(self.state.fis.wrapping_add(at), fis) {
            self.halt(is::HBFS);
        }
    }

    fn task_file(&mut self) {
        if let Some(drive) = &self.drive {
            self.state.tfd = u32::from(drive.state.error) << 8 | u32::from(drive.state.status);
        }
    }

    /// The drive tells its registers.
    fn send_registers(&mut self, interrupt: bool, dma: &Dma) {
        let Some(drive) = &self.drive else { return };
        let fis = fis::device_to_host(drive, interrupt);
        self.task_file();
        self.receive(received::DEVICE_TO_HOST, &fis, dma);
        if interrupt {
            self.raise(is::DHRS);
        }
    }

    fn ready(&self) -> bool {
        let s = &self.state;
        let up = s.ssts == LINK_UP && s.cmd & cmd::ST != 0 && !s.halted;
        up && s.running.is_none() && s.tfd as u8 & (status::BSY | status::DRQ) == 0
    }

    /// Begins what can begin.
    fn run(&mut self, now: Ns, dma: &Dma) {
        // Each turn takes a command out of its slot, or halts the port.
        while self.ready() && self.state.ci != 0 {
            let s = &mut self.state;
            let next = (1..=32).map(|n| (s.last + n) & 31).find(|slot| s.ci >> slot & 1 != 0);
            let Some(slot) = next else { return };
            if !self.begin(slot, now, dma) {
                return;
            }
            self.state.last = slot;
        }
    }

    /// Begins the command in `slot`. False: it waits for the queue to become empty.
    fn begin(&mut self, slot: u8, now: Ns, dma: &Dma) -> bool {
        let found = Command::fetch(dma, self.state.list, slot);
        let Some((command, fis)) = found.and_then(|command| Some((command, command.host_fis(dma)?))) else {
            self.halt(is::HBFS);
            return false;
        };
        let Some(drive) = &mut self.drive else { return false };
        let queue_empty = self.state.queue.is_empty();
        match fis {
            Some(HostFis::Control(true)) => {
                drive.soft_reset();
                self.state.queue.clear();
                self.state.ci &= !(1 << slot);
                self.task_file();
                if command.clear_busy {
                    self.state.tfd &= !u32::from(status::BSY);
                }
            }
            Some(HostFis::Control(false)) => {
                self.state.ci &= !(1 << slot);
                if drive.state.status & status::BSY != 0 && drive.state.phase == Phase::Idle {
                    drive.soft_reset_ends();
                    self.send_registers(false, dma);
                }
            }
            Some(HostFis::Command(code, registers)) => {
                drive.load_registers(registers);
                if let Some(queued) = drive.queued_command(code) {
                    drive.accept_queued();
                    self.enqueue(command, queued, now, dma);
                } else if !queue_empty {
                    return false;
                } else {
                    drive.command(code, now);
                    self.state.running = Some(command);
                    self.pump(now, dma);
                }
            }
            None => {
                tracing::trace!(target: "guest_errors", "AHCI: slot {slot} holds no FIS for a drive");
                self.halt(is::TFES);
                return false;
            }
        }
        true
    }

    /// A queued command leaves its slot at once. Each takes its time after those before it.
    fn enqueue(&mut self, command: Command, queued: Queued, now: Ns, dma: &Dma) {
        let after = self.state.queue.last().map_or(0, |waiting| waiting.due);
        let due = after.max(now.saturating_add(COMMAND_LATENCY)).saturating_add(queued.duration());
        self.state.ci &= !(1 << command.slot);
        self.send_registers(false, dma);
        // A tag that is in use is the guest's mistake; the queue stays as short as there are tags.
        if self.state.queue.len() < 32 {
            self.state.queue.push(Waiting { command, queued, due });
        }
    }

    /// Carries out the first queued command.
    fn complete_queued(&mut self, dma: &Dma) {
        let Some(drive) = &mut self.drive else { return };
        let Waiting { mut command, queued, due: _ } = self.state.queue.remove(0);
        let setup = fis::dma_setup(queued.tag, !queued.write, queued.sectors.saturating_mul(512));
        let result = drive.carry_out_queued(&queued, &mut command, dma);
        let done = if result.is_ok() { 1 << queued.tag } else { 0 };
        let bits = fis::set_device_bits(drive, done);
        self.task_file();
        self.state.sact &= !done;
        self.receive(received::DMA_SETUP, &setup, dma);
        self.receive(received::SET_DEVICE_BITS, &bits, dma);
        let overflow = if command.overflow && !queued.write { is::OFS } else { 0 };
        self.raise(is::SDBS | overflow);
        if command.failed {
            self.halt(is::HBFS);
        }
        if result.is_err() {
            // The drive has dropped its queue.
            self.state.queue.clear();
            self.halt(is::TFES);
        }
    }

    /// Moves what the drive's window shows.
    fn move_window(&mut self, now: Ns, dma: &Dma) {
        let (Some(drive), Some(command)) = (&mut self.drive, &mut self.state.running) else { return };
        let (to_memory, packet) = match drive.state.phase {
            Phase::DataOut(Work::Packet { .. }) => (false, true),
            Phase::DataOut(_) => (false, false),
            _ => (true, false),
        };
        // The first block of a write is not asked for by an interrupt, and neither is a packet.
        let interrupt = drive.irq();
        drive.acknowledge();
        let Some(window) = drive.window() else { return };
        let count = window.len() as u16;
        if packet {
            command.failed |= !command.packet(dma, window);
        } else {
            command.copy(dma, window, to_memory);
        }
        let failed = command.failed;
        let before = drive.state.status;
        drive.window_done(now);
        let then = drive.state.status;
        drive.state.status = before;
        let setup = fis::pio_setup(drive, to_memory, interrupt, count, then);
        drive.state.status = then;
        self.task_file();
        self.receive(received::PIO_SETUP, &setup, dma);
        if interrupt {
            self.raise(is::PSS);
        }
        if failed {
            self.halt(is::HBFS);
            if let Some(drive) = &mut self.drive {
                drive.abandon(now);
            }
        }
    }

    /// Takes the running command as far as it goes without time passing.
    fn pump(&mut self, now: Ns, dma: &Dma) {
        while let (Some(drive), Some(command)) = (&mut self.drive, &mut self.state.running) {
            match drive.state.phase {
                Phase::DataIn(_) | Phase::DataOut(_) => self.move_window(now, dma),
                Phase::BusMaster(_) => {
                    drive.bus_master_ready(now);
                    return self.task_file();
                }
                Phase::Busy(_) => return self.task_file(),
                Phase::Idle => {
                    let interrupt = drive.irq();
                    drive.acknowledge();
                    let error = drive.state.status & status::ERR != 0;
                    let Command { slot, overflow, failed, .. } = *command;
                    let counted = command.write_count(dma);
                    self.state.running = None;
                    if interrupt {
                        self.send_registers(true, dma);
                    } else {
                        // A PIO setup FIS has told the end already.
                        self.task_file();
                    }
                    if overflow {
                        self.raise(is::OFS);
                    }
                    if failed || !counted {
                        self.halt(is::HBFS);
                    } else if error {
                        self.halt(is::TFES);
                    } else {
                        self.state.ci &= !(1 << slot);
                    }
                }
            }
        }
    }

    pub fn next_deadline(&self) -> Option<Ns> {
        let drive = self.drive.as_ref().and_then(Drive::due);
        earlier(drive, self.state.queue.first().map(|waiting| waiting.due))
    }

    pub fn advance(&mut self, now: Ns, dma: &Dma) {
        while self.state.queue.first().is_some_and(|waiting| waiting.due <= now) {
            self.complete_queued(dma);
        }
        // A step of the drive may begin the next one, which is due later.
        if let Some(drive) = &mut self.drive
            && drive.due().is_some_and(|due| due <= now)
        {
            match &mut self.state.running {
                Some(command) => drive.advance(now, command, dma),
                None => {
                    // Whoever gave the command has left.
                    drive.advance(now, &mut Nobody, dma);
                    drive.acknowledge();
                    self.send_registers(false, dma);
                }
            }
        }
        self.pump(now, dma);
        self.run(now, dma);
    }

    pub fn save(&self) -> PortState {
        let Self { state, drive, event: _ } = self;
        PortState { port: state.clone(), drive: drive.as_ref().map(Drive::save) }
    }

    pub fn restore(&mut self, state: PortState) {
        let PortState { port, drive } = state;
        if let (Some(drive), Some(state)) = (&mut self.drive, drive) {
            drive.restore(state);
        }
        self.state = port;
        // Whatever the saved state says, shifts are by slots and tags that there are, and nothing runs without a drive.
        let s = &mut self.state;
        s.last &= 31;
        s.queue.truncate(32);
        let there = self.drive.is_some();
        s.running = s.running.take().filter(|command| there && command.slot < 32);
        s.queue.retain(|waiting| there && waiting.command.slot < 32 && waiting.queued.is_sane());
        self.event = false;
    }
}

fn s_rose(old: u32, new: u32, bit: u32) -> bool {
    new & !old & bit != 0
}

/// The carrier of a command that nobody waits for.
struct Nobody;

impl crate::ide::bus_master::Carrier for Nobody {
    fn regions(&mut self, _: &Dma, _: usize, _: bool) -> Option<crate::ide::bus_master::Regions> {
        None
    }
    fn finish(&mut self, _: bool, _: bool) {}
}
