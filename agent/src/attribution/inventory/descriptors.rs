//! One pass over `/proc`: the network namespaces that processes are in, and who holds
//! which socket.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Holders remembered per socket: a pool of workers shares its listener.
const HOLDERS: usize = 64;

/// Every distinct network namespace, by inode, with a path to enter it.
///
/// # Errors
/// Where `proc` cannot be listed.
pub(in crate::attribution) fn namespaces(proc: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut found = BTreeMap::new();
    for (_, directory) in processes(proc)? {
        let path = directory.join("ns/net");
        if let Ok(namespace) = fs::metadata(&path) {
            found.entry(namespace.ino()).or_insert(path);
        }
    }
    Ok(found)
}

/// Who holds the sockets `wanted`, by inode; pids ascend.
pub(super) fn holders(proc: &Path, wanted: &HashSet<u64>) -> HashMap<u64, Vec<u32>> {
    let mut found: HashMap<u64, Vec<u32>> = HashMap::new();
    if wanted.is_empty() {
        return found;
    }
    let mut listed = processes(proc).unwrap_or_default();
    listed.sort_unstable_by_key(|(pid, _)| *pid);
    for (pid, directory) in listed {
        let Ok(descriptors) = fs::read_dir(directory.join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let Some(inode) = fs::read_link(descriptor.path()).ok().and_then(|link| socket(&link))
            else {
                continue;
            };
            if !wanted.contains(&inode) {
                continue;
            }
            let pids = found.entry(inode).or_default();
            if pids.last() != Some(&pid) && pids.len() < HOLDERS {
                pids.push(pid);
            }
        }
    }
    found
}

/// Every process that is there, with its directory.
///
/// # Errors
/// Where `proc` cannot be listed.
pub(in crate::attribution) fn processes(proc: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let entries = fs::read_dir(proc)?;
    Ok(entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect())
}

/// The inode of `socket:[12345]`.
fn socket(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}
