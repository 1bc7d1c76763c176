//! The program from its arguments to its exit status.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crossbeam::channel::{Sender, bounded};
use jit::{EngineConfig, TierPolicy, Trace};

use crate::boot::{self, Prepared};
use crate::cli::{self, Invocation, UserError};
use crate::config::{DisplayChoice, LogItem, MachineConfig, SmpMode, TierChoice};
use crate::console::HostConsole;
use crate::display::window::{self, Opener};
use crate::display::{self, Hub, WindowFailure};
use crate::exit_status::ExitStatus;
use crate::guests::{self, Cache, GuestError};
use crate::machine::gate::{InputGate, Live};
use crate::machine::{BuildError, Console, Ended, Machine, Spec};
use crate::terminal::{self, Terminal};
use crate::{host_clock, host_text, image, logging, monitor, storage};

/// An end that is worth a line on standard error.
#[derive(Debug)]
struct Failure {
    status: ExitStatus,
    message: String,
}

impl From<UserError> for Failure {
    fn from(error: UserError) -> Self {
        Self { status: ExitStatus::UserMistake, message: error.to_string() }
    }
}

impl From<GuestError> for Failure {
    fn from(error: GuestError) -> Self {
        let remedy = error.remedy().map_or_else(String::new, |remedy| format!("; {remedy}"));
        Self { status: ExitStatus::HostError, message: format!("{error}{remedy}") }
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        let status = match error {
            BuildError::Load(_) => ExitStatus::UserMistake,
            BuildError::Ram(..) | BuildError::Map(_) => ExitStatus::HostError,
        };
        Self { status, message: error.to_string() }
    }
}

impl From<WindowFailure> for Failure {
    fn from(failure: WindowFailure) -> Self {
        match failure {
            WindowFailure::Mistake(error) => error.into(),
            WindowFailure::Lost(error) => error.into(),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { status: ExitStatus::HostError, message: error.to_string() }
    }
}

/// Runs the program. A panic is a bug of ours: it ends in a report, with the terminal restored.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(arguments)));
    let failure = match outcome {
        Ok(Ok(status)) => return status.into(),
        Ok(Err(failure)) => failure,
        Err(_) => Failure {
            status: ExitStatus::CannotGoOn,
            message: "a bug in the emulator (the message above says where); please report it".into(),
        },
    };
    // Standard error may be closed; the status still tells.
    let _ = writeln!(io::stderr(), "retrograde: {}", failure.message);
    failure.status.into()
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<ExitStatus, Failure> {
    let config = match cli::parse(arguments)? {
        Invocation::Print(text) => return print(&text),
        Invocation::Boot(config) => *config,
        Invocation::Guest { name, config } => ready_made(&name, *config)?,
        Invocation::ImageInfo { files, json } => return image_info(&files, json),
        Invocation::Image { path, options } => match machine_for_image(&path, &options)? {
            Invocation::Boot(config) => *config,
            Invocation::Print(text) => return print(&text),
            _ => unreachable!("an image is booted, or a text of its options is printed"),
        },
    };
    logging::start(&config.log)?;
    match config.display {
        // The desktop wants this thread, the process's first.
        DisplayChoice::Window(options) => {
            window::run(options, move |opener| build_and_run(&config, Some(&opener)))?
        }
        _ => build_and_run(&config, None),
    }
}

fn build_and_run(config: &MachineConfig, window: Option<&Opener>) -> Result<ExitStatus, Failure> {
    let prepared = boot::prepare(config)?;
    let console = HostConsole::open(config)?;
    run_machine(config, prepared, console, window)
}

fn print(text: &str) -> Result<ExitStatus, Failure> {
    // A reader that has seen enough (a pager) is no failure.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(ExitStatus::Done)
}

/// `image info`: every file is looked at, whatever the others are.
fn image_info(files: &[PathBuf], json: bool) -> Result<ExitStatus, Failure> {
    let mut last_failure = None;
    for path in files {
        match image::inspect(path) {
            Ok(seen) if json => drop(print(&(image::json(&seen) + "\n"))?),
            Ok(seen) => drop(print(&image::text(&seen))?),
            Err(error) => {
                if let Some(Failure { message, .. }) = last_failure.replace(Failure::from(error)) {
                    let _ = writeln!(io::stderr(), "retrograde: {message}");
                }
            }
        }
    }
    last_failure.map_or(Ok(ExitStatus::Done), Err)
}

/// Looks at the file and says what comes of it, where someone reads it.
fn machine_for_image(path: &Path, options: &[String]) -> Result<Invocation, Failure> {
    let seen = image::inspect(path)?;
    let plan = image::plan(&seen)?;
    let invocation = cli::machine_for(&plan, options)?;
    if io::stderr().is_terminal() && matches!(invocation, Invocation::Boot(_)) {
        let _ = writeln!(io::stderr(), "{} runs {}", path.display(), plan.describe());
    }
    for warning in &seen.warnings {
        let _ =
            writeln!(io::stderr(), "retrograde: {}", UserError::new(path.display().to_string(), warning, ""));
    }
    Ok(invocation)
}

/// Fills in the files and the command line of a ready-made guest where the user has not named others.
fn ready_made(name: &str, mut config: MachineConfig) -> Result<MachineConfig, Failure> {
    debug_assert_eq!(name, "debian", "the command line knows one guest");
    let guest = guests::debian(&Cache::open()?)?;
    if config.kernel.is_none() {
        config.kernel = Some(guest.kernel);
    }
    if config.initrd.is_none() {
        config.initrd = Some(guest.initrd.to_string_lossy().into_owned());
    }
    if config.append.is_empty() {
        config.append = guest.append.into();
    }
    Ok(config)
}

/// What the machine is made of, from the configuration.
fn spec(config: &MachineConfig, prepared: &Prepared) -> Result<Spec, UserError> {
    let mut model = cli::cpu_model(&config.cpu)?;
    model.rng = config.seed;
    model.set_topology(config.topology);
    let tier = match config.tier {
        // Its rules live in tier 0 alone.
        _ if model.era() < x86::model::Era::I286 => TierPolicy::Zero,
        TierChoice::Auto => TierPolicy::Auto,
        TierChoice::Only0 => TierPolicy::Zero,
        TierChoice::Only1 => TierPolicy::One,
    };
    let smp_mode = config.smp_mode.unwrap_or(SmpMode::DEFAULT);
    Ok(Spec {
        board: config.board,
        layout: prepared.layout,
        model,
        smp_seed: match smp_mode {
            SmpMode::Deterministic { seed: Some(seed) } => seed,
            _ => config.seed,
        },
        parallel: config.topology.cpus > 1 && smp_mode == SmpMode::Parallel,
        engine: EngineConfig { tier, trace: trace(&config.log.items), ..EngineConfig::default() },
        epoch_seconds: host_clock::power_on_seconds(config.rtc).max(0) as u64,
        serial_ports: config.serial.len() as u8,
        harness: config.harness(),
        fw_cfg: prepared.fw_cfg.clone(),
        vga: prepared.vga.clone(),
        no_reboot: config.no_reboot,
    })
}

/// What the engine has to show for `-d`.
fn trace(items: &[LogItem]) -> Trace {
    let asked = |item| items.contains(&item);
    Trace {
        guest_code: asked(LogItem::InAsm),
        host_code: asked(LogItem::OutAsm),
        ir: asked(LogItem::Op),
        blocks: asked(LogItem::Exec),
        registers: asked(LogItem::Cpu),
    }
}

fn run_machine(
    config: &MachineConfig,
    prepared: Prepared,
    mut console: HostConsole,
    window: Option<&Opener>,
) -> Result<ExitStatus, Failure> {
    if config.terminal().is_some() || config.is_watched() {
        // The guest's time is the wall clock's, and it will idle.
        match host_text::gather() {
            Ok(bytes) => tracing::debug!("{bytes} bytes of the program are in huge pages"),
            Err(why) => tracing::debug!("the program stays in small pages: {why}"),
        }
    }
    let drives = storage::open_all(config)?;
    if config.topology.cpus > 1 && config.smp_mode.is_none() && SmpMode::DEFAULT != SmpMode::Parallel {
        let how = "the processors take turns on one thread (-smp-mode deterministic); in parallel they would not be compiled on this host";
        let _ = writeln!(io::stderr(), "retrograde: -smp {}: {how}", config.topology.cpus);
    }
    let mut machine = Machine::new(spec(config, &prepared)?)?;
    machine.plug(drives, config.boot.cmos());
    machine.plug_flash(storage::open_flash(&config.drives)?)?;
    if let Some(setup) = prepared.setup {
        machine.set_up(setup);
    }
    machine.boot(prepared.chunks, prepared.entry)?;
    let (sender, input) = bounded(terminal::QUEUE);
    let hub = displays(config, &sender, window)?;
    let watched = hub.is_some();
    if let Some(hub) = hub {
        console.attach(hub);
    }
    // The terminal last: until here a mistake is reported on an ordinary terminal.
    let terminal = config.terminal().map(|purpose| Terminal::open(purpose, sender.clone())).transpose()?;
    drop(sender);
    let interactive = terminal.as_ref().is_some_and(|terminal| terminal.interactive);
    let mut gate = if terminal.is_some() || watched {
        InputGate::live(input, config.terminal_port(), interactive || watched)
    } else {
        InputGate::sealed()
    };
    if config.monitor {
        console.monitor(monitor::PROMPT)?;
    }
    let ended = machine.run(&mut gate, &mut console, None);
    // The screen first: what follows is for the user's own.
    drop(console);
    drop(terminal);
    let flushed = machine.devices().flush_disks();
    let status = conclude(ended?)?;
    flushed?;
    Ok(status)
}

/// Starts the servers of displays that others look at, and opens the window; `None`: there are none.
fn displays(
    config: &MachineConfig,
    input: &Sender<Live>,
    window: Option<&Opener>,
) -> Result<Option<Hub>, UserError> {
    if !config.is_watched() {
        return Ok(None);
    }
    let hub = Hub::new(input.clone());
    let say = |text: String| drop(writeln!(io::stderr(), "retrograde: {text}"));
    if let Some(vnc) = &config.vnc {
        let address = display::vnc::start(vnc, hub.lobby())?;
        say(format!("the display is at {address}, for VNC viewers"));
        if vnc.password.is_none() && !address.ip().is_loopback() {
            say("everyone who reaches this address has the machine; ,password=TEXT keeps the curious out"
                .into());
        }
    }
    if let DisplayChoice::Web(address) = config.display {
        say(format!("the display is at {}", display::web::start(address, hub.lobby())?));
    }
    if let Some(window) = window {
        window.open(hub.lobby());
    }
    Ok(Some(hub))
}

/// The exit status, and a line where the end was not an orderly one.
fn conclude(ended: Ended) -> Result<ExitStatus, Failure> {
    let failure = |status, message: &str| Err(Failure { status, message: message.into() });
    match ended {
        Ended::PowerOff | Ended::Reset | Ended::Stopped | Ended::Count => Ok(ExitStatus::Done),
        Ended::DebugExit(status) => Ok(ExitStatus::DebugExit(status)),
        Ended::TripleFault => failure(ExitStatus::GuestDied, "the guest's processor shut down: triple fault"),
        Ended::HaltedForever => {
            failure(ExitStatus::GuestDied, "the guest halted its processor, and nothing can wake it")
        }
        Ended::Report(text) => failure(ExitStatus::CannotGoOn, &text),
    }
}
