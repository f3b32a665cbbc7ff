//! `mizzen logs`: what a task wrote.

use super::error::CliError;
use super::session::{Session, encode, print};
use super::tasks;
use crate::args::LogsArgs;
use serde::Deserialize;
use std::time::Duration;

/// Bytes of one request.
const CHUNK: u64 = 256 * 1024;

/// How often a task's file is looked at for more.
const LOOK: Duration = Duration::from_millis(250);

/// A piece of a file.
#[derive(Debug, Deserialize)]
struct Piece {
    /// Where it begins; without a request for data, where the file ends.
    offset: u64,
    data: String,
    /// Where the next piece begins. What is no text was replaced, so the length of
    /// `data` need not tell.
    next: Option<u64>,
}

impl Piece {
    fn next(&self) -> u64 {
        self.next.unwrap_or(self.offset + self.data.len() as u64)
    }
}

pub(super) async fn run(session: &Session, args: &LogsArgs) -> Result<(), CliError> {
    let id = tasks::resolve(&args.task, &session.read::<Vec<_>>("/v1/tasks").await?)?;
    let stream = if args.stderr { "stderr" } else { "stdout" };
    let base = format!("/v1/logs?task={}&stream={stream}", encode(&id));
    let mut offset = 0;
    loop {
        let piece: Piece = session.read(&format!("{base}&offset={offset}&length={CHUNK}")).await?;
        if piece.data.is_empty() {
            if !args.follow {
                return Ok(());
            }
            // A file that became shorter was cut by its task; it starts anew.
            let size: Piece = session.read(&base).await?;
            if size.offset < offset {
                offset = 0;
                continue;
            }
            tokio::time::sleep(LOOK).await;
            continue;
        }
        print(&piece.data)?;
        offset = piece.next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_next_piece_begins() {
        let piece = |text| serde_json::from_str::<Piece>(text).unwrap().next();
        assert_eq!(piece(r#"{"offset":10,"data":"abc"}"#), 13);
        assert_eq!(piece(r#"{"offset":10,"data":"a\ufffd","next":12}"#), 12);
    }
}
