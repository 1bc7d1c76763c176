//! `-d`: what is logged.

use super::error::{UserError, nearest};
use super::lists::split;
use crate::config::LogItem;

/// Names and meanings, in the order of the help text.
const ITEMS: &[(&str, LogItem, &str)] = &[
    ("boot", LogItem::Boot, "how far the guest has come: modes, POST codes, display, first output"),
    ("in_asm", LogItem::InAsm, "guest instructions of each translated block"),
    ("out_asm", LogItem::OutAsm, "host instructions of each compiled block"),
    ("op", LogItem::Op, "intermediate code of each compiled block (Cranelift's)"),
    ("int", LogItem::Int, "interrupts and exceptions, with the registers"),
    ("exec", LogItem::Exec, "each block before it runs (much output)"),
    ("cpu", LogItem::Cpu, "registers before each block (much output)"),
    ("mmu", LogItem::Mmu, "page faults and TLB flushes"),
    ("pcall", LogItem::Pcall, "far calls, jumps and returns, IRET"),
    ("cpu_reset", LogItem::CpuReset, "processor and machine resets"),
    ("unimp", LogItem::Unimp, "use of what is not implemented"),
    ("guest_errors", LogItem::GuestErrors, "what the guest does wrong: accesses that no device answers"),
    ("io", LogItem::Io, "port accesses (much output)"),
    ("mmio", LogItem::Mmio, "device memory accesses (much output)"),
    ("nochain", LogItem::Nochain, "nothing: exec and cpu see every block anyway"),
];

/// Parses the value of `-d`.
pub fn parse(text: &str) -> Result<Vec<LogItem>, UserError> {
    let mut chosen = split(text).iter().map(|name| item(text, name)).collect::<Result<Vec<_>, _>>()?;
    chosen.sort_unstable();
    chosen.dedup();
    Ok(chosen)
}

fn item(text: &str, name: &str) -> Result<LogItem, UserError> {
    if let Some((_, item, _)) = ITEMS.iter().find(|(known, _, _)| *known == name) {
        return Ok(*item);
    }
    let remedy = match nearest(name, ITEMS.iter().map(|(known, _, _)| *known)) {
        Some(near) => format!("did you mean \"{near}\"? -d help lists them"),
        None => "-d help lists the items".into(),
    };
    Err(UserError::new(format!("-d {text}"), format!("there is no log item \"{name}\""), remedy))
}

/// The text of `-d help`.
pub fn help() -> String {
    let lines = ITEMS.iter().map(|(name, _, what)| format!("  {name:<14} {what}\n"));
    format!("Log items, separated by commas:\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_a_set() {
        assert_eq!(parse("int,in_asm,int"), Ok(vec![LogItem::InAsm, LogItem::Int]));
        assert!(parse("in_ams").unwrap_err().to_string().contains("\"in_asm\""));
        assert!(parse("trace:x").unwrap_err().to_string().contains("-d help"));
        assert!(ITEMS.iter().all(|(name, _, _)| help().contains(name)));
    }
}
