//! A processor's state and code as text, for logs and reports. The layout of the registers is QEMU's, so that what reads its
//! logs reads ours.

use std::fmt::Write as _;

use iced_x86::{Decoder, DecoderOptions, Formatter, NasmFormatter};

use crate::state::{Mode, Segment, rflags, seg};
use crate::vcpu::Vcpu;

/// Instructions in `bytes`, which begin at `ip`, one a line: address, bytes, text.
pub fn listing(bytes: &[u8], ip: u64, bitness: u32) -> String {
    let mut decoder = Decoder::with_ip(bitness, bytes, ip, DecoderOptions::FORCE_RESERVED_NOP);
    let mut formatter = NasmFormatter::new();
    let mut lines = String::new();
    while decoder.can_decode() {
        let from = decoder.position();
        let insn = decoder.decode();
        let hex: String = bytes[from..decoder.position()].iter().map(|b| format!("{b:02x} ")).collect();
        let mut text = String::new();
        formatter.format(&insn, &mut text);
        // Writing to a string cannot fail.
        let _ =
            writeln!(lines, "0x{:0width$x}:  {hex:<32} {text}", insn.ip(), width = (bitness / 4) as usize);
    }
    lines
}

/// All registers but those of the FPU and of SSE, as QEMU's `-d cpu` shows them.
pub fn registers(cpu: &mut Vcpu) -> String {
    let flags = cpu.rflags();
    let st = &cpu.st;
    let mut t = String::new();
    let long = st.mode.has(Mode::LONG);
    if long {
        let names = ["RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP", "RSP"];
        for (k, (name, r)) in names.into_iter().zip([0, 3, 1, 2, 6, 7, 5, 4]).enumerate() {
            let _ = write!(t, "{name}={:016x}{}", st.gpr[r], if k % 4 == 3 { '\n' } else { ' ' });
        }
        for r in 8..16 {
            let _ = write!(t, "R{r:<2}={:016x}{}", st.gpr[r], if r % 4 == 3 { '\n' } else { ' ' });
        }
        let _ = write!(t, "RIP={:016x} RFL={flags:08x} ", st.rip);
    } else {
        let names = ["EAX", "EBX", "ECX", "EDX", "ESI", "EDI", "EBP", "ESP"];
        for (k, (name, r)) in names.into_iter().zip([0, 3, 1, 2, 6, 7, 5, 4]).enumerate() {
            let _ = write!(t, "{name}={:08x}{}", st.gpr[r] as u32, if k % 4 == 3 { '\n' } else { ' ' });
        }
        let _ = write!(t, "EIP={:08x} EFL={flags:08x} ", st.rip as u32);
    }
    let _ = writeln!(
        t,
        "[{}] CPL={} II={} A20={} SMM={} HLT={}",
        letters(flags),
        st.cpl,
        u8::from(st.shadow != crate::state::Shadow::None),
        u8::from(st.a20),
        u8::from(st.smm),
        u8::from(st.halted)
    );
    let order = [
        ("ES", seg::ES),
        ("CS", seg::CS),
        ("SS", seg::SS),
        ("DS", seg::DS),
        ("FS", seg::FS),
        ("GS", seg::GS),
    ];
    for (name, s) in order {
        segment(&mut t, name, &st.seg[s as usize], long);
    }
    segment(&mut t, "LDT", &st.ldtr, long);
    segment(&mut t, "TR", &st.tr, long);
    let digits = if long { 16 } else { 8 };
    for (name, table) in [("GDT", st.gdtr), ("IDT", st.idtr)] {
        let _ = writeln!(t, "{name}=     {:0digits$x} {:08x}", table.base, table.limit);
    }
    let _ = writeln!(
        t,
        "CR0={:08x} CR2={:0digits$x} CR3={:0digits$x} CR4={:08x}",
        st.cr0, st.cr2, st.cr3, st.cr4
    );
    let [d0, d1, d2, d3, _, _, d6, d7] = st.dr;
    let _ = writeln!(t, "DR0={d0:016x} DR1={d1:016x} DR2={d2:016x} DR3={d3:016x}");
    let _ = writeln!(t, "DR6={d6:016x} DR7={d7:016x}");
    let _ = write!(t, "EFER={:016x}", st.msr.efer);
    t
}

fn letters(flags: u64) -> String {
    let bits = [
        (rflags::DF, 'D'),
        (rflags::OF, 'O'),
        (rflags::SF, 'S'),
        (rflags::ZF, 'Z'),
        (rflags::AF, 'A'),
        (rflags::PF, 'P'),
        (rflags::CF, 'C'),
    ];
    bits.into_iter().map(|(bit, letter)| if flags & bit != 0 { letter } else { '-' }).collect()
}

fn segment(t: &mut String, name: &str, s: &Segment, long: bool) {
    let digits = if long { 16 } else { 8 };
    // Attributes where the second word of a descriptor has them.
    let attrs = u32::from(s.attrs) << 8;
    let _ = writeln!(t, "{name:<3}={:04x} {:0digits$x} {:08x} {attrs:08x}", s.selector, s.base, s.limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_listed_with_its_bytes() {
        let text = listing(&[0xb8, 1, 0, 0, 0, 0x90, 0xf4], 0x1000, 32);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["0x00001000:", "b8", "01", "00", "00", "00", "mov", "eax,1"]);
        assert_eq!(lines[1], ["0x00001005:", "90", "nop"]);
        assert_eq!(lines[2], ["0x00001006:", "f4", "hlt"]);
    }

    #[test]
    fn flags_are_letters() {
        assert_eq!(letters(rflags::ZF | rflags::PF), "---Z-P-");
        assert_eq!(letters(!0), "DOSZAPC");
    }
}
