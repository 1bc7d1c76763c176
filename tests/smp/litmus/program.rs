//! A litmus test as a program: many places, gone through by all processors at the same time, then looked at by one.
//!
//! Each value fills its place with equal bytes, so that a load that is not atomic is found. At times there is a PAUSE before or between
//! the acts: where processors take turns, it is there that they change.

use std::fmt::Write as _;

use tests::harness::smp::Program;

use super::model::{Act, Shape};

/// What stands between two acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// Nothing.
    No,
    /// MFENCE.
    Mfence,
    /// A locked operation elsewhere.
    Lock,
    /// Nothing, but stores are by XCHG.
    Xchg,
}

/// Width of the accesses in bytes, and their distance from a multiple of 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// 1, 2, 4, 8 or 16.
    pub width: u32,
    /// Within a cache line.
    pub offset: u32,
}

/// Places that are gone through at a time.
const PLACES: i64 = 64;
/// The bits of the results' index that each value of an outcome has.
pub const VALUE_BITS: u32 = 2;
/// Stands in an outcome for what nobody wrote.
pub const TORN: u8 = 3;

/// `rounds` times [`PLACES`] tests. Its results: how often each outcome came, by [`VALUE_BITS`] for each value.
pub fn program(shape: &Shape, fence: Fence, form: Form, rounds: i64, seed: i64) -> Program {
    let mut text = String::from(BEGIN);
    for (thread, acts) in shape.threads.iter().enumerate() {
        let _ = write!(text, "acts_{thread}:\ncall random; mov edx, eax\n");
        let _ = write!(text, "test edx, 0x70; jne .now; pause\n.now: test edx, 7; je .slow\n");
        text += &body(acts, fence, form, "");
        text += "jmp .over\n.slow:\n";
        text += &body(acts, fence, form, "test edx, 8; jne L; pause\nL:\n");
        text += ".over:\n";
        for load in 0..loads(acts) {
            text += &keep(load, form, &format!("r10+{}", load * 16));
        }
        text += "ret\n";
    }
    text += "align 8\nthreads: dq ";
    text += &(0..shape.threads.len()).map(|n| format!("acts_{n}")).collect::<Vec<_>>().join(", ");
    text += "\nlook:\n";
    for (thread, acts) in shape.threads.iter().enumerate() {
        for load in 0..loads(acts) {
            let _ = writeln!(text, "lea edx, [rsi+OUT+{}]; call code", thread * 0x2000 + load * 16);
        }
    }
    for place in shape.last {
        // As by a load, with what it says.
        let register = ["r8", "r9"][*place];
        text += &load(0, register, form);
        text += &keep(0, form, "scratch");
        text += "mov edx, scratch; call code\n";
    }
    text += "ret\n";
    let _ = write!(text, "align 16\nscratch: dq 0, 0\nresults: zero {}\n", 8 << (VALUE_BITS * values(shape)));
    let ones = |n: i64| if form.width >= 8 { n } else { n & ((1 << (8 * form.width)) - 1) };
    let constants = [
        ("ROUNDS", rounds),
        ("PLACES", PLACES),
        ("SEED", seed | 1),
        ("OFFSET", form.offset.into()),
        ("ONE", ones(0x0101_0101_0101_0101)),
        ("TWO", ones(0x0202_0202_0202_0202)),
        ("WIDE", (form.width == 16).into()),
        ("OUT", 0x30_0000),
    ];
    Program::new(shape.threads.len() as u32, &text, &constants)
}

/// Values in an outcome.
pub fn values(shape: &Shape) -> u32 {
    let loads: usize = shape.threads.iter().map(|acts| loads(acts)).sum();
    (loads + shape.last.len()) as u32
}

fn loads(acts: &[Act]) -> usize {
    acts.iter().filter(|act| matches!(act, Act::R(_))).count()
}

/// `between` has a label `L` of its own each time.
fn body(acts: &[Act], fence: Fence, form: Form, between: &str) -> String {
    let mut text = String::new();
    let mut number = 0;
    for (n, act) in acts.iter().enumerate() {
        if n > 0 {
            text += &between.replace('L', &format!(".between{n}"));
            text += match fence {
                Fence::No | Fence::Xchg => "",
                Fence::Mfence => "mfence\n",
                Fence::Lock => "lock or dword [rsp], 0\n",
            };
        }
        match *act {
            Act::W(place, value) => text += &store(["r8", "r9"][place], value, form, fence == Fence::Xchg),
            Act::R(place) => {
                text += &load(number, ["r8", "r9"][place], form);
                number += 1;
            }
        }
    }
    text
}

fn store(at: &str, value: u8, form: Form, exchange: bool) -> String {
    let low = usize::from(value - 1);
    let part = |names: [&str; 4]| names[form.width.trailing_zeros().min(3) as usize].to_owned();
    let register = [part(["bl", "bx", "ebx", "rbx"]), part(["r12b", "r12w", "r12d", "r12"])][low].clone();
    match (form.width, exchange) {
        (16, _) => format!("movaps [{at}], xmm{value}\n"),
        (_, false) => format!("mov [{at}], {register}\n"),
        (_, true) => {
            let spare = part(["al", "ax", "eax", "rax"]);
            format!("mov rax, {}; xchg [{at}], {spare}\n", ["rbx", "r12"][low])
        }
    }
}

fn load(number: usize, at: &str, form: Form) -> String {
    let register = 13 + number;
    match form.width {
        1 => format!("movzx r{register}d, byte [{at}]\n"),
        2 => format!("movzx r{register}d, word [{at}]\n"),
        4 => format!("mov r{register}d, [{at}]\n"),
        8 => format!("mov r{register}, [{at}]\n"),
        _ => format!("movaps xmm{}, [{at}]\n", 3 + number),
    }
}

fn keep(number: usize, form: Form, at: &str) -> String {
    match form.width {
        16 => format!("movups [{at}], xmm{}\n", 3 + number),
        _ => format!("mov [{at}], r{}\n", 13 + number),
    }
}

const BEGIN: &str = "
test:
    mov rbx, ONE; mov r12, TWO
    movq xmm1, rbx; punpcklqdq xmm1, xmm1
    movq xmm2, r12; punpcklqdq xmm2, xmm2
    mov ebp, ROUNDS
.round:
    test edi, edi; jne .clean
    mov r8d, FREE; xor eax, eax
.clear: mov [r8], rax; add r8d, 8; cmp r8d, FREE+0x40000; jne .clear
.clean:
    call barrier
    mov r8d, FREE+OFFSET; mov r9d, FREE+0x20000+OFFSET
    mov r10d, edi; shl r10d, 13; add r10d, OUT
    xor esi, esi
.place:
    // Every other round they meet before each place.
    test ebp, 1; je .go
    call barrier
.go:
    call [rdi*8+threads]
    add r8d, 128; add r9d, 128; add r10d, 64
    inc esi; cmp esi, PLACES; jne .place
    call barrier
    test edi, edi; jne .looked
    xor esi, esi; mov r8d, FREE+OFFSET; mov r9d, FREE+0x20000+OFFSET
.outcome:
    xor r11d, r11d
    call look
    inc qword [r11*8+results]
    add r8d, 128; add r9d, 128
    add esi, 64; cmp esi, PLACES*64; jne .outcome
.looked:
    dec ebp; jne .round
    ret

// Takes the value at EDX into R11: 0, 1, 2, or 3 for what nobody wrote.
code:
    shl r11d, 2
    mov rax, [rdx]
    mov ecx, WIDE; test ecx, ecx; je .whole
    cmp [rdx+8], rax; jne .torn
.whole:
    test rax, rax; je .known
    inc r11d; cmp rax, rbx; je .known
    inc r11d; cmp rax, r12; je .known
    inc r11d
.known: ret
.torn: add r11d, 3; ret
";
