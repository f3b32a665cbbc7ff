//! Integer arithmetic that the kernel programs and user space share.
//!
//! Everything that programs use is what the verifier likes: by value, no floats, no
//! slices, no allocation, nothing that can panic. Walking maps stays with the callers.
//! [`policy`] is also what explains to people why a connection is refused.
//! [`ring`], which fills the tables that programs look into, is for user space, and so
//! are the words of callers, which are there with the feature `user` only.

#![no_std]

#[cfg(feature = "user")]
extern crate alloc;

pub mod account;
pub mod bucket;
pub mod eject;
pub mod ewma;
#[cfg(feature = "user")]
pub mod features;
#[cfg(feature = "user")]
pub mod paths;
pub mod policy;
pub mod rewrite;
pub mod ring;
pub mod select;
pub mod steps;
#[cfg(feature = "user")]
pub mod words;
