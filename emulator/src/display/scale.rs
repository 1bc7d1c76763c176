//! A picture in a window of another size: where it lies, and its pixels there.
//!
//! Enlarged by whole numbers a character stays crisp; by other factors ([`Zoom::Fit`]) each pixel of the window shows the picture's
//! pixel under it. Reduced, it shows the mean of those under it, so that no line of a character is lost. The proportions are the
//! picture's; what is left over is black.

use devices::vga::Picture;

use super::Rect;

/// How large a picture becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zoom {
    /// As often as the window is larger, in whole numbers; smaller as needed.
    Whole,
    /// As large as the window allows.
    Fit,
}

/// Where in a window a picture lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    picture: (u32, u32),
    /// In the window.
    place: Rect,
}

impl Fit {
    /// For a picture and a window of these sizes (width, height).
    pub fn new(picture: (u32, u32), window: (u32, u32), zoom: Zoom) -> Self {
        let (width, height) = match (window.0.checked_div(picture.0), window.1.checked_div(picture.1)) {
            (Some(x), Some(y)) if zoom == Zoom::Whole && x.min(y) > 0 => {
                (picture.0 * x.min(y), picture.1 * x.min(y))
            }
            (Some(_), Some(_)) => Self::largest(picture, window),
            _ => (0, 0),
        };
        let place = Rect { x: (window.0 - width) / 2, y: (window.1 - height) / 2, width, height };
        Self { picture, place }
    }

    fn largest(picture: (u32, u32), window: (u32, u32)) -> (u32, u32) {
        let share = |a: u32, b: u32, c: u32| (u64::from(a) * u64::from(b) / u64::from(c)).max(1) as u32;
        if u64::from(window.0) * u64::from(picture.1) <= u64::from(window.1) * u64::from(picture.0) {
            (window.0, share(picture.1, window.0, picture.0).min(window.1))
        } else {
            (share(picture.0, window.1, picture.1).min(window.0), window.1)
        }
    }

    /// The picture's place in the window.
    pub fn place(&self) -> Rect {
        self.place
    }

    /// The part of the window that shows anything of this part of the picture.
    pub fn area(&self, part: Rect) -> Rect {
        let along = |from: u32, len: u32, picture: u32, window: u32| {
            let at = |n: u32| u64::from(n) * u64::from(window);
            let first = at(from) / u64::from(picture);
            let end = at(from + len).div_ceil(u64::from(picture)).min(u64::from(window));
            (first as u32, (end - first) as u32)
        };
        let (x, width) = along(part.x, part.width, self.picture.0, self.place.width);
        let (y, height) = along(part.y, part.height, self.picture.1, self.place.height);
        Rect { x: self.place.x + x, y: self.place.y + y, width, height }
    }

    /// Draws this part of the window, which [`Fit::area`] or [`Fit::place`] gave, to the window's pixels (0RGB), `stride` in a row.
    pub fn draw(&self, picture: &Picture, part: Rect, pixels: &mut [u32], stride: u32) {
        debug_assert_eq!((picture.width, picture.height), self.picture, "the fit is for this picture");
        let columns: Vec<(u32, u32)> = (part.x..part.x + part.width)
            .map(|x| under(x - self.place.x, self.picture.0, self.place.width))
            .collect();
        let row_at = |y: u32| {
            let at = y as usize * stride as usize + part.x as usize;
            at..at + part.width as usize
        };
        let mut before: Option<((u32, u32), u32)> = None;
        for y in part.y..part.y + part.height {
            let rows = under(y - self.place.y, self.picture.1, self.place.height);
            match before {
                Some((same, above)) if same == rows => pixels.copy_within(row_at(above), row_at(y).start),
                _ => {
                    for (pixel, columns) in pixels[row_at(y)].iter_mut().zip(&columns) {
                        *pixel = mean(picture, *columns, rows);
                    }
                }
            }
            before = Some((rows, y));
        }
    }
}

/// The picture's pixels (from, to) under pixel `at` of `window`, in one direction: at least one.
fn under(at: u32, picture: u32, window: u32) -> (u32, u32) {
    let scaled = |n: u32| (u64::from(n) * u64::from(picture) / u64::from(window)) as u32;
    let from = scaled(at);
    (from, scaled(at + 1).max(from + 1))
}

/// The mean colour of a rectangle.
fn mean(picture: &Picture, columns: (u32, u32), rows: (u32, u32)) -> u32 {
    let mut sums = [0_u32; 3];
    for y in rows.0..rows.1 {
        let row = 3 * y as usize * picture.width as usize;
        let part = &picture.rgb[row + 3 * columns.0 as usize..row + 3 * columns.1 as usize];
        for pixel in part.chunks_exact(3) {
            for (sum, value) in sums.iter_mut().zip(pixel) {
                *sum += u32::from(*value);
            }
        }
    }
    let count = (columns.1 - columns.0) * (rows.1 - rows.0);
    sums.iter().fold(0, |colour, sum| (colour << 8) | (sum / count))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::display::damage;

    fn place(picture: (u32, u32), window: (u32, u32), zoom: Zoom) -> (u32, u32, u32, u32) {
        let Rect { x, y, width, height } = Fit::new(picture, window, zoom).place();
        (x, y, width, height)
    }

    #[test]
    fn proportions_are_kept() {
        assert_eq!(place((720, 400), (720, 400), Zoom::Whole), (0, 0, 720, 400));
        assert_eq!(place((720, 400), (1500, 900), Zoom::Whole), (30, 50, 1440, 800));
        assert_eq!(place((720, 400), (1500, 900), Zoom::Fit), (0, 33, 1500, 833));
        assert_eq!(place((720, 400), (719, 900), Zoom::Whole), (0, 250, 719, 399));
        assert_eq!(place((720, 400), (1000, 40), Zoom::Whole), (464, 0, 72, 40));
        assert_eq!(place((1000, 1), (10, 10), Zoom::Fit), (0, 4, 10, 1));
        assert_eq!(place((0, 0), (10, 10), Zoom::Fit), (5, 5, 0, 0));
        assert_eq!(place((720, 400), (0, 0), Zoom::Whole), (0, 0, 0, 0));
    }

    fn drawn(picture: &Picture, window: (u32, u32), zoom: Zoom) -> Vec<u32> {
        let fit = Fit::new((picture.width, picture.height), window, zoom);
        let mut pixels = vec![0; (window.0 * window.1) as usize];
        fit.draw(picture, fit.place(), &mut pixels, window.0);
        pixels
    }

    #[test]
    fn pixels_become_squares_or_means() {
        let picture = Picture { width: 2, height: 1, rgb: vec![0x10, 0x20, 0x30, 0x30, 0x60, 0x90] };
        let (left, right) = (0x10_2030, 0x30_6090);
        assert_eq!(
            drawn(&picture, (5, 2), Zoom::Whole),
            [left, left, right, right, 0, left, left, right, right, 0]
        );
        assert_eq!(drawn(&picture, (5, 3), Zoom::Fit)[5..10], [left, left, left, right, right]);
        assert_eq!(drawn(&picture, (1, 1), Zoom::Fit), [0x20_4060]);
    }

    proptest! {
        #[test]
        fn changed_parts_make_the_new_picture(
            (width, height) in (1u32..150, 1u32..150),
            window in (1u32..300, 1u32..300),
            whole in any::<bool>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        ) {
            let zoom = if whole { Zoom::Whole } else { Zoom::Fit };
            let old = Picture { width, height, rgb: vec![0; 3 * (width * height) as usize] };
            let mut new = old.clone();
            for (at, value) in changes {
                let at = at.index(new.rgb.len());
                new.rgb[at] = value;
            }
            let fit = Fit::new((width, height), window, zoom);
            let mut pixels = drawn(&old, window, zoom);
            for part in damage(Some(&old), &new) {
                fit.draw(&new, fit.area(part), &mut pixels, window.0);
            }
            prop_assert_eq!(pixels, drawn(&new, window, zoom));
        }
    }
}
