//! Answers that were recorded of the systems before us, held against ours.
//!
//! ```text
//! names/facts.json ──▶ records ──▶ zones ──▶ server ◀── UDP ── names/*.txt
//! ```
//!
//! `names/README.md` describes the files. The files beside that folder belong to the
//! tests of the crates that serve those interfaces.

pub mod cases;
pub mod cluster;
pub mod resolver;
