//! Loads, attaches, pins and replaces the VIP programs; reads and writes their maps
