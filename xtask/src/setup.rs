//! Installing the BPF compiler on Debian.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{bpf_prefix, cargo, output_of, path_with, run};

/// Installs what is missing of the compiler, its `core` for BPF, and the linker.
pub fn setup() -> Result<()> {
    if missing_packages() {
        println!("installing {} with apt-get", PACKAGES.join(", "));
        apt_get(&["update"])?;
        install_packages()?;
    } else {
        println!("{} are installed", PACKAGES.join(", "));
    }
    let linker = bpf_prefix().join("bin/bpf-linker");
    let wanted = format!("bpf-linker {LINKER_VERSION}");
    if output_of(Command::new(&linker).arg("--version")).is_ok_and(|version| version == wanted) {
        println!("{wanted} is installed in {}", bpf_prefix().display());
        return Ok(());
    }
    println!("building {wanted} into {} (about a minute)", bpf_prefix().display());
    run(cargo()
        .args(["install", "--quiet", "--locked", "bpf-linker", "--version", LINKER_VERSION])
        .args(["--no-default-features", "--features", "llvm-22", "--root"])
        .arg(bpf_prefix())
        // Its build script looks for llvm-config here and nowhere else.
        .env("PATH", path_with("/usr/lib/llvm-22/bin".as_ref())?))
}

/// A compiler of Debian's whose `core` for BPF is a package: no nightly, no sources of the library.
const PACKAGES: [&str; 3] = ["rustc-web", "libstd-rust-web-dev-bpf", "llvm-22-dev"];
const LINKER_VERSION: &str = "0.13.0";

fn missing_packages() -> bool {
    output_of(Command::new("dpkg").arg("-s").args(PACKAGES)).is_err()
}

/// Another apt-get may clean the cache under our hands; then a second try works.
fn install_packages() -> Result<()> {
    let install: Vec<&str> =
        ["install", "-y", "--no-install-recommends"].into_iter().chain(PACKAGES).collect();
    if apt_get(&install).is_ok() {
        return Ok(());
    }
    println!("apt-get failed; trying once more");
    apt_get(&install).context("cannot install the BPF compiler (Debian 12 and root are needed)")
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    run(Command::new("apt-get")
        .args(["-qq", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}
