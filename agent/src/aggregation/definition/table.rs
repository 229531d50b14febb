//! The metrics, one entry each, in the order of [`MetricId`].

use super::super::histogram::{
    DURATION, ISTIO_BYTES, ISTIO_MILLISECONDS, LATENCY, MILLISECONDS, SIZE,
};
use super::label::istio;
use super::label::{
    ADDRESS, ARCHITECTURE, BUILD_VERSION, CLIENT, CLIENT_NAMESPACE, CONNECTION_TYPE,
    DESTINATION_PRINCIPAL, DIRECTION, ERROR, EVENT_KIND, MESH, MESSAGE_DIRECTION, METHOD,
    OLD_RPC_SERVICE, OLD_RPC_STATUS, OLD_RPC_SYSTEM, OUTCOME, PEER_NAME, PEER_NAMESPACE, POLICY,
    PORT, QUEUE, REASON, RELEASE, ROLE, ROUTE, RPC_METHOD, RPC_STATUS, RPC_SYSTEM, SCHEME, SERVER,
    SERVER_NAMESPACE, SIGNAL, SOURCE_PRINCIPAL, STATUS, TABLE, VERSION,
};
use super::{Definition, Kind, LabelDefinition, MetricId, Subject};

type Labels = &'static [&'static LabelDefinition];

static SERVER_SIDE: Labels =
    &[&ERROR, &METHOD, &STATUS, &ROUTE, &VERSION, &PEER_NAME, &PEER_NAMESPACE, &SCHEME];
static CLIENT_SIDE: Labels =
    &[&ERROR, &METHOD, &STATUS, &ROUTE, &VERSION, &ADDRESS, &PORT, &PEER_NAME, &PEER_NAMESPACE];
static RPC_SERVER: Labels =
    &[&ERROR, &RPC_METHOD, &RPC_STATUS, &RPC_SYSTEM, &PEER_NAME, &PEER_NAMESPACE];
static RPC_CLIENT: Labels =
    &[&ERROR, &RPC_METHOD, &RPC_STATUS, &RPC_SYSTEM, &ADDRESS, &PORT, &PEER_NAME, &PEER_NAMESPACE];
static OLD_RPC_SERVER: Labels =
    &[&OLD_RPC_STATUS, &RPC_METHOD, &OLD_RPC_SERVICE, &OLD_RPC_SYSTEM, &PEER_NAME, &PEER_NAMESPACE];
static OLD_RPC_CLIENT: Labels = &[
    &OLD_RPC_STATUS,
    &RPC_METHOD,
    &OLD_RPC_SERVICE,
    &OLD_RPC_SYSTEM,
    &ADDRESS,
    &PORT,
    &PEER_NAME,
    &PEER_NAMESPACE,
];
static RPC_TRAFFIC: Labels = &[&MESSAGE_DIRECTION, &ROLE, &RPC_METHOD, &PEER_NAME, &PEER_NAMESPACE];
static GRAPH: Labels = &[
    &CLIENT,
    &CLIENT_NAMESPACE,
    &POLICY,
    &CONNECTION_TYPE,
    &DESTINATION_PRINCIPAL,
    &MESH,
    &SERVER,
    &SERVER_NAMESPACE,
    &SOURCE_PRINCIPAL,
];
static MESH_EDGE: Labels = &[&CLIENT, &CLIENT_NAMESPACE, &MESH, &SERVER, &SERVER_NAMESPACE];
/// Istio's labels, which calls have two more of than connections.
macro_rules! istio {
    ([$($grpc:expr)?], [$($code:expr)?]) => {
        &[
            &POLICY,
            &istio::DESTINATION_APP,
            &istio::DESTINATION_CANONICAL_REVISION,
            &istio::DESTINATION_CANONICAL_SERVICE,
            &istio::DESTINATION_CLUSTER,
            &DESTINATION_PRINCIPAL,
            &istio::DESTINATION_SERVICE,
            &istio::DESTINATION_SERVICE_NAME,
            &istio::DESTINATION_SERVICE_NAMESPACE,
            &istio::DESTINATION_VERSION,
            &istio::DESTINATION_WORKLOAD,
            &istio::DESTINATION_WORKLOAD_NAMESPACE,
            $($grpc,)?
            &istio::REPORTER,
            &istio::REQUEST_PROTOCOL,
            $($code,)?
            &istio::RESPONSE_FLAGS,
            &istio::SOURCE_APP,
            &istio::SOURCE_CANONICAL_REVISION,
            &istio::SOURCE_CANONICAL_SERVICE,
            &istio::SOURCE_CLUSTER,
            &SOURCE_PRINCIPAL,
            &istio::SOURCE_VERSION,
            &istio::SOURCE_WORKLOAD,
            &istio::SOURCE_WORKLOAD_NAMESPACE,
        ]
    };
}

static ISTIO: Labels = istio!([&istio::GRPC_RESPONSE_STATUS], [&istio::RESPONSE_CODE]);
static ISTIO_TCP: Labels = istio!([], []);
static TCP: Labels = &[&ROLE, &PEER_NAME, &PEER_NAMESPACE];
static TCP_REASON: Labels = &[&REASON, &ROLE, &PEER_NAME, &PEER_NAMESPACE];
static TCP_DIRECTION: Labels = &[&DIRECTION, &ROLE, &PEER_NAME, &PEER_NAMESPACE];
static LOST: Labels = &[&CLIENT, &CLIENT_NAMESPACE, &REASON, &SERVER, &SERVER_NAMESPACE];

macro_rules! metrics {
    ($($id:ident $name:literal $unit:literal $kind:expr, $subject:ident, $labels:expr, $help:literal;)*) => {
        /// Every metric, at the place that its [`MetricId`] says.
        pub static DEFINITIONS: &[Definition] = &[$(Definition {
            id: MetricId::$id,
            name: $name,
            unit: $unit,
            help: $help,
            kind: $kind,
            subject: Subject::$subject,
            labels: $labels,
        }),*];
    };
}

metrics! {
    HttpServerDuration "http.server.request.duration" "s" Kind::Histogram(&DURATION), Workload, SERVER_SIDE,
        "Duration of HTTP requests that the workload answered, to the last byte of the answer.";
    HttpServerRequestSize "http.server.request.body.size" "By" Kind::Histogram(&SIZE), Workload, SERVER_SIDE,
        "Body size of HTTP requests that the workload received, without chunk framing.";
    HttpServerResponseSize "http.server.response.body.size" "By" Kind::Histogram(&SIZE), Workload, SERVER_SIDE,
        "Body size of HTTP responses that the workload sent, without chunk framing.";
    HttpClientDuration "http.client.request.duration" "s" Kind::Histogram(&DURATION), Workload, CLIENT_SIDE,
        "Duration of HTTP requests that the workload made, to the last byte of the answer.";
    HttpClientRequestSize "http.client.request.body.size" "By" Kind::Histogram(&SIZE), Workload, CLIENT_SIDE,
        "Body size of HTTP requests that the workload sent, without chunk framing.";
    HttpClientResponseSize "http.client.response.body.size" "By" Kind::Histogram(&SIZE), Workload, CLIENT_SIDE,
        "Body size of HTTP responses that the workload received, without chunk framing.";
    RpcServerDuration "rpc.server.call.duration" "s" Kind::Histogram(&DURATION), Workload, RPC_SERVER,
        "Duration of remote procedure calls that the workload answered, to the last byte of the answer. They are in no HTTP metric.";
    RpcClientDuration "rpc.client.call.duration" "s" Kind::Histogram(&DURATION), Workload, RPC_CLIENT,
        "Duration of remote procedure calls that the workload made, to the last byte of the answer. They are in no HTTP metric.";
    RpcServerDurationOld "rpc.server.duration" "ms" Kind::Histogram(&MILLISECONDS), Workload, OLD_RPC_SERVER,
        "The same as rpc.server.call.duration under its deprecated name. Only where `semantics.rpc` says so.";
    RpcClientDurationOld "rpc.client.duration" "ms" Kind::Histogram(&MILLISECONDS), Workload, OLD_RPC_CLIENT,
        "The same as rpc.client.call.duration under its deprecated name. Only where `semantics.rpc` says so.";
    RpcMessages "meshtap.rpc.messages" "{message}" Kind::Counter, Workload, RPC_TRAFFIC,
        "Messages of remote procedure calls; those of a call that goes on count as they are reported.";
    RpcIo "meshtap.rpc.io" "By" Kind::Counter, Workload, RPC_TRAFFIC,
        "Body bytes of remote procedure calls, likewise.";
    RpcUncounted "meshtap.rpc.calls.uncounted" "{call}" Kind::Counter, Workload, RPC_TRAFFIC,
        "Remote procedure calls whose messages could not be counted in this direction: at their end they added none to meshtap.rpc.messages.";
    GraphTotal "traces_service_graph_request_total" "" Kind::Counter, Edge, GRAPH,
        "Calls between two workloads, each counted once: at the server's end, or at the client's where the server is neither observed on this host nor in the same Kubernetes cluster, whose nodes have agents of their own.";
    GraphFailed "traces_service_graph_request_failed_total" "" Kind::Counter, Edge, GRAPH,
        "Calls of traces_service_graph_request_total that were answered with 5xx or had no whole answer; of remote procedure calls those that the server answers for, see `error.type`.";
    GraphServerSeconds "traces_service_graph_request_server_seconds" "s" Kind::Histogram(&DURATION), Edge, GRAPH,
        "Duration of the calls between two workloads as the server's end saw them.";
    GraphClientSeconds "traces_service_graph_request_client_seconds" "s" Kind::Histogram(&DURATION), Edge, GRAPH,
        "Duration of the calls between two workloads as the client's end saw them.";
    MeshBetween "meshtap.mesh.between" "s" Kind::Histogram(&LATENCY), Edge, MESH_EDGE,
        "What calls through the proxies of a mesh took at the client's end and not at the server's: in the proxies, and on the network between them. Only of calls whose two ends are on this host and known to be the same call's by an id that both carry (`x-request-id`, or trace and span id); named as the end that was seen second knows them, which mostly is the client's.";
    TcpOpened "meshtap.tcp.connections.opened" "{connection}" Kind::Counter, Workload, TCP,
        "TCP connections that were established.";
    TcpClosed "meshtap.tcp.connections.closed" "{connection}" Kind::Counter, Workload, TCP_REASON,
        "TCP connections that ended, by how they ended.";
    TcpFailed "meshtap.tcp.connections.failed" "{connection}" Kind::Counter, Workload, TCP_REASON,
        "TCP connections that were never established, by the reason.";
    TcpActive "meshtap.tcp.connections.active" "{connection}" Kind::Gauge, Workload, TCP,
        "TCP connections that are established now, those older than the agent included.";
    TcpIo "meshtap.tcp.io" "By" Kind::Counter, Workload, TCP_DIRECTION,
        "Payload bytes of TCP connections; transmitted ones count when the other end acknowledged them.";
    TcpRetransmits "meshtap.tcp.retransmits" "{segment}" Kind::Counter, Workload, TCP,
        "TCP segments that the workload's end sent again.";
    TcpResets "meshtap.tcp.resets" "{reset}" Kind::Counter, Workload, TCP_DIRECTION,
        "Established TCP connections that a reset ended.";
    TcpConnect "meshtap.tcp.connect.duration" "s" Kind::Histogram(&LATENCY), Workload, TCP,
        "Time from SYN to established, on the connecting end.";
    TcpRtt "meshtap.tcp.rtt" "s" Kind::Histogram(&LATENCY), Workload, TCP,
        "Samples of the smoothed round-trip time of TCP connections, one per report of a connection.";
    IstioRequests "istio_requests_total" "" Kind::Counter, Edge, ISTIO,
        "Requests, as Istio's proxies count them. Only where `mesh.istio_metrics` says so, and for edges of which no proxy of Istio's reports either end: where one reports the other end, it calls an end without a sidecar `unknown`, and so the two would not be taken for the same calls, but drawn and added up as two edges.";
    IstioDuration "istio_request_duration_milliseconds" "ms" Kind::Histogram(&ISTIO_MILLISECONDS), Edge, ISTIO,
        "Their duration in whole milliseconds, likewise.";
    IstioRequestBytes "istio_request_bytes" "By" Kind::Histogram(&ISTIO_BYTES), Edge, ISTIO,
        "Sizes of their bodies, likewise. Headers and framing, which Istio counts as well, are not in it: beside its proxies the same requests are smaller here.";
    IstioResponseBytes "istio_response_bytes" "By" Kind::Histogram(&ISTIO_BYTES), Edge, ISTIO,
        "Sizes of the answers' bodies, likewise, without headers and framing.";
    IstioTcpOpened "istio_tcp_connections_opened_total" "" Kind::Counter, Edge, ISTIO_TCP,
        "Connections that carry no calls that can be read, as Istio's proxies count them; likewise.";
    IstioTcpClosed "istio_tcp_connections_closed_total" "" Kind::Counter, Edge, ISTIO_TCP,
        "Those of them that ended, likewise.";
    IstioTcpSent "istio_tcp_sent_bytes_total" "" Kind::Counter, Edge, ISTIO_TCP,
        "Bytes that the servers of such connections sent, likewise.";
    IstioTcpReceived "istio_tcp_received_bytes_total" "" Kind::Counter, Edge, ISTIO_TCP,
        "Bytes that the clients of such connections sent, likewise.";
    CallsLost "meshtap_calls_lost_total" "" Kind::Counter, Edge, LOST,
        "Calls that took place and are in no other metric, by the reason; client and server where they are known. What a connection lost last is told when it speaks again or ends.";
    HostDropped "meshtap_host_packets_dropped_total" "" Kind::Counter, Host, &[&REASON],
        "Packets that the kernel says it dropped, by its own name of the reason, for sockets of any family. Not each is a fault: `QUEUE_PURGE` is what a closed socket had not read, and so counts the FIN of most connections.";
    HostResets "meshtap_host_resets_total" "" Kind::Counter, Host, &[&DIRECTION],
        "TCP resets, those that belong to no established connection included; older kernels do not tell of resets sent where no socket is.";
    HostRetransmits "meshtap_host_retransmits_total" "" Kind::Counter, Host, &[],
        "TCP packets that were sent again; one that is cut into several segments counts once, a SYN-ACK not at all.";
    EventsLost "meshtap_events_lost_total" "" Kind::Counter, Agent, &[&REASON],
        "Records of the kernel half, or what they would have said, that are missing, by the reason.";
    Events "meshtap_events_total" "" Kind::Counter, Agent, &[&EVENT_KIND],
        "Records of the kernel half that were read, by kind.";
    CallsCounted "meshtap_kernel_counted_calls_total" "" Kind::Counter, Agent, &[],
        "Calls that the kernel half counted by itself: they are in all other metrics, and no record was read of them.";
    CaptureShare "meshtap_capture_share" "" Kind::Gauge, Agent, &[],
        "Share of the connections whose calls are read: 1, or less while the agent keeps within `limits`. Every call that is read is counted as often as it stands for, so that all other metrics are right in the mean; those of TCP connections are whole.";
    ConnectionsLeftOut "meshtap_connections_unsampled_total" "" Kind::Counter, Agent, &[],
        "TCP connections whose bytes are not looked at, for the agent keeps within `limits`; of a connection on this host both ends.";
    RingUsed "meshtap_ring_buffer_used_bytes" "By" Kind::Gauge, Agent, &[],
        "Bytes that waited in the ring buffer when it was last drained.";
    RingCapacity "meshtap_ring_buffer_capacity_bytes" "By" Kind::Gauge, Agent, &[],
        "Size of the ring buffer.";
    QueueLength "meshtap_queue_length" "" Kind::Gauge, Agent, &[&QUEUE],
        "Items that wait in a queue between two parts of the agent.";
    QueueCapacity "meshtap_queue_capacity" "" Kind::Gauge, Agent, &[&QUEUE],
        "Items that the queue takes at the most.";
    QueueDropped "meshtap_queue_dropped_total" "" Kind::Counter, Agent, &[&QUEUE],
        "Items that the queue had no room for.";
    TableEntries "meshtap_table_entries" "" Kind::Gauge, Agent, &[&TABLE],
        "Entries of a map, cache or table, in the kernel or in the agent.";
    TableCapacity "meshtap_table_capacity" "" Kind::Gauge, Agent, &[&TABLE],
        "Entries that the map, cache or table takes at the most.";
    TableDropped "meshtap_table_dropped_total" "" Kind::Counter, Agent, &[&TABLE],
        "Entries that were evicted or refused because the map, cache or table was full.";
    ExportItems "meshtap_export_items_total" "" Kind::Counter, Agent, &[&OUTCOME, &SIGNAL],
        "Data points, spans, log records and lines that were to leave the agent, by what became of them.";
    ExportRetries "meshtap_export_retries_total" "" Kind::Counter, Agent, &[&SIGNAL],
        "Attempts to send after the first.";
    SpansLeftOut "meshtap_spans_left_out_total" "" Kind::Counter, Agent, &[&REASON],
        "Sampled calls without a span because somebody else makes it: the service is `configured`, or the process traces `itself`.";
    NotCalls "meshtap_not_calls_total" "" Kind::Counter, Agent, &[&REASON],
        "What was seen of protocols and is no call: streams of HTTP/2 that ask for a `tunnel` (CONNECT) or that a server would `push`, blocks of headers that were an `unreadable_block` (unknown from there on, never guessed), frames in the wrong place (`malformed_frame`), records of a call that is over (`stray_record`), and requests that a mesh's proxy makes on its own account (`mesh_probe`).";
    SeriesOverflowed "meshtap_series_overflowed_total" "" Kind::Counter, Agent, &[],
        "Updates that went to an overflow series because the budget of series was spent.";
    SeriesExpired "meshtap_series_expired_total" "" Kind::Counter, Agent, &[],
        "Series that were dropped because nothing touched them for the idle time.";
    CpuSeconds "process_cpu_seconds_total" "s" Kind::Counter, Agent, &[],
        "User and system CPU time that the agent has used.";
    ResidentMemory "process_resident_memory_bytes" "By" Kind::Gauge, Agent, &[],
        "Resident memory of the agent.";
    StartTime "process_start_time_seconds" "s" Kind::Gauge, Agent, &[],
        "When the agent started, in seconds since 1970.";
    BuildInfo "meshtap_build_info" "" Kind::Gauge, Agent, &[&ARCHITECTURE, &BUILD_VERSION],
        "Always 1; the labels say which build runs.";
    KernelInfo "meshtap_kernel_info" "" Kind::Gauge, Agent, &[&RELEASE],
        "Always 1; the label says which kernel runs.";
}
