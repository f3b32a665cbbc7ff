//! `mizzen dns import-config`: from Mesos-DNS' configuration file to ours.

use super::error::CliError;
use super::session::{print, print_json};
use crate::args::DnsImportArgs;
use serde_json::{Map, Value, json};
use std::io::{Read, Write};
use std::path::Path;

/// Keys whose values nobody should see.
const SECRET: [&str; 5] =
    ["mesoscredentials", "iamconfigfile", "keyfile", "certfile", "cacertfile"];

/// What a file becomes.
#[derive(Debug, Default)]
struct Imported {
    dns: Vec<String>,
    admin: Vec<String>,
    notes: Vec<String>,
}

pub(super) fn run(args: &DnsImportArgs) -> Result<(), CliError> {
    let text = read(&args.file)?;
    let unreadable = |source| CliError::Json { path: args.file.clone(), source };
    let config: Map<String, Value> = serde_json::from_str(&text).map_err(unreadable)?;
    let imported = import(config);
    if args.output.json {
        let document = json!({ "toml": imported.toml(), "no_meaning_here": imported.notes });
        return print_json(&document);
    }
    match &args.write {
        None => print(&imported.toml()),
        Some(path) => {
            let failed = |source| CliError::File { path: path.clone(), source };
            let mut file = std::fs::File::create_new(path).map_err(failed)?;
            file.write_all(imported.toml().as_bytes()).map_err(failed)
        }
    }
}

/// What a file becomes, as text.
pub(crate) fn to_toml(text: &str) -> Result<String, serde_json::Error> {
    Ok(import(serde_json::from_str(text)?).toml())
}

fn read(path: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().read_to_string(&mut text).map(drop),
        _ => std::fs::read_to_string(path).map(|all| text = all),
    };
    read.map(|()| text).map_err(|source| CliError::File { path: path.to_owned(), source })
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

fn import(config: Map<String, Value>) -> Imported {
    // Its reader does not look at capitals.
    let config: Map<String, Value> =
        config.into_iter().map(|(key, value)| (key.to_ascii_lowercase(), value)).collect();
    let mut imported = Imported::default();
    addresses(&config, &mut imported);
    upstreams(&config, &mut imported);
    for (key, ours) in [
        ("ttl", "ttl"),
        ("soaminttl", "negative_ttl"),
        ("domain", "domain"),
        ("srvrecorddefaultweight", "srv_weight"),
        ("enforcerfc952", "enforce_rfc952"),
        ("enumerationon", "enumerate"),
    ] {
        if let Some(value) = config.get(key) {
            match scalar(value) {
                Some(value) => imported.dns.push(format!("{ours} = {value}")),
                None => imported.notes.push(format!("{key}: this is no value for it")),
            }
        }
    }
    sources(&config, &mut imported);
    for key in config.keys() {
        if let Some(note) = note(key) {
            imported.notes.push(note);
        }
    }
    imported
}

fn addresses(config: &Map<String, Value>, imported: &mut Imported) {
    let port = config.get("port").and_then(Value::as_u64).unwrap_or(53);
    let listener = config.get("listener").and_then(Value::as_str).unwrap_or("0.0.0.0");
    if port == 53 && listener == "0.0.0.0" {
        // All addresses are the resolver's own ones, too.
        imported.dns.push("addresses = []".to_owned());
    }
    imported.dns.push(format!("listen = [{}]", quoted(socket(listener, port))));
    if config.get("httpon") == Some(&Value::Bool(false)) {
        imported
            .notes
            .push("HttpOn = false: the HTTP API always answers; it is on loopback".into());
        return;
    }
    let port = config.get("httpport").and_then(Value::as_u64).unwrap_or(8123);
    let listener = config.get("httplistener").and_then(Value::as_str).unwrap_or("0.0.0.0");
    imported.admin.push(format!("mesos_dns = {}", quoted(socket(listener, port))));
}

fn upstreams(config: &Map<String, Value>, imported: &mut Imported) {
    let texts = |value: &Value| -> Vec<String> {
        let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(quoted).collect()
    };
    match config.get("resolvers") {
        _ if config.get("externalon") == Some(&Value::Bool(false)) => {
            imported.dns.push("upstreams = []".to_owned());
        }
        Some(resolvers) => {
            imported.dns.push(format!("upstreams = [{}]", texts(resolvers).join(", ")));
        }
        None => imported.dns.push("upstreams = [\"8.8.8.8\"]".to_owned()),
    }
    if let Some(zones) = config.get("zoneresolvers").and_then(Value::as_object)
        && !zones.is_empty()
    {
        let zone = |(suffix, to): (&String, &Value)| {
            format!("{} = [{}]", quoted(suffix), texts(to).join(", "))
        };
        let zones: Vec<String> = zones.iter().map(zone).collect();
        imported.dns.push(format!("forward_zones = {{ {} }}", zones.join(", ")));
    }
}

fn sources(config: &Map<String, Value>, imported: &mut Imported) {
    let Some(sources) = config.get("ipsources").and_then(Value::as_array) else {
        imported.dns.push("ip_sources = [\"netinfo\", \"mesos\", \"host\"]".to_owned());
        return;
    };
    let (known, others): (Vec<&str>, Vec<&str>) = sources
        .iter()
        .filter_map(Value::as_str)
        .partition(|source| mizzen_dns_core::IpSource::from_text(source).is_some());
    let known: Vec<String> = known.into_iter().map(quoted).collect();
    imported.dns.push(format!("ip_sources = [{}]", known.join(", ")));
    for other in others {
        imported.notes.push(format!("IPSources: `{other}` is no source here"));
    }
}

/// What to say about a key that becomes nothing.
fn note(key: &str) -> Option<String> {
    if SECRET.contains(&key) {
        return Some(format!("{key}: not needed, nothing is polled; its value is not copied"));
    }
    let why = match key {
        "zk"
        | "masters"
        | "refreshseconds"
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
        _ => "not a key of Mesos-DNS that is known here",
    };
    Some(format!("{key}: {why}"))
}

fn socket(address: &str, port: u64) -> String {
    match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    }
}

/// A number, text or truth value as TOML writes it.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) if number.is_f64() || number.as_i64().is_some() => {
            Some(number.to_string())
        }
        Value::String(text) => Some(quoted(text)),
        _ => None,
    }
}

fn quoted(text: impl AsRef<str>) -> String {
    // TOML's basic strings take JSON's escapes, and want one more.
    Value::from(text.as_ref()).to_string().replace('\u{7f}', "\\u007F")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigFile, Sources};

    #[test]
    fn a_file_of_dcos_becomes_ours() {
        let text = r#"{"zk":"zk://10.0.0.1:2181/mesos","refreshSeconds":30,"ttl":60,"domain":"mesos",
            "port":61053,"resolvers":["10.0.0.2","10.0.0.3:5353"],"zoneResolvers":{"corp.example":["10.0.0.4"]},
            "timeout":5,"listener":"0.0.0.0","HttpPort":8123,"IPSources":["host","netinfo","rkt"],
            "SetTruncateBit":true,"EnumerationOn":false,"enforceRFC952":false,"colour":"blue",
            "MesosCredentials":{"principal":"me","secret":"hush"}}"#;
        let imported = import(serde_json::from_str(text).unwrap());
        let toml = imported.toml();
        for secret in ["hush", "\"me\""] {
            assert!(!toml.contains(secret), "{toml}");
        }
        for told in ["zk: ", "IPSources: `rkt`", "mesoscredentials: ", "colour: not a key"] {
            assert!(imported.notes.iter().any(|note| note.contains(told)), "{told}: {toml}");
        }
        let file = ConfigFile { path: "m.toml".into(), text: toml.clone() };
        let config = Config::load(&Sources { file: Some(file), ..Sources::default() });
        let config = config.unwrap_or_else(|errors| panic!("{errors:?}\n{toml}"));
        assert_eq!(config.dns.listen, ["0.0.0.0:61053".parse().unwrap()]);
        assert_eq!(config.dns.upstreams[1].to_string(), "10.0.0.3:5353");
        assert_eq!(config.dns.forward_zones["corp.example"].len(), 1);
        assert_eq!(config.dns.ip_sources, ["host", "netinfo"]);
        assert_eq!((config.dns.ttl, config.dns.enumerate), (60, false));
        assert_eq!(config.admin.mesos_dns.to_string(), "0.0.0.0:8123");
    }

    #[test]
    fn what_makes_no_sense_is_told_and_stays_out() {
        let text = r#"{"a\n[admin]\nx":1,"ttl":null,"domain":"a\u007fb","enforceRFC952":[1],
            "SRVRecordDefaultWeight":18446744073709551615}"#;
        let imported = import(serde_json::from_str(text).unwrap());
        let toml = imported.toml();
        for line in [
            "# a[admin]x: not a key of Mesos-DNS that is known here",
            "# ttl: this is no value for it",
            "# enforcerfc952: this is no value for it",
            "# srvrecorddefaultweight: this is no value for it",
            r#"domain = "a\u007Fb""#,
        ] {
            assert!(toml.lines().any(|have| have == line), "{line} in\n{toml}");
        }
    }

    #[test]
    fn an_empty_file_has_the_old_defaults() {
        let file = ConfigFile { path: "m.toml".into(), text: import(Map::new()).toml() };
        let config = Config::load(&Sources { file: Some(file), ..Sources::default() }).unwrap();
        assert_eq!(config.dns.listeners(), ["0.0.0.0:53".parse().unwrap()]);
        assert_eq!(config.dns.upstreams[0].to_string(), "8.8.8.8:53");
    }
}
