//! Awkward but legal HTTP/2, frame by frame: of each conversation exactly the calls that
//! were made are seen, whatever segments and frames they came in.

use anyhow::Result;

use meshtap_tests::agent::Observer;
use meshtap_tests::conversation::Conversations;
use meshtap_tests::expected::{Causes, Expected};
use meshtap_tests::frames::{
    END_HEADERS, END_STREAM, PADDED, PREFACE, PRIORITY, WHOLE, call, continuation, data, frame,
    goaway, headers, huffman, indexed, kept, kept_by, literal, message, never, padded, padded_data,
    ping, priority, push_promise, request, reset, resize, settings, settings_ack, status,
    window_update,
};
use meshtap_tests::require;
use meshtap_tests::wire::Wire;

const REFUSED: u32 = 7;
const CANCEL: u32 = 8;
const HEADER_TABLE_SIZE: u16 = 1;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;

fn ok(path: &str) -> Expected {
    Expected::call("GET", path, 200).bytes(0, 2).http2()
}

fn both(cause: &'static [&'static str]) -> Causes {
    Causes { client: cause, server: cause }
}

/// What both ends send before anything else.
fn open(wire: &mut Wire) -> Result<()> {
    open_with(wire, &[], &[])
}

fn open_with(wire: &mut Wire, client: &[(u16, u32)], server: &[(u16, u32)]) -> Result<()> {
    wire.request([PREFACE, &settings(client)].concat())?;
    wire.answer([settings(server), settings_ack()].concat())?;
    wire.request(settings_ack())
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, WHOLE, &request("GET", path))
}

/// Status 200 and the body `ok`.
fn answer(stream: u32) -> Vec<u8> {
    [headers(stream, END_HEADERS, &status(200)), data(stream, END_STREAM, b"ok")].concat()
}

/// One request and its answer, on a connection that goes on: shows that framing is intact.
fn one_more(wire: &mut Wire, stream: u32, path: &str) -> Result<()> {
    wire.request(get(stream, path))?;
    wire.answer(answer(stream))
}

/// A POST whose half of the stream goes on.
fn post(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, END_HEADERS, &request("POST", path))
}

#[test]
fn segments() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    let posted = Expected::call("POST", "/bytewise", 201).bytes(9, 2).http2();
    all.play("one-byte segments", vec![posted, ok("/after")], |wire| {
        let opening = [PREFACE, &settings(&[(MAX_CONCURRENT_STREAMS, 100)])].concat();
        wire.request_split(opening, 1)?;
        wire.answer_split([settings(&[]), settings_ack()].concat(), 1)?;
        let body = [data(1, 0, b"wiki"), data(1, END_STREAM, b"pedia")].concat();
        wire.request_split([settings_ack(), post(1, "/bytewise"), body].concat(), 1)?;
        let head = headers(1, END_HEADERS, &status(201));
        let trailer = headers(1, WHOLE, &literal("x-sum", "1"));
        wire.answer_split([head, data(1, 0, b"ok"), trailer].concat(), 1)?;
        one_more(wire, 3, "/after")?;
        wire.close()
    });
    let paths: Vec<String> = (0..300).map(|number| format!("/many/{number}")).collect();
    let many = paths.iter().map(|path| ok(path)).collect();
    all.play("three hundred in one segment", many, |wire| {
        open(wire)?;
        let stream = |index: usize| u32::try_from(2 * index + 1);
        let mut requests = Vec::new();
        let mut answers = Vec::new();
        for (index, path) in paths.iter().enumerate() {
            requests.extend(get(stream(index)?, path));
            // The last is answered first.
            answers.extend(answer(stream(paths.len() - 1 - index)?));
        }
        wire.request(requests)?;
        wire.answer(answers)?;
        wire.close()
    });
    all.play("everything in one segment", vec![ok("/at-once"), ok("/after")], |wire| {
        wire.request([PREFACE, &settings(&[]), &get(1, "/at-once")].concat())?;
        wire.answer([settings(&[]), settings_ack(), answer(1)].concat())?;
        wire.request([settings_ack(), get(3, "/after")].concat())?;
        wire.answer(answer(3))?;
        wire.close()
    });
    all.verify(observer);
}

/// The connection's first bytes, with the cut after each of them in turn.
#[test]
fn openings_cut_anywhere() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    let opening = [PREFACE, &settings(&[(HEADER_TABLE_SIZE, 4096)]), &get(1, "/opened")].concat();
    let first = [settings(&[(MAX_CONCURRENT_STREAMS, 9)]), settings_ack(), answer(1)].concat();
    for cut in 1..opening.len() {
        all.play(&format!("cut at {cut}"), vec![ok("/opened"), ok("/after")], |wire| {
            wire.request_pieces(&[&opening[..cut], &opening[cut..]])?;
            let cut = cut % (first.len() - 1) + 1;
            wire.answer_pieces(&[&first[..cut], &first[cut..]])?;
            wire.request(settings_ack())?;
            one_more(wire, 3, "/after")?;
            wire.close()
        });
    }
    all.verify(observer);
}

/// Two interleaved streams on a connection that goes on, with the cut after every byte in turn.
#[test]
fn streams_cut_anywhere() {
    require!("ss");
    let requests = |cut: usize, stream: u32| {
        [
            post(stream, &format!("/first/{cut}")),
            get(stream + 2, &format!("/second/{cut}")),
            padded_data(stream, 0, b"abc", 3),
            window_update(0, 10),
            data(stream, END_STREAM, b"defg"),
        ]
        .concat()
    };
    let answers = |stream: u32| {
        [
            headers(stream + 2, END_HEADERS, &status(404)),
            headers(stream, END_HEADERS, &status(200)),
            data(stream + 2, 0, b"no"),
            data(stream, 0, b"yes"),
            headers(stream, WHOLE, &literal("x-trailer", "1")),
            data(stream + 2, END_STREAM, b"thing"),
        ]
        .concat()
    };
    let expected = |cut: usize| {
        vec![
            Expected::call("POST", &format!("/first/{cut}"), 200).bytes(7, 3).http2(),
            Expected::call("GET", &format!("/second/{cut}"), 404).bytes(0, 7).http2(),
        ]
    };
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    let cuts = 1..requests(100, 1).len();
    let cut_of = |cut: usize| cut + 100;
    all.play("requests", cuts.clone().map(cut_of).flat_map(expected).collect(), |wire| {
        open(wire)?;
        for (round, cut) in cuts.enumerate() {
            let stream = u32::try_from(4 * round + 1)?;
            let requests = requests(cut_of(cut), stream);
            wire.request_pieces(&[&requests[..cut], &requests[cut..]])?;
            wire.answer(answers(stream))?;
        }
        wire.close()
    });
    let cuts = 1..answers(1).len();
    all.play("answers", cuts.clone().flat_map(expected).collect(), |wire| {
        open(wire)?;
        for (round, cut) in cuts.enumerate() {
            let stream = u32::try_from(4 * round + 1)?;
            wire.request(requests(cut, stream))?;
            let answers = answers(stream);
            wire.answer_pieces(&[&answers[..cut], &answers[cut..]])?;
        }
        wire.close()
    });
    all.verify(observer);
}

/// How a connection may begin, and what begins alike and is not HTTP/2.
#[test]
fn beginnings() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    all.play("the server speaks first", vec![ok("/one"), ok("/two")], |wire| {
        wire.answer([settings(&[(INITIAL_WINDOW_SIZE, 70_000)]), window_update(0, 9)].concat())?;
        wire.request([PREFACE, &settings(&[]), &settings_ack()].concat())?;
        wire.answer(settings_ack())?;
        one_more(wire, 1, "/one")?;
        one_more(wire, 3, "/two")?;
        wire.close()
    });
    all.play("the server's first frame is an answer's", vec![ok("/eager")], |wire| {
        wire.request([PREFACE, &settings(&[]), &get(1, "/eager")].concat())?;
        wire.answer([settings(&[]), answer(1), settings_ack()].concat())?;
        wire.close()
    });
    all.play("streams that begin late and leave gaps", vec![ok("/7"), ok("/9001")], |wire| {
        open(wire)?;
        one_more(wire, 7, "/7")?;
        one_more(wire, 9001, "/9001")?;
        wire.close()
    });
    let primary = Expected::call("PRI", "/mary", 200).bytes(0, 2);
    all.play("HTTP/1.1 with a method of that name", vec![primary], |wire| {
        wire.request("PRI /mary HTTP/1.1\r\nHost: a\r\n\r\n")?;
        wire.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        wire.close()
    });
    let strangers: [&[u8]; 4] = [
        b"PRIMARY KEY (id)\r\nPRI * HTTP/2.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSMILE\r\n\r\n and be happy\r\n\r\n",
        b"PRI * HTTP/2.0\n\nSM\n\n\0\0\0\x04\0\0\0\0\0",
        b"PRIVMSG #shop :hello there\r\n",
    ];
    for stranger in strangers {
        all.play(&String::from_utf8_lossy(stranger), vec![], |wire| {
            wire.request(stranger)?;
            wire.answer([settings(&[]), answer(1)].concat())?;
            wire.request(get(1, "/never-made"))?;
            wire.answer(answer(1))?;
            wire.close()
        });
    }
    all.play("the preface and then no frames", vec![], |wire| {
        wire.request([PREFACE, &b"hello, hello, hello, hello\r\n".repeat(40)].concat())?;
        wire.answer(b"220 mail.test ESMTP ready\r\n".repeat(40))?;
        wire.close()
    });
    all.verify(observer);
}

/// A connection that began as HTTP/1.1: its first call is one, although its request came
/// by the one protocol and its answer by the other.
#[test]
fn upgrades() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    let first = || ok("/upgrade").or(Expected::call("GET", "/upgrade", 200).bytes(0, 2));
    let asked = "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                 Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    let taken = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    all.play("answered at once", vec![first(), ok("/after")], |wire| {
        wire.request(asked)?;
        wire.answer([taken.as_bytes(), &settings(&[]), &answer(1)].concat())?;
        wire.request([PREFACE, &settings(&[]), &settings_ack()].concat())?;
        wire.answer(settings_ack())?;
        one_more(wire, 3, "/after")?;
        wire.close()
    });
    all.play("answered later", vec![first(), ok("/meanwhile"), ok("/after")], |wire| {
        wire.request(asked)?;
        wire.answer(taken)?;
        wire.answer(settings(&[]))?;
        wire.request([PREFACE, &settings(&[]), &get(3, "/meanwhile")].concat())?;
        wire.answer([settings_ack(), answer(3), answer(1)].concat())?;
        one_more(wire, 5, "/after")?;
        wire.close()
    });
    all.play("not taken", vec![Expected::call("GET", "/upgrade", 200).bytes(0, 2)], |wire| {
        wire.request(asked)?;
        wire.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        wire.close()
    });
    all.verify(observer);
}

/// Everything that may stand around a header block and a body.
#[test]
fn framing() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    all.play(
        "padding and priorities",
        vec![Expected::call("POST", "/padded", 200).bytes(5, 3).http2(), ok("/after")],
        |wire| {
            open(wire)?;
            let block = [&[0x80, 0, 0, 5, 200], &request("POST", "/padded")[..]].concat();
            let flags = END_HEADERS | PADDED | PRIORITY;
            wire.request([priority(3, 1), headers(1, flags, &padded(&block, 255))].concat())?;
            let body = [padded_data(1, 0, b"", 200), padded_data(1, 0, b"abc", 0)].concat();
            wire.request([body, priority(1, 7), padded_data(1, END_STREAM, b"de", 9)].concat())?;
            let head = headers(1, END_HEADERS | PADDED, &padded(&status(200), 0));
            wire.answer([head, padded_data(1, END_STREAM, b"yes", 255)].concat())?;
            one_more(wire, 3, "/after")?;
            wire.close()
        },
    );
    all.play(
        "a header block in many fragments, some of them empty",
        vec![ok("/fragments"), ok("/halves"), ok("/after")],
        |wire| {
            open(wire)?;
            let mut frames = headers(1, END_STREAM, &[]);
            frames.extend(continuation(1, 0, &[]).repeat(3));
            for byte in request("GET", "/fragments") {
                frames.extend(continuation(1, 0, &[byte]));
            }
            frames.extend(continuation(1, END_HEADERS, &[]));
            wire.request(frames)?;
            let block = status(200);
            let head = [headers(1, 0, &block[..3]), continuation(1, END_HEADERS, &block[3..])];
            wire.answer([head.concat(), data(1, END_STREAM, b"ok")].concat())?;
            // Padded, and cut within a string.
            let block = request("GET", "/halves");
            let (one, two) = block.split_at(block.len() / 2);
            wire.request(headers(3, END_STREAM | PADDED, &padded(one, 30)))?;
            wire.request(continuation(3, END_HEADERS, two))?;
            wire.answer(answer(3))?;
            one_more(wire, 5, "/after")?;
            wire.close()
        },
    );
    all.play("header blocks of 40 KB", vec![ok("/long"), ok("/after")], |wire| {
        open(wire)?;
        let long = |name| literal(name, &"v".repeat(40_000));
        let block = [request("GET", "/long"), long("x-long")].concat();
        let mut parts = block.chunks(16_384);
        let mut frames = headers(1, END_STREAM, parts.next().unwrap_or_default());
        frames.extend(parts.flat_map(|part| continuation(1, 0, part)));
        frames.extend(continuation(1, END_HEADERS, &literal("x-last", "1")));
        wire.request(frames)?;
        let block = [status(200), long("x-receipt")].concat();
        let mut parts = block.chunks(10_000);
        let mut frames = headers(1, 0, parts.next().unwrap_or_default());
        frames.extend(parts.flat_map(|part| continuation(1, 0, part)));
        frames.extend(continuation(1, END_HEADERS, &[]));
        wire.answer([frames, data(1, END_STREAM, b"ok")].concat())?;
        one_more(wire, 3, "/after")?;
        wire.close()
    });
    let unknown = Expected::call("POST", "/unknown", 200).bytes(2, 2).http2();
    all.play("frames of unknown kinds", vec![unknown, ok("/after")], |wire| {
        open(wire)?;
        let odd = |stream| frame(0xfa, 0xff, stream, &get(99, "/never-made"));
        wire.request([odd(0), post(1, "/unknown"), odd(1)].concat())?;
        wire.request([odd(0x8000_0001), data(1, END_STREAM, b"hi"), odd(77)].concat())?;
        let head = headers(1, END_HEADERS, &status(200));
        wire.answer([odd(0), head, odd(1), data(1, END_STREAM, b"ok"), odd(1)].concat())?;
        one_more(wire, 3, "/after")?;
        wire.close()
    });
    // The most significant bit of a stream's number means nothing.
    let reserved = Expected::call("GET", "/reserved", 200).bytes(0, 2).http2();
    all.play("a reserved bit", vec![reserved], |wire| {
        open(wire)?;
        wire.request(headers(0x8000_0001, WHOLE, &request("GET", "/reserved")))?;
        let head = headers(1, END_HEADERS, &status(200));
        wire.answer([head, data(0x8000_0001, END_STREAM, b"ok")].concat())?;
        wire.close()
    });
    all.verify(observer);
}

/// Bodies: where they end, and what is in them.
#[test]
fn bodies() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    let frames = [get(99, "/never-made"), answer(99), goaway(0, 0), PREFACE.to_vec()].concat();
    let size = frames.len() as u64;
    all.play(
        "that look like frames",
        vec![Expected::call("POST", "/real", 200).bytes(2 * size, 2 * size).http2(), ok("/after")],
        |wire| {
            open(wire)?;
            // In the frame's own segment, and at the start of one.
            wire.request([post(1, "/real"), data(1, 0, &frames)].concat())?;
            let body = data(1, END_STREAM, &frames);
            wire.request_pieces(&[&body[..9], &body[9..]])?;
            wire.answer([headers(1, END_HEADERS, &status(200)), data(1, 0, &frames)].concat())?;
            wire.answer_pieces(&[&body[..9], &body[9..]])?;
            one_more(wire, 3, "/after")?;
            wire.close()
        },
    );
    all.play(
        "a frame that ends where the next begins, in another segment than it began",
        vec![
            Expected::call("POST", "/spanning", 200).bytes(3000, 3000).http2(),
            ok("/next"),
            ok("/after"),
        ],
        |wire| {
            open(wire)?;
            let body = data(1, END_STREAM, &[b'x'; 3000]);
            let requests = [post(1, "/spanning"), body.clone(), get(3, "/next")].concat();
            wire.request_split(requests, 1001)?;
            let head = headers(1, END_HEADERS, &status(200));
            wire.answer_split([head, body, answer(3)].concat(), 999)?;
            one_more(wire, 5, "/after")?;
            wire.close()
        },
    );
    all.play(
        "a frame of half a megabyte",
        vec![Expected::call("PUT", "/large", 200).bytes(500_000, 500_000).http2(), ok("/after")],
        |wire| {
            let large = [(MAX_FRAME_SIZE, 1 << 20), (INITIAL_WINDOW_SIZE, 1 << 20)];
            open_with(wire, &large, &large)?;
            wire.request([window_update(0, 1 << 20), get(1, "/after")].concat())?;
            wire.answer(window_update(0, 1 << 20))?;
            let body = data(3, END_STREAM, &[0; 500_000]);
            let head = headers(3, END_HEADERS, &request("PUT", "/large"));
            wire.request([head, body.clone()].concat())?;
            let head = headers(3, END_HEADERS, &status(200));
            wire.answer([head, body, answer(1)].concat())?;
            wire.close()
        },
    );
    all.play(
        "an end in a frame of its own, or none at all",
        vec![
            Expected::call("POST", "/empty-end", 200).bytes(2, 2).http2(),
            Expected::call("HEAD", "/head", 200).bytes(0, 0).http2(),
            Expected::call("GET", "/none", 204).bytes(0, 0).http2(),
            ok("/after"),
        ],
        |wire| {
            open(wire)?;
            let end = data(1, END_STREAM, &[]);
            wire.request([post(1, "/empty-end"), data(1, 0, b"hi"), end.clone()].concat())?;
            let head = headers(1, END_HEADERS, &status(200));
            wire.answer([head, data(1, 0, b"ok"), end].concat())?;
            wire.request(headers(3, WHOLE, &request("HEAD", "/head")))?;
            let block = [status(200), literal("content-length", "5000")].concat();
            wire.answer(headers(3, WHOLE, &block))?;
            wire.request(get(5, "/none"))?;
            wire.answer(headers(5, WHOLE, &indexed(9)))?;
            one_more(wire, 7, "/after")?;
            wire.close()
        },
    );
    all.play(
        "trailers both ways, and answers before the final one",
        vec![Expected::call("POST", "/patience", 200).bytes(2, 2).http2(), ok("/after")],
        |wire| {
            open(wire)?;
            wire.request(post(1, "/patience"))?;
            wire.answer(headers(1, END_HEADERS, &status(100)))?;
            let trailer = headers(1, WHOLE, &literal("x-sum", "2"));
            wire.request([data(1, 0, b"hi"), trailer.clone()].concat())?;
            let hint = headers(1, END_HEADERS, &[status(103), literal("link", "</a>")].concat());
            wire.answer([hint.clone(), hint].concat())?;
            wire.answer([headers(1, END_HEADERS, &status(200)), data(1, 0, b"ok")].concat())?;
            wire.answer(trailer)?;
            one_more(wire, 3, "/after")?;
            wire.close()
        },
    );
    all.play(
        "an answer before the request's end",
        vec![Expected::call("POST", "/early", 413).http2(), ok("/after")],
        |wire| {
            open(wire)?;
            wire.request([post(1, "/early"), data(1, 0, b"begin")].concat())?;
            wire.answer([headers(1, WHOLE, &status(413)), reset(1, 0)].concat())?;
            one_more(wire, 3, "/after")?;
            wire.close()
        },
    );
    all.verify(observer);
}

/// Thousands of tiny frames in one segment, before, between and behind those that matter.
#[test]
fn floods() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    let floods = [
        ("window updates", window_update(0, 1).repeat(2000)),
        ("pings", (0..1500).flat_map(ping).collect()),
        ("settings", settings(&[]).repeat(2500)),
        ("priorities", (0..1800).flat_map(|stream| priority(2 * stream + 101, 0)).collect()),
        ("resets of streams that ended", reset(1, CANCEL).repeat(2000)),
        ("unknown frames", frame(0xbe, 0, 0, &[]).repeat(3000)),
    ];
    for (name, flood) in &floods {
        all.play(name, vec![ok("/one"), ok("/two"), ok("/after")], |wire| {
            open(wire)?;
            one_more(wire, 1, "/one")?;
            wire.request([&flood[..], &get(3, "/two")].concat())?;
            wire.answer([&flood[..], &answer(3)].concat())?;
            one_more(wire, 5, "/after")?;
            wire.close()
        });
    }
    let sent = Expected::call("POST", "/crumbs", 200).bytes(3000, 2000).http2();
    all.play("bodies in frames of one byte", vec![sent, ok("/after")], |wire| {
        open(wire)?;
        let crumbs = |count| data(1, 0, b"x").repeat(count);
        wire.request([post(1, "/crumbs"), crumbs(2999), data(1, END_STREAM, b"x")].concat())?;
        let head = headers(1, END_HEADERS, &status(200));
        wire.answer([head, crumbs(2000), data(1, END_STREAM, b"")].concat())?;
        one_more(wire, 3, "/after")?;
        wire.close()
    });
    all.verify(observer);
}

/// Streams that end before their answer did, or were never asked for.
#[test]
fn ends_of_streams() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    all.play(
        "the client gives up",
        vec![
            Expected::failed("GET", "/unanswered", both(&["cancelled"])).http2(),
            Expected::call("GET", "/half", 200).bytes(0, 2).broken(both(&["cancelled"])).http2(),
            ok("/after"),
        ],
        |wire| {
            open(wire)?;
            wire.request([get(1, "/unanswered"), get(3, "/half")].concat())?;
            wire.answer([headers(3, END_HEADERS, &status(200)), data(3, 0, b"ok")].concat())?;
            wire.request([reset(1, CANCEL), reset(3, CANCEL)].concat())?;
            // What was underway is no answer any more.
            wire.answer([headers(1, END_HEADERS, &status(200)), reset(1, 5)].concat())?;
            one_more(wire, 5, "/after")?;
            wire.close()
        },
    );
    let server_resets = |name: &'static str, code: u32, cause: &'static [&'static str]| {
        (name, code, vec![Expected::failed("GET", "/reset", both(cause)).http2(), ok("/after")])
    };
    for (name, code, expected) in [
        server_resets("the server refuses", REFUSED, &["refused_stream"]),
        server_resets("the server fails", 2, &["stream_internal_error"]),
        server_resets("the server has a rule", 1, &["stream_protocol_error"]),
        server_resets("the server has had enough", 11, &["stream_enhance_your_calm"]),
        server_resets("a code that nobody knows", 0xdead, &["stream_error"]),
    ] {
        all.play(name, expected, |wire| {
            open(wire)?;
            wire.request(get(1, "/reset"))?;
            wire.answer(reset(1, code))?;
            one_more(wire, 3, "/after")?;
            wire.close()
        });
    }
    all.play("resets behind the end change nothing", vec![ok("/whole"), ok("/after")], |wire| {
        open(wire)?;
        wire.request(get(1, "/whole"))?;
        wire.answer([answer(1), reset(1, 0)].concat())?;
        wire.request(reset(1, CANCEL))?;
        one_more(wire, 3, "/after")?;
        wire.close()
    });
    // Nobody asked for it.
    all.play("pushes", vec![ok("/page"), ok("/after")], |wire| {
        open(wire)?;
        wire.request(get(1, "/page"))?;
        let promise = push_promise(1, 2, &request("GET", "/pushed.css"));
        wire.answer([promise, headers(1, END_HEADERS, &status(200))].concat())?;
        wire.answer([headers(2, END_HEADERS, &status(200)), data(1, END_STREAM, b"ok")].concat())?;
        wire.answer(data(2, END_STREAM, b"body {}"))?;
        one_more(wire, 3, "/after")?;
        wire.close()
    });
    all.verify(observer);
}

const SERVER_CLOSES: Causes = Causes { client: &["connection_closed"], server: &["abandoned"] };
const SERVER_RESETS: Causes = Causes { client: &["connection_reset"], server: &["reset_sent"] };
const CLIENT_CLOSES: Causes =
    Causes { client: &["abandoned"], server: &["connection_closed", "abandoned"] };

/// Connections that end with streams underway.
#[test]
fn ends_of_connections() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    let refused = |path| Expected::failed("GET", path, both(&["refused_stream"])).http2();
    all.play(
        "the server goes away",
        vec![ok("/before"), ok("/last"), refused("/late"), refused("/later")],
        |wire| {
            open(wire)?;
            one_more(wire, 1, "/before")?;
            wire.request([get(3, "/last"), get(5, "/late")].concat())?;
            // First that it will, then with which stream.
            wire.answer([goaway(0x7fff_ffff, 0), ping(1)].concat())?;
            wire.request(get(7, "/later"))?;
            wire.answer([goaway(3, 0), answer(3)].concat())?;
            wire.server.close();
            wire.client.expect_end()?;
            wire.client.close();
            Ok(())
        },
    );
    all.play("a warning and nothing behind it", vec![ok("/one"), ok("/two")], |wire| {
        open(wire)?;
        wire.request(get(1, "/one"))?;
        wire.answer(goaway(0x7fff_ffff, 0))?;
        wire.request(get(3, "/two"))?;
        wire.answer([answer(3), goaway(3, 0), answer(1)].concat())?;
        wire.close()
    });
    let open_ends = |causes| {
        vec![
            ok("/before"),
            Expected::failed("GET", "/silent", causes).http2(),
            Expected::call("GET", "/half", 200).bytes(0, 2).broken(causes).http2(),
        ]
    };
    let begin = |wire: &mut Wire| -> Result<()> {
        open(wire)?;
        one_more(wire, 1, "/before")?;
        wire.request([get(3, "/silent"), get(5, "/half")].concat())?;
        wire.answer([headers(5, END_HEADERS, &status(200)), data(5, 0, b"ok")].concat())
    };
    all.play("the server closes", open_ends(SERVER_CLOSES), |wire| {
        begin(wire)?;
        wire.server.close();
        wire.client.expect_end()?;
        wire.client.close();
        Ok(())
    });
    all.play("the client closes", open_ends(CLIENT_CLOSES), |wire| {
        begin(wire)?;
        wire.client.close();
        wire.server.expect_end()?;
        wire.server.close();
        Ok(())
    });
    all.play("the server resets", open_ends(SERVER_RESETS), |wire| {
        begin(wire)?;
        wire.server.reset()?;
        wire.client.expect_reset()
    });
    all.verify(observer);
}

/// `/huffman-coded/path`, by the code of RFC 7541.
const HUFFMAN_PATH: [u8; 14] =
    [0x62, 0x7b, 0x65, 0x96, 0x91, 0xd4, 0xb1, 0x0f, 0x21, 0x64, 0x62, 0xb1, 0xa6, 0x7f];

/// Header blocks that mean something only to who followed the connection from its start.
#[test]
fn tables() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    let send = |wire: &mut Wire, stream, block: &[u8]| -> Result<()> {
        wire.request(headers(stream, WHOLE, block))?;
        wire.answer([headers(stream, END_HEADERS, &indexed(8)), data(stream, 1, b"ok")].concat())
    };
    // GET http, by the static table.
    let get = || [indexed(2), indexed(6)].concat();
    all.play(
        "names and values by index",
        vec![ok("/kept"), ok("/kept"), ok("/other"), ok("/kept"), ok("/index.html"), ok("/never")],
        |wire| {
            open(wire)?;
            let authority = kept_by(1, "a.test");
            send(wire, 1, &[get(), kept_by(4, "/kept"), authority].concat())?;
            send(wire, 3, &[get(), indexed(63), indexed(62)].concat())?;
            send(wire, 5, &[get(), kept_by(4, "/other"), indexed(63)].concat())?;
            // Two older by one now.
            send(wire, 7, &[get(), indexed(64), indexed(63)].concat())?;
            send(wire, 9, &[get(), indexed(5), indexed(63)].concat())?;
            send(wire, 11, &[get(), never(":path", "/never"), indexed(63)].concat())?;
            wire.close()
        },
    );
    let coded = Expected::call("GET", "/huffman-coded/path", 302).bytes(0, 0).http2();
    all.play("strings that are coded", vec![coded.clone(), coded], |wire| {
        open(wire)?;
        wire.request(headers(1, WHOLE, &[get(), huffman(4, &HUFFMAN_PATH)].concat()))?;
        // An example of RFC 7541: `:status: 302`.
        wire.answer(headers(1, WHOLE, &huffman(8, &[0x64, 0x02])))?;
        wire.request(headers(3, WHOLE, &[get(), indexed(62)].concat()))?;
        wire.answer(headers(3, WHOLE, &indexed(62)))?;
        wire.close()
    });
    all.play(
        "entries that make room",
        vec![ok("/old"), ok("/old"), ok("/new"), ok("/new"), ok("/new"), ok("/end")],
        |wire| {
            open(wire)?;
            send(wire, 1, &[get(), kept_by(4, "/old")].concat())?;
            // Both fit, and not a byte more: 32 + 5 + 4, and 32 + 6 + 4017.
            send(wire, 3, &[get(), indexed(62), kept("x-fill", &"f".repeat(4017))].concat())?;
            // The first drops `/old`, the second what filled the table.
            send(wire, 5, &[get(), kept_by(4, "/new"), kept("x-one", "1")].concat())?;
            send(wire, 7, &[get(), indexed(63), indexed(62)].concat())?;
            // One that is larger than the table empties it.
            let huge = kept("x-huge", &"h".repeat(5000));
            send(wire, 9, &[get(), indexed(63), huge, kept("x-two", "2")].concat())?;
            send(wire, 11, &[get(), literal(":path", "/end"), indexed(62)].concat())?;
            wire.close()
        },
    );
    all.play(
        "a table that is resized",
        ["/small", "/small", "/none", "/big", "/big", "/again", "/again"].map(ok).to_vec(),
        |wire| {
            open_with(wire, &[], &[(HEADER_TABLE_SIZE, 100)])?;
            send(wire, 1, &[resize(100), get(), kept_by(4, "/small")].concat())?;
            send(wire, 3, &[get(), indexed(62)].concat())?;
            // Nothing is kept any more.
            wire.answer(settings(&[(HEADER_TABLE_SIZE, 0)]))?;
            wire.request(settings_ack())?;
            send(wire, 5, &[resize(0), get(), kept_by(4, "/none")].concat())?;
            wire.answer(settings(&[(HEADER_TABLE_SIZE, 10_000)]))?;
            wire.request(settings_ack())?;
            let fill = kept("x-fill", &"f".repeat(6000));
            send(wire, 7, &[resize(10_000), get(), kept_by(4, "/big"), fill].concat())?;
            send(wire, 9, &[get(), indexed(63), indexed(62)].concat())?;
            // Emptied and as large as before.
            let twice = [resize(0), resize(10_000), get()].concat();
            send(wire, 11, &[twice, kept_by(4, "/again")].concat())?;
            send(wire, 13, &[get(), indexed(62)].concat())?;
            wire.close()
        },
    );
    all.play(
        "a block counts although its stream is refused",
        vec![
            Expected::failed("GET", "/kept", both(&["refused_stream"])).http2(),
            ok("/kept"),
            ok("/kept"),
        ],
        |wire| {
            open(wire)?;
            wire.request(headers(1, WHOLE, &[get(), kept_by(4, "/kept")].concat()))?;
            wire.answer(reset(1, REFUSED))?;
            send(wire, 3, &[get(), indexed(62)].concat())?;
            // Trailers are in the table, too.
            let end = headers(5, WHOLE, &kept("x-sum", "2"));
            wire.request([headers(5, END_HEADERS, &[get(), indexed(62)].concat()), end].concat())?;
            wire.answer(answer(5))?;
            wire.close()
        },
    );
    all.play("each direction has its own", vec![ok("/one"), ok("/one")], |wire| {
        open(wire)?;
        for (stream, path) in [(1, kept_by(4, "/one")), (3, indexed(62))] {
            wire.request(headers(stream, WHOLE, &[get(), path].concat()))?;
            let head = if stream == 1 { kept(":status", "200") } else { indexed(62) };
            let head = headers(stream, END_HEADERS, &head);
            wire.answer([head, data(stream, END_STREAM, b"ok")].concat())?;
        }
        wire.close()
    });
    all.verify(observer);
}

fn rpc(status: &str, messages: (u64, u64)) -> Expected {
    Expected::rpc("shop.Cart/Get", status, messages)
}

/// Calls by gRPC whose messages and statuses come in every way that is allowed.
#[test]
fn remote_procedure_calls() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    let ask = |stream: u32| {
        let head = headers(stream, END_HEADERS, &call("shop.Cart/Get"));
        [head, data(stream, END_STREAM, &message(b"milk"))].concat()
    };
    let grpc = || [status(200), literal("content-type", "application/grpc")].concat();
    let head = |stream| headers(stream, END_HEADERS, &grpc());
    let end = |stream, code| headers(stream, WHOLE, &literal("grpc-status", code));
    let only = |stream: u32, more: &[u8]| headers(stream, WHOLE, &[&grpc()[..], more].concat());
    all.play(
        "statuses",
        vec![rpc("OK", (1, 1)), rpc("NOT_FOUND", (1, 0)), rpc("INTERNAL", (1, 0)), rpc("", (1, 1))],
        |wire| {
            open(wire)?;
            wire.request(ask(1))?;
            wire.answer([head(1), data(1, 0, &message(b"one")), end(1, "0")].concat())?;
            wire.request(ask(3))?;
            let told = [literal("grpc-message", "no%20milk"), literal("grpc-status", "5")];
            wire.answer(only(3, &told.concat()))?;
            wire.request(ask(5))?;
            wire.answer([head(5), end(5, "13")].concat())?;
            // An answer without a status is none of the codes.
            wire.request(ask(7))?;
            wire.answer([head(7), data(7, END_STREAM, &message(b"one"))].concat())?;
            wire.close()
        },
    );
    let proxy = rpc("", (1, 0)).http_status(Some(503));
    all.play(
        "an answer of somebody else's",
        vec![proxy.clone().or(proxy.messages(Some(1), None)), rpc("OK", (1, 1))],
        |wire| {
            open(wire)?;
            wire.request(ask(1))?;
            let block = [status(503), literal("content-type", "text/html")].concat();
            let page = data(1, END_STREAM, b"<h1>No healthy upstream</h1>");
            wire.answer([headers(1, END_HEADERS, &block), page].concat())?;
            wire.request(ask(3))?;
            wire.answer([head(3), data(3, 0, &message(b"one")), end(3, "0")].concat())?;
            wire.close()
        },
    );
    all.play(
        "messages and frames do not begin together",
        vec![rpc("OK", (3, 4)).bytes(70_026, 41), rpc("OK", (1, 1))],
        |wire| {
            open_with(wire, &[], &[(MAX_FRAME_SIZE, 100_000), (INITIAL_WINDOW_SIZE, 100_000)])?;
            wire.answer(window_update(0, 100_000))?;
            let sent = [message(&[b'x'; 70_000]), message(b""), message(b"of eleven..")].concat();
            let sent = &sent[..];
            wire.request(headers(1, END_HEADERS, &call("shop.Cart/Get")))?;
            // Within the prefix, at the end of one message, within the next one's prefix.
            let cuts = [0, 1, 3, 5, 20_000, 69_999, 70_005, 70_007, 70_010, 70_015];
            for pair in cuts.windows(2) {
                wire.request(data(1, 0, &sent[pair[0]..pair[1]]))?;
            }
            wire.request(data(1, END_STREAM, &sent[70_015..]))?;
            let back = [message(b"a"), message(b"bb"), message(b"ccc"), message(&[b'd'; 15])];
            let back = back.concat();
            wire.answer(head(1))?;
            for byte in &back[..20] {
                wire.answer(data(1, 0, &[*byte]))?;
            }
            wire.answer([padded_data(1, 0, &back[20..], 40), end(1, "0")].concat())?;
            wire.request(ask(3))?;
            wire.answer([head(3), data(3, 0, &message(b"one")), end(3, "0")].concat())?;
            wire.close()
        },
    );
    all.play(
        "messages that look like frames and heads",
        vec![rpc("OK", (1, 1)), rpc("OK", (1, 1))],
        |wire| {
            open(wire)?;
            let inside = [end(1, "13"), reset(1, CANCEL), get(9, "/never-made")].concat();
            let asked = headers(1, END_HEADERS, &call("shop.Cart/Get"));
            wire.request([asked, data(1, END_STREAM, &message(&inside))].concat())?;
            wire.answer(head(1))?;
            wire.answer_split(data(1, 0, &message(&inside)), 14)?;
            wire.answer(end(1, "0"))?;
            wire.request(ask(3))?;
            wire.answer([head(3), data(3, 0, &message(b"one")), end(3, "0")].concat())?;
            wire.close()
        },
    );
    let gone = rpc("", (1, 2)).broken(both(&["cancelled"]));
    all.play("given up within an answer", vec![gone, rpc("OK", (1, 1))], |wire| {
        open(wire)?;
        wire.request(ask(1))?;
        let two = [message(b"one"), message(b"two")].concat();
        wire.answer([head(1), data(1, 0, &two)].concat())?;
        wire.request(reset(1, CANCEL))?;
        wire.request(ask(3))?;
        wire.answer([head(3), data(3, 0, &message(b"one")), end(3, "0")].concat())?;
        wire.close()
    });
    all.verify(observer);
}

/// What was said before the agent came is unknown, and not guessed; what is said since is not.
#[test]
fn connections_older_than_the_agent() {
    require!("ss");
    let mut wire = Wire::open().expect("opens");
    let port = wire.port();
    open(&mut wire).expect("opens");
    let get = || [indexed(2), indexed(6)].concat();
    let kept = |path: &str| [get(), kept_by(4, path)].concat();
    let mut ask = |stream: u32, block: &[u8]| -> Result<()> {
        wire.request(headers(stream, WHOLE, block))?;
        wire.answer([headers(stream, END_HEADERS, &indexed(8)), data(stream, 1, b"ok")].concat())
    };
    ask(1, &kept("/before")).expect("crosses");
    let observer = Observer::start().expect("observes");
    for stream in [3, 5] {
        ask(stream, &[get(), indexed(62)].concat()).expect("crosses");
    }
    ask(7, &request("GET", "/literal")).expect("crosses");
    ask(9, &kept("/since")).expect("crosses");
    ask(11, &[get(), indexed(62)].concat()).expect("crosses");
    ask(13, &[get(), indexed(63)].concat()).expect("crosses");
    wire.close().expect("closes");
    let calls = observer.finish().expect("ends well");
    let unknown = || ok("");
    let since = ok("/since").or(unknown());
    let expected = [unknown(), unknown(), ok("/literal"), ok("/since"), since, unknown()];
    meshtap_tests::expected::verify(&calls, port, &expected);
}
