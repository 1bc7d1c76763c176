//! The board driven as firmware and kernels drive it.

use super::*;
use crate::lapic::apic_base;
use crate::pci::{BarKind, ConfigSpace, Msi, Msix, MsixLayout, PciFunction, PciSlot};

fn board(cpus: u8) -> PcDevices {
    PcDevices::new(&PcConfig {
        cpus,
        ram_below_4g: 128 << 20,
        ram_above_4g: 0,
        epoch_seconds: 1_700_000_000,
        serial_ports: 2,
        harness: HarnessConfig { debug_exit: Some((0xf4, 4)), ..HarnessConfig::default() },
        ..PcConfig::default()
    })
}
fn out(pc: &mut PcDevices, port: u16, value: u32) {
    pc.port_write(port, 1, value, 0);
}
fn init_pic(pc: &mut PcDevices) {
    for (port, value) in
        [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1), (0xa0, 0x11), (0xa1, 0x38), (0xa1, 2), (0xa1, 1)]
    {
        out(pc, port, value);
    }
}
fn lapic(pc: &mut PcDevices, cpu: usize, offset: u64, value: u64) {
    pc.mmio_write(cpu, LAPIC_BASE + offset, 4, value, 0);
}
fn ioapic(pc: &mut PcDevices, index: u64, value: u64) {
    ioapic_at(pc, index, value, 0);
}
fn ioapic_at(pc: &mut PcDevices, index: u64, value: u64, now: Ns) {
    pc.mmio_write(0, IOAPIC_BASE, 4, index, now);
    pc.mmio_write(0, IOAPIC_BASE + 0x10, 4, value, now);
}

#[test]
fn timer_through_the_8259a() {
    let mut pc = board(1);
    init_pic(&mut pc);
    for (port, value) in [(0x43, 0x34), (0x40, 0), (0x40, 0x10)] {
        out(&mut pc, port, value);
    }
    while pc.acknowledge(0, 0).is_some() {
        out(&mut pc, 0x20, 0x20);
    }
    let mut last = 0;
    for _ in 0..100 {
        assert!(!pc.interrupt_pending(0));
        let at = pc.next_deadline().unwrap();
        assert!(at > last);
        last = at;
        pc.advance(at);
        assert!(pc.interrupt_pending(0));
        assert_eq!(pc.acknowledge(0, at), Some(0x30));
        pc.port_write(0x20, 1, 0x20, at);
    }
    assert_eq!(last, (4096 * 100 + 1) * 1_000_000_000 / 1_193_182 + 1);
}

/// A tick that no processor can notice wakes nobody; who looks at the board finds it made up for.
#[test]
fn ticks_that_are_masked_wake_nobody() {
    const MS: Ns = 1_000_000;
    let ticking = || {
        let mut pc = board(1);
        init_pic(&mut pc);
        // IRQ 0 masked, a tick every 3.4 ms, and an interrupt of the RTC every second.
        for (port, value) in [(0x21, 0xff), (0x43, 0x34), (0x40, 0), (0x40, 0x10), (0x70, 0x0b), (0x71, 0x12)]
        {
            out(&mut pc, port, value);
        }
        while pc.acknowledge(0, 0).is_some() {
            out(&mut pc, 0x20, 0x20);
        }
        pc
    };
    let requests = |pc: &mut PcDevices, at| {
        pc.port_write(0x20, 1, 0x0a, at);
        pc.port_read(0x20, 1, at)
    };
    let (mut woken, mut not_woken) = (ticking(), ticking());
    let far = not_woken.next_deadline().expect("the RTC's");
    assert!(far > 900 * MS, "{far}");
    assert!(
        not_woken.device_deadline().expect("the PIT's") < 4 * MS,
        "without the board the masks may change"
    );
    for at in (0..20 * MS).step_by(1000) {
        woken.advance(at);
    }
    for pc in [&mut woken, &mut not_woken] {
        assert_eq!(requests(pc, 20 * MS) & 1, 1, "the pair keeps the edge");
        // The I/O APIC loses it: nothing comes before the next tick, for which the machine must be woken now.
        ioapic_at(pc, 0x14, 0x55, 20 * MS);
        lapic(pc, 0, 0xf0, 0x1ff);
        assert_eq!(pc.acknowledge(0, 20 * MS), None);
        let tick = pc.next_deadline().expect("the PIT's");
        assert!((20 * MS..24 * MS).contains(&tick), "{tick}");
        pc.advance(tick);
        assert_eq!(pc.acknowledge(0, tick), Some(0x55));
    }
    assert_eq!(woken.save(), not_woken.save());
    // The pair's request stands when its mask goes.
    let (mut woken, mut not_woken) = (ticking(), ticking());
    for at in (0..20 * MS).step_by(1000) {
        woken.advance(at);
    }
    for pc in [&mut woken, &mut not_woken] {
        pc.port_write(0x21, 1, 0xfe, 20 * MS);
        assert_eq!(pc.acknowledge(0, 20 * MS), Some(0x30));
        let tick = pc.next_deadline().expect("the PIT's");
        assert!((20 * MS..24 * MS).contains(&tick), "{tick}");
        pc.advance(tick);
    }
    assert_eq!(woken.save(), not_woken.save());
}

#[test]
fn serial_through_the_io_apic() {
    let mut pc = board(2);
    for cpu in 0..2 {
        lapic(&mut pc, cpu, 0xf0, 0x1ff);
    }
    lapic(&mut pc, 0, 0x350, 0x1_0000);
    ioapic(&mut pc, 0x10 + 8, 0x44);
    ioapic(&mut pc, 0x11 + 8, 1 << 24);
    out(&mut pc, 0x3fc, 8);
    out(&mut pc, 0x3f9, 1);
    assert!(pc.serial_receive(0, b'x', 0));
    assert!(!pc.interrupt_pending(0) && pc.interrupt_pending(1));
    assert_eq!(pc.acknowledge(1, 0), Some(0x44));
    assert_eq!(pc.port_read(0x3f8, 1, 0), u32::from(b'x'));
    lapic(&mut pc, 1, 0xb0, 0);
    out(&mut pc, 0x3f8, b'y'.into());
    assert_eq!((pc.take_serial_output(0), pc.acknowledge(1, 0)), (b"y".to_vec(), None));
}

/// Two ports as a driver sets them up: 8 data bits, FIFOs with a trigger level of one byte, OUT2 for the interrupt.
fn init_serial(pc: &mut PcDevices) {
    init_pic(pc);
    // IRQ 3 and 4 only.
    out(pc, 0x21, 0xe7);
    for base in [0x3f8, 0x2f8] {
        for (register, value) in [(3, 0x83), (0, 1), (1, 0), (3, 3), (2, 7), (4, 0x0b), (1, 1)] {
            out(pc, base + register, value);
        }
    }
}

#[test]
fn two_serial_ports_are_apart() {
    let mut pc = board(1);
    init_serial(&mut pc);
    assert!(!pc.interrupt_pending(0));
    // What comes in: each at its IRQ (COM1 4, COM2 3), in its FIFO.
    assert!(pc.serial_receive(1, b'b', 0));
    assert_eq!((pc.port_read(0x2fa, 1, 0), pc.port_read(0x3fa, 1, 0)), (0xc4, 0xc1));
    assert_eq!(pc.acknowledge(0, 0), Some(0x33));
    assert!(pc.serial_receive(0, b'a', 0));
    out(&mut pc, 0x20, 0x20);
    assert_eq!(pc.acknowledge(0, 0), Some(0x34));
    out(&mut pc, 0x20, 0x20);
    assert_eq!([0x3fd, 0x2fd].map(|lsr| pc.port_read(lsr, 1, 0) & 1), [1, 1]);
    assert_eq!([0x3f8, 0x2f8].map(|rbr| pc.port_read(rbr, 1, 0)), [b'a', b'b'].map(u32::from));
    assert_eq!([0x3fd, 0x2fd].map(|lsr| pc.port_read(lsr, 1, 0) & 1), [0, 0]);
    assert!(!pc.interrupt_pending(0));
    // What goes out.
    out(&mut pc, 0x3f8, b'1'.into());
    out(&mut pc, 0x2f8, b'2'.into());
    assert_eq!([0, 1].map(|n| pc.take_serial_output(n)), [b"1".to_vec(), b"2".to_vec()]);
    assert_eq!(pc.take_serial_output(2), b"", "no third port");
}

#[test]
fn the_second_serial_port_is_saved_and_reset() {
    let mut pc = board(1);
    init_serial(&mut pc);
    out(&mut pc, 0x2ff, 0x5a);
    assert!(pc.serial_receive(1, b'b', 0));
    let mut twin = board(1);
    twin.restore(pc.save()).unwrap();
    assert_eq!(twin.acknowledge(0, 0), Some(0x33));
    assert_eq!([0x2ff, 0x2f8].map(|port| twin.port_read(port, 1, 0)), [0x5a, u32::from(b'b')]);
    pc.reset(0);
    assert_eq!([0x2fd, 0x2fc, 0x2f9].map(|port| pc.port_read(port, 1, 0)), [0x60, 0, 0]);
    assert!(!pc.interrupt_pending(0));
}

#[test]
fn level_triggered_sci_with_eoi_broadcast() {
    let mut pc = board(1);
    lapic(&mut pc, 0, 0xf0, 0x1ff);
    ioapic(&mut pc, 0x10 + 18, 0x8099);
    out(&mut pc, 0xb2, 0xf1);
    pc.port_write(0x602, 2, 0x100, 0);
    pc.press_power_button();
    assert_eq!(pc.acknowledge(0, 0), Some(0x99));
    lapic(&mut pc, 0, 0xb0, 0);
    assert_eq!(pc.acknowledge(0, 0), Some(0x99), "still asserted");
    pc.port_write(0x600, 2, 0x100, 0);
    lapic(&mut pc, 0, 0xb0, 0);
    assert_eq!(pc.acknowledge(0, 0), None);
}

#[test]
fn an_application_processor_starts() {
    let mut pc = board(3);
    lapic(&mut pc, 0, 0xf0, 0x1ff);
    lapic(&mut pc, 0, 0x310, 2 << 24);
    lapic(&mut pc, 0, 0x300, 0x4500);
    assert!(pc.take_init(2) && !pc.take_init(1));
    lapic(&mut pc, 0, 0x300, 0x4698);
    assert!(pc.signal_pending(2));
    assert_eq!((pc.take_sipi(2), pc.take_sipi(1)), (Some(0x98), None));
    lapic(&mut pc, 0, 0x300, 0xc_0400); // NMI to all others
    assert_eq!([0, 1, 2].map(|cpu| pc.take_nmi(cpu)), [false, true, true]);
    // Lowest priority among those that listen.
    for cpu in 1..3 {
        lapic(&mut pc, cpu, 0xf0, 0x1ff);
    }
    lapic(&mut pc, 0, 0x80, 0x20);
    lapic(&mut pc, 1, 0x80, 0x10);
    lapic(&mut pc, 2, 0x80, 0x10);
    lapic(&mut pc, 0, 0x310, 0xff << 24);
    lapic(&mut pc, 0, 0x300, 0x0166);
    assert_eq!([0, 1, 2].map(|cpu| pc.interrupt_pending(cpu)), [false, true, false]);
}

#[test]
fn x2apic_and_tsc_deadline() {
    let mut pc = board(1);
    assert_eq!(pc.x2apic_read(0, 0x802, 0), None);
    assert!(pc.set_apic_base(0, pc.apic_base(0) | apic_base::EXTD, 0));
    pc.x2apic_write(0, 0x80f, 0x1ff, 0).unwrap();
    pc.x2apic_write(0, 0x832, 0x4_0050, 0).unwrap();
    pc.set_tsc_deadline(0, 12345, 0);
    assert_eq!(pc.next_deadline(), Some(12345));
    pc.advance(12345);
    assert_eq!(pc.acknowledge(0, 12345), Some(0x50));
    pc.x2apic_write(0, 0x80b, 0, 12345).unwrap();
    pc.x2apic_write(0, 0x83f, 0x51, 12345).unwrap();
    pc.set_cr8(0, 5);
    assert!(!pc.interrupt_pending(0));
    pc.set_cr8(0, 4);
    assert!(pc.interrupt_pending(0));
}

#[test]
fn hpet_replaces_the_legacy_timers() {
    let mut pc = board(1);
    init_pic(&mut pc);
    pc.mmio_write(0, HPET_BASE + 0x108, 8, 1000, 0);
    pc.mmio_write(0, HPET_BASE + 0x100, 8, 4, 0);
    pc.mmio_write(0, HPET_BASE + 0x10, 8, 3, 0);
    for (port, value) in [(0x43, 0x34), (0x40, 2), (0x40, 0)] {
        out(&mut pc, port, value);
    }
    pc.advance(9_999);
    assert!(!pc.interrupt_pending(0), "the PIT is disconnected");
    pc.advance(10_000);
    assert_eq!(pc.acknowledge(0, 10_000), Some(0x30));
}

#[test]
fn pci_interrupts_are_shared_levels() {
    let mut pc = board(1);
    init_pic(&mut pc);
    out(&mut pc, 0x4d1, 0x08);
    pc.port_write(0xcf8, 4, 0x8000_0860, 0);
    pc.port_write(0xcfe, 1, 0x0b, 0); // PIRQC -> IRQ 11
    let (a, b) = (pc.connect_pci_interrupt(3, 1), pc.connect_pci_interrupt(7, 1));
    a.set(true);
    b.set(true);
    pc.port_read(0x80, 1, 0);
    assert_eq!(pc.acknowledge(0, 0), Some(0x3b));
    a.set(false);
    for port in [0xa0, 0x20] {
        out(&mut pc, port, 0x20);
    }
    assert_eq!(pc.acknowledge(0, 0), Some(0x3b), "the other device still asks");
    b.set(false);
    for port in [0xa0, 0x20] {
        out(&mut pc, port, 0x20);
    }
    assert!(!pc.interrupt_pending(0));
}

#[test]
fn ports_split_and_unassigned() {
    let mut pc = board(1);
    assert_eq!(pc.port_read(0x1234, 4, 0), u32::MAX);
    assert_eq!(pc.port_read(0x3e8, 1, 0), 0xff, "no third serial port");
    assert_eq!(pc.mmio_read(0, 0xfe00_0000, 2, 0), 0xffff);
    // Index and data of the CMOS in one word; the debug console in a dword.
    pc.port_write(0x70, 2, 0x5a40, 0);
    assert_eq!(pc.port_read(0x71, 1, 0), 0x5a);
    pc.port_write(0xe9, 4, 0x41, 0);
    assert_eq!(pc.take_debugcon_output(), b"A");
    assert_eq!(pc.port_read(0x608, 4, 1_000_000_000), 3_579_545);
    assert_eq!(pc.port_read(0x63f, 2, 0), 0xff00);
    assert_eq!(pc.take_power_event(), None);
    pc.port_write(0xf4, 4, 0x10, 0);
    assert_eq!(pc.take_power_event(), Some(PowerEvent::DebugExit(0x21)));
    pc.port_write(0xcf8, 4, 0x8000_0604, 0);
    assert_eq!(pc.take_power_event(), None, "a dword there is CONFIG_ADDRESS, not the reset register");
    out(&mut pc, 0xcf9, 6);
    assert_eq!(pc.take_power_event(), Some(PowerEvent::Reset));
}

#[test]
fn a_restored_board_goes_on_the_same() {
    let mut pc = board(2);
    init_pic(&mut pc);
    for (port, value) in [(0x43, 0x36), (0x40, 0), (0x40, 1), (0x70, 0x0b), (0x71, 0x72), (0x3f9, 0x0f)] {
        out(&mut pc, port, value);
    }
    pc.advance(123_456);
    let bytes = postcard::to_allocvec(&pc.save()).unwrap();
    let mut twin = board(2);
    twin.restore(postcard::from_bytes(&bytes).unwrap()).unwrap();
    for _ in 0..1000 {
        let at = pc.next_deadline().unwrap();
        assert_eq!(twin.next_deadline(), Some(at));
        pc.advance(at);
        twin.advance(at);
        assert_eq!(pc.acknowledge(0, at), twin.acknowledge(0, at));
        pc.port_read(0x71, 1, at);
        twin.port_read(0x71, 1, at);
    }
    assert_eq!(pc.save(), twin.save());
    assert_eq!(board(1).restore(pc.save()).unwrap_err().found, 2);
    pc.reset(1 << 40);
    assert!(!pc.interrupt_pending(0) && pc.a20());
}

#[test]
fn the_test_devices_are_absent_until_asked_for() {
    let mut pc = board(1);
    assert_eq!(pc.port_read(0xe0, 4, 0), u32::MAX);
    assert_eq!(pc.mmio_read(0, IOMEM_BASE, 4, 0), 0xffff_ffff);
    let config = PcConfig {
        cpus: 1,
        ram_below_4g: 128 << 20,
        ram_above_4g: 0,
        epoch_seconds: 0,
        serial_ports: 0,
        harness: HarnessConfig { debugcon: Some(0x402), pc_testdev: true, ..HarnessConfig::default() },
        ..PcConfig::default()
    };
    let mut pc = PcDevices::new(&config);
    // The console has moved away, so that E9h is a byte of the register.
    pc.port_write(0xe8, 4, 0x1234_5678, 0);
    pc.port_write(0x402, 1, u32::from(b'x'), 0);
    assert_eq!((pc.port_read(0xe0, 4, 0), pc.port_read(0xe9, 1, 0)), (0x1234_5678, 0x56));
    assert_eq!((pc.take_debugcon_output(), pc.port_read(0x402, 1, 0)), (b"x".to_vec(), 0xe9));
    pc.mmio_write(0, IOMEM_BASE + 0x10, 4, 0xdead_beef, 0);
    let state = pc.save();
    pc.reset(1);
    assert_eq!((pc.port_read(0xe0, 4, 1), pc.mmio_read(0, IOMEM_BASE + 0x10, 4, 1)), (0, 0));
    pc.restore(state).unwrap();
    assert_eq!(pc.mmio_read(0, IOMEM_BASE + 0x12, 2, 1), 0xdead);
}

#[test]
fn pc_testdev_drives_both_interrupt_controllers() {
    let mut pc = board(1);
    pc.harness = Harness::new(&HarnessConfig { pc_testdev: true, ..HarnessConfig::default() });
    init_pic(&mut pc);
    out(&mut pc, 0x21, 0xdf);
    assert!(!pc.interrupt_pending(0));
    // An edge: while the input stays high nothing follows the first interrupt.
    out(&mut pc, 0x2005, 1);
    assert_eq!(pc.acknowledge(0, 0), Some(0x35));
    out(&mut pc, 0x20, 0x20);
    out(&mut pc, 0x2005, 1);
    assert!(!pc.interrupt_pending(0));
    out(&mut pc, 0x2005, 0);
    out(&mut pc, 0x2005, 1);
    assert_eq!(pc.acknowledge(0, 0), Some(0x35));
    // Input 20 exists on the I/O APIC only.
    lapic(&mut pc, 0, 0xf0, 0x1ff);
    ioapic(&mut pc, 0x10 + 2 * 20, 0x61);
    ioapic(&mut pc, 0x11 + 2 * 20, 0);
    out(&mut pc, 0x2014, 1);
    assert_eq!(pc.acknowledge(0, 0), Some(0x61));
}

#[test]
fn pci_testdev_is_found_and_answers_where_software_puts_it() {
    let mut pc = board(1);
    pc.pci.attach(devfn(2, 0), Box::new(PciTestdev::new()));
    let config = |pc: &mut PcDevices, register: u32, value: Option<u32>| {
        pc.port_write(0xcf8, 4, 0x8000_1000 | register, 0);
        if let Some(value) = value {
            pc.port_write(0xcfc, 4, value, 0);
        }
        pc.port_read(0xcfc, 4, 0)
    };
    assert_eq!(config(&mut pc, 0, None), 0x0005_1b36);
    assert_eq!(config(&mut pc, 0x10, Some(u32::MAX)), 0xffff_f000);
    assert_eq!(config(&mut pc, 0x14, Some(u32::MAX)), 0xffff_ff01);
    config(&mut pc, 0x10, Some(0xfebf_0000));
    config(&mut pc, 0x14, Some(0xc000));
    assert_eq!(pc.port_read(0xc001, 1, 0), 0xff, "decoding is off");
    config(&mut pc, 4, Some(3));
    out(&mut pc, 0xc000, 0);
    assert_eq!((pc.port_read(0xc001, 1, 0), pc.port_read(0xc004, 4, 0)), (1, 0x83));
    pc.mmio_write(0, 0xfebf_0000, 1, 2, 0);
    pc.mmio_write(0, 0xfebf_0802, 1, 0xfa, 0);
    let state = pc.save();
    pc.reset(0);
    pc.restore(state).unwrap();
    assert_eq!(pc.mmio_read(0, 0xfebf_000c, 4, 0), 1);
}

#[test]
fn media_change_in_the_drives_of_the_board_and_of_cards() {
    use crate::ahci::Ahci;
    use crate::block::RamDisk;
    use crate::ide::DriveSpec;
    let mut pc = board(1);
    let cd_at = |port: usize| {
        let mut ports = [const { None }; crate::ahci::PORTS];
        ports[port] = Some(DriveSpec::CdRom(None));
        ports
    };
    // The second one has its place before the first.
    pc.plug(Peripherals {
        ide: Some([None, None, Some(DriveSpec::CdRom(None)), None]),
        cards: vec![Ahci::card(None, cd_at(1)), Ahci::card(Some((9, 0)), cd_at(4))],
        ..Peripherals::default()
    });
    let mut change = |place| {
        let medium = RamDisk::new(vec![0; 1 << 20]);
        pc.change_cd(place, Some(Box::new(medium)), false)
    };
    let there = [CdPlace::Board(2), CdPlace::Card { card: 0, port: 1 }, CdPlace::Card { card: 1, port: 4 }];
    assert!(there.into_iter().all(&mut change));
    let card = |card, port| CdPlace::Card { card, port };
    let nowhere = [CdPlace::Board(0), CdPlace::Board(4), card(0, 4), card(1, 1), card(0, 6), card(2, 0)];
    assert!(!nowhere.into_iter().any(change));
}

#[test]
fn a_disk_a_floppy_and_a_display_interrupt_and_answer() {
    use crate::block::{Disk, RamDisk};
    use crate::ide::DriveSpec;
    let mut pc = board(1);
    let plain = pc.save();
    let disk = |len: usize| Box::new(RamDisk::new(vec![0x5a; len])) as Disk;
    pc.plug(Peripherals {
        ide: Some([Some(DriveSpec::HardDisk(disk(1 << 20))), None, None, None]),
        floppies: Some([Some(Some(disk(1_474_560))), None]),
        vga: Some((crate::vga::OwnMemory::new(), 0)),
        boot_order: [0x12, 0x30],
        ..Peripherals::default()
    });
    assert_ne!(pc.save(), plain);
    init_pic(&mut pc);
    // What firmware finds in CMOS RAM.
    for (index, value) in [(0x10, 0x40), (0x14, 0x07), (0x38, 0x30), (0x3d, 0x12), (0x39, 0)] {
        out(&mut pc, 0x70, index);
        assert_eq!(pc.port_read(0x71, 1, 0), value, "{index:#x}");
    }
    out(&mut pc, 0x21, 0xba);
    out(&mut pc, 0xa1, 0xbf);
    let serve = |pc: &mut PcDevices, vector| {
        let mut now = 0;
        while !pc.interrupt_pending(0) {
            now = pc.next_deadline().unwrap();
            pc.advance(now);
        }
        assert_eq!(pc.acknowledge(0, now), Some(vector));
        pc.port_write(0xa0, 1, 0x20, now);
        pc.port_write(0x20, 1, 0x20, now);
    };
    // Sector 5 by PIO, on IRQ 14.
    for (port, value) in [(0x1f6, 0xe0), (0x1f2, 1), (0x1f3, 5), (0x1f4, 0), (0x1f5, 0), (0x1f7, 0x20)] {
        out(&mut pc, port, value);
    }
    serve(&mut pc, 0x3e);
    assert_eq!(pc.port_read(0x1f0, 4, 0), 0x5a5a_5a5a);
    // The floppy controller's reset, on IRQ 6.
    out(&mut pc, 0x3f2, 0x08);
    out(&mut pc, 0x3f2, 0x1c);
    serve(&mut pc, 0x36);
    // The display: index and data in one word, its window, and its place on the bus.
    pc.port_write(0x3ce, 2, 0x0406, 0);
    assert_eq!(pc.port_read(0x3cf, 1, 0), 4);
    pc.port_write(0x3c4, 2, 0x0f02, 0);
    pc.port_write(0x3c4, 2, 0x0804, 0);
    pc.mmio_write(0, 0xa_0000, 2, 0x1234, 0);
    assert_eq!(pc.mmio_read(0, 0xa_0000, 2, 0), 0x1234);
    pc.port_write(0xcf8, 4, 0x8000_1010, 0);
    pc.port_write(0xcfc, 4, 0xe000_0000, 0);
    assert_eq!(pc.mapped_bars(), MappedBars::default(), "decoding is off");
    pc.port_write(0xcf8, 4, 0x8000_1004, 0);
    pc.port_write(0xcfc, 4, 2, 0);
    assert_eq!(pc.mapped_bars().frame_buffer, Some(0xe000_0000));
    let state = pc.save();
    pc.reset(1 << 40);
    assert_ne!(pc.save(), state);
    pc.restore(state.clone()).unwrap();
    assert_eq!(pc.save(), state);
}

/// A card that interrupts by its timer, and by a write to its register: INTA#, MSI or MSI-X, as the guest wants it.
struct Alarm {
    config: ConfigSpace,
    slot: PciSlot,
    msi: Msi,
    msix: Msix,
    due: Option<Ns>,
    asserted: bool,
}

impl Alarm {
    fn card(at: Option<(u8, u8)>) -> PciCard {
        let make = |slot: PciSlot| -> Box<dyn PciFunction> {
            let mut config = ConfigSpace::endpoint(0x1b36, 0x00ff, 0xff_0000, 0);
            config.add_bar(0, BarKind::Memory32, 0x1000);
            config.set_interrupt_pin(1);
            let msi = Msi::new(&mut config, 0x40, 2, true, slot.messages.clone());
            let layout = MsixLayout { vectors: 2, bar: 0, table: 0x800, pending: 0x900 };
            let msix = Msix::new(&mut config, 0x60, layout, slot.messages.clone());
            Box::new(Self { config, slot, msi, msix, due: None, asserted: false })
        };
        PciCard { at, make: Box::new(make) }
    }
    fn interrupt(&mut self) {
        if self.msix.enabled(&self.config) {
            self.msix.send(&self.config, 1);
        } else if self.msi.enabled(&self.config) {
            self.msi.send(&mut self.config, 1);
        } else {
            self.asserted = true;
        }
        self.drive();
    }
    fn drive(&mut self) {
        let messages = self.msix.enabled(&self.config) || self.msi.enabled(&self.config);
        self.config.drive_intx(&self.slot.intx, self.asserted && !messages);
    }
}

impl Timed for Alarm {
    fn next_deadline(&self) -> Option<Ns> {
        self.due
    }
    fn advance(&mut self, now: Ns) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.interrupt();
        }
    }
}

impl PciFunction for Alarm {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }
    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
    fn config_written(&mut self, _offset: u8, _len: u8) {
        self.msi.config_written(&mut self.config);
        self.msix.config_written(&self.config);
        self.drive();
    }
    fn bar_read(&mut self, bar: u8, offset: u64, size: u8, _now: Ns) -> u64 {
        self.msix.read(bar, offset, size).unwrap_or(self.asserted.into())
    }
    fn bar_write(&mut self, bar: u8, offset: u64, size: u8, value: u64, now: Ns) {
        if !self.msix.write(&self.config, bar, offset, size, value) {
            self.asserted = false;
            self.due = (value > 0).then_some(now + value);
            self.drive();
        }
    }
    fn timed(&self) -> Option<&dyn Timed> {
        Some(self)
    }
    fn timed_mut(&mut self) -> Option<&mut dyn Timed> {
        Some(self)
    }
}

#[test]
fn a_card_interrupts_by_its_pin_by_msi_and_by_msi_x() {
    const BAR: u64 = 0xfebf_0000;
    let memory = crate::memory::test_memory::Flat::new(0x1000);
    let mut pc =
        PcDevices::new(&PcConfig { cpus: 2, memory: Dma::new(memory.clone()), ..PcConfig::default() });
    pc.plug(Peripherals {
        cards: vec![Alarm::card(None), Alarm::card(Some((3, 0)))],
        ..Peripherals::default()
    });
    assert!(pc.has_pci_function(3, 0) && pc.has_pci_function(4, 0) && !pc.has_pci_function(5, 0));
    let config = |pc: &mut PcDevices, register: u32, size: u8, value: u32| {
        pc.port_write(0xcf8, 4, 0x8000_2000 | register & 0xfc, 0);
        pc.port_write(0xcfc + (register & 3) as u16, size, value, 0);
    };
    config(&mut pc, 0x10, 4, BAR as u32);
    config(&mut pc, 0x04, 2, 0x06);
    for cpu in 0..2 {
        lapic(&mut pc, cpu, 0xf0, 0x1ff);
    }
    // Device 4, INTA#: PIRQD, pin 19 of the I/O APIC.
    ioapic(&mut pc, 0x10 + 2 * 19, 0x8047);
    let alarm = |pc: &mut PcDevices, at: Ns| {
        pc.mmio_write(0, BAR, 4, at, 0);
        assert_eq!(pc.next_deadline(), Some(at));
        pc.advance(at);
    };
    let status = |pc: &mut PcDevices| {
        pc.port_write(0xcf8, 4, 0x8000_2004, 0);
        pc.port_read(0xcfe, 1, 0) & 8
    };
    alarm(&mut pc, 100);
    assert_eq!((pc.acknowledge(0, 100), status(&mut pc)), (Some(0x47), 8));
    config(&mut pc, 0x04, 2, 0x406);
    lapic(&mut pc, 0, 0xb0, 0);
    assert_eq!(
        (pc.acknowledge(0, 100), status(&mut pc)),
        (None, 8),
        "the pin is turned off, the status tells"
    );
    config(&mut pc, 0x04, 2, 0x06);
    assert_eq!(pc.acknowledge(0, 100), Some(0x47));
    pc.mmio_write(0, BAR, 4, 0, 0);
    lapic(&mut pc, 0, 0xb0, 0);
    // MSI, two vectors, to processor 1.
    for (register, size, value) in [(0x44, 4, 0xfee0_1000u32), (0x4c, 2, 0x50), (0x42, 1, 0x11)] {
        config(&mut pc, register, size, value);
    }
    alarm(&mut pc, 200);
    assert_eq!((pc.acknowledge(0, 200), pc.acknowledge(1, 200), status(&mut pc)), (None, Some(0x51), 0));
    // MSI-X, first masked; the state with what is pending is saved.
    pc.mmio_write(0, BAR + 0x810, 8, 0xfee0_0000, 0);
    pc.mmio_write(0, BAR + 0x818, 4, 0x62, 0);
    config(&mut pc, 0x63, 1, 0x80);
    alarm(&mut pc, 300);
    assert_eq!((pc.acknowledge(0, 300), pc.mmio_read(0, BAR + 0x900, 8, 300)), (None, 2));
    pc.mmio_write(0, BAR + 0x81c, 4, 0, 0);
    assert_eq!((pc.acknowledge(0, 300), pc.mmio_read(0, BAR + 0x900, 8, 300)), (Some(0x62), 0));
    // A message to memory is a write there.
    pc.mmio_write(0, BAR + 0x810, 8, 0x800, 0);
    alarm(&mut pc, 400);
    assert_eq!(memory.get(0x800, 4), [0x62, 0, 0, 0]);
}

/// A Q35 board as its firmware sets it up: the configuration space in memory, interrupts, power management.
#[test]
fn a_q35_board() {
    const ECAM: u64 = 0xb000_0000;
    let memory = crate::memory::test_memory::Flat::new(0x1000);
    let config = PcConfig { board: BoardKind::Q35, cpus: 1, memory: Dma::new(memory), ..PcConfig::default() };
    let mut pc = PcDevices::new(&config);
    pc.plug(Peripherals {
        sata: Some([const { None }; 6]),
        vga: Some((crate::vga::OwnMemory::new(), 0)),
        cards: vec![Alarm::card(None)],
        ..Peripherals::default()
    });
    assert_eq!(pc.mmio_read(0, ECAM, 4, 0), 0xffff_ffff);
    pc.port_write(0xcf8, 4, 0x8000_0060, 0);
    pc.port_write(0xcfc, 4, ECAM as u32 | 1, 0);
    let id = |pc: &mut PcDevices, at: u64| pc.mmio_read(0, ECAM + (at << 12), 4, 0);
    let places = [0x00, 0x08, 0x10, 0xf8, 0xfa, 0xfb];
    assert_eq!(
        places.map(|at| id(&mut pc, at)),
        [0x29c0_8086, 0x1111_1234, 0x00ff_1b36, 0x2918_8086, 0x2922_8086, 0x2930_8086]
    );
    assert!(!pc.take_map_change());
    // The card's memory by a write to the configuration space in memory, which the map must follow.
    pc.mmio_write(0, ECAM + (0x10 << 12) + 0x10, 4, 0xfebf_0000, 0);
    pc.mmio_write(0, ECAM + (0x10 << 12) + 0x04, 2, 0x06, 0);
    assert!(pc.take_map_change() && !pc.take_map_change());
    // Device 2, INTA#: PIRQG, input 22; and IRQ 10 by its route register.
    lapic(&mut pc, 0, 0xf0, 0x1ff);
    ioapic(&mut pc, 0x10 + 2 * 22, 0x8046);
    pc.mmio_write(0, 0xfebf_0000, 4, 100, 0);
    pc.advance(100);
    assert_eq!(pc.acknowledge(0, 100), Some(0x46));
    pc.mmio_write(0, 0xfebf_0000, 4, 0, 0);
    lapic(&mut pc, 0, 0xb0, 0);
    init_pic(&mut pc);
    out(&mut pc, 0x4d1, 0x04);
    pc.mmio_write(0, ECAM + (0xf8 << 12) + 0x6a, 1, 10, 0);
    pc.mmio_write(0, 0xfebf_0000, 4, 100, 200);
    lapic(&mut pc, 0, 0x350, 0x700);
    ioapic(&mut pc, 0x10 + 2 * 22, 0x1_0000);
    pc.advance(300);
    assert_eq!(pc.acknowledge(0, 300), Some(0x3a));
    // The root complex registers, GPE0 where an ICH9 has it, and SMIs that are locked on.
    pc.mmio_write(0, ECAM + (0xf8 << 12) + 0xf0, 4, 0xfed1_c001, 300);
    assert_eq!(pc.mmio_read(0, 0xfed1_f140, 2, 300), 0x3210);
    out(&mut pc, 0xb2, 1);
    assert!(!pc.smi_pending(0));
    pc.port_write(0x630, 4, 0x21, 300);
    pc.mmio_write(0, ECAM + (0xf8 << 12) + 0xa0, 1, 0x10, 300);
    pc.port_write(0x630, 4, 0, 300);
    assert_eq!(pc.port_read(0x630, 4, 300), 1);
    pc.port_write(0x630, 4, 0x21, 300);
    out(&mut pc, 0xb2, 1);
    assert!(pc.take_smi(0));
    let mut twin = PcDevices::new(&config);
    twin.plug(Peripherals {
        sata: Some([const { None }; 6]),
        vga: Some((crate::vga::OwnMemory::new(), 0)),
        cards: vec![Alarm::card(None)],
        ..Peripherals::default()
    });
    twin.restore(pc.save()).unwrap();
    assert_eq!(twin.mmio_read(0, ECAM + (0xf8 << 12) + 0xf0, 4, 300), 0xfed1_c001);
    twin.port_write(0x630, 4, 0, 300);
    assert_eq!(twin.port_read(0x630, 4, 300), 1, "still locked");
    pc.reset(400);
    assert_eq!((pc.mmio_read(0, ECAM, 4, 400), pc.port_read(0x630, 4, 400)), (0xffff_ffff, 0));
}

#[test]
fn samples_are_what_reads_give_and_nothing_else_is_sampled() {
    let mut pc = board(1);
    pc.mmio_write(0, HPET_BASE + 0x10, 8, 1, 0);
    let timer = crate::acpi_pm::PM_BASE + crate::acpi_pm::PM_TMR;
    for now in [1, 1_000, 123_456_789, 5_000_000_000_123, 1 << 60] {
        if let Some(sample) = pc.sample_port(timer, 4, now) {
            assert_eq!(sample, pc.port_read(timer, 4, now));
        }
        for (offset, size) in [(0, 4), (4, 4), (0xf0, 4), (0xf0, 8), (0xf4, 4), (0xf1, 2)] {
            if let Some(sample) = pc.sample_mmio(0, HPET_BASE + offset, size, now) {
                assert_eq!(sample, pc.mmio_read(0, HPET_BASE + offset, size, now), "{offset:#x}");
            }
        }
        pc.advance(now);
        assert!(
            pc.sample_port(timer, 4, now).is_some() && pc.sample_mmio(0, HPET_BASE + 0xf0, 4, now).is_some()
        );
    }
    // Something is due: it comes first.
    pc.mmio_write(0, HPET_BASE + 0x100, 8, 4, 1 << 61);
    let counter = pc.mmio_read(0, HPET_BASE + 0xf0, 8, 1 << 61);
    pc.mmio_write(0, HPET_BASE + 0x108, 8, counter + 5, 1 << 61);
    let due = pc.next_deadline().expect("a comparator is set");
    assert!(pc.sample_port(timer, 4, due - 1).is_some());
    assert_eq!((pc.sample_port(timer, 4, due), pc.sample_mmio(0, HPET_BASE + 0xf0, 4, due)), (None, None));
    for port in (0..=u16::MAX).filter(|port| *port != timer) {
        assert_eq!(pc.sample_port(port, 4, due - 1), None, "{port:#x}");
    }
    assert_eq!(pc.sample_port(timer, 1, due - 1), None);
    assert_eq!(pc.sample_mmio(0, HPET_BASE + 0x20, 8, due - 1), None, "status");
    assert_eq!(pc.sample_mmio(0, LAPIC_BASE + 0x390, 4, due - 1), None);
}
