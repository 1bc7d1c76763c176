//! An NVM Express 1.4 controller with one namespace, as QEMU's `nvme` (1b36:0010).
//!
//! A command stays in its submission queue until the time that it takes has passed; then it is fetched, done and completed at
//! once. So nothing is in flight between two events, and a saved state is complete. Queues are served in turn.
//!
//! Queues, region lists and commands are the guest's data and may say anything: each is bounded ([`MDTS`],
//! [`queue::MAX_ENTRIES`]), and memory that does not answer is a failed command or, for a queue, a controller that reports a
//! fatal status until it is reset.
//!
//! Limits: PRPs only (no SGLs), one command set, one namespace of 512-byte blocks, no metadata, no namespace management, formatting,
//! firmware download, reservations or power states but the first.

mod admin;
mod command;
mod events;
mod features;
mod identify;
mod io;
mod prp;
mod queue;
mod registers;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::block::Disk;
use crate::memory::Dma;
use crate::pci::{BarKind, ConfigSpace, Msix, MsixLayout, MsixState, PciFunction, PciSlot};
use crate::{IrqLine, Ns, Timed};
use command::{Outcome, Status};
use events::Events;
use features::Features;
use queue::{Completion, CompletionQueue, Fatal, SubmissionQueue};
use registers::Registers;

/// 1.4.0
const VERSION: u32 = 0x0001_0400;
/// Largest transfer: 2^7 pages of 4 KiB.
const MDTS: u8 = 7;
/// Asynchronous event requests that may wait.
const AER_LIMIT: u8 = 4;
/// I/O queues of each kind.
const IO_QUEUES: u16 = 64;

/// From a doorbell to the first byte.
const LATENCY: Ns = 10_000;
/// From one command to the next.
const NEXT: Ns = 1_000;
/// A gigabyte per second.
const NS_PER_BYTE: Ns = 1;

const BAR_LEN: u64 = 0x4000;
const MSIX_AT: usize = 0x40;
const MSIX: MsixLayout = MsixLayout { vectors: IO_QUEUES + 1, bar: 0, table: 0x2000, pending: 0x3000 };

/// See the module.
pub struct Nvme {
    config: ConfigSpace,
    msix: Msix,
    intx: IrqLine,
    dma: Dma,
    disk: Disk,
    serial: String,
    state: State,
    /// Time of the last access, for writes of configuration space, which bring none along.
    now: Ns,
}

/// What is not in the configuration space or the MSI-X table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    registers: Registers,
    /// By number; 0 is the admin queue.
    sqs: Vec<Option<SubmissionQueue>>,
    cqs: Vec<Option<CompletionQueue>>,
    /// The submission queue that is looked at next.
    turn: u16,
    due: Option<Ns>,
    features: Features,
    events: Events,
}

impl Default for State {
    fn default() -> Self {
        let count = usize::from(IO_QUEUES) + 1;
        Self {
            registers: Registers::default(),
            sqs: vec![None; count],
            cqs: vec![None; count],
            turn: 0,
            due: None,
            features: Features::default(),
            events: Events::default(),
        }
    }
}

impl State {
    fn sq(&mut self, id: u16) -> Option<&mut SubmissionQueue> {
        self.sqs.get_mut(usize::from(id))?.as_mut()
    }
    fn cq(&mut self, id: u16) -> Option<&mut CompletionQueue> {
        self.cqs.get_mut(usize::from(id))?.as_mut()
    }

    /// The next submission queue in turn that has a command for whose completion there is room.
    fn next_queue(&self) -> Option<u16> {
        let count = self.sqs.len() as u16;
        (0..count).map(|n| (self.turn + n) % count).find(|id| {
            self.sqs[usize::from(*id)].as_ref().filter(|sq| !sq.is_empty()).is_some_and(|sq| {
                self.cqs.get(usize::from(sq.cq)).is_some_and(|cq| cq.as_ref().is_some_and(|cq| !cq.is_full()))
            })
        })
    }

    /// What a guest cannot have brought about is put right: a saved state may come from anyone.
    fn sanitize(&mut self) {
        let count = usize::from(IO_QUEUES) + 1;
        self.sqs.resize(count, None);
        self.cqs.resize(count, None);
        for cq in &mut self.cqs {
            cq.take_if(|cq| !cq.is_sound());
        }
        for sq in &mut self.sqs {
            sq.take_if(|sq| !sq.is_sound());
        }
        self.turn %= count as u16;
        self.events.sanitize();
    }
}

#[derive(Serialize, Deserialize)]
struct Saved {
    state: State,
    msix: MsixState,
}

impl Nvme {
    /// The controller in a slot of the board, with `disk` as its namespace.
    pub fn new(disk: Disk, serial: &str, slot: PciSlot) -> Self {
        let mut config = ConfigSpace::endpoint(0x1b36, 0x0010, 0x01_0802, 2);
        config.fixed(0x2c, &[0xf4, 0x1a, 0x00, 0x11]);
        config.set_interrupt_pin(1);
        config.add_bar(0, BarKind::Memory64, BAR_LEN);
        let msix = Msix::new(&mut config, MSIX_AT, MSIX, slot.messages);
        let (serial, intx, dma) = (serial.into(), slot.intx, slot.memory);
        Self { config, msix, intx, dma, disk, serial, state: State::default(), now: 0 }
    }

    /// Everything that the driver has set up is gone.
    fn controller_reset(&mut self) {
        let registers = self.state.registers.after_controller_reset();
        self.state = State { registers, ..State::default() };
        self.drive_intx();
    }

    fn drive_intx(&mut self) {
        let s = &self.state;
        let asked = s.cqs.iter().flatten().filter(|cq| cq.asks());
        let pending = asked.fold(0, |vectors, cq| vectors | 1u32.checked_shl(cq.vector.into()).unwrap_or(0));
        let asserted = pending & !s.registers.interrupt_mask != 0 && !self.msix.enabled(&self.config);
        self.config.drive_intx(&self.intx, asserted);
    }

    fn fatal(&mut self) {
        tracing::debug!(target: "guest_errors", "nvme: a queue is not in memory");
        self.state.registers.set_fatal();
        self.state.due = None;
    }

    /// Decides when the next command will be done, if none waits for its time already.
    fn schedule(&mut self, after: Ns, now: Ns) {
        if self.state.due.is_some() || !self.state.registers.is_ready() || !self.config.is_bus_master() {
            return;
        }
        let Some(id) = self.state.next_queue() else { return };
        let Some(sq) = self.state.sq(id) else { return };
        match sq.peek(&self.dma) {
            Ok(command) => {
                let time = if id == 0 { 0 } else { io::time(&command) };
                self.state.due = Some(now.saturating_add(after + time));
            }
            Err(Fatal) => self.fatal(),
        }
    }

    /// Does the next command.
    fn serve(&mut self) {
        let Some(id) = self.state.next_queue() else { return };
        let Some(sq) = self.state.sq(id) else { return };
        let Ok(command) = sq.peek(&self.dma) else { return self.fatal() };
        sq.advance();
        self.state.turn = (id + 1) % self.state.sqs.len() as u16;
        let outcome = match command.flags() {
            0 if id == 0 => self.admin(&command),
            0 => self.io(&command),
            _ => Err(Status::INVALID_FIELD),
        };
        tracing::trace!(target: "nvme", "queue {id} opcode {:#04x}: {outcome:x?}", command.opcode());
        self.complete(id, command.id(), outcome);
    }

    /// Tells the driver how a command of queue `id` ended.
    fn complete(&mut self, id: u16, command: u16, outcome: Outcome) {
        let (result, status) = match outcome {
            Ok(None) => return,
            Ok(Some(result)) => (result, Status::OK),
            Err(status) => (0, status),
        };
        // A command that deletes queues may complete in what it leaves.
        let Some(sq) = self.state.sq(id) else { return };
        let (sq_head, cq) = (sq.head(), sq.cq);
        let completion = Completion { result, sq: id, sq_head, command, status };
        let dma = self.dma.clone();
        let Some(cq) = self.state.cq(cq).filter(|cq| !cq.is_full()) else { return };
        let vector = cq.vector;
        match cq.post(&dma, &completion) {
            Ok(interrupts) if interrupts && self.msix.enabled(&self.config) => {
                self.msix.send(&self.config, vector);
            }
            Ok(_) => self.drive_intx(),
            Err(Fatal) => self.fatal(),
        }
    }

    /// Completes asynchronous event requests with what there is to tell, as far as the admin queue has room.
    fn tell_events(&mut self) {
        while self.state.cqs[0].as_ref().is_some_and(|cq| !cq.is_full())
            && let Some((command, event)) = self.state.events.next()
        {
            self.complete(0, command, Ok(Some(event)));
        }
    }

    /// A write to the doorbell of a queue.
    fn doorbell(&mut self, number: u64, value: u32, now: Ns) {
        if !self.state.registers.is_ready() {
            return;
        }
        let id = u16::try_from(number / 2).unwrap_or(u16::MAX);
        // Bits above are reserved.
        let value = value & 0xffff;
        let rung = if number.is_multiple_of(2) {
            self.state.sq(id).map(|sq| sq.ring(value))
        } else {
            self.state.cq(id).map(|cq| cq.ring(value))
        };
        match rung {
            Some(Ok(())) => {}
            None => self.state.events.add(events::Event::NO_SUCH_DOORBELL),
            Some(Err(queue::BadDoorbell)) => self.state.events.add(events::Event::BAD_DOORBELL),
        }
        self.tell_events();
        self.drive_intx();
        self.schedule(LATENCY, now);
    }
}

impl PciFunction for Nvme {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }
    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
    fn config_written(&mut self, _offset: u8, _len: u8) {
        self.msix.config_written(&self.config);
        self.drive_intx();
        self.schedule(LATENCY, self.now);
    }
    fn bar_read(&mut self, bar: u8, offset: u64, size: u8, now: Ns) -> u64 {
        self.now = now;
        match self.msix.read(bar, offset, size) {
            Some(value) => value,
            None => self.state.registers.read(offset, size),
        }
    }
    fn bar_write(&mut self, bar: u8, offset: u64, size: u8, value: u64, now: Ns) {
        self.now = now;
        if !self.msix.write(&self.config, bar, offset, size, value) {
            self.write_register(offset, size, value, now);
        }
    }
    fn timed(&self) -> Option<&dyn Timed> {
        Some(self)
    }
    fn timed_mut(&mut self) -> Option<&mut dyn Timed> {
        Some(self)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        if self.disk.read_only() { Ok(()) } else { self.disk.flush() }
    }
    fn reset(&mut self) {
        self.state = State::default();
        self.msix.reset();
        self.drive_intx();
    }
    fn save(&self) -> Vec<u8> {
        let Self { config: _, msix, intx: _, dma: _, disk: _, serial: _, state, now: _ } = self;
        crate::saved::to_bytes(&Saved { state: state.clone(), msix: msix.save() })
    }
    fn restore(&mut self, bytes: &[u8]) {
        let Some(Saved { mut state, msix }) = crate::saved::from_bytes(bytes) else { return };
        state.sanitize();
        self.state = state;
        self.msix.restore(msix);
        self.drive_intx();
    }
}

impl Timed for Nvme {
    fn next_deadline(&self) -> Option<Ns> {
        self.state.due
    }
    fn advance(&mut self, now: Ns) {
        self.now = now;
        if self.state.due.is_some_and(|due| due <= now) {
            self.state.due = None;
            // Who has lost the right to reach memory meanwhile does nothing until it has it again.
            if self.config.is_bus_master() {
                self.serve();
                self.tell_events();
            }
            self.schedule(NEXT, now);
        }
    }
}
