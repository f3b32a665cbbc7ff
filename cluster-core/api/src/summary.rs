//! Resources as the classic endpoints show them: an object by name.
//!
//! `cpus`, `gpus`, `mem` and `disk` are always there; ranges and sets are texts, and
//! revocable resources have keys of their own, `<name>_revocable`.

use mizzen_types::resources::{Resources, Value};
use serde_json::{Map, json};

/// Names that every summary has.
const ALWAYS: [&str; 4] = ["cpus", "gpus", "mem", "disk"];

/// The summary of `resources`.
#[must_use]
pub fn of(resources: &Resources) -> serde_json::Value {
    let mut summary: Map<String, serde_json::Value> =
        ALWAYS.iter().map(|name| ((*name).to_owned(), json!(0.0))).collect();
    let (plain, revocable) = (resources.non_revocable(), resources.revocable());
    for (part, suffix) in [(plain, ""), (revocable, "_revocable")] {
        for name in part.names() {
            summary.insert(format!("{name}{suffix}"), amount(&part, &name));
        }
    }
    serde_json::Value::Object(summary)
}

fn amount(resources: &Resources, name: &str) -> serde_json::Value {
    let first = resources.iter().find(|resource| &*resource.name == name);
    match first.map(|resource| &resource.value) {
        Some(Value::Ranges(_)) => {
            let ranges = resources.ranges(name);
            let parts: Vec<String> =
                ranges.iter().map(|(begin, end)| format!("{begin}-{end}")).collect();
            json!(format!("[{}]", parts.join(", ")))
        }
        Some(Value::Set(items)) => {
            let items: Vec<&str> = items.iter().map(String::as_str).collect();
            json!(format!("{{{}}}", items.join(", ")))
        }
        _ => json!(resources.scalar(name).as_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_scalars_are_always_there() {
        let resources = Resources::parse("cpus:2;ports:[31000-31001,31005-31005]").unwrap();
        let want = json!({
            "cpus": 2.0, "gpus": 0.0, "mem": 0.0, "disk": 0.0,
            "ports": "[31000-31001, 31005-31005]",
        });
        assert_eq!(of(&resources), want);
    }
}
