//! What a running agent may do: next to nothing of what its start may, in every thread.

use std::process::Command;

use meshtap_tests::agent::{Agent, Observer};
use meshtap_tests::process::output;
use meshtap_tests::require;
use meshtap_tests::requirement::program;
use meshtap_tests::scrape::Scrape;
use meshtap_tests::workload::{Nginx, curl};

const NET_ADMIN: u64 = 1 << 12;
const DAC_READ_SEARCH: u64 = 1 << 2;
const SYS_PTRACE: u64 = 1 << 19;
const BPF: u64 = 1 << 39;
const READER: u64 = NET_ADMIN | DAC_READ_SEARCH | SYS_PTRACE;
const NOBODY: &str = "65534 65534 65534 65534";

/// A thread as `/proc/<pid>/task/<tid>/status` tells of it.
#[derive(Debug)]
struct Thread {
    name: String,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
    bounding: u64,
    user: String,
    group: String,
    gains_nothing: bool,
}

fn threads(pid: u32) -> Vec<Thread> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("lives");
    let read = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("status")).ok()?;
        let words = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("is told");
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let set = |name: &str| u64::from_str_radix(&words(name), 16).expect("is a set");
        Some(Thread {
            name: words("Name:"),
            effective: set("CapEff:"),
            permitted: set("CapPrm:"),
            inheritable: set("CapInh:"),
            ambient: set("CapAmb:"),
            bounding: set("CapBnd:"),
            user: words("Uid:"),
            group: words("Gid:"),
            gains_nothing: words("NoNewPrivs:") == "1",
        })
    };
    tasks.flatten().filter_map(read).collect()
}

/// Demands that every thread holds what docs/deploy.md says, and no more.
fn hold_little(pid: u32, user: &str) {
    let threads = threads(pid);
    assert!(threads.iter().any(|thread| thread.name == "meshtap-reader"), "{threads:?}");
    for thread in &threads {
        // Kernels before 5.19 ask for CAP_BPF to look into maps.
        let held = if thread.name == "meshtap-reader" {
            thread.effective & BPF | READER
        } else {
            DAC_READ_SEARCH
        };
        let sets = [thread.effective, thread.permitted, thread.bounding];
        assert_eq!(sets, [held; 3], "{thread:?}");
        assert_eq!((thread.inheritable, thread.ambient), (0, 0), "{thread:?}");
        assert_eq!((thread.user.as_str(), thread.group.as_str()), (user, user), "{thread:?}");
        assert!(thread.gains_nothing, "{thread:?}");
    }
}

fn unit() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/systemd/meshtap.service");
    std::fs::read_to_string(path).expect("the unit is part of the repository")
}

/// A program that starts the agent with just these capabilities.
fn launcher(names: &[String]) -> Vec<String> {
    let granted = names.iter().map(|name| format!("+{}", name.trim_start_matches("cap_")));
    let granted = format!("-all,{}", granted.collect::<Vec<_>>().join(","));
    let setpriv = program("setpriv").expect("is installed").display().to_string();
    [setpriv.as_str(), "--no-new-privs", "--inh-caps=-all", "--bounding-set", &granted]
        .map(str::to_owned)
        .to_vec()
}

fn granted() -> Vec<String> {
    let unit = unit();
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    line.expect("is granted").split(' ').map(str::to_ascii_lowercase).collect()
}

fn ask_as_nobody(port: u16) {
    let ask = ["-q", "-sS", "--noproxy", "*", "-o", "/dev/null"];
    let mut curl = Command::new(program("setpriv").expect("is installed"));
    curl.args(["--reuid=65534", "--regid=65534", "--clear-groups", "curl"]).args(ask);
    output(curl.arg(format!("http://127.0.0.1:{port}/teapot"))).expect("answers");
}

/// Waits for calls of curl to nginx at a port.
fn counted(agent: &Agent, port: u16, calls: u64) {
    let port = port.to_string();
    let labels =
        [("service_name", "curl"), ("service_peer_name", "nginx"), ("server_port", port.as_str())];
    let count =
        |scrape: &Scrape| scrape.count("http_client_request_duration_seconds_count", &labels);
    let scrape = agent.scrape_until(|scrape| count(scrape) >= calls).expect("is served");
    assert_eq!(count(&scrape), calls, "{}", agent.output());
}

/// What the unit grants is enough: the agent sees calls, and names programs of other users,
/// whether they are older or come later; when it runs it holds nearly nothing of it.
#[test]
fn with_the_capabilities_of_the_unit() {
    require!("setpriv", "curl", "nginx", "ss");
    let launcher = launcher(&granted());
    let launcher: Vec<&str> = launcher.iter().map(String::as_str).collect();
    // Its listener is older than the agent: it is named from /proc.
    let older = Nginx::start().expect("starts");
    let agent = Agent::start_by(&launcher, "").expect("is ready");
    hold_little(agent.pid(), NOBODY);
    let newer = Nginx::start().expect("starts");
    for port in [older.port(), newer.port()] {
        ask_as_nobody(port);
        counted(&agent, port, 1);
    }
    hold_little(agent.pid(), NOBODY);
    let told = agent.stop().expect("ends well");
    assert!(!told.contains("WARN"), "something is missing: {told}");
}

/// Root without anything to stop it gives up the same.
#[test]
fn root_gives_up_what_it_does_not_need() {
    require!("curl", "nginx", "ss");
    let nginx = Nginx::start().expect("starts");
    let agent = Agent::start("").expect("is ready");
    hold_little(agent.pid(), NOBODY);
    curl(&[&format!("http://127.0.0.1:{}/teapot", nginx.port())]).expect("answers");
    counted(&agent, nginx.port(), 1);
    agent.stop().expect("ends well");
    let agent = Agent::start("privileges:\n  user: 0\n").expect("is ready");
    hold_little(agent.pid(), "0 0 0 0");
    agent.stop().expect("ends well");
}

/// Without the capabilities for it the agent stays root, and drops the others all the same.
#[test]
fn where_it_may_not_become_another_user() {
    require!("setpriv", "curl", "nginx", "ss");
    let names = granted();
    let names: Vec<_> = names.into_iter().filter(|name| !name.starts_with("cap_set")).collect();
    let launcher = launcher(&names);
    let launcher: Vec<&str> = launcher.iter().map(String::as_str).collect();
    let nginx = Nginx::start().expect("starts");
    let agent = Agent::start_by(&launcher, "").expect("is ready");
    for thread in threads(agent.pid()) {
        assert_eq!(thread.effective & !(READER | BPF), 0, "{thread:?}");
        assert_eq!((thread.permitted, thread.user.as_str()), (thread.effective, "0 0 0 0"));
        assert!(thread.gains_nothing, "{thread:?}");
    }
    ask_as_nobody(nginx.port());
    counted(&agent, nginx.port(), 1);
    let told = agent.stop().expect("ends well");
    assert!(!told.contains("WARN"), "something is missing: {told}");
}

#[test]
fn observe_gives_up_the_same() {
    require!("curl", "nginx", "ss");
    let nginx = Nginx::start().expect("starts");
    let observer = Observer::start().expect("observes");
    hold_little(observer.pid(), NOBODY);
    curl(&[&format!("http://127.0.0.1:{}/teapot", nginx.port())]).expect("answers");
    let calls = observer.finish().expect("ends well");
    assert_eq!(calls.to_port(nginx.port()).len(), 1);
}
