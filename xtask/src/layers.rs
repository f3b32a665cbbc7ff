//! Which crate may use which: the floors of `ARCHITECTURE.md` as a table.
//!
//! A crate may depend on the floors below its own and on the neighbours that are
//! named. Dependencies of tests alone are not looked at.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{cargo, output_of, root};

/// Reads the crates and their edges from cargo and fails with each edge that is not allowed.
pub fn check() -> Result<()> {
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let metadata = output_of(cargo().args(arguments).current_dir(root()?))?;
    let metadata: Metadata =
        serde_json::from_str(&metadata).context("cannot read what cargo metadata says")?;
    let crates = edges(&metadata);
    let violations = violations(&crates);
    if !violations.is_empty() {
        bail!("{} edges are not allowed:\n  {}", violations.len(), violations.join("\n  "));
    }
    let count: usize = crates.values().map(BTreeSet::len).sum();
    println!("{} crates, {count} edges, all allowed", crates.len());
    Ok(())
}

/// The floors, from below. Whoever is not listed lies under `tests/` or is refused.
const FLOORS: [&[&str]; 4] = [
    // words
    &["mizzen-types", "mizzen-api", "mizzen-ebpf-abi", "mizzen-ebpf-core", "mizzen-net-words"],
    // decisions
    &[
        "mizzen-allocator",
        "mizzen-master",
        "mizzen-agent",
        "mizzen-services",
        "mizzen-membership",
        "mizzen-dns-core",
        "mizzen-cni-core",
        "mizzen-plan",
    ],
    // adapters
    &[
        "mizzen-kernel",
        "mizzen-store",
        "mizzen-http",
        "mizzen-gossip",
        "mizzen-ebpf-loader",
        "mizzen-nfqueue",
        "mizzen-netlink",
        "mizzen-dns-server",
        "mizzen-isolators",
        "mizzen-files",
    ],
    // wiring
    &["mizzen", "mizzen-cni", "mizzen-launch"],
];

/// Edges between neighbours.
const SIDEWAYS: [(&str, &[&str]); 7] = [
    ("mizzen-api", &["mizzen-types"]),
    // What the kernel's side says too.
    ("mizzen-types", &["mizzen-net-words"]),
    ("mizzen-master", &["mizzen-allocator"]),
    // Desired states of all parts meet there.
    ("mizzen-plan", FLOORS[1]),
    ("mizzen-kernel", &["mizzen-netlink", "mizzen-ebpf-loader", "mizzen-nfqueue", "mizzen-files"]),
    ("mizzen-isolators", &["mizzen-files"]),
    // Routes to VIPs and paths to backends.
    ("mizzen-nfqueue", &["mizzen-netlink"]),
];

/// What a crate may not reach, over however many edges.
const CLOSED: [(&str, &[&str]); 6] = [
    ("mizzen-cni", CLUSTER),
    ("mizzen-cni-core", CLUSTER),
    ("mizzen-netlink", CLUSTER),
    ("mizzen-ebpf-loader", CLUSTER),
    ("mizzen-nfqueue", CLUSTER),
    // The resolver stays free of the v1 messages and of prost.
    ("mizzen-dns-server", &["mizzen-api"]),
];

/// Words and decisions of the cluster.
const CLUSTER: &[&str] = &[
    "mizzen-types",
    "mizzen-api",
    "mizzen-allocator",
    "mizzen-master",
    "mizzen-agent",
    "mizzen-services",
    "mizzen-membership",
];

/// Tools that nothing depends on.
const TOOLS: [&str; 1] = ["xtask"];

/// A crate's name → the crates of ours that it uses.
type Crates = BTreeMap<String, BTreeSet<String>>;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
}

fn edges(metadata: &Metadata) -> Crates {
    let of_tests = |package: &&Package| package.manifest_path.contains("/tests/");
    let ours = |dependency: &&Dependency| {
        dependency.path.is_some() && dependency.kind.as_deref() != Some("dev")
    };
    metadata
        .packages
        .iter()
        .filter(|package| !of_tests(package) && !TOOLS.contains(&package.name.as_str()))
        .map(|package| {
            let uses = package.dependencies.iter().filter(ours).map(|d| d.name.clone());
            (package.name.clone(), uses.collect())
        })
        .collect()
}

fn violations(crates: &Crates) -> Vec<String> {
    let mut violations = Vec::new();
    for (user, uses) in crates {
        let Some(upper) = floor(user) else {
            violations.push(format!("{user} stands on no floor: give it one in the table"));
            continue;
        };
        for used in uses {
            if !(floor(used).is_some_and(|lower| lower < upper) || is_named(user, used)) {
                violations.push(format!("{user} → {used}"));
            }
        }
    }
    for (user, closed) in CLOSED {
        let reached = reach(crates, user);
        let forbidden = closed.iter().filter(|used| reached.contains(**used));
        violations.extend(forbidden.map(|used| format!("{user} ⇢ {used} (by way of others)")));
    }
    violations
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&name))
}

fn is_named(user: &str, used: &str) -> bool {
    SIDEWAYS.iter().any(|(from, to)| *from == user && to.contains(&used))
}

fn reach<'a>(crates: &'a Crates, from: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(user) = open.pop() {
        for used in crates.get(user).into_iter().flatten() {
            if reached.insert(used.as_str()) {
                open.push(used);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crates(edges: &[(&str, &[&str])]) -> Crates {
        let names = |uses: &&[&str]| uses.iter().map(|name| (*name).to_owned()).collect();
        edges.iter().map(|(user, uses)| ((*user).to_owned(), names(uses))).collect()
    }

    #[test]
    fn edges_go_down_or_are_named() {
        type Row<'a> = (&'a str, &'a [(&'a str, &'a [&'a str])], &'a [&'a str]);
        #[rustfmt::skip]
        let table: &[Row] = &[
            ("down",     &[("mizzen-agent", &["mizzen-types", "mizzen-api"])], &[]),
            ("far down", &[("mizzen", &["mizzen-types", "mizzen-plan"])],      &[]),
            ("named",    &[("mizzen-master", &["mizzen-allocator"])],          &[]),
            ("sideways", &[("mizzen-agent", &["mizzen-master"])],              &["mizzen-agent → mizzen-master"]),
            ("not back", &[("mizzen-allocator", &["mizzen-master"])],          &["mizzen-allocator → mizzen-master"]),
            ("up",       &[("mizzen-types", &["mizzen-store"])],               &["mizzen-types → mizzen-store"]),
            ("unknown",  &[("mizzen-new", &[])],                               &["mizzen-new stands on no floor: give it one in the table"]),
            ("closed",   &[("mizzen-dns-server", &["mizzen-dns-core"]), ("mizzen-dns-core", &["mizzen-api"])],
                         &["mizzen-dns-server ⇢ mizzen-api (by way of others)"]),
        ];
        for (name, edges, want) in table {
            assert_eq!(violations(&crates(edges)), *want, "{name}");
        }
    }

    #[test]
    fn tests_and_their_dependencies_are_free() {
        let json = r#"{"packages": [
            {"name": "mizzen-types", "manifest_path": "/m/cluster-core/types/Cargo.toml", "dependencies": [
                {"name": "serde", "kind": null, "path": null},
                {"name": "mizzen", "kind": "dev", "path": "/m/control/node"}]},
            {"name": "anything", "manifest_path": "/m/tests/anything/Cargo.toml", "dependencies": []}]}"#;
        let metadata: Metadata = serde_json::from_str(json).expect("JSON");
        assert_eq!(edges(&metadata), crates(&[("mizzen-types", &[])]));
    }
}
