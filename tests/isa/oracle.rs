//! Is the host's CPU asked at all?

use tests::harness::host;

/// An x86-64 Linux without ptrace is told about once, in words that a test runner's log shows.
#[test]
fn the_host_is_asked() {
    if let Some(why) = host::absent() {
        eprintln!("skipped: the host's CPU is not compared with ({why})");
        if let Some(log) = std::env::var_os(emulator::guests::SKIP_LOG) {
            use std::io::Write;
            let file = std::fs::OpenOptions::new().append(true).create(true).open(log);
            // A log that cannot be written costs a line in the summary, not the test.
            let _ = file.and_then(|mut f| f.write_all(format!("host oracle\tptrace\t{why}\n").as_bytes()));
        }
        return;
    }
    super::check("add eax, ecx", tests::regs! {eax: 1, ecx: !0}, tests::expect! {eax: 0});
    assert!(host::tally().0 > 0);
}
