//! Words that both the cluster and the kernel's side say, so that neither has to know the
//! other to say them.

mod mac;
mod port;
mod protocol;

pub use mac::{Mac, MacError};
pub use port::PortEntry;
pub use protocol::Protocol;
