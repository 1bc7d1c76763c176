//! The runner of single-step vectors, on small files made here.

mod build;
mod cases;
mod damage;
mod early;
mod late;
