//! Every HTTP listener and route of a node
