use proptest::prelude::*;

use super::*;
use crate::config::{DebugExit, LogItem};

fn parse_line(line: &[&str]) -> Result<Invocation, UserError> {
    parse(line.iter().map(OsString::from))
}

fn config(line: &[&str]) -> MachineConfig {
    match parse_line(line) {
        Ok(Invocation::Boot(config)) => *config,
        other => panic!("{line:?}: {other:?}"),
    }
}

fn mistake(line: &[&str]) -> String {
    let message = parse_line(line).expect_err("a mistake").to_string();
    assert!(!message.contains('\n'), "one line: {message}");
    message
}

#[test]
fn a_qemu_line_moves_over_unchanged() {
    let config = config(&[
        "-m",
        "512",
        "-kernel",
        "vmlinuz",
        "-initrd",
        "initramfs.gz",
        "-append",
        "console=ttyS0",
        "-nographic",
        "-no-reboot",
        "-smp",
        "1",
        "-cpu",
        "qemu64,-sse2",
        "-device",
        "isa-debug-exit,iobase=0xf4,iosize=0x04",
        "-d",
        "int,guest_errors",
        "-D",
        "log",
        "-nodefaults",
        "-no-user-config",
        "-M",
        "pc,accel=tcg",
        "-net",
        "none",
    ]);
    assert_eq!(config.ram_bytes, 512 << 20);
    assert_eq!(config.kernel, Some("vmlinuz".into()));
    assert_eq!(config.initrd.as_deref(), Some("initramfs.gz"));
    assert_eq!(config.append, "console=ttyS0");
    assert_eq!(config.serial, [Chardev::Stdio { escapes: true }]);
    assert!(config.no_reboot);
    assert_eq!(config.test.debug_exit, Some(DebugExit { iobase: 0xf4, iosize: 4 }));
    assert_eq!(config.log.items, [LogItem::Int, LogItem::GuestErrors]);
}

#[test]
fn one_dash_or_two_or_an_equals_sign() {
    for line in [["-kernel", "k", "-tier", "0"], ["--kernel", "k", "--tier", "0"]] {
        assert_eq!(config(&line).tier, TierChoice::Only0);
    }
    assert_eq!(config(&["--kernel=k", "--append=a=b"]).append, "a=b");
    assert_eq!(config(&["-kernel", "k", "-append", "-x --y"]).append, "-x --y");
}

#[test]
fn the_serial_port_follows_qemu() {
    let serial = |line: &[&str]| config(&[&["-kernel", "k"], line].concat()).serial;
    let (raw, shared) = ([Chardev::Stdio { escapes: false }], [Chardev::Stdio { escapes: true }]);
    assert_eq!(serial(&[]), shared);
    assert_eq!(serial(&["-nographic"]), shared);
    assert_eq!(serial(&["-serial", "stdio"]), raw);
    assert_eq!(serial(&["-serial", "mon:stdio", "-display", "none"]), shared);
    assert_eq!(serial(&["-display", "none"]), []);
    assert_eq!(serial(&["-nodefaults"]), []);
    assert_eq!(serial(&["-display", "none", "-nographic"]), shared);
    assert_eq!(serial(&["-serial", "none"]), []);
    assert_eq!(serial(&["-serial", "null", "-serial", "mon:stdio"]), [Chardev::Null, shared[0].clone()]);
}

#[test]
fn a_window_is_the_default_where_there_is_a_desktop() {
    let config = |has_desktop, line: &[&str]| {
        let mut parser = Parser { has_desktop, ..Parser::new(MachineConfig::default()) };
        let line: Vec<String> = line.iter().map(|word| word.to_string()).collect();
        assert_eq!(parser.options(&line), Ok(None));
        parser.finish().unwrap()
    };
    let window = DisplayChoice::Window(WindowOptions::default());
    let on_desktop = config(true, &["-hda", "x"]);
    assert_eq!((on_desktop.display, on_desktop.serial), (window, vec![Chardev::Null]));
    assert_eq!(config(true, &["-hda", "x", "-serial", "stdio"]).display, window);
    assert_eq!(config(true, &["-hda", "x", "-monitor", "stdio"]).display, window);
    for line in [
        &["-hda", "x", "-nographic"][..],
        &["-hda", "x", "-display", "none"],
        &["-hda", "x", "-vnc", ":0"],
        &["-hda", "x", "-vga", "none"],
        &["-kernel", "x"],
    ] {
        assert_eq!(config(true, line).display, DisplayChoice::None, "{line:?}");
    }
    let shared = vec![Chardev::Stdio { escapes: true }];
    assert_eq!(config(true, &["-kernel", "x"]).serial, shared);
    assert_ne!(config(false, &["-hda", "x"]).display, window);
    let full = WindowOptions { full_screen: true, ..WindowOptions::default() };
    let asked = config(true, &["-hda", "x", "-full-screen"]).display;
    assert_eq!(asked, DisplayChoice::Window(full));
}

#[test]
fn every_mistake_names_itself_and_a_way_out() {
    for (line, parts) in [
        (&["-kernle", "k"][..], &["-kernle", "-kernel"][..]),
        (&["-kernel"], &["-kernel", "must follow"]),
        (&["-m", "0"], &["-m 0", "needs memory", "-m 512M"]),
        (&["-m", "99999999T"], &["too much", "511 GiB"]),
        (&["-smp", "300", "-kernel", "k"], &["-smp 300", "fewer"]),
        (&["-smp-mode", "parallel,seed=1", "-kernel", "k"], &["no seed", "deterministic"]),
        (&["-smp", "0"], &["-smp 0"]),
        (&["-machine", "microvm"], &["microvm", "-machine pc"]),
        (&["-hda", "x", "-curses", "-full-screen"], &["-full-screen", "window"]),
        (&["-enable-kvm"], &["KVM", "leave it out"]),
        (&["-accel", "kvm"], &["leave it out"]),
        (&["-hdq", "disk.img"], &["-hda"]),
        (&["vmlinuz"], &["vmlinuz", "retrograde run FILE"]),
        (&[], &["-hda FILE", "-kernel FILE", "retrograde run debian"]),
        (&["-initrd", "x"], &["-initrd x", "-kernel"]),
        (&["-append", "x"], &["-append", "-kernel"]),
        (&["-kernel", ""], &["-kernel", "empty"]),
        (&["-kernel", "k", "-serial", "stdio", "-debugcon", "stdio"], &["stdio", "file:PATH"]),
        (&["-vga", "cirrus"], &["-vga std"]),
        (&["-tier", "7"], &["-tier 7", "auto"]),
        (&["-nographic=yes"], &["takes no value"]),
        (&["-zzzzzzzz"], &["-zzzzzzzz", "--help"]),
        (&["-"], &["--help"]),
        (&["--"], &["--help"]),
        (&["run", "debain"], &["debian"]),
        (&["run", "windows"], &["debian"]),
        (&["image"], &["image info FILE"]),
        (&["image", "resize", "x"], &["image resize", "image info FILE"]),
        (&["image", "info"], &["no file", "image info FILE"]),
        (&["image", "info", "x", "--xml"], &["--xml"]),
    ] {
        let message = mistake(line);
        assert!(parts.iter().all(|part| message.contains(part)), "{line:?}: {message}");
    }
}

#[test]
fn messages_carry_no_control_characters() {
    assert!(!mistake(&["-kern\u{1b}[2J\nel"]).contains('\u{1b}'));
}

#[test]
fn ready_made_guests() {
    let guest = |line: &[&str]| match parse_line(line) {
        Ok(Invocation::Guest { name, config }) => (name, *config),
        other => panic!("{other:?}"),
    };
    let (name, config) = guest(&["run", "debian", "--", "-m", "1G"]);
    assert_eq!((name.as_str(), config.ram_bytes), ("debian", 1 << 30));
    assert!(config.no_reboot && config.kernel.is_none());
    assert_eq!(guest(&["run"]).0, "debian");
    assert_eq!(guest(&["run", "-tier", "0"]).1.tier, TierChoice::Only0);
}

#[test]
fn images_are_looked_at_later() {
    let Ok(Invocation::Image { path, options }) = parse_line(&["run", "x.iso", "--", "-m", "1G"]) else {
        panic!()
    };
    assert_eq!((path.to_str(), options), (Some("x.iso"), vec!["-m".into(), "1G".into()]));
    let info = Invocation::ImageInfo { files: vec!["a".into(), "b".into()], json: true };
    assert_eq!(parse_line(&["image", "info", "a", "--json", "b"]), Ok(info));
}

#[test]
fn an_image_gets_its_machine() {
    use crate::image::{Plan, Role};
    use crate::storage::Interface;
    let plan = |role| Plan {
        path: "x".into(),
        role,
        qcow2: false,
        uefi: false,
        ram_bytes: 64 << 20,
        snapshot: false,
    };
    let machine = |role, options: &[&str]| {
        let options: Vec<String> = options.iter().map(|option| option.to_string()).collect();
        match machine_for(&plan(role), &options) {
            Ok(Invocation::Boot(config)) => *config,
            other => panic!("{other:?}"),
        }
    };
    let config = machine(Role::Cd, &["-hda", "y", "-m", "32M"]);
    let places: Vec<u8> = config.drives.iter().map(|drive| drive.index).collect();
    assert_eq!((places, config.boot.order.as_str(), config.ram_bytes), (vec![2, 0], "dca", 32 << 20));
    let config = machine(Role::Floppy, &[]);
    assert_eq!((config.boot.order.as_str(), config.ram_bytes), ("acd", 64 << 20));
    let config = machine(Role::Kernel(true), &[]);
    assert_eq!((config.append.as_str(), config.kernel), ("console=ttyS0", Some("x".into())));
    assert_eq!(machine(Role::Kernel(true), &["-append", "quiet"]).append, "quiet");
    assert_eq!(machine(Role::Kernel(false), &[]).append, "");
    assert_eq!(machine(Role::Rom, &[]).bios, Some("x".into()));
    // UEFI firmware is in flash, where the host has it, unless the user gives another.
    let uefi = Plan { uefi: true, ..plan(Role::Cd) };
    match machine_for(&uefi, &[]) {
        Ok(Invocation::Boot(config)) => {
            let chips: Vec<_> = config.drives.iter().filter(|d| d.interface == Interface::Flash).collect();
            assert!(chips.len() == 2 && chips[0].read_only && chips[1].snapshot, "{chips:?}");
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => assert!(error.to_string().contains("package ovmf"), "{error}"),
    }
    let Ok(Invocation::Boot(config)) = machine_for(&uefi, &["-bios".into(), "y".into()]) else { panic!() };
    assert_eq!(config.drives.len(), 1);
}

#[test]
fn texts_are_printed() {
    for line in [&["--help"][..], &["-h"], &["-version"], &["-cpu", "help"], &["-d", "help"], &["-M", "?"]] {
        let Ok(Invocation::Print(text)) = parse_line(line) else { panic!("{line:?}") };
        assert!(text.ends_with('\n'));
    }
}

proptest! {
    #[test]
    fn no_line_panics(words in prop::collection::vec("(-m|-smp|-cpu|-serial|-rtc|-device|-M|-d|-initrd|[-,=.:0-9a-zA-Z ]{0,12})", 0..8)) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if let Err(error) = parse_line(&words) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}
