//! CNI without I/O: requests, results, leases, plans
