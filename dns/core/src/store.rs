//! Where names are kept: in wire form, so that an answer is copied and not made.
//!
//! ```text
//! hash ──table──▶ block of a name (node) ──▶ records as they are sent
//!                       ▲ draft: claims, sorted and written down; splice: what differs, put in
//! owner ──table──▶ block of an owner: hashes of its names
//! ```

pub(crate) mod arena;
pub(crate) mod claim;
pub(crate) mod delivery;
pub(crate) mod draft;
pub(crate) mod edits;
pub(crate) mod look;
pub(crate) mod names;
pub(crate) mod node;
pub(crate) mod owners;
pub(crate) mod splice;
pub(crate) mod suffixes;
pub(crate) mod table;
