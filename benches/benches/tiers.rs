//! Guest instructions per second of warm loops in each tier: tier 0 against tier 1, loop by loop. Elements are guest
//! instructions; `benches::programs` says what each loop is made of.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jit::TierPolicy;

use benches::programs::LOOPS;
use benches::{Rig, settings};

/// Instructions per measurement: enough that entering the engine does not count.
const INSTRUCTIONS: u64 = 100_000;

fn tiers(c: &mut Criterion) {
    for program in LOOPS {
        let mut group = c.benchmark_group(program.name);
        group.throughput(Throughput::Elements(INSTRUCTIONS));
        for (tier, policy) in [("tier 0", TierPolicy::Zero), ("tier 1", TierPolicy::One)] {
            let mut rig = Rig::running(policy, &program.bytes());
            group.bench_function(tier, |b| b.iter(|| rig.run(INSTRUCTIONS)));
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = settings();
    targets = tiers
}
criterion_main!(benches);
