//! `mizzen vips`.

use super::error::CliError;
use super::session::{Session, print, print_json, understand};
use super::table::{Field, Paint, Tone, number, plain, render as table, toned};
use super::vip_plan;
use crate::args::VipsArgs;
use serde::Deserialize;

/// A VIP with its backends.
#[derive(Debug, Deserialize)]
pub(super) struct Vip {
    vip: String,
    protocol: String,
    name: Option<String>,
    #[serde(default)]
    backends: Vec<Backend>,
}

#[derive(Debug, Deserialize)]
struct Backend {
    address: String,
    task: Option<String>,
    admitted: bool,
    #[serde(default)]
    weight: f64,
    #[serde(default)]
    pending: u64,
    #[serde(default)]
    successes: u64,
    #[serde(default)]
    failures: u64,
}

/// A label that does not do what it says.
#[derive(Debug, Deserialize)]
struct Problem {
    task: Option<String>,
    service: Option<String>,
    vip: Option<String>,
    problem: String,
}

const PROBLEMS: &str = "/v1/vip-problems";

pub(super) async fn run(session: &Session, args: &VipsArgs) -> Result<(), CliError> {
    if let Some(file) = &args.plan {
        return vip_plan::run(session, file, args.output).await;
    }
    if args.problems {
        return session.show(PROBLEMS, args.output, |all: &Vec<Problem>, _| problems(all)).await;
    }
    let vips = session.get("/v1/vip-table").await?;
    if args.output.json {
        return print_json(&vips);
    }
    let found: Vec<Problem> = session.read(PROBLEMS).await?;
    print(&render(&understand("/v1/vip-table", vips)?, session.paint))?;
    match found.as_slice() {
        [] => Ok(()),
        some => print(&session.paint.mark(Tone::Bad, &format!("\n{}", problems(some)))),
    }
}

/// One line for each.
fn problems(all: &[Problem]) -> String {
    let line = |problem: &Problem| {
        let task = problem.task.as_ref().map(|task| format!("task {task}"));
        let service = problem.service.as_ref().map(|service| format!("service {service}"));
        let vip = problem.vip.as_ref().map(|vip| format!(" ({vip})")).unwrap_or_default();
        let who = task.or(service).unwrap_or_default();
        format!("problem: {who}{vip}: {}\n", problem.problem).replace('\u{1b}', " ")
    };
    all.iter().map(line).collect()
}

/// One row for each backend; the VIP stands in the first one.
pub(super) fn render(vips: &Vec<Vip>, paint: Paint) -> String {
    let mut rows = Vec::new();
    for vip in vips {
        let mut head = [
            plain(format!("{}/{}", vip.vip, vip.protocol)),
            plain(vip.name.clone().unwrap_or_default()),
        ];
        if vip.backends.is_empty() {
            let rest = (0..6).map(|_| plain("")).chain([toned(Tone::Bad, "no backends")]);
            rows.push(head.iter().cloned().chain(rest).collect());
        }
        for backend in &vip.backends {
            rows.push(head.iter().cloned().chain(row(backend)).collect());
            head = [toned(Tone::Faint, "\""), toned(Tone::Faint, "\"")];
        }
    }
    let headings =
        ["VIP", "NAME", "BACKEND", "TASK", "WEIGHT", "PENDING", "GOOD", "FAILED", "STATE"];
    table(&headings, rows, paint)
}

fn row(backend: &Backend) -> [Field; 7] {
    let failed = if backend.failures == 0 { Tone::Normal } else { Tone::Busy };
    let state = match backend.admitted {
        true => toned(Tone::Good, "in"),
        false => toned(Tone::Bad, "out"),
    };
    [
        plain(&backend.address),
        plain(backend.task.clone().unwrap_or_default()),
        plain(number(backend.weight)),
        plain(backend.pending),
        plain(backend.successes),
        toned(failed, backend.failures),
        state,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vips_with_their_backends() {
        let vips: Vec<Vip> = serde_json::from_str(
            r#"[{"vip":"11.0.0.1:80","protocol":"tcp","name":"web.marathon.l4lb.thisdcos.directory",
              "backends":[
               {"address":"9.0.0.2:80","task":"web.1","admitted":true,"weight":1,"pending":0,"successes":510,"failures":0},
               {"address":"9.0.0.3:80","task":"web.2","admitted":false,"weight":1,"pending":1,"successes":490,"failures":3}]},
              {"vip":"1.2.3.4:53","protocol":"udp","name":null,"backends":[]}]"#,
        )
        .unwrap();
        let want = "\
VIP               NAME                                   BACKEND      TASK    WEIGHT   PENDING   GOOD   FAILED   STATE
11.0.0.1:80/tcp   web.marathon.l4lb.thisdcos.directory   9.0.0.2:80   web.1   1        0         510    0        in
\"                 \"                                      9.0.0.3:80   web.2   1        1         490    3        out
1.2.3.4:53/udp    -                                      -            -       -        -         -      -        no backends
";
        assert_eq!(render(&vips, Paint::Plain), want);
    }
}
