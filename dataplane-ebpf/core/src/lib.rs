//! Integer arithmetic that the kernel programs and user space share.
//!
//! Everything here is what the verifier likes: by value, no floats, no slices, no
//! allocation, nothing that can panic. Walking maps stays with the callers.

#![no_std]

pub mod select;
