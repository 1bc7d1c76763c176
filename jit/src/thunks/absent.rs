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
pub unsafe extern "C" fn return_stub(_: *mut Vcpu) {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn memory_thunk() {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn load8() {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn load16() {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn load32() {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn load64() {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn place8() {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn place16() {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn place32() {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn place64() {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn place_read128() {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn place_write128() {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn store8() {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn store16() {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn store32() {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn store64() {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn place_read256() {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn place_write256() {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn lock16() {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn lock32() {}
/// Never called.
///
/// # Safety
/// None.
pub unsafe extern "C" fn lock64() {}
