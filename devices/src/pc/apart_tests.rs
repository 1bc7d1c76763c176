//! PCI functions and interrupt controllers as processors that run in parallel use them: without the board.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::*;
use crate::pci::{BarKind, ConfigSpace, PciFunction, PciSlot};

/// A card with a page of registers and sixteen ports that raises its pin when its time has come, and lowers it when it is read. With `work` it is
/// at work then, from the one message to the other.
struct Worker {
    config: ConfigSpace,
    slot: PciSlot,
    due: Option<Ns>,
    asserted: bool,
    work: Option<(Sender<()>, Receiver<()>)>,
}

impl Worker {
    fn card(device: u8, work: Option<(Sender<()>, Receiver<()>)>) -> PciCard {
        let make = move |slot: PciSlot| -> Box<dyn PciFunction> {
            let mut config = ConfigSpace::endpoint(0x1b36, 0x00ff, 0xff_0000, 0);
            config.add_bar(0, BarKind::Memory32, 0x1000);
            config.add_bar(1, BarKind::Io, 16);
            config.set_interrupt_pin(1);
            Box::new(Self { config, slot, due: None, asserted: false, work })
        };
        PciCard { at: Some((device, 0)), make: Box::new(make) }
    }

    fn assert(&mut self, asserted: bool) {
        self.asserted = asserted;
        self.config.drive_intx(&self.slot.intx, asserted);
    }
}

impl Timed for Worker {
    fn next_deadline(&self) -> Option<Ns> {
        self.due
    }
    fn advance(&mut self, now: Ns) {
        if self.due.is_some_and(|due| due <= now) {
            if let Some((begun, end)) = &self.work {
                begun.send(()).unwrap();
                end.recv().unwrap();
            }
            self.due = None;
            self.assert(true);
        }
    }
}

impl PciFunction for Worker {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }
    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
    fn bar_read(&mut self, _bar: u8, _offset: u64, _size: u8, _now: Ns) -> u64 {
        let asserted = self.asserted;
        self.assert(false);
        asserted.into()
    }
    fn bar_write(&mut self, _bar: u8, _offset: u64, _size: u8, value: u64, now: Ns) {
        self.due = Some(now + value);
    }
    fn timed(&self) -> Option<&dyn Timed> {
        Some(self)
    }
    fn timed_mut(&mut self) -> Option<&mut dyn Timed> {
        Some(self)
    }
}

const BAR: u64 = 0xd000_0000;
const PORTS_AT: u64 = 0xc000;

/// Two of them, at devices 3 and 4, of which the first one works as `work` says.
fn board(work: Option<(Sender<()>, Receiver<()>)>) -> PcDevices {
    let config = PcConfig { cpus: 1, ram_below_4g: 128 << 20, ..PcConfig::default() };
    let mut pc = PcDevices::new(&config);
    let cards = vec![Worker::card(3, work), Worker::card(4, None)];
    pc.plug(Peripherals { cards, ..Peripherals::default() });
    for device in [3, 4] {
        configure(&mut pc, device, 0x10, BAR as u32 + 0x1000 * u32::from(device));
        configure(&mut pc, device, 0x14, PORTS_AT as u32 + 16 * u32::from(device));
        configure(&mut pc, device, 0x04, 7);
    }
    pc
}

fn configure(pc: &mut PcDevices, device: u8, register: u32, value: u32) {
    pc.port_write(0xcf8, 4, 0x8000_0000 | u32::from(device) << 11 | register, 0);
    pc.port_write(0xcfc, 4, value, 0);
}

/// Which of them is alone at memory `address`, and at port `port`.
fn alone(pc: &PcDevices, address: u64, port: u64) -> [Vec<u8>; 2] {
    [(false, address), (true, port)].map(|(io, at)| {
        let functions = pc.functions().iter();
        functions.filter(|own| own.decodes_alone(io, at).is_some()).map(|own| own.at() >> 3).collect()
    })
}

#[test]
fn a_function_is_alone_where_nothing_else_decodes_the_same() {
    let mut pc = board(None);
    assert_eq!(alone(&pc, BAR + 0x3ffc, PORTS_AT + 0x3f), [[3], [3]]);
    assert_eq!(alone(&pc, BAR + 0x4000, PORTS_AT + 0x40), [[4], [4]]);
    assert_eq!(alone(&pc, BAR + 0x5000, PORTS_AT + 0x50), [[], []] as [[u8; 0]; 2]);
    // Over the other one, over what the board has, and where writes may go to RAM.
    for (register, bases) in [
        (0x10, [BAR + 0x4000, IOAPIC_BASE, HPET_BASE, LAPIC_BASE, 0xc_0000].as_slice()),
        (0x14, &[PORTS_AT + 0x40, 0x1f0, 0x3f0, 0x20, 0x600, 0xcf0, 0xb000]),
    ] {
        for base in bases {
            configure(&mut pc, 3, register, *base as u32);
            let [memory, port] = alone(&pc, *base, *base);
            let found = if register == 0x10 { memory } else { port };
            let free = *base == 0xb000;
            assert_eq!(found, if free { vec![3] } else { vec![] }, "{register:#x} at {base:#x}");
        }
    }
    assert_eq!(alone(&pc, BAR + 0x4000, PORTS_AT + 0x40), [[4], [4]], "what was over it has gone");
    // Turned off, and back; moved by a saved state.
    configure(&mut pc, 4, 0x04, 4);
    assert_eq!(alone(&pc, BAR + 0x4000, PORTS_AT + 0x40), [[], []] as [[u8; 0]; 2]);
    let state = pc.save();
    configure(&mut pc, 4, 0x04, 7);
    assert_eq!(alone(&pc, BAR + 0x4000, PORTS_AT + 0x40), [[4], [4]]);
    pc.restore(state).unwrap();
    assert_eq!(alone(&pc, BAR + 0x4000, PORTS_AT + 0x40), [[], []] as [[u8; 0]; 2]);
    pc.reset(0);
    assert_eq!(alone(&pc, BAR + 0x3000, PORTS_AT + 0x30), [[], []] as [[u8; 0]; 2]);
}

/// Who has found it and waits for its lock does not reach it where it was.
#[test]
fn a_function_that_has_moved_is_not_reached_where_it_was() {
    let mut pc = board(None);
    let own = Arc::clone(&pc.functions()[0]);
    let at = BAR + 0x3008;
    assert_eq!(own.access(false, at, |_, bar, offset| (bar, offset)), Some((0, 8)));
    configure(&mut pc, 3, 0x10, BAR as u32 + 0x6000);
    assert_eq!(own.access(false, at, |_, _, _| ()), None);
    assert_eq!(own.access(true, PORTS_AT + 0x35, |_, bar, offset| (bar, offset)), Some((1, 5)));
    assert_eq!(own.access(false, at + 0x3000, |_, bar, offset| (bar, offset)), Some((0, 8)));
}

#[test]
fn a_pin_an_acknowledgement_and_an_eoi_need_no_board() {
    let mut pc = board(None);
    pc.mmio_write(0, LAPIC_BASE + 0xf0, 4, 0x1ff, 0);
    // Device 3, INTA#: PIRQC, pin 18; level-triggered.
    pc.mmio_write(0, IOAPIC_BASE, 4, 0x10 + 2 * 18, 0);
    pc.mmio_write(0, IOAPIC_BASE + 0x10, 4, 0x8047, 0);
    pc.set_apart(true);
    let (own, interrupts) = (Arc::clone(&pc.functions()[0]), Arc::clone(pc.interrupts()));
    let apics = Arc::clone(pc.local_apics());
    own.with(|own| own.bar_write(0, 0, 4, 50, 100));
    assert_eq!((own.deadline(), pc.next_deadline(), interrupts.carry()), (Some(150), None, false));
    // It is not the board that looks after it.
    pc.advance(1000);
    assert_eq!(own.deadline(), Some(150));
    own.advance(|| 1000);
    assert_eq!((own.deadline(), interrupts.carry(), interrupts.carry()), (None, true, false));
    let end = || {
        let vector = apics.acknowledge(0);
        let effect = apics.with(0, |apic| apic.window_write(0xb0, 4, 0, 1000));
        apics.perform(0, effect).into_iter().for_each(|vector| interrupts.end_of_interrupt(vector));
        vector
    };
    // It comes again until it is lowered.
    assert_eq!((end(), end()), (Some(0x47), Some(0x47)));
    assert_eq!(own.with(|own| own.bar_read(0, 0, 4, 1000)), 1);
    assert!(interrupts.carry());
    assert_eq!((end(), end()), (Some(0x47), None));
    // With the board, in the state that it would be in.
    pc.set_apart(false);
    pc.mmio_write(0, BAR + 0x3000, 4, 50, 2000);
    assert_eq!(pc.next_deadline(), Some(2050));
    pc.advance(2050);
    assert_eq!(pc.acknowledge(0, 2050), Some(0x47));
}

/// The board's registers, timers and another function, while one is at work.
#[test]
fn nobody_waits_for_a_function_that_is_at_work() {
    let ((begun, begins), (end, ends)) = (channel(), channel());
    let mut pc = board(Some((begun, ends)));
    pc.set_apart(true);
    let [own, other] = [0, 1].map(|n| Arc::clone(&pc.functions()[n]));
    own.with(|own| own.bar_write(0, 0, 4, 50, 100));
    let (done, waited) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| own.advance(|| 1000));
        begins.recv().unwrap();
        let pc = &mut pc;
        scope.spawn(move || {
            pc.mmio_write(0, HPET_BASE + 0x10, 8, 1, 1000);
            pc.port_write(0x70, 1, 0x0a, 1000);
            let read = (pc.port_read(0x71, 1, 1000), pc.mmio_read(0, IOAPIC_BASE, 4, 1000));
            // Nobody is there, as far as the board can say.
            let none = (pc.port_read(0xe000, 4, 1000), pc.mmio_read(0, BAR + 0x9000, 4, 1000));
            pc.advance(2000);
            configure(pc, 4, 0x3c, 11);
            let carried = pc.interrupts().carry();
            let found = other.access(false, BAR + 0x4000, |other, _, _| other.bar_read(0, 0, 4, 2000));
            done.send((read, none, carried, found)).unwrap();
        });
        let found = waited.recv_timeout(Duration::from_secs(60));
        end.send(()).unwrap();
        let (read, none, carried, found) = found.expect("somebody waits");
        assert_eq!((read.0 & 0x70, none), (0x20, (u32::MAX, 0xffff_ffff)));
        assert_eq!((carried, found), (false, Some(0)));
    });
    assert!(own.deadline().is_none());
}
