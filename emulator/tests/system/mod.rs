//! What moves memory under a running processor: the A20 gate, and system management mode with its RAM.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::test_devices::{expect, out_byte, passes, rom};
use super::{retrograde, status};

/// Stores `code` at `at`.
fn place(a: &mut CodeAssembler, at: u32, code: &[u8]) -> Result<(), IcedError> {
    for (n, part) in code.chunks(4).enumerate() {
        let mut bytes = [0; 4];
        bytes[..part.len()].copy_from_slice(part);
        a.mov(dword_ptr(at + 4 * n as u32), u32::from_le_bytes(bytes))?;
    }
    Ok(())
}

/// Code for a place below 1 MiB.
fn assemble(bitness: u32, at: u64, build: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<u8> {
    let mut a = CodeAssembler::new(bitness).unwrap();
    build(&mut a).unwrap();
    a.assemble(at).unwrap()
}

#[test]
fn the_a20_gate_by_port_92h_and_by_the_keyboard_controller() {
    // The kernel lies above 1 MiB and is gone while the gate is closed: this part runs below.
    let stub = |close: fn(&mut CodeAssembler) -> Result<(), IcedError>| {
        assemble(32, 0x7000, |a| {
            a.mov(byte_ptr(0x600), 0x11)?;
            close(a)?;
            a.mov(byte_ptr(0x10_0600), 0x22)?;
            a.movzx(ebx, byte_ptr(0x600))?;
            a.mov(eax, 2)?;
            a.out(0x92, al)?;
            a.ret()
        })
    };
    let port_92 = stub(|a| {
        a.xor(eax, eax)?;
        a.out(0x92, al)
    });
    let controller = stub(|a| {
        a.mov(eax, 0xd1)?;
        a.out(0x64, al)?;
        a.mov(eax, 0xdd)?;
        a.out(0x60, al)
    });
    for code in [port_92, controller] {
        passes(&[], |a, failed| {
            place(a, 0x7000, &code)?;
            a.mov(byte_ptr(0x20_0600), 0x33)?;
            a.mov(eax, 0x7000)?;
            a.call(eax)?;
            a.mov(eax, ebx)?;
            expect(a, 0x22, failed)?;
            // Open again: the two are different bytes.
            a.movzx(eax, byte_ptr(0x20_0600))?;
            expect(a, 0x33, failed)
        });
    }
}

/// Writes `value` to the register of bus 0 at `at` (device, function, register as CONFIG_ADDRESS has them).
fn config(a: &mut CodeAssembler, at: u32, value: u32, byte: bool) -> Result<(), IcedError> {
    a.mov(edx, 0xcf8)?;
    a.mov(eax, 0x8000_0000u32 | at & !3)?;
    a.out(dx, eax)?;
    a.mov(edx, 0xcfc | at & 3)?;
    a.mov(eax, value)?;
    if byte { a.out(dx, al) } else { a.out(dx, eax) }
}

#[test]
fn system_management_mode_with_ram_that_only_it_sees() {
    // SMM starts in 16-bit code. The first handler moves SMBASE to A0000h, the second counts.
    let relocate = assemble(16, 0x8000, |a| {
        a.mov(ebx, 0x3_ff00)?;
        a.mov(dword_ptr(ebx), 0xa_0000)?;
        a.rsm()
    });
    let count = assemble(16, 0x8000, |a| {
        a.mov(ebx, 0x600)?;
        a.inc(dword_ptr(ebx))?;
        a.rsm()
    });
    const SMRAM: u32 = 0x72;
    const DEVACTB: u32 = 0x0b58;
    passes(&[], |a, failed| {
        place(a, 0x3_8000, &relocate)?;
        a.mov(dword_ptr(0x600), 0)?;
        // Nothing is at A8000h, and no SMI comes, until the chipset is told.
        out_byte(a, 0xb2, 0x55)?;
        a.mov(eax, dword_ptr(0xa_8000))?;
        expect(a, u32::MAX, failed)?;
        config(a, DEVACTB, 0x0200_0000, false)?;
        a.mov(ebx, 0x1234)?;
        out_byte(a, 0xb2, 0x55)?;
        a.mov(eax, ebx)?;
        expect(a, 0x1234, failed)?;
        // SMRAM open: the handler is put there; closed: it is gone again for all but SMM.
        config(a, SMRAM, 0x4a, true)?;
        place(a, 0xa_8000, &count)?;
        config(a, SMRAM, 0x0a, true)?;
        a.mov(eax, dword_ptr(0xa_8000))?;
        expect(a, u32::MAX, failed)?;
        for n in 1..=3 {
            out_byte(a, 0xb2, n)?;
            a.mov(eax, dword_ptr(0x600))?;
            expect(a, n, failed)?;
        }
        a.mov(eax, dword_ptr(0xa_8000))?;
        expect(a, u32::MAX, failed)?;
        // Locked while open: closed, for good.
        config(a, SMRAM, 0x5a, true)?;
        a.mov(eax, dword_ptr(0xa_8000))?;
        expect(a, u32::MAX, failed)?;
        config(a, SMRAM, 0x4a, true)?;
        a.mov(eax, dword_ptr(0xa_8000))?;
        expect(a, u32::MAX, failed)?;
        // An SMI by the local APIC: a message to itself.
        a.mov(dword_ptr(0xfee0_0310u32), 0)?;
        a.mov(dword_ptr(0xfee0_0300u32), 0x4_4200)?;
        a.mov(eax, dword_ptr(0x600))?;
        expect(a, 4, failed)
    });
}

/// Sets PAM0, which governs F0000h to FFFFFh, in 16-bit code.
fn pam0(a: &mut CodeAssembler, value: i32) -> Result<(), IcedError> {
    a.mov(dx, 0xcf8)?;
    a.mov(eax, 0x8000_0058u32)?;
    a.out(dx, eax)?;
    a.mov(dx, 0xcfd)?;
    a.mov(al, value)?;
    a.out(dx, al)
}

#[test]
fn firmware_shadows_itself() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = rom(folder.path(), 0x1_0000, |a| {
        let post = |a: &mut CodeAssembler| {
            a.mov(al, byte_ptr(0x8001))?;
            a.mov(dx, 0x80)?;
            a.out(dx, al)
        };
        a.mov(ax, cs)?;
        a.mov(ds, ax)?;
        a.mov(es, ax)?;
        // After reset the ROM is read.
        post(a)?;
        // Reads from ROM, writes to RAM: the ROM is copied over itself, and one byte is changed.
        pam0(a, 0x20)?;
        a.xor(si, si)?;
        a.xor(di, di)?;
        a.mov(cx, 0x4000)?;
        a.rep().movsd()?;
        a.mov(byte_ptr(0x8001), 0x11)?;
        post(a)?;
        // Reads and writes: it is seen, and can be changed.
        pam0(a, 0x30)?;
        post(a)?;
        a.inc(byte_ptr(0x8001))?;
        post(a)?;
        // Reads only: it stays. Then a look at the ROM again.
        pam0(a, 0x10)?;
        a.inc(byte_ptr(0x8001))?;
        post(a)?;
        pam0(a, 0x00)?;
        post(a)?;
        a.mov(al, 6)?;
        a.mov(dx, 0xcf9)?;
        a.out(dx, al)
    });
    let codes = folder.path().join("codes");
    for tier in ["0", "1", "auto"] {
        let post = format!("retro-post,iobase=0x80,format=hex,file={}", codes.display());
        let arguments = ["-m", "4", "-bios", &path, "-device", &post, "-display", "none", "-tier", tier];
        let output = retrograde(&[&arguments[..], &["-no-reboot"]].concat()).output().unwrap();
        let expected = "ff\nff\n11\n12\n12\nff\n";
        assert_eq!((status(&output), std::fs::read_to_string(&codes).unwrap()), (Some(0), expected.into()));
    }
}

#[test]
fn a_non_maskable_interrupt_ends_a_halt_with_interrupts_off() {
    const IDT: u32 = 0x5000;
    const HANDLER: u32 = 0x7000;
    let handler = assemble(32, HANDLER.into(), |a| {
        a.inc(ebx)?;
        a.iretd()
    });
    passes(&[], |a, failed| {
        place(a, HANDLER, &handler)?;
        a.mov(esp, 0x9000)?;
        a.mov(dword_ptr(IDT + 16), HANDLER as i32)?;
        a.mov(word_ptr(IDT + 18), cs)?;
        a.mov(dword_ptr(IDT + 20), 0x8e00)?;
        a.mov(dword_ptr(0x5100), 0xff)?;
        a.mov(dword_ptr(0x5102), IDT as i32)?;
        a.lidt(fword_ptr(0x5100))?;
        // Input 2 of the I/O APIC, the 8254, becomes an NMI; the 8254 fires once in a while.
        for (register, value) in [(0x15, 0), (0x14, 0x400)] {
            a.mov(dword_ptr(0xfec0_0000u32), register)?;
            a.mov(dword_ptr(0xfec0_0010u32), value)?;
        }
        for (port, value) in [(0x43, 0x30), (0x40, 0), (0x40, 0x10)] {
            out_byte(a, port, value)?;
        }
        a.xor(ebx, ebx)?;
        a.cli()?;
        a.hlt()?;
        a.mov(eax, ebx)?;
        expect(a, 1, failed)
    });
}
