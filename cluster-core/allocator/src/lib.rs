//! Who is offered what: hierarchical, weighted dominant resource fairness.
//!
//! [`Allocator`] is a value. Events (agents and frameworks come, go and change,
//! resources come back) only note which agents are worth a look; one call of
//! [`Allocator::allocate`] then looks at exactly those. What comes back without
//! such an event, such as declined resources, waits for the next batch, for which
//! [`Allocator::poll_deadline`] asks and [`Allocator::handle_timeout`] is called.
//!
//! ```text
//! sorter.rs   who is next (tree of roles; frameworks of one role)    share.rs, node.rs
//! state.rs    agents and frameworks as the allocator sees them
//! filter.rs   what frameworks refused, and until when
//! inverse.rs  who is asked to leave agents that are to be maintained
//! run.rs      one allocation run and its stages
//! allocator.rs  the events              tracking.rs, candidates.rs
//! ```

mod allocator;
mod candidates;
mod filter;
mod inverse;
mod node;
mod run;
mod share;
mod sorter;
mod state;
mod tracking;

pub use allocator::{Allocation, Allocator};
pub use inverse::Requests;
pub use share::{Share, Weight};
pub use sorter::{Sorter, Total};
pub use state::{
    Activity, AgentAllocation, AgentCapability, AgentSpec, FrameworkCapability, FrameworkSpec,
    GpuPolicy, Region, Settings,
};
