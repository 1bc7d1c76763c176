//! Stands for the window in a build without the feature `window`.

use std::convert::Infallible;

use super::{Lobby, WindowFailure, window_is_missing};
use crate::config::WindowOptions;

/// There is none.
pub struct Opener(Infallible);

impl Opener {
    /// Cannot be called.
    pub fn open(&self, _: Lobby) {
        match self.0 {}
    }
}

/// Whatever the desktop, there is no window on it.
pub fn is_desktop_here() -> bool {
    false
}

/// Says that there is no window.
pub fn run<T>(_: WindowOptions, _: impl FnOnce(Opener) -> T) -> Result<T, WindowFailure> {
    Err(WindowFailure::Mistake(window_is_missing("-display window")))
}
