//! Devices for outside test suites: what a suite built for another emulator expects to find, and nothing that an
//! ordinary guest sees.
//!
//! They are absent unless [`HarnessConfig`] asks for them, and their ports come before the board's own: the debug
//! console at E9h lies within pc-testdev's bytes, and a suite may want its POST codes at 80h.

mod pc_testdev;
mod pci_testdev;
mod post;

use serde::{Deserialize, Serialize};

pub use pc_testdev::{IOMEM_BASE, IOMEM_LEN, PcTestdev, PcTestdevState};
pub use pci_testdev::PciTestdev;
pub use post::{PostConfig, PostFormat, PostPort, PostState};

use crate::pc::Unit;

/// Which of these devices are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HarnessConfig {
    /// isa-debug-exit: (first port, number of ports).
    pub debug_exit: Option<(u16, u16)>,
    /// The debug console's port, if it is not to be at E9h (or is to win over pc-testdev there).
    pub debugcon: Option<u16>,
    /// pc-testdev.
    pub pc_testdev: bool,
    /// pci-testdev, at this device number.
    pub pci_testdev: Option<u8>,
    /// Ports whose bytes go to a file.
    pub post: Vec<PostConfig>,
}

/// The devices themselves (but for pci-testdev, which sits on the PCI bus, and the ports that every PC has).
pub struct Harness {
    /// First port, last port, who decodes them; the first match counts.
    ports: Vec<(u16, u16, Unit)>,
    /// pc-testdev, if it is there.
    pub pc_testdev: Option<PcTestdev>,
    /// POST ports, in the order of the configuration.
    pub post: Vec<PostPort>,
}

/// What a snapshot keeps of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HarnessState {
    pc_testdev: Option<PcTestdevState>,
    post: Vec<PostState>,
}

impl Harness {
    /// The devices that `config` asks for.
    pub fn new(config: &HarnessConfig) -> Self {
        let mut ports = Vec::new();
        for (n, post) in config.post.iter().enumerate() {
            ports.push((post.iobase, post.iobase.saturating_add(post.iosize - 1), Unit::Post(n as u8)));
        }
        if let Some((base, len)) = config.debug_exit {
            ports.push((base, base.saturating_add(len - 1), Unit::DebugExit));
        }
        ports.extend(config.debugcon.map(|port| (port, port, Unit::Debugcon)));
        if config.pc_testdev {
            ports.extend(pc_testdev::PORTS.map(|(first, last)| (first, last, Unit::PcTestdev)));
        }
        Self {
            ports,
            pc_testdev: config.pc_testdev.then(PcTestdev::new),
            post: config.post.iter().map(PostPort::new).collect(),
        }
    }

    /// Who decodes `port`, and the last port of that range.
    pub fn decode(&self, port: u16) -> Option<(Unit, u16)> {
        self.ports
            .iter()
            .find(|(first, last, _)| (*first..=*last).contains(&port))
            .map(|(_, last, unit)| (*unit, *last))
    }

    /// As after power-on; what was written to POST ports stays written.
    pub fn reset(&mut self) {
        if let Some(device) = &mut self.pc_testdev {
            *device = PcTestdev::new();
        }
        self.post.iter_mut().for_each(PostPort::reset);
    }

    /// The state.
    pub fn save(&self) -> HarnessState {
        let Self { ports: _, pc_testdev, post } = self;
        HarnessState {
            pc_testdev: pc_testdev.as_ref().map(PcTestdev::save),
            post: post.iter().map(PostPort::save).collect(),
        }
    }

    /// Restores what `save` gave, for the devices that are there.
    pub fn restore(&mut self, state: HarnessState) {
        let HarnessState { pc_testdev, post } = state;
        if let (Some(device), Some(state)) = (&mut self.pc_testdev, pc_testdev) {
            device.restore(state);
        }
        self.post.iter_mut().zip(post).for_each(|(port, state)| port.restore(state));
    }
}
