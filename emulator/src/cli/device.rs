//! `-device` and `-global`: the devices that outside test suites ask for.

use devices::harness::{PostConfig, PostFormat};

use super::error::{UserError, nearest};
use super::lists::{Item, items, number, unknown_key};
use crate::config::{DebugExit, PostDevice, TestDevices};

/// The text of `-device help`.
pub const HELP: &str = "\
Devices that can be added (QEMU's names and properties, but for retro-post):
  isa-debug-exit[,iobase=0x501][,iosize=2]
      a write of V ends with status (V << 1) | 1
  pc-testdev
      register at ports 0xe0-0xe3 and 0xe8-0xeb, interrupt inputs at 0x2000-0x2017, 64 KiB at 0xff000000
  pci-testdev[,addr=DEVICE]
      1b36:0005 with memory (BAR 0) and ports (BAR 1) that count accesses
  retro-post,file=PATH[,iobase=0x190][,iosize=1][,format=raw|hex][,exit=V]
      what is written to the ports goes to the file: bytes as they are, or a line of hexadecimal digits for each
      write; a write of V ends with status 0. May be given several times; port 0x80 is the usual place of POST codes.
";

const NAMES: [&str; 4] = ["isa-debug-exit", "pc-testdev", "pci-testdev", "retro-post"];
/// Devices of this kind that a machine can have.
const MAX_POST: usize = 8;
/// The first device number that the board leaves free.
const FIRST_PCI: u8 = 2;

/// Adds the device that `-device text` names.
pub fn add(devices: &mut TestDevices, text: &str) -> Result<(), UserError> {
    let option = format!("-device {text}");
    let mut items = items(text).into_iter();
    let name = items.next().map_or_else(String::new, |item| item.key);
    match name.as_str() {
        "isa-debug-exit" => devices.debug_exit = Some(debug_exit(&option, items)?),
        "pc-testdev" => {
            properties(&option, items, &[], |_, _| Ok(()))?;
            devices.pc_testdev = true;
        }
        "pci-testdev" => {
            let mut device = FIRST_PCI;
            properties(&option, items, &["addr"], |_, value| {
                // QEMU writes slot numbers in hexadecimal, and a function after a dot.
                let slot = value.strip_suffix(".0").unwrap_or(value);
                let digits = slot.strip_prefix("0x").unwrap_or(slot);
                let number = u8::from_str_radix(digits, 16).ok();
                device = number.filter(|n| (FIRST_PCI..32).contains(n)).ok_or_else(|| {
                    UserError::new(&option, format!("\"{value}\" is no free device number"), "give 2 to 0x1f")
                })?;
                Ok(())
            })?;
            devices.pci_testdev = Some(device);
        }
        "retro-post" if devices.post.len() == MAX_POST => {
            return Err(UserError::new(option, "there are eight of them already", "leave some out"));
        }
        "retro-post" => devices.post.push(post(&option, items)?),
        _ => {
            let names = NAMES.into_iter().chain(super::plugged::names());
            let remedy = match nearest(&name, names.clone()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("there are {}; leave it out", names.collect::<Vec<_>>().join(", ")),
            };
            return Err(UserError::new(option, format!("there is no device \"{name}\""), remedy));
        }
    }
    Ok(())
}

/// Hands each property to `set`; `id` means nothing here, but is no mistake.
fn properties(
    option: &str,
    items: impl Iterator<Item = Item>,
    known: &[&str],
    mut set: impl FnMut(&str, &str) -> Result<(), UserError>,
) -> Result<(), UserError> {
    for item in items {
        match item.key.as_str() {
            "id" => {}
            key if known.contains(&key) => set(key, item.value.as_deref().unwrap_or(""))?,
            key => return Err(unknown_key(option, key, known)),
        }
    }
    Ok(())
}

fn debug_exit(option: &str, items: impl Iterator<Item = Item>) -> Result<DebugExit, UserError> {
    // QEMU's defaults.
    let mut device = DebugExit { iobase: 0x501, iosize: 2 };
    properties(option, items, &["iobase", "iosize"], |key, value| {
        match key {
            "iobase" => device.iobase = number(option, key, value, 0xffff)? as u16,
            _ => device.iosize = number(option, key, value, 8)? as u16,
        }
        Ok(())
    })?;
    fits(option, device.iobase, device.iosize)?;
    Ok(device)
}

fn post(option: &str, items: impl Iterator<Item = Item>) -> Result<PostDevice, UserError> {
    let mut ports = PostConfig { iobase: 0x190, iosize: 1, format: PostFormat::Raw, exit: None };
    let mut file = String::new();
    properties(option, items, &["iobase", "iosize", "format", "exit", "file"], |key, value| {
        match key {
            "iobase" => ports.iobase = number(option, key, value, 0xffff)? as u16,
            "iosize" => ports.iosize = number(option, key, value, 8)? as u16,
            "exit" => ports.exit = Some(number(option, key, value, u32::MAX.into())? as u32),
            "file" => file = value.into(),
            _ => {
                ports.format = match value {
                    "raw" => PostFormat::Raw,
                    "hex" => PostFormat::Hex,
                    _ => {
                        let problem = format!("\"{value}\" is not a format");
                        return Err(UserError::new(option, problem, "write format=raw or format=hex"));
                    }
                };
            }
        }
        Ok(())
    })?;
    if file.is_empty() {
        return Err(UserError::new(option, "no file is named", "add file=PATH"));
    }
    fits(option, ports.iobase, ports.iosize)?;
    Ok(PostDevice { ports, file: file.into() })
}

fn fits(option: &str, iobase: u16, iosize: u16) -> Result<(), UserError> {
    if iosize == 0 || u32::from(iobase) + u32::from(iosize) > 0x1_0000 {
        let remedy = "give an iosize of 1 to 8 below port 0x10000";
        return Err(UserError::new(option, "the ports do not fit", remedy));
    }
    Ok(())
}

/// `-global driver.property=value`: the one that suites use.
pub fn global(devices: &mut TestDevices, text: &str) -> Result<(), UserError> {
    let option = format!("-global {text}");
    match text.split_once('=') {
        Some(("isa-debugcon.iobase", value)) => {
            devices.debugcon_port = Some(number(&option, "iobase", value, 0xffff)? as u16);
            Ok(())
        }
        _ => Err(UserError::new(option, "this property is not there", "there is isa-debugcon.iobase=PORT")),
    }
}

/// Refuses two devices at one port.
pub fn check(devices: &TestDevices) -> Result<(), UserError> {
    let mut ranges: Vec<(u32, u32, &str)> = Vec::new();
    let range = |base: u16, len: u16, name| (u32::from(base), u32::from(base) + u32::from(len), name);
    ranges.extend(devices.debug_exit.map(|d| range(d.iobase, d.iosize, "isa-debug-exit")));
    ranges.extend(devices.debugcon_port.map(|port| range(port, 1, "isa-debugcon")));
    ranges.extend(devices.post.iter().map(|d| range(d.ports.iobase, d.ports.iosize, "retro-post")));
    ranges.sort_unstable();
    match ranges.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        None => Ok(()),
        Some(pair) => Err(UserError::new(
            format!("-device {}", pair[1].2),
            format!("{} decodes port {:#x} too", pair[0].2, pair[1].0),
            "give one of them another iobase",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(texts: &[&str]) -> Result<TestDevices, UserError> {
        let mut devices = TestDevices::default();
        texts.iter().try_for_each(|text| add(&mut devices, text))?;
        check(&devices).map(|()| devices)
    }

    #[test]
    fn each_device_and_its_properties() {
        let exit = |text| devices(&[text]).map(|d| d.debug_exit.map(|d| (d.iobase, d.iosize)));
        assert_eq!(exit("isa-debug-exit"), Ok(Some((0x501, 2))));
        assert_eq!(exit("isa-debug-exit,iobase=0xf4,iosize=0x04,id=x"), Ok(Some((0xf4, 4))));
        let all = devices(&[
            "pc-testdev",
            "pci-testdev",
            "retro-post,file=/a",
            "retro-post,iobase=0x80,file=/b,format=hex,exit=0xff",
        ]);
        let all = all.unwrap();
        assert_eq!((all.pc_testdev, all.pci_testdev), (true, Some(2)));
        assert_eq!(
            (all.post[0].ports.iobase, all.post[0].ports.iosize, all.post[0].ports.exit),
            (0x190, 1, None)
        );
        assert_eq!((all.post[1].ports.format, all.post[1].ports.exit), (PostFormat::Hex, Some(0xff)));
        assert_eq!(devices(&["pci-testdev,addr=0x1f.0"]).unwrap().pci_testdev, Some(0x1f));
        for name in NAMES {
            assert!(HELP.contains(name));
        }
    }

    #[test]
    fn mistakes_get_a_remedy() {
        for (texts, hint) in [
            (&["isa-debug-exit,iobase=0x10000"][..], "0 to 65535"),
            (&["isa-debug-exit,iobase=0xffff,iosize=2"], "do not fit"),
            (&["isa-debug-exit,iosize=0"], "do not fit"),
            (&["e1000"], "there are isa-debug-exit"),
            (&["isa-debug-exti"], "\"isa-debug-exit\""),
            (&["isa-debug-exit,io=1"], "iobase"),
            (&["pci-testdev,addr=1"], "2 to 0x1f"),
            (&["pc-testdev,addr=1"], "not known"),
            (&["retro-post"], "file=PATH"),
            (&["retro-post,file=/a,format=text"], "format=hex"),
            (&["retro-post,file=/a", "isa-debug-exit,iobase=0x18f"], "decodes port 0x190 too"),
            (&["retro-post,file=/a"; 9], "eight"),
        ] {
            let line = devices(texts).unwrap_err().to_string();
            assert!(line.contains(hint), "{line}");
        }
        let mut devices = TestDevices::default();
        global(&mut devices, "isa-debugcon.iobase=0x402").unwrap();
        assert_eq!(devices.debugcon_port, Some(0x402));
        assert!(global(&mut devices, "e1000.mac=1").is_err());
    }
}
