//! `mizzen vip set`, `mizzen vip rm` and `mizzen vip ls`: services registered by hand.

use super::error::CliError;
use super::session::{Session, encode, print, print_json, understand};
use super::table::{Paint, Tone, plain, render as table, toned};
use crate::args::{VipCommand, VipSetArgs};
use crate::say;
use serde::Deserialize;
use serde_json::{Value, json};

const SERVICES: &str = "/v1/vip-services";

/// A registered service.
#[derive(Debug, Deserialize)]
struct Service {
    service: String,
    name: Option<String>,
    vips: Vec<String>,
    backends: Vec<Backend>,
    rule: Option<String>,
    locality: Option<String>,
    slow_start: Option<String>,
    on_removal: Option<String>,
    #[serde(default)]
    notes: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Backend {
    address: String,
    weight: u16,
}

pub(super) async fn run(session: &Session, command: &VipCommand) -> Result<(), CliError> {
    match command {
        VipCommand::Set(args) => set(session, args).await,
        VipCommand::Rm(args) => {
            session.send("DELETE", &path(&args.service.to_string()), None).await?;
            print(&format!("{}\n", args.service))
        }
        VipCommand::Ls(output) => session.show(SERVICES, *output, render).await,
    }
}

async fn set(session: &Session, args: &VipSetArgs) -> Result<(), CliError> {
    let path = path(&args.service.to_string());
    let answer = session.send("PUT", &path, Some(&body(args))).await?;
    if args.output.json {
        return print_json(&answer);
    }
    let service: Service = understand(&path, answer)?;
    let name = service.name.map(|name| format!(" {name}")).unwrap_or_default();
    print(&format!("{} {}{name}\n", service.service, service.vips.join(" ")))?;
    service.notes.iter().for_each(|note| say(&format!("note: {}\n", note.replace('\u{1b}', " "))));
    Ok(())
}

fn path(service: &str) -> String {
    format!("{SERVICES}/{}", encode(service))
}

fn body(args: &VipSetArgs) -> Value {
    json!({
        "backends": args.backends,
        "rule": args.rule,
        "locality": args.locality,
        "slow_start": args.slow_start.map(|time| time.to_string()),
        "on_removal": args.on_removal,
    })
}

/// One row for each backend; the service stands in the first one.
fn render(services: &Vec<Service>, paint: Paint) -> String {
    let mut rows = Vec::new();
    for service in services {
        let mut head = [
            plain(&service.service),
            plain(service.vips.join(" ")),
            plain(service.name.as_deref().unwrap_or_default()),
            plain(policy(service)),
        ];
        if service.backends.is_empty() {
            let rest = [toned(Tone::Bad, "no backends"), plain("")];
            rows.push(head.iter().cloned().chain(rest).collect());
        }
        for backend in &service.backends {
            let tone = if backend.weight == 0 { Tone::Busy } else { Tone::Normal };
            let row = [plain(&backend.address), toned(tone, backend.weight)];
            rows.push(head.iter().cloned().chain(row).collect());
            head = [(); 4].map(|()| toned(Tone::Faint, "\""));
        }
    }
    table(&["SERVICE", "VIP", "NAME", "POLICY", "BACKEND", "WEIGHT"], rows, paint)
}

/// What was said about it; the rest is as always.
fn policy(service: &Service) -> String {
    let said = [
        service.rule.clone(),
        service.locality.as_ref().map(|word| format!("locality {word}")),
        service.slow_start.as_ref().map(|time| format!("slow start {time}")),
        service.on_removal.as_ref().map(|word| format!("on removal {word}")),
    ];
    said.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_with_their_backends() {
        let services: Vec<Service> = serde_json::from_str(
            r#"[{"service":"demo:80/tcp","name":"demo.static.l4lb.thisdcos.directory","vips":["11.0.0.7:80"],
               "rule":"maglev","locality":null,"slow_start":"5s","on_removal":null,
               "backends":[{"address":"192.0.2.7:80","weight":1},{"address":"192.0.2.8:80","weight":0}]},
              {"service":"10.1.2.3:53/udp","name":null,"vips":["10.1.2.3:53"],"rule":null,"locality":null,
               "slow_start":null,"on_removal":null,"backends":[]}]"#,
        )
        .unwrap();
        let want = "\
SERVICE           VIP           NAME                                  POLICY                  BACKEND        WEIGHT
demo:80/tcp       11.0.0.7:80   demo.static.l4lb.thisdcos.directory   maglev, slow start 5s   192.0.2.7:80   1
\"                 \"             \"                                     \"                       192.0.2.8:80   0
10.1.2.3:53/udp   10.1.2.3:53   -                                     -                       no backends    -
";
        assert_eq!(render(&services, Paint::Plain), want);
    }

    #[test]
    fn paths_of_services() {
        assert_eq!(path("demo:80/tcp"), "/v1/vip-services/demo%3A80/tcp");
        assert_eq!(path("[fd00::1]:80/tcp"), "/v1/vip-services/%5Bfd00%3A%3A1%5D%3A80/tcp");
    }
}
