//! Every filter against one call, by itself, turned around, and together.

use clap::Parser;

use super::super::examples::{call, grpc, lost};
use super::super::merge::Merge;
use super::super::tests::filter;
use super::*;
use crate::protocol::{Cause, Side};

#[derive(Debug, Parser)]
struct Words {
    #[command(flatten)]
    filter: Filter,
}

/// Whether `curl -> shop/checkout`, `GET /users/42`, 200, 1.5 ms at the client is shown.
fn shows(words: &[&str]) -> bool {
    shows_changed(words, |_| {})
}

fn shows_changed(words: &[&str], change: impl Fn(&mut crate::attribution::Call)) -> bool {
    let (mut merge, mut ready) = (Merge::default(), Vec::new());
    for side in [Side::Client, Side::Server] {
        let mut call = call(side);
        change(&mut call);
        merge.put(call, &mut ready);
    }
    filter(words).shows(&Line::of(&ready[0], 0))
}

#[test]
fn every_filter_by_itself_and_turned_around() {
    let cases: &[(&[&str], bool)] = &[
        (&["--from", "curl"], true),
        (&["--from", "cur"], false),
        (&["--from", "c*l"], true),
        (&["--from", "cur?"], true),
        (&["--from", "checkout"], false),
        (&["--from", "127.0.0.1"], true),
        (&["--from", "127.0.0.1:40000"], true),
        (&["--from", "127.0.0.1:8080"], false),
        (&["--from", "127.0.0.0/8"], true),
        (&["--from", "10.0.0.0/8"], false),
        (&["--to", "checkout"], true),
        (&["--to", "shop/checkout"], true),
        (&["--to", "shop/*"], true),
        (&["--to", "other/checkout"], false),
        (&["--to", "c.rl"], false),
        (&["--service", "curl"], true),
        (&["--service", "checkout"], true),
        (&["--service", "pay"], false),
        (&["--path", "/users/42"], true),
        (&["--path", "/users/*"], true),
        (&["--path", "*"], true),
        (&["--path", "/users"], false),
        (&["--path", "/users/4?"], true),
        (&["--path", "/USERS/42"], false),
        (&["--method", "GET"], true),
        (&["--method", "get"], true),
        (&["--method", "POST,GET"], true),
        (&["--method", "POST"], false),
        (&["--status", "200"], true),
        (&["--status", "2xx"], true),
        (&["--status", "404,5xx"], false),
        (&["--status", "404,2XX"], true),
        (&["--status", "199-200"], true),
        (&["--status", "201-299"], false),
        (&["--min-latency", "1500us"], true),
        (&["--min-latency", "1501us"], false),
        (&["--min-latency", "0s"], true),
        (&["--port", "8080"], true),
        (&["--port", "80"], false),
        (&["--errors"], false),
    ];
    for (words, expected) in cases {
        assert_eq!(shows(words), *expected, "{words:?}");
        let turned = [&["--not"], *words].concat();
        assert_eq!(shows(&turned), !*expected, "{turned:?}");
    }
    assert!(shows(&[]));
}

#[test]
fn different_kinds_all_have_to_hold_and_one_of_a_kind_suffices() {
    assert!(shows(&["--from", "curl", "--to", "checkout"]));
    assert!(!shows(&["--from", "curl", "--to", "pay"]));
    assert!(shows(&["--to", "pay", "--to", "checkout"]));
    assert!(shows(&["--status", "404", "--from", "curl", "--status", "200"]));
    assert!(!shows(&["--status", "404", "--from", "wget", "--status", "200"]));
}

#[test]
fn not_turns_around_only_the_filter_that_follows() {
    assert!(!shows(&["--not", "--from", "curl", "--to", "checkout"]));
    assert!(shows(&["--not", "--from", "wget", "--to", "checkout"]));
    assert!(!shows(&["--from", "curl", "--not", "--to", "checkout"]));
    assert!(!shows(&["--not", "--from", "wget", "--not", "--from", "curl"]), "neither of the two");
    assert!(shows(&["--not", "--errors", "--not", "--status", "4xx", "--path", "/users/*"]));
    assert!(!shows(&["--not", "--status", "404,200"]), "all of one filter's values");
    assert!(shows(&["--service", "c*", "--not", "--service", "pay"]));
}

#[test]
fn failures_are_server_errors_and_missing_answers() {
    let with = |status, error| {
        shows_changed(&["--errors"], |call| {
            (call.exchange.status, call.exchange.error) = (status, error);
        })
    };
    assert!(with(Some(500), None));
    assert!(!with(Some(404), None));
    assert!(with(None, Some(Cause::Timeout)));
    assert!(with(Some(200), Some(Cause::Closed)), "an answer that broke off");
    assert!(!shows_changed(&["--status", "100-999"], |call| call.exchange.status = None));
    assert!(shows_changed(&["--not", "--status", "2xx"], |call| call.exchange.status = None));
}

#[test]
fn grpc_calls_are_found_by_method_and_by_the_name_of_their_status() {
    let shows = |words: &[&str], status: Option<u32>, http: Option<u16>| {
        let (mut merge, mut ready) = (Merge::default(), Vec::new());
        let mut call = grpc(Side::Client, status);
        (call.peer_observed, call.exchange.status) = (false, http);
        merge.put(call, &mut ready);
        filter(words).shows(&Line::of(&ready[0], 0))
    };
    let ok = Some(200);
    for (words, status, http, expected) in [
        (&["--status", "UNAVAILABLE"][..], Some(14), ok, true),
        (&["--status", "unavailable"], Some(14), ok, true),
        (&["--status", "NOT_FOUND, Unavailable"], Some(14), ok, true),
        (&["--status", "5xx,internal"], Some(14), ok, false),
        (&["--status", "2xx"], Some(14), ok, false),
        (&["--status", "5xx"], None, Some(503), true),
        (&["--status", "OK"], None, ok, false),
        (&["--not", "--status", "OK"], Some(0), ok, false),
        (&["--errors"], Some(14), ok, true),
        (&["--errors"], Some(5), ok, false),
        (&["--errors"], None, Some(404), false),
        (&["--errors"], None, Some(503), true),
        (&["--method", "shop.users/get"], Some(0), ok, true),
        (&["--method", "POST"], Some(0), ok, false),
        (&["--path", "/shop.Users/*"], Some(0), ok, true),
    ] {
        assert_eq!(shows(words, status, http), expected, "{words:?} {status:?} {http:?}");
    }
    let (mut merge, mut ready) = (Merge::default(), Vec::new());
    let mut cancelled = grpc(Side::Client, None);
    (cancelled.peer_observed, cancelled.exchange.error) = (false, Some(Cause::Cancelled));
    merge.put(cancelled, &mut ready);
    assert!(filter(&["--errors"]).shows(&Line::of(&ready[0], 0)));
    assert!(!filter(&["--status", "UNKNOWN"]).shows(&Line::of(&ready[0], 0)));
}

#[test]
fn a_loss_is_hidden_only_where_its_ends_are_known_and_excluded() {
    let lost = lost();
    let line = lost.line(0);
    for (words, expected) in [
        (&["--to", "checkout"][..], true),
        (&["--to", "pay"], false),
        (&["--from", "anybody"], true),
        (&["--service", "pay"], true),
        (&["--port", "80"], false),
        (&["--status", "5xx", "--errors", "--path", "/x"], true),
        (&["--not", "--to", "checkout"], false),
        (&["--not", "--from", "curl"], true),
        (&["--not", "--status", "200"], true),
    ] {
        assert_eq!(filter(words).shows_lost(&line), expected, "{words:?}");
    }
}

#[test]
fn a_value_that_is_none_is_refused_with_an_example() {
    for (words, example) in [
        (&["--status", "6xxx"][..], "for example `404`, `5xx`, `500-503` or `404,5xx`"),
        (&["--status", "500-400"], "for example `404`"),
        (&["--status", "99"], "for example `404`"),
        (&["--status", "404,"], "for example `404`"),
        (&["--status", "UNAVAILABEL"], "for example `UNAVAILABLE`"),
        (&["--min-latency", "10"], "for example `10ms`, `1s` or `5m`"),
        (&["--from", ""], "for example `checkout` or `check*`"),
        (&["--method", "GET,"], "for example `GET` or `POST,PUT`"),
        (&["--port", "0"], "0 is not in 1..=65535"),
        (&["--not"], "for example `--not --path /healthz`"),
        (&["--not", "--not", "--errors"], "for example `--not --path /healthz`"),
        (&["--errors", "--not"], "for example `--not --path /healthz`"),
    ] {
        let words = std::iter::once("observe").chain(words.iter().copied());
        let error = Words::try_parse_from(words).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(example), "{error}");
    }
}
