//! Some backends of a service changed: the others are taken from what balances, not from the plan.

use super::{BackendWanted, VipWanted, Vips, VipsError, address, backend, queues, wanted_by};
use mizzen_ebpf_loader::Distance;
use mizzen_plan::vip::VipBackends;
use mizzen_types::vip::VipKey;
use std::collections::BTreeMap;
use std::net::SocketAddr;

impl Vips {
    /// Changes some backends of one service, and how one of all is chosen. Returns whether there is
    /// such a service; if not, it has to be [set](Vips::set).
    ///
    /// # Errors
    ///
    /// [`VipsError`] if the kernel refuses; the service is then what it was, but that some of this may be done.
    pub fn change(&mut self, vip: &VipKey, now: &VipBackends) -> Result<bool, VipsError> {
        let at = address(vip);
        let plain = |at: &SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
        let touched: BTreeMap<SocketAddr, Option<BackendWanted>> = now
            .backends
            .iter()
            .map(|(address, now)| {
                let address = plain(address);
                (address, now.as_ref().map(|now| BackendWanted { address, ..backend(now) }))
            })
            .collect();
        let policy = wanted_by(&now.policy, Vec::new());
        let is_done = match self {
            Self::Ebpf(dataplane) => dataplane.change_vip(at, &policy, &touched)?,
            Self::Queues(engine) => engine.change(at, queues::policy(&policy), &touched),
            Self::Off => true,
        };
        if is_done {
            return Ok(true);
        }
        let present = match self {
            Self::Ebpf(dataplane) => dataplane.wish(at)?.map(|wish| wish.backends),
            Self::Queues(engine) => engine.wish(at).map(|wish| wish.backends),
            Self::Off => return Ok(true),
        };
        let Some(mut backends) = present else { return Ok(false) };
        for (address, now) in touched {
            put(&mut backends, address, now);
        }
        let wanted = VipWanted { backends, ..policy };
        match self {
            Self::Ebpf(dataplane) => dataplane.set_vip(at, &wanted)?,
            Self::Queues(engine) => engine.set_vip(&queues::in_words(at, wanted))?,
            Self::Off => {}
        }
        Ok(true)
    }
}

/// Makes the backend at an address what it is now; the order stays that of a run.
fn put(backends: &mut Vec<BackendWanted>, at: SocketAddr, now: Option<BackendWanted>) {
    let former = backends.iter().position(|backend| backend.address == at);
    match (former, now) {
        (Some(index), Some(now)) if order(&backends[index]) == order(&now) => backends[index] = now,
        _ => {
            if let Some(index) = former {
                backends.remove(index);
            }
            if let Some(now) = now {
                let place = backends.partition_point(|other| order(other) < order(&now));
                backends.insert(place, now);
            }
        }
    }
}

/// The open ones come first, and of these the nearest.
fn order(backend: &BackendWanted) -> (bool, Distance, SocketAddr) {
    (!backend.is_open(), backend.distance, backend.address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizzen_ebpf_loader::Admission;

    #[test]
    fn a_backend_comes_to_its_place_and_goes() {
        let backend = |last: u8, distance| {
            let address = SocketAddr::from(([10, 0, 0, last], 80));
            BackendWanted { distance, ..BackendWanted::new(address) }
        };
        let (near, far) = (Distance::Node, Distance::Far);
        let mut backends = vec![backend(5, near), backend(2, far), backend(7, far)];
        let addresses = |backends: &[BackendWanted]| -> Vec<u8> {
            let last = |backend: &BackendWanted| match backend.address {
                SocketAddr::V4(address) => address.ip().octets()[3],
                SocketAddr::V6(_) => 0,
            };
            backends.iter().map(last).collect()
        };
        let mut step = |now: BackendWanted, want: &[u8]| {
            put(&mut backends, now.address, Some(now));
            assert_eq!(addresses(&backends), want);
        };
        step(backend(4, far), &[5, 2, 4, 7]);
        step(BackendWanted { weight: 9, ..backend(4, far) }, &[5, 2, 4, 7]);
        step(backend(7, near), &[5, 7, 2, 4]);
        step(BackendWanted { admission: Admission::Withheld, ..backend(5, near) }, &[7, 2, 4, 5]);
        put(&mut backends, backend(2, far).address, None);
        put(&mut backends, backend(99, far).address, None);
        assert_eq!(addresses(&backends), [7, 4, 5]);
    }
}
