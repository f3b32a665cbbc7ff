//! What those see of the resolver who look after it: whole zones at another server, a log
//! of questions, an answer that is watched, and whose a name is.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};
use mizzen_tests_node::apps::{self, deploy_web};
use mizzen_tests_node::dns::{self, By};
use mizzen_tests_node::node::{Node, Place, run};
use mizzen_tests_node::{SOON, eventually, in_lab, lab};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const WEB: &str = "web.marathon.mesos";

/// A program that runs beside the node; ended when it is dropped.
struct Beside {
    child: Child,
    output: PathBuf,
}

impl Beside {
    fn start(mut command: Command, output: &str) -> Self {
        let output = lab::scratch(output);
        let file = File::create(&output).unwrap();
        command.stderr(file.try_clone().unwrap()).stdout(file);
        Self { child: command.spawn().unwrap(), output }
    }

    /// What it has written so far.
    fn said(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.output.display(), self.said());
        }
    }
}

/// Knot as a secondary of the zone of tasks, which looks for another serial all the time.
fn secondary() -> (Beside, SocketAddr) {
    let (place, at) = (lab::scratch("knot"), SocketAddr::from(([127, 0, 0, 1], 5399)));
    fs::create_dir_all(&place).unwrap();
    let (place, primary) = (place.display(), dns::resolver());
    let text = format!(
        "server:\n  rundir: \"{place}\"\n  listen: {}@{}\n\
         database:\n  storage: \"{place}\"\n\
         log:\n  - target: stderr\n    any: info\n\
         remote:\n  - id: node\n    address: {}@{}\n\
         zone:\n  - domain: mesos\n    storage: \"{place}\"\n    master: node\n    \
         refresh-max-interval: 2\n    retry-max-interval: 2\n",
        at.ip(),
        at.port(),
        primary.ip(),
        primary.port(),
    );
    let file = lab::scratch("knot.conf");
    fs::write(&file, text).unwrap();
    let mut command = Command::new("/usr/sbin/knotd");
    command.arg("-c").arg(file);
    (Beside::start(command, "knot.log"), at)
}

fn serial(at: SocketAddr) -> Option<u32> {
    let answer = dns::ask(By::Udp, at, "mesos", RecordType::SOA).ok()?;
    match &answer.answers.first()?.data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    }
}

/// Waits until the secondary answers these addresses.
fn follows(at: SocketAddr, want: &[IpAddr]) {
    let mut want = want.to_vec();
    want.sort();
    eventually(&format!("the secondary has {want:?}"), SOON, || {
        let answer = dns::ask(By::Udp, at, WEB, RecordType::A).ok()?;
        (dns::addresses_of(&answer) == want).then_some(())
    });
}

fn dig(arguments: &[&str]) -> String {
    let mut command = Command::new("dig");
    command.arg(format!("@{}", dns::resolver().ip())).args(arguments);
    run(command, LIMIT).stdout
}

#[test]
fn a_secondary_follows_one_node_over_restarts() {
    in_lab(|| {
        let networks = ["--dns-transfer-to", "127.0.0.0/8,198.51.100.0/24"];
        let refused = Node::start(&[]);
        assert!(dig(&["axfr", "mesos"]).contains("Transfer failed"), "by default nobody has zones");
        drop(refused);

        let place = Place::new(&networks);
        let mut node = place.start();
        let addresses = |count| -> Vec<IpAddr> {
            let tasks = apps::await_tasks(&node, "/web", count);
            tasks.iter().flat_map(|task| task.addresses.clone()).collect()
        };
        deploy_web(&node, 1);
        let one = addresses(1);
        dns::await_addresses(WEB, &one);
        let (_knot, at) = secondary();
        follows(at, &one);
        assert_eq!(node.mizzen(&["scale", "web", "2"]).code, Some(0));
        let two = addresses(2);
        dns::await_addresses(WEB, &two);
        follows(at, &two);

        for zone in ["mesos", "l4lb.thisdcos.directory", "thisdcos.directory", "9.in-addr.arpa"] {
            let whole = dig(&["+noall", "+answer", "axfr", zone]);
            let starts = whole.lines().filter(|line| line.contains("\tSOA\t")).count();
            assert_eq!(starts, 2, "{zone}: {whole}");
        }
        let vips = dig(&["+noall", "+answer", "axfr", "l4lb.thisdcos.directory"]);
        assert!(vips.lines().any(|line| line.starts_with(apps::WEB_VIP)), "{vips}");
        let whole = dig(&["+noall", "+answer", "ixfr=1", "mesos"]);
        assert!(whole.lines().filter(|line| line.starts_with(WEB)).count() == 2, "{whole}");

        let before = serial(dns::resolver()).unwrap();
        node.kill();
        let node = place.start();
        let after = serial(dns::resolver()).unwrap();
        assert!(after.wrapping_sub(before).cast_signed() > 0, "{after} after {before}");
        assert_eq!(node.mizzen(&["scale", "web", "1"]).code, Some(0));
        let tasks = apps::await_tasks(&node, "/web", 1);
        dns::await_addresses(WEB, &tasks[0].addresses);
        follows(at, &tasks[0].addresses);
        let ours = serial(dns::resolver()).unwrap();
        assert!(serial(at).is_some_and(|theirs| ours.wrapping_sub(theirs).cast_signed() >= 0));
    });
}

/// Waits until the daemon has logged as many lines of questions.
fn await_logged(node: &Node, count: usize) -> Vec<String> {
    eventually(&format!("{count} questions are logged"), SOON, || {
        Some(logged(node)).filter(|lines| lines.len() >= count)
    })
}

/// Lines that the daemon logged of questions.
fn logged(node: &Node) -> Vec<String> {
    let log = node.place().log();
    log.lines().filter(|line| line.contains("dns_query")).map(str::to_owned).collect()
}

#[test]
fn questions_below_a_suffix_are_logged_while_that_is_wanted() {
    in_lab(|| {
        let file = PathBuf::from(lab::variable("MIZZEN_CONFIG"));
        let configure = |ttl: u32, suffixes: &str| {
            fs::write(&file, format!("[dns]\nttl = {ttl}\nquery_log = [{suffixes}]\n")).unwrap();
        };
        configure(11, "'example.com'");
        let node = Node::start(&["--roles", "dns", "--dns-upstreams", ""]);
        for name in ["db.example.com", "db.example.net"] {
            let _ = node.text(&["dns", "set", name, "A", "192.0.2.7"]);
        }
        let ask = |by, name: &str, kind| dns::ask(by, dns::resolver(), name, kind).unwrap();
        ask(By::Udp, "db.example.net", RecordType::A);
        ask(By::Udp, "db.example.com", RecordType::A);
        ask(By::Tcp, "DB.example.com", RecordType::AAAA);
        ask(By::Udp, "x.db.example.com", RecordType::A);
        #[rustfmt::skip]
        let want = [
            vec!["INFO", "client=198.51.100.1:", "transport=\"udp\"", "name=db.example.com. type=A code=0 took_us="],
            vec!["client=198.51.100.1:", "transport=\"tcp\"", "name=db.example.com. type=AAAA code=0 "],
            vec!["name=x.db.example.com. type=A code=5 "],
        ];
        let lines = await_logged(&node, want.len());
        assert_eq!(lines.len(), want.len(), "{lines:#?}");
        for (line, words) in lines.iter().zip(want) {
            assert!(words.iter().all(|word| line.contains(word)), "{words:?} in {line}");
        }

        configure(12, "");
        node.signal(Signal::HUP);
        eventually("the reload has happened", SOON, || {
            let answer = ask(By::Udp, "db.example.net", RecordType::A);
            (answer.answers.first()?.ttl == 12).then_some(())
        });
        ask(By::Udp, "db.example.com", RecordType::A);
        assert_eq!(logged(&node), lines, "no more");
    });
}

#[test]
fn an_answer_is_watched_as_it_changes() {
    in_lab(|| {
        let node = Node::start(&[]);
        let watch = node.place().command(&["dns", WEB, "--watch"]);
        let mut watch = Beside::start(watch, "watch.txt");
        let head = |code: &str| format!("{WEB}. A: {code}, zone mesos.\n");
        let last = |code: &str, with: &[String]| {
            eventually(&format!("{code} with {with:?} is shown"), SOON, || {
                let text = watch.said();
                let block = &text[text.rfind(&head(code))?..];
                with.iter().all(|address| block.contains(address)).then_some(())
            });
        };
        last("NXDOMAIN", &[]);
        let tasks = deploy_web(&node, 2);
        let addresses: Vec<String> =
            tasks.iter().map(|task| task.addresses[0].to_string()).collect();
        last("NOERROR", &addresses);
        let missing = || watch.said().matches(&head("NXDOMAIN")).count();
        assert_eq!(missing(), 1, "what stays as it is is shown once");
        assert_eq!(node.mizzen(&["scale", "web", "0"]).code, Some(0));
        eventually("the name is gone", SOON, || (missing() == 2).then_some(()));
        let pid = Pid::from_raw(watch.child.id().cast_signed()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        assert!(watch.child.wait().unwrap().success());
    });
}

#[test]
fn a_name_tells_whose_it_is() {
    in_lab(|| {
        let node = Node::start(&[]);
        let task = deploy_web(&node, 1).remove(0);
        dns::await_addresses(WEB, &task.addresses);
        let start = format!("\"task {} of framework ", task.id);
        let text = dig(&["+short", "txt", WEB]);
        assert!(text.starts_with(&start) && text.trim_end().ends_with(" s\""), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        let shown = node.text(&["dns", WEB, "TXT"]);
        assert!(shown.contains(&start), "{shown}");
        let vip = dns::ask(By::Udp, dns::resolver(), apps::WEB_VIP, RecordType::TXT).unwrap();
        assert_eq!(vip.metadata.response_code, ResponseCode::NoError);
        let text = vip.answers.iter().map(ToString::to_string).collect::<String>();
        assert!(text.contains("VIP web.marathon"), "{text}");
    });
}
