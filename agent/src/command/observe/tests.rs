//! What is written, when, and how it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use parking_lot::Mutex;

use super::examples::{call, grpc, lost, party, through};
use super::*;
use crate::protocol::exchange::UNKNOWN;
use crate::protocol::{Cause, Protocol, Side};

const SECOND: u64 = 1_000_000_000;
/// 2026-11-24T02:39:03Z
const WALL: u64 = 1_795_487_943 * SECOND;

#[derive(Debug, Parser)]
struct Words {
    #[command(flatten)]
    filter: Filter,
}

/// The filter of a command line.
pub(super) fn filter(words: &[&str]) -> Filter {
    let words = std::iter::once("observe").chain(words.iter().copied());
    Words::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).filter
}

/// A writer that many may read, and that fails when it is told to.
#[derive(Clone, Debug, Default)]
struct Shared {
    text: Arc<Mutex<Vec<u8>>>,
    flushed: Arc<AtomicUsize>,
    fails: Option<ErrorKind>,
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.text.lock().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(kind) = self.fails {
            return Err(kind.into());
        }
        self.text.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.flushed.store(self.text.lock().len(), Ordering::Relaxed);
        Ok(())
    }
}

fn options(form: Form) -> Options {
    let filter = Filter::default();
    Options { filter, form, duration: None, count: None, wall_offset_ns: WALL }
}

fn people() -> Form {
    Form::Table(Table::new(false, 160, None))
}

fn alone(mut call: Call) -> Call {
    call.peer_observed = false;
    call
}

#[test]
fn two_ends_with_proxies_between_are_one_line() {
    let there = through(call(Side::Server), 1, None);
    let here = through(call(Side::Client), 2, Some(1));
    let lines = json_of(vec![there.clone(), here.clone()]);
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    let numbers = |names: &[&str]| -> Vec<Option<u64>> {
        names.iter().map(|name| line[*name].as_u64()).collect()
    };
    assert_eq!(numbers(&["client_duration_us", "server_duration_us"]), [Some(1500), Some(1000)]);
    assert_eq!(line["joined_by"], "request_id");
    let times = numbers(&["between_us", "client_proxy_us", "server_proxy_us"]);
    assert_eq!(times, [Some(500), Some(120), Some(130)]);
    // The other end is on no socket of this host.
    let lines = json_of(vec![there.clone()]);
    assert!(lines[0]["joined_by"].is_null() && lines[0]["between_us"].is_null());
    let output = Shared::default();
    let mut observer = Observer::new(options(people()), output.clone());
    observer.call(there);
    observer.call(here);
    observer.close().unwrap();
    assert!(output.text().ends_with("  500us in between\n"), "{}", output.text());
}

fn json_of(calls: Vec<Call>) -> Vec<serde_json::Value> {
    let output = Shared::default();
    let mut observer = Observer::new(options(Form::Json), output.clone());
    calls.into_iter().for_each(|call| observer.call(call));
    observer.close().unwrap();
    output.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_call_seen_at_both_ends_is_exactly_this_line_of_json() {
    let output = Shared::default();
    let mut observer = Observer::new(options(Form::Json), output.clone());
    observer.call(call(Side::Server));
    observer.call(call(Side::Client));
    assert_eq!(observer.tick(10), Flow::Continue);
    let expected = concat!(
        r#"{"time":"2026-11-24T02:39:03.001000000Z","#,
        r#""client":{"name":"curl","namespace":null,"kind":"process","address":"127.0.0.1","port":40000,"pid":11},"#,
        r#""server":{"name":"checkout","namespace":"shop","kind":"process","address":"127.0.0.1","port":8080,"pid":22},"#,
        r#""protocol":"http/1.1","method":"GET","path":"/users/42","route":"/users/{id}","#,
        r#""server_address":"shop.example","server_port":8080,"status":200,"http_status":200,"error":null,"#,
        r#""client_error":null,"server_error":null,"client_duration_us":1500,"server_duration_us":1000,"#,
        r#""first_byte_us":700,"request_bytes":0,"response_bytes":1234,"#,
        r#""request_messages":null,"response_messages":null,"rtt_us":42,"retransmits":3,"tcp_bytes_acked":412,"tcp_bytes_received":1630,"#,
        r#""user_agent":"tool","trace_id":"00000000000000000000000000000abc","mesh":null,"security_policy":null,"#,
        r#""client_principal":null,"server_principal":null,"attempt":null,"#,
        r#""waypoint":null,"joined_by":null,"between_us":null,"client_proxy_us":null,"server_proxy_us":null,"#,
        r#""weight":1,"cut":false,"late_half":false}"#,
        "\n"
    );
    assert_eq!(output.text(), expected);
    assert_eq!(output.flushed.load(Ordering::Relaxed), expected.len(), "flushed as it came");
}

#[test]
fn the_same_for_people() {
    let output = Shared::default();
    let mut observer = Observer::new(options(people()), output.clone());
    observer.call(call(Side::Server));
    observer.call(call(Side::Client));
    let mut refused = call(Side::Client);
    refused.exchange.status = Some(503);
    refused.exchange.method = "POST".into();
    refused.exchange.path = "/a/path/that/is/far/too/long/for/the/column/that/it/stands/in".into();
    refused.exchange.request_bytes = 123_456;
    observer.call(alone(refused));
    let mut broken = call(Side::Client);
    broken.exchange.status = None;
    broken.exchange.error = Some(Cause::ResetReceived);
    observer.call(alone(broken));
    observer.lost(&lost());
    observer.tick(10);
    let expected = "\
TIME (UTC)   CLIENT             SERVER             PROTOCOL METHOD  PATH                                   STATUS  AT-CLNT   AT-SRV    SENT   RECVD     RTT RETR
02:39:03.001 curl               shop/checkout      http/1.1 GET     /users/42                                 200   1.50ms   1.00ms       0   1.23K    42us    3
02:39:03.001 curl               shop/checkout      http/1.1 POST    /a/path/that/is/far/too/long/for/the/…    503   1.50ms        -    123K   1.23K    42us    1
02:39:03.001 curl               shop/checkout      http/1.1 GET     /users/42                                   -   1.50ms        -       0   1.23K    42us    1  connection_reset
02:39:03.005 3 calls lost: ring_full (? -> shop/checkout)
";
    assert_eq!(output.text(), expected, "\n{}", output.text());
}

#[test]
fn a_grpc_call_is_exactly_this_line_of_json() {
    let output = Shared::default();
    let mut observer = Observer::new(options(Form::Json), output.clone());
    observer.call(grpc(Side::Client, Some(14)));
    observer.call(grpc(Side::Server, Some(14)));
    observer.tick(10);
    let expected = concat!(
        r#""protocol":"grpc","method":"shop.Users/Get","path":"/shop.Users/Get","route":null,"#,
        r#""server_address":"shop.example","server_port":8080,"status":"UNAVAILABLE","#,
        r#""http_status":200,"error":null,"client_error":null,"server_error":null,"#,
        r#""client_duration_us":1500,"server_duration_us":1000,"first_byte_us":700,"#,
        r#""request_bytes":0,"response_bytes":1234,"request_messages":2,"response_messages":3,"#,
    );
    assert!(output.text().contains(expected), "{}", output.text());
}

#[test]
fn the_ends_of_a_grpc_call_make_up_for_each_other() {
    let (mut client, mut server) = (grpc(Side::Client, Some(4)), grpc(Side::Server, None));
    let of = |call: &mut Call, sent, received| {
        let rpc = call.exchange.rpc.as_mut().unwrap();
        (rpc.request_messages, rpc.response_messages) = (sent, received);
    };
    of(&mut client, Some(7), Some(8));
    of(&mut server, Some(6), None);
    let line = json_of(vec![client, server]).remove(0);
    assert_eq!(line["status"], "DEADLINE_EXCEEDED");
    assert_eq!((&line["request_messages"], &line["response_messages"]), (&6.into(), &8.into()));

    let mut alone = alone(grpc(Side::Client, None));
    of(&mut alone, None, None);
    (alone.exchange.status, alone.exchange.path) = (Some(502), UNKNOWN.into());
    let line = json_of(vec![alone]).remove(0);
    assert_eq!((&line["protocol"], &line["http_status"]), (&"grpc".into(), &502.into()));
    for field in ["method", "path", "status", "request_messages", "response_messages"] {
        assert!(line[field].is_null(), "{field}: {}", line[field]);
    }
}

#[test]
fn what_http2_does_not_tell_is_null() {
    let mut call = alone(call(Side::Server));
    call.exchange.protocol = Protocol::Http2;
    (call.exchange.method, call.exchange.path) = (UNKNOWN.into(), UNKNOWN.into());
    call.route = Arc::from("unknown");
    let line = json_of(vec![call]).remove(0);
    assert_eq!((&line["protocol"], &line["status"]), (&"http/2".into(), &200.into()));
    assert!(line["method"].is_null() && line["path"].is_null());
}

#[test]
fn grpc_for_people() {
    let output = Shared::default();
    let mut observer = Observer::new(options(people()), output.clone());
    observer.call(alone(grpc(Side::Client, Some(0))));
    observer.call(alone(grpc(Side::Client, Some(14))));
    let mut refused = alone(grpc(Side::Client, None));
    refused.exchange.status = Some(503);
    refused.exchange.rpc.as_mut().unwrap().request_messages = Some(1);
    refused.exchange.rpc.as_mut().unwrap().response_messages = Some(1);
    observer.call(refused);
    observer.tick(10);
    let expected = "\
02:39:03.001 curl               shop/checkout      grpc             shop.Users/Get                             OK   1.50ms        -       0   1.23K    42us    1  2 sent, 3 received
02:39:03.001 curl               shop/checkout      grpc             shop.Users/Get                         not OK   1.50ms        -       0   1.23K    42us    1  2 sent, 3 received  UNAVAILABLE
02:39:03.001 curl               shop/checkout      grpc             shop.Users/Get                              -   1.50ms        -       0   1.23K    42us    1  HTTP 503
";
    let text = output.text();
    let rows = text.split_once('\n').unwrap().1;
    assert_eq!(rows, expected, "\n{rows}");
}

#[test]
fn a_loss_is_exactly_this_line_of_json_where_it_was_lost() {
    let output = Shared::default();
    let mut observer = Observer::new(options(Form::Json), output.clone());
    observer.call(alone(call(Side::Client)));
    observer.lost(&lost());
    observer.call(alone(call(Side::Client)));
    let summary = observer.close().unwrap().unwrap();
    assert_eq!(summary, Summary { shown: 2, filtered: 0, lost: 3 });
    let text = output.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[1],
        concat!(
            r#"{"time":"2026-11-24T02:39:03.005000000Z","lost":3,"reason":"ring_full","client":null,"#,
            r#""server":{"name":"checkout","namespace":"shop","kind":"process","address":"127.0.0.1","port":8080,"pid":22}}"#
        )
    );
    assert!(lines.len() == 3 && !lines[0].contains("lost") && !lines[2].contains("lost"));
}

#[test]
fn what_was_not_seen_is_null() {
    let mut unseen = call(Side::Client);
    unseen.exchange.method = "".into();
    unseen.exchange.path = "".into();
    unseen.exchange.status = None;
    unseen.exchange.first_byte_ns = None;
    unseen.exchange.rtt_us = None;
    unseen.exchange.trace = None;
    unseen.route = Arc::from("");
    unseen.server = party("unknown", "", "", 0);
    let line = json_of(vec![alone(unseen)]).remove(0);
    for field in [
        "method",
        "path",
        "route",
        "status",
        "error",
        "server_duration_us",
        "first_byte_us",
        "rtt_us",
        "trace_id",
    ] {
        assert!(line[field].is_null(), "{field}: {}", line[field]);
    }
    assert_eq!(line["server"]["name"], "unknown");
    assert_eq!(line["server"]["kind"], "unknown");
    assert!(line["server"]["address"].is_null() && line["server"]["pid"].is_null());
}

#[test]
fn where_the_ends_differ_each_has_its_say() {
    let (mut client, mut server) = (call(Side::Client), call(Side::Server));
    client.exchange.status = None;
    client.exchange.error = Some(Cause::Abandoned);
    server.exchange.status = Some(201);
    server.exchange.response_bytes = 99;
    client.server = party("10.96.0.1", "", "10.96.0.1:80", 0);
    let line = json_of(vec![client, server]).remove(0);
    assert_eq!((&line["error"], &line["client_error"]), (&"abandoned".into(), &"abandoned".into()));
    assert!(line["server_error"].is_null());
    assert_eq!((&line["status"], &line["response_bytes"]), (&201.into(), &99.into()));
    assert_eq!(line["server"]["address"], "127.0.0.1", "the server knows its own address best");

    let (mut client, mut server) = (call(Side::Client), call(Side::Server));
    server.exchange.error = Some(Cause::Closed);
    client.server = party("checkout", "shop", "127.0.0.1:8080", 0);
    server.server = party("unknown", "", "127.0.0.1:8080", 22);
    let line = json_of(vec![client, server]).remove(0);
    assert_eq!(
        (&line["error"], &line["server_error"]),
        (&"connection_closed".into(), &"connection_closed".into())
    );
    assert!(line["client_error"].is_null());
    assert_eq!(line["server"]["name"], "checkout", "a name from the other end is better than none");
}

#[test]
fn a_late_second_end_is_shown_marked_and_not_counted_again() {
    let (client, mut server) = (call(Side::Client), call(Side::Server));
    server.exchange.end_ns += 10 * SECOND;
    let output = Shared::default();
    let mut observer = Observer::new(options(Form::Json), output.clone());
    observer.call(client);
    observer.call(server);
    assert_eq!(observer.close().unwrap().unwrap().shown, 1);
    let text = output.text();
    let late: Vec<bool> = text.lines().map(|line| line.contains(r#""late_half":true"#)).collect();
    assert_eq!(late, [false, true]);
}

#[test]
fn nothing_that_came_over_the_wire_controls_the_terminal() {
    let mut hostile = call(Side::Client);
    let text = "/\u{1b}[2J\u{9b}31m\u{7f}\r\n\u{202e}gpj\u{200b}\u{e0041}é日本";
    hostile.exchange.path = text.to_owned().into();
    hostile.exchange.method = "G\u{7}T".into();
    hostile.client = party("evil\u{1b}]0;x\u{7}", "n\u{85}s", "127.0.0.1:1", 1);
    for form in [people(), Form::Json] {
        let output = Shared::default();
        let mut observer = Observer::new(options(form.clone()), output.clone());
        observer.call(alone(hostile.clone()));
        observer.close().unwrap();
        let written = output.text();
        let bad: Vec<char> =
            written.chars().filter(|c| *c != '\n' && render::is_hostile(*c)).collect();
        assert!(bad.is_empty(), "{bad:?} in {written:?}");
        if let Form::Json = form {
            let value: serde_json::Value = serde_json::from_str(&written).unwrap();
            assert_eq!(value["path"], text, "nothing is lost by the escaping");
            assert_eq!(written.lines().count(), 1);
        } else {
            assert_eq!(written.lines().count(), 2);
        }
    }
}

#[test]
fn the_end_comes_after_the_count_and_not_a_line_later() {
    let output = Shared::default();
    let limited = Options { count: Some(2), ..options(Form::Json) };
    let mut observer = Observer::new(limited, output.clone());
    observer.call(alone(call(Side::Client)));
    assert_eq!(observer.tick(1), Flow::Continue);
    (0..3).for_each(|_| observer.call(alone(call(Side::Client))));
    observer.lost(&lost());
    assert_eq!(observer.tick(2), Flow::Stop);
    assert_eq!(observer.close().unwrap().unwrap().shown, 2);
    assert_eq!(output.text().lines().count(), 2);
}

#[test]
fn the_end_comes_after_the_duration_and_shows_what_still_waited() {
    let output = Shared::default();
    let limited = Options { duration: Some(Duration::from_secs(1)), ..options(Form::Json) };
    let mut observer = Observer::new(limited, output.clone());
    assert_eq!(observer.tick(100 * SECOND), Flow::Continue);
    let mut waiting = call(Side::Client);
    waiting.exchange.end_ns = 101 * SECOND - 1;
    observer.call(waiting);
    assert_eq!(observer.tick(101 * SECOND - 1), Flow::Continue);
    assert!(output.text().is_empty());
    assert_eq!(observer.tick(101 * SECOND), Flow::Stop);
    assert_eq!(output.text().lines().count(), 1);
}

#[test]
fn a_reader_that_went_away_is_a_quiet_end_and_any_other_failure_is_not() {
    let gone = Shared { fails: Some(ErrorKind::BrokenPipe), ..Shared::default() };
    let mut observer = Observer::new(options(Form::Json), gone);
    observer.call(alone(call(Side::Client)));
    assert_eq!(observer.tick(1), Flow::Stop);
    assert!(observer.finish().is_ok());

    let full = Shared { fails: Some(ErrorKind::StorageFull), ..Shared::default() };
    let mut observer = Observer::new(options(Form::Json), full);
    observer.call(alone(call(Side::Client)));
    assert_eq!(observer.tick(1), Flow::Stop);
    let failure = observer.finish().unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    assert!(failure.to_string().starts_with("the output cannot be written: "), "{failure}");
}

#[test]
fn what_the_filter_takes_out_is_counted() {
    let output = Shared::default();
    let filtered = Options { filter: filter(&["--status", "5xx"]), ..options(Form::Json) };
    let mut observer = Observer::new(filtered, output.clone());
    observer.call(alone(call(Side::Client)));
    observer.lost(&lost());
    let summary = observer.close().unwrap().unwrap();
    assert_eq!(summary.to_string(), "0 calls shown, 1 filtered out, 3 lost");
    assert_eq!(output.text().lines().count(), 1, "the loss may have been a 5xx");
}

#[test]
fn many_lines_do_not_pile_up_between_two_ticks() {
    let output = Shared::default();
    let mut observer = Observer::new(options(Form::Json), output.clone());
    for _ in 0..1_000 {
        observer.call(alone(call(Side::Client)));
        assert!(observer.buffer.len() < BUFFER);
    }
    assert!(output.text().lines().count() > 900);
}
