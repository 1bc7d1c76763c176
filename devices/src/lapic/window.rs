//! Register access: the xAPIC memory window and the x2APIC MSRs.

use super::{Effect, LapicState, LocalApic, esr};
use crate::apic::{ApicMessage, Delivery, Destination};
use crate::{Ns, Timed};

/// Version 14h, highest LVT entry 5.
const VERSION: u32 = 0x0005_0014;

/// Register numbers: window offset / 16, or MSR - 800h (SDM vol. 3, tables 12-1 and 12-6).
mod reg {
    pub const ID: u32 = 0x02;
    pub const VERSION: u32 = 0x03;
    pub const TPR: u32 = 0x08;
    pub const APR: u32 = 0x09;
    pub const PPR: u32 = 0x0a;
    pub const EOI: u32 = 0x0b;
    pub const RRD: u32 = 0x0c;
    pub const LDR: u32 = 0x0d;
    pub const DFR: u32 = 0x0e;
    pub const SVR: u32 = 0x0f;
    pub const ISR: u32 = 0x10;
    pub const TMR: u32 = 0x18;
    pub const IRR: u32 = 0x20;
    pub const ESR: u32 = 0x28;
    pub const ICR_LOW: u32 = 0x30;
    pub const ICR_HIGH: u32 = 0x31;
    pub const LVT_FIRST: u32 = 0x32;
    pub const LVT_LAST: u32 = 0x37;
    pub const INITIAL_COUNT: u32 = 0x38;
    pub const CURRENT_COUNT: u32 = 0x39;
    pub const DIVIDE: u32 = 0x3e;
    pub const SELF_IPI: u32 = 0x3f;
}

impl LapicState {
    fn read(&self, register: u32, now: Ns) -> Option<u32> {
        let vectors = |of: &super::Vectors| of.0[(register & 7) as usize];
        Some(match register {
            reg::ID if self.x2apic() => self.id,
            reg::ID => self.id << 24,
            reg::VERSION => VERSION,
            reg::TPR => self.tpr.into(),
            reg::APR | reg::RRD => 0,
            reg::PPR => self.ppr().into(),
            reg::EOI => 0,
            reg::LDR if self.x2apic() => super::logical_id(self.id),
            reg::LDR => self.ldr,
            reg::DFR => self.dfr,
            reg::SVR => self.svr,
            reg::ISR..=0x17 => vectors(&self.isr),
            reg::TMR..=0x1f => vectors(&self.tmr),
            reg::IRR..=0x27 => vectors(&self.irr),
            reg::ESR => self.esr,
            reg::ICR_LOW => self.icr as u32,
            reg::ICR_HIGH => (self.icr >> 32) as u32,
            reg::LVT_FIRST..=reg::LVT_LAST => self.lvt[(register - reg::LVT_FIRST) as usize],
            reg::INITIAL_COUNT => self.timer.initial(),
            reg::CURRENT_COUNT => self.timer.current(now),
            reg::DIVIDE => self.timer.divide_config(),
            _ => return None,
        })
    }

    /// `None` for a register that cannot be written.
    fn write(&mut self, register: u32, value: u32, now: Ns) -> Option<Effect> {
        match register {
            reg::TPR => self.tpr = value as u8,
            reg::EOI => return Some(self.eoi()),
            reg::LDR => self.ldr = value & 0xff00_0000,
            reg::DFR => self.dfr = value | 0x0fff_ffff,
            reg::SVR => self.write_svr(value),
            reg::ESR => self.esr = std::mem::take(&mut self.errors),
            reg::ICR_LOW => {
                // Bit 12, delivery status: what was sent has been delivered.
                self.icr = self.icr & !0xffff_ffff | u64::from(value & 0x000c_cfff);
                return Some(self.send());
            }
            reg::ICR_HIGH => self.icr = self.icr & 0xffff_ffff | u64::from(value & 0xff00_0000) << 32,
            reg::LVT_FIRST..=reg::LVT_LAST => self.write_lvt((register - reg::LVT_FIRST) as usize, value),
            reg::INITIAL_COUNT => self.timer.set_initial(value, now),
            reg::DIVIDE => self.timer.set_divide_config(value, now),
            _ => return None,
        }
        Some(Effect::None)
    }
}

impl LocalApic {
    /// Reads the memory window. Registers are 32 bits at multiples of 16; other bytes read 0 (undefined in the SDM).
    /// While the window is not there (disabled, x2APIC mode) the read finds nobody.
    pub fn window_read(&mut self, offset: u64, size: u8, now: Ns) -> u64 {
        self.advance(now);
        if !self.enabled() || self.x2apic() {
            return u64::MAX;
        }
        let within = offset & 15;
        if within + u64::from(size.min(4)) > 4 {
            return 0;
        }
        let register = (offset >> 4) as u32;
        let value = self.state.read(register, now).unwrap_or_else(|| {
            self.state.error(esr::ILLEGAL_REGISTER);
            0
        });
        u64::from(value) >> (8 * within)
    }

    /// Writes the memory window: aligned 32-bit stores, as the SDM demands; others are dropped.
    pub fn window_write(&mut self, offset: u64, size: u8, value: u64, now: Ns) -> Effect {
        self.advance(now);
        if !self.enabled() || self.x2apic() || offset & 15 != 0 || size < 4 {
            return Effect::None;
        }
        let register = (offset >> 4) as u32;
        self.state.write(register, value as u32, now).unwrap_or_else(|| {
            if self.state.read(register, now).is_none() {
                self.state.error(esr::ILLEGAL_REGISTER);
            }
            Effect::None
        })
    }

    /// RDMSR 800h to 8FFh; `None` raises #GP.
    pub fn msr_read(&mut self, msr: u32, now: Ns) -> Option<u64> {
        self.advance(now);
        let register = msr.checked_sub(0x800).filter(|register| *register < 0x40)?;
        if !self.x2apic() {
            return None;
        }
        match register {
            reg::APR | reg::EOI | reg::RRD | reg::DFR | reg::ICR_HIGH | reg::SELF_IPI => None,
            reg::ICR_LOW => Some(self.state.icr),
            _ => self.state.read(register, now).map(u64::from),
        }
    }

    /// WRMSR 800h to 8FFh; `None` raises #GP.
    pub fn msr_write(&mut self, msr: u32, value: u64, now: Ns) -> Option<Effect> {
        self.advance(now);
        let register = msr.checked_sub(0x800).filter(|register| *register < 0x40)?;
        if !self.x2apic() {
            return None;
        }
        let writable: u64 = match register {
            reg::TPR | reg::SELF_IPI => 0xff,
            reg::EOI | reg::ESR => 0,
            reg::SVR => 0x3ff,
            reg::ICR_LOW => 0xffff_ffff_000c_cfff,
            reg::LVT_FIRST..=reg::LVT_LAST => {
                let read_only = if register == reg::LVT_FIRST { 1 << 12 } else { 0x5000 };
                u64::from(super::LVT_WRITABLE[(register - reg::LVT_FIRST) as usize]) | read_only
            }
            reg::INITIAL_COUNT => 0xffff_ffff,
            reg::DIVIDE => 0xb,
            _ => return None,
        };
        if value & !writable != 0 {
            return None;
        }
        match register {
            reg::ICR_LOW => {
                self.state.icr = value;
                Some(self.state.send())
            }
            reg::SELF_IPI if value < 16 => {
                self.state.error(esr::SEND_ILLEGAL_VECTOR);
                Some(Effect::None)
            }
            reg::SELF_IPI => Some(Effect::Send(ApicMessage {
                vector: value as u8,
                delivery: Delivery::Fixed,
                level: false,
                destination: Destination::Myself,
            })),
            _ => self.state.write(register, value as u32, now),
        }
    }
}
