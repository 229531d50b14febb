//! Awkward but legal traffic, byte by byte: of each conversation exactly the calls that
//! were made are seen, whatever segments they came in.

use std::path::Path;

use anyhow::Result;

use meshtap_tests::agent::Observer;
use meshtap_tests::conversation::Conversations;
use meshtap_tests::expected::{Causes, Expected, verify};
use meshtap_tests::netns::Place;
use meshtap_tests::process::{free_port, output};
use meshtap_tests::wire::{Wire, pause};
use meshtap_tests::workload::Language;
use meshtap_tests::{require, skip};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")
}

fn ok(path: &str) -> Expected {
    Expected::call("GET", path, 200).bytes(0, 2)
}

/// One request and [`OK`], on a connection that goes on: shows that framing is intact.
fn one_more(wire: &mut Wire, path: &str) -> Result<()> {
    wire.request(get(path))?;
    wire.answer(OK)
}

#[test]
fn segments() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    all.play("one-byte segments", vec![ok("/bytewise"), ok("/after")], |wire| {
        wire.request_split(get("/bytewise"), 1)?;
        wire.answer_split(OK, 1)?;
        one_more(wire, "/after")?;
        wire.close()
    });
    let posted = Expected::call("POST", "/bytewise", 201).bytes(9, 11);
    all.play("chunked in one-byte segments", vec![posted, ok("/after")], |wire| {
        let body = "4\r\nwiki\r\n5;x=y\r\npedia\r\n0\r\nTrailer: 1\r\n\r\n";
        wire.request_split(
            format!("POST /bytewise HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
            1,
        )?;
        wire.answer_split(
            "HTTP/1.1 201 Created\r\ntransfer-ENCODING:chunked\r\n\r\n00B\r\nhello world\r\n0\r\n\r\n",
            1,
        )?;
        one_more(wire, "/after")?;
        wire.close()
    });
    let many: Vec<Expected> = (0..300).map(|number| ok(&format!("/many/{number}"))).collect();
    all.play("three hundred in one segment", many, |wire| {
        let requests: String = (0..300).map(|number| get(&format!("/many/{number}"))).collect();
        wire.request(requests)?;
        wire.answer(OK.repeat(300))?;
        wire.close()
    });
    all.play(
        "a body of a megabyte between two heads",
        vec![Expected::call("PUT", "/large", 200).bytes(1_000_000, 1_000_000), ok("/after")],
        |wire| {
            let head = "PUT /large HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n";
            wire.request(format!("{head}{}{}", "x".repeat(1_000_000), get("/after")))?;
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
            wire.answer(format!("{head}{}{OK}", "y".repeat(1_000_000)))?;
            wire.close()
        },
    );
    all.verify(observer);
}

/// Three pipelined requests and their answers, with the cut after every byte in turn.
#[test]
fn cut_anywhere() {
    require!("ss");
    let answers = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
        HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
        HTTP/1.1 204 No Content\r\n\r\n";
    let requests = |cut: usize| {
        format!(
            "POST /first/{cut} HTTP/1.1\r\nContent-Length: 3\r\n\r\nGET{}HEAD /third/{cut} HTTP/1.1\r\n\r\n",
            get(&format!("/second/{cut}"))
        )
    };
    let expected = |cut: usize| {
        vec![
            Expected::call("POST", &format!("/first/{cut}"), 200).bytes(3, 2),
            Expected::call("GET", &format!("/second/{cut}"), 404).bytes(0, 3),
            Expected::call("HEAD", &format!("/third/{cut}"), 204).bytes(0, 0),
        ]
    };
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    let cuts = 1..answers.len();
    all.play("answers", cuts.clone().flat_map(expected).collect(), |wire| {
        for cut in cuts {
            wire.request(requests(cut))?;
            wire.answer_pieces(&[&answers.as_bytes()[..cut], &answers.as_bytes()[cut..]])?;
        }
        wire.close()
    });
    let cuts = 1..requests(100).len();
    let cut_of = |cut: usize| cut + 100;
    all.play("requests", cuts.clone().map(cut_of).flat_map(expected).collect(), |wire| {
        for cut in cuts {
            let requests = requests(cut_of(cut));
            wire.request_pieces(&[&requests.as_bytes()[..cut], &requests.as_bytes()[cut..]])?;
            wire.answer(answers)?;
        }
        wire.close()
    });
    all.verify(observer);
}

/// A framed message whose length is not in its body.
#[test]
fn framing() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    let head = |path: &str| format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let empty = |method: &str, path: &str, status| Expected::call(method, path, status).bytes(0, 0);
    all.play(
        "no body although announced",
        vec![
            empty("HEAD", "/length", 200),
            empty("HEAD", "/chunked", 200),
            empty("GET", "/unchanged", 304),
            empty("GET", "/none", 204),
            empty("GET", "/zero", 200),
            ok("/after"),
        ],
        |wire| {
            wire.request(head("/length"))?;
            wire.answer("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")?;
            wire.request(head("/chunked"))?;
            wire.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            wire.request(get("/unchanged"))?;
            wire.answer("HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\n\r\n")?;
            wire.request(get("/none"))?;
            wire.answer("HTTP/1.1 204 No Content\r\n\r\n")?;
            wire.request(get("/zero"))?;
            wire.answer("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n")?;
            one_more(wire, "/after")?;
            wire.close()
        },
    );
    all.play("pipelined among bodies", vec![
        empty("HEAD", "/head", 200),
        ok("/get"),
        empty("HEAD", "/again", 404),
        ok("/after"),
    ], |wire| {
        wire.request(format!("{}{}{}", head("/head"), get("/get"), head("/again")))?;
        wire.answer(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{OK}HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\n"
        ))?;
        one_more(wire, "/after")?;
        wire.close()
    });
    all.play(
        "several 1xx",
        vec![Expected::call("POST", "/patience", 200).bytes(2, 2), ok("/hints"), ok("/after")],
        |wire| {
            wire.request(
                "POST /patience HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
            )?;
            wire.answer("HTTP/1.1 100 Continue\r\n\r\n")?;
            wire.request("hi")?;
            wire.answer("HTTP/1.1 102 Processing\r\n\r\n")?;
            wire.answer(format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}"))?;
            wire.request(get("/hints"))?;
            let hint = "HTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n";
            wire.answer_split(format!("{hint}{hint}{OK}"), 3)?;
            one_more(wire, "/after")?;
            wire.close()
        },
    );
    all.play("chunks with everything that is allowed", vec![
        Expected::call("POST", "/chunks", 200).bytes(0x1a + 1, 16),
        ok("/after"),
    ], |wire| {
        wire.request(
            "POST /chunks HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\nContent-Length: 3\r\n\r\n\
             1A;name=\"a;b\"\r\nabcdefghijklmnopqrstuvwxyz\r\n0001 \r\n-\r\n0;last\r\nA: 1\r\nB: 2\r\n\r\n",
        )?;
        wire.answer_pieces(&[
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1",
            b"0\r",
            b"\nGET / HTTP/1.1\r\n",
            b"\r",
            b"\n0",
            b"\r\nX-Sum: HTTP/1.1 500 No\r\n",
            b"\r\n",
        ])?;
        one_more(wire, "/after")?;
        wire.close()
    });
    all.play("an offered upgrade that is not taken", vec![ok("/offer"), ok("/after")], |wire| {
        wire.request("GET /offer HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")?;
        wire.answer(OK)?;
        one_more(wire, "/after")?;
        wire.close()
    });
    all.play(
        "an answer before the request's end",
        // The call ends with its answer: how much of the request had come then is not told.
        vec![Expected::call("POST", "/early", 413), ok("/after")],
        |wire| {
            wire.request("POST /early HTTP/1.1\r\nContent-Length: 1000\r\n\r\nbegin")?;
            wire.answer("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")?;
            wire.request("x".repeat(995))?;
            one_more(wire, "/after")?;
            wire.close()
        },
    );
    all.play(
        "an answer instead of the request's end",
        vec![Expected::call("POST", "/refused", 417)],
        |wire| {
            wire.request(
                "POST /refused HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
            )?;
            wire.answer("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")?;
            wire.close()
        },
    );
    all.verify(observer);
}

/// Bodies that begin as a request or a status line, at the start of a segment.
#[test]
fn bodies_that_look_like_messages() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    let request = get("/never-made");
    let answer = "HTTP/1.1 500 Never Sent\r\nContent-Length: 0\r\n\r\n";
    all.play(
        "by length",
        vec![
            Expected::call("POST", "/real", 200).bytes(request.len() as u64, answer.len() as u64),
            ok("/after"),
        ],
        |wire| {
            wire.request(format!(
                "POST /real HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
                request.len()
            ))?;
            wire.request(&request)?;
            wire.answer(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len()))?;
            wire.answer(answer)?;
            one_more(wire, "/after")?;
            wire.close()
        },
    );
    all.play(
        "in chunks",
        vec![
            Expected::call("POST", "/real", 200).bytes(request.len() as u64, answer.len() as u64),
            ok("/after"),
        ],
        |wire| {
            let size = format!("{:x}\r\n", request.len());
            wire.request("POST /real HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            wire.request_pieces(&[size.as_bytes(), request.as_bytes(), b"\r\n0\r\n\r\n"])?;
            let size = format!("{:X}\r\n", answer.len());
            wire.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            wire.answer_pieces(&[size.as_bytes(), answer.as_bytes(), b"\r\n0\r\n\r\n"])?;
            one_more(wire, "/after")?;
            wire.close()
        },
    );
    all.play(
        "until the connection's end",
        vec![Expected::call("GET", "/real", 200).bytes(0, 3 * answer.len() as u64)],
        |wire| {
            wire.request(get("/real"))?;
            wire.answer("HTTP/1.1 200 OK\r\n\r\n")?;
            (0..3).try_for_each(|_| wire.answer(answer))?;
            wire.server.close();
            wire.client.expect_end()?;
            wire.client.close();
            Ok(())
        },
    );
    all.play(
        "a request in the answer and the reverse",
        vec![
            Expected::call("POST", "/real", 200).bytes(answer.len() as u64, request.len() as u64),
            ok("/after"),
        ],
        |wire| {
            wire.request(format!(
                "POST /real HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
                answer.len()
            ))?;
            wire.request_split(answer, 16)?;
            wire.answer(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.len()))?;
            wire.answer_split(&request, 4)?;
            one_more(wire, "/after")?;
            wire.close()
        },
    );
    all.verify(observer);
}

/// After CONNECT or 101 nothing is a call, whatever it looks like.
#[test]
fn tunnels_and_upgrades() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    let tunnelled = |wire: &mut Wire| -> Result<()> {
        for number in 0..3 {
            wire.request(get(&format!("/inside/{number}")))?;
            wire.answer(OK)?;
        }
        wire.close()
    };
    all.play("connect", vec![Expected::call("CONNECT", "b.test:443", 200)], |wire| {
        wire.request("CONNECT b.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n")?;
        wire.answer("HTTP/1.1 200 Connection established\r\n\r\n")?;
        tunnelled(wire)
    });
    all.play(
        "connect with a length that means nothing",
        vec![Expected::call("CONNECT", "b.test:443", 200)],
        |wire| {
            wire.request("CONNECT b.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n")?;
            wire.answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
            tunnelled(wire)
        },
    );
    all.play(
        "connect refused, then granted",
        vec![
            Expected::call("CONNECT", "b.test:443", 407).bytes(0, 2),
            Expected::call("CONNECT", "c.test:443", 200),
        ],
        |wire| {
            wire.request("CONNECT b.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n")?;
            wire.answer("HTTP/1.1 407 Who Are You\r\nContent-Length: 2\r\n\r\nwh")?;
            wire.request("CONNECT c.test:443 HTTP/1.1\r\nHost: c.test:443\r\n\r\n")?;
            wire.answer("HTTP/1.1 200 OK\r\n\r\n")?;
            tunnelled(wire)
        },
    );
    all.play("websocket", vec![ok("/before"), Expected::call("GET", "/socket", 101)], |wire| {
        one_more(wire, "/before")?;
        wire.request(
            "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )?;
        wire.answer("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
        tunnelled(wire)
    });
    all.play(
        "an upgrade with bytes in the same segment",
        vec![Expected::call("GET", "/socket", 101)],
        |wire| {
            wire.request("GET /socket HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")?;
            wire.answer(format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n{OK}{OK}"))?;
            tunnelled(wire)
        },
    );
    all.verify(observer);
}

const SERVER_CLOSES: Causes = Causes { client: &["connection_closed"], server: &["abandoned"] };
const SERVER_RESETS: Causes = Causes { client: &["connection_reset"], server: &["reset_sent"] };
const CLIENT_RESETS: Causes = Causes { client: &["reset_sent"], server: &["connection_reset"] };
/// The server closes too, when it has seen that the client did.
const CLIENT_CLOSES: Causes =
    Causes { client: &["abandoned"], server: &["connection_closed", "abandoned"] };

/// Calls without an answer, or without its end: an error with its cause, never a status
/// that nobody sent.
#[test]
fn ends() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    all.play(
        "the server closes",
        vec![ok("/before"), Expected::failed("GET", "/silent", SERVER_CLOSES)],
        |wire| {
            one_more(wire, "/before")?;
            wire.request(get("/silent"))?;
            wire.server.close();
            wire.client.expect_end()?;
            wire.client.close();
            Ok(())
        },
    );
    all.play(
        "the server resets",
        vec![Expected::failed("GET", "/silent", SERVER_RESETS)],
        |wire| {
            wire.request(get("/silent"))?;
            wire.server.reset()?;
            wire.client.expect_reset()
        },
    );
    all.play(
        "the client closes",
        vec![Expected::failed("GET", "/unheard", CLIENT_CLOSES)],
        |wire| {
            wire.request(get("/unheard"))?;
            wire.client.close();
            wire.server.expect_end()?;
            wire.server.close();
            Ok(())
        },
    );
    all.play(
        "the client resets",
        vec![Expected::failed("GET", "/unheard", CLIENT_RESETS)],
        |wire| {
            wire.request(get("/unheard"))?;
            wire.client.reset()?;
            wire.server.expect_reset()
        },
    );
    all.play(
        "reset within the answer",
        vec![Expected::call("GET", "/cut", 200).bytes(0, 10).broken(SERVER_RESETS)],
        |wire| {
            wire.request(get("/cut"))?;
            wire.answer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789")?;
            wire.server.reset()?;
            wire.client.expect_reset()
        },
    );
    all.play(
        "close within the answer",
        vec![Expected::call("GET", "/cut", 200).bytes(0, 10).broken(SERVER_CLOSES)],
        |wire| {
            wire.request(get("/cut"))?;
            wire.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n0123456789")?;
            wire.server.close();
            wire.client.expect_end()?;
            wire.client.close();
            Ok(())
        },
    );
    all.play(
        "close within the request",
        vec![Expected::failed("POST", "/half", CLIENT_CLOSES).bytes(5, 0)],
        |wire| {
            wire.request("POST /half HTTP/1.1\r\nContent-Length: 10\r\n\r\n01234")?;
            wire.client.close();
            wire.server.expect_end()?;
            wire.server.close();
            Ok(())
        },
    );
    all.play(
        "the answer to a pipelined one never comes",
        vec![
            ok("/one"),
            Expected::failed("GET", "/two", SERVER_CLOSES),
            Expected::failed("GET", "/three", SERVER_CLOSES),
        ],
        |wire| {
            wire.request(format!("{}{}{}", get("/one"), get("/two"), get("/three")))?;
            wire.answer(OK)?;
            wire.server.close();
            wire.client.expect_end()?;
            wire.client.close();
            Ok(())
        },
    );
    all.play("half a close, then the answer", vec![ok("/half-closed")], |wire| {
        wire.request(get("/half-closed"))?;
        wire.client.shut()?;
        wire.server.expect_end()?;
        pause(50);
        wire.answer(OK)?;
        wire.server.close();
        wire.client.expect_end()?;
        wire.client.close();
        Ok(())
    });
    all.play(
        "a body until close",
        vec![Expected::call("GET", "/stream", 200).bytes(0, 70_000)],
        |wire| {
            wire.request(get("/stream"))?;
            wire.answer("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            wire.answer("z".repeat(70_000))?;
            wire.server.close();
            wire.client.expect_end()?;
            wire.client.close();
            Ok(())
        },
    );
    all.play("an answer that nobody asked for", vec![], |wire| {
        wire.answer(
            "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        )?;
        wire.server.close();
        wire.client.expect_end()?;
        wire.client.close();
        Ok(())
    });
    all.verify(observer);
}

/// The answer leaves after the client has closed: it reached the client's host, and a whole
/// close cannot be told from half of one, so this is a call with an answer, in one line.
#[test]
fn an_answer_after_the_client_has_gone() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut wire = Wire::open().expect("opens");
    wire.request(get("/late")).expect("crosses");
    wire.client.close();
    wire.server.expect_end().expect("ends");
    wire.server.send(OK.as_bytes()).expect("leaves");
    pause(20);
    wire.server.close();
    let calls = observer.finish().expect("ends well");
    let seen = calls.to_port(wire.port());
    let [call] = seen.as_slice() else { panic!("one call was made: {seen:?}") };
    assert_eq!((call.path.as_str(), call.status), ("/late", Some(200)), "{call:?}");
    assert!(call.both_ends(), "{call:?}");
    assert_eq!((&call.client_error, &call.server_error), (&None, &None), "{call:?}");
}

/// Heads of every legal shape.
#[test]
fn heads() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    let call = |method: &str, path: &str| Expected::call(method, path, 200).bytes(0, 2);
    let oddities = vec![
        ("leading CRLF", "\r\n\r\nGET /crlf HTTP/1.1\r\nHost: a\r\n\r\n", call("GET", "/crlf")),
        ("bare LF", "GET /lf HTTP/1.1\nHost: a\n\n", call("GET", "/lf")),
        (
            "absolute form",
            "GET http://b.test:81/absolute?q=1 HTTP/1.1\r\nHost: a\r\n\r\n",
            call("GET", "/absolute"),
        ),
        (
            "absolute form without a path",
            "GET http://b.test HTTP/1.1\r\nHost: a\r\n\r\n",
            call("GET", "/"),
        ),
        ("a query", "GET /query?a=/b?c HTTP/1.1\r\n\r\n", call("GET", "/query")),
        ("asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", call("OPTIONS", "*")),
        ("no header", "GET /bare HTTP/1.1\r\n\r\n", call("GET", "/bare")),
        ("unknown method", "PURGE /cache HTTP/1.1\r\n\r\n", call("PURGE", "/cache")),
        ("hyphen", "M-SEARCH /device HTTP/1.1\r\n\r\n", call("M-SEARCH", "/device")),
        ("lower case", "get /small HTTP/1.1\r\n\r\n", call("get", "/small")),
        ("one letter", "X /x HTTP/1.1\r\n\r\n", call("X", "/x")),
        (
            "any token",
            "A!#$%&'*+-.^_`|~9 /token HTTP/1.1\r\n\r\n",
            call("A!#$%&'*+-.^_`|~9", "/token"),
        ),
        ("escapes", "GET /a%20b/%C3%A4 HTTP/1.1\r\n\r\n", call("GET", "/a%20b/%C3%A4")),
        ("padding", "GET /pad HTTP/1.1\r\nContent-Length:   00000  \r\n\r\n", call("GET", "/pad")),
    ];
    for (name, request, expected) in &oddities {
        all.play(name, vec![ok("/before"), expected.clone(), ok("/after")], |wire| {
            one_more(wire, "/before")?;
            wire.request(request)?;
            wire.answer(OK)?;
            one_more(wire, "/after")?;
            wire.close()
        });
        // The same as the first of a connection, where it decides what the connection is.
        let first = format!("{name}, first");
        all.play(&first, vec![expected.clone(), ok("/after")], |wire| {
            wire.request(request)?;
            wire.answer(OK)?;
            one_more(wire, "/after")?;
            wire.close()
        });
    }
    all.play(
        "status lines",
        vec![
            Expected::call("GET", "/no-reason", 200).bytes(0, 2),
            Expected::call("GET", "/empty-reason", 299).bytes(0, 2),
            Expected::call("GET", "/unknown", 799).bytes(0, 0),
            Expected::call("GET", "/line-feeds", 503).bytes(0, 2),
            ok("/after"),
        ],
        |wire| {
            wire.request(get("/no-reason"))?;
            wire.answer("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok")?;
            wire.request(get("/empty-reason"))?;
            wire.answer("HTTP/1.1 299 \r\nContent-Length: 2\r\n\r\nok")?;
            wire.request(get("/unknown"))?;
            wire.answer("HTTP/1.1 799 \u{e4}\u{f6}\r\nContent-Length: 0\r\n\r\n")?;
            wire.request(get("/line-feeds"))?;
            wire.answer("HTTP/1.1 503 Busy\nContent-Length: 2\n\nok")?;
            one_more(wire, "/after")?;
            wire.close()
        },
    );
    all.verify(observer);
}

#[test]
fn http_1_0() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    let old = |path: &str, bytes| Expected::call("GET", path, 200).bytes(0, bytes).http10();
    all.play("kept alive", vec![old("/one", 2), old("/two", 2)], |wire| {
        for path in ["/one", "/two"] {
            wire.request(format!("GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"))?;
            wire.answer(
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
            )?;
        }
        wire.close()
    });
    all.play("ended by close", vec![old("/one", 11)], |wire| {
        wire.request("GET /one HTTP/1.0\r\n\r\n")?;
        wire.answer("HTTP/1.0 200 OK\r\n\r\nhello ")?;
        wire.answer("world")?;
        wire.server.close();
        wire.client.expect_end()?;
        wire.client.close();
        Ok(())
    });
    all.play("answered by 1.1", vec![old("/one", 3)], |wire| {
        wire.request("GET /one HTTP/1.0\r\n\r\n")?;
        wire.answer("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nold")?;
        wire.server.close();
        wire.client.expect_end()?;
        wire.client.close();
        Ok(())
    });
    all.verify(observer);
}

/// Heads larger than any prefix that is captured: the call is right, its cut facts may be missing.
#[test]
fn long_heads() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    let headers: String =
        (0..400).map(|number| format!("X-Long-{number:03}: {}\r\n", "v".repeat(86))).collect();
    assert!(headers.len() >= 40_000);
    let request = format!("POST /long HTTP/1.1\r\n{headers}Content-Length: 4\r\n\r\nbody");
    let answer = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 2\r\n\r\nok");
    for (name, size) in [("in few segments", 40_000), ("in many segments", 700)] {
        let call = Expected::call("POST", "/long", 200).bytes(4, 2);
        all.play(name, vec![call.clone(), call, ok("/after")], |wire| {
            for _ in 0..2 {
                wire.request_split(&request, size)?;
                wire.answer_split(&answer, size)?;
            }
            one_more(wire, "/after")?;
            wire.close()
        });
    }
    let mut wire = Wire::open().expect("opens");
    let path = format!("/line/{}", "p".repeat(9000));
    for size in [1000, 32_000] {
        wire.request_split(get(&path), size).expect("crosses");
        wire.answer(OK).expect("crosses");
    }
    one_more(&mut wire, "/after").expect("crosses");
    wire.close().expect("closes");
    let mut observer = observer;
    observer.settle().expect("is shown");
    let lines = observer.calls().expect("parses");
    all.verify(observer);
    let seen = lines.to_port(wire.port());
    assert_eq!(seen.len(), 3, "{seen:?}");
    for call in &seen[..2] {
        assert!(path.starts_with(&call.path) && call.path.starts_with("/line/p"), "{call:?}");
        assert!(call.cut, "a path that is not whole says so: {call:?}");
        assert_eq!((call.method.as_str(), call.status), ("GET", Some(200)), "{call:?}");
    }
}

/// As much of a head is captured as is configured, and what is not is marked.
#[test]
fn prefixes_of_other_lengths() {
    require!("ss");
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let padding = |bytes: usize| format!("X-Padding: {}\r\n", "v".repeat(bytes));
    let trace = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n");
    for (prefix, beyond) in [("256", 300), ("4KiB", 4_200), ("8KiB", 8_300)] {
        let setting = format!("capture.head_prefix={prefix}");
        let observer = Observer::start_with(&["--set", &setting]).expect("observes");
        let mut wire = Wire::open().expect("opens");
        for (name, before, after) in
            [("within", 40, 0), ("behind", 40, beyond), ("beyond", beyond, 0)]
        {
            let headers = format!("{}{trace}{}", padding(before), padding(after));
            let head = format!("GET /{name} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
            wire.request_split(&head, 1_000).expect("crosses");
            wire.answer(OK).expect("crosses");
        }
        wire.close().expect("closes");
        let calls = observer.finish().expect("ends well");
        let seen: Vec<_> = calls
            .to_port(wire.port())
            .into_iter()
            .map(|call| (call.path.as_str(), call.trace_id.as_deref(), call.cut, call.status))
            .collect();
        let expected = [
            ("/within", Some(TRACE), false, Some(200)),
            ("/behind", Some(TRACE), true, Some(200)),
            ("/beyond", None, true, Some(200)),
        ];
        assert_eq!(seen, expected, "{prefix}");
    }
}

/// Headers between IPv6's and TCP's, and TCP in several paths.
#[test]
fn unusual_packets() {
    require!("python3", "ss");
    for kind in ["options", "multipath"] {
        if kind == "multipath" && !Path::new("/proc/sys/net/mptcp/enabled").exists() {
            skip!("this kernel has no MPTCP");
        }
        let port = free_port();
        let observer = Observer::start().expect("observes");
        let mut traveller = Language::Python.command("traveller", Place::HERE).expect("is there");
        output(traveller.args([kind, &port.to_string()])).expect("ends well");
        let calls = observer.finish().expect("ends well");
        let expected = [0, 1, 2].map(|turn| {
            Expected::call("GET", &format!("/way/{turn}"), 404)
                .bytes(0, 7)
                .between("traveller", "traveller")
        });
        verify(&calls, port, &expected);
    }
}

/// What only looks like HTTP yields nothing at all.
#[test]
fn what_is_not_http() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut all = Conversations::default();
    let talks: [(&str, &str, &str); 10] = [
        ("redis, inline", "GET greeting\r\n", "$5\r\nhello\r\n"),
        ("redis", "*2\r\n$3\r\nGET\r\n$1\r\na\r\n", "$-1\r\n"),
        ("memcached", "get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n"),
        (
            "rtsp",
            "DESCRIBE rtsp://a/b RTSP/1.0\r\nCSeq: 1\r\n\r\n",
            "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n",
        ),
        ("sip", "INVITE sip:a@b SIP/2.0\r\nCSeq: 1\r\n\r\n", "SIP/2.0 200 OK\r\nCSeq: 1\r\n\r\n"),
        ("prose", "GET OUT OF HERE\r\n\r\n", "HTTP is a protocol\r\n\r\n"),
        ("another version", "GET / HTTP/9.7\r\n\r\n", "HTTP/9.7 200 OK\r\n\r\n"),
        ("a line without an end", "POST /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "no"),
        ("zeros", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "\0\0\0\0\0\0\0\0"),
        (
            "http/2 in the clear",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0",
            "\0\0\0\u{4}\0\0\0\0\0",
        ),
    ];
    for (name, request, answer) in talks {
        all.play(name, vec![], |wire| {
            for _ in 0..3 {
                wire.request(request)?;
                wire.answer(answer)?;
            }
            wire.close()
        });
    }
    all.play("greeted by the server", vec![], |wire| {
        wire.answer("220 a.test ESMTP\r\n")?;
        wire.request("EHLO b.test\r\n")?;
        wire.answer("250 OK\r\n")?;
        wire.close()
    });
    all.verify(observer);
}

/// IPv6, and IPv4 clients of a listener that is IPv6.
#[test]
fn addresses() {
    require!("ss");
    let observer = Observer::start().expect("observes");
    let mut ports = Vec::new();
    for address in ["::1", "127.0.0.1", "127.9.8.7"] {
        let mut wire = Wire::open_at(address.parse().expect("an address")).expect("opens");
        one_more(&mut wire, "/there").expect("crosses");
        wire.close().expect("closes");
        ports.push((wire.port(), address));
    }
    let listener = std::net::TcpListener::bind(("::", 0)).expect("binds");
    let mapped = listener.local_addr().expect("is bound").port();
    let mut wire = Wire::through(listener, "127.0.0.1").expect("opens");
    one_more(&mut wire, "/there").expect("crosses");
    wire.close().expect("closes");
    ports.push((mapped, "127.0.0.1"));
    let calls = observer.finish().expect("ends well");
    for (port, address) in ports {
        verify(&calls, port, &[ok("/there")]);
        let call = calls.to_port(port)[0];
        assert_eq!(call.server.address.as_deref(), Some(address), "{call:?}");
    }
}
