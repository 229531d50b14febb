//! The package for Debian and its relatives. What is in it is said in agent/Cargo.toml, and
//! cargo-deb puts it together.

mod trial;

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::standalone::{self, Architecture};
use crate::tools;
use crate::workspace::{cargo, read, run};

pub use trial::attempt;

/// Every file of the package; below `etc` those that a person may change.
const FILES: [&str; 8] = [
    "etc/meshtap/environment",
    "etc/meshtap/meshtap.yaml",
    "usr/bin/meshtap",
    "usr/lib/systemd/system/meshtap.service",
    "usr/share/doc/meshtap/README.md",
    "usr/share/doc/meshtap/configuration.md",
    "usr/share/doc/meshtap/copyright",
    "usr/share/doc/meshtap/metrics.md",
];

/// Builds the agent and writes the package.
pub fn write(output: &Path, architecture: Architecture, debug: bool) -> Result<()> {
    standalone::build(architecture, debug)?;
    let program = tools::cargo_deb()?;
    let mut command = cargo();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        program.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(folders)?);
    command.args(["deb", "--package", "meshtap", "--no-build", "--locked"]);
    command.args(debug.then_some("--profile=dev"));
    command.args(["--target", architecture.triple(), "--output"]).arg(output);
    run(&mut command)?;
    check(output)
}

/// Fails where the package holds anything but what it should.
fn check(package: &Path) -> Result<()> {
    let list = read(Command::new("dpkg-deb").arg("--contents").arg(package))?;
    let found = files(&list);
    ensure!(
        found == FILES,
        "the package holds {found:?}; what it should hold is in xtask/src/deb.rs"
    );
    Ok(())
}

/// The files in what `dpkg-deb --contents` prints, sorted.
fn files(list: &str) -> Vec<&str> {
    let lines = list.lines().filter(|line| !line.starts_with('d'));
    let mut files: Vec<_> = lines
        .filter_map(|line| line.split_whitespace().last())
        .map(|path| path.trim_start_matches("./"))
        .collect();
    files.sort_unstable();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_no_files_of_a_package() {
        let list = "drwxr-xr-x 0/0               0 2026-01-01 00:00 ./usr/bin/\n\
            -rwxr-xr-x 0/0             100 2026-01-01 00:00 ./usr/bin/meshtap\n\
            -rw-r--r-- 0/0             100 2026-01-01 00:00 ./etc/meshtap/environment\n";
        assert_eq!(files(list), ["etc/meshtap/environment", "usr/bin/meshtap"]);
    }

    /// A path that a service is started from, and one that is removed with all that is in it.
    #[test]
    fn the_scripts_name_what_the_package_holds() {
        let folder = crate::workspace::root().join("deploy/debian");
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        assert!(text("postrm").contains("rm -rf /etc/meshtap\n"));
        assert!(text("environment").contains("=/etc/meshtap/meshtap.yaml\n"));
    }
}
