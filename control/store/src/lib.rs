//! The embedded store: five operations over redb
