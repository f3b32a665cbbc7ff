//! `mizzen logs`: what tasks wrote.

use super::error::CliError;
use super::session::{Session, encode, print};
use super::table::{Paint, Tone};
use super::tasks::{self, Lists};
use crate::args::LogsArgs;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of one request.
const CHUNK: u64 = 256 * 1024;

/// What a node answers if another one, which it asked, does not.
const AWAY: u16 = 503;

/// How often a task's file is looked at for more.
const LOOK: Duration = Duration::from_millis(250);

/// A task that was read and is not found is waited for so long: a node that was started again
/// hears of the others' tasks a little later.
const LOST: Duration = Duration::from_secs(30);

/// A line that is longer than this is printed in parts where lines of several tasks
/// are mixed.
const LONGEST_LINE: usize = 64 * 1024;

/// A piece of a file.
#[derive(Debug, Deserialize)]
struct Piece {
    /// Where it begins; without a request for data, where the file ends.
    offset: u64,
    data: String,
    /// Where the next piece begins. What is no text was replaced, so the length of
    /// `data` need not tell.
    next: Option<u64>,
    /// Whether the task had ended before the file was read.
    #[serde(default)]
    ended: bool,
}

impl Piece {
    fn next(&self) -> u64 {
        self.next.unwrap_or(self.offset + self.data.len() as u64)
    }
}

/// What a look at a file found.
enum Look {
    More(String),
    NothingYet,
    End,
}

pub(super) async fn run(session: &Session, args: &LogsArgs) -> Result<(), CliError> {
    let lists = Lists::get(session).await?;
    let ids = tasks::with_logs(session, &args.task, &lists).await?;
    let stream = if args.stderr { "stderr" } else { "stdout" };
    let mut files: Vec<File> = ids.iter().map(|id| File::new(id, stream)).collect();
    if let [file] = files.as_mut_slice() {
        return alone(session, file, args.follow).await;
    }
    mixed(session, &mut files, args.follow).await
}

/// Prints one file as it is.
async fn alone(session: &Session, file: &mut File, follow: bool) -> Result<(), CliError> {
    loop {
        match file.look_or_wait(session, follow).await? {
            Look::More(data) => print(&data)?,
            Look::End if follow => {
                crate::say(&format!("mizzen: {} has ended\n", file.task));
                return Ok(());
            }
            Look::NothingYet if follow => tokio::time::sleep(LOOK).await,
            Look::End | Look::NothingYet => return Ok(()),
        }
    }
}

/// Prints whole lines of several files, each with its task in front.
async fn mixed(session: &Session, files: &mut [File], follow: bool) -> Result<(), CliError> {
    let mut unread = BTreeSet::new();
    loop {
        let mut quiet = true;
        for file in files.iter_mut().filter(|file| !file.done) {
            let look = match file.look_or_wait(session, follow).await {
                // The others are read all the same.
                Err(CliError::Refused { status: AWAY, reason }) => {
                    unread.insert(reason);
                    Look::NothingYet
                }
                look => look?,
            };
            match look {
                Look::More(data) => {
                    quiet = false;
                    print(&file.lines.take(&data, session.paint))?;
                }
                Look::NothingYet if follow => {}
                Look::End | Look::NothingYet => {
                    print(&file.lines.rest(session.paint))?;
                    file.done = true;
                    if follow {
                        crate::say(&format!("mizzen: {} has ended\n", file.task));
                    }
                }
            }
        }
        if files.iter().all(|file| file.done) {
            let reason = unread.into_iter().collect::<Vec<_>>().join("\n");
            return match reason.is_empty() {
                true => Ok(()),
                false => Err(CliError::Refused { status: AWAY, reason }),
            };
        }
        if quiet {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// What one task writes, read from the beginning.
struct File {
    task: String,
    /// Where it is asked for, without a place in it.
    path: String,
    offset: u64,
    lines: Lines,
    done: bool,
    /// Whether it was there at least once.
    was_read: bool,
    /// Since when nobody answers who has it.
    away: Option<Instant>,
}

impl File {
    fn new(task: &str, stream: &str) -> Self {
        let path = format!("/v1/logs?task={}&stream={stream}", encode(task));
        let lines = Lines { label: tasks::short(task), waiting: String::new() };
        Self {
            task: task.to_owned(),
            path,
            offset: 0,
            lines,
            done: false,
            was_read: false,
            away: None,
        }
    }

    /// A look that, if it follows, outlives restarts of daemons: of the one that is asked and
    /// of the one where the task runs.
    async fn look_or_wait(&mut self, session: &Session, follow: bool) -> Result<Look, CliError> {
        match self.look(session).await {
            Err(error) if follow && self.waits_after(&error) => {
                if self.away.is_none() {
                    let label = &self.lines.label;
                    crate::say(&format!("mizzen: {label}: {error}; waiting for it\n"));
                }
                self.away.get_or_insert_with(Instant::now);
                Ok(Look::NothingYet)
            }
            Err(error) => Err(error),
            Ok(look) => {
                self.was_read = true;
                if self.away.take().is_some() {
                    let label = &self.lines.label;
                    crate::say(&format!("mizzen: {label}: going on where it stopped\n"));
                }
                Ok(look)
            }
        }
    }

    fn waits_after(&self, error: &CliError) -> bool {
        match error {
            CliError::NoNode { .. } | CliError::Client(_) => self.was_read,
            CliError::Refused { status: AWAY, .. } => true,
            CliError::Refused { status: 404, .. } => {
                self.was_read && self.away.is_none_or(|since| since.elapsed() < LOST)
            }
            _ => false,
        }
    }

    async fn look(&mut self, session: &Session) -> Result<Look, CliError> {
        let path = format!("{}&offset={}&length={CHUNK}", self.path, self.offset);
        let piece: Piece = session.read(&path).await?;
        if !piece.data.is_empty() {
            self.offset = piece.next();
            return Ok(Look::More(piece.data));
        }
        if piece.ended {
            return Ok(Look::End);
        }
        // A file that became shorter was cut by its task; it starts anew.
        let size: Piece = session.read(&self.path).await?;
        if size.offset < self.offset {
            self.offset = 0;
        }
        Ok(Look::NothingYet)
    }
}

/// Text on its way to a terminal that it shares.
struct Lines {
    label: String,
    /// The beginning of a line whose end has not come yet.
    waiting: String,
}

impl Lines {
    /// The lines that are complete with `data`.
    fn take(&mut self, data: &str, paint: Paint) -> String {
        self.waiting.push_str(data);
        let complete = match self.waiting.rfind('\n') {
            Some(end) => self.waiting.drain(..=end).collect(),
            None if self.waiting.len() > LONGEST_LINE => std::mem::take(&mut self.waiting),
            None => String::new(),
        };
        self.labelled(&complete, paint)
    }

    /// What is left when nothing more comes.
    fn rest(&mut self, paint: Paint) -> String {
        let rest = std::mem::take(&mut self.waiting);
        self.labelled(&rest, paint)
    }

    fn labelled(&self, text: &str, paint: Paint) -> String {
        let label = paint.mark(Tone::Faint, &format!("{} |", self.label));
        text.lines().map(|line| format!("{label} {line}\n")).collect()
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

    #[test]
    fn lines_of_several_tasks_stay_whole() {
        let mut lines = Lines { label: "web.1a2b".to_owned(), waiting: String::new() };
        let mut take = |data: &str| lines.take(data, Paint::Plain);
        assert_eq!(take("one\ntw"), "web.1a2b | one\n");
        assert_eq!(take("o"), "");
        assert_eq!(take("\n\nthree"), "web.1a2b | two\nweb.1a2b | \n");
        assert_eq!(
            take(&"x".repeat(LONGEST_LINE)).len(),
            LONGEST_LINE + "web.1a2b | three\n".len()
        );
        assert_eq!(take("end"), "");
        assert_eq!(lines.rest(Paint::Plain), "web.1a2b | end\n");
        assert_eq!(lines.rest(Paint::Plain), "");
    }
}
