//! Calls of HTTP/2 that repeat are counted in the kernel, stream by stream: an agent that counts
//! so and one beside it that has every call told come to the same series.

use anyhow::Result;

use meshtap_tests::books::{Kind, lost};
use meshtap_tests::frames::{
    END_HEADERS, END_STREAM, PADDED, PREFACE, WHOLE, continuation, data, goaway, headers, indexed,
    kept, literal, message, padded, ping, reset, settings, settings_ack, status, window_update,
};
use meshtap_tests::lanes::Pair;
use meshtap_tests::link::{Impairment, Link};
use meshtap_tests::netns::{Netns, Place, SERVER};
use meshtap_tests::wire::{Wire, pause};
use meshtap_tests::workload::{Cart, Grpc, Nghttpd, h2load_streams, shop};
use meshtap_tests::{require, skip};

/// The client of the calls by gRPC.
const BUYER: &str = "gobuyer";

#[test]
fn calls_of_grpc() {
    require!("ss");
    if let Some(reason) = Grpc::Go.missing() {
        skip!(reason);
    }
    let cart = Cart::start(Grpc::Go).expect("starts");
    let pair = Pair::beside(Kind::Rpc, cart.port());
    shop(Place::HERE, &cart.address(), 20_000, (4, 8)).expect("shops");
    pair.agree(BUYER, 20_000);
    pair.counted(10_000);
}

#[test]
fn calls_of_grpc_over_a_bad_link() {
    require!("ip", "python3", "/dev/net/tun", "ss");
    if let Some(reason) = Grpc::Go.missing() {
        skip!(reason);
    }
    let (client, server) = (Netns::create().expect("made"), Netns::create().expect("made"));
    let _link = Link::lay(&client, &server, Impairment::BAD).expect("is laid");
    let cart = Cart::start_in(Grpc::Go, Place::netns(&server), &[]).expect("starts");
    let pair = Pair::beside(Kind::Rpc, cart.port());
    let address = format!("{SERVER}:{}", cart.port());
    shop(Place::netns(&client), &address, 10_000, (4, 8)).expect("shops");
    pair.agree(BUYER, 10_000);
    pair.counted(1_000);
}

/// nghttpd says the time in each answer, which the table has anew each second.
#[test]
fn calls_whose_table_changes() {
    require!("nghttpd", "h2load", "ss");
    let server = Nghttpd::start(&[]).expect("starts");
    server.file("a", 100).expect("is made");
    server.file("b", 20_000).expect("is made");
    let pair = Pair::beside(Kind::Http, server.port());
    let address = format!("127.0.0.1:{}", server.port());
    h2load_streams(Place::HERE, &address, &["/a", "/b", "/none"], (4, 3), 20_000).expect("runs");
    pair.agree("h2load", 20_000);
    pair.counted(1_000);
}

/// What both ends send before anything else.
fn open(wire: &mut Wire) -> Result<()> {
    wire.request([PREFACE, &settings(&[])].concat())?;
    wire.answer([settings(&[]), settings_ack()].concat())?;
    wire.request(settings_ack())
}

/// The block of headers of a request, that no table keeps.
fn block(wire: &Wire, method: &str, path: &str) -> Vec<u8> {
    const HTTP: usize = 6;
    let authority = format!("127.0.0.1:{}", wire.port());
    let names = [(":method", method), (":path", path), (":authority", &authority)];
    let names = names.map(|(name, value)| literal(name, value)).concat();
    [indexed(HTTP), names].concat()
}

fn get(wire: &Wire, stream: u32) -> Vec<u8> {
    headers(stream, WHOLE, &block(wire, "GET", "/x"))
}

fn ok(stream: u32) -> Vec<u8> {
    [headers(stream, END_HEADERS, &status(200)), data(stream, END_STREAM, b"ok")].concat()
}

/// Plain calls of a connection before what is other: the later ones are counted.
const STEADY: u32 = 12;
/// More than an agent needs to have the next call of a kind counted.
const MOMENT: u64 = 50;
/// The first stream behind the steady ones.
const NEXT: u32 = 2 * STEADY + 1;

/// What happens on a connection behind the steady calls, and how many calls that makes.
type Turn = (&'static str, u32, fn(&mut Wire) -> Result<()>);

const TURNS: &[Turn] = &[
    ("the client closes", 1, |wire| {
        wire.request(get(wire, NEXT))?;
        wire.close()
    }),
    ("the server resets the connection", 1, |wire| {
        wire.request(get(wire, NEXT))?;
        wire.server.reset()
    }),
    ("a reset of the stream by the client", 2, |wire| {
        wire.request(get(wire, NEXT))?;
        wire.request(reset(NEXT, 8))?;
        wire.request(get(wire, NEXT + 2))?;
        wire.answer(ok(NEXT + 2))?;
        wire.close()
    }),
    ("a reset of the stream by the server, while others wait", 3, |wire| {
        wire.request([get(wire, NEXT), get(wire, NEXT + 2), get(wire, NEXT + 4)].concat())?;
        wire.answer([ok(NEXT), reset(NEXT + 2, 7)].concat())?;
        wire.answer(ok(NEXT + 4))?;
        wire.close()
    }),
    ("another status", 2, |wire| {
        wire.request([get(wire, NEXT), get(wire, NEXT + 2)].concat())?;
        let head = headers(NEXT, WHOLE, &status(503));
        wire.answer([head, ok(NEXT + 2)].concat())?;
        wire.close()
    }),
    ("an interim answer", 1, |wire| {
        wire.request(get(wire, NEXT))?;
        wire.answer(headers(NEXT, END_HEADERS, &status(100)))?;
        wire.answer(ok(NEXT))?;
        wire.close()
    }),
    ("trailers that nobody expected", 2, |wire| {
        wire.request([get(wire, NEXT), get(wire, NEXT + 2)].concat())?;
        let head = headers(NEXT, END_HEADERS, &status(200));
        let tail = headers(NEXT, WHOLE, &literal("x-sum", "1"));
        wire.answer([head, data(NEXT, 0, b"ok"), tail].concat())?;
        wire.answer(ok(NEXT + 2))?;
        wire.close()
    }),
    ("an answer that is cut anywhere", 2, |wire| {
        wire.request([get(wire, NEXT), get(wire, NEXT + 2)].concat())?;
        wire.answer_split([ok(NEXT), ok(NEXT + 2)].concat(), 1)?;
        wire.close()
    }),
    ("requests that are cut anywhere", 2, |wire| {
        wire.request_split([get(wire, NEXT), get(wire, NEXT + 2)].concat(), 1)?;
        wire.answer([ok(NEXT), ok(NEXT + 2)].concat())?;
        wire.close()
    }),
    ("padding, and a block in two frames", 3, |wire| {
        let block = block(wire, "GET", "/x");
        let padded = headers(NEXT, WHOLE | PADDED, &padded(&block, 3));
        let first = headers(NEXT + 2, END_STREAM, &block[..9]);
        let second = continuation(NEXT + 2, END_HEADERS, &block[9..]);
        wire.request([padded, first, second, get(wire, NEXT + 4)].concat())?;
        wire.answer([ok(NEXT), ok(NEXT + 2), ok(NEXT + 4)].concat())?;
        wire.close()
    }),
    ("a table that changes", 3, |wire| {
        let block = [block(wire, "GET", "/x"), kept("x-new", "1")].concat();
        wire.request(get(wire, NEXT))?;
        wire.request([headers(NEXT + 2, WHOLE, &block), get(wire, NEXT + 4)].concat())?;
        wire.answer([ok(NEXT), ok(NEXT + 2), ok(NEXT + 4)].concat())?;
        wire.close()
    }),
    ("frames between", 1, |wire| {
        wire.request(
            [ping(1), get(wire, NEXT), window_update(0, 5), settings(&[(4, 70_000)])].concat(),
        )?;
        let head = headers(NEXT, END_HEADERS, &status(200));
        wire.answer([settings_ack(), head, ping(2)].concat())?;
        wire.answer([window_update(NEXT, 9), data(NEXT, END_STREAM, b"ok")].concat())?;
        wire.close()
    }),
    ("an end that is announced", 2, |wire| {
        wire.request([get(wire, NEXT), get(wire, NEXT + 2)].concat())?;
        wire.answer([goaway(NEXT, 0), ok(NEXT)].concat())?;
        wire.close()
    }),
    ("a body that is larger, or in many frames", 2, |wire| {
        wire.request([get(wire, NEXT), get(wire, NEXT + 2)].concat())?;
        let head = |stream| headers(stream, END_HEADERS, &status(200));
        let large = data(NEXT, END_STREAM, &[b'a'; 3_000]);
        wire.answer([head(NEXT), head(NEXT + 2), large, data(NEXT + 2, 0, b"o")].concat())?;
        wire.answer([data(NEXT + 2, 0, b"k"), data(NEXT + 2, END_STREAM, b"")].concat())?;
        wire.close()
    }),
    ("more streams than may wait", 40, |wire| {
        let streams = (0..40).map(|index| NEXT + 2 * index);
        wire.request(streams.clone().flat_map(|stream| get(wire, stream)).collect::<Vec<_>>())?;
        wire.answer(streams.rev().flat_map(ok).collect::<Vec<_>>())?;
        wire.close()
    }),
    ("a number that is skipped", 1, |wire| {
        wire.request(get(wire, NEXT + 20))?;
        wire.answer(ok(NEXT + 20))?;
        wire.close()
    }),
];

/// Steady calls, and behind them what is other.
fn conversation(wire: &mut Wire, (name, _, turn): &Turn) {
    let steady = |wire: &mut Wire| {
        open(wire)?;
        for index in 0..STEADY {
            wire.request(get(wire, 2 * index + 1))?;
            wire.answer(ok(2 * index + 1))?;
            pause(MOMENT);
        }
        turn(wire)
    };
    steady(wire).unwrap_or_else(|error| panic!("the script of {name} fails: {error:#}"));
}

#[test]
fn streams_that_wait_and_are_told() {
    require!("ss");
    let mut wire = Wire::open().expect("opens");
    let pair = Pair::beside(Kind::Http, wire.port());
    let client = std::env::current_exe().expect("is known");
    let client = client.file_name().and_then(|name| name.to_str()).expect("is text");
    let mut calls = 0;
    for turn in TURNS {
        wire.again().expect("opens");
        conversation(&mut wire, turn);
        calls += u64::from(STEADY + turn.1);
        let [counting, telling] = pair.settled(client, calls);
        let [one, other] = [&counting, &telling].map(|scrape| pair.books.sides(scrape, client));
        assert_eq!([lost(&counting), lost(&telling)], [0, 0], "{}", turn.0);
        assert_eq!(one, other, "{}", turn.0);
        assert_eq!(one.map(|side| side.total()), [calls; 2], "{}: {other:#?}", turn.0);
    }
    pair.agree(client, calls);
    pair.counted(2 * TURNS.len() as u64 * u64::from(STEADY - 6));
}

/// A call by gRPC that asks with so many messages, in one packet, and in more.
fn asks(wire: &Wire, stream: u32, messages: usize) -> [Vec<u8>; 2] {
    let kind = literal("content-type", "application/grpc");
    let block = [block(wire, "POST", "/shop.Cart/Get"), kind].concat();
    let head = headers(stream, END_HEADERS, &block);
    let bodies = vec![data(stream, 0, &message(b"bread")); messages - 1].concat();
    [[head, bodies].concat(), data(stream, END_STREAM, &message(b"bread"))]
}

fn answers(stream: u32, messages: usize, code: &str) -> Vec<u8> {
    let head = [status(200), literal("content-type", "application/grpc")].concat();
    let bodies = vec![data(stream, 0, &message(b"a loaf")); messages].concat();
    let tail = headers(stream, WHOLE, &literal("grpc-status", code));
    [headers(stream, END_HEADERS, &head), bodies, tail].concat()
}

#[test]
fn messages_are_those_that_were_sent() {
    require!("ss");
    let mut wire = Wire::open().expect("opens");
    let pair = Pair::beside(Kind::Rpc, wire.port());
    let mut play = || -> Result<u32> {
        wire.again()?;
        open(&mut wire)?;
        let mut stream = 1;
        let mut one = |asked: usize, answered: usize, code: &str, cut: bool| -> Result<()> {
            let [first, last] = asks(&wire, stream, asked);
            let pieces: &[&[u8]] = if cut { &[&first, &last] } else { &[&[first, last].concat()] };
            wire.request_pieces(pieces)?;
            wire.answer(answers(stream, answered, code))?;
            pause(MOMENT);
            stream += 2;
            Ok(())
        };
        for _ in 0..8 {
            one(1, 1, "0", false)?;
        }
        for cut in [false, true] {
            one(1, 1, "5", cut)?;
            one(2, 1, "0", cut)?;
            one(1, 3, "0", cut)?;
            one(1, 0, "0", cut)?;
            one(1, 1, "0", cut)?;
        }
        wire.close()?;
        Ok(stream / 2)
    };
    let calls = play().expect("the script runs");
    let client = std::env::current_exe().expect("is known");
    let client = client.file_name().and_then(|name| name.to_str()).expect("is text");
    pair.agree(client, calls.into());
    pair.counted(8);
}
