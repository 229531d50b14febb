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
    Aggregator::new(AggregationSettings { istio: true, cluster, ..Default::default() }, 0, 0)
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

/// gRPC has its own status beside HTTP's, as Envoy tells them: `0` stands for no answer of
/// HTTP's, and what is gRPC's only by name (gRPC-Web, Connect) is HTTP.
#[test]
fn grpc_is_told_as_envoy_does() {
    use crate::protocol::{Rpc, RpcSystem};
    let world = world(Sidecar::None, Sidecar::None);
    for (system, http, status, wanted) in [
        (
            Some(RpcSystem::Grpc),
            Some(200),
            Some(14),
            "grpc_response_status=14,reporter=destination,request_protocol=grpc,response_code=200",
        ),
        (
            Some(RpcSystem::Grpc),
            Some(200),
            Some(0),
            "grpc_response_status=0,reporter=destination,request_protocol=grpc,response_code=200",
        ),
        (
            Some(RpcSystem::Grpc),
            Some(503),
            None,
            "reporter=destination,request_protocol=grpc,response_code=503",
        ),
        (
            Some(RpcSystem::Grpc),
            None,
            None,
            "reporter=destination,request_protocol=grpc,response_code=0",
        ),
        (
            Some(RpcSystem::GrpcWeb),
            Some(200),
            Some(14),
            "reporter=destination,request_protocol=http,response_code=200",
        ),
        (
            Some(RpcSystem::Connect),
            Some(200),
            None,
            "reporter=destination,request_protocol=http,response_code=200",
        ),
        (None, None, None, "reporter=destination,request_protocol=http,response_code=0"),
    ] {
        let mut call = Call { service: Some(service()), ..world.call(Side::Server) };
        call.exchange.status = http;
        call.exchange.rpc = system.map(|system| Box::new(Rpc { system, ..*Rpc::sample(status) }));
        let mut stage = stage();
        stage.record(&call, 1);
        let labels =
            format!("connection_security_policy=none,{ENDS},{wanted},response_flags=-,{SOURCE}");
        let figures = of_istio(&stage);
        let requests = (format!("istio_requests_total{{{labels}}}"), 1.0);
        assert!(figures.contains(&requests), "{requests:#?} {figures:#?}");
        assert_eq!(figures.len(), 4);
    }
}

/// At the server alone: a client's proxy does not say how it was seen at the other end.
#[test]
fn what_ambient_secures_has_its_policy_and_whom_certificates_name() {
    const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/front";
    const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/back";
    let world = world(Sidecar::None, Sidecar::None);
    let passage = |policy| {
        Some(Arc::new(Passage {
            mesh: Mesh::Ambient,
            policy: Some(policy),
            client_principal: Some(Text::from(CLIENT)),
            server_principal: Some(Text::from(SERVER)),
        }))
    };
    for (side, reporter, policy, wanted) in [
        (Side::Server, "destination", Policy::MutualTls, "mutual_tls"),
        (Side::Server, "destination", Policy::None, "none"),
        (Side::Client, "source", Policy::MutualTls, "unknown"),
    ] {
        let mut stage = stage();
        let passage = passage(policy);
        stage.record(&Call { service: Some(service()), passage, ..world.call(side) }, 1);
        let ends = ENDS.replace("principal=unknown", &format!("principal={SERVER}"));
        let source = SOURCE.replace("principal=unknown", &format!("principal={CLIENT}"));
        let labels = format!(
            "connection_security_policy={wanted},{ends},reporter={reporter},request_protocol=http,response_code=200,response_flags=-,{source}"
        );
        let figures = of_istio(&stage);
        let requests = (format!("istio_requests_total{{{labels}}}"), 1.0);
        assert!(figures.contains(&requests), "{requests:#?} {figures:#?}");
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
    let wanted = |labels: &str, figures: [f64; 4]| {
        let names = ["connections_closed", "connections_opened", "received_bytes", "sent_bytes"];
        let series = names.map(|name| format!("istio_tcp_{name}_total{{{labels}}}"));
        series.into_iter().zip(figures).collect::<Vec<_>>()
    };
    // Those of calls but for `response_code` and `grpc_response_status`.
    let labels = |reporter: &str, policy: &str| {
        format!(
            "connection_security_policy={policy},{ENDS},reporter={reporter},request_protocol=tcp,response_flags=-,{SOURCE}"
        )
    };
    let source = labels("source", "unknown");
    assert_eq!(source.split(',').count(), 23);
    assert_eq!(of_istio(&stage), wanted(&source, [0.0, 1.0, 7.0, 70.0]));
    // The same directions at the server: received is what the client sent.
    let mut stage = self::stage();
    let (closed, side) = (Some(CLOSE_FIN), Side::Server);
    let (bytes_received, bytes_sent) = (7, 70);
    let report = ConnectionReport { side, closed, bytes_received, bytes_sent, ..report };
    stage.connection(&report, 1);
    let destination = labels("destination", "none");
    assert_eq!(of_istio(&stage), wanted(&destination, [1.0, 1.0, 7.0, 70.0]));
}

#[test]
fn without_the_switch_there_are_none() {
    let mut stage = aggregator();
    stage.record(&world(Sidecar::None, Sidecar::None).call(Side::Server), 1);
    assert_eq!(of_istio(&stage), []);
}
