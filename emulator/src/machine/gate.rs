//! The input gate: everything that comes from outside passes here and is stamped with an instruction count.
//!
//! Requirement: a run must be a function of images, configuration, seed and what passed the gate, so that writing the
//! gate's events down is recording, and reading them back is replay.
//! Solution: the machine asks the gate at its safepoints; the gate answers with events for that count. A live source asks
//! the terminal and the wall clock; a script knows its events beforehand and ties them to counts.
//! Limitation: events are delivered at safepoints only, so that a live byte waits for up to one slice of instructions.

use std::collections::VecDeque;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError};
use devices::i8042::MouseMove;
use serde::{Deserialize, Serialize};

use super::pacing::{HostClock, Monotonic, Pacer};

/// What can come from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// A byte for serial port `port` (0 = COM1).
    Serial {
        /// Which UART.
        port: u8,
        /// The byte.
        byte: u8,
    },
    /// While the processor is halted: virtual time moves on by this many nanoseconds (a pacing decision).
    Idle(u64),
    /// A movement of a key: scan codes of set 2.
    Key(Vec<u8>),
    /// The power button.
    PowerButton,
    /// The reset button.
    Reset,
    /// The user asks the machine to stop.
    Stop,
    /// A movement of the mouse, or of its buttons.
    Mouse(MouseMove),
}

/// An event and the count at which it takes effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamped {
    /// Retired instructions before it.
    pub icount: u64,
    /// Virtual time before it.
    pub now: u64,
    /// The event.
    pub input: Input,
}

/// What a live source sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Live {
    /// A byte typed at the terminal.
    Byte(u8),
    /// Movements of keys.
    Keys(Vec<Vec<u8>>),
    /// A line for the monitor.
    Command(String),
    /// Quit.
    Stop,
    /// A movement of the mouse, or of its buttons.
    Mouse(MouseMove),
    /// A byte for a serial port that is not the terminal's, or not only.
    Serial {
        /// Which UART.
        port: u8,
        /// The byte.
        byte: u8,
    },
    /// A display wants to be looked at: nothing that the guest could notice.
    Look,
}

enum Source {
    /// Nothing ever comes.
    Sealed,
    /// Events known beforehand, in order of their counts.
    Script(VecDeque<Stamped>),
    /// A console.
    Live { input: Receiver<Live>, port: Option<u8>, pacer: Option<Pacer>, open: bool },
}

/// Virtual time that an idle guest without a console may skip at once since it last printed something; beyond that, idling
/// takes as long as it says, so that a forgotten guest does not keep a host core busy.
const FREE_SKIP: u64 = 60_000_000_000;

/// Serial ports of a PC.
pub const PORTS: usize = 4;

/// Bytes of a file or a pipe that wait here at most; a typist may be as far ahead as she likes.
const WAITING: usize = 4096;

/// See the module.
pub struct InputGate {
    source: Source,
    skipped: u64,
    /// For each serial port.
    waiting: [VecDeque<u8>; PORTS],
    keys: Vec<Vec<u8>>,
    mouse: VecDeque<MouseMove>,
    commands: VecDeque<String>,
    journal: Option<Vec<Stamped>>,
    stop: bool,
}

/// How a halted processor's wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Virtual time moves on by this much; look at devices and input again.
    Elapsed(u64),
    /// Nothing can ever wake the machine.
    Forever,
}

/// Puts a byte behind the others of its port. A port that no PC has gets nothing.
fn queue(waiting: &mut [VecDeque<u8>; PORTS], port: Option<u8>, byte: u8) {
    if let Some(bytes) = port.and_then(|port| waiting.get_mut(usize::from(port))) {
        bytes.push_back(byte);
    }
}

impl InputGate {
    fn new(source: Source) -> Self {
        Self {
            source,
            skipped: 0,
            waiting: Default::default(),
            keys: Vec::new(),
            mouse: VecDeque::new(),
            commands: VecDeque::new(),
            journal: None,
            stop: false,
        }
    }
    /// A machine without outside input.
    pub fn sealed() -> Self {
        Self::new(Source::Sealed)
    }
    /// Input that takes effect at given counts.
    pub fn script(mut events: Vec<Stamped>) -> Self {
        events.sort_by_key(|e| e.icount);
        Self::new(Source::Script(events.into()))
    }
    /// Input from a terminal to serial port `port` (`None`: only requests to stop are heard). `paced`: a halted machine waits
    /// in real time.
    pub fn live(input: Receiver<Live>, port: Option<u8>, paced: bool) -> Self {
        let pacer = paced.then(|| Pacer::new(Box::new(Monotonic::new())));
        Self::new(Source::Live { input, port, pacer, open: true })
    }
    /// As [`InputGate::live`], paced by the given clock.
    pub fn paced_by(clock: Box<dyn HostClock>, input: Receiver<Live>, port: Option<u8>) -> Self {
        Self::new(Source::Live { input, port, pacer: Some(Pacer::new(clock)), open: true })
    }
    /// Keeps every event that passes.
    pub fn record(&mut self) {
        self.journal = Some(Vec::new());
    }
    /// The events so far, if they are kept.
    pub fn journal(&self) -> &[Stamped] {
        self.journal.as_deref().unwrap_or(&[])
    }

    /// Writes an event down, if that is asked for.
    pub fn note(&mut self, icount: u64, now: u64, input: Input) {
        if let Some(j) = &mut self.journal {
            j.push(Stamped { icount, now, input });
        }
    }

    /// The count before which the gate must be asked again, if it is known.
    pub fn next_count(&self) -> Option<u64> {
        match &self.source {
            Source::Script(events) => events.front().map(|e| e.icount),
            _ => None,
        }
    }

    /// May input arrive at any time (so that slices must be short)?
    pub fn is_live(&self) -> bool {
        matches!(self.source, Source::Live { open: true, .. })
    }

    /// Takes in what has arrived by now.
    fn fetch(&mut self, icount: u64) {
        match &mut self.source {
            Source::Sealed => {}
            Source::Script(events) => {
                // A pacing decision waits for its halt, and what comes after it with it.
                let due = |e: &mut Stamped| match e.input {
                    Input::Idle(_) => e.icount < icount,
                    _ => e.icount <= icount,
                };
                while let Some(e) = events.pop_front_if(due) {
                    match e.input {
                        Input::Serial { port, byte } => queue(&mut self.waiting, Some(port), byte),
                        Input::Stop => self.stop = true,
                        Input::Key(codes) => self.keys.push(codes),
                        Input::Mouse(by) => self.mouse.push_back(by),
                        Input::PowerButton => self.commands.push_back("system_powerdown".into()),
                        Input::Reset => self.commands.push_back("system_reset".into()),
                        Input::Idle(_) => {}
                    }
                }
            }
            Source::Live { .. } => self.fetch_live(),
        }
    }

    /// Takes in what a live source has sent.
    fn fetch_live(&mut self) {
        loop {
            let full = self.waiting.iter().any(|bytes| bytes.len() >= WAITING);
            let Source::Live { input, open, pacer, .. } = &mut self.source else { return };
            if pacer.is_none() && full {
                return;
            }
            match input.try_recv() {
                Ok(message) => self.arrived(message),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    *open = false;
                    return;
                }
            }
        }
    }

    /// Sorts what a live source has sent.
    fn arrived(&mut self, message: Live) {
        let Source::Live { port, .. } = &self.source else { return };
        match message {
            Live::Byte(byte) => queue(&mut self.waiting, *port, byte),
            Live::Serial { port, byte } => queue(&mut self.waiting, Some(port), byte),
            Live::Keys(keys) => self.keys.extend(keys),
            Live::Mouse(by) => self.mouse.push_back(by),
            Live::Command(line) => self.commands.push_back(line),
            Live::Stop => self.stop = true,
            Live::Look => {}
        }
    }

    /// Has a stop been asked for? Stamps it.
    pub fn stop_requested(&mut self, icount: u64, now: u64) -> bool {
        self.fetch(icount);
        if self.stop {
            self.note(icount, now, Input::Stop);
        }
        self.stop
    }

    /// The next byte for serial port `port`, if one has arrived: call only when the port can take it.
    pub fn serial_byte(&mut self, port: u8, icount: u64, now: u64) -> Option<u8> {
        let byte = self.waiting.get_mut(usize::from(port))?.pop_front()?;
        self.note(icount, now, Input::Serial { port, byte });
        Some(byte)
    }

    /// The key movements that have arrived.
    pub fn take_keys(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.keys)
    }

    /// The next movement of the mouse that has arrived. Stamps it.
    pub fn take_mouse(&mut self, icount: u64, now: u64) -> Option<MouseMove> {
        let by = self.mouse.pop_front()?;
        self.note(icount, now, Input::Mouse(by));
        Some(by)
    }

    /// The next line for the monitor.
    pub fn take_command(&mut self) -> Option<String> {
        self.commands.pop_front()
    }

    /// Time stands still: waits until something arrives. False: nothing ever will.
    pub fn wait(&mut self) -> bool {
        let Source::Live { input, open: true, pacer, .. } = &mut self.source else { return false };
        let Ok(message) = input.recv() else { return false };
        pacer.iter_mut().for_each(Pacer::stood_still);
        self.arrived(message);
        true
    }

    /// Waits until something arrives here, or at `woken`, or for `at_most`.
    pub fn wait_for(&mut self, woken: &Receiver<()>, at_most: Option<Duration>) {
        let timer = at_most.map_or_else(crossbeam::channel::never, crossbeam::channel::after);
        let full = self.waiting.iter().any(|bytes| bytes.len() >= WAITING);
        let none = crossbeam::channel::never();
        let input = match &self.source {
            Source::Live { input, open: true, pacer, .. } if pacer.is_some() || !full => input,
            _ => &none,
        };
        let got = crossbeam::channel::select! {
            recv(input) -> message => Some(message),
            recv(woken) -> _ => None,
            recv(timer) -> _ => None,
        };
        match got {
            None => {}
            Some(Ok(message)) => self.arrived(message),
            Some(Err(_)) => {
                if let Source::Live { open, .. } = &mut self.source {
                    *open = false;
                }
            }
        }
    }

    /// The guest printed something.
    pub fn output_seen(&mut self) {
        self.skipped = 0;
    }

    /// Does a byte wait for serial port `port`?
    pub fn has_byte(&self, port: u8) -> bool {
        self.waiting.get(usize::from(port)).is_some_and(|bytes| !bytes.is_empty())
    }

    /// A halt where nobody sits at a console.
    fn idle_unwatched(&mut self, icount: u64, now: u64, until_deadline: Option<u64>) -> Wait {
        let Source::Script(events) = &mut self.source else {
            return until_deadline.map_or(Wait::Forever, Wait::Elapsed);
        };
        let paced = events.pop_front_if(|e| e.icount == icount && matches!(e.input, Input::Idle(_)));
        if let Some(Stamped { input: Input::Idle(ns), .. }) = paced {
            let ns = until_deadline.map_or(ns, |limit| ns.min(limit));
            self.note(icount, now, Input::Idle(ns));
            return Wait::Elapsed(ns);
        }
        match (until_deadline, events.front_mut()) {
            (Some(ns), _) => Wait::Elapsed(ns),
            // The next event may still wake it: its count will never come, so that it takes effect now.
            (None, Some(next)) => {
                next.icount = next.icount.min(icount);
                Wait::Elapsed(0)
            }
            (None, None) => Wait::Forever,
        }
    }

    /// The processor is halted, and the next device event is `until_deadline` virtual nanoseconds away (`None`: there
    /// will be none).
    pub fn idle(&mut self, icount: u64, now: u64, until_deadline: Option<u64>) -> Wait {
        let Source::Live { input, pacer, open, .. } = &mut self.source else {
            return self.idle_unwatched(icount, now, until_deadline);
        };
        if !*open {
            let Some(ns) = until_deadline else { return Wait::Forever };
            self.skipped = self.skipped.saturating_add(ns);
            if self.skipped > FREE_SKIP {
                // Nobody types and nothing is printed: there is no hurry. The guest cannot tell.
                std::thread::sleep(Duration::from_nanos(ns));
            }
            return Wait::Elapsed(ns);
        }
        let (ns, got) = match (pacer, until_deadline) {
            (None, Some(ns)) => return Wait::Elapsed(ns),
            (None, None) => (0, input.recv().map_err(|_| RecvTimeoutError::Disconnected)),
            (Some(pacer), _) => pacer.halt(input, now, until_deadline),
        };
        match got {
            Ok(message) => self.arrived(message),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => *open = false,
        }
        self.note(icount, now, Input::Idle(ns));
        Wait::Elapsed(ns)
    }
}
