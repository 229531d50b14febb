//! HTTP/2 of programs that others wrote: every request on every stream is a call of its
//! own, seen once, at both ends, with the right names, statuses and bytes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;

use meshtap_tests::agent::Observer;
use meshtap_tests::call::Calls;
use meshtap_tests::expected::{Causes, Expected, verify};
use meshtap_tests::frames;
use meshtap_tests::ledger::Ledger;
use meshtap_tests::netns::Place;
use meshtap_tests::process::output;
use meshtap_tests::require;
use meshtap_tests::wire::{Wire, pause};
use meshtap_tests::workload::{Apache, Nghttpd, Nginx, curl, h2load_streams, load};

/// curl that speaks HTTP/2 from its first byte on.
fn curl2(arguments: &[&str]) -> Result<String> {
    curl(&[&["--http2-prior-knowledge"], arguments].concat())
}

/// Asks for all of these on one connection, at once where the server lets it. Not by curl:
/// one that Debian has fails over the second request on a connection.
fn nghttp(options: &[&str], port: u16, paths: &[&str]) {
    let mut command = Place::HERE.inside("nghttp").expect("is installed");
    command.arg("--null-out").args(options);
    command.args(paths.iter().map(|path| format!("http://127.0.0.1:{port}{path}")));
    output(&mut command).expect("answers");
}

fn call(method: &str, path: &str, status: u16, bytes: (u64, u64)) -> Expected {
    Expected::call(method, path, status).bytes(bytes.0, bytes.1).between("curl", "nginx").http2()
}

fn connections(calls: &Calls, port: u16) -> usize {
    calls.to_port(port).iter().map(|call| call.client.port).collect::<BTreeSet<_>>().len()
}

#[test]
fn curl_and_nginx() {
    require!("curl", "nginx", "ss");
    let nginx = Nginx::http2("").expect("starts");
    nginx.file("page", 70_000).expect("is made");
    let observer = Observer::start().expect("observes");
    let port = nginx.port();
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    curl2(&[&url("/ok?secret=1")]).expect("answers");
    curl2(&["-I", &url("/files/page")]).expect("answers");
    curl2(&[&url("/files/absent")]).expect("answers");
    curl2(&[&format!("http://[::1]:{port}/moved")]).expect("answers");
    curl2(&["-o", "/dev/null", &url("/files/page")]).expect("answers");
    let calls = observer.finish().expect("ends well");
    let absent = curl2(&[&url("/files/absent")]).expect("answers").len() as u64;
    let moved = curl2(&[&url("/moved")]).expect("answers").len() as u64;
    verify(
        &calls,
        port,
        &[
            call("GET", "/ok", 200, (0, 5)),
            call("HEAD", "/files/page", 200, (0, 0)),
            call("GET", "/files/absent", 404, (0, absent)),
            call("GET", "/moved", 302, (0, moved)),
            call("GET", "/files/page", 200, (0, 70_000)),
        ],
    );
    for call in calls.to_port(port) {
        let (client, server) = (call.client_duration_us, call.server_duration_us);
        assert!(client >= server, "the client's duration holds the server's: {call:?}");
        assert!(call.first_byte_us <= client && call.rtt_us.is_some(), "{call:?}");
        assert!(!format!("{call:?}").contains("secret"), "a query is never shown: {call:?}");
    }
}

#[test]
fn several_on_one_connection() {
    require!("nghttp", "nginx", "ss");
    let nginx = Nginx::http2("").expect("starts");
    nginx.file("page", 70_000).expect("is made");
    let observer = Observer::start().expect("observes");
    let paths = ["/files/page", "/empty", "/ok", "/teapot", "/broken", "/ok?again"];
    nghttp(&[], nginx.port(), &paths);
    nghttp(&["-H", ":method: HEAD"], nginx.port(), &["/files/page", "/ok"]);
    let calls = observer.finish().expect("ends well");
    let call = |method, path, status, bytes| {
        Expected::call(method, path, status).bytes(0, bytes).between("nghttp", "nginx").http2()
    };
    let broken = Expected::call("GET", "/broken", 500).between("nghttp", "nginx").http2();
    let expected = [
        call("GET", "/files/page", 200, 70_000),
        call("GET", "/empty", 204, 0),
        call("GET", "/ok", 200, 5),
        call("GET", "/teapot", 418, 6),
        broken,
        call("GET", "/ok", 200, 5),
        call("HEAD", "/files/page", 200, 0),
        call("HEAD", "/ok", 200, 0),
    ];
    verify(&calls, nginx.port(), &expected);
    assert_eq!(connections(&calls, nginx.port()), 2);
}

#[test]
fn a_large_file() {
    require!("curl", "nginx", "ss");
    const SIZE: u64 = 50_000_000;
    let nginx = Nginx::http2("").expect("starts");
    nginx.file("large", SIZE).expect("is made");
    let observer = Observer::start().expect("observes");
    let url = format!("http://127.0.0.1:{}/files/large", nginx.port());
    curl2(&["-o", "/dev/null", "--limit-rate", "100M", &url]).expect("answers");
    let calls = observer.finish().expect("ends well");
    verify(&calls, nginx.port(), &[call("GET", "/files/large", 200, (0, SIZE))]);
    let call = calls.to_port(nginx.port())[0];
    let (first, last) = (call.first_byte_us.expect("seen"), call.client_duration_us.expect("seen"));
    assert!(last > 300_000.0 && first < last / 4.0, "the first byte is not the last: {call:?}");
}

#[test]
fn uploads() {
    require!("curl", "nghttp", "nghttpd", "ss");
    const SIZE: u64 = 3_000_000;
    let nghttpd = Nghttpd::start(&["--echo-upload"]).expect("starts");
    let file = nghttpd.file("upload", SIZE).expect("is made").display().to_string();
    let observer = Observer::start().expect("observes");
    let port = nghttpd.port();
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    curl2(&["-d", "0123456789", &url("/small")]).expect("answers");
    let upload = format!("@{file}");
    let quiet = ["-o", "/dev/null", "-H", "Expect:", "--data-binary", &upload];
    curl2(&[&quiet[..], &[&url("/large")]].concat()).expect("answers");
    nghttp(&["-d", &file], port, &["/one", "/two"]);
    let calls = observer.finish().expect("ends well");
    let echoed = |client, path, size| {
        Expected::call("POST", path, 200).bytes(size, size).between(client, "nghttpd").http2()
    };
    let expected = [
        echoed("curl", "/small", 10),
        echoed("curl", "/large", SIZE),
        echoed("nghttp", "/one", SIZE),
        echoed("nghttp", "/two", SIZE),
    ];
    verify(&calls, port, &expected);
}

#[test]
fn an_aborted_download() {
    require!("curl", "nginx", "ss");
    let nginx = Nginx::http2("").expect("starts");
    nginx.file("large", 50_000_000).expect("is made");
    let observer = Observer::start().expect("observes");
    let url = format!("http://127.0.0.1:{}/files/large", nginx.port());
    let mut command = load::curl_in(Place::HERE).expect("is installed");
    command.args(["--http2-prior-knowledge", "--limit-rate", "1M", "-m", "1"]);
    assert!(output(command.args(["-o", "/dev/null", &url])).is_err(), "one second is not enough");
    let calls = observer.finish().expect("ends well");
    let seen = calls.to_port(nginx.port());
    let [call] = seen.as_slice() else { panic!("one call was made: {seen:?}") };
    assert_eq!((call.path.as_str(), call.status), ("/files/large", Some(200)), "{call:?}");
    assert!(call.error.is_some(), "the answer never ended: {call:?}");
    assert!(call.response_bytes < 50_000_000, "{call:?}");
}

/// A connection that begins as HTTP/1.1 carries its first call over into HTTP/2: one call,
/// not two, whichever protocol is named.
#[test]
fn upgrade_of_apache() {
    require!("curl", "nghttp", "apache2", "ss");
    let apache = Apache::http2().expect("starts");
    let observer = Observer::start().expect("observes");
    let port = apache.port();
    let hello = format!("http://127.0.0.1:{port}/hello.txt");
    let version = curl(&["--http2", "-o", "/dev/null", "-w", "%{http_version}", &hello]);
    assert_eq!(version.expect("answers"), "2", "the upgrade was taken");
    nghttp(&["--upgrade"], port, &["/hello.txt", "/absent"]);
    curl2(&[&hello]).expect("answers");
    let calls = observer.finish().expect("ends well");
    let get = |client, path, status| Expected::call("GET", path, status).between(client, "apache2");
    let hello = |client| get(client, "/hello.txt", 200).bytes(0, 6);
    let first = |client| hello(client).or(hello(client).http2());
    // Now and then Apache takes the upgraded connection for idle, and sends GOAWAY instead.
    let away = Causes { client: &["refused_stream"], server: &["refused_stream"] };
    let second = get("nghttp", "/absent", 404).http2();
    let second = second.or(Expected::failed("GET", "/absent", away).http2());
    verify(&calls, port, &[first("curl"), first("nghttp"), second, hello("curl").http2()]);
    assert_eq!(connections(&calls, port), 3);
}

/// Header blocks of more than one frame, both ways, and a connection that goes on.
#[test]
fn header_blocks_of_many_frames() {
    require!("nghttp", "nginx", "ss");
    let digits = "0123456789abcdef".repeat(16);
    let long = "$a$a$a$a$a$a$a$a$a$a$a$a$a$a$a$a";
    let location = "location /long { add_header X-Receipt $c; return 200 \"long\\n\"; }";
    let nginx = Nginx::http2(&format!(
        "set $a \"{digits}\"; set $b \"{long}\"; set $c \"$b$b$b$b$b$b$b$b\"; {location}"
    ))
    .expect("starts");
    let port = nginx.port();
    let observer = Observer::start().expect("observes");
    let basket = format!("x-basket: {}", "b".repeat(40_000));
    nghttp(&["-H", &basket], port, &["/long", "/ok", "/long/"]);
    let calls = observer.finish().expect("ends well");
    let answered = |path, bytes| {
        Expected::call("GET", path, 200).bytes(0, bytes).between("nghttp", "nginx").http2()
    };
    verify(&calls, port, &[answered("/long", 5), answered("/ok", 5), answered("/long/", 5)]);
    assert_eq!(connections(&calls, port), 1);
}

/// Bodies whose bytes are frames with requests and answers in them.
#[test]
fn bodies_that_look_like_frames() {
    require!("nghttp", "nghttpd", "ss");
    let nghttpd = Nghttpd::start(&["--echo-upload"]).expect("starts");
    let request = frames::headers(5, frames::WHOLE, &frames::request("GET", "/never-made"));
    let answer = frames::headers(5, frames::WHOLE, &frames::status(500));
    let body = [frames::PREFACE, &request, &answer, &frames::goaway(0, 2)].concat().repeat(900);
    let path = nghttpd.file("frames", 0).expect("is made");
    std::fs::write(&path, &body).expect("is written");
    let observer = Observer::start().expect("observes");
    nghttp(&[], nghttpd.port(), &["/frames"]);
    nghttp(&["-d", &path.display().to_string()], nghttpd.port(), &["/up", "/again"]);
    let calls = observer.finish().expect("ends well");
    let size = body.len() as u64;
    let call = |method, path, sent| {
        Expected::call(method, path, 200).bytes(sent, size).between("nghttp", "nghttpd").http2()
    };
    let (up, again) = (call("POST", "/up", size), call("POST", "/again", size));
    verify(&calls, nghttpd.port(), &[call("GET", "/frames", 0), up, again]);
}

/// Demands that what was observed is `made`, every call at both ends.
fn exactly(mut observer: Observer, port: u16, made: &Ledger, (client, server): (&str, &str)) {
    observer
        .wait(Duration::from_secs(20), |calls| calls.to_port(port).len() as u64 >= made.total())
        .expect("parses");
    let calls = observer.finish().expect("ends well");
    let seen = calls.to_port(port);
    let ledger = Ledger::from_calls(&seen);
    let (invented, lines) = ledger.excess(made);
    assert_eq!(invented, 0, "calls that were never made: {lines:#?}");
    let (missing, lines) = made.excess(&ledger);
    let one_end = seen.iter().filter(|call| !call.both_ends()).count() as u64;
    let declared = calls.declared_lost();
    assert_eq!(2 * missing + one_end, declared, "missing against declared lost: {lines:#?}");
    let lost = &calls.lost;
    assert!(declared * 1000 <= 2 * made.total(), "{declared} of {} lost: {lost:?}", made.total());
    for call in seen {
        assert_eq!((call.protocol.as_str(), &call.error), ("http/2", &None), "{call:?}");
        assert_eq!((call.client.name.as_str(), call.server.name.as_str()), (client, server));
    }
}

const REQUESTS: u64 = 100_000;
/// Connections, and streams at a time on each.
const MANY: (u32, u32) = (4, 100);

#[test]
fn a_hundred_thousand_on_four_connections_of_nginx() {
    require!("nginx", "h2load", "ss");
    let nginx = Nginx::http2("").expect("starts");
    nginx.file("page", 20_000).expect("is made");
    let observer = Observer::start().expect("observes");
    let address = format!("127.0.0.1:{}", nginx.port());
    let paths = ["/ok", "/nothing", "/broken", "/moved", "/files/page"];
    h2load_streams(Place::HERE, &address, &paths, MANY, REQUESTS).expect("runs");
    let log = nginx.ledger().expect("is there");
    assert_eq!(log.total(), REQUESTS);
    exactly(observer, nginx.port(), &log, ("h2load", "nginx"));
}

#[test]
fn a_hundred_thousand_on_four_connections_of_nghttpd() {
    require!("nghttpd", "h2load", "ss");
    let nghttpd = Nghttpd::start(&[]).expect("starts");
    for (name, size) in [("page", 1000), ("large", 40_000)] {
        nghttpd.file(name, size).expect("is made");
    }
    let observer = Observer::start().expect("observes");
    let address = format!("127.0.0.1:{}", nghttpd.port());
    let paths = ["/page", "/absent", "/large", "/missing"];
    h2load_streams(Place::HERE, &address, &paths, MANY, REQUESTS).expect("runs");
    // Each connection asks for each path in turn.
    let mut made = Ledger::default();
    for (path, status) in paths.iter().zip([200, 404, 200, 404]) {
        made.add("GET", path, Some(status), REQUESTS / 4);
    }
    exactly(observer, nghttpd.port(), &made, ("h2load", "nghttpd"));
}

/// A connection whose ends have said what comes before everything else.
fn begun() -> Result<Wire> {
    let mut wire = Wire::open()?;
    wire.request([frames::PREFACE, &frames::settings(&[])].concat())?;
    wire.answer([frames::settings(&[]), frames::settings_ack()].concat())?;
    Ok(wire)
}

/// The agent's programs are attached one by one: whatever of a connection's beginning passes
/// meanwhile, its calls are seen once the agent is ready.
#[test]
fn connections_that_begin_while_the_agent_does() {
    require!("ss");
    /// The most that are open: each takes three descriptors.
    const MOST: usize = 320;
    let is_ready = AtomicBool::new(false);
    let (observer, mut wires) = std::thread::scope(|scope| {
        let opener = scope.spawn(|| {
            let mut wires = Vec::new();
            while !is_ready.load(Ordering::Relaxed) {
                wires.push(begun().expect("begins"));
                // Those of long before the programs are attached tell nothing more.
                if wires.len() > MOST {
                    wires.remove(0);
                }
                pause(1);
            }
            wires
        });
        let observer = Observer::start().expect("observes");
        is_ready.store(true, Ordering::Relaxed);
        (observer, opener.join().expect("ends well"))
    });
    for wire in &mut wires {
        wire.request(frames::headers(1, frames::WHOLE, &frames::request("GET", "/x")))
            .expect("goes");
        wire.answer(frames::headers(1, frames::WHOLE, &frames::status(204))).expect("goes");
    }
    let calls = observer.finish().expect("ends well");
    let seen = |wire: &&Wire| match &calls.to_port(wire.port())[..] {
        [call] => call.both_ends() && call.path == "/x" && call.status == Some(204),
        _ => false,
    };
    let unseen = wires.len() - wires.iter().filter(seen).count();
    assert_eq!(unseen, 0, "of {} connections", wires.len());
}
