//! Makes vector files: the format's writer, as small as it can be.

use serde_json::{Value, json};
use tests::singlestep::{Case, EIP, NAMES, SHORT, Snapshot, Vectors, short_name};

fn chunk(name: &[u8; 4], payload: &[u8]) -> Vec<u8> {
    [&name[..], &(payload.len() as u32).to_le_bytes(), payload].concat()
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

/// Registers as a 16-bit or 32-bit chunk.
fn registers(registers: &[Option<u32>; 20], wide: bool, mask: bool) -> Vec<u8> {
    let order: Vec<usize> = if wide { (0..20).collect() } else { SHORT.to_vec() };
    let (mut bits, mut values) = (0u32, Vec::new());
    for (bit, index) in order.into_iter().enumerate() {
        if let Some(v) = registers[index] {
            bits |= 1 << bit;
            values.extend_from_slice(&v.to_le_bytes()[..if wide { 4 } else { 2 }]);
        }
    }
    let name = match (wide, mask) {
        (false, false) => b"REGS",
        (true, false) => b"RG32",
        (false, true) => b"RMSK",
        (true, true) => b"RM32",
    };
    chunk(name, &[&bits.to_le_bytes()[..if wide { 4 } else { 2 }], &values].concat())
}

fn snapshot(state: &Snapshot, wide: bool) -> Vec<u8> {
    let mut ram = (state.ram.len() as u32).to_le_bytes().to_vec();
    for (at, byte) in &state.ram {
        ram.extend_from_slice(&at.to_le_bytes());
        ram.push(*byte);
    }
    // A queue, which readers skip.
    [registers(&state.registers, wide, false), chunk(b"RAM ", &ram), chunk(b"QUEU", &[0; 4])].concat()
}

/// A MOO file.
pub fn moo(vectors: &Vectors, wide: bool) -> Vec<u8> {
    let cpu = format!("{:<4}", vectors.cpu);
    let count = vectors.cases.len() as u32;
    let header = [&[1, 1, 0, 0], &count.to_le_bytes()[..], cpu.as_bytes()].concat();
    let mut file = [chunk(b"MOO ", &header), chunk(b"META", &[7; 34])].concat();
    if vectors.mask.iter().any(Option::is_some) {
        file.extend(registers(&vectors.mask, wide, true));
    }
    for case in &vectors.cases {
        let mut parts = vec![
            case.index.to_le_bytes().to_vec(),
            chunk(b"NAME", &counted(case.name.as_bytes())),
            chunk(b"BYTS", &counted(&case.bytes)),
            chunk(b"INIT", &snapshot(&case.initial, wide)),
            chunk(b"FINA", &snapshot(&case.last, wide)),
            chunk(b"CYCL", &[0; 4]),
        ];
        if let Some(e) = case.exception {
            parts.push(chunk(b"EXCP", &[&[e.number], &e.flags_at.to_le_bytes()[..]].concat()));
        }
        if let Some(hash) = case.hash {
            parts.push(chunk(b"HASH", &hash));
        }
        file.extend(chunk(b"TEST", &parts.concat()));
    }
    file
}

/// A JSON file.
pub fn json(vectors: &Vectors, wide: bool) -> Vec<u8> {
    let name = |n: usize| if wide { NAMES[n] } else { short_name(n) };
    let state = |s: &Snapshot| {
        let registers: serde_json::Map<String, Value> =
            (0..20).filter_map(|n| Some((name(n).to_owned(), s.registers[n]?.into()))).collect();
        json!({"regs": registers, "ram": s.ram, "queue": []})
    };
    let case = |c: &Case| {
        let mut v = json!({
            "name": c.name, "bytes": c.bytes, "idx": c.index,
            "initial": state(&c.initial), "final": state(&c.last), "cycles": [],
        });
        if let Some(e) = c.exception {
            v["exception"] = json!({"number": e.number, "flag_address": e.flags_at});
        }
        if let Some(hash) = c.hash {
            v["hash"] = hash.iter().map(|b| format!("{b:02x}")).collect::<String>().into();
        }
        v
    };
    serde_json::to_vec(&vectors.cases.iter().map(case).collect::<Vec<_>>()).unwrap()
}

/// A case with code at CS:IP: all registers are there, those named in `before` have these values.
pub fn case(wide: bool, code: &[u8], before: &[(usize, u32)]) -> Case {
    let mut case = Case { name: format!("{code:02x?}"), bytes: code.to_vec(), ..Case::default() };
    let all: Vec<usize> = if wide { (0..20).collect() } else { SHORT.to_vec() };
    for n in all {
        case.initial.registers[n] = Some(0);
    }
    let common = [(EIP, 0x200), (10, 0x1000), (11, 0x2000), (12, 0x3000), (15, 0x4000), (9, 0x100)];
    for (n, v) in common.into_iter().chain(before.iter().copied()) {
        case.initial.registers[n] = Some(v);
    }
    let at = (case.initial.registers[10].unwrap() << 4) + case.initial.registers[EIP].unwrap();
    case.initial.ram = code.iter().enumerate().map(|(k, b)| (at + k as u32, *b)).collect();
    case
}
