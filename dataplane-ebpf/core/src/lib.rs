//! Integer arithmetic that the kernel programs and user space share
