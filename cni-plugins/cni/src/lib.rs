//! The CNI plugins `mizzen-overlay`, `mizzen-ipam` and `mizzen-portmap`.
//!
//! A plugin is a process that lives for a few milliseconds: it reads a request from
//! environment and standard input, changes the kernel, writes one JSON object and ends.
//! What to do is decided by `mizzen-cni-core`; this package carries it out.
//!
//! Nothing is remembered but the leases and the records of published ports, which are files, and
//! what the kernel has. The links of a container are found again by a name that follows from
//! the container's, so that DEL can clean up after a plugin that was killed anywhere on its way.

mod daemon;
mod delegate;
mod error;
mod ipam;
mod kernel;
mod leases;
mod overlay;
mod portmap;
mod report;
mod state;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Instant;

use mizzen_cni_core::request::{self, Request, VARIABLES};
use mizzen_cni_core::version::SpecVersion;
use serde_json::{Value, json};

use crate::error::PluginError;

/// Which plugin an executable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// Connects a container to the overlay's bridge.
    Overlay,
    /// Gives an address.
    Ipam,
    /// Publishes ports of the host.
    Portmap,
}

impl Plugin {
    fn name(self) -> &'static str {
        match self {
            Self::Overlay => "mizzen-overlay",
            Self::Ipam => "mizzen-ipam",
            Self::Portmap => "mizzen-portmap",
        }
    }
}

/// Reads the request, does it, answers it, and says how that went as an exit code.
#[must_use]
pub fn run(plugin: Plugin) -> ExitCode {
    let began = Instant::now();
    let environment = environment();
    if !environment.contains_key("CNI_COMMAND") {
        explain(plugin);
    }
    let mut stdin = Vec::new();
    let read = read_input(&environment, &mut stdin);
    let request = match read.and_then(|()| Ok(request::parse(&environment, &stdin)?)) {
        Ok(request) => request,
        Err(error) => return write(Err(error), &stdin),
    };
    let answer = answer(plugin, &request);
    let code = answer.as_ref().err().map_or(0, |error| error.code() as u32);
    let exit = write(answer, &stdin);
    report::report(plugin, &request, code, began);
    exit
}

fn answer(plugin: Plugin, request: &Request) -> Result<Option<Value>, PluginError> {
    if request.command == request::Command::Version {
        return Ok(Some(versions(request)));
    }
    match plugin {
        Plugin::Overlay => overlay::handle(request),
        Plugin::Ipam => ipam::handle(request),
        Plugin::Portmap => portmap::handle(request),
    }
}

fn write(answer: Result<Option<Value>, PluginError>, stdin: &[u8]) -> ExitCode {
    let (text, code) = match answer {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(answer)) => (answer, ExitCode::SUCCESS),
        Err(error) => (error.to_json(request::answer_version(stdin)), ExitCode::FAILURE),
    };
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => code,
        // Nobody reads the answer, so for the runtime this has failed.
        Err(_) => ExitCode::FAILURE,
    }
}

fn versions(request: &Request) -> Value {
    json!({
        "cniVersion": request.version.as_str(),
        "supportedVersions": SpecVersion::ALL.map(SpecVersion::as_str),
    })
}

fn environment() -> BTreeMap<String, String> {
    let value = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into());
    VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), value(name)?))).collect()
}

/// Without a command there is nothing to read: somebody tries the plugin by hand.
fn read_input(
    environment: &BTreeMap<String, String>,
    stdin: &mut Vec<u8>,
) -> Result<(), PluginError> {
    /// A network configuration is a few hundred bytes.
    const MOST: u64 = 4 * 1024 * 1024;
    if !environment.contains_key("CNI_COMMAND") {
        return Ok(());
    }
    io::stdin().take(MOST).read_to_end(stdin).map_err(PluginError::Input)?;
    Ok(())
}

fn explain(plugin: Plugin) {
    let versions = SpecVersion::ALL.map(SpecVersion::as_str).join(", ");
    let (name, version) = (plugin.name(), env!("CARGO_PKG_VERSION"));
    eprintln!("{name} {version}: a CNI plugin ({versions}), to be started by a container runtime");
}
