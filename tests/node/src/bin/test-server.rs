//! The program that apps of the tests run: a small HTTP server that tells what its
//! container looks like from inside, and misbehaves when it is asked to.
//!
//! `mizzen-test-server PORT` serves; `mizzen-test-server get HOST PORT PATH` prints what
//! another one answers.
//!
//! | path | what it does |
//! |---|---|
//! | `/` | answers with `$MESOS_TASK_ID` |
//! | `/health` | 200, or 503 after `/sicken` |
//! | `/peer` | the address that the client comes from |
//! | `/env` | its environment, one variable a line |
//! | `/processes` | ids of the processes that it can see |
//! | `/fetch/HOST/PORT` | gets `/` from there; answers with the peer's address and the answer |
//! | `/print/TEXT`, `/complain/TEXT` | writes a line to stdout or stderr |
//! | `/exit/CODE`, `/abort`, `/hog` | ends: so, by a signal, by taking all memory |

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static SICK: AtomicBool = AtomicBool::new(false);

/// For another one's answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// For the rest of a request that has begun.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> std::io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["get", host, port, path] = words[..] {
        println!("{}", fetch(host, port, path)?.1);
        return Ok(());
    }
    let port = words.first().and_then(|port| port.parse::<u16>().ok());
    let port = port.ok_or_else(|| std::io::Error::other("usage: mizzen-test-server PORT"))?;
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("listening on {port}");
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            // A client that went away is its own affair.
            let _ = serve(stream);
        });
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 0 && !header.trim().is_empty() {
        header.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, body) = answer(path, stream.peer_addr()?);
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn answer(path: &str, client: SocketAddr) -> (u16, String) {
    let words: Vec<&str> = path.split('/').skip(1).collect();
    let good = |text: String| (200, text);
    match words.as_slice() {
        [""] => good(std::env::var("MESOS_TASK_ID").unwrap_or_default()),
        ["health"] if SICK.load(Ordering::Relaxed) => (503, "sick".to_owned()),
        ["health"] => good("well".to_owned()),
        ["sicken"] => {
            SICK.store(true, Ordering::Relaxed);
            good(String::new())
        }
        ["env"] => good(environment()),
        ["processes"] => good(processes()),
        ["peer"] => good(client.ip().to_string()),
        ["fetch", host, port] => match fetch(host, port, "/") {
            Ok((peer, body)) => good(format!("{peer} {body}")),
            Err(error) => (502, error.to_string()),
        },
        ["print", text] => {
            println!("{text}");
            good(String::new())
        }
        ["complain", text] => {
            eprintln!("{text}");
            good(String::new())
        }
        ["exit", code] => std::process::exit(code.parse().unwrap_or(99)),
        ["abort"] => std::process::abort(),
        ["hog"] => hog(),
        _ => (404, format!("there is no {path}")),
    }
}

fn environment() -> String {
    std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect()
}

fn processes() -> String {
    let Ok(entries) = std::fs::read_dir("/proc") else { return String::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.parse::<u32>().is_ok()).map(|pid| format!("{pid}\n")).collect()
}

/// The peer's address as this process sees it, and the answer's body.
fn fetch(host: &str, port: &str, path: &str) -> std::io::Result<(SocketAddr, String)> {
    let port: u16 = port.parse().map_err(std::io::Error::other)?;
    let mut addresses = (host, port).to_socket_addrs()?;
    let address = addresses.next().ok_or_else(|| std::io::Error::other("no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let peer = stream.peer_addr()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((peer, body.to_owned()))
}

fn hog() -> ! {
    let mut held = Vec::new();
    loop {
        held.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&held);
    }
}
