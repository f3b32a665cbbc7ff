//! Reading files of sandboxes for those who ask over HTTP.
//!
//! What lies in a sandbox is in the hands of its task, links included. So the
//! kernel is told to resolve a path below the work directory and nowhere else
//! (`openat2`, `RESOLVE_BENEATH`), which no race with the task can undo.

use mizzen_http::core::{OpenFile, QueryReply};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, openat2};
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

/// Most bytes of one answer: sixteen pages, as Mesos reads.
const MOST: u64 = 16 * 4096;

/// Most rows of a listing; a task decides how many files there are.
const MOST_ROWS: usize = 10_000;

/// Reads part of a file below `root`. Without an offset, or with -1, the answer is
/// the file's size and no data.
pub(crate) fn read(
    root: &Path,
    path: &str,
    offset: Option<i64>,
    length: Option<u64>,
) -> QueryReply {
    let file = match open(root, path, OFlags::RDONLY) {
        Ok(fd) => File::from(fd),
        Err(error) => return refuse(path, &error),
    };
    let size = match file.metadata() {
        Ok(found) if found.is_file() => found.len(),
        Ok(_) => return QueryReply::Bad(format!("Cannot read from {path}: it is not a file")),
        Err(error) => return refuse(path, &error),
    };
    let Some(offset) = offset.filter(|offset| *offset != -1) else {
        return QueryReply::Json(json!({ "offset": size, "data": "" }));
    };
    // Other negative offsets count from the end.
    let offset = match u64::try_from(offset) {
        Ok(offset) => offset,
        Err(_) => size.saturating_sub(offset.unsigned_abs()),
    };
    let length = length.unwrap_or(MOST).min(MOST).min(size.saturating_sub(offset));
    let mut data = vec![0; usize::try_from(length).unwrap_or(0)];
    match file.read_exact_at(&mut data, offset) {
        Ok(()) => {
            // Text that is not UTF-8 changes its length on the way, so the place where
            // the next read starts is said.
            let text = String::from_utf8_lossy(&data);
            QueryReply::Json(json!({ "offset": offset, "data": text, "next": offset + length }))
        }
        Err(error) => refuse(path, &error),
    }
}

/// Opens a file below `root` for a client to take all of it.
pub(crate) fn download(root: &Path, path: &str) -> QueryReply {
    let file = match open(root, path, OFlags::RDONLY) {
        Ok(fd) => File::from(fd),
        Err(error) => return refuse(path, &error),
    };
    let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
    match file.metadata() {
        Ok(found) if found.is_file() => {
            QueryReply::File(OpenFile { name, file: Arc::new(file), size: found.len() })
        }
        Ok(_) => QueryReply::Bad(format!("Cannot download {path}: it is not a file")),
        Err(error) => refuse(path, &error),
    }
}

/// Lists a directory below `root`.
pub(crate) fn browse(root: &Path, path: &str) -> QueryReply {
    let directory = match open(root, path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(fd) => fd,
        Err(error) => return refuse(path, &error),
    };
    match rows(&directory, path) {
        Ok(rows) => QueryReply::Json(Value::Array(rows)),
        Err(error) => refuse(path, &error),
    }
}

fn rows(directory: &OwnedFd, path: &str) -> io::Result<Vec<Value>> {
    let mut rows = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "." || name == ".." {
            continue;
        }
        if rows.len() == MOST_ROWS {
            break;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let Ok(fd) = rustix::fs::openat(directory, entry.file_name(), flags, Mode::empty()) else {
            continue; // it went away meanwhile
        };
        let found = File::from(fd).metadata()?;
        rows.push(json!({
            "path": format!("{}/{name}", path.trim_end_matches('/')),
            "nlink": found.nlink(),
            "size": found.len(),
            "mtime": found.mtime(),
            "mode": mode(entry.file_type(), found.permissions().mode()),
            "uid": found.uid().to_string(),
            "gid": found.gid().to_string(),
        }));
    }
    rows.sort_by_key(|row| row["path"].to_string());
    Ok(rows)
}

/// As `ls -l` writes it.
fn mode(kind: FileType, bits: u32) -> String {
    let kind = match kind {
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        _ => '-',
    };
    let permission = |(index, letter): (usize, char)| {
        if bits & (0o400 >> index) == 0 { '-' } else { letter }
    };
    std::iter::once(kind).chain("rwxrwxrwx".chars().enumerate().map(permission)).collect()
}

fn open(root: &Path, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(path));
    let below = below.strip_prefix("/").unwrap_or(below);
    let root = rustix::fs::openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    // A named pipe must not hold the loop.
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, below, flags, Mode::empty(), resolve)?)
}

fn refuse(path: &str, error: &io::Error) -> QueryReply {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::CrossesDevices => {
            QueryReply::NotFound(format!("Cannot read {path}: there is no such file"))
        }
        _ => QueryReply::Bad(format!("Cannot read {path}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn sandbox() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("run")).unwrap();
        std::fs::write(root.path().join("run/stdout"), "0123456789").unwrap();
        symlink("/etc/passwd", root.path().join("run/stolen")).unwrap();
        symlink("../../etc", root.path().join("run/up")).unwrap();
        symlink("run", root.path().join("latest")).unwrap();
        root
    }

    fn data(reply: QueryReply) -> String {
        match reply {
            QueryReply::Json(value) => format!("{}:{}", value["offset"], value["data"]),
            QueryReply::NotFound(_) => "not found".into(),
            QueryReply::Bad(text) => text,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn parts_of_a_file() {
        let root = sandbox();
        let absolute = root.path().join("run/stdout").display().to_string();
        #[rustfmt::skip]
        let table = [
            (absolute.as_str(), Some(0),  Some(3),    "0:\"012\""),
            ("run/stdout",      Some(8),  None,       "8:\"89\""),
            ("latest/stdout",   Some(-4), None,       "6:\"6789\""),
            ("run/stdout",      None,     None,       "10:\"\""),
            ("run/stdout",      Some(-1), None,       "10:\"\""),
            ("run/stdout",      Some(99), Some(5),    "99:\"\""),
            ("run/stdout",      Some(0),  Some(u64::MAX), "0:\"0123456789\""),
        ];
        for (path, offset, length, want) in table {
            assert_eq!(data(read(root.path(), path, offset, length)), want, "{path} {offset:?}");
        }
    }

    #[test]
    fn nothing_outside_can_be_read() {
        let root = sandbox();
        for path in ["run/stolen", "run/up/passwd", "../../etc/passwd", "/etc/passwd", "missing"] {
            assert_eq!(data(read(root.path(), path, Some(0), None)), "not found", "{path}");
        }
        assert!(matches!(read(root.path(), "run", Some(0), None), QueryReply::Bad(_)));
        assert!(matches!(download(root.path(), "run/stolen"), QueryReply::NotFound(_)));
        assert!(matches!(download(root.path(), "run"), QueryReply::Bad(_)));
        let QueryReply::File(file) = download(root.path(), "latest/stdout") else { panic!() };
        assert_eq!((file.name.as_str(), file.size), ("stdout", 10));
    }

    #[test]
    fn a_listing_is_in_order() {
        let root = sandbox();
        let QueryReply::Json(rows) = browse(root.path(), "/run") else { panic!("no listing") };
        let paths: Vec<_> = rows.as_array().unwrap().iter().map(|row| &row["path"]).collect();
        assert_eq!(paths, ["/run/stdout", "/run/stolen", "/run/up"]);
        assert!(rows[0]["mode"].as_str().unwrap().starts_with("-rw"));
    }
}
