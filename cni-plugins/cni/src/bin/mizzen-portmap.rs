//! The plugin `mizzen-portmap`; see the library of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    mizzen_cni::run(mizzen_cni::Plugin::Portmap)
}
