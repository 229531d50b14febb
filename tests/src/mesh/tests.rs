//! What the laboratory does by itself, without an agent.

use std::time::Duration;

use super::lab::{NODE_V4, authority};
use super::sidecar::Guise;
use super::{Lab, Sidecar, istio, sidecar};
use crate::cluster::{Driver, Pod, Service};
use crate::netns::Place;
use crate::process::output;
use crate::workload::{Nginx, load};

fn ask(place: Place<'_>, url: &str) -> String {
    let mut command = load::curl_in(place).expect("is installed");
    output(command.args(["--connect-timeout", "5", "-g", url])).expect("answers")
}

/// Whatever the laboratory makes on the host, by name.
fn traces() -> String {
    let list = |command: &str| crate::process::run(command).expect("lists");
    let mut text = list("ip -o link") + &list("ip netns") + &list("iptables-save");
    text += &list("ip6tables-save");
    let own = text.lines().filter(|line| line.contains("mtmesh") || line.contains("MESHTAP"));
    own.collect::<Vec<_>>().join("\n")
}

const SEEN: &str = "location = /seen { return 200 \"$remote_addr\\n\"; }";

#[test]
fn pods_reach_each_other_by_every_address() {
    if let Some(reason) = Lab::missing() {
        crate::skip!(reason);
    }
    let lab = Lab::start(Driver::Systemd).expect("starts");
    let client = lab.run(Pod::of_deployment("shop", "buyer")).expect("runs");
    let place = client.place("app").expect("has one");
    let servers =
        [0, 1].map(|number| lab.run(Pod::of_stateful_set("shop", "cart", number)).expect("runs"));
    let nginx =
        Nginx::start_in(servers[0].place("app").expect("has one"), 1, SEEN).expect("starts");
    let families: &[bool] = if lab.has_v6() { &[false, true] } else { &[false] };
    let service = Service::new("shop", "cart").port("http", 80, nginx.port()).node_port(30_080);
    let service = lab.serve(service, &[&servers[0]]).expect("is served");
    for is_v6 in families {
        let address = |sandbox: &super::Sandbox| sandbox.address(*is_v6).expect("has one");
        let own = format!("{}\n", address(&client));
        let url = |host: String| format!("http://{host}/seen");
        let direct = authority(address(&servers[0]), nginx.port());
        assert_eq!(ask(place, &url(direct)), own);
        let virtual_one = service.addresses.iter().find(|ip| ip.is_ipv6() == *is_v6);
        let virtual_one = url(authority(*virtual_one.expect("has one"), 80));
        assert_eq!(ask(place, &virtual_one), own);
        // From the server itself, and from the host.
        let itself = servers[0].place("app").expect("has one");
        assert_ne!(ask(itself, &virtual_one), format!("{}\n", address(&servers[0])));
        ask(Place::HERE, &virtual_one);
    }
    assert_eq!(ask(place, &format!("http://{NODE_V4}:30080/ok")), "fine\n");
    // Two behind one address: both are asked.
    let mut command =
        servers[1].place("app").expect("has one").inside("python3").expect("is there");
    let script = format!(
        "import http.server as h\nh.ThreadingHTTPServer(('', {}), h.SimpleHTTPRequestHandler).serve_forever()",
        nginx.port()
    );
    let mut other = crate::process::Running::start(command.args(["-c", &script])).expect("starts");
    other
        .wait_for_listener(&servers[1].place("app").expect("has one"), nginx.port())
        .expect("listens");
    let both = lab.serve(service, &[&servers[0], &servers[1]]).expect("is served");
    let url = format!("http://{}/ok", authority(both.addresses[0], 80));
    let answers: Vec<bool> = (0..40).map(|_| ask(place, &url) == "fine\n").collect();
    assert!(answers.contains(&true) && answers.contains(&false), "{answers:?}");
    // A pod that ends is not asked any more, and the API server knows nothing of it.
    let [first, second] = servers;
    let key = second.pod.key();
    drop(other);
    lab.end(second).expect("ends");
    assert!(lab.api().object(&key).is_none());
    assert!((0..10).all(|_| ask(place, &url) == "fine\n"));
    drop((nginx, first, client));
}

#[test]
fn what_a_lost_laboratory_left_is_taken_away() {
    if let Some(reason) = Lab::missing() {
        crate::skip!(reason);
    }
    let lab = Lab::start(Driver::Cgroupfs).expect("starts");
    let pod = lab.run(Pod::of_deployment("shop", "buyer")).expect("runs");
    let mut command = pod.place("app").expect("has one").inside("sleep").expect("is there");
    let mut sleep = crate::process::Running::start(command.arg("1000")).expect("starts");
    while !std::fs::read_to_string(format!("/proc/{}/cgroup", sleep.pid()))
        .is_ok_and(|text| text.contains(&pod.pod.uid))
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    let inside = traces();
    assert!(inside.contains("MESHTAP") && inside.contains("mtmesh"), "{inside}");
    let before = super::host::Before::read(lab.folder()).expect("is noted");
    super::sweep::sweep().expect("sweeps");
    assert!(before.cgroups.iter().all(|path| !path.exists()));
    for (path, value) in before.parameters {
        assert_eq!(std::fs::read_to_string(path).expect("is there").trim(), value);
    }
    let status = sleep.wait(Duration::from_secs(5)).expect("has ended");
    assert!(!status.success());
    let left = traces();
    assert!(!left.contains("MESHTAP") && !left.contains("mtmesh"), "{left}");
    drop((pod, lab));
}

#[test]
fn sidecars_know_each_other() {
    if let Some(reason) = Sidecar::missing() {
        crate::skip!(reason);
    }
    let lab = Lab::start(Driver::Cgroupfs).expect("starts");
    let pod = |name: &str| istio::injected(Pod::of_deployment("shop", name).account(name), true);
    let server = lab.run(pod("cart")).expect("runs");
    let seen = "location = /seen { return 200 \"$remote_addr|$http_x_forwarded_client_cert|$http_x_envoy_attempt_count|$http_x_request_id\"; }";
    let nginx = Nginx::start_in(server.place("app").expect("has one"), 1, seen).expect("starts");
    let inbound = Sidecar::start(&lab, &server, Guise::ISTIO, &[nginx.port()]).expect("starts");
    let service = Service::new("shop", "cart").port("http", 80, nginx.port());
    let service = lab.serve(service, &[&server]).expect("is served");
    let client = lab.run(pod("buyer")).expect("runs");
    let outbound = Sidecar::start(&lab, &client, Guise::ISTIO, &[]).expect("starts");
    for address in &service.addresses {
        let url = format!("http://{}/seen", authority(*address, 80));
        let answer = ask(client.place("app").expect("has one"), &url);
        let parts: Vec<&str> = answer.split('|').collect();
        assert_eq!(parts[0], "127.0.0.6", "{answer}");
        assert!(
            parts[1].starts_with("By=spiffe://cluster.local/ns/shop/sa/cart;Hash="),
            "{answer}"
        );
        assert!(
            parts[1].ends_with(";Subject=\"\";URI=spiffe://cluster.local/ns/shop/sa/buyer"),
            "{answer}"
        );
        assert_eq!((parts[2], parts[3].len()), ("1", 36), "{answer}");
    }
    let asked = u64::try_from(service.addresses.len()).expect("is small");
    outbound
        .wait_for(&sidecar::outbound(&service, 80), "upstream_rq_total", asked)
        .expect("counts");
    inbound.wait_for(&sidecar::inbound(nginx.port()), "upstream_rq_total", asked).expect("counts");
}
