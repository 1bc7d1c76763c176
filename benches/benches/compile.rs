//! What a block costs before it is fast. `compile` is Cranelift with what we give it, for the longest block of each
//! loop, with and without its optimiser; time is per block, elements are guest instructions. `first execution` is all
//! that happens to a block that was never seen: look-up, decoding, tracking of its bytes and, in tier 1, compilation and
//! installation, against nothing but its execution in `tiers`; elements are blocks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jit::TierPolicy;
use jit::compile::{Compiler, Options, Tier, host_isa};
use jit::tb::{Tb, lines};
use softmmu::{Gpa, RamPage};

use benches::programs::{CHAIN_LENGTH, LOOPS, chain};
use benches::rig::CODE;
use benches::{Rig, settings};

fn compile(c: &mut Criterion) {
    let mode = Rig::new(TierPolicy::Zero).cpu.st.mode;
    let mut group = c.benchmark_group("compile");
    for optimise in [false, true] {
        let options = Options { optimise, parallel: false, verify: false };
        let isa = match host_isa(options) {
            Ok(isa) => isa,
            Err(why) => {
                eprintln!("skipped compile: {why}");
                return;
            }
        };
        let mut compiler =
            Compiler::new(Arc::clone(&isa), options, jit::thunks::exit_stub as *const () as *const u8);
        for program in LOOPS {
            let blocks = program.blocks(mode);
            let block = blocks.into_iter().max_by_key(|block| block.count).expect("a program is not empty");
            group.throughput(Throughput::Elements(block.count.into()));
            let offset = block.ip & 0xfff;
            let span = (RamPage::containing(block.ip), lines(offset, offset + u64::from(block.len)));
            let ram = block.ip;
            let tb = Tb::new(block, ram, [Some(span), None]);
            for tier in [Tier::One, Tier::Two] {
                let name = format!("{}, {tier:?}{}", program.name, if optimise { ", optimised" } else { "" });
                group.bench_function(name, |b| {
                    b.iter(|| compiler.compile(&tb, tier).expect("the loops' instructions compile"))
                });
            }
        }
    }
    group.finish();
}

fn first_execution(c: &mut Criterion) {
    const BLOCKS: u64 = 64;
    let code = chain(BLOCKS);
    let mut group = c.benchmark_group("first execution");
    group.throughput(Throughput::Elements(BLOCKS));
    for (tier, policy) in [("tier 0", TierPolicy::Zero), ("tier 1", TierPolicy::One)] {
        let mut rig = Rig::new(policy);
        rig.space.write(Gpa(CODE), &code).expect("code lies in RAM");
        group.bench_function(tier, |b| {
            b.iter_custom(|times| {
                let mut total = Duration::ZERO;
                for _ in 0..times {
                    rig.engine.forget_all();
                    let start = Instant::now();
                    rig.run(BLOCKS * CHAIN_LENGTH);
                    total += start.elapsed();
                }
                total
            });
        });
        assert_eq!(rig.cpu.st.rip, CODE, "each measurement goes once round the chain");
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = settings();
    targets = compile, first_execution
}
criterion_main!(benches);
