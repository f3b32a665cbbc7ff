//! The last steps before the task's own program: user, files, environment, exec.

use crate::failure::{Failure, Step};
use crate::process;
use mizzen_types::container::{CommandSpec, LaunchGo, LaunchSpec};
use nix::errno::Errno;
use nix::unistd::{
    User, dup2_stderr, dup2_stdout, execve, fchown, initgroups, setgid, setsid, setuid,
};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where programs are looked for if the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes the task; comes back only with the reason why it could not.
pub fn exec(spec: &LaunchSpec, go: &LaunchGo) -> Failure {
    match try_exec(spec, go) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

/// Looks a user up in the host's user database.
pub fn look_up(name: &str) -> Result<User, Failure> {
    let step = || format!("look up user `{name}`");
    User::from_name(name).step(step)?.ok_or_else(|| Failure::new(step(), &"no such user"))
}

/// Becomes `user`, with all groups, for good.
pub fn become_user(user: &User) -> Result<(), Failure> {
    let name = CString::new(user.name.as_str())
        .map_err(|error| Failure::new(format!("switch to user `{}`", user.name), &error))?;
    initgroups(&name, user.gid)
        .and_then(|()| setgid(user.gid))
        .and_then(|()| setuid(user.uid))
        .step(|| format!("switch to user `{}`", user.name))
}

/// Executes a program that is looked up in the `PATH` of `environment`; comes back
/// only with the reason why it could not.
pub fn exec_program(
    program: &str,
    arguments: &[String],
    environment: &BTreeMap<String, String>,
) -> Result<Infallible, Failure> {
    let step = || format!("execute `{program}`");
    let text = |text: String| CString::new(text).map_err(|error| Failure::new(step(), &error));
    let argv = arguments.iter().cloned().map(text).collect::<Result<Vec<_>, _>>()?;
    let envp = environment
        .iter()
        .map(|(name, value)| text(format!("{name}={value}")))
        .collect::<Result<Vec<_>, _>>()?;

    process::reset_signals();
    let mut answer = Errno::ENOENT;
    for candidate in candidates(program, environment.get("PATH").map(String::as_str)) {
        let Err(errno) = execve(&text(candidate)?, &argv, &envp);
        match errno {
            Errno::ENOENT | Errno::ENOTDIR => {}
            // A later directory may have one that can be executed.
            Errno::EACCES => answer = errno,
            _ => return Err(errno).step(step),
        }
    }
    Err(answer).step(step)
}

fn try_exec(spec: &LaunchSpec, go: &LaunchGo) -> Result<Infallible, Failure> {
    setsid().step(|| "start a session".to_owned())?;
    process::set_oom_score(0);
    let user = spec.user.as_deref().map(look_up).transpose()?;
    std::env::set_current_dir(&spec.sandbox)
        .step(|| format!("change to the sandbox {}", spec.sandbox.display()))?;
    let output = open_output(&spec.sandbox.join("stdout"), user.as_ref())?;
    let errors = open_output(&spec.sandbox.join("stderr"), user.as_ref())?;
    dup2_stdout(&output)
        .and_then(|()| dup2_stderr(&errors))
        .step(|| "redirect stdout and stderr".to_owned())?;
    if let Some(user) = &user {
        become_user(user)?;
    }
    let mut environment = spec.environment.clone();
    environment.extend(go.environment.clone());
    match &spec.command {
        CommandSpec::Shell(text) => {
            let arguments = ["sh".to_owned(), "-c".to_owned(), text.clone()];
            exec_program("/bin/sh", &arguments, &environment)
        }
        CommandSpec::Exec { program, arguments } => exec_program(program, arguments, &environment),
    }
}

/// Opens a file of the sandbox for appending, as the user's. The sandbox may be the
/// user's own already, so links out of it are not followed and not given away.
fn open_output(path: &Path, user: Option<&User>) -> Result<File, Failure> {
    let file = File::options()
        .append(true)
        .create(true)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .step(|| format!("open {}", path.display()))?;
    let metadata = file.metadata().step(|| format!("look at {}", path.display()))?;
    if !metadata.is_file() || metadata.nlink() != 1 {
        let error = "it is not a plain file of its own";
        return Err(Failure::new(format!("open {}", path.display()), &error));
    }
    if let Some(user) = user {
        fchown(&file, Some(user.uid), Some(user.gid))
            .step(|| format!("give {} to user `{}`", path.display(), user.name))?;
    }
    Ok(file)
}

/// A name with a slash is a path; any other is tried in each directory in turn.
fn candidates(program: &str, path: Option<&str>) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    path.unwrap_or(DEFAULT_PATH)
        .split(':')
        .map(|directory| if directory.is_empty() { "." } else { directory })
        .map(|directory| PathBuf::from(directory).join(program).to_string_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_programs_are_looked_for() {
        #[rustfmt::skip]
        let table: &[(&str, Option<&str>, &[&str])] = &[
            ("/bin/true", Some("/usr/bin"),  &["/bin/true"]),
            ("./run",     Some("/usr/bin"),  &["./run"]),
            ("run",       Some("/a:/b"),     &["/a/run", "/b/run"]),
            ("run",       Some("/a:"),       &["/a/run", "./run"]),
        ];
        for (program, path, want) in table {
            assert_eq!(candidates(program, *path), *want, "{program}");
        }
        assert!(candidates("sh", None).contains(&"/bin/sh".to_owned()));
    }
}
