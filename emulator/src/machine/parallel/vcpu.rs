//! What the thread of a vCPU does: run guest code in slices, look after its local APIC's timer, sleep while it is halted.
//!
//! Who gives a vCPU a reason to wake publishes the reason and then looks whether it sleeps; a vCPU says that it sleeps and then looks for
//! reasons. Both orders are sequentially consistent, so that one of the two sees the other.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam::sync::Parker;
use devices::Timed;
use jit::{Engine, Exit};
use x86::Vcpu;

use super::super::turns::wakes;
use super::{Shared, StopsAll, lock};

/// Instructions that a vCPU runs before it looks around: some ten microseconds.
const SLICE: u64 = 30_000;
/// How often a vCPU that waits for a store (MWAIT) looks.
const MONITOR_EVERY: Duration = Duration::from_micros(50);

/// What the thread of vCPU `n` does.
pub(super) fn work(shared: &Shared, n: usize, cpu: &mut Vcpu, engine: &mut Engine, parker: &Parker) {
    let _stops = StopsAll(shared);
    let done = catch_unwind(AssertUnwindSafe(|| drive(shared, n, cpu, engine, parker)));
    // Others may wait for it to come to a safepoint, and would do so for ever.
    cpu.mmu.go_quiescent();
    if let Err(panic) = done {
        resume_unwind(panic);
    }
}

/// Brings the timer of vCPU `n` to the time of the clock; how long it has to go then.
fn look_at_timer(shared: &Shared, n: usize) -> Option<Duration> {
    let mut at = shared.apics.deadline(n)?;
    let now = shared.clock.now();
    if at <= now {
        shared.apics.with(n, |apic| apic.advance(now));
        at = shared.apics.deadline(n)?;
    }
    Some(Duration::from_nanos(at.saturating_sub(now)))
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
        look_at_timer(shared, n);
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
    // Pairs with the look at it of whoever gives us a reason from now on.
    signals.parked.store(true, Ordering::SeqCst);
    let timer = look_at_timer(shared, n);
    let awake = wakes(cpu, n, &shared.apics);
    if !awake && !shared.stop.load(Ordering::SeqCst) {
        cpu.mmu.go_quiescent();
        let monitor = cpu.waits_for_store().then_some(MONITOR_EVERY);
        match timer.into_iter().chain(monitor).min() {
            Some(longest) => parker.park_timeout(longest),
            None => parker.park(),
        }
        cpu.mmu.go_online();
    }
    signals.parked.store(false, Ordering::SeqCst);
    awake
}
