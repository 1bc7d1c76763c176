//! See the crate.

pub mod asm;
pub mod boot;
pub mod bounds;
pub mod check;
pub mod generate;
pub mod guest;
pub mod host;
pub mod items;
pub mod layout;
pub mod listing;
pub mod media;
pub mod outcome;
pub mod pc;
pub mod random;
pub mod smp;
pub mod state;
pub mod undefined;
