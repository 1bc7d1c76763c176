//! Ctrl-A commands: a machine of two states, without I/O.

/// The escape character, Ctrl-A.
const ESCAPE: u8 = 1;

/// What a byte from the terminal leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes to the guest.
    Send(u8),
    /// The user wants to end the emulator.
    Quit,
    /// The user wants to see the keys.
    Help,
    /// A command of QEMU's that is not there: what to say.
    Absent(&'static str),
}

/// Has Ctrl-A been pressed?
#[derive(Clone, Copy, Debug, Default)]
pub struct Escapes {
    pending: bool,
}

impl Escapes {
    /// Takes one byte; `None` when it only began a command, or belongs to none.
    pub fn take(&mut self, byte: u8) -> Option<Action> {
        if !std::mem::take(&mut self.pending) {
            self.pending = byte == ESCAPE;
            return (!self.pending).then_some(Action::Send(byte));
        }
        match byte {
            ESCAPE => Some(Action::Send(ESCAPE)),
            b'x' => Some(Action::Quit),
            b'h' | b'?' => Some(Action::Help),
            b'c' => Some(Action::Absent("the monitor cannot share the terminal; use -monitor stdio")),
            b'b' => Some(Action::Absent("a break cannot be sent yet; Ctrl-A h lists the keys")),
            b's' | b't' => Some(Action::Absent("this command is not there; Ctrl-A h lists the keys")),
            // As in QEMU, an unknown command is swallowed.
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        let mut escapes = Escapes::default();
        let mut take = |byte| escapes.take(byte);
        assert_eq!(take(b'x'), Some(Action::Send(b'x')));
        assert_eq!((take(1), take(b'x')), (None, Some(Action::Quit)));
        assert_eq!((take(1), take(1), take(b'x')), (None, Some(Action::Send(1)), Some(Action::Send(b'x'))));
        assert_eq!((take(1), take(b'q'), take(b'h')), (None, None, Some(Action::Send(b'h'))));
        assert_eq!(take(3), Some(Action::Send(3)), "Ctrl-C is the guest's");
    }
}
