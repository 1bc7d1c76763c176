//! Encodings against a disassembler, and random functions against Cranelift's own back end. They run what they compile: on x86-64 hosts only.

#![expect(unsafe_code, reason = "runs generated code, which calls a naked function")]

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, AtomicRmwOp, Function, InstBuilder, MemFlagsData, SigRef, Signature, Type, Value, types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

use super::asm::*;
use super::{Features, Quick};

#[test]
fn encodings_are_what_a_disassembler_reads() {
    type Emit = fn(&mut Asm);
    let table: [(Emit, &str); 34] = [
        (|a| a.mov(Size::Q, 8, RBX), "mov r8,rbx"),
        (|a| a.mov(Size::D, RBX, 15), "mov ebx,r15d"),
        (|a| a.mov_imm(9, 5), "mov r9d,5"),
        (|a| a.mov_imm(RAX, -5), "mov rax,0FFFFFFFFFFFFFFFBh"),
        (|a| a.mov_imm(12, 0x1234_5678_9abc), "mov r12,123456789ABCh"),
        (|a| a.load(Size::B, 13, Rm::M(13, 0)), "movzx r13d,byte [r13]"),
        (|a| a.load(Size::W, RAX, Rm::M(12, 8)), "movzx eax,word [r12+8]"),
        (|a| a.load(Size::D, RAX, Rm::M(RDI, 0x200)), "mov eax,[rdi+200h]"),
        (|a| a.load(Size::Q, 10, Rm::X(14)), "mov r10,[rax+r14]"),
        (|a| a.store(Size::B, RSI, Rm::M(RAX, 0)), "mov [rax],sil"),
        (|a| a.store(Size::W, 9, Rm::X(RSI)), "mov [rax+rsi],r9w"),
        (|a| a.store_imm(Size::B, -1, Rm::X(RBX)), "mov byte [rax+rbx],0FFh"),
        (|a| a.store_imm(Size::W, 0x1234, Rm::M(RDI, 4)), "mov word [rdi+4],1234h"),
        (|a| a.store_imm(Size::Q, -2, Rm::M(RBP, -8)), "mov qword [rbp-8],0FFFFFFFFFFFFFFFEh"),
        (|a| a.alu(Size::B, Alu::Cmp, 8, Rm::R(RBX)), "cmp r8b,bl"),
        (|a| a.alu(Size::Q, Alu::Add, RAX, Rm::M(RDI, 16)), "add rax,[rdi+10h]"),
        (|a| a.alu_imm(Size::W, Alu::Cmp, Rm::R(9), 0x1234), "cmp r9w,1234h"),
        (|a| a.alu_imm(Size::B, Alu::Cmp, Rm::R(RBX), -1), "cmp bl,0FFh"),
        (|a| a.alu_imm(Size::D, Alu::And, Rm::R(15), 0xff), "and r15d,0FFh"),
        (|a| a.alu_imm(Size::Q, Alu::Sub, Rm::R(RSP), 32), "sub rsp,20h"),
        (|a| a.lea_sum(Size::Q, RBX, 13, 8), "lea rbx,[r13+r8]"),
        (|a| a.lea_sum(Size::D, 8, RAX, RCX), "lea r8d,[rax+rcx]"),
        (|a| a.rm(Size::Q, op::LEA, RBX, Rm::M(12, -300)), "lea rbx,[r12-12Ch]"),
        (|a| a.imul_imm(Size::D, 8, 9, 1000), "imul r8d,r9d,3E8h"),
        (|a| a.shift_imm(Size::B, Shift::Rol, 10, 3), "rol r10b,3"),
        (|a| a.shift_cl(Size::Q, Shift::Sar, RBX), "sar rbx,cl"),
        (|a| a.group3(Size::Q, MUL, 9), "mul r9"),
        (|a| a.set(4, RAX), "sete al"),
        (|a| a.cmov(Size::D, 0xc, 8, RBX), "cmovl r8d,ebx"),
        (|a| a.bswap(Size::Q, 12), "bswap r12"),
        (|a| a.counting(Size::Q, op::POPCNT, 8, Rm::R(9)), "popcnt r8,r9"),
        (|a| a.locked(Size::W, op::CMPXCHG, RCX, Rm::M(RDX, 0)), "lock cmpxchg [rdx],cx"),
        (|a| a.locked(Size::B, op::XADD, RAX, Rm::M(9, 0)), "lock xadd [r9],al"),
        (|a| a.jmp_to(RAX), "jmp rax"),
    ];
    for (emit, text) in table {
        let mut asm = Asm::default();
        emit(&mut asm);
        let mut decoder = iced_x86::Decoder::new(64, &asm.code, iced_x86::DecoderOptions::NONE);
        let (insn, mut read) = (decoder.decode(), String::new());
        iced_x86::Formatter::format(&mut iced_x86::NasmFormatter::new(), &insn, &mut read);
        assert_eq!((read.as_str(), insn.len()), (text, asm.code.len()), "{:02x?}", asm.code);
    }
}

/// Words that a function sees; after them room for what it stores.
const INPUTS: i32 = 16;
const WORDS: usize = 256;
const TYPES: [Type; 4] = [types::I8, types::I16, types::I32, types::I64];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 20) as usize % n
    }
}

/// Takes away every register that a call by the platform's convention may, and gives back something of what it was given.
///
/// # Safety
/// Generated code calls it, with the address of at least two words.
#[unsafe(naked)]
unsafe extern "C" fn clobbering() {
    std::arch::naked_asm!(
        "lea rax, [rsi + rdx*2]",
        "add qword ptr [rdi + 8], 1",
        "mov rcx, -1",
        "mov rdx, rcx",
        "mov rsi, rcx",
        "mov rdi, rcx",
        "mov r8, rcx",
        "mov r9, rcx",
        "mov r10, rcx",
        "mov r11, rcx",
        "ret",
    )
}

/// A function being made up.
struct Made<'a> {
    b: FunctionBuilder<'a>,
    r: &'a mut Random,
    state: Value,
    values: Vec<Value>,
    helper: SigRef,
    stored: i32,
}

impl Made<'_> {
    fn flags() -> MemFlagsData {
        MemFlagsData::trusted()
    }

    /// A value of a type: mostly a recent one.
    fn some(&mut self, t: Type) -> Value {
        let all: Vec<Value> =
            self.values.iter().copied().filter(|v| self.b.func.dfg.value_type(*v) == t).collect();
        if all.is_empty() || self.r.below(6) == 0 {
            let near = [0, 1, 2, 0x7f, 0x80, 0xff, -1, -128, i64::MIN, 0x8000_0000, 0x1_0000_0000];
            let c = if self.r.below(2) == 0 { near[self.r.below(near.len())] } else { self.r.next() as i64 };
            let c = if t == types::I64 { c } else { c & ((1 << t.bits()) - 1) };
            return self.b.ins().iconst(t, c);
        }
        let from = match self.r.below(4) {
            0 => 0,
            1 => all.len() - 1,
            _ => all.len().saturating_sub(6),
        };
        all[from + self.r.below(all.len() - from)]
    }

    fn store(&mut self, v: Value) {
        let at = (INPUTS + self.stored % (WORDS as i32 - INPUTS)) * 8;
        self.stored += 1;
        let state = self.state;
        self.b.ins().store(Self::flags(), v, state, at);
    }

    fn condition(&mut self) -> IntCC {
        use IntCC::*;
        let all = [
            Equal,
            NotEqual,
            SignedLessThan,
            SignedGreaterThanOrEqual,
            SignedLessThanOrEqual,
            SignedGreaterThan,
            UnsignedLessThan,
            UnsignedGreaterThanOrEqual,
            UnsignedLessThanOrEqual,
            UnsignedGreaterThan,
        ];
        all[self.r.below(all.len())]
    }

    fn instruction(&mut self) {
        let t = TYPES[self.r.below(4)];
        let state = self.state;
        let v = match self.r.below(30) {
            0..3 => {
                let at = self.r.below(INPUTS as usize) as i32 * 8;
                self.b.ins().load(t, Self::flags(), state, at)
            }
            n @ 3..9 => {
                let (x, y) = (self.some(t), self.some(t));
                let i = self.b.ins();
                match n {
                    3 => i.iadd(x, y),
                    4 => i.isub(x, y),
                    5 => i.band(x, y),
                    6 => i.bor(x, y),
                    7 => i.bxor(x, y),
                    _ => i.imul(x, y),
                }
            }
            n @ 9..14 => {
                let by = TYPES[self.r.below(4)];
                let (x, y) = (self.some(t), self.some(by));
                let i = self.b.ins();
                match n {
                    9 => i.ishl(x, y),
                    10 => i.ushr(x, y),
                    11 => i.sshr(x, y),
                    12 => i.rotl(x, y),
                    _ => i.rotr(x, y),
                }
            }
            n @ 14..17 => {
                let (from, to) = (self.r.below(3), self.r.below(3));
                let (from, to) = if from <= to { (from, to + 1) } else { (to, from) };
                let (narrow, wide) = (TYPES[from], TYPES[to]);
                let x = self.some(if n == 16 { wide } else { narrow });
                match n {
                    14 => self.b.ins().uextend(wide, x),
                    15 => self.b.ins().sextend(wide, x),
                    _ => self.b.ins().ireduce(narrow, x),
                }
            }
            17 => {
                let x = self.some(t);
                self.b.ins().bnot(x)
            }
            18 => {
                let x = self.some(t);
                self.b.ins().ineg(x)
            }
            19 => {
                let x = self.some(types::I64);
                self.b.ins().bswap(x)
            }
            n @ 20..22 => {
                let (x, y) = (self.some(types::I64), self.some(types::I64));
                if n == 20 { self.b.ins().umulhi(x, y) } else { self.b.ins().smulhi(x, y) }
            }
            22 => {
                let (x, y) = (self.some(t), self.some(t));
                let c = self.condition();
                self.b.ins().icmp(c, x, y)
            }
            23 => {
                let (c, x, y) = (self.some(types::I8), self.some(t), self.some(t));
                self.b.ins().select(c, x, y)
            }
            24 => {
                let to = TYPES[self.r.below(4)];
                let (x, y, p, q) = (self.some(t), self.some(t), self.some(to), self.some(to));
                let c = self.condition();
                let c = self.b.ins().icmp(c, x, y);
                self.b.ins().select(c, p, q)
            }
            25 => {
                let (x, y) = (self.some(types::I64), self.some(types::I64));
                let f = self.b.ins().iconst(types::I64, clobbering as *const () as i64);
                let call = self.b.ins().call_indirect(self.helper, f, &[state, x, y]);
                self.b.inst_results(call)[0]
            }
            26 => {
                use AtomicRmwOp::{Add, And, Or, Sub, Xchg, Xor};
                let what = [Add, Sub, And, Or, Xor, Xchg][self.r.below(6)];
                let x = self.some(t);
                self.b.ins().atomic_rmw(t, Self::flags(), what, state, x)
            }
            27 => {
                let (x, y) = (self.some(t), self.some(t));
                self.b.ins().atomic_cas(Self::flags(), state, x, y)
            }
            28 => {
                let x = self.some(types::I8);
                let wide = TYPES[2 + self.r.below(2)];
                let y = self.some(wide);
                match self.r.below(3) {
                    0 => self.b.ins().popcnt(x),
                    1 => self.b.ins().clz(y),
                    _ => self.b.ins().ctz(y),
                }
            }
            _ => {
                let x = self.some(t);
                return self.store(x);
            }
        };
        self.values.push(v);
    }

    /// Leaves, at a place of its own, when something made up is so.
    fn side_exit(&mut self) {
        let t = TYPES[self.r.below(4)];
        let (x, y, c) = (self.some(t), self.some(t), self.condition());
        let c = self.b.ins().icmp(c, x, y);
        let (cold, on) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(cold);
        self.b.ins().brif(c, cold, &[], on, &[]);
        self.b.switch_to_block(cold);
        for _ in 0..3 {
            let x = self.some(types::I64);
            self.store(x);
        }
        self.b.ins().return_(&[]);
        self.b.switch_to_block(on);
    }

    /// Two ways that meet, with a value from each.
    fn diamond(&mut self) {
        let t = TYPES[self.r.below(4)];
        let c = self.some(types::I8);
        let (yes, no, both) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        if self.r.below(2) == 0 {
            self.b.set_cold_block(no);
        }
        let met = self.b.append_block_param(both, t);
        let before = self.values.len();
        self.b.ins().brif(c, yes, &[], no, &[]);
        for block in [yes, no] {
            self.b.switch_to_block(block);
            for _ in 0..self.r.below(5) {
                self.instruction();
            }
            let v = self.some(t);
            self.b.ins().jump(both, &[v.into()]);
            self.values.truncate(before);
        }
        self.b.switch_to_block(both);
        self.values.push(met);
    }

    /// A block that goes back to its beginning three times; a counter in memory says so.
    fn again(&mut self) {
        let (top, out) = (self.b.create_block(), self.b.create_block());
        let (state, at) = (self.state, (WORDS as i32 - 1) * 8);
        let three = self.b.ins().iconst(types::I64, 3);
        self.b.ins().store(Self::flags(), three, state, at);
        self.b.ins().jump(top, &[]);
        self.b.switch_to_block(top);
        let before = self.values.len();
        for _ in 0..4 {
            self.instruction();
        }
        let x = self.some(types::I32);
        self.store(x);
        let count = self.b.ins().load(types::I64, Self::flags(), state, at);
        let count = self.b.ins().iadd_imm_s(count, -1);
        self.b.ins().store(Self::flags(), count, state, at);
        self.b.ins().brif(count, top, &[], out, &[]);
        self.values.truncate(before);
        self.b.switch_to_block(out);
    }
}

fn function(seed: u64) -> Function {
    let mut r = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut func = Function::new();
    func.signature = Signature::new(CallConv::Tail);
    func.signature.params.push(AbiParam::new(types::I64));
    let mut context = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut func, &mut context);
    let mut helper = Signature::new(CallConv::SystemV);
    helper.params.extend([AbiParam::new(types::I64); 3]);
    helper.returns.push(AbiParam::new(types::I64));
    let helper = b.import_signature(helper);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let state = b.block_params(entry)[0];
    let steps = 5 + r.below(60);
    let mut m = Made { b, r: &mut r, state, values: Vec::new(), helper, stored: 0 };
    for _ in 0..steps {
        match m.r.below(12) {
            0 => m.side_exit(),
            1 if m.r.below(2) == 0 => m.diamond(),
            1 => m.again(),
            _ => m.instruction(),
        }
    }
    // Not all: the others' registers are free before the end.
    for v in m.values.clone() {
        if m.r.below(3) == 0 {
            m.store(v);
        }
    }
    m.b.ins().return_(&[]);
    m.b.seal_all_blocks();
    let isa = isa();
    m.b.finalize(isa.frontend_config());
    func
}

/// What is above a value that has lost its upper half does not come back.
#[test]
fn a_narrowed_value_is_widened_with_zeros() {
    for (narrow, expected) in [(types::I32, 0x9abc_def0), (types::I16, 0xdef0), (types::I8, 0xf0)] {
        let mut func = Function::new();
        func.signature = Signature::new(CallConv::Tail);
        func.signature.params.push(AbiParam::new(types::I64));
        let mut context = FunctionBuilderContext::new();
        let mut b = FunctionBuilder::new(&mut func, &mut context);
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        let state = b.block_params(entry)[0];
        let x = b.ins().load(types::I64, MemFlagsData::trusted(), state, 0);
        let x = b.ins().ireduce(narrow, x);
        let x = b.ins().uextend(types::I64, x);
        b.ins().store(MemFlagsData::trusted(), x, state, 8);
        b.ins().return_(&[]);
        b.seal_all_blocks();
        b.finalize(isa().frontend_config());
        let code = Quick::new(Features::default()).compile(&func).expect("all of it is known").code;
        let mut words = [0; WORDS];
        words[0] = 0x1234_5678_9abc_def0;
        run(&code, &mut words);
        assert_eq!(words[1], expected, "{narrow}\n{}", x86::show::listing(&code, 0, 64));
    }
}

fn isa() -> cranelift_codegen::isa::OwnedTargetIsa {
    let mut flags = cranelift_codegen::settings::builder();
    cranelift_codegen::settings::Configurable::set(&mut flags, "preserve_frame_pointers", "true")
        .expect("a flag");
    let flags = cranelift_codegen::settings::Flags::new(flags);
    let mut builder = cranelift_codegen::isa::lookup_by_name("x86_64-unknown-linux-gnu").expect("a target");
    cranelift_codegen::settings::Configurable::enable(&mut builder, "has_popcnt").expect("a feature");
    builder.finish(flags).expect("a target")
}

/// Runs code on `words`.
fn run(code: &[u8], words: &mut [u64; WORDS]) {
    let mut map = memmap2::MmapMut::map_anon(code.len()).expect("memory");
    map[..code.len()].copy_from_slice(code);
    let map = map.make_exec().expect("executable memory");
    let frame = std::mem::MaybeUninit::<crate::layout::JitFrame>::zeroed();
    // SAFETY: the code is a whole function of the tail convention, with accesses to `words` alone; `enter` gives it the first
    // argument as it is, saves what it may change, and writes the stack pointer to the frame only.
    unsafe { crate::thunks::enter(words.as_mut_ptr().cast(), map.as_ptr(), frame.as_ptr().cast_mut()) };
}

/// The threshold for compiling is that of the back end that this host has.
#[test]
fn it_is_there_where_it_is_said_to_be() {
    let options = crate::compile::Options { optimise: false, parallel: false, verify: false };
    let isa = crate::compile::host_isa(options).expect("this host");
    let known = isa.name() == "x64" && isa.default_call_conv() == CallConv::SystemV;
    assert_eq!(known, crate::compile::Compiler::is_quick_here());
}

/// The same function by both back ends does the same to memory.
#[test]
fn random_functions_do_what_cranelifts_do() {
    let isa = isa();
    let mut quick = Quick::new(Features {
        popcnt: std::is_x86_feature_detected!("popcnt"),
        lzcnt: std::is_x86_feature_detected!("lzcnt"),
        bmi1: std::is_x86_feature_detected!("bmi1"),
    });
    let (mut framed, mut declined) = (0, 0);
    let functions = 3000;
    for seed in 1..=functions {
        let func = function(seed);
        let Some(ours) = quick.compile(&func) else {
            declined += 1;
            continue;
        };
        framed += u32::from(
            ours.code[4..].starts_with(&[0x48, 0x83, 0xec])
                || ours.code[4..].starts_with(&[0x48, 0x81, 0xec]),
        );
        let mut context = Context::for_function(func.clone());
        let theirs = context.compile(&*isa, &mut ControlPlane::default()).expect("compiles");
        assert!(theirs.buffer.relocs().is_empty());
        let mut r = Random(seed);
        for _ in 0..3 {
            let mut words: [u64; WORDS] = std::array::from_fn(|_| r.next() >> (r.below(8) * 8));
            let mut expected = words;
            run(&ours.code, &mut words);
            run(theirs.code_buffer(), &mut expected);
            assert_eq!(
                words,
                expected,
                "seed {seed}\n{}\n{}",
                func.display(),
                x86::show::listing(&ours.code, 0, 64)
            );
        }
    }
    assert!(framed > 300, "{framed} functions need slots");
    assert!(declined < functions / 20, "{declined} declined");
    println!("{framed} with slots, {declined} declined");
}
