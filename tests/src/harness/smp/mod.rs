//! Machines of several processors that run a program of a test's own: no package, no firmware, on any host.
//!
//! A [`Program`] is assembly text over the library in [`runtime`]: `test` is called on every processor, and what stands from
//! `results` to the end when all have come back is the outcome. It runs in each mode that machines of several processors
//! have ([`Mode`]), and as a ROM for another emulator ([`Program::rom`]), which shows that the program means what it says.

mod runtime;

use std::fmt::Write as _;
use std::io;

use emulator::config::{BoardKind, DebugExit, MachineConfig, SmpMode, TestDevices};
use emulator::machine::gate::InputGate;
use emulator::machine::{Console, Ended, LockCounts, Machine};
use emulator::storage::{DeviceKind, DriveConfig, Interface, Media, PluggedDevice};
use jit::{Stats, TierPolicy};
use x86::model::Topology;

use super::listing::Listing;
use super::pc::{Pc, configuration, drive};

/// Memory of these machines.
pub const RAM: u64 = 16 << 20;

/// Status with which the guest ends when all is well.
const GOOD: u32 = 0x10;

/// How the processors run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In turns on one thread, by a schedule from this seed.
    Deterministic {
        /// The seed.
        seed: u64,
    },
    /// Each on a thread of its own.
    Parallel,
}

impl Mode {
    /// All modes, for tests whose outcome is the same in each.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::Deterministic { seed: 1 }, Self::Deterministic { seed: 2 }];
        if SmpMode::PARALLEL_HERE {
            all.push(Self::Parallel);
        }
        all
    }

    /// Does every run have an outcome that some order of all accesses explains (sequential consistency)?
    pub fn is_sequential(self) -> bool {
        matches!(self, Self::Deterministic { .. })
    }

    fn choose(self, config: &mut MachineConfig) {
        config.smp_mode = Some(match self {
            Self::Deterministic { seed } => SmpMode::Deterministic { seed: Some(seed) },
            Self::Parallel => SmpMode::Parallel,
        });
    }
}

/// A program for `cpus` processors.
#[derive(Clone, Debug)]
pub struct Program {
    cpus: u32,
    listing: Listing,
    patience: u64,
    q35: bool,
    functions: bool,
}

/// A run in turns, as far as it is the seed's alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// What the guest wrote.
    pub results: Vec<u64>,
    /// Instructions that each processor has retired.
    pub counts: Vec<u64>,
    /// Hash of registers, devices and memory.
    pub fingerprint: String,
}

/// Instructions of all processors after which a program counts as endless.
const PATIENCE: u64 = 400_000_000;

impl Program {
    /// Assembles `text`, in which `CPUS` is the number of processors, with `constants` of its own. Panics with what is wrong.
    pub fn new(cpus: u32, text: &str, constants: &[(&str, i64)]) -> Self {
        let mut constants = [constants, &runtime::CONSTANTS, &[("CPUS", i64::from(cpus))]].concat();
        if constants.iter().all(|(name, _)| *name != "SEED") {
            constants.push(("SEED", 0x1234_5671));
        }
        let mut whole = runtime::IMAGE_START.to_owned();
        (0..256).for_each(|_| whole += "call trap; align 8\n");
        whole += text;
        whole += "\nalign 8; results_end:\n";
        let listing = Listing::new(&whole, runtime::IMAGE, &constants);
        assert!(listing.bytes.len() <= runtime::ROM_CODE, "the program is too long");
        Self { cpus, listing, patience: PATIENCE, q35: false, functions: false }
    }

    /// May run for so many instructions.
    pub fn patient(self, patience: u64) -> Self {
        Self { patience, ..self }
    }

    /// On a `q35` with a display: PCI memory to move.
    pub fn on_q35(self) -> Self {
        Self { q35: true, ..self }
    }

    /// On a `q35` with PCI functions to use: pci-testdev at device 8, an NVMe controller at 9, a virtio disk named `virtio-disk` at 10, beside
    /// the AHCI controller of the board.
    pub fn on_q35_with_functions(self) -> Self {
        Self { functions: true, ..self.on_q35() }
    }

    /// The ROM from which it starts.
    pub fn rom(&self) -> Vec<u8> {
        let length = self.listing.bytes.len();
        let constants = [
            ("IMAGE", runtime::IMAGE as i64),
            ("LENGTH", length as i64),
            ("PROTECTED", self.listing.address("protected") as i64),
        ];
        let code_at = (1 << 32) - (runtime::ROM_LEN - runtime::ROM_CODE) as u64;
        let code = Listing::new(runtime::ROM, code_at, &constants).bytes;
        let mut rom = self.listing.bytes.clone();
        rom.resize(runtime::ROM_CODE, 0);
        rom.extend(code);
        rom.resize(runtime::ROM_LEN, 0);
        rom
    }

    /// Runs it; what stands from `results` on then. Panics if the guest says that something is wrong.
    pub fn run(&self, mode: Mode, tier: TierPolicy) -> Vec<u64> {
        self.run_to_end(mode, tier).0
    }

    /// Runs it in parallel; which locks were taken, and what the engines counted. Panics if the guest says that something is wrong.
    pub fn counted(&self, tier: TierPolicy) -> (LockCounts, Stats) {
        let machine = self.run_to_end(Mode::Parallel, tier).1;
        (machine.lock_counts().clone(), machine.stats())
    }

    /// Runs it, and tells all that two runs of a seed must agree on.
    pub fn trace(&self, seed: u64, tier: TierPolicy) -> Trace {
        let (results, mut machine) = self.run_to_end(Mode::Deterministic { seed }, tier);
        let counts = (0..machine.cpus()).filter_map(|n| Some(machine.vcpu(n)?.st.icount())).collect();
        let fingerprint = machine.fingerprint().expect("memory can be hashed").to_hex().to_string();
        Trace { results, counts, fingerprint }
    }

    fn machine(&self, mode: Mode, tier: TierPolicy) -> Machine {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bios = folder.path().join("rom");
        std::fs::write(&bios, self.rom()).expect("room for a ROM");
        let test = TestDevices {
            debug_exit: Some(DebugExit { iobase: 0xf4, iosize: 4 }),
            pc_testdev: true,
            debugcon_port: Some(0xe9),
            ..TestDevices::default()
        };
        let mut config = MachineConfig { bios: Some(bios), vga: Some(false), test, ..configuration(RAM) };
        if self.q35 {
            (config.board, config.vga) = (BoardKind::Q35, Some(true));
        }
        if self.functions {
            let disk = folder.path().join("disk");
            std::fs::write(&disk, [0; 4096]).expect("room for a disk");
            config.test.pci_testdev = Some(8);
            let cards = [(9, DeviceKind::Nvme, "nvme"), (10, DeviceKind::VirtioBlk, "virtio-disk")];
            for (device, kind, name) in cards {
                let plain = drive(&disk, Interface::None, Media::Disk, 0, false);
                config.drives.push(DriveConfig { id: Some(name.into()), ..plain });
                config.devices.push(PluggedDevice {
                    option: "-device".into(),
                    kind,
                    id: None,
                    drive: Some(name.into()),
                    bus: None,
                    address: Some((device, 0)),
                    serial: Some(name.into()),
                    boot_index: None,
                });
            }
        }
        config.topology = Topology::cores(self.cpus);
        mode.choose(&mut config);
        Pc::power_on(&config, tier).machine
    }

    /// How the machine ends that nobody stops.
    pub fn end(&self, mode: Mode, tier: TierPolicy) -> Ended {
        let ended = self.machine(mode, tier).run(&mut InputGate::sealed(), &mut Said::default(), None);
        ended.expect("the console takes everything")
    }

    fn run_to_end(&self, mode: Mode, tier: TierPolicy) -> (Vec<u64>, Machine) {
        let mut machine = self.machine(mode, tier);
        let mut said = Said::default();
        // Who waits for a thread that the host does not run retires instructions meanwhile.
        let patience = if mode == Mode::Parallel { self.patience.saturating_mul(50) } else { self.patience };
        let ended = machine.run(&mut InputGate::sealed(), &mut said, Some(patience));
        let ended = ended.expect("the console takes everything");
        let outcome = self.outcome(&said.0, ended == Ended::DebugExit(GOOD << 1 | 1));
        let results = outcome.unwrap_or_else(|problem| {
            let mut places = String::new();
            for index in 0..machine.cpus() {
                let Some(cpu) = machine.vcpu(index) else { continue };
                let at = self.listing.place(cpu.st.rip);
                let _ =
                    write!(places, "\nCPU {index} at {at}{}", if cpu.st.halted { ", halted" } else { "" });
            }
            panic!("{mode:?}, tier {tier:?}: {ended:?}: {problem}{places}")
        });
        (results, machine)
    }

    /// In each mode and tier: what `judge` says of the results has to hold.
    pub fn check(&self, judge: impl Fn(&[u64])) {
        for mode in Mode::all() {
            for tier in [TierPolicy::Zero, TierPolicy::One, TierPolicy::Auto] {
                judge(&self.run(mode, tier));
            }
        }
    }

    /// What the guest has written to port E9h, `good` if it ended as it should.
    pub fn outcome(&self, said: &[u8], good: bool) -> Result<Vec<u64>, String> {
        let words: Vec<u64> =
            said.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().expect("eight"))).collect();
        if good {
            return Ok(words);
        }
        Err(match words.as_slice() {
            [FAILED, 256, reason, from, ..] => {
                format!("it fails for reason {reason:#x} at {}", self.listing.place(*from))
            }
            [FAILED, stub, first, second, cr2, ..] => {
                let vector = stub.wrapping_sub(self.listing.address("stubs") + 5) / 8;
                let places = [first, second].map(|at| self.listing.place(*at)).join(", ");
                format!("unexpected vector {vector}: {places}, CR2 {cr2:#x}")
            }
            _ => "it does not end".into(),
        })
    }
}

/// What begins a report of failure.
const FAILED: u64 = 0x4c49_4146;

/// A console that keeps what goes to the debug port.
#[derive(Default)]
struct Said(Vec<u8>);

impl Console for Said {
    fn serial(&mut self, _: u8, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn debug(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}
