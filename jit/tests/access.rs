//! The matrix of access rights: each combination of page-table bits, control bits and kinds of access, against a model written
//! from the manual's text (SDM vol. 3, 4.6, 4.7 and 4.8), in every paging mode and tier.
//!
//! Each case writes a PDE and a PTE, executes INVLPG, accesses the page in some cases once as a supervisor so that the
//! translation is cached, and then does the access that counts, as instructions of the guest. Compared: fault or not, error
//! code, CR2, and the accessed and dirty bits afterwards. Control registers change in the outer loops only, so that nothing but
//! INVLPG drops translations in between.
//!
//! By default each test takes every n-th case; `cargo test -p jit --test access -- --ignored` takes them all.

mod rig;

use jit::{Exit, TierPolicy};
use rig::{Rig, Rng, config};
use softmmu::Gpa;
use x86::state::{Segment, TableReg, cr0, cr4, efer, reg, rflags, seg};

const GDT: u64 = 0x8000;
const IDT: u64 = 0x9000;
/// #PF and #GP: a HLT each.
const ON_PF: u64 = 0xa000;
const ON_GP: u64 = 0xa100;
const TSS: u64 = 0xb000;
/// The accesses, each followed by HLT.
const SNIPPETS: u64 = 0xc000;
const STACK_TOP: u64 = 0xf000;
/// Where user code sees what supervisors see at its physical address.
const USER_ALIAS: u64 = 0x4000_0000;
/// The page of the test, its entries, and what it shows.
const PAGE: u64 = 0x8000_0000;
const PDE: u64 = 0x2_0000;
const TABLE: u64 = 0x2_1000;
const FRAME: u64 = 0x40_0000;
/// The directory of 32-bit paging, which has the test's PDE too.
const BITS32: u64 = 0x1_7000;
/// The byte that is accessed.
const AT: u64 = PAGE + 8;

const P: u64 = 1;
const W: u64 = 1 << 1;
const U: u64 = 1 << 2;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const RESERVED: u64 = 1 << 51;
const KEY: u64 = 1 << 59;
const NX: u64 = 1 << 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paging {
    Bits32,
    Pae,
    Level4,
    Level5,
}

impl Paging {
    fn long(self) -> bool {
        matches!(self, Paging::Level4 | Paging::Level5)
    }
    /// Bits that a large page's entry must not have: between PAT and the address.
    fn large_reserved(self) -> u64 {
        if self == Paging::Bits32 { 1 << 21 } else { 1 << 13 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Fetch,
    /// VERR of a descriptor in the LDT: the processor itself reads, as a supervisor.
    Implicit,
}

const KINDS: [Kind; 4] = [Kind::Read, Kind::Write, Kind::Fetch, Kind::Implicit];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Access {
    kind: Kind,
    user: bool,
    ac: bool,
}

/// Control bits; `keys`: PKRU, with CR4.PKE set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Controls {
    wp: bool,
    nxe: bool,
    smep: bool,
    smap: bool,
    keys: Option<u32>,
}

/// What an access does: an error code, or the PDE and PTE afterwards.
type Effect = Result<(u64, u64), u32>;

/// The manual's rules.
fn model(paging: Paging, c: Controls, access: Access, pde: u64, pte: u64) -> Effect {
    let Access { kind, user, ac } = access;
    let (write, fetch) = (kind == Kind::Write, kind == Kind::Fetch);
    let user = user && kind != Kind::Implicit;
    let nx_works = c.nxe && paging != Paging::Bits32;
    let mut code = u32::from(write) << 1 | u32::from(user) << 2;
    if fetch && (nx_works || c.smep) {
        code |= 16;
    }
    let large = pde & PS != 0;
    let path: &[u64] = if large { &[pde] } else { &[pde, pte] };
    for (level, entry) in path.iter().enumerate() {
        if entry & P == 0 {
            return Err(code);
        }
        let mut reserved = 0;
        if paging != Paging::Bits32 {
            reserved |= RESERVED;
            if !c.nxe {
                reserved |= NX;
            }
        }
        if level == 0 && large {
            reserved |= paging.large_reserved();
        }
        if entry & reserved != 0 {
            return Err(code | 9);
        }
    }
    code |= 1;
    let all = |bit: u64| path.iter().all(|entry| entry & bit != 0);
    let user_page = all(U);
    let executable = !(nx_works && path.iter().any(|entry| entry & NX != 0));
    let mut allowed = if fetch {
        executable && if user { user_page } else { !(user_page && c.smep) }
    } else {
        let reachable = if user { user_page } else { !(user_page && c.smap) || ac && kind != Kind::Implicit };
        reachable && (!write || all(W) || !user && !c.wp)
    };
    if let Some(pkru) = c.keys
        && paging.long()
        && user_page
        && !fetch
    {
        let key = path[path.len() - 1] >> 59 & 15;
        let (ad, wd) = (pkru >> (2 * key) & 1 != 0, pkru >> (2 * key + 1) & 1 != 0);
        if ad || wd && write && (user || c.wp) {
            code |= 32;
            allowed = false;
        }
    }
    if !allowed {
        return Err(code);
    }
    let dirty = if write { D } else { 0 };
    Ok(if large { (pde | A | dirty, pte) } else { (pde | A, pte | A | dirty) })
}

struct Bench {
    rig: Rig,
    paging: Paging,
}

fn segment(selector: u16, code: bool, user: bool, long: bool) -> Segment {
    let size = if long && code { Segment::L } else { Segment::DB };
    let dpl = if user { 0x60 } else { 0 };
    let attrs = Segment::G | size | dpl | if code { 0x9b } else { 0x93 };
    Segment { base: 0, limit: u32::MAX, attrs, selector }
}

impl Bench {
    fn new(tier: TierPolicy, paging: Paging) -> Self {
        let rig = Rig::new(config(tier));
        let long = paging.long();
        let size = if long { 0x00a0_0000_0000_0000u64 } else { 0x00c0_0000_0000_0000 };
        let put = |at: u64, v: u64| rig.space.store(Gpa(at), v).expect("RAM");
        for (n, access) in [(1, 0x9b), (2, 0x93), (3, 0xfb), (4, 0xf3)] {
            let size = if access & 8 != 0 { size } else { 0x00c0_0000_0000_0000 };
            put(GDT + 8 * n, size | 0x000f_0000_0000_ffff | access << 40);
        }
        for (vector, at) in [(13u64, ON_GP), (14, ON_PF)] {
            let gate = at & 0xffff | 8 << 16 | 0x8e00 << 32;
            put(IDT + vector * if long { 16 } else { 8 }, gate);
        }
        if long {
            put(TSS + 4, STACK_TOP);
        } else {
            put(TSS + 4, STACK_TOP | 0x10 << 32);
        }
        for at in [ON_PF, ON_GP] {
            put(at, 0xf4);
        }
        // MOV AL, [EBX]; MOV [EBX], AL; JMP EBX; VERR AX; INVLPG [EBX].
        for (n, code) in
            [&[0x8a, 0x03][..], &[0x88, 0x03], &[0xff, 0xe3], &[0x0f, 0x00, 0xe0], &[0x0f, 0x01, 0x3b]]
                .into_iter()
                .enumerate()
        {
            rig.space.write(Gpa(SNIPPETS + 0x40 * n as u64), &[code, &[0xf4]].concat()).expect("RAM");
        }
        rig.space.write(Gpa(FRAME), &[0xf4; 4096]).expect("RAM");
        let mut bench = Self { rig, paging };
        bench.tables();
        let st = &mut bench.rig.cpu.st;
        st.gdtr = TableReg { base: GDT, limit: 0x3f };
        st.idtr = TableReg { base: IDT, limit: 0xfff };
        st.tr = Segment { base: TSS, limit: 0x67, attrs: 0x8b, selector: 0x28 };
        st.ldtr = Segment { base: PAGE, limit: 0xfff, attrs: 0x82, selector: 0x38 };
        bench
    }

    /// Supervisors see memory at its place, users at [`USER_ALIAS`]; the test's PDE is for [`PAGE`].
    fn tables(&mut self) {
        const L4: u64 = 0x1_0000;
        const L3: u64 = 0x1_1000;
        const KERNEL: u64 = 0x1_2000;
        const USER: u64 = 0x1_3000;
        const L5: u64 = 0x1_5000;
        const PAE: u64 = 0x1_6000;
        let rig = &self.rig;
        let put = |at: u64, v: u64| rig.space.store(Gpa(at), v).expect("RAM");
        let put32 = |at: u64, v: u64| rig.space.store(Gpa(at), v as u32).expect("RAM");
        put(L5, L4 | 7);
        put(L4, L3 | 7);
        for (n, directory) in [(0, KERNEL), (1, USER), (2, PDE)] {
            put(L3 + 8 * n, directory | 7);
            put(PAE + 8 * n, directory | 1);
        }
        for n in 0..8 {
            put(KERNEL + 8 * n, n << 21 | 0xe3);
            put(USER + 8 * n, n << 21 | 0xe7);
        }
        for n in 0..4 {
            put32(BITS32 + 4 * n, n << 22 | 0xe3);
            put32(BITS32 + 4 * (n + 0x100), n << 22 | 0xe7);
        }
        let st = &mut self.rig.cpu.st;
        st.pdptes = [KERNEL | 1, USER | 1, PDE | 1, 0];
        st.cr3 = match self.paging {
            Paging::Bits32 => BITS32,
            Paging::Pae => PAE,
            Paging::Level4 => L4,
            Paging::Level5 => L5,
        };
    }

    fn control(&mut self, c: Controls) {
        let bit = |on: bool, bit: u64| if on { bit } else { 0 };
        let long = self.paging.long();
        let st = &mut self.rig.cpu.st;
        st.cr0 = cr0::PE | cr0::ET | cr0::NE | cr0::PG | bit(c.wp, cr0::WP);
        st.cr4 = bit(self.paging != Paging::Bits32, cr4::PAE)
            | bit(self.paging == Paging::Bits32, cr4::PSE)
            | bit(self.paging == Paging::Level5, cr4::LA57)
            | bit(c.smep, cr4::SMEP)
            | bit(c.smap, cr4::SMAP)
            | bit(c.keys.is_some(), cr4::PKE);
        st.msr.efer = bit(long, efer::LME | efer::LMA) | bit(c.nxe, efer::NXE);
        st.pkru = c.keys.unwrap_or(0xffff_ffff);
        self.level(false, false);
        self.rig.cpu.load_state_changed();
    }

    /// Chooses the level, as IRET does.
    fn level(&mut self, user: bool, ac: bool) {
        let long = self.paging.long();
        let st = &mut self.rig.cpu.st;
        let (code, data) = if user { (0x1b, 0x23) } else { (0x08, 0x10) };
        st.seg = [segment(data, false, user, long); 6];
        st.seg[seg::CS as usize] = segment(code, true, user, long);
        st.cpl = if user { 3 } else { 0 };
        self.rig.cpu.set_rflags(rflags::FIXED | if ac { rflags::AC } else { 0 });
        self.rig.cpu.mode_changed();
    }

    /// Executes a snippet; gives the error code of its page fault.
    fn go(&mut self, snippet: u64, user: bool, ac: bool) -> Result<(), u32> {
        self.level(user, ac);
        let at = SNIPPETS + 0x40 * snippet;
        let st = &mut self.rig.cpu.st;
        st.halted = false;
        st.rip = at + if user { USER_ALIAS } else { 0 };
        st.gpr[reg::RBX as usize] = AT;
        st.gpr[reg::RAX as usize] = 0x0c;
        st.gpr[reg::RSP as usize] = STACK_TOP;
        st.cr2 = 0;
        let until = st.icount() + 100;
        assert_eq!(self.rig.run(until), Exit::Halted);
        let st = &self.rig.cpu.st;
        let (rip, rsp) = (st.rip, st.gpr[reg::RSP as usize]);
        if rip == ON_PF + 1 {
            assert_eq!(st.cr2, AT);
            return Err(self.rig.word(rsp) as u32);
        }
        // A user's HLT is #GP, its address on the stack.
        let stopped = if user {
            assert_eq!(rip, ON_GP + 1);
            let wide = self.paging.long();
            let word = self.rig.word(rsp + if wide { 8 } else { 4 });
            (if wide { word } else { word & 0xffff_ffff }) + 1
        } else {
            rip
        };
        let fetched = snippet == 2;
        assert_eq!(stopped >= PAGE, fetched, "stopped at {stopped:#x}");
        Ok(())
    }

    fn pde_at(&self) -> u64 {
        if self.paging == Paging::Bits32 { BITS32 + 4 * (PAGE >> 22) } else { PDE }
    }

    fn entries(&self) -> (u64, u64) {
        let (pde, pte) = (self.rig.word(self.pde_at()), self.rig.word(TABLE));
        if self.paging == Paging::Bits32 { (pde & 0xffff_ffff, pte & 0xffff_ffff) } else { (pde, pte) }
    }

    fn set_entries(&self, pde: u64, pte: u64) {
        let space = &self.rig.space;
        if self.paging == Paging::Bits32 {
            space.store(Gpa(self.pde_at()), pde as u32).expect("RAM");
            space.store(Gpa(TABLE), pte as u32).expect("RAM");
        } else {
            space.store(Gpa(self.pde_at()), pde).expect("RAM");
            space.store(Gpa(TABLE), pte).expect("RAM");
        }
    }

    fn check(&mut self, c: Controls, access: Access, pde: u64, pte: u64, cached: bool) {
        let paging = self.paging;
        self.set_entries(pde, pte);
        assert_eq!(self.go(4, false, false), Ok(()), "INVLPG");
        let (mut was_pde, mut was_pte) = (pde, pte);
        if cached {
            let first = Access { kind: Kind::Read, user: false, ac: true };
            let expected = model(paging, c, first, pde, pte);
            let found = self.go(0, false, true).map(|()| self.entries());
            assert_eq!(found, expected, "{paging:?} {c:?} {first:?} {pde:#x} {pte:#x}");
            (was_pde, was_pte) = expected.unwrap_or((pde, pte));
        }
        let expected = model(paging, c, access, was_pde, was_pte);
        let found = self.go(access.kind as u64, access.user, access.ac).map(|()| self.entries());
        assert_eq!(found, expected, "{paging:?} {c:?} {access:?} {pde:#x} {pte:#x} cached: {cached}");
        if expected.is_err() {
            assert_eq!(self.entries(), (was_pde, was_pte), "{paging:?} {c:?} {access:?} {pde:#x} {pte:#x}");
        }
    }
}

/// The entry whose bits `n` chooses.
fn bits(n: usize, of: &[u64]) -> u64 {
    of.iter().enumerate().filter(|(k, _)| n >> k & 1 != 0).fold(0, |v, (_, bit)| v | bit)
}

/// PDEs and PTEs: all PTEs under a PDE that allows everything, all PDEs over such a PTE, all large pages, and some of both.
fn entries(paging: Paging) -> Vec<(u64, u64)> {
    let wide = paging != Paging::Bits32;
    let common = [P, W, U, A, D];
    let ptes: Vec<u64> = if wide { [&common[..], &[NX, RESERVED, KEY]].concat() } else { common.to_vec() };
    let mut pdes = vec![P, W, U, A];
    if wide {
        pdes.extend([NX, RESERVED]);
    }
    if paging.long() {
        // Only the last entry's key counts.
        pdes.push(KEY);
    }
    let large = [&ptes[..], &[paging.large_reserved()]].concat();
    let keyed = if paging.long() { ptes.len() } else { ptes.len().min(7) };
    let all_ptes: Vec<u64> = (0..1usize << keyed).map(|n| FRAME | bits(n, &ptes)).collect();
    let all_pdes: Vec<u64> = (0..1usize << pdes.len()).map(|n| TABLE | bits(n, &pdes)).collect();
    let mut found: Vec<(u64, u64)> = all_ptes.iter().map(|pte| (TABLE | P | W | U | A, *pte)).collect();
    found.extend(all_pdes.iter().map(|pde| (*pde, FRAME | P | W | U | A)));
    let key = |v: u64| paging.long() || v & KEY == 0;
    let large = (0..1usize << large.len()).map(|n| bits(n, &large)).filter(|v| key(*v));
    found.extend(large.map(|v| (FRAME | PS | v, 0)));
    let mut rng = Rng(77);
    found.extend((0..300).map(|_| (rng.pick(&all_pdes), rng.pick(&all_ptes))));
    found
}

fn controls(paging: Paging) -> Vec<Controls> {
    // Of key 1: nothing, all access, writes denied.
    let keys: &[Option<u32>] = if paging.long() { &[None, Some(0), Some(4), Some(8)] } else { &[None] };
    let mut found = Vec::new();
    for n in 0..16 {
        let on = |bit: u32| n >> bit & 1 != 0;
        for keys in keys {
            found.push(Controls { wp: on(0), nxe: on(1), smep: on(2), smap: on(3), keys: *keys });
        }
    }
    found
}

/// Every `stride`-th case.
fn matrix(paging: Paging, tier: TierPolicy, stride: u64) {
    let mut bench = Bench::new(tier, paging);
    let all = entries(paging);
    let mut rng = Rng(1 + stride);
    let (mut skip, mut done) = (0, 0);
    for c in controls(paging) {
        bench.control(c);
        for n in 0..16u8 {
            let access = Access { kind: KINDS[usize::from(n & 3)], user: n & 4 != 0, ac: n & 8 != 0 };
            for (pde, pte) in &all {
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                if stride > 1 {
                    skip = rng.below(2 * stride - 1);
                }
                bench.check(c, access, *pde, *pte, done & 1 != 0);
                done += 1;
            }
        }
    }
    assert!(done > 1000, "{done} cases");
}

const TIERS: [TierPolicy; 3] = [TierPolicy::Zero, TierPolicy::One, TierPolicy::Auto];

#[test]
fn paging_of_32_bits() {
    TIERS.into_iter().for_each(|tier| matrix(Paging::Bits32, tier, 10));
}

#[test]
fn pae_paging() {
    TIERS.into_iter().for_each(|tier| matrix(Paging::Pae, tier, 20));
}

#[test]
fn paging_of_4_levels() {
    TIERS.into_iter().for_each(|tier| matrix(Paging::Level4, tier, 100));
}

#[test]
fn paging_of_5_levels() {
    TIERS.into_iter().for_each(|tier| matrix(Paging::Level5, tier, 200));
}

#[test]
#[ignore = "millions of cases"]
fn everything() {
    for paging in [Paging::Bits32, Paging::Pae, Paging::Level4, Paging::Level5] {
        TIERS.into_iter().for_each(|tier| matrix(paging, tier, 1));
    }
}
