//! Compile workers.
//!
//! A vCPU never waits for a compilation: it sends the block (whose bytes were read after its lines were tracked) and goes on
//! in tier 0. Finished code is picked up at a safepoint, and dropped there if the block has died meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};

use crate::compile::{Code, Compiler, Refused, Tier};
use crate::tb::Tb;

/// A compiled block, or why there is none.
pub type Done = (Arc<Tb>, Result<Code, Refused>);

/// A block and the tier that it is to have.
pub type Job = (Arc<Tb>, Tier);

/// Blocks that wait for a worker; more are refused and asked for again later.
const QUEUE: usize = 1 << 14;

/// See the module.
#[derive(Debug)]
pub struct Workers {
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    /// Finished and not picked up: what the dispatcher looks at.
    ready: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts one worker per compiler.
    pub fn new(compilers: Vec<Compiler>) -> Self {
        let (jobs, queue) = bounded::<Job>(QUEUE);
        let (results, done) = unbounded();
        let ready = Arc::new(AtomicUsize::new(0));
        let threads = compilers
            .into_iter()
            .filter_map(|c| {
                let (queue, results, ready) = (queue.clone(), results.clone(), Arc::clone(&ready));
                let name = std::thread::Builder::new().name("retrograde-compile".into());
                name.spawn(move || work(c, &queue, &results, &ready)).ok()
            })
            .collect();
        Self { jobs: Some(jobs), done, ready, threads }
    }

    /// Asks for a compilation. `false`: too many are waiting.
    pub fn submit(&self, job: Job) -> bool {
        self.jobs.as_ref().is_some_and(|j| j.try_send(job).is_ok())
    }

    /// Is something finished?
    #[inline]
    pub fn ready(&self) -> bool {
        // Relaxed: the channel synchronises; a late look costs nothing.
        self.ready.load(Ordering::Relaxed) != 0
    }

    /// Picks up one result.
    pub fn take(&self) -> Option<Done> {
        let d = self.done.try_recv().ok()?;
        self.ready.fetch_sub(1, Ordering::Relaxed);
        Some(d)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.jobs = None;
        for t in self.threads.drain(..) {
            // A worker that panicked has said so already; the engine goes on without it.
            let _ = t.join();
        }
    }
}

fn work(mut compiler: Compiler, queue: &Receiver<Job>, results: &Sender<Done>, ready: &AtomicUsize) {
    while let Ok((tb, tier)) = queue.recv() {
        if tb.dead.load(Ordering::Relaxed) {
            continue;
        }
        let code = compiler.compile(&tb, tier);
        if results.send((tb, code)).is_err() {
            break;
        }
        ready.fetch_add(1, Ordering::Relaxed);
    }
}
