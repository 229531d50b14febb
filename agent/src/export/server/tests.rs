//! Tests of server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::export::stop::Stopper;

fn settings() -> ServerSettings {
    ServerSettings {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        head: Duration::from_millis(300),
        ..ServerSettings::default()
    }
}

struct Running {
    address: SocketAddr,
    readiness: Readiness,
    stopper: Stopper,
    task: tokio::task::JoinHandle<()>,
}

async fn run(
    settings: ServerSettings,
    render: impl Fn(&str) -> (String, String) + Send + Sync + 'static,
) -> Running {
    let server = Server::bind(settings).await.unwrap();
    let (address, readiness, stopper) = (server.address(), Readiness::new(), Stopper::new());
    let task = tokio::spawn(server.serve(render, readiness.clone(), stopper.stop()));
    Running { address, readiness, stopper, task }
}

fn page(accept: &str) -> (String, String) {
    ("text/plain; version=0.0.4".to_owned(), format!("accept={accept}\n"))
}

async fn get(address: SocketAddr, path: &str, headers: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let body = answer.split_off(end);
    (String::from_utf8(answer).unwrap().to_lowercase(), body)
}

/// Reads until the server closes; fails if it does not within `patience`.
async fn closed(stream: &mut TcpStream, patience: Duration) {
    let mut sink = Vec::new();
    let read = timeout(patience, stream.read_to_end(&mut sink)).await;
    assert!(read.is_ok(), "still open; got {:?}", String::from_utf8_lossy(&sink));
}

#[tokio::test]
async fn metrics_are_rendered_for_what_the_client_accepts() {
    let server = run(settings(), page).await;
    let (head, body) = get(server.address, "/metrics", "Accept: application/x\r\n").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("text/plain; version=0.0.4"));
    assert_eq!(body, b"accept=application/x\n");
    let (_, body) = get(server.address, "/metrics", "").await;
    assert_eq!(body, b"accept=\n");
}

#[tokio::test]
async fn long_pages_are_compressed_for_who_takes_that() {
    let long = |_: &str| ("text/plain".to_owned(), "series 1\n".repeat(1_000));
    let server = run(settings(), long).await;
    let (head, body) = get(server.address, "/metrics", "Accept-Encoding: gzip;q=1\r\n").await;
    assert!(head.contains("content-encoding: gzip"), "{head}");
    assert!(body.len() < 500);
    let mut plain = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&body[..]), &mut plain)
        .unwrap();
    assert_eq!(plain, "series 1\n".repeat(1_000));
    let (head, body) = get(server.address, "/metrics", "Accept-Encoding: gzip;q=0\r\n").await;
    assert!(!head.contains("content-encoding"), "{head}");
    assert_eq!(body.len(), 9_000);
}

#[tokio::test]
async fn health_and_readiness_differ() {
    let server = run(settings(), page).await;
    assert_eq!(get(server.address, "/healthz", "").await.1, b"ok\n");
    let (head, body) = get(server.address, "/readyz", "").await;
    assert!(head.starts_with("http/1.1 503"), "{head}");
    assert_eq!(body, b"agent: has not started yet\n");
    server.readiness.works("capture");
    let (head, body) = get(server.address, "/readyz", "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, b"ready\n");
    server.readiness.obstructed("capture", "programs are gone; restart");
    assert_eq!(
        get(server.address, "/readyz", "").await.1,
        b"capture: programs are gone; restart\n"
    );
    let (head, body) = get(server.address, "/", "").await;
    assert!(head.starts_with("http/1.1 200"));
    assert!(String::from_utf8(body).unwrap().contains("/readyz"));
    assert!(get(server.address, "/other", "").await.0.starts_with("http/1.1 404"));
}

#[tokio::test]
async fn a_taken_address_is_named_with_reason_and_remedy() {
    let server = run(settings(), page).await;
    let again = ServerSettings { address: server.address, ..settings() };
    let error = Server::bind(again).await.unwrap_err().to_string();
    assert!(error.contains(&server.address.to_string()), "{error}");
    assert!(error.contains("in use") && error.contains("ss -ltnp"), "{error}");
    let foreign = ServerSettings { address: "192.0.2.1:1".parse().unwrap(), ..settings() };
    let error = Server::bind(foreign).await.unwrap_err().to_string();
    assert!(error.contains("an address that this host has"), "{error}");
}

#[tokio::test]
async fn a_client_that_never_ends_its_head_is_sent_away() {
    let server = run(settings(), page).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHos").await.unwrap();
    let begun = Instant::now();
    closed(&mut stream, Duration::from_secs(5)).await;
    assert!(begun.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = run(settings(), page).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
    let flood = vec![b'a'; 200_000];
    // The server may close before it has read all of it.
    let _ = stream.write_all(&flood).await;
    let mut answer = [0; 12];
    let read = timeout(Duration::from_secs(5), stream.read(&mut answer)).await.unwrap();
    if let Ok(12) = read {
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
    assert_eq!(get(server.address, "/healthz", "").await.1, b"ok\n");
}

#[tokio::test]
async fn slow_clients_take_places_only_for_a_while() {
    let server = run(ServerSettings { connections: 3, ..settings() }, page).await;
    let mut slow = Vec::new();
    for _ in 0..3 {
        slow.push(TcpStream::connect(server.address).await.unwrap());
    }
    let answer = timeout(Duration::from_secs(5), get(server.address, "/healthz", "")).await;
    assert_eq!(answer.unwrap().1, b"ok\n");
    drop(slow);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let huge = |_: &str| ("text/plain".to_owned(), "x".repeat(64 << 20));
    let limits = ServerSettings {
        connections: 1,
        connection: Duration::from_millis(200),
        last_answer: Duration::from_millis(200),
        ..settings()
    };
    let server = run(limits, huge).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let answer = timeout(Duration::from_secs(10), get(server.address, "/healthz", "")).await;
    assert_eq!(answer.expect("the only place was never given back").1, b"ok\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_scrapes_at_once_get_503_and_health_still_answers() {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let blocking = move |_: &str| {
        while !gate.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(5));
        }
        ("text/plain".to_owned(), "done\n".to_owned())
    };
    let limits = ServerSettings { renders: 1, turn: Duration::from_millis(100), ..settings() };
    let server = run(limits, blocking).await;
    let first = tokio::spawn(get(server.address, "/metrics", ""));
    sleep(Duration::from_millis(100)).await;
    let (head, _) = get(server.address, "/metrics", "").await;
    assert!(head.starts_with("http/1.1 503") && head.contains("retry-after"), "{head}");
    assert_eq!(get(server.address, "/healthz", "").await.1, b"ok\n");
    open.store(true, Ordering::Release);
    assert_eq!(first.await.unwrap().1, b"done\n");
}

#[tokio::test]
async fn a_renderer_that_fails_is_an_error_and_not_the_end() {
    let server = run(settings(), |_| panic!("broken on purpose")).await;
    for _ in 0..3 {
        let (head, _) = get(server.address, "/metrics", "").await;
        assert!(head.starts_with("http/1.1 500"), "{head}");
    }
    assert_eq!(get(server.address, "/healthz", "").await.1, b"ok\n");
}

#[tokio::test]
async fn a_stop_ends_it_and_frees_the_address() {
    let server = run(settings(), page).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 8];
    idle.read_exact(&mut first).await.unwrap();
    server.stopper.request(tokio::time::Instant::now());
    timeout(Duration::from_secs(2), server.task).await.unwrap().unwrap();
    closed(&mut idle, Duration::from_secs(2)).await;
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[test]
fn accept_encoding_is_read_with_its_weights() {
    for yes in ["gzip", "deflate, gzip", "GZIP;q=0.5", "br;q=1, gzip ; q=0.1"] {
        assert!(accepts_gzip(yes), "{yes}");
    }
    for no in ["", "deflate", "gzip;q=0", "identity, gzip; q=0.0", "xgzip"] {
        assert!(!accepts_gzip(no), "{no}");
    }
}
