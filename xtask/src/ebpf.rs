//! Building the eBPF objects so that everybody gets the same bytes.
//!
//! The daemon embeds the committed objects and needs no BPF compiler. What was
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

use crate::loops::{self, BackEdge};
use crate::{bpf_prefix, cargo, cargo_home, elf, output_of, path_with, root, run};

/// An object of the programs' workspace.
pub struct Object {
    /// The name of its binary there.
    binary: &'static str,
    /// Its name where it is committed.
    name: &'static str,
}

/// All of them: the programs of VIPs, those of the overlay, and those of policies.
pub const OBJECTS: [Object; 3] = [
    Object { binary: "mizzen-bpf", name: "mizzen.bpf.o" },
    Object { binary: "mizzen-overlay-bpf", name: "overlay.bpf.o" },
    Object { binary: "mizzen-policy-bpf", name: "policy.bpf.o" },
];

/// Where they are committed, relative to the top of the repository.
const DIRECTORY: &str = "dataplane-ebpf/prebuilt";

/// Builds the objects and puts them, their checksums and their manifest where they are committed.
pub fn build() -> Result<()> {
    let built = compile()?;
    let mut objects = BTreeMap::new();
    for object in &OBJECTS {
        let bytes = fs::read(built.join(object.name))?;
        let path = object.path()?;
        fs::write(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
        fs::write(object.checksum()?, format!("{}  {}\n", sha256(&bytes), object.name))?;
        refuse_loops(object.name, &bytes)?;
        let programs = programs(&bytes)?;
        println!("wrote {DIRECTORY}/{} ({} bytes)", object.name, bytes.len());
        for (section, program) in &programs {
            println!("  {section:20} {:5} instructions  {}", program.instructions, program.tag);
        }
        objects.insert(object.name.to_owned(), programs);
    }
    let manifest = Manifest { toolchain: Toolchain::installed()?, objects };
    fs::write(manifest_path()?, serde_json::to_string_pretty(&manifest)? + "\n")?;
    Ok(())
}

/// Builds the objects into the target directory and compares them with the committed ones.
pub fn check() -> Result<()> {
    let manifest: Manifest = serde_json::from_str(&fs::read_to_string(manifest_path()?)?)
        .context("cannot read the manifest of the committed objects")?;
    for object in &OBJECTS {
        object.check_committed(&manifest)?;
    }
    let built = compile()?;
    let installed = Toolchain::installed()?;
    let is_recorded = installed == manifest.toolchain;
    if !is_recorded {
        println!("the toolchain differs, so only the machine code is compared");
        println!("  recorded   {}", manifest.toolchain);
        println!("  installed  {installed}");
    }
    for object in &OBJECTS {
        let built = fs::read(built.join(object.name))?;
        if is_recorded {
            if built != fs::read(object.path()?)? {
                let name = object.name;
                bail!("{name} was not built from these sources: run `cargo xtask build-ebpf`");
            }
            println!("{}: the same bytes ({})", object.name, installed.compiler);
        } else {
            compare_programs(manifest.programs(object)?, &programs(&built)?)?;
            println!("{}: the same machine code", object.name);
        }
    }
    Ok(())
}

impl Object {
    /// Where it is committed.
    pub fn path(&self) -> Result<PathBuf> {
        Ok(root()?.join(DIRECTORY).join(self.name))
    }

    fn checksum(&self) -> Result<PathBuf> {
        Ok(root()?.join(DIRECTORY).join(format!("{}.sha256", self.name)))
    }

    /// Compares what was committed with what is said about it.
    fn check_committed(&self, manifest: &Manifest) -> Result<()> {
        let name = self.name;
        let bytes = fs::read(self.path()?).with_context(|| format!("cannot read {name}"))?;
        let recorded = fs::read_to_string(self.checksum()?)?;
        if recorded.split_whitespace().next() != Some(&sha256(&bytes)) {
            bail!("{name} is not what its checksum says");
        }
        if *manifest.programs(self)? != programs(&bytes)? {
            bail!("{name} does not hold the programs that its manifest lists");
        }
        Ok(())
    }
}

/// What is known about the committed objects.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    toolchain: Toolchain,
    /// By the name of the object and that of the section.
    objects: BTreeMap<String, BTreeMap<String, Program>>,
}

impl Manifest {
    fn programs(&self, object: &Object) -> Result<&BTreeMap<String, Program>> {
        let programs = self.objects.get(object.name);
        programs.with_context(|| format!("the manifest does not list {}", object.name))
    }
}

/// What decides the bytes of the objects besides the sources.
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
const BOOTSTRAP: &str = "aya_ebpf,mizzen_bpf,mizzen_overlay_bpf,mizzen_policy_bpf";

fn linker() -> PathBuf {
    bpf_prefix().join("bin/bpf-linker")
}

fn manifest_path() -> Result<PathBuf> {
    Ok(root()?.join(DIRECTORY).join("manifest.json"))
}

/// Builds the stripped objects below the target directory and returns where they are.
fn compile() -> Result<PathBuf> {
    for tool in [Path::new(RUSTC), &linker()] {
        if !tool.exists() {
            bail!("{} is missing: run `cargo xtask setup-bpf`", tool.display());
        }
    }
    let target_dir = root()?.join("target/bpf");
    println!("building the eBPF objects in {}", target_dir.display());
    run(cargo()
        .current_dir(root()?.join("dataplane-ebpf/programs"))
        .args(["build", "--release", "--locked", "--quiet", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .env("PATH", path_with(&bpf_prefix().join("bin"))?)
        .env("RUSTC", RUSTC)
        .env("RUSTC_BOOTSTRAP", BOOTSTRAP)
        .env("CARGO_ENCODED_RUSTFLAGS", flags()?.join("\x1f")))?;

    for object in &OBJECTS {
        let built = target_dir.join(TARGET).join("release").join(object.binary);
        let stripped = target_dir.join(object.name);
        fs::copy(&built, &stripped).with_context(|| format!("cannot copy {}", built.display()))?;
        // The kernel's own debug information, BTF, survives this.
        run(Command::new(STRIP).arg("--strip-debug").arg(&stripped))?;
    }
    Ok(target_dir)
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

fn refuse_loops(name: &str, object: &[u8]) -> Result<()> {
    for (function, code) in elf::functions(object)? {
        if let Some(BackEdge { from, to }) = loops::refused(code) {
            bail!("{name}: Linux 6.1 refuses {function}: instruction {from} goes on to {to}");
        }
    }
    Ok(())
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
    fn the_committed_manifest_is_that_of_the_committed_objects() {
        let text = fs::read_to_string(manifest_path().expect("a path")).expect("a manifest");
        let manifest: Manifest = serde_json::from_str(&text).expect("JSON");
        for object in &OBJECTS {
            object.check_committed(&manifest).expect("as recorded");
        }
    }
}
