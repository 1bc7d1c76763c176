//! What identifies the chip: the identifier codes, and the query table of the Common Flash Interface.

/// Intel.
const MANUFACTURER: u8 = 0x89;
/// 28F128J3.
const DEVICE: u8 = 0x18;
/// Address of Intel's extended table.
const EXTENDED: u8 = 0x31;
/// log2 of the bytes that one buffered write may have.
const BUFFER_LOG2: u8 = 8;

/// The identifier code at `offset` in a block: manufacturer, device, and 0 (not locked) for the rest.
pub(super) fn identifier(offset: u64) -> u8 {
    match offset {
        0 => MANUFACTURER,
        1 => DEVICE,
        _ => 0,
    }
}

/// The byte of the query table at `offset`, for a chip of `len` bytes in blocks of `sector`. Offsets are JESD68's.
pub(super) fn byte(offset: u64, len: u64, sector: u64) -> u8 {
    let blocks = (len / sector).saturating_sub(1).to_le_bytes();
    let block_size = (sector / 256).to_le_bytes();
    match offset {
        0x10 => b'Q',
        0x11 => b'R',
        0x12 => b'Y',
        // Intel/Sharp extended command set, and its table.
        0x13 => 1,
        0x15 => EXTENDED,
        // Supply 4.5 to 5.5 V, none for programming.
        0x1b => 0x45,
        0x1c => 0x55,
        // log2 of typical times: byte and buffer in us, block in ms; and log2 of how many times that is the most.
        0x1f | 0x20 => 7,
        0x21 => 10,
        0x23..=0x25 => 4,
        0x27 => len.next_power_of_two().trailing_zeros() as u8,
        // Byte wide, or 16 bits.
        0x28 => 2,
        0x2a => BUFFER_LOG2,
        // One erase region.
        0x2c => 1,
        0x2d => blocks[0],
        0x2e => blocks[1],
        0x2f => block_size[0],
        0x30 => block_size[1],
        0x31 => b'P',
        0x32 => b'R',
        0x33 => b'I',
        0x34 => b'1',
        0x35 => b'0',
        _ => 0,
    }
}
