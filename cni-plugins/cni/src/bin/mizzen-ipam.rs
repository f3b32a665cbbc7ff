//! The plugin `mizzen-ipam`; see the library of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    mizzen_cni::run(mizzen_cni::Plugin::Ipam)
}
