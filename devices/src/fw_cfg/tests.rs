use super::*;
use crate::memory::test_memory::Flat;

fn device() -> (FwCfg, std::sync::Arc<Flat>) {
    let memory = Flat::new(0x4000);
    let mut contents = FwCfgContents::new();
    contents.set_u16(key::NB_CPUS, 3);
    contents.set_u64(key::RAM_SIZE, 0x1234_5678_9abc);
    contents.add_file("opt/b", *b"second").unwrap();
    contents.add_file("etc/a", vec![7; 5000]).unwrap();
    contents.add_writable_file("etc/w", vec![0; 8]).unwrap();
    (FwCfg::new(contents, Dma::new(memory.clone())), memory)
}

fn by_port(device: &mut FwCfg, key: u16, len: usize) -> Vec<u8> {
    device.port_write(SELECTOR, 2, key.into(), 0);
    (0..len).map(|_| device.port_read(DATA, 1, 0) as u8).collect()
}

/// Runs a transfer described at 100h; gives the control word afterwards.
fn transfer(device: &mut FwCfg, memory: &Flat, control: u32, len: u32, address: u64) -> u32 {
    let access = [&control.to_be_bytes()[..], &len.to_be_bytes(), &address.to_be_bytes()].concat();
    memory.put(0x100, &access);
    device.port_write(DMA, 4, 0, 0);
    device.port_write(DMA + 4, 4, 0x100u32.swap_bytes(), 0);
    u32::from_be_bytes(memory.get(0x100, 4).try_into().unwrap())
}

#[test]
fn firmware_finds_the_device_and_counts_processors() {
    let (mut device, _) = device();
    assert_eq!(by_port(&mut device, key::SIGNATURE, 6), *b"QEMU\0\0", "zeros follow the end");
    assert_eq!(by_port(&mut device, key::ID, 4), [3, 0, 0, 0]);
    assert_eq!(by_port(&mut device, key::NB_CPUS, 2), [3, 0]);
    assert_eq!(by_port(&mut device, key::RAM_SIZE, 8), 0x1234_5678_9abcu64.to_le_bytes());
    assert_eq!(by_port(&mut device, 0x7777, 2), [0, 0], "nobody knows this key");
    // Bit 14 of the selector is not of the key.
    assert_eq!(by_port(&mut device, key::NB_CPUS | 0x4000, 1), [3]);
    device.port_write(DATA, 1, 0x55, 0);
    assert_eq!(by_port(&mut device, key::NB_CPUS, 1), [3], "the data port writes nothing");
    let register = [DMA, DMA + 4].map(|port| device.port_read(port, 4, 0).to_le_bytes());
    assert_eq!(register.concat(), *b"QEMU CFG");
}

#[test]
fn the_directory_lists_files_in_the_order_of_their_names() {
    let (mut device, _) = device();
    let directory = by_port(&mut device, key::FILE_DIR, 4 + 3 * 64);
    assert_eq!(directory[..4], [0, 0, 0, 3]);
    let entry = |n: usize| &directory[4 + 64 * n..4 + 64 * (n + 1)];
    for (n, (name, len)) in [("etc/a", 5000u32), ("etc/w", 8), ("opt/b", 6)].into_iter().enumerate() {
        assert_eq!(entry(n)[..4], len.to_be_bytes());
        assert_eq!(entry(n)[4..6], (key::FILE_FIRST + n as u16).to_be_bytes());
        assert!(entry(n)[8..].starts_with(name.as_bytes()) && entry(n)[8 + name.len()] == 0);
    }
    assert_eq!(by_port(&mut device, key::FILE_FIRST + 2, 6), *b"second");
    let mut contents = FwCfgContents::new();
    assert_eq!(contents.add_file("", *b""), Err(FileError::Name));
    assert_eq!(contents.add_file(&"n".repeat(56), *b""), Err(FileError::Name));
    assert_eq!(contents.add_file(&"n".repeat(55), *b""), Ok(()));
    assert_eq!(contents.add_file(&"n".repeat(55), *b""), Err(FileError::Exists));
}

#[test]
fn dma_reads_skips_and_says_when_it_fails() {
    let (mut device, memory) = device();
    let select = |key: u16| u32::from(key) << 16 | control::SELECT;
    // A part, then the next part.
    let b = select(key::FILE_FIRST + 2);
    assert_eq!(transfer(&mut device, &memory, b | control::READ, 3, 0x200), 0);
    assert_eq!(transfer(&mut device, &memory, control::READ, 5, 0x203), 0);
    assert_eq!(memory.get(0x200, 8), *b"second\0\0");
    assert_eq!(transfer(&mut device, &memory, b | control::SKIP, 4, 0), 0);
    assert_eq!(device.port_read(DATA, 1, 0), u32::from(b'n'), "both interfaces share the offset");
    // More than one chunk.
    assert_eq!(transfer(&mut device, &memory, select(key::FILE_FIRST) | control::READ, 5000, 0x800), 0);
    assert_eq!(memory.get(0x800, 5001), [vec![7; 5000], vec![0]].concat());
    // Not memory; and a length that would run for ever if it were believed.
    assert_eq!(transfer(&mut device, &memory, b | control::READ, 4, 0x3ffe), control::ERROR);
    assert_eq!(transfer(&mut device, &memory, b | control::READ, u32::MAX, 0x400), control::ERROR);
    assert_eq!(transfer(&mut device, &memory, b | control::SKIP, u32::MAX, 0), 0);
    assert_eq!(transfer(&mut device, &memory, b, 0, 0), 0, "selecting alone");
}

#[test]
fn writable_files_are_written_saved_and_reset() {
    let (mut device, memory) = device();
    let w = u32::from(key::FILE_FIRST + 1) << 16 | control::SELECT;
    memory.put(0x300, b"abcdefgh");
    assert_eq!(transfer(&mut device, &memory, w | control::SKIP, 2, 0), 0);
    assert_eq!(transfer(&mut device, &memory, control::WRITE, 6, 0x300), 0);
    assert_eq!(transfer(&mut device, &memory, control::WRITE, 1, 0x300), control::ERROR, "it is full");
    assert_eq!(by_port(&mut device, key::FILE_FIRST + 1, 8), *b"\0\0abcdef");
    assert_eq!(device.file_written(key::FILE_FIRST + 1), Some(&b"\0\0abcdef"[..]));
    let a = u32::from(key::FILE_FIRST) << 16 | control::SELECT;
    assert_eq!(transfer(&mut device, &memory, a | control::WRITE, 1, 0x300), control::ERROR, "read-only");
    assert_eq!(transfer(&mut device, &memory, w | control::WRITE, u32::MAX, 0x300), control::ERROR);
    let state = device.save();
    device.reset();
    assert_eq!(by_port(&mut device, key::FILE_FIRST + 1, 3), [0; 3]);
    device.restore(state);
    assert_eq!(by_port(&mut device, key::FILE_FIRST + 1, 3), *b"\0\0a");
    // A state of another machine, or one that was made up.
    let written = [(key::FILE_FIRST, vec![1; 5000]), (key::FILE_FIRST + 1, vec![1; 9])].into();
    device.restore(FwCfgState { selected: key::FILE_FIRST, offset: u32::MAX, dma_high: 0, written });
    assert_eq!(device.port_read(DATA, 1, 0), 0);
    assert_eq!(by_port(&mut device, key::FILE_FIRST, 1), [7]);
}
