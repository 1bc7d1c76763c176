//! What is shared without a lock, under loom. Run with `RUSTFLAGS="--cfg loom" cargo test -p devices --release --test loom`.
#![cfg(loom)]

use std::sync::Arc;

use devices::published::Published;
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
