//! `-d` and `-D`: which events are written down, and where.
//!
//! Events are `tracing` events whose target is the item's name (`in_asm`, `int` ...); warnings and errors of every part are
//! written always (of the window's library, errors). Lines carry no host time, so that the logs of two equal runs are equal. A log that cannot be written
//! to any more is given up with one line on standard error, and the machine runs on.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::boot::explain;
use crate::cli::UserError;
use crate::config::{LogConfig, LogItem};

impl LogItem {
    /// The target of the item's events.
    fn target(self) -> Option<&'static str> {
        Some(match self {
            Self::InAsm => "in_asm",
            Self::OutAsm => "out_asm",
            Self::Op => "op",
            Self::Int => "int",
            Self::Exec => "exec",
            Self::Cpu => "cpu",
            Self::Mmu => "mmu",
            Self::CpuReset => "cpu_reset",
            Self::Unimp => "unimp",
            Self::GuestErrors => "guest_errors",
            Self::Io => "io",
            Self::Mmio => "mmio",
            Self::Boot => "boot",
            Self::Pcall => "pcall",
            Self::Nochain => return None,
        })
    }
}

/// Starts logging; to be called once.
pub fn start(config: &LogConfig) -> Result<(), UserError> {
    let writer = LogWriter::open(config)?;
    let targets: Vec<&str> = config.items.iter().filter_map(|item| item.target()).collect();
    let most = if targets.is_empty() { LevelFilter::WARN } else { LevelFilter::TRACE };
    // Whole names: `cpu` is not `cpu_reset`.
    let wanted = move |event: &Metadata<'_>| {
        *event.level() <= worth_a_line(event.target()) || targets.contains(&event.target())
    };
    let filter = FilterFn::new(wanted).with_max_level_hint(most);
    let format = tracing_subscriber::fmt::layer().event_format(Lines).with_ansi(false).with_writer(writer);
    // A second start, as in a test process, keeps the first log.
    let _ = tracing_subscriber::registry().with(filter).with(format).try_init();
    Ok(())
}

/// What is written without being asked for. What the window's library finds odd about a desktop is nobody's trouble here.
fn worth_a_line(target: &str) -> Level {
    if target.split("::").next() == Some("winit") { Level::ERROR } else { Level::WARN }
}

/// What `-d` asks for is written as it is, in QEMU's manner; warnings and errors say what they are and where they come from.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let metadata = event.metadata();
        if *metadata.level() <= Level::WARN {
            write!(writer, "{} {}: ", metadata.level(), metadata.target())?;
        }
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Standard error or a file, until it fails.
#[derive(Clone, Debug)]
struct LogWriter {
    file: Arc<Mutex<Option<File>>>,
    name: Option<String>,
}

impl LogWriter {
    fn open(config: &LogConfig) -> Result<Self, UserError> {
        let Some(path) = &config.file else { return Ok(Self { file: Arc::default(), name: None }) };
        let name = path.display().to_string();
        let file = File::create(path).map_err(|error| {
            let (problem, remedy) = explain(&error);
            UserError::new(format!("-D {name}"), problem, remedy)
        })?;
        Ok(Self { file: Arc::new(Mutex::new(Some(file))), name: Some(name) })
    }
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(name) = &self.name else {
            // A standard error that is closed is no reason to stop.
            let _ = io::stderr().lock().write_all(bytes);
            return Ok(bytes.len());
        };
        // A poisoned lock means a panic elsewhere: its log is worth having.
        let mut file = self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(open) = file.as_mut()
            && let Err(error) = open.write_all(bytes)
        {
            let (problem, remedy) = explain(&error);
            let _ = writeln!(io::stderr(), "retrograde: -D {name}: {problem}; {remedy}; the log ends here");
            *file = None;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: &str) -> LogConfig {
        LogConfig { items: Vec::new(), file: Some(path.into()) }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_ends_the_log_and_nothing_else() {
        let mut writer = LogWriter::open(&config("/dev/full")).unwrap();
        assert_eq!(writer.write(b"first\n").unwrap(), 6);
        assert!(writer.file.lock().unwrap().is_none());
        assert_eq!(writer.write(b"second\n").unwrap(), 7);
    }

    #[test]
    fn a_log_that_cannot_be_made_is_the_users_mistake() {
        let message = LogWriter::open(&config("/nonexistent-folder/log")).unwrap_err().to_string();
        assert!(message.starts_with("-D /nonexistent-folder/log: "), "{message}");
    }
}
