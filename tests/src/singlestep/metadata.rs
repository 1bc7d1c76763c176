//! `metadata.json`, which lies beside the older files: the flags that an opcode leaves undefined.

use std::path::Path;

use serde_json::Value;

/// The flags of the opcode that `file` is about which count, from the `metadata.json` beside it; all if there is none.
pub fn flags_mask(file: &Path) -> Result<Option<u32>, String> {
    let path = file.with_file_name("metadata.json");
    let Ok(bytes) = std::fs::read(&path) else { return Ok(None) };
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(mask_of(&value, &file_name(file)))
}

fn file_name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().to_uppercase()
}

/// `F6.7.JSON.GZ`: opcode F6, extension 7.
fn mask_of(metadata: &Value, name: &str) -> Option<u32> {
    let mut parts = name.split('.');
    let opcode = &metadata["opcodes"][parts.next()?];
    let form = match parts.next() {
        Some(extension) if !opcode["reg"][extension].is_null() => &opcode["reg"][extension],
        _ => opcode,
    };
    form["flags-mask"].as_u64().map(|mask| mask as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_found_by_the_files_name() {
        let metadata = serde_json::json!({"opcodes": {
            "27": {"status": "normal", "flags-mask": 63487},
            "F6": {"reg": {"7": {"flags-mask": 0xf72a}, "0": {"status": "normal"}}},
        }});
        for (name, mask) in [
            ("27.JSON.GZ", Some(63487)),
            ("F6.7.JSON", Some(0xf72a)),
            ("F6.0.MOO", None),
            ("00.JSON", None),
            ("", None),
        ] {
            assert_eq!(mask_of(&metadata, name), mask, "{name}");
        }
    }
}
