//! The machine that the user asked for: plain data, made by the command line, read by the wiring.
//!
//! Nothing here has been opened or looked up yet. Two runs with equal configurations and equal files are equal when no
//! outside input arrives and the clock's start is fixed ([`RtcBase`]).

use std::net::SocketAddr;
use std::path::PathBuf;

use devices::harness::{HarnessConfig, PostConfig};
pub use devices::pc::BoardKind;
use serde::{Deserialize, Serialize};
use x86::model::Topology;

use crate::display::vnc::VncConfig;
use crate::storage::{BootOrder, DriveConfig, Interface, PluggedDevice};
use crate::terminal::Use;

/// How several processors run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SmpMode {
    /// Each on a thread of its own, in the host's time.
    Parallel,
    /// They take turns on one thread, in counted time; the seed decides about the turns.
    Deterministic {
        /// `None`: the machine's.
        seed: Option<u64>,
    },
}

impl SmpMode {
    /// Can they run in parallel on this host? (The order of guest memory accesses is known for these.)
    pub const PARALLEL_HERE: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

    /// The mode of a machine whose user has not said which. Only a host with memory files (Linux) writes code beside running code, and
    /// where it does not, vCPUs in parallel are interpreted: then they are faster in turns.
    pub const DEFAULT: Self = if Self::PARALLEL_HERE && cfg!(target_os = "linux") {
        Self::Parallel
    } else {
        Self::Deterministic { seed: None }
    };
}

/// RAM when `-m` is not given, bytes (QEMU's default).
pub const DEFAULT_RAM: u64 = 128 << 20;
/// Processors that a machine can have.
pub const MAX_CPUS: u32 = 128;
/// Seed of everything random in the machine when `-seed` is not given.
pub const DEFAULT_SEED: u64 = 0x5245_5452_4f47_5241;

/// A processor model and what to change in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuChoice {
    /// Name of the model, known to exist.
    pub model: String,
    /// Features to turn on or off, in the order given; each is known to exist.
    pub features: Vec<(String, bool)>,
    /// Follows AMD's rules instead of Intel's, or the other way round, whatever the model does.
    pub amd: Option<bool>,
    /// Width of physical addresses, if not the model's.
    pub phys_bits: Option<u8>,
}

impl CpuChoice {
    /// A model as it is.
    pub fn of(model: &str) -> Self {
        Self { model: model.into(), features: Vec::new(), amd: None, phys_bits: None }
    }
}

/// Where characters of a serial port or of the debug console go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Chardev {
    /// Nowhere, and none come.
    Null,
    /// The terminal (or whatever standard input and output are).
    Stdio {
        /// Ctrl-A starts a command to the emulator, and Ctrl-C goes to the guest (`mon:stdio`, `-nographic`). Otherwise
        /// Ctrl-C ends the emulator and Ctrl-A goes to the guest, as in QEMU.
        escapes: bool,
    },
    /// Output is written to this file; there is no input.
    File(PathBuf),
}

/// The isa-debug-exit device: a write of `v` ends the emulator with status `(v << 1) | 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebugExit {
    /// First I/O port.
    pub iobase: u16,
    /// Number of ports.
    pub iosize: u16,
}

/// A retro-post device: the bytes that the guest writes to its ports go to a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostDevice {
    /// Ports and form.
    pub ports: PostConfig,
    /// Where they go; emptied first.
    pub file: PathBuf,
}

/// Devices for outside test suites.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestDevices {
    /// isa-debug-exit.
    pub debug_exit: Option<DebugExit>,
    /// pc-testdev.
    pub pc_testdev: bool,
    /// pci-testdev, at this device number.
    pub pci_testdev: Option<u8>,
    /// Ports to files.
    pub post: Vec<PostDevice>,
    /// The debug console's port, if it is not E9h.
    pub debugcon_port: Option<u16>,
}

/// Where the contents of a `-fw_cfg` file come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FwCfgSource {
    /// A file.
    File(PathBuf),
    /// The command line.
    Text(String),
}

/// A file that the user gives to firmware (`-fw_cfg`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FwCfgFile {
    /// Its name, which should begin with `opt/`.
    pub name: String,
    /// Its contents.
    pub source: FwCfgSource,
}

/// What the real-time clock shows at power-on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RtcBase {
    /// The host's clock, UTC.
    Utc,
    /// The host's clock, in its time zone.
    LocalTime,
    /// A fixed time, seconds since 1970-01-01 UTC.
    At(i64),
}

/// Which execution tiers may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TierChoice {
    /// Interpret cold code, compile hot code.
    #[default]
    Auto,
    /// Interpret everything.
    Only0,
    /// Compile every block before it first runs, as far as the compiler knows its instructions.
    Only1,
}

/// What `-d` writes to the log. Names and meanings are QEMU's, where QEMU has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LogItem {
    /// Guest instructions of each translated block.
    InAsm,
    /// Host instructions of each compiled block.
    OutAsm,
    /// Intermediate code of each compiled block.
    Op,
    /// Interrupts and exceptions.
    Int,
    /// Each block before it runs.
    Exec,
    /// The processor's registers before each block.
    Cpu,
    /// Page faults and TLB flushes.
    Mmu,
    /// Processor and machine resets.
    CpuReset,
    /// Use of what is not implemented.
    Unimp,
    /// What the guest does wrong.
    GuestErrors,
    /// Port accesses (not in QEMU).
    Io,
    /// Far calls, jumps and returns.
    Pcall,
    /// Nothing: `exec` and `cpu` see every block anyway. For QEMU's sake.
    Nochain,
    /// Device memory accesses (not in QEMU).
    Mmio,
    /// How far a guest has come (not in QEMU).
    Boot,
}

/// How the display's picture is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DisplayChoice {
    /// Not at all.
    #[default]
    None,
    /// Text modes in the terminal.
    Terminal,
    /// A page in a browser, served at this address.
    Web(SocketAddr),
    /// A window of the desktop, in builds that have it (feature `window`).
    Window(WindowOptions),
}

/// A window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowOptions {
    /// It takes the whole screen at first.
    pub full_screen: bool,
    /// The picture is as large as the window allows, not only by whole numbers.
    pub zoom_to_fit: bool,
    /// Closing it ends the emulator.
    pub close_ends: bool,
}

impl Default for WindowOptions {
    fn default() -> Self {
        Self { full_screen: false, zoom_to_fit: false, close_ends: true }
    }
}

/// Logging.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// What is logged, sorted, without repeats.
    pub items: Vec<LogItem>,
    /// Where; standard error if not given.
    pub file: Option<PathBuf>,
}

/// A whole machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineConfig {
    /// The board.
    pub board: BoardKind,
    /// RAM in bytes: a multiple of 64 KiB that [`bios::MemoryLayout`] accepts.
    pub ram_bytes: u64,
    /// Processors.
    pub topology: Topology,
    /// How several processors run, if that was said.
    pub smp_mode: Option<SmpMode>,
    /// Processor model.
    pub cpu: CpuChoice,
    /// A ROM to start from instead of a kernel.
    pub bios: Option<PathBuf>,
    /// Kernel file.
    pub kernel: Option<PathBuf>,
    /// The initrd's path; for a multiboot kernel a list of modules, `file argument argument,file2`.
    pub initrd: Option<String>,
    /// Kernel command line.
    pub append: String,
    /// Disks, CDs and floppies.
    pub drives: Vec<DriveConfig>,
    /// Controllers, and drives at them, that are plugged in one by one.
    pub devices: Vec<PluggedDevice>,
    /// What firmware boots from.
    pub boot: BootOrder,
    /// A display adapter is there; `None`: if firmware runs, or someone wants to look.
    pub vga: Option<bool>,
    /// How its picture is shown.
    pub display: DisplayChoice,
    /// It can be looked at by RFB.
    pub vnc: Option<VncConfig>,
    /// A monitor on the terminal.
    pub monitor: bool,
    /// Serial ports, COM1 first; at most four.
    pub serial: Vec<Chardev>,
    /// Debug console at port 0xE9 (or elsewhere).
    pub debugcon: Option<Chardev>,
    /// Devices for test suites.
    pub test: TestDevices,
    /// Files for firmware.
    pub fw_cfg: Vec<FwCfgFile>,
    /// `-nographic`: firmware speaks on the serial port.
    pub nographic: bool,
    /// The guest's reset ends the emulator.
    pub no_reboot: bool,
    /// Publish ACPI tables.
    pub acpi: bool,
    /// The HPET is there.
    pub hpet: bool,
    /// Clock.
    pub rtc: RtcBase,
    /// Seed of the machine's random numbers.
    pub seed: u64,
    /// Execution tiers.
    pub tier: TierChoice,
    /// Logging.
    pub log: LogConfig,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            board: BoardKind::default(),
            ram_bytes: DEFAULT_RAM,
            topology: Topology::default(),
            smp_mode: None,
            cpu: CpuChoice::of(x86::model::CpuModel::default_name()),
            bios: None,
            kernel: None,
            initrd: None,
            append: String::new(),
            drives: Vec::new(),
            devices: Vec::new(),
            boot: BootOrder::default(),
            vga: None,
            display: DisplayChoice::None,
            vnc: None,
            monitor: false,
            serial: vec![Chardev::Stdio { escapes: true }],
            debugcon: None,
            test: TestDevices::default(),
            fw_cfg: Vec::new(),
            nographic: false,
            no_reboot: false,
            acpi: true,
            hpet: true,
            rtc: RtcBase::Utc,
            seed: DEFAULT_SEED,
            tier: TierChoice::Auto,
            log: LogConfig::default(),
        }
    }
}

impl MachineConfig {
    /// The devices for test suites as the board takes them.
    pub fn harness(&self) -> HarnessConfig {
        let TestDevices { debug_exit, pc_testdev, pci_testdev, post, debugcon_port } = &self.test;
        HarnessConfig {
            debug_exit: debug_exit.map(|device| (device.iobase, device.iosize)),
            // Asked for by name it wins over pc-testdev, whose bytes contain port E9h.
            debugcon: debugcon_port.or(self.debugcon.as_ref().map(|_| devices::debug_ports::DEBUGCON_PORT)),
            pc_testdev: *pc_testdev,
            // The display's place is its own.
            pci_testdev: pci_testdev.map(|at| {
                let taken = self.has_vga() && self.board == BoardKind::Pc;
                if at == 2 && taken { 4 } else { at }
            }),
            post: post.iter().map(|device| device.ports).collect(),
        }
    }

    /// Is there a display adapter?
    pub fn has_vga(&self) -> bool {
        self.vga.unwrap_or(self.boots_firmware() || self.is_watched())
    }

    /// Is the display looked at by a viewer of [`crate::display`]?
    pub fn is_watched(&self) -> bool {
        self.vnc.is_some() || matches!(self.display, DisplayChoice::Web(_) | DisplayChoice::Window(_))
    }

    /// Does firmware run, rather than a kernel of the user's alone?
    pub fn boots_firmware(&self) -> bool {
        self.kernel.is_none() || self.bios.is_some() || self.has_flash()
    }

    /// Is there a flash chip, which firmware is in?
    pub fn has_flash(&self) -> bool {
        self.drives.iter().any(|drive| drive.interface == Interface::Flash)
    }

    /// How the terminal is used, if it is.
    pub fn terminal(&self) -> Option<Use> {
        if self.monitor {
            return Some(Use::Monitor);
        }
        if self.display == DisplayChoice::Terminal {
            return Some(Use::Keyboard);
        }
        self.serial.iter().chain(&self.debugcon).find_map(|chardev| match chardev {
            Chardev::Stdio { escapes } => Some(Use::Serial { escapes: *escapes }),
            _ => None,
        })
    }

    /// The serial port that hears what is typed, if one does: the debug console has no input.
    pub fn terminal_port(&self) -> Option<u8> {
        let port = self.serial.iter().position(|chardev| matches!(chardev, Chardev::Stdio { .. }));
        port.map(|port| port as u8)
    }
}
