//! A node's balancer without the daemon around it: what is wanted, and the kernel that gets it.

use super::stage::Service;
use crate::network::Namespace;
use crate::sandbox::Sandbox;
use anyhow::{Context, Result};
use mizzen_kernel::vips::{Options, QueueOptions, Tuning, Vips};
use mizzen_plan::vip::{Claims, Effects, Planner};
use mizzen_types::fact::{Fact, Health, Key, PortFact, Reach, TaskFact, TaskPhase};
use mizzen_types::ids::{FrameworkId, OwnerId};
use mizzen_types::time::Wall;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where facts come from: another node.
const OWNER: &str = "other";

/// Whose tasks are behind the VIPs.
const FRAMEWORK: &str = "bench";

/// Plan and kernel. What is in the kernel goes when it is dropped.
pub(super) struct Desired<'a> {
    planner: Planner,
    vips: Vips,
    /// Where the kernel's part is, if not here.
    network: Option<&'a Namespace>,
    options: Option<Options>,
}

impl<'a> Desired<'a> {
    /// Programs for the processes in the cgroup of `name`.
    pub(super) fn by_programs(sandbox: &Sandbox, name: &str) -> Result<Self> {
        let options = Options {
            pin_dir: PathBuf::from("/sys/fs/bpf").join(format!("bench-{name}")),
            cgroup: sandbox.cgroup(name)?,
            tuning: Tuning::default(),
        };
        let vips = Vips::open(&options).context("cannot load the programs")?;
        Ok(Self { planner: planner()?, vips, network: None, options: Some(options) })
    }

    /// Queues for the packets of a network, which go with the network.
    pub(super) fn by_queues(network: &'a Namespace) -> Result<Self> {
        let options = QueueOptions {
            table: "bench-vips".to_owned(),
            queues: 50..=58,
            group: 50,
            networks: Vec::new(),
            addresses: network.address().into_iter().collect(),
            masquerade: Vec::new(),
            tuning: Tuning::default(),
        };
        let open = || Vips::open_queues(&options).context("cannot have packets queued");
        let vips = network.within(open)?;
        Ok(Self { planner: planner()?, vips, network: Some(network), options: None })
    }

    /// Has tasks stand behind these services, and all of it brought into the kernel.
    pub(super) fn load(&mut self, services: &[Service]) -> Result<()> {
        for service in services {
            for place in 0..service.backends.len() {
                let (key, fact) = task(service, place);
                self.planner.apply(&owner(), &key, Some(&fact));
            }
        }
        let specs = self.planner.specs();
        let vips = &mut self.vips;
        let mut reconcile = || match vips.reconcile(&specs).into_iter().next() {
            Some(refused) => Err(refused).context("the kernel refuses"),
            None => Ok(()),
        };
        match self.network {
            Some(network) => network.within(reconcile),
            None => reconcile(),
        }
    }

    /// Does what a node does when a task says something new.
    pub(super) fn take_in(&mut self, (key, fact): &(Key, Fact)) -> Result<()> {
        let effects = self.planner.apply(&owner(), key, Some(fact));
        anyhow::ensure!(!effects.changed.is_empty(), "nothing is new about {key:?}");
        self.bring(&effects)
    }

    fn bring(&mut self, effects: &Effects) -> Result<()> {
        for vip in &effects.changed {
            if let Some(touched) = effects.backends.get(vip)
                && let Some(now) = self.planner.backends(vip, touched)
                && self.vips.change(vip, &now)?
            {
                continue;
            }
            match self.planner.spec(vip) {
                Some(spec) => self.vips.set(&spec)?,
                None => self.vips.remove(vip)?,
            }
        }
        Ok(())
    }
}

impl Drop for Desired<'_> {
    fn drop(&mut self) {
        self.vips = Vips::Off;
        if let Some(options) = &self.options {
            let _ = mizzen_kernel::vips::teardown(options);
        }
    }
}

fn planner() -> Result<Planner> {
    Ok(Planner::new(Claims::new("11.0.0.0/8".parse()?), "here".into()))
}

fn owner() -> OwnerId {
    OWNER.into()
}

/// What the task says that is the backend at this place of a service.
pub(super) fn task(service: &Service, place: usize) -> (Key, Fact) {
    let backend = service.backends[place];
    let id = format!("task.{}.{place}", service.vip);
    let fact = TaskFact {
        task_id: id.as_str().into(),
        framework_id: FRAMEWORK.into(),
        framework_name: FRAMEWORK.into(),
        agent_id: "agent".into(),
        container_id: id.as_str().into(),
        name: "task".into(),
        discovery_name: None,
        phase: TaskPhase::Running,
        health: Health::Unchecked,
        host_address: backend.ip(),
        container_addresses: Vec::new(),
        container_reach: Reach::Cluster,
        host_ports: vec![backend.port()],
        ports: vec![port(service.vip, backend)],
        labels: BTreeMap::new(),
        launched: Wall(0),
    };
    let framework: FrameworkId = FRAMEWORK.into();
    (Key::Task(framework, id.as_str().into()), Fact::Task(Box::new(fact)))
}

fn port(vip: SocketAddr, backend: SocketAddr) -> PortFact {
    PortFact {
        number: backend.port(),
        host_port: Some(backend.port()),
        name: None,
        protocol: "tcp".to_owned(),
        labels: [("VIP_0".to_owned(), vip.to_string())].into(),
    }
}
