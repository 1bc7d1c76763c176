//! Where things are: segments, the BIOS data area, and our variables in the extended BIOS data area.
//!
//! Nothing in the ROM is ever written to after POST, so that the firmware also runs on a board whose ROM stays ROM.

/// Segment of the BIOS data area.
pub const BDA_SEGMENT: i32 = 0x40;
/// Segment of the extended BIOS data area: 8 KiB below the VGA.
pub const EBDA_SEGMENT: i32 = 0x9e00;
/// Its address.
pub const EBDA: i32 = EBDA_SEGMENT << 4;
/// Its size in KiB.
pub const EBDA_KIB: i32 = 8;
/// Conventional memory below it, in KiB.
pub const BASE_KIB: i32 = 640 - EBDA_KIB;
/// Segment of the 16-bit BIOS.
pub const BIOS_SEGMENT: u16 = 0xf000;
/// Where the image begins once it is visible below 1 MiB.
pub const IMAGE: u32 = 0xe_0000;
/// Bytes of the image.
pub const IMAGE_LEN: usize = 128 << 10;
/// Bytes of the video BIOS, at the image's start and, copied, at [`VIDEO_SEGMENT`].
pub const VIDEO_LEN: usize = 0x8000;
/// Segment that the video BIOS runs in.
pub const VIDEO_SEGMENT: u16 = 0xc000;
/// Address of the 32-bit code.
pub const CODE32: u32 = IMAGE + VIDEO_LEN as u32;
/// Bytes for the 32-bit code.
pub const CODE32_LEN: usize = 0x8000;
/// POST's stack pointer, in segment 0.
pub const POST_STACK: i32 = 0x7000;
/// Where boot sectors are loaded.
pub const BOOT_SECTOR: i32 = 0x7c00;

/// The BIOS data area (offsets from [`BDA_SEGMENT`]), names as in IBM's listing.
pub mod bda {
    /// Ports of the serial lines.
    pub const RS232_BASE: i32 = 0x00;
    /// Ports of the printers.
    pub const PRINTER_BASE: i32 = 0x08;
    /// Segment of the extended BIOS data area.
    pub const EBDA_PTR: i32 = 0x0e;
    /// Equipment flags.
    pub const EQUIP_FLAG: i32 = 0x10;
    /// KiB of conventional memory.
    pub const MEMORY_SIZE: i32 = 0x13;
    /// Shift state.
    pub const KB_FLAG: i32 = 0x17;
    /// Keys held.
    pub const KB_FLAG_1: i32 = 0x18;
    /// Accumulator of Alt and keypad digits.
    pub const ALT_INPUT: i32 = 0x19;
    /// Next key to be taken.
    pub const BUFFER_HEAD: i32 = 0x1a;
    /// Next free place.
    pub const BUFFER_TAIL: i32 = 0x1c;
    /// The keyboard buffer.
    pub const KB_BUFFER: i32 = 0x1e;
    /// Its end.
    pub const KB_BUFFER_END: i32 = 0x3e;
    /// Diskette: recalibrated drives, bit 7: interrupt has come.
    pub const SEEK_STATUS: i32 = 0x3e;
    /// Diskette: motors.
    pub const MOTOR_STATUS: i32 = 0x3f;
    /// Diskette: ticks until motors stop.
    pub const MOTOR_COUNT: i32 = 0x40;
    /// Diskette: status of the last operation.
    pub const DISKETTE_STATUS: i32 = 0x41;
    /// Diskette: the controller's result bytes.
    pub const NEC_STATUS: i32 = 0x42;
    /// Reset flag: 1234h is a warm start.
    pub const RESET_FLAG: i32 = 0x72;
    /// Fixed disk: status.
    pub const DISK_STATUS: i32 = 0x74;
    /// Number of fixed disks.
    pub const DISK_COUNT: i32 = 0x75;
    /// Start of the keyboard buffer.
    pub const BUFFER_START: i32 = 0x80;
    /// End of the keyboard buffer.
    pub const BUFFER_END: i32 = 0x82;
    /// Keyboard: E0 and E1 seen, 101 keys.
    pub const KB_FLAG_3: i32 = 0x96;
    /// Wait of INT 15h AH=83h/86h is active.
    pub const TIMER_LOW: i32 = 0x6c;
    /// Ticks, high word.
    pub const TIMER_HIGH: i32 = 0x6e;
    /// Midnight has passed.
    pub const TIMER_OVERFLOW: i32 = 0x70;
}

/// Our variables (offsets from [`EBDA_SEGMENT`]).
pub mod ebda {
    /// Far pointer of the PS/2 mouse handler (as IBM has it).
    pub const MOUSE_HANDLER: i32 = 0x22;
    /// Mouse: bits 0-2 bytes received; bit 7: a byte is awaited.
    pub const MOUSE_COUNT: i32 = 0x26;
    /// Mouse: bit 7 handler installed, bits 0-2 package size - 1.
    pub const MOUSE_FLAGS: i32 = 0x27;
    /// Mouse: the package.
    pub const MOUSE_DATA: i32 = 0x28;
    /// Parameter table of fixed disk 0 (INT 41h).
    pub const FDPT0: i32 = 0x3d;
    /// Parameter table of fixed disk 1 (INT 46h).
    pub const FDPT1: i32 = 0x4d;

    /// For BIOS drive 80h + n: number of the drive + 1, or 0.
    pub const DISK_MAP: i32 = 0x100;
    /// For BIOS drive E0h + n: likewise.
    pub const CD_MAP: i32 = 0x108;
    /// CMOS types of the two floppy drives.
    pub const FLOPPY_TYPE: i32 = 0x110;
    /// Number of drives found.
    pub const DRIVE_COUNT: i32 = 0x112;
    /// Port of the serial console, or 0.
    pub const SERIAL_CONSOLE: i32 = 0x114;
    /// Escape sequence of the serial console's input: 0 none, 1 ESC, 2 ESC [.
    pub const SERIAL_ESCAPE: i32 = 0x116;
    /// Polls until a lone ESC counts as the key.
    pub const SERIAL_WAIT: i32 = 0x117;
    /// Serial console: where the terminal's cursor is (row, column), or -1.
    pub const CONSOLE_CURSOR: i32 = 0x1a8;
    /// Serial console: the terminal's colours.
    pub const CONSOLE_COLOUR: i32 = 0x1aa;
    /// Serial console: the video BIOS.
    pub const CONSOLE_NEXT: i32 = 0x1ac;
    /// A 8254-independent answer to "is there a VGA".
    pub const HAS_VGA: i32 = 0x118;
    /// fw_cfg answers.
    pub const HAS_FW_CFG: i32 = 0x119;
    /// The ROM area can be written.
    pub const SHADOWED: i32 = 0x11a;
    /// Power management base port of the PIIX4 or ICH9, or 0.
    pub const PM_BASE: i32 = 0x11c;
    /// Number of the E820 entries.
    pub const E820_COUNT: i32 = 0x11e;

    /// El Torito: emulation of a medium is active.
    pub const ET_ACTIVE: i32 = 0x120;
    /// El Torito: media type of the emulation (1-4), 0 without.
    pub const ET_MEDIA: i32 = 0x121;
    /// El Torito: BIOS drive that the emulated medium is.
    pub const ET_DRIVE: i32 = 0x122;
    /// El Torito: number of the CD drive.
    pub const ET_CD: i32 = 0x123;
    /// El Torito: first block of the image.
    pub const ET_LBA: i32 = 0x124;
    /// El Torito: cylinders of the emulated medium.
    pub const ET_CYLINDERS: i32 = 0x128;
    /// El Torito: heads.
    pub const ET_HEADS: i32 = 0x12a;
    /// El Torito: sectors of a track.
    pub const ET_SECTORS: i32 = 0x12c;
    /// El Torito: load segment.
    pub const ET_SEGMENT: i32 = 0x12e;
    /// El Torito: sectors loaded at boot.
    pub const ET_COUNT: i32 = 0x130;
    /// El Torito: the next sector of an emulated transfer.
    pub const ET_NEXT: i32 = 0x134;
    /// El Torito: how many are left.
    pub const ET_LEFT: i32 = 0x138;
    /// El Torito: segment that the next one goes to.
    pub const ET_TO: i32 = 0x13a;
    /// El Torito: its offset, below 16.
    pub const ET_TO_OFFSET: i32 = 0x13c;

    /// Request: first block, 64 bits.
    pub const RQ_LBA: i32 = 0x140;
    /// Request: blocks.
    pub const RQ_COUNT: i32 = 0x148;
    /// Request: buffer, offset and segment.
    pub const RQ_BUFFER: i32 = 0x14a;
    /// Request: segment of the buffer.
    pub const RQ_SEGMENT: i32 = 0x14c;
    /// Request: [`super::op`].
    pub const RQ_OP: i32 = 0x14e;
    /// Request: blocks done.
    pub const RQ_DONE: i32 = 0x150;
    /// Request: the drive's entry.
    pub const RQ_DRIVE: i32 = 0x152;
    /// Request: the buffer's linear address.
    pub const RQ_LINEAR: i32 = 0x154;
    /// Where a bounced transfer's next block belongs, offset and segment.
    pub const BOUNCE_TO: i32 = 0x158;
    /// How many blocks it has.
    pub const BOUNCE_COUNT: i32 = 0x15c;
    /// A command packet.
    pub const PACKET: i32 = 0x160;

    /// Bytes of RAM below 4 GiB.
    pub const RAM_LOW: i32 = 0x180;
    /// Bytes of RAM above 4 GiB, in 64 KiB.
    pub const RAM_HIGH: i32 = 0x184;
    /// First byte above the RAM that guests may use below 4 GiB.
    pub const RAM_TOP: i32 = 0x188;
    /// The next place for a table that must lie in the last 128 KiB of the first megabyte.
    pub const LOW_TABLES: i32 = 0x18c;
    /// Boot menu: what is listed: class and number.
    pub const MENU: i32 = 0x194;
    /// Next free I/O port of PCI.
    pub const PCI_IO: i32 = 0x1c0;
    /// Next free address of PCI memory.
    pub const PCI_MEMORY: i32 = 0x1c4;
    /// Highest bus number.
    pub const PCI_LAST_BUS: i32 = 0x1c8;
    /// Address of the PCI Express configuration space, or 0.
    pub const ECAM: i32 = 0x1cc;
    /// The chipset is Q35.
    pub const IS_Q35: i32 = 0x1a0;
    /// The boot menu is wanted without a key.
    pub const WANT_MENU: i32 = 0x1a1;
    /// What PM1a control is written for soft off.
    pub const SLEEP_OFF: i32 = 0x1a2;
    /// The next place for a table at the top of RAM.
    pub const HIGH_TABLES: i32 = 0x1a4;
    /// What INT 18h tries next.
    pub const BOOT_NEXT: i32 = 0x1b0;
    /// The monitor's next address.
    pub const MONITOR_AT: i32 = 0x1b4;
    /// Bus master ports of the IDE controller, or 0.
    pub const BUS_MASTER: i32 = 0x1b8;
    /// Two physical region descriptors for its DMA.
    pub const REGIONS: i32 = 0x1d0;
    /// Index ports of AHCI controllers, two bytes each.
    pub const AHCI_PORTS: i32 = 0x1e0;
    /// How many of them at most.
    pub const AHCI_MAX: i32 = 8;
    /// How many there are.
    pub const AHCI_COUNT: i32 = 0x1f0;
    /// Another processor sets its memory types.
    pub const STARTING: i32 = 0x1f2;
    /// How many of them have.
    pub const STARTED: i32 = 0x1f4;
    /// Entries of the drives.
    pub const DRIVES: i32 = 0x200;
    /// The map that INT 15h AX=E820h tells: 20 bytes each.
    pub const E820: i32 = 0x400;
    /// How many of them.
    pub const E820_MAX: i32 = 24;
    /// Names of the drives, 32 bytes each.
    pub const NAMES: i32 = 0x600;
    /// A sector of a CD.
    pub const SECTOR: i32 = 0x800;
    /// AHCI: command list, of which the first place is used. It begins at a multiple of 1 KiB.
    pub const AHCI_LIST: i32 = 0x1000;
    /// AHCI: received FISes, at a multiple of 256 bytes.
    pub const AHCI_FIS: i32 = 0x1100;
    /// AHCI: command table with one descriptor, at a multiple of 128 bytes.
    pub const AHCI_TABLE: i32 = 0x1200;
    /// virtio disks: queue, request and registers of each, 192 bytes.
    pub const VIRTIO: i32 = 0x1400;
    /// How many of them.
    pub const VIRTIO_MAX: i32 = 8;
    /// NVMe controllers: [`super::nvme`].
    pub const NVME: i32 = 0x1a00;
    /// How many of them.
    pub const NVME_MAX: i32 = 8;
    /// Boot order: [`super::boot_class`] and number of each, then [`super::boot_class::END`].
    pub const BOOT_ORDER: i32 = 0x1b00;
    /// How many there are at most, besides the end.
    pub const BOOT_ORDER_MAX: i32 = 24;
    /// How many there are.
    pub const BOOT_COUNT: i32 = 0x1b32;
    /// A path of the board's boot order: function, as it is written to 0CF8h.
    pub const PATH_FUNCTION: i32 = 0x1b34;
    /// Its class and subclass.
    pub const PATH_CLASS: i32 = 0x1b38;
    /// The numbers of the two nodes after it, or -1.
    pub const PATH_UNITS: i32 = 0x1b3c;
    /// How many disks, and CDs, have their places by such paths.
    pub const PLACED_DISKS: i32 = 0x1b44;
    /// See there.
    pub const PLACED_CDS: i32 = 0x1b45;
    /// Functions of the AHCI controllers (bus, device, function), two bytes each.
    pub const AHCI_FUNCTIONS: i32 = 0x1b50;
}

/// What is known of an NVMe controller (offsets).
pub mod nvme {
    /// Bytes of an entry.
    pub const SIZE: i32 = 32;
    /// Address of its registers.
    pub const REGISTERS: i32 = 0;
    /// Bytes from one doorbell to the next.
    pub const STRIDE: i32 = 4;
    /// Blocks that a command moves at most.
    pub const MOST: i32 = 8;
    /// Namespaces that there may be.
    pub const NAMESPACES: i32 = 12;
    /// Of the admin queues, then of the I/O queues: tail, head, phase tag of the next completion.
    pub const QUEUES: i32 = 16;
}

/// A drive's entry (offsets).
pub mod drive {
    /// Bytes of an entry.
    pub const SIZE: i32 = 32;
    /// How many there are.
    pub const MAX: i32 = 16;
    /// What it is: [`super::kind`].
    pub const KIND: i32 = 0;
    /// bit 0: 48-bit addresses, bit 1: DMA, and [`AHCI`], [`DWORDS`].
    pub const FLAGS: i32 = 1;
    /// It is at an AHCI controller.
    pub const AHCI: i32 = 4;
    /// It moves data to and from multiples of four only.
    pub const DWORDS: i32 = 8;
    /// virtio: where its queue is in the extended BIOS data area. NVMe: where its controller's entry is.
    pub const PLACE: i32 = 24;
    /// ATA: device register, 0xe0 or 0xf0. AHCI: number of the port. NVMe: number of the namespace.
    pub const UNIT: i32 = 2;
    /// ATA: port of the command block. AHCI: index port of the controller. virtio, NVMe: bus, device and function.
    pub const PORT: i32 = 4;
    /// ATA: port of the device control register.
    pub const CONTROL: i32 = 6;
    /// Blocks, 64 bits.
    pub const BLOCKS: i32 = 8;
    /// Logical cylinders.
    pub const CYLINDERS: i32 = 16;
    /// Logical heads.
    pub const HEADS: i32 = 18;
    /// Sectors of a track.
    pub const SECTORS: i32 = 20;
    /// Bytes of a block.
    pub const BLOCK: i32 = 22;
}

/// Kinds of drives.
pub mod kind {
    /// ATA disk.
    pub const ATA: i32 = 1;
    /// ATAPI CD.
    pub const ATAPI: i32 = 2;
    /// virtio block device.
    pub const VIRTIO: i32 = 3;
    /// NVMe namespace.
    pub const NVME: i32 = 4;
}

/// Operations of a request.
pub mod op {
    /// Read.
    pub const READ: i32 = 0;
    /// Write.
    pub const WRITE: i32 = 1;
    /// Read and throw away.
    pub const VERIFY: i32 = 2;
}

/// What to boot from.
pub mod boot_class {
    /// Nothing more.
    pub const END: i32 = 0;
    /// Floppy drive.
    pub const FLOPPY: i32 = 1;
    /// Disk.
    pub const DISK: i32 = 2;
    /// CD.
    pub const CD: i32 = 3;
}
