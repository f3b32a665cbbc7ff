//! Whole lives: calls in, effects out, as lines of text.

mod agents;
mod bench;
mod drains;
mod lives;
mod maintenance;
mod overlays;
mod simulation;
mod ways;
