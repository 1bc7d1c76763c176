//! Starts a kernel: recognises the file and runs the loader of its boot protocol.

use crate::bzimage;
use crate::chunk::Chunk;
use crate::detect::ImageKind;
use crate::e820::{E820Entry, MemoryLayout};
use crate::entry::EntryState;
use crate::error::LoadError;
use crate::multiboot;
use crate::placer::Placer;
use crate::pvh;
use crate::vmlinux;

/// Which entry point of a bzImage to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinuxEntry {
    /// The 64-bit one where there is one.
    #[default]
    Auto,
    /// `code32_start`, in protected mode.
    Protected32,
    /// `startup_64`, in 64-bit mode.
    Long64,
}

/// The display that the kernel is told about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Video {
    /// None: every field of `screen_info` is zero, so that no console driver touches video memory.
    #[default]
    None,
    /// VGA text mode 3, 80 x 25.
    Text80x25,
}

/// A file given beside the kernel: the initrd, or a multiboot module.
#[derive(Clone, Copy, Debug)]
pub struct Module<'a> {
    /// Contents.
    pub bytes: &'a [u8],
    /// Its command line (multiboot, PVH).
    pub command_line: &'a [u8],
}

/// What to boot, and where.
#[derive(Clone, Debug)]
pub struct BootRequest<'a> {
    /// The kernel file.
    pub kernel: &'a [u8],
    /// Its name, which multiboot puts before the command line.
    pub kernel_name: &'a str,
    /// The kernel's command line.
    pub command_line: &'a [u8],
    /// Initrd or modules.
    pub modules: &'a [Module<'a>],
    /// Memory of the machine.
    pub layout: MemoryLayout,
    /// From [`crate::Firmware`].
    pub e820: &'a [E820Entry],
    /// From [`crate::Firmware`].
    pub rsdp: Option<u64>,
    /// The display.
    pub video: Video,
    /// Entry point of a bzImage.
    pub entry: LinuxEntry,
}

/// A kernel, ready to run.
#[derive(Clone, Debug)]
pub struct Loaded<'a> {
    /// What was recognised.
    pub kind: ImageKind,
    /// Memory contents. What no chunk names must be zero: the end of a kernel's data is not spelled out.
    pub chunks: Vec<Chunk<'a>>,
    /// State of the boot processor.
    pub entry: EntryState,
}

/// Loads the kernel of `request`.
pub fn load<'a>(request: &BootRequest<'a>) -> Result<Loaded<'a>, LoadError> {
    let kind = ImageKind::detect(request.kernel).map_err(LoadError::Unknown)?;
    let mut memory = Placer::new(&request.layout);
    let mut chunks = Vec::new();
    let entry = match kind {
        ImageKind::BzImage => bzimage::load(request, &mut memory, &mut chunks)?,
        ImageKind::Multiboot => multiboot::load(request, &mut memory, &mut chunks)?,
        ImageKind::Pvh => pvh::load(request, &mut memory, &mut chunks)?,
        ImageKind::Vmlinux => vmlinux::load(request, &mut memory, &mut chunks)?,
    };
    // A segment without bytes, or a module, may be said to lie anywhere.
    chunks.retain(|chunk| !chunk.bytes.is_empty());
    Ok(Loaded { kind, chunks, entry })
}

/// The single initrd of protocols that have one.
pub(crate) fn single_module<'a>(request: &BootRequest<'a>) -> Result<Option<&'a [u8]>, LoadError> {
    match request.modules {
        [] => Ok(None),
        [module] => Ok(Some(module.bytes)),
        many => Err(LoadError::TooManyModules(many.len())),
    }
}

/// Puts the command line, terminated by a zero byte, at a low address.
pub(crate) fn place_command_line<'a>(
    text: &[u8],
    memory: &mut Placer,
    chunks: &mut Vec<Chunk<'a>>,
) -> Result<u64, LoadError> {
    let mut bytes = text.to_vec();
    bytes.push(0);
    let at = memory.low(bytes.len() as u64, 16).ok_or(LoadError::OutOfMemory("command line"))?;
    chunks.push(Chunk::owned(at, bytes, "command line"));
    Ok(at)
}

/// Puts the initrd as high as the kernel allows, page aligned; gives its address.
pub(crate) fn place_initrd<'a>(
    bytes: &'a [u8],
    limit: u64,
    layout: &MemoryLayout,
    memory: &mut Placer,
    chunks: &mut Vec<Chunk<'a>>,
) -> Result<u64, LoadError> {
    let len = bytes.len() as u64;
    let at = memory.high(len, 0x1000, limit).ok_or_else(|| {
        let room = memory.largest_below(limit);
        let needed = layout.below_4g() + len.saturating_sub(room);
        // More memory helps only while the kernel's limit lies above what there is.
        let remedy_mib = (needed < limit.min(crate::e820::PCI_HOLE)).then_some((needed >> 20) + 2);
        LoadError::InitrdTooLarge { len, room, limit, remedy_mib }
    })?;
    chunks.push(Chunk::borrowed(at, bytes, "initrd"));
    Ok(at)
}
