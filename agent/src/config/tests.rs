//! Layers, provenance, and the exact words of every kind of refusal.

use std::time::Duration;

use proptest::prelude::*;

use super::reader::Read;
use super::value::Setting;
use super::*;

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn flag(path: &str, text: &str) -> Given {
    Given { path: path.to_owned(), text: text.to_owned(), origin: Origin::Flag("--set".to_owned()) }
}

fn raw(text: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> RawConfig {
    let flags = flags.iter().map(|(path, text)| flag(path, text)).collect();
    let raw = RawConfig { file: None, environment: environment(variables), flags };
    raw.with_text("m.yaml", text).unwrap()
}

fn config(text: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Config {
    match Config::read(&raw(text, variables, flags)) {
        Ok((config, _)) => config,
        Err(error) => panic!("{error}"),
    }
}

fn refused(text: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    let count = |text: &str| text.lines().last().map(str::to_owned);
    let text = Config::read(&raw(text, variables, flags)).unwrap_err().to_string();
    assert!(count(&text).is_some_and(|last| last.ends_with("in the configuration")), "{text}");
    text
}

fn origin(raw: &RawConfig, path: &str) -> String {
    let (_, read) = Config::read(raw).unwrap();
    let found = read.into_iter().find_map(|read| match read {
        Read::Key(entry) if entry.path == path => Some(entry.origin.to_string()),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn nothing_given_is_the_default() {
    assert_eq!(config("", &[], &[]), Config::default());
    assert_eq!(config("# nothing\n", &[], &[]), Config::default());
    let config = Config::default();
    assert_eq!(config.listen.to_string(), "127.0.0.1:9990");
    assert_eq!(config.capture.ring_bytes, Size(4 << 20));
    assert_eq!(config.destination(SignalKind::Traces), None);
}

#[test]
fn flags_beat_variables_beat_standard_variables_beat_the_file_beats_the_default() {
    let file = "otlp:\n  timeout: 1s\n";
    let otel = ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000");
    let own = ("MESHTAP_OTLP_TIMEOUT", "3s");
    let flags = [("otlp.timeout", "4s"), ("otlp.timeout", "5s")];
    let timeout = |raw: &RawConfig| Config::read(raw).unwrap().0.otlp.timeout.as_secs();
    let cases: [(RawConfig, u64, &str); 5] = [
        (raw("", &[], &[]), 10, "default"),
        (raw(file, &[], &[]), 1, "m.yaml:2"),
        (raw(file, &[otel], &[]), 2, "environment OTEL_EXPORTER_OTLP_TIMEOUT"),
        (raw(file, &[otel, own], &[]), 3, "environment MESHTAP_OTLP_TIMEOUT"),
        (raw(file, &[otel, own], &flags), 5, "flag --set"),
    ];
    for (raw, seconds, by) in cases {
        assert_eq!((timeout(&raw), origin(&raw, "otlp.timeout").as_str()), (seconds, by));
    }
}

#[test]
fn every_key_has_a_variable_of_its_own_and_can_be_read_back_as_it_is_shown() {
    let mut names = std::collections::BTreeSet::new();
    let (mut keys, mut yaml) = (0, Vec::new());
    for read in reference::definitions() {
        let Read::Key(entry) = read else { continue };
        keys += 1;
        assert!(names.insert(Environment::name(&entry.path)), "{}", entry.path);
        assert!(!entry.meaning.is_empty() && entry.meaning.ends_with('.'), "{}", entry.path);
        yaml.push((Environment::name(&entry.path), entry.default));
    }
    assert!(keys > 40, "{keys}");
    let variables: Vec<(&str, &str)> =
        yaml.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(config("", &variables, &[]), Config::default());
    let printed = reference::print(&reference::definitions());
    assert_eq!(config(&printed, &[], &[]), Config::default());
}

#[test]
fn a_file_with_everything_is_read_to_the_last_field() {
    let config = config(
        "listen: '[::]:9990'
names:
  - name: checkout
    namespace: shop
    match: {port: 8080, executable: /opt/*/java, unit: shop.service, cgroup: /shop/**, address: 10.0.0.0/8}
  - {name: pay, match: {address: 203.0.113.7}}
routes:
  patterns: ['/users/{id}', {pattern: /static/*, service: 'front*'}]
  learn: false
capture: {ring_bytes: 1 MiB, head_prefix: 2048, drain_interval: 5ms, report_interval: 1s}
traces: {traced_elsewhere: [checkout, 'shop-*'], detect_traced: false}
otlp:
  endpoint: https://collector.example/base/
  headers: {authorization: 'Bearer x', X-Tenant: 7}
  traces: {endpoint: 'http://traces:9/v9', compression: gzip}
  logs: {enabled: false}
",
        &[],
        &[],
    );
    assert_eq!(config.names.len(), 2);
    let first = &config.names[0];
    assert_eq!((first.name.as_str(), first.namespace.as_deref()), ("checkout", Some("shop")));
    assert_eq!(first.matches.port, Some(8080));
    assert_eq!(first.matches.cgroup.as_deref(), Some("/shop/**"));
    assert_eq!(config.names[1].matches.address, "203.0.113.7/32".parse().ok());
    assert_eq!(
        config.routes.patterns[0],
        RouteRule { service: None, pattern: "/users/{id}".into() }
    );
    assert_eq!(config.routes.patterns[1].service.as_deref(), Some("front*"));
    assert!(!config.routes.learn);
    assert_eq!(config.capture.ring_bytes, Size(1 << 20));
    assert_eq!(config.capture.head_prefix, Size(2048));
    assert_eq!(config.capture.drain_interval, Duration::from_millis(5));
    assert_eq!(config.capture.report_interval, Duration::from_secs(1));
    assert_eq!(config.traces.traced_elsewhere[1], ServiceName("shop-*".to_owned()));
    assert!(!config.traces.detect_traced);
    let metrics = config.destination(SignalKind::Metrics).unwrap();
    assert_eq!(metrics.endpoint.to_string(), "https://collector.example/base/v1/metrics");
    assert_eq!(metrics.headers.0[0].1, "Bearer x");
    let traces = config.destination(SignalKind::Traces).unwrap();
    assert_eq!(traces.endpoint.to_string(), "http://traces:9/v9");
    assert_eq!((traces.compression, metrics.compression), (Compression::Gzip, Compression::None));
    assert_eq!(config.destination(SignalKind::Logs), None);
}

#[test]
fn the_list_of_opted_in_conventions_is_searched_for_what_concerns_us() {
    let of = |list: &str| config("", &[("OTEL_SEMCONV_STABILITY_OPT_IN", list)], &[]).semantics.rpc;
    for (list, expected) in [
        ("", RpcSemantics::New),
        ("http", RpcSemantics::New),
        ("http/dup, database", RpcSemantics::New),
        ("rpc", RpcSemantics::New),
        ("http,rpc/dup", RpcSemantics::Both),
        ("rpc, rpc/dup", RpcSemantics::Both),
        ("rpc/dup,rpc/old", RpcSemantics::Both),
        ("rpc/old", RpcSemantics::Old),
        ("rpc/old,rpc", RpcSemantics::New),
        ("rpc/dupe,RPC/OLD", RpcSemantics::New),
    ] {
        assert_eq!(of(list), expected, "{list}");
    }
    let given = |file| config(file, &[("OTEL_SEMCONV_STABILITY_OPT_IN", "http")], &[]);
    assert_eq!(given("semantics:\n  rpc: old\n").semantics.rpc, RpcSemantics::Old);
    let own = [("MESHTAP_SEMANTICS_RPC", "both"), ("OTEL_SEMCONV_STABILITY_OPT_IN", "rpc")];
    assert_eq!(config("", &own, &[]).semantics.rpc, RpcSemantics::Both, "our own is stronger");
}

#[test]
fn standard_variables_mean_what_opentelemetry_says() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
    let of = |variables: &[(&str, &str)]| config("", variables, &[]);
    let all = of(&[
        endpoint,
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b%20c, X-D=e=f"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "5000"),
        ("OTEL_LOGS_EXPORTER", "none"),
        ("OTEL_METRICS_EXPORTER", "prometheus,otlp"),
        ("OTEL_SEMCONV_STABILITY_OPT_IN", "rpc/dup"),
    ]);
    let traces = all.destination(SignalKind::Traces).unwrap();
    assert_eq!(traces.endpoint.to_string(), "http://c:4318/", "gRPC has no path of its own");
    assert_eq!(traces.protocol, OtlpProtocol::Grpc);
    assert_eq!(traces.timeout, Duration::from_millis(250));
    assert_eq!(
        (&traces.headers.0[0].1, &traces.headers.0[1].1),
        (&"b c".parse().unwrap(), &"e=f".parse().unwrap())
    );
    let metrics = all.destination(SignalKind::Metrics).unwrap();
    assert_eq!(metrics.endpoint.to_string(), "http://c:4318/v1/metrics");
    assert_eq!(metrics.compression, Compression::Gzip);
    assert_eq!(all.destination(SignalKind::Logs), None);
    assert_eq!(all.otlp.interval, Duration::from_secs(5));
    assert_eq!(all.semantics.rpc, RpcSemantics::Both);

    assert_eq!(
        of(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]).destination(SignalKind::Traces),
        None
    );
    assert!(of(&[endpoint, ("OTEL_SDK_DISABLED", "1")]).destination(SignalKind::Traces).is_some());
    assert_eq!(of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), Config::default());

    let sampler = |variables: &[(&str, &str)]| {
        let traces = of(variables).traces;
        (traces.sample_ratio, traces.follow_parent)
    };
    let name = |name| ("OTEL_TRACES_SAMPLER", name);
    let argument = ("OTEL_TRACES_SAMPLER_ARG", "0.25");
    assert_eq!(sampler(&[name("always_on")]), (1.0, false));
    assert_eq!(sampler(&[name("always_off"), argument]), (0.0, false));
    assert_eq!(sampler(&[name("traceidratio"), argument]), (0.25, false));
    assert_eq!(sampler(&[name("traceidratio")]), (1.0, false));
    assert_eq!(sampler(&[name("parentbased_traceidratio"), argument]), (0.25, true));
    assert_eq!(sampler(&[argument]), (0.01, true));
}

#[test]
fn all_that_is_wrong_is_said_at_once_with_place_expectation_and_remedy() {
    let text = "lissten: 127.0.0.1:1
capture:
  ring_bytes: 10 MB
  head_prefx: 3
names:
  - name: shop
    match: {prt: 80, port: 70000}
  - {match: {}}
series: 7
dns: {learn: \"yes\", floor: 5, addresses: '100'}
log: {level: inof}
otlp: {endpoint: localhost:4317, headers: {a b: c}}
routes: {patterns: /x}
";
    let variables = [("MESHTAP_SERIES_LIMT", "3"), ("OTEL_TRACES_SAMPLER", "foo")];
    let said = refused(text, &variables, &[("capture.drain_interval", "10"), ("foo", "1")]);
    let expected = "\
m.yaml:1:1: unknown key `lissten`
  remedy: did you mean `listen`?
m.yaml:3:15: capture.ring_bytes: `10 MB` is not in the range
  expected: a size that is a power of two from `64 KiB` to `1 GiB`
m.yaml:4:3: unknown key `capture.head_prefx`
  remedy: did you mean `capture.head_prefix`?
m.yaml:7:13: names[0].match: unknown key `prt`
  expected: one of `port`, `executable`, `unit`, `cgroup`, `address`
  remedy: did you mean `port`?
m.yaml:7:28: names[0].match.port: `70000` is not a port
  expected: a port from 1 to 65535
m.yaml:8:5: names[1]: `name` is missing
  expected: a text of at most 253 characters
m.yaml:8:13: names[1].match: matches everything: no condition is given
  expected: a map with at least one of `port`, `executable`, `unit`, `cgroup`, `address`
m.yaml:9:9: series: `7` is not a section
  expected: keys with their values below it, as in `key: value`
m.yaml:10:14: dns.learn: `yes` is not a switch
  expected: `true` or `false`
m.yaml:10:28: dns.floor: `5` is not a duration
  expected: a duration with its unit, for example `500ms`, `10s` or `5m`
  remedy: add the unit: `5s` or `5ms`
m.yaml:10:42: dns.addresses: `100` is not a whole number
  expected: a whole number, for example `1000`
  remedy: remove the quotes
m.yaml:11:14: log.level: `inof` is not a level
  expected: one of `off`, `error`, `warn`, `info`, `debug`
  remedy: did you mean `info`?
m.yaml:12:18: otlp.endpoint: `localhost:4317` is not an `http` or `https` URL
  expected: a URL, for example `http://localhost:4318`
  remedy: write `http://localhost:4317`
m.yaml:12:44: otlp.headers: `a b` is not a header's name
  expected: a map such as `{x-tenant: shop}`, in the environment `x-tenant=shop,x-other=1`
m.yaml:13:20: routes.patterns: `/x` is not a list
  expected: a list, each entry a pattern such as `/users/{id}` or `/static/*`, perhaps with a `service`
  remedy: begin every entry with `- `, or write `[]` for none
environment MESHTAP_SERIES_LIMT: no key has this variable
  remedy: did you mean `MESHTAP_SERIES_LIMIT`?
environment OTEL_TRACES_SAMPLER: traces.sample_ratio: `foo` is not understood
  expected: one of `always_on`, `always_off`, `traceidratio`, `parentbased_always_on`, `parentbased_always_off`, `parentbased_traceidratio`
flag --set: capture.drain_interval: `10` is not a duration
  expected: a duration with its unit, for example `500ms`, `10s` or `5m`
  remedy: add the unit: `10s` or `10ms`
flag --set: unknown key `foo`
  remedy: remove it; `meshtap config print` lists every key
19 errors in the configuration";
    assert_eq!(said, expected);
}

#[test]
fn a_key_in_the_wrong_place_is_found_where_it_belongs() {
    let said = refused("ring_bytes: 8 MiB\n", &[], &[]);
    assert_eq!(
        said,
        "m.yaml:1:1: unknown key `ring_bytes`\n  remedy: did you mean `capture.ring_bytes`?\n\
         1 error in the configuration"
    );
    let said = refused("otlp:\n  traces:\n    endpiont: x\n", &[], &[]);
    assert!(
        said.contains(
            "unknown key `otlp.traces.endpiont`\n  remedy: did you mean `otlp.traces.endpoint`?"
        ),
        "{said}"
    );
}

#[test]
fn the_document_itself_is_refused_with_its_place() {
    let of = |text| RawConfig::default().with_text("m.yaml", text).unwrap_err().to_string();
    assert_eq!(
        of("listen: 1\nlisten: 2\n"),
        "m.yaml:2:1: `listen` is written twice, first in line 1\n  remedy: keep one of the two\n\
         1 error in the configuration"
    );
    assert!(of("a: [1\n").starts_with("m.yaml:2:1: not YAML: "), "{}", of("a: [1\n"));
    let said = refused("- a\n- b\n", &[], &[]);
    assert!(said.starts_with("m.yaml:1:1: a list is not the configuration\n"), "{said}");
}

#[test]
fn a_file_that_is_not_there_or_no_text_is_named() {
    let missing = RawConfig::default().with_file(Path::new("/no/such.yaml")).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "/no/such.yaml: cannot be read: No such file or directory (os error 2)\n  remedy: check the \
         path given to --config or MESHTAP_CONFIG and its permissions; without a file the defaults apply"
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("latin1.yaml");
    std::fs::write(&path, b"name: \xe9\n").unwrap();
    let error = RawConfig::default().with_file(&path).unwrap_err().to_string();
    assert!(error.contains("not UTF-8, first at byte 6"), "{error}");
}

#[test]
fn values_out_of_range_name_the_range() {
    let cases = [
        ("capture.head_prefix", "9000", "a size from `256 B` to `8 KiB`"),
        ("capture.ring_bytes", "3 MiB", "a size that is a power of two from `64 KiB` to `1 GiB`"),
        ("traces.sample_ratio", "1.5", "a number from `0` to `1`"),
        ("series.limit", "3", "a whole number from `10` to `10000000`"),
        ("stop_within", "1h", "a duration from `100ms` to `10m`"),
    ];
    for (path, text, range) in cases {
        let expected = format!(
            "flag --set: {path}: `{text}` is not in the range\n  expected: {range}\n\
             1 error in the configuration"
        );
        assert_eq!(refused("", &[], &[(path, text)]), expected);
    }
    for (path, text) in
        [("traces.sample_ratio", "nan"), ("series.limit", "-1"), ("listen", ":9990")]
    {
        assert!(refused("", &[], &[(path, text)]).contains("expected: "));
    }
    assert!(refused("", &[], &[("listen", "9990")]).contains("remedy: write `0.0.0.0:9990`"));
}

#[test]
fn what_cannot_be_together_is_refused_at_the_key_that_was_given() {
    let said = refused("otlp:\n  queue: 100\n  batch: 200\n", &[], &[]);
    assert_eq!(
        said,
        "m.yaml:3:10: otlp.batch: a message of 200 does not fit into `otlp.queue`, which holds 100\n  \
         remedy: make `otlp.queue` at least as large\n1 error in the configuration"
    );
    assert!(refused("access_log: {otlp: true}\n", &[], &[]).contains("no collector"));
    assert!(refused("dns: {floor: 1h, ceiling: 1m}\n", &[], &[]).contains("dns.floor"));
}

#[test]
fn variables_that_kubernetes_sets_for_a_service_of_our_name_are_no_configuration() {
    let links = [
        ("MESHTAP_SERVICE_HOST", "10.0.0.1"),
        ("MESHTAP_SERVICE_PORT", "9990"),
        ("MESHTAP_SERVICE_PORT_METRICS", "9990"),
        ("MESHTAP_PORT", "tcp://10.0.0.1:9990"),
        ("MESHTAP_PORT_9990_TCP", "tcp://10.0.0.1:9990"),
        ("MESHTAP_PORT_9990_TCP_ADDR", "10.0.0.1"),
        ("MESHTAP_METRICS_SERVICE_HOST", "10.0.0.1"),
        ("MESHTAP_CONFIG", "/x"),
    ];
    assert_eq!(config("", &links, &[]), Config::default());
    assert!(refused("", &[("MESHTAP_TCP", "1")], &[]).contains("no key has this variable"));
}

#[test]
fn secrets_are_neither_printed_nor_said() {
    let secret = "hunter2";
    let headers = format!("authorization=Bearer {secret}");
    let url = format!("http://me:{secret}@c:4318/");
    let variables = [("MESHTAP_OTLP_HEADERS", &*headers), ("MESHTAP_OTLP_ENDPOINT", &*url)];
    let raw = raw("", &variables, &[]);
    let (config, read) = Config::read(&raw).unwrap();
    let printed = reference::print(&read);
    assert!(!printed.contains(secret) && !format!("{config:?}").contains(secret), "{printed}");
    assert!(printed.contains("headers: {authorization: (hidden)}"), "{printed}");
    assert_eq!(
        config.destination(SignalKind::Logs).unwrap().endpoint.url().password(),
        Some(secret)
    );
    for (path, text) in [
        ("otlp.headers", format!("authorization {secret}")),
        ("otlp.headers", format!("{{authorization: [{secret}]}}")),
        ("otlp.headers", format!("[{secret}]")),
        ("otlp.endpoint", format!("me:{secret}@c:4318")),
    ] {
        let said = refused("", &[], &[(path, &text)]);
        assert!(!said.contains(secret), "{said}");
    }
}

#[test]
fn lists_in_variables_are_yaml_on_one_line() {
    let names = "[{name: a, match: {port: 1}}, {name: b, match: {unit: 'x*'}}]";
    let config = config("", &[("MESHTAP_NAMES", names)], &[]);
    assert_eq!(config.names.len(), 2);
    assert_eq!(
        config.names.show(),
        "[{name: a, match: {port: 1}}, {name: b, match: {unit: \"x*\"}}]"
    );
    let said = refused("", &[("MESHTAP_NAMES", "[{name: a")], &[]);
    assert!(said.starts_with("environment MESHTAP_NAMES: names: not YAML: "), "{said}");
}

#[test]
fn patterns_that_could_never_fit_are_refused() {
    for (pattern, fault) in [
        ("users", "`users` does not begin with `/`"),
        ("/a?b=1", "`/a?b=1` holds a query or fragment; routes are paths alone"),
        ("/a/{}", "`{}` names no parameter"),
        ("/a/x{id}", "`x{id}` mixes text with `{`, `}` or `*`"),
        ("/a/b*", "`b*` mixes text with `{`, `}` or `*`"),
    ] {
        let said = refused(&format!("routes: {{patterns: ['{pattern}']}}\n"), &[], &[]);
        assert!(said.starts_with(&format!("m.yaml:1:21: routes.patterns[0]: {fault}\n")), "{said}");
    }
    config("routes: {patterns: [/, /a/*/b, '/a/{id}/*']}\n", &[], &[]);
}

#[test]
fn the_printed_configuration_says_where_every_value_comes_from() {
    let text = "listen: 0.0.0.0:1\ncapture:\n  ring_bytes: 1024 KiB\n";
    let raw = raw(text, &[("MESHTAP_LOG_LEVEL", "debug")], &[("series.idle", "90s")]);
    let (_, read) = Config::read(&raw).unwrap();
    let printed = reference::print(&read);
    let expected = "\
listen: 0.0.0.0:1                             # m.yaml:1
stop_within: 10s                              # default
names: []                                     # default
log:
  level: debug                                # environment MESHTAP_LOG_LEVEL
  kernel: off                                 # default
capture:
  ring_bytes: 1 MiB                           # m.yaml:3
  head_prefix: 1 KiB                          # default
";
    assert!(printed.starts_with(expected), "{printed}");
    assert!(
        printed.contains("\n  idle: 1m30s                                 # flag --set\n"),
        "{printed}"
    );
}

proptest! {
    #[test]
    fn no_text_is_more_than_refused(
        text in "(?s).*|([a-z_.]{0,9}[-:\\[\\]{},&*!|>'\"# \n]{1,3}){0,40}",
    ) {
        if let Ok(raw) = RawConfig::default().with_text("m.yaml", &text) {
            let _ = Config::read(&raw).map_err(|error| error.to_string());
        }
    }

    #[test]
    fn no_value_is_more_than_refused(
        key in 0_usize..100,
        text in "(?s).*|[0-9a-zµ. ]{0,12}|[\\[{].*",
    ) {
        let keys = reference::definitions();
        let paths: Vec<&str> = keys.iter().filter_map(|read| match read {
            Read::Key(entry) => Some(entry.path.as_str()),
            Read::Section { .. } => None,
        }).collect();
        let flags = vec![flag(paths[key % paths.len()], &text)];
        let raw = RawConfig { flags, ..RawConfig::default() };
        let _ = Config::read(&raw).map_err(|error| error.to_string());
    }
}
