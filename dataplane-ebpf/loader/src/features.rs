//! What the kernel can do for our programs, found out by trying each thing by itself.

use std::io;

use aya::programs::{ProgramError, ProgramType as AyaType};
use aya::sys::{BpfHelper, is_helper_supported};

use mizzen_ebpf_core::features::BpfFeature;

use crate::bpf::{self, AttachType, ProgramType};

/// The loopback link has this number in every network namespace.
const LOOPBACK: u32 = 1;

/// Tries it. Nothing stays.
///
/// # Errors
///
/// The kernel's, if it does not let us try: for want of rights, mostly.
pub fn probe_bpf_feature(feature: BpfFeature) -> io::Result<bool> {
    use BpfFeature as F;
    let address = ProgramType::CgroupSockAddr;
    match feature {
        F::ConnectPrograms => {
            let attach_types = [
                AttachType::Connect4,
                AttachType::Connect6,
                AttachType::Sendmsg4,
                AttachType::Sendmsg6,
                AttachType::Recvmsg4,
                AttachType::Recvmsg6,
            ];
            all(attach_types.map(|attach_type| bpf::try_program(address, Some(attach_type))))
        }
        F::PeerNamePrograms => all([AttachType::Getpeername4, AttachType::Getpeername6]
            .map(|attach_type| bpf::try_program(address, Some(attach_type)))),
        F::ReleasePrograms => {
            all([bpf::try_program(ProgramType::CgroupSock, Some(AttachType::SockRelease))])
        }
        F::SocketPrograms => all([bpf::try_program(ProgramType::SockOps, None)]),
        F::LinkPrograms => all([bpf::try_program(ProgramType::SchedCls, None)]),
        F::LruMaps => all([bpf::try_lru_map_create()]),
        F::NetworkCookies => helper(AyaType::CgroupSockAddr, BpfHelper::BPF_FUNC_get_netns_cookie),
        F::RedirectNeighbour => {
            helper(AyaType::SchedClassifier, BpfHelper::BPF_FUNC_redirect_neigh)
        }
        F::RedirectPeer => helper(AyaType::SchedClassifier, BpfHelper::BPF_FUNC_redirect_peer),
        F::ChosenErrors => helper(AyaType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval),
        F::Tcx => all([bpf::try_query(LOOPBACK, AttachType::TcxIngress)]),
    }
}

/// Whether all of it is known to the kernel.
fn all<const N: usize>(tried: [io::Result<()>; N]) -> io::Result<bool> {
    for tried in tried {
        match tried {
            Ok(()) => {}
            // What it does not know is an invalid argument, or one argument too many.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::E2BIG)) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn helper(program: AyaType, helper: BpfHelper) -> io::Result<bool> {
    is_helper_supported(program, helper).map_err(|error| match error {
        ProgramError::SyscallError(error) => error.io_error,
        other => io::Error::other(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_runs_these_tests_can_do_what_the_programs_need() {
        use BpfFeature as F;
        for feature in [
            F::ConnectPrograms,
            F::PeerNamePrograms,
            F::ReleasePrograms,
            F::SocketPrograms,
            F::LinkPrograms,
            F::LruMaps,
            F::NetworkCookies,
            F::RedirectNeighbour,
            F::RedirectPeer,
        ] {
            assert!(probe_bpf_feature(feature).unwrap(), "{feature:?}");
        }
    }

    #[test]
    fn what_no_kernel_knows_is_missing_and_not_an_error() {
        let invalid = || Err(io::Error::from_raw_os_error(libc::EINVAL));
        let forbidden = || Err(io::Error::from_raw_os_error(libc::EPERM));
        assert!(!all([Ok(()), invalid()]).unwrap());
        assert!(all([forbidden(), invalid()]).is_err());
    }
}
