//! What a client sees of the API server, and what its objects have.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::api::TOKEN;
use super::kubelet::{container, pod};
use super::{Api, Driver, EndpointSlice, Node, Pod, Resource, Role, Runtime, Service, Verb};
use crate::http;

fn get(api: &Api, path: &str) -> (u16, Value) {
    let headers = format!("Authorization: Bearer {TOKEN}\r\n");
    let answer = http::get_with(api.address(), path, &headers).expect("answers");
    (answer.status, serde_json::from_str(&answer.body).expect("is JSON"))
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("a list");
    items.iter().filter_map(|item| item["metadata"]["name"].as_str()).collect()
}

/// A watch that is open.
struct Watch(BufReader<TcpStream>);

impl Watch {
    fn open(api: &Api, path: &str) -> Self {
        let mut stream = TcpStream::connect(api.address()).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("is set");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: a\r\nUser-Agent: b/1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        )
        .expect("is sent");
        Self(BufReader::new(stream))
    }

    /// Type and object of the next event; `None`: the watch has ended, and whether well.
    fn event(&mut self) -> Result<(String, Value), bool> {
        loop {
            let mut line = String::new();
            match self.0.read_line(&mut line) {
                Ok(0) | Err(_) => return Err(false),
                Ok(_) if line.starts_with('{') => break Ok(serde_json::from_str(&line)),
                // The last chunk.
                Ok(_) if line == "0\r\n" => return Err(true),
                Ok(_) => {}
            }
        }
        .map(|event| {
            let mut event: Value = event.expect("is JSON");
            (event["type"].as_str().expect("a type").to_owned(), event["object"].take())
        })
    }

    /// The next event that is no bookmark, with the object's name.
    fn next(&mut self) -> (String, String) {
        loop {
            let (kind, object) = self.event().expect("an event");
            if kind != "BOOKMARK" {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                return (kind, name.to_owned());
            }
        }
    }
}

fn event(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

#[test]
fn lists_select_and_come_in_pages() {
    let api = Api::start().expect("starts");
    for number in 0..5 {
        let node = if number == 3 { "node-2" } else { "node-1" };
        let pod = Pod::of_stateful_set("shop", "cart", number).on(node, Ipv4Addr::LOCALHOST);
        api.apply(pod.object()).expect("is taken");
    }
    api.apply(Node::new("node-1", Ipv4Addr::LOCALHOST).object()).expect("is taken");
    let (status, list) = get(&api, "/api/v1/pods");
    assert_eq!((status, list["kind"].as_str(), names(&list).len()), (200, Some("PodList"), 5));
    assert!(list["items"][0]["kind"].is_null() && list["items"][0]["spec"].is_object());
    let (_, list) = get(&api, "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-2");
    assert_eq!(names(&list), ["cart-3"]);
    let (_, list) =
        get(&api, "/api/v1/pods?labelSelector=apps.kubernetes.io/pod-index!=3,app=cart");
    assert_eq!(names(&list).len(), 4);
    assert!(names(&get(&api, "/api/v1/namespaces/other/pods").1).is_empty());
    let (_, first) = get(&api, "/api/v1/pods?limit=3&resourceVersion=");
    assert_eq!(names(&first), ["cart-0", "cart-1", "cart-2"]);
    // What goes between the pages is no reason to leave others out.
    let pod = Pod::of_stateful_set("shop", "cart", 1);
    api.delete(&pod.key()).expect("was there");
    let token = first["metadata"]["continue"].as_str().expect("more");
    let (_, second) = get(&api, &format!("/api/v1/pods?limit=3&continue={token}"));
    assert_eq!(names(&second), ["cart-3", "cart-4"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert!(second["metadata"]["continue"].is_null());
    api.expire();
    assert_eq!(get(&api, &format!("/api/v1/pods?continue={token}")).0, 410);
    assert_eq!(get(&api, "/api/v1/nodes/node-1").1["metadata"]["name"], "node-1");
    assert_eq!(get(&api, "/api/v1/nodes/node-2").0, 404);
    assert_eq!(get(&api, "/api/v1/secrets").0, 404);
}

#[test]
fn a_watch_tells_what_changes_for_it() {
    let api = Api::start().expect("starts");
    let mut cart = Pod::of_deployment("shop", "cart");
    api.apply(cart.object()).expect("is taken");
    let version = get(&api, "/api/v1/pods").1["metadata"]["resourceVersion"].clone();
    let version = version.as_str().expect("a version");
    let path = format!(
        "/api/v1/pods?watch=true&resourceVersion={version}&allowWatchBookmarks=true&fieldSelector=spec.nodeName=node-1"
    );
    let mut watch = Watch::open(&api, &path);
    let mut other = Pod::bare("shop", "other").on("node-2", Ipv4Addr::LOCALHOST);
    api.apply(other.object()).expect("is taken");
    cart = cart.label("version", "2");
    api.apply(cart.object()).expect("is taken");
    assert_eq!(watch.next(), event("MODIFIED", &cart.name));
    other.node = "node-1".to_owned();
    api.apply(other.object()).expect("is taken");
    assert_eq!(watch.next(), event("ADDED", "other"));
    other.node = "node-2".to_owned();
    api.apply(other.object()).expect("is taken");
    assert_eq!(watch.next(), event("DELETED", "other"));
    api.delete(&cart.key()).expect("was there");
    assert_eq!(watch.next(), event("DELETED", &cart.name));
    // A bookmark has the last version of all, whatever changed.
    let (kind, bookmark) = watch.event().expect("a bookmark");
    assert_eq!((kind.as_str(), &bookmark["kind"]), ("BOOKMARK", &Value::from("Pod")));
    let latest = get(&api, "/api/v1/pods").1["metadata"]["resourceVersion"].clone();
    assert_eq!(bookmark["metadata"]["resourceVersion"], latest);
    api.end_watches();
    while let Ok((kind, _)) = watch.event() {
        assert_eq!(kind, "BOOKMARK");
    }
    let asked = api.asked();
    let watches: Vec<_> = asked.iter().filter(|asked| asked.verb == Verb::Watch).collect();
    assert_eq!((watches.len(), watches[0].agent.as_str()), (1, "b/1"));
    assert_eq!(watches[0].parameter("resourceVersion"), version);
    assert!(asked.iter().all(|asked| asked.resource == Resource::Pods && asked.status == 200));
}

#[test]
fn a_watch_may_begin_with_what_there_is() {
    let api = Api::start().expect("starts");
    let pod = Pod::of_daemon_set("shop", "log");
    api.apply(pod.object()).expect("is taken");
    let mut plain = Watch::open(&api, "/api/v1/pods?watch=1");
    assert_eq!(plain.next(), event("ADDED", &pod.name));
    let list = "/api/v1/pods?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut list = Watch::open(&api, list);
    assert_eq!(list.next(), event("ADDED", &pod.name));
    let (kind, bookmark) = list.event().expect("a bookmark");
    let ended = &bookmark["metadata"]["annotations"]["k8s.io/initial-events-end"];
    assert_eq!((kind.as_str(), ended.as_str()), ("BOOKMARK", Some("true")));
}

#[test]
fn changes_are_held_back_in_order() {
    let api = Api::start().expect("starts");
    api.bookmarks(Some(Duration::from_millis(50)));
    let mut watch =
        Watch::open(&api, "/api/v1/services?watch=1&allowWatchBookmarks=true&resourceVersion=1000");
    api.hold(true);
    api.apply(Service::new("shop", "one").object()).expect("is taken");
    api.apply(Service::new("shop", "two").object()).expect("is taken");
    for _ in 0..3 {
        let (kind, bookmark) = watch.event().expect("an event");
        assert_eq!(
            (kind.as_str(), &bookmark["metadata"]["resourceVersion"]),
            ("BOOKMARK", &Value::from("1000"))
        );
    }
    api.delay(Duration::from_millis(400));
    let begun = Instant::now();
    api.hold(false);
    assert_eq!(watch.next(), event("ADDED", "one"));
    assert_eq!(watch.next(), event("ADDED", "two"));
    api.apply(Service::new("shop", "three").object()).expect("is taken");
    assert_eq!(watch.next(), event("ADDED", "three"));
    assert!(begun.elapsed() >= Duration::from_millis(400));
}

#[test]
fn it_goes_wrong_when_it_is_told_to() {
    let mut api = Api::start().expect("starts");
    api.apply(Pod::bare("shop", "one").object()).expect("is taken");
    let mut watch = Watch::open(&api, "/api/v1/pods?watch=1");
    assert_eq!(watch.next(), event("ADDED", "one"));
    api.hang_up();
    assert_eq!(watch.event(), Err(false));
    // History is forgotten for those who come, not for those who are there.
    let mut watch = Watch::open(&api, "/api/v1/pods?watch=1&resourceVersion=1001");
    while api.asked().len() < 2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    api.expire();
    api.apply(Pod::bare("shop", "two").object()).expect("is taken");
    assert_eq!(watch.next(), event("ADDED", "two"));
    let mut late = Watch::open(&api, "/api/v1/pods?watch=1&resourceVersion=1001");
    let (kind, status) = late.event().expect("an event");
    assert_eq!((kind.as_str(), &status["code"]), ("ERROR", &Value::from(410)));
    assert_eq!(late.event(), Err(true));
    api.refuse(1, 429);
    assert_eq!(get(&api, "/api/v1/pods").0, 429);
    assert_eq!(get(&api, "/api/v1/pods").0, 200);
    let unknown = http::get(api.address(), "/api/v1/pods").expect("answers");
    assert_eq!(unknown.status, 401);
    // Away and back, with all that it had.
    api.stop();
    assert_eq!(watch.event(), Err(false));
    assert!(TcpStream::connect(api.address()).is_err());
    api.apply(Pod::bare("shop", "three").object()).expect("is taken");
    api.resume().expect("comes back");
    assert_eq!(names(&get(&api, "/api/v1/pods").1), ["one", "three", "two"]);
    let kubeconfig = std::fs::read_to_string(api.kubeconfig()).expect("is there");
    assert!(kubeconfig.contains(&format!("http://{}", api.address())));
}

#[test]
fn objects_keep_what_identifies_them() {
    let api = Api::start().expect("starts");
    let pod = Pod::of_cron_job("shop", "report", 29_012_345).address(Ipv4Addr::new(10, 250, 0, 9));
    let key = api.apply(pod.pending().object()).expect("is taken");
    let before = api.object(&key).expect("is there");
    assert!(before["status"]["podIP"].is_null());
    assert!(before["status"]["containerStatuses"][0]["containerID"].is_null());
    api.apply(pod.object()).expect("is taken");
    let after = api.object(&key).expect("is there");
    assert_eq!(after["metadata"]["uid"], pod.uid.as_str());
    assert_eq!(after["metadata"]["creationTimestamp"], before["metadata"]["creationTimestamp"]);
    assert_ne!(after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
    assert_eq!(after["metadata"]["ownerReferences"][0]["name"], "report-29012345");
    assert_eq!(after["status"]["podIPs"][0]["ip"], "10.250.0.9");
    let id = format!("containerd://{}", pod.containers[0].id);
    assert_eq!(after["status"]["containerStatuses"][0]["containerID"], id);
    let service = Service::new("shop", "report")
        .address(Ipv4Addr::new(10, 96, 0, 10))
        .port("http", 80, 8080)
        .node_port(30080);
    let slice = EndpointSlice::new(&service, false, std::slice::from_ref(&pod)).object();
    assert_eq!(slice["endpoints"][0]["targetRef"]["uid"], pod.uid.as_str());
    assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], "report");
    assert_eq!(service.object()["spec"]["type"], "NodePort");
    assert_eq!(Service::new("shop", "peers").object()["spec"]["clusterIP"], "None");
}

#[test]
fn cgroups_are_laid_out_as_kubelet_does() {
    let mut of = Pod::of_deployment("shop", "cart").runtime(Runtime::Crio);
    of.uid = "6d657368-0000-4000-a000-000000000001".to_owned();
    let uid = "6d657368_0000_4000_a000_000000000001";
    let one = of.containers[0].clone();
    assert_eq!(
        container(Driver::Cgroupfs, &of, &one),
        format!("kubepods/besteffort/pod{}/{}", of.uid, one.id)
    );
    assert_eq!(
        container(Driver::Systemd, &of, &one),
        format!(
            "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{uid}.slice/crio-{}.scope",
            one.id
        )
    );
    of.quality = super::Quality::Guaranteed;
    assert_eq!(pod(Driver::Systemd, &of), format!("kubepods.slice/kubepods-pod{uid}.slice"));
    // kubelet knows a static pod by the hash of its file.
    let mirror = Pod::mirror("kube-system", "etcd", "node-1").with("more", Role::Ephemeral);
    let hash = &mirror.annotations["kubernetes.io/config.hash"];
    assert!(pod(Driver::Cgroupfs, &mirror).ends_with(hash.as_str()));
    assert!(mirror.container("more").is_some_and(|container| container.id.len() == 64));
}
