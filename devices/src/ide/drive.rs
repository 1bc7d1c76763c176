//! A drive: task file, phases of a command, and the parts that disks and CD drives have in common.

use serde::{Deserialize, Serialize};

use super::DriveSpec;
use super::atapi::Cd;
use super::bus_master::Carrier;
use crate::Ns;
use crate::block::Disk;
use crate::memory::Dma;

pub(crate) mod status {
    pub const ERR: u8 = 0x01;
    pub const DRQ: u8 = 0x08;
    pub const DSC: u8 = 0x10;
    pub const DRDY: u8 = 0x40;
    pub const BSY: u8 = 0x80;
}
pub(crate) mod error {
    pub const ABRT: u8 = 0x04;
    pub const IDNF: u8 = 0x10;
    pub const UNC: u8 = 0x40;
}

pub(crate) const SECTOR: usize = 512;
/// Most that a drive's buffer holds: READ MULTIPLE of 128 sectors, or 32 sectors of a CD.
pub(crate) const BUFFER: usize = 0x1_0000;
/// From a command to the first byte.
pub(crate) const COMMAND_LATENCY: Ns = 20_000;
/// A quarter of a gigabyte per second.
pub(crate) const NS_PER_BYTE: Ns = 4;

/// What a command comes with: address bytes from the lowest on, features and count with the second byte of 48-bit commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registers {
    pub features: Deep,
    pub count: Deep,
    pub lba: [u8; 6],
    pub device: u8,
}

/// What a busy drive will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    /// End the command.
    Finish,
    /// Fill the buffer with sectors for the host to read, `block` at a time.
    ReadSectors { lba: u64, left: u32, block: u8 },
    /// Write the buffer's sectors; more follow if `left` is not 0.
    WriteSectors { lba: u64, left: u32, block: u8 },
    /// Move sectors between the medium and memory.
    Transfer { lba: u64, sectors: u32, write: bool, sync: bool },
    /// Get everything to the medium.
    Flush,
    /// Take the list of ranges to discard from memory.
    Trim { sectors: u32 },
    /// Look at the packet in the buffer.
    Packet { dma: bool },
    /// Go on with the reply to a packet.
    Reply { lba: u32, left: u32, dma: bool },
}

/// Where the drive is in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    Idle,
    /// Until `due`.
    Busy(Work),
    /// The host reads the buffer; `then` comes when it is empty (`None`: the end of the command, without an interrupt).
    DataIn(Option<Work>),
    /// The host fills the buffer.
    DataOut(Work),
    /// Waits for the bus master.
    BusMaster(Work),
}

/// A queued command that failed: its tag, first sector and error, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueError {
    pub tag: u8,
    pub lba: u64,
    pub error: u8,
}

/// Two bytes deep, for the commands with 48-bit addresses.
pub(crate) type Deep = [u8; 2];

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DriveState {
    pub features: Deep,
    pub count: Deep,
    pub lba_low: Deep,
    pub lba_mid: Deep,
    pub lba_high: Deep,
    pub device: u8,
    pub status: u8,
    pub error: u8,
    pub phase: Phase,
    pub due: Option<Ns>,
    pub irq: bool,
    pub buffer: Vec<u8>,
    /// The next byte that the host moves.
    pub pos: usize,
    /// The end of what it may move now.
    pub end: usize,
    /// READ MULTIPLE's block; 0: the command is off.
    pub multiple: u8,
    /// Heads and sectors of INITIALIZE DEVICE PARAMETERS.
    pub geometry: (u8, u8),
    /// SET FEATURES' transfer mode.
    pub transfer_mode: u8,
    pub write_cache: bool,
    pub read_ahead: bool,
    /// The queued command that failed last.
    pub queue_error: Option<QueueError>,
    pub cd: Option<Cd>,
}

/// See the module.
pub(crate) struct Drive {
    pub state: DriveState,
    pub medium: Option<Disk>,
    /// 0 to 3 at the IDE channels, 0 to 31 at a SATA controller: its port.
    pub place: u8,
    /// The drive is a serial one: it has queued commands and the log that goes with them.
    pub sata: bool,
}

impl Drive {
    pub(crate) fn new(spec: DriveSpec, place: u8, sata: bool) -> Self {
        let (medium, cd) = match spec {
            DriveSpec::HardDisk(disk) => (Some(disk), None),
            DriveSpec::CdRom(medium) => (medium, Some(Cd::default())),
        };
        let state = DriveState {
            features: [0; 2],
            count: [0; 2],
            lba_low: [0; 2],
            lba_mid: [0; 2],
            lba_high: [0; 2],
            device: 0,
            status: 0,
            error: 0,
            phase: Phase::Idle,
            due: None,
            irq: false,
            buffer: Vec::new(),
            pos: 0,
            end: 0,
            multiple: 16,
            geometry: (16, 63),
            transfer_mode: 0x45,
            write_cache: true,
            read_ahead: true,
            queue_error: None,
            cd,
        };
        let mut drive = Self { state, medium, place, sata };
        drive.signature();
        drive
    }

    pub(crate) fn is_cd(&self) -> bool {
        self.state.cd.is_some()
    }

    /// 512-byte sectors of a disk.
    pub(crate) fn sectors(&self) -> u64 {
        self.medium.as_ref().map_or(0, |disk| disk.len() / SECTOR as u64)
    }

    /// Registers after a reset tell what kind of drive this is.
    fn signature(&mut self) {
        let cd = self.is_cd();
        let s = &mut self.state;
        (s.count, s.lba_low) = ([1, 0], [1, 0]);
        (s.lba_mid, s.lba_high) = if cd { ([0x14, 0], [0xeb, 0]) } else { ([0; 2], [0; 2]) };
        s.device = 0;
        s.error = 1;
        s.status = if cd { 0 } else { status::DRDY | status::DSC };
        (s.phase, s.due, s.irq) = (Phase::Idle, None, false);
    }

    /// Power-on or PCI reset.
    pub(crate) fn reset(&mut self) {
        self.signature();
        let s = &mut self.state;
        (s.multiple, s.geometry, s.transfer_mode) = (16, (16, 63), 0x45);
        (s.write_cache, s.read_ahead, s.queue_error) = (true, true, None);
        s.buffer.clear();
        (s.pos, s.end) = (0, 0);
        if let Some(cd) = &mut s.cd {
            cd.reset();
        }
    }

    /// SRST is set ...
    pub(crate) fn soft_reset(&mut self) {
        self.signature();
        self.state.status = status::BSY;
    }

    /// ... and cleared.
    pub(crate) fn soft_reset_ends(&mut self) {
        self.signature();
    }

    pub(crate) fn diagnostic(&mut self, now: Ns) {
        self.signature();
        self.state.status = status::BSY;
        self.busy(Work::Finish, now, COMMAND_LATENCY);
    }

    pub(crate) fn irq(&self) -> bool {
        self.state.irq
    }

    /// The status register was read.
    pub(crate) fn acknowledge(&mut self) {
        self.state.irq = false;
    }

    pub(crate) fn due(&self) -> Option<Ns> {
        self.state.due
    }

    pub(crate) fn read_register(&self, register: u16, previous: bool) -> u8 {
        let s = &self.state;
        let n = usize::from(previous);
        match register {
            1 => s.error,
            2 => s.count[n],
            3 => s.lba_low[n],
            4 => s.lba_mid[n],
            5 => s.lba_high[n],
            6 => s.device | 0xa0,
            _ => s.status,
        }
    }

    pub(crate) fn write_register(&mut self, register: u16, value: u8) {
        let s = &mut self.state;
        if s.status & (status::BSY | status::DRQ) != 0 && register != 6 {
            return;
        }
        let push = |deep: &mut Deep| *deep = [value, deep[0]];
        match register {
            1 => push(&mut s.features),
            2 => push(&mut s.count),
            3 => push(&mut s.lba_low),
            4 => push(&mut s.lba_mid),
            5 => push(&mut s.lba_high),
            _ => s.device = value,
        }
    }

    /// A serial drive's registers arrive all at once.
    pub(crate) fn load_registers(&mut self, registers: Registers) {
        let Registers { features, count, lba, device } = registers;
        let s = &mut self.state;
        (s.features, s.count, s.device) = (features, count, device);
        let [a, b, c, d, e, f] = lba;
        (s.lba_low, s.lba_mid, s.lba_high) = ([a, d], [b, e], [c, f]);
    }

    /// The bytes that the host is to take now, or to fill: `None` if the drive does not move data by its register.
    pub(crate) fn window(&mut self) -> Option<&mut [u8]> {
        let s = &mut self.state;
        matches!(s.phase, Phase::DataIn(_) | Phase::DataOut(_)).then(|| &mut s.buffer[s.pos..s.end])
    }

    /// All bytes of the window have moved.
    pub(crate) fn window_done(&mut self, now: Ns) {
        self.state.pos = self.state.end;
        self.data_moved(now);
    }

    /// Whoever gave the command has left: it ends when its time has come, and nothing moves.
    pub(crate) fn abandon(&mut self, now: Ns) {
        if self.state.phase != Phase::Idle {
            self.busy(Work::Finish, now, COMMAND_LATENCY);
        }
    }

    /// A write to the command register.
    pub(crate) fn command(&mut self, command: u8, now: Ns) {
        self.state.irq = false;
        if command == 0x08 && self.is_cd() {
            // DEVICE RESET, at any time.
            return self.signature();
        }
        if self.state.status & (status::BSY | status::DRQ) != 0 {
            return;
        }
        self.state.error = 0;
        tracing::trace!(target: "ide", "drive {} command {command:#04x} at {now} ns", self.place);
        if self.is_cd() { self.atapi_command(command, now) } else { self.ata_command(command, now) }
    }

    /// Busy until `delay` has passed; then `work` is done.
    pub(crate) fn busy(&mut self, work: Work, now: Ns, delay: Ns) {
        let s = &mut self.state;
        s.status = status::BSY | s.status & status::DSC;
        s.phase = Phase::Busy(work);
        s.due = Some(now.saturating_add(delay.max(1)));
    }

    /// Waits for the bus master, then does `work`.
    pub(crate) fn wait_for_bus_master(&mut self, work: Work) {
        let s = &mut self.state;
        s.status = status::BSY | s.status & status::DSC;
        (s.phase, s.due) = (Phase::BusMaster(work), None);
    }

    /// The bus master is on.
    pub(crate) fn bus_master_ready(&mut self, now: Ns) {
        let s = &mut self.state;
        if s.due.is_some() {
            return;
        }
        let bytes = match s.phase {
            Phase::BusMaster(Work::Transfer { sectors, .. } | Work::Trim { sectors }) => {
                u64::from(sectors) * SECTOR as u64
            }
            Phase::BusMaster(Work::Reply { left, .. }) => u64::from(left) * 2048 + s.buffer.len() as u64,
            _ => return,
        };
        s.due = Some(now.saturating_add(COMMAND_LATENCY + bytes * NS_PER_BYTE));
    }

    /// The command has ended well.
    pub(crate) fn finish(&mut self) {
        let s = &mut self.state;
        s.status = status::DRDY | status::DSC;
        (s.phase, s.irq) = (Phase::Idle, true);
    }

    /// The command has ended with this in the error register.
    pub(crate) fn fail(&mut self, error: u8) {
        let s = &mut self.state;
        s.status = status::DRDY | status::DSC | status::ERR;
        (s.error, s.phase, s.irq, s.due) = (error, Phase::Idle, true, None);
    }

    /// The host may read the buffer from `pos` to `end`.
    pub(crate) fn offer(&mut self, then: Option<Work>) {
        let s = &mut self.state;
        s.status = status::DRDY | status::DSC | status::DRQ;
        (s.phase, s.irq) = (Phase::DataIn(then), true);
    }

    /// The host is to write `len` bytes into the buffer.
    pub(crate) fn request(&mut self, len: usize, then: Work, interrupt: bool) {
        let s = &mut self.state;
        s.buffer.clear();
        s.buffer.resize(len.min(BUFFER), 0);
        (s.pos, s.end) = (0, s.buffer.len());
        s.status = status::DRDY | status::DSC | status::DRQ;
        (s.phase, s.irq) = (Phase::DataOut(then), interrupt);
    }

    pub(crate) fn read_data(&mut self, size: u8, now: Ns) -> u32 {
        let s = &mut self.state;
        let Phase::DataIn(_) = s.phase else { return 0 };
        let mut value = [0; 4];
        let n = usize::from(size.min(4)).min(s.end - s.pos);
        value[..n].copy_from_slice(&s.buffer[s.pos..s.pos + n]);
        s.pos += n;
        self.data_moved(now);
        u32::from_le_bytes(value)
    }

    /// Goes on when the host has moved everything.
    fn data_moved(&mut self, now: Ns) {
        let s = &mut self.state;
        if s.pos != s.end {
            return;
        }
        match s.phase {
            Phase::DataIn(None) => {
                s.status = status::DRDY | status::DSC;
                s.phase = Phase::Idle;
            }
            Phase::DataIn(Some(work)) => {
                let bytes = if self.is_cd() { 0 } else { self.state.buffer.len() as u64 };
                self.busy(work, now, 2_000 + bytes * NS_PER_BYTE);
            }
            Phase::DataOut(work) => {
                let delay = 5_000 + s.buffer.len() as u64 * NS_PER_BYTE;
                self.busy(work, now, delay);
            }
            _ => {}
        }
    }

    pub(crate) fn write_data(&mut self, size: u8, value: u32, now: Ns) {
        let s = &mut self.state;
        let Phase::DataOut(_) = s.phase else { return };
        let n = usize::from(size.min(4)).min(s.end - s.pos);
        s.buffer[s.pos..s.pos + n].copy_from_slice(&value.to_le_bytes()[..n]);
        s.pos += n;
        self.data_moved(now);
    }

    /// Does what is due.
    pub(crate) fn advance(&mut self, now: Ns, bus_master: &mut dyn Carrier, dma: &Dma) {
        if self.state.due.is_none_or(|due| due > now) {
            return;
        }
        self.state.due = None;
        let (Phase::Busy(work) | Phase::BusMaster(work)) = self.state.phase else { return };
        match work {
            Work::Packet { dma } => self.packet(dma, now),
            Work::Reply { lba, left, dma: false } => self.reply_chunk(lba, left),
            Work::Reply { lba, left, dma: true } => self.reply_dma(lba, left, bus_master, dma),
            other => self.ata_work(other, now, bus_master, dma),
        }
    }

    /// Moves `len` bytes between memory and `each(offset, piece, first byte)`; true if all of them went.
    pub(crate) fn through_bus_master(
        &mut self,
        len: usize,
        to_memory: bool,
        bus_master: &mut dyn Carrier,
        dma: &Dma,
        each: &mut dyn FnMut(&mut Self, usize, &mut [u8]) -> bool,
    ) -> Option<bool> {
        let Some(regions) = bus_master.regions(dma, len, to_memory) else { return Some(false) };
        let (mut done, mut good, mut answered) = (0, true, true);
        let mut piece = Vec::new();
        for (at, size) in &regions.pieces {
            piece.clear();
            piece.resize(*size, 0);
            if to_memory {
                good = each(self, done, &mut piece);
                answered &= !good || dma.write(*at, &piece);
            } else {
                answered &= dma.read(*at, &mut piece);
                good = each(self, done, &mut piece);
            }
            if !good {
                break;
            }
            done += size;
        }
        bus_master.finish(regions.exhausted || !good, !answered);
        // A table that is too short leaves the drive waiting for the rest (SFF-8038i: neither active nor interrupt).
        if good && regions.short {
            (self.state.phase, self.state.due) = (Phase::Busy(Work::Finish), None);
            return None;
        }
        Some(good && answered)
    }

    /// Reads from the medium; a failure is logged.
    pub(crate) fn read_medium(&mut self, offset: u64, bytes: &mut [u8]) -> bool {
        let result = self.medium.as_mut().map(|medium| medium.read(offset, bytes));
        self.note(result, "read", offset)
    }

    pub(crate) fn write_medium(&mut self, offset: u64, bytes: &[u8]) -> bool {
        let result = self.medium.as_mut().map(|medium| medium.write(offset, bytes));
        self.note(result, "write", offset)
    }

    pub(crate) fn flush_medium(&mut self) -> bool {
        let result = self.medium.as_mut().filter(|medium| !medium.read_only()).map(|medium| medium.flush());
        result.is_none() || self.note(result, "flush", 0)
    }

    fn note(&self, result: Option<std::io::Result<()>>, what: &str, offset: u64) -> bool {
        if let Some(Err(error)) = &result {
            tracing::warn!("drive {}: {what} at {offset:#x} failed: {error}", self.place);
        }
        matches!(result, Some(Ok(())))
    }

    pub(crate) fn flush(&mut self) -> std::io::Result<()> {
        match &mut self.medium {
            Some(medium) if !medium.read_only() => medium.flush(),
            _ => Ok(()),
        }
    }

    pub(crate) fn save(&self) -> DriveState {
        let Self { state, medium: _, place: _, sata: _ } = self;
        state.clone()
    }

    pub(crate) fn restore(&mut self, mut state: DriveState) {
        // Whatever the saved state says, positions lie within the buffer and the kind of drive stays.
        state.buffer.truncate(BUFFER);
        state.end = state.end.min(state.buffer.len());
        state.pos = state.pos.min(state.end);
        if state.cd.is_some() != self.is_cd() {
            return;
        }
        self.state = state;
    }
}
