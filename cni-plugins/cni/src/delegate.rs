//! Calling another address plugin.

use std::io::Write;
use std::process::{Command, Stdio};

use mizzen_cni_core::invoke::{
    Additions, Call, Output, Verb, candidates, environment, read_answer, standard_input, supports,
};
use mizzen_cni_core::request::{Attachment, Request};
use mizzen_cni_core::result::CniResult;

use crate::error::PluginError;

/// Runs `plugin` with the request that we were given ourselves.
pub(crate) fn call(
    plugin: &str,
    verb: Verb,
    request: &Request,
    attachment: Option<&Attachment>,
) -> Result<CniResult, PluginError> {
    let output = run(plugin, verb, request, attachment)?;
    let output =
        Output { code: output.status.code(), stdout: &output.stdout, stderr: &output.stderr };
    Ok(read_answer(plugin, verb, &output)?)
}

/// Whether `plugin` knows the version of the request, as one that is to be told STATUS or GC must.
pub(crate) fn speaks(plugin: &str, request: &Request) -> Result<bool, PluginError> {
    let output = run(plugin, Verb::Version, request, None)?;
    Ok(supports(request.version, &output.stdout))
}

fn run(
    plugin: &str,
    verb: Verb,
    request: &Request,
    attachment: Option<&Attachment>,
) -> Result<std::process::Output, PluginError> {
    let files = candidates(plugin, &request.plugin_path)?;
    let found = files.into_iter().find(|file| file.is_file());
    let path = found.ok_or_else(|| PluginError::NoPlugin { plugin: plugin.to_owned() })?;
    let call = Call {
        verb,
        key: attachment.map(|attachment| &attachment.key),
        netns: attachment.and_then(|attachment| attachment.netns.as_deref()),
        plugin_path: &request.plugin_path,
        args: attachment.map_or("", |attachment| &attachment.args),
    };
    let search_path = std::env::var("PATH").unwrap_or_default();
    // A previous result is part of our own configuration already.
    let input = standard_input(&request.config, &Additions::default());

    let run = || {
        let mut child = Command::new(&path)
            .env_clear()
            .envs(environment(&call, &search_path))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A plugin that does not read its input says why by its answer.
            let _ = stdin.write_all(&input);
        }
        child.wait_with_output()
    };
    run().map_err(|source| PluginError::Run { plugin: path.clone(), source })
}
