//! What the targets for devices share: a little guest memory, and a look at what every device must do.

use std::sync::{Arc, Mutex};

use devices::memory::{Dma, GuestMemory};
use devices::pci::{MessagePort, PciFunction, PciSlot};
use devices::{IrqLine, Ns};

/// Memory of a fuzzed guest, from address 0 on. Beyond it nothing answers.
pub const MEMORY: usize = 256 << 10;

/// See [`MEMORY`].
#[derive(Clone)]
pub struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(vec![0; MEMORY])))
    }

    pub fn dma(&self) -> Dma {
        Dma::new(Arc::new(self.clone()))
    }

    /// Writes what fits.
    pub fn put(&self, at: usize, bytes: &[u8]) {
        let mut memory = self.0.lock().expect("no other thread");
        let at = at % MEMORY;
        let n = bytes.len().min(MEMORY - at);
        memory[at..at + n].copy_from_slice(&bytes[..n]);
    }

    /// A slot of a board with this memory.
    pub fn slot(&self) -> PciSlot {
        PciSlot { memory: self.dma(), intx: IrqLine::unconnected(), messages: MessagePort::new() }
    }
}

impl GuestMemory for Memory {
    fn read(&self, at: u64, bytes: &mut [u8]) -> bool {
        let memory = self.0.lock().expect("no other thread");
        let found = usize::try_from(at).ok().and_then(|at| memory.get(at..at.checked_add(bytes.len())?));
        match found {
            Some(found) => bytes.copy_from_slice(found),
            None => bytes.fill(0xff),
        }
        found.is_some()
    }
    fn write(&self, at: u64, bytes: &[u8]) -> bool {
        let mut memory = self.0.lock().expect("no other thread");
        let place = usize::try_from(at).ok().and_then(|at| memory.get_mut(at..at.checked_add(bytes.len())?));
        let Some(place) = place else { return false };
        place.copy_from_slice(bytes);
        true
    }
}

/// Lets a function do what is due next; gives the time.
pub fn advance(function: &mut dyn PciFunction, now: Ns) -> Ns {
    let Some(due) = function.timed().and_then(|timed| timed.next_deadline()) else { return now };
    let due = due.max(now);
    if let Some(timed) = function.timed_mut() {
        timed.advance(due);
        assert!(timed.next_deadline().is_none_or(|next| next > due), "a deadline in the past");
    }
    due
}

/// A function restored from what `function` saves is the same.
pub fn restores(function: &dyn PciFunction, mut twin: Box<dyn PciFunction>) -> Box<dyn PciFunction> {
    twin.config_mut().restore(function.config().bytes());
    twin.config_written(0, 255);
    twin.restore(&function.save());
    assert!(twin.save() == function.save(), "a state that is not restored");
    twin
}
