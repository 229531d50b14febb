//! Whom an address means, at which time, and what makes it uncertain.

use std::collections::BTreeMap;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn workload(name: &str, account: &str) -> Arc<Workload> {
    let empty = BTreeMap::new();
    Arc::new(
        PodFacts {
            namespace: "shop",
            name,
            is_generated: false,
            owner: None,
            labels: &empty,
            annotations: &empty,
            account,
            containers: &["app"],
            well_known_labels: false,
        }
        .workload(),
    )
}

fn pod(uid: &str, name: &str, address: &str, since_s: u64) -> Pod {
    Pod {
        uid: uid.into(),
        static_uid: None,
        name: name.into(),
        node: "node".into(),
        workload: workload(name, "default"),
        instance: None,
        addresses: if address.is_empty() { vec![] } else { vec![address.parse().unwrap()] },
        since_ns: since_s * SECOND,
        waypoint: None,
        until_ns: None,
        containers: vec![(format!("id-{uid}").into(), "app".into())],
    }
}

fn service(uid: &str, name: &str, address: &str) -> Service {
    Service {
        uid: uid.into(),
        name: name.into(),
        namespace: "shop".into(),
        addresses: vec![address.parse().unwrap()],
        ports: vec![80],
        node_ports: vec![30_080],
        is_alias: false,
        waypoint: None,
    }
}

fn endpoints(uid: &str, service: &str, addresses: &[(&str, Option<&str>)]) -> Endpoints {
    let addresses = addresses.iter();
    Endpoints {
        uid: uid.into(),
        namespace: "shop".into(),
        service: service.into(),
        addresses: addresses
            .map(|(address, pod)| (address.parse().unwrap(), pod.map(Into::into)))
            .collect(),
        ports: vec![8080],
    }
}

fn cluster(objects: Vec<Object>) -> Cluster {
    let mut cluster = Cluster::new(100, false);
    for object in objects {
        cluster.apply(Change::Applied(Box::new(object)));
    }
    cluster
}

fn name(cluster: &mut Cluster, endpoint: &str, listens: bool, at_s: u64) -> String {
    match cluster.remote(endpoint.parse().unwrap(), listens, at_s * SECOND) {
        Some(Remote::Workload(workload)) => format!("workload {}", workload.name),
        Some(Remote::Service(service)) => format!("service {}", service.name),
        Some(Remote::External(service)) => format!("external {}", service.name),
        Some(Remote::Node(node)) => format!("node {node}"),
        None => "nobody".to_owned(),
    }
}

#[test]
fn an_address_is_whoever_had_it_at_the_time() {
    let mut all = cluster(vec![Object::Pod(pod("1", "old", "10.0.0.5", 10))]);
    assert_eq!(name(&mut all, "10.0.0.5:1", false, 9), "nobody", "before it was there");
    assert_eq!(name(&mut all, "10.0.0.5:1", false, 10), "workload old");
    all.apply(Change::Deleted(ObjectKind::Pod, "1".into(), 20 * SECOND));
    all.apply(Change::Applied(Box::new(Object::Pod(pod("2", "new", "10.0.0.5", 21)))));
    for (at, expected) in [(19, "workload old"), (20, "nobody"), (21, "workload new")] {
        assert_eq!(name(&mut all, "10.0.0.5:1", false, at), expected, "at {at}");
    }
    all.sweep(200 * SECOND);
    assert_eq!(name(&mut all, "10.0.0.5:1", false, 15), "nobody", "forgotten");
    assert_eq!(all.occupancy()[0].0, 1);
}

#[test]
fn a_workload_that_somebody_had_in_hand_is_forgotten_later() {
    let mut all = cluster(vec![Object::Pod(pod("1", "old", "10.0.0.5", 10))]);
    let remote = all.remote("10.0.0.5:1".parse().unwrap(), false, 15 * SECOND);
    let Some(Remote::Workload(held)) = remote else { panic!("{remote:?}") };
    all.apply(Change::Deleted(ObjectKind::Pod, "1".into(), 20 * SECOND));
    all.sweep(200 * SECOND);
    let weak = Arc::downgrade(&held);
    drop(held);
    assert!(weak.upgrade().is_some());
    all.apply(Change::Applied(Box::new(Object::Pod(pod("2", "new", "10.0.0.6", 210)))));
    all.apply(Change::Deleted(ObjectKind::Pod, "2".into(), 220 * SECOND));
    all.sweep(400 * SECOND);
    assert!(weak.upgrade().is_none());
}

#[test]
fn two_pods_that_may_have_had_an_address_name_nobody() {
    // The second began, as the interface says to the second, before the first was deleted.
    let mut all = cluster(vec![
        Object::Pod(pod("1", "old", "10.0.0.5", 10)),
        Object::Pod(pod("2", "new", "10.0.0.5", 20)),
    ]);
    assert_eq!(name(&mut all, "10.0.0.5:1", false, 25), "nobody");
    all.apply(Change::Deleted(ObjectKind::Pod, "1".into(), 22 * SECOND));
    assert_eq!(name(&mut all, "10.0.0.5:1", false, 15), "workload old");
    assert_eq!(name(&mut all, "10.0.0.5:1", false, 21), "nobody");
    assert_eq!(name(&mut all, "10.0.0.5:1", false, 22), "workload new");
}

#[test]
fn a_job_that_is_done_gives_its_address_back() {
    let mut done = pod("1", "job", "10.0.0.5", 10);
    let mut all = cluster(vec![Object::Pod(done.clone())]);
    done.until_ns = Some(15 * SECOND);
    all.apply(Change::Applied(Box::new(Object::Pod(done))));
    assert_eq!(name(&mut all, "10.0.0.5:1", false, 14), "workload job");
    assert_eq!(name(&mut all, "10.0.0.5:1", false, 15), "nobody");
}

#[test]
fn services_are_their_only_workload_or_themselves() {
    let mut all = cluster(vec![
        Object::Pod(pod("1", "web", "10.0.0.5", 0)),
        Object::Pod(pod("2", "web", "10.0.0.6", 0)),
        Object::Pod(pod("3", "other", "10.0.0.7", 0)),
        Object::Service(service("s", "front", "10.96.0.1")),
        Object::Endpoints(endpoints(
            "e",
            "front",
            &[("10.0.0.5", Some("1")), ("10.0.0.6", Some("2"))],
        )),
        Object::Node(Node {
            uid: "n".into(),
            name: "node".into(),
            addresses: vec!["192.168.0.1".parse().unwrap()],
        }),
    ]);
    for endpoint in ["10.96.0.1:80", "192.168.0.1:30080"] {
        assert_eq!(name(&mut all, endpoint, true, 1), "workload web", "{endpoint}");
    }
    assert_eq!(name(&mut all, "192.168.0.1:80", true, 1), "node node");
    assert_eq!(name(&mut all, "10.96.0.1:80", false, 1), "nobody", "it asks nobody");
    assert_eq!(name(&mut all, "10.96.0.1:81", true, 1), "nobody");
    assert!(matches!(all.named("front.shop.svc.cluster.local"), Some(Remote::Workload(_))));
    assert!(matches!(all.named("front.shop.svc"), Some(Remote::Workload(_))));
    assert_eq!(all.named("front.shop.example.com"), None);
    assert_eq!(all.named("back.shop.svc"), None);
    let asked = all.service("10.0.0.5:8080".parse().unwrap());
    assert_eq!(asked.map(|service| &*service.name), Some("front"), "headless or by address");

    let more = endpoints("e2", "front", &[("10.0.0.7", Some("3"))]);
    all.apply(Change::Applied(Box::new(Object::Endpoints(more))));
    assert_eq!(name(&mut all, "10.96.0.1:80", true, 1), "service front");
    all.apply(Change::Deleted(ObjectKind::Endpoints, "e2".into(), 0));
    assert_eq!(name(&mut all, "10.96.0.1:80", true, 1), "workload web");
    let outside = endpoints("e3", "front", &[("203.0.113.1", None)]);
    all.apply(Change::Applied(Box::new(Object::Endpoints(outside))));
    assert_eq!(name(&mut all, "10.96.0.1:80", true, 1), "external front");
    assert_eq!(name(&mut all, "203.0.113.1:8080", true, 1), "external front", "no pod");
    // Behind two services it may be either.
    all.apply(Change::Applied(Box::new(Object::Service(service("s2", "back", "10.96.0.2")))));
    let also = endpoints("e4", "back", &[("203.0.113.1", None)]);
    all.apply(Change::Applied(Box::new(Object::Endpoints(also))));
    assert_eq!(name(&mut all, "203.0.113.1:8080", true, 1), "nobody");
    let alias =
        Service { is_alias: true, addresses: vec![], ..service("s3", "alias", "10.96.0.3") };
    all.apply(Change::Applied(Box::new(Object::Service(alias))));
    assert!(matches!(all.named("alias.shop.svc"), Some(Remote::External(_))));
}

#[test]
fn a_waypoint_is_named_by_the_service_the_pod_or_the_namespace() {
    let served: SocketAddr = "10.96.0.1:80".parse().unwrap();
    let at_pod: SocketAddr = "10.0.0.5:8080".parse().unwrap();
    // What the namespace, the Service and the pod say; what holds for the Service's own address,
    // for the pod's, and at the pod itself.
    let (yes, no) = (Some(true), Some(false));
    for (of_namespace, of_service, of_pod, wanted) in [
        (None, None, None, [false, false, false]),
        (yes, None, None, [true, true, true]),
        (no, None, None, [false, false, false]),
        (None, yes, None, [true, true, true]),
        (no, yes, None, [true, true, true]),
        // It is not known whether the namespace's is for pods, too.
        (yes, no, None, [false, true, false]),
        (yes, no, no, [false, false, false]),
        (None, None, yes, [false, true, false]),
        (None, yes, no, [true, false, true]),
    ] {
        let mut all = Cluster::new(100, true);
        let mut apply = |object| all.apply(Change::Applied(Box::new(object)));
        apply(Object::Pod(Pod { waypoint: of_pod, ..pod("1", "web", "10.0.0.5", 0) }));
        let front = service("s", "front", "10.96.0.1");
        apply(Object::Service(Service { waypoint: of_service, ..front }));
        apply(Object::Endpoints(endpoints("e", "front", &[("10.0.0.5", Some("1"))])));
        let before = all.waypoints();
        all.apply(Change::ListBegun(ObjectKind::Namespace));
        if let Some(waypoint) = of_namespace {
            let (uid, name) = ("n".into(), "shop".into());
            let namespace = Object::Namespace(Namespace { uid, name, waypoint });
            all.apply(Change::Applied(Box::new(namespace)));
        }
        all.apply(Change::ListComplete(ObjectKind::Namespace, 0));
        assert!(all.waypoints() > before);
        let found = [(served, true), (at_pod, true), (at_pod, false)]
            .map(|(endpoint, listens)| all.waypoint(endpoint, listens, SECOND));
        let said = (of_namespace, of_service, of_pod);
        assert_eq!(found, wanted.map(Some), "{said:?}");
        assert_eq!(all.waypoint("192.0.2.1:80".parse().unwrap(), true, SECOND), None);
    }
}

/// Connections that are there ask again only where the number has grown.
#[test]
fn a_label_of_a_service_or_a_pod_that_changes_is_a_change_of_waypoints() {
    let mut all = Cluster::new(100, true);
    let mut grows = |object: Object| {
        let before = all.waypoints();
        all.apply(Change::Applied(Box::new(object)));
        all.waypoints() > before
    };
    let front = |waypoint| Service { waypoint, ..service("s", "front", "10.96.0.1") };
    let web = |waypoint| Pod { waypoint, ..pod("1", "web", "10.0.0.5", 0) };
    for (waypoint, wanted) in
        [(None, false), (Some(true), true), (Some(true), false), (Some(false), true), (None, true)]
    {
        assert_eq!(grows(Object::Service(front(waypoint))), wanted, "Service: {waypoint:?}");
        assert_eq!(grows(Object::Pod(web(waypoint))), wanted, "pod: {waypoint:?}");
    }
    let renamed = Service { ports: vec![81], ..front(None) };
    assert!(!grows(Object::Service(renamed)), "a change of something else");
}

#[test]
fn as_long_as_it_is_not_known_there_may_be_a_waypoint() {
    let served: SocketAddr = "10.96.0.1:80".parse().unwrap();
    let waypoint = |all: &Cluster| all.waypoint(served, true, SECOND);
    let front = || Change::Applied(Box::new(Object::Service(service("s", "front", "10.96.0.1"))));
    let namespace = |uid: &str, name: &str, waypoint| {
        let namespace = Namespace { uid: uid.into(), name: name.into(), waypoint };
        Change::Applied(Box::new(Object::Namespace(namespace)))
    };
    let mut all = Cluster::new(1, true);
    all.apply(front());
    assert_eq!(waypoint(&all), Some(true), "not told yet");
    all.apply(Change::ListBegun(ObjectKind::Namespace));
    all.apply(Change::ListComplete(ObjectKind::Namespace, 0));
    assert_eq!(waypoint(&all), Some(false));
    all.apply(namespace("1", "shop", true));
    assert_eq!(waypoint(&all), Some(true));
    all.apply(Change::Deleted(ObjectKind::Namespace, "1".into(), 0));
    assert_eq!(waypoint(&all), Some(false), "without its label");
    all.apply(namespace("2", "bank", true));
    all.apply(namespace("3", "shop", false));
    assert_eq!(waypoint(&all), Some(true), "it found no place");
    let mut all = Cluster::new(1, false);
    all.apply(front());
    assert_eq!(waypoint(&all), Some(false), "nobody asks");
}

#[test]
fn a_pod_on_its_nodes_network_is_known_by_its_port() {
    let mut host = pod("1", "agent", "", 0);
    host.addresses.clear();
    let mut all = cluster(vec![
        Object::Pod(host),
        Object::Service(service("s", "agent", "10.96.0.9")),
        Object::Endpoints(endpoints("e", "agent", &[("192.168.0.1", Some("1"))])),
        Object::Node(Node {
            uid: "n".into(),
            name: "node".into(),
            addresses: vec!["192.168.0.1".parse().unwrap()],
        }),
    ]);
    assert_eq!(name(&mut all, "192.168.0.1:8080", true, 1), "workload agent");
    assert_eq!(name(&mut all, "192.168.0.1:8081", true, 1), "node node");
    assert_eq!(name(&mut all, "192.168.0.1:8080", false, 1), "node node");
}

#[test]
fn containers_are_found_by_id_and_static_pods_by_their_cgroups() {
    let mut fixed = pod("mirror", "etcd", "", 0);
    fixed.static_uid = Some("hash".into());
    let all = cluster(vec![Object::Pod(pod("1", "web", "10.0.0.5", 0)), Object::Pod(fixed)]);
    let found = all.local("id-1", None).unwrap();
    assert_eq!((&*found.pod.name, found.container.map(|name| &**name)), ("web", Some("app")));
    let found = all.local("not yet told", Some("1")).unwrap();
    assert_eq!((&*found.pod.name, found.container), ("web", None));
    assert_eq!(&*all.local("x", Some("hash")).unwrap().pod.name, "etcd");
    assert!(all.local("x", Some("y")).is_none());
}

#[test]
fn what_a_whole_list_does_not_hold_is_gone() {
    let mut all = cluster(vec![
        Object::Pod(pod("1", "gone", "10.0.0.5", 0)),
        Object::Pod(pod("2", "stays", "10.0.0.6", 0)),
        Object::Service(service("s", "front", "10.96.0.1")),
    ]);
    all.apply(Change::ListBegun(ObjectKind::Pod));
    let again = pod("2", "stays", "10.0.0.6", 0);
    all.apply(Change::Applied(Box::new(Object::Pod(again))));
    assert_eq!(name(&mut all, "10.0.0.5:1", false, 9), "workload gone", "while it goes on");
    all.apply(Change::ListComplete(ObjectKind::Pod, 10 * SECOND));
    assert_eq!(name(&mut all, "10.0.0.5:1", false, 11), "nobody");
    assert_eq!(name(&mut all, "10.0.0.6:1", false, 11), "workload stays");
    assert_eq!(name(&mut all, "10.96.0.1:80", true, 11), "service front");
}

#[test]
fn an_account_names_its_only_workload() {
    let mut all = cluster(vec![Object::Pod(pod("1", "web", "10.0.0.5", 0))]);
    all.apply(Change::ListBegun(ObjectKind::Pod));
    all.apply(Change::Applied(Box::new(Object::Pod(pod("1", "web", "10.0.0.5", 0)))));
    let of = |all: &Cluster| all.of_account("shop", "default").map(|of| of.name.to_string());
    assert_eq!(of(&all), None, "another one may come");
    all.apply(Change::ListComplete(ObjectKind::Pod, 0));
    assert_eq!(of(&all).as_deref(), Some("web"));
    all.apply(Change::Applied(Box::new(Object::Pod(pod("2", "other", "10.0.0.6", 0)))));
    assert_eq!(of(&all), None, "two run under it");
    all.apply(Change::Deleted(ObjectKind::Pod, "2".into(), SECOND));
    all.sweep(100 * SECOND);
    assert_eq!(of(&all).as_deref(), Some("web"));
    assert_eq!(all.of_account("shop", "x"), None);
}

#[test]
fn the_bound_holds_and_what_it_refuses_is_counted() {
    let mut all = Cluster::new(2, false);
    for number in 0..5 {
        let uid = number.to_string();
        let one = pod(&uid, "web", &format!("10.0.0.{number}"), 0);
        all.apply(Change::Applied(Box::new(Object::Pod(one))));
        let one = service(&uid, &uid, &format!("10.96.0.{number}"));
        all.apply(Change::Applied(Box::new(Object::Service(one))));
    }
    assert_eq!(all.occupancy(), [(2, 2, 3), (2, 2, 3)]);
}

#[test]
fn a_name_may_come_where_pods_are() {
    let mut all = cluster(vec![Object::Pod(pod("1", "web", "10.0.0.5", 0))]);
    let near = "10.0.0.77".parse().unwrap();
    assert!(!all.may_name(near), "nobody is asked");
    all.apply(Change::Reachable(true));
    assert!(all.may_name(near));
    assert!(!all.may_name("10.0.1.77".parse().unwrap()));
}
