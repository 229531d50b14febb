//! [`Inbound`]: the connections that proxies have accepted, by which the clients behind a
//! proxy are told where its own connection to the application hides them.

use std::collections::HashMap;
use std::sync::Arc;

use super::account;
use crate::attribution::call::Identity;
use crate::attribution::connection::{Connection, Connections};
use crate::protocol::Text;

/// Connections of proxies that are followed.
const CONNECTIONS: usize = 65_536;
/// Answers that are kept: one for each proxy and principal.
const ANSWERS: usize = 8_192;

/// What was asked about a proxy's clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    pid: u32,
    /// By its certificate; `None`: by no certificate, in plain text.
    principal: Option<Text>,
}

#[derive(Debug, Default)]
struct Proxy {
    accepted: Vec<u64>,
    /// Grows with every change of the row.
    version: u64,
}

/// Accepted connections by the proxy's process.
#[derive(Debug, Default)]
pub struct Inbound {
    proxies: HashMap<u32, Proxy, ahash::RandomState>,
    answers: HashMap<Question, (u64, u64, Option<Arc<Identity>>), ahash::RandomState>,
    held: usize,
    evicted: u64,
}

impl Inbound {
    /// A proxy has accepted a connection.
    pub fn accepted(&mut self, pid: u32, cookie: u64) {
        if self.held >= CONNECTIONS {
            self.evicted += 1;
            return;
        }
        let proxy = self.proxies.entry(pid).or_default();
        if proxy.accepted.contains(&cookie) {
            return;
        }
        proxy.accepted.push(cookie);
        proxy.version += 1;
        self.held += 1;
    }

    /// Something became known of one of a proxy's connections.
    pub fn changed(&mut self, pid: u32) {
        if let Some(proxy) = self.proxies.get_mut(&pid) {
            proxy.version += 1;
        }
    }

    /// Forgets connections that are forgotten.
    pub fn sweep(&mut self, connections: &Connections) {
        if self.held == 0 {
            return;
        }
        self.proxies.retain(|_, proxy| {
            let before = proxy.accepted.len();
            proxy.accepted.retain(|cookie| connections.get(*cookie).is_some());
            proxy.version += u64::from(before != proxy.accepted.len());
            !proxy.accepted.is_empty()
        });
        self.held = self.proxies.values().map(|proxy| proxy.accepted.len()).sum();
        if self.answers.len() > ANSWERS / 2 {
            self.answers.retain(|question, _| self.proxies.contains_key(&question.pid));
        }
    }

    /// Connections that a proxy has accepted.
    #[must_use]
    pub fn of(&self, pid: u32) -> Vec<u64> {
        self.proxies.get(&pid).map_or_else(Vec::new, |proxy| proxy.accepted.clone())
    }

    /// The answer of [`Inbound::client`], where nothing has changed since it was given.
    #[must_use]
    pub fn answer(
        &self,
        pid: u32,
        principal: Option<&Text>,
        revision: u64,
    ) -> Option<Option<Arc<Identity>>> {
        let version = self.proxies.get(&pid)?.version;
        let (at, of, answer) =
            self.answers.get(&Question { pid, principal: principal.cloned() })?;
        ((*at, *of) == (version, revision)).then(|| answer.clone())
    }

    /// The one workload that speaks to the proxy under a principal, or in plain text;
    /// `revision` is the state of knowledge that names rest on. `None`: nobody, or several.
    pub fn client(
        &mut self,
        pid: u32,
        principal: Option<&Text>,
        revision: u64,
        connections: &Connections,
    ) -> Option<Arc<Identity>> {
        if let Some(answer) = self.answer(pid, principal, revision) {
            return answer;
        }
        let proxy = self.proxies.get(&pid)?;
        let question = Question { pid, principal: principal.cloned() };
        let seen = proxy.accepted.iter().filter_map(|cookie| connections.get(*cookie));
        let answer = only(seen.filter(|seen| may_carry(seen, principal)));
        if self.answers.len() >= ANSWERS {
            self.answers.clear();
        }
        self.answers.insert(question, (proxy.version, revision, answer.clone()));
        answer
    }

    /// Ports of the pod at which a proxy has accepted connections.
    pub fn ports(&self, pid: u32, of: &Connection, connections: &Connections) -> Vec<u16> {
        let Some(local) = of.local() else { return Vec::new() };
        let Some(proxy) = self.proxies.get(&pid) else { return Vec::new() };
        let mut ports: Vec<u16> = (proxy.accepted.iter())
            .filter_map(|cookie| connections.get(*cookie)?.local())
            .filter(|seen| seen.ip() == local.ip())
            .map(|seen| seen.port())
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Connections held, and the bound.
    #[must_use]
    pub fn occupancy(&self) -> (usize, usize) {
        (self.held, CONNECTIONS)
    }

    /// Connections that found no room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

/// Whether requests under a principal may have come by a connection: what is encrypted
/// shows no request, and who has a certificate belongs to its account.
fn may_carry(seen: &Connection, principal: Option<&Text>) -> bool {
    let is_plain = seen.first_seen.is_some();
    let from_outside = seen.remotes().any(|remote| !remote.ip().is_loopback());
    // Of a connection older than the agent it may not have been seen what it speaks.
    let Some(principal) = principal else { return from_outside && (is_plain || seen.late) };
    let fits = match (account(principal.as_str()), &seen.remote.workload) {
        (Some((namespace, account)), Some(workload)) => {
            *workload.namespace == *namespace && *workload.account == *account
        }
        _ => false,
    };
    from_outside && !is_plain && fits
}

fn only<'a>(mut seen: impl Iterator<Item = &'a Connection>) -> Option<Arc<Identity>> {
    let first = &seen.next()?.remote;
    seen.all(|other| Arc::ptr_eq(&other.remote, first)).then(|| Arc::clone(first))
}
