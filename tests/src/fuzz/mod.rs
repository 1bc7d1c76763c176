//! What the fuzz targets do with their bytes: `cargo xtask fuzz`, and a short run of each with every `cargo test`.
//!
//! Each function takes any bytes and panics where something is wrong.

mod board;
mod cards;
mod decode;
mod detect;
mod guest;
mod loaders;
mod qcow2;
mod tiers;

pub use board::{floppy, registers};
pub use cards::{nvme, virtio};
pub use decode::decode;
pub use detect::detect;
pub use loaders::loaders;
pub use qcow2::qcow2;
pub use tiers::tiers;

use crate::harness::random::Rng;

/// A target: its name and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("decode", decode),
    ("tiers", tiers),
    ("loaders", loaders),
    ("registers", registers),
    ("virtio", virtio),
    ("nvme", nvme),
    ("floppy", floppy),
    ("qcow2", qcow2),
    ("detect", detect),
];

/// Takes bytes off the front; zeros where there are no more.
fn take<const N: usize>(data: &mut &[u8]) -> [u8; N] {
    let n = N.min(data.len());
    let mut out = [0; N];
    out[..n].copy_from_slice(&data[..n]);
    *data = &data[n..];
    out
}

/// Inputs to begin with, for each target.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "decode" => decode::seeds(),
        "tiers" => tiers::seeds(),
        "detect" => detect::seeds(),
        "registers" => board::register_seeds(),
        "virtio" => cards::virtio_seeds(),
        "nvme" => cards::nvme_seeds(),
        "floppy" => board::floppy_seeds(),
        "qcow2" => qcow2::seeds(),
        _ => loaders::seeds(),
    }
}

/// An input made of a seed by a few random changes.
pub fn mutated(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = if rng.one_in(8) || seeds.is_empty() {
        (0..rng.below(64)).map(|_| rng.draw() as u8).collect()
    } else {
        seeds[rng.below(seeds.len() as u64) as usize].clone()
    };
    for _ in 0..rng.below(6) {
        let at = rng.below(input.len() as u64 + 1) as usize;
        match rng.below(6) {
            0 => input.insert(at, rng.draw() as u8),
            1 if at < input.len() => drop(input.remove(at)),
            2 if at < input.len() => input[at] = rng.integer() as u8,
            3 if at < input.len() => input[at] ^= 1 << rng.below(8),
            4 if at + 4 <= input.len() => {
                input[at..at + 4].copy_from_slice(&(rng.integer() as u32).to_le_bytes())
            }
            _ => {
                if let Some(other) = seeds.get(rng.below(seeds.len().max(1) as u64) as usize) {
                    let from = rng.below(other.len() as u64 + 1) as usize;
                    input.extend(&other[from..other.len().min(from + 16)]);
                }
            }
        }
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(name: &str, rounds: u64) {
        let (_, run) = TARGETS.iter().find(|(n, _)| *n == name).expect("a target");
        let seeds = seeds(name);
        assert!(!seeds.is_empty());
        for seed in &seeds {
            run(seed);
        }
        let one_in =
            std::env::var("RETRO_ONE_IN").map_or(1, |n| n.parse().expect("RETRO_ONE_IN is a number"));
        let mut rng = Rng(1);
        for _ in 0..rounds / one_in {
            run(&mutated(&mut rng, &seeds));
        }
    }

    #[test]
    fn any_bytes_decode() {
        runs("decode", 100_000);
    }

    #[test]
    fn tiers_agree_on_any_bytes() {
        runs("tiers", 1_000);
    }

    #[test]
    fn any_image_is_looked_at() {
        runs("detect", 20_000);
    }

    #[test]
    fn devices_take_any_accesses() {
        runs("registers", 200);
        runs("floppy", 200);
    }

    #[test]
    fn rings_and_queues_hold_any_bytes() {
        runs("virtio", 5_000);
        runs("nvme", 5_000);
    }

    #[test]
    fn any_bytes_as_a_qcow2_image() {
        runs("qcow2", 1_000);
    }

    #[test]
    fn loaders_take_any_bytes() {
        runs("loaders", 20_000);
    }
}
