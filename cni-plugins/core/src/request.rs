//! What a runtime asks of a plugin: environment and standard input made one value.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::AttachmentKey;
use crate::config::ConfigError;
use crate::error::Code;
use crate::invoke::Verb;
use crate::runtime::Wanted;
use crate::version::{SpecVersion, UnknownVersion};

/// A request that makes sense as CNI; what the configuration means is for [`crate::config`].
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// The version of question and answer.
    pub version: SpecVersion,
    /// Name of the network.
    pub network: String,
    /// The network configuration, complete.
    pub config: Map<String, Value>,
    /// Where plugins are.
    pub plugin_path: Vec<PathBuf>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Connect a container.
    Add(Attachment),
    /// Disconnect a container; may be repeated.
    Del(Attachment),
    /// Say whether a container is still connected as ADD left it.
    Check(Attachment),
    /// Say whether ADD would work.
    Status,
    /// Remove what belongs to no container that is still wanted.
    Gc,
    /// List the versions that we speak.
    Version,
}

impl Command {
    /// The same without what it is about.
    #[must_use]
    pub fn verb(&self) -> Verb {
        match self {
            Self::Add(_) => Verb::Add,
            Self::Del(_) => Verb::Del,
            Self::Check(_) => Verb::Check,
            Self::Status => Verb::Status,
            Self::Gc => Verb::Gc,
            Self::Version => Verb::Version,
        }
    }
}

/// The container that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Container and interface.
    pub key: AttachmentKey,
    /// Path of the container's network namespace; DEL may come without.
    pub netns: Option<PathBuf>,
    /// The runtime's arguments as they came (`CNI_ARGS`), for plugins that we call.
    pub args: String,
    /// The addresses that the runtime wants (`ips`, `mac`, `CNI_ARGS`).
    pub wanted: Wanted,
}

impl Attachment {
    /// The container's namespace. ADD and CHECK always have one.
    ///
    /// # Errors
    ///
    /// [`RequestError::MissingVariable`] if it was not given.
    pub fn netns(&self) -> Result<&PathBuf, RequestError> {
        self.netns.as_ref().ok_or(RequestError::MissingVariable { name: "CNI_NETNS" })
    }
}

/// A request that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A variable that the command needs is not there.
    #[error("environment variable {name} is not set")]
    MissingVariable {
        /// The variable.
        name: &'static str,
    },
    /// A variable has a value that cannot be.
    #[error("environment variable {name} is `{value}`, which is not {expected}")]
    BadVariable {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// Standard input is not a JSON object.
    #[error("standard input is not a network configuration in JSON")]
    Undecodable {
        /// Where it went wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The configuration is of another version.
    #[error(transparent)]
    Version(#[from] UnknownVersion),
    /// The version has no such command.
    #[error("command {command} does not exist in CNI version {version}")]
    CommandTooNew {
        /// The command.
        command: &'static str,
        /// The version of the configuration.
        version: SpecVersion,
    },
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl RequestError {
    /// The code of the error answer.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::MissingVariable { .. } | Self::BadVariable { .. } => Code::InvalidEnvironment,
            Self::Undecodable { .. } => Code::Undecodable,
            Self::Version(_) | Self::CommandTooNew { .. } => Code::IncompatibleVersion,
            Self::Config(error) => error.code(),
        }
    }
}

/// The variables that [`parse`] looks at.
pub const VARIABLES: [&str; 6] =
    ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"];

/// Makes a request of the variables and the bytes that a plugin is given.
///
/// # Errors
///
/// [`RequestError`] names the variable or the key that is wrong.
pub fn parse(
    environment: &BTreeMap<String, String>,
    stdin: &[u8],
) -> Result<Request, RequestError> {
    let command = variable(environment, "CNI_COMMAND")?;
    if command == "VERSION" {
        return Ok(version_request(stdin));
    }
    let config = decode(stdin)?;
    let version = version_of(&config)?;
    let network = network_of(&config)?;
    let command = match command {
        "ADD" => Command::Add(attachment(environment, &network, &config)?),
        "DEL" => Command::Del(attachment(environment, &network, &config)?),
        "CHECK" => Command::Check(attachment(environment, &network, &config)?),
        "STATUS" => Command::Status,
        "GC" => Command::Gc,
        _ => {
            let expected = "one of ADD, DEL, CHECK, VERSION, STATUS, GC";
            return Err(bad("CNI_COMMAND", command, expected));
        }
    };
    command.allowed_in(version)?;
    if let Command::Add(attachment) | Command::Check(attachment) = &command {
        attachment.netns()?;
    }
    let plugin_path = plugin_path(environment);
    Ok(Request { command, version, network, config, plugin_path })
}

/// The version in which to answer a request that could not be read.
#[must_use]
pub fn answer_version(stdin: &[u8]) -> SpecVersion {
    let config = decode(stdin).unwrap_or_default();
    version_of(&config).unwrap_or(SpecVersion::FALLBACK)
}

impl Command {
    fn allowed_in(&self, version: SpecVersion) -> Result<(), RequestError> {
        let (command, since) = match self {
            Self::Check(_) => ("CHECK", SpecVersion::V0_4_0),
            Self::Status => ("STATUS", SpecVersion::V1_1_0),
            Self::Gc => ("GC", SpecVersion::V1_1_0),
            Self::Add(_) | Self::Del(_) | Self::Version => return Ok(()),
        };
        if version < since {
            return Err(RequestError::CommandTooNew { command, version });
        }
        Ok(())
    }
}

/// VERSION is answered whatever the input: it is how a runtime finds out what to send.
fn version_request(stdin: &[u8]) -> Request {
    let config = decode(stdin).unwrap_or_default();
    let version = version_of(&config).unwrap_or(SpecVersion::FALLBACK);
    let network = String::new();
    Request { command: Command::Version, version, network, config, plugin_path: Vec::new() }
}

fn decode(stdin: &[u8]) -> Result<Map<String, Value>, RequestError> {
    serde_json::from_slice(stdin).map_err(|source| RequestError::Undecodable { source })
}

fn version_of(config: &Map<String, Value>) -> Result<SpecVersion, RequestError> {
    let found = config.get("cniVersion").and_then(Value::as_str);
    let text = found.ok_or(ConfigError::Missing { key: "cniVersion" })?;
    Ok(text.parse()?)
}

fn network_of(config: &Map<String, Value>) -> Result<String, RequestError> {
    let found = config.get("name").and_then(Value::as_str);
    let name = found.ok_or(ConfigError::Missing { key: "name" })?;
    if !is_word(name) {
        let expected = "letters, digits, `.`, `_` and `-`, the first a letter or digit";
        return Err(ConfigError::Invalid { key: "name", value: name.into(), expected }.into());
    }
    Ok(name.to_owned())
}

fn attachment(
    environment: &BTreeMap<String, String>,
    network: &str,
    config: &Map<String, Value>,
) -> Result<Attachment, RequestError> {
    let container_id = variable(environment, "CNI_CONTAINERID")?;
    if !is_word(container_id) {
        let expected = "letters, digits, `.`, `_` and `-`, the first a letter or digit";
        return Err(bad("CNI_CONTAINERID", container_id, expected));
    }
    if network.len() + container_id.len() > MAX_NAMES {
        let expected = "short enough (227 bytes together with the network's name)";
        return Err(bad("CNI_CONTAINERID", container_id, expected));
    }
    let ifname = variable(environment, "CNI_IFNAME")?;
    if !is_ifname(ifname) {
        return Err(bad("CNI_IFNAME", ifname, "an interface name of 1 to 15 bytes"));
    }
    let netns = environment.get("CNI_NETNS").filter(|path| !path.is_empty());
    Ok(Attachment {
        key: AttachmentKey { container_id: container_id.into(), ifname: ifname.into() },
        netns: netns.map(PathBuf::from),
        args: environment.get("CNI_ARGS").cloned().unwrap_or_default(),
        wanted: arguments(environment, Wanted::read(config)?)?,
    })
}

/// Names of network and container together: both are in the mark of the host-side
/// link, for which the kernel has 255 bytes.
const MAX_NAMES: usize = 227;

fn plugin_path(environment: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let path = environment.get("CNI_PATH").map_or("", String::as_str);
    path.split(':').filter(|dir| !dir.is_empty()).map(PathBuf::from).collect()
}

/// Adds what `CNI_ARGS` wants, where the configuration wants nothing. Unknown keys are no
/// concern of ours.
fn arguments(
    environment: &BTreeMap<String, String>,
    mut wanted: Wanted,
) -> Result<Wanted, RequestError> {
    let Some(text) = environment.get("CNI_ARGS").filter(|text| !text.is_empty()) else {
        return Ok(wanted);
    };
    let ip = |text: &str| text.split('/').next().unwrap_or_default().parse::<IpAddr>().ok();
    for pair in text.split(';').filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(bad("CNI_ARGS", text, "a list of KEY=VALUE separated by semicolons"));
        };
        match key {
            "IP" if !value.is_empty() => {
                let parsed: Option<Vec<IpAddr>> = value.split(',').map(ip).collect();
                let parsed = parsed.ok_or_else(|| bad("CNI_ARGS", text, "naming IP addresses"))?;
                if wanted.ips.is_empty() {
                    wanted.ips = parsed;
                }
            }
            "MAC" if !value.is_empty() => {
                let parsed = crate::runtime::mac(value);
                let parsed = parsed.ok_or_else(|| bad("CNI_ARGS", text, "naming a MAC address"))?;
                wanted.mac.get_or_insert(parsed);
            }
            _ => {}
        }
    }
    Ok(wanted)
}

fn variable<'a>(
    environment: &'a BTreeMap<String, String>,
    name: &'static str,
) -> Result<&'a str, RequestError> {
    let value = environment.get(name).filter(|value| !value.is_empty());
    value.map(String::as_str).ok_or(RequestError::MissingVariable { name })
}

fn bad(name: &'static str, value: &str, expected: &'static str) -> RequestError {
    RequestError::BadVariable { name, value: value.into(), expected }
}

/// The alphabet of container ids and network names. It has no slash and no leading
/// dot, so such a name is a safe file name, too.
pub(crate) fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// What the kernel takes as the name of a link.
pub(crate) fn is_ifname(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && !matches!(text, "." | "..")
        && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"cniVersion":"1.0.0","name":"dcos","type":"mizzen-overlay"}"#;

    fn environment(changes: &[(&str, &str)]) -> BTreeMap<String, String> {
        let basis = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", "/proc/7/ns/net"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/a:/b"),
        ];
        let pairs = basis.iter().chain(changes);
        pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_good_request() {
        let variables =
            environment(&[("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=x;IP=9.0.5.7/25")]);
        let request = parse(&variables, CONFIG.as_bytes()).unwrap();
        assert_eq!((request.version, request.network.as_str()), (SpecVersion::V1_0_0, "dcos"));
        let Command::Add(attachment) = request.command else { panic!("{:?}", request.command) };
        assert_eq!(attachment.key.container_id, "c1");
        assert_eq!(attachment.wanted.ips, ["9.0.5.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(request.plugin_path, ["/a", "/b"].map(PathBuf::from));
    }

    #[test]
    fn refusals_have_the_right_code_and_name_the_culprit() {
        let long = "x".repeat(300);
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, u32, &'a str);
        #[rustfmt::skip]
        let table: &[Row] = &[
            ("no command",      &[("CNI_COMMAND", "")],               CONFIG, 4, "CNI_COMMAND"),
            ("odd command",     &[("CNI_COMMAND", "add")],            CONFIG, 4, "CNI_COMMAND"),
            ("no container",    &[("CNI_CONTAINERID", "")],           CONFIG, 4, "CNI_CONTAINERID"),
            ("path in an id",   &[("CNI_CONTAINERID", "../../etc")],  CONFIG, 4, "CNI_CONTAINERID"),
            ("endless id",      &[("CNI_CONTAINERID", &long)],        CONFIG, 4, "CNI_CONTAINERID"),
            ("long interface",  &[("CNI_IFNAME", "0123456789abcdef")],CONFIG, 4, "CNI_IFNAME"),
            ("odd interface",   &[("CNI_IFNAME", "a/b")],             CONFIG, 4, "CNI_IFNAME"),
            ("ADD without ns",  &[("CNI_NETNS", "")],                 CONFIG, 4, "CNI_NETNS"),
            ("odd arguments",   &[("CNI_ARGS", "IP")],                CONFIG, 4, "CNI_ARGS"),
            ("odd address",     &[("CNI_ARGS", "IP=9.0.0.x")],        CONFIG, 4, "CNI_ARGS"),
            ("odd MAC",         &[("CNI_ARGS", "MAC=02:00")],         CONFIG, 4, "MAC"),
            ("garbage",         &[],                                  "{",    6, "JSON"),
            ("no object",       &[],                                  "[1]",  6, "JSON"),
            ("no version",      &[], r#"{"name":"a"}"#,                       7, "cniVersion"),
            ("old version",     &[], r#"{"cniVersion":"0.1.0","name":"a"}"#,  1, "0.1.0"),
            ("no name",         &[], r#"{"cniVersion":"1.0.0"}"#,             7, "name"),
            ("path as name",    &[], r#"{"cniVersion":"1.0.0","name":"../x"}"#, 7, "name"),
            ("CHECK too early", &[("CNI_COMMAND", "CHECK")],
                                r#"{"cniVersion":"0.3.1","name":"a"}"#,       1, "CHECK"),
            ("GC too early",    &[("CNI_COMMAND", "GC")],             CONFIG, 1, "GC"),
        ];
        for (name, changes, stdin, code, culprit) in table {
            let error = parse(&environment(changes), stdin.as_bytes()).unwrap_err();
            assert_eq!(error.code() as u32, *code, "{name}: {error}");
            assert!(error.to_string().contains(culprit), "{name}: {error}");
        }
    }

    #[test]
    fn del_needs_no_namespace_and_version_needs_nothing() {
        let del = environment(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")]);
        assert!(parse(&del, CONFIG.as_bytes()).is_ok());
        let version = environment(&[("CNI_COMMAND", "VERSION"), ("CNI_CONTAINERID", "")]);
        for stdin in ["", "garbage", r#"{"cniVersion":"0.2.0"}"#] {
            let request = parse(&version, stdin.as_bytes()).unwrap();
            assert_eq!(request.command, Command::Version);
        }
        assert_eq!(answer_version(br#"{"cniVersion":"0.4.0","x":1}"#), SpecVersion::V0_4_0);
        assert_eq!(answer_version(b"garbage"), SpecVersion::FALLBACK);
    }
}
