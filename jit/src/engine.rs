//! The execution engine: decides which tier runs what, and handles everything that ends a block early.
//!
//! One round of the dispatcher: bring translations up to date (a safepoint), find the block at RIP, run it in the best tier
//! that it has, look at why it came back. Between rounds RIP, the budget and all registers are exact, whatever the tier.
//!
//! Several vCPUs that take turns on one thread share one engine: blocks, generated code and its direct jumps are the machine's,
//! so that a store into code, whoever makes it, ends what all of them would execute. What is valid in one vCPU's translation
//! epoch only (jump caches, the epochs in links and in blocks over two pages) cannot be taken for another's, since no two
//! vCPUs of a machine have the same epochs. Each has a jump cache of its own: in a common one, kernels would drive each other out
//! at each turn. What is left for vCPUs that run in parallel: the table is locked for changes already and read without a lock, but
//! removed blocks are freed, and jumps replaced, in the belief that no other vCPU is in generated code.

#![expect(unsafe_code, reason = "enters generated code, and holds blocks by address between safepoints")]

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use softmmu::{AddressSpace, CodeWrite};
use x86::insn::Insn;
use x86::interp::{self, Outcome};
use x86::state::{Shadow, stop};
use x86::{Vcpu, sys};

use crate::code::CodeCache;
use crate::compile::{Code, Compiler, Options, Tier, host_isa};
use crate::layout::{JUMP_BITS, JitFrame, Jump, Link, SCRATCH_FRAME, jump_index, jump_tag};
use crate::platform::CodeMapping;
use crate::stats::Stats;
use crate::table::Table;
use crate::tb::{Entered, HOT_NEVER, HOT_QUEUED, Tb, default_fp};
use crate::thunks;
use crate::trace::Trace;
use crate::worker::Workers;

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
    /// Instructions that a block executes in tier 0 before it is compiled. Compiling takes as long as tier 0 takes for some
    /// ten thousand instructions; the break-even lies where both have cost the same.
    pub hot_threshold: u32,
    /// Samples (one each [`SAMPLE`] instructions) that find a block in tier 1 until it is compiled for tier 2.
    pub tier2_samples: u8,
    /// Size of the code cache.
    pub code_cache_bytes: usize,
    /// Compile threads.
    pub workers: usize,
    /// Let Cranelift optimise.
    pub optimise: bool,
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

/// Blocks that tier 0 runs before the dispatcher looks around.
const RUN: u64 = 64;

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            tier: TierPolicy::Auto,
            hot_threshold: 1000,
            tier2_samples: 4,
            code_cache_bytes: 64 << 20,
            workers: 1,
            optimise: false,
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
    pub(crate) table: Table,
    /// The frame of the vCPU whose turn it is.
    pub(crate) frame: Box<JitFrame>,
    /// Those of the others, by their numbers; `None` for the one whose turn it is, and where there was no turn yet.
    parked: Vec<Option<Box<JitFrame>>>,
    /// Whose turn it is.
    current: usize,
    pub(crate) stats: Stats,
    native: Option<Native>,
    perf_map: Option<std::fs::File>,
    writes: Vec<CodeWrite>,
    space: Arc<AddressSpace>,
    /// The instruction count at the last fault, and how many faults before it there were at the same.
    faults: (u64, u32),
}

/// What tier 1 needs.
#[derive(Debug)]
struct Native {
    cache: CodeCache,
    compiler: Compiler,
    workers: Option<Workers>,
}

// SAFETY: the raw pointers in the frame lead to blocks of `table` and code of `native`, which move with it.
unsafe impl Send for Engine {}

impl Engine {
    /// An engine for the vCPUs of a machine with this memory, one at a time. If the host gives no executable memory, everything runs in
    /// tier 0.
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
        let table = Table::new(native.as_ref().map(|n| n.cache.memory()));
        let perf_map = config.perf_map.then(open_perf_map).flatten();
        let (stats, writes) = (Stats::default(), Vec::new());
        Self {
            config,
            table,
            frame: new_frame(),
            parked: Vec::new(),
            current: 0,
            stats,
            native,
            perf_map,
            writes,
            space,
            faults: (0, 0),
        }
    }

    /// From now on [`Engine::run`] is given vCPU number `vcpu` of the machine (0 at first).
    pub fn turn_to(&mut self, vcpu: usize) {
        let most = vcpu.max(self.current);
        if self.parked.len() <= most {
            self.parked.resize_with(most + 1, || None);
        }
        if vcpu != self.current {
            let next = self.parked[vcpu].take().unwrap_or_else(new_frame);
            self.parked[self.current] = Some(std::mem::replace(&mut self.frame, next));
            self.current = vcpu;
        }
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let all = |count: fn(&JitFrame) -> u64| {
            let parked = self.parked.iter().flatten().map(|frame| count(frame));
            count(&self.frame) + parked.sum::<u64>()
        };
        Stats {
            blocks: self.table.len() as u64,
            slow_loads: all(|f| f.slow_loads),
            slow_stores: all(|f| f.slow_stores),
            redos: all(|f| f.redos),
            stopped: all(|f| f.stopped),
            samples: all(|f| f.samples),
            ..self.stats
        }
    }

    pub(crate) fn space(&self) -> &AddressSpace {
        &self.space
    }

    /// Host code of all compiled blocks as text, in the order of their addresses: Cranelift's input and its output.
    pub fn dump_blocks(&mut self) -> Vec<String> {
        let Some(native) = &mut self.native else { return Vec::new() };
        let blocks = self.table.compiled();
        blocks
            .iter()
            .map(|tb| match native.compiler.dump(tb, tb.compiled_for()) {
                Ok((ir, code)) => format!("block {:#x}: {:?}\n{ir}\n{code}", tb.key.rip, tb.block.insns),
                Err(why) => format!("block {:#x}: {why}", tb.key.rip),
            })
            .collect()
    }

    /// Compiles every compiled block once more and throws the code away: what the compiler costs on this guest's code.
    pub fn measure_compiler(&self) -> CompileCost {
        let stub = thunks::exit_stub as *const () as *const u8;
        let options = Options { optimise: self.config.optimise, parallel: false, verify: false };
        let mut cost = CompileCost::default();
        let Ok(isa) = host_isa(options) else { return cost };
        let mut compiler = Compiler::new(isa, options, stub);
        let start = std::time::Instant::now();
        for tb in self.table.compiled() {
            if let Ok(code) = compiler.compile(&tb, tb.compiled_for()) {
                cost.blocks += 1;
                cost.instructions += u64::from(tb.block.count);
                cost.code_bytes += code.bytes.len() as u64;
            }
        }
        cost.time = start.elapsed();
        cost
    }

    /// Drops all translations: memory was replaced as a whole (a snapshot was restored).
    pub fn forget_all(&mut self) {
        self.table.clear(&self.space);
        self.clear_jumps();
        self.table.reclaim();
        self.writes.clear();
        self.space.take_code_writes(&mut self.writes);
        self.writes.clear();
    }

    /// Runs `cpu` until its instruction count is `until`, or something needs the machine's attention.
    pub fn run(&mut self, cpu: &mut Vcpu, until: u64) -> Exit {
        cpu.until = until;
        if !Self::next_slice(cpu, until) {
            cpu.st.icount_end = cpu.st.icount();
            cpu.st.budget = 0;
        }
        cpu.st.scratch[SCRATCH_FRAME] = &raw mut *self.frame as u64;
        let exit = if self.config.trace.each_block() {
            self.traced_rounds(cpu, until)
        } else {
            self.rounds(cpu, until)
        };
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
            self.sample(tb);
            if cpu.st.icount_end >= until.min(cpu.until) || !Self::next_slice(cpu, until) {
                self.run_singly(cpu, tb);
            }
            return None;
        }
        let code = tb.code();
        if !code.is_null() && (!tb.floats || default_fp(cpu.st.mxcsr)) {
            self.claim(cpu, tb);
            self.enter(cpu, code);
            return None;
        }
        self.interpret(cpu, tb);
        None
    }

    /// Runs `tb` in tier 0, and then those after it that the jump cache knows, as linked generated code would: with nothing
    /// of the dispatcher in between. Whatever needs the dispatcher has set `stop`, which ends it.
    fn interpret(&mut self, cpu: &mut Vcpu, mut tb: &Tb) {
        let tag = jump_tag(cpu.mmu.epoch(), cpu.st.mode);
        let jumps = &raw const self.frame.jumps;
        let mut left = RUN;
        loop {
            self.warm(tb);
            left -= 1;
            if interp::run_block(cpu, &tb.block) == Outcome::Stopped || left == 0 || !tb.plain {
                break;
            }
            debug_assert_eq!(tag, jump_tag(cpu.mmu.epoch(), cpu.st.mode), "a plain block");
            let rip = cpu.st.rip;
            // SAFETY: the frame is the engine's, and nothing writes the cache while this runs.
            let next = unsafe { &(*jumps)[jump_index(rip)] };
            if next.rip != rip || next.tag != tag {
                break;
            }
            // SAFETY: entries of removed blocks are cleared at once; the others are alive until the next safepoint.
            tb = unsafe { &*next.tb };
            if i64::from(tb.block.count) > cpu.st.budget || !tb.code().is_null() {
                break;
            }
        }
        self.stats.tier0_blocks += RUN - left;
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

    /// `tb` was found for `cpu`, so that its pages are where they were in this epoch. A block over two pages knows one epoch only:
    /// where it is another vCPU's, its code would come back at once, for ever.
    #[inline]
    pub(crate) fn claim(&self, cpu: &Vcpu, tb: &Tb) {
        if !self.parked.is_empty() && tb.spans[1].is_some() {
            tb.epoch.store(cpu.mmu.epoch(), Ordering::Relaxed);
        }
    }

    /// Runs generated code.
    fn enter(&mut self, cpu: &mut Vcpu, code: *const u8) {
        self.frame.link = std::ptr::null();
        self.frame.tag = jump_tag(cpu.mmu.epoch(), cpu.st.mode);
        thunks::guest_flags::give(cpu);
        // SAFETY: `code` belongs to a live block; the frame's address is in `scratch`.
        unsafe { thunks::enter(cpu, code, &raw mut *self.frame) };
        thunks::guest_flags::take(cpu);
        let link = self.frame.link;
        if link.is_null() || cpu.st.stop != stop::NONE {
            return;
        }
        let Some(tb) = self.find(cpu) else { return };
        // SAFETY: the block that was just left is alive, and so are its links; blocks live until the next safepoint.
        let (link, tb): (&Link, &Tb) = unsafe { (&*link, &*tb) };
        if link.rip != tb.key.rip || tb.code().is_null() {
            return;
        }
        if std::ptr::eq(link.to.load(Ordering::Relaxed), tb) {
            // Made in an earlier epoch, and right again.
            link.epoch.store(cpu.mmu.epoch(), Ordering::Relaxed);
        } else {
            self.stats.links += 1;
            self.table.link(link, tb, cpu.mmu.epoch());
        }
    }

    /// Counts an execution in tier 0 and compiles the block when it is time.
    #[inline(always)]
    fn warm(&mut self, tb: &Tb) {
        let heat = tb.heat.load(Ordering::Relaxed);
        if heat >= HOT_QUEUED {
            return;
        }
        let heat = heat + tb.block.count;
        tb.heat.store(heat, Ordering::Relaxed);
        if heat >= self.config.hot_threshold {
            self.compile_soon(tb);
        }
    }

    /// A worker is to compile the block.
    #[cold]
    #[inline(never)]
    fn compile_soon(&mut self, tb: &Tb) {
        let Some(native) = &mut self.native else {
            tb.heat.store(HOT_NEVER, Ordering::Relaxed);
            return;
        };
        let Some(workers) = &native.workers else { return };
        if workers.submit((self.table.share(tb), Tier::One)) {
            tb.heat.store(HOT_QUEUED, Ordering::Relaxed);
        } else {
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
        let workers = self.native.as_ref().and_then(|n| n.workers.as_ref());
        if seen == self.config.tier2_samples
            && workers.is_some_and(|w| !w.submit((self.table.share(tb), Tier::Two)))
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
        let Some(native) = &mut self.native else { return };
        if native.workers.is_some() || tb.heat.load(Ordering::Relaxed) == HOT_NEVER {
            return;
        }
        let tier = if self.config.tier == TierPolicy::Two { Tier::Two } else { Tier::One };
        let code = native.compiler.compile(tb, tier);
        let tb = self.table.share(tb);
        self.install((tb, code));
    }

    /// Puts a compiled block in its place.
    fn install(&mut self, (tb, code): crate::worker::Done) {
        let Some(native) = &mut self.native else { return };
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
        let (table, frame, parked, stats) = (&self.table, &mut self.frame, &mut self.parked, &mut self.stats);
        let evict = |old: &Tb| {
            stats.evicted += 1;
            table.drop_code(old);
            old.heat.store(0, Ordering::Relaxed);
            old.samples.store(0, Ordering::Relaxed);
            forget_jumps(frame, parked, old);
        };
        match native.cache.install(&tb, &code.bytes, code.jumps.iter().map(|j| j.site), evict) {
            Ok(at) => {
                if self.config.trace.code() {
                    self.config.trace.show_code(&mut native.compiler, &tb, &code);
                }
                self.stats.compiled += 1;
                self.stats.code_bytes += code.bytes.len() as u64;
                if let Some(map) = &mut self.perf_map {
                    // A profile with gaps is better than a machine that stops for it.
                    let _ = writeln!(map, "{:x} {:x} guest-{:#x}", at as usize, code.bytes.len(), tb.key.rip);
                }
                table.drop_code(&tb);
                for j in &code.jumps {
                    let link = &code.links.0[j.link];
                    link.site.store(at as usize + j.site, Ordering::Relaxed);
                    link.exit.store(at as usize + j.exit, Ordering::Relaxed);
                }
                *tb.links.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = code.links;
                tb.tier.store(code.tier as u8, Ordering::Relaxed);
                tb.inner.store(code.inner as u8, Ordering::Relaxed);
                tb.code.store(at.cast_mut(), Ordering::Release);
                self.stats.compiled_tier2 += u64::from(code.tier == Tier::Two);
                forget_jumps(frame, parked, &tb);
            }
            Err(why) => {
                tracing::warn!("generated code cannot be placed: {why}");
                tb.heat.store(HOT_NEVER, Ordering::Relaxed);
            }
        }
    }

    /// Between blocks: nothing is held by address, no generated code runs.
    #[inline]
    pub(crate) fn safepoint(&mut self, cpu: &mut Vcpu) {
        cpu.mmu.safepoint();
        if self.space.code_writes_pending() {
            self.drop_written();
        }
        if self.native.as_ref().and_then(|n| n.workers.as_ref()).is_some_and(Workers::ready) {
            while let Some(done) =
                self.native.as_ref().and_then(|n| n.workers.as_ref()).and_then(Workers::take)
            {
                self.install(done);
            }
        }
    }

    #[cold]
    fn drop_written(&mut self) {
        let mut writes = std::mem::take(&mut self.writes);
        self.space.take_code_writes(&mut writes);
        let (frame, parked, stats) = (&mut self.frame, &mut self.parked, &mut self.stats);
        for w in writes.drain(..) {
            self.table.invalidate(&self.space, w, |tb| {
                stats.invalidated += 1;
                forget_jumps(frame, parked, tb);
            });
        }
        self.writes = writes;
        self.table.reclaim();
    }

    /// Removes a block that is alive but no longer right.
    pub(crate) fn discard(&mut self, tb: *const Tb) {
        // SAFETY: the caller has just found it in the table.
        let tb = unsafe { &*tb };
        forget_jumps(&mut self.frame, &mut self.parked, tb);
        self.table.discard(tb);
    }

    fn clear_jumps(&mut self) {
        self.frame = new_frame();
        self.parked.clear();
    }
}

impl Native {
    fn new(config: &EngineConfig, stub: *const u8) -> Result<Self, String> {
        let cache = CodeCache::new(config.code_cache_bytes, config.mapping).map_err(|e| e.to_string())?;
        let options = Options { optimise: config.optimise, parallel: false, verify: config.verify };
        let isa = host_isa(options)?;
        let compiler = || Compiler::new(Arc::clone(&isa), options, stub);
        let workers = (config.tier == TierPolicy::Auto)
            .then(|| Workers::new((0..config.workers.max(1)).map(|_| compiler()).collect()));
        Ok(Self { cache, compiler: compiler(), workers })
    }
}

fn open_perf_map() -> Option<std::fs::File> {
    let path = format!("/tmp/perf-{}.map", std::process::id());
    std::fs::File::create(&path).inspect_err(|e| tracing::warn!("{path}: {e}")).ok()
}

/// A frame with an empty jump cache. Entries must never match while empty: their tag is none.
fn new_frame() -> Box<JitFrame> {
    let stub = thunks::return_stub as *const () as *const u8;
    let empty = || Jump { rip: 0, tag: u64::MAX, code: stub, tb: std::ptr::null() };
    let jumps: Box<[Jump]> = (0..1 << JUMP_BITS).map(|_| empty()).collect();
    let layout = std::alloc::Layout::new::<JitFrame>();
    // SAFETY: the layout is not empty; all fields are integers and pointers, valid when zero, and the jump cache is
    // overwritten before the box is made.
    unsafe {
        let p = std::alloc::alloc_zeroed(layout).cast::<JitFrame>();
        if p.is_null() {
            std::alloc::handle_alloc_error(layout);
        }
        std::ptr::copy_nonoverlapping(jumps.as_ptr(), (&raw mut (*p).jumps).cast::<Jump>(), jumps.len());
        Box::from_raw(p)
    }
}

/// Takes a block out of every vCPU's jump cache.
fn forget_jumps(frame: &mut JitFrame, parked: &mut [Option<Box<JitFrame>>], tb: &Tb) {
    forget_jump(frame, tb);
    parked.iter_mut().flatten().for_each(|frame| forget_jump(frame, tb));
}

/// Takes a block out of a jump cache.
fn forget_jump(frame: &mut JitFrame, tb: &Tb) {
    let p = std::ptr::from_ref(tb);
    let clear = |j: &mut Jump| {
        if j.tb == p {
            j.tag = u64::MAX;
            j.tb = std::ptr::null();
        }
    };
    match tb.entered() {
        Entered::Nowhere => {}
        Entered::At(linear) => clear(&mut frame.jumps[jump_index(linear)]),
        Entered::Anywhere => frame.jumps.iter_mut().for_each(clear),
    }
}
