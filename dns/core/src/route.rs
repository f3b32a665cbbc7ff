//! Which names are ours, in whatever form they are asked for.
//!
//! Built-in suffixes come first and nothing configured overrides them. The dispatcher
//! knew several forms of one name; each leads to the form that the zones hold, and the
//! answer is given under the form that was asked for.

use crate::name::DnsName;
use crate::options::Options;
use crate::statics::{DIRECTORY, VIP_ZONE};
use crate::zone::Zones;

/// Other forms of our suffixes, the longest first.
#[derive(Debug, Clone)]
pub(crate) struct Aliases(Vec<Alias>);

/// A suffix and the one that it stands for.
#[derive(Debug, Clone)]
struct Alias {
    from: DnsName,
    to: DnsName,
}

/// A name of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// As the zones hold it.
    pub(crate) name: DnsName,
    /// The zone that it is in, as the zones hold it.
    pub(crate) apex: DnsName,
    /// That zone in the form that was asked for.
    pub(crate) apex_shown: DnsName,
}

impl Aliases {
    pub(crate) fn new(options: &Options) -> Self {
        let (directory, vips) = (DnsName::fixed(DIRECTORY), DnsName::fixed(VIP_ZONE));
        let mut roots = vec![directory.clone(), DnsName::fixed("thisdcos.global")];
        let key = options.cluster_key.as_deref().and_then(|key| DnsName::parse(key).ok());
        roots.extend(key.map(|key| DnsName::fixed("dcos.directory").under(key.as_str())));
        let mut aliases = Vec::new();
        for root in roots {
            aliases.push(Alias { from: root.under("dclb"), to: vips.clone() });
            aliases.push(Alias { from: root.under("mesos"), to: options.domain.clone() });
            if root != directory {
                aliases.push(Alias { from: root, to: directory.clone() });
            }
        }
        aliases.sort_by_key(|alias| std::cmp::Reverse(alias.from.as_str().len()));
        Self(aliases)
    }

    /// The other forms of our suffixes.
    pub(crate) fn forms(&self) -> impl Iterator<Item = &DnsName> {
        self.0.iter().map(|alias| &alias.from)
    }

    /// A name in the form that the zones hold.
    pub(crate) fn held(&self, asked: &DnsName) -> DnsName {
        self.find(asked).map_or_else(|| asked.clone(), |(alias, head)| alias.to.under(head))
    }

    /// Finds the place of a name; `None` if it is somebody else's.
    pub(crate) fn locate(&self, asked: &DnsName, zones: &Zones) -> Option<Place> {
        let Some((alias, head)) = self.find(asked) else {
            let name = without_wildcards(asked, zones.domain());
            let apex = zones.apex_of(&name)?;
            return Some(Place { name, apex_shown: apex.clone(), apex });
        };
        let name = without_wildcards(&alias.to.under(head), zones.domain());
        let apex = zones.apex_of(&name)?;
        let apex_shown = apex.before(&alias.to).map_or(apex.clone(), |head| alias.from.under(head));
        Some(Place { name, apex, apex_shown })
    }

    /// The suffix of a name that stands for another one, and what is before it.
    fn find<'a>(&self, asked: &'a DnsName) -> Option<(&Alias, &'a str)> {
        self.0.iter().find_map(|alias| Some((alias, asked.before(&alias.from)?)))
    }
}

/// Mesos-DNS takes `.*` out of names in its zone: `web.*.mesos` asks for `web.mesos`.
fn without_wildcards(name: &DnsName, domain: &DnsName) -> DnsName {
    if !name.as_str().contains(".*.") || name.before(domain).is_none() {
        return name.clone();
    }
    let mut labels = name.labels();
    let first = labels.next().into_iter();
    let kept: Vec<&str> = first.chain(labels.filter(|label| *label != "*")).collect();
    DnsName::root().under(&kept.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_leads_to_one_place() {
        let options = Options { cluster_key: Some("yxkey".into()), ..Options::default() };
        let zones = Zones::new(&options);
        #[rustfmt::skip]
        let table: &[(&str, Option<(&str, &str)>)] = &[
            ("web.marathon.mesos",                   Some(("web.marathon.mesos", "mesos"))),
            ("mesos",                                Some(("mesos", "mesos"))),
            ("web.*.marathon.*.mesos",               Some(("web.marathon.mesos", "mesos"))),
            ("*.mesos",                              Some(("*.mesos", "mesos"))),
            ("a.*.spartan",                          Some(("a.*.spartan", "spartan"))),
            ("web.marathon.mesos.thisdcos.directory", Some(("web.marathon.mesos", "mesos.thisdcos.directory"))),
            ("w.m.l4lb.thisdcos.directory",          Some(("w.m.l4lb.thisdcos.directory", "l4lb.thisdcos.directory"))),
            ("w.m.dclb.thisdcos.directory",          Some(("w.m.l4lb.thisdcos.directory", "dclb.thisdcos.directory"))),
            ("w.m.l4lb.thisdcos.global",             Some(("w.m.l4lb.thisdcos.directory", "l4lb.thisdcos.global"))),
            ("w.m.dclb.thisdcos.global",             Some(("w.m.l4lb.thisdcos.directory", "dclb.thisdcos.global"))),
            ("w.m.agentip.dcos.yxkey.dcos.directory", Some(("w.m.agentip.dcos.thisdcos.directory", "dcos.yxkey.dcos.directory"))),
            ("w.m.mesos.yxkey.dcos.directory",       Some(("w.m.mesos", "mesos.yxkey.dcos.directory"))),
            ("x.thisdcos.global",                    Some(("x.thisdcos.directory", "thisdcos.global"))),
            ("w.other.dcos.directory",               None),
            ("ready.spartan",                        Some(("ready.spartan", "spartan"))),
            ("zk-1.zk",                              Some(("zk-1.zk", "zk"))),
            ("localhost",                            Some(("localhost", "localhost"))),
            ("example.com",                          None),
            ("notmesos",                             None),
            ("x.notmesos",                           None),
            ("",                                     None),
        ];
        for (asked, want) in table {
            let name = DnsName::parse(asked).expect("a name");
            let place = zones.locate(&name);
            let got = place.as_ref().map(|p| (p.name.as_str(), p.apex_shown.as_str()));
            assert_eq!(got, *want, "{asked}");
        }
    }
}
