//! The steps of the protocols by name, so that model checks can leave them out one at a time and show that each is needed.
//!
//! Outside of model checks every step is made, and nothing of this is left in the program.

/// Is the step with this name made?
#[cfg(not(loom))]
#[inline(always)]
pub const fn made(_step: &'static str) -> bool {
    true
}

#[cfg(loom)]
thread_local! {
    // The standard one: loom runs a model's threads on the thread of the test.
    static LEFT_OUT: std::cell::RefCell<Vec<&'static str>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Is the step with this name made?
#[cfg(loom)]
pub fn made(step: &'static str) -> bool {
    LEFT_OUT.with_borrow(|out| !out.contains(&step))
}

/// Runs `f` with the step left out too.
#[cfg(loom)]
pub fn without<R>(step: &'static str, f: impl FnOnce() -> R) -> R {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            LEFT_OUT.with_borrow_mut(Vec::pop);
        }
    }
    LEFT_OUT.with_borrow_mut(|out| out.push(step));
    let _restore = Restore;
    f()
}
