//! Every device's registers: any accesses to the ports, memory windows and configuration space of a whole board.

use devices::block::{Disk, RamDisk};
use devices::ide::DriveSpec;
use devices::nvme::Nvme;
use devices::pc::{PORTS, PcConfig, PcDevices, PciCard, Peripherals};
use devices::vga::OwnMemory;
use devices::virtio::blk::VirtioBlk;
use devices::virtio::pci::VirtioPci;

use super::guest::Memory;
use super::take;

/// Where windows begin; the last ones are those that [`prepared`] gives the PCI cards.
const WINDOWS: [u64; 12] = [
    0,
    0xa_0000,
    0xb_8000,
    0xfec0_0000,
    0xfed0_0000,
    0xfee0_0000,
    0xff00_0000,
    0xfe00_0000,
    0xfe01_0000,
    0xfe02_0000,
    0xfe03_0000,
    0xfe04_0000,
];
/// Configuration of the cards: device and function, register, value.
const CONFIGURATION: [(u32, u32, u32); 16] = [
    (0x09, 0x20, 0xc001), // IDE: bus master
    (0x09, 0x04, 5),
    (0x10, 0x10, 0xfd00_0000), // VGA
    (0x10, 0x18, 0xfe04_0000),
    (0x10, 0x04, 3),
    (0x28, 0x10, 0xc101), // virtio
    (0x28, 0x14, 0xfe00_0000),
    (0x28, 0x20, 0xfe01_0000),
    (0x28, 0x24, 0),
    (0x28, 0x04, 7),
    (0x30, 0x10, 0xfe02_0000), // NVMe
    (0x30, 0x14, 0),
    (0x30, 0x04, 6),
    (0x38, 0x24, 0xfe03_0000), // AHCI
    (0x38, 0x20, 0xc201),
    (0x38, 0x04, 7),
];

fn disk(len: usize) -> Disk {
    Box::new(RamDisk::new(vec![0x5a; len]))
}

fn board(memory: &Memory) -> PcDevices {
    let config = PcConfig {
        cpus: 2,
        ram_below_4g: 1 << 20,
        serial_ports: 2,
        memory: memory.dma(),
        ..PcConfig::default()
    };
    let mut pc = PcDevices::new(&config);
    let drives = || {
        let [a, b, c] = [
            DriveSpec::HardDisk(disk(200 * 512)),
            DriveSpec::CdRom(Some(disk(80 * 2048))),
            DriveSpec::CdRom(None),
        ];
        (a, b, c)
    };
    let (a, b, c) = drives();
    let (d, e, f) = drives();
    let virtio = PciCard {
        at: Some((5, 0)),
        make: Box::new(|slot| Box::new(VirtioPci::new(Box::new(VirtioBlk::new(disk(1 << 16), "F")), slot))),
    };
    let nvme =
        PciCard { at: Some((6, 0)), make: Box::new(|slot| Box::new(Nvme::new(disk(1 << 16), "F", slot))) };
    let mut ports = devices::ahci::PortSpecs::default();
    (ports[0], ports[1], ports[3]) = (Some(d), Some(e), Some(f));
    pc.plug(Peripherals {
        ide: Some([Some(a), None, Some(b), Some(c)]),
        floppies: Some([Some(Some(disk(737_280))), Some(None)]),
        vga: Some((OwnMemory::new(), 0x1_0000)),
        cards: vec![virtio, nvme, devices::ahci::Ahci::card(Some((7, 0)), ports)],
        boot_order: [0x12, 0x30],
        ..Peripherals::default()
    });
    pc
}

/// As after firmware: interrupt controllers on, cards where [`CONFIGURATION`] says.
fn prepared(memory: &Memory) -> PcDevices {
    let mut pc = board(memory);
    for (port, value) in
        [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 3), (0x43, 0x34), (0x40, 9), (0x40, 0)]
    {
        pc.port_write(port, 1, value, 0);
    }
    pc.mmio_write(0, 0xfee0_00f0, 4, 0x1ff, 0);
    for (at, register, value) in CONFIGURATION {
        config_write(&mut pc, at, register, value, 0);
    }
    pc
}

fn config_write(pc: &mut PcDevices, at: u32, register: u32, value: u32, now: u64) {
    pc.port_write(0xcf8, 4, 1 << 31 | at << 8 | register & 0xfc, now);
    pc.port_write(0xcfc, 4, value, now);
}

/// The input is a list of steps: what, how wide, where, and a value.
pub fn registers(mut data: &[u8]) {
    let memory = Memory::new();
    let mut pc = prepared(&memory);
    let mut now = 1u64;
    while !data.is_empty() {
        let [step, size] = take(&mut data);
        let at = u16::from_le_bytes(take(&mut data));
        let value = u32::from_le_bytes(take(&mut data));
        let port = match step >> 4 {
            // One that some device has.
            0..=11 => {
                let range = PORTS[usize::from(at >> 8) % PORTS.len()];
                range.first + (at & 0xff) % (range.last - range.first + 1)
            }
            12 => 0xc000 + at % 0x300,
            _ => at,
        };
        let window = WINDOWS[usize::from(step >> 4) % WINDOWS.len()] + u64::from(at);
        let narrow = 1 << (size % 3);
        match step & 0xf {
            0 | 1 => drop(pc.port_read(port, narrow, now)),
            2..=5 => pc.port_write(port, narrow, value, now),
            6 => drop(pc.mmio_read(usize::from(size >> 7), window, 1 << (size & 3), now)),
            7..=9 => pc.mmio_write(usize::from(size >> 7), window, 1 << (size & 3), value.into(), now),
            10 => config_write(&mut pc, (at >> 8).into(), (at & 0xff).into(), value, now),
            11 => memory.put(usize::from(at) * 4, &value.to_le_bytes()),
            12 => now = now.saturating_add(u64::from(value) << (size & 31)),
            13 => drop(pc.acknowledge(usize::from(size & 1), now)),
            14 if size == 0 => {
                let state = pc.save();
                pc = board(&memory);
                assert!(
                    pc.restore(state.clone()).is_ok() && pc.save() == state,
                    "a state that is not restored"
                );
            }
            14 if size == 1 => pc.reset(now),
            _ => now = pc.next_deadline().unwrap_or(now).max(now),
        }
        pc.advance(now);
        assert!(pc.next_deadline().is_none_or(|at| at > now), "a deadline in the past");
        pc.take_power_event();
        for port in 0..2 {
            pc.take_serial_output(port);
        }
        pc.take_debugcon_output();
    }
    pc.text_screen(now);
    pc.picture(now);
}

/// The floppy controller with its DMA channel: bytes to its data port, in the order of commands.
pub fn floppy(mut data: &[u8]) {
    let memory = Memory::new();
    let mut pc = board(&memory);
    let mut now = 1u64;
    for (port, value) in [(0x3f2, 0x08), (0x3f2, 0x1c), (0x0a, 0x02), (0xd6, 0xc0), (0xd4, 0)] {
        pc.port_write(port, 1, value, now);
    }
    while !data.is_empty() {
        let [step, value] = take(&mut data);
        match step {
            0..=0x9f => pc.port_write(0x3f5, 1, value.into(), now),
            0xa0..=0xbf => drop(pc.port_read(0x3f5, 1, now)),
            // Channel 2: mode, address, count, page, mask.
            0xc0..=0xdf => {
                let port = [0x0b, 0x04, 0x05, 0x81, 0x0a, 0x0c][usize::from(step & 31) % 6];
                pc.port_write(port, 1, value.into(), now);
            }
            0xe0..=0xef => {
                let port = [0x3f0, 0x3f1, 0x3f2, 0x3f3, 0x3f4, 0x3f7][usize::from(step & 15) % 6];
                pc.port_write(port, 1, value.into(), now);
                pc.port_read(port, 1, now);
            }
            _ => now = pc.next_deadline().unwrap_or(now).max(now).saturating_add(value.into()),
        }
        pc.advance(now);
        assert!(pc.next_deadline().is_none_or(|at| at > now), "a deadline in the past");
    }
}

pub(super) fn register_seeds() -> Vec<Vec<u8>> {
    let step = |what: u8, size: u8, at: u16, value: u32| {
        let mut step = vec![what, size];
        step.extend(at.to_le_bytes());
        step.extend(value.to_le_bytes());
        step
    };
    let ide: Vec<Vec<u8>> = [(0x1f6, 0xe0), (0x1f2, 2), (0x1f3, 1), (0x1f4, 0), (0x1f5, 0), (0x1f7, 0x20)]
        .into_iter()
        .map(|(port, value)| step(0xd2, 0, port, value))
        .collect();
    let virtio: Vec<Vec<u8>> = [(18, 1), (18, 3), (4, 0x200), (8, 1), (18, 7), (16, 0)]
        .into_iter()
        .map(|(port, value)| step(0xd2, 2, 0xc100 + port, value))
        .collect();
    let nvme: Vec<Vec<u8>> =
        [(0x24, 0xf_000f), (0x28, 0x1000), (0x30, 0x2000), (0x14, 0x46_0001), (0x1000, 1)]
            .into_iter()
            .map(|(at, value)| step(0x97, 2, at, value))
            .collect();
    let ahci: Vec<Vec<u8>> =
        [(0x04, 0x8000_0002), (0x100, 0x1000), (0x108, 0x2000), (0x118, 0x11), (0x138, 1)]
            .into_iter()
            .map(|(at, value)| step(0xa7, 2, at, value))
            .collect();
    let vga: Vec<Vec<u8>> = [(0x3c4, 0x0f02), (0x3ce, 0x0506), (0x1ce, 4), (0x1cf, 0x41), (0x3d4, 0x0c)]
        .into_iter()
        .map(|(port, value)| step(0xd2, 1, port, value))
        .collect();
    let config = vec![
        step(0x0a, 0, 0x2804, 7),
        step(0x0a, 0, 0x3010, u32::MAX),
        step(0x0e, 0, 0, 0),
        step(0x0f, 0, 0, 0),
    ];
    [ide, virtio, nvme, ahci, vga, config]
        .into_iter()
        .map(|mut steps| {
            steps.extend([step(0x0f, 0, 0, 0), step(0x00, 1, 0x0300, 0), step(0x0e, 0, 0, 0)]);
            steps.concat()
        })
        .collect()
}

pub(super) fn floppy_seeds() -> Vec<Vec<u8>> {
    let commands: [&[u8]; 8] = [
        &[0x03, 0xdf, 0x02],
        &[0x07, 0x00],
        &[0x0f, 0x00, 0x05],
        &[0xe6, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff],
        &[0xc5, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff],
        &[0x4d, 0x00, 2, 18, 0x1b, 0xf6],
        &[0x0e],
        &[0x08],
    ];
    let dma = [0xc0, 0x46, 0xc5, 0, 0xc1, 0, 0xc1, 0x10, 0xc2, 0xff, 0xc2, 0x03, 0xc3, 0, 0xc4, 0x02];
    commands
        .iter()
        .map(|command| {
            let bytes = command.iter().flat_map(|byte| [0, *byte]);
            dma.into_iter().chain(bytes).chain([0xf0, 0, 0xf0, 0, 0xa0, 0, 0xa0, 0, 0xa0, 0]).collect()
        })
        .collect()
}
