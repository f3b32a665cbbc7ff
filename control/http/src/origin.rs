//! Where requests come from, and what is changed from where.
//!
//! The APIs of the systems that we succeed are open to whoever reaches their ports. What is ours
//! and changes something is not. What belongs to one node is changed on its own machine; what the
//! whole cluster goes by (who is in it, who may reach whom) at a node's socket, which is root's:
//! any program of a machine reaches its loopback address, tasks in its network among them. From
//! there it goes to other nodes over the stream on which both have proven who they are.
//!
//! A browser on the machine, or in its network, reaches all that its user does, on behalf of
//! whatever page is open. It says so, and no page can keep it from that: changes that another
//! site wants are refused everywhere. A site whose name leads to a loopback address is none of
//! another origin for the browser, so what only this machine may change has to be asked of a
//! name that it has.

use crate::error::HttpError;
use axum::extract::Request;
use axum::http::header::{HOST, HeaderName, ORIGIN};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Where a request comes from; each one carries it as an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The node's socket, to which only its own user can connect.
    Socket,
    /// A loopback address of the machine: any program on it.
    Loopback,
    /// Anybody else, also the machine itself by another of its addresses.
    Network,
}

/// What a browser says of who wants a request; `same-origin` and `none`, its user, are well.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses changes that a browser sends for a page of another site.
pub(crate) async fn no_changes_by_other_sites(request: Request, next: Next) -> Response {
    match reads(&request) || !is_by_other_site(request.headers()) {
        true => next.run(request).await,
        false => HttpError::OtherSite.into_response(),
    }
}

/// Refuses changes that do not come from the machine itself.
pub(crate) async fn changes_from_here(request: Request, next: Next) -> Response {
    match request.extensions().get::<Origin>() {
        _ if reads(&request) => next.run(request).await,
        Some(Origin::Loopback) if !is_asked_by_own_name(request.headers()) => {
            HttpError::OtherSite.into_response()
        }
        Some(Origin::Socket | Origin::Loopback) => next.run(request).await,
        Some(Origin::Network) | None => HttpError::NotFromHere.into_response(),
    }
}

/// Refuses changes that do not come by the node's socket.
pub(crate) async fn changes_by_socket(request: Request, next: Next) -> Response {
    match request.extensions().get::<Origin>() {
        _ if reads(&request) => next.run(request).await,
        Some(Origin::Socket) => next.run(request).await,
        Some(Origin::Loopback | Origin::Network) | None => HttpError::NotBySocket.into_response(),
    }
}

fn reads(request: &Request) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Only browsers send these headers. Old ones have but `Origin`, and none before `https` or a
/// loopback address has the other.
fn is_by_other_site(headers: &HeaderMap) -> bool {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    match (text(&SITE), text(&ORIGIN)) {
        (Some(site), _) => !matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => {
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            authority.is_none() || authority != text(&HOST)
        }
        (None, None) => false,
    }
}

/// Whether a request names the machine by an address, by a name without a dot, or by one of
/// the cluster's, which lead nowhere else.
fn is_asked_by_own_name(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let host = host.to_str().unwrap_or("").to_ascii_lowercase();
    if host.starts_with('[') {
        return true;
    }
    let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
    let ours = ["mesos", "thisdcos.directory", "localhost"];
    let is_below = |zone: &&str| name.strip_suffix(zone).is_some_and(|rest| rest.ends_with('.'));
    !name.contains('.') || name.parse::<std::net::Ipv4Addr>().is_ok() || ours.iter().any(is_below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        list.iter().map(header).collect()
    }

    #[test]
    fn which_requests_are_for_pages_of_other_sites() {
        let host = ("host", "127.0.0.1:62080");
        #[rustfmt::skip]
        let table: &[(&[(&str, &str)], bool)] = &[
            (&[host],                                                             false),
            (&[host, ("sec-fetch-site", "same-origin")],                          false),
            (&[host, ("sec-fetch-site", "none")],                                 false),
            (&[host, ("sec-fetch-site", "same-site")],                            true),
            (&[host, ("sec-fetch-site", "cross-site")],                           true),
            (&[host, ("origin", "http://127.0.0.1:62080")],                       false),
            (&[host, ("origin", "http://127.0.0.1:8000")],                        true),
            (&[host, ("origin", "http://evil.example")],                          true),
            (&[host, ("origin", "null")],                                         true),
            // A proxy that changes the name.
            (&[host, ("origin", "https://dcos.example"), ("sec-fetch-site", "same-origin")], false),
        ];
        for (list, want) in table {
            assert_eq!(is_by_other_site(&headers(list)), *want, "{list:?}");
        }
    }

    #[test]
    fn which_names_are_the_machine_s_own() {
        #[rustfmt::skip]
        let table = [
            ("127.0.0.1:62080", true), ("[::1]:62080", true), ("localhost:62080", true), ("LOCALHOST", true),
            ("node-1:62080", true), ("leader.mesos:8080", true), ("app.localhost", true),
            ("x.node.thisdcos.directory:62080", true),
            ("evil.example:62080", false), ("evil.example", false), ("127.0.0.1.evil.example", false),
            ("notmesos.example", false), ("evilmesos.", false),
        ];
        for (host, want) in table {
            let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
            assert_eq!(is_asked_by_own_name(&headers), want, "{host}");
        }
        assert!(is_asked_by_own_name(&HeaderMap::new()), "HTTP/1.0");
    }
}
