//! Exit statuses. isa-debug-exit takes every odd one, as in QEMU; the others are even, so that
//! none has two meanings, and keep clear of those of shells and `timeout` (124 to 127). 70 and 74 are those of sysexits.h.

use std::process::ExitCode;

/// Why the emulator ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// The guest switched the machine off, or reset it under `-no-reboot`, or the user quit with Ctrl-A x.
    Done,
    /// isa-debug-exit: the whole status, `(value << 1) | 1`.
    DebugExit(u32),
    /// The command line or a file named there is wrong.
    UserMistake,
    /// The emulator met something that it cannot do: an instruction that is not implemented, or a bug of its own.
    CannotGoOn,
    /// The guest's processor shut down (triple fault), or halted for good with interrupts off.
    GuestDied,
    /// The host failed: no memory, a write error.
    HostError,
}

/// The list for `--help`.
pub const HELP: &str = "\
  0      the guest powered off, or reset under -no-reboot, or you quit with Ctrl-A x
  odd    the guest wrote v to isa-debug-exit: the status is (v << 1) | 1
  2      a mistake in the command line or in a file that it names
  70     the emulator cannot go on: an instruction or device that is not there, or a bug in it
  74     the host failed: out of memory, an output file cannot be written
  80     triple fault under -no-reboot, or the guest halted for good with interrupts off
  128+n  ended by signal n
";

impl ExitStatus {
    /// The number; the system keeps the low 8 bits.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::DebugExit(status) => status as u8,
            Self::UserMistake => 2,
            Self::CannotGoOn => 70,
            Self::GuestDied => 80,
            Self::HostError => 74,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_status_can_be_mistaken_for_another() {
        use ExitStatus::*;
        let codes: Vec<u8> =
            [Done, UserMistake, CannotGoOn, GuestDied, HostError].map(ExitStatus::code).into();
        assert!(codes.iter().all(|code| code % 2 == 0));
        let distinct: std::collections::BTreeSet<_> = codes.iter().collect();
        assert_eq!(distinct.len(), codes.len());
        assert!(codes.iter().all(|code| *code == 0 || HELP.contains(&format!("\n  {code} "))));
    }
}
