//! What fuzz targets do with bytes.
//!
//! [`TARGETS`] names them; `fuzz/` links each with libFuzzer and keeps what was found in
//! `fuzz/corpus`, and a test here replays that. A target fails by a panic: of the code
//! that takes the bytes, or of what is said about it here.

mod cluster;
mod dns;
mod http;
mod kept_names;
mod members;
mod policy;
mod texts;

/// A target: its name, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 14] = [
    ("dns_message", dns::message),
    ("dns_relayed", dns::relayed),
    ("dns_names", dns::names),
    ("facts", dns::facts),
    ("names_log", kept_names::log),
    ("names_index", kept_names::index),
    ("members", members::members),
    ("upstreams", texts::upstreams),
    ("import_config", texts::import_config),
    ("cni_config", texts::cni_config),
    ("policy", policy::policy),
    ("app_json", http::app_json),
    ("http_query", http::query),
    ("v1_calls", http::v1_calls),
];

/// Runs the target of this name.
///
/// # Panics
///
/// Where it finds something wrong, or if there is none of this name.
#[expect(clippy::panic, reason = "that is how a fuzz target tells")]
pub fn run(name: &str, data: &[u8]) {
    match TARGETS.iter().find(|(target, _)| *target == name) {
        Some((_, target)) => target(data),
        None => panic!("no target is called `{name}`"),
    }
}
