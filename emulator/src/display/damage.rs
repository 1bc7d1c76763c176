//! What has changed between two pictures.

use devices::vga::Picture;

/// Side of the squares that are compared.
const TILE: u32 = 64;

/// A part of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// Columns before it.
    pub x: u32,
    /// Rows above it.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Rect {
    /// Its pixels, four bytes each: red, green, blue, and 255.
    pub fn rgba(&self, picture: &Picture) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 * (self.width * self.height) as usize);
        for y in self.y..self.y + self.height {
            for pixel in self.row(picture, y).chunks_exact(3) {
                out.extend([pixel[0], pixel[1], pixel[2], 0xff]);
            }
        }
        out
    }

    /// The colours of a row.
    pub fn row<'a>(&self, picture: &'a Picture, y: u32) -> &'a [u8] {
        let at = 3 * (y as usize * picture.width as usize + self.x as usize);
        &picture.rgb[at..at + 3 * self.width as usize]
    }

    fn differs(&self, old: &Picture, new: &Picture) -> bool {
        (self.y..self.y + self.height).any(|y| self.row(old, y) != self.row(new, y))
    }
}

/// The parts of `new` that are not as in `old`, from the top down; everything if their sizes differ.
pub fn damage(old: Option<&Picture>, new: &Picture) -> Vec<Rect> {
    let same_size = |old: &&Picture| (old.width, old.height) == (new.width, new.height);
    let Some(old) = old.filter(same_size) else {
        return vec![Rect { x: 0, y: 0, width: new.width, height: new.height }];
    };
    let mut rects: Vec<Rect> = Vec::new();
    for y in (0..new.height).step_by(TILE as usize) {
        for x in (0..new.width).step_by(TILE as usize) {
            let tile = Rect { x, y, width: TILE.min(new.width - x), height: TILE.min(new.height - y) };
            if !tile.differs(old, new) {
                continue;
            }
            match rects.last_mut() {
                Some(left) if left.y == y && left.x + left.width == x => left.width += tile.width,
                _ => rects.push(tile),
            }
        }
    }
    rects
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn picture(width: u32, height: u32) -> Picture {
        Picture { width, height, rgb: vec![0; 3 * (width * height) as usize] }
    }

    #[test]
    fn another_size_is_another_picture() {
        let all = Rect { x: 0, y: 0, width: 100, height: 70 };
        assert_eq!(damage(None, &picture(100, 70)), [all]);
        assert_eq!(damage(Some(&picture(70, 100)), &picture(100, 70)), [all]);
        assert_eq!(damage(Some(&picture(100, 70)), &picture(100, 70)), []);
    }

    proptest! {
        #[test]
        fn what_is_sent_makes_the_new_picture(
            (width, height) in (1u32..200, 1u32..200),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        ) {
            let old = picture(width, height);
            let mut new = old.clone();
            for (at, value) in changes {
                let at = at.index(new.rgb.len());
                new.rgb[at] = value;
            }
            let mut seen = old.clone();
            for rect in damage(Some(&old), &new) {
                let mut pixels = rect.rgba(&new).into_iter();
                for y in rect.y..rect.y + rect.height {
                    for x in rect.x..rect.x + rect.width {
                        let at = 3 * (y * width + x) as usize;
                        for n in 0..3 {
                            seen.rgb[at + n] = pixels.next().unwrap();
                        }
                        prop_assert_eq!(pixels.next(), Some(0xff));
                    }
                }
                prop_assert_eq!(pixels.next(), None);
            }
            prop_assert_eq!(seen, new);
        }
    }
}
