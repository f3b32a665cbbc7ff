//! Errors for people.

use std::error::Error;

/// An error with all of its causes, on one line. An error's own text never says its cause, so
/// whatever is logged or shown goes through here.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read {0}")]
    struct Outer(&'static str, #[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("it is {0}")]
    struct Inner(&'static str, #[source] fmt::Error);

    #[test]
    fn all_causes_are_said_in_order() {
        let error = Outer("a page", Inner("wet", fmt::Error));
        let last = fmt::Error.to_string();
        assert_eq!(chain(&error), format!("cannot read a page: it is wet: {last}"));
        assert_eq!(chain(&fmt::Error), last);
    }
}
