//! `-cpu`: the model and its features.

use x86::model::{CpuModel, Refusal, Vendor};

use super::error::{UserError, nearest};
use super::lists::{items, number, switch};
use crate::config::CpuChoice;

/// Names of feature spellings are compared without regard to `-`, `_` and `.` (QEMU: sse4.1, sse4-1, sse4_1).
fn plain(name: &str) -> String {
    name.chars().map(|c| if matches!(c, '_' | '.') { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Parses the value of `-cpu`.
pub fn choice(text: &str) -> Result<CpuChoice, UserError> {
    let option = format!("-cpu {text}");
    let mut items = items(text).into_iter();
    let model = items.next().map_or_else(String::new, |item| item.key);
    let mut choice = CpuChoice::of(&model);
    for item in items {
        if let (key, Some(value)) = (item.key.as_str(), item.value.as_deref())
            && property(&option, &mut choice, key, value)?
        {
            continue;
        }
        let (name, on) = match (item.key.split_at_checked(1), item.value.as_deref()) {
            (Some(("+", name)), None) => (name.to_owned(), true),
            (Some(("-", name)), None) => (name.to_owned(), false),
            (_, value) => (item.key.clone(), switch(&option, value)?),
        };
        let wanted = plain(&name);
        let known = CpuModel::feature_names().find(|known| plain(known) == wanted);
        choice.features.push((known.map_or(name, str::to_owned), on));
    }
    build_for(&option, &choice)?;
    Ok(choice)
}

/// Sets a property that is no feature; false if `key` is none.
fn property(option: &str, choice: &mut CpuChoice, key: &str, value: &str) -> Result<bool, UserError> {
    match (key, value) {
        ("vendor", "GenuineIntel") => choice.amd = Some(false),
        ("vendor", "AuthenticAMD") => choice.amd = Some(true),
        ("vendor", other) => {
            let problem = format!("there is no vendor \"{other}\"");
            return Err(UserError::new(option, problem, "write vendor=GenuineIntel or vendor=AuthenticAMD"));
        }
        ("phys-bits", bits) => {
            let bits = number(option, key, bits, 52)? as u8;
            if bits < 32 {
                return Err(UserError::new(
                    option,
                    format!("{bits} physical address bits are too few"),
                    "give 32 to 52",
                ));
            }
            choice.phys_bits = Some(bits);
        }
        // The host's width is not looked at anyhow.
        ("host-phys-bits", value) => drop(switch(option, Some(value))?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Makes the processor.
pub fn build(choice: &CpuChoice) -> Result<CpuModel, UserError> {
    build_for(&format!("-cpu {}", choice.model), choice)
}

fn build_for(option: &str, choice: &CpuChoice) -> Result<CpuModel, UserError> {
    let mut model = CpuModel::new(&choice.model).map_err(|why| unknown_model(option, &choice.model, &why))?;
    if let Some(amd) = choice.amd {
        model.vendor = if amd { Vendor::Amd } else { Vendor::Intel };
    }
    model.phys_bits = choice.phys_bits.unwrap_or(model.phys_bits);
    model.set_features(&choice.features).map_err(|(name, why)| unknown_feature(option, &name, &why))?;
    Ok(model)
}

fn unknown_model(option: &str, model: &str, why: &Refusal) -> UserError {
    if let Refusal::Incomplete(missing) = why {
        let problem =
            format!("of this model's features these are not implemented yet: {}", missing.join(", "));
        return UserError::new(option, problem, "use -cpu max, which has all that are");
    }
    if model == "host" {
        return UserError::new(
            option,
            "the host's processor is not passed on, it is emulated",
            "use -cpu max",
        );
    }
    let remedy = match nearest(model, CpuModel::models().map(|(name, _)| name)) {
        Some(near) => format!("did you mean \"{near}\"? -cpu help lists them"),
        None => "-cpu help lists the models; leave it out for the usual one".into(),
    };
    UserError::new(option, format!("there is no processor model \"{model}\""), remedy)
}

fn unknown_feature(option: &str, name: &str, why: &Refusal) -> UserError {
    if let Refusal::Needs(needed) = why {
        let problem = format!("the feature \"{name}\" needs \"{needed}\", which is off");
        return UserError::new(option, problem, format!("add +{needed} or leave {name} out"));
    }
    if *why == Refusal::Absent {
        return UserError::new(
            option,
            format!("the feature \"{name}\" is not implemented yet"),
            "leave it out",
        );
    }
    let remedy = match nearest(&plain(name), CpuModel::feature_names()) {
        Some(near) => format!("did you mean \"{near}\"? -cpu help lists them"),
        None => "-cpu help lists the features; leave it out".into(),
    };
    UserError::new(option, format!("the feature \"{name}\" is not there"), remedy)
}

/// The text of `-cpu help`.
pub fn help() -> String {
    let mut text = String::from("Processor models:\n");
    for (name, what) in CpuModel::models() {
        let default = if name == CpuModel::default_name() { " (the default)" } else { "" };
        text.push_str(&format!("  {name:<12} {what}{default}\n"));
    }
    text.push_str("\nFeatures that can be turned on (+name, name=on) and off (-name, name=off), with those that need them:");
    let mut column = usize::MAX;
    for name in CpuModel::feature_names() {
        if column > 80 {
            text.push_str("\n ");
            column = 1;
        }
        text.push(' ');
        text.push_str(name);
        column += name.len() + 1;
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use x86::CpuState;

    use super::*;

    #[test]
    fn features_are_switched_in_qemus_ways() {
        let choice = choice("max,-sse4_2,+rdtscp,nx=off").unwrap();
        assert_eq!(choice.model, "max");
        let expected = [("sse4.2", false), ("rdtscp", true), ("nx", false)];
        assert!(choice.features.iter().map(|(name, on)| (name.as_str(), *on)).eq(expected));
    }

    #[test]
    fn what_a_feature_carried_goes_with_it() {
        let model = build(&choice("max,-ssse3").unwrap()).unwrap();
        let now = CpuState::power_on();
        assert_eq!(model.cpuid(&now, 1, 0)[2] & (1 << 9 | 1 << 19 | 1 << 20), 0, "SSSE3, SSE4.1, SSE4.2");
        assert_ne!(model.cpuid(&now, 1, 0)[2] & 1, 0, "SSE3");
        assert!(build(&choice("max,-nonsense").unwrap()).is_ok(), "what is not there can be left out");
    }

    #[test]
    fn properties_that_are_no_features() {
        let model = build(&choice("Opteron_G1,vendor=AuthenticAMD").unwrap()).unwrap();
        let name = model.cpuid(&CpuState::power_on(), 0, 0);
        assert_eq!(name[1], u32::from_le_bytes(*b"Auth"));
        let model = build(&choice("IvyBridge,phys-bits=36,host-phys-bits=off").unwrap()).unwrap();
        assert_eq!(model.phys_bits, 36);
        assert_eq!(model.cpuid(&CpuState::power_on(), 0x8000_0008, 0)[0] & 0xff, 36);
    }

    #[test]
    fn mistakes_get_a_remedy() {
        for (text, hint) in [
            ("host", "-cpu max"),
            ("maxx", "\"max\""),
            ("Skylake-Client", "-cpu help"),
            ("max,+sse9", "-cpu help"),
            ("qemu64,+sse4.2", "needs \"sse4.1\""),
            ("max,+ssse3,sse3=off", "needs \"sse3\""),
            ("486,+sse", "needs \"fxsr\""),
            ("max,nx=maybe", "on or off"),
            ("max,vendor=Cyrix", "GenuineIntel"),
            ("max,phys-bits=20", "32 to 52"),
            ("", "-cpu help"),
        ] {
            let line = choice(text).unwrap_err().to_string();
            assert!(line.contains(hint), "{line}");
        }
        assert!(help().contains("qemu64"));
    }
}
