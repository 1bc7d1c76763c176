//! A keyboard of a display's user: which keys are down, so that none stays down when the user is gone.

use std::collections::BTreeSet;

use super::names::{code, name_of};
use super::{Codes, press, release};

const SHIFT: [&str; 2] = ["shift", "shift_r"];

/// Keys that are down.
#[derive(Clone, Debug, Default)]
pub struct Held {
    down: BTreeSet<u16>,
}

impl Held {
    /// A key goes down or up. Down while it is down is a repetition; up while it is not is nothing.
    pub fn key(&mut self, code: u16, down: bool) -> Vec<Codes> {
        if down {
            self.down.insert(code);
            return vec![press(code)];
        }
        if !self.down.remove(&code) {
            return Vec::new();
        }
        let codes = release(code);
        if codes.is_empty() { Vec::new() } else { vec![codes] }
    }

    /// The key of a character goes down or up. The user's layout may have it with Shift where ours has not: then Shift is moved
    /// around the key.
    pub fn character(&mut self, character: char, down: bool) -> Vec<Codes> {
        let Some((name, shifted)) = name_of(character) else { return Vec::new() };
        let Some(key) = code(name) else { return Vec::new() };
        let shifts: Vec<u16> =
            SHIFT.iter().filter_map(|name| code(name)).filter(|c| self.down.contains(c)).collect();
        let moves = self.key(key, down);
        if !down || shifted != shifts.is_empty() || character == ' ' {
            return moves;
        }
        if shifted {
            let shift = code("shift").unwrap_or_default();
            return [vec![press(shift)], moves, vec![release(shift)]].concat();
        }
        let (up, again) = (shifts.iter().map(|c| release(*c)), shifts.iter().map(|c| press(*c)));
        up.chain(moves).chain(again).collect()
    }

    /// Lets every key go.
    pub fn release_all(&mut self) -> Vec<Codes> {
        std::mem::take(&mut self.down).into_iter().map(release).filter(|codes| !codes.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> u16 {
        code(name).unwrap()
    }

    #[test]
    fn no_key_stays_down() {
        let mut held = Held::default();
        assert_eq!(held.key(key("a"), true), [[0x1c]]);
        assert_eq!(held.key(key("a"), true), [[0x1c]]);
        assert_eq!(held.key(key("up"), true), [[0xe0, 0x75]]);
        assert_eq!(held.key(key("a"), false), [[0xf0, 0x1c]]);
        assert!(held.key(key("a"), false).is_empty());
        assert_eq!(held.release_all(), [[0xe0, 0xf0, 0x75]]);
        assert!(held.release_all().is_empty());
    }

    #[test]
    fn characters_of_other_layouts() {
        let mut held = Held::default();
        // A capital without Shift (Caps Lock on the user's side).
        assert_eq!(held.character('A', true), [vec![0x12], vec![0x1c], vec![0xf0, 0x12]]);
        held.character('A', false);
        // '/' with Shift, as on a German keyboard.
        held.key(key("shift"), true);
        assert_eq!(held.character('/', true), [vec![0xf0, 0x12], vec![0x4a], vec![0x12]]);
        assert_eq!(held.character('/', false), [vec![0xf0, 0x4a]]);
        assert_eq!(held.character('A', true), [[0x1c]]);
    }
}
