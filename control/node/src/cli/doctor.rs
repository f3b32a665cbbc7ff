//! `mizzen doctor`: what stands in the way of a node on this machine, with or without a daemon.

mod told;
mod wanted;

use super::error::CliError;
use super::session::{Session, print, print_json};
use super::table::{Paint, Tone};
use crate::args::Output;
use crate::config::Loader;
use mizzen_isolators::cgroup::{Controller, Layout};
use mizzen_kernel::doctor::observe;
use mizzen_plan::doctor::{Cgroups, Daemon, Finding, Grade, Look, Observed, examine};
use rustix::fs::statfs;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;

/// Exit code if there are warnings and no errors.
const WARNINGS: u8 = 3;
/// `f_type` of a cgroup v2 directory.
const CGROUP2: u64 = 0x6367_7270;

/// Looks, judges and prints.
pub(super) async fn run(
    session: &Session,
    loader: &Loader,
    output: Output,
) -> Result<ExitCode, CliError> {
    let config = match loader.load() {
        Ok(config) => config,
        Err(errors) => return Ok(crate::node::refuse(&errors)),
    };
    // A daemon may have been started with flags, or before the file was changed.
    let config = told::in_force(session).await.unwrap_or(config);
    let (daemon, listeners) = told::ask(session, &config).await;
    let wanted = wanted::of_config(&config, listeners.as_ref());
    let pid = match &daemon {
        Daemon::Running(told) => Some(told.pid),
        _ => None,
    };
    let machine = observe(&wanted, pid, observe_cgroups(&config.vip.cgroup));
    let findings = examine(&Observed { wanted, machine, daemon });
    match output.json {
        true => print_json(&document(&findings))?,
        false => print(&render(&findings, session.paint))?,
    }
    Ok(exit_code(&findings))
}

fn exit_code(findings: &[Finding]) -> ExitCode {
    match findings.iter().map(|finding| finding.verdict.grade).max() {
        Some(Grade::Error) => ExitCode::from(crate::FAILURE),
        Some(Grade::Warning) => ExitCode::from(WARNINGS),
        _ => ExitCode::SUCCESS,
    }
}

fn observe_cgroups(vip_cgroup: &Path) -> Look<Cgroups> {
    let layout = Layout::observe().map_err(|error| error.to_string())?;
    let all = [Controller::Cpu, Controller::Memory, Controller::Pids, Controller::Freezer];
    let found = all.into_iter().filter(|controller| layout.find(*controller).is_ok());
    let kind = statfs(vip_cgroup).map(|found| found.f_type as u64 & 0xffff_ffff);
    Ok(Cgroups {
        unified: layout.unified().map(|path| path.display().to_string()),
        vip_cgroup_is_unified: kind == Ok(CGROUP2),
        controllers: found.map(|controller| controller.to_string()).collect(),
    })
}

fn document(findings: &[Finding]) -> Value {
    json!({
        "findings": findings,
        "errors": count(findings, Grade::Error),
        "warnings": count(findings, Grade::Warning),
        "ok": count(findings, Grade::Ok),
        "skipped": count(findings, Grade::Skipped),
    })
}

fn count(findings: &[Finding], grade: Grade) -> usize {
    findings.iter().filter(|finding| finding.verdict.grade == grade).count()
}

/// The worst first, each with why it matters and what to do; then how many there are.
fn render(findings: &[Finding], paint: Paint) -> String {
    let mut text = String::new();
    for Finding { check, verdict } in findings {
        let (tone, word) = match verdict.grade {
            Grade::Error => (Tone::Bad, "error"),
            Grade::Warning => (Tone::Busy, "warning"),
            Grade::Skipped => (Tone::Faint, "skipped"),
            Grade::Ok => (Tone::Good, "ok"),
        };
        text.push_str(&format!("{}: {check}: {}\n", paint.mark(tone, word), verdict.what));
        if let Some(why) = &verdict.why {
            text.push_str(&format!("  why: {why}\n"));
        }
        if let Some(remedy) = &verdict.remedy {
            text.push_str(&format!("  do:  {remedy}\n"));
        }
    }
    let many = |grade, one: &str, several: &str| match count(findings, grade) {
        1 => format!("1 {one}"),
        count => format!("{count} {several}"),
    };
    text.push_str(&format!(
        "\n{}, {}, {} fine, {} not looked at\n",
        many(Grade::Error, "error", "errors"),
        many(Grade::Warning, "warning", "warnings"),
        count(findings, Grade::Ok),
        count(findings, Grade::Skipped),
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizzen_plan::doctor::Verdict;

    fn finding(check: &'static str, grade: Grade, why: Option<&str>) -> Finding {
        let (why, remedy) = (why.map(str::to_owned), why.map(|_| "do something".to_owned()));
        Finding { check, verdict: Verdict { grade, what: "something".to_owned(), why, remedy } }
    }

    #[test]
    fn findings_for_people() {
        let findings = [
            finding("ports", Grade::Error, Some("it matters")),
            finding("clock", Grade::Skipped, None),
            finding("disk", Grade::Ok, None),
        ];
        let want = "\
error: ports: something
  why: it matters
  do:  do something
skipped: clock: something
ok: disk: something

1 error, 0 warnings, 1 fine, 1 not looked at
";
        assert_eq!(render(&findings, Paint::Plain), want);
        let document = document(&findings);
        assert_eq!(document["findings"][0]["grade"], "error");
        assert_eq!((&document["errors"], &document["ok"]), (&json!(1), &json!(1)));
    }

    #[test]
    fn codes_for_scripts() {
        for (grades, want) in [
            (&[Grade::Ok, Grade::Skipped][..], ExitCode::SUCCESS),
            (&[Grade::Warning, Grade::Ok], ExitCode::from(3)),
            (&[Grade::Error, Grade::Warning], ExitCode::from(1)),
        ] {
            let findings: Vec<Finding> =
                grades.iter().map(|grade| finding("disk", *grade, None)).collect();
            assert_eq!(exit_code(&findings), want, "{grades:?}");
        }
    }
}
