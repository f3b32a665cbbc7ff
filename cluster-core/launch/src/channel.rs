//! The two pipes to the daemon: lines in, lines out.

use crate::failure::{Failure, Step};
use mizzen_types::container::LaunchEvent;
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, BufReader, Read, Stdin, Write};

/// Longest line that is read; a specification is a few kilobytes.
const MAX_LINE: u64 = 4 << 20;

/// The launcher's end.
pub struct Channel {
    input: BufReader<Stdin>,
}

impl Channel {
    /// On stdin and stdout.
    pub fn new() -> Self {
        Self { input: BufReader::new(io::stdin()) }
    }

    /// The next line; `None` if the daemon closed the pipe, which means that it died
    /// or changed its mind. `what` names it in errors.
    pub fn read<T: DeserializeOwned>(&mut self, what: &str) -> Result<Option<T>, Failure> {
        let mut line = Vec::new();
        (&mut self.input)
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .step(|| format!("read {what}"))?;
        if line.last() != Some(&b'\n') {
            return Ok(None); // a broken line is the word of a daemon that died speaking
        }
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(|error| Failure::new(format!("understand {what}"), &error))
    }

    /// Says one thing.
    pub fn say(&self, event: &LaunchEvent) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let mut output = io::stdout().lock();
        output.write_all(&line)?;
        output.flush()
    }
}
