//! The character generator's shapes for code page 437, drawn here on a grid of 5 by 9 and stretched to 8 by 8, 14 and 16.
//!
//! A shape is a row of hexadecimal pairs, one for each line from the top: seven lines on the base line, then up to two below it.
//! Letters with accents are put together; box drawing and blocks are computed, so that they meet at the cell's edges.

mod shapes;

/// The characters of code page 437 that ASCII does not have: 00h-1Fh, then 7Fh-FFh.
const LOW: &str = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";
const HIGH: &str = "⌂ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// Lines of the grid: two for accents of capitals, seven, two below the base line.
const GRID: usize = 11;
const BASE: usize = 2;

/// The character at `code`.
fn character(code: u8) -> char {
    let from = |set: &str, index: u8| set.chars().nth(index.into()).unwrap_or(' ');
    match code {
        0..0x20 => from(LOW, code),
        0x20..0x7f => code.into(),
        _ => from(HIGH, code - 0x7f),
    }
}

/// Which line of the grid each line of a glyph shows (`None`: blank).
fn lines(points: usize) -> Vec<Option<usize>> {
    let cell: &[i32] = match points {
        16 => &[-2, -1, 0, 1, 1, 1, 2, 3, 4, 5, 5, 6, 7, 8, 99, 99],
        14 => &[-2, -1, 0, 1, 1, 2, 3, 4, 5, 5, 6, 7, 8, 99],
        _ => &[0, 1, 2, 3, 4, 5, 6, 7],
    };
    cell.iter().map(|line| usize::try_from(line + BASE as i32).ok().filter(|line| *line < GRID)).collect()
}

/// 256 glyphs of `points` bytes.
pub fn glyphs(points: usize) -> Vec<u8> {
    (0..=255u8).flat_map(|code| glyph(character(code), points)).collect()
}

fn glyph(character: char, points: usize) -> Vec<u8> {
    if let Some(cell) = computed(character, points) {
        return cell;
    }
    let grid = drawn(character);
    let mut out: Vec<u8> =
        lines(points).iter().map(|line| line.map_or(0, |line| widen(grid[line]))).collect();
    if points == 8 {
        // No room above and below: what belongs there shares a line.
        out[0] |= widen(grid[0] | grid[1]);
        out[7] |= widen(grid[GRID - 1]);
    }
    out
}

/// Five dots become seven: the second and the fourth are doubled.
fn widen(row: u8) -> u8 {
    const COLUMNS: [u8; 5] = [0x80, 0x60, 0x10, 0x0c, 0x02];
    COLUMNS
        .iter()
        .enumerate()
        .filter(|(i, _)| row & (0x10 >> i) != 0)
        .fold(0, |bits, (_, column)| bits | column)
}

/// A shape on the grid; accented letters are composed.
fn drawn(character: char) -> [u8; GRID] {
    let mut grid = [0; GRID];
    if let Some((base, accent)) = shapes::composed(character) {
        grid = drawn(base);
        let top = if base.is_uppercase() { 0 } else { BASE };
        let [first, second, below] = shapes::accent(accent);
        if below != 0 {
            grid[BASE + 7] |= below;
        } else {
            // The dot of the i makes place.
            (grid[top], grid[top + 1]) = (first, second);
        }
        return grid;
    }
    let Some(shape) = shapes::shape(character) else { return grid };
    for (line, pair) in shape.split(' ').enumerate() {
        grid[BASE + line] = u8::from_str_radix(pair, 16).unwrap_or(0);
    }
    grid
}

/// Box drawing and blocks.
fn computed(character: char, points: usize) -> Option<Vec<u8>> {
    let rows = |test: &dyn Fn(usize) -> u8| Some((0..points).map(test).collect());
    match character {
        '█' => rows(&|_| 0xff),
        '▄' => rows(&|y| if y >= points / 2 { 0xff } else { 0 }),
        '▀' => rows(&|y| if y < points / 2 { 0xff } else { 0 }),
        '▌' => rows(&|_| 0xf0),
        '▐' => rows(&|_| 0x0f),
        '░' => rows(&|y| [0x22, 0x88][y & 1]),
        '▒' => rows(&|y| [0x55, 0xaa][y & 1]),
        '▓' => rows(&|y| [0xdd, 0x77][y & 1]),
        _ => shapes::arms(character).map(|arms| box_lines(arms, points)),
    }
}

/// Lines from the middle of the cell to its edges. `arms`: up, right, down, left; 0 none, 1 single, 2 double.
fn box_lines([up, right, down, left]: [u8; 4], points: usize) -> Vec<u8> {
    let middle = points / 2 - 1;
    let vertical = up.max(down);
    let horizontal = right.max(left);
    // Columns and rows of the strokes.
    let columns: &[usize] = if vertical == 2 { &[2, 5] } else { &[3, 4] };
    let strokes = if horizontal == 2 { [middle - 1, middle + 2] } else { [middle, middle] };
    let mut cell = vec![0u8; points];
    let mut dot = |x: usize, y: usize| cell[y] |= 0x80 >> x;
    // The inner stroke of a double line ends where it meets the stroke of another.
    for (side, x) in columns.iter().enumerate() {
        let crossing = if side == 0 || vertical == 1 { left } else { right };
        for y in 0..points {
            let upper = up != 0 && y <= if crossing == 2 && vertical == 2 { strokes[0] } else { strokes[1] };
            let lower =
                down != 0 && y >= if crossing == 2 && vertical == 2 { strokes[1] } else { strokes[0] };
            if upper || lower {
                dot(*x, y);
            }
        }
    }
    for (side, y) in strokes.iter().enumerate() {
        let crossing = if side == 0 || horizontal == 1 { up } else { down };
        let [near, far] = [columns[0], columns[1]];
        for x in 0..8 {
            let to_left = left != 0 && x <= if crossing == 2 && horizontal == 2 { near } else { far };
            let to_right = right != 0 && x >= if crossing == 2 && horizontal == 2 { far } else { near };
            if to_left || to_right {
                dot(x, *y);
            }
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_page_437_is_complete() {
        assert_eq!(LOW.chars().count(), 32);
        assert_eq!(HIGH.chars().count(), 129);
        let blank = |code: u8| [0, 0x20, 0xff].contains(&code);
        for points in [8, 14, 16] {
            let all = glyphs(points);
            assert_eq!(all.len(), 256 * points);
            for code in 0..=255u8 {
                let cell = &all[usize::from(code) * points..][..points];
                assert_eq!(cell.iter().all(|line| *line == 0), blank(code), "{code:#x} at {points}");
            }
        }
    }

    #[test]
    fn printable_characters_differ() {
        for points in [8, 16] {
            let mut seen = std::collections::HashMap::new();
            for code in 0x20..0x7fu8 {
                let twin = seen.insert(glyph(code.into(), points), code);
                assert!(twin.is_none(), "{:?} looks like {:?}", code as char, twin.map(char::from));
            }
        }
    }

    #[test]
    fn lines_of_boxes_reach_the_edges() {
        let horizontal = glyph('─', 16);
        assert_eq!(horizontal.iter().filter(|line| **line == 0xff).count(), 1);
        assert!(glyph('│', 16).iter().all(|line| *line == 0x18));
        assert!(glyph('║', 16).iter().all(|line| *line == 0x24));
        let corner = glyph('╔', 16);
        assert_eq!((corner[0], corner[15]), (0, 0x24));
    }
}
