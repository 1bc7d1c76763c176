//! The MOO format, version 1: chunks of a four-letter name, a length and a payload, some of them within others. Chunks
//! that mean nothing here are skipped, as the format asks.

use super::{Case, Exception, Registers, SHORT, Snapshot, Vectors};

/// Bytes with a position, for messages.
#[derive(Clone, Copy)]
struct Bytes<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8], String> {
        if len > self.rest.len() {
            return Err(format!(
                "offset {:#x}: the {what} needs {len} bytes, {} are left",
                self.at,
                self.rest.len()
            ));
        }
        let (head, rest) = self.rest.split_at(len);
        (self.rest, self.at) = (rest, self.at + len);
        Ok(head)
    }

    fn number<const N: usize>(&mut self, what: &str) -> Result<u32, String> {
        let bytes = self.take(N, what)?;
        Ok(bytes.iter().rev().fold(0, |v, b| v << 8 | u32::from(*b)))
    }

    /// The next chunk: its name and its payload.
    fn chunk(&mut self) -> Result<Option<([u8; 4], Bytes<'a>)>, String> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let name = self.take(4, "chunk's name")?;
        let len = self.number::<4>("chunk's length")? as usize;
        let at = self.at;
        let payload = self.take(len, &format!("chunk \"{}\"", String::from_utf8_lossy(name)))?;
        Ok(Some(([name[0], name[1], name[2], name[3]], Bytes { rest: payload, at })))
    }

    /// A count and as many bytes.
    fn counted(&mut self, what: &str) -> Result<&'a [u8], String> {
        let len = self.number::<4>(what)? as usize;
        self.take(len, what)
    }
}

/// Takes a whole file apart.
pub fn parse(bytes: &[u8]) -> Result<Vectors, String> {
    let mut file = Bytes { rest: bytes, at: 0 };
    let mut vectors = Vectors::default();
    let mut promised = None;
    while let Some((name, mut chunk)) = file.chunk()? {
        match &name {
            b"MOO " => {
                let version = chunk.number::<1>("version")?;
                if version != 1 {
                    return Err(format!("version {version} of the format: only 1 is known"));
                }
                chunk.take(3, "header")?;
                promised = Some(chunk.number::<4>("number of tests")?);
                let cpu = chunk.take(4, "processor's name")?;
                vectors.cpu = String::from_utf8_lossy(cpu).trim().into();
            }
            b"RMSK" => short_registers(&mut chunk, &mut vectors.mask)?,
            b"RM32" => long_registers(&mut chunk, &mut vectors.mask)?,
            b"TEST" => vectors.cases.push(case(chunk)?),
            _ => {}
        }
    }
    match promised {
        Some(n) if n as usize != vectors.cases.len() => {
            Err(format!("the header promises {n} tests, the file has {}", vectors.cases.len()))
        }
        _ => Ok(vectors),
    }
}

fn case(mut chunk: Bytes) -> Result<Case, String> {
    let mut case = Case { index: chunk.number::<4>("test's number")?, ..Case::default() };
    let at = chunk.at;
    let (mut initial, mut last) = (None, None);
    while let Some((name, mut part)) = chunk.chunk()? {
        match &name {
            b"NAME" => case.name = String::from_utf8_lossy(part.counted("name")?).into_owned(),
            b"BYTS" => case.bytes = part.counted("instruction")?.to_vec(),
            b"INIT" => initial = Some(snapshot(part, &mut case.mask)?),
            b"FINA" => {
                let state = snapshot(part, &mut case.mask)?;
                case.shuts_down = shuts_down(part)?;
                last = Some(state);
            }
            b"HASH" => case.hash = part.take(20, "hash")?.try_into().ok(),
            b"EXCP" => {
                let number = part.number::<1>("exception")? as u8;
                case.exception = Some(Exception { number, flags_at: part.number::<4>("exception")? });
            }
            _ => {}
        }
    }
    case.initial = initial.ok_or_else(|| format!("offset {at:#x}: test {} has no INIT", case.index))?;
    case.last = last.ok_or_else(|| format!("offset {at:#x}: test {} has no FINA", case.index))?;
    Ok(case)
}

fn snapshot(mut chunk: Bytes, mask: &mut Registers) -> Result<Snapshot, String> {
    let mut state = Snapshot::default();
    while let Some((name, mut part)) = chunk.chunk()? {
        match &name {
            b"REGS" => short_registers(&mut part, &mut state.registers)?,
            b"RG32" => long_registers(&mut part, &mut state.registers)?,
            b"RMSK" => short_registers(&mut part, mask)?,
            b"RM32" => long_registers(&mut part, mask)?,
            b"RAM " => {
                // The count is not believed: memory is taken as entries are read.
                for _ in 0..part.number::<4>("number of bytes")? {
                    let address = part.number::<4>("address")?;
                    state.ram.push((address, part.number::<1>("byte")? as u8));
                }
            }
            _ => {}
        }
    }
    Ok(state)
}

/// Whether a final state's registers have the bit of their mask that stands for none of them.
fn shuts_down(mut chunk: Bytes) -> Result<bool, String> {
    while let Some((name, mut part)) = chunk.chunk()? {
        match &name {
            b"REGS" => return Ok(part.number::<2>("register mask")? >> 15 != 0),
            b"RG32" => return Ok(part.number::<4>("register mask")? >> 31 != 0),
            _ => {}
        }
    }
    Ok(false)
}

fn short_registers(part: &mut Bytes, to: &mut Registers) -> Result<(), String> {
    let present = part.number::<2>("register mask")?;
    for (bit, index) in SHORT.into_iter().enumerate() {
        if present >> bit & 1 != 0 {
            to[index] = Some(part.number::<2>("register")?);
        }
    }
    Ok(())
}

fn long_registers(part: &mut Bytes, to: &mut Registers) -> Result<(), String> {
    let present = part.number::<4>("register mask")?;
    for (bit, register) in to.iter_mut().enumerate() {
        if present >> bit & 1 != 0 {
            *register = Some(part.number::<4>("register")?);
        }
    }
    Ok(())
}
