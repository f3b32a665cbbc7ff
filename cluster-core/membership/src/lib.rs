//! Owner logs, and the view of the cluster that they add up to
