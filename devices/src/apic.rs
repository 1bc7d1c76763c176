//! Messages between interrupt controllers, as they travel on the APIC bus.

use serde::{Deserialize, Serialize};

/// Physical and logical destination "everyone", after widening from 8 bits.
pub const BROADCAST: u32 = u32::MAX;

/// Delivery mode (SDM vol. 3, figure 12-12 and table 12-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// The vector, to all CPUs of the destination.
    Fixed,
    /// The vector, to the destination's CPU of lowest priority.
    LowestPriority,
    /// System management interrupt.
    Smi,
    /// Non-maskable interrupt.
    Nmi,
    /// Resets the CPU to wait for a start-up IPI.
    Init,
    /// Start-up IPI: the CPU starts at `vector << 12`.
    StartUp,
    /// The CPU fetches the vector from the 8259A.
    ExtInt,
}

impl Delivery {
    /// From the three bits in ICR and in redirection entries; `None` for reserved ones.
    pub fn from_bits(bits: u32) -> Option<Self> {
        Some(match bits & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::StartUp,
            7 => Self::ExtInt,
            _ => return None,
        })
    }
}

/// Who a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    /// The CPU with this APIC id, or [`BROADCAST`].
    Physical(u32),
    /// CPUs by their logical destination registers.
    Logical(u32),
    /// Every CPU.
    All,
    /// Every CPU but the sender.
    Others,
    /// The sender.
    Myself,
}

impl Destination {
    /// A destination field of 8 bits (I/O APIC, xAPIC ICR): FFh means everyone.
    pub fn from_byte(logical: bool, dest: u8) -> Self {
        let dest = if dest == 0xff { BROADCAST } else { dest.into() };
        if logical { Self::Logical(dest) } else { Self::Physical(dest) }
    }
}

/// One interrupt message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApicMessage {
    /// Interrupt vector; for a start-up IPI the page to start in.
    pub vector: u8,
    /// What happens at the destination.
    pub delivery: Delivery,
    /// Level-triggered: its EOI is told to the I/O APIC.
    pub level: bool,
    /// For whom.
    pub destination: Destination,
}
