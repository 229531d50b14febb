//! nginx, with an access log that the ledger reads.

use std::path::PathBuf;

use anyhow::Result;

use crate::ledger::Ledger;
use crate::netns::Place;
use crate::process::{Running, free_port, write};

/// A running nginx. What it serves besides files:
///
/// `/ok`, `/moved`, `/teapot`, `/broken`, `/empty` answer 200, 302, 418, 500 and 204;
/// `/accept` takes a body and answers 200; `/files/…` are the files of [`Nginx::file`].
#[derive(Debug)]
pub struct Nginx {
    running: Running,
    port: u16,
    folder: tempfile::TempDir,
}

impl Nginx {
    /// Starts it with one worker.
    pub fn start() -> Result<Self> {
        Self::start_in(Place::HERE, 1, "")
    }

    /// Starts it somewhere, with a number of workers and further lines of its `server` block.
    pub fn start_in(place: Place<'_>, workers: u32, lines: &str) -> Result<Self> {
        Self::launch(place, workers, free_port(), ("", lines))
    }

    /// [`Nginx::start_in`] with one worker, on a port that is known to be free there.
    pub fn start_at(place: Place<'_>, port: u16, lines: &str) -> Result<Self> {
        Self::launch(place, 1, port, ("", lines))
    }

    /// Starts it with HTTP/2 by prior knowledge instead of HTTP/1.1, and further lines of its
    /// `server` block.
    pub fn http2(lines: &str) -> Result<Self> {
        Self::http2_in(Place::HERE, lines)
    }

    /// [`Nginx::http2`] somewhere.
    pub fn http2_in(place: Place<'_>, lines: &str) -> Result<Self> {
        Self::http2_at(place, free_port(), lines)
    }

    /// [`Nginx::http2_in`] on a port that is known to be free there.
    pub fn http2_at(place: Place<'_>, port: u16, lines: &str) -> Result<Self> {
        // Header blocks as long as the tests send.
        let large = "large_client_header_buffers 8 64k;";
        Self::launch(place, 1, port, (" http2", &format!("{large}\n{lines}")))
    }

    fn launch(
        place: Place<'_>,
        workers: u32,
        port: u16,
        (listen, lines): (&str, &str),
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("files"))?;
        let configuration =
            configuration(&folder.path().display().to_string(), port, workers, (listen, lines));
        let file = folder.path().join("nginx.conf");
        write(&file, &configuration)?;
        let mut command = place.inside("nginx")?;
        command.arg("-p").arg(folder.path()).arg("-c").arg(&file);
        command.arg("-e").arg(folder.path().join("error.log"));
        let mut running = Running::start(&mut command)?;
        running.wait_for_listener(&place, port)?;
        Ok(Self { running, port, folder })
    }

    /// Where it listens, on every address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of its master.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Makes a file of `size` zero bytes, served as `/files/<name>`.
    pub fn file(&self, name: &str, size: u64) -> Result<PathBuf> {
        let path = self.folder.path().join("files").join(name);
        std::fs::File::create(&path)?.set_len(size)?;
        Ok(path)
    }

    /// What its access log says.
    pub fn ledger(&self) -> Result<Ledger> {
        Ledger::from_log(&self.folder.path().join("access.log"))
    }

    /// The access log's lines: method, target, status, body bytes, seconds, client's address and
    /// port, and the seconds since 1970 at its end.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.path().join("access.log"))?)
    }
}

fn configuration(folder: &str, port: u16, workers: u32, (listen, lines): (&str, &str)) -> String {
    format!(
        r#"
daemon off;
user root;
worker_processes {workers};
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    log_format ledger '$request_method $request_uri $status $body_bytes_sent $request_time $remote_addr $remote_port $msec';
    access_log {folder}/access.log ledger;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    sendfile on;
    keepalive_requests 100000000;
    client_max_body_size 0;
    default_type text/plain;
    server {{
        listen 0.0.0.0:{port}{listen};
        listen [::]:{port}{listen};
        location = /ok {{ return 200 "fine\n"; }}
        location = /moved {{ return 302 /ok; }}
        location = /teapot {{ return 418 "short\n"; }}
        location = /broken {{ return 500; }}
        location = /empty {{ return 204; }}
        location = /accept {{ return 200 "taken\n"; }}
        location /files/ {{ root {folder}; }}
        location /nothing {{ return 404 "nothing\n"; }}
        {lines}
    }}
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::Nginx;
    use crate::workload::curl;

    #[test]
    fn its_ledger_has_what_curl_asked() {
        if crate::requirement::program("nginx").is_none() {
            crate::skip!("not installed: nginx");
        }
        let nginx = Nginx::start().expect("starts");
        let base = format!("http://127.0.0.1:{}", nginx.port());
        curl(&[&format!("{base}/ok"), &format!("{base}/nothing/7?q=1")]).expect("answers");
        nginx.file("some", 1000).expect("is made");
        let body = curl(&[&format!("{base}/files/some")]).expect("answers");
        assert_eq!(body.len(), 1000);
        let ledger = nginx.ledger().expect("is there");
        assert_eq!(ledger.count("GET", "/ok", Some(200)), 1);
        assert_eq!(ledger.count("GET", "/nothing/7", Some(404)), 1);
        assert_eq!(ledger.count("GET", "/files/some", Some(200)), 1);
        assert_eq!(ledger.total(), 3);
    }
}
