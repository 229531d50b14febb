//! Proxies of meshes: who is behind them, and what they are not taken for.

use super::*;
use crate::attribution::cluster::{Change, Object, Pod, PodFacts};
use crate::attribution::mesh::{Mesh, Policy};
use crate::protocol::relayed::Relayed;

const ENVOY: u32 = 300;
const AGENT: u32 = 301;
pub(super) const POD: &str = "10.244.0.5";

pub(super) fn envoy() -> Owner {
    Owner { uid: 1337, ..owner(ENVOY, "envoy") }
}

/// A server's pod with Istio's sidecar, and pods of clients, by name, account and address.
pub(super) fn world(clients: &[(&str, &str, &str)]) -> World {
    let mut world = World::with(AttributionSettings {
        watches_kubernetes: true,
        ..AttributionSettings::default()
    });
    let at = |container: char| format!("/kubepods/pod{}/{}", ID, container.to_string().repeat(64));
    world.process(NGINX, &["/usr/sbin/nginx"], &[&at('a')]);
    world.process(ENVOY, &["/usr/local/bin/envoy"], &[&at('b')]);
    world.process(AGENT, &["/usr/local/bin/pilot-agent"], &[&at('b')]);
    world.peer("cart", "cart", POD, &[('a', "app"), ('b', "istio-proxy")]);
    for (name, account, address) in clients {
        world.peer(name, account, address, &[]);
    }
    world
}

impl World {
    pub(super) fn peer(
        &mut self,
        name: &str,
        account: &str,
        address: &str,
        containers: &[(char, &str)],
    ) {
        let none = std::collections::BTreeMap::new();
        let names: Vec<&str> = containers.iter().map(|(_, name)| *name).collect();
        let facts = PodFacts {
            namespace: "shop",
            name,
            is_generated: false,
            owner: None,
            labels: &none,
            annotations: &none,
            account,
            containers: &names,
            well_known_labels: false,
        };
        let ids =
            containers.iter().map(|(id, name)| (id.to_string().repeat(64).into(), (*name).into()));
        self.attributor.change(Change::Applied(Box::new(Object::Pod(Pod {
            uid: name.into(),
            static_uid: None,
            name: name.into(),
            node: "node".into(),
            workload: Arc::new(facts.workload()),
            instance: None,
            addresses: vec![address.parse().unwrap()],
            since_ns: 0,
            waypoint: None,
            until_ns: None,
            containers: ids.collect(),
        }))));
    }

    /// The sidecar accepts a connection from a client, and shows requests if it is plain.
    fn inbound(&mut self, cookie: u64, from: &str, plain: bool) {
        self.open(server(cookie, &format!("{POD}:15006"), &format!("{from}:4000"), envoy()));
        if plain {
            self.request(cookie, false, u32::try_from(cookie).unwrap(), b"GET / HTTP/1.1");
        }
    }

    /// The proxy of `owner` speaks to the application, over the sockets 100 and 101.
    pub(super) fn reach(&mut self, owner: Owner) {
        self.open(client(100, "127.0.0.6:5000", &format!("{POD}:8080"), owner));
        self.open(server(101, &format!("{POD}:8080"), "127.0.0.6:5000", nginx()));
    }

    /// A call as the application answers it; `None`: it is none.
    fn answered(&mut self, principal: Option<&str>, attempt: Option<u32>) -> Option<Call> {
        let mut exchange = self.exchange(101, Side::Server);
        exchange.relayed = Some(Box::new(Relayed {
            client: principal.map(|text| Text::from(text.to_owned())),
            attempt,
            ..Relayed::default()
        }));
        self.attributor.resolve(exchange, &mut Routes::new(RouteSettings::default()))
    }
}

fn client_of(call: &Call) -> (&str, &str, Option<Policy>) {
    let passage = call.passage.as_deref().expect("through a mesh");
    assert_eq!(passage.mesh, Mesh::Istio);
    let identity = &call.client.identity;
    (&identity.name, &identity.namespace, passage.policy)
}

#[test]
fn the_server_behind_a_proxy_is_whom_the_client_asked_for() {
    let mut world = world(&[("stock", "stock", "10.244.1.9")]);
    world.process(CURL, &["/usr/bin/curl"], &[]);
    world.open(client(1, "10.244.0.5:4000", "10.244.1.9:80", curl()));
    world.redirect(1, "10.244.0.5:4000", "127.0.0.1:15001");
    world.open(server(2, "127.0.0.1:15001", "10.244.0.5:4000", envoy()));
    let call = world.call(1, Side::Client, 1);
    assert_eq!(names(&call), ("curl", "stock"));
    assert_eq!(call.passage.as_deref().map(|passage| passage.mesh), Some(Mesh::Istio));
    assert!(!call.peer_observed, "by no application's socket of this host");
    let exchange = world.exchange(2, Side::Server);
    let mut routes = Routes::new(RouteSettings::default());
    assert!(world.attributor.resolve(exchange, &mut routes).is_none(), "the proxy's own end");
}

#[test]
fn certificates_tell_clients_of_one_proxy_apart() {
    let mut world = world(&[("web", "web", "10.244.1.1"), ("job", "job", "10.244.1.2")]);
    world.inbound(10, "10.244.1.1", false);
    world.inbound(11, "10.244.1.2", false);
    world.reach(envoy());
    for (account, name) in [("web", "web"), ("job", "job"), ("web", "web")] {
        let principal = format!("spiffe://cluster.local/ns/shop/sa/{account}");
        let call = world.answered(Some(&principal), Some(2)).unwrap();
        assert_eq!(client_of(&call), (name, "shop", Some(Policy::MutualTls)));
        assert_eq!(call.attempt(), Some(2));
    }
    // What the connection as a whole did is neither's alone.
    let (_, client, _) = world.attributor.edge(101).unwrap();
    assert_eq!(client.identity.kind, IdentityKind::Unknown);
}

#[test]
fn a_certificate_that_two_workloads_share_names_their_namespace_only() {
    let mut world = world(&[("web", "shared", "10.244.1.1"), ("job", "shared", "10.244.1.2")]);
    world.inbound(10, "10.244.1.1", false);
    world.inbound(11, "10.244.1.2", false);
    world.reach(envoy());
    let principal = "spiffe://cluster.local/ns/shop/sa/shared";
    let call = world.answered(Some(principal), None).unwrap();
    assert_eq!(client_of(&call), ("unknown", "shop", Some(Policy::MutualTls)));
    // Only one of them is left that may have spoken.
    world.close(11, Statistics::default());
    world.now += 60_000 * MS;
    world.sweep();
    world.reach(envoy());
    let call = world.answered(Some(principal), None).unwrap();
    assert_eq!(client_of(&call).0, "web");
}

#[test]
fn plain_text_comes_from_who_speaks_it() {
    let mut world = world(&[("web", "web", "10.244.1.1"), ("job", "job", "10.244.1.2")]);
    world.inbound(10, "10.244.1.1", false);
    world.inbound(11, "10.244.1.2", true);
    world.reach(envoy());
    let call = world.answered(None, None).unwrap();
    assert_eq!(client_of(&call), ("job", "shop", Some(Policy::None)));
    let mut cut = world.exchange(101, Side::Server);
    cut.cut = true;
    let mut routes = Routes::new(RouteSettings::default());
    let call = world.attributor.resolve(cut, &mut routes).unwrap();
    assert_eq!(client_of(&call), ("unknown", "", None), "what was cut may have named one");
    world.inbound(12, "10.244.1.1", true);
    let call = world.answered(None, None).unwrap();
    assert_eq!(client_of(&call), ("unknown", "", None), "two may have");
}

#[test]
fn what_the_meshs_agent_asks_is_no_call() {
    let mut world = world(&[]);
    world.reach(Owner { uid: 1337, ..owner(AGENT, "pilot-agent") });
    assert!(world.answered(None, None).is_none());
    assert_eq!(world.attributor.probes(), 1);
}

#[test]
fn headers_of_a_mesh_mean_nothing_without_its_proxy() {
    let mut world = world(&[]);
    world.open(server(101, &format!("{POD}:8080"), "192.0.2.1:5000", nginx()));
    let call = world.answered(Some("spiffe://cluster.local/ns/shop/sa/admin"), Some(3)).unwrap();
    assert_eq!((&*call.client.identity.name, call.attempt()), ("192.0.2.1", None));
    assert!(call.passage.is_none());
}

#[test]
fn headers_of_another_mesh_are_the_clients_own() {
    let mut world = world(&[("job", "job", "10.244.1.2")]);
    world.inbound(11, "10.244.1.2", true);
    world.reach(envoy());
    let mut exchange = world.exchange(101, Side::Server);
    let forged = Text::from("admin.shop.serviceaccount.identity.linkerd.cluster.local");
    exchange.relayed =
        Some(Box::new(Relayed { linkerd_client: Some(forged), ..Relayed::default() }));
    let mut routes = Routes::new(RouteSettings::default());
    let call = world.attributor.resolve(exchange, &mut routes).unwrap();
    assert_eq!(client_of(&call), ("job", "shop", Some(Policy::None)));
    assert_eq!(call.passage.unwrap().client_principal, None);
}

#[test]
fn ztunnel_leaves_the_clients_address() {
    let mut world = world(&[("web", "web", "10.244.1.1")]);
    world.process(ENVOY + 9, &["/usr/local/bin/ztunnel"], &[]);
    let ztunnel = owner(ENVOY + 9, "ztunnel");
    world.open(server(1, &format!("{POD}:15008"), "10.244.1.1:4000", ztunnel));
    world.open(client(100, "10.244.1.1:5000", &format!("{POD}:8080"), ztunnel));
    world.open(server(101, &format!("{POD}:8080"), "10.244.1.1:5000", nginx()));
    let call = world.answered(None, None).unwrap();
    assert_eq!(&*call.client.identity.name, "web");
    let passage = call.passage.as_deref().unwrap();
    assert_eq!((passage.mesh, passage.policy), (Mesh::Ambient, Some(Policy::MutualTls)));
}
