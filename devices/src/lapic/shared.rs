//! The local APICs of a machine, as its processors, the board and each other reach them.
//!
//! Requirement: a processor uses its local APIC all the time (EOI, task priority, timer, IPIs), and must not stand in line for it with
//! accesses to other devices.
//!
//! Solution: a lock for each, and beside it what others ask most often, published as words that are read without it: what waits
//! for the processor, when its timer fires, where its window is, whom it is in logical destinations. Whoever has changed an APIC under its lock
//! publishes before letting go. The line of the 8259A pair, which belongs to the devices, is published here too.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Effect, LAPIC_LEN, LapicState, LocalApic, addressed, apic_base};
use crate::apic::{ApicMessage, Delivery, Destination};
use crate::{Ns, Timed};

/// What waits for a processor at its local APIC.
pub mod signal {
    /// An interrupt above the processor priority.
    pub const VECTOR: u32 = 1 << 0;
    /// An ExtINT message.
    pub const EXT_INT: u32 = 1 << 1;
    /// An NMI.
    pub const NMI: u32 = 1 << 2;
    /// An SMI.
    pub const SMI: u32 = 1 << 3;
    /// An INIT.
    pub const INIT: u32 = 1 << 4;
    /// A start-up IPI.
    pub const START_UP: u32 = 1 << 5;
    /// Nothing: but the 8259A pair's line reaches the processor.
    pub const PASSES_PIC: u32 = 1 << 6;
}

/// A deadline that does not come.
const NEVER: Ns = Ns::MAX;

/// One local APIC. Its words are apart from those of others: all processors read their own ones often.
///
/// Lock order: the last one, after the board, a PCI function, the interrupt controllers ([`crate::pc::Interrupts`]) and the message port; one
/// local APIC, never a second one.
#[repr(align(128))]
struct Slot {
    signals: AtomicU32,
    id: u32,
    base: AtomicU64,
    deadline: AtomicU64,
    /// LDR above DFR.
    logical: AtomicU64,
    apic: Mutex<LocalApic>,
}

fn put(word: &AtomicU64, value: u64) {
    // Pairs with nothing: each word stands for itself.
    if word.load(Ordering::Relaxed) != value {
        word.store(value, Ordering::Relaxed);
    }
}

impl Slot {
    fn new(apic: LocalApic) -> Self {
        let slot = Self {
            signals: AtomicU32::new(0),
            id: apic.id(),
            base: AtomicU64::new(0),
            deadline: AtomicU64::new(NEVER),
            logical: AtomicU64::new(0),
            apic: Mutex::new(LocalApic::new(apic.id())),
        };
        slot.with(|own| *own = apic);
        slot
    }

    fn lock(&self) -> MutexGuard<'_, LocalApic> {
        self.apic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(&self, f: impl FnOnce(&mut LocalApic) -> R) -> R {
        let mut apic = self.lock();
        let result = f(&mut apic);
        put(&self.base, apic.base());
        put(&self.deadline, apic.next_deadline().unwrap_or(NEVER));
        put(&self.logical, apic.logical());
        let signals = apic.signals();
        if self.signals.load(Ordering::Relaxed) != signals {
            // Before the look at whether its processor sleeps; pairs with that processor's last look before it does.
            self.signals.store(signals, Ordering::SeqCst);
        }
        result
    }

    fn base(&self) -> u64 {
        self.base.load(Ordering::Relaxed)
    }

    fn enabled(&self) -> bool {
        self.base() & apic_base::ENABLE != 0
    }

    fn matches(&self, destination: Destination) -> bool {
        let logical = self.logical.load(Ordering::Relaxed);
        addressed(self.id, self.base(), (logical >> 32) as u32, logical as u32, destination)
    }
}

/// See the module. Processors are named by their numbers; one that is not there has no APIC, and nothing waits for it.
pub struct LocalApics {
    slots: Box<[Slot]>,
    /// INTR of the 8259A pair.
    intr: AtomicBool,
}

impl LocalApics {
    /// Those with these ids.
    pub fn new(ids: impl Iterator<Item = u32>) -> Self {
        Self { slots: ids.map(|id| Slot::new(LocalApic::new(id))).collect(), intr: AtomicBool::new(false) }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// Uses that of processor `cpu`. No other one may be used meanwhile.
    pub fn with<R>(&self, cpu: usize, f: impl FnOnce(&mut LocalApic) -> R) -> R {
        self.slots[cpu].with(f)
    }

    /// Uses each in turn.
    pub fn each(&self, mut f: impl FnMut(&mut LocalApic)) {
        self.slots.iter().for_each(|slot| slot.with(&mut f));
    }

    /// What waits for processor `cpu`: see [`signal`].
    #[inline]
    pub fn signals(&self, cpu: usize) -> u32 {
        self.slots[cpu].signals.load(Ordering::SeqCst)
    }

    /// Whether `wanted` of [`signal`] waits for `cpu`.
    #[inline]
    pub fn has(&self, cpu: usize, wanted: u32) -> bool {
        self.signals(cpu) & wanted != 0
    }

    /// Whether it is the 8259A pair that interrupts `cpu`.
    pub fn pic_interrupts(&self, cpu: usize) -> bool {
        let signals = self.signals(cpu);
        signals & signal::EXT_INT != 0
            || signals & signal::PASSES_PIC != 0 && self.intr.load(Ordering::SeqCst)
    }

    /// Whether INTR is asserted to `cpu`: by the 8259A pair, or by its local APIC.
    #[inline]
    pub fn interrupt_pending(&self, cpu: usize) -> bool {
        self.has(cpu, signal::VECTOR) || self.pic_interrupts(cpu)
    }

    /// Whether anything waits for `cpu` that could interrupt it, or wake it.
    #[inline]
    pub fn anything_for(&self, cpu: usize) -> bool {
        self.has(cpu, !signal::PASSES_PIC) || self.pic_interrupts(cpu)
    }

    /// The 8259A pair's INTR. Told by who holds the devices.
    pub fn set_intr(&self, level: bool) {
        if self.intr.load(Ordering::Relaxed) != level {
            self.intr.store(level, Ordering::SeqCst);
        }
    }

    /// IA32_APIC_BASE of `cpu`.
    pub fn base(&self, cpu: usize) -> u64 {
        self.slots[cpu].base()
    }

    /// Is `gpa` in the window of `cpu`'s local APIC?
    #[inline]
    pub fn in_window(&self, cpu: usize, gpa: u64) -> bool {
        gpa & !(LAPIC_LEN - 1) == self.base(cpu) & apic_base::ADDRESS
    }

    /// When the timer of `cpu` fires; [`Timed::advance`] is to be called then.
    #[inline]
    pub fn deadline(&self, cpu: usize) -> Option<Ns> {
        Some(self.slots[cpu].deadline.load(Ordering::Relaxed)).filter(|at| *at != NEVER)
    }

    /// When the first timer of all fires.
    #[inline]
    pub fn next_deadline(&self) -> Option<Ns> {
        let first = self.slots.iter().map(|slot| slot.deadline.load(Ordering::Relaxed)).min();
        first.filter(|at| *at != NEVER)
    }

    /// Brings the timers that fire by `now` to it.
    pub fn advance(&self, now: Ns) {
        for slot in &self.slots {
            if slot.deadline.load(Ordering::Relaxed) <= now {
                slot.with(|apic| apic.advance(now));
            }
        }
    }

    /// `cpu` takes the NMI, SMI or INIT ([`signal`]) that waits for it, if one does.
    #[inline]
    pub fn take(&self, cpu: usize, which: u32) -> bool {
        self.has(cpu, which)
            && self.with(cpu, |apic| match which {
                signal::NMI => apic.take_nmi(),
                signal::SMI => apic.take_smi(),
                signal::INIT => apic.take_init(),
                _ => false,
            })
    }

    /// `cpu` takes the vector of a start-up IPI that waits for it.
    pub fn take_start_up(&self, cpu: usize) -> Option<u8> {
        if self.has(cpu, signal::START_UP) { self.with(cpu, LocalApic::take_start_up) } else { None }
    }

    /// `cpu` takes an interrupt of its local APIC: the vector, `None` if the request has gone.
    pub fn acknowledge(&self, cpu: usize) -> Option<u8> {
        self.with(cpu, |apic| apic.pending_vector().map(|_| apic.acknowledge()))
    }

    /// Hands a message to the local APICs that it is for. True if one accepted it. (One that is chosen by its priority and changes it at
    /// that moment takes the message nevertheless, or is disabled and does not.)
    pub fn deliver(&self, message: &ApicMessage, sender: Option<usize>) -> bool {
        let wanted = |index: usize, slot: &Slot| match message.destination {
            Destination::Myself => Some(index) == sender,
            Destination::Others => Some(index) != sender && slot.enabled(),
            Destination::All => slot.enabled(),
            destination => slot.matches(destination),
        };
        let all = || self.slots.iter().enumerate().filter(|(index, slot)| wanted(*index, slot));
        if message.delivery == Delivery::LowestPriority {
            // Ties go to the lowest index, so that every run decides alike.
            let candidates = all().filter_map(|(_, slot)| Some((slot.lock().arbitration_priority()?, slot)));
            let chosen = candidates.min_by_key(|(priority, _)| *priority);
            return chosen.is_some_and(|(_, slot)| slot.with(|apic| apic.accept(message)));
        }
        all().fold(false, |accepted, (_, slot)| slot.with(|apic| apic.accept(message)) | accepted)
    }

    /// The effect of an access of `cpu`, as far as it concerns local APICs; what is left is the I/O APIC's.
    pub fn perform(&self, cpu: usize, effect: Effect) -> Option<u8> {
        match effect {
            Effect::None => None,
            Effect::Send(message) => {
                self.deliver(&message, Some(cpu));
                None
            }
            Effect::Eoi(vector) => Some(vector),
        }
    }

    /// Registers and pending signals of all.
    pub fn save(&self) -> Vec<LapicState> {
        self.slots.iter().map(|slot| slot.lock().save()).collect()
    }

    /// Restores what `save` gave, of as many.
    pub fn restore(&self, states: Vec<LapicState>) {
        self.slots.iter().zip(states).for_each(|(slot, state)| slot.with(|apic| apic.restore(state)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(vector: u8, destination: Destination) -> ApicMessage {
        ApicMessage { vector, delivery: Delivery::Fixed, level: false, destination }
    }

    fn pair() -> LocalApics {
        let apics = LocalApics::new(0..2);
        for cpu in 0..2 {
            apics.with(cpu, |apic| apic.window_write(0xf0, 4, 0x1ff, 0));
        }
        apics
    }

    #[test]
    fn what_is_published_is_what_the_registers_say() {
        let apics = pair();
        assert!(!apics.anything_for(1) && apics.deadline(1).is_none());
        assert!(apics.deliver(&fixed(0x41, Destination::Physical(1)), Some(0)));
        assert!(apics.has(1, signal::VECTOR) && apics.interrupt_pending(1) && !apics.anything_for(0));
        // Masked by priority, and shown again.
        apics.with(1, |apic| apic.set_cr8(4));
        assert!(!apics.anything_for(1));
        apics.with(1, |apic| apic.set_cr8(3));
        assert_eq!((apics.acknowledge(1), apics.acknowledge(1)), (Some(0x41), None));
        apics.with(1, |apic| apic.window_write(0x320, 4, 0x42, 0));
        apics.with(1, |apic| apic.window_write(0x3e0, 4, 0xb, 0));
        apics.with(1, |apic| apic.window_write(0x380, 4, 5_000, 100));
        assert_eq!((apics.deadline(1), apics.next_deadline()), (Some(5_100), Some(5_100)));
        apics.advance(5_099);
        assert!(!apics.anything_for(1));
        apics.advance(5_100);
        assert!(apics.next_deadline().is_none() && !apics.has(1, signal::VECTOR), "41h is in service");
        apics.with(1, |apic| apic.window_write(0xb0, 4, 0, 5_200));
        assert!(apics.has(1, signal::VECTOR));
    }

    #[test]
    fn the_line_of_the_8259a_reaches_whom_lint0_lets() {
        let apics = LocalApics::new(0..2);
        apics.set_intr(true);
        assert_eq!([0, 1].map(|cpu| apics.anything_for(cpu)), [true, false]);
        apics.with(0, |apic| apic.window_write(0x350, 4, 0x1_0700, 0));
        assert!(!apics.anything_for(0));
        apics.with(0, |apic| {
            apic.accept(&ApicMessage { delivery: Delivery::ExtInt, ..fixed(0, Destination::All) })
        });
        apics.set_intr(false);
        assert!(apics.pic_interrupts(0) && !apics.has(0, signal::VECTOR));
    }

    /// What is published of destinations decides as the APIC itself would.
    #[test]
    fn destinations_by_published_words() {
        let apics = pair();
        apics.with(1, |apic| apic.window_write(0xd0, 4, 2 << 24, 0));
        let reach = |destination| [0, 1].map(|cpu| apics.slots[cpu].matches(destination));
        assert_eq!(reach(Destination::Logical(2)), [false, true]);
        assert_eq!(reach(Destination::Physical(0)), [true, false]);
        apics.with(1, |apic| apic.set_base(apic.base() & !apic_base::ENABLE));
        assert_eq!(reach(Destination::Physical(crate::apic::BROADCAST)), [true, false]);
        assert!(!apics.deliver(&fixed(0x41, Destination::Logical(2)), Some(0)));
    }

    /// IPIs from several threads: none is lost, and the receiver need not lock to know.
    #[test]
    fn messages_from_several_threads() {
        const VECTORS: std::ops::Range<u8> = 0x30..0x70;
        let apics = pair();
        let seen = std::thread::scope(|scope| {
            for part in 0..2 {
                let apics = &apics;
                scope.spawn(move || {
                    for vector in VECTORS.filter(|vector| vector % 2 == part) {
                        apics.deliver(&fixed(vector, Destination::Physical(1)), Some(0));
                    }
                });
            }
            let mut seen = std::collections::BTreeSet::new();
            while seen.len() < VECTORS.len() {
                if apics.interrupt_pending(1) {
                    seen.extend(apics.acknowledge(1));
                    apics.with(1, |apic| apic.window_write(0xb0, 4, 0, 0));
                }
            }
            seen
        });
        assert!(seen.into_iter().eq(VECTORS));
        assert!(!apics.anything_for(1));
    }
}
