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

impl Desk<'_> {
    /// Carries output to the console and input from the gate.
    pub fn exchange(
        &mut self,
        gate: &mut InputGate,
        console: &mut dyn Console,
        icount: u64,
        now: u64,
    ) -> io::Result<Option<Asked>> {
        let stop = gate.stop_requested(icount, now);
        self.move_keys(gate, icount, now);
        self.move_mouse(gate, icount, now);
        if let Some(asked) = self.obey(gate, console, icount, now)? {
            return Ok(Some(asked));
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
                console.serial(port, &out)?;
            }
        }
        let out = devices.take_debugcon_output();
        if !out.is_empty() {
            console.debug(&out)?;
        }
        for index in 0..self.posts {
            let out = devices.take_post_output(index);
            if !out.is_empty() {
                console.post(index, &out)?;
            }
        }
        let event = devices.take_power_event();
        if let Some(event) = event {
            self.stages.power(now, event);
        }
        Ok(match event {
            _ if stop => Some(Asked::End(Ended::Stopped)),
            Some(PowerEvent::PowerOff) => Some(Asked::End(Ended::PowerOff)),
            Some(PowerEvent::DebugExit(status)) => Some(Asked::End(Ended::DebugExit(status))),
            Some(PowerEvent::Reset) => Some(Asked::Reset),
            None => None,
        })
    }
}
