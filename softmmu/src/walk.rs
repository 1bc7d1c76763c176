//! Page walks (SDM vol. 3, chapter 4): 32-bit with PSE and PSE-36, PAE, 4-level and 5-level paging.
//!
//! A walk reads the whole path first and checks reserved bits at each level, then the combined rights, and only then
//! sets accessed and dirty bits, top down, by compare-and-swap. If the guest changed an entry meanwhile the exchange
//! fails and the walk starts again: an update of ours never overwrites a write of the guest's.

use crate::addr::{Access, Gpa, Privilege, RamPage};
use crate::space::AddressSpace;

/// The paging mode (CR0.PG, CR4.PAE, EFER.LMA, CR4.LA57).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Paging {
    /// Linear addresses are physical.
    #[default]
    None,
    /// 32-bit paging.
    Bits32 {
        /// CR4.PSE: 4 MiB pages (with PSE-36).
        pse: bool,
    },
    /// PAE paging; the four PDPTEs are registers.
    Pae,
    /// 4-level paging.
    Level4,
    /// 5-level paging.
    Level5,
}

impl Paging {
    /// Can there be an entry for `gva`? Not without paging, nor for an address that is not canonical or not of 32 bits.
    #[inline]
    pub(crate) fn translates(self, gva: u64) -> bool {
        let unused = match self {
            Self::None => return false,
            Self::Bits32 { .. } | Self::Pae => return gva >> 32 == 0,
            Self::Level4 => 16,
            Self::Level5 => 7,
        };
        ((gva << unused) as i64 >> unused) as u64 == gva
    }
}

/// All that a translation depends on besides the tables and the privilege.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PagingContext {
    /// The mode.
    pub paging: Paging,
    /// CR3; flag bits and the PCID are ignored.
    pub cr3: u64,
    /// CR3's PCID where CR4.PCIDE is set, else 0.
    pub pcid: u16,
    /// PKRU where protection keys are on (CR4.PKE and IA-32e mode).
    pub pkru: Option<u32>,
    /// PAE only: the PDPTEs as MOV CR3 loaded (and checked) them.
    pub pdptes: [u64; 4],
    /// CR0.WP.
    pub wp: bool,
    /// EFER.NXE.
    pub nxe: bool,
    /// CR4.SMEP.
    pub smep: bool,
    /// CR4.SMAP.
    pub smap: bool,
    /// CR4.PGE.
    pub pge: bool,
    /// A20M#: bit 20 of every physical address is zero.
    pub a20_masked: bool,
    /// CPUID: 1 GiB pages.
    pub gib_pages: bool,
    /// MAXPHYADDR, 32 to 52.
    pub phys_bits: u8,
}

/// A #PF: the address for CR2 and the error code (SDM vol. 3, 4.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageFault {
    /// The linear address.
    pub gva: u64,
    /// P 1, W/R 2, U/S 4, RSVD 8, I/D 16, PK 32.
    pub code: u32,
}

impl PageFault {
    /// The page was present.
    pub const PRESENT: u32 = 1;
    /// The access was a write.
    pub const WRITE: u32 = 2;
    /// The access came from CPL 3.
    pub const USER: u32 = 4;
    /// A reserved bit was set.
    pub const RESERVED: u32 = 8;
    /// The access was an instruction fetch (reported when NXE or SMEP is on).
    pub const FETCH: u32 = 16;
    /// PKRU denies the access.
    pub const KEY: u32 = 32;
}

/// A successful walk. The rights are those of the privilege that walked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// Physical address of the byte.
    pub gpa: Gpa,
    /// Bytes: 4 KiB, 2 MiB, 4 MiB or 1 GiB.
    pub page_size: u64,
    /// Data loads are allowed.
    pub readable: bool,
    /// Stores are allowed and need no further walk: rights are there and D is set.
    pub writable: bool,
    /// Fetches are allowed.
    pub executable: bool,
    /// A user page.
    pub user: bool,
    /// Survives [`Flush::NonGlobal`](crate::Flush::NonGlobal).
    pub global: bool,
}

impl Translation {
    /// Is there nothing left to be done before such an access?
    #[inline]
    pub(crate) fn allows(&self, access: Access) -> bool {
        match access {
            Access::Read => self.readable,
            Access::Write => self.writable,
            Access::Execute => self.executable,
        }
    }
}

/// Where the walker finds page tables.
pub trait TableMemory {
    /// The entry of `size` bytes (4 or 8, aligned) at `at`; `None` when that is not memory.
    fn load_entry(&mut self, at: u64, size: u8) -> Option<u64>;
    /// Replaces the entry if it is still `old`; false when it is not. Read-only memory ignores the update: true.
    fn update_entry(&mut self, at: u64, size: u8, old: u64, new: u64) -> bool;
    /// A walk begins, or begins again.
    fn begin(&mut self) {}
    /// The page of guest RAM that physical address `at` is in; `None` where it is something else, or page tables there are not to be shadowed.
    fn ram_page(&mut self, _at: u64) -> Option<RamPage> {
        None
    }
    /// What [`Self::remember`] was last told of the 2 MiB range of `gva`, while it may be used.
    fn recall(&mut self, _gva: u64) -> Option<u64> {
        None
    }
    /// In 4-level and 5-level paging the 2 MiB range of `gva` has one page table: `entry` is its address, with the R/W and
    /// U/S (combined by AND) and XD (by OR) of the entries above it, whose accessed bits are set. Or it lies in a
    /// large page: `entry` is a leaf with PS, the frame of the range, and the combined rights.
    fn remember(&mut self, _gva: u64, _entry: u64) {}
}

const P: u64 = 1;
const RW: u64 = 1 << 1;
const US: u64 = 1 << 2;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const G: u64 = 1 << 8;
const XD: u64 = 1 << 63;
/// In a remembered leaf (software may use the bit): the page has 1 GiB.
const IN_HUGE: u64 = 1 << 9;
/// The protection key of a leaf: four bits from here on.
const KEY_SHIFT: u32 = 59;
const KEY: u64 = 0xf << KEY_SHIFT;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// Translates `gva` for one access and sets accessed and dirty bits. See the module comment.
pub fn walk(
    space: &AddressSpace,
    ctx: &PagingContext,
    privilege: Privilege,
    gva: u64,
    access: Access,
) -> Result<Translation, PageFault> {
    walk_in(&mut &*space, ctx, privilege, gva, access)
}

/// [`walk`] over any table memory.
pub fn walk_in<M: TableMemory>(
    memory: &mut M,
    ctx: &PagingContext,
    privilege: Privilege,
    gva: u64,
    access: Access,
) -> Result<Translation, PageFault> {
    walk_by(memory, &Rules::new(ctx), privilege, gva, access)
}

/// [`walk`] with what follows from the context worked out before.
pub(crate) fn walk_by<M: TableMemory>(
    memory: &mut M,
    rules: &Rules,
    privilege: Privilege,
    gva: u64,
    access: Access,
) -> Result<Translation, PageFault> {
    let walker = Walker { rules, ctx: &rules.ctx, privilege, gva, access };
    loop {
        memory.begin();
        let result = match rules.ctx.paging {
            Paging::None => return Ok(walker.identity()),
            Paging::Bits32 { pse } => walker.bits32(memory, pse),
            Paging::Pae => walker.pae(memory),
            Paging::Level4 => walker.long(memory, 4),
            Paging::Level5 => walker.long(memory, 5),
        };
        match result {
            Ok(translation) => return Ok(translation),
            Err(Stop::Fault(code)) => return Err(PageFault { gva, code }),
            Err(Stop::Changed) => {}
        }
    }
}

/// The common case of [`walk_by`]: the page table is known, the access is allowed, and no bit has to be set. `None` says
/// nothing: walk.
#[inline(always)]
pub(crate) fn walk_quickly<M: TableMemory>(
    memory: &mut M,
    rules: &Rules,
    privilege: Privilege,
    gva: u64,
    access: Access,
) -> Option<Translation> {
    let table = memory.recall(gva)?;
    if table & PS != 0 {
        return walk_large_quickly(rules, privilege, gva, access, table);
    }
    let at = (table & FRAME) | (((gva >> 12) & 0x1ff) << 3);
    let pte = memory.load_entry(at & rules.lines, 8)?;
    let merged = merge(pte, table, table);
    let used = P | A | if access == Access::Write { D } else { 0 };
    let rights = &rules.rights[privilege as usize];
    if merged & used != used || pte & rules.reserved != 0 || !rights[access as usize].allow(merged) {
        return None;
    }
    Some(rules.translation(rights, merged, (pte & FRAME) | (gva & 0xfff), 1 << 12))
}

/// [`walk_quickly`] in a large page.
#[inline(always)]
fn walk_large_quickly(
    rules: &Rules,
    privilege: Privilege,
    gva: u64,
    access: Access,
    leaf: u64,
) -> Option<Translation> {
    let used = if access == Access::Write { D } else { 0 };
    let rights = &rules.rights[privilege as usize];
    if leaf & used != used || !rights[access as usize].allow(leaf) {
        return None;
    }
    let size = if leaf & IN_HUGE != 0 { 1 << 30 } else { 1 << 21 };
    Some(rules.translation(rights, leaf, (leaf & FRAME) | (gva & 0x1f_ffff), size))
}

/// A leaf with the rights of the whole path: `all` holds the AND of R/W and U/S, `any` the OR of XD.
#[inline(always)]
fn merge(leaf: u64, all: u64, any: u64) -> u64 {
    (leaf & (all | !(RW | US))) | (any & XD)
}

/// The bits of a merged entry that an access needs set and clear (SDM vol. 3, 4.6).
#[derive(Clone, Copy, Default, Debug)]
struct Rights {
    mask: u64,
    need: u64,
    /// Protection keys of user pages that deny the access, one bit each.
    denied_keys: u16,
}

impl Rights {
    fn of(ctx: &PagingContext, privilege: Privilege, access: Access) -> Self {
        let (mut need, mut forbid) = (0, 0);
        if privilege == Privilege::User {
            need |= US;
        } else if match access {
            Access::Execute => ctx.smep,
            _ => ctx.smap && privilege == Privilege::Supervisor,
        } {
            forbid |= US;
        }
        match access {
            Access::Read => {}
            Access::Write if ctx.wp || privilege == Privilege::User => need |= RW,
            Access::Write => {}
            Access::Execute => forbid |= XD,
        }
        Self { mask: need | forbid, need, denied_keys: denied_keys(ctx, privilege, access) }
    }

    #[inline(always)]
    fn allow(self, merged: u64) -> bool {
        merged & self.mask == self.need && (self.denied_keys == 0 || !self.key_denies(merged))
    }

    /// SDM vol. 3, 4.6.2: keys govern data accesses to user pages, at any privilege.
    fn key_denies(self, merged: u64) -> bool {
        merged & US != 0 && self.denied_keys >> (merged >> KEY_SHIFT & 15) & 1 != 0
    }
}

/// Keys whose AD bit in PKRU is set; for writes also those with WD, unless the supervisor may write anywhere.
fn denied_keys(ctx: &PagingContext, privilege: Privilege, access: Access) -> u16 {
    let (Some(pkru), false) = (ctx.pkru, access == Access::Execute) else { return 0 };
    let writes = access == Access::Write && (ctx.wp || privilege == Privilege::User);
    let denies = |key: u32| pkru >> (2 * key) & if writes { 3 } else { 1 } != 0;
    (0..16).filter(|key| denies(*key)).fold(0, |mask, key| mask | 1 << key)
}

/// A context, and what follows from it.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Rules {
    pub ctx: PagingContext,
    /// By privilege, then access.
    rights: [[Rights; 3]; 3],
    /// Reserved in every entry of 4-level and 5-level paging.
    reserved: u64,
    /// Physical address lines that pass.
    lines: u64,
}

impl Rules {
    pub fn new(ctx: &PagingContext) -> Self {
        let rights = [Privilege::Supervisor, Privilege::SupervisorAc, Privilege::User].map(|privilege| {
            [Access::Read, Access::Write, Access::Execute].map(|access| Rights::of(ctx, privilege, access))
        });
        let above_phys = u64::MAX.checked_shl(ctx.phys_bits.into()).unwrap_or(0);
        let reserved = (above_phys & FRAME) | if ctx.nxe { 0 } else { XD };
        let lines = if ctx.a20_masked { !(1 << 20) } else { !0 };
        Self { ctx: *ctx, rights, reserved, lines }
    }

    /// What a leaf with the rights of the whole path gives to `p`.
    #[inline]
    pub fn judge(&self, p: Privilege, merged: u64, gpa: u64, page_size: u64) -> Translation {
        self.translation(&self.rights[p as usize], merged, gpa, page_size)
    }

    #[inline(always)]
    fn translation(&self, rights: &[Rights; 3], merged: u64, gpa: u64, page_size: u64) -> Translation {
        Translation {
            gpa: Gpa(gpa & self.lines),
            page_size,
            readable: rights[Access::Read as usize].allow(merged),
            writable: rights[Access::Write as usize].allow(merged) && merged & D != 0,
            executable: rights[Access::Execute as usize].allow(merged),
            user: merged & US != 0,
            global: self.ctx.pge && merged & G != 0,
        }
    }
}

enum Stop {
    Fault(u32),
    /// An entry changed between our read and our update of its A/D bits.
    Changed,
}

struct Walker<'a> {
    rules: &'a Rules,
    ctx: &'a PagingContext,
    privilege: Privilege,
    gva: u64,
    access: Access,
}

/// The entries read so far, for the A/D update, and the rights they combine to.
struct Path {
    entries: [(u64, u64); 5],
    len: usize,
    size: u8,
    /// AND of all entries: R/W and U/S.
    all: u64,
    /// OR of all entries: XD.
    any: u64,
}

impl Path {
    fn new(size: u8) -> Self {
        Self { entries: [(0, 0); 5], len: 0, size, all: !0, any: 0 }
    }
}

impl Walker<'_> {
    fn identity(&self) -> Translation {
        Translation {
            // 52 bits: no x86 has more, and an entry of the TLB could not hold them.
            gpa: Gpa(self.gva & (FRAME | 0xfff) & self.rules.lines),
            page_size: 1 << 12,
            readable: true,
            writable: true,
            executable: true,
            user: true,
            global: false,
        }
    }

    /// Error code bits that only depend on the access.
    fn code(&self) -> u32 {
        let fetch_reported =
            self.ctx.smep || (self.ctx.nxe && !matches!(self.ctx.paging, Paging::Bits32 { .. }));
        let mut code = 0;
        if self.privilege == Privilege::User {
            code |= PageFault::USER;
        }
        match self.access {
            Access::Write => code |= PageFault::WRITE,
            Access::Execute if fetch_reported => code |= PageFault::FETCH,
            _ => {}
        }
        code
    }

    #[cold]
    fn not_present(&self) -> Stop {
        Stop::Fault(self.code())
    }

    #[cold]
    fn reserved(&self) -> Stop {
        Stop::Fault(self.code() | PageFault::PRESENT | PageFault::RESERVED)
    }

    #[cold]
    fn denied(&self, by_key: bool) -> Stop {
        let key = if by_key { PageFault::KEY } else { 0 };
        Stop::Fault(self.code() | PageFault::PRESENT | key)
    }

    /// Reads an entry, checks P and `reserved`, adds it to the path.
    #[inline(always)]
    fn step<M: TableMemory>(
        &self,
        memory: &mut M,
        path: &mut Path,
        at: u64,
        reserved: u64,
    ) -> Result<u64, Stop> {
        let at = at & self.rules.lines;
        let Some(entry) = memory.load_entry(at, path.size) else { return Err(self.not_present()) };
        if entry & P == 0 {
            return Err(self.not_present());
        }
        if entry & reserved != 0 {
            return Err(self.reserved());
        }
        path.entries[path.len] = (at, entry);
        path.len += 1;
        path.all &= entry;
        path.any |= entry;
        Ok(entry)
    }

    fn bits32<M: TableMemory>(&self, memory: &mut M, pse: bool) -> Result<Translation, Stop> {
        let gva = self.gva & 0xffff_ffff;
        let mut path = Path::new(4);
        let at = (self.ctx.cr3 & 0xffff_f000) | ((gva >> 22) << 2);
        let pde = self.step(memory, &mut path, at, 0)?;
        if pse && pde & PS != 0 {
            // PSE-36: bits 20:13 are address bits 39:32; bit 21 and those at or above MAXPHYADDR are reserved.
            let high = (pde >> 13) & 0xff;
            let address_bits = u32::from(self.ctx.phys_bits.clamp(32, 40)) - 32;
            if pde & (1 << 21) != 0 || high >> address_bits != 0 {
                return Err(self.reserved());
            }
            let frame = (pde & 0xffc0_0000) | (high << 32);
            return self.finish(memory, &path, frame, gva, 1 << 22);
        }
        let at = (pde & 0xffff_f000) | (((gva >> 12) & 0x3ff) << 2);
        let pte = self.step(memory, &mut path, at, 0)?;
        self.finish(memory, &path, pte & 0xffff_f000, gva, 1 << 12)
    }

    fn pae<M: TableMemory>(&self, memory: &mut M) -> Result<Translation, Stop> {
        let gva = self.gva & 0xffff_ffff;
        let pdpte = self.ctx.pdptes[(gva >> 30) as usize];
        if pdpte & P == 0 {
            return Err(self.not_present());
        }
        // SDM table 4-10: bits 62:MAXPHYADDR are reserved, XD too unless NXE.
        let reserved = self.rules.reserved | 0x7ff0_0000_0000_0000;
        let mut path = Path::new(8);
        let at = (pdpte & FRAME) | (((gva >> 21) & 0x1ff) << 3);
        let pde = self.step(memory, &mut path, at, reserved)?;
        if pde & PS != 0 {
            if pde & 0x001f_e000 != 0 {
                return Err(self.reserved());
            }
            return self.finish(memory, &path, pde & FRAME & !0x1f_ffff, gva, 1 << 21);
        }
        let at = (pde & FRAME) | (((gva >> 12) & 0x1ff) << 3);
        let pte = self.step(memory, &mut path, at, reserved)?;
        self.finish(memory, &path, pte & FRAME, gva, 1 << 12)
    }

    fn long<M: TableMemory>(&self, memory: &mut M, levels: u32) -> Result<Translation, Stop> {
        let gva = self.gva;
        // The caller has checked that the address is canonical (#GP, not #PF); one that is not never gets an entry.
        let unused = 64 - (12 + 9 * levels);
        if ((gva << unused) as i64 >> unused) as u64 != gva {
            return Err(self.not_present());
        }
        let reserved = self.rules.reserved;
        let mut path = Path::new(8);
        let mut table = self.ctx.cr3 & FRAME & !reserved;
        for level in (2..=levels).rev() {
            let shift = 12 + 9 * (level - 1);
            let at = table | (((gva >> shift) & 0x1ff) << 3);
            let large = level == 2 || (level == 3 && self.ctx.gib_pages);
            let entry = self.step(memory, &mut path, at, if large { reserved } else { reserved | PS })?;
            if entry & PS != 0 {
                let size = 1u64 << shift;
                if entry & (size - 1) & !0x1fff != 0 {
                    return Err(self.reserved());
                }
                let frame = entry & FRAME & !(size - 1);
                let result = self.finish(memory, &path, frame, gva, size)?;
                let dirty = if self.access == Access::Write { D } else { 0 };
                let flags = merge(entry, path.all, path.any) & (P | RW | US | D | PS | G | KEY | XD);
                let huge = if level == 3 { IN_HUGE } else { 0 };
                memory.remember(gva, result.gpa.0 & FRAME & !0x1f_ffff | flags | dirty | huge);
                return Ok(result);
            }
            table = entry & FRAME;
        }
        let above = table | (path.all & (RW | US)) | (path.any & XD);
        let at = table | (((gva >> 12) & 0x1ff) << 3);
        let pte = self.step(memory, &mut path, at, reserved)?;
        let result = self.finish(memory, &path, pte & FRAME, gva, 1 << 12)?;
        memory.remember(gva, above);
        Ok(result)
    }

    /// Rights (SDM vol. 3, 4.6), then A/D.
    #[inline(always)]
    fn finish<M: TableMemory>(
        &self,
        memory: &mut M,
        path: &Path,
        frame: u64,
        gva: u64,
        page_size: u64,
    ) -> Result<Translation, Stop> {
        let leaf = path.len - 1;
        let leaf_entry = path.entries[leaf].1;
        let merged = merge(leaf_entry, path.all, path.any);
        let rights = &self.rules.rights[self.privilege as usize];
        if !rights[self.access as usize].allow(merged) {
            return Err(self.denied(rights[self.access as usize].key_denies(merged)));
        }
        let sets_dirty = if self.access == Access::Write { D } else { 0 };
        if path.all & A == 0 || !leaf_entry & sets_dirty != 0 {
            for (i, &(at, entry)) in path.entries[..path.len].iter().enumerate() {
                let want = if i == leaf { A | sets_dirty } else { A };
                if entry & want != want && !memory.update_entry(at, path.size, entry, entry | want) {
                    return Err(Stop::Changed);
                }
            }
        }
        Ok(self.rules.translation(rights, merged | sets_dirty, frame | (gva & (page_size - 1)), page_size))
    }
}
