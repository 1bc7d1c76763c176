//! What the user of a window does with the keyboard and the mouse, before it is the guest's: combinations that are for the window,
//! and movements in parts of a count.

use devices::i8042::MouseMove;

/// Codes (as [`crate::keyboard`] has them) of the keys that combinations are made of.
const CONTROL: [u16; 2] = [0x14, 0xe014];
const ALT: [u16; 2] = [0x11, 0xe011];
const G: u16 = 0x34;
const F: u16 = 0x2b;

/// A combination for the window: QEMU's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortcut {
    /// Ctrl+Alt+G: gives the guest the mouse, or takes it back.
    Grab,
    /// Ctrl+Alt+F: the whole screen, or a window again.
    FullScreen,
}

/// Whose a movement of a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The guest's.
    Guests,
    /// The window's, which does this.
    Windows(Shortcut),
    /// The end of a combination: nobody's.
    Nobodys,
}

/// Knows which keys are down as far as combinations need it.
#[derive(Clone, Debug, Default)]
pub struct Shortcuts {
    modifiers: Vec<u16>,
    /// The last key of a combination, until it is up.
    taken: Option<u16>,
}

impl Shortcuts {
    /// A key goes down or up.
    pub fn key(&mut self, code: u16, down: bool) -> Whose {
        if CONTROL.contains(&code) || ALT.contains(&code) {
            self.modifiers.retain(|held| *held != code);
            if down {
                self.modifiers.push(code);
            }
            return Whose::Guests;
        }
        if self.taken == Some(code) {
            // Until it is up, it repeats itself.
            self.taken = self.taken.filter(|_| down);
            return Whose::Nobodys;
        }
        let held = |keys: [u16; 2]| keys.iter().any(|key| self.modifiers.contains(key));
        let shortcut = match code {
            G => Shortcut::Grab,
            F => Shortcut::FullScreen,
            _ => return Whose::Guests,
        };
        if !(down && held(CONTROL) && held(ALT)) {
            return Whose::Guests;
        }
        self.taken = Some(code);
        Whose::Windows(shortcut)
    }

    /// Nothing is known any more: the keyboard was someone else's.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Movements that wait to be sent: what is not a whole count stays.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Motion {
    /// To the right.
    pub x: f64,
    /// Down.
    pub y: f64,
    /// The wheel, towards the user.
    pub wheel: f64,
}

impl Motion {
    /// Takes the whole counts.
    pub fn take(&mut self, buttons: u8) -> MouseMove {
        let whole = |value: &mut f64| {
            let counts = value.trunc();
            *value -= counts;
            // Saturates, and a value that is no number gives 0.
            counts as i32
        };
        MouseMove { dx: whole(&mut self.x), dy: whole(&mut self.y), dz: whole(&mut self.wheel), buttons }
    }
}

/// A pointer that is kept in the window, where the desktop cannot lock it: it moves, and is put back to the middle in time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Leash {
    middle: (f64, f64),
    /// So far from the middle it may go.
    length: (f64, f64),
    /// Where it was last.
    last: (f64, f64),
    /// It has been put back, but what it did before may still arrive.
    put_back: bool,
}

impl Leash {
    /// For a window of this size, with the pointer there. To begin with it is to be put to the middle.
    pub fn new(size: (u32, u32), pointer: (f64, f64)) -> Self {
        let (width, height) = (f64::from(size.0), f64::from(size.1));
        let middle = ((width / 2.0).floor(), (height / 2.0).floor());
        Self { middle, length: (width / 4.0, height / 4.0), last: pointer, put_back: true }
    }

    /// The window's middle.
    pub fn middle(&self) -> (f64, f64) {
        self.middle
    }

    /// The pointer is there now. Gives how far it was moved, and whether it is to be put to the middle now.
    pub fn moved(&mut self, to: (f64, f64)) -> ((f64, f64), bool) {
        let from = |place: (f64, f64)| (to.0 - place.0, to.1 - place.1);
        let (by, from_middle) = (from(self.last), from(self.middle));
        self.last = to;
        if self.put_back {
            // The event before or after the jump: whichever explains the place by less of a movement.
            if from_middle.0.hypot(from_middle.1) > by.0.hypot(by.1) {
                return (by, false);
            }
            self.put_back = false;
            return (from_middle, false);
        }
        self.put_back = from_middle.0.abs() > self.length.0 || from_middle.1.abs() > self.length.1;
        (by, self.put_back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyboard::code_of_web_key;

    fn code(name: &str) -> u16 {
        code_of_web_key(name).unwrap()
    }

    #[test]
    fn combinations_are_the_windows() {
        let mut keys = Shortcuts::default();
        for (name, down, whose) in [
            ("KeyG", true, Whose::Guests),
            ("KeyG", false, Whose::Guests),
            ("ControlLeft", true, Whose::Guests),
            ("KeyG", true, Whose::Guests),
            ("KeyG", false, Whose::Guests),
            ("AltLeft", true, Whose::Guests),
            ("KeyG", true, Whose::Windows(Shortcut::Grab)),
            ("KeyG", true, Whose::Nobodys),
            ("AltLeft", false, Whose::Guests),
            ("KeyG", false, Whose::Nobodys),
            ("KeyG", true, Whose::Guests),
            ("AltRight", true, Whose::Guests),
            ("KeyF", true, Whose::Windows(Shortcut::FullScreen)),
            ("KeyF", false, Whose::Nobodys),
            ("KeyA", true, Whose::Guests),
        ] {
            assert_eq!(keys.key(code(name), down), whose, "{name} {down}");
        }
        keys.forget();
        assert_eq!(keys.key(code("KeyG"), true), Whose::Guests);
    }

    #[test]
    fn a_pointer_on_a_leash_does_not_meet_an_edge() {
        let mut leash = Leash::new((400, 200), (10.0, 10.0));
        assert_eq!(leash.middle(), (200.0, 100.0));
        for (to, by, put_back) in [
            // Moved before it was put to the middle, and after.
            ((12.0, 10.0), (2.0, 0.0), false),
            ((201.0, 100.0), (1.0, 0.0), false),
            ((290.0, 100.0), (89.0, 0.0), false),
            ((310.0, 120.0), (20.0, 20.0), true),
            ((330.0, 120.0), (20.0, 0.0), false),
            ((200.0, 100.0), (0.0, 0.0), false),
            ((200.0, 40.0), (0.0, -60.0), true),
            ((203.0, 96.0), (3.0, -4.0), false),
        ] {
            assert_eq!(leash.moved(to), (by, put_back), "{to:?}");
        }
    }

    #[test]
    fn parts_of_counts_add_up() {
        let mut motion = Motion { x: 0.75, y: -1.5, wheel: 2.0 };
        assert_eq!(motion.take(1), MouseMove { dx: 0, dy: -1, dz: 2, buttons: 1 });
        motion.x += 0.5;
        motion.y -= 0.5;
        assert_eq!(motion.take(0), MouseMove { dx: 1, dy: -1, dz: 0, buttons: 0 });
        assert_eq!(Motion { x: f64::NAN, ..Motion::default() }.take(0), MouseMove::default());
    }
}
