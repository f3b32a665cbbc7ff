//! Whether every container of a cluster reaches every other one, and every name and VIP.
//!
//! In each container runs one [`prober`]: it answers, and when it is asked to, it asks all
//! others by itself. So a cluster of n containers takes n requests from outside for n² looks.
//!
//! ```text
//!  test ── Question ──▶ prober ── datagram ──▶ every other container's prober
//!       ◀── Findings ──        ── resolver ──▶ every name
//!                              ── connect ───▶ every VIP ──▶ the prober behind it
//! ```

mod expected;
pub mod prober;
mod question;

pub use expected::{APP_PORT, Expected, VIP_PORT, app};
pub use question::{Findings, Question, ask_all};
