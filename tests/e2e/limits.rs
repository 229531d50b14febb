//! The agent within its limits: it follows fewer connections, says so, counts right all the
//! same, comes back when there is room, and leaves where nothing helps.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use meshtap_tests::agent::{Agent, Observer};
use meshtap_tests::netns::Place;
use meshtap_tests::require;
use meshtap_tests::scrape::Scrape;
use meshtap_tests::workload::{Nginx, curl, h2load};
use rustix::process::Signal;

/// Connections of one run of the load, and requests on each.
const CONNECTIONS: u32 = 100;
const EACH: u32 = 40;
const SHARE: &str = "meshtap_capture_share";
const LEFT_OUT: &str = "meshtap_connections_unsampled_total";

/// Processor time of a process, in seconds.
fn cpu_seconds(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("lives");
    let behind_name = text.rsplit(')').next().expect("has fields");
    let ticks: u64 = behind_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|one| one.parse::<u64>().ok())
        .sum();
    ticks as f64 / 100.0
}

fn load(nginx: &Nginx) {
    let address = format!("127.0.0.1:{}", nginx.port());
    let requests = u64::from(CONNECTIONS * EACH);
    h2load(Place::HERE, &address, &["/ok"], CONNECTIONS, requests).expect("is answered");
}

/// Makes load on connections that end and begin, until `until` says so.
fn while_loaded<T>(nginx: &Nginx, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let make = || {
            while !done.load(Ordering::Relaxed) {
                load(nginx);
            }
        };
        let making = scope.spawn(make);
        let result = work();
        done.store(true, Ordering::Relaxed);
        making.join().expect("is answered");
        result
    })
}

/// Calls by the agent's count, at the clients' end.
fn counted(scrape: &Scrape, port: &str) -> f64 {
    let labels = [("service_name", "h2load"), ("server_port", port)];
    scrape.sum("http_client_request_duration_seconds_count", &labels)
}

fn lost(scrape: &Scrape) -> f64 {
    scrape.sum("meshtap_calls_lost_total", &[("client", "h2load")])
}

/// Beyond the limit the share falls until the processor time keeps within it; the counts are
/// those of the server's log within five standard deviations of what was drawn; afterwards
/// everything is followed again.
#[test]
fn a_limit_of_processor_time_is_kept_and_counts_stay_right() {
    require!("h2load", "nginx", "ss");
    let nginx = Nginx::start().expect("starts");
    // A third to a half of what a release build takes for this.
    let limit = 0.05;
    let config = format!("limits:\n  cpu: {limit}\ncapture:\n  count_in_kernel: false\n");
    let agent = Agent::start(&config).expect("is ready");
    let port = nginx.port().to_string();
    let (used, smallest) = while_loaded(&nginx, || {
        // To find its share.
        std::thread::sleep(Duration::from_secs(12));
        let (begin, before) = (Instant::now(), cpu_seconds(agent.pid()));
        std::thread::sleep(Duration::from_secs(10));
        let used = (cpu_seconds(agent.pid()) - before) / begin.elapsed().as_secs_f64();
        (used, agent.scrape().expect("is served").sum(SHARE, &[]))
    });
    println!("{used:.3} of a core, 1 in {}", 1.0 / smallest);
    assert!(smallest < 1.0, "nothing was left out: {}", agent.output());
    assert!(used < limit * 1.3, "{used} of a core: {}", agent.output());
    let log = nginx.ledger().expect("is written");
    let made = f64::from(u32::try_from(log.total()).expect("is not that much"));
    let scrape = agent
        .scrape_until(|scrape| counted(scrape, &port) + lost(scrape) > made * 0.9)
        .expect("is served");
    let seen = counted(&scrape, &port) + lost(&scrape);
    // Each connection is drawn once, with all of its requests: the variance of the sum is
    // that of as many draws at the smallest share, at the most.
    let deviation = (made * f64::from(EACH) * (1.0 / smallest - 1.0)).sqrt();
    println!("{made} made, {seen} counted, {deviation:.0} the standard deviation");
    assert!((seen - made).abs() <= 5.0 * deviation, "{made} made, {seen} counted");
    assert!(scrape.sum(LEFT_OUT, &[]) > 0.0);
    recovers(&agent, &nginx);
    agent.stop().expect("ends well");
}

/// The share comes back, step by step, and then each call is counted.
fn recovers(agent: &Agent, nginx: &Nginx) {
    let deadline = Instant::now() + Duration::from_secs(100);
    while agent.scrape().expect("is served").sum(SHARE, &[]) < 1.0 {
        assert!(Instant::now() < deadline, "{}", agent.output());
        std::thread::sleep(Duration::from_secs(3));
    }
    for _ in 0..20 {
        curl(&[&format!("http://127.0.0.1:{}/teapot", nginx.port())]).expect("answers");
    }
    let port = nginx.port().to_string();
    let labels = [("service_name", "curl"), ("server_port", port.as_str())];
    let count =
        |scrape: &Scrape| scrape.count("http_client_request_duration_seconds_count", &labels);
    let scrape = agent.scrape_until(|scrape| count(scrape) >= 20).expect("is served");
    assert_eq!(count(&scrape), 20);
}

/// Both ends of a connection are chosen, or none: a call that stands for others is one line.
#[test]
fn both_ends_are_chosen_alike() {
    require!("h2load", "nginx", "ss");
    let nginx = Nginx::start().expect("starts");
    let mut observer = Observer::start_with(&["--set", "limits.cpu=0.05"]).expect("observes");
    let calls = while_loaded(&nginx, || {
        std::thread::sleep(Duration::from_secs(8));
        observer.calls().expect("parses")
    });
    let seen = calls.to_port(nginx.port());
    let chosen: Vec<_> = seen.iter().filter(|call| call.weight > 1).collect();
    assert!(chosen.len() > 100, "{} of {} calls stand for others", chosen.len(), seen.len());
    assert!(chosen.iter().all(|call| call.weight.is_power_of_two()));
    // Where the share changes in the midst of a call, one end may have had its answer.
    let halves = chosen.iter().filter(|call| !call.both_ends()).count();
    assert!(halves * 50 < chosen.len(), "{halves} of {} are halves", chosen.len());
    observer.stop(Signal::TERM).expect("ends");
}

/// A limit that cannot be kept is the end: the agent says so, and is gone from the kernel.
#[test]
fn where_nothing_helps_the_agent_leaves() {
    require!("nginx", "ab", "ss");
    let nginx = Nginx::start().expect("starts");
    let config = "limits:\n  cpu: 0.01\n";
    let agent = Agent::start(config).expect("is ready");
    let directory = Path::new("/proc").join(agent.pid().to_string());
    let url = format!("http://127.0.0.1:{}/ok", nginx.port());
    let deadline = Instant::now() + Duration::from_secs(120);
    // Connections cost something whether they are followed or not.
    while directory.join("maps").metadata().is_ok() && is_running(&directory) {
        let mut ab = Command::new("ab");
        ab.args(["-q", "-n", "3000", "-c", "10", &url]).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(ab.status().expect("starts").success());
        assert!(Instant::now() < deadline, "{}", agent.output());
    }
    let (status, told) = agent.ended().expect("ends");
    assert_eq!(status.code(), Some(5), "{told}");
    assert!(told.contains("limits.cpu") && told.contains("leaves the kernel"), "{told}");
    assert!(told.contains("1 in 64"), "{told}");
    curl(&[&url]).expect("answers");
}

/// Whether a process is more than an entry that waits to be read.
fn is_running(directory: &Path) -> bool {
    let status = std::fs::read_to_string(directory.join("status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}
