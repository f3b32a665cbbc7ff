//! What `dig` sees, whole zones among it.

use crate::common::{Resolver, task};
use mizzen_dns_server::{Access, Settings};
use std::collections::BTreeSet;
use std::process::Command;

/// Runs `dig` and returns what it prints.
fn dig(resolver: &Resolver, arguments: &str) -> String {
    let output = Command::new("dig")
        .args([format!("@{}", resolver.address.ip()), "-p".into()])
        .arg(resolver.address.port().to_string())
        .args(["+time=5", "+tries=1"])
        .args(arguments.split(' '))
        .output()
        .expect("dig runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments}: {text}");
    text
}

fn resolver(tasks: u16) -> Resolver {
    let access = Access {
        transfer_to: vec!["127.0.0.0/8".parse().expect("a network")],
        ..Access::default()
    };
    let nsid = Some("node-1".to_owned());
    let resolver = Resolver::start(Settings { access, nsid, ..Settings::default() });
    for number in 0..tasks {
        let [high, low] = number.to_be_bytes();
        resolver.add(task(&format!("web.{number}"), [9, 1, high, low]));
    }
    resolver
}

/// ISC's list of what servers get wrong (RFC 8906, 8).
#[test]
fn nothing_of_rfc_8906_is_left_unanswered() {
    let resolver = resolver(1);
    #[rustfmt::skip]
    let table = [
        ("+noedns +noad +norec soa mesos",               "status: NOERROR",  ""),
        ("+noedns +noad +norec type1000 mesos",          "status: NOERROR",  ""),
        ("+noedns +noad +norec +cd soa mesos",           "status: NOERROR",  ""),
        ("+noedns +norec +ad soa mesos",                 "status: NOERROR",  ""),
        ("+noedns +noad +norec +zflag soa mesos",        "status: NOERROR",  ""),
        ("+noedns +noad +norec +opcode=15 +header-only", "status: NOTIMP",   ""),
        ("+noedns +noad +norec +tcp soa mesos",          "status: NOERROR",  ""),
        ("+edns=0 +nocookie +noad +norec soa mesos",     "status: NOERROR",  "EDNS: version: 0"),
        ("+edns=1 +noednsneg +nocookie +noad +norec soa mesos", "status: BADVERS", "EDNS: version: 0"),
        ("+edns=0 +ednsopt=100 +nocookie +noad +norec soa mesos", "status: NOERROR", "EDNS: version: 0"),
        ("+edns=0 +ednsflags=0x40 +nocookie +noad +norec soa mesos", "status: NOERROR", "flags:; udp: 1232"),
        ("+edns=1 +noednsneg +ednsopt=100 +nocookie +noad +norec soa mesos", "status: BADVERS", "EDNS: version: 0"),
        ("+edns=1 +noednsneg +ednsflags=0x80 +nocookie +noad +norec soa mesos", "status: BADVERS", "EDNS: version: 0"),
        ("+bufsize=512 +ignore +dnssec +nocookie +noad +norec dnskey mesos", "status: NOERROR", "flags: do;"),
        ("+edns=0 +cookie +noad +norec soa mesos",       "status: NOERROR",  "(good)"),
        ("+edns=0 +nsid +noad +norec soa mesos",         "status: NOERROR",  "node-1"),
        ("+subnet=10.0.0.0/8 +noad +norec soa mesos",    "status: NOERROR",  ""),
        ("+padding=128 +nocookie +noad +norec soa mesos", "status: NOERROR", ""),
        ("+tcp +keepalive +noad +norec soa mesos",       "status: NOERROR",  "TCP KEEPALIVE: 10.0"),
        ("-c CH txt version.bind",                       "status: REFUSED",  ""),
        ("+ednsopt=12 example.com",                      "status: REFUSED",  ""),
    ];
    for (arguments, status, more) in table {
        let text = dig(&resolver, &format!("+qr {arguments}"));
        let reply = text.split("Got answer:").nth(1).unwrap_or(&text);
        assert!(reply.contains(status) && reply.contains(more), "{arguments}: {text}");
        // A reserved flag is never sent back.
        assert!(!reply.contains("MBZ"), "{arguments}: {text}");
    }
}

#[test]
fn a_zone_is_transferred_whole() {
    let resolver = resolver(400);
    let text = dig(&resolver, "+noall +answer axfr mesos");
    let addresses: BTreeSet<&str> = text
        .lines()
        .filter(|line| line.starts_with("web.marathon.mesos.") && line.contains("\tA\t"))
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    assert_eq!(addresses.len(), 400);
    let soa = |text: &str| {
        let line = text.lines().find(|line| line.contains("SOA")).expect("an SOA record");
        line.split_whitespace().nth(6).expect("a serial").to_owned()
    };
    let asked = dig(&resolver, "+noall +answer soa mesos");
    assert_eq!(soa(&text), soa(&asked), "the serial is that of the zones");
    // IXFR is answered by the whole zone by TCP, and sent there by UDP; who has it all gets its start.
    let serial: u32 = soa(&asked).parse().expect("a serial");
    let old = serial.wrapping_sub(1);
    let whole = dig(&resolver, &format!("+noall +answer ixfr={old} mesos"));
    assert_eq!(whole.lines().count(), text.lines().count());
    for options in [
        format!("+notcp ixfr={old}"),
        format!("ixfr={serial}"),
        format!("ixfr={}", serial.wrapping_add(1)),
    ] {
        let start = dig(&resolver, &format!("+noall +answer {options} mesos"));
        assert_eq!((start.lines().count(), soa(&start)), (1, soa(&asked)), "{options}");
    }
    assert_eq!(resolver.server.metrics().transfers, 2);
}

#[test]
fn zones_are_refused_to_others() {
    let resolver = Resolver::start(Settings::default());
    for kind in ["axfr", "ixfr=1"] {
        let text = dig(&resolver, &format!("+qr +tcp +noall +comments {kind} mesos"));
        assert!(text.contains("REFUSED") || text.contains("Transfer failed"), "{text}");
    }
    let allowed = self::resolver(1);
    let text = dig(&allowed, "+tcp axfr marathon.mesos");
    assert!(text.contains("Transfer failed"), "{text}");
}
