//! From facts to what the kernel and the resolver should hold.
//!
//! Desired states meet here: [`vip`] turns tasks and registered services into VIPs and
//! claims their addresses, [`vip_service`] reads and writes what is registered,
//! [`overlay`] turns the node's subnet into a bridge, a network configuration and a
//! masquerade rule, [`policy`] turns policies into rulings about classes of addresses,
//! [`ingress`] says by which links VIP traffic may arrive. Nothing here looks at the
//! kernel; that is `control/kernel`.

pub mod doctor;
pub mod ingress;
pub mod node_problems;
pub mod overlay;
pub mod policy;
pub mod vip;
pub mod vip_service;
