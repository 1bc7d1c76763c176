//! The `vm-memory` view: the same bytes, the same funnel, the current map.

mod support;

use softmmu::{DmaSpace, Gpa, MemoryMap, RamPage, RegionKind};
use support::*;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryBackend};

#[test]
fn writes_pass_the_funnel() {
    let space = space();
    let dma = DmaSpace::new(&space);
    space.track_code(RamPage(2), 1);
    space.log_dirty(0..8);
    let memory = dma.memory();
    memory.write_slice(b"device", GuestAddress(0x2ffd)).unwrap();
    let mut bytes = [0; 6];
    space.read(Gpa(0x2ffd), &mut bytes).unwrap();
    assert_eq!(&bytes, b"device");
    assert!(!space.code_writes_pending(), "the last line of page 2, the first of page 3");
    memory.write_obj(7u32, GuestAddress(0x2008)).unwrap();
    assert!(space.code_writes_pending());
    let mut out = Vec::new();
    space.take_code_writes(&mut out);
    assert_eq!((out[0].page, out[0].lines), (RamPage(2), 1));
    memory.store(9u16, GuestAddress(0x2010), std::sync::atomic::Ordering::Release).unwrap();
    assert!(space.code_writes_pending());
    let mut dirty = Vec::new();
    space.take_dirty(0..8, &mut dirty);
    assert_eq!(dirty, [RamPage(2), RamPage(3)]);
}

#[test]
fn only_ram_and_the_current_map() {
    let space = space();
    let dma = DmaSpace::new(&space);
    let memory = dma.memory();
    assert_eq!(memory.num_regions(), 1);
    assert!(memory.read_obj::<u8>(GuestAddress(DEVICE)).is_err());
    assert!(memory.write_obj(1u8, GuestAddress(ROM)).is_err());
    assert!(memory.read_obj::<u64>(GuestAddress(RAM - 4)).is_err());
    assert!(memory.get_slice(GuestAddress(RAM - 4), 5).is_err());
    assert!(memory.get_slice(GuestAddress(u64::MAX), 1).is_err());
    let mut more = regions();
    more.push(region(0x1_0000_0000, 0x1000, RegionKind::Ram { offset: 0x3000 }));
    space.update_map(MemoryMap::new(more).unwrap());
    dma.memory().write_obj(5u8, GuestAddress(0x1_0000_0004)).unwrap();
    assert_eq!(space.load::<u8>(Gpa(0x3004)), Ok(5));
    assert_eq!(memory.num_regions(), 1, "a view does not change under its holder");
}
