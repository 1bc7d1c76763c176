//! QEMU's comma lists: `first,key=value,flag,key=a,,b` (a doubled comma stands for one).

use super::error::{UserError, nearest};

/// One item: a key with a value, or a word alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Left of the equals sign, or the whole word.
    pub key: String,
    /// Right of it.
    pub value: Option<String>,
}

/// Splits a list; an empty text has no items.
pub fn items(text: &str) -> Vec<Item> {
    split(text)
        .into_iter()
        .map(|part| match part.split_once('=') {
            Some((key, value)) => Item { key: key.into(), value: Some(value.into()) },
            None => Item { key: part, value: None },
        })
        .collect()
}

/// Splits at single commas.
pub fn split(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c != ',' {
            part.push(c);
        } else if rest.next_if_eq(&',').is_some() {
            part.push(',');
        } else {
            parts.push(std::mem::take(&mut part));
        }
    }
    parts.push(part);
    parts.retain(|part| !part.is_empty());
    parts
}

/// QEMU's list of multiboot modules, `file argument argument,file2`: each file with its whole command line.
pub fn module_list(text: &str) -> Vec<(String, String)> {
    let file = |command_line: &str| command_line.split(' ').next().unwrap_or("").to_owned();
    split(text).into_iter().map(|command_line| (file(&command_line), command_line)).collect()
}

/// `on`, `off` and their synonyms.
pub fn switch(subject: &str, value: Option<&str>) -> Result<bool, UserError> {
    match value {
        None | Some("on" | "yes" | "true" | "y") => Ok(true),
        Some("off" | "no" | "false" | "n") => Ok(false),
        Some(other) => {
            Err(UserError::new(subject, format!("\"{other}\" is neither on nor off"), "write on or off"))
        }
    }
}

/// An unknown key of a list, with the keys that there are.
pub fn unknown_key(option: &str, key: &str, known: &[&str]) -> UserError {
    let remedy = match nearest(key, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("known here: {}", known.join(", ")),
    };
    UserError::new(option, format!("\"{key}\" is not known"), remedy)
}

/// A whole number, decimal or with 0x.
pub fn number(option: &str, key: &str, value: &str, max: u64) -> Result<u64, UserError> {
    let parsed = match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => value.parse(),
    };
    parsed.ok().filter(|n| *n <= max).ok_or_else(|| {
        UserError::new(
            option,
            format!("{key} \"{value}\" is not a number from 0 to {max}"),
            "write it in decimal or as 0x...",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_split_as_qemu_splits_them() {
        assert_eq!(split("a,b,,c,"), ["a", "b,c"]);
        assert_eq!(split(""), Vec::<String>::new());
        assert_eq!(split(",,"), [","]);
        let parsed = items("pc,accel=tcg,x=a=b");
        assert_eq!(parsed[0], Item { key: "pc".into(), value: None });
        assert_eq!(parsed[2], Item { key: "x".into(), value: Some("a=b".into()) });
    }

    #[test]
    fn modules_have_command_lines() {
        let expected = [("/a", "/a one two"), ("/b,c", "/b,c")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(module_list("/a one two,/b,,c"), expected);
    }

    #[test]
    fn numbers_have_two_spellings() {
        assert_eq!(number("-x", "k", "0xf4", 0xffff), Ok(0xf4));
        assert_eq!(number("-x", "k", "244", 0xffff), Ok(244));
        assert!(number("-x", "k", "0x10000", 0xffff).is_err());
        assert!(number("-x", "k", "-1", 0xffff).is_err());
    }
}
