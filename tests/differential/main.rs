//! Random programs: tier 0 against tier 1, against the host's CPU, and against results that are stored.
//!
//! Each failure names the seed of its case; `RETRO_SEED` runs a campaign from another one, `RETRO_CASES` makes it longer
//! (cases for each instruction form), `RETRO_ONLY` limits it to forms whose iced-x86 name contains a text, and
//! `RETRO_CASE` runs one case by its seed. `RETRO_ONE_IN` divides the number of random cases, never to nothing: for
//! hosts that are slow because they are emulated.

mod arithmetic;
mod corpus;
mod dead;
mod floating;
mod floating_corpus;
mod sequences;
mod singles;
mod x87;

/// How many random cases to run where there are `cases` on a host that is real.
fn cases(cases: u64) -> u64 {
    cases.div_ceil(setting("RETRO_ONE_IN").unwrap_or(1))
}

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    Some(parsed.unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
