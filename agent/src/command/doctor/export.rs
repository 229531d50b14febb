//! Whether what was seen can get out.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::{Check, Group};

/// Tries to take the address of `/metrics`, and gives it back.
pub(super) fn listen(address: SocketAddr) -> Check {
    let check = |detail: String| Check::new(Group::Export, "metrics address", detail);
    let lost = "meshtap run refuses to start; observe works";
    match TcpListener::bind(address) {
        Ok(_closed_when_dropped) => check(format!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            check(format!("{address} is in use, by a running meshtap or by another program"))
                .failed(lost, "stop it, or choose another: meshtap run --listen ADDRESS:PORT")
        }
        Err(error) => check(format!("{address} cannot be listened on: {error}"))
            .failed(lost, "choose another: meshtap run --listen ADDRESS:PORT"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn an_address_is_free_until_somebody_has_it() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).expect("loopback is there");
        let address = taken.local_addr().expect("it is bound");
        let check = listen(address);
        assert_eq!(check.state, State::Degraded);
        assert!(check.detail.contains("in use"), "{}", check.detail);
        drop(taken);
        assert_eq!(listen(address).state, State::Ok);
        // An address of nobody (TEST-NET-1).
        let check = listen(SocketAddr::from(([192, 0, 2, 1], 9990)));
        assert!(check.detail.contains("cannot be listened on"), "{}", check.detail);
    }
}
