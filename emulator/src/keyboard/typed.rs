//! What a terminal sends, byte by byte, as keys: characters, control characters, and the sequences of special keys.

use super::names::{code, name_of};
use super::{Codes, chord};

/// Bytes of a sequence that has begun.
#[derive(Clone, Debug, Default)]
pub struct Typed {
    sequence: Vec<u8>,
}

/// Sequences of xterm and its kin, after ESC.
const SEQUENCES: &[(&str, &str)] = &[
    ("[A", "up"),
    ("[B", "down"),
    ("[C", "right"),
    ("[D", "left"),
    ("[H", "home"),
    ("[F", "end"),
    ("OA", "up"),
    ("OB", "down"),
    ("OC", "right"),
    ("OD", "left"),
    ("OH", "home"),
    ("OF", "end"),
    ("[1~", "home"),
    ("[2~", "insert"),
    ("[3~", "delete"),
    ("[4~", "end"),
    ("[5~", "pgup"),
    ("[6~", "pgdn"),
    ("OP", "f1"),
    ("OQ", "f2"),
    ("OR", "f3"),
    ("OS", "f4"),
    ("[15~", "f5"),
    ("[17~", "f6"),
    ("[18~", "f7"),
    ("[19~", "f8"),
    ("[20~", "f9"),
    ("[21~", "f10"),
    ("[23~", "f11"),
    ("[24~", "f12"),
];

impl Typed {
    /// Takes what one read gave: an ESC at its end was the key Escape, since terminals send sequences at once.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Codes> {
        let mut keys = Vec::new();
        for byte in bytes {
            self.byte(*byte, &mut keys);
        }
        match self.sequence.as_slice() {
            [] => {}
            [0x1b] => {
                keys.extend(named("esc"));
                self.sequence.clear();
            }
            _ => {}
        }
        keys
    }

    fn byte(&mut self, byte: u8, keys: &mut Vec<Codes>) {
        if self.sequence.is_empty() {
            match byte {
                0x1b => self.sequence.push(byte),
                _ => keys.extend(character(byte, &[])),
            }
            return;
        }
        self.sequence.push(byte);
        let text = String::from_utf8_lossy(&self.sequence[1..]).into_owned();
        if let Some((_, name)) = SEQUENCES.iter().find(|(sequence, _)| *sequence == text) {
            keys.extend(named(name));
            self.sequence.clear();
        } else if !SEQUENCES.iter().any(|(sequence, _)| sequence.starts_with(&text)) {
            // ESC before a character is Alt; other sequences are of keys that no PC has.
            if let [byte] = self.sequence[1..] {
                keys.extend(character(byte, &["alt"]));
            }
            self.sequence.clear();
        }
    }
}

fn named(name: &str) -> Vec<Codes> {
    code(name).map(|code| chord(&[code])).unwrap_or_default()
}

fn character(byte: u8, held: &[&str]) -> Vec<Codes> {
    let mut names: Vec<&str> = held.to_vec();
    let letter;
    match byte {
        b'\r' | b'\n' => names.push("ret"),
        0x7f | 0x08 => names.push("backspace"),
        b'\t' => names.push("tab"),
        0x01..=0x1a => {
            letter = char::from(byte + 0x60).to_string();
            names.extend(["ctrl", letter.as_str()]);
        }
        _ => match name_of(char::from(byte)) {
            Some((name, shift)) => {
                names.extend(shift.then_some("shift"));
                names.push(name);
            }
            None => return Vec::new(),
        },
    }
    let codes: Vec<u16> = names.into_iter().filter_map(code).collect();
    chord(&codes)
}

#[cfg(test)]
mod tests {
    use super::super::combination;
    use super::*;

    #[test]
    fn bytes_are_keys() {
        let expect = |bytes: &[u8], combinations: &[&str]| {
            let expected: Vec<Codes> =
                combinations.iter().flat_map(|text| combination(text).unwrap()).collect();
            assert_eq!(Typed::default().take(bytes), expected, "{bytes:?}");
        };
        expect(b"aB\r", &["a", "shift-b", "ret"]);
        expect(b"\x1b[A\x1bOP\x1b[15~", &["up", "f1", "f5"]);
        expect(b"\x1b", &["esc"]);
        expect(b"\x1bx\x03\x7f", &["alt-x", "ctrl-c", "backspace"]);
        expect(b"\xc3\xa4", &[]);
    }
}
