//! The options: one table from which parsing, help and suggestions come.

/// An option that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opt {
    Memory,
    Smp,
    SmpMode,
    Cpu,
    Machine,
    Accel,
    Bios,
    Kernel,
    Initrd,
    Append,
    Drive,
    Disk(u8),
    Cdrom,
    Floppy(u8),
    Boot,
    Snapshot,
    Serial,
    Display,
    Sdl,
    Curses,
    FullScreen,
    Nographic,
    NoReboot,
    Device,
    Debugcon,
    Global,
    FwCfg,
    LogItems,
    LogFile,
    Rtc,
    Seed,
    Tier,
    NoAcpi,
    NoHpet,
    Nodefaults,
    NoUserConfig,
    Monitor,
    Parallel,
    Vga,
    Vnc,
    Net,
    Nic,
    Name,
    Version,
    Help,
}

/// One line of the table.
pub struct Spec {
    /// Names without dashes; the first is the one that help shows.
    pub names: &'static [&'static str],
    /// Which option.
    pub opt: Opt,
    /// How help names the value; empty if there is none.
    pub value: &'static str,
    /// For help; empty if the option is accepted for QEMU's sake only.
    pub help: &'static str,
}

const fn spec(names: &'static [&'static str], opt: Opt, value: &'static str, help: &'static str) -> Spec {
    Spec { names, opt, value, help }
}

/// Every option, in the order of the help text.
pub const OPTIONS: &[Spec] = &[
    spec(&["m", "memory"], Opt::Memory, "SIZE", "memory: 512 or 512M, 1.5G, size=1G (default 128M)"),
    spec(&["smp"], Opt::Smp, "N", "processors: [cpus=]N[,sockets=N][,cores=N][,threads=N][,maxcpus=N]"),
    spec(
        &["smp-mode"],
        Opt::SmpMode,
        "MODE",
        "several processors: parallel, or deterministic[,seed=N] (they take turns)",
    ),
    spec(&["cpu"], Opt::Cpu, "MODEL", "processor: MODEL[,+feature][,-feature]; -cpu help lists them"),
    spec(&["M", "machine"], Opt::Machine, "TYPE", "machine: pc[,acpi=on|off][,hpet=on|off]"),
    spec(&["accel"], Opt::Accel, "NAME", "accepted for QEMU's sake: tcg"),
    spec(&["bios"], Opt::Bios, "FILE", "start this ROM (a multiple of 64 KiB), or our own BIOS: builtin"),
    spec(&["kernel"], Opt::Kernel, "FILE", "kernel: bzImage, vmlinux, PVH or multiboot ELF, flat multiboot"),
    spec(&["initrd"], Opt::Initrd, "FILE", "initial RAM disk; for multiboot \"FILE arg,FILE2 arg\""),
    spec(&["append"], Opt::Append, "TEXT", "kernel command line"),
    spec(
        &["drive"],
        Opt::Drive,
        "LIST",
        "file=F[,format=raw|qcow2][,if=ide|floppy|none][,media=disk|cdrom][,index=N]...",
    ),
    spec(&["hda"], Opt::Disk(0), "FILE", "disk image: raw or qcow2; also -hdb, -hdc, -hdd"),
    spec(&["hdb"], Opt::Disk(1), "FILE", ""),
    spec(&["hdc"], Opt::Disk(2), "FILE", ""),
    spec(&["hdd"], Opt::Disk(3), "FILE", ""),
    spec(&["cdrom"], Opt::Cdrom, "FILE", "CD image"),
    spec(&["fda"], Opt::Floppy(0), "FILE", "floppy image; also -fdb"),
    spec(&["fdb"], Opt::Floppy(1), "FILE", ""),
    spec(
        &["boot"],
        Opt::Boot,
        "ORDER",
        "boot order: letters of a (floppy), c (disk), d (CD); order=ORDER,menu=on",
    ),
    spec(&["snapshot"], Opt::Snapshot, "", "throw away at the end what the guest writes to disks"),
    spec(
        &["serial"],
        Opt::Serial,
        "DEV",
        "serial port: stdio, mon:stdio, file:PATH, null, none; up to 4 times",
    ),
    spec(
        &["display"],
        Opt::Display,
        "KIND",
        "picture: window (sdl, gtk), terminal (text modes), web[=HOST:PORT] (a page), none",
    ),
    spec(&["sdl"], Opt::Sdl, "", ""),
    spec(&["curses"], Opt::Curses, "", ""),
    spec(&["full-screen"], Opt::FullScreen, "", "the window takes the whole screen at first"),
    spec(&["nographic"], Opt::Nographic, "", "serial port on the terminal, with Ctrl-A commands"),
    spec(&["no-reboot"], Opt::NoReboot, "", "end when the guest resets the machine"),
    spec(&["device"], Opt::Device, "DEV", "a device for test suites; -device help lists them"),
    spec(&["debugcon"], Opt::Debugcon, "DEV", "debug console at port 0xE9: stdio, file:PATH, null"),
    spec(&["global"], Opt::Global, "D.P=V", "isa-debugcon.iobase=PORT: the debug console's port"),
    spec(&["fw_cfg"], Opt::FwCfg, "FILE", "for firmware: name=opt/NAME,file=PATH or ,string=TEXT"),
    spec(&["d"], Opt::LogItems, "ITEMS", "log these, separated by commas; -d help lists them"),
    spec(&["D"], Opt::LogFile, "FILE", "write the log to FILE instead of standard error"),
    spec(&["rtc"], Opt::Rtc, "base=WHEN", "clock at start: utc, localtime or 2026-01-31T12:00:00"),
    spec(&["seed"], Opt::Seed, "N", "seed of the machine's random numbers"),
    spec(&["tier"], Opt::Tier, "0|1", "interpret only, or compile everything (for tests)"),
    spec(&["no-acpi"], Opt::NoAcpi, "", "no ACPI tables"),
    spec(&["no-hpet"], Opt::NoHpet, "", "no HPET"),
    spec(&["nodefaults"], Opt::Nodefaults, "", "no serial port unless -serial names one"),
    spec(&["no-user-config", "nouserconfig"], Opt::NoUserConfig, "", ""),
    spec(&["monitor"], Opt::Monitor, "DEV", "commands to the machine: stdio, none; \"help\" lists them"),
    spec(&["parallel"], Opt::Parallel, "none", ""),
    spec(&["vga"], Opt::Vga, "KIND", "display adapter: std, none"),
    spec(&["vnc"], Opt::Vnc, "HOST:N", "picture by RFB at port 5900+N: -vnc :0[,password=TEXT], none"),
    spec(&["net"], Opt::Net, "none", ""),
    spec(&["nic"], Opt::Nic, "none", ""),
    spec(&["name"], Opt::Name, "TEXT", ""),
    spec(&["version"], Opt::Version, "", "print the version"),
    spec(&["help", "h"], Opt::Help, "", "print this text"),
];

/// Options of QEMU that are not there: names, whether a value follows, and what to do instead.
pub const ABSENT: &[(&[&str], bool, &str)] = &[
    (&["blockdev"], true, "there are no block nodes; use -drive"),
    (&["pflash"], true, "flash chips are drives; use -drive if=pflash,file=PATH"),
    (&["L"], true, "firmware is looked for in the usual folders; give a path with -bios"),
    (&["netdev"], true, "there is no network yet; leave it out"),
    (&["enable-kvm"], false, "there is no KVM here, the emulator needs none; leave it out"),
    (&["s", "S"], false, "there is no debugger connection yet; leave it out"),
    (&["gdb"], true, "there is no debugger connection yet; leave it out"),
    (&["qmp", "mon", "chardev"], true, "there is no control connection yet; use -serial"),
    (&["spice"], true, "there is no SPICE; use -display web or -vnc :0"),
    (&["usb"], false, "there is no USB; leave it out"),
    (&["usbdevice"], true, "there is no USB; leave it out"),
    (&["audio", "audiodev", "soundhw"], true, "there is no sound; leave it out"),
    (&["icount"], true, "time is always counted in instructions here; leave it out"),
    (&["loadvm"], true, "saved machines cannot be loaded from the command line yet; leave it out"),
    (&["daemonize"], false, "start it in the background from the shell; leave it out"),
    (&["pidfile"], true, "let the shell keep the process id; leave it out"),
    (&["no-shutdown"], false, "the machine cannot stay after power-off yet; leave it out"),
    (&["smbios", "acpitable", "option-rom", "dtb"], true, "the firmware tables are fixed; leave it out"),
    (
        &["object", "numa", "set", "readconfig", "sandbox", "runas", "trace", "plugin", "uuid", "k", "g"],
        true,
        "it has no counterpart here; leave it out",
    ),
];

/// Finds an option by its name without dashes.
pub fn find(name: &str) -> Option<&'static Spec> {
    OPTIONS.iter().find(|spec| spec.names.contains(&name))
}

/// Why a known option of QEMU is not there, if `name` is one.
pub fn absent(name: &str) -> Option<&'static str> {
    ABSENT.iter().find(|(names, _, _)| names.contains(&name)).map(|(_, _, why)| *why)
}

/// The help text.
pub fn help() -> String {
    let mut text = format!(
        "retrograde {}: a PC in software\n\n\
         usage: retrograde run FILE [options]    look at FILE, a disk, CD, floppy, kernel or ROM, and boot it\n       \
         retrograde run debian [options]  boot a ready-made guest, fetched on first use\n       \
         retrograde image info FILE [--json]\n                                        say what FILE is, and whether and how it boots\n       \
         retrograde [options]             boot what the options say\n\n\
         Options are QEMU's, with one dash or two:\n",
        env!("CARGO_PKG_VERSION")
    );
    for spec in OPTIONS.iter().filter(|spec| !spec.help.is_empty()) {
        let left = format!("-{} {}", spec.names[0], spec.value);
        text.push_str(&format!("  {left:<18} {}\n", spec.help));
    }
    text.push_str("\nWhile the guest has the terminal (-nographic, -serial mon:stdio):\n");
    text.push_str(crate::terminal::KEYS);
    text.push_str("\nExit status:\n");
    text.push_str(crate::exit_status::HELP);
    text.push_str(
        "\nExample:\n  retrograde -m 512 -kernel vmlinuz -initrd initramfs.gz -append \"console=ttyS0\" -nographic -no-reboot\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = OPTIONS.iter().flat_map(|spec| spec.names).copied().collect();
        names.extend(ABSENT.iter().flat_map(|(names, _, _)| *names));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn help_fits_a_terminal() {
        let long: Vec<String> = help().lines().filter(|line| line.len() > 110).map(str::to_owned).collect();
        assert!(long.is_empty(), "{long:?}");
    }
}
