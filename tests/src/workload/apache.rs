//! Apache httpd, with its default `TCP_DEFER_ACCEPT`: a first request reaches the listener.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::netns::Place;
use crate::process::{Running, free_port, write};

/// A running Apache that serves `/hello.txt` (6 bytes).
#[derive(Debug)]
pub struct Apache {
    running: Running,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Apache {
    /// Starts it with the prefork module where it is installed: a process per connection.
    pub fn start() -> Result<Self> {
        let spare = "StartServers 3\nMinSpareServers 2\n";
        Self::launch(&["mpm_prefork", "authz_core"], spare)
    }

    /// Starts it with threads and HTTP/2, to which a client comes by an upgrade or at once.
    pub fn http2() -> Result<Self> {
        Self::launch(
            &["mpm_event", "authz_core", "http2"],
            "Protocols h2c http/1.1\nH2Upgrade on\n",
        )
    }

    fn launch(names: &[&str], lines: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_port();
        let documents = folder.path().join("documents");
        std::fs::create_dir(&documents)?;
        write(&documents.join("hello.txt"), "hello\n")?;
        let modules = ["/usr/lib/apache2/modules", "/usr/lib64/httpd/modules"];
        let modules = modules.iter().map(Path::new).find(|folder| folder.is_dir());
        let modules = modules.context("the modules of Apache are not installed")?;
        let module = |name: &str| {
            let file = modules.join(format!("mod_{name}.so"));
            let line = format!("LoadModule {name}_module {}\n", file.display());
            if file.exists() { line } else { String::new() }
        };
        let text = format!(
            "{}ServerName localhost\nServerRoot {folder}\nPidFile {folder}/pid\n\
             ErrorLog {folder}/error.log\nMutex file:{folder}\nListen 0.0.0.0:{port}\n\
             DocumentRoot {folder}/documents\nUser www-data\nGroup www-data\n\
             <Directory />\nRequire all granted\n</Directory>\n{lines}",
            names.iter().map(|name| module(name)).collect::<String>(),
            folder = folder.path().display(),
        );
        // Apache gives up root; the folder must be open to what is left.
        open_to_all(folder.path())?;
        let file = folder.path().join("apache.conf");
        write(&file, &text)?;
        let mut command = Place::HERE.inside("apache2")?;
        command.arg("-DFOREGROUND").arg("-f").arg(&file);
        let mut running = Running::start(&mut command)?;
        running.wait_for_listener(&Place::HERE, port)?;
        Ok(Self { running, port, _folder: folder })
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of its parent process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }
}

fn open_to_all(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

#[cfg(test)]
mod tests {
    use super::Apache;
    use crate::workload::curl;

    #[test]
    fn it_answers() {
        if crate::requirement::program("apache2").is_none() {
            crate::skip!("not installed: apache2");
        }
        let apache = Apache::start().expect("starts");
        let body = curl(&[&format!("http://127.0.0.1:{}/hello.txt", apache.port())]);
        assert_eq!(body.expect("answers"), "hello\n");
    }
}
