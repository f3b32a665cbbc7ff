//! Packet in, packet out, verdict: programs run by the kernel without any network.
//!
//! `BPF_PROG_TEST_RUN` knows programs that work on packets. Those of cgroups and sockets it
//! does not know (`ENOTSUPP`, Linux 6.18 as well), so they are tested through what they are
//! for, by real sockets, in `dataplane-ebpf/loader/tests/kernel`:
//!
//! | program | runs on packets | tested by |
//! |---|---|---|
//! | `mizzen_ingress`, `mizzen_egress` | yes | this crate; `loader/tests/arriving` for whole flows |
//! | `mizzen_leave`, `mizzen_arrive` | yes | this crate; `loader/tests/overlay` for two nodes |
//! | `mizzen_sender`, `mizzen_tunnel`, `mizzen_receiver` | yes | this crate; `loader/tests/policy` for two nodes |
//! | `mizzen_connect4/6`, `sendmsg4/6`, `recvmsg4/6`, `getpeername4/6` | no | `connect`, `sendto` … in `loader/tests/kernel` |
//! | `mizzen_sockops` | no | connections that succeed, fail, hang |
//! | `mizzen_release` | no | sockets that are closed |
//!
//! How many instructions each program has is recorded beside the object, in
//! `dataplane-ebpf/prebuilt/manifest.json`, and compared by `cargo xtask build-ebpf --check`.

#![allow(clippy::expect_used, reason = "helpers of tests fail as tests do")]

pub mod frame;

use std::path::Path;

use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use mizzen_ebpf_abi::{maps, overlay, policy};

/// The committed objects.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../dataplane-ebpf/prebuilt/mizzen.bpf.o");
static OVERLAY: &[u8] =
    aya::include_bytes_aligned!("../../../dataplane-ebpf/prebuilt/overlay.bpf.o");
static POLICY: &[u8] = aya::include_bytes_aligned!("../../../dataplane-ebpf/prebuilt/policy.bpf.o");

/// What a program says about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on as if there were no program.
    Next,
    /// It is dropped.
    Drop,
    /// It leaves by a link without being routed.
    Redirect,
    /// Something that no program of ours may say.
    Other(u32),
}

/// Programs that work on the maps of a dataplane, or of an overlay's fast path.
pub struct Programs(Ebpf);

impl Programs {
    /// Loads the programs once more, over the maps that are pinned in `pins`.
    #[must_use]
    pub fn load(pins: &Path) -> Self {
        Self::load_object(OBJECT, pins, &maps::ALL, ["mizzen_ingress", "mizzen_egress"])
    }

    /// Likewise those of the overlay.
    #[must_use]
    pub fn load_overlay(pins: &Path) -> Self {
        Self::load_object(OVERLAY, pins, &overlay::maps::ALL, ["mizzen_leave", "mizzen_arrive"])
    }

    /// Likewise those of policies.
    #[must_use]
    pub fn load_policy(pins: &Path) -> Self {
        Self::load_object(POLICY, pins, &policy::maps::ALL, ["mizzen_sender", "mizzen_tunnel"])
    }

    fn load_object(object: &[u8], pins: &Path, maps: &[&str], programs: [&str; 2]) -> Self {
        let mut loader = EbpfLoader::new();
        for name in maps {
            loader.map_pin_path(name, pins.join(format!("map_{name}")));
        }
        let mut object = loader.load(object).expect("maps of the same layout");
        for name in programs {
            classifier(&mut object, name).load().expect("a program that the verifier takes");
        }
        Self(object)
    }

    /// Hands over a packet that comes in by a link.
    pub fn arrive(&mut self, packet: &[u8]) -> (Verdict, Vec<u8>) {
        self.run("mizzen_ingress", packet)
    }

    /// Hands over a packet that is about to leave by a link.
    pub fn depart(&mut self, packet: &[u8]) -> (Verdict, Vec<u8>) {
        self.run("mizzen_egress", packet)
    }

    /// Hands over a frame that a container sends.
    pub fn leave_container(&mut self, frame: &[u8]) -> (Verdict, Vec<u8>) {
        self.run("mizzen_leave", frame)
    }

    /// Hands over a frame that comes out of the tunnel.
    pub fn leave_tunnel(&mut self, frame: &[u8]) -> (Verdict, Vec<u8>) {
        self.run("mizzen_arrive", frame)
    }

    /// Hands over a frame that a container sends by the ordinary path.
    pub fn send(&mut self, frame: &[u8]) -> Verdict {
        self.run("mizzen_sender", frame).0
    }

    /// Hands over a frame that comes out of the tunnel by the ordinary path.
    pub fn emerge(&mut self, frame: &[u8]) -> Verdict {
        self.run("mizzen_tunnel", frame).0
    }

    fn run(&mut self, name: &str, packet: &[u8]) -> (Verdict, Vec<u8>) {
        let mut out = vec![0; packet.len() + ROOM];
        let options = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        };
        let result = classifier(&mut self.0, name).test_run(options).expect("a loaded program");
        out.truncate(result.data_size_out as usize);
        let verdict = match result.return_value {
            u32::MAX => Verdict::Next,
            2 => Verdict::Drop,
            7 => Verdict::Redirect,
            other => Verdict::Other(other),
        };
        (verdict, out)
    }
}

/// A program may make a packet longer by so much: an error quotes what it is about.
const ROOM: usize = 256;

fn classifier<'a>(object: &'a mut Ebpf, name: &str) -> &'a mut SchedClassifier {
    let program = object.program_mut(name).expect("a program of the object");
    program.try_into().expect("a program for links")
}
