//! gRPC of libraries that others wrote: every call is seen once, at both ends, with its
//! method, its status and the number of messages each way.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;

use meshtap_tests::agent::Observer;
use meshtap_tests::call::{CallLine, Calls};
use meshtap_tests::expected::{Causes, Expected, verify};
use meshtap_tests::ledger::Ledger;
use meshtap_tests::netns::Place;
use meshtap_tests::workload::grpc::{
    Bought, CANCELLED, SCRIPT, TOO_SLOW, cancelled, ledger, too_slow,
};
use meshtap_tests::workload::{Cart, Connect, Envoy, Grpc, Nginx, Shopping, connect_buyer, shop};
use meshtap_tests::{require, skip};

/// Ends a test whose libraries cannot be had.
macro_rules! require_grpc {
    ($($library:expr),* $(,)?) => {
        require!("ss");
        for library in [$($library),*] {
            if let Some(reason) = library.missing() {
                skip!(reason);
            }
        }
    };
}

fn connections(calls: &[&CallLine]) -> usize {
    calls.iter().map(|call| call.client.port).collect::<BTreeSet<_>>().len()
}

/// The whole script, then a call that is given up, one that is too slow, and one more that
/// shows that the connection goes on.
fn speaks(client: Grpc, server: Grpc) {
    require_grpc!(client, server);
    let cart = Cart::start(server).expect("starts");
    let mut steps = SCRIPT.map(|step| step.word).to_vec();
    steps.extend([CANCELLED, TOO_SLOW, SCRIPT[0].word]);
    let observer = Observer::start().expect("observes");
    let bought = client.buy(&cart.address(), &steps).expect("buys");
    assert_eq!(bought.len(), steps.len());
    let calls = observer.finish().expect("ends well");
    let mut expected: Vec<Expected> = SCRIPT.iter().map(|step| step.expected()).collect();
    expected.extend([cancelled(), too_slow(client, server), SCRIPT[0].expected()]);
    let names = (client.client_name(), server.server_name());
    let expected: Vec<_> =
        expected.into_iter().map(|call| call.between(names.0, names.1)).collect();
    verify(&calls, cart.port(), &expected);
    let seen = calls.to_port(cart.port());
    for call in &seen {
        assert_eq!(call.server.pid, Some(cart.pid()), "{call:?}");
        assert_eq!(call.server.kind, "process", "{call:?}");
    }
    assert_eq!(connections(&seen), 1, "one connection carried all of them");
}

#[test]
fn go_and_go() {
    speaks(Grpc::Go, Grpc::Go);
}

#[test]
fn go_client_python_server() {
    speaks(Grpc::Go, Grpc::Python);
}

#[test]
fn go_client_node_server() {
    speaks(Grpc::Go, Grpc::Node);
}

#[test]
fn go_client_java_server() {
    speaks(Grpc::Go, Grpc::Java);
}

#[test]
fn go_client_rust_server() {
    speaks(Grpc::Go, Grpc::Rust);
}

#[test]
fn python_client_go_server() {
    speaks(Grpc::Python, Grpc::Go);
}

#[test]
fn node_client_go_server() {
    speaks(Grpc::Node, Grpc::Go);
}

#[test]
fn java_client_go_server() {
    speaks(Grpc::Java, Grpc::Go);
}

#[test]
fn rust_client_go_server() {
    speaks(Grpc::Rust, Grpc::Go);
}

/// Trailers of 30 KB: the status stands in them, in whichever frame.
#[test]
fn statuses_in_trailers_of_many_frames() {
    require_grpc!(Grpc::Go, Grpc::Python);
    for server in [Grpc::Go, Grpc::Python] {
        let cart = Cart::start(server).expect("starts");
        let observer = Observer::start().expect("observes");
        let big = "Big:1:13:20000,30000:0:0:0:0";
        Grpc::Go.buy(&cart.address(), &[big, SCRIPT[0].word, big]).expect("buys");
        let calls = observer.finish().expect("ends well");
        let names = |call: Expected| call.between("gobuyer", server.server_name());
        let big = || names(Expected::rpc("shop.Cart/Big", "OK", (1, 1)).bytes(18, 18));
        verify(&calls, cart.port(), &[big(), names(SCRIPT[0].expected()), big()]);
    }
}

/// What has ended is told while the stream beside it goes on; the stream itself, too, and
/// with every message counted, once it ends.
#[test]
fn a_long_stream_hides_nothing() {
    require_grpc!(Grpc::Go);
    let cart = Cart::start(Grpc::Go).expect("starts");
    let address = cart.address();
    let mut observer = Observer::start().expect("observes");
    // Thirty messages each way within three seconds.
    let stream = std::thread::spawn(move || {
        Grpc::Go.buy(&address, &["Chat:30:10:hello:0:0:0:100"]).expect("buys")
    });
    std::thread::sleep(Duration::from_millis(500));
    let few = [SCRIPT[0].word; 3];
    Grpc::Go.buy(&cart.address(), &few).expect("buys");
    observer.settle().expect("settles");
    let calls = observer.calls().expect("parses");
    assert!(!stream.is_finished(), "the stream goes on");
    let names = |call: Expected| call.between("gobuyer", "gocart");
    let get = || names(SCRIPT[0].expected());
    verify(&calls, cart.port(), &[get(), get(), get()]);
    let bought = stream.join().expect("ends");
    assert_eq!((bought[0].sent, bought[0].received), (30, 30));
    let calls = observer.finish().expect("ends well");
    let chat = names(Expected::rpc("shop.Cart/Chat", "OK", (30, 30)).bytes(450, 450));
    verify(&calls, cart.port(), &[get(), get(), get(), chat]);
    let seen = calls.to_port(cart.port());
    let chat = seen.iter().find(|call| call.method == "shop.Cart/Chat").expect("is there");
    assert!(chat.client_duration_us.is_some_and(|duration| duration > 2_500_000.0), "{chat:?}");
    assert!(chat.first_byte_us.is_some_and(|first| first < 1_000_000.0), "{chat:?}");
}

/// A server that stops ends what is underway; a stream that never ends dies with it.
#[test]
fn a_server_that_stops_gracefully() {
    require_grpc!(Grpc::Go);
    let mut cart = Cart::start(Grpc::Go).expect("starts");
    let observer = Observer::start().expect("observes");
    let underway: Vec<_> = (0..3)
        .map(|_| {
            let address = cart.address();
            std::thread::spawn(move || {
                Grpc::Go.buy(&address, &[SCRIPT[0].word, "Slow:1:0:1000:0:0:0:0"]).expect("buys")
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    cart.stop().expect("stops");
    for client in underway {
        let bought = client.join().expect("ends");
        assert!(bought.iter().all(|bought| bought.status == "OK"), "{bought:?}");
    }
    let calls = observer.finish().expect("ends well");
    let slow = Expected::rpc("shop.Cart/Slow", "OK", (1, 1)).bytes(9, 9);
    let each = [SCRIPT[0].expected(), slow].map(|call| call.between("gobuyer", "gocart"));
    verify(&calls, cart.port(), &vec![each; 3].concat());
}

/// A server that dies: its calls end with the connection, and without a status.
#[test]
fn a_server_that_dies() {
    require_grpc!(Grpc::Go);
    let cart = Cart::start(Grpc::Go).expect("starts");
    let observer = Observer::start().expect("observes");
    let (address, port) = (cart.address(), cart.port());
    let client = std::thread::spawn(move || {
        Grpc::Go.buy(&address, &[SCRIPT[0].word, "Watch:1:0:2,0,99:0:0:0:0"]).expect("buys")
    });
    std::thread::sleep(Duration::from_millis(700));
    drop(cart);
    let bought = client.join().expect("ends");
    assert_eq!((bought[1].status.as_str(), bought[1].received), ("UNAVAILABLE", 2));
    let calls = observer.finish().expect("ends well");
    // What was in its buffers decides whether it closes or resets.
    let broken = Causes {
        client: &["connection_closed", "connection_reset"],
        server: &["abandoned", "reset_sent"],
    };
    let watch = Expected::rpc("shop.Cart/Watch", "", (1, 2)).bytes(11, 12).broken(broken);
    let expected = [SCRIPT[0].expected(), watch].map(|call| call.between("gobuyer", "gocart"));
    verify(&calls, port, &expected);
}

/// A port, and the names at both ends.
type Hop<'a> = (u16, (&'a str, &'a str));

/// Demands the calls of a load on each hop: those of the client's own count, at both ends.
fn exactly(calls: &Calls, made: &Ledger, hops: &[Hop<'_>]) {
    let declared = accounted(calls, made, hops);
    assert!(declared * 1000 <= 2 * made.total(), "{declared} of {} lost", made.total());
}

/// What was made was seen or declared lost, and nothing else was seen; ends declared lost.
fn accounted(calls: &Calls, made: &Ledger, hops: &[Hop<'_>]) -> u64 {
    let (mut missing, mut lines) = (0, Vec::new());
    for (port, names) in hops {
        let seen = calls.to_port(*port);
        let ledger = Ledger::from_rpc_calls(&seen);
        let (invented, more) = ledger.excess(made);
        assert_eq!(invented, 0, "calls that were never made: {more:#?}");
        let (calls, more) = made.excess(&ledger);
        lines.extend(more);
        missing += 2 * calls + seen.iter().filter(|call| !call.both_ends()).count() as u64;
        for call in seen {
            assert!(call.is_grpc() && call.error.is_none(), "{call:?}");
            let seen = (call.client.name.as_str(), call.server.name.as_str());
            assert_eq!(seen, *names, "{call:?}");
        }
    }
    let declared = calls.declared_lost();
    assert_eq!(missing, declared, "ends missing, ends declared lost: {lines:#?}");
    declared
}

fn observed(mut observer: Observer, port: u16, total: u64) -> Result<Calls> {
    observer.wait(Duration::from_secs(20), |calls| calls.to_port(port).len() as u64 >= total)?;
    observer.finish()
}

#[test]
fn thousands_of_streams_at_once_on_one_connection() {
    require_grpc!(Grpc::Go);
    let cart = Cart::start(Grpc::Go).expect("starts");
    let observer = Observer::start().expect("observes");
    let bought = shop(Place::HERE, &cart.address(), 20_000, (1, 4000)).expect("shops");
    let made = ledger(&bought);
    assert_eq!(made.total(), 20_000);
    let calls = observed(observer, cart.port(), 20_000).expect("ends well");
    // Boundaries that are lost once cost all streams that are open: thousands. They are declared.
    let declared = accounted(&calls, &made, &[(cart.port(), ("gobuyer", "gocart"))]);
    assert!(declared <= made.total(), "{declared} ends of {} calls lost", made.total());
    assert_eq!(connections(&calls.to_port(cart.port())), 1);
}

/// Every connection is told to go away after a while (GOAWAY), and no call is lost for it.
#[test]
fn connections_that_are_told_to_go_away() {
    require_grpc!(Grpc::Go);
    let cart = Cart::start_in(Grpc::Go, Place::HERE, &["300"]).expect("starts");
    let observer = Observer::start().expect("observes");
    let mut shopping = Shopping::start(Place::HERE, &cart.address(), (2, 4), 1).expect("starts");
    shopping.turn().expect("turns");
    std::thread::sleep(Duration::from_secs(2));
    let bought = shopping.finish().expect("ends").concat();
    let made = ledger(&bought);
    let is_lost =
        |bought: &Bought| bought.status == "UNAVAILABLE" && bought.method != "shop.Cart/Fail";
    assert!(!bought.iter().any(is_lost), "{bought:?}");
    let calls = observed(observer, cart.port(), made.total()).expect("ends well");
    exactly(&calls, &made, &[(cart.port(), ("gobuyer", "gocart"))]);
    assert!(connections(&calls.to_port(cart.port())) >= 8, "they went away");
}

/// nginx takes streams from one connection and puts them on others: each hop has its own
/// calls, and each of them is whole.
#[test]
fn nginx_between() {
    require!("nginx");
    require_grpc!(Grpc::Go);
    let cart = Cart::start(Grpc::Go).expect("starts");
    let nginx = Nginx::http2(&format!(
        "location /shop.Cart/ {{ grpc_pass grpc://127.0.0.1:{}; grpc_buffer_size 64k; \
         client_max_body_size 0; }}",
        cart.port()
    ))
    .expect("starts");
    let observer = Observer::start().expect("observes");
    let address = format!("127.0.0.1:{}", nginx.port());
    Grpc::Go.buy(&address, &SCRIPT.map(|step| step.word)).expect("buys");
    let calls = observer.finish().expect("ends well");
    hops(&calls, nginx.port(), cart.port(), "nginx");
}

#[test]
fn envoy_between() {
    require_grpc!(Grpc::Go);
    if let Some(reason) = Envoy::missing() {
        skip!(reason);
    }
    let cart = Cart::start(Grpc::Go).expect("starts");
    let envoy = Envoy::start(cart.port()).expect("starts");
    let observer = Observer::start().expect("observes");
    let address = format!("127.0.0.1:{}", envoy.port());
    Grpc::Go.buy(&address, &SCRIPT.map(|step| step.word)).expect("buys");
    let calls = observer.finish().expect("ends well");
    hops(&calls, envoy.port(), cart.port(), "envoy");
}

/// The script before a proxy and behind it.
fn hops(calls: &Calls, before: u16, behind: u16, proxy: &str) {
    let expected = |client: &str, server: &str| {
        SCRIPT.map(|step| step.expected().between(client, server)).to_vec()
    };
    verify(calls, before, &expected("gobuyer", proxy));
    verify(calls, behind, &expected(proxy, "gocart"));
}

/// The calls of connect-go's client as they are to be seen. What is null: messages by
/// HTTP/1, and what a unary call of Connect holds, whose status is only that of HTTP.
fn connect_calls(bought: &[Bought], protocol: &str, version: u8) -> Vec<Expected> {
    let expected = |call: &Bought| {
        let (name, messages) = match protocol {
            "web" => ("grpc-web", version == 2),
            "connect" => ("connect", version == 2 && call.method.ends_with("Watch")),
            _ => ("grpc", true),
        };
        let refused = protocol == "connect" && call.method.ends_with("Fail");
        let code = if refused { "" } else { &call.status };
        let expected = Expected::rpc(&call.method, code, (call.sent, call.received)).by(name);
        let expected = if messages { expected } else { expected.messages(None, None) };
        if refused { expected.http_status(Some(404)) } else { expected }
    };
    bought.iter().map(expected).collect()
}

/// gRPC-Web and Connect say how a call went in the body: the status is that of the client.
#[test]
fn statuses_in_bodies() {
    require!("ss");
    if let Some(reason) = Connect::missing() {
        skip!(reason);
    }
    let server = Connect::start().expect("starts");
    let observer = Observer::start().expect("observes");
    let mut expected = Vec::new();
    for (protocol, version) in [("grpc", 2), ("web", 1), ("web", 2), ("connect", 1), ("connect", 2)]
    {
        let bought = connect_buyer(server.port(), protocol, version).expect("buys");
        let statuses: Vec<&str> = bought.iter().map(|call| &*call.status).collect();
        let ends = ["OK", "NOT_FOUND", "OK", "UNAVAILABLE", "OK", "FAILED_PRECONDITION", "OK"];
        assert_eq!(statuses, ends, "{protocol}");
        expected.extend(connect_calls(&bought, protocol, version));
    }
    let calls = observer.finish().expect("ends well");
    verify(&calls, server.port(), &expected);
}

/// Envoy makes gRPC of gRPC-Web, and puts the trailers into the body on the way back.
#[test]
fn envoy_before_grpc_web() {
    require_grpc!(Grpc::Go);
    if let Some(reason) = Envoy::missing().or_else(Connect::missing) {
        skip!(reason);
    }
    let cart = Cart::start(Grpc::Go).expect("starts");
    let envoy = Envoy::start(cart.port()).expect("starts");
    let observer = Observer::start().expect("observes");
    let (mut before, mut behind) = (Vec::new(), Vec::new());
    for version in [1, 2] {
        let bought = connect_buyer(envoy.port(), "web", version).expect("buys");
        before.extend(connect_calls(&bought, "web", version));
        behind.extend(connect_calls(&bought, "grpc", 2));
    }
    let calls = observer.finish().expect("ends well");
    verify(&calls, envoy.port(), &before);
    verify(&calls, cart.port(), &behind);
}

/// A load through Envoy: thousands of streams of four connections on one.
#[test]
fn envoy_between_under_load() {
    require_grpc!(Grpc::Go);
    if let Some(reason) = Envoy::missing() {
        skip!(reason);
    }
    let cart = Cart::start(Grpc::Go).expect("starts");
    let envoy = Envoy::start(cart.port()).expect("starts");
    let observer = Observer::start().expect("observes");
    let address = format!("127.0.0.1:{}", envoy.port());
    let bought = shop(Place::HERE, &address, 10_000, (4, 20)).expect("shops");
    let made = ledger(&bought);
    let calls = observed(observer, cart.port(), 10_000).expect("ends well");
    let hops = [(envoy.port(), ("gobuyer", "envoy")), (cart.port(), ("envoy", "gocart"))];
    exactly(&calls, &made, &hops);
}
