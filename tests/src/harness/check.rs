//! `check("add eax, ecx", regs!{eax: 1, ecx: !0}, expect!{eax: 0, flags: CF|ZF|PF|AF})`: one line of assembly runs in
//! every tier and, where the host is an x86-64 Linux, on the host's CPU; expectations hold everywhere, and all agree.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};

use super::asm::assemble;
use super::bounds;
use super::guest::{self, Bits, TIERS};
use super::host;
use super::items::Item;
use super::layout::{CODE, DATA, STACK};
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
        let tiers = guest::run_all(self.bits, self.cpl, &code, &before);
        let undefined = insns.last().map_or(0, |x| undefined::flags(x, &before));
        for (tier, after) in TIERS.iter().zip(&tiers) {
            self.judge(&before, after, &code, undefined, &format!("tier {tier:?}"), &mut complaints);
        }
        complaints.extend(between_tiers(&tiers));
        if self.ask_host
            && let Some(after) = host::run(self.bits, &code, &insns, &before)
        {
            let undefined = insns.iter().fold(0, |m, x| m | undefined::flags(x, &before));
            for d in against_host(
                &tiers[0],
                &after,
                &insns,
                &before,
                VISIBLE & !undefined,
                undefined::status(&insns),
            ) {
                complaints.push(format!("tier 0 / host: {d}"));
            }
        }
        if complaints.is_empty() {
            return;
        }
        let would = suggestion(&before, &tiers[0], self.bits, undefined);
        if std::env::var_os("RETRO_SHOW").is_some() && complaints.iter().all(|c| c.starts_with("expected")) {
            println!("SHOW {}: {would}", std::panic::Location::caller());
            return;
        }
        let hex: Vec<_> = code.iter().map(|b| format!("{b:02x}")).collect();
        panic!(
            "`{}` ({:?}, CPL {}, {})\n  {}\n  tier 0 gave {would}",
            self.line,
            self.bits,
            self.cpl,
            hex.join(" "),
            complaints.join("\n  ")
        );
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
            s.high[8..].fill(0);
            s.xmm[8..].fill(0);
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
        want.state.high = before.high;
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

/// What happened, in the language of expectations. With `RETRO_SHOW` set, checks that fail for their expectations only
/// print it and go on: to write new ones by.
fn suggestion(before: &State, after: &After, bits: Bits, undefined: u64) -> String {
    let mut items = Vec::new();
    let (b, a) = (before, &after.state);
    if after.end.vector != 3 {
        let name = match after.end.vector {
            0 => "DE".into(),
            1 => "DB".into(),
            4 => "OVERFLOW".into(),
            5 => "BR".into(),
            6 => "UD".into(),
            11 => "NP".into(),
            12 => "SS".into(),
            13 => "GP".into(),
            14 => "PAGE".into(),
            16 => "MF".into(),
            17 => "AC".into(),
            19 => "XM".into(),
            n => n.to_string(),
        };
        items.push(format!("fault: {name}"));
        items.extend(after.end.code.map(|c| format!("code: {c:#x}")));
        items.extend(after.end.cr2.map(|c| format!("cr2: {c:#x}")));
    }
    let names = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
    for n in (0..16).filter(|n| a.gpr[*n] != b.gpr[*n]) {
        let name = match (bits, n) {
            (Bits::Long, 0..8) => format!("r{}", names[n]),
            (_, 0..8) => format!("e{}", names[n]),
            _ => format!("r{n}"),
        };
        items.push(format!("{name}: {:#x}", a.gpr[n]));
    }
    for n in (0..16).filter(|n| a.xmm[*n] != b.xmm[*n]) {
        items.push(format!("xmm{n}: v({:#x}, {:#x})", (a.xmm[n] >> 64) as u64, a.xmm[n] as u64));
    }
    for n in (0..16).filter(|n| a.high[*n] != b.high[*n]) {
        items.push(format!("high{n}: v({:#x}, {:#x})", (a.high[n] >> 64) as u64, a.high[n] as u64));
    }
    let flags = a.rflags & !undefined & (ARITH | 1 << 10);
    items.push(format!("flags: {}", if flags == 0 { "NONE".into() } else { flag_names(flags) }));
    if a.mxcsr != b.mxcsr {
        items.push(format!("mxcsr: {:#x}", a.mxcsr));
    }
    if a.fp != b.fp {
        items.push(format!("fsw: {:#x}, ftag: {:#x}", a.fp.sw, a.fp.tag));
        for (n, v) in
            a.fp.st
                .iter()
                .enumerate()
                .filter(|(n, _)| a.fp.tag >> (((a.fp.sw >> 11) as usize + n) & 7) & 1 != 0)
        {
            let hex: String = v.iter().rev().map(|b| format!("{b:02x}")).collect();
            items.push(format!("st{n}: 0x{hex}"));
        }
    }
    for (name, base, b, a) in [("DATA", DATA, &b.data, &a.data), ("STACK", STACK, &b.stack, &a.stack)] {
        let mut k = 0;
        while k < a.len() {
            if a[k] == b[k] {
                k += 1;
                continue;
            }
            let end = (k..a.len().min(k + 8)).rev().find(|n| a[*n] != b[*n]).map_or(k + 1, |n| n + 1);
            let hex: String = a[k..end].iter().rev().map(|b| format!("{b:02x}")).collect();
            debug_assert!(base == DATA || base == STACK);
            items.push(format!("[{name} + {k:#x}; {}]: 0x{hex}", end - k));
            k = end;
        }
    }
    format!("expect! {{{}}}", items.join(", "))
}

/// The instructions in `code`.
pub fn decode(code: &[u8], bits: Bits, origin: u64) -> Vec<Instruction> {
    Decoder::with_ip(bits.number(), code, origin, DecoderOptions::NONE).iter().collect()
}

/// What differs between the tiers.
pub fn between_tiers(tiers: &[After; TIERS.len()]) -> Vec<String> {
    let others = TIERS.iter().zip(tiers).skip(1);
    others
        .flat_map(|(tier, after)| {
            let found = differences(&tiers[0], after, Compare::TIERS);
            found.into_iter().map(move |d| format!("tier Zero / tier {tier:?}: {d}"))
        })
        .collect()
}

/// What differs between ours and the host's end of the same code; `flags` and `sw` are those bits that count.
pub fn against_host(
    ours: &After,
    host: &After,
    insns: &[Instruction],
    before: &State,
    flags: u64,
    sw: u16,
) -> Vec<String> {
    let mut ours = ours.clone();
    let mut host = host.clone();
    if let [x] = insns {
        bounds::settle(x, before, &ours, &mut host);
    } else if insns.iter().any(host::differs_between_makers) {
        // Only that it ended in the same way.
        host.state.clone_from(&ours.state);
    } else if insns.iter().any(|x| x.mnemonic() == Mnemonic::Vcvtps2ph) {
        bounds::settle_flags(&ours, &mut host);
    }
    if ours.end.vector != 3 && insns.iter().any(|x| (0..x.op_count()).any(|n| x.op_register(n).is_mm())) {
        // Has a faulting MMX instruction switched the x87 unit to MMX state? Some processors have.
        host.state.fp.clone_from(&ours.state.fp);
    }
    // The upper register halves are not there outside 64-bit mode, nor is the saved RFLAGS.RF anyone's.
    ours.state.rflags &= VISIBLE;
    differences(&ours, &host, Compare { flags, sw, ..Compare::HOST })
}
