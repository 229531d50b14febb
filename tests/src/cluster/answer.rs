//! One request and its answer: an object, a list or a page of it, a watch, or a refusal.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State as Extracted};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use serde_json::{Value, json};

use super::api::{Shared, State, TOKEN};
use super::ask::{Ask, Asked, Verb};
use super::status::failure;
use super::store::{Key, Store};
use super::watch;

/// Answers whatever is asked.
pub(super) async fn answer(
    Extracted(shared): Extracted<Arc<Shared>>,
    method: Method,
    uri: Uri,
    query: Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if uri.path() == "/version" {
        return of_json(200, &json!({ "major": "1", "minor": "37", "gitVersion": "v1.37.2" }));
    }
    let Some(ask) = Ask::parse(uri.path(), query.0) else {
        return of_json(404, &failure(404, "the server could not find the requested resource"));
    };
    let mut state = shared.state();
    let (status, object) = respond(&mut state, &ask, &method, &headers);
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    state.asked.push(Asked {
        verb: ask.verb,
        resource: ask.resource,
        namespace: ask.namespace.clone(),
        query: ask.query.clone(),
        agent: agent.to_owned(),
        status,
    });
    match object {
        Some(object) => of_json(status, &object),
        // Under the same lock: a watch that was asked for misses nothing from then on.
        None => response(status, Body::new(watch::begin(&state, Arc::clone(&shared), ask))),
    }
}

/// Status and object of the answer; no object where it is a watch.
fn respond(
    state: &mut State,
    ask: &Ask,
    method: &Method,
    headers: &HeaderMap,
) -> (u16, Option<Value>) {
    let refuse = |status: u16, message: &str| (status, Some(failure(status, message)));
    if let Some(status) = state.refusal() {
        return refuse(status, "refused by the test");
    }
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if token.and_then(|token| token.strip_prefix("Bearer ")) != Some(TOKEN) {
        return refuse(401, "Unauthorized");
    }
    if method != Method::GET {
        return refuse(405, "only GET is answered");
    }
    match ask.verb {
        Verb::Watch => (200, None),
        Verb::List => list(&state.store, ask),
        Verb::Get => {
            let (resource, namespace, name) =
                (ask.resource, ask.namespace.clone(), ask.name.clone());
            match state.store.objects.get(&Key { resource, namespace, name }) {
                Some(object) => (200, Some(Value::clone(object))),
                None => refuse(404, &format!("{} \"{}\" not found", resource.name(), ask.name)),
            }
        }
    }
}

/// A list, or a page of it. The token for the next one has the version of the first page,
/// so that a watch goes on from there, and the last object that was given.
fn list(store: &Store, ask: &Ask) -> (u16, Option<Value>) {
    let token = ask.query.get("continue").and_then(|token| {
        let mut parts = token.splitn(3, '/');
        let version: u64 = parts.next()?.parse().ok()?;
        let (namespace, name) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        Some((version, Key { resource: ask.resource, namespace, name }))
    });
    let (version, last) =
        token.map_or((store.version, None), |(version, key)| (version, Some(key)));
    if version < store.forgotten {
        return (410, Some(failure(410, "The provided continue parameter is too old")));
    }
    let limit = ask.number("limit").filter(|limit| *limit > 0);
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let from = last.as_ref().map_or(Unbounded, Excluded);
    let mut rest =
        store.objects.range::<Key, _>((from, Unbounded)).filter(|(_, object)| ask.selects(object));
    let page: Vec<(&Key, &Arc<Value>)> = rest.by_ref().take(limit).collect();
    let mut metadata = json!({ "resourceVersion": version.to_string() });
    let left = rest.count();
    if let (Some((key, _)), true) = (page.last(), left > 0) {
        metadata["continue"] = format!("{version}/{}/{}", key.namespace, key.name).into();
        metadata["remainingItemCount"] = left.into();
    }
    let items: Vec<Value> = page.into_iter().map(|(_, object)| item(object)).collect();
    let kind = format!("{}List", ask.resource.kind());
    let version = ask.resource.version();
    let list = json!({ "kind": kind, "apiVersion": version, "metadata": metadata, "items": items });
    (200, Some(list))
}

/// An object in a list: the list says of what kind it is.
fn item(object: &Value) -> Value {
    let mut item = object.clone();
    if let Some(fields) = item.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    item
}

fn of_json(status: u16, object: &Value) -> Response {
    response(status, Body::from(object.to_string()))
}

fn response(status: u16, body: Body) -> Response {
    let mut builder = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    if status == 429 {
        builder = builder.header(RETRY_AFTER, "1");
    }
    // Only a status below 100 could make it fail.
    builder.body(body).unwrap_or_default()
}
