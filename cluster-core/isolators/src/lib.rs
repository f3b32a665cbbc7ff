//! Containers: cgroups, namespaces, networks and the launcher's handle
