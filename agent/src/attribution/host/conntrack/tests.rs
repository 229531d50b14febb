//! Tests of conntrack: what is read of bytes, and this kernel's own answers in a network
//! namespace made for them.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use proptest::prelude::*;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::*;

const CLIENT: &str = "10.88.0.1";
const SERVER: &str = "10.88.0.2";
/// What the server sees in place of the client.
const MASQUERADE: &str = "10.88.0.3";
const SERVICE: &str = "10.96.0.10:80";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn a_question_is_as_the_kernel_defines_it() {
    let bytes = question(7, at("10.1.0.7:4000"), at("10.96.0.10:80")).unwrap();
    let expected: [&[u8]; 7] = [
        // Length, IPCTNL_MSG_CT_GET of subsystem 1, NLM_F_REQUEST, number, port id.
        &[0x48, 0, 0, 0, 1, 1, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0],
        // AF_INET, version, resource.
        &[2, 0, 0, 0],
        // CTA_TUPLE_ORIG, CTA_TUPLE_IP.
        &[0x34, 0, 1, 0x80, 0x14, 0, 1, 0x80],
        &[8, 0, 1, 0, 10, 1, 0, 7, 8, 0, 2, 0, 10, 96, 0, 10],
        // CTA_TUPLE_PROTO: TCP and the ports.
        &[0x1c, 0, 2, 0x80, 5, 0, 1, 0, 6, 0, 0, 0],
        &[6, 0, 2, 0, 0x0f, 0xa0, 0, 0],
        &[6, 0, 3, 0, 0, 80, 0, 0],
    ];
    assert_eq!(bytes, expected.concat());
    assert!(question(7, at("[::1]:1"), at("[::1]:2")).is_some());
    assert!(question(7, at("[::1]:1"), at("10.1.0.7:2")).is_none());
}

#[test]
fn an_error_other_than_no_entry_is_one() {
    let error = |code: i32| {
        let message: [&[u8]; 5] = [
            &[36, 0, 0, 0, 2, 0, 0, 0],
            &[7, 0, 0, 0, 0, 0, 0, 0],
            &code.to_ne_bytes(),
            &[0; 16],
            &[],
        ];
        message.concat()
    };
    assert!(matches!(read(&error(-libc::ENOENT), 7), Ok(Answer::Nothing)));
    assert!(matches!(read(&error(-libc::ENOENT), 8), Ok(Answer::Stale)));
    let refused = read(&error(-libc::EPERM), 7).err().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    assert!(is_final(&refused));
    assert!(!is_final(&io::ErrorKind::TimedOut.into()));
    assert!(read(&[], 7).is_err());
}

#[test]
fn a_refusal_by_any_number_is_one() {
    let [length, number] = [36_u32, 0].map(u32::to_ne_bytes);
    let head: [&[u8]; 5] = [&length, &[2, 0, 0, 0], &number, &[0; 4], &i32::MIN.to_ne_bytes()];
    read(&[&head.concat()[..], &[0; 16]].concat(), 0).expect_err("is refused");
}

proptest! {
    #[test]
    fn bytes_of_any_kind_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        drop(read(&bytes, 0));
        // As an entry of the right length and number.
        let length = u32::try_from(bytes.len() + 20).unwrap().to_ne_bytes();
        let head: [&[u8]; 4] = [&length, &[0, 1, 0, 0], &[0; 8], &[2, 0, 0, 0]];
        drop(read(&[&head.concat()[..], &bytes].concat(), 0));
    }
}

/// A network namespace that sends a Service's address to [`SERVER`], with another source.
struct Namespace(String);

impl Namespace {
    /// `None` where this machine cannot have one; says why.
    fn create() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            crate::requirement::skipped("network namespaces need root");
            return None;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("meshtap-ct{}x{number}", std::process::id());
        if !run(&format!("ip netns add {name}")) {
            crate::requirement::skipped("ip is not installed, or makes no network namespace");
            return None;
        }
        let namespace = Self(name);
        namespace.run("ip link set lo up");
        for address in [CLIENT, SERVER, MASQUERADE] {
            namespace.run(&format!("ip address add {address}/32 dev lo"));
        }
        namespace.run(&format!("ip route add 10.96.0.0/16 dev lo src {CLIENT}"));
        Some(namespace)
    }

    fn run(&self, line: &str) -> bool {
        run(&format!("ip netns exec {} {line}", self.0))
    }

    /// Whether the rules could be set.
    fn translates(&self, port: u16) -> bool {
        let set = self.run(&format!(
            "iptables -t nat -A OUTPUT -d 10.96.0.10 -p tcp --dport 80 -j DNAT --to {SERVER}:{port}"
        )) && self.run(&format!(
            "iptables -t nat -A POSTROUTING -d {SERVER} -p tcp -j SNAT --to {MASQUERADE}"
        ));
        if !set {
            crate::requirement::skipped("iptables is not installed, or translates nothing here");
        }
        set
    }

    fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.0)).unwrap();
        std::thread::scope(|scope| {
            // By the test's name, which says what is skipped.
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            let thread = std::thread::Builder::new().name(name).spawn_scoped(scope, || {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(file.as_fd(), kind).unwrap();
                body()
            });
            thread.unwrap().join().unwrap()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        run(&format!("ip netns del {}", self.0));
    }
}

fn run(line: &str) -> bool {
    let mut words = line.split(' ');
    Command::new(words.next().unwrap()).args(words).status().is_ok_and(|status| status.success())
}

/// A connection to the Service, both of its ends.
fn connected(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(SERVICE).unwrap();
    (client, listener.accept().unwrap().0)
}

fn ends(socket: &TcpStream) -> (SocketAddr, SocketAddr) {
    (socket.local_addr().unwrap(), socket.peer_addr().unwrap())
}

#[test]
fn either_end_finds_the_entry_with_both_sides() {
    let Some(namespace) = Namespace::create() else { return };
    let listener = namespace.enter(|| TcpListener::bind((SERVER, 0)).unwrap());
    if !namespace.translates(listener.local_addr().unwrap().port()) {
        return;
    }
    namespace.enter(|| {
        assert!(probe().unwrap(), "this namespace tracks connections");
        let mut tracking = Tracking::default();
        let (client, server) = connected(&listener);
        let (dialled, accepted) = (ends(&client), ends(&server));
        let expected = Some(Translation { original: dialled, reply: accepted });
        assert_eq!(tracking.lookup(dialled.0, dialled.1), expected);
        assert_eq!(tracking.lookup(accepted.0, accepted.1), expected);
        assert_eq!(accepted.1.ip().to_string(), MASQUERADE);
        assert_eq!(tracking.lookup(dialled.0, at("10.96.0.10:81")), None);
        assert_eq!(tracking.lookup(dialled.0, dialled.1), expected, "after one that is not there");
        // What has ended is still known a while: 120 s after FIN, 10 s after a reset.
        drop((client, server));
        assert_eq!(tracking.lookup(dialled.0, dialled.1), expected);
        let (client, server) = connected(&listener);
        let dialled = ends(&client);
        rustix::net::sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO)).unwrap();
        drop((client, server));
        assert!(tracking.lookup(dialled.0, dialled.1).is_some());
    });
}

#[test]
fn a_namespace_that_tracks_nothing_says_so() {
    let Some(namespace) = Namespace::create() else { return };
    namespace.enter(|| {
        assert_eq!(Tracking::default().lookup(at("10.1.0.7:1"), at(SERVICE)), None);
    });
}

/// Without the privilege it is tried once, and never again.
#[test]
fn what_is_refused_is_not_asked_again() {
    let Some(namespace) = Namespace::create() else { return };
    namespace.enter(|| {
        if !Path::new(TRACKS).exists() {
            crate::requirement::skipped("this kernel does not track connections");
            return;
        }
        caps::clear(None, caps::CapSet::Effective).unwrap();
        let refused = probe().err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        let mut tracking = Tracking::default();
        assert_eq!(tracking.lookup(at("10.1.0.7:1"), at(SERVICE)), None);
        assert!(matches!(tracking.state, State::Refused));
        assert_eq!(tracking.lookup(at("10.1.0.7:1"), at(SERVICE)), None);
    });
}

/// Prints what a question costs; see the module's documentation.
#[test]
fn what_a_question_costs() {
    const TIMES: u32 = 10_000;
    let Some(namespace) = Namespace::create() else { return };
    let listener = namespace.enter(|| TcpListener::bind((SERVER, 0)).unwrap());
    if !namespace.translates(listener.local_addr().unwrap().port()) {
        return;
    }
    namespace.enter(|| {
        let mut tracking = Tracking::default();
        let (client, _server) = connected(&listener);
        let (local, remote) = ends(&client);
        for (what, local) in [("found", local), ("no entry", at("10.1.0.7:4000"))] {
            let begun = Instant::now();
            for _ in 0..TIMES {
                std::hint::black_box(tracking.lookup(local, remote));
            }
            println!("{what}: {:?} a question", begun.elapsed() / TIMES);
        }
    });
}
