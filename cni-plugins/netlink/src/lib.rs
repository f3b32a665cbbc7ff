//! The one netlink wrapper: links, addresses, routes, namespaces, filter rules
