use super::*;

fn enabled() -> LocalApic {
    let mut apic = LocalApic::new(0);
    write(&mut apic, 0xf0, 0x1ff);
    apic
}
fn write(apic: &mut LocalApic, offset: u64, value: u64) -> Effect {
    apic.window_write(offset, 4, value, 0)
}
fn read(apic: &mut LocalApic, offset: u64) -> u64 {
    apic.window_read(offset, 4, 0)
}
fn fixed(vector: u8, level: bool) -> ApicMessage {
    ApicMessage { vector, delivery: Delivery::Fixed, level, destination: Destination::Physical(0) }
}

#[test]
fn power_on_values() {
    let mut apic = LocalApic::new(3);
    assert_eq!(apic.base(), 0xfee0_0800);
    assert_eq!(read(&mut apic, 0x20), 0x0300_0000);
    assert_eq!(read(&mut apic, 0x30), 0x0005_0014);
    assert_eq!(read(&mut apic, 0xf0), 0xff);
    assert_eq!(read(&mut apic, 0xe0), 0xffff_ffff);
    assert_eq!(read(&mut apic, 0x350), 0x1_0000);
    assert!(!apic.passes_pic());
    assert!(LocalApic::new(0).passes_pic());
    write(&mut apic, 0x320, 0x31);
    assert_eq!(read(&mut apic, 0x320), 0x1_0031, "masked while disabled by software");
    assert!(!apic.accept(&fixed(0x40, false)));
}

#[test]
fn priorities_and_eoi() {
    let mut apic = enabled();
    assert!(apic.accept(&fixed(0x31, false)));
    assert!(apic.accept(&fixed(0x52, true)));
    assert_eq!(apic.acknowledge(), 0x52);
    assert_eq!(apic.pending_vector(), None);
    assert_eq!(read(&mut apic, 0xa0), 0x50);
    assert_eq!(write(&mut apic, 0xb0, 0), Effect::Eoi(0x52));
    apic.set_cr8(3);
    assert_eq!(apic.pending_vector(), None);
    assert_eq!(apic.acknowledge(), 0xff, "spurious");
    assert_eq!(read(&mut apic, 0x80), 0x30);
    write(&mut apic, 0x80, 0x2f);
    assert_eq!((apic.cr8(), apic.acknowledge()), (2, 0x31));
    assert_eq!(read(&mut apic, 0x110), 1 << 0x11);
    assert_eq!(write(&mut apic, 0xb0, 0), Effect::None);
}

#[test]
fn timer_modes() {
    let mut apic = enabled();
    write(&mut apic, 0x3e0, 0x3); // divide by 16
    write(&mut apic, 0x320, 0x40);
    write(&mut apic, 0x380, 1000);
    assert_eq!(apic.window_read(0x390, 4, 8000), 500);
    assert_eq!(apic.next_deadline(), Some(16_000));
    apic.advance(16_000);
    assert_eq!((apic.acknowledge(), apic.next_deadline()), (0x40, None));
    assert_eq!(apic.window_read(0x390, 4, 20_000), 0);
    write(&mut apic, 0xb0, 0);

    apic.window_write(0x320, 4, 0x2_0041, 20_000); // periodic
    apic.window_write(0x380, 4, 1000, 20_000);
    for n in 1..=10 {
        assert_eq!(apic.next_deadline(), Some(20_000 + n * 16_000));
        apic.advance(20_000 + n * 16_000);
        assert_eq!(apic.acknowledge(), 0x41);
        write(&mut apic, 0xb0, 0);
    }
    apic.advance(1 << 60);
    let next = apic.next_deadline().unwrap();
    assert!(next > 1 << 60 && (next - 20_000).is_multiple_of(16_000));
    apic.window_write(0x3e0, 4, 0xb, 1 << 60); // divide by 1
    apic.window_write(0x380, 4, 1, 1 << 60);
    assert_eq!(apic.next_deadline(), Some((1 << 60) + 1000), "clamped");

    let now = 1 << 61;
    apic.window_write(0x320, 4, 0x4_0042, now); // TSC deadline
    assert_eq!(apic.next_deadline(), None);
    apic.set_tsc_deadline(now + 5, now);
    assert_eq!(apic.tsc_deadline(now), now + 5);
    apic.advance(now + 5);
    assert_eq!(apic.tsc_deadline(now + 5), 0);
    assert_eq!(apic.acknowledge(), 0x42);
    write(&mut apic, 0xb0, 0);
    apic.set_tsc_deadline(1, now + 6);
    assert_eq!(apic.pending_vector(), Some(0x42), "a deadline in the past");
}

#[test]
fn interprocessor_interrupts() {
    let mut apic = enabled();
    write(&mut apic, 0x310, 0x0200_0000);
    let sent = |delivery, vector, destination| {
        Effect::Send(ApicMessage { vector, delivery, level: false, destination })
    };
    assert_eq!(write(&mut apic, 0x300, 0x4500), sent(Delivery::Init, 0, Destination::Physical(2)));
    assert_eq!(write(&mut apic, 0x300, 0x8500), Effect::None);
    assert_eq!(write(&mut apic, 0x300, 0x0608), sent(Delivery::StartUp, 8, Destination::Physical(2)));
    assert_eq!(write(&mut apic, 0x300, 0xc_00f0), sent(Delivery::Fixed, 0xf0, Destination::Others));
    assert_eq!(
        write(&mut apic, 0x300, 0x0_0800 | 0x33),
        sent(Delivery::Fixed, 0x33, Destination::Logical(2))
    );
    assert_eq!(write(&mut apic, 0x300, 0x5), Effect::None);
    write(&mut apic, 0x280, 0);
    assert_eq!(read(&mut apic, 0x280), 0x20, "send illegal vector");
    let init = ApicMessage { delivery: Delivery::Init, ..fixed(0, false) };
    apic.accept(&init);
    assert!(apic.take_init() && !apic.take_init());
    assert_eq!(read(&mut apic, 0xf0), 0xff);
}

/// SDM vol. 3, "MP Initialization Protocol": only a processor that waits for a start-up IPI takes one, and the bootstrap processor
/// never does.
#[test]
fn start_up_ipis_reach_who_waits_for_them() {
    let init = ApicMessage { delivery: Delivery::Init, ..fixed(0, false) };
    let start = |vector| ApicMessage { delivery: Delivery::StartUp, ..fixed(vector, false) };
    let mut other = LocalApic::new(1);
    other.accept(&start(9));
    assert_eq!(other.take_start_up(), Some(9));
    other.accept(&start(8));
    assert_eq!(other.take_start_up(), None, "it runs");
    other.accept(&init);
    other.accept(&start(7));
    assert!(other.take_init());
    assert_eq!(other.take_start_up(), Some(7));
    // Off and on again, it still runs.
    let base = other.base();
    assert!(other.set_base(base & !apic_base::ENABLE) && other.set_base(base));
    other.accept(&start(6));
    assert_eq!(other.take_start_up(), None);
    let mut bootstrap = LocalApic::new(0);
    bootstrap.accept(&init);
    bootstrap.accept(&start(9));
    assert_eq!(bootstrap.take_start_up(), None);
}

#[test]
fn logical_destinations() {
    let mut apic = LocalApic::new(5);
    write(&mut apic, 0xd0, 0x0400_0000);
    assert!(apic.matches(Destination::Logical(0x0c)) && !apic.matches(Destination::Logical(0x03)));
    write(&mut apic, 0xe0, 0x0fff_ffff); // cluster
    write(&mut apic, 0xd0, 0x2400_0000);
    assert!(apic.matches(Destination::Logical(0x24)) && !apic.matches(Destination::Logical(0x14)));
    assert!(apic.matches(Destination::Physical(BROADCAST)) && apic.matches(Destination::Logical(BROADCAST)));
    apic.set_base(apic.base() | apic_base::EXTD);
    assert!(apic.matches(Destination::Logical(0x20)) && !apic.matches(Destination::Logical(0x24 << 16)));
}

#[test]
fn x2apic_mode() {
    let mut apic = LocalApic::new(0x21);
    assert_eq!(apic.msr_read(0x802, 0), None);
    let base = apic.base();
    assert!(apic.set_base(base | apic_base::EXTD));
    assert!(!apic.set_base(base), "only through disabled");
    assert_eq!(apic.msr_read(0x802, 0), Some(0x21));
    assert_eq!(apic.msr_read(0x80d, 0), Some(2 << 16 | 2));
    assert_eq!(read(&mut apic, 0x20), u64::MAX, "the window is gone");
    assert_eq!(apic.msr_write(0x80f, 0x1ff, 0), Some(Effect::None));
    assert_eq!(apic.msr_write(0x80f, 1 << 20, 0), None);
    assert_eq!(apic.msr_write(0x80b, 1, 0), None);
    assert_eq!(apic.msr_write(0x802, 1, 0), None);
    let sent = apic.msr_write(0x830, 0x0001_0000_0000_4500, 0);
    assert!(matches!(
        sent,
        Some(Effect::Send(ApicMessage { destination: Destination::Physical(0x1_0000), .. }))
    ));
    assert_eq!(apic.msr_read(0x830, 0), Some(0x0001_0000_0000_4500));
    assert!(matches!(apic.msr_write(0x83f, 0x77, 0), Some(Effect::Send(_))));
    assert!(apic.set_base(base & !apic_base::ENABLE));
    assert!(!apic.set_base(base | apic_base::EXTD));
    assert!(apic.set_base(base));
    assert!(!apic.set_base(1));
    let state = apic.save();
    let mut twin = LocalApic::new(0);
    twin.restore(state.clone());
    assert_eq!(twin.save(), state);
}
