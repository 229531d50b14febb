//! The agent as a service of this host: put into place, and taken away without a trace.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::agent;
use crate::workspace::{privileged, root, run};

const BINARY: &str = "usr/local/bin/meshtap";
const UNIT: &str = "etc/systemd/system/meshtap.service";
const CONFIGURATION: &str = "etc/meshtap";
const SERVICE: &str = "meshtap.service";

/// Where, and how far.
#[derive(Debug)]
pub struct Options {
    /// The top of the file system: `/`, or where a package or an image is put together.
    pub root: PathBuf,
    /// Start the service and have it start with the host, where systemd runs.
    pub start: bool,
}

impl Options {
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// What changes the host, as root; elsewhere as whoever calls.
    fn command(&self, program: &str) -> Result<Command> {
        if self.is_host() { privileged(Path::new(program)) } else { Ok(Command::new(program)) }
    }

    fn is_host(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Whether this is the host that runs, with systemd on it.
    fn has_systemd(&self) -> bool {
        self.is_host() && Path::new("/run/systemd/system").is_dir()
    }
}

/// Builds the agent and installs it with its unit.
pub fn install(options: &Options) -> Result<()> {
    let agent = agent::build()?;
    place(&agent, options)?;
    if !options.has_systemd() {
        println!("installed; no systemd runs there, so nothing was started");
        return Ok(());
    }
    run(options.command("systemctl")?.arg("daemon-reload"))?;
    if options.start {
        run(options.command("systemctl")?.args(["enable", SERVICE]))?;
        run(options.command("systemctl")?.args(["restart", SERVICE]))?;
        println!("running: systemctl status meshtap, curl http://127.0.0.1:9990/metrics");
    } else {
        println!("installed; start it with: systemctl enable --now meshtap");
    }
    Ok(())
}

fn place(agent: &Path, options: &Options) -> Result<()> {
    let unit = root().join("deploy/systemd/meshtap.service");
    for (mode, from, to) in [("755", agent, BINARY), ("644", &unit, UNIT)] {
        let mut command = options.command("install")?;
        command.args(["-D", "-m", mode]).arg(from).arg(options.at(to));
        run(&mut command)?;
    }
    Ok(())
}

/// Stops the service and removes what [`install`] put into place; with `purge` its
/// configuration, too.
pub fn uninstall(options: &Options, purge: bool) -> Result<()> {
    let is_there = [BINARY, UNIT].iter().any(|path| options.at(path).exists());
    ensure!(
        is_there || purge,
        "nothing is installed below {}: neither {BINARY} nor {UNIT}",
        options.root.display()
    );
    if options.has_systemd() && options.at(UNIT).exists() {
        run(options.command("systemctl")?.args(["disable", "--now", SERVICE]))?;
    }
    let mut remove = options.command("rm")?;
    remove.arg("-f").arg(options.at(BINARY)).arg(options.at(UNIT));
    run(&mut remove)?;
    if purge {
        run(options.command("rm")?.arg("-rf").arg(options.at(CONFIGURATION)))?;
    } else if options.at(CONFIGURATION).exists() {
        println!("{} is left; --purge removes it", options.at(CONFIGURATION).display());
    }
    if options.has_systemd() {
        run(options.command("systemctl")?.arg("daemon-reload"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn files(folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                found.extend(files(&path));
            } else {
                found.push(path.display().to_string());
            }
        }
        found.sort();
        found
    }

    #[test]
    fn what_is_installed_is_removed_without_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("top");
        let agent = folder.path().join("built");
        fs::write(&agent, "program").unwrap();
        let options = Options { root: top.clone(), start: true };
        assert!(
            uninstall(&options, false).unwrap_err().to_string().contains("nothing is installed")
        );
        for _ in 0..2 {
            place(&agent, &options).unwrap();
            let expected = [UNIT, BINARY].map(|path| top.join(path).display().to_string());
            assert_eq!(files(&top), expected);
            let mode = fs::metadata(top.join(BINARY)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o755);
        }
        let configuration = top.join(CONFIGURATION);
        fs::create_dir_all(&configuration).unwrap();
        fs::write(configuration.join("meshtap.yaml"), "").unwrap();
        uninstall(&options, false).unwrap();
        assert_eq!(files(&top), [configuration.join("meshtap.yaml").display().to_string()]);
        uninstall(&options, true).unwrap();
        assert_eq!(files(&top), [""; 0]);
    }

    /// The unit starts the program by its name, and systemd looks for it where it is put.
    #[test]
    fn the_unit_names_the_program() {
        let unit = fs::read_to_string(root().join("deploy/systemd/meshtap.service")).unwrap();
        let (folder, name) = BINARY.rsplit_once('/').unwrap();
        assert!(unit.contains(&format!("\nExecStart={name} run\n")), "{unit}");
        assert_eq!(folder, "usr/local/bin");
    }
}
