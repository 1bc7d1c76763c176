//! `check("add eax, ecx", regs!{eax: 1, ecx: !0}, expect!{eax: 0, flags: CF|ZF|PF|AF})`: one line of assembly runs in
//! every tier and, where the host is an x86-64 Linux, on the host's CPU; expectations hold everywhere, and all agree.

use iced_x86::{Decoder, DecoderOptions, Instruction};

use super::asm::assemble;
use super::guest::{self, Bits, TIERS};
use super::host;
use super::items::Item;
use super::layout::{CODE, STACK};
use super::state::{ARITH, After, Compare, State, VISIBLE, differences, flag_names};
use super::undefined;

/// A check with everything that can vary.
#[derive(Clone, Debug)]
pub struct Check {
    line: String,
    bits: Bits,
    cpl: u8,
    before: Vec<Item>,
    expect: Vec<Item>,
    ask_host: bool,
}

/// 64-bit code.
#[track_caller]
pub fn check(line: &str, before: Vec<Item>, expect: Vec<Item>) {
    Check::new(Bits::Long, line).before(before).expect(expect).run();
}

/// 32-bit protected-mode code.
#[track_caller]
pub fn check32(line: &str, before: Vec<Item>, expect: Vec<Item>) {
    Check::new(Bits::Flat32, line).before(before).expect(expect).run();
}

/// 16-bit code, in protected and in real mode. The host cannot be asked.
#[track_caller]
pub fn check16(line: &str, before: Vec<Item>, expect: Vec<Item>) {
    for bits in [Bits::Protected16, Bits::Real] {
        Check::new(bits, line).before(before.clone()).expect(expect.clone()).run();
    }
}

impl Check {
    /// A check of a line at CPL 3 (real mode: 0).
    pub fn new(bits: Bits, line: &str) -> Self {
        let cpl = if bits == Bits::Real { 0 } else { 3 };
        Self { line: line.into(), bits, cpl, before: vec![], expect: vec![], ask_host: true }
    }
    /// At CPL 0. The host cannot be asked.
    pub fn kernel(mut self) -> Self {
        (self.cpl, self.ask_host) = (0, false);
        self
    }
    /// The host's answer would be another (a processor or a kernel of another kind).
    pub fn without_host(mut self) -> Self {
        self.ask_host = false;
        self
    }
    /// Registers and memory before.
    pub fn before(mut self, items: Vec<Item>) -> Self {
        self.before = items;
        self
    }
    /// What is expected.
    pub fn expect(mut self, items: Vec<Item>) -> Self {
        self.expect = items;
        self
    }

    /// Runs it; panics with everything that is not as expected.
    #[track_caller]
    pub fn run(self) {
        let origin = if self.bits.is_flat() { CODE } else { 0 };
        let code = assemble(&self.line, self.bits.number(), origin);
        let insns = decode(&code, self.bits, origin);
        let before = self.start(origin);
        let mut complaints = Vec::new();
        let tiers: Vec<After> =
            (0..TIERS.len()).map(|t| guest::run(t, self.bits, self.cpl, &code, &before)).collect();
        let undefined = insns.last().map_or(0, |x| undefined::flags(x, &before));
        for (tier, after) in TIERS.iter().zip(&tiers) {
            self.judge(&before, after, &code, undefined, &format!("tier {tier:?}"), &mut complaints);
        }
        for d in differences(&tiers[0], &tiers[1], Compare::TIERS) {
            complaints.push(format!("tier 0 / tier 1: {d}"));
        }
        if self.ask_host
            && let Some(after) = host::run(self.bits, &code, &insns, &before)
        {
            let undefined = insns.iter().fold(0, |m, x| m | undefined::flags(x, &before));
            for d in against_host(&tiers[0], &after, &insns, VISIBLE & !undefined) {
                complaints.push(format!("tier 0 / host: {d}"));
            }
        }
        if !complaints.is_empty() {
            let hex: Vec<_> = code.iter().map(|b| format!("{b:02x}")).collect();
            panic!(
                "`{}` ({:?}, CPL {}, {})\n  {}",
                self.line,
                self.bits,
                self.cpl,
                hex.join(" "),
                complaints.join("\n  ")
            );
        }
    }

    fn start(&self, origin: u64) -> State {
        let mut s = State { rip: origin, ..State::default() };
        match self.bits.number() {
            32 => s.gpr.iter_mut().for_each(|g| *g &= 0xffff_ffff),
            16 => {
                s.gpr.iter_mut().for_each(|g| *g &= 0xffff_ffff);
                s.gpr[4] -= STACK;
            }
            _ => {}
        }
        if self.bits != Bits::Long {
            s.gpr[8..].fill(0);
            (s.fs_base, s.gs_base) = (0, 0);
        }
        for i in &self.before {
            assert!(i.apply(&mut s), "{i:?} is nothing to begin with");
        }
        s
    }

    /// One run against the expectations.
    fn judge(
        &self,
        before: &State,
        after: &After,
        code: &[u8],
        undefined: u64,
        who: &str,
        out: &mut Vec<String>,
    ) {
        let mut want = after.clone();
        want.state.gpr = before.gpr;
        want.state.xmm = before.xmm;
        want.state.data.clone_from(&before.data);
        want.state.stack.clone_from(&before.stack);
        want.state.rip = before.rip + code.len() as u64 + 1;
        want.end.vector = 3;
        want.report = None;
        let mut listed_flags = false;
        for i in &self.expect {
            if let Item::Named(name, v) = *i {
                match name {
                    "fault" => {
                        want.end.vector = v as u8;
                        // Faults leave RIP at the instruction, which is the first unless `rip` is listed.
                        want.state.rip = before.rip;
                    }
                    "code" => want.end.code = Some(v as u32),
                    "cr2" => want.end.cr2 = Some(v as u64),
                    _ => {}
                }
                listed_flags |= name == "flags";
            }
        }
        for i in &self.expect {
            i.apply(&mut want.state);
        }
        if self.cpl == 0 && self.bits != Bits::Long {
            // The exception's frame lies on the program's stack.
            let sp = (after.state.gpr[4] as usize).wrapping_sub(if self.bits.is_flat() {
                STACK as usize
            } else {
                0
            });
            for k in sp.saturating_sub(16)..sp.min(want.state.stack.len()) {
                want.state.stack[k] = after.state.stack[k];
            }
        }
        let how = Compare { flags: 0, ..Compare::TIERS };
        out.extend(differences(&want, after, how).into_iter().map(|d| format!("expected / {who}: {d}")));
        let mask = (ARITH | 1 << 10) & !undefined;
        let (f, g) = (want.state.rflags & mask, after.state.rflags & mask);
        if listed_flags && f != g {
            out.push(format!("expected / {who}: flags {} / {}", flag_names(f), flag_names(g)));
        }
    }
}

/// The instructions in `code`.
pub fn decode(code: &[u8], bits: Bits, origin: u64) -> Vec<Instruction> {
    Decoder::with_ip(bits.number(), code, origin, DecoderOptions::NONE).iter().collect()
}

/// What differs between ours and the host's end of the same code; `flags` are those that count.
pub fn against_host(ours: &After, host: &After, insns: &[Instruction], flags: u64) -> Vec<String> {
    let mut ours = ours.clone();
    let mut host = host.clone();
    if host.end.vector == 13 && matches!(ours.end.vector, 4 | 5) {
        // One signal stands for #GP, #BR and #OF.
        host.end.vector = ours.end.vector;
    }
    let differs = insns.iter().any(host::differs_between_makers);
    if differs {
        // Only that it ended in the same way.
        host.state.clone_from(&ours.state);
    }
    if ours.end.vector != 3 && insns.iter().any(|x| (0..x.op_count()).any(|n| x.op_register(n).is_mm())) {
        // Has a faulting MMX instruction switched the x87 unit to MMX state? Some processors have.
        host.state.fp.clone_from(&ours.state.fp);
    }
    let sw = undefined::status(insns);
    // The upper register halves are not there outside 64-bit mode, nor is the saved RFLAGS.RF anyone's.
    ours.state.rflags &= VISIBLE;
    differences(&ours, &host, Compare { flags, sw, ..Compare::HOST })
}
