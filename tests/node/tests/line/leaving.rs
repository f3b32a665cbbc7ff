//! Clients whose backend leaves.

use mizzen_tests_node::in_lab;
use mizzen_tests_node::node::Node;
use serde_json::Value;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// A UDP server of this process that answers with its port.
fn answering() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((_, peer)) = socket.recv_from(&mut [0; 64]) {
            let _ = socket.send_to(&address.port().to_be_bytes(), peer);
        }
    });
    address
}

/// A TCP server of this process that says nothing.
fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().collect::<Vec<_>>());
    address
}

fn ask(client: &UdpSocket) -> u16 {
    let mut answer = [0; 2];
    client.send(b"?").unwrap();
    client.recv(&mut answer).unwrap();
    u16::from_be_bytes(answer)
}

fn set(node: &Node, service: &str, policy: &str, backend: SocketAddr) -> SocketAddr {
    let backend = backend.to_string();
    let arguments = ["vip", "set", service, "--on-removal", policy, "--backend", &backend];
    let set: Value = node.json(&arguments);
    set["vips"][0].as_str().unwrap().parse().unwrap()
}

#[test]
fn clients_are_told_that_their_backend_left_as_its_service_says() {
    in_lab(|| {
        let node = Node::start(&["--roles", "vip"]);
        let (goes, stays) = (answering(), answering());
        let vip = set(&node, "names:53/udp", "datagrams", goes);
        let client = UdpSocket::bind("0.0.0.0:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.connect(vip).unwrap();
        assert_eq!(ask(&client), goes.port());
        assert_eq!(set(&node, "names:53/udp", "datagrams", stays), vip);
        let error = client.recv(&mut [0; 2]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        client.connect(vip).unwrap();
        assert_eq!(ask(&client), stays.port());

        for (policy, told) in
            [("datagrams", ErrorKind::WouldBlock), ("all", ErrorKind::ConnectionAborted)]
        {
            let vip = set(&node, "web:80/tcp", policy, silent());
            let mut client = TcpStream::connect(vip).unwrap();
            let _ = set(&node, "web:80/tcp", policy, silent());
            let patience = if policy == "all" { 20 } else { 1 };
            client.set_read_timeout(Some(Duration::from_secs(patience))).unwrap();
            assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), told, "{policy}");
        }
    });
}
