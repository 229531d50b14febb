//! Tests of process.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;

use super::*;
use crate::attribution::container::ContainerName;

const MS: u64 = 1_000_000;

/// Processes that the test starts and ends.
#[derive(Default)]
struct Fake(RefCell<HashMap<u32, ProcessRecord>>);

impl Fake {
    fn start(&self, pid: u32, started_ns: u64, read_ns: u64, line: &[&str]) {
        let record = ProcessRecord {
            started_ns: started_ns / START_TICK_NS * START_TICK_NS,
            read_ns,
            comm: program::base_name(line[0]).to_owned(),
            executable: Some(line[0].to_owned()),
            arguments: line.iter().map(|word| (*word).to_owned()).collect(),
            ..ProcessRecord::default()
        };
        self.0.borrow_mut().insert(pid, record);
    }

    fn end(&self, pid: u32) {
        self.0.borrow_mut().remove(&pid);
    }
}

// The tests run on one thread each.
impl Host for std::sync::Mutex<Fake> {
    fn process(&self, pid: u32) -> Option<ProcessRecord> {
        self.lock().unwrap().0.borrow().get(&pid).cloned()
    }

    fn cgroups(&self, _: usize) -> Vec<(u64, String)> {
        Vec::new()
    }

    fn container_name(&self, _: &str) -> Option<ContainerName> {
        None
    }

    fn listener_holders(&self, _: SocketAddr) -> Vec<u32> {
        Vec::new()
    }
}

fn host() -> std::sync::Mutex<Fake> {
    std::sync::Mutex::default()
}

fn owner(pid: u32, name: &str) -> event::Owner {
    let mut comm = [0; 16];
    let length = name.len().min(15);
    comm[..length].copy_from_slice(&name.as_bytes()[..length]);
    event::Owner { pid, uid: 0, comm }
}

fn exec(pid: u32, time_ns: u64, name: &str) -> event::Exec {
    event::Exec {
        header: event::Header { time_ns, ..event::Header::default() },
        owner: owner(pid, name),
    }
}

fn exit(pid: u32, time_ns: u64) -> event::Exit {
    event::Exit { header: event::Header { time_ns, ..event::Header::default() }, pid, pad: 0 }
}

fn at(processes: &mut Processes, pid: u32, comm: &str, at_ns: u64, host: &dyn Host) -> String {
    processes.at(&owner(pid, comm), at_ns, host).program.to_string()
}

#[test]
fn a_living_process_is_read_and_a_gone_one_goes_by_its_file() {
    let (host, mut processes) = (host(), Processes::new(16));
    host.lock().unwrap().start(7, 50 * MS, 101 * MS, &["/usr/bin/python3.11", "/srv/app.py"]);
    processes.exec(&exec(7, 100 * MS, "python3"), b"/usr/bin/python3", &host);
    assert_eq!(at(&mut processes, 7, "python3", 150 * MS, &host), "app");
    processes.exec(&exec(8, 100 * MS, "curl"), b"/usr/bin/curl", &host);
    assert_eq!(at(&mut processes, 8, "curl", 101 * MS, &host), "curl");
    processes.exec(&exec(9, 100 * MS, "probe.sh"), b"./probe.sh", &host);
    assert_eq!(at(&mut processes, 9, "probe.sh", 101 * MS, &host), "probe");
    let long = [b'x'; FILE_NAME];
    processes.exec(&exec(10, 100 * MS, "worker"), &long, &host);
    assert_eq!(
        at(&mut processes, 10, "worker", 101 * MS, &host),
        "worker",
        "a cut path has no end"
    );
    processes.exec(&exec(11, 100 * MS, "sealed"), b"/dev/fd/3", &host);
    assert_eq!(at(&mut processes, 11, "sealed", 101 * MS, &host), "sealed");
}

#[test]
fn a_dying_process_still_tells_where_it_belongs() {
    let (host, mut processes) = (host(), Processes::new(16));
    host.lock().unwrap().start(7, 50 * MS, 101 * MS, &["/usr/bin/python3.11"]);
    let dying = |record: &mut ProcessRecord| {
        record.arguments.clear();
        record.cgroups = vec!["/system.slice/web.service".to_owned()];
    };
    host.lock().unwrap().0.borrow_mut().entry(7).and_modify(dying);
    let facts = processes.exec(&exec(7, 100 * MS, "job.py"), b"/srv/job.py", &host);
    assert_eq!((&*facts.program, &*facts.cgroups[0]), ("job", "/system.slice/web.service"));
}

#[test]
fn without_an_exec_record_the_task_names_it() {
    let (host, mut processes) = (host(), Processes::new(16));
    assert_eq!(at(&mut processes, 7, "curl", MS, &host), "curl");
    assert_eq!(at(&mut processes, 7, "(sd-listen)", MS, &host), "");
    assert_eq!(at(&mut processes, 0, "curl", MS, &host), "", "no pid, no process");
}

#[test]
fn a_reused_pid_names_each_socket_by_its_time() {
    let (host, mut processes) = (host(), Processes::new(16));
    host.lock().unwrap().start(7, 100 * MS, 101 * MS, &["/usr/bin/curl"]);
    processes.exec(&exec(7, 100 * MS, "curl"), b"/usr/bin/curl", &host);
    processes.exit(&exit(7, 120 * MS));
    host.lock().unwrap().start(7, 500 * MS, 501 * MS, &["/usr/sbin/nginx"]);
    processes.exec(&exec(7, 500 * MS, "nginx"), b"/usr/sbin/nginx", &host);
    assert_eq!(at(&mut processes, 7, "curl", 110 * MS, &host), "curl");
    assert_eq!(at(&mut processes, 7, "nginx", 510 * MS, &host), "nginx");
    // Between the two somebody else had it, of whom only the task's name is known.
    assert_eq!(at(&mut processes, 7, "wget", 300 * MS, &host), "wget");
}

#[test]
fn a_late_read_never_names_an_earlier_owner() {
    let (host, mut processes) = (host(), Processes::new(16));
    // The exec record of `curl` is read when `nginx` has its pid already.
    host.lock().unwrap().start(7, 500 * MS, 501 * MS, &["/usr/sbin/nginx"]);
    processes.exec(&exec(7, 100 * MS, "curl"), b"/usr/bin/curl", &host);
    assert_eq!(at(&mut processes, 7, "curl", 110 * MS, &host), "curl");
    // And with the exec record lost.
    assert_eq!(at(&mut processes, 8, "curl", 110 * MS, &host), "curl");
    host.lock().unwrap().start(8, 500 * MS, 501 * MS, &["/usr/sbin/nginx"]);
    assert_eq!(at(&mut processes, 8, "curl", 110 * MS, &host), "curl");
    // Within the start's precision the task's name decides.
    assert_eq!(at(&mut processes, 8, "curl", 503 * MS, &host), "curl");
    assert_eq!(at(&mut processes, 8, "nginx", 503 * MS, &host), "nginx");
}

#[test]
fn a_chain_of_execs_is_told_apart_though_read_too_late() {
    let (host, mut processes) = (host(), Processes::new(16));
    // sh execs curl before anybody looks: /proc shows curl for both records.
    host.lock().unwrap().start(7, 90 * MS, 105 * MS, &["/usr/bin/curl", "http://a"]);
    processes.exec(&exec(7, 100 * MS, "wait.sh"), b"/opt/wait.sh", &host);
    let before = processes.revision();
    assert_eq!(at(&mut processes, 7, "wait.sh", 101 * MS, &host), "curl", "not known yet");
    processes.exec(&exec(7, 102 * MS, "curl"), b"/usr/bin/curl", &host);
    assert!(processes.revision() > before, "whoever was named so must be named anew");
    assert_eq!(at(&mut processes, 7, "wait.sh", 101 * MS, &host), "wait");
    assert_eq!(at(&mut processes, 7, "curl", 103 * MS, &host), "curl");
}

#[test]
fn a_thousand_in_a_row_and_a_hundred_at_once_get_their_names() {
    let (host, mut processes) = (host(), Processes::new(256));
    for round in 0..1_000_u64 {
        let (pid, start) = (1_000 + u32::try_from(round % 50).unwrap(), round * 20 * MS);
        let name = if round % 2 == 0 { "curl" } else { "wget" };
        // Every third one lives when its record is read.
        if round % 3 == 0 {
            host.lock().unwrap().start(pid, start, start + MS, &[&format!("/usr/bin/{name}")]);
        } else {
            host.lock().unwrap().end(pid);
        }
        processes.exec(&exec(pid, start + MS, name), format!("/usr/bin/{name}").as_bytes(), &host);
        processes.exit(&exit(pid, start + 9 * MS));
        assert_eq!(at(&mut processes, pid, name, start + 5 * MS, &host), name, "round {round}");
        processes.sweep((start + 9 * MS).saturating_sub(30 * 20 * MS));
    }
    assert_eq!(processes.evicted(), 0);
    for pid in 5_000..5_100 {
        processes.exec(&exec(pid, 50_000 * MS, "curl"), b"/usr/bin/curl", &host);
    }
    for pid in 5_000..5_100 {
        assert_eq!(at(&mut processes, pid, "curl", 50_001 * MS, &host), "curl");
    }
}

#[test]
fn processes_are_forgotten_after_their_grace_and_beyond_the_bound() {
    let (host, mut processes) = (host(), Processes::new(4));
    for pid in 1..=10 {
        processes.exec(&exec(pid, u64::from(pid) * MS, "curl"), b"/usr/bin/curl", &host);
        processes.exit(&exit(pid, u64::from(pid) * MS + 1));
    }
    assert_eq!((processes.occupancy(), processes.evicted()), ((4, 4), 6));
    processes.sweep(9 * MS);
    assert_eq!(processes.occupancy(), (2, 4));
    processes.sweep(u64::MAX);
    assert_eq!(processes.occupancy(), (0, 4));
    for time in 0..20 {
        processes.exec(&exec(7, time * MS, "sh"), b"/bin/sh", &host);
    }
    assert!(processes.pids.peek(&7).unwrap().len() <= LIVES);
}
