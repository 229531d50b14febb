//! Metrics in Istio's shape: their labels, and where nobody else reports.

use super::*;
use crate::attribution::cluster::{PodFacts, Service, Sidecar, Workload};
use crate::attribution::mesh::{Mesh, Passage, Policy, Through, Times};

fn workload(name: &str, sidecar: Sidecar) -> Arc<Identity> {
    let labels = [("app".to_owned(), name.to_owned()), ("version".to_owned(), "v1".to_owned())];
    let none = BTreeMap::new();
    let facts = PodFacts {
        namespace: "shop",
        name,
        is_generated: false,
        owner: None,
        labels: &labels.into(),
        annotations: &none,
        account: name,
        containers: &["app"],
        well_known_labels: false,
    };
    let workload = Arc::new(Workload { sidecar, ..facts.workload() });
    Arc::new(Identity {
        kind: IdentityKind::Workload,
        workload: Some(workload),
        ..Identity::clone(&identity(name, "shop"))
    })
}

fn service() -> Arc<Service> {
    Arc::new(Service {
        uid: "s".into(),
        name: "stock".into(),
        namespace: "shop".into(),
        addresses: vec![],
        ports: vec![80],
        node_ports: vec![],
        is_alias: false,
        waypoint: None,
    })
}

fn world(client: Sidecar, server: Sidecar) -> World {
    World { shop: workload("front", client), stock: workload("back", server), ..World::new() }
}

fn stage() -> Aggregator {
    let cluster = "Kubernetes".into();
    Aggregator::new(AggregationSettings { istio: true, cluster, ..Default::default() }, 0)
}

fn of_istio(stage: &Aggregator) -> Vec<(String, f64)> {
    let snapshot = stage.snapshot(2);
    figures(&snapshot).into_iter().filter(|(name, _)| name.starts_with("istio_")).collect()
}

const ENDS: &str = "destination_app=back,destination_canonical_revision=v1,destination_canonical_service=back,\
destination_cluster=Kubernetes,destination_principal=unknown,destination_service=stock.shop.svc.cluster.local,\
destination_service_name=stock,destination_service_namespace=shop,destination_version=v1,\
destination_workload=back,destination_workload_namespace=shop";
const SOURCE: &str = "source_app=front,source_canonical_revision=v1,source_canonical_service=front,\
source_cluster=Kubernetes,source_principal=unknown,source_version=v1,source_workload=front,\
source_workload_namespace=shop";

#[test]
fn both_ends_of_an_unmeshed_edge_are_reported_with_istios_labels() {
    let world = world(Sidecar::None, Sidecar::None);
    for (side, reporter, policy) in
        [(Side::Client, "source", "unknown"), (Side::Server, "destination", "none")]
    {
        let mut stage = stage();
        stage.record(&Call { service: Some(service()), ..world.call(side) }, 1);
        let labels = format!(
            "connection_security_policy={policy},{ENDS},reporter={reporter},request_protocol=http,response_code=200,response_flags=-,{SOURCE}"
        );
        let figures = of_istio(&stage);
        assert_eq!(figures.len(), 4);
        for name in [
            "istio_requests_total",
            "istio_request_duration_milliseconds",
            "istio_request_bytes",
            "istio_response_bytes",
        ] {
            let wanted = (format!("{name}{{{labels}}}"), 1.0);
            assert!(figures.contains(&wanted), "{wanted:#?} {figures:#?}");
        }
    }
}

#[test]
fn an_edge_that_istio_reports_is_left_to_it() {
    use Sidecar::{Gateway, Istio, Linkerd, None};
    let count = |client, server, waypoint, mesh: Option<Mesh>| {
        let mut stage = stage();
        let passage = mesh.map(|mesh| {
            let policy = Some(Policy::MutualTls);
            Arc::new(Passage {
                mesh,
                policy,
                client_principal: Option::None,
                server_principal: Option::None,
            })
        });
        let call = world(client, server).call(Side::Server);
        let (service, passes_waypoint) = (Some(service()), waypoint);
        stage.record(&Call { service, passage, passes_waypoint, ..call }, 1);
        of_istio(&stage).len()
    };
    assert_eq!(count(None, None, false, Option::None), 4);
    assert_eq!(count(Linkerd, Linkerd, false, Some(Mesh::Linkerd)), 4);
    assert_eq!(count(None, None, false, Some(Mesh::Ambient)), 4);
    assert_eq!(count(None, None, true, Some(Mesh::Ambient)), 0, "by its waypoint");
    assert_eq!(count(Istio, None, false, Option::None), 0);
    assert_eq!(count(None, Istio, false, Option::None), 0);
    assert_eq!(count(Gateway, None, false, Option::None), 0);
    let (mut stage, world) = (stage(), world(None, None));
    let call = world.call(Side::Server);
    let through = Through {
        number: 2,
        other: Some(1),
        tried: Vec::new(),
        by: Option::None,
        times: Times::default(),
        waypoint: Some(Arc::clone(&call.client.identity)),
    };
    stage.record(&Call { through: Some(Box::new(through)), ..call }, 1);
    assert_eq!(of_istio(&stage).len(), 0, "by the waypoint that hid the client");
}

#[test]
fn what_is_outside_of_the_cluster_reports_nothing_and_is_unknown() {
    let mut outside = world(Sidecar::None, Sidecar::None);
    outside.shop = identity("192.0.2.1", "");
    let mut stage = stage();
    stage.record(&outside.call(Side::Client), 1);
    assert_eq!(of_istio(&stage), []);
    stage.record(&outside.call(Side::Server), 1);
    let figures = of_istio(&stage);
    let requests = figures.iter().find(|(name, _)| name.starts_with("istio_requests_total"));
    let (labels, _) = requests.expect("its server is inside");
    for wanted in
        ["source_workload=unknown", "source_canonical_revision=latest", "destination_service=back,"]
    {
        assert!(labels.contains(wanted), "{wanted} {labels}");
    }
}

#[test]
fn connections_count_where_nobody_reads_calls_off_them() {
    let world = world(Sidecar::None, Sidecar::None);
    let report = ConnectionReport {
        opened: true,
        bytes_received: 70,
        bytes_sent: 7,
        service: Some(service()),
        ..world.report(1)
    };
    let mut stage = stage();
    stage.connection(&ConnectionReport { spoke: true, ..report.clone() }, 1);
    stage.connection(&ConnectionReport { mesh: Some(Mesh::Ambient), ..report.clone() }, 1);
    assert_eq!(of_istio(&stage), []);
    stage.connection(&report, 1);
    let sums: Vec<(String, f64)> = of_istio(&stage)
        .into_iter()
        .map(|(name, figure)| (name.split('{').next().unwrap_or_default().to_owned(), figure))
        .collect();
    let wanted = [
        ("istio_tcp_connections_closed_total", 0.0),
        ("istio_tcp_connections_opened_total", 1.0),
        ("istio_tcp_received_bytes_total", 7.0),
        ("istio_tcp_sent_bytes_total", 70.0),
    ];
    assert_eq!(sums, wanted.map(|(name, figure)| (name.to_owned(), figure)));
}

#[test]
fn without_the_switch_there_are_none() {
    let mut stage = aggregator();
    stage.record(&world(Sidecar::None, Sidecar::None).call(Side::Server), 1);
    assert_eq!(of_istio(&stage), []);
}
