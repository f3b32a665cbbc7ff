//! The agent as a value: tasks, containers, status updates, recovery
