//! The keys: each is defined here, once, with its type, default, range and meaning.
//!
//! What a key means stands in its doc comment, which is also what the reference says.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use meshtap_ebpf::limits;

use super::environment::{Standard, fault};
use super::reader::{Bounds, Key, Reader};
use super::rule::{NameRule, RouteRule, ServiceName};
use super::scalar::Size;
use super::value::choice;

/// Defines the keys of one section and the struct that holds their values.
macro_rules! section {
    ($(#[doc = $about:literal])+ $section:ident = $path:literal {
        $($(#[doc = $meaning:literal])+
          $name:ident: $type:ty = $default:expr, $bounds:expr $(, or $standard:expr)* ;)+
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $section {
            $($(#[doc = $meaning])+ pub $name: $type,)+
        }

        impl $section {
            pub(super) fn read(reader: &mut Reader<'_>) -> Self {
                reader.section($path, concat!($($about),+));
                Self {
                    $($name: reader.take(Key {
                        path: concat!($path, ".", stringify!($name)).to_owned(),
                        meaning: concat!($($meaning),+),
                        default: $default,
                        bounds: $bounds,
                        standard: vec![$($standard),*],
                    }),)+
                }
            }
        }
    };
}
pub(super) use section;

choice! {
    /// How much is logged.
    Level, "a level" {
        /// Nothing.
        Off = "off",
        /// What went wrong.
        Error = "error",
        /// What may go wrong.
        Warn = "warn",
        /// What an operator wants to know.
        Info = "info",
        /// What a developer wants to know.
        Debug = "debug",
    }
}

choice! {
    /// How calls are written to standard output.
    LogFormat, "a format" {
        /// Not at all.
        Off = "off",
        /// One line of text a call.
        Text = "text",
        /// One JSON object a call.
        Json = "json",
    }
}

choice! {
    /// Which names of the RPC conventions are written.
    RpcSemantics, "a choice of names" {
        /// Those that are stable since semantic conventions 1.45.
        New = "new",
        /// Those, and the deprecated ones beside them.
        Both = "both",
        /// The deprecated ones alone.
        Old = "old",
    }
}

pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn paths(paths: &[&str]) -> Vec<PathBuf> {
    paths.iter().map(PathBuf::from).collect()
}

/// Reads the keys that belong to no section.
pub(super) fn listen(reader: &mut Reader<'_>) -> SocketAddr {
    reader.take(Key {
        path: "listen".to_owned(),
        meaning: "Address and port of `/metrics`, `/healthz` and `/readyz`.",
        default: SocketAddr::from(([127, 0, 0, 1], 9990)),
        bounds: Bounds::any(),
        standard: Vec::new(),
    })
}

/// Reads the keys that belong to no section.
pub(super) fn stop_within(reader: &mut Reader<'_>) -> Duration {
    reader.take(Key {
        path: "stop_within".to_owned(),
        meaning: "How long a stop may take to send what was counted; then the rest is given up \
                  and the exit code says so.",
        default: seconds(10),
        bounds: Bounds::between(milliseconds(100), seconds(600)),
        standard: Vec::new(),
    })
}

/// Reads the keys that belong to no section.
pub(super) fn names(reader: &mut Reader<'_>) -> Vec<NameRule> {
    reader.take(Key {
        path: "names".to_owned(),
        meaning: "Names for workloads, the first rule that matches wins. All conditions of a \
                  rule have to hold: `port` (it listens there), `executable` (path; \
                  without a slash the file's name), `unit` (systemd, with or without \
                  `.service`), `cgroup` (path from the root), `address` (address or network, \
                  also of remote hosts). In `executable`, `unit` and `cgroup` stands `*` for any \
                  text without slashes, `**` for any text, `?` for one character.",
        default: Vec::new(),
        bounds: Bounds::any(),
        standard: Vec::new(),
    })
}

section! {
    /// What the agent says about itself, on standard error.
    Log = "log" {
        /// How much the agent logs.
        level: Level = Level::Info, Bounds::any();
        /// How much the programs in the kernel log. `off` removes the code: logging costs
        /// time on every packet.
        kernel: Level = Level::Off, Bounds::any();
    }
}

section! {
    /// What leaves the kernel.
    Capture = "capture" {
        /// Size of the buffer between kernel and agent. It holds what arrives while the agent
        /// does not run; what does not fit is counted as lost.
        ring_bytes: Size = Size(limits::RING_BYTES as u64),
            Bounds::power_of_two(Size(64 << 10), Size(1 << 30));
        /// How much of the head of a request or answer is looked at. Headers beyond it are not
        /// seen, and the call is marked as cut.
        head_prefix: Size = Size(limits::HEAD_PREFIX as u64),
            Bounds::between(Size(256), Size(limits::HEAD_PREFIX_MAX as u64));
        /// Count calls in the kernel that are like one before on their connection, where nobody
        /// asks for each of them: without spans, access log and Istio's metrics. It costs much
        /// less; such calls are in the series after a second at the most.
        count_in_kernel: bool = true, Bounds::any();
        /// How often the buffer is emptied while records come. Shorter shows calls sooner,
        /// longer costs less. Without records nothing is done.
        drain_interval: Duration = milliseconds(5), Bounds::between(milliseconds(1), seconds(1));
        /// How often the figures of a connection that goes on (bytes, retransmissions, round-trip
        /// time) are reported, with the next packet that is due, and the messages and bytes of
        /// remote procedure calls that go on. Shorter shows them sooner, longer costs less; what
        /// is left over is reported when the connection or the call ends.
        report_interval: Duration = seconds(10), Bounds::between(milliseconds(100), seconds(3600));
    }
}

section! {
    /// Bounds of what is remembered of connections.
    Protocol = "protocol" {
        /// Connections that are followed at once; beyond it the one idle for longest is forgotten
        /// and counted.
        connections: usize = 65_536, Bounds::between(64, 16_777_216);
        /// Requests of all connections that may wait for an answer; beyond it the connection idle
        /// for longest is forgotten and counted.
        requests: usize = 65_536, Bounds::between(64, 16_777_216);
        /// Requests of one connection that may wait for an answer; further ones are
        /// counted as lost calls.
        requests_per_connection: usize = 4096, Bounds::between(1, 65_536);
    }
}

section! {
    /// How paths become routes.
    Routes = "routes" {
        /// Routes that are known beforehand, the first that matches wins: `{id}` or `*`
        /// stands for any one segment, a last `*` for all that follow. With `service` only for
        /// services of that name, which may hold `*`.
        patterns: Vec<RouteRule> = Vec::new(), Bounds::any();
        /// Routes that one service may have, and as many methods of remote procedure calls; what
        /// comes later is the route `other`, or the method `_OTHER`.
        per_service: usize = 256, Bounds::between(1, 10_000);
        /// Learn routes from paths that no pattern matches. Without it such a path has no
        /// route, and `http.route` is left out.
        learn: bool = true, Bounds::any();
    }
}

section! {
    /// Where the facts of the host are. An agent in a container has them mounted elsewhere.
    Host = "host" {
        /// `host.name` of everything on this host; `null`: as the kernel says.
        name: Option<String> = None, Bounds::any();
        /// The host's `/proc`.
        proc: PathBuf = PathBuf::from("/proc"), Bounds::any();
        /// Root of the cgroup v2 hierarchy; `null`: it is searched for.
        cgroup: Option<PathBuf> = None, Bounds::any();
    }
}

section! {
    /// Where container runtimes keep their state, which is read for the names of containers. An
    /// agent in a container finds it below `1/root` of the host's `/proc`.
    Containers = "containers" {
        /// Data roots of docker.
        docker: Vec<PathBuf> = paths(&["/var/lib/docker"]), Bounds::any();
        /// Storage roots of podman and CRI-O.
        storage: Vec<PathBuf> =
            paths(&["/var/lib/containers/storage", "/run/containers/storage"]), Bounds::any();
        /// Bundles of containerd: a directory for every namespace, in it one for every container.
        bundles: Vec<PathBuf> = paths(&["/run/containerd/io.containerd.runtime.v2.task"]),
            Bounds::any();
    }
}

section! {
    /// What is learnt from DNS answers that this host receives.
    Dns = "dns" {
        /// Name remote addresses by the DNS answers that led to them.
        learn: bool = true, Bounds::any();
        /// Addresses that are remembered; beyond it the oldest is forgotten and counted.
        addresses: usize = 8192, Bounds::between(16, 1_048_576);
        /// A name counts at least so long, whatever its TTL: connections live longer.
        floor: Duration = seconds(60), Bounds::between(Duration::ZERO, seconds(86_400));
        /// A name counts at most so long, whatever its TTL.
        ceiling: Duration = seconds(86_400), Bounds::between(seconds(1), seconds(604_800));
    }
}

section! {
    /// Bounds of the metrics.
    Series = "series" {
        /// Series of one metric; what comes later is counted in one overflow series.
        limit: usize = 10_000, Bounds::between(10, 10_000_000);
        /// A series without an observation for so long is dropped.
        idle: Duration = seconds(900), Bounds::between(seconds(10), seconds(604_800));
    }
}

section! {
    /// Which calls become spans.
    Traces = "traces" {
        /// Share of the calls without a decision of their own that become spans.
        sample_ratio: f64 = 0.01, Bounds::between(0.0, 1.0),
            or Standard { name: "OTEL_TRACES_SAMPLER".into(), translate: sampler_ratio };
        /// Follow the decision that comes with a request; without it only the ratio decides.
        follow_parent: bool = true, Bounds::any(),
            or Standard { name: "OTEL_TRACES_SAMPLER".into(), translate: sampler_follows };
        /// Services whose calls an SDK or a proxy traces already: no span is sent for their ends
        /// of a call. In a name stands `*` for any text without slashes, `**` for any text, `?`
        /// for one character.
        traced_elsewhere: Vec<ServiceName> = Vec::new(), Bounds::any();
        /// Find out which processes make spans themselves, and send none for their ends of a
        /// call (but for requests that they send without a context). It is proven by three
        /// traces in which a process, while it answered a request, sent one of the same trace
        /// with an id that no request had brought it. A process that ever passed an id on
        /// unchanged is not taken for one that traces. What only answers, or only asks, proves
        /// nothing: name it in `traces.traced_elsewhere`.
        detect_traced: bool = true, Bounds::any();
    }
}

section! {
    /// One line for each call.
    AccessLog = "access_log" {
        /// Lines on standard output.
        stdout: LogFormat = LogFormat::Off, Bounds::any();
        /// Lines as log records to the collector, if there is one.
        otlp: bool = false, Bounds::any();
    }
}

section! {
    /// Metrics for Prometheus to fetch.
    Prometheus = "prometheus" {
        /// Serve `/metrics`.
        enabled: bool = true, Bounds::any();
    }
}

section! {
    /// Which semantic conventions metrics, spans and log records follow. Those of HTTP are stable
    /// and have one form.
    Semantics = "semantics" {
        /// Names of remote procedure calls. `new`: those that are stable since semantic
        /// conventions 1.45 (`rpc.system.name`, `rpc.method` with the service, `rpc.status_code`,
        /// `rpc.server.call.duration` in seconds). `old`: the deprecated ones, as up to 1.37
        /// (`rpc.system`, `rpc.service`, `rpc.method` without the service,
        /// `rpc.grpc.status_code`, `rpc.server.duration` in milliseconds). `both`: the old
        /// beside the new; the `rpc.method` of spans and log records is the new one then.
        /// `OTEL_SEMCONV_STABILITY_OPT_IN` is a list: `rpc/dup` in it means `both`, else `rpc`
        /// means `new`, else `rpc/old`, which is a word of ours, means `old`; others are
        /// ignored, as OpenTelemetry demands.
        rpc: RpcSemantics = RpcSemantics::New, Bounds::any(),
            or Standard { name: "OTEL_SEMCONV_STABILITY_OPT_IN".into(), translate: rpc_opt_in };
    }
}

type Translated = Result<Option<String>, super::value::Fault>;

fn rpc_opt_in(text: &str, _: &super::environment::Environment) -> Translated {
    let meanings = [
        ("rpc/dup", RpcSemantics::Both),
        ("rpc", RpcSemantics::New),
        ("rpc/old", RpcSemantics::Old),
    ];
    let lists = |wanted: &str| text.split(',').any(|word| word.trim() == wanted);
    let meant = meanings.iter().find(|(word, _)| lists(word));
    Ok(meant.map(|(_, meaning)| meaning.word().to_owned()))
}

/// What `OTEL_TRACES_SAMPLER` takes: name, follows the parent, ratio (`None`: by its argument).
const SAMPLERS: [(&str, bool, Option<&str>); 6] = [
    ("always_on", false, Some("1")),
    ("always_off", false, Some("0")),
    ("traceidratio", false, None),
    ("parentbased_always_on", true, Some("1")),
    ("parentbased_always_off", true, Some("0")),
    ("parentbased_traceidratio", true, None),
];

fn sampler(text: &str) -> Result<(bool, Option<&'static str>), super::value::Fault> {
    let known = SAMPLERS.iter().find(|(name, ..)| *name == text);
    known.map(|(_, follow, ratio)| (*follow, *ratio)).ok_or_else(|| {
        let names = SAMPLERS.map(|(name, ..)| name);
        fault(text, &format!("one of {}", super::value::words(&names)))
    })
}

fn sampler_ratio(text: &str, environment: &super::environment::Environment) -> Translated {
    let (_, ratio) = sampler(text)?;
    let argument = environment.get("OTEL_TRACES_SAMPLER_ARG");
    let Some(argument) = argument.filter(|_| ratio.is_none()) else {
        return Ok(Some(ratio.unwrap_or("1").to_owned()));
    };
    match argument.trim().parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(Some(argument.trim().to_owned())),
        _ => {
            let text = format!("OTEL_TRACES_SAMPLER_ARG={argument}");
            Err(fault(&text, "a number from `0` to `1`"))
        }
    }
}

fn sampler_follows(text: &str, _: &super::environment::Environment) -> Translated {
    // A sampler that is unknown is the ratio's problem already: once is enough.
    Ok(sampler(text).ok().map(|(follow, _)| follow.to_string()))
}
