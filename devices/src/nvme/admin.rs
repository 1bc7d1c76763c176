//! Admin commands (5).

use super::command::{Command, Outcome, Status};
use super::prp::Regions;
use super::queue::{CompletionQueue, MAX_ENTRIES, SubmissionQueue};
use super::{IO_QUEUES, Nvme, identify};

mod opcode {
    pub const DELETE_SQ: u8 = 0x00;
    pub const CREATE_SQ: u8 = 0x01;
    pub const GET_LOG_PAGE: u8 = 0x02;
    pub const DELETE_CQ: u8 = 0x04;
    pub const CREATE_CQ: u8 = 0x05;
    pub const IDENTIFY: u8 = 0x06;
    pub const ABORT: u8 = 0x08;
    pub const SET_FEATURES: u8 = 0x09;
    pub const GET_FEATURES: u8 = 0x0a;
    pub const ASYNC_EVENT: u8 = 0x0c;
}
/// Physically contiguous; interrupts enabled.
const CONTIGUOUS: u32 = 1;
const INTERRUPTS: u32 = 2;
/// The namespace, and the number that stands for all.
pub(super) const NAMESPACE: u32 = 1;
pub(super) const ALL_NAMESPACES: u32 = u32::MAX;

impl Nvme {
    pub(super) fn admin(&mut self, command: &Command) -> Outcome {
        match command.opcode() {
            opcode::DELETE_SQ => self.delete_sq(command),
            opcode::CREATE_SQ => self.create_sq(command),
            opcode::GET_LOG_PAGE => self.get_log_page(command),
            opcode::DELETE_CQ => self.delete_cq(command),
            opcode::CREATE_CQ => self.create_cq(command),
            opcode::IDENTIFY => self.identify(command),
            opcode::ABORT => self.abort(command),
            opcode::SET_FEATURES => {
                let busy = self.state.sqs[1..].iter().any(Option::is_some)
                    || self.state.cqs[1..].iter().any(Option::is_some);
                self.state.features.set(command.word(10), command.word(11), busy).map(Some)
            }
            opcode::GET_FEATURES => self.state.features.get(command.word(10), command.word(11)).map(Some),
            opcode::ASYNC_EVENT => self.state.events.request(command.id()),
            _ => Err(Status::INVALID_OPCODE),
        }
    }

    /// Number, entries and address of a queue to create, none of which is there yet.
    fn new_queue(&self, command: &Command, taken: impl Fn(usize) -> bool) -> Result<(u16, u32, u64), Status> {
        let (id, size) = (command.word(10) as u16, (command.word(10) >> 16) + 1);
        let [base, _] = command.prps();
        if id == 0 || id > IO_QUEUES || taken(id.into()) {
            return Err(Status::INVALID_QUEUE_ID);
        }
        if !(2..=MAX_ENTRIES).contains(&size) {
            return Err(Status::INVALID_QUEUE_SIZE);
        }
        if command.word(11) & CONTIGUOUS == 0 {
            return Err(Status::INVALID_FIELD);
        }
        if !base.is_multiple_of(self.state.registers.page() as u64) {
            return Err(Status::PRP_OFFSET);
        }
        Ok((id, size, base))
    }

    fn create_cq(&mut self, command: &Command) -> Outcome {
        let (id, size, base) = self.new_queue(command, |id| self.state.cqs[id].is_some())?;
        let (interrupts, vector) = (command.word(11) & INTERRUPTS != 0, (command.word(11) >> 16) as u16);
        let vectors = if self.msix.enabled(&self.config) { IO_QUEUES + 1 } else { 1 };
        if vector >= vectors {
            return Err(Status::INVALID_VECTOR);
        }
        self.state.cqs[usize::from(id)] = Some(CompletionQueue::new(base, size, interrupts, vector));
        Ok(Some(0))
    }

    fn create_sq(&mut self, command: &Command) -> Outcome {
        let (id, size, base) = self.new_queue(command, |id| self.state.sqs[id].is_some())?;
        let cq = (command.word(11) >> 16) as u16;
        if cq == 0 || self.state.cq(cq).is_none() {
            return Err(Status::INVALID_CQ);
        }
        self.state.sqs[usize::from(id)] = Some(SubmissionQueue::new(base, size, cq));
        Ok(Some(0))
    }

    fn delete_sq(&mut self, command: &Command) -> Outcome {
        let id = command.word(10) as u16;
        if id == 0 || self.state.sq(id).is_none() {
            return Err(Status::INVALID_QUEUE_ID);
        }
        self.state.sqs[usize::from(id)] = None;
        Ok(Some(0))
    }

    fn delete_cq(&mut self, command: &Command) -> Outcome {
        let id = command.word(10) as u16;
        if id == 0 || self.state.cq(id).is_none() {
            return Err(Status::INVALID_QUEUE_ID);
        }
        if self.state.sqs.iter().flatten().any(|sq| sq.cq == id) {
            return Err(Status::QUEUE_DELETION);
        }
        self.state.cqs[usize::from(id)] = None;
        self.drive_intx();
        Ok(Some(0))
    }

    /// Writes data to where the command wants it.
    fn reply(&self, command: &Command, data: &[u8]) -> Outcome {
        let page = self.state.registers.page();
        let regions = Regions::new(&self.dma, command.prps(), data.len(), page)?;
        if regions.write(&self.dma, 0, data) { Ok(Some(0)) } else { Err(Status::DATA_TRANSFER_ERROR) }
    }

    fn identify(&self, command: &Command) -> Outcome {
        let namespace = command.namespace();
        let (structure, command_set) = (command.word(10) as u8, command.word(11) >> 24);
        let of_namespace = |page: Vec<u8>| match namespace {
            NAMESPACE => Ok(page),
            // One that could be there, but is not, is all zeros; only one can.
            _ => Err(Status::INVALID_NAMESPACE),
        };
        let page = match structure {
            0x00 => {
                let sectors = self.disk.len() / crate::block::SECTOR;
                of_namespace(identify::namespace(sectors, self.disk.read_only()))?
            }
            0x01 => identify::controller(&self.serial),
            0x02 if namespace >= ALL_NAMESPACES - 1 => return Err(Status::INVALID_NAMESPACE),
            0x02 => identify::active_namespaces(namespace),
            0x03 => of_namespace(identify::descriptors(&self.serial))?,
            // Of the NVM command set there is nothing to say.
            0x05 if command_set == 0 => of_namespace(vec![0; identify::LEN])?,
            0x06 if command_set == 0 => vec![0; identify::LEN],
            _ => return Err(Status::INVALID_FIELD),
        };
        self.reply(command, &page)
    }

    fn get_log_page(&mut self, command: &Command) -> Outcome {
        let number = command.word(10) as u8;
        let dwords = u64::from(command.word(11) & 0xffff) << 16 | u64::from(command.word(10) >> 16);
        let offset = u64::from(command.word(13)) << 32 | u64::from(command.word(12));
        let page = identify::log(number).ok_or(Status::INVALID_LOG)?;
        if offset % 4 != 0 || offset > page.len() as u64 {
            return Err(Status::INVALID_FIELD);
        }
        let from = offset as usize;
        let len = usize::try_from(4 * (dwords + 1)).unwrap_or(usize::MAX).min(page.len() - from);
        let outcome = self.reply(command, &page[from..from + len])?;
        // Retain asynchronous event.
        if command.word(10) & 1 << 15 == 0 {
            self.state.events.log_read(number);
        }
        Ok(outcome)
    }

    /// Only requests for events ever wait. An abort succeeds in any case; bit 0 says whether it came too late.
    fn abort(&mut self, command: &Command) -> Outcome {
        let (queue, id) = (command.word(10) as u16, (command.word(10) >> 16) as u16);
        // Two completions follow.
        let room = self.state.cq(0).is_some_and(|cq| cq.room() > 1);
        let aborted = queue == 0 && room && self.state.events.abort(id);
        if aborted {
            self.complete(0, id, Err(Status::ABORTED));
        }
        Ok(Some(u32::from(!aborted)))
    }
}
