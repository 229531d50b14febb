//! Debian's packages of other releases: downloaded, never installed.
//!
//! The lists are our own, so that this machine's package manager does not see them; the
//! mirror is the one that it uses, and its keys are trusted as it trusts them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::standalone::Architecture;
use crate::workspace::{has, read, run};

/// How the packages begin that hold a kernel and its modules.
const PARTS: [&str; 4] = ["linux-image-", "linux-binary-", "linux-modules-", "linux-base-"];

/// A package manager with lists of its own, below a folder.
pub struct Apt {
    folder: PathBuf,
    architecture: Architecture,
}

impl Apt {
    /// Reads the lists of some suites; the flag: of the security archive.
    pub fn new(folder: &Path, suites: &[(&str, bool)], architecture: Architecture) -> Result<Self> {
        if !has("apt-get") {
            bail!("the kernels are Debian's, and this system has no apt-get to fetch them with");
        }
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let mut sources = String::new();
        for &(suite, is_security) in suites {
            sources.push_str(&format!("deb {} {suite} main\n", mirror(is_security)?));
        }
        fs::write(folder.join("sources.list"), sources)?;
        // Equal priorities: the highest version wins, whichever suite it is in.
        fs::write(folder.join("preferences"), "Package: *\nPin: release *\nPin-Priority: 500\n")?;
        let apt = Self { folder: folder.to_owned(), architecture };
        run(apt.command("apt-get").args(["-q", "update"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let own = |name: &str| self.folder.join(name).display().to_string();
        for (option, value) in [
            ("Dir::Etc::SourceList", own("sources.list")),
            ("Dir::Etc::SourceParts", "/dev/null".to_owned()),
            ("Dir::Etc::Preferences", own("preferences")),
            ("Dir::Etc::PreferencesParts", "/dev/null".to_owned()),
            ("Dir::State", own("")),
            ("Dir::State::Lists", own("lists")),
            ("Dir::State::Status", "/dev/null".to_owned()),
            ("Dir::Cache", own("cache")),
            ("APT::Architecture", self.architecture.name().to_owned()),
            ("APT::Architectures", self.architecture.name().to_owned()),
            ("APT::Sandbox::User", String::new()),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false".to_owned()),
        ] {
            command.arg(format!("-o{option}={value}"));
        }
        command
    }

    /// The packages that make the newest kernel, the small one for virtual machines.
    pub fn kernel(&self) -> Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        let mut open = vec![format!("linux-image-cloud-{}", self.architecture.name())];
        while let Some(name) = open.pop() {
            let text = read(self.command("apt-cache").args(["depends", "--important", &name]))?;
            for needed in text.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")) {
                let is_part = PARTS.iter().any(|part| needed.starts_with(part));
                // `linux-base-7.3` belongs to a kernel, `linux-base` does not.
                if is_part && found.insert(needed.to_owned()) {
                    open.push(needed.to_owned());
                }
            }
        }
        Ok(found)
    }

    /// Programs and all that they need to run.
    pub fn programs(&self, names: &[&str]) -> Result<BTreeSet<String>> {
        let mut command = self.command("apt-get");
        command.args(["-q", "--simulate", "--no-install-recommends", "install"]).args(names);
        let text = read(&mut command)?;
        let steps = text.lines().filter_map(|line| line.strip_prefix("Inst "));
        Ok(steps.filter_map(|step| step.split_whitespace().next()).map(str::to_owned).collect())
    }

    /// Downloads packages and unpacks them into a folder.
    pub fn unpack(&self, packages: &BTreeSet<String>, into: &Path) -> Result<()> {
        let folder = self.folder.join("packages");
        fs::create_dir_all(&folder)?;
        let mut download = self.command("apt-get");
        run(download.args(["-q", "download"]).args(packages).current_dir(&folder))?;
        for entry in fs::read_dir(&folder)? {
            run(Command::new("dpkg-deb").arg("-x").arg(entry?.path()).arg(into))?;
        }
        fs::remove_dir_all(&folder).context("cannot tidy up after unpacking")
    }
}

/// Where this machine has its packages from, and what it trusts there.
fn mirror(is_security: bool) -> Result<String> {
    let targets = read(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    let wanted = if is_security { "/debian-security" } else { "/debian" };
    let found = targets.lines().find(|uri| uri.trim_end_matches('/').ends_with(wanted));
    let found = found.with_context(|| {
        format!("this system's package sources name no mirror that ends in {wanted}")
    })?;
    const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let keys =
        if Path::new(KEYS).exists() { format!("[signed-by={KEYS}] ") } else { String::new() };
    Ok(format!("{keys}{found}"))
}
