//! The caller's side: what to give a plugin, and what its answer means.
//!
//! A runtime executes one of [`candidates`] with exactly the variables of
//! [`environment`] and the bytes of [`standard_input`], and hands what came back to
//! [`read_answer`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::AttachmentKey;
use crate::config::VALID_ATTACHMENTS;
use crate::result::CniResult;
use crate::version::SpecVersion;

/// What a plugin is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Connect a container.
    Add,
    /// Disconnect it.
    Del,
    /// Say whether it is still connected.
    Check,
    /// Remove what belongs to no container that is still wanted.
    Gc,
    /// Say whether ADD would work.
    Status,
    /// List the versions that it speaks.
    Version,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version];

    /// The value of `CNI_COMMAND`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }
}

/// One call of a plugin.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// What to do.
    pub verb: Verb,
    /// To which container and interface; none for GC and VERSION.
    pub key: Option<&'a AttachmentKey>,
    /// Path of the container's network namespace; DEL may come without.
    pub netns: Option<&'a Path>,
    /// Directories with plugins, searched in order.
    pub plugin_path: &'a [PathBuf],
    /// `CNI_ARGS`; empty for none.
    pub args: &'a str,
}

/// What is added to a network configuration for one call.
#[derive(Clone, Debug, Default)]
pub struct Additions<'a> {
    /// The answer of ADD: needed by CHECK, wanted by DEL.
    pub prev_result: Option<&'a Value>,
    /// Needed by GC, and by nobody else: what it must keep.
    pub valid_attachments: Option<&'a [AttachmentKey]>,
}

/// How a plugin's process ended, and what it wrote.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: &'a [u8],
    /// Standard error.
    pub stderr: &'a [u8],
}

/// A call that did not work.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// `type` of the configuration is no file name.
    #[error("plugin type `{plugin}` is not a file name")]
    BadType {
        /// The type.
        plugin: String,
    },
    /// The configuration has no `type`.
    #[error("the network configuration has no `type`")]
    NoType,
    /// The configuration has arguments where Mesos wants to put its own.
    #[error("the network configuration already has args[\"org.apache.mesos\"]")]
    ArgsTaken,
    /// The plugin answered with an error.
    #[error("plugin `{plugin}` refused {verb} with code {code}: {message}{}", in_brackets(details))]
    Refused {
        /// Which plugin.
        plugin: String,
        /// What it was told to do.
        verb: &'static str,
        /// Its error code; 11 means that trying again may help.
        code: u32,
        /// Its words.
        message: String,
        /// More of its words.
        details: String,
    },
    /// The plugin failed without an error answer.
    #[error("plugin `{plugin}` failed {verb} ({}): {words}", ending(*code))]
    Failed {
        /// Which plugin.
        plugin: String,
        /// What it was told to do.
        verb: &'static str,
        /// Exit code; `None` if a signal ended it.
        code: Option<i32>,
        /// What it wrote, shortened.
        words: String,
    },
    /// The plugin said that it succeeded, but its answer cannot be read.
    #[error("plugin `{plugin}` answered {verb} with something else than a result: {words}")]
    Garbage {
        /// Which plugin.
        plugin: String,
        /// What it was told to do.
        verb: &'static str,
        /// What it wrote, shortened.
        words: String,
        /// Where it went wrong.
        #[source]
        source: serde_json::Error,
    },
}

impl InvokeError {
    /// Whether the plugin asked to be called again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Refused { code: 11, .. })
    }
}

/// The name of the plugin that `config` wants.
///
/// # Errors
///
/// [`InvokeError::NoType`] or [`InvokeError::BadType`].
pub fn plugin_of(config: &Map<String, Value>) -> Result<&str, InvokeError> {
    config.get("type").and_then(Value::as_str).ok_or(InvokeError::NoType)
}

/// The files that may be the plugin, in the order of the search path.
///
/// # Errors
///
/// [`InvokeError::BadType`] if `plugin` would lead out of the directories.
pub fn candidates(plugin: &str, plugin_path: &[PathBuf]) -> Result<Vec<PathBuf>, InvokeError> {
    if plugin.is_empty() || plugin.contains(['/', '\0']) || matches!(plugin, "." | "..") {
        return Err(InvokeError::BadType { plugin: plugin.to_owned() });
    }
    Ok(plugin_path.iter().map(|dir| dir.join(plugin)).collect())
}

/// All variables that the plugin gets; nothing else of the caller's environment is
/// meant to reach it. `search_path` is `PATH`, which plugins that start tools need.
#[must_use]
pub fn environment(call: &Call<'_>, search_path: &str) -> BTreeMap<&'static str, OsString> {
    let mut plugin_path = OsString::new();
    for (at, dir) in call.plugin_path.iter().enumerate() {
        if at > 0 {
            plugin_path.push(":");
        }
        plugin_path.push(dir);
    }
    let mut variables = BTreeMap::from([
        ("CNI_COMMAND", OsString::from(call.verb.as_str())),
        ("CNI_PATH", plugin_path),
        ("PATH", OsString::from(search_path)),
    ]);
    if let Some(key) = call.key {
        variables.insert("CNI_CONTAINERID", OsString::from(&key.container_id));
        variables.insert("CNI_IFNAME", OsString::from(&key.ifname));
    }
    if let Some(netns) = call.netns {
        variables.insert("CNI_NETNS", netns.into());
    }
    if !call.args.is_empty() {
        variables.insert("CNI_ARGS", call.args.into());
    }
    variables
}

/// The bytes that the plugin reads.
#[must_use]
pub fn standard_input(config: &Map<String, Value>, additions: &Additions<'_>) -> Vec<u8> {
    let mut config = config.clone();
    if let Some(result) = additions.prev_result {
        config.insert("prevResult".into(), result.clone());
    }
    if let Some(keys) = additions.valid_attachments {
        let entry =
            |key: &AttachmentKey| json!({ "containerID": key.container_id, "ifname": key.ifname });
        config.insert(VALID_ATTACHMENTS.into(), keys.iter().map(entry).collect());
    }
    Value::from(config).to_string().into_bytes()
}

/// Makes a result, or a typed error, of what a plugin's process left. Only ADD
/// answers one; for the other verbs it is the empty result.
///
/// # Errors
///
/// [`InvokeError::Refused`] for an error answer in JSON, [`InvokeError::Failed`] for a
/// process that failed otherwise, [`InvokeError::Garbage`] for a success without result.
pub fn read_answer(
    plugin: &str,
    verb: Verb,
    output: &Output<'_>,
) -> Result<CniResult, InvokeError> {
    let plugin_name = || plugin.to_owned();
    if output.code != Some(0) {
        return Err(failure(plugin, verb, output));
    }
    if verb != Verb::Add {
        return Ok(CniResult::default());
    }
    serde_json::from_slice(output.stdout).map_err(|source| InvokeError::Garbage {
        plugin: plugin_name(),
        verb: verb.as_str(),
        words: excerpt(output),
        source,
    })
}

/// Whether a plugin that gave this answer to VERSION speaks `version`.
#[must_use]
pub fn supports(version: SpecVersion, answer: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct VersionAnswer {
        #[serde(rename = "supportedVersions")]
        versions: Vec<String>,
    }
    serde_json::from_slice(answer)
        .is_ok_and(|VersionAnswer { versions }| versions.iter().any(|one| one == version.as_str()))
}

fn failure(plugin: &str, verb: Verb, output: &Output<'_>) -> InvokeError {
    #[derive(Deserialize)]
    struct ErrorAnswer {
        code: u32,
        #[serde(default)]
        msg: String,
        #[serde(default)]
        details: String,
    }
    let (plugin, verb) = (plugin.to_owned(), verb.as_str());
    match serde_json::from_slice(output.stdout) {
        Ok(ErrorAnswer { code, msg: message, details }) => {
            InvokeError::Refused { plugin, verb, code, message, details }
        }
        Err(_) => InvokeError::Failed { plugin, verb, code: output.code, words: excerpt(output) },
    }
}

/// Both outputs as text, at most a few hundred characters: a plugin may write anything.
fn excerpt(output: &Output<'_>) -> String {
    const MOST: usize = 400;
    let stdout = String::from_utf8_lossy(output.stdout);
    let stderr = String::from_utf8_lossy(output.stderr);
    let both = format!("{} {}", stdout.trim(), stderr.trim());
    let text = both.trim();
    if text.is_empty() {
        return "it wrote nothing".into();
    }
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn in_brackets(details: &str) -> String {
    if details.is_empty() { String::new() } else { format!(" ({details})") }
}

fn ending(code: Option<i32>) -> String {
    code.map_or_else(|| "ended by a signal".into(), |code| format!("exit code {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_gets_its_variables_and_nothing_else() {
        let key = AttachmentKey { container_id: "c1".into(), ifname: "eth0".into() };
        let dirs = ["/a".into(), "/b".into()];
        let netns = Path::new("/proc/7/ns/net");
        let mut call = Call {
            verb: Verb::Add,
            key: Some(&key),
            netns: Some(netns),
            plugin_path: &dirs,
            args: "",
        };
        let variables = environment(&call, "/bin");
        let names: Vec<_> = variables.keys().copied().collect();
        let want =
            ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_PATH", "PATH"];
        assert_eq!(names, want);
        assert_eq!(variables["CNI_PATH"], "/a:/b");

        (call.verb, call.netns, call.args) = (Verb::Del, None, "IP=9.0.5.7");
        let variables = environment(&call, "/bin");
        assert_eq!(variables["CNI_COMMAND"], "DEL");
        assert_eq!(variables["CNI_ARGS"], "IP=9.0.5.7");
        assert!(!variables.contains_key("CNI_NETNS"));

        (call.verb, call.key, call.args) = (Verb::Gc, None, "");
        let variables = environment(&call, "/bin");
        let names: Vec<_> = variables.keys().copied().collect();
        assert_eq!(names, ["CNI_COMMAND", "CNI_PATH", "PATH"]);
    }

    #[test]
    fn gc_is_told_what_to_keep_as_the_plugin_reads_it() {
        let keys =
            ["a", "b"].map(|id| AttachmentKey { container_id: id.into(), ifname: "eth0".into() });
        let read = |keys: &[AttachmentKey]| {
            let additions = Additions { valid_attachments: Some(keys), ..Additions::default() };
            let input = standard_input(&Map::new(), &additions);
            let config: Value = serde_json::from_slice(&input).unwrap();
            crate::config::valid_attachments(config.as_object().unwrap()).unwrap()
        };
        assert!(read(&keys).iter().eq(&keys));
        assert!(read(&[]).is_empty(), "an empty list is there");
    }

    #[test]
    fn what_a_plugin_speaks() {
        let speaks = |answer: &str| supports(SpecVersion::V1_1_0, answer.as_bytes());
        assert!(speaks(r#"{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}"#));
        for other in [r#"{"supportedVersions":["1.0.0"]}"#, "{}", "", "1.1.0"] {
            assert!(!speaks(other), "{other}");
        }
    }

    #[test]
    fn a_type_never_leads_out_of_the_directories() {
        let dirs = [PathBuf::from("/opt/a"), PathBuf::from("/opt/b")];
        let found = candidates("bridge", &dirs).unwrap();
        assert_eq!(found, [PathBuf::from("/opt/a/bridge"), PathBuf::from("/opt/b/bridge")]);
        for bad in ["", "..", "../sh", "/bin/sh", "a/b"] {
            assert!(candidates(bad, &dirs).is_err(), "{bad}");
        }
    }

    #[test]
    fn answers_of_all_kinds() {
        let result = r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"9.0.5.2/25"}]}"#;
        let refusal = r#"{"cniVersion":"1.0.0","code":11,"msg":"busy","details":"later"}"#;
        #[rustfmt::skip]
        let table = [
            ("result",            Verb::Add, Some(0), result,  "", ""),
            ("silent DEL",        Verb::Del, Some(0), "",      "", ""),
            ("talkative DEL",     Verb::Del, Some(0), "bye",   "", ""),
            ("refusal",           Verb::Add, Some(1), refusal, "", "code 11: busy (later)"),
            ("words on stderr",   Verb::Del, Some(2), "",      "no such tool", "exit code 2): no such tool"),
            ("killed",            Verb::Add, None,    "",      "", "signal): it wrote nothing"),
            ("success of nothing",Verb::Add, Some(0), "",      "", "something else than a result"),
            ("success of noise",  Verb::Add, Some(0), "[1",    "", "something else than a result"),
            ("failure with result",Verb::Add, Some(1), result, "", "exit code 1"),
        ];
        for (name, verb, code, stdout, stderr, want) in table {
            let output = Output { code, stdout: stdout.as_bytes(), stderr: stderr.as_bytes() };
            match read_answer("bridge", verb, &output) {
                Ok(_) => assert_eq!(want, "", "{name}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(!want.is_empty() && text.contains(want), "{name}: {text}");
                    assert_eq!(error.is_transient(), name == "refusal", "{name}");
                }
            }
        }
    }
}
