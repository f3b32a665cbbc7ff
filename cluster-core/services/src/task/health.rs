//! Marathon's health checks as probes that an agent runs.

use super::ports::AssignedPort;
use crate::app::{App, HealthCheck, HealthProtocol, IpProtocol};
use mizzen_api::v1;
use mizzen_api::v1::health_check::{HttpCheckInfo, TcpCheckInfo};

/// The probe for `check`; `None` if it names a port that the app has not.
#[must_use]
pub fn check(check: &HealthCheck, app: &App, ports: &[AssignedPort]) -> Option<v1::HealthCheck> {
    use HealthProtocol as P;
    use v1::health_check::Type;

    let base = v1::HealthCheck {
        delay_seconds: Some(check.delay_seconds.into()),
        interval_seconds: Some(check.interval_seconds.into()),
        timeout_seconds: Some(check.timeout_seconds.into()),
        grace_period_seconds: Some(check.grace_period_seconds.into()),
        consecutive_failures: Some(failures(check)),
        ..v1::HealthCheck::default()
    };
    let protocol = match check.ip_protocol {
        IpProtocol::IPv4 => v1::network_info::Protocol::IPv4,
        IpProtocol::IPv6 => v1::network_info::Protocol::IPv6,
    };
    let scheme = match check.protocol {
        P::Command => {
            return Some(v1::HealthCheck {
                r#type: Some(Type::Command.into()),
                command: Some(command(check, app)),
                ..base
            });
        }
        P::Tcp | P::MesosTcp => {
            let tcp = TcpCheckInfo { protocol: Some(protocol.into()), port: port(check, ports)? };
            return Some(v1::HealthCheck {
                r#type: Some(Type::Tcp.into()),
                tcp: Some(tcp),
                ..base
            });
        }
        P::Http | P::MesosHttp => "http",
        P::Https | P::MesosHttps => "https",
    };
    let http = HttpCheckInfo {
        protocol: Some(protocol.into()),
        scheme: Some(scheme.to_owned()),
        port: port(check, ports)?,
        path: Some(check.path.clone().unwrap_or_else(|| "/".to_owned())),
        statuses: Vec::new(),
    };
    Some(v1::HealthCheck { r#type: Some(Type::Http.into()), http: Some(http), ..base })
}

/// Zero failures mean *never end it*, whoever probes: who wants a task to be ended at
/// the first failure writes one.
fn failures(check: &HealthCheck) -> u32 {
    match check.max_consecutive_failures {
        0 => u32::MAX,
        n => n,
    }
}

/// A number wins over an index. The agent probes inside the container's network,
/// so it is the container's port where there is one.
fn port(check: &HealthCheck, ports: &[AssignedPort]) -> Option<u32> {
    if let Some(number) = check.port {
        return Some(number.into());
    }
    let index = check.port_index.unwrap_or_default() as usize;
    ports.get(index).map(|port| port.listened().into())
}

fn command(check: &HealthCheck, app: &App) -> v1::CommandInfo {
    v1::CommandInfo {
        shell: Some(true),
        value: check.command.as_ref().map(|command| command.value.clone()),
        user: app.user.clone(),
        ..v1::CommandInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::ports::{assign, wanted};
    use crate::testing::app;
    use mizzen_types::random::Dice;
    use serde_json::{Value, json};
    use v1::health_check::Type;

    fn probe(members: &Value, mapped: bool) -> v1::HealthCheck {
        let mut value = json!({"healthChecks": [members]});
        if mapped {
            value["networks"] = json!([{"mode": "container"}]);
            value["container"] = json!({"portMappings": [{"containerPort": 81}, {"containerPort": 80, "hostPort": 0}]});
        }
        let app = app(value);
        let ports = assign(wanted(&app), &[31_000, 31_001], &mut Dice::new(1));
        check(&app.health_checks[0], &app, &ports).unwrap()
    }

    #[test]
    fn every_protocol_has_its_probe() {
        #[rustfmt::skip]
        let table: &[(Value, bool, Type, Option<u32>, u32)] = &[
            (json!({}),                                                            false, Type::Http,    Some(31_000), 3),
            (json!({"protocol": "MESOS_HTTP", "portIndex": 1}),                    true,  Type::Http,    Some(80),     3),
            (json!({"protocol": "HTTPS", "port": 7}),                              true,  Type::Http,    Some(7),      3),
            (json!({"protocol": "TCP", "maxConsecutiveFailures": 0}),              false, Type::Tcp,     Some(31_000), u32::MAX),
            (json!({"protocol": "MESOS_TCP", "maxConsecutiveFailures": 0}),        true,  Type::Tcp,     Some(81),     u32::MAX),
            (json!({"protocol": "COMMAND", "command": {"value": "true"}, "maxConsecutiveFailures": 0}), false, Type::Command, None, u32::MAX),
            (json!({"protocol": "MESOS_HTTP", "maxConsecutiveFailures": 1}),       false, Type::Http,    Some(31_000), 1),
            (json!({"protocol": "COMMAND", "command": {"value": "true"}, "maxConsecutiveFailures": 5}), false, Type::Command, None, 5),
        ];
        for (members, mapped, kind, port, failures) in table {
            let probe = probe(members, *mapped);
            let number = probe
                .http
                .as_ref()
                .map(|http| http.port)
                .or(probe.tcp.as_ref().map(|tcp| tcp.port));
            assert_eq!(
                (probe.r#type(), number, probe.consecutive_failures()),
                (*kind, *port, *failures),
                "{members}"
            );
        }
        let http =
            probe(&json!({"protocol": "MESOS_HTTPS", "path": "/ok", "delaySeconds": 0}), false);
        assert_eq!((http.delay_seconds, http.grace_period_seconds), (Some(0.0), Some(300.0)));
        assert_eq!((http.interval_seconds, http.timeout_seconds), (Some(60.0), Some(20.0)));
        let http = http.http.unwrap();
        assert_eq!((http.scheme.as_deref(), http.path.as_deref()), (Some("https"), Some("/ok")));
    }
}
