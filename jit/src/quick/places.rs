//! Where values are: in registers, in slots of the frame, or both.

use cranelift_codegen::entity::EntityRef;
use cranelift_codegen::ir::Value;

use super::Quick;
use super::asm::{RBX, RDI, Reg, Size};
use super::live::BEYOND;

/// Registers that are given to values.
const GIVEN: [Reg; 9] = [8, 9, 10, 11, RBX, 12, 13, 14, 15];
/// Those of them that calls by the platform's convention (System V) do not preserve.
const LOST: [Reg; 4] = [8, 9, 10, 11];
const NONE: Reg = 16;

#[derive(Clone, Copy, Debug)]
struct Place {
    reg: Reg,
    in_slot: bool,
}

/// On one path through the function.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// By value.
    of: Vec<Place>,
    /// By register.
    holds: [Option<Value>; 16],
}

impl Places {
    /// Of a function's beginning.
    pub fn clear(&mut self, values: usize) {
        self.of.clear();
        self.of.resize(values, Place { reg: NONE, in_slot: false });
        self.holds = [None; 16];
    }

    /// The state is this value, and stays where it is.
    pub fn set_state(&mut self, v: Value) {
        self.of[v.index()].reg = RDI;
        self.holds[RDI as usize] = Some(v);
    }

    pub fn state(&self) -> Option<Value> {
        self.holds[RDI as usize]
    }

    pub fn reg(&self, v: Value) -> Option<Reg> {
        let reg = self.of[v.index()].reg;
        (reg != NONE).then_some(reg)
    }

    pub fn in_slot(&self, v: Value) -> bool {
        self.of[v.index()].in_slot
    }

    /// Its slot has it from now on.
    pub fn stored(&mut self, v: Value) {
        self.of[v.index()].in_slot = true;
    }

    fn put(&mut self, v: Value, reg: Reg) {
        self.of[v.index()].reg = reg;
        self.holds[reg as usize] = Some(v);
    }

    /// Its register is free.
    pub fn free(&mut self, v: Value) {
        let reg = std::mem::replace(&mut self.of[v.index()].reg, NONE);
        if reg == RDI {
            self.of[v.index()].reg = RDI;
        } else if reg != NONE {
            self.holds[reg as usize] = None;
        }
    }

    /// Frees the registers of all others.
    pub fn keep(&mut self, needed: impl Fn(Value) -> bool) {
        for reg in GIVEN {
            if let Some(v) = self.holds[reg as usize].filter(|v| !needed(*v)) {
                self.free(v);
            }
        }
    }

    /// Only slots count.
    pub fn forget_registers(&mut self) {
        self.keep(|_| false);
    }
}

impl Quick {
    fn pin(&mut self, reg: Reg) {
        self.pinned |= 1 << reg;
    }

    /// A register that holds nothing, which is not one that the current instruction uses.
    fn vacate(&mut self) -> Option<Reg> {
        let usable = GIVEN.into_iter().filter(|r| self.pinned >> r & 1 == 0);
        let reg = match usable.clone().find(|r| self.places.holds[*r as usize].is_none()) {
            Some(free) => free,
            None => {
                // What costs nothing to give up, or else what is not needed for the longest time.
                let cost = |r: &Reg| {
                    let v = self.places.holds[*r as usize].map_or(0, EntityRef::index);
                    (self.places.of.get(v).is_some_and(|p| p.in_slot), self.live.last[v])
                };
                let reg = usable.max_by_key(cost)?;
                self.put_aside(reg);
                reg
            }
        };
        self.pin(reg);
        Some(reg)
    }

    /// What is in `reg` goes to its slot.
    fn put_aside(&mut self, reg: Reg) {
        if let Some(v) = self.places.holds[reg as usize] {
            self.store_to_slot(v, reg);
            self.places.free(v);
        }
    }

    fn store_to_slot(&mut self, v: Value, reg: Reg) {
        if !self.places.in_slot(v) {
            let slot = self.slot(v);
            self.asm.store(Size::Q, reg, slot);
            self.places.stored(v);
        }
    }

    /// The register of a value that is not a constant.
    fn held(&mut self, v: Value) -> Option<Reg> {
        if let Some(reg) = self.places.reg(v) {
            self.pin(reg);
            return Some(reg);
        }
        if !self.places.in_slot(v) {
            return None;
        }
        let reg = self.vacate()?;
        let slot = self.slot(v);
        self.asm.load(Size::Q, reg, slot);
        self.places.put(v, reg);
        Some(reg)
    }

    /// A register with the value: its own, or `scratch` for a constant.
    pub(super) fn input(&mut self, v: Value, scratch: Reg) -> Option<Reg> {
        if let Some(c) = self.constants[v.index()] {
            self.asm.mov_imm(scratch, c);
            return Some(scratch);
        }
        self.held(v)
    }

    /// Puts the value into a register that holds nothing.
    pub(super) fn input_into(&mut self, v: Value, scratch: Reg) -> Option<()> {
        if let Some(c) = self.constants[v.index()] {
            self.asm.mov_imm(scratch, c);
        } else if let Some(reg) = self.places.reg(v) {
            self.asm.mov(Size::Q, scratch, reg);
        } else if self.places.in_slot(v) {
            let slot = self.slot(v);
            self.asm.load(Size::Q, scratch, slot);
        } else {
            return None;
        }
        Some(())
    }

    /// A register for a result that is written after all `inputs` were read.
    pub(super) fn output(&mut self, v: Value, inputs: &[Value]) -> Option<Reg> {
        for input in inputs {
            if self.live.last[input.index()] <= self.now {
                if let Some(reg) = self.places.reg(*input).filter(|r| GIVEN.contains(r)) {
                    self.pinned &= !(1 << reg);
                }
                self.release(*input);
            }
        }
        let reg = self.vacate()?;
        self.places.put(v, reg);
        Some(reg)
    }

    /// A register for a result, with `from` in it: `from`'s own if this is its last use.
    pub(super) fn copy(&mut self, v: Value, from: Value, size: Size) -> Option<Reg> {
        if let Some(c) = self.constants[from.index()] {
            let reg = self.output(v, &[])?;
            self.asm.mov_imm(reg, c);
            return Some(reg);
        }
        let reg = self.held(from)?;
        if self.live.last[from.index()] <= self.now && GIVEN.contains(&reg) {
            self.places.free(from);
            self.places.put(v, reg);
            return Some(reg);
        }
        let new = self.output(v, &[])?;
        self.asm.mov(size, new, reg);
        Some(new)
    }

    /// Before a call by the platform's convention.
    pub(super) fn save_for_call(&mut self) {
        for reg in LOST {
            if let Some(v) = self.places.holds[reg as usize] {
                let last = self.live.last[v.index()];
                if last > self.now || last == BEYOND {
                    self.put_aside(reg);
                }
            }
        }
    }

    /// After it: what was not needed any more is gone.
    pub(super) fn lose_registers(&mut self) {
        for reg in LOST {
            if let Some(v) = self.places.holds[reg as usize] {
                self.places.free(v);
            }
        }
    }

    /// Stores a value into its slot, if it has a register and the slot has it not.
    pub(super) fn store_away(&mut self, v: Value) -> Option<()> {
        if self.constants[v.index()].is_some() || self.places.in_slot(v) {
            return Some(());
        }
        let reg = self.places.reg(v)?;
        self.store_to_slot(v, reg);
        Some(())
    }
}
