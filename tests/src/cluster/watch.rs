//! One watch: the changes from a version on as lines, bookmarks between them, and its end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::api::{Shared, State};
use super::ask::Ask;
use super::status::too_old;
use super::store::Change;

/// How long a watch lasts that does not say so itself.
const LONGEST: Duration = Duration::from_secs(1800);

/// How watches end that the server ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// As after `timeoutSeconds`: the answer is whole.
    #[default]
    Clean,
    /// In the middle of the answer.
    Cut,
}

/// The lines of a watch as the body of an answer.
pub(super) struct Lines(mpsc::Receiver<io::Result<Bytes>>);

impl Body for Lines {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| line.map(Frame::data)))
    }
}

struct Watch {
    ask: Ask,
    /// What was told already.
    version: u64,
    /// The lines that it begins with.
    first: Vec<Bytes>,
    /// When the server ends watches, this number changes.
    era: u64,
    /// It wanted to go on from a version that is forgotten: the first line says so.
    is_late: bool,
    ends: Instant,
    bookmarked: Instant,
}

/// What is to be done now.
struct Step {
    lines: Vec<Bytes>,
    end: Option<End>,
    /// When to look again, if nothing happens before.
    wake: Instant,
}

/// Begins a watch of what there is, and goes on as `shared` tells.
pub(super) fn begin(state: &State, shared: Arc<Shared>, ask: Ask) -> Lines {
    let (sender, receiver) = mpsc::channel(16);
    let mut bell = shared.bell.subscribe();
    let mut watch = Watch::new(state, ask);
    tokio::spawn(async move {
        loop {
            let step = watch.step(&shared.state());
            for line in step.lines {
                if sender.send(Ok(line)).await.is_err() {
                    return;
                }
            }
            match step.end {
                Some(End::Clean) => return,
                Some(End::Cut) => {
                    let error = io::Error::from(io::ErrorKind::ConnectionAborted);
                    drop(sender.send(Err(error)).await);
                    return;
                }
                None => {}
            }
            tokio::select! {
                changed = bell.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(step.wake.into()) => {}
                () = sender.closed() => return,
            }
        }
    });
    Lines(receiver)
}

impl Watch {
    fn new(state: &State, ask: Ask) -> Self {
        let now = Instant::now();
        let longest = ask.number("timeoutSeconds").map_or(LONGEST, Duration::from_secs);
        // Without a version, or from any: what there is, and then what happens.
        let from = ask.number("resourceVersion").filter(|version| *version > 0);
        let is_list = ask.says("sendInitialEvents");
        let version = match from {
            Some(version) if !is_list => version,
            _ => state.store.version,
        };
        let oldest = state.store.forgotten;
        let mut watch = Self {
            ask,
            version,
            first: Vec::new(),
            era: state.era,
            is_late: version < oldest,
            ends: now + longest,
            bookmarked: now,
        };
        if watch.is_late {
            watch.first.push(line("ERROR", &too_old(version, oldest)));
            return watch;
        }
        if is_list || from.is_none() {
            let objects = state.store.objects.values().filter(|object| watch.ask.selects(object));
            watch.first = objects.map(|object| line("ADDED", object)).collect();
        }
        if is_list {
            watch.first.push(watch.bookmark(json!({ "k8s.io/initial-events-end": "true" })));
        }
        watch
    }

    fn step(&mut self, state: &State) -> Step {
        let now = Instant::now();
        let mut step = Step { lines: std::mem::take(&mut self.first), end: None, wake: self.ends };
        if state.era != self.era || self.is_late {
            step.end = Some(if self.is_late { End::Clean } else { state.end });
            return step;
        }
        for change in state.store.since(self.version) {
            match state.due(change.at) {
                Some(due) if due <= now => {}
                // Held back, and all that follows: order is kept.
                Some(due) => {
                    step.wake = step.wake.min(due);
                    break;
                }
                None => break,
            }
            step.lines.extend(self.event(change));
            self.version = change.version;
        }
        self.bookmark_if_due(state, now, &mut step);
        if now >= self.ends {
            step.end = Some(End::Clean);
        }
        step
    }

    fn bookmark_if_due(&mut self, state: &State, now: Instant, step: &mut Step) {
        let Some(every) = state.bookmarks else { return };
        if !self.ask.says("allowWatchBookmarks") {
            return;
        }
        if now >= self.bookmarked + every {
            self.bookmarked = now;
            // Changes of other kinds count as well, but none that is still held back.
            if state.store.since(self.version).is_empty() {
                self.version = self.version.max(state.store.version);
            }
            step.lines.push(self.bookmark(json!({})));
        }
        step.wake = step.wake.min(self.bookmarked + every);
    }

    fn bookmark(&self, annotations: Value) -> Bytes {
        let resource = self.ask.resource;
        let mut metadata = json!({
            "resourceVersion": self.version.to_string(), "creationTimestamp": null
        });
        if annotations.as_object().is_some_and(|annotations| !annotations.is_empty()) {
            metadata["annotations"] = annotations;
        }
        line(
            "BOOKMARK",
            &json!({
                "kind": resource.kind(), "apiVersion": resource.version(), "metadata": metadata
            }),
        )
    }

    /// What a change is to this watch: an object that is not selected any more has gone.
    fn event(&self, change: &Change) -> Option<Bytes> {
        if change.resource != self.ask.resource {
            return None;
        }
        let selected =
            |object: &Option<Arc<Value>>| object.clone().filter(|object| self.ask.selects(object));
        match (selected(&change.before), selected(&change.after)) {
            (None, Some(after)) => Some(line("ADDED", &after)),
            (Some(_), Some(after)) => Some(line("MODIFIED", &after)),
            (Some(before), None) => {
                let mut last = Value::clone(&before);
                last["metadata"]["resourceVersion"] = change.version.to_string().into();
                Some(line("DELETED", &last))
            }
            (None, None) => None,
        }
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    let mut text = json!({ "type": kind, "object": object }).to_string();
    text.push('\n');
    Bytes::from(text)
}
