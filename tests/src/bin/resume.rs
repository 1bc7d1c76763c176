//! One leg of a boot in a process of its own: reads a saved state, runs on, and writes the next.
//!
//! `resume RAM_BYTES TIER STATE_IN UNTIL|end STATE_OUT CONSOLE_OUT`; prints count, virtual time, fingerprint and how it
//! ended.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};

use emulator::machine::gate::InputGate;
use tests::harness::boot::{Screen, final_state, machine, run, tier_by_name};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [ram, tier, input, until, output, console] = &args[..] else {
        panic!("resume RAM_BYTES TIER STATE_IN UNTIL|end STATE_OUT CONSOLE_OUT")
    };
    let mut machine = machine(ram.parse().expect("a size"), tier_by_name(tier).expect("a tier"));
    let input = File::open(input).expect("the saved state is there");
    machine.restore(&mut BufReader::new(input)).expect("the state can be restored");
    let until = (until != "end").then(|| until.parse().expect("a count"));
    let mut screen = Screen::default();
    let ended = run(&mut machine, &mut InputGate::sealed(), &mut screen, until);
    let end = final_state(&mut machine, ended);
    std::fs::write(console, &screen.0).expect("the console's text can be written");
    let mut out = BufWriter::new(File::create(output).expect("the next state can be written"));
    machine.save(&mut out).expect("the state can be saved");
    out.flush().expect("the state can be saved");
    println!("{} {} {} {:?}", end.icount, end.now, end.fingerprint, end.ended);
}
