//! One watch a kind of objects, each a task that ends when nobody wants changes any more.

use std::fmt::Debug;
use std::sync::Arc;

use futures_util::{StreamExt, pin_mut};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;

use super::object::{
    EndpointSliceObject, NamespaceObject, NodeObject, PodObject, Reading, ServiceObject,
    USE_WAYPOINT, Watched, now_ns,
};
use super::{WatchSettings, spread};
use crate::attribution::cluster::{Change, ObjectKind};

/// Objects of one page of a list.
const PAGE: u32 = 500;
/// The place that a watch was to go on from is forgotten: HTTP's status.
const GONE: u16 = 410;

/// Starts all watches.
pub(super) fn spawn(client: &Client, settings: &WatchSettings, changes: &Sender<Change>) {
    let all = watcher::Config::default().page_size(PAGE);
    let pods = match &settings.only_node {
        Some(node) => all.clone().fields(&format!("spec.nodeName={node}")),
        None => all.clone(),
    };
    let reading = Reading { well_known_labels: settings.well_known_labels };
    one::<PodObject>(client, pods, reading, changes);
    one::<ServiceObject>(client, all.clone(), reading, changes);
    one::<EndpointSliceObject>(client, all.clone(), reading, changes);
    if settings.namespaces {
        // Of most clusters none: whichever loses the label is told of as if it were gone.
        let labelled = all.clone().labels(USE_WAYPOINT);
        one::<NamespaceObject>(client, labelled, reading, changes);
    }
    one::<NodeObject>(client, all, reading, changes);
}

fn one<K>(client: &Client, config: watcher::Config, reading: Reading, changes: &Sender<Change>)
where
    K: Resource<DynamicType = ()> + Watched + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let answered = Arc::new(Notify::new());
    let api: Api<K> = Api::all(overheard(client, &answered));
    let changes = changes.clone();
    tokio::spawn(async move {
        tokio::time::sleep(spread()).await;
        let stream = watcher(api, config);
        pin_mut!(stream);
        let mut telling = Telling { kind: K::KIND, answers: None };
        let mut pauses = watcher::DefaultBackoff::default();
        loop {
            // A watch that goes on from where it was gives nothing until something changes.
            let event = tokio::select! {
                biased;
                event = stream.next() => event,
                () = answered.notified(), if telling.answers != Some(true) => None,
            };
            let pause = match &event {
                Some(Err(_)) => pauses.next(),
                // A list begins before it is asked for, and with each attempt anew.
                Some(Ok(watcher::Event::Init)) | None => None,
                Some(Ok(_)) => {
                    pauses.reset();
                    None
                }
            };
            let mut next = Vec::with_capacity(2);
            next.extend(telling.hears(event.as_ref()));
            next.extend(event.and_then(Result::ok).and_then(|event| change(event, reading)));
            for change in next {
                if changes.send(change).await.is_err() {
                    return;
                }
            }
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
    });
}

/// The same client; whoever waits for it is told of each request that was answered well.
fn overheard(client: &Client, answered: &Arc<Notify>) -> Client {
    let (client, answered) = (client.clone(), Arc::clone(answered));
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request| {
        let (client, answered) = (client.clone(), Arc::clone(&answered));
        async move {
            let answer = client.send(request).await?;
            if answer.status().is_success() {
                answered.notify_waiters();
            }
            Ok::<_, kube::Error>(answer)
        }
    });
    Client::new(service, namespace)
}

/// Whether a kind of objects is told of; says what is new of that.
struct Telling {
    kind: ObjectKind,
    /// `None`: it is not known yet.
    answers: Option<bool>,
}

impl Telling {
    /// Takes an event, or none where a request was answered. Gives what is new to those who
    /// wait for names: pods name most, without them no name is worth waiting for.
    fn hears<K>(&mut self, event: Option<&watcher::Result<watcher::Event<K>>>) -> Option<Change> {
        let before = self.answers;
        match event {
            Some(Ok(watcher::Event::Init)) => {}
            // It answers, and what it has forgotten is in the list that comes next.
            Some(Err(watcher::Error::WatchError(status))) if status.code == GONE => {
                tracing::debug!("Kubernetes has forgotten: {}", status.message);
            }
            Some(Err(error)) => {
                complain(self.kind, error, before != Some(false));
                self.answers = Some(false);
            }
            Some(Ok(_)) | None => {
                if before == Some(false) {
                    tracing::info!("Kubernetes tells of {} again", plural(self.kind));
                }
                self.answers = Some(true);
            }
        }
        let is_new = self.kind == ObjectKind::Pod && self.answers != before;
        self.answers.filter(|_| is_new).map(Change::Reachable)
    }
}

fn change<K: Watched + Resource>(event: watcher::Event<K>, reading: Reading) -> Option<Change> {
    Some(match event {
        watcher::Event::Init => Change::ListBegun(K::KIND),
        watcher::Event::InitDone => Change::ListComplete(K::KIND, now_ns()),
        watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
            Change::Applied(Box::new(object.read(reading)?))
        }
        watcher::Event::Delete(object) => {
            let uid = object.meta().uid.as_deref()?;
            Change::Deleted(K::KIND, Arc::from(uid), now_ns())
        }
    })
}

/// Says once, until it works again, that something cannot be watched.
fn complain(kind: ObjectKind, error: &watcher::Error, is_new: bool) {
    let what = plural(kind);
    if is_new && kind == ObjectKind::Namespace {
        tracing::warn!(
            "Kubernetes does not tell of {what} ({}); metrics in Istio's shape are held back for what may pass a waypoint; it is asked again",
            reason(error)
        );
    } else if is_new {
        tracing::warn!(
            "Kubernetes does not tell of {what} ({}); names are as they were last known, then by container and address; it is asked again",
            reason(error)
        );
    } else {
        tracing::debug!("Kubernetes does not tell of {what}: {error}");
    }
}

/// The innermost cause, which says most.
fn reason(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn plural(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Pod => "pods",
        ObjectKind::Service => "services",
        ObjectKind::Endpoints => "endpoint slices",
        ObjectKind::Node => "nodes",
        ObjectKind::Namespace => "namespaces",
    }
}
