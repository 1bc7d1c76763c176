//! The thread that called: it carries input and output, and brings devices to their deadlines.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam::channel::Receiver;
use devices::pc::PcDevices;

use super::super::desk::{Asked, Desk, Outgoing};
use super::super::gate::InputGate;
use super::super::{Console, Ended, control, stages};
use super::functions::Function;
use super::{Left, Shared, lock};

/// How long output may wait, while there is more and more of it.
const OUTPUT_EVERY: Duration = Duration::from_micros(300);
/// How often counts are looked at, where the machine is to stop at one.
const COUNT_EVERY: Duration = Duration::from_millis(1);
/// How often a machine without input is looked at, to find out that it is halted for good.
const IDLE_EVERY: Duration = Duration::from_millis(5);

/// See the module.
pub(super) struct Servant<'a> {
    pub shared: &'a Shared,
    pub woken: &'a Receiver<()>,
    pub gate: &'a mut InputGate,
    pub console: &'a mut dyn Console,
    pub stop_at: Option<u64>,
    /// All vCPUs slept at the last look, when they had retired so many instructions.
    pub slept: Option<u64>,
}

/// What a look at the devices found.
struct Found {
    outgoing: Outgoing,
    screen: Option<Option<devices::vga::TextScreen>>,
    picture: Option<Option<devices::vga::Picture>>,
    asked: Option<Asked>,
    /// When the next one of their deadlines is.
    deadline: Option<u64>,
    had_output: bool,
    now: u64,
    icount: u64,
}

impl Servant<'_> {
    /// What has to be done under the devices' lock.
    fn look_at_devices(&mut self, parts: &mut Parts<'_>) -> io::Result<Found> {
        let shared = self.shared;
        let mut bus = lock(&shared.bus);
        let now = shared.clock.now();
        let icount = shared.retired();
        bus.devices.advance(now);
        let had_output = bus.devices.has_output();
        let mut desk = parts.desk(&mut bus.devices);
        let (asked, outgoing) = desk.collect(self.gate, self.console, icount, now)?;
        let screen = self.console.wants_frame().then(|| bus.devices.text_screen(now));
        let picture = self.console.wants_picture().then(|| bus.devices.picture(now));
        let deadline = bus.devices.device_deadline().into_iter().chain(parts.control.deadline(now)).min();
        shared.deadline.store(deadline.unwrap_or(u64::MAX), Ordering::Relaxed);
        shared
            .input_waits
            .store((0..parts.serial_ports).any(|port| self.gate.has_byte(port)), Ordering::Relaxed);
        if !had_output {
            // From the next byte on we are woken. (Nothing was sent since we looked: the lock is ours.)
            shared.output_noted.store(false, Ordering::Relaxed);
        }
        shared.publish(&bus, false);
        Ok(Found { outgoing, screen, picture, asked, deadline, had_output, now, icount })
    }

    /// One look. `Err`: the machine is to stop.
    fn look(&mut self, parts: &mut Parts<'_>) -> io::Result<Result<Option<Duration>, Left>> {
        let found = self.look_at_devices(parts)?;
        // Nobody waits for the devices while the console takes its time.
        found.outgoing.deliver(self.console)?;
        let (now, icount) = (found.now, found.icount);
        if found.asked.is_some() || parts.control.paused {
            return Ok(Err(Left::Asked(found.asked)));
        }
        if parts.control.alarm_rings(now) || self.stop_at.is_some_and(|at| icount >= at) {
            return Ok(Err(Left::End(Ended::Count)));
        }
        if let Some(screen) = found.screen {
            self.console.frame(screen.as_ref())?;
        }
        if let Some(picture) = found.picture {
            self.console.picture(picture)?;
        }
        if self.sleeps_for_good(found.deadline) {
            return Ok(Err(Left::End(Ended::HaltedForever)));
        }
        let left = found.deadline.map(|at| Duration::from_nanos(at.saturating_sub(now)));
        let frame = self.console.frame_interval().map(Duration::from_nanos);
        let output = found.had_output.then_some(OUTPUT_EVERY);
        let count = self.stop_at.map(|_| COUNT_EVERY);
        let idle = (!self.gate.is_live()).then_some(IDLE_EVERY);
        Ok(Ok([left, frame, output, count, idle].into_iter().flatten().min()))
    }

    /// Do all vCPUs sleep, and can nothing wake one? A vCPU may wake another and go to sleep while we look from one to the next: so they
    /// have to be asleep at two looks, and to have retired nothing in between.
    fn sleeps_for_good(&mut self, deadline: Option<u64>) -> bool {
        let shared = self.shared;
        let functions = shared.functions.iter().all(Function::sleeps_for_good);
        if deadline.is_some() || !functions || self.gate.is_live() || shared.apics.next_deadline().is_some() {
            self.slept = None;
            return false;
        }
        let asleep =
            |n: usize| shared.vcpus[n].parked.load(Ordering::SeqCst) && !shared.apics.anything_for(n);
        let sleep = (0..shared.vcpus.len()).all(asleep);
        let retired = sleep.then(|| shared.retired());
        let before = std::mem::replace(&mut self.slept, retired);
        sleep && before == retired
    }

    /// Serves until something ends it.
    pub fn serve(&mut self, parts: &mut Parts<'_>) -> io::Result<Left> {
        loop {
            if self.shared.stop.load(Ordering::SeqCst) {
                return Ok(match lock(&self.shared.ended).take() {
                    Some((n, exit)) => Left::Exit(n, exit),
                    None => Left::Asked(None),
                });
            }
            match self.look(parts)? {
                Ok(timeout) => self.gate.wait_for(self.woken, timeout),
                Err(left) => return Ok(left),
            }
        }
    }
}

/// Parts of the machine that the desk needs.
pub(super) struct Parts<'a> {
    pub control: &'a mut control::Control,
    pub stages: &'a mut stages::Stages,
    pub cds: &'a [(String, devices::pc::CdPlace)],
    pub serial_ports: u8,
    pub posts: usize,
}

impl Parts<'_> {
    fn desk<'a>(&'a mut self, devices: &'a mut PcDevices) -> Desk<'a> {
        Desk {
            devices,
            control: self.control,
            stages: self.stages,
            cds: self.cds,
            serial_ports: self.serial_ports,
            posts: self.posts,
        }
    }
}
