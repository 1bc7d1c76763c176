//! Submission queue entries, and the numbers by which the controller answers (NVM Express 1.4, 4.2 and 4.6).

/// Bytes of a submission queue entry.
pub(super) const ENTRY: usize = 64;

/// A command as the driver has written it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command([u32; 16]);

impl Command {
    pub fn new(bytes: &[u8; ENTRY]) -> Self {
        let mut words = [0; 16];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Self(words)
    }

    fn pair(&self, low: usize) -> u64 {
        u64::from(self.0[low + 1]) << 32 | u64::from(self.0[low])
    }

    pub fn opcode(&self) -> u8 {
        self.0[0] as u8
    }
    /// FUSE and PSDT: only 0 is there, a single command whose data PRPs describe.
    pub fn flags(&self) -> u8 {
        (self.0[0] >> 8) as u8 & 0xc3
    }
    pub fn id(&self) -> u16 {
        (self.0[0] >> 16) as u16
    }
    pub fn namespace(&self) -> u32 {
        self.0[1]
    }
    pub fn prps(&self) -> [u64; 2] {
        [self.pair(6), self.pair(8)]
    }
    /// Command dword 10 to 15.
    pub fn word(&self, n: usize) -> u32 {
        self.0[n]
    }
    /// Starting LBA.
    pub fn lba(&self) -> u64 {
        self.pair(10)
    }
    /// Number of blocks; the field counts from 0.
    pub fn blocks(&self) -> u64 {
        u64::from(self.0[12] & 0xffff) + 1
    }
    /// The data is to be on the medium when the command completes.
    pub fn force_unit_access(&self) -> bool {
        self.0[12] & 1 << 30 != 0
    }
}

/// Status code type and status code, and "do not retry".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(pub u16);

impl Status {
    const DO_NOT_RETRY: u16 = 0x4000;
    pub const OK: Self = Self(0);
    pub const INVALID_OPCODE: Self = Self(0x01 | Self::DO_NOT_RETRY);
    pub const INVALID_FIELD: Self = Self(0x02 | Self::DO_NOT_RETRY);
    pub const DATA_TRANSFER_ERROR: Self = Self(0x04);
    pub const ABORTED: Self = Self(0x07);
    pub const INVALID_NAMESPACE: Self = Self(0x0b | Self::DO_NOT_RETRY);
    pub const SEQUENCE: Self = Self(0x0c | Self::DO_NOT_RETRY);
    pub const PRP_OFFSET: Self = Self(0x13 | Self::DO_NOT_RETRY);
    pub const LBA_RANGE: Self = Self(0x80 | Self::DO_NOT_RETRY);
    pub const INVALID_CQ: Self = Self(0x100 | Self::DO_NOT_RETRY);
    pub const INVALID_QUEUE_ID: Self = Self(0x101 | Self::DO_NOT_RETRY);
    pub const INVALID_QUEUE_SIZE: Self = Self(0x102 | Self::DO_NOT_RETRY);
    pub const TOO_MANY_EVENTS: Self = Self(0x105 | Self::DO_NOT_RETRY);
    pub const INVALID_VECTOR: Self = Self(0x108 | Self::DO_NOT_RETRY);
    pub const INVALID_LOG: Self = Self(0x109 | Self::DO_NOT_RETRY);
    pub const QUEUE_DELETION: Self = Self(0x10c | Self::DO_NOT_RETRY);
    pub const NOT_SAVEABLE: Self = Self(0x10d | Self::DO_NOT_RETRY);
    pub const READ_ONLY: Self = Self(0x182 | Self::DO_NOT_RETRY);
    pub const WRITE_FAULT: Self = Self(0x280);
    pub const READ_ERROR: Self = Self(0x281);
    pub const COMPARE: Self = Self(0x285 | Self::DO_NOT_RETRY);
}

/// What a command gives: dword 0 of its completion, or why it failed. `None`: it completes later.
pub(super) type Outcome = Result<Option<u32>, Status>;
