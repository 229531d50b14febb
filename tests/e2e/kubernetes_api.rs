//! What an agent asks of Kubernetes' API, and how it goes on when that breaks off, forgets,
//! refuses, or is not there: on the laboratory's node, whose API server is the tests' own.

use std::time::{Duration, Instant};

use meshtap_tests::agent::Agent;
use meshtap_tests::cluster::{Api, Asked, Driver, Key, Resource, Verb};
use meshtap_tests::mesh::shop::{BUYER, CART};
use meshtap_tests::mesh::{Mesh, Sandbox, Shop};
use meshtap_tests::scrape::Scrape;

/// What is watched by an agent that reports nothing in Istio's shape.
const WATCHED: [Resource; 4] =
    [Resource::Pods, Resource::Services, Resource::EndpointSlices, Resource::Nodes];

/// Calls of each caller.
const CALLS: u64 = 5;

fn open() -> Option<Shop> {
    if let Some(reason) = Shop::missing(Mesh::None) {
        meshtap_tests::requirement::skipped(&reason);
        return None;
    }
    Some(Shop::open(Mesh::None, 1, 1, Driver::Cgroupfs).expect("opens"))
}

fn eventually(what: &str, patience: Duration, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + patience;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

/// Requests for a kind of objects.
fn asked_for(api: &Api, resource: Resource, verb: Verb) -> Vec<Asked> {
    let of_it = |asked: &Asked| asked.resource == resource && asked.verb == verb;
    api.asked().into_iter().filter(of_it).collect()
}

/// How often each kind was asked for.
fn counts(api: &Api, verb: Verb) -> [usize; 4] {
    WATCHED.map(|resource| asked_for(api, resource, verb).len())
}

/// Versions from which the last watch of each kind went on.
fn resumed_from(api: &Api) -> [String; 4] {
    WATCHED.map(|resource| {
        let last = asked_for(api, resource, Verb::Watch).pop().expect("is watched");
        last.parameter("resourceVersion").to_owned()
    })
}

fn version(api: &Api, key: &Key) -> String {
    let object = api.object(key).expect("is there");
    object["metadata"]["resourceVersion"].as_str().expect("has one").to_owned()
}

/// Waits until every kind was asked to be watched so many times.
fn wait_for_watches(api: &Api, number: usize) {
    let what = format!("{number} watches of each kind");
    eventually(&what, PATIENCE, || counts(api, Verb::Watch).iter().all(|count| *count >= number));
    assert_eq!(counts(api, Verb::Watch), [number; 4]);
}

/// Calls the cart.
fn call(shop: &Shop, from: &Sandbox) {
    for _ in 0..CALLS {
        shop.ask(from.place("app").expect("has one"), "/ok").expect("is answered");
    }
}

/// Calls between two that both sides counted, the client's first.
fn edge(scrape: &Scrape, client: &str, server: &str) -> [u64; 2] {
    [("client", client, server), ("server", server, client)].map(|(side, own, peer)| {
        let name = format!("http_{side}_request_duration_seconds_count");
        scrape.count(&name, &[("service_name", own), ("service_peer_name", peer)])
    })
}

/// Each call was counted at both sides, under these names.
fn expect_edge(agent: &Agent, client: &str, server: &str, calls: u64) {
    let enough = |scrape: &Scrape| edge(scrape, client, server) >= [calls; 2];
    let scrape = agent.scrape_until(enough).expect("is scraped");
    let all = scrape.by(
        "http_server_request_duration_seconds_count",
        &["service_name", "service_peer_name"],
        &[],
    );
    assert_eq!(edge(&scrape, client, server), [calls; 2], "{client} to {server}: {all:?}");
}

/// Times that the agent wrote a text.
fn said(agent: &Agent, text: &str) -> usize {
    agent.output().matches(text).count()
}

/// Waits until the agent has written as often that it is told again.
fn wait_until_told_again(agent: &Agent, number: usize) {
    for kind in ["pods", "services", "endpoint slices", "nodes"] {
        let text = format!("Kubernetes tells of {kind} again");
        let deadline = Instant::now() + PATIENCE;
        while said(agent, &text) < number && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(said(agent, &text), number, "{}", agent.output());
        let text = format!("Kubernetes does not tell of {kind}");
        assert_eq!(said(agent, &text), number, "{}", agent.output());
    }
}

#[test]
fn a_watch_that_breaks_off_goes_on_where_it_was_and_nothing_is_listed_again() {
    let Some(shop) = open() else { return };
    let api = shop.lab.api();
    api.bookmarks(None);
    let agent = Agent::start(&shop.lab.configuration()).expect("starts");
    wait_for_watches(api, 1);
    let listed = resumed_from(api);
    // While it is watched a pod comes: from there on pods are watched after the interruption.
    let first = shop.stranger("first").expect("runs");
    call(&shop, &first);
    expect_edge(&agent, "first", CART, CALLS);
    let last =
        [version(api, &first.pod.key()), listed[1].clone(), listed[2].clone(), listed[3].clone()];
    api.end_watches();
    let second = shop.stranger("second").expect("runs");
    call(&shop, &second);
    wait_for_watches(api, 2);
    assert_eq!(resumed_from(api), last);
    expect_edge(&agent, "second", CART, CALLS);
    assert_eq!(said(&agent, "does not tell of"), 0, "an end in time: {}", agent.output());

    // A bookmark is a place as well, also where nothing of the kind has changed.
    api.bookmarks(Some(Duration::from_millis(100)));
    std::thread::sleep(Duration::from_secs(1));
    let last = version(api, &second.pod.key());
    api.hang_up();
    let third = shop.stranger("third").expect("runs");
    wait_for_watches(api, 3);
    assert_eq!(resumed_from(api), [&last; 4].map(String::clone));
    call(&shop, &third);
    expect_edge(&agent, "third", CART, CALLS);

    assert_eq!(said(&agent, "does not tell of"), 0, "nothing is lost: {}", agent.output());

    // Refused once, and then nothing happens: it is known all the same that Kubernetes tells
    // again, so that calls wait for a pod that is told of late.
    api.refuse(4, 503);
    api.hang_up();
    wait_until_told_again(&agent, 1);
    api.delay(Duration::from_millis(800));
    let late = shop.stranger("late").expect("runs");
    call(&shop, &late);
    expect_edge(&agent, "late", CART, CALLS);
    assert_eq!(counts(api, Verb::List), [1; 4], "{:#?}", api.asked());
}

#[test]
fn what_is_forgotten_or_refused_is_asked_for_sparingly() {
    let Some(mut shop) = open() else { return };
    let agent = Agent::start(&shop.lab.configuration()).expect("starts");
    let api = shop.lab.api();
    wait_for_watches(api, 1);
    // One more list of each kind, and what came meanwhile is in it.
    api.expire();
    api.end_watches();
    let first = shop.stranger("first").expect("runs");
    eventually("one more list", PATIENCE, || counts(api, Verb::List) >= [2; 4]);
    wait_for_watches(api, 3);
    call(&shop, &first);
    expect_edge(&agent, "first", CART, CALLS);
    assert_eq!(counts(api, Verb::List), [2; 4]);
    assert_eq!(said(&agent, "does not tell of"), 0, "it answers: {}", agent.output());

    // Too many requests: each of them is one less for the others.
    let before = api.asked().len();
    api.refuse(8, 429);
    api.end_watches();
    let second = shop.stranger("second").expect("runs");
    let is_refused = |asked: &Asked| asked.status == 429;
    eventually("watches again", PATIENCE, || {
        let since = &api.asked()[before..];
        WATCHED.iter().all(|resource| {
            since.iter().any(|asked| asked.resource == *resource && asked.status == 200)
        })
    });
    let since = api.asked().split_off(before);
    assert_eq!(since.iter().filter(|asked| is_refused(asked)).count(), 8, "{since:#?}");
    assert_eq!(since.len(), 8 + WATCHED.len(), "{since:#?}");
    assert!(since.iter().all(|asked| asked.verb == Verb::Watch), "{since:#?}");
    call(&shop, &second);
    expect_edge(&agent, "second", CART, CALLS);

    // Away for a while: attempts become rarer, and it goes on where it was.
    let before = api.asked().len();
    shop.lab.api_mut().stop();
    let third = shop.stranger("third").expect("runs");
    std::thread::sleep(Duration::from_secs(5));
    shop.lab.api_mut().resume().expect("comes back");
    let api = shop.lab.api();
    eventually("watches again", PATIENCE, || api.asked().len() >= before + WATCHED.len());
    call(&shop, &third);
    expect_edge(&agent, "third", CART, CALLS);
    let since = api.asked().split_off(before);
    assert_eq!(since.len(), WATCHED.len(), "{since:#?}");
    assert_eq!(counts(api, Verb::List), [2; 4]);
}

#[test]
fn an_agent_that_starts_without_the_api_names_by_container_and_catches_up() {
    let Some(mut shop) = open() else { return };
    shop.lab.api_mut().stop();
    let agent = Agent::start(&shop.lab.configuration()).expect("starts");
    let short = |pod: &Sandbox| pod.pod.containers[0].id[..12].to_owned();
    let [client, server] = [short(&shop.clients[0]), short(&shop.servers[0])];
    call(&shop, &shop.clients[0]);
    expect_edge(&agent, &client, &server, CALLS);
    // Several attempts later nothing has been said but that it is away.
    std::thread::sleep(Duration::from_secs(4));
    for kind in ["pods", "services", "endpoint slices", "nodes"] {
        let text = format!("Kubernetes does not tell of {kind}");
        assert_eq!(said(&agent, &text), 1, "{}", agent.output());
        assert_eq!(said(&agent, &format!("tells of {kind} again")), 0, "{}", agent.output());
    }
    // It comes back, but cannot answer yet: attempts become rarer, though each is for a list.
    let is_refused = |asked: &Asked| asked.status == 503;
    shop.lab.api().refuse(u64::MAX, 503);
    shop.lab.api_mut().resume().expect("comes back");
    eventually("an attempt", PATIENCE, || shop.lab.api().asked().iter().any(is_refused));
    std::thread::sleep(Duration::from_secs(10));
    let refused = shop.lab.api().asked().into_iter().filter(is_refused).count();
    assert!(refused <= 3 * WATCHED.len(), "{refused} attempts in ten seconds");
    shop.lab.api().refuse(0, 0);
    wait_until_told_again(&agent, 1);
    call(&shop, &shop.clients[0]);
    expect_edge(&agent, BUYER, CART, CALLS);
    let lists = WATCHED.map(|resource| {
        let asked = asked_for(shop.lab.api(), resource, Verb::List);
        asked.iter().filter(|asked| asked.status == 200).count()
    });
    assert_eq!(lists, [1; 4]);
}
