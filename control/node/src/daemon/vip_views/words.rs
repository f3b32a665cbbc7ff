//! The sentences of an explanation.

use super::asked::{End, Pair};
use super::explain::{find, is_last_resort, protocol};
use super::odds::{Choice, Method};
use super::sight::{Seen, Sight, State};
use mizzen_ebpf_core::ewma::FLOOR;
use mizzen_ebpf_core::select::{Load, SPILL};
use mizzen_kernel::vips::{EngineKind, Reason, Socket, Stage};
use mizzen_types::vip::{Distance, Locality, Rule, Withheld};
use std::net::SocketAddr;
use std::time::Duration;

/// Neighbours that are named at most.
const NAMED: usize = 5;

/// How a VIP chooses now.
pub(crate) fn vip(seen: &Seen, choice: &Choice, method: Method) -> Vec<String> {
    let mut words = vec![rule(choice)];
    words.extend(locality(seen, choice));
    words.extend(trouble(seen, choice));
    if let Method::Sampled(draws) = method {
        words.push(format!("The chances are those of {draws} draws."));
    }
    words
}

/// Why a connection went where it went.
pub(crate) fn connection(
    socket: &Socket,
    seen: Option<&Seen>,
    choice: &Choice,
    chosen: (SocketAddr, Load),
    other: Option<(SocketAddr, Load)>,
    sight: &Sight,
) -> Vec<String> {
    let mut words = vec![standing(socket, seen), reason(socket, choice, chosen, other)];
    if socket.passed_over {
        words.push(passed_over(socket.reason, other.map(|(address, _)| address)));
    }
    let Some(seen) = seen else {
        words.push("Its VIP is no longer there.".to_owned());
        return words;
    };
    let backend = seen.backends().find(|(spec, _)| spec.address == socket.backend);
    words.push(match backend {
        None => format!("{} is no longer a backend of the VIP.", socket.backend),
        Some((spec, counts)) => {
            let state = state(seen.state(spec, counts, &sight.tuning));
            format!("{} now {state}.", socket.backend)
        }
    });
    words
}

/// Why nothing is known of a connection, and what is near it.
pub(crate) fn unknown(
    pair: &Pair,
    sight: &Sight,
    sockets: &[Socket],
    engine: EngineKind,
) -> String {
    let Pair { from, to } = pair;
    let mut words = vec![format!("no connection from {from} to {} is known", typed(to))];
    let vips: Vec<&Seen> = sight.vips.iter().filter(|seen| to.is_vip(seen)).collect();
    let of_vip = |socket: &&Socket| {
        vips.iter().any(|seen| find(sight, socket).is_some_and(|found| std::ptr::eq(found, *seen)))
    };
    let mut kept: Vec<&Socket> = sockets.iter().filter(of_vip).collect();
    if vips.is_empty() && !leads(sight, to) {
        words.push(nothing_there(to, sight));
    } else if engine == EngineKind::Off {
        words.push("vip.engine is off on this node, so nothing is balanced here".to_owned());
    } else {
        words.push(format!(
            "of those to {} {} known, {} open",
            typed(to),
            count(kept.len(), "is", "are"),
            kept.iter().filter(|socket| socket.is_open).count(),
        ));
        words.push(
            "it may have ended too long ago, have been made by a process outside of this node's cgroup, or not \
             have come through this node's balancer at all"
                .to_owned(),
        );
        if vips.iter().any(|seen| seen.spec.key.protocol.number() == 17) {
            words.push(
                "of UDP sockets only those on the node's own network are known by their ports"
                    .to_owned(),
            );
        }
        if engine == EngineKind::Nfqueue {
            words.push(
                "the engine nfqueue looks at some connections only while there are thousands a second"
                    .to_owned(),
            );
        }
    }
    kept.sort_by_key(|socket| (!socket.is_open, socket.age));
    let clients: Vec<String> = kept
        .iter()
        .filter_map(|socket| Some((socket.local?, socket)))
        .filter(|(local, _)| local.ip() == from.ip())
        .take(NAMED)
        .map(|(local, socket)| {
            format!("{local} -> {}, {} ago", socket.backend, seconds(socket.age))
        })
        .collect();
    if !clients.is_empty() {
        words.push(format!("the last ones from that address:\n  {}", clients.join("\n  ")));
    }
    words.join("\n")
}

/// Why there is no such VIP, and which are alike.
pub(crate) fn nothing_there(to: &End, sight: &Sight) -> String {
    let near: Vec<&Seen> = sight.vips.iter().filter(|seen| to.is_near(seen)).collect();
    let named: Vec<String> = near.iter().take(NAMED).map(|seen| title(seen)).collect();
    let more = match near.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match (sight.vips.len(), named.is_empty()) {
        (0, _) => format!("no VIP is {}; this node has none", typed(to)),
        (all, true) => format!("no VIP is {}; `mizzen vips` lists all {all}", typed(to)),
        (_, false) => format!("no VIP is {}; there is {}{more}", typed(to), named.join(", ")),
    }
}

/// A VIP's address and name.
pub(crate) fn title(seen: &Seen) -> String {
    match seen.name() {
        Some(name) => format!("{} {name}", seen.spec.key),
        None => seen.spec.key.to_string(),
    }
}

fn leads(sight: &Sight, to: &End) -> bool {
    let Some(socket) = to.socket() else { return false };
    let mut backends = sight.vips.iter().flat_map(|seen| &seen.spec.backends);
    backends.any(|backend| backend.address == socket)
}

fn typed(end: &End) -> String {
    let host = match (&end.host, end.socket()) {
        (_, Some(socket)) => socket.to_string(),
        (super::asked::Host::Name(name), _) => format!("{name}:{}", end.port),
        (super::asked::Host::Address(address), None) => format!("{address}:{}", end.port),
    };
    match end.protocol {
        Some(protocol) => format!("{host}/{protocol}"),
        None => host,
    }
}

fn rule(choice: &Choice) -> String {
    let floor = FLOOR / 1_000;
    match choice.rule {
        Rule::Latency => format!(
            "Rule latency: of two that are drawn by weight the first is taken, unless the second is clearly cheaper. \
             Cost is latency x (connections / weight + 1); latencies below {floor} ms, or within a factor of two, are alike."
        ),
        Rule::LeastConnections => "Rule least-connections: of two that are drawn by weight the first is taken, unless the \
             second has clearly fewer connections for its weight."
            .to_owned(),
        Rule::Random => "Rule random: one is drawn by weight.".to_owned(),
        Rule::Maglev => {
            "Rule maglev: a hash of the connection decides, so each backend gets its share by weight.".to_owned()
        }
        Rule::Source => "Rule source: a hash of the client decides; one client stays with one backend, \
             so the chances are those of a client that nobody knows yet."
            .to_owned(),
    }
}

fn locality(seen: &Seen, choice: &Choice) -> Option<String> {
    if seen.spec.policy.locality == Locality::Ignore {
        return Some("Locality ignore: all are alike.".to_owned());
    }
    let [near, next, far] = choice.lengths();
    if next + far == 0 || matches!(choice.rule, Rule::Maglev | Rule::Source) {
        return None;
    }
    let first = choice.open.first().map(|candidate| seen.spec.backends[candidate.index].distance);
    let places = match (first, next, far) {
        (Some(Distance::Node), 0, far) => format!("on this node and {far} elsewhere"),
        (Some(Distance::Node), next, 0) => format!("on this node and {next} in its zone"),
        (Some(Distance::Node), next, far) => {
            format!("on this node, {next} in its zone and {far} elsewhere")
        }
        (_, _, far) => format!("in this node's zone and {far} elsewhere"),
    };
    Some(format!(
        "Locality prefer: {} {places}; one farther away is taken if it costs less than 1/{SPILL} of what is nearer.",
        count(near, "backend is", "backends are"),
    ))
}

fn trouble(seen: &Seen, choice: &Choice) -> Vec<String> {
    let mut words = Vec::new();
    if choice.open.is_empty() {
        words.push("No backend is admitted, so every connection is refused at once.".to_owned());
    } else if seen.all_admitted {
        words.push("So many backends are ejected that all are admitted.".to_owned());
    } else if is_last_resort(&choice.open) {
        words.push(
            "No backend may be chosen; one that is passed over is taken rather than none."
                .to_owned(),
        );
    }
    match seen.refused {
        None => {
            words.push("This node does not balance it now; `mizzen status` says why.".to_owned());
        }
        Some(0) => {}
        Some(refused) => words.push(format!(
            "{} refused so far for want of an admitted backend.",
            count(
                usize::try_from(refused).unwrap_or(usize::MAX),
                "connection was",
                "connections were"
            )
        )),
    }
    words
}

fn standing(socket: &Socket, seen: Option<&Seen>) -> String {
    let client = socket.local.map_or_else(|| "a client".to_owned(), |local| local.to_string());
    let vip = seen.map_or_else(|| format!("{}/{}", socket.vip.socket, protocol(socket)), title);
    let since = seconds(socket.age);
    let stage = match (socket.stage, socket.is_open) {
        (Stage::Chosen, true) => "no packet has left yet",
        (Stage::Chosen, false) => "no packet has left: it was refused or given up",
        (Stage::Started, _) => "the handshake is under way",
        (Stage::Established, true) => "it is established",
        (Stage::Established, false) => "it was established and its end was not seen",
        (Stage::Failed, _) if socket.local.is_none() => "it failed before a packet left: no route",
        (Stage::Failed, _) => "the handshake failed",
        (Stage::Closed, _) => "it has ended",
    };
    let stage = match (socket.vip.protocol, socket.stage) {
        (17, Stage::Started | Stage::Established) => "datagrams flow",
        _ => stage,
    };
    format!("{client} asked for {vip} and got {} {since} ago; {stage}.", socket.backend)
}

fn reason(
    socket: &Socket,
    choice: &Choice,
    chosen: (SocketAddr, Load),
    other: Option<(SocketAddr, Load)>,
) -> String {
    let price = |load: Load| price(choice, load);
    let (chosen, loser) = (price(chosen.1), other);
    let against = loser.map(|(address, load)| format!("{address}, {}", price(load)));
    let against = against.unwrap_or_else(|| "a backend that is gone".to_owned());
    match socket.reason {
        Reason::Only => format!("It was the only candidate that could be used ({chosen})."),
        Reason::Cheaper => {
            format!("It was clearly cheaper ({chosen}) than the one drawn before it ({against}).")
        }
        Reason::Tie => format!(
            "It was drawn first ({chosen}), and the second was not clearly cheaper ({against})."
        ),
        Reason::Drawn => format!("It was drawn by weight ({chosen})."),
        Reason::Ring => "The hash led to it.".to_owned(),
        Reason::Spilled => format!(
            "It is farther away and was much cheaper ({chosen}) than the near one ({against})."
        ),
        Reason::Probe => {
            "It was ejected, its pause was over, and this connection tried it.".to_owned()
        }
        Reason::LastResort => {
            format!("No other could be used, and it is better than none ({chosen}).")
        }
    }
}

/// Where only one could be used the other candidate is the one that could not.
fn passed_over(why: Reason, other: Option<SocketAddr>) -> String {
    let other = other.filter(|_| why == Reason::Only);
    let whom = other.map_or_else(|| "A candidate".to_owned(), |address| address.to_string());
    format!(
        "{whom} was passed over: it was ejected, had left handshakes unanswered or was warming up."
    )
}

fn price(choice: &Choice, load: Load) -> String {
    let connections = count(load.in_flight as usize, "connection", "connections");
    let latency = match load.micros {
        0 => "latency unknown".to_owned(),
        micros => format!("latency {}", millis(f64::from(micros))),
    };
    match choice.rule {
        Rule::LeastConnections => connections,
        _ => format!("cost {}: {latency}, {connections}", millis(choice.cost(load))),
    }
}

/// What a state means, behind "it".
fn state(state: State) -> String {
    match state {
        State::In => "takes new connections".to_owned(),
        State::Out(why) => format!("takes no new connections: {}", because(why)),
        State::Draining(why) => format!("drains and takes no new connections: {}", because(why)),
        State::Ejected { left, admitted } => {
            let but =
                if admitted { ", and takes connections because too few are left" } else { "" };
            format!("is ejected for another {}{but}", span(left))
        }
        State::HalfOpen => "is ejected, and the next connection tries it".to_owned(),
        State::Waiting => "leaves handshakes unanswered and is passed over".to_owned(),
        State::Warming { share } => {
            format!("is warming up and takes {} % of its draws", share * 100 / 256)
        }
    }
}

fn because(why: Withheld) -> &'static str {
    match why {
        Withheld::NoWeight => "its weight is 0",
        Withheld::Starting => "its task does not run yet",
        Withheld::Unchecked => "its task's health check has no result yet",
        Withheld::Unhealthy => "its task's health check fails",
        Withheld::Drained => "its task's agent is drained, or its machine maintained",
        Withheld::Stopping => "its task was told to stop",
        Withheld::NoAnswer => "its task's node does not answer",
    }
}

fn millis(micros: f64) -> String {
    match micros / 1e3 {
        small if small < 10.0 => format!("{small:.1} ms"),
        large => format!("{large:.0} ms"),
    }
}

fn seconds(millis: u64) -> String {
    span(Duration::from_millis(millis))
}

fn span(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..120 => format!("{} s", time.as_secs()),
        120..7_200 => format!("{} min", time.as_secs() / 60),
        long => format!("{} h", long / 3_600),
    }
}

fn count(number: usize, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::vip_views::sight::tests::vip;
    use mizzen_kernel::vips::{Counts, Tuning};

    #[test]
    fn what_the_kernel_does_not_have_is_not_said_to_work() {
        let mut seen = vip(vec![Counts::default()]);
        let trouble = |seen: &Seen| trouble(seen, &Choice::of(seen, &Tuning::default()));
        assert_eq!(trouble(&seen), [] as [&str; 0]);
        (seen.refused, seen.counts) = (None, vec![None]);
        assert_eq!(
            trouble(&seen),
            ["This node does not balance it now; `mizzen status` says why."]
        );
    }

    #[test]
    fn who_was_passed_over_is_named_where_it_is_known() {
        let other: SocketAddr = "9.0.0.2:80".parse().unwrap();
        let table = [
            (Reason::Only, Some(other), "9.0.0.2:80 was passed over"),
            (Reason::Only, None, "A candidate was passed over"),
            (Reason::Spilled, Some(other), "A candidate was passed over"),
        ];
        for (why, other, want) in table {
            let words = passed_over(why, other);
            assert!(words.starts_with(want), "{words}");
        }
    }
}
