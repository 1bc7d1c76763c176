//! memtest86+ by the Linux boot protocol, to its running test.

use emulator::guests::{self, Artifact, MEMTEST_IA32, MEMTEST_X64};
use jit::TierPolicy;
use tests::harness::boot::{Guest, Screen, run_until_shown};

fn reaches_its_test(image: &Artifact) {
    let Some(path) = guests::for_test(image) else { return };
    let guest = Guest::bare(&path, "console=ttyS0,115200", 32 << 20);
    let mut machine = guest.power_on(TierPolicy::Auto);
    let mut screen = Screen::default();
    // Half of the first test: it has written and read all memory once.
    let shown = run_until_shown(&mut machine, &mut screen, " 50% ####", 50_000_000, 20_000_000_000);
    assert!(shown.is_ok(), "{shown:?}\n{}", screen.tail(3000));
    assert!(screen.shows("Memtest86+"));
    assert!(screen.shows("Errors: 0"), "{}", screen.tail(3000));
}

#[test]
fn memtest_32_bit() {
    reaches_its_test(&MEMTEST_IA32);
}

#[test]
fn memtest_64_bit() {
    reaches_its_test(&MEMTEST_X64);
}
