//! Commands that talk to the node through its socket.
//!
//! What a command was asked for goes to stdout, everything else to stderr. Each
//! list is a function from what the node answered to text, so that it can be
//! tested without a node.

mod agents;
mod apps;
mod cni;
mod deploy;
mod dns;
pub(crate) mod dns_import;
mod dns_records;
mod doctor;
mod error;
mod explain;
mod files;
mod logs;
mod nodes;
mod overlay;
mod ping;
mod policy;
mod progress;
mod screen;
mod session;
mod status;
mod table;
mod tasks;
mod tokens;
mod vip;
mod vip_plan;
mod vips;
mod watch;

pub use cni::CniInstallError;
pub use error::CliError;

use crate::args::{Command, Global, PolicyCommand};
use crate::config::{Loader, run_dir};
use crate::instance::SOCKET_NAME;
use anyhow::Context;
use mizzen_http::client::Client;
use session::Session;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;
use table::Paint;

/// Runs one command.
///
/// # Errors
///
/// What stood in the way, as one message for people.
pub fn run(
    global: &Global,
    environment: BTreeMap<String, String>,
    flags: BTreeMap<String, String>,
    command: Command,
) -> anyhow::Result<ExitCode> {
    let loader: Loader = global.loader(environment.clone(), flags.clone());
    let socket = socket(global, environment, flags);
    let session = Session { client: Client::new(socket), paint: Paint::of_stdout() };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    // Others send files, and what is wrong with those was not typed.
    let sends_words = matches!(
        command,
        Command::Dns(_)
            | Command::Vip(_)
            | Command::Explain(_)
            | Command::Policy(PolicyCommand::Explain(_))
    );
    let done = runtime.block_on(async {
        match command {
            Command::Doctor(output) => doctor::run(&session, &loader, output).await,
            command => dispatch(&session, command).await.map(|()| ExitCode::SUCCESS),
        }
    });
    match done {
        Ok(code) => Ok(code),
        // `mizzen logs | head` is no failure.
        Err(CliError::Print(error)) if error.kind() == ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if sends_words && error.is_usage() => {
            crate::complain(&error.into());
            Ok(ExitCode::from(crate::USAGE))
        }
        Err(error) => Err(error.into()),
    }
}

async fn dispatch(session: &Session, command: Command) -> Result<(), CliError> {
    match command {
        Command::Status(output) => session.show("/v1/status", output, status::render).await,
        Command::Overlay(args) => overlay::run(session, &args).await,
        Command::Ping(args) => ping::run(session, &args).await,
        Command::Apps(output) => apps::run(session, output).await,
        Command::Run(args) => deploy::run(session, &args).await,
        Command::Scale(args) => deploy::scale(session, &args).await,
        Command::Rm(args) => deploy::remove(session, &args).await,
        Command::Tasks(args) => tasks::run(session, &args).await,
        Command::Logs(args) => logs::run(session, &args).await,
        Command::Vips(args) => vips::run(session, &args).await,
        Command::Explain(args) => explain::run(session, &args).await,
        Command::Vip(command) => vip::run(session, &command).await,
        Command::Policy(command) => policy::run(session, &command).await,
        Command::Nodes(args) => nodes::run(session, &args).await,
        Command::JoinToken(args) => tokens::run(session, &args).await,
        Command::Expel(args) => nodes::expel(session, &args).await,
        Command::Leave => nodes::leave(session).await,
        Command::Agents(args) => agents::run(session, &args).await,
        Command::Drain(args) => agents::drain(session, &args).await,
        Command::Reactivate(args) => agents::reactivate(session, &args).await,
        Command::Dns(args) => dns::run(session, &args).await,
        Command::Cni(command) => cni::run(&command),
        // They are no conversations, and others have taken them.
        Command::Node(_) | Command::Lab(_) | Command::Doctor(_) => Ok(()),
    }
}

/// The node's socket: as named by flag or variable, else in its run directory.
fn socket(
    global: &Global,
    environment: BTreeMap<String, String>,
    flags: BTreeMap<String, String>,
) -> PathBuf {
    if let Some(socket) = &global.socket {
        return socket.clone();
    }
    // A run directory or an instance on the command line is meant for this command,
    // a socket in the environment for all.
    if flags.is_empty()
        && let Some(socket) = environment.get("MIZZEN_SOCKET")
    {
        return PathBuf::from(socket);
    }
    let mut environment = environment;
    if flags.contains_key("instance") {
        environment.remove("MIZZEN_RUN_DIR");
    }
    let loader: Loader = global.loader(environment, flags);
    run_dir(&loader).join(SOCKET_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_socket() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let flag = Global { socket: Some("/s".into()), ..Global::default() };
        let env =
            [("MIZZEN_SOCKET", "/e"), ("MIZZEN_RUN_DIR", "/r"), ("MIZZEN_CONFIG", "/dev/null")];
        let none = Global::default();
        type Pairs<'a> = &'a [(&'a str, &'a str)];
        #[rustfmt::skip]
        let table: &[(&Global, Pairs<'_>, Pairs<'_>, &str)] = &[
            (&flag, &env,      &[],                     "/s"),
            (&none, &env,      &[],                     "/e"),
            (&none, &env,      &[("run_dir", "/x")],    "/x/mizzen.sock"),
            (&none, &env[1..], &[],                     "/r/mizzen.sock"),
            (&none, &env,      &[("instance", "blue")], "/run/mizzen-blue/mizzen.sock"),
            (&none, &env[2..], &[("instance", "blue")], "/run/mizzen-blue/mizzen.sock"),
            (&none, &env[2..], &[],                     "/run/mizzen/mizzen.sock"),
        ];
        for (global, environment, flags, want) in table {
            let found = socket(global, map(environment), map(flags));
            assert_eq!(found, PathBuf::from(want));
        }
    }
}
