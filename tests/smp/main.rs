//! Several processors, by programs of our own without firmware or packages: what they tell one another by interrupts and by memory.
//!
//! The programs are the `.asm` files; each says what its results are.

mod determinism;
mod devices;
mod interrupts;
mod litmus;
mod memory;
mod stress;
mod x2apic;
