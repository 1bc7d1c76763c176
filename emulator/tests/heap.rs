//! A heap whose allocator is mimalloc stays in huge pages, whatever of it is freed.

#![cfg(target_os = "linux")]

use std::time::Duration;
use std::{fs, thread};

#[global_allocator]
static HEAP: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// KiB of the mapping at `address` that are resident, and in huge pages (proc_pid_smaps(5)).
fn resident_and_huge(address: usize) -> (u64, u64) {
    let maps = fs::read_to_string("/proc/self/smaps").expect("proc");
    let (mut here, mut found) = (false, (0, 0));
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (name, value) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if let Some((from, to)) = name.split_once('-')
            && let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
        {
            here = (from..to).contains(&address);
        }
        match name {
            "Rss:" if here => found.0 = value.parse().expect("a number"),
            "AnonHugePages:" if here => found.1 = value.parse().expect("a number"),
            _ => {}
        }
    }
    found
}

#[test]
fn what_is_freed_leaves_the_rest_in_huge_pages() {
    const PIECE: usize = 40 << 10;
    emulator::host_heap::keep_pages_huge();
    let mut pieces: Vec<Option<Vec<u8>>> = (0..2000).map(|_| Some(vec![1; PIECE])).collect();
    let middle = pieces[1000].as_ref().map_or(0, |piece| piece.as_ptr().addr());
    let (resident, huge) = resident_and_huge(middle);
    if resident == 0 || huge < resident / 2 {
        println!("skipped: this host gives {huge} KiB of huge pages for {resident} KiB");
        return;
    }
    for (_, piece) in pieces.iter_mut().enumerate().filter(|(n, _)| n % 16 != 0) {
        *piece = None;
    }
    // Past the second after which free memory is returned, by whoever looks for memory next.
    thread::sleep(Duration::from_millis(1500));
    pieces.extend((0..100).map(|_| Some(vec![1; PIECE * 4])));
    pieces.truncate(2000);
    thread::sleep(Duration::from_millis(1500));
    pieces.extend((0..100).map(|_| Some(vec![1; PIECE * 4])));
    let (resident, huge) = resident_and_huge(middle);
    println!("{huge} KiB of {resident} KiB are in huge pages");
    assert!(huge * 10 >= resident * 9, "{huge} KiB of {resident} KiB are in huge pages");
}
