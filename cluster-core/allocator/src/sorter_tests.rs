use super::*;

enum Op {
    Agent(&'static str),
    AgentGone(&'static str),
    /// Added and active.
    Add(&'static str),
    /// Added only.
    Idle(&'static str),
    Remove(&'static str),
    Activate(&'static str),
    Deactivate(&'static str),
    Weight(&'static str, f64),
    Take(&'static str, &'static str),
    Give(&'static str, &'static str),
    Order(&'static [&'static str]),
}
use Op::*;

fn resources(text: &str) -> Resources {
    Resources::parse(text).unwrap()
}

fn run(name: &str, ops: &[Op]) -> (Sorter, Total) {
    let (mut sorter, mut total) = (Sorter::default(), Total::default());
    for (at, op) in ops.iter().enumerate() {
        match op {
            Agent(text) => total.add(&Quantities::parse(text).unwrap()),
            AgentGone(text) => total.subtract(&Quantities::parse(text).unwrap()),
            Add(client) => {
                sorter.add(client);
                sorter.activate(client);
            }
            Idle(client) => sorter.add(client),
            Remove(client) => sorter.remove(client),
            Activate(client) => sorter.activate(client),
            Deactivate(client) => sorter.deactivate(client),
            Weight(path, weight) => {
                sorter.set_weight(path, crate::Weight::from_f64(*weight).unwrap());
            }
            Take(client, text) => sorter.allocated(client, "agent", &resources(text)),
            Give(client, text) => sorter.unallocated(client, "agent", &resources(text)),
            Order(want) => {
                let order = sorter.order(&total);
                let order: Vec<&str> = order.iter().map(AsRef::as_ref).collect();
                assert_eq!(order, *want, "{name}, step {at}");
            }
        }
    }
    (sorter, total)
}

#[test]
fn the_smallest_dominant_share_is_first() {
    #[rustfmt::skip]
    run("flat", &[
        Agent("cpus:100;mem:100"), Order(&[]),
        Add("a"), Take("a", "cpus:5;mem:5"), Add("b"), Take("b", "cpus:6;mem:6"), Order(&["a", "b"]),
        Add("c"), Take("c", "cpus:1;mem:1"), Add("d"), Take("d", "cpus:3;mem:1"), Order(&["c", "d", "a", "b"]),
        Remove("a"), Give("b", "cpus:4;mem:4"), Order(&["c", "b", "d"]),
        Add("e"), Take("e", "cpus:1;mem:5"),
        AgentGone("cpus:100;mem:100"), Agent("cpus:50;mem:100"), Order(&["c", "b", "e", "d"]),
        Deactivate("b"), Order(&["c", "e", "d"]), Activate("b"), Order(&["c", "b", "e", "d"]),
    ]);
}

#[test]
fn weights_divide_shares() {
    #[rustfmt::skip]
    run("weights", &[
        Agent("cpus:100;mem:100"),
        Add("a"), Take("a", "cpus:5;mem:5"), Add("b"), Weight("b", 2.0), Take("b", "cpus:6;mem:6"), Order(&["b", "a"]),
        Add("c"), Take("c", "cpus:4;mem:4"), Order(&["b", "c", "a"]),
        Add("d"), Weight("d", 10.0), Take("d", "cpus:10;mem:20"), Order(&["d", "b", "c", "a"]),
        Remove("b"), Order(&["d", "c", "a"]), Take("d", "cpus:10;mem:25"), Order(&["c", "d", "a"]),
        Add("e"), Weight("e", 0.1), Take("e", "cpus:1;mem:1"), Order(&["c", "d", "a", "e"]),
    ]);
}

#[test]
fn equals_are_served_in_turn_and_then_by_name() {
    #[rustfmt::skip]
    run("ties", &[
        Agent("cpus:10"), Add("b"), Add("a"), Order(&["a", "b"]),
        Take("a", "cpus:1"), Give("a", "cpus:1"), Order(&["b", "a"]),
        Take("b", "cpus:1"), Give("b", "cpus:1"), Order(&["a", "b"]),
        Take("a", "cpus:1"), Give("a", "cpus:1"), Remove("a"), Add("a"), Order(&["a", "b"]),
        Take("a", "ports:[1-2]"), Order(&["a", "b"]),
    ]);
}

#[test]
fn roles_compete_with_their_siblings() {
    #[rustfmt::skip]
    run("tree", &[
        Agent("cpus:100;mem:100"),
        Add("a"), Take("a", "cpus:5"), Add("b/x"), Take("b/x", "cpus:6"), Add("b/y"), Take("b/y", "cpus:1"),
        Order(&["a", "b/y", "b/x"]),
        // `a` becomes a leaf below its own node and competes with `a/c`.
        Add("a/c"), Order(&["a/c", "a", "b/y", "b/x"]),
        Take("a/c", "cpus:6"), Order(&["b/y", "b/x", "a", "a/c"]),
        // The weight of `a` is that of the whole branch, the leaf keeps 1.
        Weight("a", 2.0), Order(&["a", "a/c", "b/y", "b/x"]),
        Take("b/y", "cpus:1"), Take("a", "cpus:3"), Order(&["a/c", "a", "b/y", "b/x"]),
        Remove("a/c"), Order(&["a", "b/y", "b/x"]),
        Remove("b/x"), Remove("b/y"), Order(&["a"]), Add("b"), Order(&["b", "a"]),
    ]);
}

#[test]
fn a_client_added_above_others_gets_its_own_leaf() {
    #[rustfmt::skip]
    let (sorter, _) = run("above", &[
        Agent("cpus:10"), Add("a/b"), Take("a/b", "cpus:2"), Idle("a"), Order(&["a/b"]),
        Activate("a"), Order(&["a", "a/b"]), Take("a", "cpus:4"), Order(&["a/b", "a"]),
        Remove("a"), Order(&["a/b"]), Add("a"), Remove("a/b"), Order(&["a"]), Take("a", "cpus:1"),
    ]);
    assert_eq!(*sorter.quantities("a").unwrap(), Quantities::parse("cpus:1").unwrap());
    assert_eq!(*sorter.quantities("").unwrap(), Quantities::parse("cpus:1").unwrap());
    assert_eq!(sorter.len(), 1);
}

#[test]
fn shares_are_those_of_the_paper() {
    let (sorter, total) = run(
        "paper",
        &[
            Agent("cpus:9;mem:18"),
            Add("A"),
            Add("B"),
            Take("A", "cpus:3;mem:12"),
            Take("B", "cpus:6;mem:2"),
        ],
    );
    assert_eq!(sorter.share("A", &total), sorter.share("B", &total));
}

#[test]
fn shared_volumes_count_once_per_agent() {
    use mizzen_types::resources::{Disk, Persistence, Reservation};
    let mut volume = resources("disk:10").iter().next().unwrap().clone();
    volume.reservations = vec![Reservation::fixed("role")];
    let persistence = Some(Persistence { id: "1".into(), principal: None });
    volume.disk = Some(Box::new(Disk { persistence, ..Disk::default() }));
    volume.shared = true;
    let volume: Resources = [volume].into_iter().collect();

    let (mut sorter, _) = run("shared", &[Agent("disk:100"), Add("a/x"), Add("a/y")]);
    let disk = |sorter: &Sorter, path| sorter.quantities(path).unwrap().to_string();
    sorter.allocated("a/x", "one", &volume);
    sorter.allocated("a/y", "one", &volume);
    sorter.allocated("a/y", "two", &volume);
    assert_eq!(disk(&sorter, "a"), "disk:20");
    sorter.unallocated("a/x", "one", &volume);
    assert_eq!((disk(&sorter, "a"), disk(&sorter, "a/x")), ("disk:20".into(), String::new()));
    sorter.unallocated("a/y", "one", &volume);
    assert_eq!(disk(&sorter, "a"), "disk:10");
}

/// Moving single nodes must end in the same order as sorting everything.
#[test]
fn moving_and_sorting_agree() {
    use mizzen_types::random::Dice;
    for seed in 0..50 {
        let mut dice = Dice::new(seed);
        let (mut moved, mut total) = (Sorter::default(), Total::default());
        total.add(&Quantities::parse("cpus:1000;mem:1000").unwrap());
        let clients = ["a", "a/b", "a/c", "d", "d/e/f", "g", "h", "*"];
        for step in 0..200 {
            let client = clients[dice.below(clients.len())];
            let amount = resources(&format!("cpus:{};mem:{}", dice.below(9), dice.below(9)));
            match dice.below(10) {
                0 => moved.remove(client),
                1 | 2 => {
                    moved.add(client);
                    moved.activate(client);
                }
                3 => {
                    let held = moved.held(client).and_then(|held| held.get("x")).cloned();
                    if let Some(held) = held {
                        moved.unallocated(client, "x", &held);
                    }
                }
                _ => moved.allocated(client, "x", &amount),
            }
            let order = moved.order(&total);
            moved.forget_order();
            assert_eq!(order, moved.order(&total), "seed {seed}, step {step}");
        }
    }
}
