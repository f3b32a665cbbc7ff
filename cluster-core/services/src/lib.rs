//! The built-in service scheduler, which reads Marathon app definitions
