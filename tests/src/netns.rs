//! Network namespaces, wired by veth pairs, gone when dropped; and [`Place`]: where a program runs.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::cgroup::Cgroup;
use crate::process::{run, words};
use crate::requirement::program;

/// A network namespace.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

/// A veth pair's addresses: the client's end has the first, the server's the second.
pub const CLIENT: &str = "10.87.0.1";
/// See [`CLIENT`].
pub const SERVER: &str = "10.87.0.2";

impl Netns {
    /// Makes one, with its loopback device up.
    pub fn create() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::named(&format!("meshtap{}x{number}", std::process::id()))
    }

    /// Makes one under a name that no other one has.
    pub fn named(name: &str) -> Result<Self> {
        let netns = Self { name: name.to_owned() };
        run(&format!("ip netns add {}", netns.name))?;
        netns.run("ip link set lo up")?;
        Ok(netns)
    }

    /// Two namespaces joined by a veth pair, with the addresses [`CLIENT`] and [`SERVER`].
    pub fn pair() -> Result<(Self, Self)> {
        let (client, server) = (Self::create()?, Self::create()?);
        client.join(&server, "eth0", CLIENT, SERVER)?;
        Ok((client, server))
    }

    /// Joins two namespaces by a veth pair named `device` on both sides, in one /24.
    pub fn join(&self, other: &Self, device: &str, mine: &str, theirs: &str) -> Result<()> {
        self.run(&format!(
            "ip link add {device} type veth peer name {device} netns {}",
            other.name
        ))?;
        for (netns, address) in [(self, mine), (other, theirs)] {
            netns.run(&format!("ip addr add {address}/24 dev {device}"))?;
            netns.run(&format!("ip link set {device} up"))?;
        }
        Ok(())
    }

    /// The file that stands for it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Its name for `ip netns`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a line of words inside, to its end.
    pub fn run(&self, line: &str) -> Result<String> {
        run(&format!("ip netns exec {} {line}", self.name))
    }

    /// Calls `body` on a thread that is inside: its sockets belong there.
    pub fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T> {
        enter(&self.path(), body)
    }
}

/// [`Netns::enter`] by the file that stands for it.
pub fn enter<T: Send>(path: &Path, body: impl FnOnce() -> T + Send) -> Result<T> {
    let file = File::open(path)?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(body())
        });
        thread.join().map_err(|_| anyhow!("the thread inside panicked"))?
    })
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(run(&format!("ip netns del {}", self.name)));
    }
}

/// Where a program runs: network namespace and cgroup; the test's own where not said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place<'a> {
    /// Network namespace.
    pub netns: Option<&'a Netns>,
    /// cgroup.
    pub cgroup: Option<&'a Cgroup>,
}

impl<'a> Place<'a> {
    /// The test's own.
    pub const HERE: Place<'static> = Place { netns: None, cgroup: None };

    /// In a network namespace.
    #[must_use]
    pub fn netns(netns: &'a Netns) -> Self {
        Self { netns: Some(netns), cgroup: None }
    }

    /// In a cgroup.
    #[must_use]
    pub fn cgroup(cgroup: &'a Cgroup) -> Self {
        Self { netns: None, cgroup: Some(cgroup) }
    }

    /// An installed program there. The process that is started becomes that program: it
    /// keeps its process id.
    pub fn inside(&self, name: &str) -> Result<Command> {
        let path = program(name).with_context(|| format!("{name} is not installed"))?;
        let mut command = match self.netns {
            Some(netns) => {
                let mut command = words("ip netns exec")?;
                command.arg(netns.name()).arg(path);
                command
            }
            None => Command::new(path),
        };
        if let Some(cgroup) = self.cgroup {
            command = cgroup.wrap(&command);
        }
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::{CLIENT, Netns, SERVER};

    #[test]
    fn a_pair_reaches_each_other_and_is_removed() {
        if !rustix::process::geteuid().is_root() {
            crate::skip!("needs root");
        }
        let (client, server) = Netns::pair().expect("a pair");
        let name = client.name().to_owned();
        let route = client.run(&format!("ip route get {SERVER}")).expect("a route");
        assert!(route.contains(CLIENT), "{route}");
        let accepted = server.enter(|| {
            let listener = std::net::TcpListener::bind((SERVER, 8080))?;
            let joined = client.enter(|| std::net::TcpStream::connect((SERVER, 8080)).is_ok());
            Ok::<_, std::io::Error>((listener.accept()?.1.ip().to_string(), joined))
        });
        let (peer, joined) = accepted.expect("enters").expect("accepts");
        assert_eq!(peer, CLIENT);
        assert!(joined.expect("enters"));
        drop((client, server));
        assert!(!std::path::Path::new("/run/netns").join(name).exists());
    }
}
