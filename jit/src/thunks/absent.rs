//! Hosts without a code generator: nothing of this is ever called, because no code memory can be had.

#![expect(unsafe_code, reason = "same signatures as the real ones")]

use crate::layout::{JitFrame, Link};
use x86::Vcpu;

/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn enter(_: *mut Vcpu, _: *const u8, _: *mut JitFrame) {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn leave(_: *mut Vcpu) {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn exit_stub(_: *mut Vcpu, _: *const Link) {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn memory_thunk() {}
