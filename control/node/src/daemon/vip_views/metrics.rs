//! Series of the balancer.

use super::exposition::{Family, Gone, Labels, Series, Writer, counter, gauge, histogram};
use super::sight::{Seen, Sight};
use mizzen_kernel::vips::{Counts, Latencies};
use mizzen_types::vip::BackendSpec;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Histograms of one VIP's backends: handshakes, connections.
pub(crate) type Histograms = BTreeMap<SocketAddr, (Latencies, Latencies)>;

/// A sum or a state of the node itself.
pub(crate) struct Single {
    /// Its name, help and kind.
    pub family: Family,
    /// Its value.
    pub value: u64,
}

/// All that is exposed, gathered at one moment.
pub(crate) struct Exposed {
    /// The balancer.
    pub sight: Sight,
    /// In the order of `sight`; only of VIPs that have had connections.
    pub histograms: Vec<Histograms>,
    /// Of other parts.
    pub singles: Vec<Single>,
}

impl Exposed {
    /// Writes everything.
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<(), Gone> {
        for (family, of) in COUNTS {
            writer.family(family, |series| self.counts(series, of))?;
        }
        for (family, of) in STATES {
            writer.family(family, |series| {
                self.backends(series, |spec, counts| f64::from(u8::from(of(spec, counts))))
            })?;
        }
        writer.family(REFUSED, |series| self.refused(series))?;
        writer.family(HANDSHAKE, |series| self.latencies(series, |pair| &pair.0))?;
        writer.family(CONNECTION, |series| self.latencies(series, |pair| &pair.1))?;
        writer.family(BACKENDS, |series| {
            for seen in &self.sight.vips {
                of_vip(seen, |labels| series.number(labels, seen.spec.backends.len() as f64))?;
            }
            Ok(())
        })?;
        for single in &self.singles {
            writer.family(single.family, |series| series.number(&[], single.value as f64))?;
        }
        Ok(())
    }

    fn counts(&self, series: &mut Series<'_, '_>, of: fn(&Counts) -> u64) -> Result<(), Gone> {
        self.backends(series, |_, counts| of(counts) as f64)
    }

    fn backends(
        &self,
        series: &mut Series<'_, '_>,
        value: impl Fn(&BackendSpec, &Counts) -> f64,
    ) -> Result<(), Gone> {
        for seen in &self.sight.vips {
            for (spec, counts) in seen.backends() {
                let Some(counts) = counts else { continue };
                let value = value(spec, counts);
                of_backend(seen, spec.address, |labels| series.number(labels, value))?;
            }
        }
        Ok(())
    }

    fn refused(&self, series: &mut Series<'_, '_>) -> Result<(), Gone> {
        for seen in &self.sight.vips {
            let Some(refused) = seen.refused else { continue };
            of_vip(seen, |labels| series.number(labels, refused as f64))?;
        }
        Ok(())
    }

    fn latencies(
        &self,
        series: &mut Series<'_, '_>,
        of: fn(&(Latencies, Latencies)) -> &Latencies,
    ) -> Result<(), Gone> {
        for (seen, histograms) in self.sight.vips.iter().zip(&self.histograms) {
            for (backend, pair) in histograms {
                let latencies = of(pair);
                if super::spread::samples(latencies) == 0 {
                    continue;
                }
                of_backend(seen, *backend, |labels| series.latencies(labels, latencies))?;
            }
        }
        Ok(())
    }
}

type Count = (Family, fn(&Counts) -> u64);
type State = (Family, fn(&BackendSpec, &Counts) -> bool);

const COUNTS: [Count; 7] = [
    (counter("mizzen_vip_chosen_total", "Times a backend was chosen for a connection."), |c| {
        c.chosen
    }),
    (counter("mizzen_vip_started_total", "Connections whose first packet has left."), |c| {
        c.started
    }),
    (counter("mizzen_vip_established_total", "Handshakes that completed."), |c| c.established),
    (counter("mizzen_vip_failed_total", "Handshakes that did not complete."), |c| c.failed),
    (counter("mizzen_vip_closed_total", "Established connections that ended."), |c| c.closed),
    (
        counter("mizzen_vip_ejections_total", "Times a backend was ejected for failed handshakes."),
        |c| c.ejections,
    ),
    (gauge("mizzen_vip_in_flight_connections", "Connections that a backend has."), |c| c.in_flight),
];

const STATES: [State; 2] = [
    (gauge("mizzen_vip_ejected", "1 while a backend is ejected, else 0."), |_, counts| {
        counts.ejected_for.is_some()
    }),
    (
        gauge("mizzen_vip_admitted", "1 if a backend takes new connections by plan, else 0."),
        |spec, _| spec.is_admitted(),
    ),
];

const REFUSED: Family = counter(
    "mizzen_vip_refused_total",
    "Connections and datagrams refused for want of an admitted backend.",
);
const BACKENDS: Family = gauge("mizzen_vip_backends", "Backends that a VIP has.");
const HANDSHAKE: Family = histogram(
    "mizzen_vip_handshake_seconds",
    "Time from the choice of a backend to the end of the handshake.",
);
const CONNECTION: Family = histogram(
    "mizzen_vip_connection_seconds",
    "Time from the end of the handshake to the end of the connection.",
);

fn of_vip(seen: &Seen, add: impl FnOnce(Labels<'_>) -> Result<(), Gone>) -> Result<(), Gone> {
    let key = &seen.spec.key;
    let (vip, protocol) = (seen.socket().to_string(), key.protocol.to_string());
    let name = seen.spec.name.as_deref().unwrap_or_default();
    add(&[("vip", &vip), ("protocol", &protocol), ("name", name)])
}

fn of_backend(
    seen: &Seen,
    backend: SocketAddr,
    add: impl FnOnce(Labels<'_>) -> Result<(), Gone>,
) -> Result<(), Gone> {
    let backend = backend.to_string();
    of_vip(seen, |labels| match labels {
        [vip, protocol, name] => add(&[*vip, *protocol, ("backend", &backend), *name]),
        _ => add(labels),
    })
}

/// Whether a VIP has histograms worth reading.
pub(crate) fn has_latencies(seen: &Seen) -> bool {
    seen.established() > 0
}

/// A gauge of another part.
pub(crate) fn single(name: &'static str, help: &'static str, value: u64) -> Single {
    Single { family: gauge(name, help), value }
}

/// A counter of another part.
pub(crate) fn total(name: &'static str, help: &'static str, value: u64) -> Single {
    Single { family: counter(name, help), value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::vip_views::sight::tests::vip;
    use crate::daemon::vip_views::spread::tests::of;
    use mizzen_http::core::MetricsEncoding;
    use mizzen_kernel::vips::Tuning;

    fn text(exposed: &Exposed) -> String {
        let mut all = Vec::new();
        let mut put = |piece: Vec<u8>| {
            all.extend(piece);
            Ok(())
        };
        exposed.write(&mut Writer::new(MetricsEncoding::Text, &mut put)).unwrap();
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn every_backend_has_its_series_and_absent_values_have_none() {
        let counts = Counts { chosen: 5, ejected_for: Some(7), in_flight: 2, ..Counts::default() };
        let mut seen = vip(vec![counts, counts]);
        seen.counts[1] = None;
        seen.refused = None;
        let first = seen.spec.backends[0].address;
        let histograms = vec![BTreeMap::from([(first, (of([1_000]), Latencies::default()))])];
        let sight = Sight { vips: vec![seen], tuning: Tuning::default() };
        let singles = vec![
            single("mizzen_node_uptime_seconds", "Time.", 9),
            total("mizzen_vip_sockets_ended_total", "Sockets.", 4),
        ];
        let text = text(&Exposed { sight, histograms, singles });
        let labels =
            "vip=\"11.0.0.1:80\",protocol=\"tcp\",backend=\"9.0.0.1:80\",name=\"web.marathon\"";
        for line in [
            format!("mizzen_vip_chosen_total{{{labels}}} 5"),
            format!("mizzen_vip_in_flight_connections{{{labels}}} 2"),
            format!("mizzen_vip_ejected{{{labels}}} 1"),
            format!("mizzen_vip_admitted{{{labels}}} 1"),
            format!("mizzen_vip_handshake_seconds_count{{{labels}}} 1"),
            "mizzen_node_uptime_seconds 9".to_owned(),
            "# TYPE mizzen_vip_sockets_ended_total counter".to_owned(),
            "mizzen_vip_sockets_ended_total 4".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(!text.contains("9.0.0.2"), "nobody counts the second one");
        assert!(!text.contains("mizzen_vip_refused_total{"));
        assert!(!text.contains("mizzen_vip_connection_seconds_count"));
        let helps: Vec<&str> = text.lines().filter(|line| line.starts_with("# HELP")).collect();
        let mut once = helps.clone();
        once.dedup();
        assert_eq!(helps, once);
    }
}
