//! The command line as people write it.

use super::*;
use mizzen_types::vip::Rule;
use std::ffi::OsString;

fn parse(words: &[&str]) -> Result<Invocation, clap::Error> {
    Invocation::try_parse(words.iter().map(OsString::from))
}

#[test]
fn the_command_line_holds_together() {
    command().debug_assert();
}

#[test]
fn wrong_usage_exits_with_two() {
    for words in [
        &["mizzen"][..],
        &["mizzen", "sail"],
        &["mizzen", "run"],
        &["mizzen", "node", "--check-config", "--teardown"],
        &["mizzen", "lab", "--nodes", "0"],
        &["mizzen", "lab", "--node", "2"],
        &["mizzen", "lab", "--on", "2", "--nodes", "3"],
        &["mizzen", "lab", "--cut", "2", "--heal", "2"],
        &["mizzen", "scale", "web", "many"],
        &["mizzen", "vip"],
        &["mizzen", "policy"],
        &["mizzen", "policy", "apply"],
        &["mizzen", "policy", "rm", "A"],
        &["mizzen", "policy", "explain", "web"],
        &["mizzen", "vip", "set", "demo:80/tcp"],
        &["mizzen", "vip", "set", "demo:80/tcp", "--backend"],
        &["mizzen", "vip", "set", "demo:0/tcp", "--no-backends"],
        &["mizzen", "vip", "set", "demo:80", "--no-backends", "--rule", "fastest"],
        &["mizzen", "vip", "set", "demo:80", "--no-backends", "--slow-start", "1"],
        &["mizzen", "vip", "set", "demo:80", "--backend", "192.0.2.7"],
        &["mizzen", "vip", "set", "--backend", "192.0.2.7:80", "demo:80"],
        &["mizzen", "vip", "rm", "demo"],
        &["mizzen", "vips", "--plan"],
        &["mizzen", "vips", "--count", "2"],
        &["mizzen", "vips", "--watch", "--interval", "0"],
        &["mizzen", "vips", "--watch", "--interval", "NaN"],
        &["mizzen", "vips", "--watch", "--problems"],
        &["mizzen", "explain"],
        &["mizzen", "agents", "mark-gone"],
        &["mizzen", "agents", "--json", "deactivate", "anchor"],
        &["mizzen", "ping"],
        &["mizzen", "ping", "other", "-c", "0"],
        &["mizzen", "drain"],
        &["mizzen", "drain", "a", "--grace", "long"],
        &["mizzen", "drain", "a", "--timeout", "5"],
    ] {
        assert_eq!(parse(words).unwrap_err().exit_code(), 2, "{words:?}");
    }
}

#[test]
fn looks_several_times_a_second() {
    let line = parse(&["mizzen", "vips", "--watch", "--interval", "0.2"]).unwrap();
    let Command::Vips(vips) = line.command else { panic!("no vips") };
    assert_eq!(vips.interval.as_millis(), 200);
}

#[test]
fn a_service_behind_its_backends_is_asked_to_stand_before_them() {
    let line = ["mizzen", "vip", "set", "--backend", "192.0.2.7:80", "demo:80"];
    let error = parse(&line).unwrap_err().to_string();
    assert!(error.contains("SERVICE stands before --backend"), "{error}");
}

#[test]
fn every_command_has_an_example() {
    fn look(command: &clap::Command, above: &str) {
        for command in command.get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = format!("{above} {}", command.get_name());
            assert!(help.contains(&example), "{example}");
            look(command, &example);
        }
    }
    look(&command(), "mizzen");
}

#[test]
fn backends_of_a_service_in_one_list_or_one_by_one() {
    for words in [
        &["--backend", "192.0.2.7:80", "192.0.2.8:80@3", "--rule", "random"][..],
        &["--backend", "192.0.2.7:80", "--rule", "random", "--backend", "192.0.2.8:80@3"],
    ] {
        let line = [&["mizzen", "vip", "set", "demo:80/tcp"], words].concat();
        let Command::Vip(VipCommand::Set(set)) = parse(&line).unwrap().command else {
            panic!("no vip set")
        };
        let backends: Vec<String> = set.backends.iter().map(ToString::to_string).collect();
        assert_eq!(backends, ["192.0.2.7:80", "192.0.2.8:80@3"]);
        assert_eq!(set.rule, Some(Rule::Random));
    }
}

#[test]
fn a_token_is_in_no_log() {
    let line = parse(&["mizzen", "node", "--join", "a", "--token", "mzn1_secret"]).unwrap();
    let Command::Node(node) = &line.command else { panic!("no node") };
    assert_eq!(node.token.as_ref().map(Secret::reveal), Some("mzn1_secret"));
    assert!(!format!("{line:?}").contains("secret"), "{line:?}");
}

#[test]
fn times_have_the_same_units_everywhere() {
    for time in ["90s", "10m", "1h", "1d"] {
        assert!(parse(&["mizzen", "drain", "a", "--grace", time]).is_ok(), "{time}");
        assert!(parse(&["mizzen", "join-token", "--ttl", time]).is_ok(), "{time}");
    }
    assert!(parse(&["mizzen", "drain", "a", "--grace", "0"]).is_ok());
    for (command, option, time) in
        [("drain", "--grace", "25h"), ("join-token", "--ttl", "31d"), ("join-token", "--ttl", "0")]
    {
        let name = (command == "drain").then_some("a");
        let words = ["mizzen", command].into_iter().chain(name).chain([option, time]);
        assert!(parse(&words.collect::<Vec<_>>()).is_err(), "{command} {time}");
    }
}

#[test]
fn the_lab_takes_any_command() {
    let line = parse(&["mizzen", "lab", "--nodes", "2", "--", "sh", "-c", "exit 3"]).unwrap();
    let Command::Lab(lab) = line.command else { panic!("no lab") };
    assert_eq!((lab.nodes, lab.command.len()), (2, 3));
}
