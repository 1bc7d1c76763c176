//! Text modes: as a picture, with the fonts in plane 2, and as characters.

use super::Vga;
use super::render::Picture;
use crate::Ns;

/// Half a period of the cursor's blinking; characters blink half as fast.
const BLINK: Ns = 228_571_428;

/// One character on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Its code.
    pub character: u8,
    /// Colour of its dots (that of the background while it blinks away).
    pub foreground: [u8; 3],
    /// Colour around them.
    pub background: [u8; 3],
}

/// What a text mode shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextScreen {
    /// Characters of a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
    /// All of them, row by row.
    pub cells: Vec<Cell>,
    /// Column and row of the cursor, if it is on.
    pub cursor: Option<(usize, usize)>,
}

impl TextScreen {
    /// The characters of a row, blanks at its end removed; what is not ASCII is a question mark.
    pub fn row(&self, row: usize) -> String {
        let cells = &self.cells[row * self.columns..(row + 1) * self.columns];
        let text = cells.iter().map(|cell| match cell.character {
            0 => ' ',
            c @ 0x20..=0x7e => char::from(c),
            _ => '?',
        });
        text.collect::<String>().trim_end().to_owned()
    }

    /// All rows.
    pub fn to_text(&self) -> String {
        (0..self.rows).map(|row| self.row(row) + "\n").collect()
    }
}

/// The dimensions of a text mode.
struct Layout {
    columns: u32,
    rows: u32,
    character_height: u32,
    character_width: u32,
}

fn layout(vga: &Vga) -> Layout {
    let r = &vga.registers;
    let character_height = u32::from(r.crtc[9] & 0x1f) + 1;
    let double = 1 + u32::from(r.crtc[9] >> 7);
    Layout {
        columns: u32::from(r.crtc[1]) + 1,
        rows: (r.visible_lines() / (character_height * double)).clamp(1, 128),
        character_height,
        character_width: if r.sequencer[1] & 1 != 0 { 8 } else { 9 },
    }
}

/// Character and attribute at a counter value.
fn glyph(vga: &Vga, counter: u32) -> [u8; 2] {
    let mut planes = [0; 4];
    vga.memory.read(4 * vga.crtc_offset(counter, 3), &mut planes);
    [planes[0], planes[1]]
}

fn blink_phase(now: Ns, half_period: Ns) -> bool {
    (now / half_period).is_multiple_of(2)
}

fn colours(vga: &Vga, attribute: u8, now: Ns) -> ([u8; 3], [u8; 3]) {
    let blinks = vga.registers.attribute[0x10] & 8 != 0;
    let background = vga.palette_colour(attribute >> 4 & if blinks { 7 } else { 0xf });
    let hidden = blinks && attribute & 0x80 != 0 && !blink_phase(now, 2 * BLINK);
    let foreground = if hidden { background } else { vga.palette_colour(attribute & 0xf) };
    (foreground, background)
}

/// The counter value of each row's first character.
fn row_starts(vga: &Vga, layout: &Layout) -> Vec<u32> {
    let pitch = u32::from(vga.registers.crtc[0x13]) * 2;
    let split = vga.line_compare().saturating_add(1);
    let mut counter = vga.start_address();
    (0..layout.rows)
        .map(|row| {
            if split / layout.character_height == row
                && split.is_multiple_of(layout.character_height)
                && row > 0
            {
                counter = 0;
            }
            let here = counter;
            counter = counter.wrapping_add(pitch);
            here
        })
        .collect()
}

fn cursor(vga: &Vga) -> Option<u32> {
    let crtc = &vga.registers.crtc;
    (crtc[0x0a] & 0x20 == 0).then_some(u32::from(crtc[0x0e]) << 8 | u32::from(crtc[0x0f]))
}

pub(super) fn screen(vga: &Vga, now: Ns) -> Option<TextScreen> {
    let r = &vga.registers;
    // Before a VGA BIOS has set a mode there is nothing to show.
    if vga.dispi.enabled() || r.graphics[6] & 1 != 0 || r.crtc[1] == 0 {
        return None;
    }
    let layout = layout(vga);
    let mut screen = TextScreen {
        columns: layout.columns as usize,
        rows: layout.rows as usize,
        cells: Vec::new(),
        cursor: None,
    };
    let cursor = cursor(vga);
    for (y, start) in row_starts(vga, &layout).into_iter().enumerate() {
        for x in 0..layout.columns {
            let counter = start.wrapping_add(x);
            let [character, attribute] = if vga.blanked() { [0, 0] } else { glyph(vga, counter) };
            let (foreground, background) = colours(vga, attribute, now);
            screen.cells.push(Cell { character, foreground, background });
            if cursor == Some(counter) && screen.cursor.is_none() {
                screen.cursor = Some((x as usize, y));
            }
        }
    }
    Some(screen)
}

/// Where in plane 2 the fonts for attributes with bit 3 clear and set begin.
fn fonts(vga: &Vga) -> [u64; 2] {
    let select = vga.registers.sequencer[3];
    let place = |map: u8| u64::from(map & 3) * 0x4000 + u64::from(map >> 2) * 0x2000;
    let map_b = select & 3 | select >> 2 & 4;
    let map_a = select >> 2 & 3 | select >> 3 & 4;
    [place(map_b), place(map_a)]
}

pub(super) fn picture(vga: &Vga, now: Ns) -> Picture {
    let layout = layout(vga);
    let (width, height) = (layout.columns * layout.character_width, layout.rows * layout.character_height);
    let mut picture = Picture::black(width, height);
    if vga.blanked() {
        return picture;
    }
    let (fonts, cursor) = (fonts(vga), cursor(vga).filter(|_| blink_phase(now, BLINK)));
    let crtc = &vga.registers.crtc;
    let (cursor_first, cursor_last) = (u32::from(crtc[0x0a] & 0x1f), u32::from(crtc[0x0b] & 0x1f));
    let line_graphics = vga.registers.attribute[0x10] & 4 != 0;
    for (row, start) in (0..).zip(row_starts(vga, &layout)) {
        for column in 0..layout.columns {
            let counter = start.wrapping_add(column);
            let [character, attribute] = glyph(vga, counter);
            let (foreground, background) = colours(vga, attribute, now);
            let font = fonts[usize::from(attribute >> 3 & 1)];
            let mut dots = [0; 4 * 32];
            vga.memory.read(4 * (font + u64::from(character) * 32), &mut dots);
            for y in 0..layout.character_height {
                let dots = dots[4 * y as usize + 2];
                let at_cursor = cursor == Some(counter) && (cursor_first..=cursor_last).contains(&y);
                for x in 0..layout.character_width {
                    let dot = match x {
                        0..=7 => dots >> (7 - x) & 1 != 0,
                        // The ninth column continues the eighth of line-drawing characters.
                        _ => line_graphics && (0xc0..=0xdf).contains(&character) && dots & 1 != 0,
                    };
                    let colour = if dot || at_cursor { foreground } else { background };
                    picture.set(
                        column * layout.character_width + x,
                        row * layout.character_height + y,
                        colour,
                    );
                }
            }
        }
    }
    picture
}
