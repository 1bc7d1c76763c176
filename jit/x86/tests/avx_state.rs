//! What enables VEX encodings, and what they do to the state that XSAVE sees.

mod host;

use host::{Block, CODE, OPERAND, guest, run_guest};
use iced_x86::code_asm::*;
use x86::state::{cr0, cr4, rflags};

const UD: u8 = 6;
const NM: u8 = 7;

fn bytes(f: impl FnOnce(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>) -> Vec<u8> {
    let mut a = CodeAssembler::new(64).unwrap();
    f(&mut a).unwrap();
    a.assemble(CODE).unwrap()
}

#[test]
fn osxsave_and_xcr0_enable_them_and_ts_delays_them() {
    let code = bytes(|a| a.vpaddb(ymm1, ymm2, ymmword_ptr(r15 + OPERAND as i32)));
    let on = cr4::OSXSAVE | cr4::OSFXSR;
    for (c0, c4, xcr0, want) in [
        (0, on, 7, None),
        (0, cr4::OSFXSR, 7, Some(UD)),
        (0, on, 3, Some(UD)),
        (0, on, 1, Some(UD)),
        (cr0::TS, on, 7, Some(NM)),
        // #UD comes before #NM.
        (cr0::TS, on, 3, Some(UD)),
        // CR0.EM and CR4.OSFXSR are about legacy encodings.
        (cr0::EM, cr4::OSXSAVE, 7, None),
    ] {
        let mut cpu = guest();
        cpu.st.cr0 |= c0;
        (cpu.st.cr4, cpu.st.xcr0) = (c4, xcr0);
        cpu.mode_changed();
        let got = run_guest(&mut cpu, &code, &mut Block::new()).err();
        assert_eq!(got, want, "CR0 {c0:x} CR4 {c4:x} XCR0 {xcr0}");
    }
}

#[test]
fn virtual_8086_mode_has_none() {
    let mut cpu = guest();
    (cpu.st.cr4, cpu.st.xcr0) = (cr4::OSXSAVE | cr4::OSFXSR, 7);
    cpu.mode_changed();
    cpu.st.flags |= rflags::VM;
    cpu.st.compute_mode();
    let code = bytes(|a| a.vpaddb(xmm1, xmm2, xmm3));
    assert_eq!(run_guest(&mut cpu, &code, &mut Block::new()).err(), Some(UD));
}
