//! The execution engine: decides which tier runs what, and handles everything that ends a block early.
//!
//! One round of the dispatcher: bring translations up to date (a safepoint), find the block at RIP, run it in the best tier
//! that it has, look at why it came back. Between rounds RIP, the budget and all registers are exact, whatever the tier.
//!
//! Each vCPU has an engine; those of a machine share what they have translated ([`Shared`]): blocks, generated code and its direct
//! jumps are the machine's, so that a store into code, whoever makes it, ends what all of them would execute. What is valid in one
//! vCPU's translation epoch only (jump caches, the epochs in links) cannot be taken for another's, since no two vCPUs of a machine have
//! the same epochs. The vCPUs take turns on one thread, or each runs on its own ([`EngineConfig::parallel`]): a block is found
//! without a lock; blocks, links and code are taken out of reach under locks while others use them, and given up when all that run
//! have passed a safepoint (see [`crate::member`]).

#![expect(unsafe_code, reason = "enters generated code, and holds blocks by address between safepoints")]

use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use softmmu::AddressSpace;
use x86::insn::Insn;
use x86::interp::{self, Outcome};
use x86::state::{Shadow, stop};
use x86::{Vcpu, sys};

use crate::code::{CodeCache, NoPlace};
use crate::compile::{Code, Compiler, Options, Tier, host_isa};
use crate::layout::{JitFrame, SCRATCH_FRAME, jump_tag};
use crate::member::Member;
use crate::platform::{CodeMapping, Fetches};
use crate::stats::Stats;
use crate::table::Table;
use crate::tb::{HOT_NEVER, HOT_QUEUED, Tb, default_fp};
use crate::thunks;
use crate::trace::Trace;
use crate::worker::Workers;
use crate::written::Written;

/// Which tiers run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TierPolicy {
    /// Hot blocks are compiled in the background.
    #[default]
    Auto,
    /// Tier 0 only.
    Zero,
    /// Everything is compiled for tier 1 when it is first executed (tests).
    One,
    /// Likewise for tier 2.
    Two,
}

/// How the engine is set up. Nothing here can be seen by the guest.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Tiers.
    pub tier: TierPolicy,
    /// Instructions that a block executes in tier 0 before it is compiled, where coming from generated code and going back there counts
    /// as [`CROSSING`]. By default as many as measurements asked for: compiling takes as long as tier 0 takes for some thousand
    /// instructions where tier 1 has a quick back end, ten times as long elsewhere; but code that stays in tier 0 also keeps its
    /// neighbours from leading to one another.
    pub hot_threshold: u32,
    /// Samples (one each [`SAMPLE`] instructions, or when the slice of then ends) that find a block in tier 1 until it is compiled for tier 2.
    pub tier2_samples: u8,
    /// As many for blocks without floating-point arithmetic where tier 1 has a quick back end: tier 2 gains less over that than
    /// Cranelift's time costs, but in programs that run long. Four times as many as the others was measured 3 to 4 % faster.
    pub tier2_samples_quick: u8,
    /// Size of the code cache.
    pub code_cache_bytes: usize,
    /// Blocks that are kept, of all vCPUs together, with code or without: about 880 bytes of host memory each.
    pub blocks: usize,
    /// Compile threads.
    pub workers: usize,
    /// Let Cranelift optimise.
    pub optimise: bool,
    /// The vCPUs of the machine run on threads of their own, at the same time: generated code keeps the order and atomicity of their accesses (see `compile::order`).
    pub parallel: bool,
    /// Let Cranelift check what it is given (tests).
    pub verify: bool,
    /// How generated code is written to memory.
    pub mapping: CodeMapping,
    /// Write `/tmp/perf-PID.map` for Linux perf: one symbol for each block, named after its RIP.
    pub perf_map: bool,
    /// What is logged.
    pub trace: Trace,
}

/// Instructions between two samples of where time goes.
pub const SAMPLE: u64 = 100_000;

/// Blocks that tier 0 runs, and ways from it into generated code, before the dispatcher looks around.
const RUN: u64 = 64;

/// What coming from generated code to a block without counts for its heat, in instructions: the way there and back.
const CROSSING: u32 = 10;

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            tier: TierPolicy::Auto,
            hot_threshold: if Compiler::is_quick_here() { 200 } else { 1200 },
            tier2_samples: 4,
            tier2_samples_quick: 16,
            code_cache_bytes: 64 << 20,
            blocks: 1 << 18,
            workers: 1,
            optimise: false,
            parallel: false,
            verify: cfg!(debug_assertions),
            mapping: CodeMapping::Auto,
            perf_map: false,
            trace: Trace::default(),
        }
    }
}

/// What [`Engine::measure_compiler`] found.
#[derive(Clone, Copy, Debug, Default)]
pub struct CompileCost {
    /// Blocks compiled.
    pub blocks: u64,
    /// Guest instructions in them.
    pub instructions: u64,
    /// Bytes of host code.
    pub code_bytes: u64,
    /// Host time.
    pub time: std::time::Duration,
}

/// Why [`Engine::run`] came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The instruction count is reached.
    Deadline,
    /// HLT: nothing to do until an interrupt.
    Halted,
    /// An instruction touched a device or what interrupts depend on: bring devices up to date and call again.
    Event,
    /// Triple fault.
    Shutdown,
    /// The machine cannot go on; one line says why.
    Report(Box<str>),
}

/// See the module.
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: EngineConfig,
    pub(crate) shared: Arc<Shared>,
    /// This vCPU's jump cache, and its frame for generated code.
    pub(crate) me: Arc<Member>,
    /// What its thread's instruction fetch has caught up with.
    fetches: Fetches,
    pub(crate) stats: Stats,
    /// The instruction count at the last fault, and how many faults before it there were at the same.
    faults: (u64, u32),
    /// The instruction count at the last sample of where time goes.
    sampled: u64,
}

/// What the engines of a machine have in common. Locks are taken in the order of the fields.
#[derive(Debug)]
pub(crate) struct Shared {
    written: Written,
    pub(crate) native: Option<Native>,
    pub(crate) table: Table,
    perf_map: Mutex<Option<std::fs::File>>,
    space: Arc<AddressSpace>,
}

/// What tier 1 needs.
#[derive(Debug)]
pub(crate) struct Native {
    /// Code cannot be written while other code runs.
    only_alone: bool,
    cache: Mutex<CodeCache>,
    compiler: Mutex<Compiler>,
    workers: Option<Workers>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.me.go_offline();
        self.shared.table.part(&self.me);
    }
}

impl Engine {
    /// The engine of a machine's first vCPU. If the host gives no executable memory, everything runs in tier 0.
    pub fn new(config: EngineConfig, space: Arc<AddressSpace>) -> Self {
        let stub = thunks::exit_stub as *const () as *const u8;
        let native = match config.tier {
            TierPolicy::Zero => None,
            _ => match Native::new(&config, stub) {
                Ok(n) => Some(n),
                Err(why) => {
                    tracing::warn!("no generated code on this host ({why}): everything is interpreted");
                    None
                }
            },
        };
        let table = Table::new(native.as_ref().map(|n| lock(&n.cache).memory()), config.blocks);
        let perf_map = Mutex::new(config.perf_map.then(open_perf_map).flatten());
        let shared = Shared { written: Written::default(), native, table, perf_map, space };
        Self::with(config, Arc::new(shared))
    }

    /// The engine of another vCPU of the same machine.
    pub fn another(&self) -> Self {
        if self.config.parallel && self.shared.native.as_ref().is_some_and(|n| n.only_alone) {
            tracing::warn!("this host cannot write code while other vCPUs run: everything is interpreted");
        }
        Self::with(self.config.clone(), Arc::clone(&self.shared))
    }

    fn with(config: EngineConfig, shared: Arc<Shared>) -> Self {
        let me = shared.table.join();
        let (fetches, stats) = (Fetches::default(), Stats::default());
        Self { config, shared, me, fetches, stats, faults: (0, 0), sampled: 0 }
    }

    /// The owner's part of the frame.
    fn head(&self) -> &JitFrame {
        // SAFETY: only the thread that has this engine uses it, and no generated code runs meanwhile.
        unsafe { &*self.me.head() }
    }

    /// This vCPU's counters; blocks are the machine's.
    pub fn stats(&self) -> Stats {
        let f = self.head();
        Stats {
            blocks: self.shared.table.len() as u64,
            swept: self.shared.table.swept(),
            slow_loads: f.slow_loads,
            slow_stores: f.slow_stores,
            redos: f.redos,
            stopped: f.stopped,
            samples: f.samples,
            ..self.stats
        }
    }

    pub(crate) fn space(&self) -> &AddressSpace {
        &self.shared.space
    }

    /// Host code of all compiled blocks as text, in the order of their addresses: Cranelift's input and its output.
    pub fn dump_blocks(&self) -> Vec<String> {
        let Some(native) = &self.shared.native else { return Vec::new() };
        let blocks = self.shared.table.compiled();
        let mut compiler = lock(&native.compiler);
        blocks
            .iter()
            .map(|tb| match compiler.dump(tb, tb.compiled_for()) {
                Ok((ir, code)) => format!("block {:#x}: {:?}\n{ir}\n{code}", tb.key.rip, tb.block.insns),
                Err(why) => format!("block {:#x}: {why}", tb.key.rip),
            })
            .collect()
    }

    /// Compiles every compiled block once more and throws the code away: what the compiler costs on this guest's code.
    pub fn measure_compiler(&self) -> CompileCost {
        let stub = thunks::exit_stub as *const () as *const u8;
        let options = Options { verify: false, ..self.config.options() };
        let mut cost = CompileCost::default();
        let Ok(isa) = host_isa(options) else { return cost };
        let mut compiler = Compiler::new(isa, options, stub);
        let start = std::time::Instant::now();
        for tb in self.shared.table.compiled() {
            if let Ok(code) = compiler.compile(&tb, tb.compiled_for()) {
                cost.blocks += 1;
                cost.instructions += u64::from(tb.block.count);
                cost.code_bytes += code.bytes.len() as u64;
            }
        }
        cost.time = start.elapsed();
        cost
    }

    /// Drops all translations: memory was replaced as a whole (a snapshot was restored). No vCPU of the machine runs.
    pub fn forget_all(&mut self) {
        let Shared { written, table, space, .. } = &*self.shared;
        table.clear(space);
        table.reclaim();
        written.clear(space);
    }

    /// Runs `cpu` until its instruction count is `until`, or something needs the machine's attention.
    pub fn run(&mut self, cpu: &mut Vcpu, until: u64) -> Exit {
        cpu.until = until;
        cpu.parallel = self.config.parallel;
        if !Self::next_slice(cpu, until) {
            cpu.st.icount_end = cpu.st.icount();
            cpu.st.budget = 0;
        }
        cpu.st.scratch[SCRATCH_FRAME] = self.me.head() as u64;
        self.me.come_online(self.shared.table.clock(), !self.config.parallel);
        let exit = if self.config.trace.each_block() {
            self.traced_rounds(cpu, until)
        } else {
            self.rounds(cpu, until)
        };
        self.me.go_offline();
        cpu.st.scratch = [0; 4];
        exit
    }

    fn rounds(&mut self, cpu: &mut Vcpu, until: u64) -> Exit {
        if let Some(exit) = self.poll(cpu) {
            return exit;
        }
        loop {
            if let Some(exit) = self.round(cpu, until) {
                return exit;
            }
        }
    }

    #[inline(always)]
    pub(crate) fn round(&mut self, cpu: &mut Vcpu, until: u64) -> Option<Exit> {
        self.stats.dispatches += 1;
        if cpu.st.stop != stop::NONE {
            return self.stopped(cpu, until);
        }
        self.safepoint(cpu);
        if cpu.st.budget <= 0 && !Self::next_slice(cpu, until) {
            return Some(Exit::Deadline);
        }
        if sys::runs_alone(&cpu.st) {
            return self.step(cpu);
        }
        let tb = self.find(cpu)?;
        // SAFETY: blocks live until the next safepoint at least.
        let tb = unsafe { &*tb };
        if i64::from(tb.block.count) > cpu.st.budget {
            let now = cpu.st.icount();
            if now.wrapping_sub(self.sampled) >= SAMPLE {
                self.sampled = now;
                self.sample(tb);
            }
            if cpu.st.icount_end >= until.min(cpu.until) || !Self::next_slice(cpu, until) {
                self.run_singly(cpu, tb);
            }
            return None;
        }
        self.go_on(cpu, tb);
        None
    }

    /// Runs `tb` and the blocks after it, each in the best tier that it has, with nothing of the dispatcher in between. Whatever needs the
    /// dispatcher has set `stop`, or leaves no next block.
    fn go_on(&mut self, cpu: &mut Vcpu, mut tb: &Tb) {
        let mut left = RUN;
        loop {
            let code = tb.code();
            let next = if !code.is_null() && (!tb.floats || default_fp(cpu.st.mxcsr)) {
                left -= 1;
                self.enter(cpu, code)
            } else {
                self.interpret(cpu, tb, &mut left)
            };
            let Some(next) = next else { return };
            if left == 0 || i64::from(next.block.count) > cpu.st.budget {
                return;
            }
            tb = next;
        }
    }

    /// Runs `tb` in tier 0, and then those after it that the jump cache knows, as linked generated code would: to one that has code,
    /// which is returned.
    fn interpret<'t>(&mut self, cpu: &mut Vcpu, mut tb: &'t Tb, left: &mut u64) -> Option<&'t Tb> {
        let epoch = cpu.mmu.epoch();
        let tag = jump_tag(epoch, cpu.st.mode);
        let me = Arc::as_ptr(&self.me);
        let before = *left;
        let next = loop {
            tb.prefetch_next();
            self.warm(tb, tb.block.count);
            *left -= 1;
            if interp::run_block(cpu, &tb.block) == Outcome::Stopped || *left == 0 || !tb.plain {
                break None;
            }
            // An access that meets another vCPU's update of the memory map waits for its end, and knows the new map then.
            if cpu.mmu.epoch() != epoch {
                break None;
            }
            debug_assert_eq!(tag, jump_tag(epoch, cpu.st.mode), "a plain block changes no mode");
            let rip = cpu.st.rip;
            // SAFETY: the engine keeps its vCPU's record for as long as it lives.
            let next = unsafe { &*me }.jump(rip);
            if next.rip.load(Ordering::Relaxed) != rip || next.tag.load(Ordering::Relaxed) != tag {
                break None;
            }
            // SAFETY: blocks that the jump cache had after the last safepoint are alive until the next one.
            let Some(following) = (unsafe { next.tb.load(Ordering::Relaxed).as_ref() }) else { break None };
            tb.note_next(next, following);
            tb = following;
            if i64::from(tb.block.count) > cpu.st.budget || !tb.code().is_null() {
                break Some(tb);
            }
        };
        self.stats.tier0_blocks += before - *left;
        next
    }

    /// Delivers what is pending; tells whether there is nothing to run.
    pub(crate) fn poll(&mut self, cpu: &mut Vcpu) -> Option<Exit> {
        if sys::poll_events(cpu).is_err() {
            return Some(Exit::Shutdown);
        }
        cpu.st.halted.then_some(Exit::Halted)
    }

    /// Looks at `st.stop`.
    fn stopped(&mut self, cpu: &mut Vcpu, until: u64) -> Option<Exit> {
        match std::mem::replace(&mut cpu.st.stop, stop::NONE) {
            stop::FAULT => {
                self.count_fault(cpu);
                sys::deliver_fault(cpu).is_err().then_some(Exit::Shutdown)
            }
            stop::SHUTDOWN => Some(Exit::Shutdown),
            stop::EVENT => Some(Exit::Event),
            stop::SHORT => None,
            stop::AFTER => Some(if cpu.st.halted { Exit::Halted } else { Exit::Event }),
            stop::REDO => {
                self.safepoint(cpu);
                if cpu.st.budget <= 0 && !Self::next_slice(cpu, until) {
                    return Some(Exit::Deadline);
                }
                self.step(cpu)
            }
            _ => {
                let text = cpu.report.take().unwrap_or_else(|| "stopped for an unknown reason".into());
                Some(Exit::Report(text))
            }
        }
    }

    /// Faults whose handlers fault at once retire no instruction, and would never let go: from the hundredth on each of
    /// them counts as one.
    #[cold]
    fn count_fault(&mut self, cpu: &mut Vcpu) {
        const FREE: u32 = 100;
        let now = cpu.st.icount();
        let (at, count) = self.faults;
        self.faults = (now, if at == now { count + 1 } else { 0 });
        if self.faults.1 >= FREE {
            cpu.st.budget -= 1;
            self.faults.0 = cpu.st.icount();
        }
    }

    /// Executes one instruction alone, with everything that belongs between two instructions.
    fn step(&mut self, cpu: &mut Vcpu) -> Option<Exit> {
        if sys::code_breakpoint(cpu) {
            return None;
        }
        let tb = self.find(cpu)?;
        // SAFETY: blocks live until the next safepoint at least.
        let insn = unsafe { &(&(*tb).block.insns)[0] };
        self.step_insn(cpu, insn)
    }

    pub(crate) fn step_insn(&mut self, cpu: &mut Vcpu, insn: &Insn) -> Option<Exit> {
        self.stats.singles += 1;
        let shadow = cpu.st.shadow;
        match sys::run_alone(cpu, insn) {
            Err(sys::Shutdown) => return Some(Exit::Shutdown),
            Ok(false) => return None,
            Ok(true) => {}
        }
        if cpu.st.stop == stop::NONE && shadow != Shadow::None {
            return self.poll(cpu);
        }
        None
    }

    /// Executes instructions of a block one by one until the budget is used up.
    fn run_singly(&mut self, cpu: &mut Vcpu, tb: &Tb) {
        for insn in tb.block.counted() {
            if cpu.st.budget <= 0 {
                break;
            }
            self.stats.singles += 1;
            if interp::run_single(cpu, insn) == Outcome::Stopped || insn.ends {
                break;
            }
        }
        // A block without a branch at its end: RIP is exact after every single instruction.
    }

    /// Runs generated code until it comes to a block without, or to one that it does not know: that one is returned, unless something
    /// needs the dispatcher. The exit that led there is linked.
    fn enter<'t>(&mut self, cpu: &mut Vcpu, code: *const u8) -> Option<&'t Tb> {
        let frame = self.me.head();
        // SAFETY: the frame is this vCPU's, and generated code does not run yet.
        unsafe {
            (*frame).link = std::ptr::null();
            (*frame).tag = jump_tag(cpu.mmu.epoch(), cpu.st.mode);
        }
        if self.config.parallel {
            let table = &self.shared.table;
            self.fetches.catch_up([table.published(), table.clock()]);
        }
        thunks::guest_flags::give(cpu);
        // SAFETY: `code` belongs to a block that was alive at the last safepoint; the frame's address is in `scratch`.
        unsafe { thunks::enter(cpu, code, frame) };
        thunks::guest_flags::take(cpu);
        if cpu.st.stop != stop::NONE {
            return None;
        }
        // SAFETY: blocks live until the next safepoint at least.
        let tb: &Tb = unsafe { &*self.find(cpu)? };
        if tb.code().is_null() {
            tb.prefetch();
            self.warm(tb, CROSSING);
            return Some(tb);
        }
        // SAFETY: the block that was left was alive at the last safepoint, and so were its links: until the next one.
        let Some(link) = (unsafe { (*frame).link.as_ref() }) else { return Some(tb) };
        if link.rip != tb.key.rip {
            return Some(tb);
        }
        if std::ptr::eq(link.to.load(Ordering::Relaxed), tb) {
            // Made in an earlier epoch, and right again.
            link.epoch.store(cpu.mmu.epoch(), Ordering::Relaxed);
        } else {
            self.stats.links += 1;
            self.shared.table.link(link, tb, cpu.mmu.epoch());
        }
        Some(tb)
    }

    /// Counts an execution in tier 0 and compiles the block when it is time.
    #[inline(always)]
    fn warm(&mut self, tb: &Tb, by: u32) {
        let heat = tb.heat.load(Ordering::Relaxed);
        if heat >= HOT_QUEUED {
            return;
        }
        let heat = heat + by;
        tb.heat.store(heat, Ordering::Relaxed);
        if heat >= self.config.hot_threshold {
            self.compile_soon(tb);
        }
    }

    /// A worker is to compile the block.
    #[cold]
    #[inline(never)]
    fn compile_soon(&mut self, tb: &Tb) {
        let Some(native) = &self.shared.native else {
            tb.heat.store(HOT_NEVER, Ordering::Relaxed);
            return;
        };
        let Some(workers) = &native.workers else { return };
        if tb.heat.swap(HOT_QUEUED, Ordering::Relaxed) >= HOT_QUEUED {
            // Another vCPU was quicker.
        } else if !workers.submit((self.shared.table.share(tb), Tier::One)) {
            tb.heat.store(self.config.hot_threshold / 2, Ordering::Relaxed);
        }
    }

    /// The budget of a slice is used up, and `tb` is next: a sample of where time goes. Compiles for tier 2 what is found often.
    #[cold]
    fn sample(&mut self, tb: &Tb) {
        if tb.tier.load(Ordering::Relaxed) != Tier::One as u8 || tb.code().is_null() {
            return;
        }
        let seen = tb.samples.load(Ordering::Relaxed).saturating_add(1);
        tb.samples.store(seen, Ordering::Relaxed);
        let workers = self.shared.workers();
        let quick = Compiler::is_quick_here() && !tb.floats;
        if seen == if quick { self.config.tier2_samples_quick } else { self.config.tier2_samples }
            && workers.is_some_and(|w| !w.submit((self.shared.table.share(tb), Tier::Two)))
        {
            // Too many wait already: again at the next sample.
            tb.samples.store(seen - 1, Ordering::Relaxed);
        }
    }

    /// Gives the vCPU the next slice of its way to `until` and `cpu.until`. `false`: it is at one of them.
    fn next_slice(cpu: &mut Vcpu, until: u64) -> bool {
        let (now, until) = (cpu.st.icount(), until.min(cpu.until));
        if now >= until {
            return false;
        }
        let budget = (until - now).min(SAMPLE);
        cpu.st.budget = budget as i64;
        cpu.st.icount_end = now.wrapping_add(budget);
        true
    }

    /// Compiles a block now.
    pub(crate) fn compile_now(&mut self, tb: &Tb) {
        let Some(native) = &self.shared.native else { return };
        if native.workers.is_some() || tb.heat.load(Ordering::Relaxed) == HOT_NEVER {
            return;
        }
        let tier = if self.config.tier == TierPolicy::Two { Tier::Two } else { Tier::One };
        let code = lock(&native.compiler).compile(tb, tier);
        let tb = self.shared.table.share(tb);
        self.install((tb, code));
    }

    /// Puts a compiled block in its place.
    fn install(&mut self, (tb, code): crate::worker::Done) {
        let shared = Arc::clone(&self.shared);
        let Some(native) = &shared.native else { return };
        if self.config.parallel && native.only_alone && shared.table.has_several_vcpus() {
            tb.heat.store(HOT_NEVER, Ordering::Relaxed);
            return;
        }
        let mut cache = lock(&native.cache);
        let superseded = |c: &Code| (c.tier as u8) <= tb.tier.load(Ordering::Relaxed) && !tb.code().is_null();
        if tb.dead.load(Ordering::Acquire) || code.as_ref().is_ok_and(superseded) {
            self.stats.compile_stale += 1;
            return;
        }
        let code = match code {
            Ok(c) => c,
            Err(why) => {
                self.stats.compile_failed += 1;
                tracing::warn!(rip = tb.key.rip, "a block stays in tier 0: {why}");
                tb.heat.store(HOT_NEVER, Ordering::Relaxed);
                return;
            }
        };
        let mut place = || {
            let evicted = |old: &Tb| {
                self.stats.evicted += 1;
                old.heat.store(0, Ordering::Relaxed);
                old.samples.store(0, Ordering::Relaxed);
            };
            cache.install(&shared.table, &tb, &code.bytes, code.jumps.iter().map(|j| j.site), evicted)
        };
        let mut placed = place();
        if !self.config.parallel && matches!(placed, Err(NoPlace::InUse)) {
            // Nobody runs but this vCPU, which is here.
            self.me.pass(shared.table.clock());
            placed = place();
        }
        let at = match placed {
            Ok(at) => at,
            Err(NoPlace::InUse) => {
                // It is asked for again if it stays hot.
                tb.heat.store(self.config.hot_threshold / 2, Ordering::Relaxed);
                tb.samples.store(0, Ordering::Relaxed);
                return;
            }
            Err(NoPlace::Host(why)) => {
                tracing::warn!("generated code cannot be placed: {why}");
                tb.heat.store(HOT_NEVER, Ordering::Relaxed);
                return;
            }
        };
        if self.config.trace.code() {
            self.config.trace.show_code(&mut lock(&native.compiler), &tb, &code);
        }
        let (bytes, tier) = (code.bytes.len(), code.tier);
        if !shared.table.give_code(&tb, at, code) {
            self.stats.compile_stale += 1;
            return;
        }
        self.stats.compiled += 1;
        self.stats.code_bytes += bytes as u64;
        self.stats.compiled_tier2 += u64::from(tier == Tier::Two);
        if let Some(map) = &mut *lock(&shared.perf_map) {
            // A profile with gaps is better than a machine that stops for it.
            let _ = writeln!(map, "{:x} {bytes:x} guest-{:#x}", at as usize, tb.key.rip);
        }
    }

    /// Between blocks: nothing is held by address, no generated code of this vCPU runs.
    #[inline]
    pub(crate) fn safepoint(&mut self, cpu: &mut Vcpu) {
        cpu.mmu.safepoint();
        self.me.pass(self.shared.table.clock());
        // Before the next line, which waits for whoever has taken what this vCPU wrote out of the queue.
        cpu.mmu.forget_written_code();
        if self.shared.written.pending(&self.shared.space) {
            self.drop_written();
        }
        if self.shared.workers().is_some_and(Workers::ready) {
            self.pick_up();
        }
    }

    #[cold]
    fn pick_up(&mut self) {
        while let Some(done) = self.shared.workers().and_then(Workers::take) {
            self.install(done);
        }
        self.me.pass(self.shared.table.clock());
        self.shared.table.reclaim();
    }

    /// Removes the blocks that were written to. When it returns, none is left whose writing this vCPU has seen: if another one is at
    /// it, this one waits.
    #[cold]
    fn drop_written(&mut self) {
        let Shared { written, table, space, .. } = &*self.shared;
        written.drop_blocks(table, space, |_| self.stats.invalidated += 1);
        self.me.pass(table.clock());
        table.reclaim();
    }
}

impl Shared {
    fn workers(&self) -> Option<&Workers> {
        self.native.as_ref()?.workers.as_ref()
    }
}

impl EngineConfig {
    fn options(&self) -> Options {
        Options { optimise: self.optimise, parallel: self.parallel, verify: self.verify }
    }
}

impl Native {
    fn new(config: &EngineConfig, stub: *const u8) -> Result<Self, String> {
        let cache = CodeCache::new(config.code_cache_bytes, config.mapping).map_err(|e| e.to_string())?;
        let only_alone = !cache.is_dual();
        let options = config.options();
        let isa = host_isa(options)?;
        let compiler = || Compiler::new(Arc::clone(&isa), options, stub);
        let workers = (config.tier == TierPolicy::Auto)
            .then(|| Workers::new((0..config.workers.max(1)).map(|_| compiler()).collect()));
        Ok(Self { only_alone, cache: Mutex::new(cache), compiler: Mutex::new(compiler()), workers })
    }
}

fn open_perf_map() -> Option<std::fs::File> {
    let path = format!("/tmp/perf-{}.map", std::process::id());
    std::fs::File::create(&path).inspect_err(|e| tracing::warn!("{path}: {e}")).ok()
}
