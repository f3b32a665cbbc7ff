//! Where fuzz targets come in: files that people give us, and files of our own that a disk or
//! another version may give back as something else.

mod kept_names;

pub use kept_names::{ByIndex, ForgedRun, KeptNames, Known, Line};

use crate::cli::dns_import;

/// What a configuration file of Mesos-DNS becomes; `None` if it is no JSON object.
#[must_use]
pub fn import_config(text: &str) -> Option<String> {
    dns_import::to_toml(text)
}
