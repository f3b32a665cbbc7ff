//! Chores of the repository, started as `cargo xtask NAME`.

mod ebpf;
mod elf;
mod layers;
mod loops;
mod setup;
mod testing;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["build-ebpf"] => ebpf::build(),
        ["build-ebpf", "--check"] => ebpf::check(),
        ["setup-bpf"] => setup::setup(),
        ["check-layers"] => layers::check(),
        ["test", options @ ..] => testing::test(options),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

const USAGE: &str = "\
usage: cargo xtask NAME

  build-ebpf          build the eBPF object and put it where the loader embeds it from
  build-ebpf --check  build it elsewhere and compare it with the committed one
  setup-bpf           install the compiler that build-ebpf needs (Debian, as root)
  test [OPTION]…      run all tests with these options of cargo's, and those that fail once more, alone
  check-layers        compare the edges between the crates with the table of allowed ones

MIZZEN_BPF_PREFIX names where bpf-linker is installed (/opt/bpf).
";

/// The top of the repository.
///
/// Asked of cargo at run time: a shared target directory may hold the executable of another checkout.
fn root() -> Result<PathBuf> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
    let top = Path::new(&manifest).parent().context("xtask lies at the top of a file system")?;
    Ok(top.to_owned())
}

/// Where bpf-linker is installed.
fn bpf_prefix() -> PathBuf {
    env::var_os("MIZZEN_BPF_PREFIX").map_or_else(|| PathBuf::from("/opt/bpf"), PathBuf::from)
}

/// Where cargo keeps its registry.
fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(PathBuf::from(home));
    }
    let home = env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cargo"))
}

/// A command of the cargo that runs us, without what that cargo and the user's shell say about
/// flags and wrappers: they would change what is built.
fn cargo() -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    for (name, _) in env::vars_os() {
        let name_text = name.to_string_lossy();
        let foreign = ["RUSTFLAGS", "RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"]
            .contains(&name_text.as_ref())
            || ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_PKG_", "CARGO_ENCODED_"]
                .iter()
                .any(|prefix| name_text.starts_with(prefix));
        if foreign {
            command.env_remove(name);
        }
    }
    command
}

/// `PATH` with a directory in front.
fn path_with(first: &Path) -> Result<std::ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths(std::iter::once(first.to_owned()).chain(env::split_paths(&path)))?)
}

/// Runs a command to its end.
fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", name(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", name(command));
    }
    Ok(())
}

/// Runs a command and returns what it printed, without the last line break.
fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", name(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}", name(command), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
