//! Writes our BIOS to a file, for use elsewhere: `cargo run -p bios --example rom -- retrograde.bin`, then
//! `qemu-system-x86_64 -bios retrograde.bin`.

fn main() -> std::io::Result<()> {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("rom FILE: writes the BIOS image to FILE");
        std::process::exit(2);
    };
    std::fs::write(path, bios::rom())
}
