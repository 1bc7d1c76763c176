//! What the benchmarks share: a bare processor ([`Rig`]) and the guest loops it runs ([`programs`]).
//!
//! `cargo bench -p benches` measures everything; a word after `--` selects by name, `--bench tlb` one file, and
//! `-- --test` runs each benchmark once, to see that it still works. Figures of two revisions are comparable only
//! when taken on the same idle machine, one right after the other (`--save-baseline`, `--baseline`).

pub mod programs;
pub mod rig;

use std::time::Duration;

use criterion::Criterion;

pub use rig::Rig;

/// Criterion with times that let the whole collection pass in a few minutes. Options on the command line win.
pub fn settings() -> Criterion {
    Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(40)
}
