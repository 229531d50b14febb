//! One watch a kind of objects, each a task that ends when nobody wants changes any more.

use std::fmt::Debug;
use std::sync::Arc;

use futures_util::{StreamExt, pin_mut};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::Sender;

use super::object::{
    EndpointSliceObject, NamespaceObject, NodeObject, PodObject, Reading, ServiceObject,
    USE_WAYPOINT, Watched, now_ns,
};
use super::{WatchSettings, spread};
use crate::attribution::cluster::{Change, ObjectKind};

/// Objects of one page of a list.
const PAGE: u32 = 500;

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
    let api: Api<K> = Api::all(client.clone());
    let changes = changes.clone();
    tokio::spawn(async move {
        tokio::time::sleep(spread()).await;
        let stream = watcher(api, config).default_backoff();
        pin_mut!(stream);
        let mut answers = None;
        while let Some(event) = stream.next().await {
            let is_answer = event.is_ok();
            if let Err(error) = &event {
                complain(K::KIND, error, answers == Some(true) || answers.is_none());
            } else if answers == Some(false) {
                tracing::info!("Kubernetes tells of {} again", plural(K::KIND));
            }
            let mut next = Vec::with_capacity(2);
            // Pods name most; without them no name is worth waiting for.
            if K::KIND == ObjectKind::Pod && answers != Some(is_answer) {
                next.push(Change::Reachable(is_answer));
            }
            answers = Some(is_answer);
            next.extend(event.ok().and_then(|event| change(event, reading)));
            for change in next {
                if changes.send(change).await.is_err() {
                    return;
                }
            }
        }
    });
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
