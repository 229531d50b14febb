//! Labels of the metrics in Istio's shape, with Istio's rules for them.

use super::{LabelDefinition, labels};

labels! {
    /// Labels that only Istio has.
    ALL:
    REPORTER "reporter" "Istio's metrics: `source`, the client's end, or `destination`, the server's.";
    REQUEST_PROTOCOL "request_protocol" "Istio's metrics: `http`, `grpc` or `tcp`.";
    RESPONSE_CODE "response_code" "Istio's metrics: HTTP's status of the answer; `0` where there was none.";
    RESPONSE_FLAGS "response_flags" "Istio's metrics: `-`, as there is no proxy that could flag anything.";
    GRPC_RESPONSE_STATUS "grpc_response_status" "Istio's metrics: gRPC's status by number; absent where there is none.";
    SOURCE_APP "source_app" "Istio's metrics: label `app.kubernetes.io/name` or `app` of the client; `unknown` where it has neither.";
    SOURCE_VERSION "source_version" "Istio's metrics: label `app.kubernetes.io/version` or `version` of the client, likewise.";
    SOURCE_CLUSTER "source_cluster" "Istio's metrics: `kubernetes.cluster`; absent where that is not given.";
    SOURCE_WORKLOAD "source_workload" "Istio's metrics: the client's workload; `unknown` where it has none.";
    SOURCE_WORKLOAD_NAMESPACE "source_workload_namespace" "Istio's metrics: its namespace, likewise.";
    SOURCE_CANONICAL_SERVICE "source_canonical_service" "Istio's metrics: the client's canonical service, likewise.";
    SOURCE_CANONICAL_REVISION "source_canonical_revision" "Istio's metrics: its revision; `latest` where no label says it.";
    DESTINATION_APP "destination_app" "Istio's metrics: as `source_app`, of the server.";
    DESTINATION_VERSION "destination_version" "Istio's metrics: as `source_version`, of the server.";
    DESTINATION_CLUSTER "destination_cluster" "Istio's metrics: as `source_cluster`.";
    DESTINATION_SERVICE "destination_service" "Istio's metrics: host of the service that was asked for, as `cart.shop.svc.cluster.local`; else at the client what it asked for, at the server its canonical service.";
    DESTINATION_SERVICE_NAME "destination_service_name" "Istio's metrics: name of that service.";
    DESTINATION_SERVICE_NAMESPACE "destination_service_namespace" "Istio's metrics: its namespace, else the server's; `unknown` where neither is known.";
    DESTINATION_WORKLOAD "destination_workload" "Istio's metrics: as `source_workload`, of the server.";
    DESTINATION_WORKLOAD_NAMESPACE "destination_workload_namespace" "Istio's metrics: as `source_workload_namespace`, of the server.";
    DESTINATION_CANONICAL_SERVICE "destination_canonical_service" "Istio's metrics: as `source_canonical_service`, of the server.";
    DESTINATION_CANONICAL_REVISION "destination_canonical_revision" "Istio's metrics: as `source_canonical_revision`, of the server.";
}
