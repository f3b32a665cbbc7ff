//! Changes, deaths, restarts and removal.

use mizzen_tests_support::load::{Load, while_loaded};
use std::io::ErrorKind;
use std::net::SocketAddr;

use mizzen_netlink::Nft;
use mizzen_nfqueue::{
    BackendWanted, Engine, OpenError, Options, Policy, QueueError, Removal, VipAddress, VipWanted,
};

use mizzen_tests_support::greeting::understood;
use mizzen_tests_support::wait::eventually;

use crate::net::{BACKEND, BACKEND6, Net, at, counts_when, options, tcp, udp};

const VIP: &str = "11.0.0.1:80";

#[test]
fn it_says_how_packets_are_queued() {
    let engine = Net::new().engine(&[]);
    let by = ["nf_tables queue, ", "nf_tables with the xtables target NFQUEUE, "];
    let mechanism = engine.mechanism();
    assert!(
        by.map(|by| format!("{by}queues 50-58")).contains(&mechanism.to_owned()),
        "{mechanism}"
    );
}

#[test]
#[ignore = "needs `queue` in the kernel's nf_tables: make test-kernel"]
fn nf_tables_queues_by_itself_where_it_can() {
    let net = Net::new();
    let engine = net.engine(&[]);
    assert_eq!(engine.mechanism(), "nf_tables queue, queues 50-58");
    let rules = net.node.run(|| {
        let mut nft = std::process::Command::new("nft");
        nft.args(["list", "table", "ip", "mizzen-test"]).output().expect("nft of the machine")
    });
    let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
    let queueing = rules.lines().filter(|rule| rule.contains("50-58")).count();
    // TCP and UDP, from here and from elsewhere.
    assert_eq!(queueing, 4, "{rules}");
    assert!(rules.contains("bypass") && rules.contains("fanout"), "{rules}");
}

#[test]
fn connections_outlive_the_engine_and_new_ones_are_refused_until_the_next_one() {
    let net = Net::new();
    let (stream, datagrams) = (net.backend.server(BACKEND), net.backend.udp_server(BACKEND));
    let vips = [tcp(VIP, &[stream]), udp("11.0.0.1:53", &[datagrams])];
    let [stream_vip, datagram_vip] = [vips[0].address.socket, vips[1].address.socket];
    let engine = net.engine(&vips);
    let mut held: Vec<_> = [&net.client, &net.node]
        .map(|namespace| namespace.connect(stream_vip).expect("a connection"))
        .into();
    let socket = net.client.udp_at("0.0.0.0");
    socket.connect(datagram_vip).expect("a route");
    let ask = || {
        socket.send(b"x")?;
        socket.recv(&mut [0; 64])
    };
    ask().expect("an answer");
    drop(engine);

    assert!(held.iter_mut().all(|held| held.echoes(b"still")), "they go on");
    ask().expect("so does the flow of datagrams");
    for namespace in [&net.client, &net.node] {
        let error = namespace.connect(stream_vip).map(drop).expect_err("nobody chooses");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
    // A flow that pauses is asked for again, and passes where nobody listens.
    std::thread::sleep(std::time::Duration::from_millis(3_500));
    ask().expect("an answer after a pause");

    let (engine, before) = net.node.run(|| {
        let mut engine = Engine::open(&options()).expect("an engine");
        let before = engine.observe();
        engine.set_vips(&vips).expect("VIPs");
        engine.serve().expect("threads");
        (engine, before)
    });
    let listed: Vec<VipAddress> = before.keys().copied().collect();
    assert_eq!(listed, [vips[1].address, vips[0].address], "the kernel's set is taken over");
    assert!(held.iter_mut().all(|held| held.echoes(b"still")), "they still go on");
    net.client.connect(stream_vip).expect("new ones are served again");
    // What the former engine began is known to this one.
    held.clear();
    counts_when(&engine, &vips[0], stream, |c| (c.chosen, c.established, c.closed) == (1, 3, 3));
}

#[test]
fn a_connect_during_a_restart_waits_for_the_tables() {
    let net = Net::new();
    let backend = net.backend.server(BACKEND);
    let vip = tcp(VIP, &[backend]);
    drop(net.engine(std::slice::from_ref(&vip)));
    let mut engine = net.node.run(|| Engine::open(&options())).expect("an engine");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| net.client.connect(vip.address.socket).map(drop));
        eventually("a queued packet", || net.node.run(queued) > 0);
        engine.set_vip(&vip).expect("a VIP");
        engine.serve().expect("threads");
        waiting.join().expect("no panic").expect("it is served");
    });
}

#[test]
fn packets_beyond_a_full_queue_pass_and_are_refused_at_once() {
    let net = Net::new();
    let backend = net.backend.server(BACKEND);
    let vip = tcp(VIP, &[backend]);
    drop(net.engine(std::slice::from_ref(&vip)));
    // Nobody reads, so that everything that is queued stays there.
    let engine = net.node.run(|| Engine::open(&options())).expect("an engine");
    let refused = net.client.run(|| {
        let mut started = Vec::new();
        for n in 0..40_000_u32 {
            let socket = socket2::Socket::new(
                socket2::Domain::IPV4,
                socket2::Type::STREAM.nonblocking(),
                None,
            )
            .expect("a socket");
            let _ = socket.connect(&vip.address.socket.into());
            let failed = socket.take_error().expect("readable");
            if failed.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
                return Some(n);
            }
            // Aborted, so that the next one finds a free port; its SYN stays queued.
            started.push(socket);
            if started.len() >= 512 {
                started.clear();
            }
        }
        None
    });
    assert!(refused.is_some_and(|n| n > 1_000), "refused after {refused:?} connects");
    drop(engine);
}

#[test]
fn backends_that_leave_are_left_as_the_policy_says() {
    let net = Net::new();
    let (stays, goes) = (net.backend.server(BACKEND), net.backend.server(BACKEND));
    for (removal, lives) in
        [(Removal::EndDatagrams, true), (Removal::Keep, true), (Removal::EndAll, false)]
    {
        let policy = Policy { removal, ..Policy::default() };
        let vip = VipWanted { policy, ..tcp(VIP, &[goes]) };
        let mut engine = net.engine(std::slice::from_ref(&vip));
        let mut held = net.client.connect(vip.address.socket).expect("a connection");
        // What the policy says now is what counts.
        let before = Policy { removal: Removal::Keep, ..policy };
        engine.set_vip(&VipWanted { policy: before, ..vip.clone() }).expect("a VIP");
        engine.set_vip(&VipWanted { policy, ..tcp(VIP, &[stays]) }).expect("a VIP");
        let next = net.client.connect(vip.address.socket).expect("a connection");
        assert_eq!(next.backend, stays.port());
        match lives {
            true => assert!(held.echoes(b"still"), "{removal:?}"),
            false => eventually("the connection is ended", || !held.echoes(b"still")),
        }
    }
}

#[test]
fn a_flow_of_datagrams_moves_when_its_backend_leaves() {
    let net = Net::new();
    let (stays, goes) = (net.backend.udp_server(BACKEND), net.backend.udp_server(BACKEND));
    let vip = udp("11.0.0.1:53", &[goes]);
    let mut engine = net.engine(std::slice::from_ref(&vip));
    let socket = net.client.udp_at("0.0.0.0");
    socket.set_read_timeout(Some(std::time::Duration::from_millis(100))).expect("a time-out");
    let ask = || {
        socket.send_to(b"x", vip.address.socket).ok()?;
        let mut buffer = [0; 64];
        socket.recv(&mut buffer).ok()?;
        Some(understood(&buffer).0)
    };
    assert_eq!(ask(), Some(goes.port()));
    engine.set_vip(&udp("11.0.0.1:53", &[stays])).expect("a VIP");
    eventually("the flow goes elsewhere", || ask() == Some(stays.port()));
}

#[test]
fn who_leaves_by_a_change_takes_his_connections_along_and_no_others() {
    let net = Net::new();
    let (stays, goes) = (net.backend.server(BACKEND), net.backend.server(BACKEND));
    let policy = Policy { removal: Removal::EndAll, ..Policy::default() };
    let vip = VipWanted { policy, ..tcp(VIP, &[goes]) };
    let mut engine = net.engine(std::slice::from_ref(&vip));
    let connect = || net.client.connect(vip.address.socket).expect("a connection");
    let mut ended = connect();
    let come = [(stays, Some(BackendWanted::new(stays)))];
    assert!(engine.change(vip.address, policy, &come.into()));
    let mut kept = connect();
    while kept.backend != stays.port() {
        kept = connect();
    }
    assert!(engine.change(vip.address, policy, &[(goes, None)].into()));
    eventually("its connections are ended", || !ended.echoes(b"still"));
    assert!(kept.echoes(b"still"));
    assert_eq!(connect().backend, stays.port());
    let wish = engine.wish(vip.address).map(|wish| wish.backends);
    assert_eq!(wish, Some(vec![BackendWanted::new(stays)]));
    assert_eq!(engine.counters().into_keys().collect::<Vec<_>>(), [(vip.address, stays)]);
    let before = engine.observe();
    let foreign = at("[fd00:2::2]:80");
    let foreign = [(foreign, Some(BackendWanted::new(foreign)))];
    assert!(!engine.change(vip.address, policy, &foreign.into()));
    assert!(!engine.change(VipAddress::tcp(at("11.0.0.2:80")), policy, &come.into()));
    assert!(!engine.change(vip.address, Policy::default(), &[(stays, None)].into()));
    assert_eq!(engine.observe(), before, "what is refused is not done in part");
}

#[test]
fn thousands_of_flows_move_when_their_backend_leaves() {
    const MANY: usize = 5_000;
    const AT_ONCE: usize = 250;
    let net = Net::new();
    for (vip, address, source) in
        [("11.0.0.1:53", BACKEND, "0.0.0.0"), ("[fd01:c::1]:53", BACKEND6, "::")]
    {
        let (stays, goes) = (net.backend.udp_server(address), net.backend.udp_server(address));
        let wanted = udp(vip, &[goes]);
        let mut engine = net.engine(std::slice::from_ref(&wanted));
        let mut sockets = Vec::new();
        let answered = |socket: &std::net::UdpSocket| {
            let mut buffer = [0; 64];
            socket.send(b"x").ok()?;
            socket.recv(&mut buffer).ok()?;
            Some(understood(&buffer).0)
        };
        for _ in 0..MANY {
            let socket = net.client.udp_at(source);
            let moment = std::time::Duration::from_millis(200);
            socket.set_read_timeout(Some(moment)).expect("a time-out");
            net.client.run(|| socket.connect(wanted.address.socket)).expect("a route");
            eventually("an answer", || answered(&socket) == Some(goes.port()));
            sockets.push(socket);
            // The last ones go on speaking, so that none of them pauses.
            if sockets.len() > AT_ONCE {
                sockets.remove(0);
            }
        }
        engine.set_vip(&udp(vip, &[stays])).expect("a VIP");
        eventually("every flow is elsewhere", || {
            let there = |socket| answered(socket) == Some(stays.port());
            sockets.iter().filter(|socket| !there(socket)).count() == 0
        });
        let entries = || {
            let path = "/proc/sys/net/netfilter/nf_conntrack_count";
            let text = net.node.run(|| std::fs::read_to_string(path)).expect("procfs");
            text.trim().parse::<usize>().expect("a number")
        };
        eventually("the entries are gone", || entries() < MANY / 2);
    }
}

#[test]
fn routes_of_vips_that_could_not_all_be_made_are_taken_back() {
    let net = Net::new();
    let mut engine = net.engine(&[]);
    net.node.run(|| {
        mizzen_netlink::ensure_sysctl("net/ipv6/conf/all/disable_ipv6", "1").expect("a setting");
    });
    let (good, bad) = (tcp("192.0.2.7:80", &[]), tcp("[2001:db8::7]:80", &[]));
    let error = engine.set_vips(&[good.clone(), bad]).expect_err("there is no IPv6");
    assert!(matches!(error, QueueError::Route { .. }), "{error}");
    let own = || {
        let mut netlink = mizzen_netlink::Netlink::open().expect("a socket");
        let routes = netlink.observe_routes(0x6e).expect("a list of routes");
        routes.iter().filter(|route| route.destination.addr() == good.address.socket.ip()).count()
    };
    assert_eq!(net.node.run(own), 0);
    engine.set_vip(&good).expect("a VIP");
    assert_eq!(net.node.run(own), 1);
    engine.remove_vip(good.address).expect("removable");
    assert_eq!(net.node.run(own), 0);
}

#[test]
fn changes_under_load_lose_no_connect() {
    let net = Net::new();
    let servers = [BACKEND; 3].map(|address| net.backend.server(address));
    let mut engine = net.engine(&[tcp(VIP, &servers)]);
    let connects = std::sync::atomic::AtomicU64::new(0);
    let order = std::sync::atomic::Ordering::Relaxed;
    let connecting = |load: &Load| {
        while load.goes_on() {
            net.client.connect(at(VIP)).expect("every connect succeeds");
            connects.fetch_add(1, order);
        }
    };
    while_loaded([connecting], |load| {
        let mut round = 0;
        while connects.load(order) < 300 && load.goes_on() {
            round += 1;
            let wanted = &servers[round % 3..=(round % 3).max(round % 2 + 1)];
            engine.set_vip(&tcp(VIP, wanted)).expect("a VIP");
            engine.set_vip(&tcp(&format!("11.1.0.{}:80", round % 200), &[])).expect("another");
            engine
                .remove_vip(VipAddress::tcp(at(&format!("11.1.0.{}:80", round % 200))))
                .expect("removable");
        }
    });
}

#[test]
fn teardown_leaves_nothing() {
    let net = Net::new();
    let backend = net.backend.server(BACKEND);
    let vips = [tcp(VIP, &[backend]), tcp("192.0.2.7:80", &[backend]), tcp("[fd01:c::1]:80", &[])];
    assert_eq!(net.node.run(|| (observe_routes(), tables())), (0, vec![]));
    let engine = net.engine(&vips);
    net.client.connect(at(VIP)).expect("a connection");
    assert_eq!(net.node.run(tables), ["mizzen-test", "mizzen-test"]);
    drop(engine);
    assert_eq!(net.node.run(tables).len(), 2, "a restart finds them");

    net.teardown().expect("removable");
    assert_eq!(net.node.run(|| (observe_routes(), tables())), (0, vec![]));
    let error = net.node.connect(at(VIP)).map(drop).expect_err("there is no route");
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
    net.teardown().expect("again is no error");
    assert!(net.engine(&[]).observe().is_empty());
}

#[test]
fn other_options_replace_the_rules_and_keep_the_set() {
    let net = Net::new();
    let backend = net.backend.server(BACKEND);
    let vip = tcp(VIP, &[backend]);
    drop(net.engine(std::slice::from_ref(&vip)));
    let other = Options { queues: 60..=61, ..options() };
    let engine = net.node.run(|| Engine::open(&other)).expect("an engine");
    assert!(engine.mechanism().contains("queues 60-61"), "{}", engine.mechanism());
    assert_eq!(engine.observe().into_keys().collect::<Vec<_>>(), [vip.address]);
    drop(engine);
    let _engine = net.engine_with(&other, std::slice::from_ref(&vip)).expect("an engine");
    net.client.connect(at(VIP)).expect("a connection");
}

#[test]
fn what_is_somebody_elses_is_named_and_left() {
    let net = Net::new();
    let _engine = net.engine(&[]);
    let second = Options { table: "mizzen-other".to_owned(), ..options() };
    let error = net.engine_with(&second, &[]).expect_err("the queues are taken");
    assert!(matches!(error, OpenError::Queue { queue: 50, .. }), "{error}");
    assert_eq!(net.node.run(tables), ["mizzen-test", "mizzen-test"], "nothing was made");
}

#[test]
fn what_cannot_work_is_refused_before_anything_changes() {
    let net = Net::new();
    let backend = net.backend.server(BACKEND);
    let good = tcp(VIP, &[backend]);
    let mut engine = net.engine(std::slice::from_ref(&good));
    let before = engine.observe();
    let twice = tcp(VIP, &[backend, backend]);
    let error = engine.set_vip(&twice).expect_err("the same one twice");
    assert!(matches!(error, QueueError::Duplicate { .. }), "{error}");
    let other_family = tcp(VIP, &[at("[fd00:2::2]:80")]);
    let error = engine.set_vip(&other_family).expect_err("IPv6");
    assert!(matches!(error, QueueError::Family { .. }), "{error}");
    assert_eq!(engine.observe(), before);
    net.client.connect(at(VIP)).expect("a connection");
}

#[test]
fn ten_thousand_vips_are_found_again() {
    let net = Net::new();
    let backend = net.backend.server(BACKEND);
    let vip = |n: u32| SocketAddr::from(((0x0b00_0000 + n).to_be_bytes(), 80));
    let many: Vec<VipWanted> = (1..=10_000)
        .map(|n| VipWanted {
            address: VipAddress::tcp(vip(n)),
            backends: vec![BackendWanted::new(backend), BackendWanted::new(at("10.2.0.2:9"))],
            policy: Policy::default(),
        })
        .collect();
    let mut engine = net.engine(&many);
    drop(engine);
    engine = net.node.run(|| Engine::open(&options())).expect("an engine");
    assert_eq!(engine.observe().len(), many.len());
    engine.set_vips(&many).expect("VIPs");
    engine.serve().expect("threads");
    let served = (0..20).filter(|_| net.client.connect(vip(9_999)).is_ok()).count();
    assert!(served >= 5, "{served} of 20");
    let addresses: Vec<VipAddress> = many[..9_000].iter().map(|vip| vip.address).collect();
    engine.remove_vips(&addresses).expect("removable");
    assert_eq!(engine.observe().len(), 1_000);
    let gone = net.node.connect(vip(7)).map(drop).expect_err("nobody is there");
    assert_eq!(gone.kind(), ErrorKind::ConnectionRefused);
}

/// Packets that wait in all queues of the namespace of this thread.
fn queued() -> u32 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netfilter/nfnetlink_queue");
    let text = text.expect("procfs");
    let waiting = text.lines().filter_map(|line| line.split_whitespace().nth(2));
    waiting.filter_map(|number| number.parse::<u32>().ok()).sum()
}

fn tables() -> Vec<String> {
    Nft::open().expect("a socket").observe_tables().expect("a list of tables")
}

/// How many routes of ours there are in the namespace of this thread.
fn observe_routes() -> usize {
    let mut netlink = mizzen_netlink::Netlink::open().expect("a socket");
    netlink.observe_routes(0x6e).expect("a list of routes").len()
}
