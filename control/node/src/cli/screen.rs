//! How `--watch` shows look after look: on a terminal each in the place of the one before.

use super::error::CliError;
use super::session::print;
use crate::args::Output;
use std::io::IsTerminal;

/// How looks follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Each in the place of the one before.
    Screen,
    /// One below the other.
    Blocks,
    /// A line of JSON for each.
    Lines,
}

/// What is shown.
#[derive(Debug)]
pub(super) struct Screen {
    form: Form,
    /// What a person can do who wants to see what there is no room for.
    hint: &'static str,
    /// Lines of the present text.
    lines: usize,
    node: Heard,
}

/// How the node answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// It has not yet.
    NotYet,
    /// The last look found it.
    Last,
    /// The last look did not, and one before it did.
    Before,
}

/// Long lines are cut, or the text would not be where it is looked for.
const HIDE_CURSOR: &str = "\u{1b}[?25l\u{1b}[?7l";
const SHOW_CURSOR: &str = "\u{1b}[?25h\u{1b}[?7h";

impl Form {
    /// What fits to where standard output goes.
    pub(super) fn of(output: Output) -> Self {
        match (output.json, std::io::stdout().is_terminal()) {
            (true, _) => Self::Lines,
            (false, true) => Self::Screen,
            (false, false) => Self::Blocks,
        }
    }

    /// Looks until `looking` ends, or somebody presses Ctrl-C.
    pub(super) async fn watch(
        self,
        looking: impl Future<Output = Result<(), CliError>>,
    ) -> Result<(), CliError> {
        let ended = tokio::select! {
            ended = looking => ended,
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
        // The cursor comes back, however it ended.
        if self == Self::Screen {
            print(SHOW_CURSOR)?;
        }
        ended
    }
}

impl Screen {
    /// Nothing is shown yet.
    pub(super) fn new(form: Form, hint: &'static str) -> Self {
        Self { form, hint, lines: 0, node: Heard::NotYet }
    }

    /// How looks follow each other.
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Shows a look; one in [`Form::Lines`] is one line.
    pub(super) fn show(&mut self, text: &str) -> Result<(), CliError> {
        match self.form {
            Form::Lines => print(text),
            Form::Blocks => {
                let gap = if self.lines == 0 { "" } else { "\n" };
                self.lines = 1;
                print(&format!("{gap}{text}"))
            }
            Form::Screen => self.draw(text),
        }
    }

    /// What a look found. None if the node does not answer after it has once: it may be back
    /// in a moment, so that is said and the next look tries again.
    pub(super) fn outlive<T>(&mut self, look: Result<T, CliError>) -> Result<Option<T>, CliError> {
        match look {
            Err(CliError::NoNode { .. }) if self.node != Heard::NotYet => {
                let is_news = std::mem::replace(&mut self.node, Heard::Before) == Heard::Last;
                match self.form {
                    Form::Screen => self.draw("the node does not answer\n")?,
                    Form::Blocks | Form::Lines if is_news => {
                        crate::say("mizzen: the node does not answer; waiting for it\n");
                    }
                    Form::Blocks | Form::Lines => {}
                }
                Ok(None)
            }
            look => {
                self.node = Heard::Last;
                look.map(Some)
            }
        }
    }

    fn draw(&mut self, text: &str) -> Result<(), CliError> {
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
        // Some terminals do not tell how high they are.
        let room = size.map(|size| size.ws_row).filter(|rows| *rows > 1).unwrap_or(24);
        let (text, lines) = fit(text, usize::from(room) - 1, self.hint);
        let up = match self.lines {
            0 => String::new(),
            lines => format!("\u{1b}[{lines}A\r\u{1b}[J"),
        };
        self.lines = lines;
        print(&format!("{HIDE_CURSOR}{up}{text}"))
    }
}

/// As many lines as there is room for, and their number.
fn fit(text: &str, room: usize, hint: &str) -> (String, usize) {
    let all = text.lines().count();
    if all <= room {
        return (text.to_owned(), all);
    }
    let kept: String =
        text.lines().take(room.saturating_sub(1)).map(|line| format!("{line}\n")).collect();
    (format!("{kept}… {} more; {hint}\n", all + 1 - room), room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut() {
        let text = "a\nb\nc\nd\n";
        assert_eq!(fit(text, 4, "ask"), (text.to_owned(), 4));
        assert_eq!(fit(text, 3, "ask"), ("a\nb\n… 2 more; ask\n".to_owned(), 3));
    }

    #[test]
    fn a_node_that_answered_once_is_waited_for() {
        let away = || CliError::NoNode { socket: "/run/mizzen/mizzen.sock".into() };
        let refused = || CliError::Refused { status: 404, reason: "no".to_owned() };
        for form in [Form::Screen, Form::Blocks, Form::Lines] {
            let mut screen = Screen::new(form, "");
            assert!(screen.outlive::<()>(Err(away())).is_err(), "{form:?}: there is none");
            assert_eq!(screen.outlive(Ok(1)).unwrap(), Some(1));
            assert_eq!(screen.outlive::<()>(Err(away())).unwrap(), None, "{form:?}");
            assert_eq!(screen.outlive::<()>(Err(away())).unwrap(), None, "{form:?}: still");
            assert!(screen.outlive::<()>(Err(refused())).is_err(), "an answer is one");
            assert_eq!(screen.outlive(Ok(2)).unwrap(), Some(2), "{form:?}: it is back");
        }
    }
}
