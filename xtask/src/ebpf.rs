//! Building the eBPF object so that everybody gets the same bytes.
//!
//! The daemon embeds the committed object and needs no BPF compiler. What was
//! committed is checked by building it again: byte by byte where the compiler is the
//! recorded one, and otherwise by the machine code of each program, because another
//! compiler writes other debug information.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{bpf_prefix, cargo, cargo_home, elf, output_of, path_with, root, run};

/// The committed object, relative to the top of the repository.
pub const OBJECT: &str = "dataplane-ebpf/prebuilt/mizzen.bpf.o";

/// Builds the object and puts it, its checksum and its manifest where they are committed.
pub fn build() -> Result<()> {
    let built = compile()?;
    let object = fs::read(&built)?;
    let manifest = Manifest { toolchain: Toolchain::installed()?, programs: programs(&object)? };
    let path = root()?.join(OBJECT);
    fs::write(&path, &object).with_context(|| format!("cannot write {}", path.display()))?;
    fs::write(checksum_path()?, format!("{}  mizzen.bpf.o\n", sha256(&object)))?;
    fs::write(manifest_path()?, serde_json::to_string_pretty(&manifest)? + "\n")?;
    println!("wrote {OBJECT} ({} bytes)", object.len());
    for (section, program) in &manifest.programs {
        println!("  {section:20} {:5} instructions  {}", program.instructions, program.tag);
    }
    Ok(())
}

/// Builds the object into the target directory and compares it with the committed one.
pub fn check() -> Result<()> {
    let committed = fs::read(root()?.join(OBJECT)).context("cannot read the committed object")?;
    let recorded = fs::read_to_string(checksum_path()?)?;
    if recorded.split_whitespace().next() != Some(&sha256(&committed)) {
        bail!("{OBJECT} is not what its checksum says");
    }
    let manifest: Manifest = serde_json::from_str(&fs::read_to_string(manifest_path()?)?)
        .context("cannot read the manifest of the committed object")?;
    if manifest.programs != programs(&committed)? {
        bail!("{OBJECT} does not hold the programs that its manifest lists");
    }

    let built = fs::read(compile()?)?;
    let installed = Toolchain::installed()?;
    if installed == manifest.toolchain {
        if built != committed {
            bail!("{OBJECT} was not built from these sources: run `cargo xtask build-ebpf`");
        }
        println!("{OBJECT}: the same bytes ({})", installed.compiler);
        return Ok(());
    }
    println!("the toolchain differs, so only the machine code is compared");
    println!("  recorded   {}", manifest.toolchain);
    println!("  installed  {installed}");
    compare_programs(&manifest.programs, &programs(&built)?)?;
    println!("{OBJECT}: the same machine code");
    Ok(())
}

/// What is known about the committed object.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    toolchain: Toolchain,
    /// By section name.
    programs: BTreeMap<String, Program>,
}

/// What decides the bytes of the object besides the sources.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Toolchain {
    /// First line of `rustc --version`.
    compiler: String,
    /// The code generator in the compiler.
    llvm: String,
    /// `bpf-linker --version`.
    linker: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Program {
    instructions: usize,
    /// The first half of the SHA-256 of the instructions before relocation. Kernels have tags like
    /// it, but not all kernels the same.
    tag: String,
}

impl Toolchain {
    fn installed() -> Result<Self> {
        let version = output_of(Command::new(RUSTC).arg("-vV"))?;
        let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "));
        Ok(Self {
            compiler: version.lines().next().unwrap_or_default().to_owned(),
            llvm: llvm.unwrap_or_default().to_owned(),
            linker: output_of(Command::new(linker()).arg("--version"))?,
        })
    }
}

impl std::fmt::Display for Toolchain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, LLVM {}, {}", self.compiler, self.llvm, self.linker)
    }
}

/// Debian's compiler: with `libstd-rust-web-dev-bpf` the only stable one that has `core` for BPF.
const RUSTC: &str = "/usr/bin/rustc";
const STRIP: &str = "llvm-strip-22";
const TARGET: &str = "bpfel-unknown-none";
/// The crates that may use unstable features: the library, and ours for its one instruction.
const BOOTSTRAP: &str = "aya_ebpf,mizzen_bpf";

fn linker() -> PathBuf {
    bpf_prefix().join("bin/bpf-linker")
}

fn checksum_path() -> Result<PathBuf> {
    Ok(root()?.join(format!("{OBJECT}.sha256")))
}

fn manifest_path() -> Result<PathBuf> {
    Ok(root()?.join("dataplane-ebpf/prebuilt/manifest.json"))
}

/// Builds the stripped object below the target directory and returns its path.
fn compile() -> Result<PathBuf> {
    for tool in [Path::new(RUSTC), &linker()] {
        if !tool.exists() {
            bail!("{} is missing: run `cargo xtask setup-bpf`", tool.display());
        }
    }
    let target_dir = root()?.join("target/bpf");
    println!("building the eBPF object in {}", target_dir.display());
    run(cargo()
        .current_dir(root()?.join("dataplane-ebpf/programs"))
        .args(["build", "--release", "--locked", "--quiet", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .env("PATH", path_with(&bpf_prefix().join("bin"))?)
        .env("RUSTC", RUSTC)
        .env("RUSTC_BOOTSTRAP", BOOTSTRAP)
        .env("CARGO_ENCODED_RUSTFLAGS", flags()?.join("\x1f")))?;

    let built = target_dir.join(TARGET).join("release/mizzen-bpf");
    let stripped = target_dir.join("mizzen.bpf.o");
    fs::copy(&built, &stripped).with_context(|| format!("cannot copy {}", built.display()))?;
    // The kernel's own debug information, BTF, survives this.
    run(Command::new(STRIP).arg("--strip-debug").arg(&stripped))?;
    Ok(stripped)
}

fn flags() -> Result<Vec<String>> {
    let top = root()?;
    let sources = top.display();
    let registry = cargo_home()?.join("registry/src");
    Ok(vec![
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        // 32-bit arithmetic and jumps; every kernel with getpeername hooks has them.
        "-Ctarget-cpu=v3".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // No trace of where this was built.
        format!("--remap-path-prefix={sources}=/mizzen"),
        format!("--remap-path-prefix={}=/cargo", registry.display()),
    ])
}

fn programs(object: &[u8]) -> Result<BTreeMap<String, Program>> {
    let sections = elf::code_sections(object)?;
    Ok(sections
        .into_iter()
        .map(|(name, code)| {
            let tag = sha256(code)[..32].to_owned();
            (name, Program { instructions: code.len() / INSTRUCTION, tag })
        })
        .collect())
}

/// Bytes of a BPF instruction.
const INSTRUCTION: usize = 8;

fn compare_programs(
    committed: &BTreeMap<String, Program>,
    built: &BTreeMap<String, Program>,
) -> Result<()> {
    let names: std::collections::BTreeSet<_> = committed.keys().chain(built.keys()).collect();
    let differing: Vec<&str> = names
        .into_iter()
        .filter(|name| committed.get(*name) != built.get(*name))
        .map(String::as_str)
        .collect();
    if !differing.is_empty() {
        bail!("the machine code differs in {}", differing.join(", "));
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(&str, &str)]) -> BTreeMap<String, Program> {
        let program = |tag: &str| Program { instructions: 1, tag: tag.to_owned() };
        rows.iter().map(|(name, tag)| ((*name).to_owned(), program(tag))).collect()
    }

    #[test]
    fn names_each_program_that_differs() {
        let committed = table(&[("connect4", "a"), ("connect6", "b"), ("sockops", "c")]);
        compare_programs(&committed, &committed).expect("no difference");
        let built = table(&[("connect4", "a"), ("connect6", "x"), ("sendmsg4", "d")]);
        let error = compare_programs(&committed, &built).expect_err("three differ");
        let text = "the machine code differs in connect6, sendmsg4, sockops";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn the_committed_manifest_is_that_of_the_committed_object() {
        let object = fs::read(root().expect("a repository").join(OBJECT)).expect("an object");
        let text = fs::read_to_string(manifest_path().expect("a path")).expect("a manifest");
        let manifest: Manifest = serde_json::from_str(&text).expect("JSON");
        assert_eq!(manifest.programs, programs(&object).expect("an ELF file"));
    }
}
