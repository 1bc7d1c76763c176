//! The memory model in generated code: which ordering instructions of the host an access becomes, where vCPUs run in parallel
//! (`jit::compile::order`). What a processor makes of them cannot be tested here: a host that is emulated, or an x86, would hide
//! a missing one.

// What is compiled for a host by its name is the same on all of them: one of them compiles for every kind.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_imports, reason = "see above"))]
#![cfg_attr(target_arch = "aarch64", expect(unsafe_code, reason = "reads thunks"))]

mod rig;

use iced_x86::code_asm::*;
use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use jit::TierPolicy;
use jit::compile::{Code, Compiler, Options, Tier, named_isa};
use jit::jump::is_arm_branch;
use jit::tb::Tb;
use rig::{CODE, Rig, config};

type Assembler = fn(&mut CodeAssembler) -> Result<(), IcedError>;

fn block(program: Assembler) -> Tb {
    let mut a = CodeAssembler::new(64).expect("assembler");
    program(&mut a).expect("assembles");
    let bytes = a.assemble(CODE).expect("assembles");
    let mut cpu = Rig::new(config(TierPolicy::Zero)).cpu;
    cpu.st.cr4 |= x86::state::cr4::OSXSAVE;
    cpu.st.xcr0 = 7;
    cpu.mode_changed();
    let mode = cpu.st.mode;
    Tb::new(x86::decode::block(&bytes, CODE, mode).expect("a block"), CODE, [None, None])
}

fn compile(host: &str, features: &[&str], tier: Tier, program: Assembler) -> Vec<u8> {
    let code = compile_whole(host, features, tier, program);
    code.bytes[..code.body].to_vec()
}

fn compile_whole(host: &str, features: &[&str], tier: Tier, program: Assembler) -> Code {
    let options = Options { optimise: false, parallel: true, verify: true };
    let isa = named_isa(&format!("{host}-unknown-linux-gnu"), features, options).expect("a target");
    let mut compiler = Compiler::new(isa, options, 0x7f12_3456_7890 as *const u8);
    compiler.compile(&block(program), tier).expect("compiles")
}

/// The instructions that order or are atomic, in the order of their addresses: cold paths come last.
#[cfg(target_arch = "x86_64")]
fn arm(features: &[&str], tier: Tier, program: Assembler) -> String {
    let code = compile("aarch64", features, tier, program);
    let words = code.chunks_exact(4).map(|w| u32::from_le_bytes(w.try_into().expect("four bytes")));
    words.filter_map(ordering).collect::<Vec<_>>().join(" ")
}

/// The name of an aarch64 instruction that orders or is atomic (Arm ARM, C4.1).
fn ordering(word: u32) -> Option<String> {
    let size = ["b", "h", "w", "x"][(word >> 30) as usize];
    if word & 0xffff_f0ff == 0xd503_30bf {
        let kind = match word >> 8 & 15 {
            11 => "ish",
            9 => "ishld",
            10 => "ishst",
            other => panic!("DMB {other}"),
        };
        return Some(format!("dmb.{kind}"));
    }
    let name = match (word & 0x3fff_fc00, word & 0x3fe0_fc00) {
        (0x08df_fc00, _) => "ldar",
        (0x089f_fc00, _) => "stlr",
        (0x085f_fc00, _) => "ldaxr",
        (_, 0x0800_fc00) => "stlxr",
        (_, 0x08e0_fc00) => "casal",
        (_, 0x38e0_0000) => "ldaddal",
        (_, 0x38e0_1000) => "ldclral",
        (_, 0x38e0_2000) => "ldeoral",
        (_, 0x38e0_3000) => "ldsetal",
        (_, other) if other & 0x3f00_0000 == 0x0800_0000 => panic!("an exclusive access: {word:#010x}"),
        _ => return None,
    };
    Some(format!("{name}.{size}"))
}

/// Tier 1's accesses: the host's own thunks.
#[cfg(target_arch = "aarch64")]
#[test]
fn thunks_acquire_and_release() {
    use jit::thunks::{self, ordered};
    let found = |thunk: unsafe extern "C" fn()| {
        // The shortest has 20 instructions; what follows is the beginning of another function.
        let words = (0..22).map(|k| {
            // SAFETY: code of this program, which is longer than that.
            unsafe { (thunk as *const () as *const u32).add(k).read() }
        });
        words.filter_map(ordering).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(found(ordered::load8), "ldar.b");
    assert_eq!(found(ordered::load16), "ldar.h dmb.ishld");
    assert_eq!(found(ordered::load32), "ldar.w dmb.ishld");
    assert_eq!(found(ordered::load64), "ldar.x dmb.ishld");
    assert_eq!(found(ordered::store8), "stlr.b");
    assert_eq!(found(ordered::store16), "stlr.h dmb.ishst");
    assert_eq!(found(ordered::store32), "stlr.w dmb.ishst");
    assert_eq!(found(ordered::store64), "stlr.x dmb.ishst");
    // A machine whose vCPUs take turns pays nothing.
    for plain in [thunks::load8, thunks::load64, thunks::store8, thunks::store64] {
        assert_eq!(found(plain), "");
    }
}

#[cfg(target_arch = "x86_64")]
mod compiled {
    use super::*;

    const LSE: &[&str] = &["has_lse"];

    fn expect(what: &str, program: Assembler, lse: &str, without: &str) {
        assert_eq!(arm(LSE, Tier::Two, program), lse, "{what}");
        assert_eq!(arm(&[], Tier::Two, program), without, "{what}, without LSE");
    }

    /// An access that knows no LSE.
    fn access(what: &str, program: Assembler, found: &str) {
        expect(what, program, found, found);
    }

    /// What is replaced in code that another vCPU may be executing (see `jit::platform`).
    #[test]
    fn every_jump_that_is_replaced_is_an_aligned_b() {
        let programs: [(usize, Assembler); 5] = [
            (1, |a| a.jmp(CODE + 0x40)),
            (2, |a| {
                a.test(eax, eax)?;
                a.jne(CODE + 0x40)
            }),
            (2, |a| a.loop_(CODE + 0x40)),
            (1, |a| a.call(CODE + 0x40)),
            (2, |a| {
                a.lock().add(dword_ptr(rbx), eax)?;
                a.mulps(xmm0, xmm1)?;
                a.jc(CODE + 0x40)
            }),
        ];
        for (index, (exits, program)) in programs.into_iter().enumerate() {
            for (tier, features) in [(Tier::One, LSE), (Tier::Two, LSE), (Tier::Two, &[])] {
                let code = compile_whole("aarch64", features, tier, program);
                assert_eq!(code.jumps.len(), exits, "program {index}, {tier:?}");
                for jump in &code.jumps {
                    assert_eq!(jump.site % 4, 0, "program {index}, {tier:?}");
                    let bytes = code.bytes[jump.site..jump.site + 4].try_into().expect("four bytes");
                    let word = u32::from_le_bytes(bytes);
                    assert!(is_arm_branch(word), "program {index}, {tier:?}: {word:#010x}");
                }
            }
        }
    }

    #[test]
    fn loads_acquire_and_stores_release() {
        access("mov al, [rbx]", |a| a.mov(al, byte_ptr(rbx)), "ldar.b");
        // In the cold path: an unaligned one is plain, with a barrier.
        access("mov ax, [rbx]", |a| a.mov(ax, word_ptr(rbx)), "ldar.h dmb.ish");
        access("mov eax, [rbx]", |a| a.mov(eax, dword_ptr(rbx)), "ldar.w dmb.ish");
        access("mov rax, [rbx]", |a| a.mov(rax, qword_ptr(rbx)), "ldar.x dmb.ish");
        access("mov [rbx], al", |a| a.mov(byte_ptr(rbx), al), "stlr.b");
        access("mov [rbx], ax", |a| a.mov(word_ptr(rbx), ax), "stlr.h dmb.ish");
        access("mov [rbx], eax", |a| a.mov(dword_ptr(rbx), eax), "stlr.w dmb.ish");
        access("mov [rbx], rax", |a| a.mov(qword_ptr(rbx), rax), "stlr.x dmb.ish");
        access("push rbx", |a| a.push(rbx), "stlr.x dmb.ish");
        access("add [rbx], eax", |a| a.add(dword_ptr(rbx), eax), "ldar.w stlr.w dmb.ish dmb.ish");
        access("movss xmm0, [rbx]", |a| a.movss(xmm0, dword_ptr(rbx)), "ldar.w dmb.ish");
        access("movsd [rbx], xmm0", |a| a.movsd_2(qword_ptr(rbx), xmm0), "stlr.x dmb.ish");
    }

    #[test]
    fn vectors_and_extended_numbers_are_fenced() {
        access("movups xmm0, [rbx]", |a| a.movups(xmm0, xmmword_ptr(rbx)), "dmb.ish");
        access("movups [rbx], xmm0", |a| a.movups(xmmword_ptr(rbx), xmm0), "dmb.ish");
        access("vmovups ymm0, [rbx]", |a| a.vmovups(ymm0, ymmword_ptr(rbx)), "dmb.ish");
        access("vmovups [rbx], ymm0", |a| a.vmovups(ymmword_ptr(rbx), ymm0), "dmb.ish");
        access("fld tbyte [rbx]", |a| a.fld(tbyte_ptr(rbx)), "dmb.ish");
        access("fstp tbyte [rbx]", |a| a.fstp(tbyte_ptr(rbx)), "dmb.ish");
        // The barrier after the load is one before the store as well; between two stores there is none yet.
        access(
            "a copy",
            |a| {
                a.movups(xmm0, xmmword_ptr(rbx))?;
                a.movups(xmmword_ptr(rcx), xmm0)
            },
            "dmb.ish",
        );
        access(
            "two stores",
            |a| {
                a.movups(xmmword_ptr(rbx), xmm0)?;
                a.movups(xmmword_ptr(rcx), xmm0)
            },
            "dmb.ish dmb.ish",
        );
        access(
            "a store after a store of another kind",
            |a| {
                a.mfence()?;
                a.mov(byte_ptr(rbx), al)?;
                a.movups(xmmword_ptr(rcx), xmm0)
            },
            "dmb.ish stlr.b dmb.ish",
        );
    }

    #[test]
    fn nothing_orders_non_temporal_stores_but_fences() {
        access("movntps [rbx], xmm0", |a| a.movntps(xmmword_ptr(rbx), xmm0), "");
        access("movnti [rbx], eax", |a| a.movnti(dword_ptr(rbx), eax), "");
        access("sfence", |a| a.sfence(), "dmb.ish");
        access("mfence", |a| a.mfence(), "dmb.ish");
        access("lfence", |a| a.lfence(), "");
    }

    #[test]
    fn locked_instructions_are_atomics_and_barriers() {
        let a32 = |a: &mut CodeAssembler| a.lock().add(dword_ptr(rbx), eax);
        expect("lock add [rbx], eax", a32, "ldaddal.w", "ldaxr.w stlxr.w dmb.ish");
        let a8 = |a: &mut CodeAssembler| a.lock().add(byte_ptr(rbx), al);
        expect("lock add [rbx], al", a8, "ldaddal.b", "ldaxr.b stlxr.b dmb.ish");
        let sub = |a: &mut CodeAssembler| a.lock().sub(qword_ptr(rbx), rax);
        expect("lock sub [rbx], rax", sub, "ldaddal.x", "ldaxr.x stlxr.x dmb.ish");
        let dec = |a: &mut CodeAssembler| a.lock().dec(word_ptr(rbx));
        expect("lock dec word [rbx]", dec, "ldaddal.h", "ldaxr.h stlxr.h dmb.ish");
        let and = |a: &mut CodeAssembler| a.lock().and(dword_ptr(rbx), eax);
        expect("lock and [rbx], eax", and, "ldclral.w", "ldaxr.w stlxr.w dmb.ish");
        let bts = |a: &mut CodeAssembler| a.lock().bts(dword_ptr(rbx), 3);
        expect("lock bts [rbx], 3", bts, "ldsetal.w", "ldaxr.w stlxr.w dmb.ish");
        let xor = |a: &mut CodeAssembler| a.lock().xor(dword_ptr(rbx), eax);
        expect("lock xor [rbx], eax", xor, "ldeoral.w", "ldaxr.w stlxr.w dmb.ish");
        let xadd = |a: &mut CodeAssembler| a.lock().xadd(dword_ptr(rbx), eax);
        expect("lock xadd [rbx], eax", xadd, "ldaddal.w", "ldaxr.w stlxr.w dmb.ish");
        let xchg = |a: &mut CodeAssembler| a.xchg(dword_ptr(rbx), eax);
        expect("xchg [rbx], eax", xchg, "ldaxr.w stlxr.w dmb.ish", "ldaxr.w stlxr.w dmb.ish");
        // A compare that fails stores nothing on the host: the barrier in the cold path makes up for it.
        let cmpxchg = |a: &mut CodeAssembler| a.lock().cmpxchg(qword_ptr(rbx), rcx);
        expect("lock cmpxchg [rbx], rcx", cmpxchg, "casal.x dmb.ish", "ldaxr.x stlxr.x dmb.ish");
        // Tier 0's.
        let neg = |a: &mut CodeAssembler| a.lock().neg(dword_ptr(rbx));
        expect("lock neg dword [rbx]", neg, "", "");
    }

    /// Its accesses are thunks', but for those at a place that a thunk has looked up.
    #[test]
    fn tier_1_has_the_same_atomics() {
        let found = |program: Assembler| arm(LSE, Tier::One, program);
        assert_eq!(found(|a| a.mov(eax, dword_ptr(rbx))), "");
        assert_eq!(found(|a| a.add(dword_ptr(rbx), eax)), "ldar.w stlr.w dmb.ish dmb.ish");
        assert_eq!(found(|a| a.movups(xmm0, xmmword_ptr(rbx))), "dmb.ish");
        assert_eq!(found(|a| a.movups(xmmword_ptr(rbx), xmm0)), "dmb.ish");
        assert_eq!(found(|a| a.lock().add(dword_ptr(rbx), eax)), "ldaddal.w");
        assert_eq!(found(|a| a.lock().cmpxchg(qword_ptr(rbx), rcx)), "casal.x dmb.ish");
        assert_eq!(found(|a| a.mfence()), "dmb.ish");
    }

    #[test]
    fn x86_hosts_need_lock_prefixes_and_mfence_only() {
        let found = |program: Assembler| {
            let code = compile("x86_64", &["has_sse41"], Tier::Two, program);
            let ordering = Decoder::new(64, &code, DecoderOptions::NONE).into_iter().filter_map(|i| {
                let xchg = i.mnemonic() == Mnemonic::Xchg && i.op0_kind() == iced_x86::OpKind::Memory;
                let fence = matches!(i.mnemonic(), Mnemonic::Mfence | Mnemonic::Lfence | Mnemonic::Sfence);
                (i.has_lock_prefix() || xchg || fence).then(|| format!("{:?}", i.mnemonic()).to_lowercase())
            });
            ordering.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found(|a| a.mov(rax, qword_ptr(rbx))), "");
        assert_eq!(found(|a| a.mov(qword_ptr(rbx), rax)), "");
        assert_eq!(found(|a| a.movups(xmmword_ptr(rbx), xmm0)), "");
        assert_eq!(found(|a| a.movnti(dword_ptr(rbx), eax)), "");
        assert_eq!(found(|a| a.lock().add(dword_ptr(rbx), eax)), "xadd");
        assert_eq!(found(|a| a.lock().sub(dword_ptr(rbx), eax)), "xadd");
        assert_eq!(found(|a| a.lock().or(dword_ptr(rbx), eax)), "cmpxchg");
        assert_eq!(found(|a| a.lock().cmpxchg(dword_ptr(rbx), ecx)), "cmpxchg");
        assert_eq!(found(|a| a.xchg(dword_ptr(rbx), eax)), "xchg");
        assert_eq!(found(|a| a.mfence()), "mfence");
        assert_eq!(found(|a| a.lfence()), "");
        assert_eq!(found(|a| a.sfence()), "");
    }
}
