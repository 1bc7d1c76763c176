//! Notices an initrd that was cut short, before a guest stumbles over it minutes later.
//!
//! An initramfs is a chain of cpio archives, plain or compressed, with zero bytes between them. What is understood here
//! (plain and gzip) is followed to its end; at anything else the check ends, and the file is taken as good: only what is
//! certainly broken is refused.

use std::io::Read;

/// A compressed part that is larger than this is not unpacked: the check must not delay a boot.
const MAX_COMPRESSED: usize = 8 << 20;
/// Nor is more than this looked at.
const MAX_UNPACKED: u64 = 256 << 20;
/// Length of a cpio header in the "newc" format.
const HEADER: usize = 110;

/// Says what is broken in `file`, if something certainly is.
pub fn check(file: &[u8]) -> Result<(), String> {
    let mut at = 0;
    while let Some(rest) = file.get(at..).filter(|rest| !rest.is_empty()) {
        if rest[0] == 0 {
            at += 1;
        } else if rest.starts_with(b"070701") || rest.starts_with(b"070702") {
            at += archive_len(rest).ok_or_else(|| cut_short("a cpio archive", at))?;
        } else if rest.starts_with(&[0x1f, 0x8b]) {
            match gzip_len(rest) {
                Gzip::Whole(len) => at += len,
                Gzip::CutShort => return Err(cut_short("gzip data", at)),
                Gzip::Damaged => return Err(format!("the gzip data at offset {at} is damaged")),
                Gzip::Unchecked => return Ok(()),
            }
        } else {
            return Ok(());
        }
    }
    Ok(())
}

fn cut_short(what: &str, at: usize) -> String {
    format!("the file is cut short: {what} that begins at offset {at} does not end")
}

/// Length of a cpio archive up to and including its trailer; `None` if it ends before.
fn archive_len(archive: &[u8]) -> Option<usize> {
    let mut at = 0usize;
    loop {
        let header = archive.get(at..at.checked_add(HEADER)?)?;
        if !header.starts_with(b"07070") {
            // Not an archive after all, or a damaged one: the guest's matter.
            return Some(archive.len());
        }
        let field = |index: usize| -> Option<usize> {
            let digits = header.get(6 + index * 8..14 + index * 8)?;
            usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        let (Some(size), Some(name_len)) = (field(6), field(11)) else { return Some(archive.len()) };
        let name_at = at + HEADER;
        let name = archive.get(name_at..name_at.checked_add(name_len)?)?;
        let data_at = name_at.checked_add(name_len)?.checked_next_multiple_of(4)?;
        let next = data_at.checked_add(size)?;
        if name.starts_with(b"TRAILER!!!") {
            return Some(next.min(archive.len()));
        }
        archive.get(..next)?;
        at = next.checked_next_multiple_of(4)?;
    }
}

enum Gzip {
    Whole(usize),
    CutShort,
    Damaged,
    Unchecked,
}

fn gzip_len(data: &[u8]) -> Gzip {
    if data.len() > MAX_COMPRESSED {
        return Gzip::Unchecked;
    }
    let mut decoder = flate2::bufread::GzDecoder::new(data);
    let mut buffer = vec![0; 0x1_0000];
    let mut total = 0;
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) => return Gzip::Whole(data.len() - decoder.into_inner().len()),
            Ok(len) => total += len as u64,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Gzip::CutShort,
            Err(_) => return Gzip::Damaged,
        }
        if total > MAX_UNPACKED {
            return Gzip::Unchecked;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn entry(name: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"070701".to_vec();
        let sizes = [0, 0, 0, 0, 1, 0, data.len(), 0, 0, 0, 0, name.len() + 1, 0];
        for field in sizes {
            bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn archive() -> Vec<u8> {
        let mut bytes = entry("init", b"#!/bin/sh\n");
        bytes.extend(entry("TRAILER!!!", b""));
        bytes
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn whole_files_pass() {
        let mut chain = archive();
        chain.resize(chain.len().next_multiple_of(512), 0);
        chain.extend(gzip(&archive()));
        for file in [archive(), gzip(&archive()), chain, b"\xfd7zXZ\0...".to_vec(), b"?".to_vec(), Vec::new()]
        {
            assert_eq!(check(&file), Ok(()));
        }
    }

    #[test]
    fn cut_files_are_refused() {
        for file in [archive(), gzip(&archive())] {
            for keep in [20, file.len() / 2, file.len() - 30] {
                let problem = check(&file[..keep]).unwrap_err();
                assert!(problem.contains("cut short"), "{problem}");
            }
        }
        let mut damaged = gzip(&[7; 5000]);
        let last = damaged.len() - 6;
        damaged[last] ^= 0xff;
        assert!(check(&damaged).unwrap_err().contains("damaged"));
    }

    proptest! {
        #[test]
        fn noise_never_panics(mut file in prop::collection::vec(any::<u8>(), 0..400), kind in 0..3) {
            let magic: &[u8] = [&b""[..], b"070701", &[0x1f, 0x8b, 8]][kind as usize];
            file.splice(..0, magic.iter().copied());
            let _ = check(&file);
        }

        #[test]
        fn damaged_archives_never_panic(changes in prop::collection::vec((0usize..250, any::<u8>()), 1..8)) {
            let mut file = archive();
            for (at, value) in changes {
                let len = file.len();
                file[at % len] = value;
            }
            let _ = check(&file);
        }
    }
}
