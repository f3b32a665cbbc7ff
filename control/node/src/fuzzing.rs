//! Where fuzz targets come in: files that people give us.

use crate::cli::dns_import;

/// What a configuration file of Mesos-DNS becomes; `None` if it is no JSON object.
#[must_use]
pub fn import_config(text: &str) -> Option<String> {
    dns_import::to_toml(text)
}
