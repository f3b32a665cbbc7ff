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

pub mod by_hand;
mod cache;
mod explain;
mod filling;
mod forward;
mod hash;
pub mod mangle;
mod name;
mod options;
mod owner;
mod page;
mod plain;
mod prepared;
mod query;
mod record;
mod records;
mod relayed;
mod reserved;
mod reverse;
mod route;
mod search;
mod short;
mod statics;
mod store;
mod task;
mod upstreams;
mod wire;
mod zone;

pub use hickory_proto::rr::RecordType;

pub use cache::{CacheKey, Freshness, Kept};
pub use explain::{Explained, Explanation, Verdict, explain};
pub use filling::Traces;
pub use forward::{Channel, ForwardTable, Upstream, UpstreamSpecError};
pub use hash::Seed;
pub use name::{DnsName, NameError};
pub use options::{IpSource, Mode, Options, OptionsError};
pub use owner::OwnerKey;
pub use page::Cursor;
pub use plain::{Outline, PlainEdns, PlainQuestion};
pub use prepared::Prepared;
pub use query::{Absence, Answer, Asked, End, answer};
pub use record::{Binding, Data, Record, Start, Withheld};
pub use records::{depends_on_places, records_of, vip_records};
pub use relayed::{Age, Asker, Notice, Opt, Relayed, Sent, Unfit, Worth};
pub use reverse::reverse_name;
pub use search::LocalNames;
pub use short::{PlainAnswer, PlainTurn};
pub use upstreams::{Choice, Ended, Standing, UpstreamState, Upstreams};
pub use zone::{ZoneNumber, Zones};
