//! `-display terminal`: a text mode in the terminal, in the guest's own colours.
//!
//! Only cells that changed are written. The terminal's alternate screen is used, so that what was there comes back.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use devices::vga::{Cell, TextScreen};

/// Time between two pictures.
const INTERVAL: Duration = Duration::from_millis(33);

/// What code page 437 shows for 00h to 1Fh and from 7Fh on.
const LOW: &str = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";
const HIGH: &str = "⌂ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ";

/// The character that code page 437 has for `code`.
pub fn character(code: u8) -> char {
    match code {
        0x00..=0x1f => LOW.chars().nth(code.into()),
        0x7f..=0xff => HIGH.chars().nth(usize::from(code) - 0x7f),
        _ => Some(char::from(code)),
    }
    .unwrap_or(' ')
}

/// See the module.
#[derive(Debug)]
pub struct TerminalScreen {
    last: Option<TextScreen>,
    drawn: Option<Instant>,
    /// A graphics mode was announced.
    announced: bool,
}

impl Default for TerminalScreen {
    fn default() -> Self {
        Self::new()
    }
}

impl TerminalScreen {
    /// Nothing is drawn yet.
    pub fn new() -> Self {
        Self { last: None, drawn: None, announced: false }
    }

    /// Is another look due?
    pub fn is_due(&mut self) -> bool {
        let due = self.drawn.is_none_or(|at| at.elapsed() >= INTERVAL);
        if due {
            self.drawn = Some(Instant::now());
        }
        due
    }

    /// The longest time between two looks.
    pub fn interval_ns() -> u64 {
        INTERVAL.as_nanos() as u64
    }

    /// Draws what has changed.
    pub fn draw(&mut self, screen: Option<&TextScreen>, to: &mut dyn Write) -> io::Result<()> {
        let mut out = String::new();
        match screen {
            Some(screen) => {
                self.announced = false;
                self.changes(screen, &mut out);
                self.last = Some(screen.clone());
            }
            None if !self.announced && self.last.is_some() => {
                self.announced = true;
                self.last = None;
                out.push_str(
                    "\x1b[0m\x1b[2J\x1b[HThe guest is in a graphics mode, which a terminal cannot show.\r\n",
                );
            }
            None => {}
        }
        if !out.is_empty() {
            to.write_all(out.as_bytes())?;
            to.flush()?;
        }
        Ok(())
    }

    fn changes(&self, screen: &TextScreen, out: &mut String) {
        let same_size = |last: &&TextScreen| last.columns == screen.columns && last.rows == screen.rows;
        let last = self.last.as_ref().filter(same_size);
        if last.is_none() {
            out.push_str("\x1b[?1049h\x1b[0m\x1b[2J");
        }
        let before = last.map(|last| last.cells.as_slice());
        let (mut place, mut colours) = (None, None);
        for (n, cell) in screen.cells.iter().enumerate() {
            if before.and_then(|cells| cells.get(n)) == Some(cell) {
                continue;
            }
            let (row, column) = (n / screen.columns, n % screen.columns);
            if place != Some((row, column)) {
                out.push_str(&format!("\x1b[{};{}H", row + 1, column + 1));
            }
            let Cell { character: code, foreground: f, background: b } = *cell;
            if colours != Some((f, b)) {
                out.push_str(&format!(
                    "\x1b[38;2;{};{};{}m\x1b[48;2;{};{};{}m",
                    f[0], f[1], f[2], b[0], b[1], b[2]
                ));
                colours = Some((f, b));
            }
            out.push(character(code));
            place = Some((row, column + 1));
        }
        let moved = last.map(|last| last.cursor) != Some(screen.cursor);
        if !out.is_empty() || moved {
            match screen.cursor {
                Some((column, row)) => out.push_str(&format!("\x1b[{};{}H\x1b[?25h", row + 1, column + 1)),
                None => out.push_str("\x1b[?25l"),
            }
        }
    }

    /// Gives the terminal back.
    pub fn leave(&mut self, to: &mut dyn Write) -> io::Result<()> {
        if self.last.take().is_some() || self.announced {
            to.write_all(b"\x1b[0m\x1b[?25h\x1b[?1049l")?;
            to.flush()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(text: &str) -> TextScreen {
        let cell = |c: char| Cell { character: c as u8, foreground: [170; 3], background: [0, 0, 170] };
        TextScreen { columns: 4, rows: 2, cells: text.chars().map(cell).collect(), cursor: Some((1, 1)) }
    }

    #[test]
    fn code_page_437() {
        assert_eq!(LOW.chars().count(), 32);
        assert_eq!(HIGH.chars().count(), 129);
        let found: String = [0x01, 0x41, 0xc9, 0xcd, 0xdb, 0xe1, 0xff].map(character).into_iter().collect();
        assert_eq!(found, "☺A╔═█ß ");
    }

    #[test]
    fn only_changes_are_drawn() {
        let mut terminal = TerminalScreen::new();
        let mut draw = |screen: Option<&TextScreen>| {
            let mut out = Vec::new();
            terminal.draw(screen, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let first = draw(Some(&screen("abcdefgh")));
        assert!(
            first.contains("\x1b[1;1H\x1b[38;2;170;170;170m\x1b[48;2;0;0;170mabcd\x1b[2;1Hefgh"),
            "{first:?}"
        );
        assert_eq!(draw(Some(&screen("abcdefgh"))), "");
        let second = draw(Some(&screen("abXdefgh")));
        assert!(second.starts_with("\x1b[1;3H") && second.ends_with("X\x1b[2;2H\x1b[?25h"), "{second:?}");
        assert!(draw(None).contains("graphics"));
        assert_eq!(draw(None), "");
        assert!(draw(Some(&screen("abcdefgh"))).contains("\x1b[2J"));
    }
}
