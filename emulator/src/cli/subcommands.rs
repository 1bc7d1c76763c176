//! `retrograde run` and `retrograde image`.

use std::path::{Path, PathBuf};

use super::error::{UserError, nearest};
use super::{Invocation, Parser, drive};
use crate::config::MachineConfig;
use crate::image::{Plan, Role};

/// Guests that `retrograde run` knows.
const GUESTS: [&str; 1] = ["debian"];

/// `retrograde run [GUEST | FILE] [--] [options]`.
pub(super) fn run(arguments: &[String]) -> Result<Invocation, UserError> {
    let (name, rest) = match arguments.split_first() {
        Some((first, rest)) if !first.starts_with('-') => (first.as_str(), rest),
        _ => (GUESTS[0], arguments),
    };
    let rest = match rest.split_first() {
        Some((dashes, rest)) if dashes == "--" => rest,
        _ => rest,
    };
    if !GUESTS.contains(&name) {
        return run_file(name, rest);
    }
    let defaults = MachineConfig { ram_bytes: 512 << 20, no_reboot: true, ..MachineConfig::default() };
    let mut parser = Parser { ready_made: true, ..Parser::new(defaults) };
    if let Some(printed) = parser.options(rest)? {
        return Ok(Invocation::Print(printed));
    }
    Ok(Invocation::Guest { name: name.into(), config: Box::new(parser.finish()?) })
}

fn run_file(name: &str, rest: &[String]) -> Result<Invocation, UserError> {
    let path = Path::new(name);
    // A bare name without an extension is meant as a guest's, unless such a file is there.
    let bare = path.components().count() == 1 && path.extension().is_none();
    if bare && !path.exists() {
        let remedy = match nearest(name, GUESTS) {
            Some(near) => format!("did you mean \"retrograde run {near}\"?"),
            None => format!("name a file, or a guest: {}", GUESTS.join(", ")),
        };
        return Err(UserError::new(format!("run {name}"), "there is no such guest or file", remedy));
    }
    Ok(Invocation::Image { path: path.into(), options: rest.to_vec() })
}

/// The machine for an image that has been looked at, with the user's options.
pub fn machine_for(plan: &Plan, options: &[String]) -> Result<Invocation, UserError> {
    let defaults = MachineConfig { ram_bytes: plan.ram_bytes, ..MachineConfig::default() };
    let mut parser = Parser { ready_made: matches!(plan.role, Role::Kernel(_)), ..Parser::new(defaults) };
    match plan.role {
        Role::Kernel(_) => parser.config.kernel = Some(plan.path.clone()),
        Role::Rom => parser.config.bios = Some(plan.path.clone()),
        Role::Disk | Role::Cd | Role::Floppy => {
            if let Some((drive, order)) = drive::image(plan) {
                parser.drives.push(drive);
                parser.config.boot.order = order.into();
            }
        }
    }
    if let Some(printed) = parser.options(options)? {
        return Ok(Invocation::Print(printed));
    }
    if plan.uefi && parser.config.bios.is_none() && !parser.drives.iter().any(drive::Asked::is_flash) {
        let (code, variables) = crate::firmware_files::uefi().ok_or_else(|| {
            UserError::new(
                plan.path.display().to_string(),
                "this boots by UEFI only, and this host has no UEFI firmware for PCs",
                "install OVMF (package ovmf), or give firmware with -drive if=pflash,file=PATH",
            )
        })?;
        parser.drives.extend(drive::uefi(code, variables));
    }
    let mut config = parser.finish()?;
    if plan.role == Role::Kernel(true) && config.append.is_empty() && config.terminal_port().is_some() {
        config.append = "console=ttyS0".into();
    }
    Ok(Invocation::Boot(Box::new(config)))
}

/// `retrograde image info FILE... [--json]`.
pub(super) fn image(arguments: &[String]) -> Result<Invocation, UserError> {
    const USAGE: &str = "write: retrograde image info FILE [--json]";
    let mistake = |subject: String, problem: &str| Err(UserError::new(subject, problem, USAGE));
    match arguments.split_first() {
        Some((info, rest)) if info == "info" => {
            let (flags, files): (Vec<_>, Vec<_>) = rest.iter().partition(|word| word.starts_with('-'));
            if let Some(flag) = flags.iter().find(|flag| !matches!(flag.as_str(), "--json" | "-json")) {
                return mistake(format!("image info {flag}"), "there is no such option");
            }
            if files.is_empty() {
                return mistake("image info".into(), "no file is named");
            }
            let files = files.into_iter().map(PathBuf::from).collect();
            Ok(Invocation::ImageInfo { files, json: !flags.is_empty() })
        }
        Some((other, _)) => mistake(format!("image {other}"), "there is no such command"),
        None => mistake("image".into(), "a command must follow"),
    }
}
