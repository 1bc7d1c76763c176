//! Whole Debian systems on disks of each kind, under SeaBIOS and under our own BIOS: log in, write a file, switch off; the next
//! boot finds it, and the file system is clean.

use std::path::{Path, PathBuf};
use std::process::Command;

use emulator::config::{BoardKind, MachineConfig, SmpMode};
use emulator::guests::disks::{DEBIAN_AMD64, DEBIAN_I386};
use emulator::guests::{self, Disk};
use emulator::storage::{BootOrder, DeviceKind, DriveConfig, Interface, Media, PluggedDevice};
use jit::TierPolicy;
use tests::harness::pc::{Pc, configuration, drive};
use x86::model::Topology;

/// A system that is booted.
struct Image {
    disk: &'static Disk,
    /// Names another image of such a system instead of the cache's. Like that it must have a serial console, root without a
    /// password, and an ext4 file system at [`Disk::OFFSET`].
    variable: &'static str,
}

/// Its kernel is without a driver for AHCI; the other has one.
static AMD64: Image = Image { disk: &DEBIAN_AMD64, variable: "RETROGRADE_DEBIAN_DISK" };
static I386: Image = Image { disk: &DEBIAN_I386, variable: "RETROGRADE_DEBIAN_DISK_I386" };

impl Image {
    fn copy_to(&self, folder: &Path) -> Option<PathBuf> {
        let image = match std::env::var_os(self.variable) {
            Some(named) => named.into(),
            None => self.disk.for_test()?,
        };
        let copy = folder.join("debian.img");
        std::fs::copy(image, &copy).expect("room for a copy");
        Some(copy)
    }
}

const RAM: u64 = 512 << 20;

/// How the disk is connected, and what Linux calls it.
#[derive(Clone, Copy)]
enum Connection {
    Ide,
    /// On the board that has it.
    Ahci,
    Virtio,
    Nvme,
}

impl Connection {
    fn name(self) -> &'static str {
        match self {
            Self::Ide | Self::Ahci => "sda",
            Self::Virtio => "vda",
            Self::Nvme => "nvme0n1",
        }
    }

    fn interface(self) -> Interface {
        match self {
            Self::Ide | Self::Ahci => Interface::Ide,
            Self::Virtio => Interface::Virtio,
            Self::Nvme => Interface::None,
        }
    }

    fn board(self) -> BoardKind {
        match self {
            Self::Ahci => BoardKind::Q35,
            _ => BoardKind::Pc,
        }
    }

    /// The card that has the drive, if its interface does not say so.
    fn card(self) -> Option<PluggedDevice> {
        matches!(self, Self::Nvme).then(|| PluggedDevice {
            option: "-device".into(),
            kind: DeviceKind::Nvme,
            id: None,
            drive: Some("disk".into()),
            bus: None,
            address: None,
            serial: None,
            boot_index: None,
        })
    }
}

#[derive(Clone, Copy)]
enum Bios {
    Own,
    Sea,
}

/// What is booted.
struct System {
    image: &'static Image,
    connection: Connection,
    bios: Bios,
    /// More than one run in parallel, where the host can do that.
    processors: u32,
}

impl System {
    fn new(image: &'static Image, connection: Connection, bios: Bios) -> Self {
        Self { image, connection, bios, processors: 1 }
    }

    fn power_on(&self, disk: &Path) -> Option<Pc> {
        let bios = match self.bios {
            Bios::Own => "builtin".into(),
            Bios::Sea => {
                guests::for_test(&guests::VGA_BIOS)?;
                guests::for_test(&guests::SEABIOS)?
            }
        };
        let drive = drive(disk, self.connection.interface(), Media::Disk, 0, true);
        let config = MachineConfig {
            board: self.connection.board(),
            topology: Topology::cores(self.processors),
            smp_mode: (self.processors > 1).then_some(SmpMode::DEFAULT),
            bios: Some(bios),
            drives: vec![DriveConfig { id: Some("disk".into()), ..drive }],
            devices: self.connection.card().into_iter().collect(),
            boot: BootOrder { order: "c".into(), menu: false },
            no_reboot: false,
            ..configuration(RAM)
        };
        Some(Pc::power_on(&config, TierPolicy::Auto))
    }

    /// So many seconds; in parallel they are the host's, which may have much else to do.
    fn patience(&self, seconds: u64) -> u64 {
        if self.processors > 1 { 20 * seconds } else { seconds }
    }

    fn keeps_what_is_written(&self) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let Some(disk) = self.image.copy_to(folder.path()) else { return };
        let write = "echo $((6*7)) kept > /root/note; sync; ls /sys/block\n";
        for (command, answer) in [(write, self.connection.name()), ("cat /root/note\n", "42 kept")] {
            let Some(mut pc) = self.power_on(&disk) else { return };
            let processors = format!("{} processors", self.processors);
            pc.until_serial(" login:", self.patience(900));
            pc.type_serial("root\n", ":~# ", self.patience(120));
            pc.type_serial("echo $(nproc) processors\n", &processors, self.patience(60));
            pc.type_serial(command, answer, self.patience(60));
            pc.type_serial("systemctl poweroff\n", "reboot: Power down", self.patience(300));
            pc.until_off(self.patience(60));
            pc.machine.devices().flush_disks().expect("the image can be written");
            drop(pc);
            file_system_is_clean(&disk);
        }
    }
}

fn file_system_is_clean(disk: &Path) {
    let mut partition = disk.as_os_str().to_owned();
    partition.push(format!("?offset={}", Disk::OFFSET));
    match Command::new("e2fsck").arg("-fn").arg(partition).output() {
        Ok(check) => assert!(check.status.success(), "{check:?}"),
        Err(error) => guests::skip("e2fsck", &format!("cannot be run on this host: {error}")),
    }
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn debian_for_amd64_under_seabios() {
    System::new(&AMD64, Connection::Ide, Bios::Sea).keeps_what_is_written();
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn debian_for_amd64_under_our_bios() {
    System::new(&AMD64, Connection::Ide, Bios::Own).keeps_what_is_written();
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn debian_for_i386_under_seabios() {
    System::new(&I386, Connection::Ide, Bios::Sea).keeps_what_is_written();
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn debian_for_i386_under_our_bios() {
    System::new(&I386, Connection::Ide, Bios::Own).keeps_what_is_written();
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn debian_on_virtio_under_seabios() {
    System::new(&AMD64, Connection::Virtio, Bios::Sea).keeps_what_is_written();
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn debian_on_virtio_under_our_bios() {
    System::new(&AMD64, Connection::Virtio, Bios::Own).keeps_what_is_written();
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn debian_on_nvme_under_seabios() {
    System::new(&AMD64, Connection::Nvme, Bios::Sea).keeps_what_is_written();
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn debian_on_nvme_under_our_bios() {
    System::new(&AMD64, Connection::Nvme, Bios::Own).keeps_what_is_written();
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn debian_on_ahci_under_seabios() {
    System::new(&I386, Connection::Ahci, Bios::Sea).keeps_what_is_written();
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn debian_on_ahci_under_our_bios() {
    System::new(&I386, Connection::Ahci, Bios::Own).keeps_what_is_written();
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn debian_on_two_processors_in_parallel() {
    System { processors: 2, ..System::new(&AMD64, Connection::Ide, Bios::Own) }.keeps_what_is_written();
}

#[test]
#[ignore = "slow: cargo xtask test --nightly"]
fn debian_on_virtio_and_two_processors_in_parallel() {
    System { processors: 2, ..System::new(&AMD64, Connection::Virtio, Bios::Own) }.keeps_what_is_written();
}
