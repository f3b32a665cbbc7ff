//! Clients of one balancer, and the balancer.

use super::Bench;
use super::node::{self, Engine, Node};
use super::peers::{self, Kind, Peer};
use super::stage::{self, Route, Service, Stage};
use crate::generator::{Generator, Seat, Targets};
use crate::network::Namespace;
use crate::process::{self, Cores};
use crate::report::Report;
use crate::sandbox::{self, Sandbox};
use anyhow::Result;
use std::path::PathBuf;
use std::rc::Rc;

/// What is between clients and backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Between {
    /// Nothing: this is what 1.000 means.
    Nothing,
    /// Nothing, once more: this is the noise.
    Control,
    /// A node of ours.
    Mizzen(Engine),
    /// Another balancer.
    Peer(Kind),
}

impl Between {
    /// As it is called in figures.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "direct",
            Self::Control => "control",
            Self::Mizzen(Engine::Ebpf) => "mizzen ebpf",
            Self::Mizzen(Engine::Nfqueue) => "mizzen nfqueue",
            Self::Peer(kind) => kind.name(),
        }
    }
}

/// A balancer with its services.
enum Balancer {
    None,
    Node(Box<Node>),
    Peer(Peer),
}

/// Where a balancer's clients are.
pub(super) struct Contestant {
    pub between: Between,
    /// Where clients must run.
    pub cgroup: PathBuf,
    pub network: Rc<Namespace>,
    balancer: Balancer,
}

impl Contestant {
    /// Makes what `between` needs and lets it serve. `plain` is a network without
    /// rules, for all who leave their network alone.
    pub(super) fn enter(
        between: Between,
        sandbox: &Sandbox,
        stage: &Stage,
        plain: &Rc<Namespace>,
        services: &[Service],
    ) -> Result<Self> {
        let cgroup = stage::clients_of(sandbox, &between.name().replace(' ', "-"))?;
        let mut network = Rc::clone(plain);
        let balancer = match between {
            Between::Nothing | Between::Control => Balancer::None,
            Between::Mizzen(engine) => {
                if engine == Engine::Nfqueue {
                    network = Rc::new(stage.client(Route::Out)?);
                }
                let own = (engine == Engine::Nfqueue).then_some(&*network);
                let node = Node::start(sandbox, engine, own, &cgroup)?;
                services.iter().try_for_each(|service| node.set(service, &[]))?;
                if own.is_some() {
                    network.tune()?;
                }
                Balancer::Node(Box::new(node))
            }
            Between::Peer(kind) => {
                network = Rc::new(stage.client(kind.route())?);
                Balancer::Peer(peers::start(kind, sandbox, &network, services)?)
            }
        };
        Ok(Self { between, cgroup, network, balancer })
    }

    /// A generator among its clients.
    pub(super) fn generator(&self) -> Result<Generator> {
        let seat = Seat { cgroup: &self.cgroup, network: Some(&self.network) };
        Generator::start(seat, sandbox::core())
    }

    /// Where its clients connect to for `service`.
    pub(super) fn targets(&self, service: &Service) -> Targets {
        match self.between {
            Between::Nothing | Between::Control => service.direct(),
            Between::Mizzen(_) | Between::Peer(_) => service.vip.into(),
        }
    }

    /// Its node, if there is one.
    pub(super) fn node(&self) -> Option<&Node> {
        match &self.balancer {
            Balancer::Node(node) => Some(node),
            _ => None,
        }
    }

    /// Which cores its balancer may use.
    pub(super) fn hold(&self, cores: Cores) -> Result<()> {
        match &self.balancer {
            Balancer::None => Ok(()),
            Balancer::Node(node) => process::hold(&node.cgroup, cores),
            Balancer::Peer(peer) => process::hold(&peer.cgroup, cores),
        }
    }
}

/// All that can take part. Others are named in the report; of ours only those that
/// this build does not have.
pub(super) fn enter_all(
    all: &[Between],
    bench: &Bench,
    stage: &Stage,
    services: &[Service],
    report: &mut Report,
) -> Result<Vec<Contestant>> {
    let sandbox = &bench.sandbox;
    let plain = Rc::new(stage.client(Route::None)?);
    let mut contestants = Vec::new();
    for between in all.iter().copied().filter(|between| bench.has(between.name())) {
        if let Between::Mizzen(Engine::Nfqueue) = between
            && let Err(error) = node::knows(Engine::Nfqueue)
        {
            report.missing(between.name(), &error);
            continue;
        }
        match Contestant::enter(between, sandbox, stage, &plain, services) {
            Ok(contestant) => contestants.push(contestant),
            Err(error) if matches!(between, Between::Peer(_)) => {
                report.missing(between.name(), &error);
            }
            Err(error) => return Err(error.context(between.name())),
        }
    }
    Ok(contestants)
}
