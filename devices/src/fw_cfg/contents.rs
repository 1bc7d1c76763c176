//! What firmware can ask for: items by key, and files, which are items with a name.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Well-known keys (QEMU's docs/specs/fw_cfg; the numbers are its interface to firmware).
pub mod key {
    /// "QEMU": the device is there.
    pub const SIGNATURE: u16 = 0x00;
    /// Interfaces: bit 0 ports, bit 1 DMA.
    pub const ID: u16 = 0x01;
    /// 16 bytes.
    pub const UUID: u16 = 0x02;
    /// Bytes of memory, 64 bits.
    pub const RAM_SIZE: u16 = 0x03;
    /// 1: the console is a serial port, 16 bits.
    pub const NOGRAPHIC: u16 = 0x04;
    /// Processors that start with the machine, 16 bits.
    pub const NB_CPUS: u16 = 0x05;
    /// Where the kernel belongs, 32 bits.
    pub const KERNEL_ADDR: u16 = 0x07;
    /// Its length, 32 bits.
    pub const KERNEL_SIZE: u16 = 0x08;
    /// Where the initrd belongs, 32 bits.
    pub const INITRD_ADDR: u16 = 0x0a;
    /// Its length, 32 bits.
    pub const INITRD_SIZE: u16 = 0x0b;
    /// Letter of the boot device, 16 bits.
    pub const BOOT_DEVICE: u16 = 0x0c;
    /// NUMA nodes: number, node of each processor, memory of each node; 64 bits each.
    pub const NUMA: u16 = 0x0d;
    /// Show a boot menu, 16 bits.
    pub const BOOT_MENU: u16 = 0x0e;
    /// One more than the highest APIC id that a processor may have, 16 bits.
    pub const MAX_CPUS: u16 = 0x0f;
    /// Where to enter the kernel (multiboot), 32 bits.
    pub const KERNEL_ENTRY: u16 = 0x10;
    /// The kernel without its real-mode part.
    pub const KERNEL_DATA: u16 = 0x11;
    /// The initrd.
    pub const INITRD_DATA: u16 = 0x12;
    /// Where the command line belongs, 32 bits.
    pub const CMDLINE_ADDR: u16 = 0x13;
    /// Its length with the final zero, 32 bits.
    pub const CMDLINE_SIZE: u16 = 0x14;
    /// The command line with its final zero.
    pub const CMDLINE_DATA: u16 = 0x15;
    /// Where the real-mode part belongs, 32 bits.
    pub const SETUP_ADDR: u16 = 0x16;
    /// Its length, 32 bits.
    pub const SETUP_SIZE: u16 = 0x17;
    /// The kernel's real-mode part, header filled in.
    pub const SETUP_DATA: u16 = 0x18;
    /// The list of files.
    pub const FILE_DIR: u16 = 0x19;
    /// Files have keys from here on.
    pub const FILE_FIRST: u16 = 0x20;
    /// Extra ACPI tables: number (16 bits), then each with its length (16 bits).
    pub const ACPI_TABLES: u16 = 0x8000;
    /// Extra SMBIOS structures.
    pub const SMBIOS_ENTRIES: u16 = 0x8001;
    /// 1: IRQ 0 arrives at input 2 of the I/O APIC, 32 bits.
    pub const IRQ0_OVERRIDE: u16 = 0x8002;
    /// Ranges of memory to be reserved.
    pub const E820_TABLE: u16 = 0x8003;
    /// HPETs.
    pub const HPET: u16 = 0x8004;
}

/// Longest name of a file, without its final zero.
pub const MAX_NAME: usize = 55;
/// Files that there can be: keys 20h to 3FFFh.
pub const MAX_FILES: usize = 0x3fe0;

/// An item's bytes as the machine starts with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub bytes: Arc<[u8]>,
    /// Firmware may write it, by DMA.
    pub writable: bool,
}

/// Why a file cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileError {
    /// The name is empty or longer than 55 bytes.
    Name,
    /// There is a file of this name.
    Exists,
    /// More than 16352 files.
    TooMany,
    /// 4 GiB or more.
    TooLong,
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            FileError::Name => "a name has 1 to 55 bytes",
            FileError::Exists => "there is a file of this name already",
            FileError::TooMany => "there are too many files",
            FileError::TooLong => "4 GiB or more do not fit",
        })
    }
}

impl std::error::Error for FileError {}

/// All that firmware can ask for. The order in which things are added makes no difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FwCfgContents {
    items: BTreeMap<u16, Item>,
    files: BTreeMap<String, Item>,
}

impl FwCfgContents {
    /// Nothing but the signature and the list of files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the item of a well-known key.
    pub fn set(&mut self, key: u16, bytes: impl Into<Arc<[u8]>>) {
        self.items.insert(key, Item { bytes: bytes.into(), writable: false });
    }

    /// Sets a 16-bit number.
    pub fn set_u16(&mut self, key: u16, value: u16) {
        self.set(key, value.to_le_bytes());
    }

    /// Sets a 32-bit number.
    pub fn set_u32(&mut self, key: u16, value: u32) {
        self.set(key, value.to_le_bytes());
    }

    /// Sets a 64-bit number.
    pub fn set_u64(&mut self, key: u16, value: u64) {
        self.set(key, value.to_le_bytes());
    }

    /// Adds a file that firmware reads.
    pub fn add_file(&mut self, name: &str, bytes: impl Into<Arc<[u8]>>) -> Result<(), FileError> {
        self.insert(name, Item { bytes: bytes.into(), writable: false })
    }

    /// Adds a file that firmware may write too.
    pub fn add_writable_file(&mut self, name: &str, bytes: impl Into<Arc<[u8]>>) -> Result<(), FileError> {
        self.insert(name, Item { bytes: bytes.into(), writable: true })
    }

    fn insert(&mut self, name: &str, item: Item) -> Result<(), FileError> {
        if name.is_empty() || name.len() > MAX_NAME || name.contains('\0') {
            return Err(FileError::Name);
        }
        if self.files.contains_key(name) {
            return Err(FileError::Exists);
        }
        if self.files.len() == MAX_FILES {
            return Err(FileError::TooMany);
        }
        if item.bytes.len() as u64 > u64::from(u32::MAX) {
            return Err(FileError::TooLong);
        }
        self.files.insert(name.into(), item);
        Ok(())
    }

    /// Whether there is a file of this name.
    pub fn has_file(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Gives each file its key, in the order of names, and lists them.
    pub(super) fn into_items(self) -> BTreeMap<u16, Item> {
        let Self { mut items, files } = self;
        let mut directory = (files.len() as u32).to_be_bytes().to_vec();
        for (key, (name, item)) in (key::FILE_FIRST..).zip(files) {
            directory.extend((item.bytes.len() as u32).to_be_bytes());
            directory.extend(key.to_be_bytes());
            directory.extend([0; 2]);
            let mut field = [0; MAX_NAME + 1];
            field[..name.len()].copy_from_slice(name.as_bytes());
            directory.extend(field);
            items.insert(key, item);
        }
        let fixed = |bytes: &[u8]| Item { bytes: bytes.into(), writable: false };
        items.insert(key::FILE_DIR, fixed(&directory));
        items.insert(key::SIGNATURE, fixed(b"QEMU"));
        items.insert(key::ID, fixed(&3u32.to_le_bytes()));
        items
    }
}
