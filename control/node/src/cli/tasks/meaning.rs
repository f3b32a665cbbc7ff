//! How a task is named on the command line.

use super::Lists;

/// What a word on the command line can mean, the first of these that fits.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A task, by its whole id.
    Task(String),
    /// An app, as ids of its tasks have it: with `_` for `/`.
    App(String),
    /// The beginning of an id.
    Beginning(String),
}

impl Meaning {
    /// What `word` means where these tasks are known.
    pub fn of(word: &str, lists: &Lists) -> Self {
        if lists.all().any(|task| task.id == word) {
            return Self::Task(word.to_owned());
        }
        let app = as_in_ids(word);
        let absolute = word.starts_with('/');
        if absolute || lists.all().any(|task| own_id(&task.id).is_some_and(|own| own.app == app)) {
            return Self::App(app);
        }
        Self::Beginning(word.to_owned())
    }

    /// Whether it means the task with this id.
    pub fn includes(&self, id: &str) -> bool {
        match self {
            Self::Task(task) => task == id,
            Self::App(app) => own_id(id).is_some_and(|own| own.app == app),
            Self::Beginning(word) => begins(id, word),
        }
    }
}

/// An app's name in the ids of its tasks.
pub(super) fn as_in_ids(app: &str) -> String {
    app.trim_matches('/').replace('/', "_")
}

/// Whether `word` is a beginning of `id` that means no more than it says: `con1` is none
/// of `con10.instance-…`. Of an app's task it names the whole app and some of what
/// distinguishes the task, where `instance-` may be left out; of others it ends where
/// a word ends.
fn begins(id: &str, word: &str) -> bool {
    if word.is_empty() {
        return false;
    }
    if let Some(own) = own_id(id) {
        let rest = word.strip_prefix(own.app).and_then(|rest| rest.strip_prefix('.'));
        return rest.is_some_and(|rest| own.instance.starts_with(rest))
            || (rest.is_some() && id.starts_with(word));
    }
    let ends_word = |c: char| !c.is_ascii_alphanumeric();
    id.strip_prefix(word)
        .is_some_and(|rest| rest.starts_with(ends_word) || word.ends_with(ends_word))
}

/// The parts of an id that the service scheduler made:
/// `shop_cart.instance-<uuid>._app.1`.
struct OwnId<'a> {
    app: &'a str,
    instance: &'a str,
}

fn own_id(id: &str) -> Option<OwnId<'_>> {
    let (app, rest) = id.rsplit_once(".instance-")?;
    let (instance, attempt) = rest.split_once("._app.")?;
    let number = !attempt.is_empty() && attempt.bytes().all(|b| b.is_ascii_digit());
    (number && instance.len() == 36).then_some(OwnId { app, instance })
}

/// An id as people can tell it from others at a glance, and type it.
pub(in crate::cli) fn short(id: &str) -> String {
    match own_id(id) {
        Some(own) => format!("{}.{:.8}", own.app, own.instance),
        None => id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const WEB: &str = "web.instance-8d5f0000-0000-4000-8000-000000000001._app.1";
    const WEB_TOO: &str = "web.instance-8d5f1111-0000-4000-8000-000000000002._app.1";
    const WEBS: &str = "webs.instance-77770000-0000-4000-8000-000000000003._app.1";
    const DOTTED: &str = "web.api.instance-66660000-0000-4000-8000-000000000004._app.1";
    const GROUP: &str = "group_db.instance-55550000-0000-4000-8000-000000000005._app.1";
    const KAFKA: &str = "kafka-0__1234";
    const KAFKA_TEN: &str = "kafka-10__5678";

    fn lists(ids: &[&str]) -> Lists {
        let row = |id: &&str| json!({"id": id, "framework": "f", "state": "TASK_RUNNING"});
        let rows = ids.iter().map(row).collect();
        Lists { current: serde_json::from_value(rows).unwrap(), ended: Vec::new() }
    }

    #[test]
    fn which_tasks_are_meant() {
        let all = [WEB, WEB_TOO, WEBS, DOTTED, GROUP, KAFKA, KAFKA_TEN];
        #[rustfmt::skip]
        let table: &[(&str, &[&str])] = &[
            (WEB,                 &[WEB]),
            ("/web",              &[WEB, WEB_TOO]),
            ("web",               &[WEB, WEB_TOO]),
            ("webs",              &[WEBS]),
            ("/group/db",         &[GROUP]),
            ("group/db",          &[GROUP]),
            ("group_db",          &[GROUP]),
            ("web.api",           &[DOTTED]),
            ("web.8d5f",          &[WEB, WEB_TOO]),
            ("web.8d5f1",         &[WEB_TOO]),
            ("web.instance-8d5f0", &[WEB]),
            ("web.",              &[WEB, WEB_TOO]),
            ("kafka",             &[KAFKA, KAFKA_TEN]),
            ("kafka-0",           &[KAFKA]),
            ("kafka-10__",        &[KAFKA_TEN]),
            ("kafka-1",           &[]),
            ("we",                &[]),
            ("group",             &[]),
            ("/kafka",            &[]),
            ("8d5f",              &[]),
            ("nothing",           &[]),
            ("/",                 &[]),
            ("",                  &[]),
        ];
        let lists = lists(&all);
        for (word, want) in table {
            let meaning = Meaning::of(word, &lists);
            let found: Vec<&str> = all.into_iter().filter(|id| meaning.includes(id)).collect();
            assert_eq!(found, *want, "{word}");
        }
    }

    #[test]
    fn an_app_without_tasks_is_none_of_another_ones() {
        let lists = lists(&[WEBS, DOTTED]);
        for word in ["web", "/web"] {
            let meaning = Meaning::of(word, &lists);
            assert!(lists.all().all(|task| !meaning.includes(&task.id)), "{word}");
        }
    }

    #[test]
    fn a_short_id_leads_back() {
        assert_eq!(short(WEB), "web.8d5f0000");
        assert!(begins(WEB, &short(WEB)) && !begins(WEB_TOO, &short(WEB)));
        assert_eq!(short(KAFKA), KAFKA);
    }
}
