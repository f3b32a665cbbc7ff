//! `mizzen dns import-config`: from Mesos-DNS' configuration file to ours.

use super::error::CliError;
use super::files;
use super::session::{print, print_json};
use crate::args::DnsImportArgs;
use mizzen_dns_core::{DnsName, Upstream};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Keys whose values nobody should see.
const SECRET: [&str; 5] =
    ["mesoscredentials", "iamconfigfile", "keyfile", "certfile", "cacertfile"];

/// What is said of other keys than those of Mesos-DNS.
const UNKNOWN: &str = "not a key of Mesos-DNS that is known here";

/// What a file becomes.
#[derive(Debug, Default)]
struct Imported {
    dns: Vec<String>,
    admin: Vec<String>,
    notes: Vec<String>,
}

pub(super) fn run(args: &DnsImportArgs) -> Result<(), CliError> {
    let text = files::read(&args.file)?;
    let unreadable = |source| CliError::Json { path: args.file.clone(), source };
    let config: Map<String, Value> = serde_json::from_str(&text).map_err(unreadable)?;
    let wrong = |wrong| CliError::Import { path: args.file.clone(), wrong };
    let imported = import(config).map_err(wrong)?;
    if args.output.json {
        let document = json!({ "toml": imported.toml(), "no_meaning_here": imported.notes });
        return print_json(&document);
    }
    match &args.write {
        None => print(&imported.toml()),
        Some(path) => {
            let failed = |source| CliError::Unwritten { path: path.clone(), source };
            let mut file = std::fs::File::create_new(path).map_err(failed)?;
            file.write_all(imported.toml().as_bytes()).map_err(failed)
        }
    }
}

/// What a file becomes, as text; nothing if it is none.
pub(crate) fn to_toml(text: &str) -> Option<String> {
    Some(import(serde_json::from_str(text).ok()?).ok()?.toml())
}

impl Imported {
    fn toml(&self) -> String {
        let mut text = String::from("# From Mesos-DNS' configuration.\n");
        for note in &self.notes {
            // A key may have any characters; those of the comment's line may not be control
            // characters.
            let note: String = note.chars().filter(|c| !c.is_control()).collect();
            text.push_str(&format!("# {note}\n"));
        }
        text.push_str(
            "\n# Names only, as Mesos-DNS; without this line a node is master, agent and more.\n",
        );
        text.push_str("roles = [\"dns\"]\n");
        text.push_str("\n[dns]\n");
        text.push_str(
            "# mode = \"legacy\"   # answers as Mesos-DNS gave them, where the RFCs differ\n",
        );
        self.dns.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        if !self.admin.is_empty() {
            text.push_str("\n[admin]\n");
            self.admin.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        }
        text
    }
}

fn import(config: Map<String, Value>) -> Result<Imported, Vec<String>> {
    let mut old = Old::new(config);
    let is_unknown =
        |(key, (_, value)): (&String, &(String, Value))| note(key, value) == Some(UNKNOWN);
    if !old.keys.is_empty() && old.keys.iter().all(is_unknown) {
        return Err(vec!["no key in it is one of Mesos-DNS' configuration".to_owned()]);
    }
    let mut imported = Imported::default();
    addresses(&mut old, &mut imported);
    upstreams(&mut old, &mut imported);
    for (key, ours) in
        [("ttl", "ttl"), ("soaminttl", "negative_ttl"), ("srvrecorddefaultweight", "srv_weight")]
    {
        let value = old.read(key, "a number", number);
        imported.dns.extend(value.map(|value| format!("{ours} = {value}")));
    }
    let domain = old.read("domain", "a name", |value| DnsName::parse(value.as_str()?).ok());
    imported.dns.extend(domain.map(|name| format!("domain = {}", quoted(name.as_str()))));
    for (key, ours) in [("enforcerfc952", "enforce_rfc952"), ("enumerationon", "enumerate")] {
        let value = old.read(key, "true or false", Value::as_bool);
        imported.dns.extend(value.map(|value| format!("{ours} = {value}")));
    }
    sources(&mut old, &mut imported);
    machines(&mut old, &mut imported);
    for (key, (written, value)) in &old.keys {
        imported.notes.extend(note(key, value).map(|note| format!("{written}: {note}")));
    }
    if old.wrong.is_empty() { Ok(imported) } else { Err(old.wrong) }
}

/// Mesos-DNS' configuration while it is read.
struct Old {
    /// Its reader does not look at capitals: keys in lower case, and as they are written.
    keys: BTreeMap<String, (String, Value)>,
    wrong: Vec<String>,
}

impl Old {
    fn new(config: Map<String, Value>) -> Self {
        let keys = config.into_iter().map(|(key, value)| (key.to_ascii_lowercase(), (key, value)));
        Self { keys: keys.collect(), wrong: Vec::new() }
    }

    /// A value, if the key is there; one that `read` does not take is noted as wrong.
    fn read<T>(
        &mut self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let (written, value) = self.keys.get(key).filter(|(_, value)| !value.is_null())?;
        let taken = read(value);
        if taken.is_none() {
            self.wrong.push(format!("{written}: {value} is not {wanted}"));
        }
        taken
    }
}

/// Most numbers are times in seconds and weights.
fn number(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

fn addresses(old: &mut Old, imported: &mut Imported) {
    let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
    let address = |value: &Value| value.as_str()?.parse::<IpAddr>().ok();
    let all = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let dns = SocketAddr::new(
        old.read("listener", "an IP address", address).unwrap_or(all),
        old.read("port", "a port", port).unwrap_or(53),
    );
    if dns.port() == 53 && dns.ip() == all {
        // All addresses are the resolver's own ones, too.
        imported.dns.push("addresses = []".to_owned());
    }
    imported.dns.push(format!("listen = [{}]", quoted(dns.to_string())));
    let http = SocketAddr::new(
        old.read("httplistener", "an IP address", address).unwrap_or(all),
        old.read("httpport", "a port", port).unwrap_or(8123),
    );
    if old.read("httpon", "true or false", Value::as_bool) == Some(false) {
        imported
            .notes
            .push("HttpOn = false: the HTTP API always answers; it is on loopback".into());
        return;
    }
    imported.admin.push(format!("mesos_dns = {}", quoted(http.to_string())));
}

fn upstreams(old: &mut Old, imported: &mut Imported) {
    let list = |value: &Value| -> Option<String> {
        let one = |value: &Value| {
            let text = value.as_str()?;
            text.parse::<Upstream>().ok().map(|_| quoted(text))
        };
        let texts: Option<Vec<String>> = value.as_array()?.iter().map(one).collect();
        Some(format!("[{}]", texts?.join(", ")))
    };
    let wanted = "a list of IP addresses";
    let resolvers = old.read("resolvers", wanted, list);
    let asks = old.read("externalon", "true or false", Value::as_bool).unwrap_or(true);
    let resolvers = if asks { resolvers.unwrap_or("[\"8.8.8.8\"]".into()) } else { "[]".into() };
    imported.dns.push(format!("upstreams = {resolvers}"));
    let zones = old.read("zoneresolvers", "a table of names with lists of IP addresses", |value| {
        let zone = |(suffix, to): (&String, &Value)| {
            DnsName::parse(suffix).ok()?;
            Some(format!("{} = {}", quoted(suffix), list(to)?))
        };
        value.as_object()?.iter().map(zone).collect::<Option<Vec<String>>>()
    });
    if let Some(zones) = zones.filter(|zones| !zones.is_empty()) {
        imported.dns.push(format!("forward_zones = {{ {} }}", zones.join(", ")));
    }
}

fn sources(old: &mut Old, imported: &mut Imported) {
    let texts = |value: &Value| -> Option<Vec<String>> {
        value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let Some(sources) = old.read("ipsources", "a list of texts", texts) else {
        imported.dns.push("ip_sources = [\"netinfo\", \"mesos\", \"host\"]".to_owned());
        return;
    };
    let (known, others): (Vec<String>, Vec<String>) = sources
        .into_iter()
        .partition(|source| mizzen_dns_core::IpSource::from_text(source).is_some());
    let known: Vec<String> = known.into_iter().map(quoted).collect();
    imported.dns.push(format!("ip_sources = [{}]", known.join(", ")));
    for other in others {
        imported.notes.push(format!("IPSources: `{other}` is no source here"));
    }
}

/// Who `master0.mesos` and `zk-1.zk` are: by addresses alone, as the old file mostly has them.
fn machines(old: &mut Old, imported: &mut Imported) {
    let texts = |value: &Value| -> Option<Vec<String>> {
        value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let masters = old.read("masters", "a list of texts", texts).unwrap_or_default();
    let ensemble = old.read("zk", "a text", |value| {
        let (_, rest) = value.as_str()?.split_once("://").unwrap_or_default();
        let places = rest.split('/').next()?.rsplit('@').next()?;
        Some(places.split(',').map(str::to_owned).collect::<Vec<String>>())
    });
    for (ours, places) in [("masters", masters), ("ensemble", ensemble.unwrap_or_default())] {
        let mut addresses = Vec::new();
        for place in places.iter().filter(|place| !place.is_empty()) {
            let parsed = place.parse().or_else(|_| place.parse().map(|at: SocketAddr| at.ip()));
            match parsed {
                Ok(ip) if !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast() => {
                    addresses.push(quoted(ip.to_string()));
                }
                // The secret before the places is cut off.
                _ => imported.notes.push(format!("dns.{ours}: `{place}` is no machine's address")),
            }
        }
        if !addresses.is_empty() {
            imported.dns.push(format!("{ours} = [{}]", addresses.join(", ")));
        }
    }
}

/// What to say about a key that becomes nothing.
fn note(key: &str, value: &Value) -> Option<&'static str> {
    if SECRET.contains(&key) {
        return Some("not needed, nothing is polled; its value is not copied");
    }
    Some(match key {
        "dnson" if *value == Value::Bool(true) => return None,
        "zk" | "masters" => return None,
        "refreshseconds"
        | "statetimeoutseconds"
        | "zkdetectiontimeout"
        | "mesoshttpson"
        | "mesosauthentication" => "names follow the node's own logs, no master is polled",
        "timeout" => "upstreams are given up by measured latency",
        "settruncatebit" => "the bit is always set where an answer was cut",
        "soamname" | "soarname" | "soarefresh" | "soaretry" | "soaexpire" => {
            "the zone's start says what this server does"
        }
        "dnson" => "leave out the role `dns` instead",
        "recurseon" => "names of others are forwarded; dns.clients says for whom",
        "ttl"
        | "soaminttl"
        | "domain"
        | "srvrecorddefaultweight"
        | "enforcerfc952"
        | "enumerationon"
        | "port"
        | "listener"
        | "httpon"
        | "httpport"
        | "httplistener"
        | "resolvers"
        | "zoneresolvers"
        | "externalon"
        | "ipsources" => return None,
        _ => UNKNOWN,
    })
}

fn quoted(text: impl AsRef<str>) -> String {
    // TOML's basic strings take JSON's escapes, and want one more.
    Value::from(text.as_ref()).to_string().replace('\u{7f}', "\\u007F")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigFile, Role, Sources};

    #[test]
    fn a_file_of_dcos_becomes_ours() {
        let text = r#"{"zk":"zk://me:hush@10.0.0.1:2181,zk2:2181,10.0.0.5:2181/mesos","masters":["10.0.0.7:5050","10.0.0.8"],"refreshSeconds":30,"ttl":60,"domain":"mesos",
            "port":61053,"resolvers":["10.0.0.2","10.0.0.3:5353"],"zoneResolvers":{"corp.example":["10.0.0.4"]},
            "timeout":5,"listener":"0.0.0.0","HttpPort":8123,"IPSources":["host","netinfo","rkt"],
            "SetTruncateBit":true,"EnumerationOn":false,"enforceRFC952":false,"colour":"blue",
            "MesosCredentials":{"principal":"me","secret":"hush"},"dnsOn":true}"#;
        let imported = import(serde_json::from_str(text).unwrap()).unwrap();
        let toml = imported.toml();
        for secret in ["hush", "\"me\""] {
            assert!(!toml.contains(secret), "{toml}");
        }
        for told in [
            "dns.ensemble: `zk2:2181` is no",
            "refreshSeconds: ",
            "IPSources: `rkt`",
            "MesosCredentials: ",
            "colour: not a key",
        ] {
            assert!(imported.notes.iter().any(|note| note.contains(told)), "{told}: {toml}");
        }
        assert!(!toml.contains("dnsOn"), "{toml}");
        let file = ConfigFile { path: "m.toml".into(), text: toml.clone() };
        let config = Config::load(&Sources { file: Some(file), ..Sources::default() });
        let config = config.unwrap_or_else(|errors| panic!("{errors:?}\n{toml}"));
        assert_eq!(config.roles, [Role::Dns].into());
        let ips = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<String>>();
        assert_eq!(ips(&config.dns.masters), ["10.0.0.7", "10.0.0.8"]);
        assert_eq!(ips(&config.dns.ensemble), ["10.0.0.1", "10.0.0.5"]);
        assert_eq!(config.dns.listen, ["0.0.0.0:61053".parse().unwrap()]);
        assert_eq!(config.dns.upstreams[1].to_string(), "10.0.0.3:5353");
        assert_eq!(config.dns.forward_zones["corp.example"].len(), 1);
        assert_eq!(config.dns.ip_sources, ["host", "netinfo"]);
        assert_eq!((config.dns.ttl, config.dns.enumerate), (60, false));
        assert_eq!(config.admin.mesos_dns.to_string(), "0.0.0.0:8123");
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        let text = r#"{"a\n[admin]\nx":1,"ttl":"sixty","domain":"a..b","enforceRFC952":[1],
            "SRVRecordDefaultWeight":18446744073709551615,"Resolvers":["foo"],"port":99999,
            "listener":"here","zoneResolvers":{"corp.example":"10.0.0.4"},"soaMinTTL":null}"#;
        let wrong = import(serde_json::from_str(text).unwrap()).unwrap_err();
        for line in [
            "ttl: \"sixty\" is not a number",
            "domain: \"a..b\" is not a name",
            "enforceRFC952: [1] is not true or false",
            "SRVRecordDefaultWeight: 18446744073709551615 is not a number",
            "Resolvers: [\"foo\"] is not a list of IP addresses",
            "port: 99999 is not a port",
            "listener: \"here\" is not an IP address",
        ] {
            assert!(wrong.iter().any(|have| have == line), "{line} in\n{wrong:?}");
        }
        assert_eq!(wrong.len(), 8, "{wrong:?}");
    }

    #[test]
    fn a_key_cannot_write_lines_of_its_own() {
        let text = r#"{"a\n[admin]\nx":1,"ttl":60}"#;
        let toml = import(serde_json::from_str(text).unwrap()).unwrap().toml();
        let line = "# a[admin]x: not a key of Mesos-DNS that is known here";
        assert!(toml.lines().any(|have| have == line), "{toml}");
    }

    #[test]
    fn what_is_none_of_mesos_dns_is_refused() {
        let app = serde_json::from_str(r#"{"id":"/web","cmd":"sleep 1"}"#).unwrap();
        let wrong = import(app).unwrap_err();
        assert_eq!(wrong, ["no key in it is one of Mesos-DNS' configuration"]);
    }

    #[test]
    fn an_empty_file_has_the_old_defaults() {
        let file = ConfigFile { path: "m.toml".into(), text: import(Map::new()).unwrap().toml() };
        let config = Config::load(&Sources { file: Some(file), ..Sources::default() }).unwrap();
        assert_eq!(config.dns.listeners(), ["0.0.0.0:53".parse().unwrap()]);
        assert_eq!(config.dns.upstreams[0].to_string(), "8.8.8.8:53");
    }
}
