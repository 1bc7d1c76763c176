//! Instructions on RFLAGS: PUSHF, POPF, CLI, STI, STAC, CLAC; and HLT.

use iced_x86::{Code, Instruction, Mnemonic};

use crate::emit::R;
use crate::insn::{Insn, Width};
use crate::model::Feature;
use crate::state::{Mode, Shadow, rflags};
use crate::vcpu::Vcpu;

use super::stack::Stack;
use super::vme::{self, iopl};
use super::{ENDS, GOES_ON, Pick, advance, handler};

fn pushf(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let mut v = cpu.rflags() & !(rflags::VM | rflags::RF);
    if vme::sensitive(cpu) {
        vme::check(cpu, i.w)?;
        v = vme::seen(v);
    }
    let mut stack = Stack::current(cpu);
    stack.push(cpu, i.w, v)?;
    stack.commit(cpu);
    Ok(())
}

fn popf(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    let sensitive = vme::sensitive(cpu);
    if sensitive {
        vme::check(cpu, i.w)?;
    }
    let mut stack = Stack::current(cpu);
    let v = stack.pop(cpu, i.w)?;
    if sensitive {
        vme::check_image(cpu, v)?;
    }
    let mut mask = rflags::ARITH | rflags::TF | rflags::DF | rflags::NT;
    if i.w != Width::W {
        mask |= rflags::AC | rflags::ID;
    }
    // SDM POPF, table 4-21. IOPL is writable at CPL 0 outside virtual-8086 mode.
    if cpu.st.cpl <= iopl(cpu) {
        mask |= rflags::IF;
    }
    if cpu.st.cpl == 0 {
        mask |= rflags::IOPL;
    }
    stack.commit(cpu);
    advance(cpu, i);
    if sensitive {
        vme::load(cpu, v, mask);
    } else {
        cpu.load_flags(v, mask);
    }
    cpu.privilege_changed();
    Ok(())
}

/// May the running code change IF? (Real mode, IOPL in protected mode, IOPL 3 in virtual-8086 mode.)
fn may_change_if(cpu: &Vcpu) -> bool {
    !cpu.st.mode.has(Mode::PROTECTED) || cpu.st.cpl <= iopl(cpu)
}

fn cli(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    if !may_change_if(cpu) {
        return vme::set_virtual_if(cpu, false);
    }
    cpu.st.flags &= !rflags::IF;
    Ok(())
}

fn sti(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    if !may_change_if(cpu) {
        vme::set_virtual_if(cpu, true)?;
        advance(cpu, i);
        return Ok(());
    }
    advance(cpu, i);
    if cpu.st.flags & rflags::IF == 0 {
        cpu.st.flags |= rflags::IF;
        // Where nothing waits the next instruction is executed before anyone looks: the shadow is its own proof.
        if cpu.must_look() {
            cpu.st.shadow = Shadow::Sti;
            cpu.stop_after();
        }
    }
    Ok(())
}

fn hlt(cpu: &mut Vcpu, i: &Insn) -> R<()> {
    cpu.need_cpl0()?;
    (cpu.st.halted, cpu.st.monitored) = (true, None);
    // "STI; HLT": the shadow ends with this instruction.
    cpu.st.shadow = Shadow::None;
    advance(cpu, i);
    cpu.stop_after();
    Ok(())
}

fn set_ac(cpu: &mut Vcpu, set: bool) -> R<()> {
    if !cpu.model.has(Feature::Smap) || cpu.st.cpl != 0 || !cpu.st.mode.has(Mode::PROTECTED) {
        return Err(cpu.ud());
    }
    cpu.st.flags = if set { cpu.st.flags | rflags::AC } else { cpu.st.flags & !rflags::AC };
    cpu.privilege_changed();
    Ok(())
}

fn stac(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    set_ac(cpu, true)
}

fn clac(cpu: &mut Vcpu, _: &Insn) -> R<()> {
    set_ac(cpu, false)
}

pub(super) fn select(x: &Instruction, i: &mut Insn) -> Pick {
    i.w = match x.code() {
        Code::Pushfw | Code::Popfw => Width::W,
        Code::Pushfq | Code::Popfq => Width::Q,
        _ => Width::D,
    };
    Some(match x.mnemonic() {
        Mnemonic::Pushf | Mnemonic::Pushfd | Mnemonic::Pushfq => (handler!(pushf), GOES_ON),
        Mnemonic::Popf | Mnemonic::Popfd | Mnemonic::Popfq => (handler!(popf), ENDS),
        Mnemonic::Cli => (handler!(cli), GOES_ON),
        Mnemonic::Sti => (handler!(sti), ENDS),
        Mnemonic::Hlt => (handler!(hlt), ENDS),
        // They choose another translation bank, which callers read again after every helper; instruction fetch does not
        // depend on AC, so the block goes on.
        Mnemonic::Stac => (handler!(stac), GOES_ON),
        Mnemonic::Clac => (handler!(clac), GOES_ON),
        _ => return None,
    })
}
