//! Whole machines for tests: a kernel from the guest cache, a console that keeps what is written to it, and what two
//! runs are compared by.

use std::io;
use std::path::Path;

use devices::harness::HarnessConfig;
use emulator::boot::prepare;
use emulator::config::{BoardKind, Chardev, MachineConfig, SmpMode};
use emulator::guests::{self, Artifact};
use emulator::machine::gate::InputGate;
use emulator::machine::{Console, Ended, Machine, Spec};
use jit::{EngineConfig, TierPolicy};
use x86::model::{CpuModel, Topology};

/// Real-time clock of every test machine at power-on: 2023-11-14 22:13:20 UTC.
pub(super) const EPOCH: u64 = 1_700_000_000;

/// A guest to boot.
#[derive(Clone, Debug)]
pub struct Guest {
    config: MachineConfig,
}

impl Guest {
    /// A kernel with an initramfs. `None`: one of them is not in the cache, which has been said.
    pub fn linux(kernel: &Artifact, initramfs: &Artifact, append: &str) -> Option<Self> {
        let (kernel, initrd) = (guests::for_test(kernel)?, guests::for_test(initramfs)?);
        let mut guest = Self::bare(&kernel, append, 256 << 20);
        guest.config.initrd = Some(initrd.to_str()?.into());
        Some(guest)
    }

    /// A kernel alone.
    pub fn bare(kernel: &Path, append: &str, ram_bytes: u64) -> Self {
        let config = MachineConfig {
            ram_bytes,
            kernel: Some(kernel.to_path_buf()),
            append: append.into(),
            no_reboot: true,
            ..MachineConfig::default()
        };
        Self { config }
    }

    /// On another board.
    pub fn on(mut self, board: BoardKind) -> Self {
        self.config.board = board;
        self
    }

    /// With `ports` serial ports.
    pub fn with_serial_ports(mut self, ports: usize) -> Self {
        self.config.serial = vec![Chardev::Null; ports];
        self
    }

    /// With this many processors, which take turns by a schedule from the seed.
    pub fn with_processors(mut self, cpus: u32, seed: u64) -> Self {
        self.config.topology = Topology::cores(cpus);
        self.config.smp_mode = Some(SmpMode::Deterministic { seed: Some(seed) });
        self
    }

    /// With this many processors, which run in parallel where the host can do that.
    pub fn with_parallel_processors(mut self, cpus: u32) -> Self {
        self.config.topology = Topology::cores(cpus);
        let here = SmpMode::PARALLEL_HERE;
        self.config.smp_mode = Some(if here { SmpMode::Parallel } else { SmpMode::DEFAULT });
        self
    }

    /// A reset starts it anew instead of ending it.
    pub fn rebooting(mut self) -> Self {
        self.config.no_reboot = false;
        self
    }

    /// A machine at the kernel's first instruction.
    pub fn power_on(&self, tier: TierPolicy) -> Machine {
        let prepared = prepare(&self.config).unwrap_or_else(|e| panic!("{e}"));
        let mut machine = machine_with(tier, &self.config);
        machine.set_up(prepared.setup.expect("a kernel is loaded by our firmware"));
        machine.boot(prepared.chunks, prepared.entry).expect("the kernel fits");
        machine
    }

    /// Its memory in bytes.
    pub fn ram_bytes(&self) -> u64 {
        self.config.ram_bytes
    }
}

/// A machine with empty memory and one serial port, at its reset vector.
pub fn machine(ram_bytes: u64, tier: TierPolicy) -> Machine {
    machine_with(tier, &MachineConfig { ram_bytes, no_reboot: true, ..MachineConfig::default() })
}

fn machine_with(tier: TierPolicy, config: &MachineConfig) -> Machine {
    let ram_bytes = config.ram_bytes;
    let mut model = CpuModel::by_name("max").expect("the model");
    model.set_topology(config.topology);
    let spec = Spec {
        board: config.board,
        layout: bios::MemoryLayout::new(ram_bytes).expect("a sensible memory size"),
        model,
        smp_seed: match config.smp_mode {
            Some(SmpMode::Deterministic { seed }) => seed.unwrap_or(0),
            _ => 0,
        },
        parallel: config.smp_mode == Some(SmpMode::Parallel),
        engine: EngineConfig { tier, verify: false, ..EngineConfig::default() },
        epoch_seconds: EPOCH,
        serial_ports: config.serial.len() as u8,
        harness: HarnessConfig::default(),
        vga: None,
        fw_cfg: Default::default(),
        no_reboot: config.no_reboot,
    };
    Machine::new(spec).expect("a machine")
}

/// A tier by the name that its `Debug` form gives it.
pub fn tier_by_name(name: &str) -> Option<TierPolicy> {
    [TierPolicy::Auto, TierPolicy::Zero, TierPolicy::One, TierPolicy::Two]
        .into_iter()
        .find(|t| format!("{t:?}") == name)
}

/// A console that keeps everything.
#[derive(Clone, Debug, Default)]
pub struct Screen(pub Vec<u8>);

/// A console that keeps what each serial port sends apart.
#[derive(Clone, Debug, Default)]
pub struct Screens(pub [Screen; 4]);

impl Console for Screens {
    fn serial(&mut self, port: u8, bytes: &[u8]) -> io::Result<()> {
        self.0[usize::from(port)].serial(port, bytes)
    }
    fn debug(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

impl Console for Screen {
    fn serial(&mut self, _: u8, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
    fn debug(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

impl Screen {
    /// Has `text` been written?
    pub fn shows(&self, text: &str) -> bool {
        self.0.windows(text.len()).any(|w| w == text.as_bytes())
    }
    /// The last `n` characters, for messages.
    pub fn tail(&self, n: usize) -> String {
        String::from_utf8_lossy(&self.0[self.0.len().saturating_sub(n)..]).into_owned()
    }
}

/// How a run ended: what two runs of the same machine must agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Final {
    /// Why it stopped.
    pub ended: Ended,
    /// Retired instructions, of all processors.
    pub icount: u64,
    /// Virtual nanoseconds.
    pub now: u64,
    /// Hash of registers, devices and memory.
    pub fingerprint: String,
}

/// Runs a machine to its end, or to a count.
pub fn run(machine: &mut Machine, gate: &mut InputGate, screen: &mut Screen, until: Option<u64>) -> Ended {
    machine.run(gate, screen, until).expect("the console takes everything")
}

/// What a machine looks like now.
pub fn final_state(machine: &mut Machine, ended: Ended) -> Final {
    let fingerprint = machine.fingerprint().expect("memory can be hashed").to_hex().to_string();
    Final { ended, icount: machine.retired(), now: machine.cpu.st.now(), fingerprint }
}

/// Runs without input until `text` is on the console, looking every `step` instructions; the count, or `None` when the
/// machine ended or `limit` was reached first.
pub fn run_until_shown(
    machine: &mut Machine,
    screen: &mut Screen,
    text: &str,
    step: u64,
    limit: u64,
) -> Result<u64, Ended> {
    let mut gate = InputGate::sealed();
    loop {
        let at = machine.cpu.st.icount();
        if screen.shows(text) {
            return Ok(at);
        }
        if at >= limit {
            return Err(Ended::Count);
        }
        match run(machine, &mut gate, screen, Some(at + step)) {
            Ended::Count => {}
            other => return if screen.shows(text) { Ok(machine.cpu.st.icount()) } else { Err(other) },
        }
    }
}
