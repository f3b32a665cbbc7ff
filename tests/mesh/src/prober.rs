//! The program in each container: it tells who it is, and looks at all that it is asked to.
//!
//! By datagrams it answers with its task's id. By connections it takes one line: [`WHO`] is
//! answered with its task's id, a question with what was found.

use crate::expected::VIP_PORT;
use crate::question::{Findings, Question};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Error, ErrorKind, Result, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// Asks a prober for its task's id.
pub const WHO: &str = "who";

/// For a connection, and an answer on it.
const PATIENCE: Duration = Duration::from_secs(2);

/// For a question: it waits until all probers are known to listen.
const QUESTION: Duration = Duration::from_secs(60);

/// How many datagrams are sent before answers are looked for: fewer than a socket's buffer
/// takes.
const BURST: usize = 32;

/// How long is waited for answers before who is missing is asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// Answers on `port` until the process is killed.
///
/// # Errors
///
/// If it cannot listen there.
pub fn serve(port: u16) -> Result<()> {
    let datagrams = UdpSocket::bind(("0.0.0.0", port))?;
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    let me = std::env::var("MESOS_TASK_ID").unwrap_or_default();
    let name = me.clone();
    thread::spawn(move || echo(&datagrams, &name));
    println!("listening on {port}");
    for stream in listener.incoming() {
        let (stream, me) = (stream?, me.clone());
        thread::spawn(move || {
            // A client that went away is its own affair.
            let _ = answer(stream, &me);
        });
    }
    Ok(())
}

fn echo(socket: &UdpSocket, me: &str) {
    let mut buffer = [0; 16];
    loop {
        if let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(me.as_bytes(), from);
        }
    }
}

fn answer(mut stream: TcpStream, me: &str) -> Result<()> {
    stream.set_read_timeout(Some(QUESTION))?;
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    let text = match line.trim() {
        WHO => me.to_owned(),
        question => serde_json::to_string(&look(&serde_json::from_str(question)?))?,
    };
    writeln!(stream, "{text}")
}

/// Looks until all is right or the time is over.
fn look(question: &Question) -> Findings {
    let begun = Instant::now();
    let until = begun + Duration::from_millis(question.milliseconds);
    let mut left = question.clone();
    let wrong = loop {
        let mut wrong = match ask_tasks(&mut left.tasks, until) {
            Ok(()) => left.tasks.values().map(|task| format!("{task} is not reached")).collect(),
            Err(error) => vec![format!("nobody can be asked: {error}")],
        };
        wrong.extend(settle(&mut left.names, wrong_name));
        wrong.extend(settle(&mut left.vips, wrong_vip));
        if wrong.is_empty() || Instant::now() > until {
            break wrong;
        }
        thread::sleep(AGAIN);
    };
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Findings { wrong, milliseconds }
}

/// Drops what is right; says what is wrong with the rest.
fn settle<T>(
    all: &mut BTreeMap<String, T>,
    wrong: impl Fn(&str, &T) -> Option<String>,
) -> Vec<String> {
    let mut said = Vec::new();
    all.retain(|name, want| match wrong(name, want) {
        None => false,
        Some(text) => {
            said.push(text);
            true
        }
    });
    said
}

/// Asks every task by datagrams, several times; those that said who they are are dropped.
fn ask_tasks(tasks: &mut BTreeMap<SocketAddr, String>, until: Instant) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(AGAIN))?;
    while !tasks.is_empty() && Instant::now() < until {
        let all: Vec<SocketAddr> = tasks.keys().copied().collect();
        let before = tasks.len();
        for some in all.chunks(BURST) {
            for address in some {
                // Whom it cannot be sent to is asked again.
                let _ = socket.send_to(b"?", address);
            }
            let missing = tasks.len() - some.len();
            while tasks.len() > missing && hear(&socket, tasks)? {}
        }
        if tasks.len() == before {
            break;
        }
    }
    Ok(())
}

/// Takes one answer; false if none came.
fn hear(socket: &UdpSocket, tasks: &mut BTreeMap<SocketAddr, String>) -> Result<bool> {
    let mut buffer = [0; 512];
    match socket.recv_from(&mut buffer) {
        Ok((length, from)) => {
            if tasks.get(&from).is_some_and(|task| task.as_bytes() == &buffer[..length]) {
                tasks.remove(&from);
            }
            Ok(true)
        }
        // Also what ICMP said of somebody asked before.
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Ok(false),
            ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable => Ok(true),
            _ => Err(error),
        },
    }
}

/// A name must have these addresses, as any program gets them.
fn wrong_name(name: &str, want: &BTreeSet<IpAddr>) -> Option<String> {
    match resolve(name) {
        Ok(found) if found == *want => None,
        Ok(found) => Some(format!("{name} is {found:?} instead of {want:?}")),
        Err(error) => Some(format!("{name}: {error}")),
    }
}

/// A VIP must lead to one of these tasks.
fn wrong_vip(name: &str, want: &BTreeSet<String>) -> Option<String> {
    match resolve(name).and_then(|found| who(found.first().copied())) {
        Ok(task) if want.contains(&task) => None,
        Ok(task) => Some(format!("{name} leads to {task}")),
        Err(error) => Some(format!("{name}: {error}")),
    }
}

fn resolve(name: &str) -> Result<BTreeSet<IpAddr>> {
    Ok((name, VIP_PORT).to_socket_addrs()?.map(|at| at.ip()).filter(IpAddr::is_ipv4).collect())
}

fn who(address: Option<IpAddr>) -> Result<String> {
    let address = address.ok_or_else(|| Error::other("no address"))?;
    let mut stream = TcpStream::connect_timeout(&(address, VIP_PORT).into(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "{WHO}")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_answer_as_themselves_are_found_and_others_are_named() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let there = socket.local_addr().unwrap();
        thread::spawn(move || echo(&socket, "a.1"));
        let localhost = BTreeSet::from([IpAddr::from([127, 0, 0, 1])]);
        let mut question = Question {
            tasks: BTreeMap::from([(there, "a.1".to_owned())]),
            names: BTreeMap::from([("localhost".to_owned(), localhost)]),
            vips: BTreeMap::new(),
            milliseconds: 5_000,
        };
        assert_eq!(look(&question).wrong, [] as [&str; 0]);

        question.tasks.insert(there, "a.2".to_owned());
        question.names.insert("localhost".to_owned(), BTreeSet::new());
        question.milliseconds = 0;
        let wrong = look(&question).wrong;
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].contains("a.2 is not reached"), "{wrong:?}");
    }
}
