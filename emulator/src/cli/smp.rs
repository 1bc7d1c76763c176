//! `-smp`, by QEMU's rules (those of its machines since 6.2), and `-smp-mode`.

use x86::model::Topology;

use super::error::UserError;
use super::lists::{items, number, unknown_key};
use crate::config::{MAX_CPUS, SmpMode};

/// Packages, cores and threads: what is not given follows from what is, cores before sockets before threads.
pub fn topology(value: &str) -> Result<Topology, UserError> {
    let option = format!("-smp {value}");
    let (mut cpus, mut max) = (None, None);
    let (mut sockets, mut cores, mut threads) = (None, None, None);
    for (index, item) in items(value).into_iter().enumerate() {
        let (key, amount) = match &item.value {
            None if index == 0 => ("cpus", item.key.as_str()),
            None => return Err(unknown_key(&option, &item.key, &KEYS)),
            Some(amount) => (item.key.as_str(), amount.as_str()),
        };
        let amount = number(&option, if item.value.is_none() { "the number" } else { key }, amount, 1 << 16)?;
        if amount == 0 {
            return Err(UserError::new(option, "a machine needs a processor", "use -smp 1"));
        }
        match key {
            "cpus" => cpus = Some(amount),
            "maxcpus" => max = Some(amount),
            "sockets" => sockets = Some(amount),
            "cores" => cores = Some(amount),
            "threads" => threads = Some(amount),
            "dies" | "clusters" | "books" | "drawers" | "modules" if amount == 1 => {}
            "dies" | "clusters" | "modules" => {
                let problem = format!("there are no {key} here");
                return Err(UserError::new(option, problem, "use sockets=, cores= and threads="));
            }
            key => return Err(unknown_key(&option, key, &KEYS)),
        }
    }
    if let Some(all) = max.or(cpus) {
        // What the others leave; at least one, whose product then shows the mistake.
        let rest = |of: [Option<u64>; 2]| (all / of.iter().fold(1, |p, n| p * n.unwrap_or(1))).max(1);
        if cores.is_none() {
            cores = Some(rest([sockets, threads]));
        } else if sockets.is_none() {
            sockets = Some(rest([cores, threads]));
        } else if threads.is_none() {
            threads = Some(rest([sockets, cores]));
        }
    }
    let [sockets, cores, threads] = [sockets, cores, threads].map(|n| n.unwrap_or(1));
    let places = sockets * cores * threads;
    let (max, cpus) = (max.or(cpus).unwrap_or(places), cpus.or(max).unwrap_or(places));
    if places != max.max(cpus) && places != max {
        return Err(UserError::new(
            option,
            format!(
                "{sockets} sockets x {cores} cores x {threads} threads are {places} processors, not {max}"
            ),
            "make the product what maxcpus (or the number) says",
        ));
    }
    if cpus > max {
        return Err(UserError::new(option, "there are more processors than maxcpus", "raise maxcpus"));
    }
    let topology =
        Topology { cpus: cpus as u32, sockets: sockets as u32, cores: cores as u32, threads: threads as u32 };
    let highest = topology.apic_id(topology.cpus - 1);
    if cpus > u64::from(MAX_CPUS) || highest >= MAX_APIC_ID {
        return Err(UserError::new(
            option,
            format!("at most {MAX_CPUS} processors, with APIC ids below {MAX_APIC_ID}, are possible"),
            "use fewer",
        ));
    }
    Ok(topology)
}

const KEYS: [&str; 5] = ["cpus", "sockets", "cores", "threads", "maxcpus"];

/// Ids from here on need more than an 8-bit APIC id, or mean everyone.
const MAX_APIC_ID: u32 = 255;

/// How several processors run.
pub fn mode(value: &str) -> Result<SmpMode, UserError> {
    let option = format!("-smp-mode {value}");
    let (mut parallel, mut seed) = (false, None);
    for (index, item) in items(value).into_iter().enumerate() {
        match (item.key.as_str(), item.value.as_deref()) {
            ("deterministic", None) if index == 0 => {}
            ("parallel", None) if index == 0 => parallel = true,
            ("seed", Some(_)) if parallel => {
                let problem = "what runs in parallel has no seed";
                return Err(UserError::new(option, problem, "use -smp-mode deterministic,seed=N"));
            }
            ("seed", Some(amount)) if index > 0 => {
                seed = Some(number(&option, "the seed", amount, u64::MAX)?)
            }
            (mode, None) if index == 0 => {
                let problem = format!("\"{mode}\" is no such mode");
                return Err(UserError::new(
                    option,
                    problem,
                    "use -smp-mode parallel or deterministic[,seed=N]",
                ));
            }
            (key, _) => return Err(unknown_key(&option, key, &["seed"])),
        }
    }
    if parallel && !SmpMode::PARALLEL_HERE {
        let problem = "processors do not run in parallel on this host yet";
        return Err(UserError::new(option, problem, "use -smp-mode deterministic"));
    }
    Ok(if parallel { SmpMode::Parallel } else { SmpMode::Deterministic { seed } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(value: &str) -> (u32, u32, u32, u32) {
        let t = topology(value).unwrap();
        (t.cpus, t.sockets, t.cores, t.threads)
    }

    #[test]
    fn what_is_left_out_follows() {
        assert_eq!(shape("4"), (4, 1, 4, 1));
        assert_eq!(shape("cpus=8,sockets=2"), (8, 2, 4, 1));
        assert_eq!(shape("8,cores=4"), (8, 2, 4, 1));
        assert_eq!(shape("8,sockets=2,cores=2"), (8, 2, 2, 2));
        assert_eq!(shape("sockets=2,cores=3"), (6, 2, 3, 1));
        assert_eq!(shape("2,maxcpus=8,threads=2"), (2, 1, 4, 2));
        assert_eq!(shape("6,dies=1,cores=3,threads=2,sockets=1"), (6, 1, 3, 2));
    }

    #[test]
    fn mistakes_are_one_line() {
        for (value, says) in [
            ("0", "needs a processor"),
            ("7,cores=2", "not 7"),
            ("4,maxcpus=2", "maxcpus"),
            ("300", "at most"),
            ("250,sockets=250,cores=1,threads=1,maxcpus=250", "at most 128"),
            ("129,sockets=43,cores=3,threads=1", "at most 128"),
            ("4,dies=2", "no dies"),
            ("4,coers=2", "cores"),
            ("x", "the number"),
        ] {
            match topology(value) {
                Ok(_) => assert!(says.is_empty(), "{value}"),
                Err(error) => {
                    assert!(!says.is_empty() && error.to_string().contains(says), "{value}: {error}")
                }
            }
        }
        assert_eq!(mode("deterministic,seed=7").unwrap(), SmpMode::Deterministic { seed: Some(7) });
        assert_eq!(mode("deterministic").unwrap(), SmpMode::Deterministic { seed: None });
        assert_eq!(mode("parallel").is_ok(), SmpMode::PARALLEL_HERE);
        assert!(mode("parallel,seed=1").unwrap_err().to_string().contains("no seed"));
        assert!(mode("fast").is_err() && mode("deterministic,speed=1").is_err());
    }
}
