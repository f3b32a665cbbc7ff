//! Lives of the registry.

use super::*;
use std::time::Duration;

pub(super) fn definition(name: &str, pools: &[(&str, u8)]) -> OverlayDefinition {
    let pool = |(network, prefix): &(&str, u8)| Pool {
        network: network.parse().unwrap(),
        prefix: *prefix,
    };
    let pools = pools.iter().map(pool).collect();
    OverlayDefinition { name: name.into(), vni: None, pools, mtu: 1420 }
}

pub(crate) fn settings(network: &str, prefix: u8) -> OverlaySettings {
    OverlaySettings {
        vtep_network: "44.128.0.0/20".parse().unwrap(),
        vtep_network6: Some("fd01:a::/64".parse().unwrap()),
        mac_prefix: [0x70, 0xb3, 0xd5],
        port: 64_000,
        habits: Habits::Ours,
        overlays: vec![definition("dcos", &[(network, prefix)])],
    }
}

fn registry(settings: &OverlaySettings) -> Overlays {
    Overlays::from_records(settings.clone(), []).unwrap()
}

/// The same after a restart.
fn restarted(overlays: &Overlays, settings: &OverlaySettings) -> Overlays {
    let records = overlays.agents.keys().map(|id| overlays.record(id));
    let records = records.chain([overlays.common_record()]);
    let records = records.filter_map(|Saved { key, value }| Some((key, value.unwrap()?)));
    Overlays::from_records(settings.clone(), records).unwrap()
}

const NOW: Wall = Wall(1_000_000_000_000_000_000);

fn address(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

/// An agent without a past comes; its blocks as text, in the order of overlays.
fn come(overlays: &mut Overlays, id: &str, last: u8) -> String {
    come_with(overlays, id, last, &OverlayClaim::default())
}

fn come_with(overlays: &mut Overlays, id: &str, last: u8, claim: &OverlayClaim) -> String {
    let grant = overlays.welcome(&id.into(), address(last), claim, NOW);
    grant.map_or_else(|| "nothing".to_owned(), |grant| blocks(&grant))
}

fn blocks(grant: &OverlayGrant) -> String {
    let blocks = grant.shares.iter().flat_map(|share| share.blocks.iter());
    blocks.map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn claim(vtep: &str, overlay: &str, blocks: &[&str]) -> OverlayClaim {
    OverlayClaim {
        vtep: vec![vtep.parse().unwrap()],
        blocks: [(overlay.to_owned(), blocks.iter().map(|b| b.parse().unwrap()).collect())].into(),
    }
}

#[test]
fn agents_keep_what_they_have_over_restarts_and_changes_of_address() {
    let settings = settings("9.0.0.0/8", 24);
    let mut overlays = registry(&settings);
    assert_eq!(come(&mut overlays, "a", 1), "9.0.0.0/24");
    assert_eq!(come(&mut overlays, "b", 2), "9.0.1.0/24");
    let grant = overlays.grant(&"b".into()).unwrap();
    assert_eq!(grant.vtep.mac.to_string(), "70:b3:d5:80:00:02");
    assert_eq!(grant.vtep.addresses[0].to_string(), "44.128.0.2/20");
    assert_eq!(grant.vtep.addresses[1].to_string(), "fd01:a::2/64");
    assert_eq!((grant.port, grant.shares[0].overlay.vni), (64_000, 1024));

    let mut overlays = restarted(&overlays, &settings);
    assert_eq!(come(&mut overlays, "c", 3), "9.0.2.0/24");
    assert_eq!(come(&mut overlays, "a", 77), "9.0.0.0/24");
    assert_eq!(overlays.agents_at(address(77)).collect::<Vec<_>>(), [&AgentId::from("a")]);
    assert_eq!(overlays.agents_at(address(1)).count(), 0);
    assert_eq!(overlays.grant(&"b".into()).unwrap(), grant);
}

#[test]
fn what_an_agent_had_is_believed_unless_somebody_else_has_it() {
    let settings = settings("9.0.0.0/8", 24);
    #[rustfmt::skip]
    let table = [
        ("a lost registry comes back",  claim("44.128.0.7", "dcos", &["9.0.9.0/24", "9.0.11.0/24"]), "9.0.9.0/24 9.0.11.0/24", "44.128.0.7/20"),
        ("another one has the block",   claim("44.128.0.7", "dcos", &["9.0.0.0/24"]), "9.0.1.0/24", "44.128.0.7/20"),
        ("a part of it",                claim("44.128.0.7", "dcos", &["9.0.0.128/25"]), "9.0.1.0/24", "44.128.0.7/20"),
        ("another one has the number",  claim("44.128.0.1", "dcos", &["9.0.9.0/24"]), "9.0.9.0/24", "44.128.0.2/20"),
        ("outside of the network",      claim("44.128.0.7", "dcos", &["10.0.0.0/24"]), "9.0.1.0/24", "44.128.0.7/20"),
        ("more than a block",           claim("44.128.0.7", "dcos", &["9.0.0.0/8"]), "9.0.1.0/24", "44.128.0.7/20"),
        ("of an overlay that is gone",  claim("44.128.0.7", "old", &["9.0.9.0/24"]), "9.0.1.0/24", "44.128.0.7/20"),
        ("no host's number",            claim("44.128.15.255", "dcos", &["9.0.9.0/24"]), "9.0.9.0/24", "44.128.0.2/20"),
    ];
    for (name, claim, want, vtep) in table {
        let mut overlays = registry(&settings);
        come(&mut overlays, "a", 1);
        assert_eq!(come_with(&mut overlays, "b", 2, &claim), want, "{name}");
        let grant = overlays.grant(&"b".into()).unwrap();
        assert_eq!(grant.vtep.addresses[0].to_string(), vtep, "{name}");
        // What it says later does not take away what it has.
        assert_eq!(come_with(&mut overlays, "b", 2, &OverlayClaim::default()), want, "{name}");
    }
}

#[test]
fn what_is_free_again_is_given_last_and_oldest_first() {
    let settings = settings("9.0.0.0/22", 24);
    let mut overlays = registry(&settings);
    for (at, id) in ["a", "b", "c"].into_iter().enumerate() {
        come(&mut overlays, id, at as u8);
    }
    for id in ["b", "a"] {
        assert_eq!(overlays.release(&id.into(), NOW), Some(BTreeSet::new()));
    }
    assert_eq!(overlays.release(&"a".into(), NOW), None, "a second time");
    let mut overlays = restarted(&overlays, &settings);
    assert_eq!(come(&mut overlays, "d", 4), "9.0.3.0/24");
    assert_eq!(come(&mut overlays, "e", 5), "9.0.1.0/24");
    assert_eq!(come(&mut overlays, "f", 6), "9.0.0.0/24");
    let numbers = |id: &str| overlays.grant(&id.into()).unwrap().vtep.addresses[0].addr();
    assert_eq!(numbers("d"), IpAddr::from([44, 128, 0, 4]), "numbers as well");
}

#[test]
fn who_comes_when_nothing_is_left_gets_what_becomes_free() {
    let settings = settings("9.0.0.0/23", 24);
    let mut overlays = registry(&settings);
    come(&mut overlays, "a", 1);
    come(&mut overlays, "b", 2);
    assert_eq!(come(&mut overlays, "c", 3), "", "no block, but a place in the tunnels");
    let problems = overlays.problems(NOW);
    assert!(
        problems[0]
            .starts_with("overlay `dcos`: of 9.0.0.0/23 nothing is left for 1 agents: 2 of 2"),
        "{problems:?}"
    );
    assert_eq!(overlays.release(&"b".into(), NOW), Some(["c".into()].into()));
    assert_eq!(blocks(&overlays.grant(&"c".into()).unwrap()), "9.0.1.0/24");
    assert_eq!(overlays.problems(NOW), ["overlay `dcos`: of 9.0.0.0/23 0 of 2 blocks are left"]);
}

#[test]
fn agents_get_more_blocks() {
    let mut settings = settings("9.0.0.0/22", 24);
    settings.overlays.push(definition("dual", &[("10.0.0.0/16", 26), ("fd01:b::/64", 80)]));
    let mut overlays = registry(&settings);
    assert_eq!(come(&mut overlays, "a", 1), "9.0.0.0/24 10.0.0.0/26 fd01:b::/80");
    let grant = overlays.extend(&"a".into(), "dual", NOW).unwrap();
    assert_eq!(blocks(&grant), "9.0.0.0/24 10.0.0.0/26 fd01:b::/80 10.0.0.64/26");
    assert_eq!((grant.shares[0].overlay.vni, grant.shares[1].overlay.vni), (1024, 1025));
    for _ in 0..3 {
        overlays.extend(&"a".into(), "dcos", NOW).unwrap();
    }
    assert_eq!(overlays.extend(&"a".into(), "dcos", NOW), None, "nothing is left");
    assert_eq!(overlays.extend(&"a".into(), "none", NOW), None);
    assert_eq!(overlays.extend(&"b".into(), "dcos", NOW), None, "who are you");
}

#[test]
fn overlays_come_and_go_and_keep_their_numbers_and_blocks() {
    let mut settings = settings("9.0.0.0/8", 24);
    settings.overlays.push(definition("web", &[("10.0.0.0/16", 24)]));
    let mut overlays = registry(&settings);
    come(&mut overlays, "a", 1);
    let mut fewer = settings.clone();
    fewer.overlays.remove(0);
    let mut overlays = restarted(&overlays, &fewer);
    assert_eq!(come(&mut overlays, "a", 1), "10.0.0.0/24");
    assert_eq!(overlays.grant(&"a".into()).unwrap().shares[0].overlay.vni, 1025);
    settings.overlays.insert(0, definition("first", &[("10.1.0.0/16", 24)]));
    let mut overlays = restarted(&overlays, &settings);
    assert_eq!(come(&mut overlays, "a", 1), "9.0.0.0/24 10.1.0.0/24 10.0.0.0/24");
    let vnis: Vec<u32> =
        overlays.grant(&"a".into()).unwrap().shares.iter().map(|s| s.overlay.vni).collect();
    assert_eq!(vnis, [1024, 1026, 1025]);

    let mut elsewhere = settings.clone();
    elsewhere.overlays[1] = definition("dcos", &[("11.0.0.0/8", 24)]);
    let mut overlays = restarted(&overlays, &elsewhere);
    assert_eq!(come(&mut overlays, "a", 1), "11.0.0.0/24 10.1.0.0/24 10.0.0.0/24");
    let mut overlays = restarted(&overlays, &settings);
    assert_eq!(
        come(&mut overlays, "a", 1),
        "9.0.0.0/24 10.1.0.0/24 10.0.0.0/24",
        "it was a mistake"
    );

    let dcos = OverlaySettings { habits: Habits::Dcos, ..settings };
    let overlays = restarted(&overlays, &dcos);
    let grant = overlays.grant(&"a".into()).unwrap();
    assert!(grant.shares.iter().all(|share| share.overlay.vni == 1024));
}

#[test]
fn containers_of_an_overlay_that_was_renamed_keep_their_addresses_to_themselves() {
    let before = settings("9.0.0.0/8", 24);
    let mut overlays = registry(&before);
    assert_eq!(come(&mut overlays, "a", 1), "9.0.0.0/24");

    let mut after = settings("9.0.0.0/8", 24);
    after.overlays[0].name = "main".into();
    let mut overlays = restarted(&overlays, &after);
    assert_eq!(come(&mut overlays, "a", 1), "9.0.1.0/24");
    let claim = claim("44.128.0.7", "main", &["9.0.0.0/24"]);
    assert_eq!(come_with(&mut overlays, "b", 2, &claim), "9.0.2.0/24");

    let mut overlays = restarted(&overlays, &before);
    assert_eq!(come(&mut overlays, "a", 1), "9.0.0.0/24", "it had that all the time");
    assert_eq!(come(&mut overlays, "b", 2), "9.0.3.0/24");
    // Who is gone has no containers.
    assert!(overlays.release(&"a".into(), NOW).is_some());
    let mut overlays = restarted(&overlays, &after);
    assert_eq!(
        come_with(&mut overlays, "c", 3, &self::claim("44.128.0.9", "main", &["9.0.0.0/24"])),
        "9.0.0.0/24"
    );
}

#[test]
fn what_is_left_is_foreseen() {
    let settings = settings("9.0.0.0/16", 24);
    let day = |days: u64| Wall(NOW.0 + days * 86_400_000_000_000);
    let mut overlays = registry(&settings);
    let mut come_at = |id: usize, at| {
        overlays.welcome(&format!("a{id}").into(), address(1), &OverlayClaim::default(), at);
    };
    come_at(0, day(0));
    for id in 1..=70 {
        come_at(id, day(20 + id as u64 % 7));
    }
    let usage = overlays.usage(day(27)).remove(1);
    assert_eq!((usage.used, usage.total, usage.waiting), (71, 256, 0));
    let days = usage.exhausted_in.unwrap().as_secs() / 86_400;
    assert!((17..=22).contains(&days), "{days}");
    assert_eq!(usage.problem(), None);
    let later = overlays.usage(day(60)).remove(1);
    assert_eq!(later.exhausted_in, None, "it does not grow any more");
    let soon = Usage { exhausted_in: Some(Duration::from_secs(9 * 86_400)), ..usage };
    assert!(soon.problem().unwrap().contains("for 9 days"), "{soon:?}");
}

#[test]
fn the_state_in_the_form_of_the_old_modules() {
    let mut settings = settings("9.0.0.0/8", 24);
    settings.habits = Habits::Dcos;
    let mut overlays = registry(&settings);
    for last in 1..=6 {
        come(&mut overlays, &format!("a{last}"), last);
    }
    let state = overlays.state();
    let network = &state["network"];
    assert_eq!(network["vtep_subnet"], "44.128.0.0/20");
    assert_eq!(network["vtep_mac_oui"], "70:B3:D5:00:00:00");
    assert_eq!(network["overlays"][0]["prefix"], 24);
    let agent = &state["agents"][5];
    let want = serde_json::json!({
        "ip": "10.0.0.6", "configuration_attempts": 1,
        "overlays": [{
            "info": { "name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24, "enabled": true },
            "subnet": "9.0.5.0/24",
            "backend": { "vxlan": {
                "vni": 1024, "vtep_name": "vtep1024", "vtep_ip": "44.128.0.6/20",
                "vtep_ip6": "fd01:a::6/64", "vtep_mac": "70:b3:d5:80:00:06", "vtep_mtu": 1420 } },
            "mesos_bridge": { "name": "m-dcos", "ip": "9.0.5.0/25" },
            "docker_bridge": { "name": "d-dcos", "ip": "9.0.5.128/25" },
            "state": { "status": "STATUS_OK" },
        }],
    });
    assert_eq!(*agent, want);
}

#[test]
fn further_blocks_are_entries_of_their_own_in_the_old_form() {
    let mut settings = settings("9.0.0.0/22", 24);
    settings.habits = Habits::Dcos;
    settings.overlays.push(definition("dual", &[("10.0.0.0/16", 26), ("fd01:b::/64", 80)]));
    let mut overlays = registry(&settings);
    come(&mut overlays, "a", 1);
    let before = overlays.state()["agents"][0]["overlays"].clone();
    for overlay in ["dual", "dcos"] {
        overlays.extend(&"a".into(), overlay, NOW).unwrap();
    }
    let after = overlays.state()["agents"][0]["overlays"].clone();
    let of = |entry: &serde_json::Value| {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("none").to_owned();
        let (name, bridge) = (&entry["info"]["name"], &entry["mesos_bridge"]);
        [name, &entry["subnet"], &entry["subnet6"], &bridge["name"], &bridge["ip"]].map(text)
    };
    let entries: Vec<[String; 5]> = after.as_array().unwrap().iter().map(of).collect();
    let want = [
        ["dcos", "9.0.0.0/24", "none", "m-dcos", "9.0.0.0/25"],
        ["dcos", "9.0.1.0/24", "none", "m-dcos", "9.0.1.0/25"],
        ["dual", "10.0.0.0/26", "fd01:b::/80", "m-dual", "10.0.0.0/27"],
        ["dual", "10.0.0.64/26", "none", "m-dual", "10.0.0.64/27"],
    ];
    assert_eq!(entries, want);
    assert_eq!((&after[0], &after[2]), (&before[0], &before[1]), "the first ones are as before");
    // A reader that finds the network of a family in `info` takes the block of it for granted.
    assert_eq!(after[3]["info"]["subnet6"], serde_json::Value::Null);
    assert_eq!(
        (&after[3]["backend"], &after[3]["state"]),
        (&after[2]["backend"], &after[2]["state"])
    );
}

#[test]
fn records_of_a_version_to_come_are_refused() {
    let settings = settings("9.0.0.0/8", 24);
    let newer = br#"{"format":2,"address":"10.0.0.1","number":1,"blocks":{}}"#;
    let record = ("master/overlay-agent/a".to_owned(), newer.to_vec());
    let error = Overlays::from_records(settings, [record]).unwrap_err();
    let text = mizzen_types::error::chain(&error);
    assert!(text.contains("master/overlay-agent/a") && text.contains("format 2"), "{text}");
}

/// What DC/OS' master says of agents: last byte of the address, number, overlay, block.
fn state(agents: &[(u8, u8, &str, &str)]) -> Vec<u8> {
    let agent = |(last, number, overlay, block): &(u8, u8, &str, &str)| {
        serde_json::json!({ "ip": address(*last), "overlays": [{
            "info": { "name": overlay }, "subnet": block,
            "backend": { "vxlan": {
                "vni": if *number == 99 { 1025 } else { 1024 },
                "vtep_ip": format!("44.128.0.{number}/20"),
                "vtep_mac": format!("70:b3:d5:80:00:{number:02x}"),
            } },
        }] })
    };
    let agents: Vec<serde_json::Value> = agents.iter().map(agent).collect();
    serde_json::json!({ "network": {}, "agents": agents }).to_string().into_bytes()
}

fn of_dcos() -> OverlaySettings {
    OverlaySettings { habits: Habits::Dcos, ..settings("9.0.0.0/8", 24) }
}

#[test]
fn agents_of_dcos_keep_what_they_have_until_they_come() {
    let settings = of_dcos();
    let mut overlays = registry(&settings);
    assert_eq!(come(&mut overlays, "a", 1), "9.0.0.0/24");
    let said = state(&[(7, 7, "dcos", "9.0.1.0/24"), (8, 2, "dcos", "9.0.9.0/24")]);
    for _ in 0..2 {
        let all = overlays.adopt(&said, NOW).unwrap();
        assert_eq!(all.adopted, [address(7), address(8)], "also when it is said again");
    }
    let fact = overlays.foreign_fact(address(7)).unwrap();
    assert_eq!(fact.underlay, [address(7)]);
    assert_eq!(fact.vtep[0].to_string(), "44.128.0.7");
    assert_eq!(
        (fact.shares[0].vni, fact.shares[0].blocks[0].to_string().as_str()),
        (1024, "9.0.1.0/24")
    );

    let mut overlays = restarted(&overlays, &settings);
    assert_eq!(come(&mut overlays, "b", 2), "9.0.2.0/24", "another machine gets another block");
    assert_eq!(overlays.grant(&"b".into()).unwrap().vtep.mac.to_string(), "70:b3:d5:80:00:03");
    assert_eq!(come(&mut overlays, "c", 7), "9.0.1.0/24", "this one has what it had");
    assert_eq!(overlays.grant(&"c".into()).unwrap().vtep.mac.to_string(), "70:b3:d5:80:00:07");
    assert_eq!(overlays.foreign().collect::<Vec<_>>(), [address(8)]);
    let all = overlays.adopt(&said, NOW).unwrap();
    assert_eq!((all.adopted, all.ours), (vec![address(8)], vec![address(7)]));

    // One that never comes is gone for good if an operator says so.
    overlays.release(&foreign_id(address(8)), NOW).unwrap();
    assert_eq!(overlays.foreign().count(), 0);
}

#[test]
fn what_agents_of_dcos_cannot_have() {
    #[rustfmt::skip]
    let table = [
        ("a block that is given", (7, 7, "dcos", "9.0.0.0/24"),  "9.0.0.0/24 belongs to agent a"),
        ("a block of others",     (7, 7, "dcos", "10.0.0.0/24"), "10.0.0.0/24 is no block of the overlay `dcos`"),
        ("another overlay",       (7, 7, "blue", "9.0.1.0/24"),  "there is no overlay `blue` here (`overlay.networks`)"),
        ("another number",        (7, 99, "dcos", "9.0.1.0/24"), "its tunnels have the number 1025 instead of 1024"),
        ("an end that is given",  (7, 1, "dcos", "9.0.1.0/24"),  "its end of the tunnels, 44.128.0.1, is that of agent a"),
    ];
    for (name, agent, want) in table {
        let mut overlays = registry(&of_dcos());
        come(&mut overlays, "a", 1);
        let before = overlays.clone();
        let error = overlays.adopt(&state(&[(9, 9, "dcos", "9.0.9.0/24"), agent]), NOW);
        assert_eq!(error.unwrap_err().to_string(), format!("agent 10.0.0.7: {want}"), "{name}");
        assert_eq!(overlays, before, "{name}: nothing is changed");
    }
    let mut ours = registry(&settings("9.0.0.0/8", 24));
    assert!(matches!(ours.adopt(&state(&[]), NOW), Err(AdoptError::Habits)));
    assert!(matches!(ours.adopt(b"[]", NOW), Err(AdoptError::Form(_))));
    let mut theirs = registry(&of_dcos());
    assert!(matches!(theirs.adopt(&state(&[]), NOW), Err(AdoptError::Nobody)));
}

#[test]
fn no_agent_is_believed_to_have_more_blocks_than_it_could_get() {
    let mut overlays = registry(&settings("9.0.0.0/8", 24));
    let blocks: Vec<String> = (0..200).map(|n| format!("9.1.{n}.0/24")).collect();
    let blocks: Vec<&str> = blocks.iter().map(String::as_str).collect();
    let claim = claim("44.128.0.9", "dcos", &blocks);
    assert_eq!(come_with(&mut overlays, "a", 1, &claim).split(' ').count(), MAX_BLOCKS);
}
