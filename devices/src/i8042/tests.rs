use super::*;
use crate::Lines;

fn command(kbc: &mut I8042, byte: u32) {
    kbc.port_write(0x64, 1, byte, 0);
}
fn data(kbc: &mut I8042, byte: u32) {
    kbc.port_write(0x60, 1, byte, 0);
}
/// Reads until the output buffer is empty; bytes of the mouse have bit 8 set.
fn replies(kbc: &mut I8042) -> Vec<u32> {
    let mut bytes = Vec::new();
    loop {
        let status = kbc.port_read(0x64, 1, 0);
        if status & 1 == 0 {
            return bytes;
        }
        bytes.push(kbc.port_read(0x60, 1, 0) | (status & 0x20) << 3);
    }
}
fn asked(kbc: &mut I8042, byte: u32) -> Vec<u32> {
    command(kbc, byte);
    replies(kbc)
}
fn keyboard(kbc: &mut I8042, byte: u32) -> Vec<u32> {
    data(kbc, byte);
    replies(kbc)
}
fn mouse(kbc: &mut I8042, byte: u32) -> Vec<u32> {
    command(kbc, 0xd4);
    data(kbc, byte);
    replies(kbc).into_iter().map(|byte| byte & 0xff).collect()
}

#[test]
fn linux_probes_the_controller() {
    let lines = Lines::new();
    let mut controller = I8042::new(lines.line(1), lines.line(12));
    let k = &mut controller;
    assert_eq!(asked(k, 0xaa), [0x55]);
    let ctr = asked(k, 0x20)[0];
    command(k, 0x60);
    data(k, ctr & !0x43 | 0x30);
    assert_eq!(asked(k, 0x20), [0x34]);
    // The auxiliary port: loop-back, test, enable and disable.
    command(k, 0xd3);
    data(k, 0x5a);
    assert_eq!(replies(k), [0x15a]);
    assert_eq!(asked(k, 0xa9), [0]);
    command(k, 0xa8);
    assert_eq!(asked(k, 0x20), [0x14]);
    command(k, 0xa7);
    assert_eq!(asked(k, 0x20), [0x34]);
    // No active multiplexer: what is looped back comes back.
    for byte in [0xf0, 0x56, 0xa4] {
        command(k, 0xd3);
        data(k, byte);
        assert_eq!(replies(k), [0x100 | byte]);
    }
    assert_eq!(asked(k, 0xab), [0]);
    // The interrupt test of the auxiliary port.
    command(k, 0x60);
    data(k, 0x02);
    lines.take_rose();
    command(k, 0xd3);
    data(k, 0xa5);
    assert_eq!(lines.levels(), 1 << 12);
    assert_eq!(replies(k), [0x1a5]);
    assert_eq!((lines.levels(), lines.take_rose()), (0, 1 << 12));
}

#[test]
fn linux_probes_the_keyboard() {
    let lines = Lines::new();
    let mut controller = I8042::new(lines.line(1), lines.line(12));
    let k = &mut controller;
    command(k, 0x60);
    data(k, 0x01); // interrupts, no translation
    assert_eq!(keyboard(k, 0xff), [0xfa, 0xaa]);
    assert_eq!(keyboard(k, 0xf2), [0xfa, 0xab, 0x83]);
    assert_eq!((keyboard(k, 0xed), keyboard(k, 0x02)), (vec![0xfa], vec![0xfa]));
    assert_eq!((keyboard(k, 0xf0), keyboard(k, 0x00)), (vec![0xfa], vec![0xfa, 2]));
    assert_eq!(keyboard(k, 0xee), [0xee]);
    assert_eq!(keyboard(k, 0x01), [0xfe]);
    assert_eq!(keyboard(k, 0xf5), [0xfa]);
    assert!(!k.key(&[0x1c]));
    assert_eq!(keyboard(k, 0xf4), [0xfa]);
    lines.take_rose();
    assert!(k.key(&[0x1c]));
    assert_eq!((lines.levels(), lines.take_rose()), (2, 2));
    assert!(k.key(&[0xf0, 0x1c]));
    assert_eq!(k.port_read(0x60, 1, 0), 0x1c);
    assert_eq!(lines.take_rose(), 2, "the line fell and rose again");
    assert_eq!(replies(k), [0xf0, 0x1c]);
    command(k, 0x60);
    data(k, 0x41); // with translation
    k.key(&[0x1c, 0xf0, 0x1c]);
    assert_eq!(replies(k), [0x1e, 0x9e]);
    assert_eq!(keyboard(k, 0xf2), [0xfa, 0xab, 0x41]);
    command(k, 0xad);
    k.key(&[0x1c]);
    assert_eq!(replies(k), []);
    command(k, 0xae);
    assert_eq!(replies(k), [0x1e]);
}

#[test]
fn linux_probes_the_mouse() {
    let mut controller = I8042::new(IrqLine::unconnected(), IrqLine::unconnected());
    let k = &mut controller;
    assert_eq!(mouse(k, 0xff), [0xfa, 0xaa, 0]);
    assert_eq!(mouse(k, 0xf2), [0xfa, 0]);
    for rate in [200, 100, 80] {
        assert_eq!((mouse(k, 0xf3), mouse(k, rate)), (vec![0xfa], vec![0xfa]));
    }
    assert_eq!(mouse(k, 0xf2), [0xfa, 3]);
    for rate in [200, 200, 80] {
        mouse(k, 0xf3);
        mouse(k, rate);
    }
    assert_eq!(mouse(k, 0xf2), [0xfa, 4]);
    mouse(k, 0xe7);
    mouse(k, 0xf4);
    assert_eq!(mouse(k, 0xe9), [0xfa, 0x30, 2, 80]);
    assert_eq!(mouse(k, 0xeb), [0xfa, 8, 0, 0, 0]);
    mouse(k, 0xee);
    assert_eq!((mouse(k, 0xf2), mouse(k, 0xec)), (vec![0xf2], vec![0xfa]));
    assert_eq!(mouse(k, 0xe1), [0xfe]);
}

#[test]
fn a20_and_reset() {
    let mut controller = I8042::new(IrqLine::unconnected(), IrqLine::unconnected());
    let k = &mut controller;
    assert!(k.a20());
    command(k, 0xd1);
    data(k, 0xdd);
    assert!(!k.a20());
    assert_eq!(asked(k, 0xd0), [0x01]);
    k.port_write(0x92, 1, 2, 0);
    assert!(k.a20());
    assert_eq!((k.port_read(0x92, 1, 0), asked(k, 0xd0)), (2, vec![3]));
    assert_eq!(k.take_event(), None);
    command(k, 0xfe);
    assert_eq!(k.take_event(), Some(PowerEvent::Reset));
    k.port_write(0x92, 1, 3, 0);
    assert_eq!(k.take_event(), Some(PowerEvent::Reset));
    let state = k.save();
    k.reset();
    assert_ne!(k.save(), state);
    k.restore(state.clone());
    assert_eq!(k.save(), state);
}

fn moved(kbc: &mut I8042, dx: i32, dy: i32, dz: i32, buttons: u8) {
    kbc.mouse(MouseMove { dx, dy, dz, buttons });
}

fn reports(kbc: &mut I8042) -> Vec<u8> {
    replies(kbc).into_iter().map(|byte| byte as u8).collect()
}

#[test]
fn the_mouse_reports_movements_and_buttons() {
    let lines = Lines::new();
    let mut controller = I8042::new(lines.line(1), lines.line(12));
    let k = &mut controller;
    // A mouse that is off says nothing, and forgets movements when it is turned on.
    command(k, 0xa8);
    moved(k, 5, 5, 0, 0);
    assert_eq!(replies(k), []);
    assert_eq!(mouse(k, 0xf4), [0xfa]);
    // Right 5, up 3; then left 1, down 2 with the left button; then let go.
    moved(k, 5, -3, 0, 0);
    assert_eq!(reports(k), [0x08, 5, 3]);
    moved(k, -1, 2, 0, 1);
    assert_eq!(reports(k), [0x39, 0xff, 0xfe]);
    moved(k, 0, 0, 0, 0);
    assert_eq!(reports(k), [0x08, 0, 0]);
    moved(k, 0, 0, 0, 0);
    assert_eq!(reports(k), []);
    // While nobody reads, movements add up; a click between two looks is not lost.
    for _ in 0..100 {
        moved(k, 3, 0, 0, 0);
    }
    moved(k, 0, 0, 0, 2);
    moved(k, 0, 0, 0, 0);
    let all = reports(k);
    let sum: i32 = all.chunks(3).map(|report| i32::from(report[1])).sum();
    assert_eq!((all.len() % 3, sum), (0, 300));
    assert!(all.chunks(3).any(|report| report[0] & 2 != 0), "{all:?}");
    assert_eq!(all[all.len() - 3] & 7, 0);
    // In remote mode it is asked; the wheel has a fourth byte.
    for rate in [200, 100, 80] {
        mouse(k, 0xf3);
        mouse(k, rate);
    }
    assert_eq!(mouse(k, 0xf0), [0xfa]);
    moved(k, 1, 0, -1, 0);
    assert_eq!(replies(k), []);
    assert_eq!(mouse(k, 0xeb), [0xfa, 0x08, 1, 0, 0xff]);
}
