//! The memory map as it changes while the machine runs: shadow RAM, and RAM for system management mode.
//!
//! The host bridge says what it wants ([`BridgeMemory`]); here it becomes a map. What lies behind the bridge from C0000h to
//! FFFFFh is the ROM that ends at 4 GiB, as far as it reaches; RAM lies at the same offset of the guest's array as anywhere below
//! the PCI hole. A segment that is read from ROM and written to RAM is ROM in the map: the write comes to
//! [`Memory::write_behind`].
//!
//! Changes are made between two instructions, or at the end of one that runs alone: nothing is held by host address then.
//! Limitation: there is one map, so that DMA which an access in SMM starts sees SMRAM.

use std::sync::Arc;

use bios::MemoryLayout;
use devices::pc::{MappedBars, PcDevices};
use devices::pci::{BridgeMemory, HIGH_SMRAM, PAM_START, SMRAM};
use softmmu::{AddressSpace, Gpa, MemoryMap, Region, RegionKind};

/// The first address above what PAM registers govern.
const HIGH_MEMORY: u64 = 0x10_0000;

/// See the module.
pub struct Memory {
    space: Arc<AddressSpace>,
    layout: MemoryLayout,
    /// What the published map was made from; `None`: from the layout alone, as loaders need it.
    shown: Option<(BridgeMemory, MappedBars)>,
    /// Where in the array video memory and the display's ROM are.
    display: Option<Display>,
}

/// The display's parts of the guest's array.
#[derive(Clone, Copy, Debug)]
pub struct Display {
    /// Video memory.
    pub frame_buffer: u64,
    /// The ROM.
    pub rom: u64,
    /// Its length, a multiple of a page; 0: none.
    pub rom_len: u64,
}

impl Memory {
    /// The memory of a machine whose map is that of `layout`.
    pub fn new(space: Arc<AddressSpace>, layout: MemoryLayout, display: Option<Display>) -> Self {
        Self { space, layout, shown: None, display }
    }

    /// Is the map that the bridge and the PCI functions want another one than the last?
    pub fn differs(&self, wanted: &BridgeMemory, bars: &MappedBars) -> bool {
        self.shown.as_ref().is_none_or(|(shown, places)| (shown, places) != (wanted, bars))
    }

    /// The map that they want, if it is another one than the last, for the caller to publish.
    pub fn next(&mut self, wanted: BridgeMemory, bars: MappedBars) -> Option<MemoryMap> {
        if !self.differs(&wanted, &bars) {
            return None;
        }
        let mut regions = regions(&self.layout, &wanted);
        if let Some(display) = &self.display {
            add_bars(&mut regions, display, bars);
        }
        for (start, end) in bars.busy_flash.into_iter().flatten() {
            take_away(&mut regions, start, end);
        }
        self.shown = Some((wanted, bars));
        Some(MemoryMap::new(regions).expect("no two of these overlap"))
    }

    /// Publishes the map that they want, if it is another one.
    pub fn show(&mut self, wanted: BridgeMemory, bars: MappedBars) {
        if let Some(map) = self.next(wanted, bars) {
            self.space.update_map(map);
        }
    }

    /// The guest's memory.
    pub fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }

    /// A write to what is not RAM in the map: does it go to RAM that is not read?
    pub fn write_behind(&self, at: u64, size: u8, value: u64) -> bool {
        let Some((shown, _)) = &self.shown else { return false };
        let written = shown.shadow_at(at).is_some_and(|shadow| shadow.writes);
        if written {
            self.space.load_rom(at, &value.to_le_bytes()[..usize::from(size.min(8))]);
        }
        written
    }
}

/// Puts the display's memory where its base address registers say. A guest that puts it over RAM or ROM (as sizing does for a
/// moment) gets those: what is not in the map answers as a device does, byte by byte.
fn add_bars(regions: &mut Vec<Region>, display: &Display, bars: MappedBars) {
    let frame_buffer = RegionKind::Ram { offset: display.frame_buffer };
    let rom = RegionKind::Rom { offset: display.rom };
    for (at, len, kind) in
        [(bars.frame_buffer, PcDevices::FRAME_BUFFER_LEN, frame_buffer), (bars.vga_rom, display.rom_len, rom)]
    {
        let Some(start) = at.filter(|at| len > 0 && *at > 0) else { continue };
        let device = devices::pc::MMIO_WINDOWS.iter().any(|(at, n)| start < at + n && *at < start + len);
        let taken = regions.iter().any(|r| start < r.start.0 + r.len && r.start.0 < start + len);
        if !device && !taken {
            regions.push(Region { start: Gpa(start), len, kind });
        }
    }
}

/// Takes what lies from `start` to `end` out of the map: accesses there go to a device.
fn take_away(regions: &mut Vec<Region>, start: u64, end: u64) {
    let cut = |region: Region| {
        let region_end = region.start.0 + region.len;
        let part = |from: u64, to: u64| {
            let kind = match region.kind {
                RegionKind::Ram { offset } => RegionKind::Ram { offset: offset + from - region.start.0 },
                RegionKind::Rom { offset } => RegionKind::Rom { offset: offset + from - region.start.0 },
                other => other,
            };
            (from < to).then(|| Region { start: Gpa(from), len: to - from, kind })
        };
        if region_end <= start || end <= region.start.0 {
            return [Some(region), None];
        }
        [part(region.start.0, start), part(end, region_end)]
    };
    *regions = regions.drain(..).flat_map(cut).flatten().collect();
}

fn regions(layout: &MemoryLayout, wanted: &BridgeMemory) -> Vec<Region> {
    let legacy = |at: u64| (PAM_START..HIGH_MEMORY).contains(&at);
    let mut regions: Vec<Region> = layout.regions().into_iter().filter(|r| !legacy(r.start.0)).collect();
    if let Some(hidden) = &wanted.hidden {
        for region in &mut regions {
            if region.start.0 < hidden.start && region.start.0 + region.len == hidden.end {
                region.len = hidden.start - region.start.0;
            }
        }
    }
    let mut add = |start: u64, end: u64, kind| {
        regions.push(Region { start: Gpa(start), len: end - start, kind });
    };
    for (index, shadow) in wanted.shadow.iter().enumerate() {
        let segment = BridgeMemory::segment(index);
        let offset = segment.start;
        match (shadow.reads, shadow.writes) {
            (true, true) => add(segment.start, segment.end, RegionKind::Ram { offset }),
            (true, false) => add(segment.start, segment.end, RegionKind::Rom { offset }),
            (false, _) => {
                let from = segment.start.max(HIGH_MEMORY - layout.low_rom_len());
                if from < segment.end
                    && let Some(offset) = layout.rom_offset((1 << 32) - (HIGH_MEMORY - from), 1)
                {
                    add(from, segment.end, RegionKind::Rom { offset });
                }
            }
        }
    }
    let smram = RegionKind::Ram { offset: SMRAM.start };
    if wanted.smram {
        add(SMRAM.start, SMRAM.end, smram);
    }
    if wanted.high_smram {
        add(HIGH_SMRAM.start, HIGH_SMRAM.end, smram);
    }
    regions
}

#[cfg(test)]
mod tests {
    use devices::pci::Shadow;
    use softmmu::GuestRam;

    use super::*;

    fn lookup(map: &MemoryMap, at: u64) -> Option<RegionKind> {
        map.lookup(Gpa(at)).map(|region| match region.kind {
            RegionKind::Ram { offset } => RegionKind::Ram { offset: offset + (at - region.start.0) },
            RegionKind::Rom { offset } => RegionKind::Rom { offset: offset + (at - region.start.0) },
            other => other,
        })
    }

    #[test]
    fn segments_are_rom_ram_or_nothing() {
        const RAM: u64 = 4 << 20;
        let layout = MemoryLayout::with_rom(RAM, 1 << 16).unwrap().unwrap();
        let mut wanted = BridgeMemory::default();
        let map = |wanted: &BridgeMemory| MemoryMap::new(regions(&layout, wanted)).unwrap();
        let reset = map(&wanted);
        assert_eq!(lookup(&reset, 0xf_fff0), Some(RegionKind::Rom { offset: RAM + 0xfff0 }));
        assert_eq!(lookup(&reset, 0xffff_fff0), Some(RegionKind::Rom { offset: RAM + 0xfff0 }));
        assert_eq!(
            (lookup(&reset, 0xe_fff0), lookup(&reset, 0xc_0000), lookup(&reset, 0xa_0000)),
            (None, None, None)
        );
        wanted.shadow[12] = Shadow { reads: true, writes: false };
        wanted.shadow[0] = Shadow { reads: true, writes: true };
        wanted.shadow[1] = Shadow { reads: false, writes: true };
        (wanted.smram, wanted.hidden) = (true, Some(RAM - 0x10_0000..RAM));
        let set = map(&wanted);
        assert_eq!(lookup(&set, 0xf_fff0), Some(RegionKind::Rom { offset: 0xf_fff0 }));
        assert_eq!(lookup(&set, 0xc_0004), Some(RegionKind::Ram { offset: 0xc_0004 }));
        assert_eq!((lookup(&set, 0xc_4000), lookup(&set, RAM - 1)), (None, None));
        assert_eq!(lookup(&set, 0xb_ffff), Some(RegionKind::Ram { offset: 0xb_ffff }));
        assert_eq!(lookup(&set, RAM - 0x10_0001), Some(RegionKind::Ram { offset: RAM - 0x10_0001 }));
    }

    #[test]
    fn writes_to_ram_that_is_not_read_arrive() {
        let layout = MemoryLayout::with_rom(4 << 20, 1 << 17).unwrap().unwrap();
        let ram = GuestRam::new(layout.array_bytes()).unwrap();
        let space = AddressSpace::new(ram, MemoryMap::new(layout.regions()).unwrap());
        let mut memory = Memory::new(space.clone(), layout, None);
        let mut wanted = BridgeMemory::default();
        memory.show(wanted.clone(), MappedBars::default());
        assert!(!memory.write_behind(0xf_0000, 4, 0x1234_5678));
        wanted.shadow[12].writes = true;
        memory.show(wanted.clone(), MappedBars::default());
        assert!(memory.write_behind(0xf_0000, 4, 0x1234_5678));
        assert_eq!(space.load::<u32>(Gpa(0xf_0000)), Ok(0), "the ROM is read");
        wanted.shadow[12].reads = true;
        memory.show(wanted, MappedBars::default());
        assert_eq!(space.load::<u32>(Gpa(0xf_0000)), Ok(0x1234_5678));
    }

    #[test]
    fn flash_that_is_busy_is_not_in_the_map() {
        let layout = MemoryLayout::with_rom(4 << 20, 0x4_0000).unwrap().unwrap();
        let ram = GuestRam::new(layout.array_bytes()).unwrap();
        let space = AddressSpace::new(ram, MemoryMap::new(layout.regions()).unwrap());
        let mut memory = Memory::new(space.clone(), layout, None);
        // Variables in 16 KiB, code above them.
        space.load_rom((4 << 20) + 0x4000, &[1]);
        let unit = Some(((1 << 32) - 0x4_0000, (1u64 << 32) - 0x3_c000));
        let mut readable = |unit| {
            let bars = MappedBars { busy_flash: [None, unit], ..MappedBars::default() };
            memory.show(BridgeMemory::default(), bars);
            [0xfffc_0000, 0xfffc_3ffc, 0xfffc_4000, 0xffff_fffc].map(|at| space.load::<u32>(Gpa(at)).ok())
        };
        assert_eq!(readable(None), [Some(0), Some(0), Some(1), Some(0)]);
        assert_eq!(readable(unit), [None, None, Some(1), Some(0)]);
        assert_eq!(readable(None), [Some(0), Some(0), Some(1), Some(0)]);
    }

    #[test]
    fn video_memory_is_where_its_bar_says() {
        let layout = MemoryLayout::with_rom(4 << 20, 1 << 17).unwrap().unwrap();
        let frame_buffer = layout.array_bytes();
        let rom = frame_buffer + PcDevices::FRAME_BUFFER_LEN;
        let display = Display { frame_buffer, rom, rom_len: 0x1_0000 };
        let ram = GuestRam::new(rom + display.rom_len).unwrap();
        let space = AddressSpace::new(ram, MemoryMap::new(layout.regions()).unwrap());
        let mut memory = Memory::new(space.clone(), layout, Some(display));
        let mut show = |frame_buffer, vga_rom| {
            let bars = MappedBars { frame_buffer, vga_rom, ..MappedBars::default() };
            memory.show(BridgeMemory::default(), bars);
        };
        let place = 0xe000_0000;
        show(Some(place), Some(0xfebe_0000));
        space.store(Gpa(place + 4), 0x1234_5678u32).unwrap();
        assert!(space.store(Gpa(0xfebe_0000), 0u32).is_err(), "a ROM");
        assert_eq!(space.load::<u32>(Gpa(0xfebe_0000)), Ok(0));
        // It moves, contents and all; nothing stays behind.
        show(Some(0xd000_0000), None);
        assert_eq!(space.load::<u32>(Gpa(0xd000_0004)), Ok(0x1234_5678));
        assert!(space.load::<u32>(Gpa(place)).is_err() && space.load::<u32>(Gpa(0xfebe_0000)).is_err());
        // Over RAM, the system ROM, a device, or each other: what was there stays.
        for at in [0x40_0000 - 0x1000, 0xff00_0000, 0xfe00_0000, 0] {
            show(Some(at), Some(0xffff_0000));
            assert_eq!(space.load::<u32>(Gpa(0x3f_fff0)), Ok(0));
            assert_eq!(space.load::<u32>(Gpa(0xffff_fff0)), Ok(0));
            assert!(space.load::<u32>(Gpa(0xfec0_0000)).is_err());
        }
        show(Some(0xd000_0000), Some(0xd000_0000));
        assert_eq!(space.load::<u32>(Gpa(0xd000_0004)), Ok(0x1234_5678));
    }
}
