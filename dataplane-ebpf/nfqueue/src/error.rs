//! What can go wrong, with the object and the request in each variant.

use std::io;
use std::net::SocketAddr;

use mizzen_netlink::NetlinkError;

use crate::VipAddress;

/// The engine cannot start, or cannot be removed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kernel gives no socket, or not one as we need it.
    #[error("cannot open a netfilter socket for the VIP queues")]
    Socket(#[source] io::Error),
    /// The kernel refuses our rules.
    #[error("cannot bring the rules of table `{table}` into the kernel")]
    Rules {
        /// Name of the tables, one for each address family.
        table: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Somebody else has tables of that name.
    #[error("a table `{table}` exists that is not ours")]
    Foreign {
        /// Their name.
        table: String,
    },
    /// A queue is somebody else's.
    #[error("cannot listen to queue {queue}; another program may")]
    Queue {
        /// Its number.
        queue: u16,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// VIPs cannot be routed.
    #[error("cannot set the routes of VIP networks")]
    Route(#[from] NetlinkError),
    /// There is no thread for the queues.
    #[error("cannot start the thread of the VIP queues")]
    Thread(#[source] io::Error),
}

/// A change could not be made; nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The kernel refuses to change the set of VIPs.
    #[error("cannot change {count} VIPs in the kernel's set{}", of(*vip))]
    Set {
        /// One of them.
        vip: Option<VipAddress>,
        /// How many were to be changed.
        count: usize,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The VIP cannot be routed.
    #[error("cannot set a route to VIP {vip}")]
    Route {
        /// The VIP.
        vip: VipAddress,
        /// The kernel's answer.
        #[source]
        source: NetlinkError,
    },
    /// One backend was named twice.
    #[error("VIP {vip} names backend {backend} twice")]
    Duplicate {
        /// The VIP.
        vip: VipAddress,
        /// The backend.
        backend: SocketAddr,
    },
    /// Packets cannot be translated from one address family to the other.
    #[error("VIP {vip} cannot lead to backend {backend}: they are of different address families")]
    Family {
        /// The VIP.
        vip: VipAddress,
        /// The backend.
        backend: SocketAddr,
    },
}

fn of(vip: Option<VipAddress>) -> String {
    vip.map_or_else(String::new, |vip| format!(", {vip} first"))
}
