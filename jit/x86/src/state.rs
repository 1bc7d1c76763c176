//! Everything an x86 processor holds, in a `#[repr(C)]` layout that generated code addresses by `offset_of!`.

use serde::{Deserialize, Serialize};

pub use crate::sys::IoAccess;

/// Indices into [`CpuState::gpr`].
pub mod reg {
    #![expect(missing_docs, reason = "register names")]
    pub const RAX: u8 = 0;
    pub const RCX: u8 = 1;
    pub const RDX: u8 = 2;
    pub const RBX: u8 = 3;
    pub const RSP: u8 = 4;
    pub const RBP: u8 = 5;
    pub const RSI: u8 = 6;
    pub const RDI: u8 = 7;
    /// A slot that always reads zero: "no base" and "no index" in an address.
    pub const ZERO: u8 = 16;
}

/// Indices into [`CpuState::seg`], in the order of the `Sreg` encoding.
pub mod seg {
    #![expect(missing_docs, reason = "register names")]
    pub const ES: u8 = 0;
    pub const CS: u8 = 1;
    pub const SS: u8 = 2;
    pub const DS: u8 = 3;
    pub const FS: u8 = 4;
    pub const GS: u8 = 5;
}

/// RFLAGS bits (SDM vol. 1, 3.4.3).
pub mod rflags {
    #![expect(missing_docs, reason = "flag names")]
    pub const CF: u64 = 1 << 0;
    pub const FIXED: u64 = 1 << 1;
    pub const PF: u64 = 1 << 2;
    pub const AF: u64 = 1 << 4;
    pub const ZF: u64 = 1 << 6;
    pub const SF: u64 = 1 << 7;
    pub const TF: u64 = 1 << 8;
    pub const IF: u64 = 1 << 9;
    pub const DF: u64 = 1 << 10;
    pub const OF: u64 = 1 << 11;
    pub const IOPL: u64 = 3 << 12;
    pub const IOPL_SHIFT: u32 = 12;
    pub const NT: u64 = 1 << 14;
    pub const RF: u64 = 1 << 16;
    pub const VM: u64 = 1 << 17;
    pub const AC: u64 = 1 << 18;
    pub const VIF: u64 = 1 << 19;
    pub const VIP: u64 = 1 << 20;
    pub const ID: u64 = 1 << 21;
    /// The six flags that arithmetic sets; kept lazily (see `cc`).
    pub const ARITH: u64 = CF | PF | AF | ZF | SF | OF;
}

/// CR0 bits.
pub mod cr0 {
    #![expect(missing_docs, reason = "bit names")]
    pub const PE: u64 = 1 << 0;
    pub const MP: u64 = 1 << 1;
    pub const EM: u64 = 1 << 2;
    pub const TS: u64 = 1 << 3;
    pub const ET: u64 = 1 << 4;
    pub const NE: u64 = 1 << 5;
    pub const WP: u64 = 1 << 16;
    pub const AM: u64 = 1 << 18;
    pub const NW: u64 = 1 << 29;
    pub const CD: u64 = 1 << 30;
    pub const PG: u64 = 1 << 31;
}

/// CR4 bits.
pub mod cr4 {
    #![expect(missing_docs, reason = "bit names")]
    pub const VME: u64 = 1 << 0;
    pub const PVI: u64 = 1 << 1;
    pub const TSD: u64 = 1 << 2;
    pub const DE: u64 = 1 << 3;
    pub const PSE: u64 = 1 << 4;
    pub const PAE: u64 = 1 << 5;
    pub const MCE: u64 = 1 << 6;
    pub const PGE: u64 = 1 << 7;
    pub const PCE: u64 = 1 << 8;
    pub const OSFXSR: u64 = 1 << 9;
    pub const OSXMMEXCPT: u64 = 1 << 10;
    pub const UMIP: u64 = 1 << 11;
    pub const LA57: u64 = 1 << 12;
    pub const FSGSBASE: u64 = 1 << 16;
    pub const PCIDE: u64 = 1 << 17;
    pub const OSXSAVE: u64 = 1 << 18;
    pub const SMEP: u64 = 1 << 20;
    pub const SMAP: u64 = 1 << 21;
    pub const PKE: u64 = 1 << 22;
}

/// EFER bits.
pub mod efer {
    #![expect(missing_docs, reason = "bit names")]
    pub const SCE: u64 = 1 << 0;
    pub const LME: u64 = 1 << 8;
    pub const LMA: u64 = 1 << 10;
    pub const NXE: u64 = 1 << 11;
}

/// A segment register with its hidden part.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Linear base address.
    pub base: u64,
    /// Limit in bytes (granularity applied): the last valid offset, or for expand-down the last invalid one.
    pub limit: u32,
    /// Bits 55:40 of the descriptor (type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15); bits 11:8 zero.
    pub attrs: u16,
    /// The visible selector.
    pub selector: u16,
}

#[expect(missing_docs, reason = "descriptor field names")]
impl Segment {
    pub const S: u16 = 1 << 4;
    pub const P: u16 = 1 << 7;
    pub const L: u16 = 1 << 13;
    pub const DB: u16 = 1 << 14;
    pub const G: u16 = 1 << 15;

    pub fn dpl(&self) -> u8 {
        (self.attrs >> 5 & 3) as u8
    }
    pub fn is_code(&self) -> bool {
        self.attrs & 0x18 == 0x18
    }
    pub fn is_conforming(&self) -> bool {
        self.attrs & 0x1c == 0x1c
    }
    /// Data segment with the expand-down bit.
    pub fn is_expand_down(&self) -> bool {
        self.attrs & 0x1c == 0x14
    }
    pub fn is_writable(&self) -> bool {
        self.attrs & 0x1a == 0x12
    }
    pub fn is_readable(&self) -> bool {
        self.attrs & 0x18 == 0x10 || self.attrs & 0x1a == 0x1a
    }
    pub fn db(&self) -> bool {
        self.attrs & Self::DB != 0
    }
    /// Base 0, limit 4 GiB - 1, present, expand-up: an offset is a linear address and no limit check can fail.
    pub fn is_flat(&self) -> bool {
        self.base == 0
            && self.limit == u32::MAX
            && self.attrs & 0x94 == 0x90 | (self.attrs & 0x04 & self.code_mask())
    }
    fn code_mask(&self) -> u16 {
        // For code segments bit 2 is "conforming", which does not restrict data accesses' range.
        if self.attrs & 8 != 0 { 4 } else { 0 }
    }
}

/// GDTR or IDTR.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableReg {
    /// Linear base address.
    pub base: u64,
    /// Limit in bytes (last valid offset).
    pub limit: u16,
}

/// A 128-bit vector register (or half of a 256-bit one) as two little-endian quadwords.
pub type Xmm = [u64; 2];

/// Why the block being executed must be left ([`CpuState::stop`]). Zero: go on.
pub mod stop {
    /// Go on with the next instruction.
    pub const NONE: u32 = 0;
    /// The instruction raised [`super::CpuState::fault`]; nothing of it was retired.
    pub const FAULT: u32 = 1;
    /// The instruction is complete; leave the block and look at interrupts, deadlines and the mode again.
    pub const AFTER: u32 = 2;
    /// The instruction needs a device or an exact count: nothing of it was done; execute it alone.
    pub const REDO: u32 = 3;
    /// An instruction that Retrograde does not implement: stop the machine with a report.
    pub const UNIMPLEMENTED: u32 = 4;
    /// The processor shuts down.
    pub const SHUTDOWN: u32 = 6;
    /// A corrupted translation was found: stop the machine with a report.
    pub const CORRUPT: u32 = 5;
    /// An interrupt comes before the instruction, of which nothing was done.
    pub const EVENT: u32 = 7;
    /// The instruction is complete, and less time is left than its block takes: go on without it.
    pub const SHORT: u32 = 8;
}

/// An exception waiting to be delivered.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Vector 0..31.
    pub vector: u8,
    /// Does the exception push an error code (in protected and long mode)?
    pub has_code: bool,
    /// The error code.
    pub code: u32,
    /// CR2 for #PF, the DR6 bits to merge for #DB.
    pub info: u64,
}

/// The x87 FPU's registers (SDM vol. 1, 8.1). The tag word is kept as one "empty" bit per physical register; the full
/// tags are computed when stored.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct X87 {
    /// Physical registers R0..R7: significand.
    pub mant: [u64; 8],
    /// Physical registers R0..R7: sign and exponent.
    pub sexp: [u16; 8],
    /// Control word.
    pub cw: u16,
    /// Status word, TOP included.
    pub sw: u16,
    /// Bit n set: physical register n is empty.
    pub empty: u8,
    /// Last instruction opcode (11 bits).
    pub fop: u16,
    /// Last instruction pointer: offset, selector.
    pub fip: u64,
    /// Last instruction's CS.
    pub fcs: u16,
    /// Last data pointer: offset.
    pub fdp: u64,
    /// Last data pointer's segment.
    pub fds: u16,
}

impl Default for X87 {
    fn default() -> Self {
        // SDM vol. 3, table 10-1: FPU state after power-up is that of FNINIT here (Linux and BIOSes run FNINIT anyway).
        Self {
            mant: [0; 8],
            sexp: [0; 8],
            cw: 0x37f,
            sw: 0,
            empty: 0xff,
            fop: 0,
            fip: 0,
            fcs: 0,
            fdp: 0,
            fds: 0,
        }
    }
}

/// What the last XRSTOR or XRSTORS loaded, and from where (SDM vol. 1, 13.6: XRSTOR_INFO and XMODIFIED_BM).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// There was one.
    pub valid: bool,
    /// The level at which it was executed.
    pub cpl: u8,
    /// Linear address of the image.
    pub at: u64,
    /// XCOMP_BV of the image.
    pub map: u64,
    /// The components that were loaded or initialised.
    pub components: u64,
    /// Their contents.
    pub x87: X87,
    /// XMM registers.
    pub xmm: [Xmm; 16],
    /// Upper halves of the YMM registers.
    pub ymm_hi: [Xmm; 16],
    /// MXCSR.
    pub mxcsr: u32,
    /// PKRU.
    pub pkru: u32,
}

/// Control state beyond the control registers: MSRs that only the CPU looks at.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "MSR names")]
pub struct Msrs {
    pub efer: u64,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub pat: u64,
    pub misc_enable: u64,
    pub tsc_aux: u64,
    /// Added to virtual nanoseconds to give the TSC (wrapping).
    pub tsc_offset: u64,
    pub mtrr_def_type: u64,
    pub mtrr_fixed: [u64; 11],
    pub mtrr_var: [u64; 16],
    pub spec_ctrl: u64,
    pub xss: u64,
    pub mcg_status: u64,
    pub mcg_ctl: u64,
    pub bios_sign_id: u64,
    pub debugctl: u64,
    pub feature_control: u64,
    /// Machine-check banks: ctl, status, addr, misc of up to 4 banks.
    pub mc: [u64; 16],
}

/// The registers of one processor.
#[repr(C)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuState {
    /// General registers; slot 16 ([`reg::ZERO`]) is always zero, the rest is padding so that `& 31` needs no check.
    pub gpr: [u64; 32],
    /// Instruction pointer (offset in CS) of the next instruction to execute, valid between blocks.
    pub rip: u64,
    /// Instructions left before the engine must look up; negative is never seen between blocks.
    pub budget: i64,
    /// The count at which `budget` would be 0: retired instructions = `icount_end - budget` between blocks.
    pub icount_end: u64,
    /// Inside a block: `icount_end - budget - count_bias + insn.idx` is the count before that instruction.
    pub count_bias: u64,
    /// Virtual nanoseconds = retired instructions, as [`Pace`] counts them, + this (time skipped in HLT).
    pub time_offset: u64,
    /// See [`stop`].
    pub stop: u32,
    /// How the arithmetic flags follow from `cc_res`, `cc_src`, `cc_aux` (see `cc`).
    pub cc_op: u32,
    /// Result operand of the lazy flags.
    pub cc_res: u64,
    /// Second operand of the lazy flags.
    pub cc_src: u64,
    /// Third operand of the lazy flags (carry in).
    pub cc_aux: u64,
    /// RFLAGS without the arithmetic flags ([`rflags::ARITH`] bits are zero here), bit 1 included.
    pub flags: u64,
    /// What a translation depends on (see [`Mode`]).
    pub mode: Mode,
    /// MXCSR.
    pub mxcsr: u32,
    /// Results of slow-path calls from generated code.
    pub scratch: [u64; 4],
    /// XMM0..15.
    pub xmm: [Xmm; 16],
    /// Upper halves of YMM0..15.
    pub ymm_hi: [Xmm; 16],
    /// ES, CS, SS, DS, FS, GS.
    pub seg: [Segment; 6],
    /// Local descriptor table.
    pub ldtr: Segment,
    /// Task register.
    pub tr: Segment,
    /// Global descriptor table.
    pub gdtr: TableReg,
    /// Interrupt descriptor table.
    pub idtr: TableReg,
    /// Control registers (CR8 lives in the local APIC).
    pub cr0: u64,
    /// Page-fault linear address.
    pub cr2: u64,
    /// Page-table root.
    pub cr3: u64,
    /// Extensions.
    pub cr4: u64,
    /// PAE page-directory pointers, loaded by MOV CR3 (SDM vol. 3, 4.4.1).
    pub pdptes: [u64; 4],
    /// Extended control register 0.
    pub xcr0: u64,
    /// Protection-key rights of user pages.
    pub pkru: u32,
    /// Debug registers 0..3, 6, 7 at their numbers.
    pub dr: [u64; 8],
    /// Current privilege level.
    pub cpl: u8,
    /// HLT: waiting for an interrupt.
    pub halted: bool,
    /// Address line 20 passes.
    pub a20: bool,
    /// In system management mode.
    pub smm: bool,
    /// Where SMM's code and save area are.
    pub smbase: u32,
    /// NMIs were blocked when SMM was entered.
    pub smm_nmi: bool,
    /// The interrupt shadow then.
    pub smm_shadow: Shadow,
    /// MONITOR has armed the monitor, and no MWAIT came yet.
    pub monitor: bool,
    /// MWAIT: an interrupt that IF masks ends the wait.
    pub wakes_masked: bool,
    /// Interrupts and single-step traps are held back for one instruction (after STI, MOV SS, POP SS).
    pub shadow: Shadow,
    /// DR6 bits of debug traps that wait to be delivered.
    pub pending_debug: u64,
    /// NMIs are blocked until IRET.
    pub nmi_blocked: bool,
    /// Executing one instruction alone: device accesses are allowed.
    pub single: bool,
    /// The exception being raised when `stop` is [`stop::FAULT`].
    pub fault: Fault,
    /// x87 registers.
    pub x87: X87,
    /// For the modified optimisation of XSAVEOPT and XSAVES.
    pub restored: Restored,
    /// Model-specific registers.
    pub msr: Msrs,
    /// The last access to a port.
    pub io: IoAccess,
    /// The one that the SMI followed, while in SMM; `size` is 0 if it followed none.
    pub smm_io: IoAccess,
    /// How instructions become virtual time.
    pub pace: Pace,
    /// After INIT: nothing but a start-up IPI (or another INIT) has an effect. `halted` is set as well.
    pub wait_sipi: bool,
    /// PAUSE asks for the end of a turn: see [`crate::model::Isa::yields`].
    pub yielded: bool,
    /// What MONITOR saw, where several processors may store to it.
    pub monitored: Option<Monitored>,
}

/// How retired instructions become virtual nanoseconds: `time_offset + (count - origin) / divisor`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// The count from which instructions are counted.
    pub origin: u64,
    /// Instructions in a nanosecond: how many vCPUs share it by taking turns. 0: time is not counted, but the bus's clock tells it.
    pub divisor: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { origin: 0, divisor: 1 }
    }
}

impl Pace {
    /// The bus has the clock: vCPUs run in parallel.
    pub const BY_CLOCK: Self = Self { origin: 0, divisor: 0 };

    /// Is time counted?
    #[inline]
    pub const fn is_counted(self) -> bool {
        self.divisor != 0
    }

    /// Virtual nanoseconds at a count, but for `time_offset`.
    #[inline]
    pub fn time(self, count: u64) -> u64 {
        let since = count.wrapping_sub(self.origin);
        if self.divisor > 1 { since / u64::from(self.divisor) } else { since }
    }
}

/// A line of memory that MONITOR watches, and what was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monitored {
    /// Guest physical address of its first byte.
    pub line: u64,
    /// Its contents when MONITOR was executed.
    pub contents: [u64; 8],
}

/// Interrupt shadow (SDM vol. 3, 6.8.3).
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shadow {
    /// None.
    #[default]
    None,
    /// Set by STI: holds back maskable interrupts.
    Sti,
    /// Set by MOV SS or POP SS: holds back interrupts, NMIs and debug traps.
    MovSs,
}

/// What a translated block depends on besides its bytes. Two states with equal `Mode` execute the same bytes at the
/// same RIP by the same generated code.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mode(pub u32);

#[expect(missing_docs, reason = "named in the type's terms")]
impl Mode {
    /// CS.D: 32-bit code (when not CODE64).
    pub const CODE32: u32 = 1 << 0;
    /// 64-bit mode (EFER.LMA and CS.L).
    pub const CODE64: u32 = 1 << 1;
    /// Stack pointer is ESP (or RSP in 64-bit mode).
    pub const STACK32: u32 = 1 << 2;
    /// CR0.PE.
    pub const PROTECTED: u32 = 1 << 3;
    /// Virtual-8086 mode.
    pub const VM86: u32 = 1 << 4;
    pub const CS_FLAT: u32 = 1 << 5;
    pub const DS_FLAT: u32 = 1 << 6;
    pub const ES_FLAT: u32 = 1 << 7;
    pub const SS_FLAT: u32 = 1 << 8;
    /// CPL = 3.
    pub const USER: u32 = 1 << 9;
    /// CPL = 0 (real mode included).
    pub const KERNEL: u32 = 1 << 10;
    /// x87 instructions raise #NM (CR0.EM or TS).
    pub const X87_NM: u32 = 1 << 11;
    /// SSE instructions raise #UD (CR0.EM, or CR4.OSFXSR clear).
    pub const SSE_UD: u32 = 1 << 12;
    /// CR0.TS.
    pub const TS: u32 = 1 << 13;
    /// AVX is enabled (CR4.OSXSAVE and XCR0[2:1] = 3).
    pub const AVX: u32 = 1 << 14;
    /// MXCSR: round to nearest, no DAZ, no FTZ, all exceptions masked, and PE already set. Generated code may then use
    /// host arithmetic for normal operands and results.
    pub const FAST_FP: u32 = 1 << 15;
    /// EFER.LMA (64-bit or compatibility mode).
    pub const LONG: u32 = 1 << 16;

    /// CS has a limit that its code's offsets may exceed (16- and 32-bit code).
    pub const CS_SHORT: u32 = 1 << 17;
    /// The processor's instruction pointer has 16 bits (before the i386): code goes on at 0 behind FFFF.
    pub const IP16: u32 = 1 << 18;

    pub fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }
    /// Code size in bits.
    pub fn bitness(self) -> u32 {
        if self.has(Self::CODE64) {
            64
        } else if self.has(Self::CODE32) {
            32
        } else {
            16
        }
    }
}

impl Default for CpuState {
    fn default() -> Self {
        Self::power_on()
    }
}

impl CpuState {
    /// The state after RESET (SDM vol. 3, table 10-1).
    pub fn power_on() -> Self {
        let data = Segment { base: 0, limit: 0xffff, attrs: 0x93, selector: 0 };
        let mut s = Self {
            gpr: [0; 32],
            rip: 0xfff0,
            budget: 0,
            icount_end: 0,
            count_bias: 0,
            time_offset: 0,
            stop: stop::NONE,
            cc_op: 0,
            cc_res: 0,
            cc_src: 0,
            cc_aux: 0,
            flags: rflags::FIXED,
            mode: Mode(0),
            mxcsr: 0x1f80,
            scratch: [0; 4],
            xmm: [[0; 2]; 16],
            ymm_hi: [[0; 2]; 16],
            seg: [data; 6],
            ldtr: Segment { attrs: 0x82, limit: 0xffff, ..Default::default() },
            tr: Segment { attrs: 0x8b, limit: 0xffff, ..Default::default() },
            gdtr: TableReg { base: 0, limit: 0xffff },
            idtr: TableReg { base: 0, limit: 0xffff },
            cr0: cr0::ET | cr0::NW | cr0::CD,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            pdptes: [0; 4],
            xcr0: 1,
            pkru: 0,
            dr: [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400],
            cpl: 0,
            halted: false,
            a20: true,
            smm: false,
            smbase: 0x3_0000,
            smm_nmi: false,
            smm_shadow: Shadow::None,
            monitor: false,
            wakes_masked: false,
            shadow: Shadow::None,
            pending_debug: 0,
            nmi_blocked: false,
            single: false,
            fault: Fault::default(),
            x87: X87::default(),
            restored: Restored::default(),
            msr: Msrs { pat: 0x0007_0406_0007_0406, misc_enable: 1 << 18 | 1, ..Default::default() },
            io: IoAccess::default(),
            smm_io: IoAccess::default(),
            pace: Pace::default(),
            wait_sipi: false,
            yielded: false,
            monitored: None,
        };
        s.seg[seg::CS as usize] = Segment { base: 0xffff_0000, limit: 0xffff, attrs: 0x9b, selector: 0xf000 };
        s.compute_mode();
        s
    }

    /// Recomputes [`CpuState::mode`]. Called after every change of a register that it depends on.
    pub fn compute_mode(&mut self) {
        let mut m = 0;
        let [es, cs, ss, ds, ..] = &self.seg;
        let long = self.msr.efer & efer::LMA != 0;
        if long {
            m |= Mode::LONG;
        }
        if long && cs.attrs & Segment::L != 0 {
            m |= Mode::CODE64 | Mode::STACK32 | Mode::CS_FLAT | Mode::DS_FLAT | Mode::ES_FLAT | Mode::SS_FLAT;
        } else {
            let bit = |c: bool, b: u32| if c { b } else { 0 };
            m |= bit(cs.db(), Mode::CODE32) | bit(ss.db(), Mode::STACK32);
            let wr = |s: &Segment| s.is_flat() && s.is_writable();
            m |= bit(cs.is_flat() && cs.is_readable(), Mode::CS_FLAT);
            m |= bit(cs.limit < if cs.db() { u32::MAX } else { 0xffff }, Mode::CS_SHORT);
            m |= bit(wr(ds), Mode::DS_FLAT) | bit(wr(es), Mode::ES_FLAT) | bit(wr(ss), Mode::SS_FLAT);
        }
        if self.cr0 & cr0::PE != 0 {
            m |= Mode::PROTECTED;
        }
        if self.flags & rflags::VM != 0 {
            m |= Mode::VM86;
        }
        if self.cpl == 3 {
            m |= Mode::USER;
        }
        if self.cpl == 0 {
            m |= Mode::KERNEL;
        }
        if self.cr0 & (cr0::EM | cr0::TS) != 0 {
            m |= Mode::X87_NM;
        }
        if self.cr0 & cr0::EM != 0 || self.cr4 & cr4::OSFXSR == 0 {
            m |= Mode::SSE_UD;
        }
        if self.cr0 & cr0::TS != 0 {
            m |= Mode::TS;
        }
        if self.cr4 & cr4::OSXSAVE != 0 && self.xcr0 & 6 == 6 {
            m |= Mode::AVX;
        }
        // MXCSR: masks 12:7 all set, RC 14:13 = 0, FTZ 15 = 0, DAZ 6 = 0, PE 5 = 1.
        if self.mxcsr & 0xffe0 == 0x1fa0 {
            m |= Mode::FAST_FP;
        }
        self.mode = Mode(m);
    }

    /// Recomputes only the part of the mode that follows from MXCSR.
    #[inline]
    pub fn mxcsr_changed(&mut self) {
        let fast = if self.mxcsr & 0xffe0 == 0x1fa0 { Mode::FAST_FP } else { 0 };
        self.mode.0 = self.mode.0 & !Mode::FAST_FP | fast;
    }

    /// Retired instructions, between blocks.
    #[inline]
    pub fn icount(&self) -> u64 {
        self.icount_end.wrapping_sub(self.budget as u64)
    }

    /// Virtual nanoseconds, between blocks, where they are counted: see [`Vcpu::now`](crate::Vcpu::now).
    #[inline]
    pub fn now(&self) -> u64 {
        self.pace.time(self.icount()).wrapping_add(self.time_offset)
    }
}
