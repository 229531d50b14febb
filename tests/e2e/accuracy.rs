//! The agent's counts against the server's own log: equal, or short by exactly what the
//! agent declares lost.

use std::sync::atomic::Ordering;
use std::time::Duration;

use meshtap_tests::agent::{Agent, Observer};
use meshtap_tests::books::{Books, Kind, lost};
use meshtap_tests::ledger::Ledger;
use meshtap_tests::link::{Impairment, Link};
use meshtap_tests::netns::{Netns, Place, SERVER};
use meshtap_tests::scrape::Scrape;
use meshtap_tests::workload::{Nginx, ab, h2load, h2load_with, wrk};
use meshtap_tests::{require, skip};

/// A path, what it is answered with.
const ANSWERS: [(&str, u16); 5] =
    [("/ok", 200), ("/nothing", 404), ("/broken", 500), ("/moved", 302), ("/empty", 204)];

/// An agent, and an nginx whose name no other program of this host has.
struct Shop {
    nginx: Nginx,
    agent: Agent,
    books: Books,
}

impl Shop {
    fn open(place: Place<'_>) -> Self {
        let nginx = Nginx::start_in(place, 1, "").expect("starts");
        let books = Books::new(Kind::Http, nginx.port());
        let agent = Agent::start(&books.configuration()).expect("is ready");
        Self { nginx, agent, books }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.nginx.port())
    }

    /// Reads the metrics once both sides have `total` calls: what the server's side counted,
    /// what the client's, and all of it.
    fn count(&self, client: &str, total: u64) -> ([Ledger; 2], Scrape) {
        let scrape = self.books.settle(&self.agent, client, total).expect("is served");
        (self.books.sides(&scrape, client), scrape)
    }
}

/// What the log has and the agent has not, on both sides together, is what it declares
/// lost, at the most one in a thousand; and it has nothing that the log has not.
fn exactly(log: &Ledger, sides: &[Ledger; 2], declared: u64) {
    let mut missing = 0;
    for (side, seen) in ["server", "client"].iter().zip(sides) {
        let (invented, lines) = seen.excess(log);
        assert_eq!(invented, 0, "calls at the {side} that were never made: {lines:#?}");
        let (count, lines) = log.excess(seen);
        missing += count;
        assert!(count == 0 || declared > 0, "missing at the {side}: {lines:#?}");
    }
    assert_eq!(missing, declared, "calls missing against calls declared lost");
    assert!(declared * 1000 <= 2 * log.total(), "{declared} of {} lost", log.total());
}

#[test]
fn a_hundred_thousand_that_end_cleanly() {
    require!("nginx", "h2load", "ss");
    let shop = Shop::open(Place::HERE);
    let paths = ANSWERS.map(|(path, _)| path);
    h2load(Place::HERE, &shop.address(), &paths, 16, 100_000).expect("runs");
    let log = shop.nginx.ledger().expect("is there");
    assert_eq!(log.total(), 100_000);
    let (sides, scrape) = shop.count("h2load", log.total());
    exactly(&log, &sides, lost(&scrape));
    let edge = [("client", "h2load"), ("server", shop.books.name())];
    assert_eq!(scrape.count("traces_service_graph_request_total", &edge), log.total());
    shop.agent.stop().expect("ends well");
}

/// Eight requests at a time on each connection, as h2load sends them, and nothing is lost.
#[test]
fn pipelining() {
    require!("nginx", "h2load", "ss");
    let shop = Shop::open(Place::HERE);
    // nginx closes behind a 500, and takes the requests with it that follow.
    let answers = ANSWERS.into_iter().filter(|(_, status)| *status != 500);
    let paths: Vec<&str> = answers.map(|(path, _)| path).collect();
    let hands = ["--h1".to_owned(), "-c4".to_owned(), "-m8".to_owned()];
    let text = h2load_with(Place::HERE, &shop.address(), &paths, &hands, 20_000).expect("runs");
    assert!(text.contains("Application protocol: http/1.1"), "{text}");
    let log = shop.nginx.ledger().expect("is there");
    let (sides, scrape) = shop.count("h2load", log.total());
    exactly(&log, &sides, lost(&scrape));
    shop.agent.stop().expect("ends well");
}

/// wrk ends by closing its connections with requests underway. On each of them the last
/// call may be answered after its client has gone, or be read by nobody:
///
/// | nginx' log | server's side | client's side |
/// |---|---|---|
/// | the status | the status | the status, or an error without one |
/// | 499 | an error without a status | an error without a status |
/// | nothing: never read | an error without a status | an error without a status |
#[test]
fn a_hundred_thousand_by_wrk_at_full_speed() {
    require!("nginx", "wrk", "ss");
    const CONNECTIONS: u32 = 32;
    let shop = Shop::open(Place::HERE);
    let mut requests = ANSWERS.map(|(path, _)| ("GET", path)).to_vec();
    requests.extend([("DELETE", "/ok"), ("PUT", "/teapot")]);
    let mut rounds = 0;
    while shop.nginx.ledger().expect("is there").total() < 100_000 {
        rounds += 1;
        assert!(rounds <= 20, "wrk is too slow");
        let load = wrk(Place::HERE, &shop.address(), &requests, CONNECTIONS, 3).expect("runs");
        assert_eq!(load.errors, 0, "{load:?}");
    }
    let underway = u64::from(CONNECTIONS) * rounds;
    let log = shop.nginx.ledger().expect("is there");
    let (sides, scrape) = shop.count("wrk", log.total());
    let declared = lost(&scrape);
    let mut missing = 0;
    for (side, seen) in ["server", "client"].iter().zip(&sides) {
        let mut unanswered = 0;
        for (method, path) in &requests {
            let status = ANSWERS.iter().find(|(other, _)| other == path);
            let status = status.map_or(418, |(_, status)| *status);
            let made = log.count(method, path, Some(status));
            let answered = seen.count(method, path, Some(status));
            assert!(answered <= made, "{side}: {method} {path}: {answered} of {made}");
            let failed = seen.count(method, path, None);
            unanswered += failed;
            let all = answered + failed;
            missing += made.saturating_sub(all);
            assert!(all <= made + underway, "{side}: {method} {path}: {all} of {made}");
        }
        assert!(unanswered <= underway, "{side}: {unanswered} without an answer");
        let known: u64 = requests
            .iter()
            .map(|(method, path)| {
                let status = ANSWERS.iter().find(|(other, _)| other == path);
                let status = status.map_or(418, |(_, status)| *status);
                seen.count(method, path, Some(status)) + seen.count(method, path, None)
            })
            .sum();
        assert_eq!(known, seen.total(), "{side}: a status that was never sent: {seen:#?}");
    }
    assert_eq!(missing, declared, "calls missing against calls declared lost");
    assert!(declared * 1000 <= 2 * log.total(), "{declared} of {} lost", log.total());
}

/// Ten thousand connections of one call each.
#[test]
fn connection_churn() {
    require!("nginx", "ab", "ss");
    let shop = Shop::open(Place::HERE);
    let url = format!("http://{}/ok", shop.address());
    ab(Place::HERE, &url, 20, 10_000).expect("runs");
    let log = shop.nginx.ledger().expect("is there");
    assert_eq!(log.total(), 10_000);
    let (sides, scrape) = shop.count("ab", log.total());
    exactly(&log, &sides, lost(&scrape));
}

/// Every line has the right status for its path, and there is one line for each call.
fn impaired(observer: Observer, nginx: &Nginx) {
    let log = nginx.ledger().expect("is there");
    let mut observer = observer;
    let port = nginx.port();
    observer
        .wait(Duration::from_secs(10), |calls| calls.to_port(port).len() as u64 >= log.total())
        .expect("parses");
    let calls = observer.finish().expect("ends well");
    let seen = calls.to_port(port);
    for call in &seen {
        let answer = ANSWERS.iter().find(|(path, _)| *path == call.path);
        let status = answer.map_or(200, |(_, status)| *status);
        assert_eq!((call.status, &call.error), (Some(status), &None), "{call:?}");
        assert_eq!((call.client.name.as_str(), call.server.name.as_str()), ("h2load", "nginx"));
    }
    // An end that comes long after the other, as a segment sent again does, has a line of
    // its own and says so.
    let (late, first): (Vec<_>, Vec<_>) = seen.iter().copied().partition(|call| call.late_half);
    let one_end = first.iter().filter(|call| !call.both_ends()).count() - late.len();
    let one_end = one_end as u64;
    let ledger = Ledger::from_calls(&first);
    let (invented, lines) = ledger.excess(&log);
    assert_eq!(invented, 0, "calls that were never made: {lines:#?}");
    let missing = log.excess(&ledger).0;
    let declared = calls.declared_lost();
    let alone: Vec<_> = seen.iter().filter(|call| !call.both_ends()).collect();
    assert_eq!(2 * missing + one_end, declared, "ends missing, ends declared lost: {alone:#?}");
    assert!(declared * 100 <= log.total(), "{declared} of {} lost", log.total());
}

/// Calls from one namespace to nginx in the other, and who watched them.
fn load(client: &Netns, server: &Netns) -> (Observer, Nginx) {
    let nginx = Nginx::start_in(Place::netns(server), 1, "").expect("starts");
    nginx.file("page", 40_000).expect("is made");
    let observer = Observer::start().expect("observes");
    let address = format!("{SERVER}:{}", nginx.port());
    let paths = ["/ok", "/nothing", "/files/page", "/broken", "/empty"];
    h2load(Place::netns(client), &address, &paths, 32, 10_000).expect("runs");
    (observer, nginx)
}

#[test]
fn packet_loss() {
    require!("nginx", "h2load", "iptables", "ip", "ss");
    let (client, server) = Netns::pair().expect("a pair");
    for netns in [&client, &server] {
        netns
            .run("iptables -A INPUT -m statistic --mode random --probability 0.01 -j DROP")
            .expect("is set");
    }
    let (observer, nginx) = load(&client, &server);
    let dropped = server.run("iptables -nvxL INPUT").expect("is told");
    let dropped = dropped.lines().nth(2).and_then(|line| line.split_whitespace().next());
    assert!(dropped.is_some_and(|count| count != "0"), "the link lost packets: {dropped:?}");
    impaired(observer, &nginx);
}

/// The kernel's own emulation of bad networks, where it has one.
#[test]
fn emulated_network() {
    require!("nginx", "h2load", "ip", "tc", "ss");
    let (client, server) = Netns::pair().expect("a pair");
    for netns in [&client, &server] {
        let bad = "delay 500us 300us loss 0.5% duplicate 2% reorder 10% 50%";
        match netns.run(&format!("tc qdisc add dev eth0 root netem {bad}")) {
            Ok(_) => {}
            Err(error) if format!("{error:#}").contains("qdisc kind is unknown") => {
                skip!("this kernel has no netem");
            }
            Err(error) => panic!("netem: {error:#}"),
        }
    }
    let (observer, nginx) = load(&client, &server);
    let told = server.run("tc -s qdisc show dev eth0").expect("is told");
    let dropped = told.split("dropped ").nth(1).and_then(|rest| rest.split(',').next());
    assert!(dropped.is_some_and(|count| count != "0"), "the link lost packets: {told}");
    impaired(observer, &nginx);
}

#[test]
fn reordering_and_duplication() {
    require!("nginx", "h2load", "ip", "python3", "/dev/net/tun", "ss");
    let (client, server) = (Netns::create().expect("made"), Netns::create().expect("made"));
    let link =
        Link::lay(&client, &server, Impairment { seed: 7, ..Impairment::BAD }).expect("is laid");
    let (observer, nginx) = load(&client, &server);
    for count in [&link.tally().reordered, &link.tally().duplicated, &link.tally().lost] {
        assert!(count.load(Ordering::Relaxed) > 10, "{:?}", link.tally());
    }
    impaired(observer, &nginx);
}
