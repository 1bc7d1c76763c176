//! What is shared without a lock, under loom. Run with `RUSTFLAGS="--cfg loom" cargo test -p devices --release --test loom`.
#![cfg(loom)]

use std::sync::Arc;

use devices::Lines;
use devices::lines::Look;
use devices::published::Published;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

/// Two changes; `truth` stands for the clock, which the writer reads, or makes, after it has begun.
#[test]
fn a_sample_is_whole_and_its_clock_was_read_while_it_held() {
    loom::model(|| {
        let published = Arc::new(Published::new([0, 0]));
        let truth = Arc::new(AtomicU64::new(0));
        let writer = {
            let (published, truth) = (Arc::clone(&published), Arc::clone(&truth));
            thread::spawn(move || {
                for n in 1..3 {
                    published.begin();
                    truth.store(n, Ordering::Relaxed);
                    published.end([n, n]);
                }
            })
        };
        if let Some(([a, b], seen)) = published.read(|| truth.load(Ordering::Relaxed)) {
            assert_eq!(a, b, "torn");
            assert_eq!(a, seen, "the clock was read after the words had changed");
        }
        writer.join().expect("the writer asserts nothing");
        assert_eq!(published.read(|| ()), Some(([2, 2], ())));
    });
}

/// What the interrupt controllers know of one line, under their lock.
#[derive(Default)]
struct Pin {
    level: bool,
    edges: usize,
}

/// As [`devices::pc::Interrupts::carry`] does it: whoever has moved a line carries it to the controllers, unless no move is left to be seen.
fn carry(lines: &Lines, pin: &Mutex<Pin>) {
    if lines.moved() {
        let mut pin = pin.lock().unwrap();
        let Look { levels, rose } = lines.take();
        pin.level = levels & 1 != 0;
        pin.edges += (rose & 1) as usize;
    }
}

/// A function's thread raises its pin; a processor that sees it lowers it. When both have carried on what they did, the controllers have seen
/// one edge and know the level.
#[test]
fn no_move_of_a_line_is_left_to_nobody() {
    loom::model(|| {
        let lines = Lines::new();
        let pin = Arc::new(Mutex::new(Pin::default()));
        let own = lines.line(0);
        let function = {
            let (lines, pin, own) = (Arc::clone(&lines), Arc::clone(&pin), own.clone());
            thread::spawn(move || {
                own.set(true);
                carry(&lines, &pin);
            })
        };
        // The processor learns of it by the controllers, or by the function's registers.
        let seen = pin.lock().unwrap().edges > 0 || own.level();
        if seen {
            own.set(false);
            carry(&lines, &pin);
        }
        function.join().expect("the function asserts nothing");
        let pin = pin.lock().unwrap();
        assert_eq!((pin.level, pin.edges), (!seen, 1));
    });
}
