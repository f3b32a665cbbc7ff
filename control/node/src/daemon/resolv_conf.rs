//! `/etc/resolv.conf`, if we are to write it: ours while the node runs, the former one
//! afterwards. Whoever changes it meanwhile keeps it.

use crate::config::{DnsConfig, ResolvConf};
use mizzen_files::{Sync, replace};
use mizzen_types::error::chain;
use mizzen_types::record;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// What every stub resolver reads.
pub(crate) const PATH: &str = "/etc/resolv.conf";
/// Where the former one is kept, below the state directory.
const KEPT: &str = "resolv.conf.json";
const FORMAT: u16 = 1;
/// Stub resolvers look at so many servers.
const MAX_SERVERS: usize = 3;
/// Stub resolvers look at so many search domains.
const MAX_SEARCH: usize = 6;

/// What stands in a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Content {
    /// Nothing.
    Absent,
    /// A file of this text and mode.
    File(String, u32),
    /// A symbolic link.
    Link(PathBuf),
}

/// What was there, and what we put in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    before: Content,
    written: String,
}

/// How the file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is as we want it.
    Ours,
    /// Somebody else has changed it since we wrote it.
    Changed,
}

/// The file for a program that is to ask our resolver.
pub(crate) fn text(dns: &DnsConfig) -> String {
    let listen = dns.listen.iter().filter(|listen| listen.port() == 53).map(SocketAddr::ip);
    let own = dns.addresses.iter().copied().filter(|_| dns.port == 53);
    let mut text = String::new();
    for address in own.chain(listen).take(MAX_SERVERS) {
        text.push_str(&format!("nameserver {address}\n"));
    }
    if !dns.search.is_empty() {
        let search: Vec<&str> = dns.search.iter().take(MAX_SEARCH).map(String::as_str).collect();
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    text.push_str("options timeout:1 attempts:3\n");
    text
}

/// Our text with what the former one says and ours does not: where short names are looked for, and
/// options. Of several lines the last one counts, and of options all.
fn with_former(text: &str, former: &str) -> String {
    let lines = || former.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut text = text.to_owned();
    let search = lines().rfind(|words| matches!(words[..], ["search" | "domain", _, ..]));
    if let Some(words) = search.filter(|_| !text.contains("search ")) {
        text.push_str(&format!("{}\n", words.join(" ")));
    }
    let options: Vec<&str> = lines()
        .filter(|words| words.first() == Some(&"options"))
        .flat_map(|words| words.into_iter().skip(1))
        .filter(|option| !["timeout:", "attempts:"].iter().any(|ours| option.starts_with(ours)))
        .collect();
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

/// One machine's `resolv.conf`, and what is remembered of it.
#[derive(Debug, Clone)]
pub(crate) struct ResolvConfFile {
    path: PathBuf,
    kept: PathBuf,
}

impl ResolvConfFile {
    /// That at `path`; what was there is remembered below `state_dir`.
    pub(crate) fn new(path: &Path, state_dir: &Path) -> Self {
        Self { path: path.to_owned(), kept: state_dir.join(KEPT) }
    }

    /// Makes it ours, unless somebody has changed what we wrote.
    pub(crate) fn write(&self, text: &str) -> io::Result<Standing> {
        let now = observe(&self.path)?;
        let kept = self.kept()?;
        let before = match kept {
            Some(kept) if is_text(&now, &kept.written) => kept.before,
            // Back from the dead, the former one is there: whoever put it there is right.
            Some(kept) if now != kept.before => return Ok(Standing::Changed),
            _ => now.clone(),
        };
        let written = header(&with_former(text, &self.text_of(&before)));
        let kept = Kept { before, written };
        // First what was there, or a crash would forget it.
        let bytes = record::write(FORMAT, &kept).map_err(io::Error::other)?;
        replace(&self.kept, &bytes, 0o600, Sync::Disk)?;
        if !is_text(&now, &kept.written) {
            put_file(&self.path, kept.written.as_bytes(), 0o644)?;
        }
        Ok(Standing::Ours)
    }

    /// Whether it still is as we wrote it.
    pub(crate) fn look(&self) -> io::Result<Standing> {
        let Some(kept) = self.kept()? else { return Ok(Standing::Changed) };
        let ours = is_text(&observe(&self.path)?, &kept.written);
        Ok(if ours { Standing::Ours } else { Standing::Changed })
    }

    /// Puts the former one back, unless somebody has changed what we wrote.
    pub(crate) fn restore(&self) -> io::Result<()> {
        let Some(kept) = self.kept()? else { return Ok(()) };
        if is_text(&observe(&self.path)?, &kept.written) {
            put(&self.path, &kept.before)?;
        }
        fs::remove_file(&self.kept)
    }

    /// The text that programs read before we wrote ours; `None` if we did not.
    pub(crate) fn before(&self) -> Option<String> {
        let kept = self.kept().ok()??;
        Some(self.text_of(&kept.before))
    }

    fn text_of(&self, content: &Content) -> String {
        match content {
            Content::Absent => String::new(),
            Content::File(text, _) => text.clone(),
            Content::Link(target) => {
                let directory = self.path.parent().unwrap_or(Path::new("/"));
                fs::read_to_string(directory.join(target)).unwrap_or_default()
            }
        }
    }

    fn kept(&self) -> io::Result<Option<Kept>> {
        match fs::read(&self.kept) {
            Ok(bytes) => record::read(FORMAT, &bytes).map(Some).map_err(|error| {
                let text = format!("{}: {}", self.kept.display(), chain(&error));
                io::Error::new(io::ErrorKind::InvalidData, text)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What is to be done about the file at all.
pub(crate) fn is_ours_to_write(dns: &DnsConfig) -> bool {
    dns.resolv_conf == ResolvConf::Write
}

fn header(text: &str) -> String {
    format!("# Written by mizzen while it runs; the former file comes back when it stops.\n{text}")
}

fn is_text(content: &Content, text: &str) -> bool {
    matches!(content, Content::File(found, _) if found == text)
}

fn observe(path: &Path) -> io::Result<Content> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::Absent),
        found => found?,
    };
    if found.is_symlink() {
        return fs::read_link(path).map(Content::Link);
    }
    let bytes = fs::read(path)?;
    Ok(Content::File(String::from_utf8_lossy(&bytes).into_owned(), found.mode() & 0o7777))
}

fn put(path: &Path, content: &Content) -> io::Result<()> {
    match content {
        Content::Absent => fs::remove_file(path),
        Content::File(text, mode) => put_file(path, text.as_bytes(), *mode),
        Content::Link(target) => {
            let draft = draft(path);
            let _ = fs::remove_file(&draft);
            symlink(target, &draft)?;
            fs::rename(&draft, path)
        }
    }
}

/// Where a file is mounted in the place, as in a container or in a lab, nothing can take its
/// place and it is written to.
fn put_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    match replace(path, bytes, mode, Sync::Disk) {
        Err(error) if error.source.kind() == io::ErrorKind::ResourceBusy => fs::write(path, bytes),
        replaced => Ok(replaced?),
    }
}

fn draft(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.mizzen"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(tempfile::TempDir, ResolvConfFile);

    fn place() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let file = ResolvConfFile::new(&directory.path().join("resolv.conf"), directory.path());
        Place(directory, file)
    }

    #[test]
    fn short_names_are_looked_for_where_they_were() {
        let ours = "nameserver 198.51.100.1\noptions timeout:1 attempts:3\n";
        let searching = "nameserver 198.51.100.1\nsearch mesos\n";
        #[rustfmt::skip]
        let table = [
            (ours, "", ""),
            (ours, "nameserver 192.0.2.53\n# search no.example\nsearch a.example\nsearch b.example  c.example\n", "search b.example c.example\n"),
            (ours, "domain example\noptions ndots:2 timeout:9\noptions edns0 attempts:1\n", "domain example\noptions ndots:2 edns0\n"),
            (searching, "search a.example\noptions rotate\n", "options rotate\n"),
        ];
        for (text, former, more) in table {
            assert_eq!(with_former(text, former), format!("{text}{more}"), "{former}");
        }
    }

    #[test]
    fn what_was_there_comes_back() {
        for before in [
            Content::Absent,
            Content::File("nameserver 192.0.2.53\n".into(), 0o640),
            Content::Link("stub-resolv.conf".into()),
        ] {
            let Place(directory, file) = place();
            fs::write(directory.path().join("stub-resolv.conf"), "nameserver 192.0.2.53\n")
                .unwrap();
            if before != Content::Absent {
                put(&file.path, &before).unwrap();
            }
            assert_eq!(file.write("nameserver 198.51.100.1\n").unwrap(), Standing::Ours);
            assert!(
                fs::read_to_string(&file.path).unwrap().ends_with("\nnameserver 198.51.100.1\n")
            );
            let want = if before == Content::Absent { "" } else { "nameserver 192.0.2.53\n" };
            assert_eq!(file.before().as_deref(), Some(want));
            // A second start, after a crash and with other settings.
            assert_eq!(file.write("nameserver 198.51.100.2\n").unwrap(), Standing::Ours);
            assert_eq!(file.look().unwrap(), Standing::Ours);
            file.restore().unwrap();
            assert_eq!(observe(&file.path).unwrap(), before);
            assert_eq!(
                fs::read_dir(directory.path()).unwrap().count(),
                1 + usize::from(before != Content::Absent)
            );
            file.restore().unwrap();
        }
    }

    #[test]
    fn nobody_is_fought() {
        let Place(_directory, file) = place();
        fs::write(&file.path, "nameserver 192.0.2.53\n").unwrap();
        file.write("nameserver 198.51.100.1\n").unwrap();
        fs::write(&file.path, "nameserver 203.0.113.9\n").unwrap();
        assert_eq!(file.look().unwrap(), Standing::Changed);
        assert_eq!(file.write("nameserver 198.51.100.1\n").unwrap(), Standing::Changed);
        file.restore().unwrap();
        assert_eq!(fs::read_to_string(&file.path).unwrap(), "nameserver 203.0.113.9\n");
    }
}
