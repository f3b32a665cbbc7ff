//! Calling another address plugin.

use std::io::Write;
use std::process::{Command, Stdio};

use mizzen_cni_core::invoke::{
    Additions, Call, Output, Verb, candidates, environment, read_answer, standard_input,
};
use mizzen_cni_core::request::{Attachment, Request};
use mizzen_cni_core::result::CniResult;

use crate::error::PluginError;

/// Runs `plugin` with the request that we were given ourselves.
pub(crate) fn call(
    plugin: &str,
    verb: Verb,
    request: &Request,
    attachment: &Attachment,
) -> Result<CniResult, PluginError> {
    let files = candidates(plugin, &attachment.plugin_path)?;
    let found = files.into_iter().find(|file| file.is_file());
    let path = found.ok_or_else(|| PluginError::NoPlugin { plugin: plugin.to_owned() })?;
    let call = Call {
        verb,
        key: Some(&attachment.key),
        netns: attachment.netns.as_deref(),
        plugin_path: &attachment.plugin_path,
        args: &attachment.args,
    };
    let search_path = std::env::var("PATH").unwrap_or_default();
    // A previous result is part of our own configuration already.
    let input = standard_input(&request.config, &Additions::default())?;

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
    let output = run().map_err(|source| PluginError::Run { plugin: path.clone(), source })?;
    let output =
        Output { code: output.status.code(), stdout: &output.stdout, stderr: &output.stderr };
    Ok(read_answer(plugin, verb, &output)?)
}
