//! A shell that is typed at: input comes at given counts, and the run is the same in every tier.

use emulator::guests::{INITRAMFS_AMD64, KERNEL_CLOUD_AMD64};
use emulator::machine::Ended;
use emulator::machine::gate::{Input, InputGate, Stamped};
use jit::TierPolicy;
use tests::harness::boot::{Final, Guest, Screen, Screens, final_state, run, run_until_shown};

/// Bytes of `text` from count `from` on, one each 50,000 instructions (a fast typist's distance at 1 GHz is a thousand
/// times that, but a UART takes 87 microseconds for a byte).
fn typed(text: &str, from: u64) -> Vec<Stamped> {
    (0..)
        .zip(text.bytes())
        .map(|(n, byte)| Stamped {
            icount: from + n * 50_000,
            now: 0,
            input: Input::Serial { port: 0, byte },
        })
        .collect()
}

#[test]
fn a_shell_on_the_second_serial_port_is_typed_at() {
    let guest = Guest::linux(&KERNEL_CLOUD_AMD64, &INITRAMFS_AMD64, "console=ttyS1 wl=shell");
    let Some(guest) = guest.map(|guest| guest.with_serial_ports(2)) else { return };
    let mut machine = guest.power_on(TierPolicy::Auto);
    let mut screens = Screens::default();
    while !screens.0[1].shows(":/root# ") {
        let at = machine.cpu.st.icount();
        let ended = machine.run(&mut InputGate::sealed(), &mut screens, Some(at + 5_000_000));
        let ended = ended.expect("the console takes everything");
        assert!(ended == Ended::Count && at < 20_000_000_000, "{ended:?}\n{}", screens.0[1].tail(2000));
    }
    let text = "echo hi $((6*7)) | busybox tee /dev/ttyS0\nbusybox poweroff -f\n";
    let script = typed(text, machine.cpu.st.icount() + 1000).into_iter().map(|mut event| {
        event.input = match event.input {
            Input::Serial { byte, .. } => Input::Serial { port: 1, byte },
            other => other,
        };
        event
    });
    let mut gate = InputGate::script(script.collect());
    let ended = machine.run(&mut gate, &mut screens, None).expect("the console takes everything");
    let [first, second, ..] = &screens.0;
    assert_eq!(ended, Ended::PowerOff, "{}", second.tail(2000));
    for (port, at) in [(0, "0x3f8 (irq = 4"), (1, "0x2f8 (irq = 3")] {
        let found = format!("ttyS{port} at I/O {at}, base_baud = 115200) is a 16550A");
        assert!(second.shows(&found), "{found}\n{}", second.tail(4000));
    }
    assert!(second.shows("hi 42"), "{}", second.tail(2000));
    assert_eq!(first.tail(100), "hi 42\r\n");
}

#[test]
fn a_shell_is_typed_at() {
    let Some(guest) = Guest::linux(&KERNEL_CLOUD_AMD64, &INITRAMFS_AMD64, "console=ttyS0 quiet wl=shell")
    else {
        return;
    };
    let mut probe = guest.power_on(TierPolicy::Auto);
    let mut screen = Screen::default();
    let prompt = run_until_shown(&mut probe, &mut screen, ":/root# ", 5_000_000, 20_000_000_000);
    let prompt = prompt.unwrap_or_else(|e| panic!("{e:?} before the prompt\n{}", screen.tail(2000)));
    let script = typed("echo hi $((6*7))\nbusybox poweroff -f\n", prompt + 1000);
    // The probe goes on; another machine, in the other tier, runs the same from the start.
    let end = |machine: &mut emulator::machine::Machine, screen: &mut Screen| -> Final {
        let ended = run(machine, &mut InputGate::script(script.clone()), screen, None);
        final_state(machine, ended)
    };
    let probed = end(&mut probe, &mut screen);
    assert_eq!(probed.ended, Ended::PowerOff, "{}", screen.tail(2000));
    assert!(screen.shows("\nhi 42"), "{}", screen.tail(2000));
    drop(probe);
    let mut other = guest.power_on(TierPolicy::Zero);
    let mut other_screen = Screen::default();
    let replayed = end(&mut other, &mut other_screen);
    assert_eq!(screen.tail(usize::MAX), other_screen.tail(usize::MAX));
    assert_eq!(probed, replayed);
}
