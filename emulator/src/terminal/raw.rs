//! Raw mode of standard input, restored on every way out of the process.
//!
//! The settings to go back to are kept where a signal handler can reach them: `tcsetattr`, `signal` and `raise` are
//! async-signal-safe. The handlers of ending signals restore, take the default action back and raise the signal again, so
//! that a parent sees the truth about how we ended. Stop and continue (Ctrl-Z, fg) leave and enter raw mode.
#![expect(unsafe_code, reason = "termios and signal handlers")]

use std::io::{self, IsTerminal};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::c_int;

/// Settings before and during raw mode.
struct Settings {
    cooked: libc::termios,
    raw: libc::termios,
}

/// The active settings, or null. What it points to is never freed: a handler may be reading it. Each entry into raw mode
/// leaks about a hundred bytes, and there is one per process.
static ACTIVE: AtomicPtr<Settings> = AtomicPtr::new(ptr::null_mut());

/// Signals that end the process.
const ENDING: [c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// Standard input in raw mode, until this is dropped.
#[derive(Debug)]
pub struct RawTerminal {
    _private: (),
}

impl RawTerminal {
    /// Enters raw mode; `None` if standard input is not a terminal. With `signals`, Ctrl-C and Ctrl-Z keep their meaning.
    pub fn enter(signals: bool) -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let cooked = current()?;
        let settings = Box::new(Settings { raw: raw_from(cooked, signals), cooked });
        set(&settings.raw)?;
        // Pairs with the handlers' load: they see the settings complete.
        ACTIVE.store(Box::into_raw(settings), Ordering::Release);
        install_handlers();
        restore_on_panic();
        Ok(Some(Self { _private: () }))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
        ACTIVE.store(ptr::null_mut(), Ordering::Release);
    }
}

/// QEMU's raw mode: output processing stays on, so that our own messages keep their line ends.
fn raw_from(mut mode: libc::termios, signals: bool) -> libc::termios {
    mode.c_iflag &= !(libc::IGNBRK
        | libc::BRKINT
        | libc::PARMRK
        | libc::ISTRIP
        | libc::INLCR
        | libc::IGNCR
        | libc::ICRNL
        | libc::IXON);
    mode.c_oflag |= libc::OPOST;
    mode.c_lflag &= !(libc::ECHO | libc::ECHONL | libc::ICANON | libc::IEXTEN);
    if !signals {
        mode.c_lflag &= !libc::ISIG;
    }
    mode.c_cflag = (mode.c_cflag & !(libc::CSIZE | libc::PARENB)) | libc::CS8;
    mode.c_cc[libc::VMIN] = 1;
    mode.c_cc[libc::VTIME] = 0;
    mode
}

fn current() -> io::Result<libc::termios> {
    let mut mode = MaybeUninit::<libc::termios>::uninit();
    // SAFETY: tcgetattr writes a whole termios when it returns 0, and touches nothing else.
    if unsafe { libc::tcgetattr(libc::STDIN_FILENO, mode.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above returned 0 and has filled it.
    Ok(unsafe { mode.assume_init() })
}

fn set(mode: &libc::termios) -> io::Result<()> {
    // SAFETY: `mode` is a complete termios that outlives the call.
    match unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, mode) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The active settings. Callable from a signal handler.
fn active() -> Option<&'static Settings> {
    // SAFETY: the pointer is null or came from Box::into_raw and is never freed (see ACTIVE); the contents are not changed
    // after they were published.
    unsafe { ACTIVE.load(Ordering::Acquire).as_ref() }
}

/// Puts the terminal back as it was found, if raw mode is active. Callable from a signal handler and from a panic hook.
pub fn restore() {
    if let Some(settings) = active() {
        // Nothing can be done about a failure here: the terminal may be gone.
        let _ = set(&settings.cooked);
    }
}

fn install_handlers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in ENDING {
            handle(signal, ending);
        }
        handle(libc::SIGTSTP, stopping);
        handle(libc::SIGCONT, continuing);
    });
}

fn handle(signal: c_int, handler: extern "C" fn(c_int)) {
    // SAFETY: an all-zero sigaction is a valid one: no flags, an empty mask, the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is complete, and the handlers call async-signal-safe functions only. A signal that the parent had
    // set to be ignored (nohup) stays ignored.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(signal, ptr::null(), &mut old) == 0 && old.sa_sigaction != libc::SIG_IGN {
            libc::sigaction(signal, &action, ptr::null_mut());
        }
    }
}

extern "C" fn ending(signal: c_int) {
    restore();
    by_default(signal);
}

extern "C" fn stopping(signal: c_int) {
    restore();
    by_default(signal);
    // Here again after SIGCONT.
    handle(signal, stopping);
}

extern "C" fn continuing(_: c_int) {
    if let Some(settings) = active() {
        let _ = set(&settings.raw);
    }
}

/// Lets the default action of `signal` happen now.
fn by_default(signal: c_int) {
    // SAFETY: all four functions are async-signal-safe; the set is initialised by sigemptyset before it is used.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
        // The signal is blocked while its handler runs: only now is it delivered.
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut());
    }
}

fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            previous(info);
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_mode_leaves_output_processing_on() {
        // SAFETY: all fields of termios are integers, for which zero is a value.
        let mut mode: libc::termios = unsafe { std::mem::zeroed() };
        mode.c_iflag = libc::ICRNL | libc::IXON;
        mode.c_lflag = libc::ECHO | libc::ICANON | libc::ISIG;
        let with_signals = raw_from(mode, true);
        assert_eq!(with_signals.c_lflag, libc::ISIG);
        assert_eq!(with_signals.c_iflag, 0);
        assert_ne!(with_signals.c_oflag & libc::OPOST, 0);
        assert_eq!(raw_from(mode, false).c_lflag, 0);
    }

    #[test]
    fn restoring_without_a_terminal_does_nothing() {
        restore();
        assert!(ACTIVE.load(Ordering::Acquire).is_null());
    }
}
