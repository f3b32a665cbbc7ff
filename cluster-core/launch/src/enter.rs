//! `mizzen-launch enter`: a command in a container that runs already.

use crate::failure::{Failure, Step};
use crate::{process, task};
use mizzen_types::container::Exit;
use mizzen_types::mountinfo::{self, Mount};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, Pid, fork, setsid};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit code if the command could not be run.
const NOT_RUN: u8 = 125;

/// Runs the command and passes its exit code through. `SIGTERM` and its like kill the
/// command's process group.
pub fn run(arguments: &[OsString]) -> ExitCode {
    let outcome = parse(arguments).and_then(|request| request.run());
    match outcome {
        Ok(Exit::Code(code)) => ExitCode::from(u8::try_from(code).unwrap_or(NOT_RUN)),
        Ok(Exit::Signal(signal)) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(NOT_RUN)),
        Ok(Exit::Unknown) => ExitCode::from(NOT_RUN),
        Err(failure) => {
            eprintln!("mizzen-launch: {failure}");
            ExitCode::from(NOT_RUN)
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Request {
    pid: u32,
    /// Whose child the process must be.
    parent: Option<u32>,
    cwd: Option<PathBuf>,
    user: Option<String>,
    environment: Environment,
    command: Vec<String>,
}

/// Where the command's environment comes from.
#[derive(Debug, Default, PartialEq)]
enum Environment {
    /// The caller's.
    #[default]
    Own,
    /// A JSON object on stdin. The variables of a task are not to be trusted: the
    /// loader, for one, would act on them before the container is entered.
    Stdin,
}

fn parse(arguments: &[OsString]) -> Result<Request, Failure> {
    let bad = |error: &str| Failure::new("understand the arguments of `enter`", &error);
    let mut request = Request::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let argument = argument.to_string_lossy();
        if !argument.starts_with("--") || argument == "--" {
            let first = (argument != "--").then(|| argument.into_owned());
            let rest = arguments.map(|argument| argument.to_string_lossy().into_owned());
            request.command = first.into_iter().chain(rest).collect();
            break;
        }
        if argument == "--environment-from-stdin" {
            request.environment = Environment::Stdin;
            continue;
        }
        let value = arguments.next().ok_or_else(|| bad(&format!("{argument} needs a value")))?;
        let value = value.to_string_lossy();
        match argument.as_ref() {
            "--pid" => request.pid = value.parse().map_err(|_| bad("--pid is not a number"))?,
            "--parent" => {
                let parent = value.parse().map_err(|_| bad("--parent is not a number"))?;
                request.parent = Some(parent);
            }
            "--cwd" => request.cwd = Some(value.as_ref().into()),
            "--user" => request.user = Some(value.into_owned()),
            other => return Err(bad(&format!("unknown option {other}"))),
        }
    }
    match (request.pid, request.command.is_empty()) {
        (0, _) => Err(bad("--pid is missing")),
        (_, true) => Err(bad("the command is missing")),
        _ => Ok(request),
    }
}

impl Request {
    fn run(&self) -> Result<Exit, Failure> {
        process::close_other_descriptors()?;
        process::reset_signals();
        let environment = self.read_environment()?;
        let namespaces = self.open_namespaces()?;
        self.join_cgroups()?;
        self.check_parent()?;
        for (name, namespace) in namespaces {
            setns(&namespace, CloneFlags::empty())
                .step(|| format!("enter the {name} namespace of process {}", self.pid))?;
        }
        process::block_signals()?;
        // SAFETY: this process has one thread, so the child may do whatever it could do here.
        match unsafe { fork() }.step(|| "fork".to_owned())? {
            ForkResult::Parent { child } => supervise(child),
            ForkResult::Child => {
                let Err(failure) = self.exec(&environment);
                eprintln!("mizzen-launch: {failure}");
                // SAFETY: ends this process at once, without the parent's destructors.
                unsafe { libc::_exit(NOT_RUN.into()) }
            }
        }
    }

    /// All are opened before the first is entered: `/proc` is another one afterwards.
    fn open_namespaces(&self) -> Result<Vec<(&'static str, File)>, Failure> {
        ["ipc", "uts", "net", "pid", "mnt"]
            .into_iter()
            .map(|name| {
                let path = format!("/proc/{}/ns/{name}", self.pid);
                File::open(&path).map(|file| (name, file)).step(|| format!("open {path}"))
            })
            .collect()
    }

    fn join_cgroups(&self) -> Result<(), Failure> {
        let read = |path: String| fs::read_to_string(&path).step(|| format!("read {path}"));
        let theirs = read(format!("/proc/{}/cgroup", self.pid))?;
        let ours = read("/proc/self/cgroup".to_owned())?;
        let mounts = mountinfo::parse(&read("/proc/self/mountinfo".to_owned())?);
        let differing = theirs.lines().filter(|line| !ours.lines().any(|our| our == *line));
        for line in differing {
            let directory = cgroup_directory(line, &mounts).ok_or_else(|| {
                Failure::new(format!("find cgroup {line}"), &"its hierarchy is not mounted here")
            })?;
            process::join_cgroup(&directory)?;
        }
        Ok(())
    }

    /// The number may have become another process's before the namespaces were opened. The
    /// launcher has one child at a time: if this is it now, it was it all the time.
    fn check_parent(&self) -> Result<(), Failure> {
        let Some(parent) = self.parent else { return Ok(()) };
        let path = format!("/proc/{}/status", self.pid);
        let status = fs::read_to_string(&path).step(|| format!("read {path}"))?;
        let found = status.lines().find_map(|line| line.strip_prefix("PPid:")).map(str::trim);
        match found.and_then(|found| found.parse::<u32>().ok()) == Some(parent) {
            true => Ok(()),
            false => {
                let step = format!("enter process {}", self.pid);
                Err(Failure::new(step, &format!("it is no child of process {parent}")))
            }
        }
    }

    fn read_environment(&self) -> Result<BTreeMap<String, String>, Failure> {
        let text = |text: OsString| text.to_string_lossy().into_owned();
        match self.environment {
            Environment::Own => {
                Ok(std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect())
            }
            Environment::Stdin => serde_json::from_reader(std::io::stdin().lock())
                .map_err(|error| Failure::new("read the environment", &error)),
        }
    }

    fn exec(&self, environment: &BTreeMap<String, String>) -> Result<Infallible, Failure> {
        setsid().step(|| "start a session".to_owned())?;
        let user = self.user.as_deref().map(task::look_up).transpose()?;
        if let Some(cwd) = &self.cwd {
            std::env::set_current_dir(cwd).step(|| format!("change to {}", cwd.display()))?;
        }
        if let Some(user) = &user {
            task::become_user(user)?;
        }
        // Last, because a change of user clears it.
        prctl::set_pdeathsig(Signal::SIGKILL).step(|| "tie the command to `enter`".to_owned())?;
        task::exec_program(&self.command[0], &self.command, environment)
    }
}

fn supervise(child: Pid) -> Result<Exit, Failure> {
    loop {
        match process::next_signal() {
            Signal::SIGCHLD => {
                let status = waitpid(child, Some(WaitPidFlag::WNOHANG))
                    .step(|| "wait for the command".to_owned())?;
                if let Some(exit) = process::exit_of(status) {
                    return Ok(exit);
                }
            }
            // Its group, or only itself if it has not made one yet.
            _ => drop(
                kill(Pid::from_raw(-child.as_raw()), Signal::SIGKILL)
                    .or_else(|_| kill(child, Signal::SIGKILL)),
            ),
        }
    }
}

/// Where the cgroup of a line of `/proc/<pid>/cgroup` lies among the mounts.
fn cgroup_directory(line: &str, mounts: &[Mount]) -> Option<PathBuf> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    mounts
        .iter()
        .filter(|mount| match controllers {
            "" => mount.file_system == "cgroup2",
            _ => {
                mount.file_system == "cgroup"
                    && controllers
                        .split(',')
                        .all(|name| mount.super_options.iter().any(|option| option == name))
            }
        })
        .find_map(|mount| {
            let below = PathBuf::from(path).strip_prefix(&mount.root).ok()?.to_path_buf();
            Some(mount.mount_point.join(below))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_options_then_a_command() {
        let parse = |line: &str| parse(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        let want = Request {
            pid: 7,
            parent: None,
            cwd: Some("/tmp".into()),
            user: None,
            environment: Environment::Own,
            command: vec!["ls".to_owned(), "--all".to_owned()],
        };
        assert_eq!(parse("--pid 7 --cwd /tmp -- ls --all").unwrap(), want);
        assert_eq!(parse("--pid 7 --cwd /tmp ls --all").unwrap(), want);
        let request = parse("--environment-from-stdin --pid 7 ls").unwrap();
        assert_eq!(request.environment, Environment::Stdin);
        assert_eq!(parse("--pid 7 --parent 6 ls").unwrap().parent, Some(6));
        for bad in ["ls", "--pid 7", "--pid x ls", "--pid", "--what 1 --pid 7 ls"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_process_of_another_parent_is_not_entered() {
        let pid = std::process::id();
        let of = |parent| Request { pid, parent, ..Request::default() }.check_parent();
        assert!(of(Some(std::os::unix::process::parent_id())).is_ok());
        assert!(of(None).is_ok());
        assert!(of(Some(pid)).is_err());
    }

    #[test]
    fn a_cgroup_is_found_by_its_controllers() {
        let mounts = mountinfo::parse(
            "1 1 0:1 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
             1 1 0:1 / /cg/systemd rw - cgroup cgroup rw,name=systemd\n\
             1 1 0:1 /below /cg/unified rw - cgroup2 cgroup2 rw\n",
        );
        let find = |line| cgroup_directory(line, &mounts);
        assert_eq!(find("4:cpu,cpuacct:/m/c"), Some("/cg/cpu/m/c".into()));
        assert_eq!(find("1:name=systemd:/"), Some("/cg/systemd/".into()));
        assert_eq!(find("0::/below/c"), Some("/cg/unified/c".into()));
        assert_eq!(find("0::/elsewhere"), None);
        assert_eq!(find("5:memory:/m"), None);
    }
}
