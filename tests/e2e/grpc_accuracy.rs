//! The agent's counts of gRPC calls against the client's own: equal, or short by exactly
//! what the agent declares lost.

use std::sync::atomic::Ordering;
use std::time::Duration;

use meshtap_tests::agent::{Agent, Observer};
use meshtap_tests::books::{Books, Kind, lost};
use meshtap_tests::ledger::Ledger;
use meshtap_tests::link::{Impairment, Link};
use meshtap_tests::netns::{Netns, Place, SERVER};
use meshtap_tests::scrape::Scrape;
use meshtap_tests::workload::grpc::ledger;
use meshtap_tests::workload::{Cart, Grpc, Shopping, shop};
use meshtap_tests::{require, skip};

/// Who calls.
const CLIENT: &str = "gobuyer";
/// Connections, and calls at a time on each.
const FOUR: (u32, u32) = (4, 50);

/// The books of a server, and an agent that keeps them.
fn open(port: u16) -> (Books, Agent) {
    let books = Books::new(Kind::Rpc, port);
    let often = "capture:\n  report_interval: 1s\n";
    let agent = Agent::start(&format!("{}{often}", books.configuration())).expect("is ready");
    (books, agent)
}

fn messages(books: &Books, scrape: &Scrape, direction: &str) -> u64 {
    let of_server = [("service_name", books.name()), ("direction", direction)];
    scrape.count("meshtap_rpc_messages_total", &of_server)
}

#[test]
fn a_hundred_thousand_over_four_connections() {
    require!("ss");
    if let Some(reason) = Grpc::Go.missing() {
        skip!(reason);
    }
    let cart = Cart::start(Grpc::Go).expect("starts");
    let (books, agent) = open(cart.port());
    let bought = shop(Place::HERE, &cart.address(), 100_000, FOUR).expect("shops");
    let made = ledger(&bought).without_messages();
    assert_eq!(made.total(), 100_000);
    let scrape = books.settle(&agent, CLIENT, made.total()).expect("is served");
    let declared = lost(&scrape);
    let mut missing = 0;
    let sides = books.sides(&scrape, CLIENT);
    for (side, seen) in ["server", "client"].iter().zip(&sides) {
        let (invented, lines) = seen.excess(&made);
        assert_eq!(invented, 0, "calls at the {side} that were never made: {lines:#?}");
        let (count, lines) = made.excess(seen);
        missing += count;
        assert!(count == 0 || declared > 0, "missing at the {side}: {lines:#?}");
    }
    assert_eq!(missing, declared, "calls missing against calls declared lost");
    assert!(declared * 1000 <= 2 * made.total(), "{declared} lost");
    if declared == 0 {
        let sum = |side: fn(&meshtap_tests::workload::grpc::Bought) -> u64| {
            bought.iter().map(|bought| side(bought) * bought.count).sum::<u64>()
        };
        assert_eq!(messages(&books, &scrape, "received"), sum(|bought| bought.sent));
        assert_eq!(messages(&books, &scrape, "sent"), sum(|bought| bought.received));
    }
    agent.stop().expect("ends well");
}

/// Messages of a stream are counted while it goes on, and each of them once.
#[test]
fn a_long_stream_is_told_while_it_runs() {
    require!("ss");
    if let Some(reason) = Grpc::Go.missing() {
        skip!(reason);
    }
    const MESSAGES: u64 = 80;
    let cart = Cart::start(Grpc::Go).expect("starts");
    let (books, agent) = open(cart.port());
    let address = cart.address();
    let stream = std::thread::spawn(move || {
        Grpc::Go.buy(&address, &[&format!("Chat:{MESSAGES}:10:hello:0:0:0:100")]).expect("buys")
    });
    let both = |scrape: &Scrape| ["received", "sent"].map(|way| messages(&books, scrape, way));
    let mut early = [0; 2];
    while !stream.is_finished() && early.contains(&0) {
        std::thread::sleep(Duration::from_millis(200));
        early = both(&agent.scrape().expect("is served"));
    }
    assert!(!stream.is_finished() && !early.contains(&0), "told only at its end: {early:?}");
    assert!(early.iter().all(|count| *count < MESSAGES), "not sent yet: {early:?}");
    stream.join().expect("ends");
    let scrape = books.settle(&agent, CLIENT, 1).expect("is served");
    assert_eq!(both(&scrape), [MESSAGES; 2]);
    let mut made = Ledger::default();
    made.add_rpc("shop.Cart/Chat", None, Some("OK"), 1);
    let sides = books.sides(&scrape, CLIENT);
    assert_eq!(sides, [made.clone(), made]);
    agent.stop().expect("ends well");
}

/// What the agent cannot know of a connection that is older than itself, it leaves open: a
/// call is there with its method or without one, never with another's, and none is missing
/// that began after the agent was ready.
#[test]
fn an_agent_that_comes_later() {
    require!("ss");
    if let Some(reason) = Grpc::Go.missing() {
        skip!(reason);
    }
    let cart = Cart::start(Grpc::Go).expect("starts");
    // Slowly enough that nothing is lost for want of room.
    let mut shopping = Shopping::start(Place::HERE, &cart.address(), (4, 8), 8).expect("starts");
    std::thread::sleep(Duration::from_secs(1));
    let mut observer = Observer::start().expect("observes");
    shopping.turn().expect("turns");
    std::thread::sleep(Duration::from_secs(3));
    let rounds = shopping.finish().expect("ends");
    let [before, after] = [&rounds[0], &rounds[1]].map(|round| ledger(round));
    let all = ledger(&rounds.concat());
    assert!(after.total() > 1000, "{after:?}");
    observer
        .wait(Duration::from_secs(20), |calls| {
            calls.to_port(cart.port()).len() as u64 >= after.total()
        })
        .expect("parses");
    let calls = observer.finish().expect("ends well");
    let seen = calls.to_port(cart.port());
    let total = seen.len() as u64;
    assert_eq!(calls.declared_lost(), 0, "{:?}", calls.lost);
    assert!(total >= after.total(), "{total} seen, {} began since", after.total());
    assert!(total <= before.total() + after.total(), "{total} seen of {}", all.total());
    let whole = |call: &&meshtap_tests::call::CallLine| {
        let is_named = !call.method.is_empty() && call.code.is_some();
        let is_counted = call.request_messages.is_some() && call.response_messages.is_some();
        is_named && is_counted && call.both_ends()
    };
    let (known, unknown): (Vec<_>, Vec<_>) = seen.into_iter().partition(whole);
    let (invented, lines) = Ledger::from_rpc_calls(&known).excess(&all);
    assert_eq!(invented, 0, "calls that were never made: {lines:#?}");
    let methods =
        ["Get", "Fail", "Watch", "Upload", "Chat"].map(|name| format!("shop.Cart/{name}"));
    for call in unknown {
        // Where all that says so was compressed before, not even gRPC is known.
        let is_open = call.protocol == "http/2" && call.method == "POST" && call.path.is_empty();
        let is_known = is_open || call.method.is_empty() || methods.contains(&call.method);
        assert!(is_known, "a method that nobody has: {call:?}");
        let statuses = ["OK", "NOT_FOUND", "UNAVAILABLE", "FAILED_PRECONDITION"];
        let code = call.code.as_deref();
        assert!(code.is_none_or(|code| statuses.contains(&code)), "{call:?}");
    }
}

/// Every line is that of a call that was made, and what is missing is declared.
fn impaired(mut observer: Observer, port: u16, made: &Ledger) {
    observer
        .wait(Duration::from_secs(10), |calls| calls.to_port(port).len() as u64 >= made.total())
        .expect("parses");
    let calls = observer.finish().expect("ends well");
    let seen = calls.to_port(port);
    // An end that comes long after the other, as a segment sent again does, has a line of
    // its own and says so.
    let (late, first): (Vec<_>, Vec<_>) = seen.iter().copied().partition(|call| call.late_half);
    for call in &seen {
        assert_eq!(call.error, None, "{call:?}");
        assert_eq!((call.client.name.as_str(), call.server.name.as_str()), ("gobuyer", "gocart"));
    }
    let one_end = first.iter().filter(|call| !call.both_ends()).count() - late.len();
    // A name or a number that went by unseen is unknown, and takes none from the rest.
    let is_unknown = |call: &&&meshtap_tests::call::CallLine| {
        call.method.is_empty() || call.code.is_none() || call.request_messages.is_none()
    };
    let unknown = first.iter().filter(is_unknown).count() as u64;
    let ledger = Ledger::from_rpc_calls(&first);
    let (invented, lines) = ledger.excess(made);
    assert!(invented <= unknown, "{invented} calls that were never made: {lines:#?}");
    let missing = made.total().saturating_sub(first.len() as u64);
    let declared = calls.declared_lost();
    assert_eq!(2 * missing + one_end as u64, declared, "ends missing, ends declared lost");
    assert!(declared * 50 <= made.total(), "{declared} of {} lost: {:?}", made.total(), calls.lost);
    assert!(unknown * 50 <= made.total(), "{unknown} of {} unknown", made.total());
    // What comes ahead of others waits for them: nothing passes unseen for it.
    let gaps = calls.lost.iter().filter(|line| line["reason"] == "desynchronised_gap");
    let gaps: u64 = gaps.filter_map(|line| line["lost"].as_u64()).sum();
    assert!(gaps * 1000 <= made.total(), "{gaps} of {} lost in gaps", made.total());
}

#[test]
fn packet_loss() {
    require!("iptables", "ip", "ss");
    if let Some(reason) = Grpc::Go.missing() {
        skip!(reason);
    }
    let (client, server) = Netns::pair().expect("a pair");
    for netns in [&client, &server] {
        netns
            .run("iptables -A INPUT -m statistic --mode random --probability 0.01 -j DROP")
            .expect("is set");
    }
    let cart = Cart::start_in(Grpc::Go, Place::netns(&server), &[]).expect("starts");
    let observer = Observer::start().expect("observes");
    let address = format!("{SERVER}:{}", cart.port());
    let bought = shop(Place::netns(&client), &address, 10_000, (8, 20)).expect("shops");
    let dropped = server.run("iptables -nvxL INPUT").expect("is told");
    let dropped = dropped.lines().nth(2).and_then(|line| line.split_whitespace().next());
    assert!(dropped.is_some_and(|count| count != "0"), "the link lost packets: {dropped:?}");
    impaired(observer, cart.port(), &ledger(&bought));
}

#[test]
fn reordering_and_duplication() {
    require!("ip", "python3", "/dev/net/tun", "ss");
    if let Some(reason) = Grpc::Go.missing() {
        skip!(reason);
    }
    let (client, server) = (Netns::create().expect("made"), Netns::create().expect("made"));
    let link = Link::lay(&client, &server, Impairment::BAD).expect("is laid");
    let cart = Cart::start_in(Grpc::Go, Place::netns(&server), &[]).expect("starts");
    let observer = Observer::start().expect("observes");
    let address = format!("{SERVER}:{}", cart.port());
    let bought = shop(Place::netns(&client), &address, 10_000, (8, 20)).expect("shops");
    for count in [&link.tally().reordered, &link.tally().duplicated, &link.tally().lost] {
        assert!(count.load(Ordering::Relaxed) > 0, "{:?}", link.tally());
    }
    impaired(observer, cart.port(), &ledger(&bought));
}
