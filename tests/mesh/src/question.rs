//! What a prober is asked, what it answers, and asking all of them at a time.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Error, Result, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a prober may take to accept a connection before it is tried again.
const CONNECT: Duration = Duration::from_millis(500);

/// Beyond the time that it is given, a prober may take so long for its answer.
const MARGIN: Duration = Duration::from_secs(10);

/// What is to be right, as seen from inside of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Where each task's prober answers.
    pub tasks: BTreeMap<SocketAddr, String>,
    /// The addresses behind each name, all of them.
    pub names: BTreeMap<String, BTreeSet<IpAddr>>,
    /// The tasks behind each VIP, by its name.
    pub vips: BTreeMap<String, BTreeSet<String>>,
    /// How long the prober tries, in milliseconds.
    pub milliseconds: u64,
}

/// What a prober found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// What was still wrong at the end; empty if all was right.
    pub wrong: Vec<String>,
    /// After how many milliseconds all was right, or the prober gave up.
    pub milliseconds: u64,
}

/// Has every prober of a question's tasks look at all of it, and returns what each found.
/// Those that cannot be asked within the question's time are an error.
///
/// # Errors
///
/// The first prober that could not be reached, or broke off.
pub fn ask_all(question: &Question) -> Result<BTreeMap<String, Findings>> {
    let begun = Instant::now();
    let limit = Duration::from_millis(question.milliseconds);
    let mut text = serde_json::to_string(question)?;
    text.push('\n');
    // All of them listen before the first one asks another.
    let mut asked = Vec::with_capacity(question.tasks.len());
    for (address, task) in &question.tasks {
        asked.push((task, connect(*address, begun + limit)?));
    }
    for (_, stream) in &mut asked {
        stream.set_read_timeout(Some(limit + MARGIN))?;
        stream.write_all(text.as_bytes())?;
    }
    let answer = |(task, stream): (&String, TcpStream)| {
        let mut line = String::new();
        let read = BufReader::new(stream).read_line(&mut line);
        let found = read.and_then(|_| Ok(serde_json::from_str::<Findings>(&line)?));
        let found = found.map_err(|error| Error::other(format!("{task}: {error}")))?;
        Ok((task.clone(), found))
    };
    asked.into_iter().map(answer).collect()
}

fn connect(address: SocketAddr, until: Instant) -> Result<TcpStream> {
    loop {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > until => {
                return Err(Error::new(error.kind(), format!("{address}: {error}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
