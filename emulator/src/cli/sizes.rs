//! `-m`: memory sizes in QEMU's spellings.

use bios::MemoryLayout;
use bios::e820::RAM_GRANULE;

use super::error::UserError;
use super::lists::{items, unknown_key};

/// Parses the value of `-m`: `512`, `512M`, `1.5G`, `size=1G`, `1G,slots=0`.
pub fn memory(text: &str) -> Result<u64, UserError> {
    let mut size = None;
    for item in items(text) {
        match (item.key.as_str(), item.value.as_deref()) {
            (bare, None) => size = Some(parse(text, bare)?),
            ("size", Some(value)) => size = Some(parse(text, value)?),
            ("slots" | "maxmem", Some(_)) => {
                return Err(UserError::new(
                    format!("-m {text}"),
                    "memory cannot be added while the machine runs",
                    "leave out slots and maxmem",
                ));
            }
            (key, _) => return Err(unknown_key(&format!("-m {text}"), key, &["size"])),
        }
    }
    let size = size.ok_or_else(|| UserError::new("-m", "no size is given", "write, for example, -m 512M"))?;
    check(text, size)
}

/// Rounds up to what the machine can have, and checks the bounds.
fn check(text: &str, bytes: u64) -> Result<u64, UserError> {
    let rounded = bytes.checked_next_multiple_of(RAM_GRANULE).unwrap_or(u64::MAX);
    match MemoryLayout::new(rounded) {
        Ok(layout) => Ok(layout.ram_bytes()),
        Err(problem) => Err(UserError::new(
            format!("-m {text}"),
            if bytes == 0 { "a machine needs memory".into() } else { problem.to_string() },
            "write, for example, -m 512M or -m 2G",
        )),
    }
}

/// A number with an optional fraction and unit; mebibytes if there is no unit.
fn parse(text: &str, value: &str) -> Result<u64, UserError> {
    let wrong = || {
        UserError::new(
            format!("-m {text}"),
            format!("\"{value}\" is not a size"),
            "write mebibytes (512) or a number with K, M, G or T (512M, 1.5G)",
        )
    };
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match value[digits.len()..].to_ascii_uppercase().as_str() {
        "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "" | "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !is_number(whole) || !is_number(fraction) {
        return Err(wrong());
    }
    // A number too large for 128 bits is too large for any machine.
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(u128::MAX) };
    let mut bytes = whole.saturating_mul(1 << shift);
    let mut weight: u128 = 1;
    for digit in fraction.bytes().take(12) {
        weight *= 10;
        bytes = bytes.saturating_add((u128::from(digit - b'0') << shift) / weight);
    }
    Ok(u64::try_from(bytes).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        for (text, mib) in [
            ("512", 512),
            ("512M", 512),
            ("0.5G", 512),
            ("1.5g", 1536),
            ("size=2G", 2048),
            ("1048576K", 1024),
            (".5G", 512),
            ("1G,", 1024),
        ] {
            assert_eq!(memory(text), Ok(mib << 20), "{text}");
        }
        assert_eq!(memory("4000001B"), Ok(4_000_001u64.next_multiple_of(RAM_GRANULE)));
    }

    #[test]
    fn mistakes_are_one_line_with_a_remedy() {
        for text in [
            "0",
            "0G",
            "1K",
            "-1",
            "1X",
            "",
            "size=",
            "1G,slots=2",
            "9999999999999999999999999999T",
            "1e3",
            "5.5.5",
            "siz=1G",
            "M",
            ".",
        ] {
            let line = memory(text).expect_err(text).to_string();
            assert!(line.starts_with("-m") && line.contains(';') && !line.contains('\n'), "{line}");
        }
        assert!(memory("0").unwrap_err().to_string().contains("needs memory"));
        assert!(memory("600G").unwrap_err().to_string().contains("511 GiB"));
    }
}
