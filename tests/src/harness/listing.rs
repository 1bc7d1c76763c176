//! Assembly programs of many lines for tests: labels, constants and data over [`super::asm`].
//!
//! One statement a line, or several with `;` between them; `//` begins a comment. A label ends with a colon; one that begins with
//! a dot belongs to the last label that does not. Operands are sums of numbers, labels and constants. Directives: `bits N`,
//! `org ADDRESS` and `align N` (filled with zeros), `db`, `dw`, `dd`, `dq`, `zero N`.

use std::collections::HashMap;

use super::asm::{assemble, product, register};

/// Passes after which the labels have their places; each can only be disturbed by branches that got another length.
const PASSES: usize = 32;

/// Where labels are taken to be in the first pass, from the start: within reach of 16-bit code.
const SOMEWHERE: u64 = 0x80;

/// A program's bytes and labels.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The bytes, from the address that it was assembled for.
    pub bytes: Vec<u8>,
    base: u64,
    symbols: HashMap<String, i64>,
}

impl Listing {
    /// Assembles `text` for address `base`. Panics with what is wrong: it is a test's text.
    pub fn new(text: &str, base: u64, constants: &[(&str, i64)]) -> Self {
        let statements = statements(text);
        let mut symbols: HashMap<String, i64> =
            constants.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        for statement in &statements {
            if let Statement::Label(name) = statement {
                assert!(register(name).is_none(), "the label `{name}` is a register");
                assert!(
                    symbols.insert(name.clone(), (base + SOMEWHERE) as i64).is_none(),
                    "two labels `{name}`"
                );
            }
        }
        for _ in 0..PASSES {
            let mut pass = Pass { base, bits: 64, bytes: Vec::new(), symbols: symbols.clone() };
            statements.iter().for_each(|statement| pass.put(statement));
            if pass.symbols == symbols {
                return Self { bytes: pass.bytes, base, symbols };
            }
            symbols = pass.symbols;
        }
        panic!("the labels find no places");
    }

    /// The address of a label, or the value of a constant.
    pub fn address(&self, label: &str) -> u64 {
        *self.symbols.get(label).unwrap_or_else(|| panic!("there is no label `{label}`")) as u64
    }

    /// For messages: the last label before an address in the program.
    pub fn place(&self, address: u64) -> String {
        let within = (self.base..self.base + self.bytes.len() as u64).contains(&address);
        let before = self.symbols.iter().filter(|(_, at)| within && **at >= self.base as i64);
        let last = before.filter(|(_, at)| **at as u64 <= address).max_by_key(|(_, at)| **at);
        last.map_or(format!("{address:#x}"), |(name, at)| format!("{name}+{:#x}", address - *at as u64))
    }
}

enum Statement {
    Label(String),
    /// With the label that local ones belong to.
    Code(String, String),
}

fn statements(text: &str) -> Vec<Statement> {
    let mut scope = String::new();
    let mut all = Vec::new();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    for part in lines.flat_map(|line| line.split(';')) {
        let mut part = part.trim();
        while let Some((name, rest)) = part.split_once(':').filter(|(name, _)| is_name(name)) {
            if !name.starts_with('.') {
                scope = name.to_owned();
            }
            all.push(Statement::Label(full_name(&scope, name)));
            part = rest.trim();
        }
        if !part.is_empty() {
            all.push(Statement::Code(scope.clone(), part.to_owned()));
        }
    }
    all
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '.' || c == '_')
        && text.chars().all(is_of_name)
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

fn full_name(scope: &str, name: &str) -> String {
    if name.starts_with('.') { format!("{scope}{name}") } else { name.to_owned() }
}

struct Pass {
    base: u64,
    bits: u32,
    bytes: Vec<u8>,
    symbols: HashMap<String, i64>,
}

impl Pass {
    fn here(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    fn put(&mut self, statement: &Statement) {
        match statement {
            Statement::Label(name) => {
                let here = self.here() as i64;
                self.symbols.insert(name.clone(), here);
            }
            Statement::Code(scope, text) => self.statement(scope, text),
        }
    }

    fn statement(&mut self, scope: &str, text: &str) {
        let (word, operands) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let values = |pass: &Self| -> Vec<i64> {
            let all = operands.split(',').map(|operand| pass.with_values(scope, operand));
            all.map(|operand| sum(&operand).unwrap_or_else(|| panic!("`{text}`: no number"))).collect()
        };
        let fill_to = |pass: &mut Self, address: u64| {
            let count = address.checked_sub(pass.here()).unwrap_or_else(|| panic!("`{text}`: it is behind"));
            pass.bytes.resize(pass.bytes.len() + count as usize, 0);
        };
        let width = match word {
            "db" => 1,
            "dw" => 2,
            "dd" => 4,
            "dq" => 8,
            "bits" => return self.bits = values(self)[0] as u32,
            "zero" => return self.bytes.resize(self.bytes.len() + values(self)[0] as usize, 0),
            "org" => {
                let to = values(self)[0] as u64;
                return fill_to(self, to);
            }
            "align" => {
                let to = self.here().next_multiple_of(values(self)[0] as u64);
                return fill_to(self, to);
            }
            _ => {
                let line = self.instruction(scope, text);
                return self.bytes.extend(assemble(&line, self.bits, self.here()));
            }
        };
        for value in values(self) {
            self.bytes.extend(&value.to_le_bytes()[..width]);
        }
    }

    /// The line with numbers for names, and sums of numbers folded, in its operands.
    fn instruction(&self, scope: &str, text: &str) -> String {
        let (word, operands) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        if matches!(word, "lock" | "rep" | "repe" | "repne") {
            return format!("{word} {}", self.instruction(scope, operands.trim()));
        }
        let operands = self.with_values(scope, operands);
        let operands = operands.split(',').map(|operand| match sum(operand) {
            Some(value) => format!("{value:#x}"),
            None => operand.to_owned(),
        });
        format!("{word} {}", operands.collect::<Vec<_>>().join(","))
    }

    /// `text` with numbers for the names of labels and constants.
    fn with_values(&self, scope: &str, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let len = if is_of_name(c) {
                rest.find(|c| !is_of_name(c)).unwrap_or(rest.len())
            } else {
                c.len_utf8()
            };
            let (word, tail) = rest.split_at(len);
            match self.symbols.get(&full_name(scope, word)) {
                Some(value) => out += &format!("{value:#x}"),
                None => out += word,
            }
            rest = tail;
        }
        out
    }
}

/// A sum of numbers.
fn sum(text: &str) -> Option<i64> {
    let spaced = text.replace('-', "+-");
    let terms = spaced.split('+').map(str::trim).filter(|term| !term.is_empty());
    let values: Option<Vec<i64>> = terms.map(product).collect();
    values
        .filter(|values| !values.is_empty())
        .map(|values| values.iter().fold(0i64, |a, b| a.wrapping_add(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_constants_and_data() {
        let text = "
            start:              // a comment
                mov eax, FIVE
            .again:
                dec eax; jne .again
                mov rcx, [table+8]
                jmp far_away
            table: dq start, table+FIVE
                align 16
            other: .again: db 1, 2
                zero 300
            far_away: ret
        ";
        let listing = Listing::new(text, 0x1000, &[("FIVE", 5)]);
        assert_eq!(listing.bytes[..9], [0xb8, 5, 0, 0, 0, 0xff, 0xc8, 0x75, 0xfc]);
        let table = listing.address("table");
        assert_eq!(listing.bytes[17], 0xe9, "a long jump");
        assert_eq!(listing.bytes[(table - 0x1000) as usize..][..2], [0, 0x10]);
        assert_eq!(listing.address("other.again") % 16, 0);
        assert_eq!(listing.place(0x1006), "start.again+0x1");
        assert_eq!(*listing.bytes.last().unwrap(), 0xc3);
    }
}
