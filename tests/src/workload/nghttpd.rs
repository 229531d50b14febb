//! nghttpd, the HTTP/2 server of nghttp2: by prior knowledge, files only.

use std::path::PathBuf;

use anyhow::Result;

use crate::netns::Place;
use crate::process::{Running, free_port};

/// A running nghttpd that serves [`Nghttpd::file`]; all else is 404.
#[derive(Debug)]
pub struct Nghttpd {
    running: Running,
    port: u16,
    folder: tempfile::TempDir,
}

impl Nghttpd {
    /// Starts it with further options.
    pub fn start(options: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_port();
        let mut command = Place::HERE.inside("nghttpd")?;
        command.arg("--no-tls").arg("-d").arg(folder.path()).args(options).arg(port.to_string());
        let mut running = Running::start(&mut command)?;
        running.wait_for_listener(&Place::HERE, port)?;
        Ok(Self { running, port, folder })
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Makes a file of `size` zero bytes, served as `/<name>`.
    pub fn file(&self, name: &str, size: u64) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::File::create(&path)?.set_len(size)?;
        Ok(path)
    }
}
