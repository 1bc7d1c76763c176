//! A hostile guest: random accesses to every register of the board, at random times.
//!
//! Nothing may panic (overflow checks are on), no deadline may lie in the past after `advance`, and the state must
//! survive a save and restore. The same for a board restored from a damaged snapshot.

use devices::harness::{HarnessConfig, IOMEM_BASE, PostConfig, PostFormat};
use devices::pc::{MMIO_WINDOWS, PORTS, PcConfig, PcDevices};
use std::sync::{Arc, Mutex};

use devices::block::{Disk, RamDisk};
use devices::ide::DriveSpec;
use devices::memory::{Dma, GuestMemory};
use devices::nvme::Nvme;
use devices::pc::{PciCard, Peripherals};
use devices::vga::OwnMemory;
use devices::virtio::blk::VirtioBlk;
use devices::virtio::pci::VirtioPci;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    In(u16, u8),
    Out(u16, u8, u32),
    Read(usize, u64, u8),
    Write(usize, u64, u8, u64),
    ReadMsr(usize, u32),
    WriteMsr(usize, u32, u64),
    ApicBase(usize, u64),
    Deadline(usize, u64),
    Acknowledge(usize),
    Receive(usize, u8),
    Key(u8),
    ToDeadline,
    Skip(u64),
    Restore,
    Reset,
    Ferr(bool),
}

fn port() -> impl Strategy<Value = u16> {
    let assigned = prop::sample::select(PORTS).prop_flat_map(|range| range.first..=range.last);
    prop_oneof![8 => assigned, 1 => 0x600..0x640u16, 1 => 0xe0..0xf8u16, 1 => 0x190..0x192u16, 1 => 0x2000..0x2018u16,
        6 => 0x1f0..0x1f8u16, 4 => 0x170..0x178u16, 2 => 0xc000..0xc010u16, 2 => Just(0x3f5u16),
        1 => 0..0x110u16, 1 => any::<u16>()]
}

fn address() -> impl Strategy<Value = u64> {
    let register = prop::sample::select(MMIO_WINDOWS.to_vec())
        .prop_flat_map(|(start, len)| (0..len).prop_map(move |offset| start + offset));
    prop_oneof![
        6 => (register.clone(), Just(!15)).prop_map(|(at, mask)| at & mask),
        2 => (0..0x160u64).prop_map(|offset| 0xfed0_0000 + (offset & !3)),
        2 => prop::sample::select(vec![0xfec0_0000, 0xfec0_0010, 0xfec0_0040]),
        2 => register,
        1 => (0..0x2_0000u64).prop_map(|offset| IOMEM_BASE + offset),
        1 => 0..0x2000u64,
        3 => (0..0x2_0000u64).prop_map(|offset| 0xa_0000 + offset),
        2 => (0..0x1000u64).prop_map(|offset| 0xfebf_0000 + offset),
        // Registers of the cards: virtio's, NVMe's with its doorbells.
        4 => (0..0x40u64).prop_map(|offset| 0xfe01_0000 + offset),
        1 => Just(0xfe01_3000),
        4 => (0..0x10u64).prop_map(|n| 0xfe02_0000 + 4 * n),
        2 => (0..4u64).prop_map(|n| 0xfe02_1000 + 4 * n),
        1 => (0..0x4000u64).prop_map(|offset| 0xfe02_0000 + offset),
        1 => any::<u64>(),
    ]
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0..256u64, Just(0), Just(1), Just(u64::MAX), (0..64u32).prop_map(|n| 1 << n)]
}

fn step() -> impl Strategy<Value = Step> {
    let size = || prop::sample::select(vec![1u8, 2, 4]);
    let wide = || prop::sample::select(vec![1u8, 2, 4, 4, 4, 8]);
    let cpu = || 0..2usize;
    prop_oneof![
        4 => (port(), size()).prop_map(|(port, size)| Step::In(port, size)),
        12 => (port(), size(), value()).prop_map(|(port, size, value)| Step::Out(port, size, value as u32)),
        3 => (cpu(), address(), wide()).prop_map(|(cpu, at, size)| Step::Read(cpu, at, size)),
        9 => (cpu(), address(), wide(), value()).prop_map(|(cpu, at, size, value)| Step::Write(cpu, at, size, value)),
        1 => (cpu(), 0x7f0..0x910u32).prop_map(|(cpu, msr)| Step::ReadMsr(cpu, msr)),
        2 => (cpu(), 0x7f0..0x910u32, value()).prop_map(|(cpu, msr, value)| Step::WriteMsr(cpu, msr, value)),
        1 => (cpu(), prop_oneof![value(), Just(0xfee0_0800), Just(0xfee0_0c00), Just(0xfee0_0000)])
            .prop_map(|(cpu, value)| Step::ApicBase(cpu, value)),
        1 => (cpu(), value()).prop_map(|(cpu, tsc)| Step::Deadline(cpu, tsc)),
        3 => cpu().prop_map(Step::Acknowledge),
        1 => (0..3usize, any::<u8>()).prop_map(|(port, byte)| Step::Receive(port, byte)),
        1 => any::<u8>().prop_map(Step::Key),
        4 => Just(Step::ToDeadline),
        2 => prop_oneof![0..100u64, 0..1_000_000_000u64, 0..1u64 << 60].prop_map(Step::Skip),
        1 => Just(Step::Restore),
        1 => Just(Step::Reset),
        1 => any::<bool>().prop_map(Step::Ferr),
    ]
}

fn board() -> PcDevices {
    let mut pc = PcDevices::new(&PcConfig {
        cpus: 2,
        ram_below_4g: 3 << 30,
        ram_above_4g: 1 << 40,
        epoch_seconds: 1_700_000_000,
        serial_ports: 2,
        harness: HarnessConfig {
            debug_exit: Some((0xf4, 4)),
            debugcon: Some(0x402),
            pc_testdev: true,
            pci_testdev: Some(4),
            post: vec![PostConfig { iobase: 0x190, iosize: 2, format: PostFormat::Hex, exit: Some(3) }],
        },
        memory: Dma::new(Arc::new(Ram(Mutex::new(vec![0; 0x2_0000])))),
        ..PcConfig::default()
    });
    let disk = |len: usize| Box::new(RamDisk::new(vec![0x5a; len])) as Disk;
    pc.plug(Peripherals {
        ide: Some([
            Some(DriveSpec::HardDisk(disk(200 * 512))),
            None,
            Some(DriveSpec::CdRom(Some(disk(80 * 2048)))),
            Some(DriveSpec::CdRom(None)),
        ]),
        floppies: Some([Some(Some(disk(737_280))), Some(None)]),
        vga: Some((OwnMemory::new(), 0x1_0000)),
        cards: vec![
            PciCard {
                at: Some((5, 0)),
                make: Box::new(|slot| {
                    let disk = Box::new(RamDisk::new(vec![0x5a; 1 << 16]));
                    Box::new(VirtioPci::new(Box::new(VirtioBlk::new(disk, "")), slot))
                }),
            },
            PciCard {
                at: Some((6, 0)),
                make: Box::new(|slot| {
                    Box::new(Nvme::new(Box::new(RamDisk::new(vec![0x5a; 1 << 16])), "", slot))
                }),
            },
        ],
        boot_order: [0x12, 0x30],
        ..Peripherals::default()
    });
    pc
}

/// A little memory for bus masters: addresses wrap.
struct Ram(Mutex<Vec<u8>>);

impl GuestMemory for Ram {
    fn read(&self, at: u64, bytes: &mut [u8]) -> bool {
        let memory = self.0.lock().unwrap();
        for (n, byte) in bytes.iter_mut().enumerate() {
            *byte = memory[at.wrapping_add(n as u64) as usize % memory.len()];
        }
        true
    }
    fn write(&self, at: u64, bytes: &[u8]) -> bool {
        let mut memory = self.0.lock().unwrap();
        let len = memory.len();
        for (n, byte) in bytes.iter().enumerate() {
            memory[at.wrapping_add(n as u64) as usize % len] = *byte;
        }
        true
    }
}

/// A guest that has set everything up, so that random writes reach past the enables.
fn prepared() -> PcDevices {
    let mut pc = board();
    for (port, value) in
        [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 3), (0x43, 0x34), (0x40, 9), (0x40, 0)]
    {
        pc.port_write(port, 1, value, 0);
    }
    pc.mmio_write(0, 0xfee0_00f0, 4, 0x1ff, 0);
    pc.mmio_write(0, 0xfed0_0010, 8, 1, 0);
    // BARs: IDE at C000h, the display's registers at FEBF0000h; all functions on.
    for (address, value) in
        [(0x8000_0920u32, 0xc001u32), (0x8000_0904, 5), (0x8000_1018, 0xfebf_0000), (0x8000_1004, 3)]
    {
        pc.port_write(0xcf8, 4, address, 0);
        pc.port_write(0xcfc, 4, value, 0);
    }
    // The cards: virtio's modern registers at FE010000h, NVMe's at FE020000h.
    for (address, value) in [
        (0x8000_2820u32, 0xfe01_0000u32),
        (0x8000_2824, 0),
        (0x8000_2804, 7),
        (0x8000_3010, 0xfe02_0000),
        (0x8000_3014, 0),
        (0x8000_3004, 6),
    ] {
        pc.port_write(0xcf8, 4, address, 0);
        pc.port_write(0xcfc, 4, value, 0);
    }
    pc
}

fn run(mut pc: PcDevices, steps: Vec<Step>) {
    let mut now = 0u64;
    for step in steps {
        match step {
            Step::In(port, size) => {
                let value = pc.port_read(port, size, now);
                assert!(size == 4 || value >> (8 * size) == 0);
            }
            Step::Out(port, size, value) => pc.port_write(port, size, value, now),
            Step::Read(cpu, at, size) => {
                let value = pc.mmio_read(cpu, at, size, now);
                assert!(size == 8 || value >> (8 * size) == 0);
            }
            Step::Write(cpu, at, size, value) => pc.mmio_write(cpu, at, size, value, now),
            Step::ReadMsr(cpu, msr) => drop(pc.x2apic_read(cpu, msr, now)),
            Step::WriteMsr(cpu, msr, value) => drop(pc.x2apic_write(cpu, msr, value, now)),
            Step::ApicBase(cpu, value) => drop(pc.set_apic_base(cpu, value, now)),
            Step::Deadline(cpu, tsc) => pc.set_tsc_deadline(cpu, tsc, now),
            Step::Acknowledge(cpu) => {
                let pending = pc.interrupt_pending(cpu);
                assert_eq!(pc.acknowledge(cpu, now).is_some(), pending);
            }
            Step::Receive(port, byte) => drop(pc.serial_receive(port, byte, now)),
            Step::Key(code) => drop(pc.key(&[code, 0xf0, code])),
            Step::ToDeadline => now = pc.next_deadline().unwrap_or(now),
            Step::Skip(ns) => now = now.saturating_add(ns),
            Step::Restore => {
                let state = pc.save();
                let bytes = postcard::to_allocvec(&state).unwrap();
                let mut twin = board();
                twin.restore(postcard::from_bytes(&bytes).unwrap()).unwrap();
                assert_eq!(twin.next_deadline(), pc.next_deadline());
                assert_eq!(twin.save(), pc.save());
                pc = twin;
            }
            Step::Reset => pc.reset(now),
            Step::Ferr(asserted) => pc.ferr(asserted, now),
        }
        pc.advance(now);
        assert!(pc.next_deadline().is_none_or(|at| at > now), "{:?} at {now}", pc.next_deadline());
        pc.take_power_event();
        pc.take_serial_output(0);
        pc.take_debugcon_output();
    }
    // Whatever the display was told, it can be looked at.
    pc.text_screen(now);
    let picture = pc.picture(now).expect("a display");
    assert_eq!(picture.rgb.len(), 3 * picture.width as usize * picture.height as usize);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn random_accesses(steps in prop::collection::vec(step(), 1..200)) {
        run(prepared(), steps);
    }

    /// A snapshot that somebody has tampered with is refused or runs on.
    #[test]
    fn damaged_snapshots(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut bytes = postcard::to_allocvec(&prepared().save()).unwrap();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let mut pc = board();
        if let Ok(state) = postcard::from_bytes(&bytes) && pc.restore(state).is_ok() {
            run(pc, steps);
        }
    }
}
