//! The reconciler: what the kernel should hold, compared with what it holds.
//!
//! [`network`] keeps the node's links, addresses, kernel settings and its
//! table of filter rules; [`tunnels`] what leads to containers of other nodes,
//! [`published`] ports of this host that lead to containers; [`fast_path`] what passes by bridges and routes; [`policy`] who may talk to whom; [`vips`] keeps the balancer's tables, [`ingress`] its programs on links. All observe before they
//! act, so a restart is an ordinary pass, and mark what is theirs (names that
//! carry the instance, a table and a pin directory of their own) and touch nothing
//! else. What *should* be is decided in `control/plan`. [`doctor`] only looks, and so does [`leases`].

pub mod doctor;
pub mod endings;
pub mod fast_path;
pub mod ingress;
pub mod leases;
pub mod network;
pub mod path_mtu;
pub mod policy;
pub mod published;
pub mod tunnels;
pub mod vips;
