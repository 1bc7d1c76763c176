//! Translation contexts: PCIDs and protection keys (SDM vol. 3, 4.10 and 4.6.2).
#![cfg(not(loom))]

mod support;

use softmmu::{Access, Flush, Gpa, MemTrap, Mmu, PageFault, Paging, PagingContext, Privilege};
use support::{A, D, G, P, Tables, U, W, context, space};

/// Two address spaces: page 1000h is another frame in each, page 2000h is global.
fn two_spaces() -> (Mmu, [PagingContext; 2]) {
    let space = space();
    let mut first = Tables::new(&space);
    first.map(0x1000, 1, 0x20_0000, P | W | U | A | D);
    first.map(0x2000, 1, 0x20_1000, P | W | G | A | D);
    let mut second = Tables::at(&space, 0x18_0000);
    second.map(0x1000, 1, 0x30_0000, P | W | U | A | D);
    second.map(0x2000, 1, 0x20_1000, P | W | G | A | D);
    space.store(Gpa(0x20_0000), 1u8).unwrap();
    space.store(Gpa(0x30_0000), 2u8).unwrap();
    let contexts = [(first.root, 1), (second.root, 2)]
        .map(|(root, pcid)| PagingContext { pcid, ..context(Paging::Level4, root) });
    let mut mmu = Mmu::new(space);
    mmu.set_paging(&contexts[0], Flush::All);
    (mmu, contexts)
}

fn walks(mmu: &mut Mmu, f: impl FnOnce(&mut Mmu)) -> u64 {
    let before = mmu.counters().walks;
    f(mmu);
    mmu.counters().walks - before
}

#[test]
fn going_back_to_a_pcid_needs_no_walk() {
    let (mut mmu, [one, two]) = two_spaces();
    assert_eq!(mmu.read::<u8>(0x1000), Ok(1));
    mmu.set_paging(&two, Flush::None);
    assert_eq!(mmu.read::<u8>(0x1000), Ok(2));
    let again = walks(&mut mmu, |mmu| {
        mmu.set_paging(&one, Flush::None);
        assert_eq!(mmu.read::<u8>(0x1000), Ok(1));
        mmu.set_paging(&two, Flush::None);
        assert_eq!(mmu.read::<u8>(0x1000), Ok(2));
    });
    assert_eq!(again, 0);
    // MOV CR3 without bit 63 drops what its own PCID has, and nothing of the other's.
    let dropped = walks(&mut mmu, |mmu| {
        mmu.set_paging(&one, Flush::Pcid(1));
        mmu.read::<u8>(0x1000).unwrap();
    });
    assert_eq!(dropped, 1);
    let kept = walks(&mut mmu, |mmu| {
        mmu.set_paging(&two, Flush::None);
        mmu.read::<u8>(0x1000).unwrap();
    });
    assert_eq!(kept, 0);
}

#[test]
fn cr3_alone() {
    let (mut mmu, [one, two]) = two_spaces();
    mmu.read::<u8>(0x1000).unwrap();
    mmu.load_cr3(two.cr3, 2, Flush::None);
    assert_eq!(mmu.read::<u8>(0x1000), Ok(2));
    let again = walks(&mut mmu, |mmu| {
        for (ctx, value) in [(&one, 1), (&two, 2)] {
            mmu.load_cr3(ctx.cr3, ctx.pcid, Flush::None);
            assert_eq!(mmu.paging(), ctx);
            assert_eq!(mmu.read::<u8>(0x1000), Ok(value));
        }
    });
    assert_eq!(again, 0);
    // The same PCID with another CR3.
    mmu.load_cr3(one.cr3, 2, Flush::Pcid(2));
    assert_eq!(mmu.read::<u8>(0x1000), Ok(1));
    mmu.load_cr3(two.cr3, 2, Flush::Pcid(2));
    assert_eq!(mmu.read::<u8>(0x1000), Ok(2));
    // The set of PCID 1 was made when user pages could be read.
    mmu.set_paging(&PagingContext { smap: true, ..two }, Flush::All);
    mmu.load_cr3(one.cr3, 1, Flush::None);
    assert_eq!(mmu.paging(), &PagingContext { smap: true, ..one });
    assert_eq!(mmu.read::<u8>(0x1000), Err(MemTrap::Page(PageFault { gva: 0x1000, code: 1 })));
}

#[test]
fn invlpg_drops_the_own_page_and_global_ones_everywhere() {
    let (mut mmu, [one, two]) = two_spaces();
    for ctx in [&one, &two] {
        mmu.set_paging(ctx, Flush::None);
        mmu.read::<u8>(0x1000).unwrap();
        mmu.read::<u8>(0x2000).unwrap();
    }
    mmu.invlpg(0x1000);
    mmu.invlpg(0x2000);
    let own = walks(&mut mmu, |mmu| {
        mmu.read::<u8>(0x1000).unwrap();
        mmu.read::<u8>(0x2000).unwrap();
    });
    assert_eq!(own, 2);
    mmu.set_paging(&one, Flush::None);
    assert_eq!(walks(&mut mmu, |mmu| drop(mmu.read::<u8>(0x1000))), 0, "another PCID's page stays");
    assert_eq!(walks(&mut mmu, |mmu| drop(mmu.read::<u8>(0x2000))), 1, "a global page goes");
    mmu.invalidate(2, 0x1000);
    assert_eq!(walks(&mut mmu, |mmu| drop(mmu.read::<u8>(0x1000))), 0);
    mmu.set_paging(&two, Flush::None);
    assert_eq!(walks(&mut mmu, |mmu| drop(mmu.read::<u8>(0x1000))), 1, "INVPCID reaches other PCIDs");
}

#[test]
fn flushes_by_kind() {
    let (mut mmu, [one, two]) = two_spaces();
    let fill = |mmu: &mut Mmu| {
        for ctx in [&one, &two] {
            mmu.set_paging(ctx, Flush::None);
            mmu.read::<u8>(0x1000).unwrap();
            mmu.read::<u8>(0x2000).unwrap();
        }
    };
    fill(&mut mmu);
    mmu.flush(Flush::NonGlobal);
    assert_eq!(walks(&mut mmu, fill), 2, "both spaces' own pages");
    mmu.flush(Flush::All);
    assert_eq!(walks(&mut mmu, fill), 4, "and the global ones");
    mmu.flush(Flush::Pcid(1));
    assert_eq!(walks(&mut mmu, fill), 1);
}

#[test]
fn more_address_spaces_than_sets() {
    let (mut mmu, [one, two]) = two_spaces();
    for round in 0..80u16 {
        // 26 PCIDs, odd ones of the first address space: most come when their set was given away.
        let pcid = round * 7 % 26;
        let (base, value) = if pcid % 2 == 1 { (&one, 1) } else { (&two, 2) };
        mmu.set_paging(&PagingContext { pcid, ..*base }, Flush::None);
        assert_eq!(mmu.read::<u8>(0x1000), Ok(value), "round {round}");
    }
}

#[test]
fn epochs_of_address_spaces() {
    let (mut mmu, [one, two]) = two_spaces();
    mmu.fetch(0x2000).unwrap();
    let kernel = mmu.epoch();
    mmu.select(Privilege::User);
    mmu.fetch(0x1000).unwrap();
    let first = mmu.epoch();
    mmu.set_paging(&two, Flush::None);
    mmu.fetch(0x1000).unwrap();
    let second = mmu.epoch();
    assert_ne!(first, second, "users have an epoch in each address space");
    mmu.set_paging(&one, Flush::None);
    assert_eq!(mmu.epoch(), first);
    mmu.select(Privilege::Supervisor);
    assert_eq!(mmu.epoch(), kernel, "the supervisor executed a global page only");
    mmu.fetch(0x1000).unwrap();
    mmu.set_paging(&two, Flush::None);
    assert_ne!(mmu.epoch(), kernel, "and now one that the other address space maps elsewhere");
    let kernel = mmu.epoch();
    mmu.set_paging(&one, Flush::None);
    mmu.invlpg(0x2000);
    mmu.set_paging(&two, Flush::None);
    assert_ne!(mmu.epoch(), kernel, "a global page executed in any address space was dropped");
}

/// Access and write disable of key `k` in PKRU.
fn pkru(k: u32, bits: u32) -> u32 {
    bits << (2 * k)
}

#[test]
fn protection_keys() {
    let space = space();
    let mut tables = Tables::new(&space);
    let key = |k: u64| k << 59;
    tables.map(0x1000, 1, 0x20_0000, P | W | U | key(5));
    tables.map(0x2000, 1, 0x20_1000, P | W | key(5));
    tables.map(0x40_0000, 2, 0x40_0000, P | W | U | support::PS | key(5));
    let ctx = PagingContext { pkru: Some(0), ..context(Paging::Level4, tables.root) };
    let mut mmu = Mmu::new(space);
    mmu.set_paging(&ctx, Flush::All);
    mmu.select(Privilege::User);
    let fault = |gva, code| Err(MemTrap::Page(PageFault { gva, code }));
    for gva in [0x1000, 0x40_0000, 0x40_1000] {
        mmu.set_pkru(0);
        mmu.write(gva, 1u8).unwrap();
        mmu.set_pkru(pkru(5, 1));
        assert_eq!(mmu.read::<u8>(gva), fault(gva, 0x25).map(|()| 0));
        assert_eq!(mmu.write(gva, 1u8), fault(gva, 0x27));
        assert!(mmu.fetch(gva).is_ok(), "keys do not govern fetches");
        mmu.set_pkru(pkru(5, 2));
        assert_eq!(mmu.read::<u8>(gva), Ok(1));
        assert_eq!(mmu.write(gva, 1u8), fault(gva, 0x27));
        mmu.set_pkru(pkru(4, 3) | pkru(6, 3));
        assert_eq!(mmu.write(gva, 1u8), Ok(()));
    }
    // The supervisor obeys the keys of user pages only, and WD only with CR0.WP.
    mmu.select(Privilege::Supervisor);
    mmu.set_pkru(pkru(5, 3));
    assert_eq!(mmu.read::<u8>(0x1000), fault(0x1000, 0x21).map(|()| 0));
    assert_eq!(mmu.write(0x2000, 1u8), Ok(()));
    mmu.set_paging(&PagingContext { wp: false, pkru: Some(pkru(5, 2)), ..ctx }, Flush::All);
    assert_eq!(mmu.write(0x1000, 1u8), Ok(()));
    assert_eq!(mmu.probe(0x1000, 1, Access::Read), Ok(()));
}

#[test]
fn wrpkru_drops_nothing() {
    let space = space();
    let mut tables = Tables::new(&space);
    tables.map(0x1000, 1, 0x20_0000, P | W | U | A | D);
    let ctx = PagingContext { pkru: Some(0), ..context(Paging::Level4, tables.root) };
    let mut mmu = Mmu::new(space);
    mmu.set_paging(&ctx, Flush::All);
    let touch = |mmu: &mut Mmu| {
        for pkru in [0, 4, 8] {
            mmu.set_pkru(pkru);
            mmu.read::<u8>(0x1000).unwrap();
        }
    };
    touch(&mut mmu);
    assert_eq!(walks(&mut mmu, touch), 0);
    // INVLPG reaches all of them: they are one address space.
    mmu.invlpg(0x1000);
    assert_eq!(walks(&mut mmu, touch), 3);
}

#[test]
fn a20_masks_every_physical_address() {
    let space = space();
    space.store(Gpa(0x1234), 1u8).unwrap();
    space.store(Gpa(0x10_1234), 2u8).unwrap();
    let mut mmu = Mmu::new(std::sync::Arc::clone(&space));
    let real = PagingContext { a20_masked: true, ..context(Paging::None, 0) };
    mmu.set_paging(&real, Flush::All);
    assert_eq!(mmu.read::<u8>(0x10_1234), Ok(1));
    assert_eq!(mmu.read::<u8>(0x20_1234), Ok(0));
    mmu.write(0x11_0000, 5u8).unwrap();
    assert_eq!(space.load::<u8>(Gpa(0x1_0000)), Ok(5));
    assert_eq!(mmu.fetch(0x10_1234).unwrap().gpa, Gpa(0x1000));
    mmu.set_paging(&PagingContext { a20_masked: false, ..real }, Flush::All);
    assert_eq!(mmu.read::<u8>(0x10_1234), Ok(2));
    // Page tables and the pages that they name are physical addresses too: root 300000h is read at 200000h, page 308000h at
    // 208000h.
    let mut tables = Tables::at(&space, 0x20_0000);
    tables.map(0x4000, 1, 0x30_8000, P | W | A | D);
    space.store(Gpa(0x20_8000), 9u8).unwrap();
    let odd = PagingContext { a20_masked: true, ..context(Paging::Level4, 0x30_0000) };
    mmu.set_paging(&odd, Flush::All);
    for _ in 0..2 {
        assert_eq!(mmu.read::<u8>(0x4000), Ok(9));
        mmu.flush(Flush::NonGlobal);
    }
}
