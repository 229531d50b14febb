//! Tests of inventory.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use super::*;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn an_own_connection_is_found_with_pid_role_and_namespace() {
    if !is_root() {
        crate::requirement::skipped("entering network namespaces needs root");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(at).unwrap();
    let (server, from) = listener.accept().unwrap();
    client.write_all(b"x").unwrap();
    let inventory = take(Path::new("/proc"), Bounds::default()).unwrap();
    let own = std::process::id();
    let namespace = std::fs::metadata("/proc/self/ns/net")
        .map(|net| std::os::unix::fs::MetadataExt::ino(&net))
        .unwrap();

    let one = |local: SocketAddr, remote: SocketAddr| {
        let mut found = inventory.sockets.iter().filter(|socket| {
            socket.local == local && socket.remote == remote && socket.namespace == namespace
        });
        let one = *found.next().unwrap_or_else(|| panic!("{local} to {remote} is missing"));
        assert_eq!(found.next(), None);
        one
    };
    let (accepted, dialled) = (one(at, from), one(from, at));
    assert_eq!((accepted.pid, dialled.pid), (own, own));
    assert_eq!((accepted.role, dialled.role), (Some(Side::Server), Some(Side::Client)));
    assert_ne!(accepted.cookie, dialled.cookie);
    assert_ne!(accepted.cookie, 0);
    for (stream, socket) in [(&client, dialled), (&server, accepted)] {
        assert_eq!(rustix::net::sockopt::socket_cookie(stream).unwrap(), socket.cookie);
    }
    let listening = inventory.listeners.iter().find(|listener| listener.local == at).unwrap();
    assert_eq!(listening.holders, [own]);
    assert_eq!(listener_holders(Path::new("/proc"), at), [own]);
    assert!(inventory.taken_ns > 0);
}

#[test]
fn what_exceeds_the_bounds_is_counted() {
    if !is_root() {
        crate::requirement::skipped("entering network namespaces needs root");
        return;
    }
    let _listeners: Vec<_> = (0..3).map(|_| TcpListener::bind("[::1]:0").unwrap()).collect();
    let inventory = take(Path::new("/proc"), Bounds { sockets: 2, namespaces: 1 }).unwrap();
    assert_eq!(inventory.sockets.len() + inventory.listeners.len(), 2);
    assert!(inventory.left_out >= 1);
}

#[test]
fn a_place_without_processes_is_an_error_with_the_remedy() {
    let error = take(Path::new("/nowhere"), Bounds::default()).unwrap_err();
    assert!(error.to_string().starts_with("/nowhere cannot be listed"), "{error}");
}

#[test]
fn a_socket_unknown_to_all_has_no_pid() {
    assert_eq!(holder(&[]), 0);
    assert_eq!(holder(&[1]), 1);
    assert_eq!(holder(&[1, 7, 9]), 7);
}
