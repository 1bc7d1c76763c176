//! The host's clock, read once: it sets the guest's real-time clock at power-on and nothing after.
#![expect(unsafe_code, reason = "the C library knows the time zone")]

use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::RtcBase;

/// Seconds since 1970 that the guest's clock shows at power-on.
pub fn power_on_seconds(base: RtcBase) -> i64 {
    match base {
        RtcBase::At(seconds) => seconds,
        RtcBase::Utc => utc(),
        RtcBase::LocalTime => utc() + zone_offset(utc()),
    }
}

fn utc() -> i64 {
    // A host clock before 1970 counts as 1970.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

/// Seconds by which local time is ahead of UTC.
fn zone_offset(at: i64) -> i64 {
    let at = at as libc::time_t;
    // SAFETY: an all-zero tm is a valid one (its pointer field may be null).
    let mut broken_down: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call; localtime_r writes to `broken_down` only.
    let result = unsafe { libc::localtime_r(&at, &mut broken_down) };
    if result.is_null() { 0 } else { broken_down.tm_gmtoff as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_base_does_not_look_at_the_clock() {
        assert_eq!(power_on_seconds(RtcBase::At(5)), 5);
        assert!(power_on_seconds(RtcBase::Utc) > 1_600_000_000);
        assert!((power_on_seconds(RtcBase::LocalTime) - utc()).abs() < 15 * 3600);
    }
}
