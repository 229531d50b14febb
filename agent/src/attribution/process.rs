//! Processes by pid *and time*: who had a pid when a socket was opened.
//!
//! A pid's history is a row of lives, each from an exec (or a fork) to the next exec or
//! the exit. **Facts that were read after a life's end are never taken for that life**:
//! it then goes by the file name of its exec record, or by its task's name.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use meshtap_ebpf::event;
use meshtap_ebpf::limits::FILE_NAME;

use super::host::{Host, ProcessRecord, START_TICK_NS};
use super::{hop, program};

/// Lives remembered per pid: a shell that execs, and a reused pid, need few.
const LIVES: usize = 4;

/// What is known of a process during one life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its service name by what it runs; empty: not known.
    pub program: Arc<str>,
    /// Path of the executable, or at least its name.
    pub executable: Option<Arc<str>>,
    /// cgroup paths, that of v2 first.
    pub cgroups: Vec<Box<str>>,
    /// v2 cgroup; 0: not known.
    pub cgroup_id: u64,
    /// It only passes connections on.
    pub hop: Option<hop::Hop>,
}

#[derive(Debug)]
struct Life {
    from_ns: u64,
    until_ns: Option<u64>,
    /// When `facts` were read; 0: they were not, the record names the process.
    read_ns: u64,
    facts: Arc<Facts>,
    /// What holds where `facts` turn out to be another life's.
    named: Arc<Facts>,
}

impl Life {
    /// The life ended at `end_ns`; what was read after that is not about it.
    fn end(&mut self, end_ns: u64) -> bool {
        if self.until_ns.is_none() {
            self.until_ns = Some(end_ns);
        }
        let wrong = self.read_ns >= end_ns;
        if wrong {
            self.read_ns = 0;
            self.facts = Arc::clone(&self.named);
        }
        wrong
    }
}

/// Bounded memory of processes.
#[derive(Debug)]
pub struct Processes {
    pids: LruCache<u32, Vec<Life>, ahash::RandomState>,
    ended: VecDeque<(u64, u32)>,
    unknown: Arc<Facts>,
    evicted: u64,
    revision: u64,
}

impl Processes {
    /// At most `bound` pids.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        let bound = NonZeroUsize::new(bound).unwrap_or(NonZeroUsize::MIN);
        Self {
            pids: LruCache::with_hasher(bound, ahash::RandomState::new()),
            ended: VecDeque::new(),
            unknown: Arc::new(Facts::default()),
            evicted: 0,
            revision: 0,
        }
    }

    /// A process became another program: its facts are read while it lives.
    /// Returns them, for what else they teach.
    pub fn exec(&mut self, record: &event::Exec, file: &[u8], host: &dyn Host) -> Arc<Facts> {
        let (pid, at_ns) = (record.owner.pid, record.header.time_ns);
        let named = Arc::new(from_exec(record, file));
        let read = host.process(pid).filter(|read| read.started_ns <= at_ns);
        let (read_ns, facts) = match read {
            Some(read) if is_whole(&read) => (read.read_ns, Arc::new(from_record(&read))),
            Some(read) => {
                // It is being taken down: where it belongs is still told.
                let (cgroups, cgroup_id) = (paths(&read), read.cgroup_id);
                (read.read_ns, Arc::new(Facts { cgroups, cgroup_id, ..Facts::clone(&named) }))
            }
            None => (0, Arc::clone(&named)),
        };
        let life = Life { from_ns: at_ns, until_ns: None, read_ns, facts, named };
        let facts = Arc::clone(&life.facts);
        if let Some(last) = self.pids.get_mut(&pid).and_then(|lives| lives.last_mut())
            && last.end(at_ns)
        {
            self.revision += 1;
        }
        self.begin(pid, life);
        facts
    }

    fn begin(&mut self, pid: u32, life: Life) {
        if let Some(lives) = self.pids.get_mut(&pid) {
            if lives.len() >= LIVES {
                lives.remove(0);
            }
            lives.push(life);
            return;
        }
        if self.pids.push(pid, vec![life]).is_some() {
            self.evicted += 1;
        }
    }

    /// A process ended; it is remembered for records that come late.
    pub fn exit(&mut self, record: &event::Exit) {
        let at_ns = record.header.time_ns;
        let Some(last) = self.pids.get_mut(&record.pid).and_then(|lives| lives.last_mut()) else {
            return;
        };
        if last.from_ns > at_ns || last.until_ns.is_some() {
            return;
        }
        // What is read between the exit record and the end of the memory map is still
        // the process's own; a later owner of the pid has a later start, which
        // `exec` and `at` refuse. So only the interval ends here.
        last.until_ns = Some(at_ns);
        self.ended.push_back((at_ns, record.pid));
        if self.ended.len() > self.pids.cap().get()
            && let Some(&(oldest_ns, _)) = self.ended.front()
        {
            self.sweep(oldest_ns.saturating_add(1));
        }
    }

    /// What `owner` was at `at_ns`. Reads `/proc` where nothing is known yet.
    pub fn at(&mut self, owner: &event::Owner, at_ns: u64, host: &dyn Host) -> Arc<Facts> {
        if owner.pid == 0 {
            return Arc::clone(&self.unknown);
        }
        let mut replaced = false;
        if let Some(lives) = self.pids.get(&owner.pid) {
            let covers = |life: &&Life| {
                life.from_ns <= at_ns && life.until_ns.is_none_or(|until| at_ns <= until)
            };
            if let Some(life) = lives.iter().rev().find(covers) {
                return Arc::clone(&life.facts);
            }
            replaced = lives.iter().any(|life| life.from_ns > at_ns);
        }
        let named = Arc::new(from_comm(&owner.comm));
        if replaced {
            return named;
        }
        let Some(read) = host.process(owner.pid).filter(|read| is_same(read, owner, at_ns)) else {
            return named;
        };
        let facts = Arc::new(from_record(&read));
        let from_ns = read.started_ns.min(at_ns);
        self.begin(
            owner.pid,
            Life {
                from_ns,
                until_ns: None,
                read_ns: read.read_ns,
                facts: Arc::clone(&facts),
                named,
            },
        );
        facts
    }

    /// Forgets processes that ended before `before_ns`.
    pub fn sweep(&mut self, before_ns: u64) {
        while let Some(&(ended_ns, pid)) = self.ended.front() {
            if ended_ns >= before_ns {
                break;
            }
            self.ended.pop_front();
            let empty = self.pids.peek_mut(&pid).is_some_and(|lives| {
                lives.retain(|life| life.until_ns.is_none_or(|until| until >= before_ns));
                lives.is_empty()
            });
            if empty {
                self.pids.pop(&pid);
            }
        }
    }

    /// Grows whenever facts given out before turn out to be another life's.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Pids held, and the bound.
    #[must_use]
    pub fn occupancy(&self) -> (usize, usize) {
        (self.pids.len(), self.pids.cap().get())
    }

    /// Pids forgotten for want of room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

/// Whether what `/proc` shows is the process that the record meant.
fn is_same(read: &ProcessRecord, owner: &event::Owner, at_ns: u64) -> bool {
    if !is_whole(read) || read.started_ns > at_ns {
        return false;
    }
    // Within the start's own precision only the task's name tells a successor.
    read.started_ns + START_TICK_NS <= at_ns || read.comm == comm(&owner.comm)
}

/// Whether the process has its memory still, from which `/proc` tells what it runs.
fn is_whole(read: &ProcessRecord) -> bool {
    read.executable.is_some() && !read.arguments.is_empty()
}

fn paths(read: &ProcessRecord) -> Vec<Box<str>> {
    read.cgroups.iter().map(|path| path.as_str().into()).collect()
}

fn from_record(read: &ProcessRecord) -> Facts {
    let executable = read.executable.as_deref().unwrap_or(&read.comm);
    Facts {
        program: program::name(executable, &read.arguments).into(),
        executable: Some(executable.strip_suffix(" (deleted)").unwrap_or(executable).into()),
        cgroups: paths(read),
        cgroup_id: read.cgroup_id,
        hop: hop::detect(executable, &read.arguments),
    }
}

/// The process was gone before it could be read: its file name is all there is.
fn from_exec(record: &event::Exec, file: &[u8]) -> Facts {
    let text = String::from_utf8_lossy(file);
    let path = text.trim_end_matches('\0');
    let by_descriptor = path.starts_with("/dev/fd/") || path.starts_with("/proc/self/fd/");
    if path.is_empty() || by_descriptor || file.len() >= FILE_NAME {
        return from_comm(&record.owner.comm);
    }
    Facts {
        program: program::file_name(path).into(),
        executable: Some(path.into()),
        hop: hop::detect(path, &[]),
        ..Facts::default()
    }
}

fn from_comm(bytes: &[u8; 16]) -> Facts {
    let name = comm(bytes);
    // systemd's children between fork and exec: `(sd-listen)`.
    if name.is_empty() || name.starts_with('(') {
        return Facts::default();
    }
    Facts {
        program: program::file_name(&name).into(),
        executable: Some(name.as_str().into()),
        hop: hop::detect(&name, &[]),
        ..Facts::default()
    }
}

fn comm(bytes: &[u8; 16]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests;
