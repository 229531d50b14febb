//! HAProxy in front of another server, HTTP on both sides.

use anyhow::Result;

use crate::netns::Place;
use crate::process::{Running, free_port, write};

/// A running HAProxy.
#[derive(Debug)]
pub struct Haproxy {
    _running: Running,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Haproxy {
    /// Starts it in front of a port on the loopback.
    pub fn start(backend: u16) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_port();
        let file = folder.path().join("haproxy.cfg");
        write(
            &file,
            &format!(
                "global\n  maxconn 1000\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  \
                 timeout server 30s\nfrontend in\n  bind 127.0.0.1:{port}\n  default_backend out\n\
                 backend out\n  server one 127.0.0.1:{backend}\n"
            ),
        )?;
        let mut command = Place::HERE.inside("haproxy")?;
        command.arg("-db").arg("-f").arg(&file);
        let mut running = Running::start(&mut command)?;
        running.wait_for_listener(&Place::HERE, port)?;
        Ok(Self { _running: running, port, _folder: folder })
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}
