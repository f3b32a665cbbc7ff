//! Addresses of containers that somebody else's link has, or takes packets for.

use super::{Link, Observed, Verdict};
use std::net::IpAddr;

/// First word of marks, of whichever node and of the plugins.
const NAME: &str = "mizzen";
/// How many are named.
const NAMED: usize = 3;

pub(super) fn judge(observed: &Observed) -> Vec<Verdict> {
    if !observed.wanted.overlay {
        return Vec::new();
    }
    let found: Vec<(&Link, IpAddr)> = observed
        .links()
        .iter()
        .filter(|link| !is_ours(link))
        .flat_map(of_overlays(observed))
        .collect();
    let Some((first, _)) = found.first() else {
        return vec![Verdict::ok("no link of others has addresses of the overlays")];
    };
    let texts =
        found.iter().take(NAMED).map(|(link, address)| format!("{} ({address})", link.name));
    let more = if found.len() > NAMED { ", …" } else { "" };
    let list = format!("{}{more}", texts.collect::<Vec<_>>().join(", "));
    let verdict = Verdict::warning(format!(
        "links of others have addresses of the overlays: {list}"
    ))
    .because("what this machine sends to containers of that network may go to those links instead")
    .remedy(format!(
        "ip -brief address show dev {}; give whoever made it another network, or the overlay \
             by `overlay.network` on the master",
        first.name
    ));
    vec![verdict]
}

fn is_ours(link: &Link) -> bool {
    link.alias.as_deref().is_some_and(|alias| alias.starts_with(NAME))
}

fn of_overlays<'a>(observed: &'a Observed) -> impl Fn(&'a Link) -> Vec<(&'a Link, IpAddr)> {
    move |link| {
        let told = observed.told().map(|told| told.networks.as_slice()).unwrap_or_default();
        let networks = || observed.wanted.networks.iter().chain(told);
        let inside = |address: &&IpAddr| networks().any(|network| network.contains(*address));
        link.addresses.iter().filter(inside).map(|address| (link, *address)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::well;
    use super::super::{Daemon, Grade};
    use super::*;

    #[test]
    fn links_of_others() {
        let table = [
            ("another runtime's bridge", "cni0", None, "9.0.0.1", Grade::Warning),
            ("in an overlay of the master", "cni0", None, "10.128.3.1", Grade::Warning),
            ("elsewhere", "cni0", None, "10.88.0.1", Grade::Ok),
            ("the node's own", "m-web", Some("mizzen default"), "10.128.0.1", Grade::Ok),
            ("another node's", "m-b", Some("mizzen b"), "9.0.7.1", Grade::Ok),
        ];
        for (name, link, alias, address, want) in table {
            let mut observed = well();
            let Daemon::Running(told) = &mut observed.daemon else { panic!("it runs") };
            told.networks = vec!["10.128.0.0/12".parse().unwrap()];
            let (name_of, alias) = (link.to_owned(), alias.map(str::to_owned));
            let addresses = vec![address.parse().unwrap()];
            let link = Link { name: name_of, alias, addresses, ..Link::default() };
            observed.machine.links.as_mut().unwrap().push(link);
            let verdicts = judge(&observed);
            assert_eq!(verdicts[0].grade, want, "{name}: {verdicts:?}");
        }
    }
}
