//! Which drive is connected where: from what the user asked for to places at controllers.
//!
//! A bus is what QEMU calls one: an IDE channel with two units, or a port of an AHCI controller with one. Drives of the
//! board (`-hda`, `if=ide`) have their places by their index; those of `-device` name a bus, or take the first free place.

use devices::ahci::PORTS;
use devices::pc::{BootPlace, CdPlace};

use std::ops::Range;

use super::config::{DeviceKind, DriveConfig, Interface, Media, PluggedDevice};
use crate::cli::UserError;
use crate::config::{BoardKind, MachineConfig};

/// Units of the two IDE channels.
const CHANNEL_UNITS: usize = 2;

/// A drive at a place: `None` for a CD drive without a medium that no `-drive` describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The drive; its `media` is the kind of device that it is connected as.
    pub drive: Option<DriveConfig>,
    /// Disk or CD.
    pub media: Media,
    /// The name of the `-device`, if it has one.
    pub name: Option<String>,
    /// Its rank among what is booted from first.
    pub boot_index: Option<u32>,
}

/// A bus with its places.
struct Bus {
    name: String,
    units: Vec<Option<Connected>>,
}

/// A disk that is a PCI card of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCard {
    /// What the user wrote, for messages.
    pub option: String,
    /// A virtio block device or an NVMe controller.
    pub kind: DeviceKind,
    /// Its contents.
    pub drive: DriveConfig,
    /// Its serial number.
    pub serial: Option<String>,
    /// Its rank among what is booted from first.
    pub boot_index: Option<u32>,
    /// PCI device and function number, if it is to be at a certain place.
    pub address: Option<(u8, u8)>,
}

/// The ports of an AHCI controller.
pub type Ports = [Option<Connected>; PORTS];

/// Where every drive is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Disks that are PCI disks: those of `-drive if=virtio`, then the others in their order.
    pub disks: Vec<DiskCard>,
    /// The IDE channels of a `pc`: primary master and slave, secondary master and slave.
    pub ide: [Option<Connected>; 4],
    /// The ports of a `q35`'s own controller.
    pub sata: Ports,
    /// AHCI controllers on cards.
    pub cards: Vec<AhciCard>,
}

/// An AHCI controller on a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AhciCard {
    /// The name, which those of its buses begin with.
    pub name: String,
    /// PCI device and function number, if it is to be at a certain place.
    pub address: Option<(u8, u8)>,
    /// Its drives.
    pub ports: Ports,
}

/// What users call each CD drive: by its place as QEMU does, or by the names that they gave. The first one is `cdrom` too.
pub fn cd_names(board: BoardKind, plan: &Plan) -> Vec<(String, CdPlace)> {
    let mut names = Vec::new();
    let mut add = |name: String, at: CdPlace, unit: &Option<Connected>| {
        let Some(Connected { drive, media: Media::Cdrom, name: given, .. }) = unit else { return };
        let drive = drive.as_ref().and_then(|drive| drive.id.as_ref());
        names.extend(
            [Some(&name), drive, given.as_ref()].into_iter().flatten().map(|name| (name.clone(), at)),
        );
    };
    for (n, unit) in plan.ide.iter().chain(&plan.sata).enumerate() {
        let (at, name) = match board {
            BoardKind::Pc => (n, format!("ide{}-cd{}", n / CHANNEL_UNITS, n % CHANNEL_UNITS)),
            BoardKind::Q35 => (n - plan.ide.len().min(n), format!("ide{}-cd0", n - plan.ide.len().min(n))),
        };
        add(name, CdPlace::Board(at), unit);
    }
    for (number, card) in plan.cards.iter().enumerate() {
        for (port, unit) in card.ports.iter().enumerate() {
            add(format!("{}.{port}", card.name), CdPlace::Card { card: number, port }, unit);
        }
    }
    if let Some((_, first)) = names.first().cloned() {
        names.push(("cdrom".into(), first));
    }
    names
}

/// What is booted from first, the first one first. Cards have the numbers in which they are plugged in: AHCI controllers, then
/// disks.
pub fn boot_first(plan: &Plan) -> Vec<BootPlace> {
    let rank = |unit: &Option<Connected>| unit.as_ref().and_then(|unit| unit.boot_index);
    let mut found: Vec<(u32, BootPlace)> = Vec::new();
    let mut add = |rank: Option<u32>, place| found.extend(rank.map(|rank| (rank, place)));
    plan.ide.iter().enumerate().for_each(|(n, unit)| add(rank(unit), BootPlace::Ide(n)));
    plan.sata.iter().enumerate().for_each(|(n, unit)| add(rank(unit), BootPlace::Sata(n)));
    for (number, card) in plan.cards.iter().enumerate() {
        for (port, unit) in card.ports.iter().enumerate() {
            add(rank(unit), BootPlace::Ahci { card: number, port });
        }
    }
    for (number, card) in (plan.cards.len()..).zip(&plan.disks) {
        let nvme = card.kind == DeviceKind::Nvme;
        add(card.boot_index, if nvme { BootPlace::Nvme(number) } else { BootPlace::Virtio(number) });
    }
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().map(|(_, place)| place).collect()
}

/// No two devices have one rank.
fn ranks(devices: &[PluggedDevice]) -> Result<(), UserError> {
    for (n, device) in devices.iter().enumerate() {
        let Some(rank) = device.boot_index else { continue };
        if devices[..n].iter().any(|other| other.boot_index == Some(rank)) {
            let problem = format!("another device has bootindex {rank} already");
            return Err(UserError::new(&device.option, problem, "give each another number"));
        }
    }
    Ok(())
}

/// Finds a place for each drive.
pub fn plan(board: BoardKind, drives: &[DriveConfig], devices: &[PluggedDevice]) -> Result<Plan, UserError> {
    let (own, units) = match board {
        BoardKind::Pc => (2, CHANNEL_UNITS),
        BoardKind::Q35 => (PORTS, 1),
    };
    let mut buses: Vec<Bus> = (0..own).map(|n| bus(format!("ide.{n}"), units)).collect();
    let cards: Vec<_> = devices.iter().filter(|device| device.kind == DeviceKind::Ahci).collect();
    let name = |n: usize, card: &PluggedDevice| card.id.clone().unwrap_or_else(|| format!("ahci{n}"));
    for (n, card) in cards.iter().enumerate() {
        let name = name(n, card);
        buses.extend((0..PORTS).map(|port| bus(format!("{name}.{port}"), 1)));
    }
    for drive in drives.iter().filter(|drive| drive.interface == Interface::Ide) {
        let index = usize::from(drive.index);
        let bus = buses[..own].get_mut(index / units);
        let there = drive.media == Media::Cdrom || drive.file.is_some();
        if let Some(bus) = bus.filter(|_| there) {
            bus.units[index % units] = Some(Connected {
                drive: Some(drive.clone()),
                media: drive.media,
                name: None,
                boot_index: None,
            });
        }
    }
    let mut plan = Plan::default();
    let virtio = drives.iter().filter(|drive| drive.interface == Interface::Virtio && drive.file.is_some());
    plan.disks.extend(virtio.map(|drive| DiskCard {
        option: drive.option.clone(),
        kind: DeviceKind::VirtioBlk,
        drive: drive.clone(),
        serial: None,
        boot_index: None,
        address: None,
    }));
    let mut used = Vec::new();
    for device in devices {
        match device.kind {
            DeviceKind::AtaDisk | DeviceKind::AtaCd => connect(device, drives, &mut used, &mut buses)?,
            DeviceKind::Ahci => {}
            DeviceKind::VirtioBlk | DeviceKind::Nvme => {
                plan.disks.push(disk_card(device, drives, &mut used)?)
            }
        }
    }
    addresses(devices)?;
    ranks(devices)?;
    let mut units = buses.into_iter().flat_map(|bus| bus.units);
    match board {
        BoardKind::Pc => plan.ide.fill_with(|| units.next().flatten()),
        BoardKind::Q35 => plan.sata.fill_with(|| units.next().flatten()),
    }
    for (n, card) in cards.into_iter().enumerate() {
        let mut ports = Ports::default();
        ports.fill_with(|| units.next().flatten());
        plan.cards.push(AhciCard { name: name(n, card), address: card.address, ports });
    }
    Ok(plan)
}

fn bus(name: String, units: usize) -> Bus {
    Bus { name, units: (0..units).map(|_| None).collect() }
}

/// The drive that `device` names, which no other may use.
pub fn contents<'a>(
    device: &PluggedDevice,
    drives: &'a [DriveConfig],
    used: &mut Vec<String>,
) -> Result<Option<&'a DriveConfig>, UserError> {
    let Some(name) = &device.drive else { return Ok(None) };
    let error = |problem: String, remedy: &str| Err(UserError::new(&device.option, problem, remedy));
    let Some(drive) = drives.iter().find(|drive| drive.id.as_ref() == Some(name)) else {
        return error(format!("there is no drive \"{name}\""), "add -drive if=none,id=NAME,file=PATH");
    };
    if drive.interface != Interface::None || used.contains(name) {
        return error(
            format!("the drive \"{name}\" is connected already"),
            "give -drive if=none for a drive that a -device names, and one -device for each",
        );
    }
    used.push(name.clone());
    Ok(Some(drive))
}

fn no_contents(device: &PluggedDevice) -> UserError {
    UserError::new(&device.option, "a disk needs contents", "add drive=ID of a -drive with a file")
}

/// A disk that is a card.
fn disk_card(
    device: &PluggedDevice,
    drives: &[DriveConfig],
    used: &mut Vec<String>,
) -> Result<DiskCard, UserError> {
    let drive = contents(device, drives, used)?.filter(|drive| drive.file.is_some());
    let PluggedDevice { option, kind, id: _, drive: _, bus: _, address, serial, boot_index } = device.clone();
    let drive = drive.ok_or_else(|| no_contents(device))?.clone();
    Ok(DiskCard { option, kind, drive, serial, boot_index, address })
}

/// PCI devices that may be the user's: before them are bridges and display, and the last one is a `q35`'s bridge.
const CARDS: Range<u8> = 3..0x1f;

/// No two cards are at one place, and none where the board has something.
fn addresses(devices: &[PluggedDevice]) -> Result<(), UserError> {
    for (n, device) in devices.iter().enumerate() {
        let Some(at) = device.address else { continue };
        if !CARDS.contains(&at.0) || devices[..n].iter().any(|other| other.address == Some(at)) {
            return Err(UserError::new(
                &device.option,
                format!("something is at PCI address {:x}.{} already", at.0, at.1),
                format!("give another one from {:x} to {:x}, or none", CARDS.start, CARDS.end - 1),
            ));
        }
    }
    Ok(())
}

/// The pci-testdev is at a place of its own.
pub fn test_device_place(config: &MachineConfig) -> Result<(), UserError> {
    let Some(device) = config.harness().pci_testdev else { return Ok(()) };
    let bridge = config.board == BoardKind::Q35 && device == CARDS.end;
    if bridge || config.devices.iter().any(|other| other.address == Some((device, 0))) {
        return Err(UserError::new(
            format!("-device pci-testdev,addr={device:x}"),
            format!("something is at PCI address {device:x}.0 already"),
            "give one of them another address",
        ));
    }
    Ok(())
}

/// Connects an ATA or ATAPI drive.
fn connect(
    device: &PluggedDevice,
    drives: &[DriveConfig],
    used: &mut Vec<String>,
    buses: &mut [Bus],
) -> Result<(), UserError> {
    let media = if device.kind == DeviceKind::AtaCd { Media::Cdrom } else { Media::Disk };
    let drive = contents(device, drives, used)?;
    if media == Media::Disk && drive.is_none_or(|drive| drive.file.is_none()) {
        return Err(no_contents(device));
    }
    let drive = drive.map(|drive| {
        let serial = device.serial.clone().or(drive.serial.clone());
        DriveConfig { media, serial, ..drive.clone() }
    });
    *place(device, buses)? =
        Some(Connected { drive, media, name: device.id.clone(), boot_index: device.boot_index });
    Ok(())
}

/// The place that `device` asks for, or the first free one.
fn place<'a>(device: &PluggedDevice, buses: &'a mut [Bus]) -> Result<&'a mut Option<Connected>, UserError> {
    let names = buses.iter().map(|bus| bus.name.as_str()).collect::<Vec<_>>().join(", ");
    let free = |problem: String| UserError::new(&device.option, problem, format!("there are {names}"));
    let Some((name, unit)) = &device.bus else {
        let first = buses.iter_mut().flat_map(|bus| &mut bus.units).find(|unit| unit.is_none());
        return first.ok_or_else(|| free("every place for a drive is taken".into()));
    };
    let Some(bus) = buses.iter_mut().find(|bus| bus.name == *name) else {
        return Err(free(format!("there is no bus \"{name}\"")));
    };
    let count = bus.units.len();
    let taken = || free(format!("bus \"{name}\" has no free place there (it has {count})"));
    let found = match unit {
        Some(unit) => bus.units.get_mut(usize::from(*unit)).filter(|unit| unit.is_none()),
        None => bus.units.iter_mut().find(|unit| unit.is_none()),
    };
    found.ok_or_else(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive(id: &str, interface: Interface, index: u8) -> DriveConfig {
        DriveConfig {
            option: "-drive".into(),
            id: Some(id.into()),
            file: Some("a".into()),
            format: None,
            interface,
            media: Media::Disk,
            index,
            read_only: false,
            snapshot: false,
            serial: None,
        }
    }

    fn device(kind: DeviceKind, drive: Option<&str>, bus: Option<(&str, Option<u8>)>) -> PluggedDevice {
        PluggedDevice {
            option: "-device x".into(),
            kind,
            id: None,
            drive: drive.map(Into::into),
            bus: bus.map(|(name, unit)| (name.into(), unit)),
            address: None,
            serial: None,
            boot_index: None,
        }
    }

    #[test]
    fn cards_of_both_kinds() {
        let drives = [drive("a", Interface::Virtio, 0), drive("b", Interface::None, 0)];
        let nvme = PluggedDevice { address: Some((5, 0)), ..device(DeviceKind::Nvme, Some("b"), None) };
        let cards = plan(BoardKind::Pc, &drives, std::slice::from_ref(&nvme)).unwrap().disks;
        let found: Vec<_> =
            cards.iter().map(|card| (card.kind, card.drive.id.as_deref(), card.address)).collect();
        assert_eq!(
            found,
            [(DeviceKind::VirtioBlk, Some("a"), None), (DeviceKind::Nvme, Some("b"), Some((5, 0)))]
        );
        let refused =
            |device: PluggedDevice| plan(BoardKind::Pc, &drives, &[device]).unwrap_err().to_string();
        assert!(refused(PluggedDevice { address: Some((2, 0)), ..nvme.clone() }).contains("address 2.0"));
        assert!(refused(PluggedDevice { drive: Some("a".into()), ..nvme.clone() }).contains("connected"));
        assert!(refused(PluggedDevice { drive: None, ..nvme }).contains("needs contents"));
    }

    #[test]
    fn drives_by_index_by_bus_and_where_there_is_room() {
        let drives =
            [drive("a", Interface::Ide, 2), drive("b", Interface::None, 0), drive("c", Interface::None, 1)];
        let devices = [
            device(DeviceKind::AtaCd, None, Some(("ide.1", None))),
            device(DeviceKind::AtaDisk, Some("b"), Some(("ide.0", Some(1)))),
            device(DeviceKind::AtaCd, Some("c"), None),
        ];
        let plan = plan(BoardKind::Pc, &drives, &devices).unwrap();
        let ids = plan.ide.map(|unit| {
            let unit = unit.unwrap();
            (unit.drive.and_then(|drive| drive.id), unit.media)
        });
        let (disk, cd) = (Media::Disk, Media::Cdrom);
        let id = |name: &str| Some(name.to_owned());
        assert_eq!(ids, [(id("c"), cd), (id("b"), disk), (id("a"), disk), (None, cd)]);
    }

    #[test]
    fn what_is_booted_from_first() {
        let drives: Vec<_> =
            (b'a'..b'f').map(|n| drive(&char::from(n).to_string(), Interface::None, n)).collect();
        let ranked = |device: PluggedDevice, rank| PluggedDevice { boot_index: Some(rank), ..device };
        let mut devices = vec![
            ranked(device(DeviceKind::Nvme, Some("a"), None), 3),
            ranked(device(DeviceKind::VirtioBlk, Some("b"), None), 1),
            device(DeviceKind::Ahci, None, None),
            ranked(device(DeviceKind::AtaDisk, Some("c"), Some(("ahci0.4", None))), 0),
            ranked(device(DeviceKind::AtaCd, Some("d"), None), 2),
            device(DeviceKind::VirtioBlk, Some("e"), None),
        ];
        let order = |devices: &[PluggedDevice]| {
            plan(BoardKind::Pc, &drives, devices)
                .map(|plan| boot_first(&plan))
                .map_err(|error| error.to_string())
        };
        let places = [
            BootPlace::Ahci { card: 0, port: 4 },
            BootPlace::Virtio(2),
            BootPlace::Ide(0),
            BootPlace::Nvme(1),
        ];
        assert_eq!(order(&devices).unwrap(), places);
        devices[4].boot_index = Some(0);
        assert!(order(&devices).unwrap_err().contains("bootindex 0 already"));
    }

    #[test]
    fn ahci_ports_of_the_board_and_of_cards() {
        let drives =
            [drive("a", Interface::Ide, 2), drive("b", Interface::None, 0), drive("c", Interface::None, 1)];
        let card = PluggedDevice {
            id: Some("x".into()),
            address: Some((5, 0)),
            ..device(DeviceKind::Ahci, None, None)
        };
        let devices = [
            device(DeviceKind::AtaDisk, Some("b"), Some(("x.3", None))),
            device(DeviceKind::AtaCd, Some("c"), None),
            card,
        ];
        let names: Vec<_> = cd_names(BoardKind::Q35, &plan(BoardKind::Q35, &drives, &devices).unwrap());
        assert_eq!(names[..2], [("ide0-cd0".into(), CdPlace::Board(0)), ("c".into(), CdPlace::Board(0))]);
        let id =
            |unit: &Option<Connected>| unit.as_ref().and_then(|unit| unit.drive.clone()).and_then(|d| d.id);
        for board in [BoardKind::Pc, BoardKind::Q35] {
            let Plan { ide, sata, cards, disks: _ } = plan(board, &drives, &devices).unwrap();
            assert_eq!(
                (cards.len(), cards[0].address, id(&cards[0].ports[3])),
                (1, Some((5, 0)), Some("b".into()))
            );
            let own: Vec<_> = ide.iter().chain(&sata).filter_map(id).collect();
            assert_eq!(own, ["c", "a"]);
            assert_eq!(sata[2].is_some(), board == BoardKind::Q35);
        }
    }

    #[test]
    fn cd_drives_have_names() {
        let drives = [DriveConfig { media: Media::Cdrom, ..drive("a", Interface::Ide, 2) }];
        let cd = PluggedDevice {
            id: Some("d".into()),
            ..device(DeviceKind::AtaCd, None, Some(("ahci0.5", None)))
        };
        let devices = [device(DeviceKind::Ahci, None, None), cd];
        let names = cd_names(BoardKind::Pc, &plan(BoardKind::Pc, &drives, &devices).unwrap());
        let (board, card) = (CdPlace::Board(2), CdPlace::Card { card: 0, port: 5 });
        let want = [("ide1-cd0", board), ("a", board), ("ahci0.5", card), ("d", card), ("cdrom", board)];
        assert_eq!(names, want.map(|(name, at)| (name.to_owned(), at)));
    }

    #[test]
    fn a_test_device_where_something_is() {
        let at = |board, place, other| {
            let card = PluggedDevice { address: Some(other), ..device(DeviceKind::Ahci, None, None) };
            let mut config = MachineConfig { board, devices: vec![card], ..MachineConfig::default() };
            config.test.pci_testdev = Some(place);
            test_device_place(&config).map_err(|error| error.to_string())
        };
        assert_eq!(at(BoardKind::Pc, 5, (6, 0)), Ok(()));
        assert_eq!(at(BoardKind::Pc, 5, (5, 1)), Ok(()));
        assert!(at(BoardKind::Pc, 5, (5, 0)).unwrap_err().contains("address 5.0"));
        assert!(at(BoardKind::Q35, 0x1f, (5, 0)).unwrap_err().contains("address 1f.0"));
    }

    #[test]
    fn mistakes() {
        let drives = [drive("a", Interface::Ide, 0), drive("b", Interface::None, 0)];
        for (drive, bus, hint) in [
            (Some("x"), None, "no drive \"x\""),
            (Some("a"), None, "connected already"),
            (None, None, "needs contents"),
            (Some("b"), Some(("ide.2", None)), "ide.0, ide.1"),
            (Some("b"), Some(("ide.0", Some(0))), "no free place"),
            (Some("b"), Some(("ide.0", Some(2))), "no free place"),
        ] {
            let line = plan(BoardKind::Pc, &drives, &[device(DeviceKind::AtaDisk, drive, bus)])
                .unwrap_err()
                .to_string();
            assert!(line.contains(hint), "{line}");
        }
        let twice =
            [device(DeviceKind::AtaDisk, Some("b"), None), device(DeviceKind::AtaCd, Some("b"), None)];
        assert!(plan(BoardKind::Pc, &drives, &twice).unwrap_err().to_string().contains("connected already"));
    }
}
