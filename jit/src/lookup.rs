//! From RIP to a block: jump cache, table, decoder.

#![expect(unsafe_code, reason = "the jump cache holds blocks by address between safepoints")]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use softmmu::{FetchPage, Gpa, MemTrap, PAGE_SIZE};
use x86::decode::{self, MAX_LEN};
use x86::state::{Mode, seg};
use x86::{Block, Vcpu};

use crate::engine::{Engine, TierPolicy};
use crate::layout::jump_tag;
use crate::source::Source;
use crate::tb::{Key, Tb, key_mode, lines};

/// Bytes that nearly all blocks end within: so many are tracked before they are decoded.
const REACH: u64 = 4 * 64;

impl Engine {
    /// The block at RIP. `None`: fetching it raised an exception, or it was executed already; look at the state again.
    /// Valid until the next safepoint.
    #[inline]
    pub(crate) fn find(&mut self, cpu: &mut Vcpu) -> Option<*const Tb> {
        let mode = cpu.st.mode;
        let rip = cpu.st.rip;
        let flat = mode.has(Mode::CODE64) || mode.has(Mode::CS_FLAT);
        let linear =
            if flat { rip } else { cpu.st.seg[seg::CS as usize].base.wrapping_add(rip) & 0xffff_ffff };
        let tag = jump_tag(cpu.mmu.epoch(), mode);
        let e = self.me.jump(linear);
        let tb = e.tb.load(Ordering::Relaxed);
        if e.rip.load(Ordering::Relaxed) == linear && !tb.is_null() {
            if e.tag.load(Ordering::Relaxed) == tag {
                if flat {
                    // The tag says that the entry is for flat code: nothing of the block itself need be looked at.
                    return Some(tb);
                }
                // SAFETY: blocks that the jump cache had after the last safepoint are alive until the next one.
                let t = unsafe { &*tb };
                if t.key.rip == rip && u64::from(t.block.len) <= decode::fetch_room(cpu) {
                    return Some(tb);
                }
            }
            // SAFETY: as above.
            if self.revalidate(cpu, linear, tag, unsafe { &*tb }) {
                return Some(tb);
            }
        }
        self.find_slow(cpu)
    }

    /// The jump cache has a block for this address from another epoch (before an address-space switch, mostly): if the
    /// page is mapped to the same place and the mode is the block's, the entry is good again.
    fn revalidate(&mut self, cpu: &mut Vcpu, linear: u64, tag: u64, t: &Tb) -> bool {
        if !t.flat || t.key.mode != key_mode(cpu.st.mode) || t.key.rip != cpu.st.rip {
            return false;
        }
        let Ok(at) = cpu.mmu.fetch(linear) else { return false };
        if t.key.ram != at.page.offset() + linear % PAGE_SIZE {
            return false;
        }
        if let Some((page, _)) = t.spans[1] {
            let next = cpu.mmu.fetch(page_after(cpu, linear));
            if !next.is_ok_and(|p| p.page == page) {
                return false;
            }
        }
        // The fetch may have begun a new epoch; then the next look-up finds out.
        self.me.enter(linear, tag, t) && tag == jump_tag(cpu.mmu.epoch(), cpu.st.mode)
    }

    #[cold]
    #[inline(never)]
    fn find_slow(&mut self, cpu: &mut Vcpu) -> Option<*const Tb> {
        self.stats.lookups += 1;
        let linear = decode::fetch_address(cpu).ok()?;
        let at = match cpu.mmu.fetch(linear) {
            Ok(p) => p,
            Err(MemTrap::Mmio { gpa }) => {
                self.run_from_device(cpu, linear, gpa);
                return None;
            }
            Err(trap) => {
                cpu.mem_fault(seg::CS, linear, trap);
                return None;
            }
        };
        let key =
            Key { ram: at.page.offset() + linear % PAGE_SIZE, rip: cpu.st.rip, mode: key_mode(cpu.st.mode) };
        let room = decode::fetch_room(cpu);
        let known = self.shared.table.find(key).filter(|tb| tb.flat || u64::from(tb.block.len) <= room);
        let known = known.map(|tb| (std::ptr::from_ref(tb), tb.spans[1]));
        // An instruction that crosses its page depends on the next page's mapping as well.
        let known = match known {
            Some((tb, Some((page, _)))) if self.next_page(cpu, linear)?.page != page => {
                // SAFETY: it was just found in the table.
                self.shared.table.discard(unsafe { &*tb });
                None
            }
            k => k.map(|(tb, _)| tb),
        };
        let tb: *const Tb = match known {
            Some(tb) => tb,
            None => self.decode(cpu, linear, at, key)?,
        };
        // SAFETY: it was just found in the table or put there.
        let t = unsafe { &*tb };
        if t.code().is_null() && matches!(self.config.tier, TierPolicy::One | TierPolicy::Two) {
            self.compile_now(t);
        }
        let tag = jump_tag(cpu.mmu.epoch(), cpu.st.mode);
        t.enter(linear);
        // Both pages of a block over two were looked at in this epoch.
        self.me.enter(linear, tag, t).then_some(tb)
    }

    fn next_page(&mut self, cpu: &mut Vcpu, linear: u64) -> Option<FetchPage> {
        let next = page_after(cpu, linear);
        match cpu.mmu.fetch(next) {
            Ok(p) => Some(p),
            Err(MemTrap::Mmio { .. }) => {
                cpu.gp(0);
                None
            }
            Err(trap) => {
                cpu.mem_fault(seg::CS, next, trap);
                None
            }
        }
    }

    /// Decodes a block and adds it. Again where what it was decoded from was written to, or its lines stopped being tracked, meanwhile.
    fn decode(&mut self, cpu: &mut Vcpu, linear: u64, at: FetchPage, key: Key) -> Option<*const Tb> {
        let mut reach = REACH;
        loop {
            let tb = self.decode_once(cpu, linear, at, key, &mut reach)?;
            if let Some(tb) = tb {
                return Some(tb);
            }
        }
    }

    fn decode_once(
        &mut self,
        cpu: &mut Vcpu,
        linear: u64,
        at: FetchPage,
        key: Key,
        reach: &mut u64,
    ) -> Option<Option<*const Tb>> {
        let start = (linear % PAGE_SIZE) as usize;
        let room = usize::try_from(decode::fetch_room(cpu)).unwrap_or(usize::MAX);
        // Whatever is written to these lines from here on is noticed; the bytes are read after that.
        let end = (start as u64 + *reach).min(PAGE_SIZE);
        let mut page = [0; PAGE_SIZE as usize];
        let source = Source::read(self.space(), at.page, lines(start as u64, end), &mut page);
        let bytes = &page[start..];
        let bytes = &bytes[..bytes.len().min(room)];
        let (block, second) = match cpu.model.isa().block(bytes, key.rip, key.mode) {
            Some(b) => (b, None),
            None if bytes.len() >= room => {
                // The segment's limit ends within the instruction.
                cpu.gp(0);
                return None;
            }
            None => self.decode_across(cpu, linear, bytes, room, key)?,
        };
        let len = u64::from(block.len);
        let first = len.min(PAGE_SIZE - start as u64);
        let mine = lines(start as u64, start as u64 + first);
        if !source.covers(mine) {
            // It is longer than most: its end may have been written to after it was read.
            *reach = first;
            return Some(None);
        }
        let spans = [Some((at.page, mine)), second.as_ref().map(|s| (s.page, lines(0, len - first)))];
        self.stats.decoded += 1;
        let tb = Tb::new(block, key.ram, spans).decoded_from(bytes);
        if self.config.trace.guest_code {
            self.show_guest_code(&tb);
        }
        let space = self.space();
        let intact = || source.settle(space) && second.as_ref().is_none_or(|s| s.settle(space));
        Some(self.shared.table.insert(Arc::new(tb), intact).map(std::ptr::from_ref))
    }

    /// An instruction that begins with `head` at the end of a page: with what was read of the next page.
    fn decode_across(
        &mut self,
        cpu: &mut Vcpu,
        linear: u64,
        head: &[u8],
        room: usize,
        key: Key,
    ) -> Option<(Block, Option<Source>)> {
        let next = self.next_page(cpu, linear)?;
        let mut page = [0; PAGE_SIZE as usize];
        let source = Source::read(self.space(), next.page, 1, &mut page);
        let mut bytes = head.to_vec();
        bytes.extend_from_slice(&page[..MAX_LEN]);
        bytes.truncate(room);
        match cpu.model.isa().single(&bytes, key.rip, key.mode) {
            Some(b) => Some((b, Some(source))),
            None => {
                cpu.gp(0);
                None
            }
        }
    }

    /// Code in device memory or in no memory at all: read bytewise and executed once, nothing is kept.
    fn run_from_device(&mut self, cpu: &mut Vcpu, linear: u64, gpa: Gpa) {
        let room = decode::fetch_room(cpu).min(MAX_LEN as u64).min(PAGE_SIZE - linear % PAGE_SIZE);
        let now = cpu.now();
        let bytes: Vec<u8> =
            (0..room).map(|k| cpu.bus.mmio_read(gpa.0.wrapping_add(k), 1, now) as u8).collect();
        match cpu.model.isa().single(&bytes, cpu.st.rip, cpu.st.mode) {
            Some(block) => {
                // An exit asked for here is found again in the state by the next round.
                let _ = self.step_insn(cpu, &block.insns[0]);
            }
            None => {
                cpu.gp(0);
            }
        }
    }
}

/// The first byte of the next page.
fn page_after(cpu: &Vcpu, linear: u64) -> u64 {
    let next = (linear | (PAGE_SIZE - 1)).wrapping_add(1);
    if cpu.st.mode.has(Mode::CODE64) { next } else { next & 0xffff_ffff }
}
