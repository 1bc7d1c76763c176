//! IN and OUT. Each executes alone and is the last of its block: a device may have changed interrupts or deadlines. But an IN
//! that changes nothing ([`crate::Bus::sample_port`]) goes on within its block.

use iced_x86::{Instruction, Mnemonic};

use crate::emit::{Emitter, R};
use crate::insn::{Insn, Opnd, Width};
use crate::state::{Mode, reg, rflags};
use crate::vcpu::Vcpu;

use super::table::kind;
use super::{GOES_ON, Pick, serialising};

/// May the running code access `w` bytes at `port`? IOPL, then the TSS's I/O permission bitmap (SDM vol. 1, 19.5).
#[inline]
pub fn check_io(cpu: &mut Vcpu, port: u16, w: Width) -> R<()> {
    let iopl = ((cpu.st.flags & rflags::IOPL) >> rflags::IOPL_SHIFT) as u8;
    let m = cpu.st.mode;
    if !m.has(Mode::PROTECTED) || cpu.st.cpl <= iopl && !m.has(Mode::VM86) {
        return Ok(());
    }
    check_bitmap(cpu, port, w)
}

#[inline(never)]
fn check_bitmap(cpu: &mut Vcpu, port: u16, w: Width) -> R<()> {
    let tr = cpu.st.tr;
    let limit = u64::from(tr.limit);
    if tr.attrs as u8 & 15 & !2 != kind::TSS || limit < 0x67 {
        return Err(cpu.gp(0));
    }
    let map = cpu.read_table(tr.base.wrapping_add(0x66), Width::W)?;
    let at = map + u64::from(port >> 3);
    // Two bytes are read, so that an access that crosses a byte of the map is seen whole.
    if at + 1 > limit {
        return Err(cpu.gp(0));
    }
    let bits = cpu.read_table(tr.base.wrapping_add(at), Width::W)? >> (port & 7);
    let wanted = (1 << w.bytes()) - 1;
    if bits & wanted == 0 { Ok(()) } else { Err(cpu.gp(0)) }
}

fn port(cpu: &Vcpu, o: Opnd, i: &Insn) -> u16 {
    if o == Opnd::Imm { i.imm as u8 as u16 } else { cpu.st.gpr[reg::RDX as usize] as u16 }
}

fn input(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let port = port(cpu, i.src, i);
    check_io(cpu, port, i.w)?;
    let (now, size) = (cpu.now_at(i), i.w.bytes() as u8);
    let sample = cpu.bus.sample_port(port, size, now);
    let v = match sample {
        Some(v) => v,
        None => {
            cpu.need_single()?;
            cpu.bus.port_in(port, size, now)
        }
    };
    cpu.pass_time(i, port);
    super::note_access(cpu, i, port, i.w, true);
    cpu.set_gpr(i.w, reg::RAX, u64::from(v) & i.w.mask());
    super::note_port(cpu, port, i.w.bytes());
    if sample.is_none() {
        cpu.stop_after();
    }
    Ok(())
}

fn output(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let port = port(cpu, i.dst, i);
    check_io(cpu, port, i.w)?;
    cpu.need_single()?;
    let now = cpu.now_single();
    let v = cpu.gpr(i.w, reg::RAX) as u32;
    cpu.bus.port_out(port, i.w.bytes() as u8, v, now);
    cpu.sync_a20();
    cpu.pass_time(i, port);
    super::note_access(cpu, i, port, i.w, false);
    super::note_port(cpu, port, i.w.bytes());
    cpu.stop_after();
    Ok(())
}

pub(super) fn select(x: &Instruction, i: &mut Insn) -> Pick {
    let (data, f) = match x.mnemonic() {
        Mnemonic::In => (x.op0_register(), serialising!(input)),
        Mnemonic::Out => (x.op1_register(), serialising!(output)),
        _ => return None,
    };
    i.w = Width::from_bytes(data.size() as u32)?;
    Some((f, GOES_ON))
}
