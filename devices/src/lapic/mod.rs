//! Local APIC (SDM vol. 3, chapter 12): xAPIC memory window and x2APIC MSRs over one set of registers.
//!
//! The APIC does not know the other ones: what an access asks of them comes back as an [`Effect`], and messages that
//! are for this one are handed to [`LocalApic::accept`]. The board does the routing.
//!
//! Not there: CMCI, thermal and performance counter sources (their LVT entries exist), SMM, EOI broadcast suppression.

mod shared;
mod timer;
mod window;

use serde::{Deserialize, Serialize};

use crate::apic::{ApicMessage, BROADCAST, Delivery, Destination};
use crate::{Ns, Timed};
pub use shared::{LocalApics, signal};
use timer::Timer;

/// Physical address of the memory window after power-on.
pub const LAPIC_BASE: u64 = 0xfee0_0000;
/// Length of the memory window in bytes.
pub const LAPIC_LEN: u64 = 0x1000;

/// IA32_APIC_BASE bits (SDM vol. 3, 12.4.4 and 12.12.1).
pub mod apic_base {
    /// This CPU is the bootstrap processor.
    pub const BSP: u64 = 1 << 8;
    /// x2APIC mode.
    pub const EXTD: u64 = 1 << 10;
    /// The local APIC is enabled.
    pub const ENABLE: u64 = 1 << 11;
    /// The window's page; 52 bits of physical address.
    pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
}

const LVT_MASKED: u32 = 1 << 16;
const SVR_ENABLE: u32 = 1 << 8;

/// Indices into `lvt`, in register order from 320h on.
#[derive(Clone, Copy)]
enum Lvt {
    Timer = 0,
    Lint0 = 3,
    Lint1 = 4,
    Error = 5,
}
/// Writable bits of each LVT entry.
const LVT_WRITABLE: [u32; 6] = [0x7_00ff, 0x1_07ff, 0x1_07ff, 0x1_a7ff, 0x1_a7ff, 0x1_00ff];

/// Bits of the error status register (SDM vol. 3, figure 12-9).
mod esr {
    pub const SEND_ILLEGAL_VECTOR: u32 = 1 << 5;
    pub const RECEIVE_ILLEGAL_VECTOR: u32 = 1 << 6;
    pub const ILLEGAL_REGISTER: u32 = 1 << 7;
}

/// What an access asks of the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Send this interprocessor interrupt.
    Send(ApicMessage),
    /// A level-triggered interrupt with this vector has ended: tell the I/O APIC.
    Eoi(u8),
}

/// 256 bits, one per vector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Vectors([u32; 8]);

impl Vectors {
    fn get(&self, vector: u8) -> bool {
        self.0[usize::from(vector >> 5)] >> (vector & 31) & 1 != 0
    }
    fn put(&mut self, vector: u8, set: bool) {
        let bit = 1 << (vector & 31);
        let word = &mut self.0[usize::from(vector >> 5)];
        *word = if set { *word | bit } else { *word & !bit };
    }
    fn highest(&self) -> Option<u8> {
        let (index, word) = self.0.iter().enumerate().rev().find(|(_, word)| **word != 0)?;
        Some((index as u32 * 32 + 31 - word.leading_zeros()) as u8)
    }
}

/// Registers and pending signals of a local APIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LapicState {
    id: u32,
    base: u64,
    tpr: u8,
    ldr: u32,
    dfr: u32,
    svr: u32,
    irr: Vectors,
    isr: Vectors,
    tmr: Vectors,
    /// Errors as last latched by a write of ESR.
    esr: u32,
    /// Errors since then.
    errors: u32,
    lvt: [u32; 6],
    icr: u64,
    timer: Timer,
    nmi: bool,
    smi: bool,
    init: bool,
    start_up: Option<u8>,
    /// Since power-on or INIT no start-up IPI was taken: one that comes while the CPU runs is dropped. (Disabling the APIC
    /// starts no new wait.)
    waits: bool,
    /// An ExtINT message came from the I/O APIC.
    ext_int: bool,
}

/// One CPU's local APIC.
pub struct LocalApic {
    state: LapicState,
}

impl LocalApic {
    /// The APIC at power-on, with APIC id `id`; id 0 is the bootstrap processor.
    pub fn new(id: u32) -> Self {
        let bsp = if id == 0 { apic_base::BSP } else { 0 };
        let mut state = LapicState {
            id,
            base: LAPIC_BASE | apic_base::ENABLE | bsp,
            tpr: 0,
            ldr: 0,
            dfr: 0,
            svr: 0,
            irr: Vectors::default(),
            isr: Vectors::default(),
            tmr: Vectors::default(),
            esr: 0,
            errors: 0,
            lvt: [0; 6],
            icr: 0,
            timer: Timer::default(),
            nmi: false,
            smi: false,
            init: false,
            start_up: None,
            waits: bsp == 0,
            ext_int: false,
        };
        state.reset_registers();
        Self { state }
    }

    /// Platform reset.
    pub fn reset(&mut self) {
        *self = Self::new(self.state.id);
    }

    /// The APIC id.
    pub fn id(&self) -> u32 {
        self.state.id
    }

    /// IA32_APIC_BASE.
    pub fn base(&self) -> u64 {
        self.state.base
    }

    /// Writes IA32_APIC_BASE. False for the writes that raise #GP: reserved bits and the mode changes that SDM vol. 3,
    /// figure 12-27 does not have. The BSP flag keeps its value.
    pub fn set_base(&mut self, value: u64) -> bool {
        use apic_base::{ADDRESS, BSP, ENABLE, EXTD};
        const MODE: u64 = ENABLE | EXTD;
        let s = &mut self.state;
        if value & !(ADDRESS | BSP | MODE) != 0 {
            return false;
        }
        match (s.base & MODE, value & MODE) {
            (_, EXTD) | (0, MODE) | (MODE, ENABLE) => return false,
            (old, 0) if old != 0 => s.reset_registers(),
            (ENABLE, MODE) => s.icr &= 0xffff_ffff,
            _ => {}
        }
        s.base = value & !BSP | s.base & BSP;
        true
    }

    /// Whether IA32_APIC_BASE enables the APIC.
    pub fn enabled(&self) -> bool {
        self.state.base & apic_base::ENABLE != 0
    }

    /// Whether the APIC is in x2APIC mode (implies enabled).
    pub fn x2apic(&self) -> bool {
        self.state.x2apic()
    }

    /// The task priority class, CR8.
    pub fn cr8(&self) -> u8 {
        self.state.tpr >> 4
    }

    /// Writes CR8.
    pub fn set_cr8(&mut self, cr8: u8) {
        self.state.tpr = cr8 << 4;
    }

    /// Whether the 8259A's INTR reaches the CPU: through LINT0 in ExtINT mode, or directly while the APIC is disabled.
    pub fn passes_pic(&self) -> bool {
        if !self.enabled() {
            return self.state.base & apic_base::BSP != 0;
        }
        let lint0 = self.state.lvt[Lvt::Lint0 as usize];
        lint0 & LVT_MASKED == 0 && Delivery::from_bits(lint0 >> 8) == Some(Delivery::ExtInt)
    }

    /// The INTA cycle goes to the 8259A now.
    pub fn take_ext_int(&mut self) {
        self.state.ext_int = false;
    }

    /// The vector to be delivered next: requested, and above the processor priority.
    pub fn pending_vector(&self) -> Option<u8> {
        let s = &self.state;
        let usable = s.base & apic_base::ENABLE != 0 && s.svr & SVR_ENABLE != 0;
        s.irr.highest().filter(|vector| usable && vector >> 4 > s.ppr() >> 4)
    }

    /// The CPU takes the interrupt: its vector, or the spurious one if the request has gone (TPR was raised).
    pub fn acknowledge(&mut self) -> u8 {
        let Some(vector) = self.pending_vector() else { return self.state.svr as u8 };
        self.state.irr.put(vector, false);
        self.state.isr.put(vector, true);
        vector
    }

    /// Takes a pending NMI.
    pub fn take_nmi(&mut self) -> bool {
        std::mem::take(&mut self.state.nmi)
    }

    /// Takes a pending SMI.
    pub fn take_smi(&mut self) -> bool {
        std::mem::take(&mut self.state.smi)
    }

    /// SMI#, from the chipset.
    pub fn raise_smi(&mut self) {
        self.state.smi = true;
    }

    /// Takes a pending INIT.
    pub fn take_init(&mut self) -> bool {
        std::mem::take(&mut self.state.init)
    }

    /// Takes the vector of a pending start-up IPI.
    pub fn take_start_up(&mut self) -> Option<u8> {
        let vector = self.state.start_up.take();
        self.state.waits &= vector.is_none();
        vector
    }

    /// The 8259A's INTR rose, with LINT0 possibly in a mode other than ExtINT.
    pub fn lint0_rose(&mut self) {
        self.local_interrupt(Lvt::Lint0);
    }

    /// The board's NMI line rose.
    pub fn lint1_rose(&mut self) {
        self.local_interrupt(Lvt::Lint1);
    }

    fn local_interrupt(&mut self, source: Lvt) {
        let entry = self.state.lvt[source as usize];
        if !self.enabled() {
            // The pin is the CPU's NMI or INTR then; INTR is a level that `passes_pic` shows.
            self.state.nmi |= matches!(source, Lvt::Lint1);
            return;
        }
        if entry & LVT_MASKED != 0 {
            return;
        }
        match Delivery::from_bits(entry >> 8) {
            Some(Delivery::Fixed) => self.state.request(entry as u8, entry & 1 << 15 != 0),
            Some(Delivery::Nmi) => self.state.nmi = true,
            Some(Delivery::Smi) => self.state.smi = true,
            _ => {} // ExtINT is a level that `passes_pic` shows
        }
    }

    /// Whether a message with this destination is for this APIC. Shorthands are the board's to resolve.
    pub fn matches(&self, destination: Destination) -> bool {
        let s = &self.state;
        addressed(s.id, s.base, s.ldr, s.dfr, destination)
    }

    /// LDR above DFR: what [`addressed`] asks beside id and IA32_APIC_BASE.
    fn logical(&self) -> u64 {
        u64::from(self.state.ldr) << 32 | u64::from(self.state.dfr)
    }

    /// What waits for the processor, as bits of [`signal`].
    fn signals(&self) -> u32 {
        let s = &self.state;
        let bits = [
            (signal::VECTOR, self.pending_vector().is_some()),
            (signal::EXT_INT, s.ext_int),
            (signal::NMI, s.nmi),
            (signal::SMI, s.smi),
            (signal::INIT, s.init),
            (signal::START_UP, s.start_up.is_some()),
            (signal::PASSES_PIC, self.passes_pic()),
        ];
        bits.into_iter().filter(|(_, on)| *on).fold(0, |all, (bit, _)| all | bit)
    }

    /// Rank for lowest-priority arbitration: `None` while the APIC is disabled by software.
    pub fn arbitration_priority(&self) -> Option<u8> {
        (self.state.svr & SVR_ENABLE != 0).then(|| self.state.ppr())
    }

    /// Takes a message that is for this APIC. False if it is not accepted.
    pub fn accept(&mut self, message: &ApicMessage) -> bool {
        let s = &mut self.state;
        let ApicMessage { vector, delivery, level, destination: _ } = *message;
        match delivery {
            Delivery::Fixed | Delivery::LowestPriority => {
                if s.svr & SVR_ENABLE == 0 {
                    return false;
                }
                s.request(vector, level);
            }
            Delivery::ExtInt => s.ext_int = true,
            Delivery::Nmi => s.nmi = true,
            Delivery::Smi => s.smi = true,
            Delivery::Init => {
                s.reset_registers();
                s.waits = s.base & apic_base::BSP == 0;
                s.init = true;
            }
            Delivery::StartUp if s.waits => s.start_up = Some(vector),
            Delivery::StartUp => {}
        }
        true
    }

    /// IA32_TSC_DEADLINE at `now`: 0 when disarmed.
    pub fn tsc_deadline(&mut self, now: Ns) -> u64 {
        self.advance(now);
        self.state.timer.tsc_deadline()
    }

    /// Writes IA32_TSC_DEADLINE. A deadline in the past interrupts at once.
    pub fn set_tsc_deadline(&mut self, tsc: u64, now: Ns) {
        self.advance(now);
        self.state.timer.set_tsc_deadline(tsc);
        self.advance(now);
    }

    /// Registers and pending signals.
    pub fn save(&self) -> LapicState {
        let Self { state } = self;
        state.clone()
    }

    /// Restores what `save` gave.
    pub fn restore(&mut self, mut state: LapicState) {
        state.timer.sanitise();
        self.state = state;
    }
}

/// Whether a message with this destination is for the APIC with these registers. Shorthands are the board's to resolve.
fn addressed(id: u32, base: u64, ldr: u32, dfr: u32, destination: Destination) -> bool {
    match destination {
        _ if base & apic_base::ENABLE == 0 => false,
        Destination::Physical(dest) => dest == BROADCAST || dest == id,
        Destination::Logical(BROADCAST) => true,
        Destination::Logical(dest) if base & apic_base::EXTD != 0 => {
            let ldr = logical_id(id);
            dest >> 16 == ldr >> 16 && dest & ldr & 0xffff != 0
        }
        Destination::Logical(dest) => {
            let (dest, ldr) = (dest & 0xff, ldr >> 24);
            if dfr >> 28 == 0xf { dest & ldr != 0 } else { dest >> 4 == ldr >> 4 && dest & ldr & 0xf != 0 }
        }
        Destination::All | Destination::Others | Destination::Myself => false,
    }
}

/// x2APIC logical id: derived from the APIC id (SDM vol. 3, 12.12.10.2).
fn logical_id(id: u32) -> u32 {
    id >> 4 << 16 | 1 << (id & 15)
}

impl LapicState {
    /// The state after INIT (SDM vol. 3, 12.4.7.3), which power-on shares: id and IA32_APIC_BASE stay.
    fn reset_registers(&mut self) {
        self.tpr = 0;
        self.ldr = 0;
        self.dfr = u32::MAX;
        self.svr = 0xff;
        self.irr = Vectors::default();
        self.isr = Vectors::default();
        self.tmr = Vectors::default();
        self.esr = 0;
        self.errors = 0;
        self.lvt = [LVT_MASKED; 6];
        if self.base & apic_base::BSP != 0 {
            // Virtual wire mode, as PC firmware leaves it: a guest that never looks at the APIC gets its interrupts
            // from the 8259A.
            self.lvt[Lvt::Lint0 as usize] = 0x700;
        }
        self.icr = 0;
        self.timer = Timer::default();
        self.nmi = false;
        self.smi = false;
        self.init = false;
        self.start_up = None;
        self.ext_int = false;
    }

    fn x2apic(&self) -> bool {
        self.base & apic_base::EXTD != 0
    }

    fn ppr(&self) -> u8 {
        let in_service = self.isr.highest().unwrap_or(0);
        if self.tpr >> 4 >= in_service >> 4 { self.tpr } else { in_service & 0xf0 }
    }

    fn request(&mut self, vector: u8, level: bool) {
        if vector < 16 {
            self.error(esr::RECEIVE_ILLEGAL_VECTOR);
        } else {
            self.irr.put(vector, true);
            self.tmr.put(vector, level);
        }
    }

    fn error(&mut self, bits: u32) {
        self.errors |= bits;
        let entry = self.lvt[Lvt::Error as usize];
        // An error vector that is itself illegal must not report itself.
        if entry & LVT_MASKED == 0 && entry as u8 >= 16 {
            self.request(entry as u8, false);
        }
    }

    fn eoi(&mut self) -> Effect {
        let Some(vector) = self.isr.highest() else { return Effect::None };
        self.isr.put(vector, false);
        if self.tmr.get(vector) { Effect::Eoi(vector) } else { Effect::None }
    }

    fn write_svr(&mut self, value: u32) {
        self.svr = value & 0x3ff;
        if self.svr & SVR_ENABLE == 0 {
            // SDM vol. 3, 12.4.7.2: all LVT entries are masked while the APIC is disabled by software.
            self.lvt.iter_mut().for_each(|entry| *entry |= LVT_MASKED);
        }
    }

    fn write_lvt(&mut self, index: usize, value: u32) {
        let disabled = if self.svr & SVR_ENABLE == 0 { LVT_MASKED } else { 0 };
        let old = self.lvt[index];
        self.lvt[index] = value & LVT_WRITABLE[index] | disabled;
        if index == Lvt::Timer as usize {
            self.timer.set_mode(old >> 17 & 3, value >> 17 & 3);
        }
    }

    /// Sends what ICR holds.
    fn send(&mut self) -> Effect {
        let low = self.icr as u32;
        let vector = low as u8;
        let Some(delivery) = Delivery::from_bits(low >> 8) else { return Effect::None };
        let level_deassert = delivery == Delivery::Init && low & 0xc000 == 0x8000;
        if level_deassert || delivery == Delivery::ExtInt {
            return Effect::None; // INIT level de-assert exists for CPUs before the Pentium 4 only
        }
        if matches!(delivery, Delivery::Fixed | Delivery::LowestPriority) && vector < 16 {
            self.error(esr::SEND_ILLEGAL_VECTOR);
            return Effect::None;
        }
        let logical = low & 1 << 11 != 0;
        let destination = match (low >> 18 & 3, logical) {
            (0, false) if self.x2apic() => Destination::Physical((self.icr >> 32) as u32),
            (0, true) if self.x2apic() => Destination::Logical((self.icr >> 32) as u32),
            (0, _) => Destination::from_byte(logical, (self.icr >> 56) as u8),
            (1, _) => Destination::Myself,
            (2, _) => Destination::All,
            _ => Destination::Others,
        };
        Effect::Send(ApicMessage { vector, delivery, level: false, destination })
    }
}

impl Timed for LocalApic {
    fn next_deadline(&self) -> Option<Ns> {
        let entry = self.state.lvt[Lvt::Timer as usize];
        self.state.timer.next_fire().filter(|_| entry & LVT_MASKED == 0)
    }

    fn advance(&mut self, now: Ns) {
        if self.state.timer.advance(now) {
            let entry = self.state.lvt[Lvt::Timer as usize];
            if entry & LVT_MASKED == 0 {
                self.state.request(entry as u8, false);
            }
        }
    }
}

#[cfg(test)]
mod tests;
