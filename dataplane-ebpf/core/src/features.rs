//! What programs may want of a kernel, by name: the loader tries it, and people are told.

/// Something that a kernel can do for programs, or cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BpfFeature {
    /// Programs at connect, sendmsg and recvmsg of a cgroup's processes.
    ConnectPrograms,
    /// Programs at getpeername.
    PeerNamePrograms,
    /// Programs at the end of a socket.
    ReleasePrograms,
    /// Programs that follow TCP connections.
    SocketPrograms,
    /// Programs on network links.
    LinkPrograms,
    /// Maps that push out what is oldest.
    LruMaps,
    /// Asking which network a connection is of.
    NetworkCookies,
    /// Sending a packet to a neighbour.
    RedirectNeighbour,
    /// Putting a packet into another network namespace.
    RedirectPeer,
    /// Choosing the error of a refused connect.
    ChosenErrors,
    /// Programs on network links by links of the kernel's own.
    Tcx,
}

impl BpfFeature {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::ConnectPrograms,
        Self::PeerNamePrograms,
        Self::ReleasePrograms,
        Self::SocketPrograms,
        Self::LinkPrograms,
        Self::LruMaps,
        Self::NetworkCookies,
        Self::RedirectNeighbour,
        Self::RedirectPeer,
        Self::ChosenErrors,
        Self::Tcx,
    ];
}
