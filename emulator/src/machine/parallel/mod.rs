//! vCPUs in parallel: a thread for each, one machine.
//!
//! Requirement: N vCPUs are as fast as N cores of the host make them; what the guest sees is a machine whose processors run
//! at the same time, under x86's memory model; and the machine can be stopped and looked at within milliseconds.
//!
//! Solution: while the machine runs, each vCPU and its engine are lent to a thread, which runs guest code in slices, and comes
//! back when it is told to stop; pausing, resets and everything else that looks at registers happens while no thread runs. Memory and
//! translations are shared without locks (`softmmu`, [`jit::Engine`]). The board's devices stand behind one lock, which is held for single
//! accesses only, and never while somebody waits for a vCPU: an access that changes the memory map lets go of the devices first. PCI functions
//! (all disks but floppies) have locks and threads of their own (`functions`); so have, locks only, the interrupt controllers
//! ([`Interrupts`]) and each local APIC ([`LocalApics`]). What waits for a vCPU is published there, and its thread looks after its timer.
//! Timers that are read all the time are sampled from published state ([`BoardSamples`]). The thread that called carries input and output,
//! and brings the board to its deadlines. [`LockCounts`] tells who has taken which lock; the order of locks stands at `Shared::bus`.
//!
//! Time is the host's monotonic clock, from where virtual time stood when the machine last stopped. Nothing is recorded here: order and
//! time of accesses are the host's.
//!
//! Limitations: interrupts are looked at between slices ([`vcpu`]); SMRAM is shown to all vCPUs while one is in SMM; a locked access to
//! memory is not one step to DMA if it crosses a cache line.

mod bus;
mod counts;
mod functions;
mod servant;
mod vcpu;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam::channel::{Sender, bounded};
use crossbeam::sync::{Parker, Unparker};
use crossbeam::utils::CachePadded;
use devices::lapic::LocalApics;
use devices::pc::{ApartPorts, BoardSamples, Interrupts};
use jit::{Engine, Exit};
use x86::state::Pace;
use x86::{Ns, Vcpu};

use self::bus::SharedBus;
pub use self::counts::{Counts, LockCounts, Why};
use self::functions::{Function, serve};
use self::servant::{Parts, Servant};
use self::vcpu::work;
use super::bus::PcBus;
use super::desk::Asked;
use super::gate::InputGate;
use super::parked::Parked;
use super::turns::set_pace;
use super::{Console, Ended, Machine};

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

/// What a vCPU tells others. What waits for it is told by [`LocalApics`].
struct Signals {
    /// It is about to wait, or does.
    parked: AtomicBool,
    unparker: Unparker,
    /// Instructions that it has retired.
    retired: AtomicU64,
}

/// What the threads share.
struct Shared {
    /// The board, and all that has no lock of its own. Lock order: this one; then SMM or a PCI function; then the interrupt controllers; then the
    /// message port; then a local APIC. Of each kind one at a time, and any of them may be left out.
    bus: Mutex<PcBus>,
    /// PCI functions, in the board's order.
    functions: Vec<Function>,
    /// What is at fixed ports without the board.
    ports: Option<ApartPorts>,
    interrupts: Arc<Interrupts>,
    apics: Arc<LocalApics>,
    samples: BoardSamples,
    counts: LockCounts,
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

impl Shared {
    /// After the devices have changed: tells those whom it concerns. `accessed`: by an access of a vCPU.
    fn publish(&self, bus: &PcBus, accessed: bool) {
        let devices = &bus.devices;
        self.wake_sleepers();
        self.functions.iter().for_each(Function::wake_in_time);
        devices.publish_samples(&self.samples);
        let a20 = devices.a20();
        if self.a20.load(Ordering::Relaxed) != a20 {
            self.a20.store(a20, Ordering::Release);
        }
        if !accessed {
            return;
        }
        let sooner = devices.device_deadline().is_some_and(|at| at < self.deadline.load(Ordering::Relaxed));
        let output = devices.has_output() && !self.output_noted.swap(true, Ordering::Relaxed);
        if sooner || output || self.input_waits.load(Ordering::Relaxed) {
            self.wake_servant();
        }
    }

    /// Wakes the vCPUs that sleep and for which something waits.
    fn wake_sleepers(&self) {
        for (n, signals) in self.vcpus.iter().enumerate() {
            // After what waits was published; pairs with the look of who goes to sleep.
            if signals.parked.load(Ordering::SeqCst) && self.apics.anything_for(n) {
                signals.unparker.unpark();
            }
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
        self.functions.iter().for_each(Function::wake);
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
        bus.devices.set_apart(true);
        let (functions, sleepers): (Vec<_>, Vec<_>) =
            bus.devices.functions().iter().map(Function::new).unzip();
        let mut parkers: Vec<Option<Parker>> = (0..self.cpus()).map(|_| Some(Parker::new())).collect();
        let signals = |unparker: Unparker| {
            CachePadded::new(Signals { parked: AtomicBool::new(false), unparker, retired: AtomicU64::new(0) })
        };
        let (wake, woken) = bounded(1);
        let shared = Arc::new(Shared {
            a20: AtomicBool::new(bus.devices.a20()),
            functions,
            ports: bus.devices.apart_ports(),
            interrupts: Arc::clone(bus.devices.interrupts()),
            apics: Arc::clone(bus.devices.local_apics()),
            samples: bus.devices.samples(),
            counts: self.locks.clone(),
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
        let mut servant = Servant { shared: &shared, woken: &woken, gate, console, stop_at, slept: None };
        let left = std::thread::scope(|scope| {
            let _stops = StopsAll(&shared);
            for (n, cpu, engine) in vcpus {
                let (shared, parker) = (&*shared, parkers[n].take().unwrap_or_default());
                let name = std::thread::Builder::new().name(format!("vcpu{n}"));
                let started = name.spawn_scoped(scope, move || work(shared, n, cpu, engine, &parker));
                started?;
            }
            for (n, parker) in sleepers.into_iter().enumerate() {
                let shared = &*shared;
                if shared.functions[n].locked.is_timed() {
                    let name = format!("pci{:02x}", shared.functions[n].locked.at());
                    let thread = std::thread::Builder::new().name(name);
                    thread.spawn_scoped(scope, move || serve(shared, n, &parker))?;
                }
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
        bus.devices.set_apart(false);
        bus.defer_maps(false);
        bus.cpu = self.turns.state.current;
        bus.devices.turn_to(bus.cpu);
        self.cpu.bus = Box::new(bus);
    }
}
