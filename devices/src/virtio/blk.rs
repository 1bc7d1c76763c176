//! The block device (5.2): one queue of requests over a [`Disk`].
//!
//! Requests are done in order, one at a time, each when the time that a disk would take has passed. A driver that has accepted
//! FLUSH (or, by CONFIG_WCE, chosen write-back) says itself when data must be safe; for any other, each write is flushed.
//!
//! Limits: one queue; no lifetime, secure erase or zoned commands; a request moves at most [`MAX_REQUEST`] bytes.

use serde::{Deserialize, Serialize};

use super::{Chain, Identity, Io, VirtioDevice};
use crate::Ns;
use crate::block::{Disk, Limits, Mover, SECTOR};
use crate::memory::Dma;

/// From a notification to the first byte.
const LATENCY: Ns = 10_000;
/// From one request to the next.
const NEXT: Ns = 1_000;
/// A gigabyte per second.
const NS_PER_BYTE: Ns = 1;
const QUEUE_SIZE: u16 = 256;
/// Descriptors for data in a request: all but header and status.
const SEG_MAX: u32 = QUEUE_SIZE as u32 - 2;
/// Largest request; a driver's largest is a fraction of it.
const MAX_REQUEST: u64 = 256 << 20;
/// Ranges of one DISCARD or WRITE_ZEROES.
const MAX_RANGES: u64 = 32;

/// Features (5.2.3).
pub mod feature {
    /// `seg_max` is valid.
    pub const SEG_MAX: u64 = 1 << 2;
    /// `geometry` is valid.
    pub const GEOMETRY: u64 = 1 << 4;
    /// Nothing can be written.
    pub const RO: u64 = 1 << 5;
    /// `blk_size` is valid.
    pub const BLK_SIZE: u64 = 1 << 6;
    /// FLUSH is there.
    pub const FLUSH: u64 = 1 << 9;
    /// `topology` is valid.
    pub const TOPOLOGY: u64 = 1 << 10;
    /// The driver may choose between write-back and write-through.
    pub const CONFIG_WCE: u64 = 1 << 11;
    /// DISCARD is there.
    pub const DISCARD: u64 = 1 << 13;
    /// WRITE_ZEROES is there.
    pub const WRITE_ZEROES: u64 = 1 << 14;
}

/// Request types.
mod request {
    pub const IN: u32 = 0;
    pub const OUT: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const GET_ID: u32 = 8;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
    /// A flag of old drivers, without meaning here.
    pub const BARRIER: u32 = 1 << 31;
}
/// In a range: what it covers may be deallocated.
const UNMAP: u32 = 1;
const HEADER: u64 = 16;
const RANGE: u64 = 16;
const ID_LEN: usize = 20;
/// Offset of `writeback` in the configuration.
const WRITEBACK: u64 = 32;
const CONFIG_LEN: usize = 60;

/// How a request ended; the driver is told by these numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Ok = 0,
    IoError = 1,
    Unsupported = 2,
}

/// See the module.
pub struct VirtioBlk {
    disk: Disk,
    serial: String,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    due: Option<Ns>,
    /// FLUSH was accepted.
    flushes: bool,
    /// The driver's choice, if it has one.
    writeback: bool,
    /// CONFIG_WCE was accepted: there is a choice.
    chooses: bool,
}

const AFTER_RESET: State = State { due: None, flushes: false, writeback: true, chooses: false };

#[derive(Clone, Copy)]
struct Request {
    kind: u32,
    sector: u64,
    /// Bytes of data that the driver gives.
    out: u64,
    /// Bytes of data that it wants.
    wanted: u64,
}

impl Request {
    fn read(chain: &Chain, dma: &Dma) -> Option<Self> {
        let mut header = [0; HEADER as usize];
        let (out, wanted) = (chain.readable_len().checked_sub(HEADER)?, chain.writable_len().checked_sub(1)?);
        if !chain.read(dma, 0, &mut header) {
            return None;
        }
        let [a, b, c, d, _, _, _, _, sector @ ..] = header;
        let kind = u32::from_le_bytes([a, b, c, d]) & !request::BARRIER;
        Some(Self { kind, sector: u64::from_le_bytes(sector), out, wanted })
    }

    /// The bytes that it moves.
    fn bytes(&self) -> u64 {
        match self.kind {
            request::IN => self.wanted,
            request::OUT => self.out,
            _ => 0,
        }
    }

    fn time(&self) -> Ns {
        let flush = if self.kind == request::FLUSH { 10 * LATENCY } else { 0 };
        flush + self.bytes().min(MAX_REQUEST) * NS_PER_BYTE
    }
}

impl VirtioBlk {
    /// A device over `disk`; `serial` is what GET_ID tells, up to 20 bytes.
    pub fn new(disk: Disk, serial: &str) -> Self {
        Self { disk, serial: serial.into(), state: AFTER_RESET }
    }

    fn sectors(&self) -> u64 {
        self.disk.len() / SECTOR
    }

    /// Must what is written be flushed at once?
    fn write_through(&self) -> bool {
        match &self.state {
            State { chooses: true, writeback, .. } => !writeback,
            State { flushes, .. } => !flushes,
        }
    }

    /// Does a request; gives its status and how many bytes of data were written to the driver's buffers.
    fn perform(&mut self, request: &Request, chain: &Chain, dma: &Dma) -> (Status, u64) {
        match request.kind {
            request::IN => self.read(request, chain, dma),
            request::OUT => (self.write(request, chain, dma), 0),
            request::FLUSH => (self.flush_disk(), 0),
            request::GET_ID => self.get_id(request, chain, dma),
            request::DISCARD | request::WRITE_ZEROES => (self.ranges(request, chain, dma), 0),
            _ => (Status::Unsupported, 0),
        }
    }

    /// Where a transfer of `len` bytes begins on the disk, if there is such a place.
    fn place(&self, request: &Request, len: u64) -> Option<u64> {
        let end = request.sector.checked_add(len / SECTOR)?;
        let whole = len.is_multiple_of(SECTOR) && len <= MAX_REQUEST && end <= self.sectors();
        whole.then(|| request.sector * SECTOR)
    }

    fn read(&mut self, request: &Request, chain: &Chain, dma: &Dma) -> (Status, u64) {
        let Some(at) = self.place(request, request.wanted) else { return (Status::IoError, 0) };
        let read = Mover::new(&mut self.disk)
            .read(at, request.wanted, |offset, piece| chain.write(dma, offset, piece));
        if read { (Status::Ok, request.wanted) } else { (Status::IoError, 0) }
    }

    fn write(&mut self, request: &Request, chain: &Chain, dma: &Dma) -> Status {
        let Some(at) = self.place(request, request.out).filter(|_| !self.disk.read_only()) else {
            return Status::IoError;
        };
        let written = Mover::new(&mut self.disk)
            .write(at, request.out, |offset, piece| chain.read(dma, HEADER + offset, piece));
        match written {
            true if self.write_through() => self.flush_disk(),
            true => Status::Ok,
            false => Status::IoError,
        }
    }

    fn flush_disk(&mut self) -> Status {
        if self.disk.read_only() || Mover::new(&mut self.disk).flush() { Status::Ok } else { Status::IoError }
    }

    fn get_id(&self, request: &Request, chain: &Chain, dma: &Dma) -> (Status, u64) {
        let mut id = [0; ID_LEN];
        let serial = self.serial.as_bytes();
        let n = serial.len().min(ID_LEN);
        id[..n].copy_from_slice(&serial[..n]);
        let len = request.wanted.min(ID_LEN as u64);
        let written = chain.write(dma, 0, &id[..len as usize]);
        if written { (Status::Ok, len) } else { (Status::IoError, 0) }
    }

    /// DISCARD or WRITE_ZEROES: a list of ranges, all of which are looked at before the first is touched.
    fn ranges(&mut self, request: &Request, chain: &Chain, dma: &Dma) -> Status {
        if !request.out.is_multiple_of(RANGE) || request.out > MAX_RANGES * RANGE || self.disk.read_only() {
            return Status::IoError;
        }
        let mut list = vec![0; request.out as usize];
        if !chain.read(dma, HEADER, &mut list) {
            return Status::IoError;
        }
        let zeroes = request.kind == request::WRITE_ZEROES;
        let mut ranges = Vec::new();
        for range in list.chunks_exact(RANGE as usize) {
            let word = |at: usize| {
                u64::from(u32::from_le_bytes([range[at], range[at + 1], range[at + 2], range[at + 3]]))
            };
            let (sector, count, flags) = (word(4) << 32 | word(0), word(8), word(12) as u32);
            if flags & !UNMAP != 0 || !zeroes && flags != 0 {
                return Status::Unsupported;
            }
            let max = if zeroes { Limits::ZEROES } else { Limits::DISCARD } / SECTOR;
            if count > max || sector.checked_add(count).is_none_or(|end| end > self.sectors()) {
                return Status::IoError;
            }
            ranges.push((sector * SECTOR, count * SECTOR, flags & UNMAP != 0));
        }
        let mut disk = Mover::new(&mut self.disk);
        let done = ranges.iter().all(|(at, len, unmap)| match zeroes {
            true => disk.write_zeroes(*at, *len, *unmap),
            false => disk.discard(*at, *len),
        });
        match done {
            true if self.write_through() => self.flush_disk(),
            true => Status::Ok,
            false => Status::IoError,
        }
    }

    /// Takes one request from the queue, does it and answers.
    fn serve(&mut self, io: &mut Io<'_>) {
        let Some(chain) = io.pop(0) else { return };
        let Some(request) = Request::read(&chain, io.dma) else {
            return io.give_up("a block request without header or status");
        };
        let (status, data) = self.perform(&request, &chain, io.dma);
        tracing::trace!(
            target: "virtio",
            "blk type {} sector {} bytes {}: {status:?}",
            request.kind, request.sector, request.bytes()
        );
        // Status is the last byte, whatever was written before.
        let answered = chain.write(io.dma, request.wanted, &[status as u8]);
        if !answered {
            return io.give_up("a status byte that is not in memory");
        }
        io.push(0, &chain, data.saturating_add(1).min(u32::MAX.into()) as u32);
    }

    /// When the next request of the queue will be done.
    fn schedule(&mut self, io: &mut Io<'_>, after: Ns, now: Ns) {
        self.state.due = io.peek(0).map(|chain| {
            let time = Request::read(&chain, io.dma).map_or(0, |request| request.time());
            now.saturating_add(after + time)
        });
        if self.state.due.is_none() {
            io.drained(0);
        }
    }

    fn config(&self) -> [u8; CONFIG_LEN] {
        let mut bytes = [0; CONFIG_LEN];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &self.sectors().to_le_bytes());
        put(12, &SEG_MAX.to_le_bytes());
        // As a BIOS would divide the disk: 16 heads, 63 sectors.
        put(16, &((self.sectors() / (16 * 63)).min(65535) as u16).to_le_bytes());
        put(18, &[16, 63]);
        put(20, &(SECTOR as u32).to_le_bytes());
        // Topology: 2^0 sectors in a physical block, aligned; transfers of at least one sector.
        put(26, &1u16.to_le_bytes());
        put(WRITEBACK as usize, &[self.state.writeback.into(), 0, 1, 0]);
        put(36, &((Limits::DISCARD / SECTOR) as u32).to_le_bytes());
        put(40, &(MAX_RANGES as u32).to_le_bytes());
        put(44, &1u32.to_le_bytes());
        put(48, &((Limits::ZEROES / SECTOR) as u32).to_le_bytes());
        put(52, &(MAX_RANGES as u32).to_le_bytes());
        put(56, &[1]);
        bytes
    }
}

impl VirtioDevice for VirtioBlk {
    fn identity(&self) -> Identity {
        // The class is what QEMU's device has: drivers go by the identifiers.
        Identity { kind: 2, transitional_id: 0x1001, class: 0x01_0000 }
    }

    fn features(&self) -> u64 {
        use feature::*;
        let always = SEG_MAX | GEOMETRY | BLK_SIZE | FLUSH | TOPOLOGY | CONFIG_WCE;
        always | if self.disk.read_only() { RO } else { DISCARD | WRITE_ZEROES }
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE]
    }

    fn config_byte(&self, offset: u64) -> u8 {
        usize::try_from(offset).ok().and_then(|at| self.config().get(at).copied()).unwrap_or(0)
    }
    fn config_len(&self) -> u64 {
        CONFIG_LEN as u64
    }
    fn config_write(&mut self, offset: u64, value: u8) {
        if offset == WRITEBACK {
            self.state.writeback = value != 0;
        }
    }

    fn negotiated(&mut self, features: u64) {
        self.state.flushes = features & feature::FLUSH != 0;
        self.state.chooses = features & feature::CONFIG_WCE != 0;
    }

    fn notified(&mut self, _queue: usize, io: &mut Io<'_>, now: Ns) {
        if self.state.due.is_none() {
            self.schedule(io, LATENCY, now);
        }
    }

    fn next_deadline(&self) -> Option<Ns> {
        self.state.due
    }

    fn advance(&mut self, io: &mut Io<'_>, now: Ns) {
        if self.state.due.is_some_and(|due| due <= now) {
            self.serve(io);
            self.schedule(io, NEXT, now);
        }
    }

    fn reset(&mut self) {
        self.state = AFTER_RESET;
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.disk.read_only() { Ok(()) } else { self.disk.flush() }
    }

    fn save(&self) -> Vec<u8> {
        let Self { disk: _, serial: _, state } = self;
        crate::saved::to_bytes(state)
    }

    fn restore(&mut self, state: &[u8]) {
        if let Some(state) = crate::saved::from_bytes(state) {
            self.state = state;
        }
    }
}
