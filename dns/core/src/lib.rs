//! Names without I/O: facts to records, questions to answers.
//!
//! ```text
//! fact ──records_of──▶ records ──Zones::set──▶ zones ──answer──▶ what to send
//! ```
//!
//! [`records_of`] makes the records of one fact, [`Zones`] keeps them by name and by
//! owner, so that a fact's change touches its own records and no others, and
//! [`answer`] says what a question deserves. [`explain`] says the same to a person.
//! The sockets are in `mizzen-dns-server`.

mod explain;
mod forward;
pub mod mangle;
mod name;
mod options;
mod owner;
mod query;
mod record;
mod records;
mod route;
mod statics;
mod task;
mod zone;

pub use hickory_proto::rr::RecordType;

pub use explain::{Explained, Explanation, Verdict, explain};
pub use forward::ForwardTable;
pub use name::{DnsName, NameError};
pub use options::{IpSource, Options};
pub use owner::OwnerKey;
pub use query::{Answer, Asked, answer};
pub use record::{Data, Record, Start, Withheld};
pub use records::{records_of, vip_records};
pub use zone::Zones;
