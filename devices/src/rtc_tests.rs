use super::*;
use crate::Lines;

const MEMORY: CmosMemory = CmosMemory { below_4g: 256 << 20, above_4g: 1 << 30, cpus: 2 };

fn get(rtc: &mut Rtc, index: u32, now: Ns) -> u32 {
    rtc.port_write(0x70, 1, index, now);
    rtc.port_read(0x71, 1, now)
}
fn set(rtc: &mut Rtc, index: u32, value: u32, now: Ns) {
    rtc.port_write(0x70, 1, index, now);
    rtc.port_write(0x71, 1, value, now);
}
/// Century, year, month, day, weekday, hours, minutes, seconds.
fn date(rtc: &mut Rtc, now: Ns) -> [u32; 8] {
    [0x32, 9, 8, 7, 6, 4, 2, 0].map(|index| get(rtc, index, now))
}

#[test]
fn the_calendar_counts() {
    // 2023-12-31 23:59:58, a Sunday.
    let mut rtc = Rtc::new(IrqLine::unconnected(), 1_704_067_198, MEMORY);
    assert_eq!(date(&mut rtc, 0), [0x20, 0x23, 0x12, 0x31, 1, 0x23, 0x59, 0x58]);
    assert_eq!(date(&mut rtc, 2 * SECOND), [0x20, 0x24, 1, 1, 2, 0, 0, 0]);
    let leap_day = (31 + 28) * 86_400;
    assert_eq!(date(&mut rtc, (2 + leap_day) * SECOND)[2..4], [2, 0x29]);
    set(&mut rtc, 0x0b, 0x06, 1_000_000 * SECOND * 10); // binary
    for (at, value) in [(0x32, 20), (9, 99), (8, 12), (7, 31), (4, 23), (2, 59), (0, 59)] {
        set(&mut rtc, at, value, 10_000_000 * SECOND);
    }
    assert_eq!(date(&mut rtc, 10_000_001 * SECOND)[..4], [21, 0, 1, 1]);
}

#[test]
fn calendar_functions_are_inverse() {
    for days in (0..2_900_000).step_by(97) {
        let (year, month, day) = civil_from_days(days);
        assert_eq!(days_from_civil(year, month, day), days);
    }
    assert_eq!(civil_from_days(0), (1970, 1, 1));
}

#[test]
fn update_cycle_set_bit_and_twelve_hours() {
    let mut rtc = Rtc::new(IrqLine::unconnected(), 13 * 3600, MEMORY);
    assert_eq!(get(&mut rtc, 0x0a, 0), 0x26);
    assert_eq!(get(&mut rtc, 0x0a, SECOND - 1_000_000), 0xa6);
    assert_eq!(get(&mut rtc, 0x0a, SECOND), 0x26);
    set(&mut rtc, 0x0b, 0x80, SECOND); // SET, 12-hour mode
    set(&mut rtc, 4, 0x92, SECOND); // 12 PM
    assert_eq!(get(&mut rtc, 0, 50 * SECOND), 1, "stopped");
    assert_eq!(get(&mut rtc, 0x0a, 50 * SECOND - 1), 0x26);
    set(&mut rtc, 2, 0x59, 50 * SECOND);
    set(&mut rtc, 0, 0x59, 50 * SECOND);
    set(&mut rtc, 0x0b, 0x00, 50 * SECOND);
    assert_eq!(get(&mut rtc, 4, 51 * SECOND), 0x81);
    set(&mut rtc, 0x0a, 0x76, 51 * SECOND); // hold the divider
    set(&mut rtc, 0x0a, 0x26, 60 * SECOND + 7);
    assert_eq!(get(&mut rtc, 0, 60 * SECOND + SECOND / 2 + 6), 0);
    assert_eq!(get(&mut rtc, 0, 60 * SECOND + SECOND / 2 + 7), 1);
}

#[test]
fn interrupts() {
    let lines = Lines::new();
    let mut rtc = Rtc::new(lines.line(8), 0, MEMORY);
    assert_eq!(rtc.next_deadline(), None);
    set(&mut rtc, 0x0b, 0x42, 0); // periodic at 1024 Hz
    for n in 1..=2048 {
        let at = rtc.next_deadline().unwrap();
        assert_eq!(at, ns_of(n * 32, PERIODIC_HZ).unwrap());
        rtc.advance(at);
        assert_eq!(lines.levels(), 1 << 8);
        assert_eq!(rtc.next_deadline(), None, "until C is read");
        assert_eq!(get(&mut rtc, 0x0c, at) & 0xc0, 0xc0);
        assert_eq!(lines.levels(), 0);
    }
    let now = 3 * SECOND;
    set(&mut rtc, 0x0b, 0x22, now); // alarm at xx:xx:07
    for (at, value) in [(1, 7), (3, 0xff), (5, 0xc0)] {
        set(&mut rtc, at, value, now);
    }
    get(&mut rtc, 0x0c, now);
    for second in 4..=7 {
        assert_eq!(rtc.next_deadline(), Some(second * SECOND));
        rtc.advance(second * SECOND);
        assert_eq!(lines.levels() != 0, second == 7);
    }
    assert_eq!(get(&mut rtc, 0x0c, 7 * SECOND) & 0xa0, 0xa0);
    set(&mut rtc, 0x0b, 0x12, 7 * SECOND); // update ended
    rtc.advance(rtc.next_deadline().unwrap());
    assert_eq!(get(&mut rtc, 0x0c, 8 * SECOND) & 0x90, 0x90);
    rtc.advance(u64::MAX);
    assert!(rtc.next_deadline().is_none());
}

#[test]
fn memory_bytes_and_state() {
    let mut rtc = Rtc::new(IrqLine::unconnected(), 0, MEMORY);
    assert_eq!(get(&mut rtc, 0x34, 0) | get(&mut rtc, 0x35, 0) << 8, (240 << 20) >> 16);
    assert_eq!([0x5b, 0x5c, 0x5d].map(|index| get(&mut rtc, index, 0)), [0, 0x40, 0]);
    assert_eq!(get(&mut rtc, 0x5f, 0), 1);
    rtc.port_write(0x70, 1, 0xc0, 0);
    assert!(rtc.nmi_masked());
    rtc.port_write(0x71, 1, 0x5a, 0);
    let state = rtc.save();
    let mut twin = Rtc::new(IrqLine::unconnected(), 99, MEMORY);
    twin.restore(state.clone());
    assert_eq!(twin.save(), state);
    assert_eq!(twin.cmos(0x40), 0x5a);
}
