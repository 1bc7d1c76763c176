//! Where the harness puts things: the same linear addresses in the guest and in the host's child process, and guest
//! physical memory of 512 KiB behind them.
//!
//! Code is read-only and executable, data and stack are writable, the last data page is read-only, and nothing else is
//! mapped for user code. In the 16-bit modes the same memory is reached through segments.

/// First byte of the code under test.
pub const CODE: u64 = 0x1000_0000;
/// Bytes of code.
pub const CODE_LEN: usize = 0x4000;
/// First byte of data.
pub const DATA: u64 = 0x2000_0000;
/// Bytes of data, the read-only page included.
pub const DATA_LEN: usize = 0x5000;
/// The read-only page at the end of the data.
pub const READ_ONLY: u64 = DATA + 0x4000;
/// First byte of the stack.
pub const STACK: u64 = 0x3000_0000;
/// Bytes of stack.
pub const STACK_LEN: usize = 0x4000;
/// Where the stack pointer stands at first.
pub const STACK_TOP: u64 = STACK + 0x2000;

/// Guest RAM.
pub(crate) const RAM_LEN: u64 = 0x8_0000;
pub(crate) const GDT: u64 = 0x1000;
pub(crate) const IDT: u64 = 0x2000;
pub(crate) const TSS: u64 = 0x3000;
/// HLT for vector v lies at this address plus 16 v.
pub(crate) const HANDLERS: u64 = 0x4000;
/// End of the kernel's stack.
pub(crate) const KERNEL_STACK: u64 = 0x6000;
pub(crate) const LONG_TABLES: u64 = 0x8000;
pub(crate) const FLAT_TABLES: u64 = 0x4_0000;
/// Physical addresses of code, data and stack; also their places in real mode.
pub(crate) const CODE_AT: u64 = 0x1_0000;
pub(crate) const DATA_AT: u64 = 0x2_0000;
pub(crate) const STACK_AT: u64 = 0x3_0000;

/// Selectors of the descriptor table; those of user code are Linux's, so that programs may look at them.
pub(crate) mod selector {
    pub const KERNEL32: u16 = 0x08;
    pub const KERNEL64: u16 = 0x10;
    pub const KERNEL_DATA: u16 = 0x18;
    pub const USER32: u16 = 0x23;
    pub const USER_DATA: u16 = 0x2b;
    pub const USER64: u16 = 0x33;
    pub const TSS: u16 = 0x40;
    /// 16-bit code, data, stack; +24 for the kernel's.
    pub const CODE16: u16 = 0x50;
    pub const DATA16: u16 = 0x58;
    pub const STACK16: u16 = 0x60;
}
