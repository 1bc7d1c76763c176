//! QEMU's names of keys (`sendkey`), with their codes.

use super::{Codes, PAUSE, chord};

/// Name and code; above FFh: after the prefix E0h.
#[rustfmt::skip]
const KEYS: &[(&str, u16)] = &[
    ("shift", 0x12), ("shift_r", 0x59), ("ctrl", 0x14), ("ctrl_r", 0xe014), ("alt", 0x11), ("alt_r", 0xe011),
    ("menu", 0xe02f), ("compose", 0xe02f), ("meta_l", 0xe01f), ("meta_r", 0xe027), ("esc", 0x76), ("1", 0x16), ("2", 0x1e), ("3", 0x26),
    ("4", 0x25), ("5", 0x2e), ("6", 0x36), ("7", 0x3d), ("8", 0x3e), ("9", 0x46), ("0", 0x45), ("minus", 0x4e),
    ("equal", 0x55), ("backspace", 0x66), ("tab", 0x0d), ("q", 0x15), ("w", 0x1d), ("e", 0x24), ("r", 0x2d),
    ("t", 0x2c), ("y", 0x35), ("u", 0x3c), ("i", 0x43), ("o", 0x44), ("p", 0x4d), ("bracket_left", 0x54),
    ("bracket_right", 0x5b), ("ret", 0x5a), ("a", 0x1c), ("s", 0x1b), ("d", 0x23), ("f", 0x2b), ("g", 0x34),
    ("h", 0x33), ("j", 0x3b), ("k", 0x42), ("l", 0x4b), ("semicolon", 0x4c), ("apostrophe", 0x52),
    ("grave_accent", 0x0e), ("backslash", 0x5d), ("z", 0x1a), ("x", 0x22), ("c", 0x21), ("v", 0x2a), ("b", 0x32),
    ("n", 0x31), ("m", 0x3a), ("comma", 0x41), ("dot", 0x49), ("slash", 0x4a), ("asterisk", 0x7c), ("spc", 0x29),
    ("caps_lock", 0x58), ("f1", 0x05), ("f2", 0x06), ("f3", 0x04), ("f4", 0x0c), ("f5", 0x03), ("f6", 0x0b),
    ("f7", 0x83), ("f8", 0x0a), ("f9", 0x01), ("f10", 0x09), ("f11", 0x78), ("f12", 0x07), ("num_lock", 0x77),
    ("scroll_lock", 0x7e), ("kp_divide", 0xe04a), ("kp_multiply", 0x7c), ("kp_subtract", 0x7b), ("kp_add", 0x79),
    ("kp_enter", 0xe05a), ("kp_decimal", 0x71), ("kp_0", 0x70), ("kp_1", 0x69), ("kp_2", 0x72), ("kp_3", 0x7a),
    ("kp_4", 0x6b), ("kp_5", 0x73), ("kp_6", 0x74), ("kp_7", 0x6c), ("kp_8", 0x75), ("kp_9", 0x7d), ("less", 0x61),
    ("sysrq", 0xe07c), ("print", 0xe07c), ("home", 0xe06c), ("pgup", 0xe07d), ("pgdn", 0xe07a), ("end", 0xe069),
    ("left", 0xe06b), ("up", 0xe075), ("down", 0xe072), ("right", 0xe074), ("insert", 0xe070), ("delete", 0xe071),
    ("pause", PAUSE), ("kp_comma", 0x6d), ("kp_equals", 0x0f), ("ro", 0x51), ("yen", 0x6a), ("hiragana", 0x13),
    ("henkan", 0x64), ("muhenkan", 0x67), ("power", 0xe037), ("sleep", 0xe03f), ("wake", 0xe05e), ("audiomute", 0xe023),
    ("volumedown", 0xe021), ("volumeup", 0xe032), ("audionext", 0xe04d), ("audioprev", 0xe015), ("audiostop", 0xe03b),
    ("audioplay", 0xe034), ("mediaselect", 0xe050), ("calculator", 0xe02b), ("mail", 0xe048), ("computer", 0xe040),
    ("ac_home", 0xe03a), ("ac_back", 0xe038), ("ac_forward", 0xe030), ("ac_refresh", 0xe020), ("ac_bookmarks", 0xe018),
];

/// Names of QEMU's for keys that the keyboard of a PC does not have.
const ABSENT: [&str; 18] = [
    "stop",
    "again",
    "props",
    "undo",
    "front",
    "copy",
    "open",
    "paste",
    "find",
    "cut",
    "lf",
    "help",
    "lang1",
    "lang2",
    "katakanahiragana",
    "f13",
    "f14",
    "f15",
];

/// The code of the key called `name`.
pub fn code(name: &str) -> Option<u16> {
    KEYS.iter().find(|(key, _)| *key == name).map(|(_, code)| *code)
}

/// The key whose US character is `c`, and whether Shift is held.
pub fn name_of(c: char) -> Option<(&'static str, bool)> {
    const PLAIN: &str = " -=[];'`\\,./\n\t\x08\x1b";
    const SHIFTED: &str = "\0_+{}:\"~|<>?";
    const NAMES: [&str; 16] = [
        "spc",
        "minus",
        "equal",
        "bracket_left",
        "bracket_right",
        "semicolon",
        "apostrophe",
        "grave_accent",
        "backslash",
        "comma",
        "dot",
        "slash",
        "ret",
        "tab",
        "backspace",
        "esc",
    ];
    const DIGITS: &str = ")!@#$%^&*(";
    let key = |name: &str| KEYS.iter().find(|(key, _)| *key == name).map(|(key, _)| *key);
    if c.is_ascii_alphanumeric() {
        return Some((key(&c.to_ascii_lowercase().to_string())?, c.is_ascii_uppercase()));
    }
    if let Some(digit) = DIGITS.find(c) {
        return Some((key(&digit.to_string())?, true));
    }
    let at = |text: &str| text.chars().position(|other| other == c);
    if c != '\0'
        && let Some(n) = at(SHIFTED)
    {
        return Some((NAMES[n], true));
    }
    at(PLAIN).map(|n| (NAMES[n], false))
}

/// The code of a key by its number in set 1, as QEMU numbers keys: with bit 7 for those after the prefix E0h.
pub fn code_of_number(number: u32) -> Option<u16> {
    // Pause and Print Screen have numbers of their own.
    match number {
        0xc6 => return Some(PAUSE),
        0xb7 | 0x54 => return code("sysrq"),
        _ => {}
    }
    let number_of = |code: u16| {
        let prefixed = if code > 0xff { 0x80 } else { 0 };
        u32::from(devices::i8042::set_1_code(code as u8) | prefixed)
    };
    KEYS.iter().map(|(_, code)| *code).find(|code| *code != PAUSE && number_of(*code) == number)
}

/// A part of a combination: a name, or a number like 0x1e.
fn named_or_numbered(name: &str) -> Option<u16> {
    match name.strip_prefix("0x") {
        Some(digits) => code_of_number(u32::from_str_radix(digits, 16).ok()?),
        None => code(name),
    }
}

/// The movements of a combination like `ctrl-alt-delete`; `Err`: what is wrong with it.
pub fn combination(text: &str) -> Result<Vec<Codes>, String> {
    let key = |name: &str| match named_or_numbered(name) {
        Some(code) => Ok(code),
        None if ABSENT.contains(&name) => Err(format!("the keyboard of a PC has no key \"{name}\"")),
        None => {
            let near = crate::cli::nearest(name, KEYS.iter().map(|(name, _)| *name));
            let hint = near.map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
            Err(format!("\"{name}\" is not a key{hint}"))
        }
    };
    let codes: Result<Vec<u16>, String> = text.split('-').map(key).collect();
    Ok(chord(&codes?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_are_pressed_and_let_go() {
        assert_eq!(combination("a").unwrap(), [vec![0x1c], vec![0xf0, 0x1c]]);
        assert_eq!(
            combination("ctrl-alt-delete").unwrap(),
            [
                vec![0x14],
                vec![0x11],
                vec![0xe0, 0x71],
                vec![0xe0, 0xf0, 0x71],
                vec![0xf0, 0x11],
                vec![0xf0, 0x14]
            ]
        );
        assert_eq!(combination("ctrl-nokey").unwrap_err(), "\"nokey\" is not a key");
        assert!(combination("backspac").unwrap_err().contains("did you mean \"backspace\""));
        assert!(combination("ctrl-paste").unwrap_err().contains("no key \"paste\""));
        assert!(combination("").is_err());
        assert_eq!(combination("0x1e-0xc8"), combination("a-up"));
        // Pause is said at once, and its end not at all.
        assert_eq!(
            combination("pause").unwrap(),
            [vec![0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77], vec![]]
        );
    }

    #[test]
    fn every_key_has_a_number() {
        for (name, key) in KEYS {
            let found = (0..0x100).find_map(|number| code_of_number(number).filter(|code| code == key));
            assert_eq!(found, Some(*key), "{name}");
        }
    }

    #[test]
    fn every_printable_character_has_a_key() {
        let all: Vec<_> = (' '..='~').map(|c| name_of(c).unwrap_or_else(|| panic!("{c:?}"))).collect();
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        for (c, key) in
            [('a', ("a", false)), ('A', ("a", true)), ('!', ("1", true)), ('"', ("apostrophe", true))]
        {
            assert_eq!(name_of(c), Some(key));
        }
        assert!(all.iter().all(|(name, _)| code(name).is_some()));
    }
}
