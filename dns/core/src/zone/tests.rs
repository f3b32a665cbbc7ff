//! Whatever comes and goes, the zones hold what their owners bring.

use super::*;
use crate::record::{Start, Withheld};
use mizzen_types::vip::Distance;
use proptest::prelude::*;

fn name(text: &str) -> DnsName {
    DnsName::parse(text).unwrap()
}

fn record(at: &str, address: &str) -> Record {
    Record::new(name(at), 5, Data::address(address.parse().unwrap()))
}

fn owner(name: &str) -> OwnerKey {
    OwnerKey::Static(name.into())
}

fn addresses(zones: &Zones, name: &str) -> Vec<String> {
    zones.lookup(name, Some(RecordType::A)).map(|data| data.to_string()).collect()
}

fn exists(zones: &Zones, at: &str) -> bool {
    zones.node(&name(at)).is_some()
}

/// Everything that is known about every name.
fn dump(zones: &Zones) -> BTreeMap<String, String> {
    let nodes = (0..).map_while(|segment| zones.store().segment_from(segment, 0)).flatten();
    let told = nodes.map(|(_, node)| {
        let mut claims = Vec::new();
        node.claims(|kind, data, claim| {
            let key = OwnerKey::from_bytes(zones.owner(claim.owner).expect("an owner").key());
            claims.push(format!(
                "{} {:?} {:?} {:?} {}",
                key.expect("a key"),
                Data::from_bytes(kind, data),
                claim.withheld,
                claim.distance,
                claim.ttl
            ));
        });
        claims.sort();
        let zone = zones.zone(zones.zone_of(node)).map(|zone| zone.name.to_string());
        let text =
            format!("{:?} {} {zone:?} {claims:?}", node.answers().escape_ascii(), node.children());
        (DnsName::from_bytes(node.name()).expect("a name").to_string(), text)
    });
    told.collect()
}

#[test]
fn a_shared_record_stays_until_its_last_owner_goes() {
    let mut zones = Zones::new(&Options::default());
    assert!(zones.set(owner("a"), vec![record("w.m.mesos", "10.0.0.1")]));
    let serial = zones.serial();
    assert!(!zones.set(owner("b"), vec![record("w.m.mesos", "10.0.0.1")]), "nothing new");
    assert!(
        zones.set(
            owner("c"),
            vec![record("w.m.mesos", "10.0.0.2"), record("w.m.mesos", "10.0.0.2")]
        )
    );
    assert_eq!(addresses(&zones, "w.m.mesos"), ["10.0.0.1", "10.0.0.2"]);
    assert!(!zones.remove(&owner("a")), "b still brings it");
    assert_eq!(addresses(&zones, "w.m.mesos"), ["10.0.0.1", "10.0.0.2"]);
    assert!(zones.remove(&owner("b")));
    assert_eq!(addresses(&zones, "w.m.mesos"), ["10.0.0.2"]);
    assert!(zones.remove(&owner("c")));
    assert!(!zones.remove(&owner("c")), "gone already");
    assert!(!exists(&zones, "w.m.mesos") && !exists(&zones, "m.mesos"));
    assert!(exists(&zones, "mesos"));
    assert_eq!(zones.serial(), serial + 3, "one step for each change of an answer");
}

#[test]
fn an_owner_is_replaced_as_a_whole() {
    let mut zones = Zones::new(&Options::default());
    let built_in = zones.records();
    let both = || vec![record("w.m.mesos", "10.0.0.1"), record("x.m.mesos", "10.0.0.1")];
    zones.set(owner("a"), both());
    assert_eq!(zones.records(), built_in + 2);
    assert!(!zones.set(owner("a"), both().into_iter().rev().collect()), "the same");
    assert!(zones.set(owner("a"), vec![record("w.m.mesos", "10.0.0.3")]));
    assert_eq!(addresses(&zones, "w.m.mesos"), ["10.0.0.3"]);
    assert!(!exists(&zones, "x.m.mesos"));
    let longer = Record { ttl: 60, ..record("w.m.mesos", "10.0.0.3") };
    assert!(zones.set(owner("a"), vec![longer]), "another TTL is another answer");
    assert_eq!((zones.records(), zones.owners()), (built_in + 1, 2));
}

#[test]
fn a_name_whose_records_are_all_withheld_exists_and_has_nothing() {
    let mut zones = Zones::new(&Options::default());
    let shown = record("w.m.mesos", "10.0.0.1");
    let hidden = Record { withheld: Some(Withheld::Unhealthy), ..shown.clone() };
    assert!(zones.set(owner("a"), vec![hidden.clone()]), "it exists now");
    assert!(exists(&zones, "w.m.mesos") && addresses(&zones, "w.m.mesos").is_empty());
    assert!(zones.set(owner("a"), vec![shown]));
    assert_eq!(addresses(&zones, "w.m.mesos"), ["10.0.0.1"]);
    assert!(zones.set(owner("a"), vec![hidden.clone()]));
    assert!(addresses(&zones, "w.m.mesos").is_empty());
    assert!(!zones.set(owner("b"), vec![hidden]), "no answer differs");
    assert!(!zones.remove(&owner("a")));
    assert!(zones.remove(&owner("b")), "now the name is gone");
    assert!(!exists(&zones, "m.mesos"));
}

#[test]
fn answers_are_kept_shortly_while_something_goes_away() {
    let mut zones = Zones::new(&Options::default());
    let ttl =
        |zones: &Zones| zones.node(&name("w.mesos")).unwrap().set(1).expect("an address").ttl();
    zones.set(owner("a"), vec![record("w.mesos", "10.0.0.1")]);
    let with = |withheld| Record { withheld, ..record("w.mesos", "10.0.0.2") };
    #[rustfmt::skip]
    let table = [
        (None,                      5),
        (Some(Withheld::Starting),  5),
        (Some(Withheld::Unhealthy), 5),
        (Some(Withheld::Killing),   1),
        (Some(Withheld::Draining),  1),
        (None,                      5),
    ];
    for (withheld, want) in table {
        zones.set(owner("b"), vec![with(withheld)]);
        assert_eq!(ttl(&zones), want, "{withheld:?}");
    }
    zones.set(owner("c"), vec![Record { ttl: 3, ..with(None) }]);
    assert_eq!(ttl(&zones), 3, "the smallest of all");
    zones.remove(&owner("c"));
    assert_eq!(ttl(&zones), 5, "and back");
}

#[test]
fn names_above_a_record_exist_as_long_as_it_does() {
    let mut zones = Zones::new(&Options::default());
    let before = zones.names();
    zones.set(owner("a"), vec![record("a.b.c.mesos", "10.0.0.1")]);
    zones.set(owner("b"), vec![record("x.c.mesos", "10.0.0.1"), record("c.mesos", "10.0.0.9")]);
    zones.remove(&owner("b"));
    assert!(zones.node(&name("c.mesos")).is_some_and(Node::is_bare));
    assert!(!exists(&zones, "x.c.mesos"));
    zones.remove(&owner("a"));
    assert!(!exists(&zones, "c.mesos"));
    assert_eq!(zones.names(), before);
}

#[test]
fn the_serial_never_is_zero() {
    let options = Options { first_serial: u32::MAX, ..Options::default() };
    let mut zones = Zones::new(&options);
    zones.set(owner("a"), vec![record("a.mesos", "10.0.0.1")]);
    assert_eq!(zones.serial(), 1);
}

#[test]
fn raw_data_are_for_types_that_have_no_form_of_their_own() {
    let mut zones = Zones::new(&Options::default());
    let raw = |kind, bytes: &[u8]| {
        Record::new(name("r.mesos"), 5, Data::Raw { kind, bytes: bytes.to_vec() })
    };
    assert!(!zones.set(owner("a"), vec![raw(1, &[10]), raw(0, &[1])]));
    assert!(zones.set(owner("a"), vec![raw(257, b"\0\x05issueca.example")]));
    assert_eq!(zones.lookup("r.mesos", None).count(), 1);
}

#[test]
fn a_zone_comes_and_goes_with_its_start() {
    let mut zones = Zones::new(&Options::default());
    let start = Start {
        server: name("ns.spartan"),
        mailbox: name("hostmaster.spartan"),
        retry: 180,
        negative_ttl: 1,
    };
    let at = |place: &str, data| Record::new(name(place), 5, data);
    let (soa, ns) = (Data::Soa(Box::new(start)), Data::Ns(name("ns.spartan")));
    zones.set(owner("host"), vec![record("a.example", "10.0.0.1")]);
    let zone = |zones: &Zones, at: &str| zones.apex_of(&name(at)).map(|apex| apex.to_string());
    let number = |zones: &Zones, at: &str| {
        let number = zones.node(&name(at)).map(|node| zones.zone_of(node))?;
        zones.zone_name(ZoneNumber(number)).map(ToString::to_string)
    };
    #[rustfmt::skip]
    let table = [
        (vec![at("example", soa.clone()), at("example", ns.clone())], [Some("example."), Some("example."), Some("example.")]),
        (vec![at("example", soa.clone())],                            [Some("example."), None, None]),
        (vec![at("example", ns)],                                     [None, None, None]),
        (vec![at("a.example", soa)],                                  [None, Some("a.example."), None]),
        (vec![],                                                      [None, None, None]),
    ];
    for (records, want) in table {
        zones.set(owner("zone"), records.clone());
        for (place, want) in ["example", "a.example", "b.a.example"].into_iter().zip(want) {
            assert_eq!(zone(&zones, place).as_deref(), want, "{place} with {records:?}");
            if exists(&zones, place) {
                assert_eq!(number(&zones, place).as_deref(), want, "{place} with {records:?}");
            }
        }
        assert_eq!(zones.apexes().count(), zones.numbers.len());
        let is_tree = records.iter().any(|record| matches!(record.data, Data::Ns(_)));
        for apex in ["example", "a.example"].map(name) {
            if let Some(number) = zones.zone_number(&apex) {
                assert_eq!(number.is_single(), !is_tree, "{apex} with {records:?}");
            }
        }
    }
}

/// Names are numbered a few at a time; questions do not notice.
#[test]
fn a_zone_with_many_names_comes_and_goes() {
    let mut zones = Zones::new(&Options::default());
    let hosts = || (0..FEW + 500).map(|number| format!("h{number}.example"));
    for host in hosts() {
        zones.set(owner(&host), vec![record(&host, "10.0.0.1")]);
    }
    let (server, mailbox) = (name("ns.spartan"), name("hostmaster.spartan"));
    let start = Start { server, mailbox, retry: 180, negative_ttl: 1 };
    let soa = |at: &str| Record::new(name(at), 5, Data::Soa(Box::new(start.clone())));
    let alone = vec![soa("h7.example"), record("h7.example", "10.0.0.1")];
    zones.set(owner("alone"), alone);
    let whole = vec![soa("example"), Record::new(name("example"), 5, Data::Ns(name("n.spartan")))];
    for (records, want) in [(whole, Some("example.")), (vec![], None)] {
        zones.set(owner("zone"), records);
        assert!(!zones.names.is_marked());
        let mut changes = 0;
        while changes == 0 || !zones.names.is_marked() {
            for host in hosts().skip(changes % 50).step_by(50) {
                let number = zones.zone_of(zones.node(&name(&host)).expect("it is there"));
                let zone = zones.zone(number).map(|zone| zone.name.to_string());
                let want = if host == "h7.example" { Some("h7.example.") } else { want };
                assert_eq!(zone.as_deref(), want, "{host} after {changes} changes");
            }
            changes += 1;
            let [a, b] = [0, 1].map(|byte| changes.to_be_bytes()[6 + byte]);
            zones.set(owner("other"), vec![record("other.mesos", &format!("10.1.{a}.{b}"))]);
        }
        assert!(changes > 100);
        let marked = hosts().all(|host| {
            let node = zones.node(&name(&host)).expect("it is there");
            node.zone() == derived(&zones.suffixes, node)
        });
        assert!(marked);
    }
}

/// Some records among few names and data, so that they meet all the time.
fn any_records() -> impl Strategy<Value = Vec<Record>> {
    let names = ["mesos", "a.mesos", "b.a.mesos", "c.b.a.mesos", "x.dclb.thisdcos.directory", "s"];
    let start = |negative_ttl| {
        let (server, mailbox) = (name("ns.spartan"), name("hostmaster.spartan"));
        Data::Soa(Box::new(Start { server, mailbox, retry: 180, negative_ttl }))
    };
    let data = prop_oneof![
        4 => (0..4_u8).prop_map(|low| Data::A([10, 0, 0, low].into())),
        1 => Just(Data::Aaaa([0xfd; 16].into())),
        2 => (0..3_u16).prop_map(|port| Data::Srv {
            priority: 0, weight: 1, port, target: name("a.mesos")
        }),
        1 => (0..2_u32).prop_map(start),
        1 => Just(Data::Ns(name("ns.spartan"))),
        1 => Just(Data::Cname(name("a.mesos"))),
    ];
    let withheld = prop_oneof![
        3 => Just(None),
        1 => prop::sample::select(&Withheld::ALL[..]).prop_map(Some),
    ];
    let distance = prop::sample::select(vec![Distance::Node, Distance::Zone, Distance::Far]);
    let one = (prop::sample::select(names.to_vec()), data, 1..4_u32, withheld, distance).prop_map(
        |(at, data, ttl, withheld, distance)| Record {
            name: name(at),
            data,
            ttl,
            withheld,
            distance,
        },
    );
    prop::collection::vec(one, 0..6)
}

proptest! {
    /// Whatever happened before, the zones hold what their owners bring now, and the
    /// serial tells whether an answer differs.
    #[test]
    fn any_order_of_changes_ends_at_the_same_zones(
        steps in prop::collection::vec((0..6_u8, any_records()), 0..30)
    ) {
        let mut zones = Zones::new(&Options::default());
        let mut last = BTreeMap::new();
        for (who, records) in steps {
            let (before, serial) = (dump(&zones), zones.serial());
            let changed = zones.set(owner(&who.to_string()), records.clone());
            prop_assert_eq!(changed, zones.serial() != serial);
            let answers = |dump: &BTreeMap<String, String>| -> Vec<(String, String)> {
                let until = |text: &String| text.split(' ').next().map(str::to_owned);
                dump.iter().map(|(name, text)| (name.clone(), until(text).unwrap())).collect()
            };
            let same = answers(&before) == answers(&dump(&zones));
            prop_assert!(changed || same);
            last.insert(who, records);
        }
        let mut fresh = Zones::new(&Options::default());
        for (who, records) in last {
            fresh.set(owner(&who.to_string()), records);
        }
        prop_assert_eq!(dump(&zones), dump(&fresh));
        prop_assert_eq!(zones.records(), fresh.records());
    }
}
