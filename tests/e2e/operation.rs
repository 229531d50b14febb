//! The agent as a person operates it: commands, faults, readiness, stopping, and what it
//! never does to the traffic that it looks at.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use meshtap_tests::agent::{Agent, Observer, Turn, binary, keep_ours};
use meshtap_tests::call::{CallLine, Calls};
use meshtap_tests::http;
use meshtap_tests::process::{PATIENCE, Running, free_port, output};
use meshtap_tests::require;
use meshtap_tests::requirement::program;
use meshtap_tests::scrape::Scrape;
use meshtap_tests::wire::Wire;
use meshtap_tests::workload::{Nginx, curl};
use rustix::process::Signal;

fn meshtap(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary().expect("is built"));
    keep_ours(&mut command).args(arguments);
    command
}

fn ended(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

#[test]
fn doctor_examines_the_host() {
    require!();
    let (code, text, errors) = ended(&mut meshtap(&["doctor"]));
    assert_eq!(code, 0, "{errors}");
    assert!(text.contains("cgroup") && text.lines().count() > 5, "{text}");
    let (code, text, errors) = ended(&mut meshtap(&["doctor", "--json"]));
    assert_eq!(code, 0, "{errors}");
    let value: serde_json::Value = serde_json::from_str(&text).expect("is JSON");
    assert!(value.is_object(), "{text}");
    let words = text.to_ascii_lowercase();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("is there");
    for word in ["cgroup", release.trim(), "unix socket", "sockmap"] {
        assert!(words.contains(&word.to_ascii_lowercase()), "{word} is not mentioned: {text}");
    }
}

/// Every fault of a configuration ends with code 2, and says where it is and what is expected.
#[test]
fn faults_of_a_configuration() {
    require!();
    let folder = tempfile::tempdir().expect("is made");
    let file = folder.path().join("faulty.yaml");
    let faults: [(&str, &str, &[&str]); 7] = [
        ("an unknown key", "listen: 127.0.0.1:9\nlisten_on: a\n", &[":2", "listen_on"]),
        ("an unknown section", "serie:\n  limit: 10\n", &[":1", "serie", "series"]),
        ("a wrong type", "series:\n  limit: many\n", &[":2", "series.limit", "many"]),
        ("an impossible value", "series:\n  limit: 0\n", &[":2", "series.limit"]),
        ("not an address", "listen: nowhere\n", &[":1", "listen", "nowhere"]),
        ("a list where a map is due", "capture: [1]\n", &[":1", "capture"]),
        ("not YAML", "capture: [\n", &["faulty.yaml"]),
    ];
    for (name, text, words) in faults {
        std::fs::write(&file, text).expect("is written");
        for command in [["run", "--config"], ["observe", "--config"]] {
            let path = file.display().to_string();
            let (code, _, errors) = ended(meshtap(&command).arg(&path));
            assert_eq!(code, 2, "{name}: {errors}");
            for word in words.iter().chain(&["faulty.yaml"]) {
                assert!(errors.contains(word), "{name}: {word} is not mentioned: {errors}");
            }
        }
    }
    let (code, _, errors) = ended(&mut meshtap(&["run", "--config", "/does/not/exist.yaml"]));
    assert_eq!((code, errors.contains("/does/not/exist.yaml")), (2, true), "{errors}");
    let (code, _, errors) = ended(meshtap(&["run"]).env("MESHTAP_SERIES_LIMIT", "lots"));
    assert_eq!((code, errors.contains("MESHTAP_SERIES_LIMIT")), (2, true), "{errors}");
    assert_eq!(ended(&mut meshtap(&["walk"])).0, 2);
    assert_eq!(ended(&mut meshtap(&["observe", "--status", "bad"])).0, 2);
}

#[test]
fn the_effective_configuration() {
    require!();
    let mut command = meshtap(&["config", "print"]);
    let (code, text, errors) = ended(command.env("MESHTAP_SERIES_LIMIT", "4321"));
    assert_eq!(code, 0, "{errors}");
    let line = text.lines().find(|line| line.contains("4321")).expect("is shown");
    assert!(line.contains("limit") && line.contains("MESHTAP_SERIES_LIMIT"), "{line}");
    assert!(text.contains("127.0.0.1:9990"), "{text}");
}

#[test]
fn help_has_examples_and_exit_codes() {
    require!();
    for arguments in
        [&["--help"][..], &["run", "--help"], &["observe", "--help"], &["doctor", "--help"]]
    {
        let (code, text, _) = ended(&mut meshtap(arguments));
        assert_eq!(code, 0);
        assert!(text.contains("Exit codes:"), "{arguments:?}: {text}");
        assert!(arguments.len() == 1 || text.contains("Examples:"), "{arguments:?}: {text}");
    }
}

#[test]
fn ready_and_healthy() {
    require!();
    let agent = Agent::start("").expect("is ready");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(http::get(agent.address(), path).expect("answers").status, 200, "{path}");
    }
    assert_eq!(http::get(agent.address(), "/nothing").expect("answers").status, 404);
    // Another one cannot have the same address: it says which, and does not go on without.
    let (code, _, errors) = ended(&mut meshtap(&["run", "--listen", &agent.address().to_string()]));
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains(&agent.address().to_string()), "{errors}");
    let start = Instant::now();
    agent.stop().expect("ends well");
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
}

#[test]
fn without_privileges() {
    require!("setpriv");
    let folder = tempfile::tempdir().expect("is made");
    let copy = folder.path().join("meshtap");
    std::fs::copy(binary().expect("is built"), &copy).expect("is copied");
    output(Command::new("chmod").arg("755").arg(folder.path()).arg(&copy)).expect("is set");
    for arguments in [&["run"][..], &["observe", "--json"]] {
        let mut command = Command::new(program("setpriv").expect("is installed"));
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy);
        let (code, text, errors) = ended(keep_ours(&mut command).args(arguments));
        assert_eq!(code, 3, "{arguments:?}: {errors}");
        assert!(text.is_empty(), "{text}");
        let words = errors.to_ascii_lowercase();
        assert!(words.contains("root") || words.contains("cap_"), "no remedy: {errors}");
    }
}

fn unit() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/systemd/meshtap.service");
    std::fs::read_to_string(path).expect("the unit is part of the repository")
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    require!("systemd-analyze");
    let folder = tempfile::tempdir().expect("is made");
    let file = folder.path().join("meshtap.service");
    let binary = binary().expect("is built").display().to_string();
    let text = unit().replace("ExecStart=meshtap", &format!("ExecStart={binary}"));
    std::fs::write(&file, text).expect("is written");
    let mut command = Command::new("systemd-analyze");
    let (code, text, errors) = ended(command.args(["verify", "--man=no"]).arg(&file));
    // Of other units of the host it may say what it likes.
    let about = |text: &str| text.contains("meshtap");
    assert!(code == 0 && !about(&text) && !about(&errors), "{text}{errors}");
}

fn exchange(wire: &mut Wire, path: &str) {
    wire.request(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).expect("crosses");
    wire.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("crosses");
}

/// A connection outlives agents that come, stop, and are killed.
#[test]
fn traffic_is_left_alone() {
    require!("ss");
    let mut wire = Wire::open().expect("opens");
    exchange(&mut wire, "/before");
    let observer = Observer::start().expect("observes");
    exchange(&mut wire, "/during");
    // Within a message: half of it passes the agent, half of it does not.
    wire.request("GET /half HTTP/1.1\r\nHo").expect("crosses");
    let calls = observer.finish().expect("ends well");
    wire.request("st: a\r\n\r\n").expect("crosses");
    wire.answer("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok").expect("crosses");
    let mut observer = Observer::start().expect("observes");
    wire.answer("ok").expect("crosses");
    exchange(&mut wire, "/again");
    observer.settle().expect("is shown");
    let again = observer.calls().expect("parses");
    observer.stop(Signal::KILL).expect("is killed");
    drop(observer);
    exchange(&mut wire, "/after");
    wire.close().expect("closes");
    let paths = |calls: &Calls| -> Vec<String> {
        calls.to_port(wire.port()).iter().map(|call| call.summary()).collect()
    };
    assert_eq!(paths(&calls), ["GET /during 200"]);
    assert_eq!(paths(&again), ["GET /again 200"]);
}

/// Any number of agents see the same calls.
#[test]
fn observe_beside_run() {
    require!("curl", "nginx", "ss");
    let nginx = Nginx::start().expect("starts");
    let agent = Agent::start("").expect("is ready");
    let first = Observer::start_beside(&[]).expect("observes");
    let second = Observer::start_beside(&["--method", "GET"]).expect("observes");
    for _ in 0..20 {
        curl(&[&format!("http://127.0.0.1:{}/teapot", nginx.port())]).expect("answers");
    }
    for observer in [first, second] {
        let calls = observer.finish().expect("ends well");
        let seen = calls.to_port(nginx.port());
        assert_eq!(seen.len(), 20);
        assert!(seen.iter().all(|call| call.both_ends() && call.status == Some(418)));
    }
    let port = nginx.port().to_string();
    let labels =
        [("service_name", "curl"), ("server_port", port.as_str()), ("http_route", "/teapot")];
    let count =
        |scrape: &Scrape| scrape.count("http_client_request_duration_seconds_count", &labels);
    let scrape = agent.scrape_until(|scrape| count(scrape) >= 20).expect("is served");
    assert_eq!(count(&scrape), 20);
    agent.stop().expect("ends well");
}

/// Starts observers with filters, makes calls of every kind until each has seen enough,
/// and demands that none shows what its filters exclude.
#[test]
fn filters() {
    require!("curl", "nginx", "ss");
    let _turn = Turn::take().expect("is taken");
    let slow =
        format!("location = /slow {{ limit_rate 1k; return 200 \"{}\"; }}", "z".repeat(1400));
    let nginx = Nginx::start_in(Default::default(), 1, &slow).expect("starts");
    let port = nginx.port().to_string();
    type Holds = fn(&CallLine) -> bool;
    let filters: [(&[&str], Holds); 6] = [
        (&["--status", "5xx"], |call| call.status == Some(500)),
        (&["--path", "/te*"], |call| call.path == "/teapot"),
        (&["--method", "DELETE,PUT"], |call| call.method == "DELETE"),
        (&["--min-latency", "200ms"], |call| call.path == "/slow"),
        (&["--from", "curl", "--to", "nginx", "--not", "--status", "2xx,4xx"], |call| {
            call.status == Some(500)
        }),
        (&["--errors"], |call| call.status == Some(500)),
    ];
    let mut observers = filters.map(|(arguments, holds)| {
        let mut command = meshtap(&["observe", "--json", "--count", "2", "--port", &port]);
        let running = Running::start(command.args(arguments)).expect("starts");
        (arguments, holds, running)
    });
    // Six agents start at once, and the kernel verifies the programs of each.
    let deadline = Instant::now() + 4 * PATIENCE;
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let mut rest: Vec<_> = observers.iter_mut().collect();
    while !rest.is_empty() {
        for path in ["/ok", "/teapot", "/broken", "/slow"] {
            curl(&[&url(path)]).expect("answers");
        }
        curl(&["-X", "DELETE", &url("/ok")]).expect("answers");
        rest.retain_mut(|(arguments, _, running)| match running.wait(Duration::ZERO) {
            Ok(status) => {
                assert!(status.success(), "{arguments:?}: {}", running.output());
                false
            }
            Err(_) => true,
        });
        let waiting: Vec<_> = rest.iter().map(|(arguments, ..)| arguments).collect();
        assert!(Instant::now() < deadline, "{waiting:?} show too little");
    }
    for (arguments, holds, running) in observers {
        let text = running.output();
        let lines = text.lines().filter(|line| line.starts_with('{'));
        let calls = Calls::parse(lines).expect("parses").calls;
        assert!(calls.len() == 2 && calls.iter().all(holds), "{arguments:?}: {text}");
    }
}

#[test]
fn for_people() {
    require!("curl", "nginx", "ss");
    let _turn = Turn::take().expect("is taken");
    let nginx = Nginx::start().expect("starts");
    let port = nginx.port().to_string();
    let mut command = meshtap(&["observe", "--port", &port, "--count", "3"]);
    let mut running = Running::start(&mut command).expect("starts");
    let deadline = Instant::now() + PATIENCE;
    while running.wait(Duration::from_millis(100)).is_err() {
        assert!(Instant::now() < deadline, "{}", running.output());
        curl(&[&format!("http://127.0.0.1:{port}/teapot")]).expect("answers");
    }
    let text = running.output();
    let rows: Vec<&str> = text.lines().filter(|line| line.contains("/teapot")).collect();
    assert_eq!(rows.len(), 3, "{text}");
    for word in ["curl", "nginx", "GET", "418"] {
        assert!(rows.iter().all(|row| row.contains(word)), "{text}");
        let columns: std::collections::BTreeSet<_> =
            rows.iter().map(|row| row.find(word)).collect();
        assert_eq!(columns.len(), 1, "{word} is not aligned: {text}");
    }
    assert!(!text.contains('\u{1b}'), "colours are for terminals: {text:?}");
    let start = Instant::now();
    assert_eq!(ended(&mut meshtap(&["observe", "--duration", "1s", "--port", &port])).0, 0);
    // Loading takes as long as the machine has other things to do.
    assert!((1..60).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

/// Every field is there in every line, null where nothing is known.
#[test]
fn the_schema_of_lines() {
    require!("curl", "nginx", "ss");
    let nginx = Nginx::start().expect("starts");
    let observer = Observer::start().expect("observes");
    curl(&[&format!("http://127.0.0.1:{}/ok", nginx.port())]).expect("answers");
    let mut observer = observer;
    observer.settle().expect("is shown");
    let lines = observer.lines();
    assert!(!lines.is_empty());
    for line in &lines {
        let value: serde_json::Value = serde_json::from_str(line).expect("is JSON");
        let object = value.as_object().expect("is an object");
        for field in [
            "time",
            "client",
            "server",
            "protocol",
            "method",
            "path",
            "route",
            "status",
            "error",
            "client_error",
            "server_error",
            "client_duration_us",
            "server_duration_us",
            "first_byte_us",
            "request_bytes",
            "response_bytes",
            "rtt_us",
            "retransmits",
            "trace_id",
        ] {
            assert!(object.contains_key(field), "no {field}: {line}");
        }
        for end in ["client", "server"] {
            for field in ["name", "kind", "address", "port", "pid"] {
                assert!(value[end].get(field).is_some(), "no {end}.{field}: {line}");
            }
        }
        let time = value["time"].as_str().expect("is text");
        assert!(time.starts_with("20") && time.contains('T') && time.ends_with('Z'), "{time}");
    }
    observer.finish().expect("ends well");
}

/// Everything that calls leave behind, with their labels, and what the agent says of itself.
#[test]
fn series_of_a_few_calls() {
    require!("curl", "nginx", "ss");
    let nginx = Nginx::start().expect("starts");
    let port = nginx.port().to_string();
    let shop = format!("shop-{port}");
    let agent = Agent::start(&format!("names:\n  - name: {shop}\n    match: {{ port: {port} }}\n"));
    let agent = agent.expect("is ready");
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    curl(&["-d", "seventeen letters", &url("/ok")]).expect("answers");
    curl(&[&url("/broken"), &url("/broken")]).expect("answers");
    let edge = [("client", "curl"), ("server", shop.as_str())];
    let requests = "traces_service_graph_request_total";
    // nginx closes behind a 500. Connections are told of once a second.
    let connected = [("service_name", "curl"), ("service_peer_name", shop.as_str())];
    let connects = "meshtap_tcp_connect_duration_seconds_count";
    let scrape = agent.scrape_until(|scrape| {
        scrape.count(requests, &edge) >= 3 && scrape.count(connects, &connected) >= 3
    });
    let scrape = scrape.expect("is served");
    assert_eq!(scrape.count(requests, &edge), 3);
    assert_eq!(scrape.count("traces_service_graph_request_failed_total", &edge), 2);
    for side in ["server", "client"] {
        let seconds = format!("traces_service_graph_request_{side}_seconds");
        assert_eq!(scrape.count(&format!("{seconds}_count"), &edge), 3, "{side}");
        let sum = scrape.sum(&format!("{seconds}_sum"), &edge);
        assert!(sum > 0.0 && sum < 5.0, "{side}: {sum} s");

        let ends = if side == "server" { [&shop, "curl"] } else { ["curl", &shop] };
        let good = [
            ("service_name", ends[0]),
            ("service_peer_name", ends[1]),
            ("http_request_method", "POST"),
            ("http_response_status_code", "200"),
            ("http_route", "/ok"),
            ("network_protocol_version", "1.1"),
            ("error_type", ""),
        ];
        let bad = [
            ("service_name", ends[0]),
            ("http_request_method", "GET"),
            ("http_response_status_code", "500"),
            ("http_route", "/broken"),
            ("network_protocol_version", "1.1"),
            ("error_type", "500"),
        ];
        let duration = format!("http_{side}_request_duration_seconds_count");
        assert_eq!((scrape.count(&duration, &good), scrape.count(&duration, &bad)), (1, 2));
        let size = format!("http_{side}_request_body_size_bytes");
        assert_eq!(scrape.count(&format!("{size}_count"), &good), 1);
        assert_eq!(scrape.count(&format!("{size}_sum"), &good), 17);
        let size = format!("http_{side}_response_body_size_bytes_sum");
        assert!(scrape.count(&size, &good) > 0);
    }
    assert_eq!(scrape.count(connects, &connected), 3);
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("is there");
    assert_eq!(scrape.count("meshtap_kernel_info", &[("release", release.trim())]), 1);
    let capacity = scrape.count("meshtap_ring_buffer_capacity_bytes", &[]);
    assert_eq!(capacity, 4 << 20);
    assert!((1..capacity).contains(&scrape.count("meshtap_ring_buffer_used_bytes", &[])));
    agent.stop().expect("ends well");
}

/// The same series in both text formats, and no secret in them.
#[test]
fn metrics_in_both_formats() {
    require!("curl", "nginx", "ss");
    let nginx = Nginx::start().expect("starts");
    let agent = Agent::start("").expect("is ready");
    let port = nginx.port().to_string();
    curl(&["-u", "user:hunter2", &format!("http://127.0.0.1:{port}/ok?token=hunter2")])
        .expect("answers");
    let labels = [("service_name", "curl"), ("server_port", port.as_str())];
    let name = "http_client_request_duration_seconds_count";
    let scrape = agent.scrape_until(|scrape| scrape.count(name, &labels) == 1).expect("is served");
    assert_eq!(scrape.count(name, &labels), 1);
    let bucket = "http_client_request_duration_seconds_bucket";
    let infinite = [labels[0], labels[1], ("le", "+Inf")];
    assert_eq!(scrape.count(bucket, &infinite), 1);
    assert_eq!(scrape.select(bucket, &labels).count(), 15, "the standard bounds and +Inf");
    let sum = scrape.sum("http_client_request_duration_seconds_sum", &labels);
    assert!(sum > 0.0 && sum < 5.0, "seconds: {sum}");
    for own in ["meshtap_build_info", "process_cpu_seconds_total", "process_resident_memory_bytes"]
    {
        assert!(scrape.select(own, &[]).next().is_some(), "no {own}");
    }
    // Tables of the kernel half stand beside those of the agent.
    for (table, bound) in
        [("held_requests", 256), ("broken_off_messages", 8_192), ("older_connections", 65_536)]
    {
        let capacity = scrape.count("meshtap_table_capacity", &[("table", table)]);
        assert_eq!(capacity, bound, "{table}");
    }
    let open = http::get_with(
        agent.address(),
        "/metrics",
        "Accept: application/openmetrics-text; version=1.0.0\r\n",
    )
    .expect("answers");
    assert!(
        open.head.to_ascii_lowercase().contains("application/openmetrics-text"),
        "{}",
        open.head
    );
    assert!(open.body.ends_with("# EOF\n"));
    let open = Scrape::parse(&open.body).expect("parses");
    assert_eq!(open.count(name, &labels), 1);
    let plain = http::get(agent.address(), "/metrics").expect("answers");
    assert!(!plain.head.to_ascii_lowercase().contains("content-encoding"), "{}", plain.head);
    let text = plain.body;
    assert!(!text.contains("hunter2") && !text.contains("token"), "a secret is shown");
    // Compressed for who asks for it, as Prometheus does.
    let heads = tempfile::NamedTempFile::new().expect("is made");
    let heads_path = heads.path().display().to_string();
    let url = format!("http://{}/metrics", agent.address());
    let body = curl(&["--compressed", "-D", &heads_path, &url]).expect("answers");
    let head = std::fs::read_to_string(heads.path()).expect("is there").to_ascii_lowercase();
    assert!(head.contains("content-encoding: gzip"), "{head}");
    assert_eq!(Scrape::parse(&body).expect("parses").count(name, &labels), 1);
    agent.stop().expect("ends well");
}

/// Without learning only what is configured is a route.
#[test]
fn routes_that_are_configured_alone() {
    require!("curl", "nginx", "ss");
    let nginx = Nginx::start().expect("starts");
    let agent = Agent::start("routes:\n  learn: false\n  patterns: [\"/nothing/{id}\"]\n")
        .expect("is ready");
    let port = nginx.port().to_string();
    let urls = ["/nothing/7", "/nothing/8", "/teapot"];
    let urls = urls.map(|path| format!("http://127.0.0.1:{port}{path}"));
    curl(&urls.each_ref().map(String::as_str)).expect("answers");
    let name = "http_client_request_duration_seconds_count";
    let labels = [("service_name", "curl"), ("server_port", port.as_str())];
    let scrape = agent.scrape_until(|scrape| scrape.count(name, &labels) >= 3).expect("is served");
    let by = scrape.by(name, &["http_route"], &labels);
    let routes: Vec<_> = by.iter().map(|(key, count)| (key[0].as_str(), *count)).collect();
    assert_eq!(routes, [("", 1), ("/nothing/{id}", 2)]);
    agent.stop().expect("ends well");
}

/// An agent whose programs are taken away ends and says so: it never looks healthy while it
/// counts nothing.
#[test]
fn programs_that_somebody_detaches() {
    require!("bpftool");
    let agent = Agent::start("").expect("is ready");
    // Its own links and no others: other agents may run on this host.
    let folder = format!("/proc/{}/fdinfo", agent.pid());
    let link = std::fs::read_dir(folder).expect("lives").flatten().find_map(|entry| {
        let text = std::fs::read_to_string(entry.path()).ok()?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().to_owned())
        };
        // 0 is `cgroup_inet_ingress`.
        field("attach_type:").filter(|place| place == "0").and_then(|_| field("link_id:"))
    });
    let link = link.expect("is attached by a link");
    output(Command::new("bpftool").args(["link", "detach", "id", &link])).expect("is detached");
    let (status, told) = agent.ended().expect("ends by itself");
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("ingress") && told.contains("start meshtap again"), "{told}");
}

/// A budget of series is kept, and nothing is lost to the sum by it.
#[test]
fn the_budget_of_series() {
    require!("curl", "nginx", "ss");
    let nginx = Nginx::start().expect("starts");
    let agent = Agent::start(&format!(
        "series:\n  limit: 20\nroutes:\n  per_service: 1000\nnames:\n  - name: budget\n    match: {{ port: {} }}\n",
        nginx.port()
    ))
    .expect("is ready");
    let word = |number: u32| -> String {
        [number / 10, number % 10].iter().map(|digit| char::from(b'k' + *digit as u8)).collect()
    };
    let urls: Vec<String> = (0..60)
        .map(|number| format!("http://127.0.0.1:{}/nothing{}", nginx.port(), word(number)))
        .collect();
    curl(&urls.iter().map(String::as_str).collect::<Vec<_>>()).expect("answers");
    let name = "http_server_request_duration_seconds_count";
    let all = |scrape: &Scrape| scrape.count(name, &[]);
    let scrape = agent.scrape_until(|scrape| all(scrape) >= 60).expect("is served");
    assert!(all(&scrape) >= 60, "calls are in the sum, named or not: {}", all(&scrape));
    let series = scrape.select(name, &[]).count();
    assert!(series <= 21, "{series} series where 20 and one of overflow are allowed");
    assert_eq!(scrape.select(name, &[("otel_metric_overflow", "true")]).count(), 1);
    agent.stop().expect("ends well");
}

/// A collector that is down delays nothing and harms nothing but its own telemetry.
#[test]
fn a_collector_that_is_down() {
    require!("curl", "nginx", "ss");
    let nginx = Nginx::start().expect("starts");
    let agent = Agent::start(&format!(
        "stop_within: 2s\notlp:\n  endpoint: http://127.0.0.1:{}\n  interval: 200ms\ntraces:\n  sample_ratio: 1.0\n",
        free_port()
    ))
    .expect("is ready");
    let port = nginx.port().to_string();
    for _ in 0..50 {
        curl(&[&format!("http://127.0.0.1:{port}/ok")]).expect("answers");
    }
    let labels = [("service_name", "curl"), ("server_port", port.as_str())];
    let name = "http_client_request_duration_seconds_count";
    let scrape = agent.scrape_until(|scrape| scrape.count(name, &labels) == 50).expect("is served");
    assert_eq!(scrape.count(name, &labels), 50);
    assert_eq!(http::get(agent.address(), "/readyz").expect("answers").status, 200);
    let retries = |scrape: &Scrape| scrape.count("meshtap_export_retries_total", &[]);
    let scrape = agent.scrape_until(|scrape| retries(scrape) > 0).expect("is served");
    assert!(retries(&scrape) > 0, "what is tried in vain is told");
    assert_eq!(scrape.count("meshtap_export_items_total", &[("outcome", "exported")]), 0);
    let start = Instant::now();
    let status = agent.terminate().expect("ends");
    assert!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
    assert_eq!(status.code(), Some(4), "what was not sent is told by the exit code");
}
