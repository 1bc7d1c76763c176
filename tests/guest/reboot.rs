//! The guest resets the machine, and boots a second time as it did the first: memory has been loaded anew, devices and the
//! processor are as after power-on. Only the clock has gone on.

use emulator::guests::{INITRAMFS_AMD64, KERNEL_CLOUD_AMD64};
use emulator::machine::gate::{Input, InputGate, Stamped};
use emulator::machine::{Ended, Machine};
use jit::TierPolicy;
use tests::harness::boot::{Guest, Screen};

/// Looks this often at the console.
const STEP: u64 = 2_000_000;
const LIMIT: u64 = 30_000_000_000;

/// Runs until `enough`, or to the end.
fn run(
    machine: &mut Machine,
    gate: &mut InputGate,
    screen: &mut Screen,
    enough: impl Fn(&Screen) -> bool,
) -> Ended {
    while !enough(screen) {
        let at = machine.cpu.st.icount();
        assert!(at < LIMIT, "{}", screen.tail(2000));
        let ended = machine.run(gate, screen, Some(at + STEP)).expect("the console takes everything");
        if ended != Ended::Count {
            return ended;
        }
    }
    Ended::Count
}

/// The lines of a boot in an order of their own (some work is done in the background), without time stamps; what tells the
/// time, or where the kernel chose by chance to lie, without numbers.
fn lines(screen: &Screen) -> Vec<String> {
    const MEASURED: [&str; 5] =
        ["audit: ", "setting system clock", "sched_clock: Marking", "Memory: ", "RETRO-UPTIME"];
    let text = screen.tail(usize::MAX);
    let said = |line: &str| {
        let stamped = line.strip_prefix('[').and_then(|line| line.split_once("] "));
        let line = stamped.map_or(line, |(_, rest)| rest);
        match MEASURED.iter().any(|word| line.contains(word)) {
            true => line.chars().filter(|c| !c.is_ascii_digit()).collect(),
            false => line.to_owned(),
        }
    };
    let mut lines: Vec<String> = text.lines().map(said).collect();
    lines.sort();
    lines
}

#[test]
fn a_kernel_boots_twice() {
    let guest = Guest::linux(&KERNEL_CLOUD_AMD64, &INITRAMFS_AMD64, "console=ttyS0 wl=shell");
    let Some(guest) = guest else { return };
    let mut machine = guest.rebooting().power_on(TierPolicy::Auto);
    let mut boots = Vec::new();
    for (command, end) in [("reboot", "machine restart"), ("poweroff", "Power down")] {
        let mut boot = Screen::default();
        let ended = run(&mut machine, &mut InputGate::sealed(), &mut boot, |s| s.shows(":/root# "));
        assert_eq!(ended, Ended::Count, "{}", boot.tail(2000));
        let from = machine.cpu.st.icount();
        let command = format!("busybox {command} -f\n");
        let typed = (0..).zip(command.bytes()).map(|(n, byte)| Stamped {
            icount: from + n,
            now: 0,
            input: Input::Serial { port: 0, byte },
        });
        let mut gate = InputGate::script(typed.collect());
        let mut after = Screen::default();
        // No further than the reset: what comes after belongs to the next boot.
        let ended = run(&mut machine, &mut gate, &mut after, |s| s.shows(&format!("{end}\r\n")));
        assert!(after.shows(end) && !after.shows("Linux version"), "{ended:?}\n{}", after.tail(2000));
        boots.push(boot);
    }
    let ended = run(&mut machine, &mut InputGate::sealed(), &mut Screen::default(), |_| false);
    assert_eq!(ended, Ended::PowerOff);
    let [first, second] = &boots[..] else { unreachable!("two commands") };
    assert!(first.shows("Linux version") && first.shows("RETRO-BOOT-OK"), "{}", first.tail(2000));
    let (first, second) = (lines(first), lines(second));
    let only = |a: &[String], b: &[String]| -> Vec<String> {
        a.iter().filter(|l| !b.contains(l)).cloned().collect()
    };
    assert_eq!(
        only(&first, &second),
        only(&second, &first),
        "said at the first boot only, and at the second only"
    );
    assert_eq!(first.len(), second.len());
}
