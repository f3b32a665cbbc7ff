//! What comes to the loop from outside of it.

use super::asking::AskedChange;
use super::kept::Collected;
use super::overlay::fast_path::FastPathReport;
use super::policy::PolicyReport;
use super::task_pages::{After, TaskPage};
use mizzen_agent::task::{Ended, Started};
use mizzen_agent::{Answer, LaunchFailure, Record};
use mizzen_http::core::QueryReply;
use mizzen_kernel::endings::{Ended as VipsEnded, Endings};
use mizzen_kernel::network::Report;
use mizzen_kernel::policy::Refusal;
use mizzen_kernel::tunnels::TunnelReport;
use mizzen_types::ids::{ContainerId, OwnerId};
use tokio::sync::oneshot;

/// Something that happened outside of the loop.
#[derive(Debug)]
pub(crate) enum Input {
    /// A container was made, or was not.
    Launched(ContainerId, Result<Started, (LaunchFailure, String)>),
    /// A container ended.
    Ended(ContainerId, Ended),
    /// A probe came back.
    Probed(ContainerId, Answer),
    /// Something of a container could not be removed, and why; or all of it is gone.
    Left(ContainerId, Option<String>),
    /// Sockets of backends that left were ended.
    SocketsEnded(Endings, VipsEnded),
    /// Something happened to the node's links.
    LinksChanged,
    /// Something of the overlays may have been removed or changed by somebody.
    OverlayTouched,
    /// A link takes packets of another size.
    LinkResized,
    /// The largest packet that reaches another node, in bytes.
    PathProbed(OwnerId, u32),
    /// A pass over the tunnels to other nodes is over.
    Tunnels(TunnelReport),
    /// A pass over what takes the overlay's fast path is over.
    FastPath(FastPathReport),
    /// Programs were given what policies say.
    Policy(PolicyReport),
    /// Programs refused something, or would have.
    Refused(Vec<Refusal>),
    /// A pass over the node's network is over, the one with this number.
    NetworkPass(u64, Report),
    /// What a former process kept of ended tasks, oldest first.
    Recovered(Vec<Record>),
    /// All that a former process knew of names is read.
    NamesLoaded,
    /// Somebody lists all tasks and wants those after one.
    TaskPage(Option<After>, oneshot::Sender<TaskPage>),
    /// A look at the sandboxes of ended tasks is over.
    Collected(Collected),
    /// What a peer asked by this number is found.
    LookedUp(OwnerId, u64, QueryReply),
    /// A peer asks this node's master, under this number, to change a policy.
    ChangeAsked(Box<AskedChange>),
}
