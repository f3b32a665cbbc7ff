//! Upstreams over TLS and HTTPS, with certificates made for the test.

use crate::common::{PATIENCE, Resolver, loopback};
use crate::fake::{answer, ask, outcome};
use hickory_proto::op::{Message, ResponseCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mizzen_dns_core::{Options, Zones};
use mizzen_dns_server::{ForwardSettings, Server, Settings, SharedZones};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

const NAME: &str = "dns.example";

/// A server that ends when it is dropped, and the certificate that signed its own.
struct Secure {
    address: SocketAddr,
    authority: PathBuf,
    /// TCP connections, whatever became of them.
    calls: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Secure {
    /// * `serve` — what happens on each connection.
    fn start<F>(serve: impl Fn(TlsStream<TcpStream>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_behind(Arc::new(Semaphore::new(1)), serve)
    }

    /// * `gate` — who has no permit of it has not shaken hands yet.
    fn start_behind<F>(
        gate: Arc<Semaphore>,
        serve: impl Fn(TlsStream<TcpStream>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (acceptor, pem) = acceptor();
        let listener = std::net::TcpListener::bind(loopback(0)).expect("a port");
        listener.set_nonblocking(true).expect("it is set");
        let address = listener.local_addr().expect("its address");
        let file = format!("mizzen-ca-{}-{}.pem", std::process::id(), address.port());
        let authority = std::env::temp_dir().join(file);
        std::fs::File::create(&authority)
            .and_then(|mut file| file.write_all(pem.as_bytes()))
            .expect("it is written");
        let (calls, connections) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (stop, stopped) = oneshot::channel();
        let (called, count) = (Arc::clone(&calls), Arc::clone(&connections));
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("it is watched");
                let accept = async {
                    loop {
                        let (stream, _) = listener.accept().await.expect("a connection");
                        called.fetch_add(1, Ordering::SeqCst);
                        drop(gate.acquire().await.expect("it is never closed"));
                        // A client that does not believe us leaves.
                        if let Ok(stream) = acceptor.accept(stream).await {
                            count.fetch_add(1, Ordering::SeqCst);
                            tokio::spawn(serve(stream));
                        }
                    }
                };
                tokio::select! { () = accept => {}, _ = stopped => {} }
            });
        });
        Self { address, authority, calls, connections, stop: Some(stop), thread: Some(thread) }
    }

    /// A resolver that forwards to it.
    fn resolver(&self, spec: &str, deadline: Duration) -> Resolver {
        Resolver::start(self.settings(spec, deadline))
    }

    fn settings(&self, spec: &str, deadline: Duration) -> Settings {
        let upstreams = vec![spec.parse().expect("an upstream")];
        let ca_file = Some(self.authority.clone());
        let forward =
            ForwardSettings { upstreams, ca_file, deadline, ..ForwardSettings::default() };
        Settings { forward, ..Settings::default() }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it ends");
        }
        drop(std::fs::remove_file(&self.authority));
    }
}

/// Takes TLS connections as [`NAME`]; and who signed that, in PEM form.
fn acceptor() -> (TlsAcceptor, String) {
    let mut authority = CertificateParams::new(vec![]).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("a key");
    let pem = authority.self_signed(&authority_key).expect("a certificate").pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("a key");
    let names = vec![NAME.to_owned(), "127.0.0.1".to_owned()];
    let params = CertificateParams::new(names).expect("parameters");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("a configuration");
    config.alpn_protocols = vec![b"dot".to_vec(), b"h2".to_vec()];
    (TlsAcceptor::from(Arc::new(config)), pem)
}

async fn read(stream: &mut TlsStream<TcpStream>) -> Option<Message> {
    let length = stream.read_u16().await.ok()?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await.ok()?;
    assert_eq!(bytes.len() % 128, 0, "its length says nothing of the name");
    Some(Message::from_vec(&bytes).expect("a message"))
}

async fn write(stream: &mut TlsStream<TcpStream>, reply: &Message) {
    let bytes = reply.to_vec().expect("it is encoded");
    let length = u16::try_from(bytes.len()).expect("it fits").to_be_bytes();
    stream.write_all(&[&length[..], &bytes].concat()).await.expect("it is sent");
    stream.flush().await.expect("it is sent");
}

/// Answers questions one after the other.
async fn converse(mut stream: TlsStream<TcpStream>) {
    while let Some(asked) = read(&mut stream).await {
        write(&mut stream, &answer(&asked, 60)).await;
    }
}

/// Waits for two questions and answers the second one first.
async fn pairs(mut stream: TlsStream<TcpStream>) {
    while let (Some(one), Some(other)) = (read(&mut stream).await, read(&mut stream).await) {
        write(&mut stream, &answer(&other, 60)).await;
        write(&mut stream, &answer(&one, 60)).await;
    }
}

/// Answers one question and hangs up.
async fn once(mut stream: TlsStream<TcpStream>) {
    if let Some(asked) = read(&mut stream).await {
        write(&mut stream, &answer(&asked, 60)).await;
    }
    drop(stream.shutdown().await);
}

async fn https(stream: TlsStream<TcpStream>) {
    let service = service_fn(|request: Request<Incoming>| async move {
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.headers()["content-type"], "application/dns-message");
        let path = request.uri().path().to_owned();
        assert_eq!(request.uri().host(), Some(NAME));
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        let asked = Message::from_vec(&body).expect("a message");
        assert_eq!(asked.metadata.id, 0, "so that caches on the way can help");
        let bytes = answer(&asked, 60).to_vec().expect("it is encoded");
        let mut response = Response::new(Full::new(Bytes::from(bytes)));
        if path != "/dns-query" {
            *response.status_mut() = hyper::StatusCode::NOT_FOUND;
        }
        Ok::<_, Infallible>(response)
    });
    let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    drop(server.max_concurrent_streams(100).serve_connection(TokioIo::new(stream), service).await);
}

fn good(reply: &Message) -> bool {
    outcome(reply) == (ResponseCode::NoError, vec!["192.0.2.1".to_owned()])
}

#[test]
fn one_tls_connection_carries_all_questions() {
    let upstream = Secure::start(converse);
    for name in [format!("#{NAME}"), String::new()] {
        let before = upstream.connections();
        let spec = format!("tls://{}{name}", upstream.address);
        let resolver = upstream.resolver(&spec, PATIENCE);
        for number in 0..5 {
            assert!(good(&resolver.udp(&ask(&format!("www{number}.example.")))), "{spec}");
        }
        assert_eq!(upstream.connections() - before, 1, "{spec}");
    }
}

#[test]
fn a_handshake_that_takes_longer_than_a_question_may_is_ended_all_the_same() {
    for scheme in ["tls", "https"] {
        let gate = Arc::new(Semaphore::new(0));
        let upstream = match scheme {
            "tls" => Secure::start_behind(Arc::clone(&gate), converse),
            _ => Secure::start_behind(Arc::clone(&gate), https),
        };
        let path = if scheme == "tls" { "" } else { "/dns-query" };
        let spec = format!("{scheme}://{}{path}#{NAME}", upstream.address);
        let resolver = upstream.resolver(&spec, Duration::from_millis(300));
        let reply = resolver.udp(&ask("www0.example."));
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail, "{spec}");
        gate.add_permits(1);
        // It rests after the failure; each time another name, because failures are kept.
        let begin = Instant::now();
        let found = (1..).any(|number| {
            assert!(begin.elapsed() < PATIENCE, "{spec} is never asked");
            good(&resolver.udp(&ask(&format!("www{number}.example."))))
        });
        assert!(found);
        assert_eq!(upstream.calls.load(Ordering::SeqCst), 1, "{spec}: the first connection");
    }
}

#[test]
fn answers_by_tls_may_come_in_any_order() {
    let upstream = Secure::start(pairs);
    let resolver = upstream.resolver(&format!("tls://{}#{NAME}", upstream.address), PATIENCE);
    std::thread::scope(|scope| {
        for name in ["one.example.", "other.example."] {
            let resolver = &resolver;
            scope.spawn(move || {
                let reply = resolver.udp(&ask(name));
                assert!(good(&reply), "{reply:?}");
                assert_eq!(reply.answers[0].name.to_ascii(), name);
            });
        }
    });
}

#[test]
fn an_ended_tls_connection_is_made_anew() {
    let upstream = Secure::start(once);
    let resolver = upstream.resolver(&format!("tls://{}#{NAME}", upstream.address), PATIENCE);
    for number in 0..5 {
        assert!(good(&resolver.udp(&ask(&format!("www{number}.example.")))));
    }
    assert_eq!(upstream.connections(), 5);
    assert_eq!(resolver.server.forwarding().upstreams[0].failures, 0);
}

#[test]
fn https_carries_questions() {
    let upstream = Secure::start(https);
    let spec = format!("https://{}/dns-query#{NAME}", upstream.address);
    let resolver = upstream.resolver(&spec, PATIENCE);
    std::thread::scope(|scope| {
        for number in 0..20 {
            let resolver = &resolver;
            scope.spawn(move || {
                assert!(good(&resolver.udp(&ask(&format!("www{number}.example.")))));
            });
        }
    });
    assert_eq!(upstream.connections(), 1);
    let wrong = format!("https://{}/elsewhere#{NAME}", upstream.address);
    let resolver = upstream.resolver(&wrong, Duration::from_secs(5));
    let reply = resolver.udp(&ask("www.example."));
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail, "it says 404");
}

#[test]
fn whoever_has_another_name_or_signer_is_not_asked() {
    let (upstream, stranger) = (Secure::start(converse), Secure::start(converse));
    let wrong = [
        (&upstream, format!("tls://{}#other.example", upstream.address)),
        (&upstream, format!("https://{}/dns-query#other.example", upstream.address)),
        // Its certificate is signed by somebody else.
        (&upstream, format!("tls://{}#{NAME}", stranger.address)),
    ];
    for (trusted, spec) in wrong {
        let resolver = trusted.resolver(&spec, Duration::from_secs(5));
        let reply = resolver.udp(&ask("www.example."));
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail, "{spec}");
        assert!(resolver.server.forwarding().upstreams[0].failures > 0, "{spec}");
    }
    assert_eq!((upstream.connections(), stranger.connections()), (0, 0));
}

#[test]
fn connections_stay_as_long_as_the_certificates_do() {
    let upstream = Secure::start(converse);
    let settings = upstream.settings(&format!("tls://{}#{NAME}", upstream.address), PATIENCE);
    let resolver = Resolver::start(settings.clone());
    let asked = |name| {
        let reply = resolver.udp(&ask(name));
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError, "{name}");
        let queries = resolver.server.forwarding().upstreams[0].queries;
        (upstream.connections(), queries)
    };
    assert_eq!(asked("a.example."), (1, 1));
    resolver.server.reconfigure(&settings).expect("it is taken over");
    assert_eq!(asked("b.example."), (1, 2));
    let file = std::fs::OpenOptions::new().append(true).open(&upstream.authority);
    file.and_then(|mut file| file.write_all(b"\n")).expect("it is written");
    resolver.server.reconfigure(&settings).expect("it is taken over");
    assert_eq!(asked("c.example."), (2, 1), "it may hold others now");
}

#[test]
fn certificates_that_cannot_be_read_are_named() {
    let forward = ForwardSettings {
        upstreams: vec!["tls://127.0.0.1#dns.example".parse().expect("an upstream")],
        ca_file: Some("/nowhere/ca.pem".into()),
        ..ForwardSettings::default()
    };
    let zones = Arc::new(SharedZones::new(Zones::new(&Options::default())));
    let error = Server::start(&Settings { forward, ..Settings::default() }, zones);
    let error = error.expect_err("there is no such file").to_string();
    assert_eq!(error, "cannot read certificates from /nowhere/ca.pem");
}
