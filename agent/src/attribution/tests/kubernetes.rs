//! Names that Kubernetes tells.

use super::*;
use crate::attribution::cluster::{
    Change, Endpoints, Node, Object, ObjectKind, Pod, PodFacts, Service, Workload,
};

const UID: &str = "0c3a5a26-9a5c-4f7a-8ac1-0d9f0a6b1c2d";

fn watching() -> World {
    let mut world = World::with(AttributionSettings {
        watches_kubernetes: true,
        cluster_name: "east".into(),
        ..AttributionSettings::default()
    });
    world.attributor.change(Change::Reachable(true));
    world.process(NGINX, &["/usr/sbin/nginx"], &[&format!("/kubepods/besteffort/pod{UID}/{ID}")]);
    world
}

fn workload(name: &str) -> Arc<Workload> {
    let labels = [("pod-template-hash".to_owned(), "7d9f".to_owned())].into();
    let annotations = std::collections::BTreeMap::new();
    let owner = format!("{name}-7d9f");
    let facts = PodFacts {
        namespace: "shop",
        name: &format!("{name}-7d9f-x"),
        is_generated: true,
        owner: Some(("ReplicaSet", &owner)),
        labels: &labels,
        annotations: &annotations,
        account: "default",
        containers: &["web"],
        well_known_labels: false,
    };
    Arc::new(facts.workload())
}

impl World {
    fn applied(&mut self, object: Object) {
        self.attributor.change(Change::Applied(Box::new(object)));
    }

    fn pod(&mut self, uid: &str, name: &str, address: &str, container: &str) {
        let pod = Self::pod_object(uid, name, address, container);
        self.applied(Object::Pod(pod));
    }

    fn pod_object(uid: &str, name: &str, address: &str, container: &str) -> Pod {
        Pod {
            uid: uid.into(),
            static_uid: None,
            name: format!("{name}-7d9f-x").into(),
            node: "node".into(),
            workload: workload(name),
            instance: None,
            addresses: vec![address.parse().unwrap()],
            since_ns: 0,
            waypoint: None,
            until_ns: None,
            containers: vec![(container.into(), "web".into())],
        }
    }

    fn service(&mut self, address: &str, pods: &[(&str, &str)]) {
        self.applied(Object::Service(Service {
            uid: "service".into(),
            name: "front".into(),
            namespace: "shop".into(),
            addresses: vec![address.parse().unwrap()],
            ports: vec![80],
            node_ports: vec![],
            is_alias: false,
            waypoint: None,
        }));
        let addresses =
            pods.iter().map(|(address, uid)| (address.parse().unwrap(), Some((*uid).into())));
        self.applied(Object::Endpoints(Endpoints {
            uid: "slice".into(),
            namespace: "shop".into(),
            service: "front".into(),
            addresses: addresses.collect(),
            ports: vec![8080],
        }));
    }
}

#[test]
fn a_container_is_its_pods_workload() {
    let mut world = watching();
    world.pod(UID, "cart", "10.244.0.5", ID);
    world.open(server(1, "10.244.0.5:8080", "10.9.9.9:4000", nginx()));
    let found = world.call(1, Side::Server, 1).server.identity;
    assert_eq!((&*found.name, &*found.namespace), ("cart", "shop"));
    assert_eq!(found.kind, IdentityKind::Workload);
    let pairs: Vec<_> =
        found.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        pairs,
        [
            &format!("container.id={ID}"),
            "container.name=web",
            "k8s.cluster.name=east",
            "k8s.container.name=web",
            "k8s.deployment.name=cart",
            "k8s.namespace.name=shop",
            "k8s.node.name=node",
            "k8s.pod.name=cart-7d9f-x",
            &format!("k8s.pod.uid={UID}"),
            "service.instance.id=shop.cart-7d9f-x.web",
        ]
    );
}

#[test]
fn a_pod_that_is_told_of_late_is_waited_for_and_then_named() {
    let mut world = watching();
    world.open(server(1, "10.244.0.5:8080", "10.9.9.9:4000", nginx()));
    assert!(world.attributor.awaits(1, world.now));
    let early = world.call(1, Side::Server, 1).server.identity;
    assert_eq!((&*early.name, early.kind), (&ID[..12], IdentityKind::Container));
    world.pod(UID, "cart", "10.244.0.5", "another");
    assert!(!world.attributor.awaits(1, world.now), "by the uid of its cgroup");
    assert_eq!(&*world.call(1, Side::Server, 2).server.identity.name, "cart");
    // Without anybody who answers there is nothing to wait for.
    world.process(CURL, &["/usr/bin/curl"], &[&format!("/kubepods/pod{ID}/{}", "a".repeat(64))]);
    world.open(client(2, "10.244.0.9:4000", "192.0.2.1:80", curl()));
    assert!(world.attributor.awaits(2, world.now));
    world.attributor.change(Change::Reachable(false));
    assert!(!world.attributor.awaits(2, world.now));
}

/// Each side counts the call; the one does not go by a name that the other waits for.
#[test]
fn the_pod_of_the_other_end_is_waited_for_as_well() {
    let mut world = watching();
    world.process(CURL, &["/usr/bin/curl"], &[]);
    world.open(client(1, "10.9.9.9:4000", "10.244.0.5:8080", curl()));
    world.open(server(2, "10.244.0.5:8080", "10.9.9.9:4000", nginx()));
    assert!(world.attributor.awaits(2, world.now), "its own");
    assert!(world.attributor.awaits(1, world.now), "the server's");
    world.pod(UID, "cart", "10.244.0.5", ID);
    assert!(!world.attributor.awaits(1, world.now));
    assert_eq!(&*world.call(1, Side::Client, 1).server.identity.name, "cart");
    assert!(!world.attributor.awaits(2, world.now));
}

#[test]
fn remote_ends_are_pods_services_and_nodes() {
    let mut world = watching();
    world.process(CURL, &["/usr/bin/curl"], &[]);
    world.pod("1", "cart", "10.244.1.5", "x");
    world.pod("2", "stock", "10.244.1.6", "y");
    world.service("10.96.0.1", &[("10.244.1.5", "1"), ("10.244.1.6", "2")]);
    world.applied(Object::Node(Node {
        uid: "n".into(),
        name: "node7".into(),
        addresses: vec!["192.168.0.7".parse().unwrap()],
    }));
    for (cookie, remote, name, kind) in [
        (1, "10.244.1.5:8080", "cart", IdentityKind::Workload),
        (2, "10.96.0.1:80", "front", IdentityKind::Service),
        (3, "192.168.0.7:6443", "node7", IdentityKind::Node),
        (4, "192.0.2.1:80", "192.0.2.1", IdentityKind::Address),
    ] {
        world.open(client(cookie, "10.0.0.1:4000", remote, curl()));
        let found = world.call(cookie, Side::Client, 1).server.identity;
        assert_eq!((&*found.name, found.kind), (name, kind), "{remote}");
    }
    // Only one workload is behind it now, and connections that are there know it.
    world.service("10.96.0.1", &[("10.244.1.5", "1")]);
    let found = world.call(2, Side::Client, 2).server.identity;
    assert_eq!((&*found.name, found.kind), ("cart", IdentityKind::Workload));
}

#[test]
fn an_address_near_pods_is_waited_for() {
    let mut world = watching();
    world.process(CURL, &["/usr/bin/curl"], &[]);
    world.pod("1", "cart", "10.244.1.5", "x");
    world.open(client(1, "10.0.0.1:4000", "10.244.1.9:80", curl()));
    world.open(client(2, "10.0.0.1:4001", "192.0.2.1:80", curl()));
    assert!(world.attributor.awaits(1, world.now));
    assert!(!world.attributor.awaits(2, world.now));
    world.pod("2", "stock", "10.244.1.9", "y");
    assert!(!world.attributor.awaits(1, world.now));
    assert_eq!(&*world.call(1, Side::Client, 1).server.identity.name, "stock");
}

#[test]
fn a_name_of_the_clusters_dns_is_its_service() {
    let mut world = watching();
    world.process(CURL, &["/usr/bin/curl"], &[]);
    world.service("10.96.0.1", &[]);
    // An external name: the address is none of the service's own.
    remotes::answer(&mut world, "front.shop.svc.cluster.local.", [192, 0, 2, 9]);
    world.open(client(1, "10.0.0.1:4000", "192.0.2.9:80", curl()));
    let found = world.call(1, Side::Client, 1).server.identity;
    assert_eq!((&*found.name, found.kind), ("front", IdentityKind::Service));
}

/// A connection that is open follows what is said of waypoints, whoever says it.
#[test]
fn a_waypoint_that_a_label_names_later_holds_for_open_connections() {
    let mut world = World::with(AttributionSettings {
        watches_kubernetes: true,
        watches_namespaces: true,
        ..AttributionSettings::default()
    });
    world.process(CURL, &["/usr/bin/curl"], &[]);
    world.attributor.change(Change::ListBegun(ObjectKind::Namespace));
    world.attributor.change(Change::ListComplete(ObjectKind::Namespace, 0));
    world.pod("1", "cart", "10.244.1.5", "x");
    world.service("10.96.0.1", &[("10.244.1.5", "1")]);
    world.open(client(1, "10.0.0.1:4000", "10.96.0.1:80", curl()));
    world.open(client(2, "10.0.0.1:4001", "10.244.1.5:9090", curl()));
    let passes = |world: &mut World, number| {
        [1, 2].map(|cookie| world.call(cookie, Side::Client, number).passes_waypoint)
    };
    assert_eq!(passes(&mut world, 1), [false, false]);
    let service = |waypoint| Service {
        uid: "service".into(),
        name: "front".into(),
        namespace: "shop".into(),
        addresses: vec!["10.96.0.1".parse().unwrap()],
        ports: vec![80],
        node_ports: vec![],
        is_alias: false,
        waypoint,
    };
    world.applied(Object::Service(service(Some(true))));
    assert_eq!(passes(&mut world, 2), [true, false]);
    world.applied(Object::Service(service(Some(false))));
    assert_eq!(passes(&mut world, 3), [false, false]);
    let mut pod = World::pod_object("1", "cart", "10.244.1.5", "x");
    pod.waypoint = Some(true);
    world.applied(Object::Pod(pod));
    assert_eq!(passes(&mut world, 4), [false, true]);
}
