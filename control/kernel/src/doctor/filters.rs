//! Packet filters of others, as nf_tables has them; those of iptables are among them unless
//! somebody uses the old kernel interface.

use super::marks::NAME;
use mizzen_netlink::{ChainState, Nft, RuleState};
use mizzen_plan::doctor::{Base, Chain, Look, Rule, Statement};
use mizzen_types::error::chain;

/// Chains that packets come by of themselves, and all rules; without tables of this project.
pub(super) fn observe() -> (Look<Vec<Chain>>, Look<Vec<Rule>>) {
    let mut nft = match Nft::open() {
        Ok(nft) => nft,
        Err(error) => return (Err(chain(&error)), Err(chain(&error))),
    };
    // Tables of ports, which the plugins make, and of other nodes are no more in the way.
    let is_foreign = |table: &str| !table.starts_with(NAME);
    let chains = nft.observe_chains().map_err(|error| chain(&error));
    let rules = nft.observe_all_rules().map_err(|error| chain(&error));
    // Many end with a rule for what is left, instead of having a policy.
    let closed = |found: &ChainState| {
        rules.iter().flatten().any(|rule| {
            let there = (rule.family, &rule.table, &rule.chain);
            let refuses = matches!(rule.verdict.as_str(), "drop" | "reject");
            rule.every && refuses && there == (found.family, &found.table, &found.name)
        })
    };
    let chains = chains.map(|all| {
        let foreign = all.into_iter().filter(|found| is_foreign(&found.table));
        let foreign =
            foreign.map(|found| ChainState { drops: found.drops || closed(&found), ..found });
        foreign.filter_map(of_chain).collect()
    });
    let rules = rules
        .map(|all| all.into_iter().filter(|found| is_foreign(&found.table)).map(of_rule).collect());
    (chains, rules)
}

fn of_chain(chain: ChainState) -> Option<Chain> {
    let base = match chain.hook? {
        "input" => Base::Input,
        "forward" => Base::Forward,
        _ => Base::Other,
    };
    let table = format!("{} {}", chain.family, chain.table);
    Some(Chain { table, name: chain.name, base, drops: chain.drops })
}

fn of_rule(rule: RuleState) -> Rule {
    let statement = match rule.verdict.as_str() {
        "accept" => Statement::Accept,
        "drop" | "reject" => Statement::Drop,
        "nat" | "redir" | "tproxy" => Statement::Divert,
        _ => Statement::Other,
    };
    let table = format!("{} {}", rule.family, rule.table);
    Rule { table, chain: rule.chain, ports: rule.ports, links: rule.links, statement }
}
