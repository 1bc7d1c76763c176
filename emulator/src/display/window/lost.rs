//! The X server is gone.
//!
//! libX11 then ends the process with status 1, which is a guest's (isa-debug-exit), and leaves the terminal as the guest had it. It
//! asks a handler first, which may not return; so the handler is where the machine is brought to its end.
#![expect(unsafe_code, reason = "libX11's handler of fatal errors")]

use std::os::raw::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::{Mutex, PoisonError};

use x11_dl::xlib::{Display, Xlib};

use crate::exit_status::ExitStatus;

type Action = Box<dyn FnOnce() + Send>;

/// What is to be done before the end; taken by whoever does it.
static BEFORE_THE_END: Mutex<Option<Action>> = Mutex::new(None);

/// Has `action` done on the event loop's thread, and then the process ended as by a failure of the host, if the server goes away.
pub fn before_the_end(action: impl FnOnce() + Send + 'static) {
    // Without the library there is no server that could go away.
    let Ok(library) = Xlib::open() else { return };
    *BEFORE_THE_END.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(action));
    // SAFETY: XSetIOErrorHandler only stores the pointer of a function that lives as long as the process, in a library that x11-dl
    // never unloads.
    unsafe { (library.XSetIOErrorHandler)(Some(gone)) };
}

unsafe extern "C" fn gone(_: *mut Display) -> c_int {
    let action = BEFORE_THE_END.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(action) = action {
        // No panic may go through the library's frames. Its message has been written.
        let _ = catch_unwind(AssertUnwindSafe(action));
    }
    process::exit(ExitStatus::HostError.code().into())
}
