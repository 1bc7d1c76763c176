//! A QEMU that runs our BIOS, watched through its monitor, its serial line and its debug console.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Long enough for a host under any load: only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(240);
const LOOK: Duration = Duration::from_millis(250);

/// A running machine; dropped, it ends.
pub struct Qemu {
    process: Child,
    folder: tempfile::TempDir,
    serial: Option<UnixStream>,
}

/// The path of an image of an installed package.
pub fn image(folder: &str, name: &str) -> Option<String> {
    let path = Path::new(folder).join(name);
    if !path.exists() {
        eprintln!("SKIPPED: {} is not installed", path.display());
        return None;
    }
    Some(path.display().to_string())
}

impl Qemu {
    /// Starts one with our BIOS and `arguments`. `None`: QEMU is not installed.
    pub fn start(arguments: &[&str]) -> Option<Self> {
        if Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
            eprintln!("SKIPPED: qemu-system-x86_64 is not installed");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder for this run");
        let at = |name: &str| folder.path().join(name).display().to_string();
        fs::write(at("bios.bin"), bios::rom()).expect("the image can be written");
        let process = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg", "-display", "none", "-monitor", "stdio", "-no-reboot"])
            .args(["-bios", &at("bios.bin"), "-debugcon", &format!("file:{}", at("debug"))])
            .args(["-global", "isa-debugcon.iobase=0x402"])
            // What is sent before anybody listens is in the log.
            .args([
                "-chardev",
                &format!("socket,id=line,path={},server=on,wait=off,logfile={}", at("serial"), at("heard")),
            ])
            .args(["-serial", "chardev:line"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("QEMU starts");
        Some(Self { process, folder, serial: None })
    }

    fn monitor(&mut self, command: &str) {
        let input = self.process.stdin.as_mut().expect("the monitor listens");
        writeln!(input, "{command}").expect("QEMU still runs");
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The text of the first page, row by row. Before there is one, nothing.
    fn screen(&mut self) -> String {
        let file = self.path("screen");
        self.monitor(&format!("pmemsave 0xb8000 4000 \"{file}\""));
        std::thread::sleep(LOOK);
        let cells = fs::read(&file).unwrap_or_default();
        let shown = |cell: &[u8]| if (0x20..0x7f).contains(&cell[0]) { cell[0] as char } else { ' ' };
        let row = |row: &[u8]| row.chunks(2).map(shown).collect::<String>();
        cells.chunks(160).map(row).collect::<Vec<_>>().join("\n")
    }

    /// Waits until the screen shows `text`, and gives what it shows then.
    pub fn wait_for(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if screen.contains(text) {
                return screen;
            }
            assert!(start.elapsed() < PATIENCE, "\"{text}\" does not appear; the screen shows\n{screen}");
        }
    }

    /// Waits until the debug console (port 402h) has got `end` after `start`, and gives what is between them.
    pub fn wait_for_report(&mut self, start: &str, end: &str) -> String {
        let began = Instant::now();
        loop {
            let out = fs::read(self.path("debug")).unwrap_or_default();
            let out = String::from_utf8_lossy(&out).into_owned();
            if let Some((_, report)) = out.split_once(start)
                && report.contains(end)
            {
                return report.trim().to_owned();
            }
            assert!(began.elapsed() < PATIENCE, "no \"{start}\" with \"{end}\" after it, but\n{out}");
            std::thread::sleep(LOOK);
        }
    }

    /// Presses keys, by QEMU's names.
    pub fn keys(&mut self, keys: &[&str]) {
        for key in keys {
            self.monitor(&format!("sendkey {key} 20"));
            std::thread::sleep(LOOK);
        }
    }

    fn serial(&mut self) -> &mut UnixStream {
        let path = self.path("serial");
        self.serial.get_or_insert_with(|| {
            let start = Instant::now();
            loop {
                match UnixStream::connect(&path) {
                    Ok(line) => return line,
                    Err(why) => assert!(start.elapsed() < PATIENCE, "the serial line: {why}"),
                }
                std::thread::sleep(LOOK);
            }
        })
    }

    /// Waits until the serial line has sent `text`, and gives everything that it has.
    pub fn wait_for_serial(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let heard = fs::read(self.path("heard")).unwrap_or_default();
            let heard = String::from_utf8_lossy(&heard).into_owned();
            if heard.contains(text) {
                return heard;
            }
            assert!(start.elapsed() < PATIENCE, "\"{text}\" is not sent, but\n{heard}");
            std::thread::sleep(LOOK);
        }
    }

    /// Types on the serial line.
    pub fn type_serial(&mut self, text: &str) {
        self.serial().write_all(text.as_bytes()).expect("the line takes it");
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
