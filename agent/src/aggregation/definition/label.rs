//! The labels that metrics share, each with its meaning.

pub mod istio;

/// A label.
#[derive(Debug)]
pub struct LabelDefinition {
    /// Its OpenTelemetry name.
    pub name: &'static str,
    /// One sentence, for the reference.
    pub meaning: &'static str,
}

macro_rules! labels {
    ($(#[doc = $about:literal])+ $all:ident: $($identifier:ident $name:literal $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            pub static $identifier: LabelDefinition =
                LabelDefinition { name: $name, meaning: $meaning };
        )*
        $(#[doc = $about])+
        pub(super) static $all: &[&LabelDefinition] = &[$(&$identifier),*];
    };
}
use labels;

labels! {
    /// Every label but Istio's own, in the order of the reference.
    ALL:
    PEER_NAME "service.peer.name" "The workload at the other end; `unknown` where nothing is known of it.";
    PEER_NAMESPACE "service.peer.namespace" "Its namespace; absent where it has none.";
    METHOD "http.request.method" "The request's method where RFC 9110, PATCH or QUERY define it, else `_OTHER`; `<unknown>` where it went by before the agent came.";
    STATUS "http.response.status_code" "Status of the answer; absent where no final answer was seen.";
    ROUTE "http.route" "The path as a route: a configured pattern, else one learnt from the traffic; absent where neither is there (`routes.learn: false`).";
    ERROR "error.type" "The status as text (server: 5xx; client: 4xx and 5xx); where there was no whole answer the cause: `connection_closed`, `abandoned`, `connection_reset`, `reset_sent`, `timeout`, `vanished`, of a stream of HTTP/2 also `cancelled`, `deadline_exceeded`, `refused_stream`, or `stream_…` with the error code of the reset (all of them stand in `docs/observe.md`). Of a remote procedure call the name of its status (client: all but `OK`; server: `UNKNOWN`, `DEADLINE_EXCEEDED`, `UNIMPLEMENTED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`), else the cause, else the HTTP status of an answer that was not gRPC's (client: all but 200; server: 5xx). Absent where nothing failed.";
    VERSION "network.protocol.version" "`1.0`, `1.1` or `2`, as the request said.";
    SCHEME "url.scheme" "`http`: what is read on the wire is not encrypted. Server side only, where the convention requires it.";
    RPC_METHOD "rpc.method" "Method of the remote procedure call, `package.Service/Method`; in the deprecated metrics the part behind the last slash. `_OTHER` where no answer showed that the service has it (one with a status does, but for `UNIMPLEMENTED`, `UNAUTHENTICATED` and `PERMISSION_DENIED`), or where it has `routes.per_service` others; `<unknown>` where the name went by before the agent came.";
    RPC_STATUS "rpc.status_code" "gRPC's status by name, as `OK` or `DEADLINE_EXCEEDED`; `_OTHER` for a number that has none; absent where no status was seen.";
    RPC_SYSTEM "rpc.system.name" "`grpc`, of gRPC-Web too, or `connectrpc`.";
    OLD_RPC_SERVICE "rpc.service" "`package.Service`. Deprecated metrics only.";
    OLD_RPC_STATUS "rpc.grpc.status_code" "gRPC's status by number; absent where no status that gRPC knows was seen. Deprecated metrics only.";
    OLD_RPC_SYSTEM "rpc.system" "`grpc`, of gRPC-Web too, or `connect_rpc`. Deprecated metrics only.";
    ADDRESS "server.address" "Host of the authority that the client asked for, else the address. Client side only.";
    PORT "server.port" "Port that the client asked for. Client side only.";
    CLIENT "client" "The workload that asked, or connected.";
    CLIENT_NAMESPACE "client_service_namespace" "Its namespace; absent where it has none.";
    SERVER "server" "The workload that was asked.";
    SERVER_NAMESPACE "server_service_namespace" "Its namespace; absent where it has none.";
    CONNECTION_TYPE "connection_type" "`virtual_node` where only one end of the edge is observed on this host; else absent.";
    MESH "mesh" "Whose proxies the call passed: `istio`, `ambient`, `linkerd`, `other`; absent where none was seen.";
    POLICY "connection_security_policy" "How the connection between the proxies was secured, by what the server's proxy says: `mutual_tls`, `none`; absent where that is not known.";
    SOURCE_PRINCIPAL "source_principal" "Whom the client's certificate names, as `spiffe://…`; absent where that is not known.";
    DESTINATION_PRINCIPAL "destination_principal" "Whom the server's certificate names, likewise.";
    ROLE "role" "Which end observed it: `client` (connected, or called) or `server` (accepted, or answered). Both ends are counted where both are on this host: sum over one role.";
    DIRECTION "network.io.direction" "`transmit` or `receive`, from the observing end (of a host: from the host).";
    MESSAGE_DIRECTION "direction" "`sent` or `received`, from the observing end.";
    REASON "reason" "Why: for connections `fin`, `reset_received`, `reset_sent`, `timeout`, `refused`, `unanswered`, `unknown`; for losses what was missing; for spans left out who makes them; for dropped packets the kernel's name, as `NO_SOCKET`, or `other`.";
    EVENT_KIND "kind" "Kind of the kernel's record.";
    QUEUE "queue" "Name of the queue.";
    SIGNAL "signal" "What is exported: `metrics`, `traces` or `logs` by OTLP, `access_log` to standard output.";
    OUTCOME "outcome" "What became of it: `exported`; `rejected` by the receiver inside a request that it took; `failed`, its request was refused; `dropped`, given up or no room (data points of metrics: the next interval replaces them).";
    TABLE "table" "Name of the map, cache or table.";
    BUILD_VERSION "version" "Version of the agent.";
    ARCHITECTURE "architecture" "Machine architecture that the agent was built for.";
    RELEASE "release" "Release of the running kernel.";
    OVERFLOW "otel.metric.overflow" "`true` on the one series per metric that takes what found no room in the budget; it has no other label.";
}

/// Every label, in the order of the reference.
pub fn all() -> impl Iterator<Item = &'static LabelDefinition> {
    ALL.iter().chain(istio::ALL).copied()
}
