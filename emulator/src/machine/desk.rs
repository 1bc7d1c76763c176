//! Where what comes from outside and what goes there meet the devices: keys, bytes, commands, output, power.
//!
//! The processors' registers are out of reach here, so that all of it can be done while they run on threads of their own; what needs
//! them standing still is asked of the machine ([`Asked`]).

use std::io;

use devices::PowerEvent;
use devices::pc::{CdPlace, PcDevices};

use super::control::Control;
use super::gate::InputGate;
use super::stages::Stages;
use super::{Console, Ended};
use crate::monitor::Command;

/// See the module.
pub(super) struct Desk<'a> {
    pub devices: &'a mut PcDevices,
    pub control: &'a mut Control,
    pub stages: &'a mut Stages,
    /// CD drives by their names.
    pub cds: &'a [(String, CdPlace)],
    pub serial_ports: u8,
    /// Number of retro-posts.
    pub posts: usize,
}

/// What only the machine can do.
pub(super) enum Asked {
    /// It ends.
    End(Ended),
    /// It starts anew.
    Reset,
    /// It carries out this command of the monitor, which is about processors.
    Processors(Command),
}

/// What the guest has sent.
#[derive(Default)]
pub(super) struct Outgoing {
    serial: Vec<(u8, Vec<u8>)>,
    debug: Vec<u8>,
    posts: Vec<(usize, Vec<u8>)>,
}

impl Outgoing {
    /// Hands it to the console.
    pub fn deliver(self, console: &mut dyn Console) -> io::Result<()> {
        for (port, bytes) in self.serial {
            console.serial(port, &bytes)?;
        }
        if !self.debug.is_empty() {
            console.debug(&self.debug)?;
        }
        self.posts.into_iter().try_for_each(|(index, bytes)| console.post(index, &bytes))
    }
}

impl Desk<'_> {
    /// Carries output to the console and input from the gate.
    pub fn exchange(
        &mut self,
        gate: &mut InputGate,
        console: &mut dyn Console,
        icount: u64,
        now: u64,
    ) -> io::Result<Option<Asked>> {
        let (asked, outgoing) = self.collect(gate, console, icount, now)?;
        outgoing.deliver(console)?;
        Ok(asked)
    }

    /// The same, but for the guest's output, which is for the caller to deliver. The console is there for what the monitor says.
    pub fn collect(
        &mut self,
        gate: &mut InputGate,
        console: &mut dyn Console,
        icount: u64,
        now: u64,
    ) -> io::Result<(Option<Asked>, Outgoing)> {
        let mut outgoing = Outgoing::default();
        let stop = gate.stop_requested(icount, now);
        self.move_keys(gate, icount, now);
        self.move_mouse(gate, icount, now);
        if let Some(asked) = self.obey(gate, console, icount, now)? {
            return Ok((Some(asked), outgoing));
        }
        let devices = &mut *self.devices;
        for port in 0..self.serial_ports {
            let index = usize::from(port);
            if gate.has_byte(port)
                && devices.serial_can_receive(index)
                && let Some(b) = gate.serial_byte(port, icount, now)
            {
                devices.serial_receive(index, b, now);
            }
            let out = devices.take_serial_output(index);
            if !out.is_empty() {
                gate.output_seen();
                self.stages.serial(now, port, &out);
                outgoing.serial.push((port, out));
            }
        }
        outgoing.debug = devices.take_debugcon_output();
        for index in 0..self.posts {
            let out = devices.take_post_output(index);
            if !out.is_empty() {
                outgoing.posts.push((index, out));
            }
        }
        let event = devices.take_power_event();
        if let Some(event) = event {
            self.stages.power(now, event);
        }
        let asked = match event {
            _ if stop => Some(Asked::End(Ended::Stopped)),
            Some(PowerEvent::PowerOff) => Some(Asked::End(Ended::PowerOff)),
            Some(PowerEvent::DebugExit(status)) => Some(Asked::End(Ended::DebugExit(status))),
            Some(PowerEvent::Reset) => Some(Asked::Reset),
            None => None,
        };
        Ok((asked, outgoing))
    }
}
