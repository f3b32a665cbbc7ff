//! All tests, and those that fail once more, alone.
//!
//! Many tests use the real kernel, beside each other, on machines that also do other things. One
//! that fails there and passes alone is told of by its name and has to be mended, but stops
//! nobody's change; one that fails twice does.

use std::io::{Read, Write, pipe, stdout};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::root;

/// More failures than these are no accident.
const FEW: usize = 5;

/// Runs all tests of the workspace, with further options for cargo.
pub fn test(options: &[&str]) -> Result<()> {
    let (passed, output) = cargo_test(options, &["--no-fail-fast"])?;
    if passed {
        return Ok(());
    }
    let failures = failures(&output);
    let count: usize = failures.iter().map(|failed| failed.tests.len()).sum();
    // Without a name it was the compiler that failed, or a program that ended in the middle.
    if failures.is_empty() || failures.iter().any(|failed| failed.tests.is_empty()) || count > FEW {
        bail!("tests fail: see above");
    }
    let mut names = Vec::new();
    for failed in &failures {
        let tests: Vec<&str> = failed.tests.iter().map(String::as_str).collect();
        eprintln!("test: once more, alone: {}", tests.join(", "));
        let target: Vec<&str> = failed.target.iter().map(String::as_str).collect();
        let alone = [&target[..], &["--", "--test-threads=1", "--exact"], &tests].concat();
        let (passed, output) = cargo_test(options, &alone)?;
        if !passed || count_passed(&output) < tests.len() {
            bail!("{} failed beside others and alone", tests.join(", "));
        }
        names.extend(tests);
    }
    println!("test: failed beside others and passed alone, to be mended: {}", names.join(", "));
    Ok(())
}

/// Whether `cargo test` ended well, and what it printed, which is also shown.
fn cargo_test(options: &[&str], more: &[&str]) -> Result<(bool, String)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let (reader, writer) = pipe()?;
    let mut child = Command::new(cargo)
        .args(["test", "--workspace"])
        .args(options)
        .args(more)
        .current_dir(root()?)
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
        .context("cannot start cargo")?;
    let (sender, receiver) = channel();
    thread::spawn(move || show(reader, &sender));
    let status = child.wait()?;
    // A process that a test left behind would keep the pipe open for ever.
    let mut printed = Vec::new();
    while let Ok(chunk) = receiver.recv_timeout(Duration::from_secs(2)) {
        printed.extend(chunk);
    }
    Ok((status.success(), String::from_utf8_lossy(&printed).into_owned()))
}

/// Shows what comes as it comes, and hands it on.
fn show(mut from: impl Read, sender: &Sender<Vec<u8>>) {
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut chunk) {
        let mut out = stdout().lock();
        if out.write_all(&chunk[..length]).and_then(|()| out.flush()).is_err()
            || sender.send(chunk[..length].to_vec()).is_err()
        {
            return;
        }
    }
}

/// The tests of one program that failed.
#[derive(Debug, PartialEq, Eq)]
struct Failed {
    /// How cargo is told which program, without its package: features are those of all.
    target: Vec<String>,
    tests: Vec<String>,
}

/// Reads which tests failed from what `cargo test --no-fail-fast` printed.
fn failures(output: &str) -> Vec<Failed> {
    let mut failures = Vec::new();
    let (mut listed, mut tests) = (Vec::new(), Vec::new());
    for line in output.lines() {
        if line == "failures:" || line.starts_with("running ") {
            listed.clear();
            tests.clear();
        } else if let Some(name) = line.strip_prefix("    ") {
            listed.push(name.to_owned());
        } else if line.starts_with("test result: FAILED") {
            tests = std::mem::take(&mut listed);
        } else if let Some(arguments) = line.strip_prefix(RERUN) {
            let arguments = arguments.trim_end_matches('`').split(' ');
            let target = arguments.skip_while(|word| *word != "-p").skip(2).map(str::to_owned);
            failures.push(Failed { target: target.collect(), tests: std::mem::take(&mut tests) });
        }
    }
    failures
}

/// How many tests passed, by the last lines of all programs.
fn count_passed(output: &str) -> usize {
    let passed = |line: &str| {
        line.strip_prefix("test result: ok. ")?.split_once(' ')?.0.parse::<usize>().ok()
    };
    output.lines().filter_map(passed).sum()
}

const RERUN: &str = "error: test failed, to rerun pass `";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const OUTPUT: &str = "
running 3 tests
..
a_b --- FAILED

failures:

---- a_b stdout ----
failures:
    not one

thread 'a_b' panicked at src/x.rs:1:1:
    nor this

failures:
    a_b
    c::d

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.37s

error: test failed, to rerun pass `-p mizzen-launch --test containers`

running 1 test
.
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

running 1 test
thread 'e' panicked at src/x.rs:1:1:
    at src/x.rs
error: test failed, to rerun pass `-p mizzen-types --lib`

Caused by:
  process didn't exit successfully: `deps/mizzen_types-0` (signal: 6, SIGABRT: process abort signal)
error: 2 targets failed:
    `-p mizzen-launch --test containers`
    `-p mizzen-types --lib`
";

    #[test]
    fn what_failed_is_found_with_their_programs() {
        let failed = |target: &[&str], tests: &[&str]| Failed {
            target: target.iter().map(ToString::to_string).collect(),
            tests: tests.iter().map(ToString::to_string).collect(),
        };
        let expected =
            [failed(&["--test", "containers"], &["a_b", "c::d"]), failed(&["--lib"], &[])];
        assert_eq!(failures(OUTPUT), expected);
        assert_eq!(count_passed(OUTPUT), 1);
        assert_eq!(failures("error: could not compile `mizzen`\n"), []);
    }
}
