//! Makes the index of the file, on a thread of its own.

use super::Remembered;
use super::index::{self, Index, Stretch};
use super::lines::{self, Said, each_line};
use super::shrinking::create;
use crate::daemon::name_records::Naming;
use mizzen_dns_core::{Options, OwnerKey, Prepared, Seed, Zones};
use mizzen_types::fact::Key;
use mizzen_types::ids::OwnerId;
use mizzen_types::place::Places;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Grows whenever facts make other names than before, so that no index of a former version is
/// taken for one of ours; see the test at the end.
const NAMING: u32 = 1;

/// How names are made, and so what an index has to say.
#[derive(Debug)]
pub(crate) struct Rules {
    naming: Naming,
    /// With nothing in them but what every node has.
    bare: Zones,
}

/// Who makes the index of a log.
#[derive(Debug)]
pub(crate) struct Indexer {
    log: PathBuf,
    rules: Rules,
    /// The rules in words.
    text: String,
}

/// Where the index of a log is.
pub(super) fn path_of(log: &Path) -> PathBuf {
    log.with_extension("index")
}

/// Where it is while it is written.
pub(super) fn draft_of(log: &Path) -> PathBuf {
    log.with_extension("index.new")
}

/// The rules in words: an index made by others is of no use.
pub(super) fn text_of(options: &Options, here: &OwnerId) -> String {
    let options = Options { seed: Seed::default(), first_serial: 0, ..options.clone() };
    format!("{NAMING} {here} {options:?}")
}

impl Rules {
    /// Which names a fact has does not depend on where other nodes are, but for those that
    /// come early.
    pub(crate) fn new(options: Options, here: OwnerId) -> Self {
        let bare = Zones::new(&options);
        Self { naming: Naming { options, places: Places::new(here) }, bare }
    }

    /// What the lines of a log from a place on are about.
    ///
    /// # Errors
    ///
    /// That of the disk; `FileTooLarge` beyond 4 GiB.
    pub(super) fn look_at(&self, log: &File, from: u64) -> io::Result<Stretch> {
        let mut stretch = Stretch { from, ..Stretch::default() };
        stretch.to = each_line(log, from, |place, line| {
            if let Some(said) = lines::change(line) {
                stretch.lines += 1;
                self.note(&said, place as u32, &mut stretch);
            }
        })?;
        if u32::try_from(stretch.to).is_err() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        stretch.sort();
        Ok(stretch)
    }

    fn note(&self, (key, held): &Said, place: u32, stretch: &mut Stretch) {
        if is_early(key) {
            return stretch.early.push(place);
        }
        let traces = self.bare.traces(&self.prepare(key, held.as_ref()));
        let all = [traces.owner].into_iter().chain(traces.names).chain(traces.above);
        stretch.entries.extend(all.map(|hash| index::entry(hash, place)));
    }

    fn prepare(&self, key: &OwnerKey, held: Option<&Remembered>) -> Prepared {
        self.naming.prepare(key, held, None)
    }
}

/// Whether other facts' names and records depend on it.
fn is_early(key: &OwnerKey) -> bool {
    let OwnerKey::Fact { key, .. } = key else { return false };
    matches!(key, Key::Node | Key::Framework(_) | Key::Leader)
}

impl Indexer {
    /// Who makes the index of `log` by this way of naming.
    pub(crate) fn new(log: PathBuf, options: &Options, here: &OwnerId) -> Self {
        let text = text_of(options, here);
        Self { log, rules: Rules::new(options.clone(), here.clone()), text }
    }

    /// Adds what the log has beyond its index, or makes that anew.
    ///
    /// # Errors
    ///
    /// That of the disk.
    pub(crate) fn extend(&self) -> io::Result<()> {
        let path = path_of(&self.log);
        let log = File::open(&self.log)?;
        let seed = self.rules.naming.options.seed;
        let known = Index::open(&self.log, &path, &self.text).filter(|index| index.seed == seed);
        match known {
            Some(index) => {
                let stretch = self.rules.look_at(&log, index.covered)?;
                if stretch.to > stretch.from {
                    let file = OpenOptions::new().write(true).open(&path)?;
                    file.set_len(index.used)?;
                    file.write_all_at(&stretch.to_bytes(seed, &log)?, index.used)?;
                }
            }
            None => {
                let draft = draft_of(&self.log);
                self.write(&log, &draft)?;
                fs::rename(&draft, &path)?;
            }
        }
        Ok(())
    }

    /// Writes an index of all of a log to a new file.
    ///
    /// # Errors
    ///
    /// That of the disk.
    pub(super) fn write(&self, log: &File, path: &Path) -> io::Result<File> {
        let stretch = self.rules.look_at(log, 0)?;
        let mut file = create(path)?;
        file.write_all(&self.to_bytes(log, [stretch])?)?;
        Ok(file)
    }

    /// An index with these runs.
    ///
    /// # Errors
    ///
    /// That of the disk.
    pub(crate) fn to_bytes(
        &self,
        log: &File,
        runs: impl IntoIterator<Item = Stretch>,
    ) -> io::Result<Vec<u8>> {
        let seed = self.rules.naming.options.seed;
        let mut bytes = index::head(seed, log, &self.text)?.to_vec();
        for run in runs {
            bytes.extend(run.to_bytes(seed, log)?);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of every kind that has names of its own.
    const LINES: &str = r#"{"fact":["n1",{"task":["f","web.1"]},{"task":{"task_id":"web.1","framework_id":"f","framework_name":"Mara.Thon","agent_id":"a-S1","container_id":"c","name":"/Group/Web_1","discovery_name":"web.x","phase":"running","health":"unchecked","host_address":"10.0.0.2","container_addresses":["9.0.1.5"],"host_ports":[1025],"ports":[{"number":80,"host_port":31000,"name":"https","protocol":"tcp","labels":{"VIP_0":"shop:443"}}],"labels":{},"launched":7}}]}
{"fact":["n0",{"task":["f","db.1"]},{"task":{"task_id":"db.1","framework_id":"f","framework_name":"marathon","agent_id":"a-S0","container_id":"d","name":"db","discovery_name":null,"phase":"staging","health":"healthy","host_address":"10.0.0.1","container_addresses":["172.31.254.5"],"host_ports":[1026,1027],"ports":[],"labels":{},"launched":7}}]}
{"fact":["n1",{"dns_record":["a.example","A"]},{"dns_record":{"values":["192.0.2.7"],"ttl":5}}]}
{"vip":["shop.marathon",["11.0.0.7","fd01:c::b00:7"]]}
{"fact":["n1",{"task":["f","gone"]},null]}
"#;

    /// Grow `NAMING` and put the new sum here if this fails: an index of a former version
    /// must not be taken for one of this version, because names would not be found by it.
    #[test]
    fn the_same_facts_have_the_names_that_they_had() {
        let seed = Seed(1, 2);
        let rules = Rules::new(Options { seed, ..Options::default() }, "n0".into());
        let traces: Vec<String> = LINES
            .lines()
            .map(|line| {
                let (key, held) = lines::change(line.as_bytes()).expect("a change");
                format!("{:?}", rules.bare.traces(&rules.prepare(&key, held.as_ref())))
            })
            .collect();
        assert!(traces[..4].iter().all(|traces| !traces.contains("names: []")), "{traces:?}");
        assert_eq!((NAMING, seed.sum(traces.concat().as_bytes())), (1, 8_161_954_683_994_961_791));
    }
}
