//! `-serial` and `-debugcon`: where characters go.

use std::path::PathBuf;

use super::error::{UserError, nearest};
use crate::config::Chardev;

/// Kinds of QEMU that are not there.
const ABSENT: &[&str] = &[
    "pty",
    "tcp",
    "udp",
    "telnet",
    "websocket",
    "unix",
    "pipe",
    "vc",
    "chardev",
    "msmouse",
    "braille",
    "con",
];

/// Parses a character device; `None` for `none`.
pub fn parse(option: &str, text: &str) -> Result<Option<Chardev>, UserError> {
    let subject = format!("-{option} {text}");
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    match (kind, rest) {
        ("none", "") => Ok(None),
        ("null", "") => Ok(Some(Chardev::Null)),
        ("stdio", "") => Ok(Some(Chardev::Stdio { escapes: false })),
        ("mon", "stdio") => Ok(Some(Chardev::Stdio { escapes: true })),
        ("file", "") => Err(UserError::new(subject, "no file is named", "write file:PATH")),
        ("file", path) => Ok(Some(Chardev::File(PathBuf::from(path)))),
        ("mon", other) if !other.is_empty() => parse(option, other),
        _ if ABSENT.contains(&kind) || kind.starts_with('/') => Err(UserError::new(
            subject,
            "this kind of character device is not there yet",
            "use stdio, mon:stdio, file:PATH or null",
        )),
        _ => {
            let remedy = match nearest(kind, ["stdio", "file", "null", "none", "mon"]) {
                Some(near) => {
                    format!("did you mean \"{near}\"? There are stdio, mon:stdio, file:PATH, null, none")
                }
                None => "use stdio, mon:stdio, file:PATH, null or none".into(),
            };
            Err(UserError::new(subject, format!("\"{kind}\" is not a character device"), remedy))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        assert_eq!(parse("serial", "stdio"), Ok(Some(Chardev::Stdio { escapes: false })));
        assert_eq!(parse("serial", "mon:stdio"), Ok(Some(Chardev::Stdio { escapes: true })));
        assert_eq!(parse("serial", "file:/a:b"), Ok(Some(Chardev::File("/a:b".into()))));
        assert_eq!(parse("serial", "none"), Ok(None));
        for (text, hint) in [
            ("pty", "not there yet"),
            ("stido", "\"stdio\""),
            ("file:", "file:PATH"),
            ("/dev/x", "file:PATH"),
        ] {
            let line = parse("serial", text).unwrap_err().to_string();
            assert!(line.contains(hint), "{line}");
        }
    }
}
