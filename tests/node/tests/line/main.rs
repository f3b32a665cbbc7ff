//! The line through all parts of one node: app, task, container, address, name, VIP,
//! and what survives what.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod arriving;
mod command_line;
mod containers;
mod dns_operator;
mod dns_restart;
mod dns_role;
mod doctor;
mod draining;
mod healing;
mod instances;
mod labs;
mod leaving;
mod names;
mod policy;
mod ports;
mod queues;
mod survival;
mod vip_services;
mod vip_views;
mod vips;
