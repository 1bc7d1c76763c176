//! A machine's state, saved and restored: registers, devices, memory.
//!
//! Translations, TLB contents and everything else that the guest cannot see are left out: they are rebuilt.

use std::io::{self, Read, Write};

use devices::pc::PcState;
use serde::{Deserialize, Serialize};
use x86::{CpuState, Vcpu};

use super::Machine;
use super::turns::TurnState;

/// First bytes of a saved state.
const MAGIC: &[u8; 8] = b"RETROST8";
/// Largest description of registers and devices that is believed.
const MAX_STATE: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct State {
    /// By number.
    cpus: Vec<SavedCpu>,
    turns: TurnState,
    devices: PcState,
    ram_bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct SavedCpu {
    st: Box<CpuState>,
    /// The generator behind RDRAND and RDSEED.
    rng: u64,
}

/// Registers without what is ours: lazy flags may be represented in several ways, slices and scratch words differ.
fn visible(cpu: &mut Vcpu) -> CpuState {
    let mut st = cpu.st.clone();
    let flags = cpu.rflags();
    let icount = st.icount();
    (st.cc_op, st.cc_res, st.cc_src, st.cc_aux) = (0, 0, 0, 0);
    (st.budget, st.icount_end, st.count_bias, st.scratch, st.stop) = (0, icount, 0, [0; 4], 0);
    st.flags = flags;
    st.fault = Default::default();
    st
}

impl Machine {
    /// Writes the state. The machine is between two instructions.
    pub fn save(&mut self, w: &mut dyn Write) -> io::Result<()> {
        let ram_bytes = self.space().ram_len();
        let cpus = (0..self.cpus())
            .filter_map(|n| {
                let cpu = self.vcpu(n)?;
                Some(SavedCpu { st: Box::new(cpu.st.clone()), rng: cpu.model.rng })
            })
            .collect();
        let state =
            State { cpus, turns: self.turns.state.clone(), devices: self.devices().save(), ram_bytes };
        let bytes = postcard::to_stdvec(&state).map_err(io::Error::other)?;
        w.write_all(MAGIC)?;
        w.write_all(&(bytes.len() as u64).to_le_bytes())?;
        w.write_all(&bytes)?;
        self.space().save_ram(w)
    }

    /// Replaces this machine's state by a saved one. The machine was made with the same memory size and model.
    pub fn restore(&mut self, r: &mut dyn Read) -> io::Result<()> {
        let bad =
            |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("not a saved state: {what}"));
        let mut magic = [0; 8];
        r.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(bad("wrong first bytes"));
        }
        let mut len = [0; 8];
        r.read_exact(&mut len)?;
        let len = u64::from_le_bytes(len);
        if len > MAX_STATE {
            return Err(bad("its description is too long"));
        }
        let mut bytes = vec![0; len as usize];
        r.read_exact(&mut bytes)?;
        let state: State = postcard::from_bytes(&bytes).map_err(|e| bad(&e.to_string()))?;
        if state.ram_bytes != self.space().ram_len() {
            return Err(bad("it has another memory size than this machine"));
        }
        if state.cpus.len() != self.cpus() || !state.turns.fits(self.cpus()) {
            return Err(bad("it has another number of processors than this machine"));
        }
        self.space().restore_ram(r)?;
        self.devices().restore(state.devices).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        // The turn before the registers: who takes it sets its clock.
        self.restore_turns(state.turns);
        for (index, saved) in state.cpus.into_iter().enumerate() {
            let Some(cpu) = self.vcpu(index) else { continue };
            (cpu.st, cpu.model.rng) = (*saved.st, saved.rng);
            cpu.load_state_changed();
        }
        let smm = self.cpu.st.smm;
        self.bus().restored(smm);
        self.engine.forget_all();
        Ok(())
    }

    /// A hash over everything that the guest can see: registers, devices, memory.
    pub fn fingerprint(&mut self) -> io::Result<blake3::Hash> {
        let mut h = blake3::Hasher::new();
        for index in 0..self.cpus() {
            let Some(cpu) = self.vcpu(index) else { continue };
            h.update(&postcard::to_stdvec(&visible(cpu)).map_err(io::Error::other)?);
            h.update(&cpu.model.rng.to_le_bytes());
        }
        h.update(&postcard::to_stdvec(&self.turns.state).map_err(io::Error::other)?);
        h.update(&postcard::to_stdvec(&self.devices().save()).map_err(io::Error::other)?);
        self.space().save_ram(&mut h)?;
        Ok(h.finalize())
    }
}
