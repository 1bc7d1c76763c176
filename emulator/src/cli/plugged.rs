//! `-device` for controllers and drives, as QEMU names them.

use super::error::UserError;
use super::lists::{items, number, unknown_key};
use crate::storage::{DeviceKind, PluggedDevice};

/// What can be plugged in: name, kind, and what it takes besides `id`.
const KINDS: [(&str, DeviceKind, &[&str]); 7] = [
    ("ahci", DeviceKind::Ahci, &["addr"]),
    ("ich9-ahci", DeviceKind::Ahci, &["addr"]),
    ("ide-hd", DeviceKind::AtaDisk, &["drive", "serial", "bus", "unit", "bootindex"]),
    ("ide-cd", DeviceKind::AtaCd, &["drive", "bus", "unit", "bootindex"]),
    ("virtio-blk-pci", DeviceKind::VirtioBlk, &["drive", "serial", "addr", "bootindex"]),
    ("virtio-blk", DeviceKind::VirtioBlk, &["drive", "serial", "addr", "bootindex"]),
    ("nvme", DeviceKind::Nvme, &["drive", "serial", "addr", "bootindex"]),
];

/// For `-device help`.
pub const HELP: &str = "\
  ahci[,id=ID][,addr=DEVICE.FUNCTION] (or ich9-ahci)
      a serial ATA controller (ICH9, AHCI) with six ports: buses ID.0 to ID.5
  ide-hd,drive=ID[,serial=TEXT][,bus=BUS][,unit=N][,bootindex=N]
      a disk with the contents of -drive if=none,id=ID at an IDE channel (ide.0, ide.1; on q35 the ports
      ide.0 to ide.5 of the board's own AHCI controller) or at a port of a controller that is plugged in
  ide-cd[,drive=ID][,bus=BUS][,unit=N][,bootindex=N]
      a CD-ROM drive there
  virtio-blk-pci,drive=ID[,serial=TEXT][,addr=DEVICE[.FUNCTION]][,bootindex=N]
      a virtio block device (1af4:1001, for legacy and modern drivers) with the contents of -drive if=none,id=ID
  nvme,drive=ID[,serial=TEXT][,addr=DEVICE[.FUNCTION]][,bootindex=N]
      an NVMe controller (1b36:0010) with one namespace
  A drive with bootindex=N is tried before those that -boot order= names, the lowest N first; the first disk of them is
  the BIOS's disk 80h.
";

/// The names.
pub fn names() -> impl Iterator<Item = &'static str> + Clone {
    KINDS.iter().map(|(name, ..)| *name)
}

/// Reads `-device text`; `None`: it is none of these.
pub fn parse(text: &str) -> Result<Option<PluggedDevice>, UserError> {
    let option = format!("-device {text}");
    let mut items = items(text).into_iter();
    let name = items.next().map_or_else(String::new, |item| item.key);
    let Some((_, kind, known)) = KINDS.iter().find(|(known, ..)| *known == name) else { return Ok(None) };
    let mut device = PluggedDevice {
        option: option.clone(),
        kind: *kind,
        id: None,
        drive: None,
        bus: None,
        address: None,
        serial: None,
        boot_index: None,
    };
    let mut unit = None;
    for item in items {
        let text = item.value.clone().unwrap_or_default();
        match item.key.as_str() {
            "id" => device.id = Some(text),
            key if !known.contains(&key) => return Err(unknown_key(&option, key, known)),
            "drive" => device.drive = Some(text),
            "serial" => device.serial = Some(serial(&option, text)?),
            "bus" => device.bus = Some((text, None)),
            "bootindex" => {
                device.boot_index = Some(number(&option, "bootindex", &text, i32::MAX as u64)? as u32);
            }
            "unit" => unit = Some(number(&option, "unit", &text, 1)? as u8),
            _ => device.address = Some(address(&option, &text)?),
        }
    }
    match &mut device.bus {
        Some((_, place)) => *place = unit,
        None if unit.is_some() => {
            return Err(UserError::new(option, "a unit is a place on a bus", "add bus=ide.0, for example"));
        }
        None => {}
    }
    Ok(Some(device))
}

/// A serial number: 20 characters are what all controllers have room for.
pub fn serial(option: &str, text: String) -> Result<String, UserError> {
    if text.is_empty() || text.len() > 20 || !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    {
        let problem = format!("\"{text}\" cannot be a serial number");
        return Err(UserError::new(option, problem, "give up to 20 characters of ASCII"));
    }
    Ok(text)
}

/// A PCI address as QEMU writes it: the device number in hexadecimal, and a function after a dot.
fn address(option: &str, text: &str) -> Result<(u8, u8), UserError> {
    let (device, function) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| u8::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok();
    let both = digits(device).filter(|n| *n < 32).zip(digits(function).filter(|n| *n < 8));
    both.ok_or_else(|| {
        UserError::new(option, format!("\"{text}\" is no PCI address"), "write addr=5 or addr=1f.3")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_with_their_properties() {
        let disk = parse("ide-hd,drive=d,bus=ide.1,unit=1,id=x").unwrap().unwrap();
        assert_eq!((disk.kind, disk.drive.as_deref()), (DeviceKind::AtaDisk, Some("d")));
        assert_eq!((disk.bus, disk.id.as_deref()), (Some(("ide.1".into(), Some(1))), Some("x")));
        let nvme = parse("nvme,drive=d,serial=S-1,addr=5,bootindex=2").unwrap().unwrap();
        assert_eq!((nvme.serial.as_deref(), nvme.address), (Some("S-1"), Some((5, 0))));
        assert_eq!(nvme.boot_index, Some(2));
        assert_eq!(parse("pc-testdev"), Ok(None));
        assert_eq!([address("", "0x5"), address("", "1f.3")], [Ok((5, 0)), Ok((0x1f, 3))]);
        for (text, hint) in [
            ("ide-hd,dirve=d", "\"drive\""),
            ("ide-hd,drive=d,bootindex=x", "0 to 2147483647"),
            ("ide-cd,unit=1", "bus=ide.0"),
            ("ide-cd,bus=ide.0,unit=2", "0 to 1"),
            ("nvme,drive=d,serial=123456789012345678901", "20 characters"),
            ("virtio-blk-pci,bus=ide.0", "known here: drive, serial, addr, bootindex"),
        ] {
            let line = parse(text).unwrap_err().to_string();
            assert!(line.contains(hint), "{line}");
        }
        assert!(address("", "20").is_err() && address("", "1.8").is_err());
        assert!(names().all(|name| HELP.contains(name)));
    }
}
