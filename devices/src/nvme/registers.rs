//! Controller registers (3.1).

use serde::{Deserialize, Serialize};

use super::queue::{CompletionQueue, MAX_ENTRIES, SubmissionQueue};
use super::{Nvme, VERSION};
use crate::Ns;

/// Offsets in BAR 0.
mod at {
    pub const CAP: u64 = 0x00;
    pub const VS: u64 = 0x08;
    pub const INTMS: u64 = 0x0c;
    pub const INTMC: u64 = 0x10;
    pub const CC: u64 = 0x14;
    pub const CSTS: u64 = 0x1c;
    pub const AQA: u64 = 0x24;
    pub const ASQ: u64 = 0x28;
    pub const ACQ: u64 = 0x30;
    pub const DOORBELLS: u64 = 0x1000;
    pub const END: u64 = 0x2000;
}
/// Controller configuration.
mod cc {
    pub const ENABLE: u32 = 1;
    pub const COMMAND_SET: u32 = 7 << 4;
    pub const SHUTDOWN: u32 = 3 << 14;
    pub const WRITABLE: u32 = 0x00ff_fff1;
}
/// Controller status.
mod csts {
    pub const READY: u32 = 1;
    pub const FATAL: u32 = 2;
    pub const SHUTDOWN: u32 = 3 << 2;
    pub const SHUTDOWN_COMPLETE: u32 = 2 << 2;
}
/// Largest page: 2^(12+4) bytes.
const MAX_PAGE: u32 = 4;
/// Queues of up to [`MAX_ENTRIES`], contiguous; ready within 7.5 s; the NVM command set; pages of 4 to 64 KiB.
const CAP: u64 = (MAX_ENTRIES as u64 - 1) | 1 << 16 | 15 << 24 | 1 << 37 | (MAX_PAGE as u64) << 52;

/// The registers' contents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Registers {
    pub interrupt_mask: u32,
    configuration: u32,
    status: u32,
    admin_sizes: u32,
    admin_sq: u64,
    admin_cq: u64,
}

impl Registers {
    /// A controller reset keeps where the admin queues are (3.1.5).
    pub fn after_controller_reset(&self) -> Self {
        let Self { admin_sizes, admin_sq, admin_cq, .. } = *self;
        Self { admin_sizes, admin_sq, admin_cq, ..Self::default() }
    }

    pub fn is_ready(&self) -> bool {
        self.status & (csts::READY | csts::FATAL) == csts::READY
    }

    pub fn set_fatal(&mut self) {
        self.status |= csts::FATAL;
    }

    /// Bytes of a memory page.
    pub fn page(&self) -> usize {
        0x1000 << (self.configuration >> 7 & 0xf).min(MAX_PAGE)
    }

    fn dword(&self, offset: u64) -> u32 {
        match offset {
            at::CAP => CAP as u32,
            0x04 => (CAP >> 32) as u32,
            at::VS => VERSION,
            at::INTMS | at::INTMC => self.interrupt_mask,
            at::CC => self.configuration,
            at::CSTS => self.status,
            at::AQA => self.admin_sizes,
            at::ASQ => self.admin_sq as u32,
            0x2c => (self.admin_sq >> 32) as u32,
            at::ACQ => self.admin_cq as u32,
            0x34 => (self.admin_cq >> 32) as u32,
            _ => 0,
        }
    }

    /// A read of any size: what drivers do is 32 and 64 bits.
    pub fn read(&self, offset: u64, size: u8) -> u64 {
        let aligned = offset & !3;
        let both = u64::from(self.dword(aligned + 4)) << 32 | u64::from(self.dword(aligned));
        let value = both >> (8 * (offset & 3));
        if size < 8 { value & ((1 << (8 * size)) - 1) } else { value }
    }

    /// Number of admin entries, from what software has set.
    fn admin_size(&self, shift: u32) -> u32 {
        (self.admin_sizes >> shift & 0xfff) + 1
    }

    /// The admin queues, if the registers describe some and the rest of the configuration is one.
    fn admin_queues(&self) -> Option<(SubmissionQueue, CompletionQueue)> {
        let page = self.page() as u64;
        let sizes = [0, 16].map(|shift| self.admin_size(shift));
        let good = self.configuration & cc::COMMAND_SET == 0
            && self.configuration >> 7 & 0xf <= MAX_PAGE
            && sizes.iter().all(|size| (2..=MAX_ENTRIES).contains(size))
            && [self.admin_sq, self.admin_cq].iter().all(|at| at.is_multiple_of(page));
        good.then(|| {
            let sq = SubmissionQueue::new(self.admin_sq, sizes[0], 0);
            (sq, CompletionQueue::new(self.admin_cq, sizes[1], true, 0))
        })
    }

    /// A shutdown that was asked for is done; one that is not asked for any more is not.
    fn shut_down(&mut self) {
        self.status &= !csts::SHUTDOWN;
        if self.configuration & cc::SHUTDOWN != 0 {
            self.status |= csts::SHUTDOWN_COMPLETE;
        }
    }
}

impl Nvme {
    pub(super) fn write_register(&mut self, offset: u64, size: u8, value: u64, now: Ns) {
        if (at::DOORBELLS..at::END).contains(&offset) {
            if offset.is_multiple_of(4) {
                self.doorbell((offset - at::DOORBELLS) / 4, value as u32, now);
            }
            return;
        }
        match size {
            8 if offset.is_multiple_of(8) => {
                self.write_dword(offset, value as u32);
                self.write_dword(offset + 4, (value >> 32) as u32);
            }
            4 if offset.is_multiple_of(4) => self.write_dword(offset, value as u32),
            // Not allowed (3.1): nothing is written.
            _ => {}
        }
    }

    fn write_dword(&mut self, offset: u64, value: u32) {
        let set = |register: &mut u64, shift: u32| {
            *register = *register & !(0xffff_ffff << shift) | u64::from(value) << shift;
        };
        let r = &mut self.state.registers;
        match offset {
            at::INTMS => r.interrupt_mask |= value,
            at::INTMC => r.interrupt_mask &= !value,
            at::CC => self.configure(value),
            at::AQA => r.admin_sizes = value & 0x0fff_0fff,
            at::ASQ => set(&mut r.admin_sq, 0),
            0x2c => set(&mut r.admin_sq, 32),
            at::ACQ => set(&mut r.admin_cq, 0),
            0x34 => set(&mut r.admin_cq, 32),
            _ => {}
        }
        self.drive_intx();
    }

    fn configure(&mut self, value: u32) {
        let value = value & cc::WRITABLE;
        let before = std::mem::replace(&mut self.state.registers.configuration, value);
        if before & !value & cc::ENABLE != 0 {
            self.controller_reset();
            self.state.registers.configuration = value;
        }
        if value & !before & cc::SHUTDOWN != 0 && !self.disk.read_only() {
            crate::block::Mover::new(&mut self.disk).flush();
        }
        self.state.registers.shut_down();
        if value & !before & cc::ENABLE != 0 {
            match self.state.registers.admin_queues() {
                Some((sq, cq)) => {
                    (self.state.sqs[0], self.state.cqs[0]) = (Some(sq), Some(cq));
                    self.state.registers.status |= csts::READY;
                }
                None => {
                    tracing::debug!(target: "guest_errors", "nvme: enabled without admin queues");
                    self.state.registers.status |= csts::FATAL;
                }
            }
        }
    }
}
