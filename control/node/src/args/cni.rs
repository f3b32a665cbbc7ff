//! Of `mizzen cni`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `mizzen cni …`.
#[derive(Debug, Subcommand)]
pub enum CniCommand {
    /// Put the plugins and a network where containerd, Podman and others look for them
    #[command(after_help = "\
Existing files of ours are replaced, complete and at once; files of others are not touched.

Examples:
  mizzen cni install
  mizzen cni install --bin-dir /usr/lib/cni --overlay blue --name blue")]
    Install(CniInstallArgs),
    /// Remove what install put there; containers that are attached keep working
    #[command(after_help = "Example:\n  mizzen cni uninstall")]
    Uninstall(CniPlaces),
}

/// Where things go.
#[derive(Debug, Args)]
pub struct CniPlaces {
    /// Directory of the plugins; may be repeated [default: /opt/cni/bin, and /usr/lib/cni if it exists]
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Vec<PathBuf>,
    /// Directory of the networks
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub conf_dir: PathBuf,
    /// Name of the network
    #[arg(long, value_name = "NAME", default_value = "mizzen")]
    pub name: String,
}

/// Of `mizzen cni install`.
#[derive(Debug, Args)]
pub struct CniInstallArgs {
    /// Where things go.
    #[command(flatten)]
    pub places: CniPlaces,
    /// The overlay that its containers join
    #[arg(long, value_name = "NAME", default_value = "dcos")]
    pub overlay: String,
    /// Where the node keeps leases: `leases` in its state directory
    #[arg(long, value_name = "DIR", default_value = "/var/lib/mizzen/leases")]
    pub data_dir: PathBuf,
    /// Several runtimes use the network: none of them may take the others' containers for garbage
    #[arg(long)]
    pub shared: bool,
    /// Directory with our plugins [default: that of this program]
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
}
