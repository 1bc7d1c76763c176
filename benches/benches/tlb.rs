//! The software TLB. `hit` is what every guest access pays that Rust code makes (tier 0, helpers), to be held against an
//! ordinary load of the host; a miss costs the quick walk and a fill on top. `full walk` is what happens to the few
//! accesses that the quick walk leaves alone, and to a debugger's: all levels, by all the rules. In generated code the
//! same loop runs over few pages and over too many; the difference is the cost of its misses.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jit::TierPolicy;
use softmmu::{Access, Flush, Mmu, PAGE_SIZE, Privilege, TLB_ENTRIES, walk};

use benches::rig::{LARGE, SMALL};
use benches::{Rig, programs};

/// A virtual stretch as large as what the TLB covers: addresses this far apart share an entry.
const REACH: u64 = TLB_ENTRIES as u64 * PAGE_SIZE;

/// Pages that all fit.
const FEW: u64 = 64;
/// Pages that never do.
const MANY: u64 = 2 * TLB_ENTRIES as u64;

/// Addresses by name: whether they hit, where they begin, how far it is from page to page, and how many there are before
/// the first comes again (a power of two).
const PATTERNS: [(&str, bool, u64, u64, u64); 4] = [
    ("hit", true, SMALL, PAGE_SIZE, FEW),
    // The page tables' last level is the same for 512 accesses.
    ("miss, neighbours", false, SMALL, PAGE_SIZE, MANY),
    // Two pages that want one entry, in different directories' tables.
    ("miss, far apart", false, SMALL, REACH, 2),
    ("miss, 2 MiB pages", false, LARGE, PAGE_SIZE, MANY),
];

/// The `n`th address of a pattern. Each page has its word in another cache line than its neighbours: in equal places they
/// would drive each other out of the host's caches.
fn address(n: u64, window: u64, step: u64, count: u64) -> u64 {
    let n = n & (count - 1);
    window + n * step + (n & 63) * 64
}

/// Reads by `Mmu::read`, which tier 0 and all helpers use.
fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("tlb read");
    for (name, hits, window, step, count) in PATTERNS {
        let mut mmu = Rig::new(TierPolicy::Zero).cpu.mmu;
        let mut n = 0;
        let mut next = |mmu: &mut Mmu| {
            n += 1;
            mmu.read::<u64>(address(n, window, step, count)).ok()
        };
        for _ in 0..count {
            next(&mut mmu).expect("RAM");
        }
        group.bench_function(name, |b| b.iter(|| next(&mut mmu)));
        // What the name says is what happens.
        let before = mmu.counters().slow;
        next(&mut mmu).expect("RAM");
        assert_eq!(mmu.counters().slow == before, hits, "{name}");
    }
    group.finish();
}

fn write(c: &mut Criterion) {
    let mut mmu = Rig::new(TierPolicy::Zero).cpu.mmu;
    let mut n = 0;
    let mut group = c.benchmark_group("tlb write");
    group.bench_function("hit", |b| {
        b.iter(|| {
            n += 1;
            mmu.write::<u64>(address(n, SMALL, PAGE_SIZE, FEW), n).is_ok()
        });
    });
    group.bench_function("after INVLPG", |b| {
        b.iter(|| {
            mmu.invlpg(SMALL);
            mmu.write::<u64>(SMALL, 1).is_ok()
        });
    });
    group.finish();
}

/// MOV CR3 between two address spaces, as far as the MMU goes: with PCIDs, and without. The host's instructions for each: build with
/// `cargo bench -p benches --bench tlb --no-run`, run
/// `CR3_TURNS=N valgrind --tool=callgrind --toggle-collect='*Mmu::load_cr3*' target/release/deps/tlb-* --test 'CR3 switch, PCIDs'` for two
/// N that differ by 1000, and divide the difference of the two sums by that.
fn switch(c: &mut Criterion) {
    let mut mmu = Rig::new(TierPolicy::Zero).cpu.mmu;
    let cr3 = mmu.paging().cr3;
    let turns = std::env::var("CR3_TURNS").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut n = 0;
    let mut with_pcids = || {
        n ^= 1;
        mmu.load_cr3(black_box(cr3), black_box(n + 1), Flush::None);
    };
    c.bench_function("CR3 switch, PCIDs", |b| {
        (0..turns).for_each(|_| with_pcids());
        b.iter(&mut with_pcids);
    });
    // Flag bits of CR3 make it another value, not another root.
    let mut without = || {
        n ^= 1;
        mmu.load_cr3(black_box(cr3 | u64::from(n) << 3), 0, Flush::NonGlobal);
    };
    c.bench_function("CR3 switch, no PCIDs", |b| {
        (0..turns).for_each(|_| without());
        b.iter(&mut without);
    });
}

fn walks(c: &mut Criterion) {
    let rig = Rig::new(TierPolicy::Zero);
    let mut group = c.benchmark_group("full walk");
    for (name, gva) in [("4 KiB page", SMALL), ("2 MiB page", LARGE)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                walk(&rig.space, rig.cpu.mmu.paging(), Privilege::Supervisor, black_box(gva), Access::Read)
            });
        });
    }
    group.finish();
}

fn generated_code(c: &mut Criterion) {
    const TURNS: u64 = 10_000;
    let mut group = c.benchmark_group("tlb generated code");
    group.throughput(Throughput::Elements(TURNS));
    for (name, pages) in [("hit", FEW), ("miss", MANY)] {
        let mut rig = Rig::running(TierPolicy::One, &programs::touch(SMALL, pages));
        group.bench_function(name, |b| b.iter(|| rig.run(TURNS * programs::TOUCH_LENGTH)));
    }
    group.finish();
}

criterion_group! {
    name = tlb;
    config = benches::settings();
    targets = read, write, switch, walks, generated_code
}
criterion_main!(tlb);
