//! Any bytes as a program: tier 0 against the compiled tiers, from the same state, in every mode, with paging on and
//! off, as a program and as a kernel. Registers, memory, exceptions, instruction counts, and what only a kernel sees.

use super::take;
use crate::harness::generate;
use crate::harness::guest::{self, Bits};
use crate::harness::layout::CODE;
use crate::harness::random::Rng;
use crate::harness::state::{Compare, REPORT, differences};

const MODES: [(Bits, u8); 10] = [
    (Bits::Long, 3),
    (Bits::Long, 0),
    (Bits::Flat32, 3),
    (Bits::Flat32, 0),
    (Bits::Compat32, 3),
    (Bits::Protected16, 3),
    (Bits::Protected16, 0),
    (Bits::Unpaged32, 3),
    (Bits::Unpaged32, 0),
    (Bits::Real, 0),
];
/// Longer programs are cut.
const LONGEST: usize = 512;

/// See the module. The first byte chooses the mode, the next four the state.
pub fn tiers(mut data: &[u8]) {
    let [mode] = take(&mut data);
    let seed = u32::from_le_bytes(take(&mut data));
    let code = &data[..data.len().min(LONGEST)];
    if code.is_empty() {
        return;
    }
    let (bits, cpl) = MODES[usize::from(mode) % MODES.len()];
    let of_registers = if bits.number() == 64 { Bits::Long } else { Bits::Flat32 };
    let mut state = generate::state(&mut Rng(seed.into()), of_registers);
    if bits.number() == 16 {
        state.gpr[4] &= 0x1fff;
        for r in [3, 5, 6, 7] {
            state.gpr[r] &= 0x3fff;
        }
    } else if seed & 1 != 0 {
        // Some pointers that lead somewhere.
        for (r, at) in [(0, 0x2000_0100), (3, 0x2000_0800), (6, 0x2000_1ff0), (7, 0x2000_2000)] {
            state.gpr[r] = at;
        }
    }
    let (zero, system) = guest::run_whole(0, bits, cpl, code, &state);
    for tier in [1, 2] {
        let (after, its) = guest::run_whole(tier, bits, cpl, code, &state);
        if zero.end.vector == REPORT && after.end.vector == REPORT {
            continue;
        }
        let mut wrong = differences(&zero, &after, Compare::TIERS);
        if system != its {
            wrong.push(format!("system state: {system}\n    / {its}"));
        }
        if !wrong.is_empty() {
            let listing: Vec<String> = crate::harness::check::decode(code, bits, CODE)
                .iter()
                .take(40)
                .map(|x| format!("{:x} {x}", x.ip()))
                .collect();
            panic!(
                "tier 0 / tier {tier} ({bits:?}, CPL {cpl}, seed {seed:#x})\n  {}\n  {}",
                listing.join("\n  "),
                wrong.join("\n  ")
            );
        }
    }
}

/// Short random programs.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let modes = [(Bits::Long, 0u8), (Bits::Flat32, 2), (Bits::Compat32, 4)];
    let mut out = Vec::new();
    for (bits, mode) in modes {
        let codes = generate::program_codes(&generate::codes(generate::ALL, bits));
        for n in 0..20u32 {
            let p = generate::program(&mut Rng(n.into()), &codes, bits, 1);
            out.push([&[mode], &(2 * n + 1).to_le_bytes()[..], &p.code].concat());
        }
    }
    // What kernels do.
    let kernels: [&[u8]; 5] = [
        &[0x0f, 0x20, 0xc0, 0x0f, 0x22, 0xc0, 0x0f, 0x01, 0x38, 0xf4],
        &[0xfa, 0xfb, 0x9c, 0x9d, 0xe4, 0x60, 0xee, 0xf4],
        &[0x0f, 0x01, 0x18, 0x0f, 0x01, 0x10, 0xcf],
        &[0x0f, 0x32, 0x0f, 0x30, 0x0f, 0xa2, 0x0f, 0x31],
        &[0x8e, 0xd8, 0x8c, 0xd8, 0xcd, 0x03, 0xea, 0, 0, 0, 0, 0x10, 0],
    ];
    for (code, mode) in kernels.iter().flat_map(|c| [1u8, 3, 6, 8, 9].map(|m| (c, m))) {
        out.push([&[mode], &[1, 0, 0, 0][..], code].concat());
    }
    out
}
