//! Bit tests, scans, counts, and the bit-manipulation extensions.

use super::*;

#[test]
fn test_bits() {
    check("bt eax, ecx", regs! {eax: 0x10, ecx: 4}, expect! {flags: CF});
    check("bt eax, ecx", regs! {eax: 0x10, ecx: 36}, expect! {flags: CF});
    check("bt rax, 63", regs! {rax: 1 << 63}, expect! {flags: CF});
    check("bt ax, 17", regs! {rax: 2}, expect! {flags: CF});
    check("bts eax, ecx", regs! {rax: 0, ecx: 5}, expect! {rax: 0x20, flags: NONE});
    check("btr rax, rcx", regs! {rax: !0, rcx: 64 + 3}, expect! {rax: !8, flags: CF});
    check("btc ax, 3", regs! {rax: 0x10008}, expect! {rax: 0x10000, flags: CF});
    check("bts rax, 40", regs! {rax: 0}, expect! {rax: 1 << 40, flags: NONE});
}

/// A register offset reaches outside the operand, in both directions.
#[test]
fn test_bits_of_memory() {
    check("bt [rsi], ecx", regs! {rcx: 100, rsi: D + 64, [DATA + 76; 1]: 0x10}, expect! {flags: CF});
    check("bt [rsi], ecx", regs! {ecx: -1, rsi: D + 64, [DATA + 63; 1]: 0x80}, expect! {flags: CF});
    check(
        "bts [rsi], ecx",
        regs! {ecx: -64, rsi: D + 64, [DATA + 56; 8]: 0},
        expect! {[DATA + 56; 8]: 1, flags: NONE},
    );
    check(
        "bts [rsi], rcx",
        regs! {rcx: 0x1000 * 8 + 1, rsi: D + 64, [DATA + 0x1040; 8]: 0},
        expect! {[DATA + 0x1040; 8]: 2, flags: NONE},
    );
    check(
        "btr [rsi], cx",
        regs! {rcx: 0x1_fff0, rsi: D + 64, [DATA + 62; 2]: 1},
        expect! {[DATA + 62; 2]: 0, flags: CF},
    );
    check(
        "btc [rsi], rcx",
        regs! {rcx: -1, rsi: D + 64, [DATA + 56; 8]: 0},
        expect! {[DATA + 56; 8]: 1 << 63, flags: NONE},
    );
    check(
        "lock bts [rsi], ecx",
        regs! {rcx: 33, rsi: D, [DATA; 8]: 0},
        expect! {[DATA; 8]: 2 << 32, flags: NONE},
    );
    check("lock btr dword [rsi], 3", regs! {rsi: D, [DATA; 4]: 0xff}, expect! {[DATA; 4]: 0xf7, flags: CF});
    // An immediate offset stays inside.
    check("bts dword [rsi], 35", regs! {rsi: D, [DATA; 8]: 0}, expect! {[DATA; 8]: 8, flags: NONE});
    check("bt [rsi], rcx", regs! {rcx: 1 << 40, rsi: D}, expect! {fault: PAGE, code: 4, cr2: D + (1 << 37)});
    check("bts [rsi], ecx", regs! {rcx: 0, rsi: RO}, expect! {fault: PAGE, code: 7, cr2: RO});
}

#[test]
fn scan() {
    check("bsf eax, ecx", regs! {ecx: 0x80}, expect! {rax: 7, flags: NONE});
    check("bsf eax, ecx", regs! {rax: 0x1_0000_0005, ecx: 0}, expect! {flags: ZF});
    check("bsr rax, rcx", regs! {rcx: 1 << 40}, expect! {rax: 40, flags: NONE});
    check("bsr ax, cx", regs! {rax: 0x12345, rcx: 0x8000}, expect! {rax: 0x1000f, flags: NONE});
    check("bsf rax, [rsi]", regs! {rsi: D, [DATA; 8]: 1 << 63}, expect! {rax: 63});
    check("tzcnt eax, ecx", regs! {ecx: 0}, expect! {rax: 32, flags: CF});
    check("tzcnt ax, cx", regs! {rax: 0, rcx: 0x10}, expect! {rax: 4, flags: NONE});
    check("tzcnt rax, rcx", regs! {rcx: 1}, expect! {rax: 0, flags: ZF});
    check("lzcnt eax, ecx", regs! {ecx: 0}, expect! {rax: 32, flags: CF});
    check("lzcnt rax, rcx", regs! {rcx: -1}, expect! {rax: 0, flags: ZF});
    check("lzcnt ax, cx", regs! {rax: 0, rcx: 1}, expect! {rax: 15, flags: NONE});
    check("popcnt eax, ecx", regs! {ecx: -1, flags: CF|OF|SF}, expect! {rax: 32, flags: NONE});
    check("popcnt rax, [rsi]", regs! {rsi: D, [DATA; 8]: 0}, expect! {rax: 0, flags: ZF});
}

#[test]
fn extract_and_deposit() {
    check("blsi eax, ecx", regs! {ecx: 0x58}, expect! {rax: 8, flags: CF});
    check("blsi rax, rcx", regs! {rcx: 0}, expect! {rax: 0, flags: ZF});
    check("blsr eax, ecx", regs! {ecx: 0x58}, expect! {rax: 0x50, flags: NONE});
    check("blsmsk eax, ecx", regs! {ecx: 0x58}, expect! {rax: 0xf, flags: NONE});
    check("blsmsk eax, ecx", regs! {ecx: 0}, expect! {rax: 0xffff_ffff, flags: CF|SF});
    check("bextr eax, ecx, edx", regs! {ecx: 0x12345678, edx: 0x0804}, expect! {rax: 0x67, flags: NONE});
    check("bextr rax, rcx, rdx", regs! {rcx: -1, rdx: 0x4030}, expect! {rax: 0xffff});
    check("bzhi eax, ecx, edx", regs! {ecx: -1, edx: 8}, expect! {rax: 0xff, flags: NONE});
    check("bzhi eax, ecx, edx", regs! {ecx: -1, edx: 40}, expect! {rax: 0xffff_ffff, flags: CF|SF});
    check("pdep eax, ecx, edx", regs! {ecx: 0b101, edx: 0xf0f0}, expect! {rax: 0x50});
    check(
        "pext rax, rcx, rdx",
        regs! {rcx: 0x1234_5678_9abc_def0, rdx: 0xff00_0000_0000_00ff},
        expect! {rax: 0x12f0},
    );
    check("bswap eax", regs! {rax: 0x1_1234_5678}, expect! {rax: 0x7856_3412});
    check("bswap r9", regs! {r9: 0x0102_0304_0506_0708}, expect! {r9: 0x0807_0605_0403_0201});
    check("movbe eax, [rsi]", regs! {rsi: D, [DATA; 4]: 0x12345678}, expect! {rax: 0x78563412});
    check("movbe [rsi], ax", regs! {rax: 0x1234, rsi: D}, expect! {[DATA; 2]: 0x3412});
    check("crc32 eax, cl", regs! {rax: 0, rcx: 1}, expect! {rax: 0xf26b8303});
    check("crc32 rax, rcx", regs! {rax: !0, rcx: !0}, expect! {rax: 0xb798b438});
}
