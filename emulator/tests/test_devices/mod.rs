//! What outside test suites are started with: `-bios`, multiboot modules, and the devices of `-device help`, each driven
//! by a small guest through the binary.

use std::fs;
use std::path::Path;

use iced_x86::IcedError;
use iced_x86::code_asm::*;
use tempfile::TempDir;

use super::{error_line, kernel, retrograde, run_guest, status};

const EXIT: [&str; 2] = ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"];

/// 32-bit code for the multiboot kernel of [`kernel`], whose code begins after the header and its greeting.
pub(super) fn code32(build: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<u8> {
    let mut a = CodeAssembler::new(32).unwrap();
    build(&mut a).unwrap();
    a.assemble(0x10_0020 + super::HELLO.len() as u64).unwrap()
}

pub(super) fn out_byte(a: &mut CodeAssembler, port: u16, value: u32) -> Result<(), IcedError> {
    a.mov(edx, u32::from(port))?;
    a.mov(eax, value)?;
    a.out(dx, al)
}

/// Jumps to `failed` if EAX is not `value`.
pub(super) fn expect(a: &mut CodeAssembler, value: u32, failed: CodeLabel) -> Result<(), IcedError> {
    a.cmp(eax, value as i32)?;
    a.jne(failed)
}

/// Runs `build`, which jumps to the label it is given when something is wrong: exit status 3 then, else 0x21.
pub(super) fn passes(
    arguments: &[&str],
    build: impl Fn(&mut CodeAssembler, CodeLabel) -> Result<(), IcedError>,
) {
    let code = code32(|a| {
        let mut failed = a.create_label();
        build(a, failed)?;
        out_byte(a, 0xf4, 0x10)?;
        a.set_label(&mut failed)?;
        out_byte(a, 0xf4, 1)
    });
    let output = run_guest(&code, &[&EXIT, arguments].concat());
    assert_eq!(status(&output), Some(0x21), "{arguments:?}: {output:?}");
}

#[test]
fn pc_testdev_answers_as_suites_expect() {
    passes(&["-device", "pc-testdev"], |a, failed| {
        a.mov(edx, 0xe0)?;
        a.mov(eax, 0x1234_5678)?;
        a.out(dx, eax)?;
        a.mov(edx, 0xea)?;
        a.xor(eax, eax)?;
        a.in_(al, dx)?;
        expect(a, 0x34, failed)?;
        a.mov(dword_ptr(0xff00_fffcu32), 0x0bad_f00d)?;
        a.movzx(eax, word_ptr(0xff00_fffeu32))?;
        expect(a, 0x0bad, failed)?;
        // Input 5, seen in the request register of the first 8259A.
        out_byte(a, 0x2005, 1)?;
        out_byte(a, 0x20, 0x0a)?;
        a.xor(eax, eax)?;
        a.in_(al, 0x20)?;
        a.and(eax, 0x20)?;
        expect(a, 0x20, failed)?;
        out_byte(a, 0x2005, 0)
    });
    // Without it nobody is there.
    passes(&[], |a, failed| {
        a.mov(edx, 0xe0)?;
        a.in_(eax, dx)?;
        expect(a, u32::MAX, failed)
    });
}

#[test]
fn pci_testdev_has_its_places_and_counts() {
    passes(&["-device", "pci-testdev,addr=5"], |a, failed| {
        for (register, value) in [(0, 0x0005_1b36), (0x10, 0xfebf_0000), (0x14, 0xc001)] {
            a.mov(edx, 0xcf8)?;
            a.mov(eax, 0x8000_2800u32 | register)?;
            a.out(dx, eax)?;
            a.mov(edx, 0xcfc)?;
            a.in_(eax, dx)?;
            expect(a, value, failed)?;
        }
        // Memory, test 1: any byte counts.
        a.mov(byte_ptr(0xfebf_0000u32), 1)?;
        a.mov(ebx, dword_ptr(0xfebf_0004u32))?;
        a.mov(byte_ptr(ebx + 0xfebf_0000u32), 7)?;
        a.mov(byte_ptr(ebx + 0xfebf_0000u32), 8)?;
        a.mov(eax, dword_ptr(0xfebf_000cu32))?;
        expect(a, 2, failed)?;
        // Ports, test 0: the byte that the header names.
        out_byte(a, 0xc000, 0)?;
        a.mov(edx, 0xc008)?;
        a.in_(eax, dx)?;
        a.mov(ecx, eax)?;
        a.mov(edx, 0xc004)?;
        a.in_(eax, dx)?;
        a.lea(edx, dword_ptr(eax + 0xc000))?;
        a.mov(eax, ecx)?;
        a.out(dx, al)?;
        a.inc(eax)?;
        a.out(dx, al)?;
        a.mov(edx, 0xc00c)?;
        a.in_(eax, dx)?;
        expect(a, 1, failed)
    });
}

/// Selects an item and leaves its first bytes in EAX, the first one lowest.
fn fw_cfg_item(a: &mut CodeAssembler, key: u32, bytes: u32) -> Result<(), IcedError> {
    a.mov(edx, 0x510)?;
    a.mov(eax, key)?;
    a.out(dx, ax)?;
    a.inc(edx)?;
    a.xor(ebx, ebx)?;
    for n in 0..bytes {
        a.xor(eax, eax)?;
        a.in_(al, dx)?;
        a.shl(eax, 8 * n as i32)?;
        a.or(ebx, eax)?;
    }
    a.mov(eax, ebx)
}

#[test]
fn suites_ask_the_firmware_configuration_device() {
    passes(&["-m", "64", "-fw_cfg", "name=opt/x,string=abcd"], |a, failed| {
        fw_cfg_item(a, 0, 4)?;
        expect(a, u32::from_le_bytes(*b"QEMU"), failed)?;
        fw_cfg_item(a, 5, 2)?;
        expect(a, 1, failed)?;
        fw_cfg_item(a, 3, 4)?;
        expect(a, 64 << 20, failed)?;
        // By DMA: the last file is the user's, as names are sorted. The count of files says its key.
        fw_cfg_item(a, 0x19, 4)?;
        a.bswap(eax)?;
        a.add(eax, 0x1f)?;
        a.shl(eax, 16)?;
        a.or(eax, 0x0a)?;
        a.bswap(eax)?;
        a.mov(dword_ptr(0x600), eax)?;
        for (at, value) in [(0x604, 4u32), (0x608, 0), (0x60c, 0x700)] {
            a.mov(dword_ptr(at), value.swap_bytes())?;
        }
        a.mov(edx, 0x518)?;
        a.mov(eax, 0x600u32.swap_bytes())?;
        a.out(dx, eax)?;
        a.mov(eax, dword_ptr(0x600))?;
        expect(a, 0, failed)?;
        a.mov(eax, dword_ptr(0x700))?;
        expect(a, u32::from_le_bytes(*b"abcd"), failed)
    });
}

#[test]
fn the_debug_console_can_be_moved() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("debug");
    let chardev = format!("file:{}", file.display());
    let code = code32(|a| {
        out_byte(a, 0xe9, b'a'.into())?;
        out_byte(a, 0x402, b'b'.into())?;
        out_byte(a, 0xf4, 0)
    });
    for (arguments, written) in [(&[][..], b"a"), (&["-global", "isa-debugcon.iobase=0x402"], b"b")] {
        let output = run_guest(&code, &[&EXIT, &["-debugcon", &chardev], arguments].concat());
        assert_eq!((status(&output), fs::read(&file).unwrap()), (Some(1), written.to_vec()), "{output:?}");
    }
}

#[test]
fn post_codes_go_to_files_and_can_end_the_run() {
    let folder = TempDir::new().unwrap();
    let [raw, hex] = ["raw", "hex"].map(|name| folder.path().join(name));
    let code = code32(|a| {
        out_byte(a, 0x190, 1)?;
        out_byte(a, 0x80, 0xab)?;
        a.mov(edx, 0x190)?;
        a.mov(eax, 0x4241)?;
        a.out(dx, ax)?;
        out_byte(a, 0x80, 0xff)
    });
    let output = run_guest(
        &code,
        &[
            "-device",
            &format!("retro-post,iosize=2,file={}", raw.display()),
            "-device",
            &format!("retro-post,iobase=0x80,format=hex,exit=0xff,file={}", hex.display()),
        ],
    );
    assert_eq!(status(&output), Some(0), "{output:?}");
    assert_eq!((fs::read(raw).unwrap(), fs::read(hex).unwrap()), (b"\x01AB".to_vec(), b"ab\nff\n".to_vec()));
}

/// A ROM of `len` bytes: `code` at F000:0000 (of its last 64 KiB) and a jump there at the reset vector.
pub(super) fn rom(
    folder: &Path,
    len: usize,
    build: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>,
) -> String {
    let mut image = vec![0xff; len];
    for (n, block) in image.chunks_mut(0x1_0000).enumerate() {
        block[0x8000] = n as u8;
    }
    let mut a = CodeAssembler::new(16).unwrap();
    build(&mut a).unwrap();
    let code = a.assemble(0).unwrap();
    let last = len - 0x1_0000;
    image[last..last + code.len()].copy_from_slice(&code);
    // jmp F000:0000
    image[len - 16..len - 11].copy_from_slice(&[0xea, 0, 0, 0, 0xf0]);
    let path = folder.join("rom.bin");
    fs::write(&path, image).unwrap();
    path.to_str().unwrap().into()
}

#[test]
fn a_rom_starts_at_the_reset_vector_and_is_seen_in_both_places() {
    let folder = TempDir::new().unwrap();
    for (blocks, below_the_last) in [(1usize, 0), (2, 0), (4, 2)] {
        let path = rom(folder.path(), blocks << 16, |a| {
            // The first jump came from FFFFFFF0: the code segment's base is F0000 now.
            let send = |a: &mut CodeAssembler, port: i32| {
                a.mov(dx, port)?;
                a.out(dx, al)
            };
            a.mov(ax, cs)?;
            a.mov(al, ah)?;
            send(a, 0x80)?;
            // The block below the last one at E8000, then a store to ROM, which changes nothing.
            a.mov(ax, 0xe000)?;
            a.mov(ds, ax)?;
            a.mov(al, byte_ptr(0x8000))?;
            send(a, 0x80)?;
            a.mov(byte_ptr(0x8000), 0x55)?;
            a.mov(al, byte_ptr(0x8000))?;
            send(a, 0x80)?;
            a.mov(al, byte_ptr(0x8000).cs())?;
            send(a, 0x80)?;
            // RAM is there.
            a.xor(ax, ax)?;
            a.mov(ds, ax)?;
            a.mov(byte_ptr(0x500), 0x5a)?;
            a.mov(al, byte_ptr(0x500))?;
            send(a, 0xf4)
        });
        let codes = folder.path().join("codes");
        let post = format!("retro-post,iobase=0x80,format=hex,file={}", codes.display());
        let output = retrograde(
            &[&["-m", "4", "-bios", &path, "-device", &post, "-display", "none"], &EXIT[..]].concat(),
        )
        .output()
        .unwrap();
        assert_eq!(status(&output), Some(0xb5), "{output:?}");
        // A ROM of one block leaves nothing at E0000h.
        let (low, last) = (if blocks == 1 { 0xff } else { below_the_last }, blocks - 1);
        let expected = format!("f0\n{low:02x}\n{low:02x}\n{last:02x}\n");
        assert_eq!(fs::read_to_string(&codes).unwrap(), expected, "{blocks} blocks");
    }
}

#[test]
fn a_rom_begins_again_after_a_reset() {
    let folder = TempDir::new().unwrap();
    let path = rom(folder.path(), 0x1_0000, |a| {
        // RAM keeps the count: inc byte [500]; post it; reset by port CF9h.
        a.xor(ax, ax)?;
        a.mov(ds, ax)?;
        a.inc(byte_ptr(0x500))?;
        a.mov(al, byte_ptr(0x500))?;
        a.mov(dx, 0x80)?;
        a.out(dx, al)?;
        a.mov(al, 6)?;
        a.mov(dx, 0xcf9)?;
        a.out(dx, al)
    });
    let codes = folder.path().join("codes");
    let post = format!("retro-post,iobase=0x80,exit=3,file={}", codes.display());
    let arguments = ["-m", "4", "-bios", &path, "-device", &post, "-display", "none"];
    let output = retrograde(&arguments).output().unwrap();
    assert_eq!((status(&output), fs::read(&codes).unwrap()), (Some(0), vec![1, 2, 3]), "{output:?}");
    let output = retrograde(&[&arguments[..], &["-no-reboot"]].concat()).output().unwrap();
    assert_eq!((status(&output), fs::read(&codes).unwrap()), (Some(0), vec![1]), "{output:?}");
}

/// Prints what the loader gave: command line, then each module's command line and bytes.
#[test]
fn a_multiboot_kernel_gets_command_line_and_modules() {
    let folder = TempDir::new().unwrap();
    let modules = ["first", "second"].map(|name| {
        let path = folder.path().join(name);
        fs::write(&path, format!("<{name}>")).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let code = code32(|a| {
        let (mut print, mut end, mut next, mut done, mut bytes) =
            (a.create_label(), a.create_label(), a.create_label(), a.create_label(), a.create_label());
        a.mov(esp, 0x20_0000)?;
        a.mov(esi, dword_ptr(ebx + 16))?;
        a.call(print)?;
        a.mov(edi, dword_ptr(ebx + 24))?;
        a.mov(ecx, dword_ptr(ebx + 20))?;
        a.set_label(&mut next)?;
        a.jecxz(done)?;
        a.mov(esi, dword_ptr(edi + 8))?;
        a.call(print)?;
        a.mov(esi, dword_ptr(edi))?;
        a.set_label(&mut bytes)?;
        a.lodsb()?;
        a.out(dx, al)?;
        a.cmp(esi, dword_ptr(edi + 4))?;
        a.jne(bytes)?;
        a.add(edi, 16)?;
        a.dec(ecx)?;
        a.jmp(next)?;
        a.set_label(&mut done)?;
        out_byte(a, 0xf4, 0)?;
        a.set_label(&mut print)?;
        a.mov(edx, 0x3f8)?;
        a.lodsb()?;
        a.test(al, al)?;
        a.je(end)?;
        a.out(dx, al)?;
        a.jmp(print)?;
        a.set_label(&mut end)?;
        a.mov(al, i32::from(b'|'))?;
        a.out(dx, al)?;
        a.ret()
    });
    let path = kernel(folder.path(), &code);
    let kernel = path.to_str().unwrap();
    let initrd = format!("{} one  two,{}", modules[0], modules[1]);
    let arguments = ["-m", "16", "-nographic", "-kernel", kernel, "-append", "a b=c", "-initrd", &initrd];
    let output = retrograde(&[&arguments[..], &EXIT].concat()).output().unwrap();
    let expected = format!("R{kernel} a b=c|{} one  two|<first>{}|<second>", modules[0], modules[1]);
    assert_eq!((status(&output), String::from_utf8(output.stdout).unwrap()), (Some(1), expected));
}

#[test]
fn mistakes_are_one_line() {
    let folder = TempDir::new().unwrap();
    let odd = folder.path().join("odd.rom");
    fs::write(&odd, vec![0; 1000]).unwrap();
    let odd = odd.to_str().unwrap();
    for (arguments, part) in [
        (&["-bios", odd][..], "1000 bytes is not a multiple of 64 KiB"),
        (&["-bios", "/nonexistent"], "no such file"),
        (&["-kernel", odd, "-device", "pc-tsetdev"], "\"pc-testdev\""),
        (&["-kernel", odd, "-global", "vga.x=1"], "isa-debugcon.iobase"),
    ] {
        let output = retrograde(arguments).output().unwrap();
        assert_eq!(status(&output), Some(2), "{arguments:?}");
        assert!(error_line(&output).contains(part), "{arguments:?}: {output:?}");
    }
    let help = retrograde(&["-device", "help"]).output().unwrap();
    assert!(String::from_utf8(help.stdout).unwrap().contains("retro-post"));
    // A file that cannot be made is named.
    let output = run_guest(&[], &["-device", "retro-post,file=/nonexistent/x"]);
    assert!(error_line(&output).contains("/nonexistent/x"));
}
