//! The command line, in QEMU's spellings, so that a script moves over by changing the binary's name.
//!
//! QEMU's grammar is not that of getopt: long options with one dash, values that may begin with a dash, comma lists with
//! doubled commas. So the parser is our own, over one table ([`options`]) from which help and suggestions come too.
//! The result is plain data; nothing is opened here, except that the names of models and features are looked up.

mod chardev;
mod cpu;
mod device;
mod display;
mod drive;
mod error;
mod lists;
mod log_items;
mod options;
mod plugged;
mod rtc;
mod sizes;
mod smp;
mod subcommands;

use std::ffi::OsString;
use std::path::PathBuf;

pub use cpu::build as cpu_model;
pub use error::{UserError, nearest};
pub use lists::module_list;
pub use subcommands::machine_for;

use std::io::IsTerminal;

use crate::config::{BoardKind, Chardev, DisplayChoice, MachineConfig, TierChoice, WindowOptions};
use crate::firmware_config;
use lists::{items, number, switch, unknown_key};
use options::Opt;
use subcommands::run;

/// What the user wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Boot this machine.
    Boot(Box<MachineConfig>),
    /// Boot a ready-made guest; the configuration lacks the files that the user did not name.
    Guest {
        /// Which.
        name: String,
        /// The rest.
        config: Box<MachineConfig>,
    },
    /// Look at this file and boot it: see [`machine_for`].
    Image {
        /// The file.
        path: PathBuf,
        /// The options after it.
        options: Vec<String>,
    },
    /// Say what these files are.
    ImageInfo {
        /// The files.
        files: Vec<PathBuf>,
        /// As JSON, a line for each.
        json: bool,
    },
    /// Print this text and end.
    Print(String),
}

/// Reads the arguments (without the program's name).
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, UserError> {
    let arguments = arguments.into_iter().map(text).collect::<Result<Vec<String>, _>>()?;
    match arguments.first().map(String::as_str) {
        Some("run") => return run(&arguments[1..]),
        Some("image") => return subcommands::image(&arguments[1..]),
        _ => {}
    }
    let mut parser = Parser::new(MachineConfig::default());
    if let Some(printed) = parser.options(&arguments)? {
        return Ok(Invocation::Print(printed));
    }
    let config = parser.finish()?;
    if config.kernel.is_none() && config.bios.is_none() && config.drives.is_empty() {
        return Err(UserError::new(
            "nothing to boot",
            "no disk, kernel or ROM is given",
            "try: retrograde run FILE, or retrograde run debian; or give one with -hda FILE, -cdrom FILE or -kernel FILE",
        ));
    }
    Ok(Invocation::Boot(Box::new(config)))
}

fn text(argument: OsString) -> Result<String, UserError> {
    argument.into_string().map_err(|raw| {
        UserError::new(
            raw.to_string_lossy(),
            "this argument is not valid UTF-8",
            "rename the file or use another path to it",
        )
    })
}

/// The configuration under construction.
struct Parser {
    config: MachineConfig,
    initrd: Option<String>,
    /// Ports named with `-serial`; `None` for `none`.
    serial: Vec<Option<Chardev>>,
    nographic: bool,
    drives: Vec<drive::Asked>,
    /// `-snapshot`.
    snapshot: bool,
    /// The kernel of a ready-made guest follows.
    ready_made: bool,
    /// `-display` was given.
    display_chosen: bool,
    /// `-full-screen`.
    full_screen: bool,
    /// A window would find a desktop.
    has_desktop: bool,
    /// `-nodefaults`: no serial port on the terminal unless one is asked for.
    no_default_serial: bool,
}

impl Parser {
    fn new(config: MachineConfig) -> Self {
        Self {
            config,
            initrd: None,
            serial: Vec::new(),
            nographic: false,
            drives: Vec::new(),
            snapshot: false,
            ready_made: false,
            display_chosen: false,
            full_screen: false,
            has_desktop: crate::display::window_is_offered(),
            no_default_serial: false,
        }
    }

    /// Applies all options; gives a text if one of them asks for a print-out.
    fn options(&mut self, arguments: &[String]) -> Result<Option<String>, UserError> {
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let Some(name) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
                return Err(UserError::new(
                    argument,
                    "this is not an option",
                    "retrograde run FILE boots an image or a kernel; --help lists the options",
                ));
            };
            // --name=value, the GNU spelling, where the name alone is an option.
            let (name, joined) = match name.split_once('=') {
                Some((name, value)) if options::find(name).is_some() => (name, Some(value)),
                _ => (name, None),
            };
            let Some(spec) = options::find(name) else { return Err(unknown_option(argument, name)) };
            let value = match (spec.value.is_empty(), joined) {
                (true, None) => "",
                (true, Some(_)) => {
                    return Err(UserError::new(
                        argument,
                        "this option takes no value",
                        format!("write -{name}"),
                    ));
                }
                (false, Some(value)) => value,
                (false, None) => arguments.next().ok_or_else(|| {
                    UserError::new(argument, "a value must follow", format!("write -{name} {}", spec.value))
                })?,
            };
            if let Some(printed) = self.apply(spec.opt, name, value)? {
                return Ok(Some(printed));
            }
        }
        Ok(None)
    }

    fn apply(&mut self, opt: Opt, name: &str, value: &str) -> Result<Option<String>, UserError> {
        let config = &mut self.config;
        match opt {
            Opt::Help => return Ok(Some(options::help())),
            Opt::Version => return Ok(Some(format!("retrograde {}\n", env!("CARGO_PKG_VERSION")))),
            Opt::Cpu if is_help(value) => return Ok(Some(cpu::help())),
            Opt::LogItems if is_help(value) => return Ok(Some(log_items::help())),
            Opt::Machine if is_help(value) => return Ok(Some(MACHINE_HELP.into())),
            Opt::Device if is_help(value) => {
                return Ok(Some([device::HELP, plugged::HELP].concat()));
            }
            Opt::Accel if is_help(value) => return Ok(Some("Accelerators:\n  tcg\n".into())),
            Opt::Memory => config.ram_bytes = sizes::memory(value)?,
            Opt::Smp => config.topology = smp::topology(value)?,
            Opt::SmpMode => config.smp_mode = Some(smp::mode(value)?),
            Opt::Cpu => config.cpu = cpu::choice(value)?,
            Opt::Machine => machine(config, name, value)?,
            Opt::Accel => accelerator(&format!("-accel {value}"), value)?,
            Opt::Kernel => config.kernel = Some(path(name, value)?),
            Opt::Initrd => {
                path(name, value)?;
                self.initrd = Some(value.into());
            }
            Opt::Append => config.append = value.into(),
            Opt::Drive => self.drives.push(drive::parse(value)?),
            Opt::Disk(index) => self.drives.push(drive::disk(name, path(name, value)?, index)),
            Opt::Cdrom => self.drives.push(drive::cdrom(path(name, value)?)),
            Opt::Floppy(index) => self.drives.push(drive::floppy(name, path(name, value)?, index)),
            Opt::Boot => config.boot = drive::boot(value)?,
            Opt::Snapshot => self.snapshot = true,
            Opt::Serial => self.serial.push(chardev::parse(name, value)?),
            Opt::Debugcon => config.debugcon = chardev::parse(name, value)?,
            Opt::Vnc => config.vnc = display::vnc(value)?,
            Opt::Display | Opt::Sdl | Opt::Curses => {
                let value = if opt == Opt::Display { value } else { name };
                config.display = display::kind(value)?;
                self.display_chosen = true;
            }
            Opt::FullScreen => self.full_screen = true,
            Opt::Vga => config.vga = Some(vga(value)?),
            Opt::Monitor => config.monitor = monitor(value)?,
            Opt::Parallel => none_only(name, value, "there is no parallel port")?,
            Opt::Net | Opt::Nic => none_only(name, value, "there is no network yet")?,
            Opt::Nographic => (self.nographic, config.nographic) = (true, true),
            Opt::NoReboot => config.no_reboot = true,
            Opt::Device => match plugged::parse(value)? {
                Some(device) => config.devices.push(device),
                None => device::add(&mut config.test, value)?,
            },
            Opt::Global => device::global(&mut config.test, value)?,
            Opt::FwCfg => {
                let items = items(value).into_iter().map(|item| (item.key, item.value)).collect::<Vec<_>>();
                config.fw_cfg.push(firmware_config::parse(&format!("-fw_cfg {value}"), &items)?);
            }
            Opt::Bios => config.bios = Some(path(name, value)?),
            Opt::LogItems => config.log.items = log_items::parse(value)?,
            Opt::LogFile => config.log.file = Some(path(name, value)?),
            Opt::Rtc => config.rtc = rtc::base(value)?,
            Opt::Seed => config.seed = number(&format!("-seed {value}"), "the seed", value, u64::MAX)?,
            Opt::Tier => config.tier = tier(value)?,
            Opt::NoAcpi => config.acpi = false,
            Opt::NoHpet => config.hpet = false,
            Opt::Nodefaults => self.no_default_serial = true,
            Opt::NoUserConfig | Opt::Name => {}
        }
        Ok(None)
    }

    /// Checks what depends on several options.
    fn finish(self) -> Result<MachineConfig, UserError> {
        let mut config = self.config;
        config.drives = drive::place(self.drives, self.snapshot, config.board)?;
        let terminal_is_free = self.serial.is_empty() && !config.monitor && config.debugcon != STDIO;
        // Without firmware there is no picture: the kernel's console is the serial port.
        let shows_picture = config.has_vga() && !self.ready_made && !self.nographic;
        if !self.display_chosen && !config.is_watched() && shows_picture {
            if self.has_desktop {
                config.display = DisplayChoice::Window(WindowOptions::default());
            } else if terminal_is_free && std::io::stdin().is_terminal() {
                config.display = DisplayChoice::Terminal;
            }
        }
        if self.full_screen {
            config.display = display::full_screen(config.display)?;
        }
        let no_serial = self.no_default_serial
            || self.display_chosen && config.display == DisplayChoice::None && self.serial.is_empty();
        let terminal_is_taken = config.monitor || config.display == DisplayChoice::Terminal;
        // As in QEMU: who looks at a window does not look at the terminal. But the ready-made guest speaks there only.
        let nobody_listens = matches!(config.display, DisplayChoice::Window(_))
            && !self.nographic
            && !(self.ready_made && config.kernel.is_none());
        config.serial = match self.serial.as_slice() {
            [] if no_serial && !self.nographic => Vec::new(),
            // The port is there, as guests expect, but nobody listens.
            [] if terminal_is_taken || nobody_listens => vec![Chardev::Null],
            [] => vec![Chardev::Stdio { escapes: true }],
            [None] => Vec::new(),
            // A port that is left out between others keeps its place, without anything behind it.
            ports => ports.iter().map(|port| port.clone().unwrap_or(Chardev::Null)).collect(),
        };
        if config.serial.len() > 4 {
            return Err(UserError::new(
                "-serial",
                "a PC has at most four serial ports",
                "give it at most four times",
            ));
        }
        let users = config.serial.iter().chain(&config.debugcon);
        let users = users.filter(|chardev| matches!(chardev, Chardev::Stdio { .. })).count();
        let ours = usize::from(config.monitor) + usize::from(config.display == DisplayChoice::Terminal);
        if users + ours > 1 {
            return Err(UserError::new(
                "stdio",
                "two things cannot share the terminal",
                "give one of them file:PATH or null",
            ));
        }
        crate::storage::plan(config.board, &config.drives, &config.devices)?;
        device::check(&config.test)?;
        boots_with(&config)?;
        if let Some(initrd) = self.initrd {
            if config.kernel.is_none() {
                return Err(UserError::new(
                    format!("-initrd {initrd}"),
                    "there is no kernel",
                    "add -kernel FILE",
                ));
            }
            config.initrd = Some(initrd);
        }
        if !config.append.is_empty() && config.kernel.is_none() {
            return Err(UserError::new("-append", "there is no kernel to pass it to", "add -kernel FILE"));
        }
        Ok(config)
    }
}

/// A kernel is entered in protected mode, which the first processors do not have.
fn boots_with(config: &MachineConfig) -> Result<(), UserError> {
    if config.kernel.is_some()
        && matches!(
            config.cpu.model.as_str(),
            "8086" | "8088" | "80186" | "80188" | "186" | "v20" | "v30" | "286"
        )
    {
        return Err(UserError::new(
            format!("-cpu {}", config.cpu.model),
            "this processor cannot be started in 32-bit protected mode, as a kernel is",
            "start a ROM with -bios, or use -cpu 386",
        ));
    }
    Ok(())
}

const MACHINE_HELP: &str = "Machines:\n  pc    i440FX and PIIX, IDE (the default)\n  \
    q35   Q35 and ICH9, PCI Express configuration, AHCI\n\n\
    Properties: acpi=on|off, hpet=on|off\n";

fn is_help(value: &str) -> bool {
    matches!(value, "help" | "?")
}

fn unknown_option(argument: &str, name: &str) -> UserError {
    if let Some(why) = options::absent(name) {
        let (what, remedy) = why.split_once("; ").unwrap_or((why, ""));
        return UserError::new(argument, what, remedy);
    }
    let names = options::OPTIONS.iter().flat_map(|spec| spec.names).copied();
    let remedy = match nearest(name, names) {
        Some(near) => format!("did you mean -{near}? --help lists the options"),
        None => "--help lists the options".into(),
    };
    UserError::new(argument, "there is no such option", remedy)
}

fn path(name: &str, value: &str) -> Result<std::path::PathBuf, UserError> {
    if value.is_empty() {
        return Err(UserError::new(
            format!("-{name}"),
            "the file name is empty",
            format!("write -{name} FILE"),
        ));
    }
    Ok(value.into())
}

/// The terminal, as debug console.
const STDIO: Option<Chardev> = Some(Chardev::Stdio { escapes: false });

fn vga(value: &str) -> Result<bool, UserError> {
    match value {
        "std" => Ok(true),
        "none" => Ok(false),
        _ => Err(UserError::new(
            format!("-vga {value}"),
            "there is no such display adapter",
            "use -vga std or none",
        )),
    }
}

fn monitor(value: &str) -> Result<bool, UserError> {
    match value {
        "stdio" => Ok(true),
        "none" | "null" => Ok(false),
        _ => Err(UserError::new(
            format!("-monitor {value}"),
            "the monitor can be on the terminal only",
            "use -monitor stdio or none",
        )),
    }
}

fn none_only(name: &str, value: &str, problem: &str) -> Result<(), UserError> {
    match value {
        "none" => Ok(()),
        _ => Err(UserError::new(format!("-{name} {value}"), problem, format!("use -{name} none"))),
    }
}

fn machine(config: &mut MachineConfig, name: &str, value: &str) -> Result<(), UserError> {
    let option = format!("-{name} {value}");
    for (index, item) in items(value).into_iter().enumerate() {
        match (item.key.as_str(), item.value.as_deref()) {
            (kind, None) if index == 0 => config.board = machine_type(&option, kind)?,
            ("type", Some(kind)) => config.board = machine_type(&option, kind)?,
            ("acpi", on) => config.acpi = switch(&option, on)?,
            ("hpet", on) => config.hpet = switch(&option, on)?,
            ("accel", Some(kind)) => accelerator(&option, kind)?,
            // Where interrupt controllers are emulated makes no difference here.
            ("kernel_irqchip" | "kernel-irqchip", Some("on" | "off" | "split")) => {}
            // What QEMU's users switch off is not there to begin with.
            (
                "usb" | "vmport" | "graphics" | "smm" | "mem-merge" | "dump-guest-core",
                Some("off" | "auto"),
            ) => {}
            (key, _) => return Err(unknown_key(&option, key, &["acpi", "hpet", "accel"])),
        }
    }
    Ok(())
}

fn machine_type(option: &str, kind: &str) -> Result<BoardKind, UserError> {
    let absent = |problem| Err(UserError::new(option, problem, "use -machine pc or q35"));
    match kind {
        "pc" => Ok(BoardKind::Pc),
        "q35" => Ok(BoardKind::Q35),
        _ if kind.starts_with("pc-i440fx") => Ok(BoardKind::Pc),
        _ if kind.starts_with("pc-q35") => Ok(BoardKind::Q35),
        "microvm" | "isapc" => absent(format!("the machine \"{kind}\" is not there yet")),
        _ => absent(format!("there is no machine \"{kind}\"")),
    }
}

fn accelerator(option: &str, value: &str) -> Result<(), UserError> {
    // QEMU separates alternatives by colons; one that is there suffices.
    let kind = value.split(',').next().unwrap_or("");
    if kind.split(':').any(|kind| kind == "tcg") {
        return Ok(());
    }
    let problem = match kind {
        "kvm" | "xen" | "hvf" | "whpx" | "nvmm" | "hax" => {
            "the emulator uses no hardware virtualisation".into()
        }
        other => format!("there is no accelerator \"{other}\""),
    };
    Err(UserError::new(option, problem, "leave it out or use tcg"))
}

fn tier(value: &str) -> Result<TierChoice, UserError> {
    match value {
        "auto" => Ok(TierChoice::Auto),
        "0" => Ok(TierChoice::Only0),
        "1" => Ok(TierChoice::Only1),
        _ => Err(UserError::new(
            format!("-tier {value}"),
            "there is no such tier",
            "use 0 (interpret), 1 (compile) or auto",
        )),
    }
}

#[cfg(test)]
mod tests;
