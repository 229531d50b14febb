//! Objects as a real API server told of them (`tests/fixtures/kubernetes`).

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::attribution::cluster::Pod;
use crate::attribution::cluster::WorkloadKind::{self, DaemonSet, Deployment, Job, StatefulSet};

const READING: Reading = Reading { well_known_labels: false };

fn recorded(file: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/kubernetes");
    std::fs::read_to_string(format!("{folder}/{file}")).unwrap()
}

/// The objects of a recorded list, as they came and as they are read.
fn list<K: Watched + DeserializeOwned>(file: &str) -> Vec<(Value, Object)> {
    let list: Value = serde_json::from_str(&recorded(file)).unwrap();
    let items = list["items"].as_array().unwrap().clone();
    assert!(!items.is_empty());
    let read = |item: Value| {
        let object: K = serde_json::from_value(item.clone()).unwrap();
        (item, object.read(READING).unwrap())
    };
    items.into_iter().map(read).collect()
}

fn pods() -> Vec<(Value, Pod)> {
    let pod = |(item, object)| match object {
        Object::Pod(pod) => (item, pod),
        other => panic!("{other:?}"),
    };
    list::<PodObject>("pods.json").into_iter().map(pod).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn pods_are_instances_of_what_controls_them() {
    let found: Vec<(WorkloadKind, String, String)> = pods()
        .into_iter()
        .map(|(_, pod)| {
            assert_eq!(&*pod.workload.namespace, "shop");
            // Kubelet gives a static pod no account.
            let account = if pod.static_uid.is_some() { "" } else { "default" };
            assert_eq!((&*pod.node, &*pod.workload.account), ("lab", account), "{pod:?}");
            let name = pod.workload.name.to_string();
            (pod.workload.kind, name, pod.workload.service.to_string())
        })
        .collect();
    let wanted = [
        (Deployment, "cart", "cart-of-shop"),
        (Deployment, "cart", "cart-of-shop"),
        (DaemonSet, "door", "door"),
        // The mirror of a static pod.
        (WorkloadKind::Pod, "guard-lab", "guard-lab"),
        (StatefulSet, "ledger", "ledger"),
        (Job, "once", "once"),
        (WorkloadKind::Pod, "solo", "solo"),
        // Made from a cron job by hand: its name holds no minute.
        (Job, "sweep-now", "sweep-now"),
    ];
    let wanted = wanted.map(|(kind, name, service)| (kind, name.to_owned(), service.to_owned()));
    assert_eq!(found, wanted);
}

#[test]
fn pods_have_their_containers_and_addresses() {
    for (item, pod) in pods() {
        let (metadata, status) = (&item["metadata"], &item["status"]);
        assert_eq!((&*pod.uid, &*pod.name), (text(&metadata["uid"]), text(&metadata["name"])));
        let statuses = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"]
            .into_iter()
            .flat_map(|key| status[key].as_array().cloned().unwrap_or_default());
        let containers: Vec<(String, String)> = statuses
            .map(|status| {
                let id = text(&status["containerID"]).strip_prefix("containerd://").unwrap();
                (id.to_owned(), text(&status["name"]).to_owned())
            })
            .collect();
        assert!(containers.iter().all(|(id, _)| id.len() == 64), "{containers:?}");
        let read = pod.containers.iter().map(|(id, name)| (id.to_string(), name.to_string()));
        assert_eq!(read.collect::<Vec<_>>(), containers);
        let on_node = item["spec"]["hostNetwork"] == true;
        let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
        let own = text(&status["podIP"]).to_owned();
        assert_eq!(addresses, if on_node { vec![] } else { vec![own] }, "{}", pod.name);
        assert!(pod.since_ns <= now_ns(), "{pod:?}");
        assert_eq!(pod.until_ns.is_some(), text(&status["phase"]) == "Succeeded", "{pod:?}");
        let mirror = text(&metadata["annotations"]["kubernetes.io/config.hash"]);
        assert_eq!(pod.static_uid.as_deref().unwrap_or_default(), mirror);
        assert_eq!(mirror.is_empty(), &*pod.name != "guard-lab");
    }
    let solo = pods().into_iter().find(|(_, pod)| &*pod.name == "solo").unwrap().1;
    let names: Vec<&str> = solo.containers.iter().map(|(_, name)| &**name).collect();
    assert_eq!(names, ["web", "first", "beside", "look"]);
}

#[test]
fn services_have_addresses_and_ports() {
    let found: Vec<String> = list::<ServiceObject>("services.json")
        .into_iter()
        .map(|(item, object)| {
            let Object::Service(service) = object else { panic!("{object:?}") };
            assert_eq!(&*service.uid, text(&item["metadata"]["uid"]));
            assert_eq!(service.waypoint, None);
            let Service { namespace, name, addresses, ports, node_ports, .. } = service;
            format!("{namespace}/{name} {addresses:?} {ports:?} {node_ports:?}")
        })
        .collect();
    // Addresses of the cluster's own choice are of the recording.
    let wanted = [
        ("default/kubernetes [10.96.0.1] [443] []", ""),
        // Of its two ports one is of UDP.
        ("kube-system/kube-dns [10.96.0.10] [53] []", ""),
        ("shop/cart [10.96.", "] [80] []"),
        ("shop/door [10.96.", "] [80] [30080]"),
        ("shop/ledger [] [8080] []", ""),
    ];
    assert_eq!(found.len(), wanted.len());
    for (line, (start, end)) in found.iter().zip(wanted) {
        assert!(line.starts_with(start) && line.ends_with(end), "{line}");
    }
}

/// As a cluster with a balancer has them; the recording's has none.
#[test]
fn balancers_and_external_addresses_and_names_are_read() {
    let read = |name: &str, spec: Value, status: Value| {
        let metadata = serde_json::json!({"name": name, "namespace": "shop", "uid": name});
        let object = serde_json::json!({"metadata": metadata, "spec": spec, "status": status});
        let object: ServiceObject = serde_json::from_value(object).unwrap();
        match object.read(READING) {
            Some(Object::Service(service)) => service,
            other => panic!("{other:?}"),
        }
    };
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let balanced = read(
        "door",
        serde_json::json!({
            "type": "LoadBalancer", "clusterIP": "10.96.0.7",
            "clusterIPs": ["10.96.0.7", "fd00:96::7"], "externalIPs": ["198.51.100.10"],
            "allocateLoadBalancerNodePorts": true, "ipFamilyPolicy": "RequireDualStack",
            "ports": [
                {"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": 30080},
                {"name": "quic", "protocol": "UDP", "port": 443, "targetPort": 8443, "nodePort": 30443},
            ],
        }),
        // A balancer of some clouds has a name and no address.
        serde_json::json!({"loadBalancer": {"ingress": [
            {"ip": "192.0.2.10", "ipMode": "VIP", "ports": [{"port": 80, "protocol": "TCP"}]},
            {"hostname": "door.example.com"},
            {"ip": "2001:db8::10", "ipMode": "Proxy"},
        ]}}),
    );
    let mut found = balanced.addresses.clone();
    found.sort_unstable();
    found.dedup();
    let wanted = ["10.96.0.7", "192.0.2.10", "198.51.100.10", "2001:db8::10", "fd00:96::7"];
    assert_eq!(found, wanted.map(address));
    assert_eq!((balanced.ports, balanced.node_ports), (vec![80], vec![30080]));
    assert!(!balanced.is_alias);
    let alias = read(
        "bank",
        serde_json::json!({
            "type": "ExternalName", "externalName": "bank.example.com", "sessionAffinity": "None",
        }),
        serde_json::json!({"loadBalancer": {}}),
    );
    assert!(alias.is_alias);
    assert_eq!((alias.addresses, alias.ports), (vec![], vec![]));
}

#[test]
fn labels_say_whether_there_is_a_waypoint() {
    const USE: &str = "istio.io/use-waypoint";
    const USE_NAMESPACE: &str = "istio.io/use-waypoint-namespace";
    for (labels, wanted) in [
        (serde_json::json!({USE: "w"}), Some(true)),
        (serde_json::json!({USE: "w", USE_NAMESPACE: "x"}), Some(true)),
        (serde_json::json!({USE: "none"}), Some(false)),
        (serde_json::json!({USE: ""}), Some(false)),
        (serde_json::json!({USE_NAMESPACE: "x"}), None),
        (serde_json::json!({"app": "w"}), None),
    ] {
        let metadata =
            serde_json::json!({"name": "a", "namespace": "b", "uid": "c", "labels": labels});
        let object = serde_json::json!({"metadata": metadata});
        let service: ServiceObject = serde_json::from_value(object.clone()).unwrap();
        let Some(Object::Service(service)) = service.read(READING) else { panic!("{labels}") };
        let pod: PodObject = serde_json::from_value(object.clone()).unwrap();
        let Some(Object::Pod(pod)) = pod.read(READING) else { panic!("{labels}") };
        assert_eq!((service.waypoint, pod.waypoint), (wanted, wanted), "{labels}");
        let namespace: NamespaceObject = serde_json::from_value(object).unwrap();
        let said = namespace.read(READING).map(|object| match object {
            Object::Namespace(namespace) => namespace.waypoint,
            other => panic!("{other:?}"),
        });
        assert_eq!(said, wanted, "{labels}");
    }
}

#[test]
fn endpoints_lead_to_pods() {
    let pods = pods();
    let mut behind = BTreeMap::new();
    for (_, object) in list::<EndpointSliceObject>("endpointslices.json") {
        let Object::Endpoints(endpoints) = object else { panic!("{object:?}") };
        let mut names = Vec::new();
        for (address, uid) in &endpoints.addresses {
            let pod = pods.iter().find(|(_, pod)| Some(&pod.uid) == uid.as_ref());
            // One of the node's network has the node's address, which is not its own.
            if let Some((item, _)) = pod {
                assert_eq!(address.to_string(), text(&item["status"]["podIP"]));
            }
            names.push(pod.map(|(_, pod)| pod.workload.name.to_string()));
        }
        behind.insert(endpoints.service.to_string(), (names, endpoints.ports));
    }
    let some = |name: &str| Some(name.to_owned());
    let wanted = [
        ("cart", (vec![some("cart"), some("cart")], vec![8080])),
        ("door", (vec![some("door")], vec![8081])),
        ("kube-dns", (vec![None], vec![53])),
        ("kubernetes", (vec![None], vec![16443])),
        ("ledger", (vec![some("ledger")], vec![8080])),
    ];
    assert_eq!(behind, wanted.map(|(name, found)| (name.to_owned(), found)).into());
}

/// By its Service, and where it really listens: no pod is behind either.
#[test]
fn the_api_server_is_the_service_of_the_cluster() {
    use crate::attribution::cluster::{Change, Cluster, Remote};
    let mut cluster = Cluster::new(100, false);
    let objects = [
        list::<ServiceObject>("services.json"),
        list::<EndpointSliceObject>("endpointslices.json"),
        list::<NodeObject>("nodes.json"),
    ];
    for (_, object) in objects.into_iter().flatten() {
        cluster.apply(Change::Applied(Box::new(object)));
    }
    let slices = list::<EndpointSliceObject>("endpointslices.json");
    let own = slices.iter().find(|(item, _)| item["metadata"]["name"] == "kubernetes").unwrap();
    let real = text(&own.0["endpoints"][0]["addresses"][0]);
    for endpoint in ["10.96.0.1:443".to_owned(), format!("{real}:16443")] {
        let Some(Remote::External(service)) = cluster.remote(endpoint.parse().unwrap(), true, 1)
        else {
            panic!("{endpoint}");
        };
        assert_eq!((&*service.name, &*service.namespace), ("kubernetes", "default"), "{endpoint}");
    }
}

#[test]
fn nodes_have_addresses() {
    let [(_, Object::Node(node))] = &list::<NodeObject>("nodes.json")[..] else {
        panic!("one node");
    };
    assert_eq!(&*node.name, "lab");
    // Its name is none.
    assert_eq!(node.addresses, [IpAddr::from([10, 244, 0, 1])]);
}

/// A pod of a watch, from its first event to its deletion.
#[test]
fn events_of_a_watch_are_read() {
    let mut kinds = Vec::new();
    for line in recorded("watch.json").lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        kinds.push(text(&event["type"]).to_owned());
        // A bookmark is for the watch alone.
        if text(&event["type"]) != "BOOKMARK" && text(&event["object"]["kind"]) == "Pod" {
            let object: PodObject = serde_json::from_value(event["object"].clone()).unwrap();
            assert!(matches!(object.read(READING), Some(Object::Pod(_))), "{event}");
        }
    }
    for kind in ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"] {
        assert!(kinds.iter().any(|found| found == kind), "{kind}: {kinds:?}");
    }
}
