//! From the configuration to a loaded machine: describes the board to the firmware, reads the user's files, and runs the
//! loader. Every file problem becomes one line that names the option, the file, and what to do.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use bios::{
    Board, BootRequest, Chunk, EntryState, Firmware, GpeBlock, ImageKind, LinuxEntry, MemoryLayout, Module,
    PmBlocks, PortWrite, ResetRegister, Setup, SmiCommand, Video,
};
use devices::acpi_pm;
use devices::fw_cfg::FwCfgContents;

use crate::cli::{UserError, module_list};
use crate::config::{BoardKind, MachineConfig};
use crate::firmware_config;
use crate::firmware_files::Rom;
use crate::storage::Interface;

/// Larger files cannot be kernels or initrds: they would not fit below 4 GiB.
const MAX_FILE: u64 = 3 << 30;

/// Memory contents and the processor's state for the first instruction.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Where memory lies.
    pub layout: MemoryLayout,
    /// Firmware and kernel.
    pub chunks: Vec<Chunk<'static>>,
    /// What the firmware does to the hardware; `None`: a ROM of the user's does what is to be done.
    pub setup: Option<Setup>,
    /// State of the boot processor; `None`: as after reset.
    pub entry: Option<EntryState>,
    /// What firmware can ask for.
    pub fw_cfg: FwCfgContents,
    /// The display's ROM, which may be empty; `None`: no display.
    pub vga: Option<Arc<[u8]>>,
}

/// Reads the files that `config` names and loads them.
pub fn prepare(config: &MachineConfig) -> Result<Prepared, UserError> {
    if config.has_flash() {
        return prepare_flash(config);
    }
    match (&config.bios, &config.kernel) {
        (Some(rom), _) => return prepare_rom(config, Rom::named(rom)?),
        (None, None) => return prepare_rom(config, Rom::default_for_disks()),
        (None, Some(_)) => {}
    }
    let layout = MemoryLayout::new(config.ram_bytes)
        .map_err(|error| UserError::new("-m", error.to_string(), "write, for example, -m 512M"))?;
    let layout = for_board(config.board, layout);
    let Some(kernel_path) = &config.kernel else {
        return Err(UserError::new("nothing to boot", "no kernel is given", "give one with -kernel FILE"));
    };
    let kernel = read_file("-kernel", kernel_path)?;
    let modules = read_modules(config, &kernel)?;
    let board = board(config, layout);
    let fw_cfg = firmware_config::contents(config, &board)?;
    let firmware = Firmware::new(&board);
    let kernel_name = kernel_path.to_string_lossy();
    let request = BootRequest {
        kernel: &kernel,
        kernel_name: &kernel_name,
        command_line: config.append.as_bytes(),
        modules: &modules
            .iter()
            .map(|(bytes, text)| Module { bytes, command_line: text.as_bytes() })
            .collect::<Vec<_>>(),
        layout,
        e820: &firmware.e820,
        rsdp: firmware.rsdp,
        video: if config.has_vga() { Video::Text80x25 } else { Video::None },
        entry: LinuxEntry::Auto,
    };
    let loaded = bios::load(&request)
        .map_err(|error| UserError::new(format!("-kernel {kernel_name}"), error.to_string(), ""))?;
    tracing::debug!(kind = %loaded.kind, rip = loaded.entry.rip, "kernel loaded");
    let entry = loaded.entry;
    let kernel_chunks = loaded.chunks.into_iter().map(Chunk::into_owned);
    let chunks = firmware.chunks.into_iter().chain(kernel_chunks).collect();
    let mut setup = firmware.setup;
    if let Some(device) = config.test.pci_testdev {
        setup.ports.extend(pci_testdev_places(device));
    }
    let vga = config.has_vga().then(|| Arc::from([]));
    Ok(Prepared { layout, chunks, setup: Some(setup), entry: Some(entry), fw_cfg, vga })
}

/// A machine that starts at the reset vector of a flash chip, which is plugged in with its contents.
fn prepare_flash(config: &MachineConfig) -> Result<Prepared, UserError> {
    let chips = || config.drives.iter().filter(|drive| drive.interface == Interface::Flash);
    if !chips().any(|drive| drive.index == 0) {
        let remedy = "give the firmware's code with if=pflash,unit=0";
        return Err(UserError::new("-drive if=pflash,unit=1", "there is no unit 0 to start from", remedy));
    }
    if let Some(rom) = &config.bios {
        let subject = format!("-bios {}", rom.display());
        return Err(UserError::new(subject, "firmware is in flash already", "leave -bios or if=pflash out"));
    }
    // Chips may have any length; the array's part that they lie at the end of is made of whole blocks.
    let chips_len = crate::storage::flash_len(&config.drives)?;
    let path = chips().find(|drive| drive.index == 0).and_then(|drive| drive.file.clone());
    let bytes = vec![0xff; chips_len.next_multiple_of(bios::e820::RAM_GRANULE) as usize];
    let mut prepared = prepare_rom(config, Rom { path, bytes })?;
    // What is in flash stays over a reset; below it is nothing.
    for rom in &mut prepared.chunks {
        let padding = rom.bytes.len() - chips_len as usize;
        rom.bytes.to_mut().truncate(padding);
    }
    Ok(prepared)
}

/// Where memory lies on this board.
fn for_board(board: BoardKind, layout: MemoryLayout) -> MemoryLayout {
    match board {
        BoardKind::Pc => layout,
        BoardKind::Q35 => layout.for_q35(),
    }
}

/// A machine that starts at the reset vector of `rom`.
fn prepare_rom(config: &MachineConfig, rom: Rom) -> Result<Prepared, UserError> {
    let len = rom.bytes.len() as u64;
    let layout = MemoryLayout::with_rom(config.ram_bytes, len)
        .map_err(|error| UserError::new("-m", error.to_string(), "write, for example, -m 512M"))?
        .ok_or_else(|| {
            UserError::new(
                format!("firmware {}", rom.path.as_deref().unwrap_or("builtin".as_ref()).display()),
                format!("a ROM of {len} bytes is not a multiple of 64 KiB, or larger than 8 MiB"),
                "pad it in front, so that the reset vector stays 16 bytes before its end",
            )
        })?;
    let layout = for_board(config.board, layout);
    let vga = config.has_vga().then(|| rom.vga_bios()).transpose()?.map(Arc::from);
    let kernel_loader = rom.kernel_loader()?;
    let chunks = vec![Chunk::owned((1 << 32) - len, rom.bytes, "ROM")];
    let board = board(config, layout);
    let mut fw_cfg = firmware_config::contents(config, &board)?;
    if let Some(path) = &config.kernel {
        let kernel = read_file("-kernel", path)?;
        let initrd = read_modules(config, &kernel)?.into_iter().next().map(|(bytes, _)| bytes);
        firmware_config::add_kernel(&mut fw_cfg, &board, &kernel, initrd, &config.append).map_err(
            |error| {
                let problem =
                    format!("{error} (with -bios the firmware starts the kernel, which must be a bzImage)");
                UserError::new(format!("-kernel {}", path.display()), problem, "leave -bios out")
            },
        )?;
        if let Some((name, bytes)) = kernel_loader {
            firmware_config::add_kernel_loader(&mut fw_cfg, name, bytes);
        }
    }
    Ok(Prepared { layout, chunks, setup: None, entry: None, fw_cfg, vga })
}

/// What the firmware of a PC does for a PCI device: places for its base address registers, and decoding on.
fn pci_testdev_places(device: u8) -> Vec<PortWrite> {
    const MEMORY: u32 = 0xfebf_0000;
    const IO: u32 = 0xc000;
    let register = |register: u32, value| {
        let address = 1 << 31 | u32::from(device) << 11 | register;
        [(0xcf8, address), (0xcfc, value), (0xcf8, 0)].map(|(port, value)| PortWrite { port, size: 4, value })
    };
    [register(0x10, MEMORY), register(0x14, IO), register(0x04, 3)].concat()
}

/// The board as the firmware's tables describe it. Addresses are those of the `devices` crate.
pub fn board(config: &MachineConfig, layout: MemoryLayout) -> Board {
    let gpe0 = match config.board {
        BoardKind::Pc => GpeBlock { port: acpi_pm::PM_BASE + acpi_pm::GPE0, len: acpi_pm::GPE0_LEN as u8 },
        BoardKind::Q35 => {
            GpeBlock { port: acpi_pm::PM_BASE + acpi_pm::ICH9_GPE0, len: acpi_pm::ICH9_GPE0_LEN as u8 }
        }
    };
    let pm = PmBlocks {
        event: acpi_pm::PM_BASE + acpi_pm::PM1_EVT,
        control: acpi_pm::PM_BASE + acpi_pm::PM1_CNT,
        timer: acpi_pm::PM_BASE + acpi_pm::PM_TMR,
        timer_32bit: acpi_pm::PM_TIMER_BITS == 32,
        gpe0: Some(gpe0),
        smi: Some(SmiCommand {
            port: acpi_pm::SMI_CMD,
            enable: acpi_pm::ACPI_ENABLE,
            disable: acpi_pm::ACPI_DISABLE,
        }),
        sci: acpi_pm::SCI_IRQ,
        reset: Some(ResetRegister { port: acpi_pm::RESET_PORT, value: acpi_pm::RESET_VALUE }),
        power_button: true,
        s0_type: 5,
        s5_type: acpi_pm::SLP_TYP_S5,
    };
    let mut board = match config.board {
        BoardKind::Pc => Board::pc(layout, config.topology.cpus as u8),
        BoardKind::Q35 => Board::q35(layout, config.topology.cpus as u8),
    };
    board.apic_ids = config.topology.apic_ids().into_iter().map(|id| id as u8).collect();
    board.pm = config.acpi.then_some(pm);
    if let Ok(model) = crate::cli::cpu_model(&config.cpu) {
        board.phys_bits = model.phys_bits;
    }
    board.vga = config.has_vga();
    board.hpet = board.hpet.filter(|_| config.hpet);
    let ports = config.serial.len();
    board.serial =
        SERIAL_PORTS.into_iter().take(ports).map(|(port, irq)| bios::SerialPort { port, irq }).collect();
    board
}

/// COM1 to COM4.
const SERIAL_PORTS: [(u16, u8); 4] = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)];

/// The initrd, or a multiboot kernel's modules, with their command lines.
fn read_modules(config: &MachineConfig, kernel: &[u8]) -> Result<Vec<(Vec<u8>, String)>, UserError> {
    let Some(text) = &config.initrd else { return Ok(Vec::new()) };
    if ImageKind::detect(kernel) == Ok(ImageKind::Multiboot) {
        return module_list(text)
            .into_iter()
            .map(|(path, command_line)| Ok((read_file("-initrd", Path::new(&path))?, command_line)))
            .collect();
    }
    let initrd = read_file("-initrd", Path::new(text))?;
    bios::initrd::check(&initrd)
        .map_err(|problem| UserError::new(format!("-initrd {text}"), problem, "make it or copy it again"))?;
    Ok(vec![(initrd, String::new())])
}

/// Reads a whole file that the user named with `option`.
pub fn read_file(option: &str, path: &Path) -> Result<Vec<u8>, UserError> {
    let subject = || format!("{option} {}", path.display());
    let failed = |error: io::Error| {
        let (problem, remedy) = explain(&error);
        UserError::new(subject(), problem, remedy)
    };
    let file = File::open(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    if facts.is_dir() {
        return Err(UserError::new(subject(), "this is a folder", "name a file in it"));
    }
    let mut bytes = Vec::new();
    if facts.len() <= MAX_FILE {
        // One byte more than allowed is enough to know, also for a file that grows or has no length.
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    }
    if facts.len() > MAX_FILE || bytes.len() as u64 > MAX_FILE {
        return Err(UserError::new(
            subject(),
            "the file is larger than 3 GiB",
            "no guest can take it; check the name",
        ));
    }
    if bytes.is_empty() {
        return Err(UserError::new(subject(), "the file is empty", "make it or copy it again"));
    }
    Ok(bytes)
}

/// What went wrong with a file, and what to do.
pub fn explain(error: &io::Error) -> (String, &'static str) {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied, StorageFull};
    match error.kind() {
        NotFound => ("there is no such file or folder".into(), "check the path"),
        PermissionDenied => ("permission denied".into(), "check who may access it"),
        IsADirectory => ("this is a folder".into(), "name a file in it"),
        NotADirectory => ("a part of the path is not a folder".into(), "check the path"),
        StorageFull => ("no space is left on the device".into(), "make room or name another place"),
        _ => (format!("cannot be used: {error}"), "check the file and its device"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::DriveConfig;

    #[test]
    fn file_problems_are_one_line_each() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| read_file("-kernel", path).unwrap_err().to_string();
        assert!(message(&folder.path().join("none")).contains("no such file or folder; check the path"));
        assert!(message(folder.path()).contains("folder"));
        let empty = folder.path().join("empty");
        std::fs::write(&empty, b"").unwrap();
        assert!(message(&empty).contains("empty"));
        assert!(message(&empty.join("x")).contains("not a folder"));
        let huge = folder.path().join("huge");
        File::create(&huge).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(message(&huge).contains("3 GiB"));
    }

    #[test]
    fn a_file_that_is_no_kernel_is_named_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script.sh");
        std::fs::write(&path, b"#!/bin/sh\n").unwrap();
        let config = MachineConfig { kernel: Some(path.clone()), ..MachineConfig::default() };
        let message = prepare(&config).unwrap_err().to_string();
        assert!(message.contains("script.sh") && message.contains("a script"), "{message}");
    }

    #[test]
    fn firmware_in_flash_ends_at_4_gib() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, len: usize| {
            let path = folder.path().join(name);
            std::fs::write(&path, vec![7; len]).unwrap();
            path
        };
        let chip = |index: u8, file| DriveConfig {
            option: "-drive".into(),
            id: None,
            file: Some(file),
            format: None,
            interface: Interface::Flash,
            media: crate::storage::Media::Disk,
            index,
            read_only: false,
            snapshot: false,
            serial: None,
        };
        let drives = vec![chip(1, path("variables", 0x4000)), chip(0, path("code", 0x1_3000))];
        let mut config = MachineConfig { drives, ..MachineConfig::default() };
        let prepared = prepare(&config).unwrap();
        // 17000h bytes, and above them in the array's blocks: nothing, which reads as ones.
        assert!(prepared.layout.rom_offset((1 << 32) - 0x2_0000, 0x2_0000).is_some());
        let [padding] = &prepared.chunks[..] else { panic!("one chunk") };
        assert_eq!((padding.at, padding.bytes.len()), ((1 << 32) - 0x2_0000, 0x9000));
        let wrong = |config: &MachineConfig| prepare(config).unwrap_err().to_string();
        config.bios = Some("x".into());
        assert!(wrong(&config).contains("in flash already"));
        config.bios = None;
        config.drives.pop();
        assert!(wrong(&config).contains("no unit 0"));
        config.drives = vec![chip(0, path("odd", 0x1_0800))];
        assert!(wrong(&config).contains("4 KiB"));
        config.drives = vec![chip(0, path("long", 0x81_0000))];
        assert!(wrong(&config).contains("8 MiB"));
    }

    #[test]
    fn the_board_follows_the_configuration() {
        let layout = MemoryLayout::new(128 << 20).unwrap();
        let mut config = MachineConfig::default();
        let full = board(&config, layout);
        assert_eq!(
            full.pm,
            Some(PmBlocks { gpe0: full.pm.unwrap().gpe0, ..Board::pc(layout, 1).pm.unwrap() })
        );
        config.board = BoardKind::Q35;
        let q35 = board(&config, layout);
        let apic_ids = vec![0];
        assert_eq!(q35, Board { phys_bits: q35.phys_bits, vga: true, apic_ids, ..Board::q35(layout, 1) });
        (config.acpi, config.hpet, config.serial) = (false, false, Vec::new());
        let bare = board(&config, layout);
        assert!(bare.pm.is_none() && bare.hpet.is_none() && bare.serial.is_empty());
    }
}
