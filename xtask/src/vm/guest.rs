//! Runs a script in a guest, or on this machine, and gives what it printed.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};

use super::image::Image;
use super::kernels::Guest;
use super::machine::Machine;
use crate::standalone::Architecture;
use crate::workspace::{line, privileged, target};

/// Seconds after which a guest is ended: it hangs.
const LIMIT: u32 = 3600;
/// Seconds in which a virtualized guest is up, where virtualization works at all.
const KVM_LIMIT: u32 = 20;
/// Memory of a guest: the tests' files are written into it.
const MEMORY: &str = "1536M";
/// The program that serves the host's files, where releases of Debian put it.
const FILE_SERVERS: [&str; 2] = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"];

/// The program that serves the host's files.
pub fn file_server() -> Option<&'static str> {
    FILE_SERVERS.into_iter().find(|path| Path::new(path).is_file())
}

/// Runs a shell script as root and gives what it printed, on standard output and error.
pub fn run(guest: &Guest, image: Option<&Image>, script: &str) -> Result<String> {
    let folder = folder(guest);
    fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let file = folder.join("script.sh");
    fs::write(&file, script)?;
    let output = folder.join("output");
    match image {
        None => here(&file, &output)?,
        Some(image) => {
            let is_native = image.architecture == Architecture::NATIVE;
            let virtualize = is_native && virtualizes(image, &folder);
            boot(image, guest.append, &file, &folder, virtualize, LIMIT)?;
        }
    }
    text(&output)
}

/// What the same script printed before, if all of it came after `since`.
pub fn earlier(guest: &Guest, script: &str, since: SystemTime) -> Option<String> {
    earlier_in(&folder(guest), script, since)
}

fn earlier_in(folder: &Path, script: &str, since: SystemTime) -> Option<String> {
    let output = folder.join("output");
    let is_same = fs::read_to_string(folder.join("script.sh")).is_ok_and(|text| text == script);
    let came = fs::metadata(&output).and_then(|file| file.modified()).ok()?;
    if is_same && came > since { text(&output).ok() } else { None }
}

fn folder(guest: &Guest) -> PathBuf {
    target().join("vm").join(guest.name.replace(['=', ' '], "-"))
}

/// The same with systemd as the guest's first program.
pub fn run_by_systemd(image: &Image, script: &str) -> Result<String> {
    let folder = target().join("vm/systemd");
    fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let file = folder.join("script.sh");
    fs::write(&file, script)?;
    let virtualize = image.architecture == Architecture::NATIVE && virtualizes(image, &folder);
    let append = "meshtap.init=/lib/systemd/systemd";
    boot(image, append, &file, &folder, virtualize, LIMIT)?;
    text(&folder.join("output"))
}

fn here(script: &Path, output: &Path) -> Result<()> {
    let sink = fs::File::create(output)?;
    let mut command = limited(LIMIT)?;
    command.arg("/bin/sh").arg(script).stdin(Stdio::null());
    let status = command.stdout(sink.try_clone()?).stderr(sink).status()?;
    ensure!(status.success(), "{} ended with {status}", script.display());
    Ok(())
}

/// Whether virtualization works here: it may be there and not work in a virtual machine.
fn virtualizes(image: &Image, folder: &Path) -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| {
        let works = Path::new("/dev/kvm").exists() && {
            let script = folder.join("alive.sh");
            fs::write(&script, "echo alive\n").is_ok()
                && boot(image, "", &script, folder, true, KVM_LIMIT).is_ok()
                && text(&folder.join("output")).is_ok_and(|output| output.contains("alive"))
        };
        eprintln!("guests are {}", if works { "virtualized" } else { "emulated" });
        works
    })
}

/// Boots, and waits until the guest is off.
fn boot(
    image: &Image,
    append: &str,
    script: &Path,
    folder: &Path,
    virtualize: bool,
    limit: u32,
) -> Result<()> {
    let mut shares = vec![Share::serve("host", Path::new("/"), folder, limit + 60)?];
    if let Some(programs) = &image.programs {
        // Of its own, although it lies in the host's files: what an overlay lays over each
        // other must not lie in each other.
        shares.push(Share::serve("programs", programs, folder, limit + 60)?);
    }
    let output = folder.join("output");
    let console = folder.join("console");
    for file in [&output, &console] {
        fs::write(file, "")?;
    }
    let mut command = limited(limit)?;
    let machine = Machine::new(image.architecture, virtualize, &console, &output);
    command.args(["nice", "-n", "10", machine.program]).args(&machine.arguments);
    // One processor: two raced in QEMU 7.2 and crashed new kernels now and then.
    command.args(["-smp", "1", "-m", MEMORY, "-nodefaults", "-no-reboot"]);
    command.args(["-display", "none", "-numa", "node,memdev=memory"]);
    command.args(["-object", &format!("memory-backend-memfd,id=memory,size={MEMORY},share=on")]);
    for share in &shares {
        command.args(share.arguments());
    }
    command.arg("-kernel").arg(&image.kernel).arg("-initrd").arg(&image.initial);
    command.args([
        "-append",
        &format!(
            "{} quiet loglevel=4 mitigations=off nokaslr random.trust_cpu=on panic=-1 \
             rdinit=/init meshtap.script={} meshtap.modules={} {append}{}",
            machine.words,
            script.display(),
            image.modules.canonicalize()?.display(),
            if image.programs.is_some() { " meshtap.programs=programs" } else { "" },
        ),
    ]);
    let started = Instant::now();
    let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    drop(shares);
    let ended = ended.with_context(|| format!("cannot start {}", line(&command)))?;
    if !ended.success() {
        bail!(
            "the guest did not end by itself within {} s ({ended}): {}",
            started.elapsed().as_secs(),
            tail(&text(&console)?)
        );
    }
    Ok(())
}

/// Files of this machine's that a guest sees, read and never written.
struct Share {
    tag: &'static str,
    socket: PathBuf,
    server: Child,
}

impl Share {
    fn serve(tag: &'static str, source: &Path, folder: &Path, limit: u32) -> Result<Self> {
        let program = file_server().context("virtiofsd is not installed")?;
        let socket = folder.join(format!("{tag}.socket"));
        let _ = fs::remove_file(&socket);
        let log = folder.join(format!("{tag}.log"));
        let sink = fs::File::create(&log)?;
        let mut command = limited(limit)?;
        command.arg(program).arg(format!("--socket-path={}", socket.display()));
        command.args(["-o", &format!("source={}", source.display()), "-o", "cache=always"]);
        command.args(["-o", "sandbox=chroot", "-o", "xattr"]);
        command.stdin(Stdio::null()).stdout(sink.try_clone()?).stderr(sink);
        let server = command.spawn().with_context(|| format!("cannot start {}", line(&command)))?;
        let mut share = Self { tag, socket, server };
        let patience = Instant::now() + Duration::from_secs(10);
        while !share.socket.exists() {
            if share.server.try_wait()?.is_some() || Instant::now() > patience {
                bail!("{} is not served to the guest: {}", source.display(), text(&log)?);
            }
            sleep(Duration::from_millis(10));
        }
        Ok(share)
    }

    /// What QEMU is told of it.
    fn arguments(&self) -> [String; 4] {
        let (tag, socket) = (self.tag, self.socket.display());
        [
            "-chardev".to_owned(),
            format!("socket,id={tag},path={socket}"),
            "-device".to_owned(),
            format!("vhost-user-fs-pci,chardev={tag},tag={tag},queue-size=1024"),
        ]
    }
}

impl Drop for Share {
    /// The server ends when its guest does.
    fn drop(&mut self) {
        let patience = Instant::now() + Duration::from_secs(5);
        while matches!(self.server.try_wait(), Ok(None)) && Instant::now() < patience {
            sleep(Duration::from_millis(20));
        }
        if matches!(self.server.try_wait(), Ok(None))
            && let Ok(mut kill) = privileged(&PathBuf::from("kill"))
        {
            // No KILL: who limits it has to hand the signal on.
            let _ = kill.arg(self.server.id().to_string()).status();
        }
        let _ = self.server.wait();
    }
}

/// What follows runs as root, and is ended after `limit` seconds, by the keyboard, or when
/// this program ends.
fn limited(limit: u32) -> Result<Command> {
    let mut command = privileged(&PathBuf::from("setpriv"))?;
    command.args(["--pdeathsig", "TERM", "timeout", "--foreground", "--kill-after=5"]);
    command.arg(limit.to_string());
    Ok(command)
}

/// A serial port may have bytes that are no text.
fn text(file: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(file)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", file.display()))?;
    Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
}

/// The last lines.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_same_script_printed_of_the_same_programs_is_taken() {
        let folder = target().join("vm/test-of-earlier");
        fs::create_dir_all(&folder).expect("is made");
        fs::write(folder.join("script.sh"), "true").expect("is written");
        fs::write(folder.join("output"), "words\r\n").expect("is written");
        let (past, future) = (SystemTime::UNIX_EPOCH, SystemTime::now() + Duration::from_secs(60));
        assert_eq!(earlier_in(&folder, "true", past).as_deref(), Some("words\n"));
        assert_eq!(earlier_in(&folder, "false", past), None, "another script");
        assert_eq!(earlier_in(&folder, "true", future), None, "programs that are newer");
        fs::remove_dir_all(&folder).expect("is removed");
    }
}
