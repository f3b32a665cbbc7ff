//! The resolver's sockets: UDP, TCP and forwarding
