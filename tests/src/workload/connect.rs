//! The shop of [`super::grpc`] in connect-go, which speaks gRPC, gRPC-Web and Connect by
//! HTTP/1 and HTTP/2. The program: `fixtures/connect`.

use std::path::PathBuf;

use anyhow::Result;

use super::grpc::{Bought, go, rounds};
use crate::cache::prepared;
use crate::netns::Place;
use crate::process::{Running, fixture, free_port, output};
use crate::requirement::program;

/// A running server.
#[derive(Debug)]
pub struct Connect {
    _running: Running,
    port: u16,
}

impl Connect {
    /// Why it cannot be used here; `None`: it can. Fetches and builds it.
    #[must_use]
    pub fn missing() -> Option<String> {
        if program("go").is_none() {
            return Some("not installed: go".to_owned());
        }
        let error = binary().err()?;
        Some(format!("connect-go cannot be fetched: {}", error.root_cause()))
    }

    /// Starts it.
    pub fn start() -> Result<Self> {
        let port = free_port();
        let mut command = Place::HERE.inside(&binary()?.display().to_string())?;
        let mut running = Running::start(command.arg("serve").arg(port.to_string()))?;
        running.wait_for_listener(&Place::HERE, port)?;
        Ok(Self { _running: running, port })
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Lets its client make its calls to a port of the loopback, by `protocol` (`grpc`, `web`
/// or `connect`) over a version of HTTP (1 or 2), and gives what it did.
pub fn connect_buyer(port: u16, protocol: &str, version: u8) -> Result<Vec<Bought>> {
    let mut command = Place::HERE.inside(&binary()?.display().to_string())?;
    let address = format!("127.0.0.1:{port}");
    command.args(["buy", &address, protocol, &version.to_string()]);
    Ok(rounds(&output(&mut command)?)?.swap_remove(0))
}

fn binary() -> Result<PathBuf> {
    let folder = prepared("connect", &fixture("connect"), "connect", |folder| {
        let mut command = go(folder)?;
        output(command.args(["build", "-mod=mod", "-o", "connect", "connect.go"])).map(drop)
    })?;
    Ok(folder.join("connect"))
}
