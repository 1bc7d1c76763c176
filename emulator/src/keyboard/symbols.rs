//! Keys by the names that displays have for them: key symbols of X11 (RFB), and codes of the web (UI Events, KeyboardEvent code).

use super::names::code;

/// Key symbols beyond the characters (X11 protocol, appendix A).
#[rustfmt::skip]
const SYMBOLS: &[(u32, &str)] = &[
    (0xff08, "backspace"), (0xff09, "tab"), (0xff0d, "ret"), (0xff13, "pause"), (0xff14, "scroll_lock"), (0xff15, "sysrq"),
    (0xff1b, "esc"), (0xff50, "home"), (0xff51, "left"), (0xff52, "up"), (0xff53, "right"), (0xff54, "down"),
    (0xff55, "pgup"), (0xff56, "pgdn"), (0xff57, "end"), (0xff61, "sysrq"), (0xff63, "insert"), (0xff67, "menu"),
    (0xff6b, "pause"), (0xff7f, "num_lock"), (0xff8d, "kp_enter"), (0xff95, "kp_7"), (0xff96, "kp_4"), (0xff97, "kp_8"),
    (0xff98, "kp_6"), (0xff99, "kp_2"), (0xff9a, "kp_9"), (0xff9b, "kp_3"), (0xff9c, "kp_1"), (0xff9d, "kp_5"),
    (0xff9e, "kp_0"), (0xff9f, "kp_decimal"), (0xffaa, "kp_multiply"), (0xffab, "kp_add"), (0xffac, "kp_comma"),
    (0xffad, "kp_subtract"), (0xffae, "kp_decimal"), (0xffaf, "kp_divide"), (0xffb0, "kp_0"), (0xffb1, "kp_1"),
    (0xffb2, "kp_2"), (0xffb3, "kp_3"), (0xffb4, "kp_4"), (0xffb5, "kp_5"), (0xffb6, "kp_6"), (0xffb7, "kp_7"),
    (0xffb8, "kp_8"), (0xffb9, "kp_9"), (0xffbe, "f1"), (0xffbf, "f2"), (0xffc0, "f3"), (0xffc1, "f4"), (0xffc2, "f5"),
    (0xffc3, "f6"), (0xffc4, "f7"), (0xffc5, "f8"), (0xffc6, "f9"), (0xffc7, "f10"), (0xffc8, "f11"), (0xffc9, "f12"),
    (0xffe1, "shift"), (0xffe2, "shift_r"), (0xffe3, "ctrl"), (0xffe4, "ctrl_r"), (0xffe5, "caps_lock"), (0xffe7, "meta_l"),
    (0xffe8, "meta_r"), (0xffe9, "alt"), (0xffea, "alt_r"), (0xffeb, "meta_l"), (0xffec, "meta_r"), (0xffff, "delete"),
    (0xfe03, "alt_r"), (0xfe20, "tab"),
];

/// The key of a symbol that is no character.
pub fn name_of_symbol(symbol: u32) -> Option<&'static str> {
    SYMBOLS.iter().find(|(known, _)| *known == symbol).map(|(_, name)| *name)
}

/// Codes of the web.
#[rustfmt::skip]
const WEB: &[(&str, &str)] = &[
    ("Minus", "minus"), ("Equal", "equal"), ("Backspace", "backspace"), ("Tab", "tab"), ("BracketLeft", "bracket_left"),
    ("BracketRight", "bracket_right"), ("Enter", "ret"), ("Semicolon", "semicolon"), ("Quote", "apostrophe"),
    ("Backquote", "grave_accent"), ("Backslash", "backslash"), ("Comma", "comma"), ("Period", "dot"), ("Slash", "slash"),
    ("Space", "spc"), ("CapsLock", "caps_lock"), ("NumLock", "num_lock"), ("ScrollLock", "scroll_lock"), ("Escape", "esc"),
    ("ShiftLeft", "shift"), ("ShiftRight", "shift_r"), ("ControlLeft", "ctrl"), ("ControlRight", "ctrl_r"), ("AltLeft", "alt"),
    ("AltRight", "alt_r"), ("MetaLeft", "meta_l"), ("MetaRight", "meta_r"), ("ContextMenu", "menu"), ("PrintScreen", "sysrq"),
    ("Pause", "pause"), ("Home", "home"), ("PageUp", "pgup"), ("PageDown", "pgdn"), ("End", "end"), ("Insert", "insert"),
    ("Delete", "delete"), ("ArrowLeft", "left"), ("ArrowUp", "up"), ("ArrowDown", "down"), ("ArrowRight", "right"),
    ("NumpadDivide", "kp_divide"), ("NumpadMultiply", "kp_multiply"), ("NumpadSubtract", "kp_subtract"),
    ("NumpadAdd", "kp_add"), ("NumpadEnter", "kp_enter"), ("NumpadDecimal", "kp_decimal"), ("NumpadComma", "kp_comma"),
    ("NumpadEqual", "kp_equals"), ("IntlBackslash", "less"), ("IntlRo", "ro"), ("IntlYen", "yen"), ("KanaMode", "hiragana"),
    ("Convert", "henkan"), ("NonConvert", "muhenkan"), ("Power", "power"), ("Sleep", "sleep"), ("WakeUp", "wake"),
    ("AudioVolumeMute", "audiomute"), ("AudioVolumeDown", "volumedown"), ("AudioVolumeUp", "volumeup"),
    ("MediaTrackNext", "audionext"), ("MediaTrackPrevious", "audioprev"), ("MediaStop", "audiostop"),
    ("MediaPlayPause", "audioplay"), ("MediaSelect", "mediaselect"), ("LaunchApp2", "calculator"), ("LaunchMail", "mail"),
    ("LaunchApp1", "computer"), ("BrowserHome", "ac_home"), ("BrowserBack", "ac_back"), ("BrowserForward", "ac_forward"),
    ("BrowserRefresh", "ac_refresh"), ("BrowserFavorites", "ac_bookmarks"),
];

/// The codes of the web that follow no rule.
#[cfg(all(test, feature = "window"))]
pub fn web_keys() -> impl Iterator<Item = &'static str> {
    WEB.iter().map(|(web, _)| *web)
}

/// The key of a code of the web.
pub fn code_of_web_key(web: &str) -> Option<u16> {
    if let Some((_, name)) = WEB.iter().find(|(known, _)| *known == web) {
        return code(name);
    }
    let rest = |prefix: &str| web.strip_prefix(prefix).filter(|rest| rest.len() == 1);
    if let Some(letter) = rest("Key") {
        return code(&letter.to_ascii_lowercase()).filter(|_| letter.bytes().all(|b| b.is_ascii_uppercase()));
    }
    if let Some(digit) = rest("Digit") {
        return code(digit).filter(|_| digit.bytes().all(|b| b.is_ascii_digit()));
    }
    if let Some(digit) = rest("Numpad") {
        return code(&format!("kp_{digit}"));
    }
    // F1 to F12 have the same names in small letters.
    web.strip_prefix('F')
        .and_then(|number| number.parse::<u8>().ok())
        .and_then(|number| code(&format!("f{number}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_key() {
        for (symbol, name) in SYMBOLS {
            assert!(code(name).is_some(), "{symbol:x} {name}");
        }
        for (web, name) in WEB {
            assert_eq!(code_of_web_key(web), code(name), "{web}");
            assert!(code(name).is_some(), "{web}");
        }
    }

    #[test]
    fn the_others_follow_rules() {
        for (web, name) in [("KeyQ", "q"), ("Digit7", "7"), ("Numpad7", "kp_7"), ("F11", "f11"), ("F1", "f1")]
        {
            assert_eq!(code_of_web_key(web), code(name), "{web}");
        }
        for web in ["", "Key", "KeyÄ", "Keyq", "F13", "F", "Unidentified", "Numpadx", "Digita"] {
            assert_eq!(code_of_web_key(web), None, "{web}");
        }
    }
}
