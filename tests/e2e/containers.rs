//! Containers of real runtimes from Debian's packages: the agent knows them by the names that
//! people gave them, read from the runtimes' own files, whoever asks whom.

use meshtap_tests::agent::{Agent, Observer};
use meshtap_tests::call::{CallLine, Calls, PartyLine};
use meshtap_tests::netns::Place;
use meshtap_tests::process::output;
use meshtap_tests::receiver::{Receiver, Transport, attribute};
use meshtap_tests::runtime::{Kind, Runtime};
use meshtap_tests::workload::{Language, Server, load};
use meshtap_tests::{require, skip};

/// The only call for `path`, seen at both ends.
fn only<'a>(calls: &'a Calls, path: &str) -> &'a CallLine {
    let seen: Vec<&CallLine> = calls.calls.iter().filter(|call| call.path == path).collect();
    let [call] = seen.as_slice() else { panic!("one line for {path}, not {seen:#?}") };
    assert!(call.both_ends(), "both ends are on this host: {call:?}");
    call
}

fn known(party: &PartyLine) -> (&str, &str) {
    (&party.name, &party.kind)
}

/// One asks the other, the host asks one, one asks the host.
fn are_named(kind: Kind) {
    require!("curl", "python3", "ss");
    if let Some(reason) = Runtime::missing(kind) {
        skip!(reason);
    }
    let runtime = match Runtime::start(kind) {
        Ok(runtime) => runtime,
        Err(error) => skip!(format!("{kind:?} does not run here: {error:#}")),
    };
    let buyer = runtime.run("shop-buyer", 8081, None).expect("starts");
    let store = runtime.run("shop-store", 8080, Some(8090)).expect("starts");
    let here = Place::netns(runtime.netns());
    let shelf = Server::start(Language::Python, here).expect("starts");
    let receiver = Receiver::start(Transport::Http).expect("listens");
    let settings = runtime.settings();
    let otlp = format!(
        "{settings}otlp:\n  endpoint: {}\n  protocol: http/protobuf\n  interval: 300ms\n",
        receiver.endpoint()
    );
    let agent = Agent::start(&otlp).expect("is ready");
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("is made");
    std::fs::write(file.path(), settings).expect("is written");
    let config = file.path().display().to_string();
    let observer = Observer::start_beside(&["--config", &config]).expect("observes");

    let address = runtime.address(&store).expect("is told");
    runtime.ask(&buyer, &format!("http://{address}:8080/between")).expect("asks");
    let from_host = |url: &str| {
        output(load::curl_in(here).expect("is installed").arg(url)).expect("is answered");
    };
    from_host(&format!("http://{address}:8080/in"));
    let gateway = runtime.gateway(&store).expect("is told");
    runtime.ask(&store, &format!("http://{gateway}:{}/out", shelf.port())).expect("asks");
    if kind == Kind::Docker {
        // Through docker's own proxy, or its translation: neither is an end of the call.
        from_host("http://127.0.0.1:8090/published");
    }

    let calls = observer.finish().expect("ends well");
    let (buys, stores) = (("shop-buyer", "container"), ("shop-store", "container"));
    let mut wanted = vec![("/between", buys, stores), ("/in", ("curl", "process"), stores)];
    if kind == Kind::Docker {
        wanted.push(("/published", ("curl", "process"), stores));
    }
    for (path, client, server) in wanted {
        let call = only(&calls, path);
        assert_eq!((known(&call.client), known(&call.server)), (client, server), "{call:?}");
        assert_eq!(call.status, Some(404), "{call:?}");
    }
    let call = only(&calls, "/out");
    assert_eq!((known(&call.client), call.server.name.as_str()), (stores, "shelf"), "{call:?}");

    for (id, name) in [(&buyer, "shop-buyer"), (&store, "shop-store")] {
        let wanted = [("service.name", name), ("container.name", name), ("container.id", id)];
        let mut seen = Vec::new();
        receiver
            .wait(|received| {
                let resources = received.metrics.iter().filter_map(|found| found.resource.as_ref());
                resources.flat_map(|resource| [&resource.attributes]).any(|attributes| {
                    wanted
                        .iter()
                        .all(|&(key, value)| attribute(attributes, key).as_deref() == Some(value))
                })
            })
            .metrics
            .iter()
            .filter_map(|found| found.resource.as_ref())
            .for_each(|found| seen.push(wanted.map(|(key, _)| attribute(&found.attributes, key))));
        let wanted = wanted.map(|(_, value)| Some(value.to_owned()));
        assert!(seen.contains(&wanted), "{wanted:?} is none of {seen:#?}");
    }
    agent.stop().expect("ends well");
}

#[test]
fn dockers_are_named() {
    are_named(Kind::Docker);
}

#[test]
fn podmans_are_named() {
    are_named(Kind::Podman);
}

/// As nerdctl starts them.
#[test]
fn containerds_are_named() {
    are_named(Kind::Containerd);
}
