//! `-serial` and `-debugcon`: where characters go.

use std::path::PathBuf;

use super::error::{UserError, nearest};
use super::lists::{items, unknown_key};
use crate::config::{Chardev, DebugExit};

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

/// Parses the value of `-device`: the exit device is the only one that is added by hand.
pub fn device(text: &str) -> Result<DebugExit, UserError> {
    let option = format!("-device {text}");
    let mut items = items(text).into_iter();
    let name = items.next().map_or_else(String::new, |item| item.key);
    if name != "isa-debug-exit" {
        let remedy = match nearest(&name, ["isa-debug-exit"]) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "only isa-debug-exit can be added so far; leave it out".into(),
        };
        return Err(UserError::new(option, format!("there is no device \"{name}\""), remedy));
    }
    // QEMU's defaults.
    let mut device = DebugExit { iobase: 0x501, iosize: 2 };
    for item in items {
        let value = item.value.as_deref().unwrap_or("");
        match item.key.as_str() {
            "iobase" => device.iobase = super::lists::number(&option, "iobase", value, 0xffff)? as u16,
            "iosize" => device.iosize = super::lists::number(&option, "iosize", value, 8)? as u16,
            "id" => {}
            key => return Err(unknown_key(&option, key, &["iobase", "iosize"])),
        }
    }
    if device.iosize == 0 || u32::from(device.iobase) + u32::from(device.iosize) > 0x1_0000 {
        return Err(UserError::new(
            option,
            "the ports do not fit",
            "give an iosize of 1 to 8 below port 0x10000",
        ));
    }
    Ok(device)
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

    #[test]
    fn the_exit_device() {
        assert_eq!(device("isa-debug-exit"), Ok(DebugExit { iobase: 0x501, iosize: 2 }));
        assert_eq!(
            device("isa-debug-exit,iobase=0xf4,iosize=0x04"),
            Ok(DebugExit { iobase: 0xf4, iosize: 4 })
        );
        for text in [
            "isa-debug-exit,iobase=0x10000",
            "isa-debug-exit,iobase=0xffff,iosize=2",
            "isa-debug-exit,iosize=0",
            "e1000",
            "isa-debug-exti",
            "isa-debug-exit,io=1",
        ] {
            assert!(device(text).is_err(), "{text}");
        }
    }
}
