//! `mizzen`: the node, its sandbox and its command line in one binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    mizzen::main()
}
