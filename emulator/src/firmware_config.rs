//! What firmware and test suites can ask for at the firmware configuration device: the machine's size, its tables, the
//! kernel to start, and the user's own files.

use std::path::Path;

use bios::{Board, LoadError};
use devices::fw_cfg::{FwCfgContents, key};

use crate::boot::read_file;
use crate::cli::UserError;
use crate::config::{FwCfgFile, FwCfgSource, MachineConfig};

/// Where SeaBIOS and its kin put the parts of a kernel.
const SETUP_AT: u32 = 0x1_0000;
const CMDLINE_AT: u32 = 0x2_0000;
const CODE_AT: u32 = 0x10_0000;
/// Left free at the end of low memory for the tables of the firmware.
const TABLES_LEN: u64 = 0x2_0000;

/// Everything but a kernel.
pub fn contents(config: &MachineConfig, board: &Board) -> Result<FwCfgContents, UserError> {
    let mut all = FwCfgContents::new();
    let cpus = config.topology.cpus as u16;
    all.set_u16(key::NB_CPUS, cpus);
    all.set_u16(key::MAX_CPUS, cpus);
    all.set_u64(key::RAM_SIZE, config.ram_bytes);
    all.set_u16(key::NOGRAPHIC, config.nographic.into());
    all.set(key::UUID, [0; 16]);
    all.set_u16(key::BOOT_MENU, config.boot.menu.into());
    all.set_u16(key::BOOT_DEVICE, 0);
    // One node, of no declared memory: number, processors, memory.
    all.set(key::NUMA, vec![0; 8 * (1 + usize::from(cpus))]);
    all.set_u32(key::IRQ0_OVERRIDE, 1);
    all.set(key::HPET, hpets(board));
    add(&mut all, "etc/e820", ram(board));
    if config.nographic && !config.serial.is_empty() {
        add(&mut all, "etc/sercon-port", 0x3f8u64.to_le_bytes().to_vec());
    }
    for (name, bytes) in bios::linker::files(board) {
        add(&mut all, name, bytes);
    }
    for file in &config.fw_cfg {
        let subject = || format!("-fw_cfg name={}", file.name);
        if !is_users_name(file) {
            tracing::warn!("{}: names that do not begin with opt/ are the machine's own", subject());
        }
        let bytes = match &file.source {
            FwCfgSource::Text(text) => text.clone().into_bytes(),
            FwCfgSource::File(path) => read_file(&subject(), path)?,
        };
        all.add_file(&file.name, bytes).map_err(|why| {
            UserError::new(subject(), why.to_string(), "give it another name, as opt/org.example/name")
        })?;
    }
    Ok(all)
}

fn add(all: &mut FwCfgContents, name: &str, bytes: Vec<u8>) {
    all.add_file(name, bytes).expect("our own names are short and differ");
}

/// Does the user's name for a file say whose it is? (The specification keeps all but `opt/` for the machine.)
pub fn is_users_name(file: &FwCfgFile) -> bool {
    file.name.starts_with("opt/")
}

/// RAM as entries of an e820 map: what the firmware takes for itself it knows.
fn ram(board: &Board) -> Vec<u8> {
    let layout = board.layout;
    let entry = |start, len| bios::E820Entry { start, len, kind: bios::E820Kind::Ram }.to_bytes();
    let mut bytes = entry(0, layout.below_4g()).to_vec();
    if layout.above_4g() > 0 {
        bytes.extend(entry(1 << 32, layout.above_4g()));
    }
    bytes
}

/// A count, then for each HPET: identification, address, smallest period in ticks, page protection.
fn hpets(board: &Board) -> Vec<u8> {
    let Some(base) = board.hpet else { return vec![0xff] };
    let mut bytes = vec![1];
    bytes.extend(board.hpet_id.to_le_bytes());
    bytes.extend(u64::from(base).to_le_bytes());
    bytes.extend([100, 0, 0]);
    bytes
}

/// Adds a bzImage and its initrd for firmware that starts it.
pub fn add_kernel(
    all: &mut FwCfgContents,
    board: &Board,
    kernel: &[u8],
    initrd: Option<Vec<u8>>,
    command_line: &str,
) -> Result<(), LoadError> {
    let initrd = initrd.unwrap_or_default();
    let len = initrd.len() as u32;
    let max = bios::bzimage_parts(kernel, CMDLINE_AT, (0, 0))?.initrd_addr_max;
    let end = u64::from(max).min(board.layout.below_4g() - TABLES_LEN - 1) as u32;
    let at = if len == 0 { 0 } else { end.saturating_sub(len) & !0xfff };
    let parts = bios::bzimage_parts(kernel, CMDLINE_AT, (at, len))?;
    let mut text = command_line.as_bytes().to_vec();
    text.push(0);
    for (key, value) in [
        (key::SETUP_ADDR, SETUP_AT),
        (key::SETUP_SIZE, parts.setup.len() as u32),
        (key::KERNEL_ADDR, CODE_AT),
        (key::KERNEL_SIZE, parts.code.len() as u32),
        (key::CMDLINE_ADDR, CMDLINE_AT),
        (key::CMDLINE_SIZE, text.len() as u32),
        (key::INITRD_ADDR, at),
        (key::INITRD_SIZE, len),
    ] {
        all.set_u32(key, value);
    }
    all.set(key::SETUP_DATA, parts.setup);
    all.set(key::KERNEL_DATA, parts.code);
    all.set(key::CMDLINE_DATA, text);
    all.set(key::INITRD_DATA, initrd);
    Ok(())
}

/// Adds an option ROM that starts the kernel, first in the boot order: SeaBIOS has no other way to.
pub fn add_kernel_loader(all: &mut FwCfgContents, name: &str, rom: Vec<u8>) {
    let name = format!("genroms/{name}");
    for (file, bytes) in [("bootorder", format!("/rom@{name}\n\0").into_bytes()), (name.as_str(), rom)] {
        // The user's own come first.
        if !all.has_file(file) {
            add(all, file, bytes);
        }
    }
}

/// Reads the value of `-fw_cfg`: `[name=]NAME,file=PATH` or `[name=]NAME,string=TEXT`.
pub fn parse(option: &str, items: &[(String, Option<String>)]) -> Result<FwCfgFile, UserError> {
    let usage = "write -fw_cfg name=opt/org.example/x,file=PATH or ,string=TEXT";
    let (mut name, mut source) = (String::new(), None);
    for (n, (key, value)) in items.iter().enumerate() {
        match (key.as_str(), value) {
            (first, None) if n == 0 => name = first.into(),
            ("name", Some(value)) => name = value.clone(),
            ("file", Some(path)) => source = Some(FwCfgSource::File(Path::new(path).into())),
            ("string", Some(text)) => source = Some(FwCfgSource::Text(text.clone())),
            (key, _) => return Err(UserError::new(option, format!("\"{key}\" is not known"), usage)),
        }
    }
    let Some(source) = source else { return Err(UserError::new(option, "nothing is to be in it", usage)) };
    let file = FwCfgFile { name, source };
    Ok(file)
}

#[cfg(test)]
mod tests {
    use bios::MemoryLayout;

    use super::*;

    fn items(text: &str) -> Vec<(String, Option<String>)> {
        text.split(',')
            .map(|part| match part.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (part.to_owned(), None),
            })
            .collect()
    }

    #[test]
    fn the_users_files_by_both_spellings() {
        let file = parse("-fw_cfg", &items("name=opt/x,string=a b")).unwrap();
        assert_eq!(file, FwCfgFile { name: "opt/x".into(), source: FwCfgSource::Text("a b".into()) });
        assert!(parse("-fw_cfg", &items("opt/x,file=/a")).is_ok());
        for text in ["opt/x", "opt/x,flie=/a"] {
            assert!(parse("-fw_cfg", &items(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn files_of_the_machine_and_of_the_user() {
        let board = Board::pc(MemoryLayout::new(64 << 20).unwrap(), 1);
        let text = |name: &str| FwCfgFile { name: name.into(), source: FwCfgSource::Text("x".into()) };
        let mut config = MachineConfig { nographic: true, fw_cfg: vec![text("opt/x")], ..Default::default() };
        let all = contents(&config, &board).unwrap();
        for name in [
            "etc/e820",
            "etc/acpi/tables",
            "etc/acpi/rsdp",
            "etc/table-loader",
            "etc/smbios/smbios-anchor",
            "etc/sercon-port",
            "opt/x",
        ] {
            assert!(all.has_file(name), "{name}");
        }
        // The machine's names are the user's risk, unless the machine has a file of that name.
        config.fw_cfg.push(text("etc/boot-fail-wait"));
        assert!(contents(&config, &board).unwrap().has_file("etc/boot-fail-wait"));
        config.fw_cfg.push(text("etc/e820"));
        assert!(contents(&config, &board).unwrap_err().to_string().contains("already"));
        config.fw_cfg.pop();
        config.fw_cfg.push(text("opt/x"));
        assert!(contents(&config, &board).unwrap_err().to_string().contains("already"));
    }

    #[test]
    fn seabios_is_given_a_way_to_start_a_kernel() {
        let mut all = FwCfgContents::new();
        all.add_file("bootorder", *b"mine").unwrap();
        add_kernel_loader(&mut all, "loader.bin", vec![0x55]);
        assert!(all.has_file("genroms/loader.bin"));
        let mut plain = FwCfgContents::new();
        add_kernel_loader(&mut plain, "loader.bin", vec![0x55]);
        assert!(plain.has_file("bootorder") && plain != all, "the user's boot order stays");
    }

    /// A bzImage of protocol 2.15 with one setup sector and 64 bytes of code.
    fn bzimage() -> Vec<u8> {
        let mut file = vec![0; 1024 + 64];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x1f1, &[1]);
        put(0x1f4, &4u32.to_le_bytes());
        put(0x1fe, &[0x55, 0xaa, 0xeb, 0x66]);
        put(0x202, b"HdrS");
        put(0x206, &0x20fu16.to_le_bytes());
        put(0x211, &[1]);
        put(0x22c, &0x7fff_ffffu32.to_le_bytes());
        put(1024, &[0xf4; 64]);
        file
    }

    #[test]
    fn firmware_is_given_a_kernel_in_parts() {
        let board = Board::pc(MemoryLayout::new(64 << 20).unwrap(), 1);
        let mut all = FwCfgContents::new();
        add_kernel(&mut all, &board, &bzimage(), Some(vec![7; 5000]), "quiet").unwrap();
        let mut device = devices::fw_cfg::FwCfg::new(all, devices::memory::Dma::default());
        let mut read = |key: u16, len: usize| -> Vec<u8> {
            use devices::PortDevice;
            device.port_write(devices::fw_cfg::SELECTOR, 2, key.into(), 0);
            (0..len).map(|_| device.port_read(devices::fw_cfg::DATA, 1, 0) as u8).collect()
        };
        let mut number = |key| u32::from_le_bytes(read(key, 4).try_into().unwrap());
        assert_eq!((number(key::SETUP_SIZE), number(key::KERNEL_SIZE)), (1024, 64));
        assert_eq!((number(key::CMDLINE_SIZE), number(key::INITRD_SIZE)), (6, 5000));
        // As high as the firmware's own tables let it be, on a page.
        let at = number(key::INITRD_ADDR);
        assert_eq!(at, (64 << 20) - 0x2_0000 - 0x2000);
        assert_eq!(read(key::CMDLINE_DATA, 7), *b"quiet\0\0");
        assert_eq!(read(key::KERNEL_DATA, 65), [vec![0xf4; 64], vec![0]].concat());
        let setup = read(key::SETUP_DATA, 1024);
        assert_eq!(setup[0x210..0x212], [0xff, 0x81]);
        assert_eq!(setup[0x218..0x21c], at.to_le_bytes());
        assert_eq!(setup[0x228..0x22c], CMDLINE_AT.to_le_bytes());
        // A file that is none.
        assert!(add_kernel(&mut FwCfgContents::new(), &board, &[0; 2000], None, "").is_err());
    }
}
