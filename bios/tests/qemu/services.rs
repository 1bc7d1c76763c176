//! A boot program of our own that calls services and reports on the debug console what they answer.

use iced_x86::code_asm::*;

use crate::machine::Qemu;

type Emit = Result<(), IcedError>;

/// Writes a letter to the debug console: capital if the carry flag is clear.
fn report(a: &mut CodeAssembler, letter: u8) -> Emit {
    let mut good = a.create_label();
    let letter = u32::from(letter);
    a.mov(al, letter)?;
    a.jnc(good)?;
    a.mov(al, letter | 0x20)?;
    a.set_label(&mut good)?;
    a.mov(dx, 0x402)?;
    a.out(dx, al)
}

/// As [`report`], by whether two values are equal (after a comparison).
fn report_equal(a: &mut CodeAssembler, letter: u8) -> Emit {
    let mut equal = a.create_label();
    let mut told = a.create_label();
    a.je(equal)?;
    a.stc()?;
    a.jmp(told)?;
    a.set_label(&mut equal)?;
    a.clc()?;
    a.set_label(&mut told)?;
    report(a, letter)
}

/// A boot sector that runs `program` with its segments at 0, and then writes a full stop.
fn boot_sector(program: impl Fn(&mut CodeAssembler) -> Emit) -> Vec<u8> {
    let write = || -> Result<Vec<u8>, IcedError> {
        let mut a = CodeAssembler::new(16)?;
        let mut stop = a.create_label();
        a.xor(ax, ax)?;
        a.mov(ds, ax)?;
        a.mov(es, ax)?;
        a.mov(si, ax)?;
        program(&mut a)?;
        a.mov(dx, 0x402)?;
        a.mov(al, u32::from(b'.'))?;
        a.out(dx, al)?;
        a.set_label(&mut stop)?;
        a.hlt()?;
        a.jmp(stop)?;
        a.assemble(0x7c00)
    };
    let mut sector = write().expect("the boot sector assembles");
    assert!(sector.len() <= 510, "{}", sector.len());
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector
}

/// Runs the program from a disk of 4 MiB whose sectors hold their numbers, and gives what it reports.
fn run(program: impl Fn(&mut CodeAssembler) -> Emit) -> Option<String> {
    run_from("ide", program)
}

/// The same with the disk at `interface`.
fn run_from(interface: &str, program: impl Fn(&mut CodeAssembler) -> Emit) -> Option<String> {
    let disk = numbered_disk(program);
    let drive = format!("file={},format=raw", disk.path().display());
    let (drive, card) = match interface {
        "nvme" => (drive + ",if=none,id=d", &["-device", "nvme,drive=d,serial=1"][..]),
        _ => (format!("{drive},if={interface}"), &[][..]),
    };
    let arguments = ["-m", "64", "-drive", &drive].iter().chain(card).copied().collect::<Vec<_>>();
    let mut qemu = Qemu::start(&arguments)?;
    Some(qemu.wait_for_report("Booting from disk: started", "."))
}

/// A disk of 4 MiB that boots `program` and whose sectors hold their numbers.
fn numbered_disk(program: impl Fn(&mut CodeAssembler) -> Emit) -> tempfile::NamedTempFile {
    let mut disk = boot_sector(program);
    disk.extend((1..8192u32).flat_map(|number| number.to_le_bytes().repeat(128)));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), disk).expect("the disk can be written");
    file
}

/// Each capital letter is a check that has passed. `None`: there was no QEMU.
fn expect(reported: Option<String>, letters: &str) {
    if let Some(reported) = reported {
        assert_eq!(reported, letters, "a small letter is a failure");
    }
}

#[test]
fn disk_services_read_and_write_what_is_there() {
    for interface in ["ide", "virtio", "nvme"] {
        expect(run_from(interface, disk_services), "ABCDEFGHI.");
    }
}

fn disk_services(a: &mut CodeAssembler) -> Emit {
    // By cylinder, head, sector: the third sector holds 2.
    a.mov(ax, 0x0201)?;
    a.mov(bx, 0x8000)?;
    a.mov(cx, 3)?;
    a.mov(dx, 0x80)?;
    a.int(0x13)?;
    report(a, b'A')?;
    a.cmp(dword_ptr(0x8000), 2)?;
    report_equal(a, b'B')?;
    // Extensions are there.
    a.mov(ah, 0x41)?;
    a.mov(bx, 0x55aa)?;
    a.mov(dl, 0x80)?;
    a.int(0x13)?;
    report(a, b'C')?;
    a.cmp(bx, 0xaa55u32)?;
    report_equal(a, b'D')?;
    // By block: 200 blocks from 5000, across 64 KiB. The packet is at 600h.
    a.mov(dword_ptr(0x600), 200 << 16 | 16)?;
    a.mov(dword_ptr(0x604), 0x1000_0005)?;
    a.mov(dword_ptr(0x608), 5000)?;
    a.mov(dword_ptr(0x60c), 0)?;
    a.mov(si, 0x600)?;
    a.mov(ah, 0x42)?;
    a.mov(dl, 0x80)?;
    a.int(0x13)?;
    report(a, b'E')?;
    a.mov(ax, 0x1000 + 199 * 32)?;
    a.mov(es, ax)?;
    a.cmp(dword_ptr(5).es(), 5199)?;
    report_equal(a, b'F')?;
    // Written, and read again elsewhere.
    a.mov(dword_ptr(0x600), 1 << 16 | 16)?;
    a.mov(dword_ptr(0x604), 0x8000)?;
    a.mov(dword_ptr(0x8000), 0x1234_5678)?;
    a.mov(ax, 0x4300)?;
    a.mov(dl, 0x80)?;
    a.int(0x13)?;
    report(a, b'G')?;
    a.mov(dword_ptr(0x604), 0x9000)?;
    a.mov(ah, 0x42)?;
    a.mov(dl, 0x80)?;
    a.int(0x13)?;
    a.cmp(dword_ptr(0x9000), 0x1234_5678)?;
    report_equal(a, b'H')?;
    // Behind the end: refused.
    a.mov(dword_ptr(0x608), 8192)?;
    a.mov(ah, 0x42)?;
    a.mov(dl, 0x80)?;
    a.int(0x13)?;
    a.cmc()?;
    report(a, b'I')
}

/// A disk that boots to a report of `letter`, and of the numbers of the BIOS's disks: all of them, and what it was booted from.
fn lettered_disk(letter: u8) -> tempfile::NamedTempFile {
    numbered_disk(|a| {
        a.mov(bl, dl)?;
        a.mov(al, u32::from(letter))?;
        a.mov(dx, 0x402)?;
        a.out(dx, al)?;
        a.mov(al, bl)?;
        a.sub(al, 0x80 - i32::from(b'0'))?;
        a.out(dx, al)?;
        // What each of them boots with: its letter is the second byte of "mov al, letter".
        for number in 0x80..0x84 {
            let mut absent = a.create_label();
            a.mov(ax, 0x0201)?;
            a.mov(bx, 0x8000)?;
            a.mov(cx, 1)?;
            a.mov(dx, number)?;
            a.int(0x13)?;
            a.jc(absent)?;
            a.mov(dx, 0x402)?;
            a.mov(al, byte_ptr(0x8000 + LETTER_AT))?;
            a.out(dx, al)?;
            a.set_label(&mut absent)?;
            a.nop()?;
        }
        Ok(())
    })
}

/// Where the letter is in the boot sector: after the segments are set, "mov bl, dl" and an opcode.
const LETTER_AT: i32 = 8 + 2 + 1;

#[test]
fn disks_with_a_boot_index_come_first_wherever_they_are() {
    let disks = [b'a', b'b', b'c', b'd'].map(lettered_disk);
    let boot = |order: [&str; 4]| {
        let drives = disks.iter().zip("abcd".chars()).map(|(disk, id)| {
            format!("file={},format=raw,snapshot=on,if=none,id={id}", disk.path().display())
        });
        let drives: Vec<_> = drives.collect();
        let [a, b, c, d] = order;
        let devices = [
            format!("ide-hd,drive=a,bus=ide.0{a}"),
            "ahci,id=sata".into(),
            format!("ide-hd,drive=b,bus=sata.3{b}"),
            "pci-bridge,id=bridge,chassis_nr=1".into(),
            format!("virtio-blk-pci,drive=c,bus=bridge,addr=2{c}"),
            format!("nvme,drive=d,serial=1{d}"),
        ];
        let mut arguments = vec!["-m", "64", "-boot", "order=c"];
        drives.iter().for_each(|drive| arguments.extend(["-drive", drive]));
        devices.iter().for_each(|device| arguments.extend(["-device", device]));
        let mut qemu = Qemu::start(&arguments)?;
        Some(qemu.wait_for_report("Booting from disk: started", "."))
    };
    let ranks = [",bootindex=0", ",bootindex=1", ",bootindex=2", ",bootindex=3"];
    // In the order in which they are found without one.
    expect(boot([""; 4]), "a0abcd.");
    expect(boot([ranks[3], ranks[2], ranks[1], ranks[0]]), "d0dcba.");
    expect(boot(["", ranks[1], ranks[0], ""]), "c0cbad.");
    expect(boot(["", ranks[0], "", ""]), "b0bacd.");
}

#[test]
fn system_services_answer() {
    let reported = run(|a| {
        // The memory map's second entry is the EBDA.
        a.mov(eax, 0xe820)?;
        a.mov(edx, u32::from_le_bytes(*b"PAMS"))?;
        a.mov(ecx, 20)?;
        a.mov(ebx, 1)?;
        a.mov(di, 0x600)?;
        a.int(0x15)?;
        report(a, b'A')?;
        a.cmp(dword_ptr(0x600), 0x9_e000)?;
        report_equal(a, b'B')?;
        // A key put into the buffer comes out again.
        a.mov(ah, 5)?;
        a.mov(cx, 0x1e61)?;
        a.int(0x16)?;
        a.mov(ah, 0)?;
        a.int(0x16)?;
        a.cmp(ax, 0x1e61)?;
        report_equal(a, b'C')?;
        // Memory above 1 MiB by block move: 64 KiB from here to 2 MiB, and back to 3000:0.
        for (from, to) in [(0x7c00, 0x20_0000), (0x20_0000, 0x3_0000)] {
            a.mov(di, 0x610)?;
            a.mov(dword_ptr(0x622), 0x9300_0000u32 | from)?;
            a.mov(dword_ptr(0x62a), 0x9300_0000u32 | to)?;
            a.mov(si, 0x610)?;
            a.mov(cx, 256)?;
            a.mov(ah, 0x87)?;
            a.int(0x15)?;
            report(a, b'D')?;
        }
        a.mov(ax, 0x3000)?;
        a.mov(es, ax)?;
        a.cmp(word_ptr(510).es(), 0xaa55u32)?;
        report_equal(a, b'E')?;
        // PCI BIOS: the ISA bridge by its class.
        a.mov(ax, 0xb103)?;
        a.mov(ecx, 0x06_0100)?;
        a.xor(si, si)?;
        a.int(0x1a)?;
        report(a, b'F')?;
        a.cmp(bx, 0x0008)?;
        report_equal(a, b'G')?;
        // Ticks go on.
        a.mov(ah, 0)?;
        a.int(0x1a)?;
        a.mov(bx, dx)?;
        a.hlt()?;
        a.hlt()?;
        a.mov(ah, 0)?;
        a.int(0x1a)?;
        a.cmp(bx, dx)?;
        a.stc()?;
        a.cmc()?;
        report(a, b'H')
    });
    expect(reported, "ABCDDEFGH.");
}

#[test]
fn video_services_draw() {
    let reported = run(|a| {
        for (mode, letter) in [(0x13, b'A'), (0x12, b'B'), (0x06, b'C'), (0x04, b'D'), (0x0d, b'E')] {
            // A dot is read back, and the mode.
            a.mov(ax, mode)?;
            a.int(0x10)?;
            a.mov(ax, 0x0c01)?;
            a.xor(bx, bx)?;
            a.mov(cx, 37)?;
            a.mov(dx, 21)?;
            a.int(0x10)?;
            a.mov(ah, 0x0d)?;
            a.mov(al, 0)?;
            a.int(0x10)?;
            a.cmp(al, 1)?;
            report_equal(a, letter)?;
            a.mov(ah, 0x0f)?;
            a.int(0x10)?;
            a.cmp(al, mode)?;
            report_equal(a, letter)?;
        }
        Ok(())
    });
    expect(reported, "AABBCCDDEE.");
}

#[test]
fn vbe_services_set_modes() {
    let reported = run(|a| {
        // Information, a mode of 1024 x 768 with 24 bits, its frame buffer.
        a.mov(di, 0x8000)?;
        a.push(ds)?;
        a.pop(es)?;
        a.mov(ax, 0x4f00)?;
        a.int(0x10)?;
        a.cmp(dword_ptr(0x8000), u32::from_le_bytes(*b"VESA"))?;
        report_equal(a, b'F')?;
        a.mov(ax, 0x4f01)?;
        a.mov(cx, 0x118)?;
        a.int(0x10)?;
        a.cmp(dword_ptr(0x8012), 768 << 16 | 1024)?;
        report_equal(a, b'G')?;
        a.cmp(word_ptr(0x8010), 3072)?;
        report_equal(a, b'H')?;
        a.mov(ax, 0x4f02)?;
        a.mov(bx, 0x4118)?;
        a.int(0x10)?;
        a.cmp(ax, 0x004f)?;
        report_equal(a, b'I')?;
        a.mov(ax, 0x4f03)?;
        a.int(0x10)?;
        a.cmp(bx, 0x4118)?;
        report_equal(a, b'J')?;
        // And back to text.
        a.mov(ax, 3)?;
        a.int(0x10)?;
        a.mov(ax, 0x0e41)?;
        a.int(0x10)?;
        a.mov(ax, 0xb800u32)?;
        a.mov(es, ax)?;
        a.cmp(word_ptr(0).es(), 0x0741)?;
        report_equal(a, b'K')
    });
    expect(reported, "FGHIJK.");
}
