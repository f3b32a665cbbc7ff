//! The master as a value: frameworks, agents, offers, operations, reconciliation
