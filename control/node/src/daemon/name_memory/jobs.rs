//! What threads do with the file while changes are added to it.

use super::file::Added;
use super::indexing::Indexer;
use super::shrinking::{Copy, Looked, Replaced, Worth};
use super::{Job, Kept, Memory, SLACK, TOGETHER};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::{io, mem};
use tracing::warn;

impl Memory {
    /// Takes in what a thread has done.
    pub(super) fn end_job(&mut self) {
        match self.job.take() {
            Some(Job::Index(thread)) if thread.is_finished() => match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    warn!(%error, "the next start will take longer until names are answered");
                }
                Err(_) => self.indexer = None,
            },
            Some(Job::Shrink(thread)) if thread.is_finished() => match thread.join() {
                Ok(Ok(Looked::Enough(held))) => {
                    self.note_held(held);
                    self.enough = self.enough.max(self.lines);
                }
                Ok(Ok(Looked::Copied(copy))) => self.begin_moving(copy),
                Ok(Err(error)) => self.stay_long(&error),
                Err(_) => self.enough = usize::MAX,
            },
            job => self.job = job,
        }
    }

    /// Has a thread do what is due: write the file anew, or let the index follow.
    pub(super) fn begin_job(&mut self) {
        let Kept::In(_) = &self.file else { return };
        let (Some(path), None) = (&self.path, &self.job) else { return };
        if self.lines > self.enough {
            let (path, indexer) = (path.clone(), self.indexer.clone());
            let thread =
                aside("names-shrink", move || Copy::make(&path, indexer, Worth::Beyond(SLACK)));
            self.job = thread.map(Job::Shrink);
        } else if let Some(indexer) = &self.indexer
            && self.unindexed >= TOGETHER
        {
            let indexer = Arc::clone(indexer);
            self.job = aside("names-index", move || indexer.extend()).map(Job::Index);
            self.unindexed = 0;
        }
    }

    /// From now on changes wait until a copy is in the place of the file.
    fn begin_moving(&mut self, copy: Copy) {
        let Kept::In(file) = mem::take(&mut self.file) else { return };
        let thread = thread::Builder::new().name("names-move".to_owned());
        // The former file goes there too, for it takes a while to give its room back.
        let moving = thread.spawn(move || match copy.replace() {
            Ok(replaced) => {
                drop(file);
                Ok(replaced)
            }
            Err(error) => Err((error, file)),
        });
        match moving {
            Ok(thread) => self.file = Kept::Moving(thread),
            Err(error) => self.reopen(&error),
        }
    }

    /// Waits for the file that changes are added to.
    pub(super) fn end_moving(&mut self) {
        let thread = match mem::take(&mut self.file) {
            Kept::Moving(thread) => thread,
            other => return self.file = other,
        };
        match thread.join() {
            Ok(Ok(replaced)) => self.go_on_with(replaced),
            Ok(Err((error, file))) => {
                self.file = Kept::In(file);
                self.stay_long(&error);
            }
            Err(_) => self.reopen(&io::Error::other("its thread panicked")),
        }
    }

    fn go_on_with(&mut self, replaced: Replaced) {
        let is_ours = |made_by: &Arc<Indexer>| {
            self.indexer.as_ref().is_some_and(|indexer| Arc::ptr_eq(indexer, made_by))
        };
        self.lines = replaced.lines + self.waiting_lines;
        self.unindexed = match replaced.indexer.as_ref().is_some_and(is_ours) {
            true => replaced.unindexed + self.waiting_lines,
            false => self.lines,
        };
        self.note_held(replaced.held);
        self.told.long = false;
        self.file = Kept::In(replaced.file);
    }

    /// The file is as long as it was, until there are many lines more.
    fn stay_long(&mut self, error: &io::Error) {
        self.enough = self.lines + SLACK;
        if !mem::replace(&mut self.told.long, true) {
            warn!(%error, "what is known of names cannot be written anew, and is added to");
        }
    }

    /// Goes on with whichever file is there.
    fn reopen(&mut self, error: &io::Error) {
        self.stay_long(error);
        let opened = self.path.as_deref().map(Added::reopen);
        self.file = opened.and_then(Result::ok).map_or(Kept::Not, Kept::In);
        self.unindexed = self.lines;
    }
}

/// Does something that takes its time on a thread that everybody else goes before.
fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<JoinHandle<T>> {
    let thread = thread::Builder::new().name(name.to_owned());
    let thread = thread.spawn(move || {
        // On Linux that is the thread. It works without, too.
        let _ = rustix::process::setpriority_process(None, 19);
        work()
    });
    thread.ok()
}
