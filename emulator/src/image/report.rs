//! What `retrograde image info` prints.

use std::fmt::Write;

use serde::Serialize;

use super::detect::{Arch, What};
use super::partitions::{Table, TableKind};
use super::{Image, Qcow2, plan};

/// A size for people: `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match value {
        _ if unit == 0 => format!("{bytes} bytes"),
        _ if value.fract() == 0.0 || value >= 100.0 => format!("{value:.0} {}", UNITS[unit]),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

/// The text without control characters: images name their parts as they like.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn contents(image: &Image) -> String {
    let Some(findings) = &image.findings else { return "not readable".into() };
    let mut text = match &findings.what {
        What::Kernel(kind) => kind.to_string(),
        What::Cd => "CD".into(),
        What::Floppy => "floppy disk".into(),
        What::HardDisk => "hard disk".into(),
        What::Rom => "ROM".into(),
        What::Other(what, _) => what.clone(),
    };
    if let Some(system) = findings.file_system {
        text += &format!(" with a file system ({system})");
    }
    if let Some(label) = &findings.label {
        text += &format!(" \"{}\"", printable(label));
    }
    text
}

/// How it boots, in words.
fn boots_by(image: &Image) -> Vec<String> {
    let Some(findings) = &image.findings else { return Vec::new() };
    let mut ways = Vec::new();
    if let What::Kernel(kind) = findings.what {
        ways.push(format!("-kernel ({kind})"));
    }
    if findings.what == What::Rom {
        ways.push("reset vector".into());
    }
    ways.extend(findings.bios.map(|how| format!("BIOS ({how})")));
    if !findings.uefi.is_empty() {
        ways.push(format!("UEFI ({})", names(findings.uefi.iter())));
    }
    ways
}

fn names<'a>(architectures: impl Iterator<Item = &'a Arch>) -> String {
    architectures.map(|arch| arch.name()).collect::<Vec<_>>().join(", ")
}

/// The report as text.
pub fn text(image: &Image) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "  {name:<14} {value}");
    };
    line("contents:", &contents(image));
    let format = match &image.qcow2 {
        Some(qcow2) => format!("qcow2, version {}", qcow2.version),
        None => image.format.to_owned(),
    };
    line("format:", &format);
    let bytes = image.virtual_bytes;
    line("size:", &format!("{} ({bytes} bytes), {} on the host", size(bytes), size(image.allocated_bytes)));
    for below in image.qcow2.iter().flat_map(|qcow2| &qcow2.backing) {
        let kind = below.format.unwrap_or("missing");
        line("backing file:", &format!("{} ({kind})", printable(&below.name)));
    }
    if let Some(findings) = &image.findings {
        let ways = boots_by(image);
        line("boots by:", &if ways.is_empty() { "nothing".into() } else { ways.join(", ") });
        if !findings.architectures.is_empty() {
            line("architecture:", &names(findings.architectures.iter()));
        }
        if let Some(table) = &findings.table {
            line("partitions:", if table.kind == TableKind::Gpt { "GPT" } else { "MBR" });
            for row in rows(table) {
                line("", &row);
            }
        }
    }
    match plan::plan(image) {
        Ok(plan) => line("run:", &plan.describe()),
        Err(error) => line("run:", &format!("no: {}", error.problem)),
    }
    for warning in &image.warnings {
        line("warning:", &printable(warning));
    }
    format!("{}\n{out}", printable(&image.path.display().to_string()))
}

fn rows(table: &Table) -> impl Iterator<Item = String> + '_ {
    table.partitions.iter().map(|partition| {
        let active = if partition.active { "*" } else { " " };
        let kind = partition.description.map_or_else(|| partition.kind.clone(), str::to_owned);
        let name =
            partition.name.as_deref().map_or_else(String::new, |name| format!(" \"{}\"", printable(name)));
        format!(
            "{:>3}{active} {:>10} at {:<10} {kind}{name}",
            partition.number,
            size(partition.length),
            size(partition.start)
        )
    })
}

/// The report for programs. Fields are added, not changed.
#[derive(Serialize)]
struct Json<'a> {
    file: String,
    format: &'a str,
    virtual_bytes: u64,
    allocated_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    qcow2: Option<&'a Qcow2>,
    contents: &'static str,
    description: String,
    label: Option<&'a str>,
    file_system: Option<&'a str>,
    partition_table: Option<&'a Table>,
    bios: Option<&'a str>,
    uefi: Vec<Arch>,
    architectures: Vec<Arch>,
    runs: bool,
    problem: Option<String>,
    remedy: Option<String>,
    warnings: &'a [String],
}

/// The report as JSON, on one line.
pub fn json(image: &Image) -> String {
    let findings = image.findings.as_ref();
    let verdict = plan::plan(image);
    let kind = match findings.map(|findings| &findings.what) {
        None => "unreadable",
        Some(What::Kernel(_)) => "kernel",
        Some(What::Cd) => "cd",
        Some(What::Floppy) => "floppy",
        Some(What::HardDisk) => "disk",
        Some(What::Rom) => "rom",
        Some(What::Other(..)) => "other",
    };
    let json = Json {
        file: image.path.display().to_string(),
        format: image.format,
        virtual_bytes: image.virtual_bytes,
        allocated_bytes: image.allocated_bytes,
        qcow2: image.qcow2.as_ref(),
        contents: kind,
        description: contents(image),
        label: findings.and_then(|findings| findings.label.as_deref()),
        file_system: findings.and_then(|findings| findings.file_system),
        partition_table: findings.and_then(|findings| findings.table.as_ref()),
        bios: findings.and_then(|findings| findings.bios),
        uefi: findings.map(|findings| findings.uefi.iter().copied().collect()).unwrap_or_default(),
        architectures: findings.map(|f| f.architectures.iter().copied().collect()).unwrap_or_default(),
        runs: verdict.is_ok(),
        problem: verdict.as_ref().err().map(|error| error.problem.clone()),
        remedy: verdict.err().map(|error| error.remedy).filter(|remedy| !remedy.is_empty()),
        warnings: &image.warnings,
    };
    // Strings, numbers and lists: nothing that JSON cannot say.
    serde_json::to_string(&json).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}
