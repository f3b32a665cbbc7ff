//! Who is bound to the ports on which the node listens, from `/proc/net`.

use super::files::read;
use mizzen_plan::doctor::{Holder, Look, Socket, Wanted};
use mizzen_types::vip::Protocol;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// States of sockets that take what is sent to them: listening (TCP), not connected (UDP).
const LISTENING: &str = "0A";
const UNCONNECTED: &str = "07";

/// A line of `/proc/net/tcp` or its like.
struct Line {
    address: SocketAddr,
    state: String,
    inode: u64,
}

/// Sockets at ports of the node, in the network of this process.
pub(super) fn observe(wanted: &Wanted, daemon: Option<u32>) -> Look<Vec<Socket>> {
    let mut found = Vec::new();
    for (file, transport, state) in [
        ("/proc/net/tcp", Protocol::Tcp, LISTENING),
        ("/proc/net/tcp6", Protocol::Tcp, LISTENING),
        ("/proc/net/udp", Protocol::Udp, UNCONNECTED),
        ("/proc/net/udp6", Protocol::Udp, UNCONNECTED),
    ] {
        // Machines without IPv6 lack two of them.
        let text = if file.ends_with('6') { read(file).unwrap_or_default() } else { read(file)? };
        let is_asked = |line: &Line| {
            let port = line.address.port();
            let ours = wanted.listeners.iter().any(|listener| listener.address.port() == port);
            ours && line.state == state
        };
        found.extend(text.lines().filter_map(parse).filter(is_asked).map(|line| (transport, line)));
    }
    let holders = if found.is_empty() { BTreeMap::new() } else { holders(daemon) };
    let socket = |(transport, line): (Protocol, Line)| {
        let holder = holders.get(&line.inode).cloned();
        Socket { transport, address: line.address, holder }
    };
    Ok(found.into_iter().map(socket).collect())
}

/// Which process has which socket; only those that the user may look into. A process of
/// ours counts before one that shares its socket.
fn holders(daemon: Option<u32>) -> BTreeMap<u64, Holder> {
    let mut all: BTreeMap<u64, Holder> = BTreeMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        let inodes = inodes(pid);
        if inodes.is_empty() {
            continue;
        }
        let name = read(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
        let is_ours = daemon == Some(pid) || holds_for_us(pid);
        for inode in inodes {
            let holder = Holder { pid, name: name.clone(), is_ours };
            match all.get(&inode) {
                Some(known) if known.is_ours => {}
                _ => drop(all.insert(inode, holder)),
            }
        }
    }
    all
}

fn inodes(pid: u32) -> Vec<u64> {
    let directory = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(Path::new(&directory)).into_iter().flatten().flatten();
    let target = |entry: fs::DirEntry| fs::read_link(entry.path()).ok();
    let inode = |path: &Path| {
        path.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
    };
    entries.filter_map(target).filter_map(|path| inode(&path)).collect()
}

/// Whether a process keeps the resolver's sockets for the next daemon.
fn holds_for_us(pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|word| word == b"--hold-sockets")
}

/// `  1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 …`
fn parse(line: &str) -> Option<Line> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (ip, port) = words.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = SocketAddr::new(ip_of(ip)?, port);
    let state = (*words.get(3)?).to_owned();
    Some(Line { address, state, inode: words.get(9)?.parse().ok()? })
}

/// Words of 32 bits, each in the order of this machine.
fn ip_of(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = text.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let bytes = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            let bytes: [u8; 16] = bytes.try_into().ok()?;
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizzen_plan::doctor::Listener;
    use std::net::UdpSocket;

    #[test]
    fn lines_of_proc() {
        let line = "   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0 100 0 0 10 0";
        let line = parse(line).unwrap();
        assert_eq!(line.inode, 12_345);
        assert_eq!(line.state, LISTENING);
        if cfg!(target_endian = "little") {
            assert_eq!(line.address, "127.0.0.1:8080".parse().unwrap());
            let six = ip_of("0000000000000000FFFF00000100007F").unwrap();
            assert_eq!(six.to_canonical(), IpAddr::from([127, 0, 0, 1]));
        }
        assert!(parse("  sl  local_address rem_address   st tx_queue").is_none());
    }

    #[test]
    fn a_socket_of_this_process() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener { part: "dns".to_owned(), transport: Protocol::Udp, address };
        let wanted = Wanted { listeners: vec![listener], ..Wanted::default() };
        let pid = std::process::id();
        let find = |daemon: Option<u32>| {
            let all = observe(&wanted, daemon).unwrap();
            all.into_iter().find(|socket| socket.address == address).and_then(|s| s.holder).unwrap()
        };
        assert_eq!((find(Some(pid)).pid, find(Some(pid)).is_ours), (pid, true));
        assert!(!find(None).is_ours);
    }
}
