//! What a memory model allows: every outcome of a few accesses by a few processors, by trying all orders.
//!
//! Total store order is the x86's: a processor's stores wait in a queue of its own, which it reads first and which drains in order at
//! any time; a fence, and a LOCK, waits until it is empty. Sequential consistency is the same without the queue.

use std::collections::{BTreeSet, HashSet, VecDeque};

/// A place in memory: X or Y.
pub type Place = usize;
/// The first place.
pub const X: Place = 0;
/// The second place.
pub const Y: Place = 1;

/// What a processor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A store of a value.
    W(Place, u8),
    /// A load.
    R(Place),
}

/// A litmus test: the acts of each processor. An outcome is what the loads gave, in this order, and then X and Y at the end.
pub struct Shape {
    /// Its name in the literature.
    pub name: &'static str,
    /// By processor.
    pub threads: &'static [&'static [Act]],
    /// Which place's last value counts.
    pub last: &'static [Place],
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    at: Vec<usize>,
    queues: Vec<VecDeque<(Place, u8)>>,
    memory: [u8; 2],
    loaded: Vec<Vec<u8>>,
}

/// The outcomes that can be. `queues`: under total store order; `fenced`: with a fence after each act.
pub fn outcomes(shape: &Shape, queues: bool, fenced: bool) -> BTreeSet<Vec<u8>> {
    let count = shape.threads.len();
    let start = State {
        at: vec![0; count],
        queues: vec![VecDeque::new(); count],
        memory: [0; 2],
        loaded: vec![Vec::new(); count],
    };
    let (mut seen, mut work) = (HashSet::new(), vec![start]);
    let mut all = BTreeSet::new();
    while let Some(state) = work.pop() {
        if !seen.insert(state.clone()) {
            continue;
        }
        let next = successors(shape, &state, queues && !fenced);
        if next.is_empty() {
            let last = shape.last.iter().map(|place| state.memory[*place]);
            all.insert(state.loaded.concat().into_iter().chain(last).collect());
        }
        work.extend(next);
    }
    all
}

fn successors(shape: &Shape, state: &State, queues: bool) -> Vec<State> {
    let mut all = Vec::new();
    for (thread, acts) in shape.threads.iter().enumerate() {
        if let Some(act) = acts.get(state.at[thread]) {
            let mut next = state.clone();
            next.at[thread] += 1;
            match *act {
                Act::W(place, value) if queues => next.queues[thread].push_back((place, value)),
                Act::W(place, value) => next.memory[place] = value,
                Act::R(place) => {
                    let own = state.queues[thread].iter().rev().find(|(waits, _)| *waits == place);
                    next.loaded[thread].push(own.map_or(state.memory[place], |(_, value)| *value));
                }
            }
            all.push(next);
        }
        let mut next = state.clone();
        if let Some((place, value)) = next.queues[thread].pop_front() {
            next.memory[place] = value;
            all.push(next);
        }
    }
    all
}

/// The literature's answers.
#[test]
fn the_model_is_total_store_order() {
    for (name, outcome, relaxed) in [
        ("SB", vec![0, 0], true),
        ("LB", vec![1, 1], false),
        ("MP", vec![1, 0], false),
        ("IRIW", vec![1, 0, 1, 0], false),
        ("R", vec![0, 2], true),
        ("S", vec![1, 2], false),
        ("2+2W", vec![1, 1], false),
        ("CoRR", vec![1, 0], false),
        ("SB+rfi", vec![1, 0, 1, 0], true),
        ("SB+rfi", vec![0, 0, 1, 0], false),
    ] {
        let shape = super::SHAPES.iter().find(|shape| shape.name == name).expect("a shape");
        assert_eq!(outcomes(shape, true, false).contains(&outcome), relaxed, "{name} {outcome:?}");
        assert!(!outcomes(shape, true, true).contains(&outcome), "{name} {outcome:?}, fenced");
        assert!(!outcomes(shape, false, false).contains(&outcome), "{name} {outcome:?}, sequential");
    }
}
