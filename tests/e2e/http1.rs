//! HTTP/1.x of programs that others wrote: every call is seen once, at both ends, with
//! the right names, statuses and bytes.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use meshtap_tests::agent::Observer;
use meshtap_tests::expected::{Expected, verify};
use meshtap_tests::netns::Place;
use meshtap_tests::process::output;
use meshtap_tests::wire::Wire;
use meshtap_tests::workload::program::ASKED;
use meshtap_tests::workload::{Apache, Haproxy, Language, Nginx, Server, curl, load};
use meshtap_tests::{require, skip};

fn between_curl_and_nginx(method: &str, path: &str, status: u16, bytes: (u64, u64)) -> Expected {
    Expected::call(method, path, status).bytes(bytes.0, bytes.1).between("curl", "nginx")
}

#[test]
fn curl_and_nginx() {
    require!("curl", "nginx", "ss");
    let nginx = Nginx::start().expect("starts");
    let page = nginx.file("page", 70_000).expect("is made");
    let observer = Observer::start().expect("observes");
    let port = nginx.port();
    let base = format!("http://127.0.0.1:{port}");
    let url = |path: &str| format!("{base}{path}");
    curl(&[&url("/ok?secret=1")]).expect("answers");
    curl(&["-I", &url("/files/page")]).expect("answers");
    curl(&[&url("/files/absent")]).expect("answers");
    curl(&["-d", "0123456789", &url("/accept")]).expect("answers");
    curl(&["-0", &url("/ok")]).expect("answers");
    curl(&[&format!("http://[::1]:{port}/moved")]).expect("answers");
    // Two on one connection.
    curl(&["-o", "/dev/null", &url("/files/page"), "-o", "/dev/null", &url("/empty")])
        .expect("answers");
    // Revalidated with the file's own time: nginx takes no other, earlier or later, for it.
    curl(&["-z", &page.display().to_string(), &url("/files/page")]).expect("answers");
    let calls = observer.finish().expect("ends well");
    let absent = curl(&[&url("/files/absent")]).expect("answers").len() as u64;
    let moved = curl(&[&url("/moved")]).expect("answers").len() as u64;
    verify(
        &calls,
        port,
        &[
            between_curl_and_nginx("GET", "/ok", 200, (0, 5)),
            between_curl_and_nginx("HEAD", "/files/page", 200, (0, 0)),
            between_curl_and_nginx("GET", "/files/absent", 404, (0, absent)),
            between_curl_and_nginx("POST", "/accept", 200, (10, 6)),
            between_curl_and_nginx("GET", "/ok", 200, (0, 5)).http10(),
            between_curl_and_nginx("GET", "/moved", 302, (0, moved)),
            between_curl_and_nginx("GET", "/files/page", 200, (0, 70_000)),
            between_curl_and_nginx("GET", "/empty", 204, (0, 0)),
            between_curl_and_nginx("GET", "/files/page", 304, (0, 0)),
        ],
    );
    for call in calls.to_port(port) {
        let (client, server) = (call.client_duration_us, call.server_duration_us);
        assert!(client >= server, "the client's duration holds the server's: {call:?}");
        assert!(call.first_byte_us <= client && call.rtt_us.is_some(), "{call:?}");
        assert_eq!(call.user_agent.as_deref(), Some("tool"), "curl is one: {call:?}");
        let text = serde_json::to_string(&call.time).expect("is JSON");
        assert!(!format!("{call:?}{text}").contains("secret"), "a query is never shown: {call:?}");
    }
    let connections: std::collections::BTreeSet<_> =
        calls.to_port(port).iter().map(|call| call.client.port).collect();
    assert_eq!(connections.len(), 8, "two of the calls shared a connection");
}

/// What the connection has carried is told with each call, as `ss -i` counts it.
#[test]
fn bytes_of_the_connection() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut wire = Wire::open().expect("opens");
    let (mut asked, mut answered) = (0, 0);
    let mut expected = Vec::new();
    for size in [10_usize, 3_000, 70_000] {
        let request = format!("PUT /{size} HTTP/1.1\r\nContent-Length: {size}\r\n\r\n");
        let request = format!("{request}{}", "x".repeat(size));
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        wire.request(&request).expect("crosses");
        wire.answer(answer).expect("crosses");
        asked += request.len() as u64;
        // The packet with the answer's head is not counted yet when it is seen, and what it
        // acknowledges is not either.
        expected.push((format!("/{size}"), answered, asked));
        answered += answer.len() as u64;
    }
    wire.close().expect("closes");
    let calls = observer.finish().expect("ends well");
    let seen = calls.to_port(wire.port());
    assert_eq!(seen.len(), expected.len(), "{seen:?}");
    for (call, (path, received, sent)) in seen.iter().zip(expected) {
        assert_eq!((&call.path, call.tcp_bytes_received), (&path, Some(received)), "{call:?}");
        let acked = call.tcp_bytes_acked.expect("is known");
        assert!(acked <= sent + 1 && acked + 70_100 > sent, "{acked} of {sent}: {call:?}");
    }
    let acked: Vec<_> = seen.iter().map(|call| call.tcp_bytes_acked).collect();
    assert!(acked.is_sorted() && acked[2] > Some(3_000), "{acked:?}");
}

#[test]
fn uploads() {
    require!("curl", "nginx", "python3", "ss");
    let nginx = Nginx::start().expect("starts");
    let file = nginx.file("upload", 3_000_000).expect("is made");
    let file = format!("@{}", file.display());
    let observer = Observer::start().expect("observes");
    let port = nginx.port();
    let url = format!("http://127.0.0.1:{port}/accept");
    curl(&["-H", "Expect:", "--data-binary", &file, &url]).expect("answers");
    curl(&["-H", "Expect: 100-continue", "--data-binary", &file, &url]).expect("answers");
    let chunked = ["-H", "Transfer-Encoding: chunked", "-H", "Expect:", "--data-binary", &file];
    curl(&[&chunked[..], &[&url]].concat()).expect("answers");
    // nginx answers these at once; Python reads them first.
    let shelf = Server::start(Language::Python, Place::HERE).expect("starts");
    upload_slowly(&url, &[]);
    let shelved = format!("http://127.0.0.1:{}/shelved", shelf.port());
    upload_slowly(&shelved, &["-H", "Content-Length: 1000", "-H", "Transfer-Encoding:"]);
    let calls = observer.finish().expect("ends well");
    let call = |bytes| between_curl_and_nginx("POST", "/accept", 200, (bytes, 6));
    verify(&calls, port, &[call(3_000_000), call(3_000_000), call(3_000_000), call(1000)]);
    let kept = Expected::call("POST", "/shelved", 200).bytes(1000, 1000).between("curl", "shelf");
    verify(&calls, shelf.port(), &[kept]);
    // A call lasts until its answer has ended, whichever comes first.
    let slow = |port| {
        let seen = calls.to_port(port).into_iter().find(|call| call.request_bytes == 1000);
        seen.and_then(|call| call.client_duration_us).expect("is there")
    };
    assert!(slow(shelf.port()) > 250_000.0, "a slow body is part of the duration");
    assert!(slow(port) < 250_000.0, "the answer was there before the body");
}

/// Sends 1000 bytes little by little, as they come from standard input.
fn upload_slowly(url: &str, more: &[&str]) {
    let mut curl = load::curl_in(Place::HERE).expect("is installed");
    curl.args(["-T", "-", "-X", "POST", "-H", "Expect:"]).args(more).arg(url);
    let mut curl = curl.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("starts");
    let mut input = curl.stdin.take().expect("is piped");
    for _ in 0..4 {
        input.write_all(&[b'x'; 250]).expect("is taken");
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(input);
    assert!(curl.wait().expect("ends").success());
}

#[test]
fn a_large_file_by_sendfile() {
    require!("curl", "nginx", "ss");
    const SIZE: u64 = 200_000_000;
    let nginx = Nginx::start().expect("starts");
    nginx.file("large", SIZE).expect("is made");
    let observer = Observer::start().expect("observes");
    let url = format!("http://127.0.0.1:{}/files/large", nginx.port());
    curl(&["-o", "/dev/null", "--limit-rate", "400M", &url]).expect("answers");
    let calls = observer.finish().expect("ends well");
    verify(&calls, nginx.port(), &[between_curl_and_nginx("GET", "/files/large", 200, (0, SIZE))]);
    let call = calls.to_port(nginx.port())[0];
    let (first, last) = (call.first_byte_us.expect("seen"), call.client_duration_us.expect("seen"));
    assert!(last > 300_000.0 && first < last / 4.0, "the first byte is not the last: {call:?}");
}

#[test]
fn an_aborted_download() {
    require!("curl", "nginx", "ss");
    let nginx = Nginx::start().expect("starts");
    nginx.file("large", 50_000_000).expect("is made");
    let observer = Observer::start().expect("observes");
    let url = format!("http://127.0.0.1:{}/files/large", nginx.port());
    let mut command = load::curl_in(Place::HERE).expect("is installed");
    command.args(["--limit-rate", "1M", "-m", "1", "-o", "/dev/null", &url]);
    assert!(output(&mut command).is_err(), "one second is not enough");
    let calls = observer.finish().expect("ends well");
    let seen = calls.to_port(nginx.port());
    let [call] = seen.as_slice() else { panic!("one call was made: {seen:?}") };
    assert_eq!((call.path.as_str(), call.status), ("/files/large", Some(200)), "{call:?}");
    assert!(call.error.is_some(), "the answer never ended: {call:?}");
    assert!(call.response_bytes < 50_000_000, "{call:?}");
}

fn speaks(server: Language, client: Language) {
    require!("ss");
    if let Some(reason) = server.missing().or_else(|| client.missing()) {
        skip!(reason);
    }
    let running = Server::start(server, Place::HERE).expect("starts");
    let observer = Observer::start().expect("observes");
    client.ask(running.port()).expect("asks");
    let calls = observer.finish().expect("ends well");
    let expected: Vec<Expected> = ASKED
        .iter()
        .map(|(method, path, status, sent, received)| {
            Expected::call(method, path, *status)
                .bytes(*sent, *received)
                .between(client.client_name(), server.server_name())
        })
        .collect();
    verify(&calls, running.port(), &expected);
    for call in calls.to_port(running.port()) {
        assert_eq!(call.server.pid, Some(running.pid()), "{call:?}");
        assert_eq!(call.server.kind, "process", "{call:?}");
    }
}

#[test]
fn python_server_node_client() {
    speaks(Language::Python, Language::Node);
}

#[test]
fn node_server_go_client() {
    speaks(Language::Node, Language::Go);
}

#[test]
fn go_server_java_client() {
    speaks(Language::Go, Language::Java);
}

#[test]
fn java_server_python_client() {
    speaks(Language::Java, Language::Python);
}

#[test]
fn haproxy_in_front_of_nginx() {
    require!("curl", "nginx", "haproxy", "ss");
    let nginx = Nginx::start().expect("starts");
    let haproxy = Haproxy::start(nginx.port()).expect("starts");
    let observer = Observer::start().expect("observes");
    for path in ["/ok", "/teapot"] {
        curl(&[&format!("http://127.0.0.1:{}{path}", haproxy.port())]).expect("answers");
    }
    let calls = observer.finish().expect("ends well");
    let edge = |client, server| {
        [("/ok", 200, 5), ("/teapot", 418, 6)].map(|(path, status, bytes)| {
            Expected::call("GET", path, status).bytes(0, bytes).between(client, server)
        })
    };
    verify(&calls, haproxy.port(), &edge("curl", "haproxy"));
    verify(&calls, nginx.port(), &edge("haproxy", "nginx"));
}

/// The handshake's last acknowledgement is dropped, the first request creates the connection.
#[test]
fn apache_with_deferred_accept() {
    require!("curl", "apache2", "ss");
    let apache = Apache::start().expect("starts");
    let observer = Observer::start().expect("observes");
    let url = format!("http://127.0.0.1:{}/hello.txt", apache.port());
    curl(&[&url, &url]).expect("answers");
    // A head as long as a browser's waits at the listener, too.
    let cookie = format!("Cookie: session={}", "c".repeat(1400));
    curl(&["-H", &cookie, &url]).expect("answers");
    let calls = observer.finish().expect("ends well");
    let call = Expected::call("GET", "/hello.txt", 200).bytes(0, 6).between("curl", "apache2");
    verify(&calls, apache.port(), &[call.clone(), call.clone(), call]);
}

/// The trace context of the request is the call's; one that is malformed is none.
#[test]
fn trace_context() {
    require!("curl", "nginx", "ss");
    let nginx = Nginx::start().expect("starts");
    let observer = Observer::start().expect("observes");
    let ask = |path: &str, header: &str| {
        let url = format!("http://127.0.0.1:{}{path}", nginx.port());
        let mut command = Command::new("curl");
        command.args(["-q", "-sS", "--noproxy", "*", "-H", header, &url]);
        output(&mut command).expect("answers");
    };
    ask("/ok", "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    ask("/empty", "traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01");
    ask("/moved", "b3: 463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-1");
    let calls = observer.finish().expect("ends well");
    let traces: Vec<(&str, Option<&str>)> = calls
        .to_port(nginx.port())
        .iter()
        .map(|call| (call.path.as_str(), call.trace_id.as_deref()))
        .collect();
    assert_eq!(
        traces,
        [
            ("/ok", Some("4bf92f3577b34da6a3ce929d0e0e4736")),
            ("/empty", None),
            ("/moved", Some("463ac35c9f6413ad48485a3953bb6124")),
        ]
    );
}
