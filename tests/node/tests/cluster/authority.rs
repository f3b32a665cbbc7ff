//! The one authority of a cluster, and what becomes of its nodes when its state is an old one.

use super::faults::shell;
use super::health::problems;
use super::{again, await_listed, first, id, joining, token};
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, eventually, in_lab_of};

/// A copy of a node's state as it is now; the node does not run.
fn back_up(place: &Place) {
    shell(place, "cp -a \"$MIZZEN_STATE_DIR\" \"$MIZZEN_STATE_DIR.old\"");
}

/// Puts the copy in the place of what there is.
fn restore(place: &Place) {
    let words = "rm -r \"$MIZZEN_STATE_DIR\" && mv \"$MIZZEN_STATE_DIR.old\" \"$MIZZEN_STATE_DIR\"";
    shell(place, words);
}

/// How often a node got another certificate since it began.
fn renewals(node: &Node) -> usize {
    node.place().log().matches("certificate was renewed").count()
}

#[test]
fn an_authority_from_an_old_backup_renews_certificates_of_those_that_came_in_later() {
    in_lab_of(3, || {
        // A third of it is left whenever the authority goes: time enough for it to come back.
        let flags = ["--cluster-certificate-life", "36s"];
        let mut one = first(&flags);
        let used = token(&one, 2);
        one.stop();
        back_up(&one.place());
        let mut one = first(&flags);
        let mut two = joining(2, "two", &used).start();
        await_listed(&one, &[("one", "alive"), ("two", "alive")]);
        let known = id(&one, "two");
        let before = renewals(&two);
        one.kill();
        restore(&one.place());

        // Its signature counts as before, so both speak with each other, and others join.
        let one = first(&flags);
        for node in [&one, &two] {
            await_listed(node, &[("one", "alive"), ("two", "alive")]);
        }
        let three = joining(3, "three", &token(&one, 1)).start();
        await_listed(&three, &[("one", "alive"), ("three", "alive"), ("two", "alive")]);
        // Whose certificate counts is known again by it.
        eventually("the second node has another certificate", SOON * 2, || {
            (renewals(&two) > before).then_some(())
        });
        assert!(one.place().log().contains("is known again"));
        assert_eq!(two.problems(), [] as [&str; 0]);
        assert_eq!(id(&one, "two"), known);
        two.stop();
        let two = again(2, "two", &[]).start();
        await_listed(&two, &[("one", "alive"), ("three", "alive"), ("two", "alive")]);
    });
}

/// Its certificate counts still, and the authority's backup knows neither it nor that it was
/// thrown out.
#[test]
fn who_was_expelled_stays_out_of_a_cluster_whose_authority_has_forgotten_it() {
    in_lab_of(3, || {
        let mut one = first(&[]);
        let used = token(&one, 2);
        one.stop();
        back_up(&one.place());
        let mut one = first(&[]);
        let two = joining(2, "two", &used).start();
        let mut three = joining(3, "three", &used).start();
        await_listed(&one, &[("one", "alive"), ("three", "alive"), ("two", "alive")]);
        three.stop();
        back_up(&three.place());
        let three = again(3, "three", &[]).start();
        let all = [("one", "alive"), ("three", "alive"), ("two", "alive")];
        await_listed(&one, &all);
        let said = one.mizzen(&["expel", "three"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        await_listed(&two, &[("one", "alive"), ("two", "alive")]);
        let place = three.place();
        drop(three);
        restore(&place);
        one.kill();
        restore(&one.place());

        // The others tell it what it issued since.
        let one = first(&[]);
        await_listed(&one, &[("one", "alive"), ("two", "alive")]);
        one.await_log(&["the authority expelled a node"]);
        let three = again(3, "three", &[]).start();
        eventually("it is told that it was expelled", SOON, || {
            three.problems().iter().any(|text| text.contains("was expelled")).then_some(())
        });
        for node in [&one, &two] {
            await_listed(node, &[("one", "alive"), ("two", "alive")]);
        }
    });
}

/// Others know what it said in two starts that it has forgotten.
#[test]
fn a_node_with_an_old_state_says_so_until_its_next_start() {
    in_lab_of(2, || {
        let mut one = first(&[]);
        let used = token(&one, 1);
        one.stop();
        back_up(&one.place());
        let mut one = first(&[]);
        let two = joining(2, "two", &used).start();
        let both = [("one", "alive"), ("two", "alive")];
        await_listed(&one, &both);
        one.stop();
        let mut one = first(&[]);
        await_listed(&one, &both);
        assert_eq!(one.problems(), [] as [&str; 0]);
        one.kill();
        restore(&one.place());

        let mut one = first(&[]);
        let is_old = |text: &String| text.contains("older than what other nodes have heard");
        eventually("the other node tells", SOON, || {
            problems(&two, "one").iter().any(is_old).then_some(())
        });
        assert!(one.problems().iter().any(|text| is_old(text) && text.contains("apps")));
        one.stop();
        let one = first(&[]);
        await_listed(&one, &both);
        assert_eq!(one.problems(), [] as [&str; 0]);
    });
}
