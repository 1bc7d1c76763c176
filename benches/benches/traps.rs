//! What leaves generated code: device accesses (memory and ports), and switches of the address space. The device does
//! nothing, so these are the costs of the way there and back; a counter is read without leaving anything. Tier 0 is what they are to be held against: it need not
//! leave anything. Elements are accesses and switches.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jit::TierPolicy;

use benches::rig::{COUNTER, COUNTER_PORT, SMALL};
use benches::{Rig, programs};

const TIERS: [(&str, TierPolicy); 2] = [("tier 0", TierPolicy::Zero), ("tier 1", TierPolicy::One)];

fn devices(c: &mut Criterion) {
    const READS: u64 = 1000;
    let programs = [
        ("MMIO read", programs::read_device_memory(COUNTER + 8)),
        ("MMIO read of a counter", programs::read_device_memory(COUNTER)),
        ("port read", programs::read_port(COUNTER_PORT + 8)),
        ("port read of a counter", programs::read_port(COUNTER_PORT)),
    ];
    for (name, code) in programs {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(READS));
        for (tier, policy) in TIERS {
            let mut rig = Rig::running(policy, &code);
            group.bench_function(tier, |b| b.iter(|| rig.run(READS * programs::DEVICE_LENGTH)));
        }
        group.finish();
    }
}

/// MOV CR3, then a read in each of some pages that are not global. The code's own page is, as a kernel's is.
fn context_switches(c: &mut Criterion) {
    const SWITCHES: u64 = 1000;
    let mut group = c.benchmark_group("context switch");
    group.throughput(Throughput::Elements(SWITCHES));
    for pages in [0, 8, 64] {
        let code = programs::switch(SMALL, pages);
        for (tier, policy) in TIERS {
            let mut rig = Rig::running(policy, &code);
            let instructions = SWITCHES / 2 * programs::switch_length(pages);
            group.bench_function(format!("{pages} pages, {tier}"), |b| b.iter(|| rig.run(instructions)));
        }
    }
    group.finish();
}

criterion_group! {
    name = traps;
    config = benches::settings();
    targets = devices, context_switches
}
criterion_main!(traps);
