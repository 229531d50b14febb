//! [`Api`]: a Kubernetes API server of the tests' own, that lists and watches what a test
//! puts into it, and goes wrong when it is told to.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use axum::Router;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch::Sender;

use super::answer::answer;
use super::ask::Asked;
use super::store::{Key, Store};
use super::watch::End;
use crate::process::{free_port, write};

/// What a client has to show.
pub(super) const TOKEN: &str = "a-token-of-the-tests";

/// A running API server.
#[derive(Debug)]
pub struct Api {
    shared: Arc<Shared>,
    port: u16,
    runtime: Option<tokio::runtime::Runtime>,
    folder: tempfile::TempDir,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Rings when anything changes.
    pub bell: Sender<()>,
}

#[derive(Debug)]
pub(super) struct State {
    pub store: Store,
    pub bookmarks: Option<Duration>,
    /// Changes when all watches are to end, in the way of `end`.
    pub era: u64,
    pub end: End,
    delay: Duration,
    is_held: bool,
    /// How many requests are still refused, and by which status.
    refuse: (u64, u16),
    pub asked: Vec<Asked>,
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// When a change made at a time is to be told; `None`: not before it is allowed.
    pub fn due(&self, at: Instant) -> Option<Instant> {
        (!self.is_held).then(|| at + self.delay)
    }

    /// The status by which the next request is refused, if it is.
    pub fn refusal(&mut self) -> Option<u16> {
        let (left, status) = self.refuse;
        self.refuse.0 = left.saturating_sub(1);
        (left > 0).then_some(status)
    }
}

impl Api {
    /// Starts it on a port of the loopback, with nothing in it.
    pub fn start() -> Result<Self> {
        let state = State {
            store: Store::default(),
            bookmarks: Some(Duration::from_secs(1)),
            era: 0,
            end: End::default(),
            delay: Duration::ZERO,
            is_held: false,
            refuse: (0, 0),
            asked: Vec::new(),
        };
        let shared = Shared { state: Mutex::new(state), bell: Sender::new(()) };
        let folder = tempfile::tempdir()?;
        let mut api = Self { shared: Arc::new(shared), port: free_port(), runtime: None, folder };
        write(&api.kubeconfig(), &kubeconfig(api.port))?;
        api.resume()?;
        Ok(api)
    }

    /// Goes away with all its connections; what is in it stays. See [`Api::resume`].
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }

    /// Comes back on the same port.
    pub fn resume(&mut self) -> Result<()> {
        if self.runtime.is_some() {
            bail!("it runs already");
        }
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let listener = runtime.block_on(TcpListener::bind(address))?;
        let router = Router::new().fallback(answer).with_state(Arc::clone(&self.shared));
        runtime.spawn(async { axum::serve(listener, router).await });
        self.runtime = Some(runtime);
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// A kubeconfig for it.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        let folder: &Path = self.folder.path();
        folder.join("kubeconfig")
    }

    /// Creates or replaces an object; it needs `kind` and `metadata.name`. `uid`,
    /// `creationTimestamp` and `resourceVersion` are filled in.
    pub fn apply(&self, object: Value) -> Result<Key> {
        self.change(|state| state.store.apply(object))
    }

    /// Deletes an object; fails where there is none.
    pub fn delete(&self, key: &Key) -> Result<()> {
        if !self.change(|state| state.store.delete(key)) {
            bail!("there is no {key:?}");
        }
        Ok(())
    }

    /// The object as it is served.
    #[must_use]
    pub fn object(&self, key: &Key) -> Option<Value> {
        self.shared.state().store.objects.get(key).map(|object| Value::clone(object))
    }

    /// Tells changes only so long after they happen: those that are not told yet, too.
    /// Lists have them at once.
    pub fn delay(&self, delay: Duration) {
        self.change(|state| state.delay = delay);
    }

    /// Tells no changes at all (`true`), or those that were held back and all others.
    pub fn hold(&self, is_held: bool) {
        self.change(|state| state.is_held = is_held);
    }

    /// How often a watch gets a bookmark that allows them; `None`: never. Every second at first.
    pub fn bookmarks(&self, every: Option<Duration>) {
        self.change(|state| state.bookmarks = every);
    }

    /// Forgets its history: who then wants to go on from an earlier version is answered
    /// 410 Gone. Watches that are open stay.
    pub fn expire(&self) {
        self.change(|state| state.store.forget());
    }

    /// Ends every watch as if its time were over.
    pub fn end_watches(&self) {
        self.end(End::Clean);
    }

    /// Ends every watch in the middle of its answer.
    pub fn hang_up(&self) {
        self.end(End::Cut);
    }

    /// Answers the next `count` requests by a status: 403, 429, 500, …
    pub fn refuse(&self, count: u64, status: u16) {
        self.change(|state| state.refuse = (count, status));
    }

    /// The requests so far, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.state().asked.clone()
    }

    fn end(&self, end: End) {
        self.change(|state| {
            state.era += 1;
            state.end = end;
        });
    }

    fn change<T>(&self, body: impl FnOnce(&mut State) -> T) -> T {
        let result = body(&mut self.shared.state());
        self.shared.bell.send_replace(());
        result
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.stop();
    }
}

fn kubeconfig(port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: tests\n\
         clusters:\n- name: tests\n  cluster:\n    server: http://127.0.0.1:{port}\n\
         users:\n- name: meshtap\n  user:\n    token: {TOKEN}\n\
         contexts:\n- name: tests\n  context:\n    cluster: tests\n    user: meshtap\n"
    )
}
