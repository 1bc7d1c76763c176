//! What lies beside the files: `metadata.json` and `80386.csv` name the flags that an opcode leaves undefined,
//! `revocation_list.txt` cases that turned out to be wrong.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Hash;

/// Hashes of cases that do not count.
pub type Revoked = HashSet<Hash>;

/// Folders above a file's own in which a list of the whole suite may lie.
const LEVELS: usize = 3;

/// The nearest file of that name: in the folder of `file`, in the one that is called the same without `_binary`, or above.
fn beside(file: &Path, name: &str) -> Option<PathBuf> {
    // The folders above a relative path's first are known only when it is absolute.
    let file = std::path::absolute(file).ok()?;
    let own = file.parent()?;
    let text = own.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix("_binary"));
    let folders = [Some(own.to_owned()), text.map(|n| own.with_file_name(n))].into_iter().flatten();
    let above = own.ancestors().skip(1).take(LEVELS - 1).map(Path::to_owned);
    folders.chain(above).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn text_beside(file: &Path, name: &str) -> Result<Option<(PathBuf, String)>, String> {
    let Some(path) = beside(file, name) else { return Ok(None) };
    let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(Some((path, String::from_utf8_lossy(&bytes).into_owned())))
}

/// The flags that count of the opcode that `file` is about; `None` if nothing beside the file says it.
pub fn flags_mask(file: &Path) -> Result<Option<u32>, String> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
    let (opcode, extension) = form(&name);
    if let Some((path, text)) = text_beside(file, "metadata.json")? {
        let value: Value = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        if let Some(mask) = mask_of(&value, opcode, extension) {
            return Ok(Some(mask));
        }
    }
    match text_beside(file, "80386.csv")? {
        Some((path, text)) => {
            mask_in_table(&text, opcode, extension).map_err(|e| format!("{}: {e}", path.display()))
        }
        None => Ok(None),
    }
}

/// Opcode and extension by a file's name: F6 and 7 of `F6.7.JSON.GZ`. Size prefixes before an opcode do not count.
fn form(name: &str) -> (&str, &str) {
    let mut parts = name.split('.');
    let mut opcode = parts.next().unwrap_or("");
    while let Some(rest) =
        opcode.strip_prefix("66").or(opcode.strip_prefix("67")).filter(|rest| rest.len() > 1)
    {
        opcode = rest;
    }
    (opcode, parts.next().filter(|part| part.len() == 1).unwrap_or(""))
}

fn mask_of(metadata: &Value, opcode: &str, extension: &str) -> Option<u32> {
    let opcode = &metadata["opcodes"][opcode];
    let form = if opcode["reg"][extension].is_null() { opcode } else { &opcode["reg"][extension] };
    form["flags-mask"].as_u64().map(|mask| mask as u32)
}

/// A table of comma-separated columns, whose first line names them.
fn mask_in_table(text: &str, opcode: &str, extension: &str) -> Result<Option<u32>, String> {
    let mut lines = text.lines();
    let cells =
        |line: &str| line.split(',').map(|cell| cell.trim().trim_matches('"').to_uppercase()).collect();
    let names: Vec<String> = cells(lines.next().unwrap_or(""));
    let column =
        |name: &str| names.iter().position(|n| n == name).ok_or(format!("there is no column {name}"));
    let (op, ex, mask) = (column("OP")?, column("EX")?, column("F_UMASK")?);
    for line in lines {
        let cells: Vec<String> = cells(line);
        let cell = |n: usize| cells.get(n).map_or("", String::as_str);
        if cell(op) == opcode && (cell(ex) == extension || cell(ex).is_empty()) && !cell(mask).is_empty() {
            let digits = cell(mask).trim_start_matches("0X");
            let v =
                u32::from_str_radix(digits, 16).map_err(|_| format!("\"{}\" is not a mask", cell(mask)))?;
            return Ok(Some(v));
        }
    }
    Ok(None)
}

/// The cases that the list nearest to `file` revokes.
pub fn revoked(file: &Path) -> Result<Revoked, String> {
    Ok(text_beside(file, "revocation_list.txt")?.map_or_else(Revoked::new, |(_, text)| {
        // Comments and whatever else is no hash are passed over.
        text.lines().filter_map(|line| hash_of(line.split_whitespace().next()?)).collect()
    }))
}

/// A hash as 40 hexadecimal digits.
pub fn hash_of(text: &str) -> Option<Hash> {
    let mut hash = [0; 20];
    if text.len() != 40 || !text.is_ascii() {
        return None;
    }
    for (k, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * k..2 * k + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_found_by_the_files_name() {
        let metadata = serde_json::json!({"opcodes": {
            "27": {"status": "normal", "flags-mask": 63487},
            "66": {"flags-mask": 5},
            "F6": {"reg": {"7": {"flags-mask": 0xf72a}, "0": {"status": "normal"}}},
        }});
        for (name, mask) in [
            ("27.JSON.GZ", Some(63487)),
            ("F6.7.JSON", Some(0xf72a)),
            ("67F6.7.MOO.GZ", Some(0xf72a)),
            ("66.MOO", Some(5)),
            ("F6.0.MOO", None),
            ("00.JSON", None),
            ("", None),
        ] {
            let (opcode, extension) = form(name);
            assert_eq!(mask_of(&metadata, opcode, extension), mask, "{name}");
        }
    }

    #[test]
    fn masks_are_found_in_a_table() {
        let table =
            "op,ex,f_umask,mnemonic\n0FBA,4,fffff72b,bt\n0FAF,,0xfffff72b,imul\n00,,,add\n0f01,1,zz,x\n";
        for (name, mask) in [
            ("67660FBA.4.MOO.GZ", Ok(Some(0xffff_f72b))),
            ("0FBA.5.MOO", Ok(None)),
            ("660FAF.MOO", Ok(Some(0xffff_f72b))),
            ("00.MOO", Ok(None)),
            ("0F01.1.MOO", Err("\"ZZ\" is not a mask".to_owned())),
        ] {
            let (opcode, extension) = form(name);
            assert_eq!(mask_in_table(table, opcode, extension), mask, "{name}");
        }
        assert!(mask_in_table("", "00", "").is_err());
    }

    #[test]
    fn lists_lie_beside_the_files_or_above() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("v2_binary").join("F6.7.MOO.gz");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::create_dir(folder.path().join("v2")).unwrap();
        assert_eq!(flags_mask(&file), Ok(None));
        assert_eq!(revoked(&file), Ok(Revoked::new()));
        let metadata = r#"{"opcodes": {"F6": {"reg": {"7": {"flags-mask": 1}}}}}"#;
        std::fs::write(folder.path().join("v2/metadata.json"), metadata).unwrap();
        assert_eq!(flags_mask(&file), Ok(Some(1)));
        let list = "# wrong\n00112233445566778899aAbBcCdDeEfF00112233 late\nnothing\n";
        std::fs::write(folder.path().join("revocation_list.txt"), list).unwrap();
        let hash = hash_of("00112233445566778899aabbccddeeff00112233").unwrap();
        assert_eq!(revoked(&file), Ok([hash].into()));
        std::fs::write(folder.path().join("v2/metadata.json"), "{").unwrap();
        assert!(flags_mask(&file).unwrap_err().contains("metadata.json"));
    }
}
