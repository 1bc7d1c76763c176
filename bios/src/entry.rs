//! The state in which a boot protocol starts the boot processor: plain data for the machine to apply.

/// Operating mode at the entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryMode {
    /// 32-bit protected mode, paging off.
    Protected32,
    /// 64-bit mode, the low 4 GiB mapped to themselves.
    Long64,
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// Base address.
    pub base: u64,
    /// Limit in bytes, inclusive.
    pub limit: u32,
    /// Access rights as VMX lays them out (SDM vol. 3, 25.4.1): bits 0-3 type, 4 S, 5-6 DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G.
    pub attributes: u16,
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRegister {
    /// Linear address.
    pub base: u64,
    /// Limit in bytes, inclusive.
    pub limit: u16,
}

/// Everything that differs from the state after reset. General registers not named are zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryState {
    /// The mode, for a quick check; CR0 and EFER say the same.
    pub mode: EntryMode,
    /// First instruction.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Accumulator (multiboot: the magic number).
    pub rax: u64,
    /// Base register (PVH, multiboot: the information structure).
    pub rbx: u64,
    /// Source index (Linux: the zero page).
    pub rsi: u64,
    /// Flags; interrupts are off.
    pub rflags: u64,
    /// CR0.
    pub cr0: u64,
    /// CR3: physical address of the root page table in 64-bit mode.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER MSR.
    pub efer: u64,
    /// Global descriptor table.
    pub gdt: TableRegister,
    /// Interrupt descriptor table: empty.
    pub idt: TableRegister,
    /// Code segment.
    pub cs: Segment,
    /// DS, ES, FS, GS and SS.
    pub data: Segment,
    /// Task register: a busy TSS, which protected mode always has.
    pub tr: Segment,
}

/// Selector of the code segment (Linux: `__BOOT_CS`).
const CODE: u16 = 0x10;
/// Selector of the data segment (Linux: `__BOOT_DS`).
const DATA: u16 = 0x18;
/// Selector of the task state segment.
const TSS: u16 = 0x20;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME_LMA: u64 = 0x500;

/// Bytes of the descriptor table that [`gdt_bytes`] makes.
pub const GDT_LEN: u64 = 6 * 8;
/// Bytes of the page tables that [`identity_tables`] makes.
pub const PAGE_TABLES_LEN: u64 = 6 * 0x1000;

impl EntryState {
    /// Flat 32-bit protected mode with the descriptor table at `gdt`.
    pub fn protected32(rip: u64, gdt: u64) -> Self {
        let flat = |selector, attributes| Segment { selector, base: 0, limit: u32::MAX, attributes };
        Self {
            mode: EntryMode::Protected32,
            rip,
            rsp: 0,
            rax: 0,
            rbx: 0,
            rsi: 0,
            rflags: 2,
            cr0: CR0_PE | CR0_ET,
            cr3: 0,
            cr4: 0,
            efer: 0,
            gdt: TableRegister { base: gdt, limit: (GDT_LEN - 1) as u16 },
            idt: TableRegister { base: 0, limit: 0 },
            cs: flat(CODE, 0xc09b),
            data: flat(DATA, 0xc093),
            tr: Segment { selector: TSS, base: 0, limit: 0x67, attributes: 0x008b },
        }
    }

    /// 64-bit mode with the descriptor table at `gdt` and the tables of [`identity_tables`] at `page_tables`.
    pub fn long64(rip: u64, gdt: u64, page_tables: u64) -> Self {
        let mut state = Self::protected32(rip, gdt);
        state.mode = EntryMode::Long64;
        state.cr0 |= CR0_PG;
        state.cr3 = page_tables;
        state.cr4 = CR4_PAE;
        state.efer = EFER_LME_LMA;
        state.cs.attributes = 0xa09b;
        state
    }
}

/// The descriptor table that matches the segments of `mode`: null, null, code, data, TSS (two slots in 64-bit mode).
pub fn gdt_bytes(mode: EntryMode) -> Vec<u8> {
    let code: u64 = match mode {
        EntryMode::Protected32 => 0x00cf_9b00_0000_ffff,
        EntryMode::Long64 => 0x00af_9b00_0000_ffff,
    };
    let tss: u64 = 0x0000_8b00_0000_0067;
    [0, 0, code, 0x00cf_9300_0000_ffff, tss, 0].iter().flat_map(|d: &u64| d.to_le_bytes()).collect()
}

/// Page tables at `at` that map the low 4 GiB to themselves in 2 MiB pages: PML4, PDPT, four directories.
pub fn identity_tables(at: u64) -> Vec<u8> {
    const PRESENT_WRITABLE: u64 = 0x3;
    const LARGE: u64 = 0x80;
    let mut entries = vec![0u64; (PAGE_TABLES_LEN / 8) as usize];
    entries[0] = (at + 0x1000) | PRESENT_WRITABLE;
    for directory in 0..4 {
        entries[512 + directory] = (at + 0x2000 + directory as u64 * 0x1000) | PRESENT_WRITABLE;
    }
    for (page, entry) in entries[1024..].iter_mut().enumerate() {
        *entry = ((page as u64) << 21) | PRESENT_WRITABLE | LARGE;
    }
    entries.iter().flat_map(|e| e.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_tables_map_the_last_page() {
        let tables = identity_tables(0x3_0000);
        assert_eq!(tables.len() as u64, PAGE_TABLES_LEN);
        let last: [u8; 8] = tables[tables.len() - 8..].try_into().unwrap();
        assert_eq!(u64::from_le_bytes(last), 0xffe0_0083);
    }

    #[test]
    fn descriptors_agree_with_the_hidden_parts() {
        for (state, mode) in [
            (EntryState::protected32(0, 0), EntryMode::Protected32),
            (EntryState::long64(0, 0, 0), EntryMode::Long64),
        ] {
            let gdt = gdt_bytes(mode);
            assert_eq!(gdt.len() as u64, GDT_LEN);
            for segment in [state.cs, state.data, state.tr] {
                let at = usize::from(segment.selector);
                let rights = u16::from(gdt[at + 5]) | (u16::from(gdt[at + 6] & 0xf0) << 8);
                assert_eq!(rights, segment.attributes, "selector {at:#x}");
            }
        }
    }
}
