//! A kernel that is ready to boot: fetched, unpacked, with the little system that mounts
//! the host's files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::apt::Apt;
use super::kernels::Kernel;
use crate::standalone::Architecture;
use crate::workspace::read;

/// What mounting the host's files takes, where the kernel has it not built in.
const MODULES: [&str; 4] = ["virtio_pci", "virtio_console", "virtiofs", "overlay"];
/// What a guest of another architecture has of its own: what its scripts and tests call.
const PROGRAMS: [&str; 14] = [
    "bpftool",
    "busybox-static",
    "coreutils",
    "curl",
    "dash",
    "iproute2",
    "iptables",
    "ipvsadm",
    "kmod",
    "mount",
    "nghttp2-client",
    "nginx-light",
    "procps",
    "python3",
];
/// The first program in the guest.
const INIT: &str = include_str!("init.sh");

/// A kernel that is ready to boot.
#[derive(Clone, Debug)]
pub struct Image {
    /// The compressed kernel.
    pub kernel: PathBuf,
    /// Its first file system.
    pub initial: PathBuf,
    /// Its modules, which the guest loads on demand.
    pub modules: PathBuf,
    /// What it runs on.
    pub architecture: Architecture,
    /// Its programs, which lie over the host's files, where those are of another architecture.
    pub programs: Option<PathBuf>,
}

impl Image {
    /// From the cache, else from Debian; `fetch`: from Debian.
    pub fn ready(kernel: &Kernel, fetch: bool) -> Result<Self> {
        let folder = cache()?.join(kernel.name);
        let unpacked = folder.join("unpacked");
        let architecture = kernel.architecture;
        let programs = (architecture != Architecture::NATIVE).then(|| folder.join("programs"));
        if fetch || !unpacked.exists() {
            obtain(kernel, &folder, &unpacked)?;
        }
        if let Some(programs) = &programs {
            equip(kernel, &folder, programs, fetch)?;
        }
        let modules = modules(&unpacked)?;
        let release = name(&modules);
        let beside = modules.join("vmlinuz");
        let kernel =
            if beside.exists() { beside } else { unpacked.join(format!("boot/vmlinuz-{release}")) };
        ensure!(kernel.is_file(), "{} holds no kernel", unpacked.display());
        let initial = folder.join("initial.cpio");
        let busybox = match &programs {
            Some(programs) => programs.join("usr/bin/busybox"),
            None => which("busybox")?,
        };
        build(&modules, &busybox, &folder.join("initial"), &initial)?;
        eprintln!("Linux {release}");
        Ok(Self { kernel, initial, modules, architecture, programs })
    }
}

/// Where guests are kept, outside of every clone.
pub fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("meshtap/vm"))
}

fn obtain(kernel: &Kernel, folder: &Path, unpacked: &Path) -> Result<()> {
    let apt = Apt::new(&folder.join("apt"), kernel.suites, kernel.architecture)?;
    let parts = apt.kernel()?;
    ensure!(!parts.is_empty(), "Debian's lists name no kernel {}", kernel.name);
    let fresh = emptied(&folder.join("fresh"))?;
    apt.unpack(&parts, &fresh)?;
    let modules = modules(&fresh)?;
    let root = modules.ancestors().nth(3).context("modules stand below lib/modules")?;
    // It complains of lists that the newest packages keep elsewhere.
    read(Command::new("depmod").arg("-b").arg(root).arg(name(&modules)))?;
    replace(unpacked, &fresh)
}

/// The guest's own programs, where not exactly these are there.
fn equip(kernel: &Kernel, folder: &Path, programs: &Path, fetch: bool) -> Result<()> {
    let (list, wanted) = (folder.join("programs.list"), PROGRAMS.join(" "));
    let is_there = programs.exists() && fs::read_to_string(&list).is_ok_and(|it| it == wanted);
    if is_there && !fetch {
        return Ok(());
    }
    let apt = Apt::new(&folder.join("apt"), kernel.suites, kernel.architecture)?;
    let fresh = emptied(&folder.join("fresh"))?;
    apt.unpack(&apt.programs(&PROGRAMS)?, &fresh)?;
    merge(&fresh)?;
    replace(programs, &fresh)?;
    Ok(fs::write(list, wanted)?)
}

/// Puts into `/usr` what packages have beside it, as systems have it where these are links:
/// a program of the host's there would be found first.
fn merge(root: &Path) -> Result<()> {
    for part in ["bin", "sbin", "lib"].map(|part| root.join(part)).iter().filter(|it| it.is_dir()) {
        let whole = root.join("usr").join(name(part));
        fs::create_dir_all(&whole)?;
        read(Command::new("cp").args(["-a", "--"]).arg(part.join(".")).arg(&whole))?;
        fs::remove_dir_all(part)?;
    }
    Ok(())
}

fn emptied(folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    Ok(folder.to_owned())
}

/// Into place only when whole: an interrupted run leaves nothing that looks ready.
fn replace(old: &Path, fresh: &Path) -> Result<()> {
    if !old.exists() {
        return Ok(fs::rename(fresh, old)?);
    }
    let stale = emptied(&old.with_extension("stale"))?;
    fs::rename(old, &stale)?;
    fs::rename(fresh, old)?;
    Ok(fs::remove_dir_all(stale)?)
}

fn modules(unpacked: &Path) -> Result<PathBuf> {
    let places = ["lib/modules", "usr/lib/modules"].map(|place| unpacked.join(place));
    let folders = places.iter().filter_map(|place| fs::read_dir(place).ok()).flatten();
    folders
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|folder| folder.join("kernel").is_dir())
        .with_context(|| format!("{} holds no modules", unpacked.display()))
}

fn name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The first file system: busybox, the modules in their order, and [`INIT`].
fn build(modules: &Path, busybox: &Path, folder: &Path, archive: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    for part in ["bin", "proc", "sys", "dev", "host", "programs", "over", "root", "modules"] {
        fs::create_dir_all(folder.join(part))?;
    }
    fs::copy(busybox, folder.join("bin/busybox"))?;
    let mut order = Vec::new();
    for module in MODULES {
        for file in needed(modules, module)? {
            let own = name(&file).trim_end_matches(".xz").to_owned();
            if order.contains(&own) {
                continue;
            }
            let bytes = if file.extension().is_some_and(|kind| kind == "xz") {
                Command::new("xz").arg("-dc").arg(&file).output()?.stdout
            } else {
                fs::read(&file)?
            };
            fs::write(folder.join("modules").join(&own), bytes)?;
            order.push(own);
        }
    }
    fs::write(folder.join("modules/order"), order.join("\n"))?;
    let init = folder.join("init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let status = Command::new("sh")
        .args(["-c", "find . | cpio -o -H newc --quiet"])
        .current_dir(folder)
        .stdout(fs::File::create(archive)?)
        .status()?;
    ensure!(status.success(), "cpio failed: {status}");
    Ok(())
}

/// Files of a module and of those that it needs, in the order of loading; none where it is
/// built in.
fn needed(modules: &Path, module: &str) -> Result<Vec<PathBuf>> {
    let root = modules.ancestors().nth(3).context("modules stand below lib/modules")?;
    let output = Command::new(which("modprobe")?)
        .arg("-d")
        .arg(root)
        .args(["-S", &name(modules), "--show-depends", module])
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let files = text.lines().filter_map(|line| line.trim().strip_prefix("insmod "));
    Ok(files.map(|file| PathBuf::from(file.trim())).collect())
}

/// Programs of administrators are not on everybody's path.
fn which(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(more)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .with_context(|| format!("{program} is not installed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beside_usr_is_moved_into_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for part in ["bin", "usr/bin", "lib/kind"] {
            fs::create_dir_all(root.join(part)).unwrap();
        }
        for file in ["bin/ss", "usr/bin/curl", "lib/kind/libc.so"] {
            fs::write(root.join(file), file).unwrap();
        }
        merge(root).unwrap();
        for file in ["usr/bin/ss", "usr/bin/curl", "usr/lib/kind/libc.so"] {
            assert!(root.join(file).is_file(), "{file}");
        }
        assert!(!root.join("bin").exists() && !root.join("lib").exists());
    }
}
