//! What code costs: host instructions for some common guest instructions and short blocks, in both tiers and for both kinds of
//! host, against a stored table. A count that grows is a regression; one that shrinks is news for the table. Cold paths
//! count too, and so do the block's beginning and end: the row `nop` is those alone.
//!
//! After a change that is meant: `UPDATE_GOLDEN=1 cargo test -p jit --test golden`, and look at the difference.

// Both kinds of host are compiled for on either; one of them suffices.
#![cfg(target_arch = "x86_64")]

mod rig;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use iced_x86::code_asm::*;
use iced_x86::{Decoder, DecoderOptions};
use jit::TierPolicy;
use jit::compile::{Compiler, Options, Tier, named_isa};
use jit::tb::Tb;
use rig::{CODE, Rig, config};
use x86::state::Mode;

type Assembler = fn(&mut CodeAssembler) -> Result<(), IcedError>;

const PROGRAMS: &[(&str, Assembler)] = &[
    ("nop", |a| a.nop()),
    ("mov rax, rbx", |a| a.mov(rax, rbx)),
    ("mov rax, [rbx]", |a| a.mov(rax, qword_ptr(rbx))),
    ("mov [rbx], rax", |a| a.mov(qword_ptr(rbx), rax)),
    ("mov eax, [rbx + 8]; mov [rcx], eax", |a| {
        a.mov(eax, dword_ptr(rbx + 8))?;
        a.mov(dword_ptr(rcx), eax)
    }),
    ("movzx eax, byte [rsi]", |a| a.movzx(eax, byte_ptr(rsi))),
    ("mov eax, fs:[0x10]", |a| a.mov(eax, dword_ptr(0x10).fs())),
    ("add rax, rbx", |a| a.add(rax, rbx)),
    ("add eax, [rbx]", |a| a.add(eax, dword_ptr(rbx))),
    ("add [rbx], eax", |a| a.add(dword_ptr(rbx), eax)),
    ("lock xadd [rbx], eax", |a| a.lock().xadd(dword_ptr(rbx), eax)),
    ("adc rax, rbx", |a| a.adc(rax, rbx)),
    ("xor eax, eax", |a| a.xor(eax, eax)),
    ("lea rax, [rbx + rcx*4 + 8]", |a| a.lea(rax, rbx + rcx * 4 + 8)),
    ("shl eax, 3", |a| a.shl(eax, 3i32)),
    ("shl eax, cl", |a| a.shl(eax, cl)),
    ("imul rax, rbx", |a| a.imul_2(rax, rbx)),
    ("cmp eax, ebx; jne", |a| {
        a.cmp(eax, ebx)?;
        a.jne(CODE + 0x100)
    }),
    ("test rax, rax; je", |a| {
        a.test(rax, rax)?;
        a.je(CODE + 0x100)
    }),
    ("dec ecx; jne to itself", |a| {
        let mut top = a.create_label();
        a.set_label(&mut top)?;
        a.dec(ecx)?;
        a.jne(top)
    }),
    ("cmp eax, ebx; setl cl", |a| {
        a.cmp(eax, ebx)?;
        a.setl(cl)
    }),
    ("push rbx", |a| a.push(rbx)),
    (
        "add rsi, 8; movsd xmm0, [rsi - 8]; mulsd xmm0, xmm1; addsd xmm0, [rsi - 8]; movsd [rsi - 8], xmm0",
        |a| {
            a.add(rsi, 8)?;
            a.movsd_2(xmm0, qword_ptr(rsi - 8))?;
            a.mulsd(xmm0, xmm1)?;
            a.addsd(xmm0, qword_ptr(rsi - 8))?;
            a.movsd_2(qword_ptr(rsi - 8), xmm0)
        },
    ),
    ("pop rbx", |a| a.pop(rbx)),
    ("call", |a| a.call(CODE + 0x100)),
    ("ret", |a| a.ret()),
    ("jmp rax", |a| a.jmp(rax)),
    ("movaps xmm0, [rbx]", |a| a.movaps(xmm0, xmmword_ptr(rbx))),
    ("paddd xmm0, xmm1", |a| a.paddd(xmm0, xmm1)),
    ("addsd xmm0, xmm1", |a| a.addsd(xmm0, xmm1)),
    ("mulps xmm0, xmm1", |a| a.mulps(xmm0, xmm1)),
    ("cvttsd2si eax, xmm0", |a| a.cvttsd2si(eax, xmm0)),
    ("comisd xmm0, xmm1; ja", |a| {
        a.comisd(xmm0, xmm1)?;
        a.ja(CODE + 0x100)
    }),
    ("fld tbyte [rbx]", |a| a.fld(tbyte_ptr(rbx))),
    ("fstp tbyte [rbx]", |a| a.fstp(tbyte_ptr(rbx))),
    ("fxch st1", |a| a.fxch(st0, st1)),
    ("faddp", |a| a.faddp(st1, st0)),
];

/// Hosts by name, not what this one happens to have.
const HOSTS: [(&str, &[&str]); 2] = [
    ("x86_64", &["has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt"]),
    ("aarch64", &["has_lse"]),
];

fn compiler(host: (&str, &[&str])) -> Compiler {
    let options = Options { optimise: false, parallel: false, verify: true };
    let isa = named_isa(&format!("{}-unknown-linux-gnu", host.0), host.1, options).expect("a target");
    // An address with as many significant bits as others here have.
    Compiler::new(isa, options, 0x7f12_3456_7890 as *const u8)
}

fn block(program: Assembler, mode: Mode) -> Tb {
    let mut a = CodeAssembler::new(64).expect("assembler");
    program(&mut a).expect("assembles");
    let bytes = a.assemble(CODE).expect("assembles");
    // A block ends with its page at the latest: what is not there is not decoded.
    let block = x86::decode::block(&bytes, CODE, mode).expect("a block");
    Tb::new(block, CODE, [None, None])
}

fn instructions(host: &str, code: &[u8]) -> usize {
    match host {
        "x86_64" => Decoder::new(64, code, DecoderOptions::NONE).iter().filter(|i| !i.is_invalid()).count(),
        _ => code.len() / 4,
    }
}

fn table() -> String {
    let mode = Rig::new(config(TierPolicy::Zero)).cpu.st.mode;
    let mut compilers = HOSTS.map(compiler);
    let mut text = String::from(
        "# guest code: host instructions on x86-64 in tiers 1 and 2, on aarch64 in tiers 1 and 2\n",
    );
    for (name, program) in PROGRAMS {
        let tb = Arc::new(block(*program, mode));
        let mut row = format!("{name:<36}");
        for ((host, _), compiler) in HOSTS.iter().zip(&mut compilers) {
            for tier in [Tier::One, Tier::Two] {
                let code = compiler.compile(&tb, tier).unwrap_or_else(|e| panic!("{name} for {host}: {e}"));
                assert_ne!(code.inner, 0, "{name} for {host}: jumps between blocks take the frame down");
                let _ = write!(row, " {:>4}", instructions(host, &code.bytes[..code.body]));
            }
        }
        text.push_str(&row);
        text.push('\n');
    }
    text
}

/// The table that most of some threads find. How many instructions an address takes on aarch64 depends on the address, and those of
/// what a thread allocates are round now and then: they begin with what the allocator has reserved for that thread.
fn usual_table() -> String {
    const THREADS: usize = 5;
    let all_there = std::sync::Barrier::new(THREADS);
    let tables: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let table = table();
                    // Nobody gives its memory to the next one.
                    all_there.wait();
                    table
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("the table is made")).collect()
    });
    let votes = |table: &String| tables.iter().filter(|other| *other == table).count();
    tables.iter().max_by_key(|table| votes(table)).expect("several").clone()
}

#[test]
fn host_instructions_for_guest_instructions() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden.txt");
    let now = usual_table();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &now).expect("the table can be written");
    }
    let stored = std::fs::read_to_string(&path).expect("the table is in the repository");
    let changed = |a: &str, b: &str| -> String {
        a.lines()
            .filter(|line| !b.lines().any(|other| other == *line))
            .map(|line| format!("{line}\n"))
            .collect()
    };
    assert!(
        now == stored,
        "host instructions changed (x86-64 tiers 1 and 2, aarch64 tiers 1 and 2); stored:\n{}now:\n{}\
         if that is meant: UPDATE_GOLDEN=1 cargo test -p jit --test golden",
        changed(&stored, &now),
        changed(&now, &stored)
    );
}

/// Loads and stores of a machine with one vCPU are plain ones: nobody else is there to see their order.
#[test]
fn one_vcpu_pays_for_no_order() {
    let mode = Rig::new(config(TierPolicy::Zero)).cpu.st.mode;
    let mut compiler = compiler(HOSTS[1]);
    for (name, program) in PROGRAMS {
        let tb = block(*program, mode);
        for tier in [Tier::One, Tier::Two] {
            let code = compiler.compile(&tb, tier).expect("compiles");
            for word in code.bytes[..code.body]
                .chunks_exact(4)
                .map(|w| u32::from_le_bytes(w.try_into().expect("four bytes")))
            {
                // DMB and DSB; load-acquire, store-release, and exclusives.
                let barrier = word & 0xffff_f0ff == 0xd503_30bf || word & 0xffff_f0ff == 0xd503_309f;
                let ordered = word & 0x3f00_0000 == 0x0800_0000;
                assert!(!barrier && !ordered, "{name}, {tier:?}: {word:#010x}");
            }
        }
    }
}
