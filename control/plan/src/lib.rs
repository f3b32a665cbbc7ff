//! From facts to what the kernel and the resolver should hold
