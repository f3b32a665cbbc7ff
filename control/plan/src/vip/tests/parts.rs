//! What some backends of a VIP are now, and what all of it is.

use super::*;
use mizzen_types::vip::VipSpec;
use mizzen_types::vip_service::VipServiceFact;

const STEPS: usize = 3_000;

/// VIPs as somebody knows them who is told what changed.
#[derive(Default)]
struct Told {
    vips: BTreeMap<VipKey, VipSpec>,
    /// VIPs that changed by some backends.
    parts: usize,
}

impl Told {
    fn follow(&mut self, planner: &Planner, effects: &Effects) {
        for vip in &effects.changed {
            if let (Some(touched), Some(known)) =
                (effects.backends.get(vip), self.vips.get_mut(vip))
                && let Some(now) = planner.backends(vip, touched)
            {
                self.parts += 1;
                known.policy = now.policy;
                for (address, now) in now.backends {
                    known.backends.retain(|backend| backend.address != address);
                    known.backends.extend(now);
                }
                known.backends.sort_by_key(|backend| backend.address);
                continue;
            }
            match planner.spec(vip) {
                Some(spec) => drop(self.vips.insert(*vip, spec)),
                None => drop(self.vips.remove(vip)),
            }
        }
    }
}

/// The same numbers in each run.
struct Chance(u64);

impl Chance {
    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        all[(self.0 >> 33) as usize % all.len()]
    }
}

#[test]
fn whoever_follows_some_backends_knows_all() {
    let (mut planner, mut told, mut chance) = (planner(), Told::default(), Chance(5));
    for step in 0..STEPS {
        let effects = change(&mut planner, &mut chance);
        told.follow(&planner, &effects);
        assert_eq!(told.vips, planner.specs(), "step {step}");
    }
    assert!(told.parts > STEPS / 2, "{}", told.parts);
}

/// Tasks and services that share names, addresses and backends; also of two families.
fn change(planner: &mut Planner, chance: &mut Chance) -> Effects {
    let owner = chance.of(&["n1", "n2", "n3"]);
    if chance.of(&[0, 1, 2, 3, 4]) == 0 {
        let id = chance.of(&["web.marathon:80/tcp", "11.169.34.66:80/tcp", "11.1.1.1:80/tcp"]);
        let key = Key::VipService(id.parse().unwrap());
        let backends = chance.of(&[
            &[][..],
            &["9.0.0.2:8080@5"],
            &["9.0.0.3:8080@0", "192.0.2.7:80"],
            &["[fd00::1]:80", "9.0.0.2:8080"],
        ]);
        let backends = backends.iter().map(|text| text.parse().unwrap()).collect();
        let fact = Fact::VipService(VipServiceFact { backends, ..VipServiceFact::default() });
        let fact = Some(fact).filter(|_| chance.of(&[true, true, false]));
        return planner.apply(&owner.into(), &key, fact.as_ref());
    }
    let id = chance.of(&["a", "bb", "ccc", "dddd", "eeeee"]);
    if chance.of(&[0, 1, 2, 3]) == 0 {
        return put_on(planner, owner, id, None);
    }
    let mut task = task(id, chance.of(&["/web:80", "11.169.34.66:80", "11.1.1.1:80", "/other:80"]));
    let container = chance.of(&["9.0.0.2", "9.0.0.3", "9.0.0.4", "fd00::1", "fd00::2"]);
    task.container_addresses = vec![container.parse().unwrap()];
    task.health = chance.of(&[Health::Unchecked, Health::Healthy, Health::Unhealthy]);
    let rule = chance.of(&[None, None, Some("maglev"), Some("random")]);
    if let Some(rule) = rule {
        task.labels.insert("l4lb-rule".into(), rule.into());
    }
    put_on(planner, owner, id, Some(&task))
}
