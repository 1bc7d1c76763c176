//! Debian's cloud kernel from its first instruction to power-off, by way of the init script's marker, as a user's machine
//! runs it: all tiers, compilation on a worker, no host input. To be held against the same files under QEMU
//! (`cargo xtask bench-vs-qemu`). Skipped, with one line, where the guest is not in the cache.

use std::io;
use std::time::Duration;

use criterion::{BatchSize, Criterion, SamplingMode, criterion_group, criterion_main};
use emulator::boot::prepare;
use emulator::config::MachineConfig;
use emulator::guests::{self, INITRAMFS_AMD64, KERNEL_CLOUD_AMD64};
use emulator::machine::gate::InputGate;
use emulator::machine::{Console, Ended, Machine, Spec};
use jit::EngineConfig;
use x86::model::CpuModel;

/// A console whose reader is satisfied once it has seen the marker.
#[derive(Default)]
struct Screen(Vec<u8>);

impl Console for Screen {
    fn serial(&mut self, _: u8, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
    fn debug(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

const MARKER: &[u8] = b"RETRO-BOOT-OK";

/// The machine to boot, or `None` where its files are not cached, which has been said.
fn guest() -> Option<MachineConfig> {
    // The message names the thread.
    let search = || {
        Some(MachineConfig {
            ram_bytes: 256 << 20,
            kernel: Some(guests::for_test(&KERNEL_CLOUD_AMD64)?),
            initrd: Some(guests::for_test(&INITRAMFS_AMD64)?.to_str()?.into()),
            append: "console=ttyS0".into(),
            no_reboot: true,
            ..MachineConfig::default()
        })
    };
    let thread = std::thread::Builder::new().name("the boot benchmark".into()).spawn(search);
    thread.expect("a thread").join().expect("the cache can be searched")
}

fn power_on(config: &MachineConfig) -> Machine {
    let prepared = prepare(config).unwrap_or_else(|error| panic!("{error}"));
    let spec = Spec {
        layout: prepared.layout,
        board: config.board,
        model: CpuModel::by_name("max").expect("a model"),
        smp_seed: 0,
        parallel: false,
        engine: EngineConfig::default(),
        // 2023-11-14 22:13:20 UTC: each boot is the same to the instruction.
        epoch_seconds: 1_700_000_000,
        serial_ports: 1,
        harness: config.harness(),
        fw_cfg: prepared.fw_cfg,
        vga: None,
        no_reboot: true,
    };
    let mut machine = Machine::new(spec).unwrap_or_else(|error| panic!("{error}"));
    machine.set_up(prepared.setup.expect("a kernel is loaded by our firmware"));
    machine.boot(prepared.chunks, prepared.entry).unwrap_or_else(|error| panic!("{error}"));
    machine
}

/// Runs to power-off; gives the machine back, so that taking it apart is not measured.
fn run(mut machine: Machine) -> Machine {
    let mut screen = Screen::default();
    let ended =
        machine.run(&mut InputGate::sealed(), &mut screen, None).expect("the screen takes everything");
    let shown = screen.0.windows(MARKER.len()).any(|text| text == MARKER);
    assert!(ended == Ended::PowerOff && shown, "{ended:?}:\n{}", String::from_utf8_lossy(&screen.0));
    machine
}

fn boot(c: &mut Criterion) {
    let Some(config) = guest() else { return };
    let mut group = c.benchmark_group("boot");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(25));
    group.bench_function("Debian, 256 MiB", |b| {
        b.iter_batched(|| power_on(&config), run, BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = benches::settings();
    targets = boot
}
criterion_main!(benches);
