//! Hierarchical weighted dominant resource fairness
