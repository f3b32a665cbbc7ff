//! ADD and DEL of our plugins beside those of the CNI project, one at a time and 16 at once,
//! and beside what the kernel takes for removing a link.
//!
//! Each process is started as a runtime does it: variables, the configuration on standard
//! input, and a wait for its end. Variants take turns.

use super::{Bench, resident};
use crate::network::Namespace;
use crate::report::{Report, Row};
use crate::sandbox::ourselves;
use crate::statistics::Ratio;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// How many at once.
const WAVE: usize = 16;

/// Where Debian has the CNI project's plugins.
const THEIRS: &str = "/usr/lib/cni";

const OURS: &str = "mizzen-overlay";
const BRIDGE: &str = "bridge + host-local";
const MASQUERADE: &str = "bridge + host-local, ipMasq";
const KERNEL: &str = "ip link del";
const RESIDENT: &str = "plugin in memory";

/// A configuration and its plugins.
struct Contestant {
    name: &'static str,
    plugin: PathBuf,
    input: PathBuf,
}

/// The containers of one host, and what was measured.
struct Stage {
    pods: Vec<Namespace>,
    contestants: Vec<Contestant>,
    figures: BTreeMap<(&'static str, &'static str), Vec<f64>>,
}

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    ensure!(Path::new(THEIRS).join("bridge").exists(), "`packaging/setup.sh` installs {THEIRS}");
    let mut stage = Stage::new(&bench.sandbox.directory("cni")?)?;
    let (rounds, waves) = (bench.options.rounds(60, 3), bench.options.rounds(15, 1));
    // One thread stays on the host: entering it for each process would be measured as well.
    Namespace::create()?.within(|| {
        for round in 0..rounds {
            stage.one_by_one(round % 2 == 1)?;
        }
        for round in 0..waves {
            stage.at_once(round % 2 == 1)?;
        }
        for _ in 0..bench.options.rounds(5, 1) {
            stage.resident()?;
        }
        Ok(())
    })?;
    stage.report(report);
    size(report)
}

impl Stage {
    fn new(directory: &Path) -> Result<Self> {
        let pods = (0..WAVE).map(|_| Namespace::create()).collect::<Result<Vec<_>>>()?;
        let ours = our_plugin()?;
        let theirs = Path::new(THEIRS).join("bridge");
        let contestants = vec![
            Contestant::new(OURS, &ours, directory, &our_network(directory))?,
            Contestant::new(BRIDGE, &theirs, directory, &their_network("plain", false, directory))?,
            Contestant::new(
                MASQUERADE,
                &theirs,
                directory,
                &their_network("masq", true, directory),
            )?,
        ];
        Ok(Self { pods, contestants, figures: BTreeMap::new() })
    }

    /// One ADD and one DEL of each, and a removal by the kernel alone.
    fn one_by_one(&mut self, backwards: bool) -> Result<()> {
        for at in order(self.contestants.len(), backwards) {
            let contestant = &self.contestants[at];
            for verb in ["ADD", "DEL"] {
                let begun = Instant::now();
                self.finish(self.start(contestant, verb, 0)?)?;
                let took = begun.elapsed().as_secs_f64() * 1e3;
                self.figures.entry((contestant.name, verb)).or_default().push(took);
            }
        }
        let pod = self.pods.first().context("no container")?;
        let pair = format!("link add floor0 type veth peer name floor1 netns {}", pod.path());
        ip(&pair)?;
        ip("link set floor0 master ours0 up")?;
        pod.ip("link set floor1 up")?;
        let begun = Instant::now();
        ip("link del floor0")?;
        let took = begun.elapsed().as_secs_f64() * 1e3;
        self.figures.entry((KERNEL, "DEL")).or_default().push(took);
        Ok(())
    }

    /// All containers at once, from the first start to the last end.
    fn at_once(&mut self, backwards: bool) -> Result<()> {
        for at in order(self.contestants.len() - 1, backwards) {
            let contestant = &self.contestants[at];
            for (verb, metric) in [("ADD", "16 ADDs"), ("DEL", "16 DELs")] {
                let begun = Instant::now();
                let started: Vec<Child> = (0..WAVE)
                    .map(|pod| self.start(contestant, verb, pod))
                    .collect::<Result<_>>()?;
                for child in started {
                    self.finish(child)?;
                }
                let took = begun.elapsed().as_secs_f64() * 1e3;
                self.figures.entry((contestant.name, metric)).or_default().push(took);
            }
        }
        Ok(())
    }

    /// What our plugin has in memory during an ADD.
    fn resident(&mut self) -> Result<()> {
        let ours = self.contestants.first().context("nobody takes part")?;
        let peak = resident::peak(&mut self.command(ours, "ADD", 0)?)?;
        self.finish(self.start(ours, "DEL", 0)?)?;
        self.figures.entry((OURS, RESIDENT)).or_default().push(peak);
        Ok(())
    }

    fn start(&self, contestant: &Contestant, verb: &str, pod: usize) -> Result<Child> {
        let mut command = self.command(contestant, verb, pod)?;
        command.spawn().with_context(|| format!("cannot start {command:?}"))
    }

    fn command(&self, contestant: &Contestant, verb: &str, pod: usize) -> Result<Command> {
        let mut command = Command::new(&contestant.plugin);
        let directory = contestant.plugin.parent().unwrap_or(Path::new("/"));
        command
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", format!("bench{pod}"))
            .env("CNI_NETNS", self.pods.get(pod).context("no such container")?.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", directory)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(contestant.input()?)
            .stdout(Stdio::null());
        Ok(command)
    }

    fn finish(&self, mut child: Child) -> Result<()> {
        ensure!(child.wait()?.success(), "a plugin failed");
        Ok(())
    }

    fn report(&self, report: &mut Report) {
        let empty = Vec::new();
        let of = |name, metric| self.figures.get(&(name, metric)).unwrap_or(&empty);
        let goals: [(&'static str, &'static str, &'static str, f64); 5] = [
            ("ADD", OURS, BRIDGE, 0.25),
            ("ADD", OURS, MASQUERADE, 0.10),
            ("16 ADDs", OURS, BRIDGE, 0.25),
            ("DEL", OURS, KERNEL, 1.05),
            ("16 DELs", OURS, BRIDGE, 0.55),
        ];
        for (metric, who, base, goal) in goals {
            let (figures, bases) = (of(who, metric), of(base, metric));
            report.add(Row::new(metric, base, "ms", bases));
            let ratio = Ratio::paired(figures, bases);
            report.add(Row::new(metric, who, "ms", figures).ratio(ratio, base).ratio_at_most(goal));
        }
        report.add(Row::new(RESIDENT, OURS, "MiB", of(OURS, RESIDENT)).at_most(3.0));
        report.note("a plugin's process from its start to its end; the kernel's removal is that of the `ip` tool's process");
    }
}

impl Contestant {
    fn new(name: &'static str, plugin: &Path, directory: &Path, network: &Value) -> Result<Self> {
        let path = directory.join(format!("{}.json", network["name"].as_str().unwrap_or("x")));
        File::create(&path)?.write_all(network.to_string().as_bytes())?;
        Ok(Self { name, plugin: plugin.to_owned(), input: path })
    }

    /// The configuration from its beginning.
    fn input(&self) -> Result<File> {
        File::open(&self.input).context("cannot read a configuration")
    }
}

/// The plugin that was built with this program.
fn our_plugin() -> Result<PathBuf> {
    let plugin = ourselves()?.with_file_name("mizzen-overlay");
    ensure!(plugin.is_file(), "there is no {}", plugin.display());
    Ok(plugin)
}

fn our_network(directory: &Path) -> Value {
    json!({ "cniVersion": "1.0.0", "name": "ours", "type": "mizzen-overlay", "bridge": "ours0",
            "isGateway": true, "hairpinMode": true,
            "ipam": { "type": "mizzen-ipam", "subnet": "9.1.0.0/16", "dataDir": directory,
                      "routes": [{ "dst": "0.0.0.0/0" }] } })
}

fn their_network(name: &str, masquerade: bool, directory: &Path) -> Value {
    json!({ "cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": "theirs0",
            "isGateway": true, "hairpinMode": true, "ipMasq": masquerade,
            "ipam": { "type": "host-local", "subnet": "9.2.0.0/16", "dataDir": directory,
                      "routes": [{ "dst": "0.0.0.0/0" }] } })
}

/// Runs `ip` with these words where the calling thread is.
fn ip(words: &str) -> Result<()> {
    crate::process::run(Command::new("ip").args(words.split(' ')), "").map(drop)
}

fn order(count: usize, backwards: bool) -> Vec<usize> {
    if backwards { (0..count).rev().collect() } else { (0..count).collect() }
}

/// Bytes of the plugin on the disk.
fn size(report: &mut Report) -> Result<()> {
    let bytes = std::fs::metadata(our_plugin()?)?.len();
    let megabytes = [bytes as f64 / 1e6];
    report.add(Row::new("plugin on disk", OURS, "MB", &megabytes).at_most(4.0));
    Ok(())
}
