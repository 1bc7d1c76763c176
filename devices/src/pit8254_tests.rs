use super::*;
use crate::Lines;

fn write(pit: &mut Pit8254, port: u16, value: u32, now: Ns) {
    pit.port_write(port, 1, value, now);
}
fn read(pit: &mut Pit8254, port: u16, now: Ns) -> u32 {
    pit.port_read(port, 1, now)
}
fn program(pit: &mut Pit8254, channel: u16, control: u32, count: u32, now: Ns) {
    write(pit, 0x43, u32::from(channel) << 6 | 0x30 | control, now);
    write(pit, 0x40 + channel, count & 0xff, now);
    write(pit, 0x40 + channel, count >> 8, now);
}
fn at(tick: u64) -> Ns {
    ns_of(tick, PIT_HZ).unwrap()
}
fn count(pit: &mut Pit8254, channel: u16, now: Ns) -> u32 {
    write(pit, 0x43, u32::from(channel) << 6, now);
    read(pit, 0x40 + channel, now) | read(pit, 0x40 + channel, now) << 8
}

#[test]
fn periodic_interrupts_do_not_drift() {
    let lines = Lines::new();
    let mut pit = Pit8254::new(lines.line(0));
    program(&mut pit, 0, 4, 11932, 0); // mode 2, 100 Hz
    lines.take_rose();
    for n in 1..=1000 {
        let deadline = pit.next_deadline().unwrap();
        assert_eq!(deadline, at(1 + n * 11932));
        pit.advance(deadline - 1);
        assert_eq!(lines.take_rose(), 0);
        pit.advance(deadline);
        assert_eq!(lines.take_rose(), 1);
    }
}

#[test]
fn a_long_skip_is_one_edge() {
    let lines = Lines::new();
    let mut pit = Pit8254::new(lines.line(0));
    program(&mut pit, 0, 4, 1, 0);
    lines.take_rose();
    pit.advance(u64::MAX / 2);
    assert_eq!(lines.take_rose(), 1);
    assert!(pit.next_deadline().unwrap() > u64::MAX / 2);
}

#[test]
fn one_shot_terminal_count() {
    let lines = Lines::new();
    let mut pit = Pit8254::new(lines.line(0));
    program(&mut pit, 0, 0, 1000, 0);
    assert_eq!(lines.levels(), 0);
    assert_eq!(count(&mut pit, 0, at(101)), 900);
    assert_eq!(pit.next_deadline(), Some(at(1001)));
    pit.advance(at(1001));
    assert_eq!((lines.levels(), pit.next_deadline()), (1, None));
    assert_eq!(count(&mut pit, 0, at(1002)), 0xffff, "it counts on");
    program(&mut pit, 0, 0, 5, at(2000));
    assert_eq!(lines.levels(), 0);
}

#[test]
fn gate_and_output_of_channel_2() {
    // How a kernel calibrates its TSC: mode 0 on channel 2, started by the gate, polled at port 61h bit 5.
    let mut pit = Pit8254::new(IrqLine::unconnected());
    write(&mut pit, 0x61, 0, 0);
    program(&mut pit, 2, 0, 0xffff, 0);
    assert_eq!(read(&mut pit, 0x61, at(70_000)) & 0x20, 0, "the gate is off");
    write(&mut pit, 0x61, 1, at(70_000));
    assert_eq!(read(&mut pit, 0x61, at(70_000 + 0xfffe)) & 0x20, 0);
    assert_eq!(read(&mut pit, 0x61, at(70_000 + 0xffff)) & 0x21, 0x21);
    let toggles: Vec<_> = (0..4).map(|n| read(&mut pit, 0x61, at(180_000 + 18 * n)) >> 4 & 1).collect();
    assert_eq!(toggles, [0, 1, 0, 1]);
    // Mode 1: each rising edge of the gate starts the count anew.
    write(&mut pit, 0x61, 0, at(200_000));
    program(&mut pit, 2, 2, 100, at(200_000));
    assert_eq!(read(&mut pit, 0x61, at(200_200)) & 0x20, 0x20);
    write(&mut pit, 0x61, 1, at(200_200));
    assert_eq!(read(&mut pit, 0x61, at(200_250)) & 0x20, 0);
    assert_eq!(read(&mut pit, 0x61, at(200_301)) & 0x20, 0x20);
}

#[test]
fn square_wave_and_new_count() {
    let mut pit = Pit8254::new(IrqLine::unconnected());
    write(&mut pit, 0x61, 3, 0);
    program(&mut pit, 2, 6, 10, 0);
    let wave = |pit: &mut Pit8254, from: u64, to: u64| -> Vec<u32> {
        (from..to).map(|t| read(pit, 0x61, at(1 + t)) >> 5 & 1).collect()
    };
    assert_eq!(wave(&mut pit, 0, 12), [1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1]);
    assert_eq!(pit.speaker_hz(), Some(119_318));
    write(&mut pit, 0x42, 4, at(13));
    write(&mut pit, 0x42, 0, at(13));
    assert_eq!(wave(&mut pit, 13, 22), [1, 1, 0, 0, 1, 1, 0, 0, 1], "from the end of the half period on");
}

#[test]
fn a_shorter_count_interrupts_from_the_half_period_on() {
    let lines = Lines::new();
    let mut pit = Pit8254::new(lines.line(0));
    program(&mut pit, 0, 6, 1000, 0);
    lines.take_rose();
    write(&mut pit, 0x40, 10, at(101));
    write(&mut pit, 0x40, 0, at(101));
    let mut edges = Vec::new();
    while edges.len() < 3 {
        let deadline = pit.next_deadline().unwrap();
        pit.advance(deadline);
        if lines.take_rose() != 0 {
            edges.push(tick_at(deadline, PIT_HZ));
        }
    }
    assert_eq!(edges, [506, 516, 526]);
}

#[test]
fn bcd_read_back_and_strobes() {
    let lines = Lines::new();
    let mut pit = Pit8254::new(lines.line(0));
    program(&mut pit, 1, 5, 0x1000, 0); // mode 2, BCD
    assert_eq!(count(&mut pit, 1, at(2)), 0x0999);
    write(&mut pit, 0x43, 0xc4, at(3)); // read back count and status of channel 1
    assert_eq!(read(&mut pit, 0x41, at(9)), 0xb5);
    assert_eq!(read(&mut pit, 0x41, at(9)) | read(&mut pit, 0x41, at(9)) << 8, 0x0998);
    program(&mut pit, 0, 8, 10, at(100)); // mode 4
    lines.take_rose();
    assert_eq!(pit.next_deadline(), Some(at(112)));
    pit.advance(at(111));
    assert_eq!(lines.levels(), 0);
    pit.advance(at(112));
    assert_eq!((lines.levels(), lines.take_rose()), (1, 1));
    let state = pit.save();
    let mut twin = Pit8254::new(IrqLine::unconnected());
    twin.restore(state.clone());
    assert_eq!(twin.save(), state);
}
