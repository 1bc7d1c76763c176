//! vCPUs in parallel: a thread for each, one machine.
//!
//! Requirement: N vCPUs are as fast as N cores of the host make them; what the guest sees is a machine whose processors run
//! at the same time, under x86's memory model; and the machine can be stopped and looked at within milliseconds.
//!
//! Solution: while the machine runs, each vCPU and its engine are lent to a thread, which runs guest code in slices, and comes
//! back when it is told to stop; pausing, resets and everything else that looks at registers happens while no thread runs. Memory and
//! translations are shared without locks (`softmmu`, [`jit::Engine`]). Devices stand behind one lock, which is held for single accesses
//! only, and never while somebody waits for a vCPU: an access that changes the memory map lets go of the devices first. What tells a vCPU
//! that something waits for it is a flag of its own, which it reads without a lock. The thread that called carries input and output, and
//! brings the devices to their deadlines.
//!
//! Time is the host's monotonic clock, from where virtual time stood when the machine last stopped. Nothing is recorded here: order and
//! time of accesses are the host's.
//!
//! Limitations: interrupts are looked at between slices ([`SLICE`]); SMRAM is shown to all vCPUs while one is in SMM; a locked access to
//! memory is not one step to DMA if it crosses a cache line.

mod bus;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use crossbeam::sync::{Parker, Unparker};
use crossbeam::utils::CachePadded;
use devices::pc::PcDevices;
use jit::{Engine, Exit};
use x86::state::Pace;
use x86::{Ns, Vcpu};

use self::bus::SharedBus;
use super::bus::PcBus;
use super::desk::{Asked, Desk};
use super::gate::InputGate;
use super::parked::Parked;
use super::turns::{set_pace, wakes};
use super::{Console, Ended, Machine};

/// Instructions that a vCPU runs before it looks around: some ten microseconds.
const SLICE: u64 = 30_000;
/// How long output may wait, while there is more and more of it.
const OUTPUT_EVERY: Duration = Duration::from_micros(300);
/// How often a vCPU that waits for a store (MWAIT) looks.
const MONITOR_EVERY: Duration = Duration::from_micros(50);
/// How often counts are looked at, where the machine is to stop at one.
const COUNT_EVERY: Duration = Duration::from_millis(1);

/// Virtual time, which goes on with the host's.
#[derive(Clone, Copy)]
struct Clock {
    start: Instant,
    base: Ns,
}

impl Clock {
    fn now(&self) -> Ns {
        self.base.wrapping_add(self.start.elapsed().as_nanos() as u64)
    }
}

/// What others tell a vCPU, in lines that it alone reads often.
struct Signals {
    /// Something waits for it: see [`waits_for`].
    attention: AtomicBool,
    /// It is about to wait, or does.
    parked: AtomicBool,
    unparker: Unparker,
    /// Instructions that it has retired.
    retired: AtomicU64,
}

/// What the threads share.
struct Shared {
    bus: Mutex<PcBus>,
    clock: Clock,
    vcpus: Vec<CachePadded<Signals>>,
    /// All threads come back.
    stop: AtomicBool,
    /// Does address line 20 pass?
    a20: AtomicBool,
    /// vCPUs in SMM, as bits.
    smm: Mutex<u128>,
    /// When the servant looks at the devices next.
    deadline: AtomicU64,
    /// The servant knows that there is output.
    output_noted: AtomicBool,
    /// Input waits for a device to take it.
    input_waits: AtomicBool,
    wake: Sender<()>,
    /// The first vCPU that cannot go on, and why.
    ended: Mutex<Option<(usize, Exit)>>,
}

/// Why all threads came back.
enum Left {
    /// For this, or for another look at the world (`None`).
    Asked(Option<Asked>),
    /// A vCPU cannot go on.
    Exit(usize, Exit),
    End(Ended),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does anything wait for vCPU `n` that could interrupt it, or wake it?
fn waits_for(devices: &PcDevices, n: usize) -> bool {
    devices.interrupt_pending(n)
        || devices.nmi_pending(n)
        || devices.smi_pending(n)
        || devices.init_pending(n)
        || devices.sipi_pending(n)
}

impl Shared {
    /// After the devices have changed: tells those whom it concerns. `by`: the vCPU whose access it was.
    fn publish(&self, bus: &PcBus, by: Option<usize>) {
        let devices = &bus.devices;
        for (n, signals) in self.vcpus.iter().enumerate() {
            let waits = waits_for(devices, n);
            if signals.attention.load(Ordering::Relaxed) != waits {
                signals.attention.store(waits, Ordering::Release);
            }
            // Under the lock, as is the last look of who parks.
            if waits && signals.parked.load(Ordering::Relaxed) {
                signals.unparker.unpark();
            }
        }
        let a20 = devices.a20();
        if self.a20.load(Ordering::Relaxed) != a20 {
            self.a20.store(a20, Ordering::Release);
        }
        if by.is_none() {
            return;
        }
        let sooner = devices.next_deadline().is_some_and(|at| at < self.deadline.load(Ordering::Relaxed));
        let output = devices.has_output() && !self.output_noted.swap(true, Ordering::Relaxed);
        if sooner || output || self.input_waits.load(Ordering::Relaxed) {
            self.wake_servant();
        }
    }

    fn wake_servant(&self) {
        // Full: it is awake, or will be.
        let _ = self.wake.try_send(());
    }

    /// Makes all threads come back.
    fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.vcpus.iter().for_each(|signals| signals.unparker.unpark());
        self.wake_servant();
    }

    fn retired(&self) -> u64 {
        self.vcpus.iter().fold(0, |sum, v| sum.wrapping_add(v.retired.load(Ordering::Relaxed)))
    }
}

/// Makes all threads come back when it goes, whatever the reason: nobody waits for one that is over.
struct StopsAll<'a>(&'a Shared);

impl Drop for StopsAll<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// What the thread of vCPU `n` does.
fn work(shared: &Shared, n: usize, cpu: &mut Vcpu, engine: &mut Engine, parker: &Parker) {
    let _stops = StopsAll(shared);
    let done = catch_unwind(AssertUnwindSafe(|| drive(shared, n, cpu, engine, parker)));
    // Others may wait for it to come to a safepoint, and would do so for ever.
    cpu.mmu.go_quiescent();
    if let Err(panic) = done {
        resume_unwind(panic);
    }
}

fn drive(shared: &Shared, n: usize, cpu: &mut Vcpu, engine: &mut Engine, parker: &Parker) {
    let signals = &*shared.vcpus[n];
    cpu.mmu.go_online();
    while !shared.stop.load(Ordering::SeqCst) {
        if cpu.st.halted && !wait(shared, n, cpu, parker) {
            continue;
        }
        if shared.a20.load(Ordering::Relaxed) != cpu.st.a20 {
            cpu.sync_a20();
        }
        let until = cpu.st.icount().saturating_add(SLICE);
        let exit = engine.run(cpu, until);
        signals.retired.store(cpu.st.icount(), Ordering::Relaxed);
        match exit {
            Exit::Deadline | Exit::Event | Exit::Halted => {}
            Exit::Shutdown | Exit::Report(_) => {
                lock(&shared.ended).get_or_insert((n, exit));
                shared.stop();
            }
        }
        if std::mem::take(&mut cpu.st.yielded) {
            // It spins: where the host has fewer cores, the one that it waits for may need this one.
            std::thread::yield_now();
        }
    }
}

/// Waits for something that ends a halt. `false`: look again.
fn wait(shared: &Shared, n: usize, cpu: &mut Vcpu, parker: &Parker) -> bool {
    let signals = &*shared.vcpus[n];
    cpu.look_at_monitored();
    if !cpu.st.halted {
        return true;
    }
    signals.parked.store(true, Ordering::Relaxed);
    // Under the lock: whoever gives us a reason later sees that we wait.
    let awake = wakes(cpu, n, &lock(&shared.bus).devices);
    if !awake && !shared.stop.load(Ordering::SeqCst) {
        cpu.mmu.go_quiescent();
        if cpu.waits_for_store() {
            parker.park_timeout(MONITOR_EVERY);
        } else {
            parker.park();
        }
        cpu.mmu.go_online();
    }
    signals.parked.store(false, Ordering::Relaxed);
    awake
}

/// The thread that called: carries input and output, and brings devices to their deadlines, until something ends it.
struct Servant<'a> {
    shared: &'a Shared,
    woken: &'a Receiver<()>,
    gate: &'a mut InputGate,
    console: &'a mut dyn Console,
    stop_at: Option<u64>,
}

impl Servant<'_> {
    /// One look. `Err`: the machine is to stop.
    fn look(&mut self, parts: &mut Parts<'_>) -> io::Result<Result<Option<Duration>, Left>> {
        let shared = self.shared;
        let mut bus = lock(&shared.bus);
        let now = shared.clock.now();
        let icount = shared.retired();
        bus.devices.advance(now);
        let had_output = bus.devices.has_output();
        let asked = parts.desk(&mut bus.devices).exchange(self.gate, self.console, icount, now)?;
        if asked.is_some() || parts.control.paused {
            return Ok(Err(Left::Asked(asked)));
        }
        if parts.control.alarm_rings(now) || self.stop_at.is_some_and(|at| icount >= at) {
            return Ok(Err(Left::End(Ended::Count)));
        }
        if self.console.wants_frame() {
            let screen = bus.devices.text_screen(now);
            self.console.frame(screen.as_ref())?;
        }
        if self.console.wants_picture() {
            let picture = bus.devices.picture(now);
            self.console.picture(picture)?;
        }
        let deadline = bus.devices.next_deadline().into_iter().chain(parts.control.deadline(now)).min();
        shared.deadline.store(deadline.unwrap_or(u64::MAX), Ordering::Relaxed);
        shared
            .input_waits
            .store((0..parts.serial_ports).any(|port| self.gate.has_byte(port)), Ordering::Relaxed);
        if !had_output {
            // From the next byte on we are woken. (Nothing was sent since we looked: the lock is ours.)
            shared.output_noted.store(false, Ordering::Relaxed);
        }
        shared.publish(&bus, None);
        let idle = shared
            .vcpus
            .iter()
            .all(|v| v.parked.load(Ordering::Relaxed) && !v.attention.load(Ordering::Relaxed));
        drop(bus);
        if idle && deadline.is_none() && !self.gate.is_live() {
            return Ok(Err(Left::End(Ended::HaltedForever)));
        }
        let left = deadline.map(|at| Duration::from_nanos(at.saturating_sub(now)));
        let frame = self.console.frame_interval().map(Duration::from_nanos);
        let output = had_output.then_some(OUTPUT_EVERY);
        let count = self.stop_at.map(|_| COUNT_EVERY);
        Ok(Ok([left, frame, output, count].into_iter().flatten().min()))
    }

    fn serve(&mut self, parts: &mut Parts<'_>) -> io::Result<Left> {
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
struct Parts<'a> {
    control: &'a mut super::control::Control,
    stages: &'a mut super::stages::Stages,
    cds: &'a [(String, devices::pc::CdPlace)],
    serial_ports: u8,
    posts: usize,
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

impl Machine {
    /// [`Machine::run`] where vCPUs run in parallel.
    pub(super) fn run_in_parallel(
        &mut self,
        gate: &mut InputGate,
        console: &mut dyn Console,
        stop_at: Option<u64>,
    ) -> io::Result<Ended> {
        loop {
            console.paused(self.control.paused);
            if self.control.paused {
                let (icount, now) = (self.retired(), self.cpu.st.now());
                if let Some(ended) = self.exchange(gate, console, icount, now)? {
                    return Ok(ended);
                }
                if self.control.paused {
                    self.control.paused = gate.wait();
                }
                continue;
            }
            let ended = match self.run_threads(gate, console, stop_at)? {
                Left::Asked(asked) => self.answer(asked, console)?,
                Left::End(ended) => Some(ended),
                Left::Exit(n, Exit::Shutdown) => {
                    tracing::trace!(target: "cpu_reset", "Triple fault of CPU {n}");
                    self.shut_down()
                }
                Left::Exit(n, Exit::Report(text)) => Some(Ended::Report(format!("CPU {n}: {text}"))),
                Left::Exit(..) => None,
            };
            if let Some(ended) = ended {
                return Ok(ended);
            }
        }
    }

    /// Lends the vCPUs to threads until something needs them back.
    fn run_threads(
        &mut self,
        gate: &mut InputGate,
        console: &mut dyn Console,
        stop_at: Option<u64>,
    ) -> io::Result<Left> {
        let base = self.cpu.st.now();
        let smm: u128 = (0..self.cpus())
            .filter(|n| self.vcpu(*n).is_some_and(|cpu| cpu.st.smm))
            .fold(0, |bits, n| bits | 1 << n);
        let bus = std::mem::replace(&mut self.cpu.bus, Box::new(Parked));
        let bus: Box<dyn std::any::Any> = bus;
        let mut bus = *bus.downcast::<PcBus>().expect("the machine made the bus");
        bus.defer_maps(true);
        let mut parkers: Vec<Option<Parker>> = (0..self.cpus()).map(|_| Some(Parker::new())).collect();
        let signals = |unparker: Unparker| {
            CachePadded::new(Signals {
                attention: AtomicBool::new(true),
                parked: AtomicBool::new(false),
                unparker,
                retired: AtomicU64::new(0),
            })
        };
        let (wake, woken) = bounded(1);
        let shared = Arc::new(Shared {
            a20: AtomicBool::new(bus.devices.a20()),
            bus: Mutex::new(bus),
            clock: Clock { start: Instant::now(), base },
            vcpus: parkers.iter().flatten().map(|parker| signals(parker.unparker().clone())).collect(),
            stop: AtomicBool::new(false),
            smm: Mutex::new(smm),
            deadline: AtomicU64::new(0),
            output_noted: AtomicBool::new(false),
            input_waits: AtomicBool::new(false),
            wake,
            ended: Mutex::new(None),
        });
        let mut parts = Parts {
            control: &mut self.control,
            stages: &mut self.stages,
            cds: &self.cds,
            serial_ports: self.spec.serial_ports,
            posts: self.spec.harness.post.len(),
        };
        let current = self.turns.state.current;
        let mut vcpus: Vec<(usize, &mut Vcpu, &mut Engine)> =
            vec![(current, &mut self.cpu, &mut self.engine)];
        vcpus.extend(self.turns.others_and_engines());
        for (n, cpu, _) in &mut vcpus {
            cpu.bus = Box::new(SharedBus { shared: Arc::clone(&shared), cpu: *n });
            cpu.st.pace = Pace::BY_CLOCK;
            shared.vcpus[*n].retired.store(cpu.st.icount(), Ordering::Relaxed);
        }
        let mut servant = Servant { shared: &shared, woken: &woken, gate, console, stop_at };
        let left = std::thread::scope(|scope| {
            let _stops = StopsAll(&shared);
            for (n, cpu, engine) in vcpus {
                let (shared, parker) = (&*shared, parkers[n].take().unwrap_or_default());
                let name = std::thread::Builder::new().name(format!("vcpu{n}"));
                let started = name.spawn_scoped(scope, move || work(shared, n, cpu, engine, &parker));
                started?;
            }
            servant.serve(&mut parts)
        });
        self.take_back(shared);
        left
    }

    /// All threads are over: the machine is whole again.
    fn take_back(&mut self, shared: Arc<Shared>) {
        let now = shared.clock.now();
        set_pace(&mut self.cpu, now, 1);
        self.cpu.bus = Box::new(Parked);
        for (_, cpu) in self.turns.others() {
            set_pace(cpu, now, 1);
            cpu.bus = Box::new(Parked);
        }
        let shared = Arc::into_inner(shared).expect("the buses of all vCPUs were just dropped");
        let mut bus = shared.bus.into_inner().unwrap_or_else(PoisonError::into_inner);
        bus.defer_maps(false);
        bus.cpu = self.turns.state.current;
        bus.devices.turn_to(bus.cpu);
        self.cpu.bus = Box::new(bus);
    }
}
