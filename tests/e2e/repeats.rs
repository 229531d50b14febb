//! Calls that repeat are counted in the kernel: an agent that counts so and one beside it
//! that has every call told come to the same series.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use meshtap_tests::books::{Kind, lost};
use meshtap_tests::lanes::Pair;
use meshtap_tests::link::{Impairment, Link};
use meshtap_tests::netns::{Netns, Place, SERVER};
use meshtap_tests::require;
use meshtap_tests::workload::{Nginx, ab, curl, h2load, wrk};

/// Behind which nginx keeps the connection.
const PATHS: [&str; 4] = ["/ok", "/nothing", "/moved", "/empty"];

/// The same beside an nginx, whose log says how many calls there were.
struct Shop {
    nginx: Nginx,
    pair: Pair,
}

impl Shop {
    fn open(place: Place<'_>) -> Self {
        let nginx = Nginx::start_in(place, 1, "").expect("starts");
        let pair = Pair::beside(Kind::Http, nginx.port());
        Self { nginx, pair }
    }

    fn calls(&self) -> u64 {
        self.nginx.ledger().expect("is there").total()
    }

    fn agree(&self, client: &str, before: u64) -> u64 {
        let calls = self.calls();
        self.pair.agree(client, calls - before);
        calls
    }

    fn address(&self, host: &str) -> String {
        format!("{host}:{}", self.nginx.port())
    }
}

#[test]
fn both_lanes_have_the_same_series() {
    require!("nginx", "h2load", "curl", "ab", "ss");
    let shop = Shop::open(Place::HERE);
    let address = shop.address("127.0.0.1");
    h2load(Place::HERE, &address, &PATHS, 16, 20_000).expect("runs");
    let calls = shop.agree("h2load", 0);
    shop.pair.counted(30_000);

    let url = |path: &str| format!("http://{address}{path}");
    let twice = |arguments: &[&str]| {
        let urls = [url("/ok"), url("/ok"), url("/nothing"), url("/ok")];
        let urls = urls.iter().map(String::as_str);
        curl(&arguments.iter().copied().chain(urls).collect::<Vec<_>>()).expect("runs");
    };
    // On one connection each: whole bodies, none, requests with one, ids, an older version.
    twice(&["-s"]);
    twice(&["-s", "--head"]);
    twice(&["-s", "-d", "some=thing"]);
    twice(&["-s", "-H", "x-request-id: 1"]);
    twice(&["-s", "--http1.0"]);
    let calls = shop.agree("curl", calls);

    // nginx closes behind this one: nothing repeats on a connection.
    ab(Place::HERE, &url("/broken"), 4, 1_000).expect("runs");
    shop.agree("ab", calls);
}

#[test]
fn clients_that_leave_in_the_midst() {
    require!("nginx", "wrk", "ab", "ss");
    let shop = Shop::open(Place::HERE);
    let address = shop.address("127.0.0.1");
    for _ in 0..3 {
        let load = wrk(Place::HERE, &address, &[("GET", "/ok"), ("GET", "/nothing")], 16, 1);
        assert_eq!(load.expect("runs").errors, 0);
    }
    let (pair, calls) = (&shop.pair, shop.calls());
    let [counting, telling] = pair.settled("wrk", calls);
    assert_eq!([lost(&counting), lost(&telling)], [0, 0]);
    assert_eq!(pair.books.sides(&counting, "wrk"), pair.books.sides(&telling, "wrk"));
    ab(Place::HERE, &format!("http://{address}/ok"), 8, 2_000).expect("runs");
    shop.agree("ab", calls);
}

#[test]
fn packets_that_are_lost_reordered_and_doubled() {
    require!("nginx", "h2load", "ip", "python3", "/dev/net/tun", "ss");
    let (client, server) = (Netns::create().expect("made"), Netns::create().expect("made"));
    let _link = Link::lay(&client, &server, Impairment::BAD).expect("is laid");
    let shop = Shop::open(Place::netns(&server));
    h2load(Place::netns(&client), &shop.address(SERVER), &PATHS, 32, 10_000).expect("runs");
    shop.agree("h2load", 0);
    shop.pair.counted(5_000);
}

/// What is asked for on every connection, and once beside it.
const STEADILY: &str = "/x";
const ONCE: &str = "/y";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// Calls of a connection before the one that is other: the later of them are counted.
const STEADY: u64 = 12;
/// More than an agent needs to have the next call of a kind counted.
const MOMENT: Duration = Duration::from_millis(50);

/// The last request of a connection, in words: what each end does in turn.
enum Turn {
    Asks(&'static str),
    Answers(&'static [u8]),
    ClientSendsFin,
    ClientResets,
    ServerCloses,
    ServerResets,
}

/// How connections end on which a request may wait untold, with the calls in each.
const ENDS: [(&[Turn], u64); 10] = {
    use Turn::{Answers, Asks, ClientResets, ClientSendsFin, ServerCloses, ServerResets};
    [
        (&[Asks(STEADILY), ClientResets], 1),
        (&[Asks(STEADILY), ServerResets], 1),
        (&[Asks(STEADILY), ServerCloses], 1),
        (&[Asks(STEADILY), ClientSendsFin, Answers(OK), ServerCloses], 1),
        (&[Asks(STEADILY), ClientSendsFin, ServerCloses], 1),
        (&[Asks(STEADILY), Asks(STEADILY), Answers(OK), Answers(OK), ServerCloses], 2),
        (&[Asks(STEADILY), Asks(ONCE), Answers(OK), ClientResets], 2),
        (
            &[Asks(STEADILY), Answers(b"HTTP/1.1 100 Continue\r\n\r\n"), Answers(OK), ServerCloses],
            1,
        ),
        (
            &[
                Asks(STEADILY),
                Answers(b"HTTP/1.1 200 OK\r\nContent-Len"),
                Answers(b"gth: 1\r\n\r\n!"),
            ],
            1,
        ),
        (
            &[
                Asks(STEADILY),
                Answers(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
                Asks(STEADILY),
            ],
            2,
        ),
    ]
};

/// Closes by a reset.
fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("is set");
    drop(stream);
}

/// One connection: steady calls, and then its turns.
fn connection(listener: &TcpListener, turns: &[Turn]) {
    let address = listener.local_addr().expect("is bound");
    let mut client = Some(TcpStream::connect(address).expect("connects"));
    let mut server = Some(listener.accept().expect("accepts").0);
    for stream in [&client, &server].into_iter().flatten() {
        stream.set_nodelay(true).expect("is set");
    }
    let read = |stream: &mut Option<TcpStream>, length: usize| {
        let stream = stream.as_mut().expect("is open");
        stream.read_exact(&mut vec![0; length]).expect("comes");
    };
    let write = |stream: &mut Option<TcpStream>, bytes: &[u8]| {
        stream.as_mut().expect("is open").write_all(bytes).expect("goes");
    };
    let ask = |client: &mut Option<TcpStream>, server: &mut Option<TcpStream>, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        write(client, request.as_bytes());
        read(server, request.len());
    };
    for _ in 0..STEADY {
        ask(&mut client, &mut server, STEADILY);
        write(&mut server, OK);
        read(&mut client, OK.len());
        std::thread::sleep(MOMENT);
    }
    for turn in turns {
        match turn {
            Turn::Asks(path) => ask(&mut client, &mut server, path),
            Turn::Answers(bytes) => {
                write(&mut server, bytes);
                read(&mut client, bytes.len());
            }
            Turn::ClientSendsFin => {
                let client = client.as_ref().expect("is open");
                client.shutdown(Shutdown::Write).expect("goes");
            }
            Turn::ClientResets => reset(client.take().expect("is open")),
            Turn::ServerResets => reset(server.take().expect("is open")),
            Turn::ServerCloses => drop(server.take()),
        }
        std::thread::sleep(MOMENT);
    }
}

#[test]
fn connections_that_end_while_a_request_waits() {
    require!("ss");
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let pair = Pair::beside(Kind::Http, listener.local_addr().expect("is bound").port());
    let mut calls = 0;
    for (turns, last) in &ENDS {
        connection(&listener, turns);
        calls += STEADY + last;
    }
    let client = std::env::current_exe().expect("is known");
    let client = client.file_name().and_then(|name| name.to_str()).expect("is text");
    let [counting, telling] = pair.settled(client, calls);
    let [one, other] = [&counting, &telling].map(|scrape| pair.books.sides(scrape, client));
    assert_eq!(one, other);
    assert_eq!(one.map(|side| side.total()), [calls; 2], "{other:#?}");
    pair.agree(client, calls);
    pair.counted(2 * ENDS.len() as u64 * (STEADY - 6));
}
