//! The split virtqueue (Virtual I/O Device specification 1.2, chapter 2.7): descriptor table, available ring, used ring.
//!
//! Written here, not taken from the crate virtio-queue: that one reaches memory by host addresses, past the one funnel that all
//! writes to guest memory go through (it knows pages with translated code), and by a trait that promises its borrowers slices.
//!
//! A ring is the guest's data and may say anything. Every value is read once; what cannot be is [`Broken`], which ends the
//! device's work until it is reset. Invariant: no walk is longer than [`MAX_DESCRIPTORS`].

use serde::{Deserialize, Serialize};

use crate::memory::Dma;

/// Descriptor flags.
mod flags {
    pub const NEXT: u16 = 1;
    pub const WRITE: u16 = 2;
    pub const INDIRECT: u16 = 4;
}
/// Available ring flag: the driver wants no interrupts.
const NO_INTERRUPT: u16 = 1;
const DESCRIPTOR: u64 = 16;
/// The longest chain, indirect tables included.
const MAX_DESCRIPTORS: usize = 1024;
/// Bytes of a chain in each direction (2.7.5.2).
const MAX_BYTES: u64 = 1 << 32;

/// What is wrong with a ring, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(pub &'static str);

/// A queue's registers and positions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueState {
    /// Descriptors in the table.
    pub size: u16,
    /// The driver has set it up.
    pub ready: bool,
    /// Guest address of the descriptor table.
    pub descriptors: u64,
    /// Guest address of the available ring.
    pub available: u64,
    /// Guest address of the used ring.
    pub used: u64,
    /// MSI-X vector; FFFFh: none.
    pub vector: u16,
    next_available: u16,
    next_used: u16,
    /// `next_used` when an interrupt was last considered.
    signalled: Option<u16>,
}

/// A queue. `size` is a power of two up to `max`.
#[derive(Clone, Debug)]
pub struct Queue {
    max: u16,
    /// Registers and positions.
    pub state: QueueState,
}

/// A piece of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    at: u64,
    len: u32,
}

/// A buffer that the driver has made available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    head: u16,
    readable: Vec<Piece>,
    writable: Vec<Piece>,
}

#[derive(Clone, Copy)]
struct Descriptor {
    at: u64,
    len: u32,
    flags: u16,
    next: u16,
}

fn read<const N: usize>(dma: &Dma, at: u64) -> Result<[u8; N], Broken> {
    let mut bytes = [0; N];
    if dma.read(at, &mut bytes) { Ok(bytes) } else { Err(Broken("a ring that is not in memory")) }
}

fn read_u16(dma: &Dma, at: u64) -> Result<u16, Broken> {
    read(dma, at).map(u16::from_le_bytes)
}

fn write(dma: &Dma, at: u64, bytes: &[u8]) -> Result<(), Broken> {
    if dma.write(at, bytes) { Ok(()) } else { Err(Broken("a used ring that is not in memory")) }
}

impl Descriptor {
    fn read(dma: &Dma, table: u64, index: u16) -> Result<Self, Broken> {
        let bytes: [u8; 16] = read(dma, table.wrapping_add(DESCRIPTOR * u64::from(index)))?;
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Ok(Self {
            at: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            len: u32::from_le_bytes([i, j, k, l]),
            flags: u16::from_le_bytes([m, n]),
            next: u16::from_le_bytes([o, p]),
        })
    }

    fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

impl Chain {
    fn add(&mut self, descriptor: &Descriptor) -> Result<(), Broken> {
        let piece = Piece { at: descriptor.at, len: descriptor.len };
        if descriptor.is(flags::WRITE) {
            self.writable.push(piece);
        } else if self.writable.is_empty() {
            self.readable.push(piece);
        } else {
            return Err(Broken("a buffer to read after one to write"));
        }
        if self.readable.len() + self.writable.len() > MAX_DESCRIPTORS {
            return Err(Broken("a chain that is too long, or a loop"));
        }
        Ok(())
    }

    /// Bytes that the driver gives.
    pub fn readable_len(&self) -> u64 {
        self.readable.iter().map(|piece| u64::from(piece.len)).sum()
    }

    /// Bytes that the driver wants.
    pub fn writable_len(&self) -> u64 {
        self.writable.iter().map(|piece| u64::from(piece.len)).sum()
    }

    /// Reads from what the driver gives, `offset` bytes after its beginning. False: not all of it is there, or not memory.
    pub fn read(&self, dma: &Dma, offset: u64, bytes: &mut [u8]) -> bool {
        let len = bytes.len();
        each(&self.readable, offset, len, |at, range| dma.read(at, &mut bytes[range]))
    }

    /// Writes to where the driver wants it.
    pub fn write(&self, dma: &Dma, offset: u64, bytes: &[u8]) -> bool {
        each(&self.writable, offset, bytes.len(), |at, range| dma.write(at, &bytes[range]))
    }
}

/// Calls `access` for each part of `len` bytes at `offset` into `pieces`. True if all of them are there and every call says so.
fn each(
    pieces: &[Piece],
    mut offset: u64,
    len: usize,
    mut access: impl FnMut(u64, std::ops::Range<usize>) -> bool,
) -> bool {
    let (mut done, mut good) = (0, true);
    for piece in pieces {
        if done == len {
            break;
        }
        let piece_len = u64::from(piece.len);
        if offset >= piece_len {
            offset -= piece_len;
            continue;
        }
        let n = usize::try_from(piece_len - offset).unwrap_or(usize::MAX).min(len - done);
        good &= access(piece.at.wrapping_add(offset), done..done + n);
        done += n;
        offset = 0;
    }
    good && done == len
}

impl Queue {
    /// A queue of up to `max` descriptors, a power of two.
    pub fn new(max: u16) -> Self {
        assert!(max.is_power_of_two(), "a queue of {max}");
        let mut queue = Self { max, state: QueueState::default() };
        queue.reset();
        queue
    }

    /// As after the device's reset.
    pub fn reset(&mut self) {
        self.state = QueueState { size: self.max, vector: super::NO_VECTOR, ..QueueState::default() };
    }

    /// The largest size.
    pub fn max(&self) -> u16 {
        self.max
    }

    /// Sets the size if it is one.
    pub fn set_size(&mut self, size: u16) {
        if size.is_power_of_two() && size <= self.max && !self.state.ready {
            self.state.size = size;
        }
    }

    /// Where the parts lie for a driver of the legacy interface, which gives a page and no size (2.7.2).
    pub fn set_legacy_page(&mut self, page: u32) {
        const ALIGN: u64 = 4096;
        let size = u64::from(self.state.size);
        let s = &mut self.state;
        s.descriptors = u64::from(page) * ALIGN;
        s.available = s.descriptors + DESCRIPTOR * size;
        s.used = (s.available + 6 + 2 * size).next_multiple_of(ALIGN);
        s.ready = page != 0;
    }

    /// What `set_legacy_page` was given.
    pub fn legacy_page(&self) -> u32 {
        if self.state.ready { (self.state.descriptors >> 12) as u32 } else { 0 }
    }

    /// The next buffer that is available, without taking it.
    pub fn peek(&self, dma: &Dma, indirect: bool) -> Result<Option<Chain>, Broken> {
        let s = &self.state;
        if !s.ready {
            return Ok(None);
        }
        match read_u16(dma, s.available.wrapping_add(2))?.wrapping_sub(s.next_available) {
            0 => return Ok(None),
            n if n > s.size => return Err(Broken("more buffers available than the ring has")),
            _ => {}
        }
        let slot = u64::from(s.next_available & (s.size - 1));
        let head = read_u16(dma, s.available.wrapping_add(4 + 2 * slot))?;
        let mut chain = Chain { head, readable: Vec::new(), writable: Vec::new() };
        self.walk(dma, head, indirect, &mut chain)?;
        if chain.readable_len() > MAX_BYTES || chain.writable_len() > MAX_BYTES {
            return Err(Broken("a chain of more than 4 GiB"));
        }
        Ok(Some(chain))
    }

    /// Has the driver nothing more in the available ring?
    pub fn is_empty(&self, dma: &Dma) -> bool {
        read_u16(dma, self.state.available.wrapping_add(2)) == Ok(self.state.next_available)
    }

    fn walk(&self, dma: &Dma, head: u16, indirect: bool, chain: &mut Chain) -> Result<(), Broken> {
        let mut index = head;
        for _ in 0..self.state.size {
            if index >= self.state.size {
                return Err(Broken("an index beyond the descriptor table"));
            }
            let descriptor = Descriptor::read(dma, self.state.descriptors, index)?;
            if descriptor.is(flags::INDIRECT) {
                return if indirect && !descriptor.is(flags::NEXT) {
                    walk_indirect(dma, &descriptor, chain)
                } else {
                    Err(Broken("an indirect descriptor where none may be"))
                };
            }
            chain.add(&descriptor)?;
            if !descriptor.is(flags::NEXT) {
                return Ok(());
            }
            index = descriptor.next;
        }
        Err(Broken("a chain that is too long, or a loop"))
    }

    /// Takes the buffer that `peek` shows.
    pub fn pop(&mut self, dma: &Dma, indirect: bool) -> Result<Option<Chain>, Broken> {
        let chain = self.peek(dma, indirect)?;
        if chain.is_some() {
            self.state.next_available = self.state.next_available.wrapping_add(1);
        }
        Ok(chain)
    }

    /// Asks the driver to notify us of the next buffer (with EVENT_IDX; else it always does).
    pub fn ask_for_notification(&self, dma: &Dma) -> Result<(), Broken> {
        let s = &self.state;
        let at = s.used.wrapping_add(4 + 8 * u64::from(s.size));
        write(dma, at, &s.next_available.to_le_bytes())
    }

    /// Gives a buffer back, of which `written` bytes were written.
    pub fn push(&mut self, dma: &Dma, chain: &Chain, written: u32) -> Result<(), Broken> {
        let s = &mut self.state;
        let slot = u64::from(s.next_used & (s.size - 1));
        let mut element = [0; 8];
        element[..2].copy_from_slice(&chain.head.to_le_bytes());
        element[4..].copy_from_slice(&written.to_le_bytes());
        write(dma, s.used.wrapping_add(4 + 8 * slot), &element)?;
        s.next_used = s.next_used.wrapping_add(1);
        write(dma, s.used.wrapping_add(2), &s.next_used.to_le_bytes())
    }

    /// Does the driver want an interrupt for what was pushed since the last call (2.7.7)?
    pub fn wants_interrupt(&mut self, dma: &Dma, event_idx: bool) -> Result<bool, Broken> {
        let s = &mut self.state;
        let new = s.next_used;
        let old = s.signalled.replace(new);
        if !event_idx {
            return Ok(read_u16(dma, s.available)? & NO_INTERRUPT == 0);
        }
        let event = read_u16(dma, s.available.wrapping_add(4 + 2 * u64::from(s.size)))?;
        Ok(old.is_none_or(|old| new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)))
    }

    /// The state, whoever saved it, as one that this queue can be in.
    pub fn restore(&mut self, state: QueueState) {
        self.state = state;
        if !self.state.size.is_power_of_two() || self.state.size > self.max {
            (self.state.size, self.state.ready) = (self.max, false);
        }
    }
}

fn walk_indirect(dma: &Dma, table: &Descriptor, chain: &mut Chain) -> Result<(), Broken> {
    let entries = u64::from(table.len) / DESCRIPTOR;
    if entries == 0 || u64::from(table.len) % DESCRIPTOR != 0 {
        return Err(Broken("an indirect table of a strange length"));
    }
    let mut index = 0;
    for _ in 0..MAX_DESCRIPTORS {
        if u64::from(index) >= entries {
            return Err(Broken("an index beyond the indirect table"));
        }
        let descriptor = Descriptor::read(dma, table.at, index)?;
        if descriptor.is(flags::INDIRECT) {
            return Err(Broken("an indirect descriptor in an indirect table"));
        }
        chain.add(&descriptor)?;
        if !descriptor.is(flags::NEXT) {
            return Ok(());
        }
        index = descriptor.next;
    }
    Err(Broken("a chain that is too long, or a loop"))
}
