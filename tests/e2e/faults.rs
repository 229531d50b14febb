//! What happens to an agent, and what is done to it: traffic goes on as if it were not there,
//! its memory stays within a bound, what it misses it declares, and it recovers by itself.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use meshtap_tests::agent::{Agent, Turn, binary, keep_ours};
use meshtap_tests::books::{Books, Kind, lost_of};
use meshtap_tests::cgroup::Cgroup;
use meshtap_tests::ledger::Ledger;
use meshtap_tests::limit::{Limit, Resource};
use meshtap_tests::netns::Place;
use meshtap_tests::process::{PATIENCE, Running, free_port, run};
use meshtap_tests::receiver::{Received, Receiver, Transport};
use meshtap_tests::scrape::Scrape;
use meshtap_tests::workload::{Nginx, ab, h2load, h2load_with};
use meshtap_tests::{require, skip};
use rand::{Rng as _, SeedableRng as _};
use rustix::process::{Pid, Signal, kill_process};

/// Behind which nginx keeps the connection.
const PATHS: [&str; 4] = ["/ok", "/nothing", "/moved", "/empty"];
/// Resident memory of an agent that is not asked to remember more than by default.
const BOUND: u64 = 96 << 20;
/// There in the guests of `cargo xtask vm` alone.
const GUEST: &str = "/run/vm/busybox";

/// A server, and what an agent is told of it.
struct Scene {
    nginx: Nginx,
    books: Books,
}

impl Scene {
    fn open() -> Self {
        let nginx = Nginx::start().expect("starts");
        let books = Books::new(Kind::Http, nginx.port());
        Self { nginx, books }
    }

    fn config(&self, more: &str) -> String {
        format!("{}{more}", self.books.configuration())
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.nginx.port())
    }

    /// Makes calls as fast as it goes; every one is answered.
    fn calls(&self, count: u64) {
        h2load(Place::HERE, &self.address(), &PATHS, 8, count).expect("every call is answered");
    }

    /// Makes a thousand calls a second for some seconds; every one is answered.
    fn calm_calls(&self, seconds: u64) {
        let hands = ["--h1", "-c8", "--rps=125"].map(str::to_owned);
        let count = seconds * 1_000;
        h2load_with(Place::HERE, &self.address(), &PATHS, &hands, count)
            .expect("every call is answered");
    }

    /// Calls while `body` runs, each answered, without a pause.
    fn calls_during<T>(&self, body: impl FnOnce() -> T) -> T {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    self.calm_calls(1);
                }
            });
            let result = body();
            over.store(true, Ordering::Relaxed);
            result
        })
    }

    fn ledger(&self) -> Ledger {
        self.nginx.ledger().expect("is there")
    }

    /// Demands that an agent that has been there for all calls of `client` has seen or
    /// declared each end of them and invented none, within its bound of memory. Gives how
    /// many it declared lost.
    fn demand_truth(&self, agent: &Agent, client: &str, record: &Ledger) -> u64 {
        let scrape = self.books.settle(agent, client, record.total()).expect("is served");
        let sides = [self.books.at_server(&scrape, client), self.books.at_client(&scrape, client)];
        let declared = lost_of(&scrape, &[self.books.name()]);
        let nameless = self.books.unrecognised(&scrape, client);
        let seen = sides.iter().map(Ledger::total).sum::<u64>() + nameless;
        assert_eq!(seen + declared, 2 * record.total(), "{declared} declared lost: {sides:?}");
        for side in sides {
            let (wrong, lines) = side.excess(record);
            assert_eq!(wrong, 0, "{lines:?}");
        }
        self.demand_bound(agent);
        declared
    }

    fn demand_bound(&self, agent: &Agent) {
        let memory = agent.memory().expect("lives");
        assert!(memory < BOUND, "{memory} bytes of resident memory");
        println!("{} MB of resident memory", memory >> 20);
    }
}

/// A file system at a place of its own; goes with this value.
struct Mount(tempfile::TempDir);

impl Mount {
    /// `what`: options, kind and source as `mount` takes them.
    fn new(what: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        run(&format!("mount {what} {}", folder.path().display()))?;
        Ok(Self(folder))
    }

    fn path(&self) -> String {
        self.0.path().display().to_string()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(run(&format!("umount -l {}", self.path())));
    }
}

fn signal(agent: &Agent, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(agent.pid()).expect("fits")).expect("is one");
    kill_process(pid, signal).expect("lives");
}

/// No table of either half has more entries than its bound. Gives how many were dropped of
/// the table `name`.
fn demand_tables(scrape: &Scrape, name: &str) -> u64 {
    let entries = scrape.by("meshtap_table_entries", &["table"], &[]);
    let capacity = scrape.by("meshtap_table_capacity", &["table"], &[]);
    assert!(entries.len() > 5, "{entries:?}");
    for (table, count) in &entries {
        assert!(*count <= capacity[table], "{table:?}: {count} of {}", capacity[table]);
    }
    scrape.count("meshtap_table_dropped_total", &[("table", name)])
}

/// While an agent stands still, the kernel goes on counting and keeps what it tells.
#[test]
fn an_agent_that_stands_still() {
    require!("nginx", "h2load", "ss");
    let scene = Scene::open();
    let agent = Agent::start(&scene.config("")).expect("is ready");
    scene.calm_calls(1);
    signal(&agent, Signal::STOP);
    scene.calm_calls(4);
    signal(&agent, Signal::CONT);
    scene.calm_calls(1);
    assert_eq!(scene.demand_truth(&agent, "h2load", &scene.ledger()), 0);
    agent.stop().expect("ends well");
}

/// An agent that is killed takes nothing with it, and the next one counts from its start on.
#[test]
fn an_agent_that_is_killed() {
    require!("nginx", "h2load", "ab", "ss");
    let scene = Scene::open();
    let first = Agent::start(&scene.config("")).expect("is ready");
    let (second, _turn) = scene.calls_during(|| {
        sleep(Duration::from_secs(2));
        let turn = first.kill().expect("is killed");
        (Agent::start_beside(&scene.config("")).expect("is ready"), turn)
    });
    // Connections that are older than this agent have ended; all from here on is its own.
    let before = scene.ledger();
    ab(Place::HERE, &format!("http://{}/teapot", scene.address()), 4, 500).expect("runs");
    let made = scene.ledger().total() - before.total();
    let mut record = Ledger::default();
    record.add("GET", "/teapot", Some(418), made);
    let sides = |scrape: &Scrape| {
        [scene.books.at_server(scrape, "ab"), scene.books.at_client(scrape, "ab")]
    };
    let enough = |scrape: &Scrape| sides(scrape).iter().all(|side| side.total() >= made);
    let scrape = second.scrape_until(enough).expect("is served");
    assert_eq!(sides(&scrape), [record.clone(), record]);
    scene.demand_bound(&second);
    // And of those before it says nothing that was not.
    for side in [scene.books.at_server(&scrape, "h2load"), scene.books.at_client(&scrape, "h2load")]
    {
        assert_eq!(side.excess(&before).1, Vec::<String>::new());
    }
    second.stop().expect("ends well");
}

/// With a twentieth of a processor it comes later to what it has to say, or declares it lost.
#[test]
fn a_twentieth_of_a_processor() {
    require!("nginx", "h2load", "ss");
    let quota = Resource::Cpu(5);
    if let Some(reason) = quota.missing() {
        skip!(reason);
    }
    let scene = Scene::open();
    // Each call is told, and written: more work than it has time for.
    let config = "capture:\n  count_in_kernel: false\n  ring_bytes: 64MiB\naccess_log:\n  \
                  stdout: json\n";
    let agent = Agent::start(&scene.config(config)).expect("is ready");
    let limit = Limit::new(quota).expect("is made");
    limit.take(agent.pid()).expect("is inside");
    scene.calls(30_000);
    let scrape = scene.books.settle(&agent, "h2load", 30_000).expect("is served");
    assert!(limit.throttled() > 0, "the agent had all that it wanted");
    let sides =
        [scene.books.at_server(&scrape, "h2load"), scene.books.at_client(&scrape, "h2load")];
    // The ring of this test holds all of them.
    let record = scene.ledger();
    assert_eq!(sides, [record.clone(), record], "{} lost", lost_of(&scrape, &[]));
    agent.stop().expect("ends well");
}

/// Within its bound of memory it lives; below what it needs it ends, and traffic goes on.
#[test]
fn a_limit_of_memory() {
    require!("nginx", "h2load", "ss");
    let limit = Resource::Memory(BOUND);
    if let Some(reason) = limit.missing() {
        skip!(reason);
    }
    let scene = Scene::open();
    let turn = Turn::take().expect("is taken");
    let small = Limit::new(Resource::Memory(8 << 20)).expect("is made");
    let launcher = small.launcher();
    let mut command = Command::new(&launcher[0]);
    keep_ours(&mut command).args(&launcher[1..]).arg(binary().expect("is built"));
    command.args(["run", "--listen", &format!("127.0.0.1:{}", free_port())]);
    scene.calls_during(|| {
        let mut starved = Running::start(&mut command).expect("starts");
        let status = starved.wait(PATIENCE).expect("ends");
        assert!(!status.success(), "8 MB are enough: {}", starved.output());
    });
    assert!(small.killed() > 0, "it ended for another reason");
    drop(turn);
    let before = scene.ledger();
    let enough = Limit::new(limit).expect("is made");
    let launcher = enough.launcher();
    let launcher = launcher.each_ref().map(String::as_str);
    let agent = Agent::start_by(&launcher, &scene.config("")).expect("is ready");
    for _ in 0..3 {
        ab(Place::HERE, &format!("http://{}/teapot", scene.address()), 64, 3_000).expect("runs");
    }
    let mut record = Ledger::default();
    record.add("GET", "/teapot", Some(418), scene.ledger().total() - before.total());
    assert_eq!(scene.demand_truth(&agent, "ab", &record), 0);
    assert_eq!(enough.killed(), 0);
    agent.stop().expect("ends well");
}

/// A collector that takes connections and answers nothing, then goes, then comes back: of
/// spans what the queue does not hold is dropped and counted, of metrics nothing is missing.
#[test]
fn a_collector_that_comes_back() {
    require!("nginx", "h2load", "ss");
    let scene = Scene::open();
    let port = free_port();
    let hole = TcpListener::bind(("127.0.0.1", port)).expect("is free");
    let otlp = format!(
        "otlp:\n  endpoint: http://127.0.0.1:{port}\n  interval: 300ms\n  timeout: 500ms\n  \
         queue: 512\n  batch: 128\n  batch_delay: 100ms\ntraces:\n  sample_ratio: 1.0\n"
    );
    let agent = Agent::start(&scene.config(&otlp)).expect("is ready");
    scene.calm_calls(2);
    sleep(Duration::from_secs(1));
    // Refused from here on.
    drop(hole);
    scene.calm_calls(2);
    assert_eq!(scene.demand_truth(&agent, "h2load", &scene.ledger()), 0);
    let receiver = Receiver::start_at(Transport::Http, port).expect("listens");
    scene.calm_calls(1);
    let total = scene.ledger().total();
    let name = "http.server.request.duration";
    let named = [("service.name", scene.books.name())];
    let received = receiver.wait(|received| received.count(name, &named) >= total);
    assert_eq!(received.count(name, &named), total, "metrics are whole");
    let own = |received: &Received| {
        let names = [scene.books.name(), "h2load"];
        let spans = received.trace("");
        spans.iter().filter(|span| names.contains(&span.service.as_str())).count() as u64
    };
    let outcome = |scrape: &Scrape, what: &str| {
        let labels = [("signal", "traces"), ("outcome", what)];
        scrape.count("meshtap_export_items_total", &labels)
    };
    let sum = |scrape: &Scrape| outcome(scrape, "exported") + outcome(scrape, "dropped");
    let scrape = agent.scrape_until(|scrape| sum(scrape) >= 2 * total).expect("is served");
    let (sent, dropped) = (outcome(&scrape, "exported"), outcome(&scrape, "dropped"));
    let by = scrape.by("meshtap_export_items_total", &["signal", "outcome"], &[]);
    assert!(dropped > 1_000, "what exceeds the queue is counted: {by:?}");
    assert!(sent > 512, "the rest arrives: {by:?}");
    assert!(sent + dropped >= 2 * total, "{sent} and {dropped} of {}: {by:?}", 2 * total);
    let received = receiver.wait(|received| own(received) + dropped >= 2 * total);
    assert!(own(&received) + dropped >= 2 * total, "{} came, {by:?}", own(&received));
    scene.demand_bound(&agent);
    agent.stop().expect("ends well");
}

/// Without /proc the names of programs are not known; calls are.
#[test]
fn a_proc_that_is_empty() {
    require!("nginx", "h2load", "ss");
    let scene = Scene::open();
    let folder = tempfile::tempdir().expect("is made");
    let config = format!("host:\n  proc: {}\n", folder.path().display());
    let agent = Agent::start(&scene.config(&config)).expect("is ready");
    scene.calls(5_000);
    let record = scene.ledger();
    let port = scene.nginx.port().to_string();
    let name = "http_client_request_duration_seconds_count";
    let labels = [("server_port", port.as_str())];
    let scrape = agent
        .scrape_until(|scrape| scrape.count(name, &labels) >= record.total())
        .expect("is served");
    assert_eq!(Ledger::from_metrics(&scrape, name, &labels), record);
    scene.demand_bound(&agent);
    agent.stop().expect("ends well");
}

/// Where processes are hidden from those that may not look at them, the agent's capability
/// shows them to it.
#[test]
fn a_proc_that_hides_processes() {
    require!("nginx", "h2load", "ss", "mount", "umount");
    let folder = Mount::new("-t proc -o hidepid=2 proc").expect("is mounted");
    let scene = Scene::open();
    let agent = Agent::start(&scene.config(&format!("host:\n  proc: {}\n", folder.path())));
    let agent = agent.expect("is ready");
    scene.calls(5_000);
    let record = scene.ledger();
    assert_eq!(scene.demand_truth(&agent, "h2load", &record), 0);
    let scrape = agent.scrape().expect("is served");
    assert_eq!(scene.books.at_client(&scrape, "h2load"), record, "each client has its name");
    agent.stop().expect("ends well");
}

/// The clock of the wall is put forward and back, by hours: nothing expires, begins anew or is
/// told of before it began, and what comes after has the new time.
#[test]
fn steps_of_the_clock() {
    const FORWARD: i64 = 2 * 3_600;
    const BACK: i64 = -5 * 3_600;
    require!("nginx", "h2load", "ss", "date");
    // The clock is one for the whole machine.
    if !std::path::Path::new(GUEST).exists() {
        skip!("the clock is only set in a guest of `cargo xtask vm`");
    }
    let scene = Scene::open();
    let receiver = Receiver::start(Transport::Http).expect("listens");
    let otlp = format!(
        "otlp:\n  endpoint: {}\n  interval: 300ms\n  batch_delay: 100ms\ntraces:\n  \
         sample_ratio: 1.0\n",
        receiver.endpoint()
    );
    let agent = Agent::start(&scene.config(&otlp)).expect("is ready");
    let name = "http.server.request.duration";
    let named = [("service.name", scene.books.name()), ("http.response.status_code", "200")];
    let starts = |received: &Received| -> BTreeSet<u64> {
        let points = received.points(name, &named);
        for point in &points {
            assert!(point.start_time_unix_nano <= point.time_unix_nano, "{point:?}");
        }
        points.iter().map(|point| point.start_time_unix_nano).collect()
    };
    let settled = || {
        scene.calls(200);
        let total = scene.ledger().total();
        let own = [("service.name", scene.books.name())];
        let received = receiver.wait(|received| received.count(name, &own) >= total);
        assert_eq!(received.count(name, &own), total, "nothing begins anew");
        received
    };
    let began = starts(&settled());
    let step = |seconds: i64| {
        run(&format!("date -s @{}", unix_now() + seconds)).expect("the clock is set");
        // It is looked at every ten seconds.
        sleep(Duration::from_secs(12));
        let before = receiver.received().trace("").len();
        let received = settled();
        let late = received.trace("").split_off(before);
        let now = unix_now();
        assert!(!late.is_empty(), "spans are told of");
        for span in late {
            let start = i64::try_from(span.span.start_time_unix_nano / 1_000_000_000);
            let away = now - start.expect("is a time");
            assert!((0..300).contains(&away), "a span began {away} s ago");
        }
        received
    };
    assert_eq!(starts(&step(FORWARD)), began, "series go on");
    let again = starts(&step(BACK));
    assert!(again.iter().all(|start| began.iter().all(|before| start < before)), "{again:?}");
    assert_eq!(scene.demand_truth(&agent, "h2load", &scene.ledger()), 0);
    let scrape = agent.scrape().expect("is served");
    assert_eq!(scrape.count("meshtap_series_expired_total", &[]), 0);
    agent.stop().expect("ends well");
    run(&format!("date -s @{}", unix_now() - FORWARD - BACK)).expect("the clock is set");
}

fn unix_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.expect("is after 1970").as_secs()).expect("is a time")
}

/// Where the hierarchy of cgroups is mounted may change: programs are attached to it, not to
/// a path.
#[test]
fn cgroups_that_are_mounted_elsewhere() {
    require!("nginx", "h2load", "ss", "mount", "umount");
    let scene = Scene::open();
    let first = Mount::new("-t cgroup2 none").expect("is mounted");
    let config = format!("host:\n  cgroup: {}\n", first.path());
    let agent = Agent::start(&scene.config(&config)).expect("is ready");
    scene.calls(2_000);
    drop(first);
    let _second = Mount::new("-t cgroup2 none").expect("is mounted");
    // A cgroup that is younger than the mount that the agent knew.
    let path = format!("meshtap-faults-{}.slice/late.service", std::process::id());
    let cgroup = Cgroup::create(&path).expect("is made");
    let late = Place::cgroup(&cgroup);
    h2load(late, &scene.address(), &PATHS, 8, 2_000).expect("every call is answered");
    let record = scene.ledger();
    let port = scene.nginx.port().to_string();
    for (name, labels) in [
        ("http_client_request_duration_seconds_count", ("server_port", port.as_str())),
        ("http_server_request_duration_seconds_count", ("service_name", scene.books.name())),
    ] {
        let count = |scrape: &Scrape| scrape.count(name, &[labels]);
        let scrape = agent.scrape_until(|scrape| count(scrape) >= record.total());
        let scrape = scrape.expect("is served");
        assert_eq!(Ledger::from_metrics(&scrape, name, &[labels]), record);
    }
    scene.demand_bound(&agent);
    agent.stop().expect("ends well");
}

/// Paths that nobody has asked for before: routes and series stay within their bounds, and
/// every call is in the sum.
#[test]
fn a_hundred_thousand_paths() {
    require!("nginx", "h2load", "ss");
    const CALLS: u64 = 100_000;
    let scene = Scene::open();
    let config = "series:\n  limit: 300\nroutes:\n  per_service: 1000\n";
    let agent = Agent::start(&scene.config(config)).expect("is ready");
    let word = |mut number: u64| {
        let mut word = String::new();
        for _ in 0..5 {
            word.push(char::from(b'g' + u8::try_from(number % 16).expect("fits")));
            number /= 16;
        }
        word
    };
    let list = tempfile::NamedTempFile::new().expect("is made");
    let uris = (0..CALLS).map(|it| format!("http://{}/nothing{}\n", scene.address(), word(it)));
    std::fs::write(list.path(), uris.collect::<String>()).expect("is written");
    let arguments = ["--h1".to_owned(), "-c1".to_owned(), format!("-i{}", list.path().display())];
    h2load_with(Place::HERE, &scene.address(), &[], &arguments, CALLS).expect("all are answered");
    let name = "http_server_request_duration_seconds_count";
    // Whoever else calls on this host is in the overflow, too: it has no name.
    let port = scene.nginx.port().to_string();
    let own = |scrape: &Scrape| {
        scrape.count(name, &[("service_name", scene.books.name())])
            + scrape.count(name, &[("otel_metric_overflow", "true")])
            + lost_of(scrape, &[scene.books.name()])
    };
    let scrape = agent.scrape_until(|scrape| own(scrape) >= CALLS).expect("is served");
    assert!(own(&scrape) >= CALLS, "{} of {CALLS} are in the sum", own(&scrape));
    assert!(scrape.count("meshtap_series_overflowed_total", &[]) > 0, "overflow is not counted");
    for name in [name, "http_client_request_duration_seconds_count"] {
        let series = scrape.select(name, &[]).count();
        assert!(series <= 301, "{series} series of {name}");
    }
    let labels = [("server_port", port.as_str())];
    let client = "http_client_request_duration_seconds_count";
    let routes = scrape.by(client, &["http_route"], &labels);
    assert!((2..=1_001).contains(&routes.len()), "{} routes", routes.len());
    demand_tables(&scrape, "");
    scene.demand_bound(&agent);
    // It goes on as before.
    scene.calls(1_000);
    agent.stop().expect("ends well");
}

/// More connections than it may follow: the idle ones are forgotten, and that is counted.
#[test]
fn a_hundred_thousand_connections() {
    require!("ss", "python3");
    // Of so many processes each holds both ends of so many connections, and may have 20,000
    // descriptors on any machine; half of them make a call, and a hundred of those another.
    const PROCESSES: u64 = 11;
    const CONNECTIONS: u64 = 9_100;
    const CALLS: u64 = PROCESSES * (CONNECTIONS / 2 + 100);
    let port = free_port();
    let books = Books::new(Kind::Http, port);
    let config = format!("{}protocol:\n  connections: 4096\n", books.configuration());
    let agent = Agent::start(&config).expect("is ready");
    let crowd = (1..=PROCESSES).map(|number| {
        let arguments = [format!("127.0.{number}.1"), port.to_string(), CONNECTIONS.to_string()];
        let mut command = Command::new("python3");
        command.args(["-c", include_str!("../src/workload/crowd.py")]).args(arguments);
        Running::start(&mut command).expect("starts")
    });
    let mut crowd: Vec<Running> = crowd.collect();
    crowd.iter_mut().for_each(|one| one.wait_for_text("open").expect("is connected"));
    for turns in 1..=2 {
        for one in &mut crowd {
            one.signal(Signal::USR1).expect("lives");
            one.wait_for_text(&"spoke\n".repeat(turns)).expect("has its answers");
        }
    }
    let memory = agent.memory().expect("lives");
    assert!(memory < BOUND, "{memory} bytes of resident memory");
    // What found no room among the events shows with what its connection does next.
    for one in &mut crowd {
        one.signal(Signal::USR1).expect("lives");
        one.succeed(PATIENCE).expect("ends well");
    }
    // Of a connection that was forgotten before it spoke the names are unknown.
    let own = [("http_route", "/many"), ("http_response_status_code", "200")];
    let ends = |scrape: &Scrape| {
        let count = |name| scrape.count(name, &own);
        let seen = count("http_server_request_duration_seconds_count")
            + count("http_client_request_duration_seconds_count");
        (seen, lost_of(scrape, &[books.name()]))
    };
    let enough = |scrape: &Scrape| ends(scrape).0 + ends(scrape).1 >= 2 * CALLS;
    // Tables tell of themselves once a second.
    let forgot = |scrape: &Scrape| {
        scrape.count("meshtap_table_dropped_total", &[("table", "connections")]) > 0
    };
    let scrape = agent.scrape_until(|scrape| enough(scrape) && forgot(scrape)).expect("is served");
    let (seen, declared) = ends(&scrape);
    assert_eq!(seen + declared, 2 * CALLS, "{declared} declared lost");
    let dropped = demand_tables(&scrape, "connections");
    let tables = scrape.by("meshtap_table_dropped_total", &["table"], &[]);
    assert!(dropped > 0, "nothing was forgotten, or it was not counted: {tables:?}");
    println!("{} MB of resident memory, {declared} declared lost", memory >> 20);
    agent.stop().expect("ends well");
}

/// Bytes that are no protocol, or half of one, beside calls that are in order.
#[test]
fn hostile_bytes() {
    require!("nginx", "h2load", "ss");
    let scene = Scene::open();
    let agent = Agent::start(&scene.config("")).expect("is ready");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (over, address) = (&over, scene.address());
            scope.spawn(move || {
                let mut chance = rand::rngs::StdRng::seed_from_u64(seed);
                while !over.load(Ordering::Relaxed) {
                    attack(&address, &mut chance);
                }
            });
        }
        scene.calls(20_000);
        scene.calm_calls(3);
        over.store(true, Ordering::Relaxed);
    });
    let log = scene.ledger();
    let mut good = Ledger::default();
    let mut bad = Ledger::default();
    for ((method, path, status), count) in log.iter() {
        let is_good = method == "GET" && PATHS.contains(&path.as_str());
        let ledger = if is_good { &mut good } else { &mut bad };
        ledger.add(method, path, status.parse().ok(), count);
    }
    assert!(bad.total() > 50, "{bad:?}");
    let scrape = scene.books.settle(&agent, "h2load", good.total()).expect("is served");
    for side in [scene.books.at_server(&scrape, "h2load"), scene.books.at_client(&scrape, "h2load")]
    {
        assert_eq!(side, good);
    }
    // Of the others no answer is told that nginx did not give.
    let name = "http_server_request_duration_seconds_count";
    let labels = [("service_name", scene.books.name())];
    let by = ["http_response_status_code"];
    let log = scene.nginx.log().expect("is there");
    for (status, count) in scrape.by(name, &by, &labels) {
        if status[0].is_empty() {
            continue;
        }
        let word = format!(" {} ", status[0]);
        let given = log.lines().filter(|line| line.contains(&word)).count() as u64;
        assert!(count <= given, "{count} with {status:?}, but nginx gave {given}");
    }
    demand_tables(&scrape, "");
    scene.demand_bound(&agent);
    agent.stop().expect("ends well");
}

/// One connection of somebody who means no good.
fn attack(address: &str, chance: &mut impl rand::RngCore) {
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    let timeout = stream.set_read_timeout(Some(Duration::from_millis(50)));
    timeout.expect("is set");
    let mut bytes = vec![0; 400];
    chance.fill_bytes(&mut bytes);
    let half: &[&[u8]] = &[
        b"GET /half HTTP/1.1\r\nHost: a\r\nX-",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /bad\0path HTTP/1.1\r\n\r\n",
        b"",
    ];
    let chosen = half[chance.random_range(0..half.len())];
    // Refused at once, or closed while it is sent: either is fine.
    drop(stream.write_all(chosen));
    drop(stream.write_all(&bytes));
    drop(stream.read(&mut [0; 512]));
}
