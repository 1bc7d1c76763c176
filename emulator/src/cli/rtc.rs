//! `-rtc`: what the clock shows at power-on.

use super::error::UserError;
use super::lists::{items, unknown_key};
use crate::config::RtcBase;

/// Parses the value of `-rtc`.
pub fn base(text: &str) -> Result<RtcBase, UserError> {
    let option = format!("-rtc {text}");
    let mut base = RtcBase::Utc;
    for item in items(text) {
        match (item.key.as_str(), item.value.as_deref()) {
            ("base", Some("utc")) => base = RtcBase::Utc,
            ("base", Some("localtime")) => base = RtcBase::LocalTime,
            ("base", Some(date)) => {
                let seconds = date_seconds(date).ok_or_else(|| {
                    UserError::new(
                        &option,
                        format!("\"{date}\" is not a date"),
                        "write utc, localtime, 2026-01-31 or 2026-01-31T12:00:00",
                    )
                })?;
                base = RtcBase::At(seconds);
            }
            // The clock here always runs on the machine's own time, which QEMU calls vm.
            ("clock", Some("vm")) | ("driftfix", Some("none")) => {}
            ("clock" | "driftfix", _) => {
                return Err(UserError::new(
                    option,
                    "the clock runs on the machine's own time only",
                    format!("leave out {}", item.key),
                ));
            }
            (key, _) => return Err(unknown_key(&option, key, &["base", "clock"])),
        }
    }
    Ok(base)
}

/// Seconds since 1970 of `YYYY-MM-DD` or `YYYY-MM-DDTHH:MM:SS`, for years that the RTC can show.
fn date_seconds(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let [year, month, day] = fields(date, '-')?;
    let [hour, minute, second] = fields(time, ':')?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *month_lengths.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    let valid = (1970..=2199).contains(&year)
        && (1..=length).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !valid {
        return None;
    }
    let before: i64 = month_lengths.iter().take(month as usize - 1).sum();
    let leap_days = |y: i64| (y - 1) / 4 - (y - 1) / 100 + (y - 1) / 400;
    let days = (year - 1970) * 365 + leap_days(year) - leap_days(1970) + before + day - 1;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

fn fields(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.split(separator);
    let mut next = || -> Option<i64> {
        let part = parts.next()?;
        (part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse().ok())?
    };
    let result = [next()?, next()?, next()?];
    parts.next().is_none().then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_become_seconds() {
        assert_eq!(base("base=1970-01-01"), Ok(RtcBase::At(0)));
        assert_eq!(base("base=2006-06-17T16:01:21"), Ok(RtcBase::At(1_150_560_081)));
        assert_eq!(base("base=2000-03-01T00:00:00"), Ok(RtcBase::At(951_868_800)));
        assert_eq!(base("base=localtime,clock=vm"), Ok(RtcBase::LocalTime));
        assert_eq!(base(""), Ok(RtcBase::Utc));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "base=2001-02-29",
            "base=soon",
            "base=2001-13-01",
            "base=1969-01-01",
            "base=2001-01-01T24:00:00",
            "clock=host",
            "bse=utc",
            "base=2001-1",
            "base=+001-01-01",
        ] {
            assert!(base(text).is_err(), "{text}");
        }
    }
}
