//! `-drive` and its short forms, `-boot`.

use std::path::PathBuf;

use devices::ahci::PORTS;

use super::error::UserError;
use super::lists::{items, number, switch, unknown_key};
use super::plugged::serial;
use crate::config::BoardKind;
use crate::image::{Plan, Role};
use crate::storage::{BootOrder, DriveConfig, ImageFormat, Interface, Media};

/// A drive whose place may not be known yet.
#[derive(Clone, Debug)]
pub struct Asked {
    config: DriveConfig,
    index: Option<u8>,
    /// Bus and unit, which stand for an index.
    place: Option<(u8, u8)>,
}

fn asked(option: String, file: Option<PathBuf>, interface: Interface, media: Media) -> Asked {
    let config = DriveConfig {
        option,
        id: None,
        file,
        format: None,
        interface,
        media,
        index: 0,
        read_only: false,
        snapshot: false,
        serial: None,
    };
    Asked { config, index: None, place: None }
}

/// `-hda` to `-hdd`.
pub fn disk(name: &str, file: PathBuf, index: u8) -> Asked {
    Asked { index: Some(index), ..asked(format!("-{name}"), Some(file), Interface::Ide, Media::Disk) }
}

/// `-cdrom`.
pub fn cdrom(file: PathBuf) -> Asked {
    Asked { index: Some(2), ..asked("-cdrom".into(), Some(file), Interface::Ide, Media::Cdrom) }
}

/// `-fda` and `-fdb`.
pub fn floppy(name: &str, file: PathBuf, index: u8) -> Asked {
    Asked { index: Some(index), ..asked(format!("-{name}"), Some(file), Interface::Floppy, Media::Disk) }
}

/// The image of `retrograde run`, and the boot order that puts it first.
pub fn image(plan: &Plan) -> Option<(Asked, &'static str)> {
    let (mut asked, order) = match plan.role {
        Role::Disk => (disk("hda", plan.path.clone(), 0), "cda"),
        Role::Cd => (cdrom(plan.path.clone()), "dca"),
        Role::Floppy => (floppy("fda", plan.path.clone(), 0), "acd"),
        Role::Kernel(_) | Role::Rom => return None,
    };
    asked.config.option = "run".into();
    asked.config.snapshot = plan.snapshot;
    // It has been looked at: what is a raw image today is not taken for another format.
    asked.config.format = Some(if plan.qcow2 { ImageFormat::Qcow2 } else { ImageFormat::Raw });
    Some((asked, order))
}

/// UEFI firmware in flash, for an image that boots by nothing else. Its variables are those of this run.
pub fn uefi(code: PathBuf, variables: PathBuf) -> [Asked; 2] {
    let chip = |file, index| {
        let mut chip = asked("run".into(), Some(file), Interface::Flash, Media::Disk);
        chip.index = Some(index);
        chip.config.format = Some(ImageFormat::Raw);
        chip
    };
    let (mut code, mut variables) = (chip(code, 0), chip(variables, 1));
    (code.config.read_only, variables.config.snapshot) = (true, true);
    [code, variables]
}

impl Asked {
    /// Is it a flash chip?
    pub fn is_flash(&self) -> bool {
        self.config.interface == Interface::Flash
    }
}

/// `-drive`.
pub fn parse(value: &str) -> Result<Asked, UserError> {
    let option = format!("-drive {value}");
    let mut drive = asked("-drive".into(), None, Interface::Ide, Media::Disk);
    let (mut bus, mut unit) = (None, None);
    for item in items(value) {
        let text = item.value.as_deref().unwrap_or("");
        let config = &mut drive.config;
        match item.key.as_str() {
            "file" if !text.is_empty() => config.file = Some(text.into()),
            "format" => config.format = Some(format(&option, text)?),
            "if" => config.interface = interface(&option, text)?,
            "media" => config.media = media(&option, text)?,
            "index" => drive.index = Some(number(&option, "index", text, 5)? as u8),
            "id" => config.id = item.value,
            "bus" => bus = Some(number(&option, "bus", text, 5)? as u8),
            "unit" => unit = Some(number(&option, "unit", text, 1)? as u8),
            "readonly" | "read-only" => config.read_only = switch(&option, item.value.as_deref())?,
            "snapshot" => config.snapshot = switch(&option, item.value.as_deref())?,
            "serial" => config.serial = Some(serial(&option, text.into())?),
            // What does not change what a guest sees, or is so anyway.
            "cache" | "aio" | "discard" | "werror" | "rerror" | "detect-zeroes" | "copy-on-read" => {}
            key => {
                let known = ["file", "format", "if", "media", "index", "readonly", "snapshot", "serial"];
                return Err(unknown_key(&option, key, &known));
            }
        }
    }
    if bus.is_some() || unit.is_some() {
        drive.place = Some((bus.unwrap_or(0), unit.unwrap_or(0)));
    }
    if drive.config.file.is_none() && drive.config.media == Media::Disk {
        return Err(UserError::new(option, "no image is named", "write file=PATH"));
    }
    Ok(drive)
}

fn format(option: &str, text: &str) -> Result<ImageFormat, UserError> {
    match text {
        "raw" => Ok(ImageFormat::Raw),
        "qcow2" => Ok(ImageFormat::Qcow2),
        _ => {
            let remedy = "use raw or qcow2; qemu-img convert makes one of others";
            Err(UserError::new(option, format!("the format \"{text}\" is not there"), remedy))
        }
    }
}

fn interface(option: &str, text: &str) -> Result<Interface, UserError> {
    match text {
        "ide" => Ok(Interface::Ide),
        "floppy" => Ok(Interface::Floppy),
        "virtio" => Ok(Interface::Virtio),
        "pflash" => Ok(Interface::Flash),
        "none" => Ok(Interface::None),
        _ => Err(UserError::new(
            option,
            format!("the interface \"{text}\" is not there yet"),
            "use if=ide, virtio, floppy, pflash or none",
        )),
    }
}

fn media(option: &str, text: &str) -> Result<Media, UserError> {
    match text {
        "disk" => Ok(Media::Disk),
        "cdrom" => Ok(Media::Cdrom),
        _ => {
            Err(UserError::new(option, format!("there are no \"{text}\" drives"), "use media=disk or cdrom"))
        }
    }
}

/// Gives every drive its place: those that named one first, the others in the order in which they were asked for.
pub fn place(
    mut drives: Vec<Asked>,
    snapshot: bool,
    board: BoardKind,
) -> Result<Vec<DriveConfig>, UserError> {
    // An IDE channel has two units, a port of an AHCI controller one.
    let (ide_places, units) = match board {
        BoardKind::Pc => (4, 2),
        BoardKind::Q35 => (PORTS as u8, 1),
    };
    for drive in &mut drives {
        let units = if drive.config.interface == Interface::Ide { units } else { 2 };
        drive.index = drive.place.map(|(bus, unit)| units * bus + unit).or(drive.index);
    }
    let mut placed: Vec<DriveConfig> = Vec::new();
    let (named, unnamed): (Vec<_>, Vec<_>) = drives.into_iter().partition(|drive| drive.index.is_some());
    for Asked { mut config, index, .. } in named.into_iter().chain(unnamed) {
        config.snapshot |= snapshot;
        let places = match config.interface {
            Interface::Ide => ide_places,
            Interface::Floppy | Interface::Flash => 2,
            // As many as find a PCI slot.
            Interface::Virtio => 16,
            Interface::None => u8::MAX,
        };
        let taken = |index: u8| placed.iter().any(|d| d.interface == config.interface && d.index == index);
        let subject =
            || format!("{} {}", config.option, config.file.as_deref().unwrap_or("".as_ref()).display());
        let index = match index {
            Some(index) if index >= places => {
                return Err(UserError::new(
                    subject(),
                    format!("there is no place {index}"),
                    "use a lower index",
                ));
            }
            Some(index) if taken(index) => {
                let problem = format!("another drive is at place {index} already");
                return Err(UserError::new(subject(), problem, "give one of them another index"));
            }
            Some(index) => index,
            None => (0..places).find(|index| !taken(*index)).ok_or_else(|| {
                UserError::new(subject(), format!("all {places} places are taken"), "leave a drive out")
            })?,
        };
        config.index = index;
        placed.push(config);
    }
    Ok(placed)
}

/// `-boot`: `ORDER` or `order=ORDER[,menu=on]`.
pub fn boot(value: &str) -> Result<BootOrder, UserError> {
    let option = format!("-boot {value}");
    let mut boot = BootOrder::default();
    for (n, item) in items(value).into_iter().enumerate() {
        match (item.key.as_str(), item.value.as_deref()) {
            (order, None) if n == 0 => boot.order = letters(&option, order)?,
            ("order" | "once", Some(order)) => boot.order = letters(&option, order)?,
            ("menu", on) => boot.menu = switch(&option, on)?,
            ("strict" | "splash" | "splash-time" | "reboot-timeout", _) => {}
            (key, _) => return Err(unknown_key(&option, key, &["order", "menu"])),
        }
    }
    Ok(boot)
}

fn letters(option: &str, order: &str) -> Result<String, UserError> {
    let known = !order.is_empty() && order.chars().all(|letter| matches!(letter, 'a'..='d' | 'n'));
    let repeated = order.chars().enumerate().any(|(n, letter)| order[..n].contains(letter));
    if !known || repeated {
        return Err(UserError::new(
            option,
            format!("\"{order}\" is not a boot order"),
            "use each of a (floppy), c (disk), d (CD) and n (network) at most once",
        ));
    }
    Ok(order.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(values: &[&str]) -> Vec<(u8, Interface)> {
        let drives = values.iter().map(|value| parse(value).unwrap()).collect();
        place(drives, false, BoardKind::Pc)
            .unwrap()
            .into_iter()
            .map(|drive| (drive.index, drive.interface))
            .collect()
    }

    #[test]
    fn drives_find_their_places() {
        let ide = Interface::Ide;
        assert_eq!(placed(&["file=a", "file=b,index=0", "file=c"]), [(0, ide), (1, ide), (2, ide)]);
        assert_eq!(placed(&["file=a,if=floppy", "media=cdrom,bus=1,unit=1"])[0], (3, ide));
        let twice = vec![disk("hda", "a".into(), 0), disk("hda", "b".into(), 0)];
        assert!(place(twice, false, BoardKind::Pc).unwrap_err().to_string().contains("another drive"));
        let flash = Interface::Flash;
        let chips = placed(&["file=a,if=pflash,unit=1", "file=b,if=pflash,format=raw,readonly=on"]);
        assert_eq!(chips, [(1, flash), (0, flash)]);
        let all = place(vec![cdrom("a".into()), disk("hda", "b".into(), 0)], true, BoardKind::Pc).unwrap();
        assert!(all.iter().all(|drive| drive.snapshot) && all[0].is_read_only() && all[0].index == 2);
    }

    #[test]
    fn mistakes_name_what_there_is() {
        for (value, hint) in [
            ("file=a,if=scsi", "if=ide"),
            ("file=a,format=vmdk", "qemu-img"),
            ("file=a,indx=1", "\"index\""),
            ("format=raw", "file=PATH"),
            ("file=a,index=6", "0 to 5"),
            ("file=a,serial=", "20 characters"),
        ] {
            let line = parse(value).unwrap_err().to_string();
            assert!(line.contains(hint), "{line}");
        }
        assert!(boot("dd").is_err() && boot("order=x").is_err());
        assert_eq!(boot("order=dc,menu=on").unwrap(), BootOrder { order: "dc".into(), menu: true });
        assert_eq!(boot("d").unwrap().cmos(), [0x03, 0]);
        assert_eq!(BootOrder::default().cmos(), [0x12, 0x30]);
    }
}
