//! The direct jumps of a compiled block: where they are, and where they lead at first.

use cranelift_codegen::FinalizedMachReloc;
use cranelift_codegen::FinalizedRelocTarget;
use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::entity::PrimaryMap;
use cranelift_codegen::ir::{ExternalName, UserExternalName, UserExternalNameRef};

use super::Refused;
use crate::compiled::Site;
use crate::jump::{self, Jumps};
use crate::tb::Links;

/// Where a direct jump is to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Where this link leads.
    Link(u32),
    /// The way out of this link.
    Exit(u32),
}

impl Target {
    /// As the number of a Cranelift name.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Link(n) => n << 1,
            Self::Exit(n) => n << 1 | 1,
        }
    }

    fn of(number: u32) -> Self {
        if number & 1 == 0 { Self::Link(number >> 1) } else { Self::Exit(number >> 1) }
    }
}

/// What [`resolve`] gives.
pub(super) struct Placed {
    pub code: Vec<u8>,
    pub jumps: Vec<Site>,
    pub inner: usize,
    pub body: usize,
}

/// The direct jumps among Cranelift's relocations: where their bytes are, and the numbers of their [`Target`]s.
pub(super) fn jumps(
    relocations: &[FinalizedMachReloc],
    names: &PrimaryMap<UserExternalNameRef, UserExternalName>,
) -> Result<Vec<(usize, u32)>, Refused> {
    let jump = |r: &FinalizedMachReloc| {
        let foreign = || Refused::Relocation(format!("{:?}", r.target));
        let FinalizedRelocTarget::ExternalName(ExternalName::User(name)) = r.target else {
            return Err(foreign());
        };
        if !matches!((r.kind, r.addend), (Reloc::X86CallPCRel4, -4) | (Reloc::Arm64Call, 0)) {
            return Err(foreign());
        }
        Ok((r.offset as usize, names.get(name).ok_or_else(foreign)?.index))
    };
    relocations.iter().map(jump).collect()
}

/// Appends the ways out and makes every jump lead to its link's. The result may lie anywhere.
pub(super) fn resolve(
    jumps: Jumps,
    mut code: Vec<u8>,
    sites: &[(usize, u32)],
    links: &Links,
    stub: usize,
) -> Result<Placed, Refused> {
    // The frame stays from block to block where every exit can leave it.
    let inner = jumps.entry_with_frame(&code);
    let frame = inner != 0 && sites.iter().all(|(site, _)| jumps.keep_frame(&mut code, *site));
    if !frame && inner != 0 {
        return Err(Refused::Codegen("a tail call of an unknown shape".to_owned()));
    }
    let body = code.len();
    let mut exits = Vec::with_capacity(links.0.len());
    for link in &links.0 {
        code.resize(code.len().next_multiple_of(4), 0);
        exits.push(code.len());
        code.extend_from_slice(&jumps.way_out(std::ptr::from_ref(&**link), stub, frame));
    }
    let mut places = Vec::with_capacity(links.0.len());
    for &(site, number) in sites {
        let target = Target::of(number);
        let (Target::Link(link) | Target::Exit(link)) = target;
        let link = link as usize;
        let foreign = || Refused::Relocation(format!("link {link} at {site:#x}"));
        let exit = *exits.get(link).ok_or_else(foreign)?;
        let bytes = jumps.to(site, exit).ok_or_else(foreign)?;
        code.get_mut(site..site + jump::PATCHED).ok_or_else(foreign)?.copy_from_slice(&bytes);
        if target == Target::Link(link as u32) {
            places.push(Site { link, site, exit });
        }
    }
    Ok(Placed { code, jumps: places, inner, body })
}
