//! A boot that is stopped at 20 counts, saved, and restored in a fresh process each time ends as the unbroken boot does.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use emulator::guests::{INITRAMFS_AMD64, KERNEL_CLOUD_AMD64};
use emulator::machine::gate::InputGate;
use jit::TierPolicy;
use tests::harness::boot::{Guest, Screen, final_state, run};

/// The counts: odd distances, so that they fall into the midst of everything, from decompression to user programs.
const STOPS: u64 = 20;
const DISTANCE: u64 = 69_998_543;

/// Runs one leg in a process of its own; what it prints.
fn leg(ram: u64, tier: TierPolicy, folder: &Path, n: usize, until: Option<u64>) -> String {
    let file = |name: &str, n: usize| folder.join(format!("{name}-{n}"));
    let program = env!("CARGO_BIN_EXE_resume");
    // By way of the runner of the aarch64 tests, which is an x86 program, where there is one.
    let runner = std::env::var_os("RETROGRADE_RUNNER");
    let mut command = Command::new(runner.as_deref().unwrap_or(program.as_ref()));
    command.args(runner.as_ref().map(|_| program));
    let output = command
        .args([ram.to_string(), format!("{tier:?}")])
        .arg(file("state", n))
        .arg(until.map_or("end".into(), |n| n.to_string()))
        .arg(file("state", n + 1))
        .arg(file("console", n))
        .output()
        .expect("the helper program starts");
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success(), "leg {n}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    // States are large.
    std::fs::remove_file(file("state", n)).expect("the leg's state can be removed");
    text
}

#[test]
fn a_boot_in_21_processes_ends_as_in_one() {
    let Some(guest) = Guest::linux(&KERNEL_CLOUD_AMD64, &INITRAMFS_AMD64, "console=ttyS0") else { return };
    // The unbroken boot: it stops at the same counts, but only to be looked at.
    let mut whole = guest.power_on(TierPolicy::Auto);
    let mut screen = Screen::default();
    let mut want = Vec::new();
    for n in 0..=STOPS {
        let until = (n < STOPS).then_some((n + 1) * DISTANCE);
        let ended = run(&mut whole, &mut InputGate::sealed(), &mut screen, until);
        let end = final_state(&mut whole, ended);
        want.push((
            format!("{} {} {} {:?}", end.icount, end.now, end.fingerprint, end.ended),
            screen.0.len(),
        ));
    }
    drop(whole);
    let last = want.last().expect("at least one");
    assert!(
        last.0.ends_with("PowerOff") && screen.shows("RETRO-BOOT-OK"),
        "{}\n{}",
        last.0,
        screen.tail(2000)
    );
    assert!(
        want[..STOPS as usize].iter().all(|w| w.0.ends_with("Count")),
        "the boot is shorter than its stops"
    );

    let folder = tempfile::tempdir().expect("a folder for states");
    let mut first = guest.power_on(TierPolicy::Auto);
    let mut file = BufWriter::new(File::create(folder.path().join("state-0")).expect("a file"));
    first.save(&mut file).and_then(|()| file.flush()).expect("the state can be saved");
    drop(first);
    let mut console = Vec::new();
    for (n, (want, shown)) in want.iter().enumerate() {
        let until = (n < STOPS as usize).then_some((n as u64 + 1) * DISTANCE);
        // Tiers take turns: a state knows nothing of them.
        let tier = [TierPolicy::Auto, TierPolicy::Zero][n % 2];
        let got = leg(guest.ram_bytes(), tier, folder.path(), n, until);
        console.extend(std::fs::read(folder.path().join(format!("console-{n}"))).expect("the leg's console"));
        assert_eq!(got, *want, "leg {n} in tier {tier:?}");
        assert_eq!(
            String::from_utf8_lossy(&console),
            String::from_utf8_lossy(&screen.0[..*shown]),
            "leg {n}"
        );
    }
}
