//! virtio rings and NVMe queues: a driver's initialisation, then any contents of memory and any accesses to registers.

use devices::block::RamDisk;
use devices::nvme::Nvme;
use devices::pci::PciFunction;
use devices::virtio::blk::VirtioBlk;
use devices::virtio::pci::VirtioPci;

use super::guest::{Memory, advance, restores};
use super::take;

/// Bytes of the disks.
const DISK: usize = 64 << 10;
/// What a driver writes at first: BAR, offset, size, value.
type Writes = &'static [(u8, u64, u8, u64)];

/// Rings at these addresses; where descriptors point to.
const TABLE: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const DATA: u64 = 0x8000;

/// A modern driver that accepts indirect descriptors, event indices, FLUSH, DISCARD and WRITE_ZEROES, with 16 descriptors.
const VIRTIO: Writes = &[
    (4, 20, 1, 3),
    (4, 8, 4, 0),
    (4, 12, 4, 0x3000_6200),
    (4, 8, 4, 1),
    (4, 12, 4, 1),
    (4, 20, 1, 11),
    (4, 24, 2, 16),
    (4, 32, 8, TABLE),
    (4, 40, 8, AVAILABLE),
    (4, 48, 8, USED),
    (4, 28, 2, 1),
    (4, 20, 1, 15),
];

/// Admin queues of 16 entries at 1000h and 2000h; I/O queues come from the input.
const NVME: Writes =
    &[(0, 0x24, 4, 0x000f_000f), (0, 0x28, 8, TABLE), (0, 0x30, 8, AVAILABLE), (0, 0x14, 4, 0x0046_0001)];

/// Any bytes in the memory of a virtio block device and in its registers.
pub fn virtio(data: &[u8]) {
    let memory = Memory::new();
    let make = || -> Box<dyn PciFunction> {
        let disk = Box::new(RamDisk::new(vec![0x5a; DISK]));
        Box::new(VirtioPci::new(Box::new(VirtioBlk::new(disk, "FUZZ")), memory.slot()))
    };
    // The notification that follows each change of memory.
    drive(data, &memory, make, VIRTIO, &[(4, 0x3000, 2, 0)]);
}

/// Any bytes in the memory of an NVMe controller and in its registers.
pub fn nvme(data: &[u8]) {
    let memory = Memory::new();
    let make = || -> Box<dyn PciFunction> {
        Box::new(Nvme::new(Box::new(RamDisk::new(vec![0x5a; DISK])), "FUZZ", memory.slot()))
    };
    let doorbells: Writes = &[(0, 0x1000, 4, 15), (0, 0x1008, 4, 15), (0, 0x1004, 4, 0), (0, 0x100c, 4, 0)];
    drive(data, &memory, make, NVME, doorbells);
}

/// The input is a list of steps: a byte that says what, and what it takes.
fn drive(
    mut data: &[u8],
    memory: &Memory,
    make: impl Fn() -> Box<dyn PciFunction>,
    set_up: Writes,
    notify: Writes,
) {
    let mut function = make();
    let mut now = 1;
    function.config_mut().write(4, 7);
    for (bar, at, size, value) in set_up {
        function.bar_write(*bar, *at, *size, *value, now);
    }
    while !data.is_empty() {
        let [step, size] = take(&mut data);
        let size = 1 << (size & 3);
        let at = u16::from_le_bytes(take(&mut data));
        match step & 7 {
            // Memory, 16 bytes at a time; a step with a high bit begins there without a notification.
            0..=2 => {
                memory.put(usize::from(at) * 4, &take::<16>(&mut data));
                if step & 0x80 == 0 {
                    for (bar, at, size, value) in notify {
                        function.bar_write(*bar, *at, *size, *value, now);
                    }
                }
            }
            3 => {
                let value = u64::from_le_bytes(take(&mut data));
                function.bar_write(step >> 5, at.into(), size, value, now);
            }
            4 => {
                function.bar_read(step >> 5, at.into(), size, now);
            }
            5 => {
                let [value] = take(&mut data);
                function.config_reading(at as u8, now);
                function.config_mut().write(at as u8, value);
                function.config_written(at as u8, 1);
            }
            6 if step & 0x80 != 0 => function = restores(function.as_ref(), make()),
            _ => {}
        }
        for _ in 0..4 {
            now = advance(function.as_mut(), now + 1);
        }
    }
    // A state that somebody has tampered with is survived.
    let mut state = function.save();
    let n = state.len();
    state[n / 2] ^= 0x55;
    function.restore(&state);
    advance(function.as_mut(), now + 1);
    function.reset();
}

fn step(what: u8, at: u64, bytes: &[u8]) -> Vec<u8> {
    let mut step = vec![what, 0];
    step.extend(((at / 4) as u16).to_le_bytes());
    step.extend(bytes);
    step.resize(20, 0);
    step
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Requests as drivers make them: read, write, flush, and one through an indirect table.
pub(super) fn virtio_seeds() -> Vec<Vec<u8>> {
    let descriptor = |table: u64, n: u64, at: u64, len: u32, flags: u32| {
        step(0x80, table + 16 * n, &words(&[at as u32, 0, len, flags | (n as u32 + 1) << 16]))
    };
    let available = |index: u32, head: u32| step(0, AVAILABLE, &words(&[index << 16, head]));
    [(0u32, 3u32), (1, 1), (4, 1), (8, 3), (11, 1), (13, 1)]
        .into_iter()
        .flat_map(|(kind, flags)| {
            let header = step(0x80, DATA, &words(&[kind, 0, 2, 0]));
            let data = step(0x80, DATA + 0x100, &words(&[1, 0, 8, 1]));
            let chain = |table: u64| {
                let len = if kind > 8 { 16 } else { 512 };
                [
                    descriptor(table, 0, DATA, 16, 1),
                    descriptor(table, 1, DATA + 0x100, len, flags),
                    descriptor(table, 2, DATA + 0x80, 1, 2),
                ]
                .concat()
            };
            let direct = [header.clone(), data.clone(), chain(TABLE), available(1, 0)].concat();
            let table = DATA + 0x1000;
            let indirect =
                [header, data, chain(table), descriptor(TABLE, 5, table, 48, 4), available(1, 5)].concat();
            [direct, indirect]
        })
        .collect()
}

/// Commands of both queues; the first two make the second queue.
pub(super) fn nvme_seeds() -> Vec<Vec<u8>> {
    let command = |queue: u64, n: u64, opcode: u32, namespace: u32, dwords: [u32; 6]| {
        let at = queue + 64 * n;
        let [a, b, c, d, e, f] = dwords;
        [
            step(0x80, at, &words(&[opcode | (n as u32) << 16, namespace, 0, 0])),
            step(0x80, at + 16, &words(&[0, 0, DATA as u32, 0])),
            step(0x80, at + 32, &words(&[a, b, c, d])),
            step(0, at + 48, &words(&[e, f, 0, 0])),
        ]
        .concat()
    };
    let io = 0x4000;
    let queues = [
        step(0x80, TABLE + 24, &words(&[0x5000, 0])),
        command(TABLE, 0, 5, 0, [0, 0, 0x000f_0001, 1, 0, 0]),
        command(TABLE, 1, 1, 0, [0, 0, 0x000f_0001, 0x1_0001, 0, 0]),
    ]
    .concat();
    let mut seeds: Vec<Vec<u8>> = [
        (6, 0, [0, 0, 1, 0, 0, 0]),
        (6, 1, [0, 0, 0, 0, 0, 0]),
        (2, 0, [0, 0, 0x007f_0002, 0, 0, 0]),
        (9, 0, [0, 0, 7, 0x0003_0003, 0, 0]),
        (10, 0, [0, 0, 6, 0, 0, 0]),
        (0xc, 0, [0; 6]),
        (8, 0, [0, 0, 0x1_0000, 0, 0, 0]),
    ]
    .into_iter()
    .map(|(opcode, namespace, dwords)| command(TABLE, 0, opcode, namespace, dwords))
    .collect();
    for (opcode, dwords) in [
        (2, [0x9000, 0, 2, 0, 7, 0]),
        (1, [0xa000, 0, 2, 0, 31, 0]),
        (5, [0, 0, 2, 0, 0, 0]),
        (0, [0; 6]),
        (8, [0, 0, 0, 0, 63, 0]),
        (9, [0, 0, 1, 4, 0, 0]),
    ] {
        seeds.push([queues.clone(), command(io, 0, opcode, 1, dwords)].concat());
    }
    seeds
}
