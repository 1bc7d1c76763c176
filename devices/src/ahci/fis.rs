//! Frame information structures: what host and drive send each other (Serial ATA 2.6, 10.3; where the HBA puts those that it
//! receives: AHCI 1.3.1, 4.2.1).

use crate::ide::drive::{Drive, Registers};

/// Register FIS from the host.
const HOST_TO_DEVICE: u8 = 0x27;
/// The bit in a FIS that asks for an interrupt.
const INTERRUPT: u8 = 0x40;

/// Offsets into the received FIS area.
pub mod received {
    pub const DMA_SETUP: u64 = 0x00;
    pub const PIO_SETUP: u64 = 0x20;
    pub const DEVICE_TO_HOST: u64 = 0x40;
    pub const SET_DEVICE_BITS: u64 = 0x58;
}

/// What a command table asks a drive to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFis {
    /// A command with its registers.
    Command(u8, Registers),
    /// The device control register: is SRST set?
    Control(bool),
}

/// Understands the FIS of a command table; `None`: it is none that drives take.
pub fn parse(fis: &[u8; 20]) -> Option<HostFis> {
    let f = fis;
    if f[0] != HOST_TO_DEVICE {
        return None;
    }
    if f[1] & 0x80 == 0 {
        return Some(HostFis::Control(f[15] & 4 != 0));
    }
    let lba = [f[4], f[5], f[6], f[8], f[9], f[10]];
    let registers = Registers { features: [f[3], f[11]], count: [f[12], f[13]], lba, device: f[7] };
    Some(HostFis::Command(f[2], registers))
}

/// The registers of `drive` as a FIS begins and goes on: bytes 2 to 13.
fn registers(drive: &Drive) -> [u8; 20] {
    let s = &drive.state;
    let (low, mid, high) = (s.lba_low, s.lba_mid, s.lba_high);
    let mut fis = [0; 20];
    fis[2..8].copy_from_slice(&[s.status, s.error, low[0], mid[0], high[0], s.device | 0xa0]);
    fis[8..14].copy_from_slice(&[low[1], mid[1], high[1], 0, s.count[0], s.count[1]]);
    fis
}

/// Register FIS, at the end of a command.
pub fn device_to_host(drive: &Drive, interrupt: bool) -> [u8; 20] {
    let mut fis = registers(drive);
    (fis[0], fis[1]) = (0x34, if interrupt { INTERRUPT } else { 0 });
    fis
}

/// PIO setup FIS: `count` bytes follow, to memory or from there, after which the status is `then`.
pub fn pio_setup(drive: &Drive, to_memory: bool, interrupt: bool, count: u16, then: u8) -> [u8; 20] {
    let mut fis = registers(drive);
    (fis[0], fis[1]) = (0x5f, if interrupt { INTERRUPT } else { 0 } | if to_memory { 0x20 } else { 0 });
    fis[15] = then;
    fis[16..18].copy_from_slice(&count.to_le_bytes());
    fis
}

/// DMA setup FIS of the queued command `tag`.
pub fn dma_setup(tag: u8, to_memory: bool, count: u32) -> [u8; 28] {
    let mut fis = [0; 28];
    (fis[0], fis[1], fis[4]) = (0x41, if to_memory { 0x20 } else { 0 }, tag);
    fis[20..24].copy_from_slice(&count.to_le_bytes());
    fis
}

/// Set device bits FIS: these queued commands are done.
pub fn set_device_bits(drive: &Drive, done: u32) -> [u8; 8] {
    let s = &drive.state;
    let mut fis = [0xa1, INTERRUPT, s.status & 0x77, s.error, 0, 0, 0, 0];
    fis[4..].copy_from_slice(&done.to_le_bytes());
    fis
}
