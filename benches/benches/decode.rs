//! From bytes to predecoded blocks, against iced-x86 alone on the same bytes: the difference is the choice of handlers
//! and the making of records. Elements are instructions.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use iced_x86::{Decoder, DecoderOptions, Instruction};
use jit::TierPolicy;

use benches::programs::{LOOPS, chain, sweep};
use benches::rig::CODE;
use benches::{Rig, settings};

fn decode(c: &mut Criterion) {
    let mode = Rig::new(TierPolicy::Zero).cpu.st.mode;
    let texts = LOOPS.iter().map(|p| (p.name, p.bytes())).chain([("chain", chain(64))]);
    for (name, bytes) in texts {
        let instructions: u32 = sweep(&bytes, mode).map(|block| block.count).sum();
        let mut group = c.benchmark_group(format!("decode {name}"));
        group.throughput(Throughput::Elements(instructions.into()));
        group.bench_function("blocks", |b| {
            b.iter(|| sweep(&bytes, mode).map(|block| block.count).sum::<u32>());
        });
        group.bench_function("iced-x86 alone", |b| {
            b.iter(|| {
                let mut decoder = Decoder::with_ip(64, &bytes, CODE, DecoderOptions::NONE);
                let mut instruction = Instruction::default();
                let mut count = 0;
                while decoder.can_decode() {
                    decoder.decode_out(&mut instruction);
                    count += u32::from(!instruction.is_invalid());
                }
                count
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = settings();
    targets = decode
}
criterion_main!(benches);
