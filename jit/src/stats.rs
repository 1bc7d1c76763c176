//! Counters of the engine. None of them can be seen by the guest.

/// What the engine has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Blocks decoded.
    pub decoded: u64,
    /// Blocks in the table now.
    pub blocks: u64,
    /// Blocks removed to make room for others.
    pub swept: u64,
    /// Blocks compiled.
    pub compiled: u64,
    /// Those of them for tier 2.
    pub compiled_tier2: u64,
    /// Blocks that the compiler gave up on.
    pub compile_failed: u64,
    /// Compiled blocks that had become invalid before they were installed.
    pub compile_stale: u64,
    /// Bytes of host code produced.
    pub code_bytes: u64,
    /// Blocks whose code was evicted from the code cache.
    pub evicted: u64,
    /// Blocks removed because their bytes were written to.
    pub invalidated: u64,
    /// Rounds of the dispatcher.
    pub dispatches: u64,
    /// Blocks executed in tier 0.
    pub tier0_blocks: u64,
    /// Instructions executed alone.
    pub singles: u64,
    /// Look-ups that missed the jump cache.
    pub lookups: u64,
    /// Direct exits linked.
    pub links: u64,
    /// TLB slow paths of generated code: loads.
    pub slow_loads: u64,
    /// TLB slow paths of generated code: stores.
    pub slow_stores: u64,
    /// Generated code left to redo an instruction in tier 0.
    pub redos: u64,
    /// Generated code left because a handler stopped it.
    pub stopped: u64,
    /// Device memory read without leaving generated code, or taking a lock.
    pub samples: u64,
}

impl std::ops::AddAssign for Stats {
    /// Adds what another vCPU of the same machine has counted. Live blocks and swept ones are the machine's.
    fn add_assign(&mut self, other: Self) {
        self.decoded += other.decoded;
        self.compiled += other.compiled;
        self.compiled_tier2 += other.compiled_tier2;
        self.compile_failed += other.compile_failed;
        self.compile_stale += other.compile_stale;
        self.code_bytes += other.code_bytes;
        self.evicted += other.evicted;
        self.invalidated += other.invalidated;
        self.dispatches += other.dispatches;
        self.tier0_blocks += other.tier0_blocks;
        self.singles += other.singles;
        self.lookups += other.lookups;
        self.links += other.links;
        self.slow_loads += other.slow_loads;
        self.slow_stores += other.slow_stores;
        self.redos += other.redos;
        self.stopped += other.stopped;
        self.samples += other.samples;
    }
}

impl std::fmt::Display for Stats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            decoded,
            blocks,
            swept,
            compiled,
            compiled_tier2,
            compile_failed,
            compile_stale,
            code_bytes,
            evicted,
            invalidated,
            dispatches,
            tier0_blocks,
            singles,
            lookups,
            links,
            slow_loads,
            slow_stores,
            redos,
            stopped,
            samples,
        } = self;
        writeln!(f, "blocks: {decoded} decoded, {blocks} live, {invalidated} invalidated, {swept} swept")?;
        writeln!(
            f,
            "compiled: {compiled} blocks ({compiled_tier2} for tier 2), {code_bytes} bytes, {compile_failed} failed, {compile_stale} stale, {evicted} evicted"
        )?;
        writeln!(
            f,
            "dispatcher: {dispatches} rounds, {tier0_blocks} tier-0 blocks, {singles} single instructions, {lookups} look-ups, {links} links"
        )?;
        write!(
            f,
            "generated code: {slow_loads} slow loads, {slow_stores} slow stores, {redos} redos, {stopped} stops in handlers, {samples} device reads in blocks"
        )
    }
}
