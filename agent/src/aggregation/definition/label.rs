//! The labels that metrics share, each with its meaning.

/// A label.
#[derive(Debug)]
pub struct LabelDefinition {
    /// Its OpenTelemetry name.
    pub name: &'static str,
    /// One sentence, for the reference.
    pub meaning: &'static str,
}

macro_rules! labels {
    ($($identifier:ident $name:literal $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            pub static $identifier: LabelDefinition =
                LabelDefinition { name: $name, meaning: $meaning };
        )*
        /// Every label, in the order of the reference.
        pub static ALL: &[&LabelDefinition] = &[$(&$identifier),*];
    };
}

labels! {
    PEER_NAME "service.peer.name" "The workload at the other end; `unknown` where nothing is known of it.";
    PEER_NAMESPACE "service.peer.namespace" "Its namespace; absent where it has none.";
    METHOD "http.request.method" "The request's method where RFC 9110, PATCH or QUERY define it, else `_OTHER`.";
    STATUS "http.response.status_code" "Status of the answer; absent where no final answer was seen.";
    ROUTE "http.route" "The path as a route: a configured pattern, else one learnt from the traffic; absent where neither is there (`routes.learn: false`).";
    ERROR "error.type" "The status as text (server: 5xx; client: 4xx and 5xx); where there was no whole answer the cause: `connection_closed`, `abandoned`, `connection_reset`, `reset_sent`, `timeout`, `vanished`; absent where nothing failed.";
    VERSION "network.protocol.version" "`1.0` or `1.1`, as the request said.";
    SCHEME "url.scheme" "`http`: what is read on the wire is not encrypted. Server side only, where the convention requires it.";
    ADDRESS "server.address" "Host of the authority that the client asked for, else the address. Client side only.";
    PORT "server.port" "Port that the client asked for. Client side only.";
    CLIENT "client" "The workload that asked, or connected.";
    CLIENT_NAMESPACE "client_service_namespace" "Its namespace; absent where it has none.";
    SERVER "server" "The workload that was asked.";
    SERVER_NAMESPACE "server_service_namespace" "Its namespace; absent where it has none.";
    CONNECTION_TYPE "connection_type" "`virtual_node` where only one end of the edge is observed on this host; else absent.";
    ROLE "role" "Which end of the connection observed it: `client` (connected) or `server` (accepted). Both ends are counted where both are on this host: sum over one role.";
    DIRECTION "network.io.direction" "`transmit` or `receive`, from the observing end (of a host: from the host).";
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
