//! How many descriptors the daemon may have.
//!
//! Every container and every connection takes some, and the usual soft limit of 1024 is
//! made for programs that use `select`. The daemon does not; its tasks may, so they get
//! the limit back that the daemon was started with.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// Raises the soft limit on descriptors to the hard one, and keeps the former one for
/// all children. To be called before anything is started. A limit that cannot be raised
/// is no reason not to start: the log says so.
pub fn raise_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(before) = current else { return };
    mizzen_isolators::limit_descriptors_of_children(before);
    if maximum == current {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => info!(before, now = maximum, "limit on descriptors raised"),
        Err(error) => warn!(before, ?maximum, %error, "cannot raise the limit on descriptors"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_gets_what_it_may_have() {
        let hard = getrlimit(Resource::Nofile).maximum;
        // Far above what the other tests of this process need.
        let low = Rlimit { current: Some(4096.min(hard.unwrap_or(4096))), maximum: hard };
        setrlimit(Resource::Nofile, low).unwrap();
        raise_descriptors();
        assert_eq!(getrlimit(Resource::Nofile), Rlimit { current: hard, maximum: hard });
    }
}
