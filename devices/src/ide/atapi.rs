//! A CD-ROM drive: packet commands (ATA/ATAPI-6 8.23; MMC-5).
//!
//! A reply that fits the buffer is made when the packet is looked at; sectors are fetched piece by piece.

use serde::{Deserialize, Serialize};

use super::bus_master::Carrier;
use super::drive::{BUFFER, COMMAND_LATENCY, Drive, NS_PER_BYTE, SECTOR, Work, error};
use super::identify;
use crate::Ns;
use crate::block::Disk;
use crate::memory::Dma;

const BLOCK: usize = 2048;
/// Sectors that are fetched at once.
const FETCH: u32 = (BUFFER / BLOCK) as u32;
/// Interrupt reason, in the count register.
const COMMAND: u8 = 0x01;
const TO_HOST: u8 = 0x02;

/// Sense key, additional sense code and qualifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sense {
    pub key: u8,
    pub code: u8,
    pub qualifier: u8,
}

const fn sense(key: u8, code: u8, qualifier: u8) -> Sense {
    Sense { key, code, qualifier }
}
const NO_MEDIUM: Sense = sense(2, 0x3a, 1);
const TRAY_OPEN: Sense = sense(2, 0x3a, 2);
const READ_ERROR: Sense = sense(3, 0x11, 0);
const ILLEGAL_COMMAND: Sense = sense(5, 0x20, 0);
const OUT_OF_RANGE: Sense = sense(5, 0x21, 0);
const BAD_FIELD: Sense = sense(5, 0x24, 0);
const LOCKED: Sense = sense(5, 0x53, 2);
const MEDIUM_CHANGED: Sense = sense(6, 0x28, 0);

/// What a CD drive keeps beyond the task file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cd {
    sense: Sense,
    locked: bool,
    tray_open: bool,
    /// To be reported as a unit attention by the next command that may.
    changed: bool,
    /// Media event to be reported by GET EVENT STATUS NOTIFICATION (2: new medium, 3: removed).
    event: u8,
    /// Bytes per data request.
    limit: u16,
}

impl Cd {
    pub(super) fn reset(&mut self) {
        (self.sense, self.locked, self.limit) = (Sense::default(), false, 0);
    }
}

/// The answer to a packet.
enum Reply {
    Nothing,
    Bytes(Vec<u8>),
    Sectors { lba: u32, count: u32 },
}

fn be16(bytes: &[u8]) -> u32 {
    u32::from(bytes[0]) << 8 | u32::from(bytes[1])
}
fn be32(bytes: &[u8]) -> u32 {
    be16(bytes) << 16 | be16(&bytes[2..])
}
/// Minute, second, frame of a block.
fn msf(lba: u32) -> [u8; 3] {
    let frames = lba.saturating_add(150);
    [(frames / 75 / 60) as u8, (frames / 75 % 60) as u8, (frames % 75) as u8]
}

impl Drive {
    fn cd(&mut self) -> &mut Cd {
        self.state.cd.get_or_insert_default()
    }

    /// 2048-byte blocks of the medium.
    fn blocks(&self) -> u32 {
        self.medium.as_ref().map_or(0, |medium| (medium.len() / BLOCK as u64).min(u32::MAX.into()) as u32)
    }

    /// See [`super::Ide::change_medium`].
    pub(crate) fn change_medium(&mut self, medium: Option<Disk>, force: bool) -> bool {
        if !self.is_cd() || self.cd().locked && !force {
            return false;
        }
        let there = medium.is_some();
        self.medium = medium;
        let cd = self.cd();
        (cd.changed, cd.tray_open, cd.event) = (there, false, if there { 2 } else { 3 });
        true
    }

    pub(super) fn atapi_command(&mut self, command: u8, now: Ns) {
        match command {
            0xa0 => {
                let s = &self.state;
                let dma = s.features[0] & 1 != 0;
                let limit = u16::from_le_bytes([s.lba_mid[0], s.lba_high[0]]);
                self.cd().limit = limit;
                self.request(12, Work::Packet { dma }, false);
                self.state.count[0] = COMMAND;
            }
            0xa1 => {
                self.state.buffer = identify::cd(self);
                (self.state.pos, self.state.end) = (0, SECTOR);
                self.busy(Work::ReadSectors { lba: 0, left: 0, block: 1 }, now, COMMAND_LATENCY);
            }
            // IDENTIFY DEVICE and READ SECTORS tell the host what this is.
            0xec | 0x20 => {
                (self.state.lba_mid[0], self.state.lba_high[0]) = (0x14, 0xeb);
                self.fail(error::ABRT);
            }
            0xef if self.state.features[0] == 3 => {
                self.state.transfer_mode = self.state.count[0];
                self.busy(Work::Finish, now, COMMAND_LATENCY);
            }
            0xe0..=0xe3 | 0xe6 | 0xe7 => self.busy(Work::Finish, now, COMMAND_LATENCY),
            0xe5 => {
                self.state.count[0] = 0xff;
                self.busy(Work::Finish, now, COMMAND_LATENCY);
            }
            _ => self.fail(error::ABRT),
        }
    }

    /// Ends a packet command: well, or with `sense` for the host to ask about.
    fn conclude(&mut self, sense: Option<Sense>) {
        match sense {
            None => self.finish(),
            Some(sense) => self.fail(sense.key << 4 | if sense.key == 5 { error::ABRT } else { 0 }),
        }
        self.cd().sense = sense.unwrap_or_default();
        self.state.count[0] = COMMAND | TO_HOST;
    }

    /// Carries out the packet in the buffer.
    pub(super) fn packet(&mut self, dma: bool, now: Ns) {
        let mut packet = [0; 12];
        let len = self.state.buffer.len().min(12);
        packet[..len].copy_from_slice(&self.state.buffer[..len]);
        tracing::trace!(target: "ide", "drive {} packet {packet:02x?} at {now} ns", self.place);
        let reply = self.carry_out(&packet);
        let s = &mut self.state;
        s.buffer.clear();
        (s.pos, s.end) = (0, 0);
        let (lba, left) = match reply {
            Err(sense) => return self.conclude(Some(sense)),
            Ok(Reply::Nothing) => return self.conclude(None),
            Ok(Reply::Bytes(bytes)) if bytes.is_empty() => return self.conclude(None),
            Ok(Reply::Bytes(bytes)) => {
                s.buffer = bytes;
                (0, 0)
            }
            Ok(Reply::Sectors { count: 0, .. }) => return self.conclude(None),
            Ok(Reply::Sectors { lba, count }) => (lba, count),
        };
        if dma {
            self.wait_for_bus_master(Work::Reply { lba, left, dma });
        } else {
            let bytes = u64::from(left.min(FETCH)) * BLOCK as u64;
            self.busy(Work::Reply { lba, left, dma }, now, COMMAND_LATENCY + bytes * NS_PER_BYTE);
        }
    }

    /// Offers the next piece of a reply to the host's data register.
    pub(super) fn reply_chunk(&mut self, lba: u32, left: u32) {
        let (mut lba, mut left) = (lba, left);
        if self.state.pos >= self.state.buffer.len() {
            if left == 0 {
                return self.conclude(None);
            }
            let n = left.min(FETCH);
            if !self.fetch(lba, n) {
                return self.conclude(Some(READ_ERROR));
            }
            (lba, left) = (lba.saturating_add(n), left - n);
        }
        let limit = match self.cd().limit {
            0 | 0xffff => 0xfffe,
            limit => usize::from(limit),
        };
        let s = &mut self.state;
        let rest = s.buffer.len() - s.pos;
        // A piece that is not the last has an even length.
        let piece = if rest <= limit { rest } else { (limit & !1).max(2) };
        s.end = s.pos + piece;
        [s.lba_mid[0], s.lba_high[0]] = (piece as u16).to_le_bytes();
        s.count[0] = TO_HOST;
        self.offer(Some(Work::Reply { lba, left, dma: false }));
    }

    fn fetch(&mut self, lba: u32, count: u32) -> bool {
        let mut buffer = std::mem::take(&mut self.state.buffer);
        buffer.clear();
        buffer.resize(count.min(FETCH) as usize * BLOCK, 0);
        let good = self.read_medium(u64::from(lba) * BLOCK as u64, &mut buffer);
        self.state.buffer = buffer;
        (self.state.pos, self.state.end) = (0, 0);
        good
    }

    /// The whole reply at once by the bus master.
    pub(super) fn reply_dma(&mut self, lba: u32, left: u32, bus_master: &mut dyn Carrier, dma: &Dma) {
        let from = u64::from(lba) * BLOCK as u64;
        let moved = if left > 0 {
            let len = left.min(0x1_0000) as usize * BLOCK;
            let mut each = |drive: &mut Self, done: usize, piece: &mut [u8]| {
                drive.read_medium(from + done as u64, piece)
            };
            self.through_bus_master(len, true, bus_master, dma, &mut each)
        } else {
            let reply = std::mem::take(&mut self.state.buffer);
            let mut each = |_: &mut Self, done: usize, piece: &mut [u8]| {
                piece.copy_from_slice(&reply[done..done + piece.len()]);
                true
            };
            self.through_bus_master(reply.len(), true, bus_master, dma, &mut each)
        };
        match moved {
            None => {}
            Some(true) => self.conclude(None),
            Some(false) => self.conclude(Some(READ_ERROR)),
        }
    }

    fn ready(&mut self) -> Result<(), Sense> {
        if self.medium.is_none() {
            return Err(if self.cd().tray_open { TRAY_OPEN } else { NO_MEDIUM });
        }
        Ok(())
    }

    fn carry_out(&mut self, p: &[u8; 12]) -> Result<Reply, Sense> {
        let command = p[0];
        let exempt = matches!(command, 0x03 | 0x12 | 0x4a | 0x46);
        if !exempt && std::mem::take(&mut self.cd().changed) {
            return Err(MEDIUM_CHANGED);
        }
        match command {
            0x00 => self.ready().map(|()| Reply::Nothing),
            0x03 => {
                let Sense { key, code, qualifier } = std::mem::take(&mut self.cd().sense);
                let mut reply = [0; 18];
                (reply[0], reply[2], reply[7], reply[12], reply[13]) = (0x70, key, 10, code, qualifier);
                Ok(cut(&reply, p[4].into()))
            }
            0x12 => Ok(cut(&inquiry(), p[4].into())),
            0x1b => self.start_stop(p[4]),
            0x1e => {
                self.cd().locked = p[4] & 1 != 0;
                Ok(Reply::Nothing)
            }
            0x25 => {
                self.ready()?;
                let mut reply = [0; 8];
                reply[..4].copy_from_slice(&self.blocks().saturating_sub(1).to_be_bytes());
                reply[4..].copy_from_slice(&(BLOCK as u32).to_be_bytes());
                Ok(cut(&reply, 8))
            }
            0x28 => self.sectors_at(be32(&p[2..]), be16(&p[7..])),
            0xa8 => self.sectors_at(be32(&p[2..]), be32(&p[6..])),
            0xbe => self.read_cd(p),
            0x2b => self.ready().map(|()| Reply::Nothing),
            0x43 => self.read_toc(p),
            0x46 => Ok(cut(&self.configuration(), be16(&p[7..]))),
            0x4a => self.event_status(p),
            0x51 => {
                self.ready()?;
                let mut reply = [0; 34];
                (reply[1], reply[2], reply[3], reply[4]) = (32, 0x0e, 1, 1);
                (reply[5], reply[6], reply[7]) = (1, 1, 0x20);
                Ok(cut(&reply, be16(&p[7..])))
            }
            0x5a => mode_sense(p[2], self.cd().locked).map(|page| cut(&page, be16(&p[7..]))),
            0x1a => mode_sense(p[2], self.cd().locked).map(|page| cut(&page, p[4].into())),
            0xbb => Ok(Reply::Nothing), // SET CD SPEED
            0xbd => {
                let mut reply = [0; 8];
                reply[5] = 1;
                Ok(cut(&reply, be16(&p[8..])))
            }
            _ => Err(ILLEGAL_COMMAND),
        }
    }

    fn sectors_at(&mut self, lba: u32, count: u32) -> Result<Reply, Sense> {
        self.ready()?;
        match lba.checked_add(count) {
            Some(end) if end <= self.blocks() => Ok(Reply::Sectors { lba, count }),
            _ => Err(OUT_OF_RANGE),
        }
    }

    /// READ CD: user data alone; raw sectors with headers are not there.
    fn read_cd(&mut self, p: &[u8; 12]) -> Result<Reply, Sense> {
        let count = u32::from(p[6]) << 16 | be16(&p[7..]);
        match p[9] & 0xf8 {
            0x00 => self.sectors_at(be32(&p[2..]), count).map(|_| Reply::Nothing),
            0x10 => self.sectors_at(be32(&p[2..]), count),
            _ => Err(BAD_FIELD),
        }
    }

    fn start_stop(&mut self, what: u8) -> Result<Reply, Sense> {
        match what & 3 {
            2 if self.cd().locked => return Err(LOCKED),
            2 => {
                // Eject: the medium leaves the drive.
                self.medium = None;
                (self.cd().tray_open, self.cd().event) = (true, 3);
            }
            3 => self.cd().tray_open = false,
            _ => {}
        }
        Ok(Reply::Nothing)
    }

    fn read_toc(&mut self, p: &[u8; 12]) -> Result<Reply, Sense> {
        self.ready()?;
        let as_msf = p[1] & 2 != 0;
        let format = match p[2] & 0xf {
            0 => p[9] >> 6,
            format => format,
        };
        let place = |lba: u32| match as_msf {
            true => {
                let [m, s, f] = msf(lba);
                [0, m, s, f]
            }
            false => lba.to_be_bytes(),
        };
        let end = self.blocks();
        let mut reply = vec![0, 0, 1, 1];
        match format {
            0 => {
                if p[6] > 1 && p[6] != 0xaa {
                    return Err(BAD_FIELD);
                }
                if p[6] <= 1 {
                    reply.extend([0, 0x14, 1, 0]);
                    reply.extend(place(0));
                }
                reply.extend([0, 0x14, 0xaa, 0]);
                reply.extend(place(end));
            }
            1 => {
                reply.extend([0, 0x14, 1, 0]);
                reply.extend(place(0));
            }
            2 => {
                let [m, s, f] = msf(end);
                for (point, pmsf) in [(0xa0, [1, 0, 0]), (0xa1, [1, 0, 0]), (0xa2, [m, s, f]), (1, [0, 2, 0])]
                {
                    reply.extend([1, 0x14, 0, point, 0, 0, 0, 0]);
                    reply.extend(pmsf);
                }
            }
            _ => return Err(BAD_FIELD),
        }
        let len = (reply.len() - 2) as u16;
        reply[..2].copy_from_slice(&len.to_be_bytes());
        Ok(cut(&reply, be16(&p[7..])))
    }

    /// GET CONFIGURATION: profile list and the two features that every CD-ROM drive has.
    fn configuration(&self) -> Vec<u8> {
        let profile: [u8; 2] = match self.blocks() {
            0 => [0, 0],
            // What no CD holds is a DVD.
            blocks if blocks > 400_000 => [0, 0x10],
            _ => [0, 0x08],
        };
        let dvd = u8::from(profile[1] == 0x10);
        let cd = u8::from(profile[1] == 0x08);
        let mut reply = vec![0, 0, 0, 0, 0, 0, profile[0], profile[1]];
        reply.extend([0, 0, 0x03, 8, 0, 0x10, dvd, 0, 0, 0x08, cd, 0]);
        reply.extend([0, 1, 0x0b, 8, 0, 0, 0, 2, 0, 0, 0, 0]);
        reply.extend([0, 3, 0x03, 4, 0x29, 0, 0, 0]);
        let len = (reply.len() - 4) as u32;
        reply[..4].copy_from_slice(&len.to_be_bytes());
        reply
    }

    fn event_status(&mut self, p: &[u8; 12]) -> Result<Reply, Sense> {
        if p[1] & 1 == 0 {
            return Err(BAD_FIELD); // asynchronous operation
        }
        let there = self.medium.is_some();
        let cd = self.cd();
        let reply = if p[4] & 0x10 != 0 {
            let event = std::mem::take(&mut cd.event);
            vec![0, 6, 4, 0x10, event, u8::from(there) << 1 | u8::from(cd.tray_open), 0, 0]
        } else {
            vec![0, 2, 0x80, 0x10]
        };
        Ok(cut(&reply, be16(&p[7..])))
    }
}

/// A reply no longer than the host has room for.
fn cut(reply: &[u8], room: u32) -> Reply {
    Reply::Bytes(reply[..reply.len().min(room as usize)].to_vec())
}

fn inquiry() -> [u8; 36] {
    let mut reply = [0; 36];
    reply[..8].copy_from_slice(&[0x05, 0x80, 0x00, 0x21, 31, 0, 0, 0]);
    reply[8..16].copy_from_slice(b"RETROGRD");
    reply[16..32].copy_from_slice(b"DVD-ROM         ");
    reply[32..].copy_from_slice(b"1.0 ");
    reply
}

/// MODE SENSE: error recovery (01h), capabilities (2Ah), or both (3Fh). The 10-byte command's header is given for both forms.
fn mode_sense(page: u8, locked: bool) -> Result<Vec<u8>, Sense> {
    if page >> 6 == 3 {
        return Err(sense(5, 0x39, 0)); // saved values are not supported
    }
    let recovery = [0x01, 0x06, 0, 0x05, 0, 0, 0, 0];
    let mut capabilities = [0; 22];
    capabilities[..8].copy_from_slice(&[0x2a, 0x14, 0x3b, 0, 0x70, 0x60, 0x29 | u8::from(locked) << 1, 0]);
    capabilities[8..12].copy_from_slice(&[0x02, 0xc2, 0, 2]);
    capabilities[12..16].copy_from_slice(&[2, 0, 0x02, 0xc2]);
    let pages = match page & 0x3f {
        0x01 => recovery.to_vec(),
        0x2a => capabilities.to_vec(),
        0x3f => [&recovery[..], &capabilities[..]].concat(),
        _ => return Err(BAD_FIELD),
    };
    let mut reply = vec![0; 8];
    reply.extend(pages);
    let len = (reply.len() - 2) as u16;
    reply[..2].copy_from_slice(&len.to_be_bytes());
    Ok(reply)
}
