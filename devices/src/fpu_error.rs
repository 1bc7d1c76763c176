//! The coprocessor error logic: FERR# becomes IRQ 13, port F0h acknowledges it (82371SB data sheet, COPROCESSOR_ERROR).
//!
//! After the acknowledgement IGNNE# is active until the CPU withdraws FERR#: the handler may use the FPU, and further
//! reports of the same error raise nothing. An acknowledgement after FERR# has gone only takes the interrupt back.

use serde::{Deserialize, Serialize};

use crate::{IrqLine, Ns, PortDevice};

/// The port whose write acknowledges.
pub const FPU_ERROR_PORT: u16 = 0xf0;

/// Latches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FpuErrorState {
    /// FERR# is active.
    asserted: bool,
    /// IRQ 13 is asserted.
    latched: bool,
    /// IGNNE# is active.
    ignored: bool,
}

/// FERR# to IRQ 13.
pub struct FpuError {
    state: FpuErrorState,
    irq: IrqLine,
}

impl FpuError {
    /// No error.
    pub fn new(irq: IrqLine) -> Self {
        Self { state: FpuErrorState::default(), irq }
    }

    /// Platform reset.
    pub fn reset(&mut self) {
        self.restore(FpuErrorState::default());
    }

    /// The CPU drives FERR#.
    pub fn set_ferr(&mut self, asserted: bool) {
        self.state.asserted = asserted;
        if !asserted {
            self.state.ignored = false;
        } else if !self.state.ignored {
            self.state.latched = true;
        }
        self.irq.set(self.state.latched);
    }

    /// Latches.
    pub fn save(&self) -> FpuErrorState {
        let Self { state, irq: _ } = self;
        state.clone()
    }

    /// Restores what `save` gave.
    pub fn restore(&mut self, state: FpuErrorState) {
        self.irq.set(state.latched);
        self.state = state;
    }
}

impl PortDevice for FpuError {
    fn port_read(&mut self, _port: u16, _size: u8, _now: Ns) -> u32 {
        0xff
    }

    fn port_write(&mut self, port: u16, _size: u8, _value: u32, _now: Ns) {
        if port == FPU_ERROR_PORT && self.state.latched {
            (self.state.latched, self.state.ignored) = (false, self.state.asserted);
            self.irq.set(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lines;

    #[test]
    fn a_handler_clears_the_error_before_it_acknowledges() {
        let lines = Lines::new();
        let mut fpu = FpuError::new(lines.line(13));
        fpu.set_ferr(true);
        fpu.set_ferr(false);
        assert_eq!(lines.levels(), 1 << 13, "latched");
        fpu.port_write(0xf0, 1, 0, 0);
        assert_eq!(lines.levels(), 0);
        fpu.set_ferr(true);
        assert_eq!(lines.levels(), 1 << 13, "another error");
    }

    #[test]
    fn a_handler_acknowledges_and_uses_the_fpu() {
        let lines = Lines::new();
        let mut fpu = FpuError::new(lines.line(13));
        fpu.set_ferr(true);
        assert_eq!(lines.levels(), 1 << 13);
        fpu.port_write(0xf0, 1, 0, 0);
        fpu.set_ferr(true);
        assert_eq!(lines.levels(), 0, "ignored until the error has gone");
        fpu.set_ferr(false);
        fpu.set_ferr(true);
        assert_eq!(lines.levels(), 1 << 13);
        let state = fpu.save();
        fpu.reset();
        assert_eq!(lines.levels(), 0);
        fpu.restore(state);
        assert_eq!(lines.levels(), 1 << 13);
    }
}
