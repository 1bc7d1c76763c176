//! `-display` and `-vnc`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::error::UserError;
use super::lists::{items, switch, unknown_key};
use crate::config::{DisplayChoice, WindowOptions};
use crate::display::vnc::VncConfig;
use crate::display::window_is_missing;

/// The port of display 0.
const VNC_PORT: u16 = 5900;

/// `-display`.
pub fn kind(value: &str) -> Result<DisplayChoice, UserError> {
    kind_in(cfg!(feature = "window"), value)
}

/// The same in a build with or without a window.
fn kind_in(has_window: bool, value: &str) -> Result<DisplayChoice, UserError> {
    match value.split(',').next().unwrap_or("") {
        "none" => Ok(DisplayChoice::None),
        "terminal" | "curses" => Ok(DisplayChoice::Terminal),
        "web" => Ok(DisplayChoice::Web(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))),
        // QEMU's names for it, whatever draws it.
        "window" | "sdl" | "gtk" | "cocoa" if has_window => window(value).map(DisplayChoice::Window),
        "window" | "sdl" | "gtk" | "cocoa" => Err(window_is_missing(&format!("-display {value}"))),
        page if page.starts_with("web=") => web(value, &page[4..]).map(DisplayChoice::Web),
        _ => Err(UserError::new(
            format!("-display {value}"),
            "there is no such display",
            "use -display terminal, window, web or none, or -vnc :0",
        )),
    }
}

/// `-display window[,full-screen=on|off][,zoom-to-fit=on|off][,window-close=on|off]`
fn window(value: &str) -> Result<WindowOptions, UserError> {
    let option = format!("-display {value}");
    let mut options = WindowOptions::default();
    for item in items(value).into_iter().skip(1) {
        let on = switch(&option, item.value.as_deref())?;
        match item.key.as_str() {
            "full-screen" => options.full_screen = on,
            "zoom-to-fit" => options.zoom_to_fit = on,
            "window-close" => options.close_ends = on,
            // Pictures are made without the host's graphics processor.
            "gl" if !on => {}
            key => return Err(unknown_key(&option, key, &["full-screen", "zoom-to-fit", "window-close"])),
        }
    }
    Ok(options)
}

/// `-full-screen`, whose window may be the default.
pub fn full_screen(display: DisplayChoice) -> Result<DisplayChoice, UserError> {
    match display {
        DisplayChoice::Window(options) => {
            Ok(DisplayChoice::Window(WindowOptions { full_screen: true, ..options }))
        }
        _ if cfg!(feature = "window") => {
            Err(UserError::new("-full-screen", "there is no window", "add -display window"))
        }
        _ => Err(window_is_missing("-full-screen")),
    }
}

/// `-display web=HOST:PORT`, or a port alone.
fn web(value: &str, place: &str) -> Result<SocketAddr, UserError> {
    let option = format!("-display {value}");
    let (host, port) = place.rsplit_once(':').unwrap_or(("", place));
    let port = port.parse().map_err(|_| {
        UserError::new(&option, format!("\"{port}\" is not a port"), "write -display web=127.0.0.1:8080")
    })?;
    Ok(SocketAddr::new(address(&option, host)?, port))
}

/// `-vnc HOST:N[,password=TEXT]`. Without a host the loopback interface is meant.
pub fn vnc(value: &str) -> Result<Option<VncConfig>, UserError> {
    let option = format!("-vnc {value}");
    if value == "none" {
        return Ok(None);
    }
    let mut all = items(value).into_iter();
    let place = all.next().filter(|item| item.value.is_none()).map(|item| item.key).unwrap_or_default();
    let mistake =
        |problem: &str| UserError::new(&option, problem, "write -vnc :0 for port 5900 of this host");
    let (host, number) =
        place.rsplit_once(':').ok_or_else(|| mistake("a display number after a colon is missing"))?;
    let number: u16 = number.parse().map_err(|_| mistake("the display number is not a number"))?;
    let port = VNC_PORT.checked_add(number).ok_or_else(|| mistake("there is no display with this number"))?;
    let mut config = VncConfig { address: SocketAddr::new(address(&option, host)?, port), password: None };
    for item in all {
        match (item.key.as_str(), item.value) {
            ("password", Some(text)) if !matches!(text.as_str(), "" | "on" | "off") => {
                config.password = Some(text)
            }
            ("password", _) => {
                return Err(UserError::new(option, "the password itself is missing", "write password=TEXT"));
            }
            (key, _) => return Err(unknown_key(&option, key, &["password"])),
        }
    }
    Ok(Some(config))
}

/// An address of this host.
fn address(option: &str, host: &str) -> Result<IpAddr, UserError> {
    match host.trim_start_matches('[').trim_end_matches(']') {
        "" | "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        host => host.parse().map_err(|_| {
            let problem = format!("\"{host}\" is not an address of this host");
            UserError::new(
                option,
                problem,
                "leave it out, or write a number such as 0.0.0.0 (all interfaces)",
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_addresses() {
        let address = |value: &str| match kind(value) {
            Ok(DisplayChoice::Web(address)) => address.to_string(),
            other => panic!("{value}: {other:?}"),
        };
        assert_eq!(address("web"), "127.0.0.1:0");
        assert_eq!(address("web=8080"), "127.0.0.1:8080");
        assert_eq!(address("web=0.0.0.0:80"), "0.0.0.0:80");
        for value in ["web=", "web=:x", "web=example.org:80", "x11"] {
            assert!(kind(value).is_err(), "{value}");
        }
    }

    #[test]
    fn windows_have_qemus_names() {
        for name in ["window", "sdl", "gtk", "cocoa"] {
            assert_eq!(kind_in(true, name), Ok(DisplayChoice::Window(WindowOptions::default())));
            let line = kind_in(false, name).unwrap_err().to_string();
            for part in [&format!("-display {name}: "), "--features window", "-display web", "-vnc :0"] {
                assert!(line.contains(part), "{line}");
            }
        }
        let asked = "sdl,gl=off,full-screen=on,zoom-to-fit,window-close=off";
        let options = WindowOptions { full_screen: true, zoom_to_fit: true, close_ends: false };
        assert_eq!(kind_in(true, asked), Ok(DisplayChoice::Window(options)));
        for (value, hint) in [
            ("window,full-screen=perhaps", "on or off"),
            ("window,gl=on", "full-screen"),
            ("gtk,show-tabs=on", "full-screen, zoom-to-fit, window-close"),
        ] {
            let line = kind_in(true, value).unwrap_err().to_string();
            assert!(line.contains(hint), "{line}");
        }
    }

    #[test]
    fn displays_have_numbers() {
        let address = |value: &str| vnc(value).unwrap().unwrap().address.to_string();
        assert_eq!(address(":1"), "127.0.0.1:5901");
        assert_eq!(address("localhost:0"), "127.0.0.1:5900");
        assert_eq!(address("0.0.0.0:12,password=x"), "0.0.0.0:5912");
        assert_eq!(address("[::1]:2"), "[::1]:5902");
        assert_eq!(vnc("none"), Ok(None));
        assert_eq!(vnc(":0,password=secret").unwrap().unwrap().password.as_deref(), Some("secret"));
        for (value, hint) in [
            ("", "-vnc :0"),
            ("1", "colon"),
            (":x", "-vnc :0"),
            (":60000", "no display"),
            ("example.org:1", "0.0.0.0"),
            (":1,password=on", "password=TEXT"),
            (":1,sasl=on", "known here: password"),
        ] {
            let line = vnc(value).unwrap_err().to_string();
            assert!(line.contains(hint), "{line}");
        }
    }
}
