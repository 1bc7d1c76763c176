//! `-display window` on an X server without a screen (Xvfb): the picture, keys, the mouse, another size, and its end.
//!
//! The guest is a boot sector of ours under our BIOS. It fills the screen with a colour, and writes what the keyboard and the mouse
//! send to the debug console.

mod server;

mod with_the_window {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use iced_x86::IcedError;
    use iced_x86::code_asm::*;

    use crate::server::{Server, Window};

    /// Beyond what a busy machine may take for anything here.
    const PATIENCE: Duration = Duration::from_secs(120);

    const POLL: Duration = Duration::from_millis(20);

    const RED: u32 = 0xaa_0000;
    const BLUE: u32 = 0x00_00aa;
    /// Keys' codes in X11: those of Linux, and 8.
    const KEY_B: u8 = 48 + 8;
    const CONTROL_ALT_G: [u8; 3] = [29 + 8, 56 + 8, 34 + 8];
    /// The scan codes (set 1) of B going down and up, as the guest reports them.
    const B_DOWN: (u8, u8) = (b'K', 0x30);
    const B_UP: (u8, u8) = (b'K', 0xb0);

    /// Waits until `ready` has an answer.
    fn until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
        let since = Instant::now();
        loop {
            if let Some(answer) = ready() {
                return answer;
            }
            assert!(since.elapsed() < PATIENCE, "in vain: {what}");
            std::thread::sleep(POLL);
        }
    }

    /// A diskette whose boot sector is the guest.
    fn diskette() -> Result<Vec<u8>, IcedError> {
        let mut a = CodeAssembler::new(16)?;
        let (mut wait, mut mouse, mut fill) = (a.create_label(), a.create_label(), a.create_label());
        a.cli()?;
        a.xor(ax, ax)?;
        a.mov(ss, ax)?;
        a.mov(sp, 0x7c00)?;
        a.mov(ax, 3)?;
        a.int(0x10)?;
        a.mov(ax, 0xb800)?;
        a.mov(es, ax)?;
        a.cld()?;
        // The mouse's clock on, the keyboard's scan codes translated, no interrupts; the mouse sends what it sees.
        for (port, value) in [(0x64, 0xa8), (0x64, 0x60), (0x60, 0x40), (0x64, 0xd4), (0x60, 0xf4)] {
            let mut full = a.create_label();
            a.set_label(&mut full)?;
            a.in_(al, 0x64)?;
            a.test(al, 2)?;
            a.jne(full)?;
            a.mov(al, value)?;
            a.out(port, al)?;
        }
        a.mov(ax, 0x4420)?;
        a.call(fill)?;
        a.set_label(&mut wait)?;
        a.in_(al, 0x64)?;
        a.test(al, 1)?;
        a.je(wait)?;
        a.mov(ah, al)?;
        a.in_(al, 0x60)?;
        a.mov(bl, al)?;
        a.test(ah, 0x20)?;
        a.mov(al, u32::from(b'M'))?;
        a.jne(mouse)?;
        a.mov(al, u32::from(b'K'))?;
        a.set_label(&mut mouse)?;
        a.out(0xe9, al)?;
        a.mov(al, bl)?;
        a.out(0xe9, al)?;
        a.cmp(bl, 0x30)?;
        a.jne(wait)?;
        a.mov(ax, 0x1120)?;
        a.call(fill)?;
        a.jmp(wait)?;
        a.set_label(&mut fill)?;
        a.xor(di, di)?;
        a.mov(cx, 2000)?;
        a.rep().stosw()?;
        a.ret()?;
        let mut image = a.assemble(0x7c00)?;
        assert!(image.len() <= 510, "it is one sector");
        image.resize(1_474_560, 0);
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        Ok(image)
    }

    /// The emulator with its window, on a server of its own.
    struct Session {
        emulator: Child,
        folder: tempfile::TempDir,
        // After the emulator: it is not to lose its server.
        server: Server,
    }

    impl Drop for Session {
        fn drop(&mut self) {
            let _ = self.emulator.kill();
            let _ = self.emulator.wait();
        }
    }

    impl Session {
        /// `None`: something is missing on this host, which has been said.
        fn start(options: &[&str]) -> Option<(Self, Window)> {
            let skip = |what: &str, why: &str| {
                emulator::guests::skip(what, why);
                None
            };
            let Some(server) = Server::start() else {
                return skip("Xvfb", "is not on this host (package xvfb)");
            };
            let folder = tempfile::tempdir().expect("a folder");
            let image = folder.path().join("diskette");
            fs::write(&image, diskette().expect("a guest")).expect("an image");
            let file = |name: &str| -> PathBuf { folder.path().join(name) };
            let mut emulator = emulator(&server, &image)
                .arg("-debugcon")
                .arg(format!("file:{}", file("heard").display()))
                .args(options)
                .stderr(fs::File::create(file("errors")).expect("a file"))
                .spawn()
                .expect("the emulator");
            let window = until("the window", || {
                if emulator.try_wait().expect("its state").is_some() {
                    return Some(None);
                }
                server.window("Retrograde").map(Some)
            });
            let errors = fs::read_to_string(file("errors")).expect("standard error");
            let Some(window) = window else {
                if errors.contains("library") {
                    return skip("a library", errors.trim());
                }
                panic!("there is no window: {errors}");
            };
            Some((Self { emulator, folder, server }, window))
        }

        /// What the guest has heard, from report number `from` on: from the keyboard (K) or the mouse (M), and the byte.
        fn heard(&self, from: usize) -> Vec<(u8, u8)> {
            let bytes = fs::read(self.folder.path().join("heard")).unwrap_or_default();
            bytes.chunks_exact(2).map(|pair| (pair[0], pair[1])).skip(from).collect()
        }

        /// Waits until the guest has heard `what` after report number `from`, and gives all that it heard then.
        fn hears(&self, from: usize, what: &[(u8, u8)]) -> Vec<(u8, u8)> {
            let since = Instant::now();
            loop {
                let heard = self.heard(from);
                if heard.windows(what.len()).any(|part| part == what) {
                    return heard;
                }
                assert!(since.elapsed() < PATIENCE, "{what:x?} is not in {heard:x?}");
                std::thread::sleep(POLL);
            }
        }

        fn shows(&self, window: Window, colour: u32, (x, y): (i16, i16)) {
            until(&format!("{colour:06x} at {x}, {y}"), || {
                (self.server.pixel(window, x, y) == Some(colour)).then_some(())
            });
        }

        fn is_called(&self, window: Window, part: &str) {
            until(&format!("\"{part}\" in the title"), || {
                self.server.title(window).contains(part).then_some(())
            });
        }

        fn ends(&mut self) -> Option<i32> {
            until("the end", || self.emulator.try_wait().expect("its state")).code()
        }
    }

    fn emulator(server: &Server, image: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retrograde"));
        command.args(["-m", "16", "-bios", "builtin", "-fda"]).arg(image);
        command.env("DISPLAY", server.display()).env_remove("WAYLAND_DISPLAY").env_remove("WAYLAND_SOCKET");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    #[test]
    fn the_window_shows_and_hears() {
        // No option asks for it: on a desktop it is the default.
        let Some((mut session, window)) = Session::start(&[]) else { return };
        let server = &session.server;
        session.shows(window, RED, (360, 200));
        assert_eq!(server.size(window), (720, 400));

        server.focus(window);
        server.press(&[KEY_B]);
        session.hears(0, &[B_DOWN, B_UP]);
        session.shows(window, BLUE, (360, 200));

        // The picture twice as large, in the middle, and black around it.
        server.resize(window, 1500, 900);
        for (colour, at) in [
            (BLUE, (31, 51)),
            (BLUE, (1468, 848)),
            (0, (28, 450)),
            (0, (1471, 450)),
            (0, (750, 48)),
            (0, (750, 851)),
        ] {
            session.shows(window, colour, at);
        }

        // A mouse that was not given to the guest is not the guest's: a key that comes later is heard first.
        let before = session.heard(0).len();
        server.point_at(window, 750, 450);
        server.move_by(3, 3);
        server.press(&[KEY_B]);
        let heard = session.hears(before, &[B_DOWN, B_UP]);
        assert!(heard.iter().all(|(device, _)| *device == b'K'), "{heard:x?}");

        let before = session.heard(0).len();
        server.click(1);
        session.is_called(window, "Ctrl+Alt+G");
        server.move_by(20, 10);
        // To the right by 20, down by 10, and the sign of what goes down.
        session.hears(before, &[(b'M', 0x28), (b'M', 20), (b'M', 0xf6)]);
        // Further than the window is wide.
        let so_far = |heard: &[(u8, u8)]| -> i32 {
            let packets = heard.chunks_exact(3).map(|packet| (packet[0].1, packet[1].1));
            packets.map(|(flags, x)| i32::from(x) - (i32::from(flags & 0x10) << 4)).sum()
        };
        for step in 1..=12 {
            server.move_by(200, 0);
            until("movements", || (so_far(&session.heard(before)) == 20 + 200 * step).then_some(()));
        }
        // The right button down and up.
        server.click(3);
        let still = [(b'M', 0), (b'M', 0)];
        session.hears(before, &[&[(b'M', 0x0a)][..], &still[..], &[(b'M', 0x08)], &still[..]].concat());

        // Released, it is the desktop's again, and G was not for the guest.
        let before = session.heard(0).len();
        server.press(&CONTROL_ALT_G);
        session.is_called(window, "click");
        server.move_by(-7, 0);
        server.press(&[KEY_B]);
        let heard = session.hears(before, &[B_DOWN, B_UP]);
        assert!(heard.iter().all(|(device, _)| *device == b'K'), "{heard:x?}");
        assert!(!heard.contains(&(b'K', 0x22)), "G: {heard:x?}");
        for modifier in [0x1d, 0x38] {
            assert!(
                heard.contains(&(b'K', modifier)) && heard.contains(&(b'K', modifier | 0x80)),
                "{heard:x?}"
            );
        }

        server.close(window);
        assert_eq!(session.ends(), Some(0));
    }

    #[test]
    fn a_window_that_fits_and_does_not_close() {
        let Some((mut session, window)) =
            Session::start(&["-display", "gtk,window-close=off,zoom-to-fit=on"])
        else {
            return;
        };
        session.shows(window, RED, (360, 200));
        session.server.close(window);
        // By other than whole numbers: no border at the sides.
        session.server.resize(window, 1000, 800);
        session.shows(window, RED, (1, 400));
        session.shows(window, RED, (998, 400));
        session.shows(window, 0, (500, 100));
        assert!(session.emulator.try_wait().expect("its state").is_none(), "it goes on");
    }

    #[test]
    fn a_desktop_that_goes_away_is_a_failure_of_the_host() {
        let Some((mut session, window)) = Session::start(&[]) else { return };
        session.shows(window, RED, (360, 200));
        session.server.end();
        assert_eq!(session.ends(), Some(74));
        let errors = fs::read_to_string(session.folder.path().join("errors")).expect("standard error");
        assert_eq!(errors, "retrograde: the desktop is gone, and the window with it\n");
    }

    #[test]
    fn without_a_desktop_there_is_one_line() {
        let run = |change: &dyn Fn(&mut Command)| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_retrograde"));
            command.args(["-display", "window", "-fda", "/dev/null"]).stdin(Stdio::null());
            command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").env_remove("WAYLAND_SOCKET");
            change(&mut command);
            let output = command.output().expect("the emulator");
            let line = String::from_utf8(output.stderr).expect("text");
            assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{line}");
            assert!(line.contains("-display terminal, -display web or -vnc :0"), "{line}");
            line
        };
        let line = run(&|_| {});
        assert!(line.contains("there is no desktop here"), "{line}");
        // A library may be missing, too.
        let line = run(&|command| {
            command.env("DISPLAY", ":987654");
        });
        assert!(line.contains("-display window: the desktop"), "{line}");
    }
}
