//! Calls that repeat are counted in the kernel: an agent that counts so and one beside it
//! that has every call told come to the same series.

use std::collections::BTreeMap;
use std::time::Duration;

use meshtap_tests::agent::Agent;
use meshtap_tests::books::{Books, Kind, lost};
use meshtap_tests::link::{Impairment, Link};
use meshtap_tests::netns::{Netns, Place, SERVER};
use meshtap_tests::require;
use meshtap_tests::scrape::Scrape;
use meshtap_tests::workload::{Nginx, ab, curl, h2load, wrk};

/// Behind which nginx keeps the connection.
const PATHS: [&str; 4] = ["/ok", "/nothing", "/moved", "/empty"];

/// Two agents that watch the same server, and a ring that holds all that is told of it.
struct Pair {
    nginx: Nginx,
    books: Books,
    counting: Agent,
    telling: Agent,
}

impl Pair {
    fn open(place: Place<'_>) -> Self {
        let nginx = Nginx::start_in(place, 1, "").expect("starts");
        let books = Books::new(Kind::Http, nginx.port());
        let config = |counts: bool| {
            let capture = "capture:\n  ring_bytes: 64MiB\n  count_in_kernel:";
            format!("{}{capture} {counts}\n", books.configuration())
        };
        let counting = Agent::start(&config(true)).expect("is ready");
        let telling = Agent::start_beside(&config(false)).expect("is ready");
        Self { nginx, books, counting, telling }
    }

    /// What both say once they have all that the server logged.
    fn settled(&self, client: &str) -> [Scrape; 2] {
        let log = self.nginx.ledger().expect("is there").total();
        [&self.counting, &self.telling]
            .map(|agent| self.books.settle(agent, client, log).expect("is served"))
    }

    /// Series of the calls to the server, in their order.
    fn series(&self, scrape: &Scrape) -> BTreeMap<(String, Vec<String>), f64> {
        let name = self.books.name();
        let is_meant = |labels: &BTreeMap<String, String>| labels.values().any(|it| it == name);
        let families = ["http_server_", "http_client_", "traces_service_graph_"];
        let meant = scrape.samples.iter().filter(|sample| {
            families.iter().any(|family| sample.name.starts_with(family))
                && is_meant(&sample.labels)
        });
        let key = |labels: &BTreeMap<String, String>| {
            labels.iter().map(|(name, value)| format!("{name}={value}")).collect()
        };
        meant.map(|sample| ((sample.name.clone(), key(&sample.labels)), sample.value)).collect()
    }

    /// Waits until that many ends of calls were counted in the kernel, and none by the other.
    fn counted(&self, least: u64) {
        let counted = |scrape: &Scrape| scrape.count("meshtap_kernel_counted_calls_total", &[]);
        let scrape = self.counting.scrape_until(|scrape| counted(scrape) >= least);
        let (counted, other) = (counted(&scrape.expect("is served")), &self.telling);
        assert!(counted >= least, "only {counted} ends were counted in the kernel, not {least}");
        let other = other.scrape().expect("is served");
        assert_eq!(other.count("meshtap_kernel_counted_calls_total", &[]), 0);
    }

    /// Both lanes have the same series. Two agents see a packet one after the other, so
    /// durations differ a little, and a few may be on either side of a bound.
    fn agree(&self, client: &str) {
        let [counting, telling] = self.settled(client);
        assert_eq!([lost(&counting), lost(&telling)], [0, 0], "nothing is lost");
        let [one, other] = [self.series(&counting), self.series(&telling)];
        let keys = |series: &BTreeMap<_, _>| series.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&one), keys(&other));
        assert!(one.len() > 20, "{one:#?}");
        for (key, value) in &one {
            let wanted = other[key];
            let (name, labels) = key;
            let is_whole =
                labels.iter().any(|label| label == "le=+Inf") || !name.contains("second");
            let is_count = name.ends_with("_count") || name.ends_with("_total");
            if is_whole || is_count {
                assert_eq!(*value, wanted, "{key:?}");
            } else {
                let near = wanted.max(*value) * 0.05 + 5.0;
                assert!((value - wanted).abs() <= near, "{key:?}: {value} and {wanted}");
            }
        }
    }

    fn address(&self, host: &str) -> String {
        format!("{host}:{}", self.nginx.port())
    }
}

#[test]
fn both_lanes_have_the_same_series() {
    require!("nginx", "h2load", "curl", "ab", "ss");
    let pair = Pair::open(Place::HERE);
    let address = pair.address("127.0.0.1");
    h2load(Place::HERE, &address, &PATHS, 16, 20_000).expect("runs");
    pair.agree("h2load");
    pair.counted(30_000);

    let url = |path: &str| format!("http://{address}{path}");
    let twice = |arguments: &[&str]| {
        let urls = [url("/ok"), url("/ok"), url("/nothing"), url("/ok")];
        let urls = urls.iter().map(String::as_str);
        curl(&arguments.iter().copied().chain(urls).collect::<Vec<_>>()).expect("runs");
    };
    // On one connection each: whole bodies, none, requests with one, ids, an older version.
    twice(&["-s"]);
    twice(&["-s", "--head"]);
    twice(&["-s", "-d", "some=thing"]);
    twice(&["-s", "-H", "x-request-id: 1"]);
    twice(&["-s", "--http1.0"]);
    pair.agree("curl");

    // nginx closes behind this one: nothing repeats on a connection.
    ab(Place::HERE, &url("/broken"), 4, 1_000).expect("runs");
    pair.agree("ab");
}

#[test]
fn clients_that_leave_in_the_midst() {
    require!("nginx", "wrk", "ab", "ss");
    let pair = Pair::open(Place::HERE);
    let address = pair.address("127.0.0.1");
    for _ in 0..3 {
        let load = wrk(Place::HERE, &address, &[("GET", "/ok"), ("GET", "/nothing")], 16, 1);
        assert_eq!(load.expect("runs").errors, 0);
    }
    let [counting, telling] = pair.settled("wrk");
    assert_eq!([lost(&counting), lost(&telling)], [0, 0]);
    let sides = |scrape: &Scrape| {
        [pair.books.at_server(scrape, "wrk"), pair.books.at_client(scrape, "wrk")]
    };
    assert_eq!(sides(&counting), sides(&telling));
    ab(Place::HERE, &format!("http://{address}/ok"), 8, 2_000).expect("runs");
    pair.agree("ab");
}

#[test]
fn packets_that_are_lost_reordered_and_doubled() {
    require!("nginx", "h2load", "ip", "python3", "/dev/net/tun", "ss");
    let (client, server) = (Netns::create().expect("made"), Netns::create().expect("made"));
    let impairment = Impairment {
        delay: Duration::from_micros(300),
        reorder: 0.03,
        duplicate: 0.03,
        loss: 0.002,
        seed: 11,
    };
    let _link = Link::lay(&client, &server, impairment).expect("is laid");
    let pair = Pair::open(Place::netns(&server));
    let address = pair.address(SERVER);
    h2load(Place::netns(&client), &address, &PATHS, 32, 10_000).expect("runs");
    pair.agree("h2load");
    pair.counted(5_000);
}
