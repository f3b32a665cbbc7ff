//! `mizzen vips --plan FILE`: what a change would do, before it is done.

use super::deploy::read;
use super::error::CliError;
use super::session::{Session, print, print_json, understand};
use super::table::{Paint, Tone};
use crate::args::Output;
use serde::Deserialize;
use std::path::Path;

const PLAN: &str = "/v1/vip-plan";

/// What would change.
#[derive(Debug, Deserialize)]
struct Plan {
    vips: Vec<Vip>,
    names: Vec<Name>,
    problems: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Vip {
    vip: String,
    protocol: String,
    name: Option<String>,
    change: String,
    come: Vec<Backend>,
    go: Vec<Backend>,
    differ: Vec<Difference>,
    stay: u64,
    policy: Policies,
}

#[derive(Debug, Deserialize)]
struct Backend {
    address: Option<String>,
    port: Option<u16>,
    task: Option<String>,
    weight: u16,
    admitted: bool,
}

#[derive(Debug, Deserialize)]
struct Difference {
    before: Backend,
    after: Backend,
}

#[derive(Debug, Deserialize)]
struct Policies {
    before: Option<Policy>,
    after: Option<Policy>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Policy {
    rule: String,
    locality: String,
    slow_start: String,
    on_removal: String,
}

#[derive(Debug, Deserialize)]
struct Name {
    name: String,
    before: Vec<String>,
    after: Vec<String>,
}

pub(super) async fn run(session: &Session, file: &Path, output: Output) -> Result<(), CliError> {
    let answer = session.send("POST", PLAN, Some(&read(file)?)).await?;
    if output.json {
        return print_json(&answer);
    }
    print(&render(&understand(PLAN, answer)?, session.paint))
}

fn render(plan: &Plan, paint: Paint) -> String {
    let mut text: String = plan.vips.iter().map(|change| vip(change, paint)).collect();
    for name in &plan.names {
        let (before, after) = (list(&name.before), list(&name.after));
        text.push_str(&format!("name {}: {before} -> {after}\n", name.name));
    }
    for problem in &plan.problems {
        let line = format!("problem: {}", problem.replace('\u{1b}', " "));
        text.push_str(&paint.mark(Tone::Bad, &line));
        text.push('\n');
    }
    if plan.vips.is_empty() {
        text.push_str("no VIP would change\n");
    }
    text
}

fn vip(vip: &Vip, paint: Paint) -> String {
    let (tone, sign) = match vip.change.as_str() {
        "made" => (Tone::Good, '+'),
        "removed" => (Tone::Bad, '-'),
        _ => (Tone::Busy, '~'),
    };
    let name = vip.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let head = format!("{sign} {}/{}{name}: {}", vip.vip, vip.protocol, vip.change);
    let mut text = format!("{}\n", paint.mark(tone, &head));
    for (tone, sign, backends) in [(Tone::Bad, '-', &vip.go), (Tone::Good, '+', &vip.come)] {
        for backend in backends {
            let line = format!("    {sign} {}", backend.words());
            text.push_str(&format!("{}\n", paint.mark(tone, &line)));
        }
    }
    for Difference { before, after } in &vip.differ {
        text.push_str(&format!("    ~ {} -> {}\n", before.words(), after.share()));
    }
    if vip.stay > 0 {
        text.push_str(&format!("      {} as before\n", vip.stay));
    }
    if let (Some(before), Some(after)) = (&vip.policy.before, &vip.policy.after)
        && before != after
    {
        text.push_str(&format!("    ~ {} -> {}\n", before.words(), after.words()));
    }
    text
}

impl Backend {
    fn words(&self) -> String {
        let at = match (&self.address, self.port) {
            (Some(address), _) => address.clone(),
            (None, Some(port)) => format!("an address of its own, port {port}"),
            (None, None) => "an address and port of its agent".to_owned(),
        };
        let task = self.task.as_ref().map(|task| format!(" task {task}")).unwrap_or_default();
        format!("{at}{task} {}", self.share())
    }

    fn share(&self) -> String {
        let out = if self.admitted { "" } else { ", takes no new connections" };
        format!("weight {}{out}", self.weight)
    }
}

impl Policy {
    fn words(&self) -> String {
        let Self { rule, locality, slow_start, on_removal } = self;
        format!("{rule}, locality {locality}, slow start {slow_start}, on removal {on_removal}")
    }
}

fn list(addresses: &[String]) -> String {
    if addresses.is_empty() { "nothing".to_owned() } else { addresses.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_in_words() {
        let plan: Plan = serde_json::from_str(
            r#"{"vips":[
              {"vip":"11.0.0.7:80","protocol":"tcp","name":"web.marathon.l4lb.thisdcos.directory","change":"made",
               "come":[{"address":null,"port":8080,"task":"/web (new 1)","weight":2,"admitted":true}],
               "go":[],"differ":[],"stay":0,"policy":{"before":null,"after":null}},
              {"vip":"10.1.2.3:53","protocol":"udp","name":null,"change":"changed","come":[],
               "go":[{"address":"192.0.2.7:53","port":53,"task":null,"weight":1,"admitted":true}],
               "differ":[{"before":{"address":"192.0.2.8:53","port":53,"task":null,"weight":1,"admitted":true},
                          "after":{"address":"192.0.2.8:53","port":53,"task":null,"weight":1,"admitted":false}}],
               "stay":3,"policy":{
                 "before":{"rule":"latency","locality":"prefer","slow_start":"10s","on_removal":"datagrams"},
                 "after":{"rule":"source","locality":"prefer","slow_start":"10s","on_removal":"datagrams"}}}],
             "names":[{"name":"web.marathon.l4lb.thisdcos.directory","before":[],"after":["11.0.0.7"]}],
             "problems":["task /web (new 1): label `x`"]}"#,
        )
        .unwrap();
        let want = "\
+ 11.0.0.7:80/tcp web.marathon.l4lb.thisdcos.directory: made
    + an address of its own, port 8080 task /web (new 1) weight 2
~ 10.1.2.3:53/udp: changed
    - 192.0.2.7:53 weight 1
    ~ 192.0.2.8:53 weight 1 -> weight 1, takes no new connections
      3 as before
    ~ latency, locality prefer, slow start 10s, on removal datagrams -> source, locality prefer, slow start 10s, on removal datagrams
name web.marathon.l4lb.thisdcos.directory: nothing -> 11.0.0.7
problem: task /web (new 1): label `x`
";
        assert_eq!(render(&plan, Paint::Plain), want);
        let none = Plan { vips: Vec::new(), names: Vec::new(), problems: Vec::new() };
        assert_eq!(render(&none, Paint::Plain), "no VIP would change\n");
    }
}
