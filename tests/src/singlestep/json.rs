//! The older format: an array of objects.

use serde_json::Value;

use super::{Case, Exception, NAMES, Registers, SHORT, Snapshot, Vectors};

const SHORT_NAMES: [&str; 14] =
    ["ax", "bx", "cx", "dx", "cs", "ss", "ds", "es", "sp", "bp", "si", "di", "ip", "flags"];

/// Takes a whole file apart.
pub fn parse(bytes: &[u8]) -> Result<Vectors, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|e| format!("JSON: {e}"))?;
    let all = value.as_array().ok_or("not an array of tests")?;
    let cases = all.iter().enumerate().map(|(n, v)| case(v).map_err(|e| format!("test {n}: {e}")));
    let mut vectors = Vectors { cases: cases.collect::<Result<_, _>>()?, ..Vectors::default() };
    if all.first().is_some_and(|v| !v["initial"]["regs"]["eax"].is_null()) {
        vectors.cpu = "386".into();
    }
    Ok(vectors)
}

fn number(v: &Value, what: &str) -> Result<u32, String> {
    v.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| format!("{what} is not a number"))
}

fn byte(v: &Value, what: &str) -> Result<u8, String> {
    number(v, what)?.try_into().map_err(|_| format!("{what} is not a byte"))
}

fn case(v: &Value) -> Result<Case, String> {
    let bytes = v["bytes"].as_array().ok_or("there are no bytes")?;
    let exception = match &v["exception"] {
        Value::Null => None,
        e => Some(Exception {
            number: byte(&e["number"], "the exception")?,
            flags_at: number(&e["flag_address"], "the flags' address")?,
        }),
    };
    Ok(Case {
        index: v["idx"].as_u64().unwrap_or(0) as u32,
        name: v["name"].as_str().unwrap_or("").into(),
        bytes: bytes.iter().map(|b| byte(b, "an instruction byte")).collect::<Result<_, _>>()?,
        initial: snapshot(&v["initial"]).map_err(|e| format!("initial: {e}"))?,
        last: snapshot(&v["final"]).map_err(|e| format!("final: {e}"))?,
        mask: Registers::default(),
        exception,
        shuts_down: false,
        hash: v["hash"].as_str().and_then(super::metadata::hash_of),
    })
}

fn snapshot(v: &Value) -> Result<Snapshot, String> {
    let mut state = Snapshot::default();
    for (name, value) in v["regs"].as_object().ok_or("there are no registers")? {
        let index = SHORT_NAMES.iter().position(|n| n == name).map(|n| SHORT[n]);
        let index = index.or(NAMES.iter().position(|n| n == name));
        let index = index.ok_or_else(|| format!("there is no register \"{name}\""))?;
        state.registers[index] = Some(number(value, name)?);
    }
    for entry in v["ram"].as_array().ok_or("there is no memory")? {
        state.ram.push((number(&entry[0], "an address")?, byte(&entry[1], "a memory byte")?));
    }
    Ok(state)
}
