//! LOCK'd instructions in generated code, where vCPUs run in parallel: at any alignment, over lines and pages, on devices and on
//! watched pages they do what tier 0 does.

mod rig;

use iced_x86::code_asm::*;
use jit::{EngineConfig, Exit, TierPolicy};
use rig::{CODE, DATA, DEVICE, Rig, config};

type Assembler = fn(&mut CodeAssembler) -> Result<(), IcedError>;

/// One instruction each, on memory at RBX, with operands in RCX (and RAX).
const FORMS: &[(&str, Assembler)] = &[
    ("add b", |a| a.lock().add(byte_ptr(rbx), cl)),
    ("add w", |a| a.lock().add(word_ptr(rbx), cx)),
    ("add d", |a| a.lock().add(dword_ptr(rbx), ecx)),
    ("add q", |a| a.lock().add(qword_ptr(rbx), rcx)),
    ("adc d", |a| a.lock().adc(dword_ptr(rbx), ecx)),
    ("sbb q", |a| a.lock().sbb(qword_ptr(rbx), rcx)),
    ("sub w", |a| a.lock().sub(word_ptr(rbx), cx)),
    ("and d", |a| a.lock().and(dword_ptr(rbx), ecx)),
    ("or b", |a| a.lock().or(byte_ptr(rbx), cl)),
    ("or q", |a| a.lock().or(qword_ptr(rbx), rcx)),
    ("xor w", |a| a.lock().xor(word_ptr(rbx), cx)),
    ("inc d", |a| a.lock().inc(dword_ptr(rbx))),
    ("dec q", |a| a.lock().dec(qword_ptr(rbx))),
    ("not w", |a| a.lock().not(word_ptr(rbx))),
    ("neg d", |a| a.lock().neg(dword_ptr(rbx))),
    ("bts d", |a| a.lock().bts(dword_ptr(rbx), 3)),
    ("btr q", |a| a.lock().btr(qword_ptr(rbx), 9)),
    ("btc w", |a| a.lock().btc(word_ptr(rbx), 2)),
    ("xadd b", |a| a.lock().xadd(byte_ptr(rbx), cl)),
    ("xadd d", |a| a.lock().xadd(dword_ptr(rbx), ecx)),
    ("xchg w", |a| a.xchg(word_ptr(rbx), cx)),
    ("xchg q", |a| a.xchg(qword_ptr(rbx), rcx)),
    ("cmpxchg b", |a| a.lock().cmpxchg(byte_ptr(rbx), cl)),
    ("cmpxchg w", |a| a.lock().cmpxchg(word_ptr(rbx), cx)),
    ("cmpxchg d", |a| a.lock().cmpxchg(dword_ptr(rbx), ecx)),
    ("cmpxchg q", |a| a.lock().cmpxchg(qword_ptr(rbx), rcx)),
];

/// Aligned; misaligned; over a line; over a page; of a device; of a page with translated code.
const PLACES: [u64; 6] = [DATA + 0x40, DATA + 0x83, DATA + 0x13f, DATA + 0xfff, DEVICE + 0x10, CODE + 0x800];

/// Runs a form three times, at a place that holds RAX at first, so that a comparison succeeds once.
fn run(rig: &mut Rig, form: Assembler, place: u64) -> (rig::Seen, u64) {
    rig.load_asm(CODE, |a| {
        let mut top = a.create_label();
        a.mov(rbx, place).unwrap();
        a.mov(rax, 0x8877_6655_4433_2211u64).unwrap();
        a.mov(rcx, 0x0102_0304_8586_8788u64).unwrap();
        a.mov(esi, 3i32).unwrap();
        if place < DEVICE {
            a.mov(qword_ptr(rbx), rax).unwrap();
        }
        a.stc().unwrap();
        a.set_label(&mut top).unwrap();
        form(a).unwrap();
        // Keeps the flags, but for CF, which the next turn's ADC gets from here.
        a.pushfq().unwrap();
        a.dec(esi).unwrap();
        a.jne(top).unwrap();
        a.hlt().unwrap();
    });
    rig.cpu.st.rip = CODE;
    assert_eq!(rig.run(10_000), Exit::Halted);
    let word = if place < DEVICE { rig.word(place & !7) ^ rig.word((place & !7) + 8) } else { 0 };
    (rig.seen(), word)
}

#[test]
fn locked_forms_everywhere() {
    for (name, form) in FORMS {
        for place in PLACES {
            let zero = run(&mut Rig::new(config(TierPolicy::Zero)), *form, place);
            for tier in [TierPolicy::One, TierPolicy::Two] {
                let mut rig = Rig::new(EngineConfig { parallel: true, ..config(tier) });
                let found = run(&mut rig, *form, place);
                let what = format!("{name} at {place:#x}, {tier:?}");
                zero.0.same_as(&found.0, &what);
                assert_eq!(zero.1, found.1, "{what}");
            }
        }
    }
}

/// Aligned ones on plain RAM stay in generated code.
#[test]
fn aligned_ones_are_inline() {
    for tier in [TierPolicy::One, TierPolicy::Two] {
        let mut rig = Rig::new(EngineConfig { parallel: true, ..config(tier) });
        rig.load_asm(CODE, |a| {
            let mut top = a.create_label();
            a.mov(rbx, DATA).unwrap();
            a.mov(ecx, 1000i32).unwrap();
            a.set_label(&mut top).unwrap();
            a.lock().add(qword_ptr(rbx), rcx).unwrap();
            a.lock().cmpxchg(dword_ptr(rbx + 8), ecx).unwrap();
            a.xchg(dword_ptr(rbx + 12), edx).unwrap();
            a.dec(ecx).unwrap();
            a.jne(top).unwrap();
            a.hlt().unwrap();
        });
        assert_eq!(rig.run(100_000), Exit::Halted);
        assert_eq!(rig.word(DATA), 500_500);
        let stats = rig.engine.stats();
        assert!(stats.redos < 10, "{tier:?}: {stats:?}");
    }
}
