//! The balancer in the shape of dcos-net.

use super::sight::{full_name, socket};
use mizzen_types::vip::{BackendSpec, VipKey, VipSpec};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `GET /v1/vips`, written VIP by VIP: no weight, no health, and nobody who takes no connections.
pub(crate) fn vips(specs: &BTreeMap<VipKey, VipSpec>) -> String {
    format!("[{}]", super::joined(specs.values().map(|spec| vip(spec).to_string())))
}

fn vip(spec: &VipSpec) -> Value {
    let vip = match &spec.name {
        Some(name) => format!("{}:{}", full_name(name), spec.key.port),
        None => socket(&spec.key).to_string(),
    };
    let backend = |backend: &BackendSpec| json!({ "ip": backend.address.ip(), "port": backend.address.port() });
    let backends: Value =
        spec.backends.iter().filter(|backend| backend.is_admitted()).map(backend).collect();
    json!({ "vip": vip, "protocol": spec.key.protocol, "backend": backends })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::vip_views::sight::tests::vip as seen;
    use mizzen_kernel::vips::Counts;
    use mizzen_types::vip::{Protocol, Withheld};

    #[test]
    fn as_dcos_net_answered_it() {
        let mut named = seen(vec![Counts::default(); 3]).spec;
        named.backends[2].withheld = Some(Withheld::Unhealthy);
        let mut plain = seen(vec![Counts::default()]).spec;
        plain.name = None;
        plain.key = VipKey { port: 53, protocol: Protocol::Udp, ..plain.key };
        let specs = BTreeMap::from([(named.key, named), (plain.key, plain)]);
        let recorded = include_str!("../../../../../tests/conformance/dcos-net-vips.json");
        let recorded: Value = serde_json::from_str(recorded).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&vips(&specs)).unwrap(), recorded);
    }
}
