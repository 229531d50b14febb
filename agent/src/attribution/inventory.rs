//! [`Inventory`]: the TCP sockets that were there before the agent, and who holds them.
//!
//! One `sock_diag` dump in each network namespace that a process is in, then one pass
//! over the descriptors of all processes. Taken once, at start, never on a timer.
//! **Bounded** by [`Bounds`]; what was left out is counted.

mod descriptors;
pub mod diag;

pub(super) use descriptors::{namespaces, processes};

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::time::{ClockId, clock_gettime};

use crate::protocol::Side;

/// How much is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Sockets, listeners included.
    pub sockets: usize,
    /// Network namespaces.
    pub namespaces: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { sockets: 65_536, namespaces: 1_024 }
    }
}

/// A connection that was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalSocket {
    /// As in the records of the kernel half.
    pub cookie: u64,
    /// v2 cgroup id; 0: this kernel does not tell (before 5.8).
    pub cgroup: u64,
    /// Inode of the network namespace.
    pub namespace: u64,
    /// This end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// A process that holds it; 0: none was found.
    pub pid: u32,
    /// User id in the initial user namespace.
    pub uid: u32,
    /// Server where its namespace has a listener on the local port, else client.
    pub role: Option<Side>,
}

/// A socket that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Inode of the network namespace.
    pub namespace: u64,
    /// v2 cgroup id; 0: this kernel does not tell (before 5.8).
    pub cgroup: u64,
    /// Where.
    pub local: SocketAddr,
    /// The processes that hold it, ascending.
    pub holders: Vec<u32>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// `CLOCK_MONOTONIC` when the descriptors had been read.
    pub taken_ns: u64,
    /// Connections.
    pub sockets: Vec<LocalSocket>,
    /// Listeners.
    pub listeners: Vec<Listener>,
    /// Sockets and namespaces beyond the bounds.
    pub left_out: u64,
    /// Namespaces that could not be read, with the reason.
    pub unreadable: Vec<String>,
}

/// Why there is no inventory.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// `/proc` cannot be listed.
    #[error("{0} cannot be listed ({1}); mount the host's /proc there or set its place")]
    Proc(PathBuf, std::io::Error),
    /// The thread that enters the namespaces could not be made.
    #[error("no thread to enter network namespaces ({0}); raise the limit of tasks")]
    Thread(std::io::Error),
}

/// Takes the inventory of the host whose `/proc` is `proc`.
///
/// # Errors
/// [`InventoryError`] where nothing at all can be read; what fails for one namespace
/// stands in [`Inventory::unreadable`].
pub fn take(proc: &Path, bounds: Bounds) -> Result<Inventory, InventoryError> {
    let found = namespaces(proc).map_err(|error| InventoryError::Proc(proc.to_owned(), error))?;
    let mut inventory = Inventory {
        left_out: found.len().saturating_sub(bounds.namespaces) as u64,
        ..Inventory::default()
    };
    // A thread of its own: it never comes back to the namespace it started in.
    let dumps = std::thread::Builder::new()
        .name("inventory".to_owned())
        .spawn(move || {
            let entered = found.into_iter().take(bounds.namespaces);
            entered.map(|(inode, path)| (inode, diag::dump_in(&path))).collect::<Vec<_>>()
        })
        .map_err(InventoryError::Thread)?
        .join()
        .unwrap_or_default();
    let mut rows = Vec::new();
    for (namespace, dump) in dumps {
        match dump {
            Ok(dumped) => rows.extend(dumped.into_iter().map(|row| (namespace, row))),
            Err(error) => {
                inventory.unreadable.push(format!("network namespace {namespace}: {error}"));
            }
        }
    }
    inventory.left_out += rows.len().saturating_sub(bounds.sockets) as u64;
    // Listeners first: roles hang on them.
    rows.sort_by_key(|(_, row)| !row.listens);
    rows.truncate(bounds.sockets);
    let wanted: HashSet<u64> =
        rows.iter().map(|(_, row)| row.inode).filter(|inode| *inode != 0).collect();
    let holders = descriptors::holders(proc, &wanted);
    inventory.taken_ns = now();
    assemble(&mut inventory, &rows, &holders);
    Ok(inventory)
}

fn assemble(
    inventory: &mut Inventory,
    rows: &[(u64, diag::Row)],
    holders: &HashMap<u64, Vec<u32>>,
) {
    let none = Vec::new();
    let ports: HashSet<(u64, u16)> = rows
        .iter()
        .filter(|(_, row)| row.listens)
        .map(|(namespace, row)| (*namespace, row.local.port()))
        .collect();
    for (namespace, row) in rows {
        let holders = holders.get(&row.inode).unwrap_or(&none);
        if row.listens {
            let holders = holders.clone();
            let (namespace, cgroup, local) = (*namespace, row.cgroup, row.local);
            inventory.listeners.push(Listener { namespace, cgroup, local, holders });
            continue;
        }
        let serves = ports.contains(&(*namespace, row.local.port()));
        inventory.sockets.push(LocalSocket {
            cookie: row.cookie,
            cgroup: row.cgroup,
            namespace: *namespace,
            local: row.local,
            remote: row.remote,
            pid: holder(holders),
            uid: row.uid,
            role: Some(if serves { Side::Server } else { Side::Client }),
        });
    }
}

/// One holder for all: of a service manager and a service the service, of a parent and
/// its children the parent.
fn holder(holders: &[u32]) -> u32 {
    holders.iter().copied().find(|pid| *pid != 1).or(holders.first().copied()).unwrap_or(0)
}

/// The processes that hold a listener on `local`, or on its port of any address, in the
/// agent's own network namespace.
#[must_use]
pub fn listener_holders(proc: &Path, local: SocketAddr) -> Vec<u32> {
    let Ok(rows) = diag::dump(true) else { return Vec::new() };
    let inodes: HashSet<u64> = rows
        .iter()
        .filter(|row| row.local.port() == local.port())
        .filter(|row| row.local.ip() == local.ip() || row.local.ip().is_unspecified())
        .map(|row| row.inode)
        .collect();
    let mut pids: Vec<u32> = descriptors::holders(proc, &inodes).into_values().flatten().collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests;
