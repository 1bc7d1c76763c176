//! `-cpu`: the model and its features.

use x86::model::{CpuModel, MODELS};

use super::error::{UserError, nearest};
use super::lists::{items, switch};
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
    if CpuModel::by_name(&model).is_none() {
        return Err(unknown_model(option, &model));
    }
    let mut features = Vec::new();
    for item in items {
        let (name, on) = match (item.key.split_at_checked(1), item.value.as_deref()) {
            (Some(("+", name)), None) => (name.to_owned(), true),
            (Some(("-", name)), None) => (name.to_owned(), false),
            (_, value) => (item.key.clone(), switch(&option, value)?),
        };
        features.push((known_feature(&option, &model, &name, on)?, on));
    }
    Ok(CpuChoice { model, features })
}

fn unknown_model(option: String, model: &str) -> UserError {
    if model == "host" {
        return UserError::new(
            option,
            "the host's processor is not passed on, it is emulated",
            "use -cpu max",
        );
    }
    let remedy = match nearest(model, MODELS.iter().map(|(name, _)| *name)) {
        Some(near) => format!("did you mean \"{near}\"? -cpu help lists them"),
        None => "-cpu help lists the models; leave it out for the fullest one".into(),
    };
    UserError::new(option, format!("there is no processor model \"{model}\""), remedy)
}

/// The feature's own spelling, if it exists. Turning off what is not there is no mistake, as in QEMU.
fn known_feature(option: &str, model: &str, name: &str, on: bool) -> Result<String, UserError> {
    let wanted = plain(name);
    let found = CpuModel::feature_names().find(|known| plain(known) == wanted).unwrap_or(name);
    let accepted = CpuModel::by_name(model).is_some_and(|mut model| model.set_feature(found, on));
    if accepted || !on {
        return Ok(found.to_owned());
    }
    let remedy = match nearest(&wanted, CpuModel::feature_names()) {
        Some(near) => format!("did you mean \"{near}\"? -cpu help lists them"),
        None => "-cpu help lists the features; leave it out".into(),
    };
    Err(UserError::new(option, format!("the feature \"{name}\" is not there"), remedy))
}

/// The text of `-cpu help`.
pub fn help() -> String {
    let mut text = String::from("Processor models:\n");
    for (name, what) in MODELS {
        text.push_str(&format!("  {name:<12} {what}\n"));
    }
    text.push_str("\nFeatures that can be turned on (+name) and off (-name):");
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
    use super::*;

    #[test]
    fn features_are_switched_in_qemus_ways() {
        let choice = choice("max,-sse4_2,+rdtscp,nx=off").unwrap();
        assert_eq!(choice.model, "max");
        let expected = [("sse4.2", false), ("rdtscp", true), ("nx", false)];
        assert!(choice.features.iter().map(|(name, on)| (name.as_str(), *on)).eq(expected));
    }

    #[test]
    fn mistakes_get_a_remedy() {
        for (text, hint) in [
            ("host", "-cpu max"),
            ("maxx", "\"max\""),
            ("Skylake-Client", "-cpu help"),
            ("max,+sse9", "-cpu help"),
            ("max,nx=maybe", "on or off"),
            ("", "-cpu help"),
        ] {
            let line = choice(text).unwrap_err().to_string();
            assert!(line.contains(hint), "{line}");
        }
        assert!(help().contains("qemu64"));
    }
}
