//! [`Pair`]: an agent that has calls counted in the kernel, and one beside it that has every
//! call told, which come to the same series.

use std::collections::BTreeMap;

use crate::agent::Agent;
use crate::books::{Books, Kind, lost};
use crate::scrape::Scrape;

/// Two agents that watch the same server, each with a ring that holds all that is told of it.
#[derive(Debug)]
pub struct Pair {
    /// What both are asked for.
    pub books: Books,
    /// Has calls counted in the kernel.
    pub counting: Agent,
    /// Has each told.
    pub telling: Agent,
}

impl Pair {
    /// Starts both beside a server on `port`.
    #[must_use]
    pub fn beside(kind: Kind, port: u16) -> Self {
        let books = Books::new(kind, port);
        let config = |counts: bool| {
            let capture = "capture:\n  ring_bytes: 64MiB\n  count_in_kernel:";
            format!("{}{capture} {counts}\n", books.configuration())
        };
        let counting = Agent::start(&config(true)).expect("is ready");
        let telling = Agent::start_beside(&config(false)).expect("is ready");
        Self { books, counting, telling }
    }

    /// What both say once they have `calls` calls of the client.
    #[must_use]
    pub fn settled(&self, client: &str, calls: u64) -> [Scrape; 2] {
        [&self.counting, &self.telling]
            .map(|agent| self.books.settle(agent, client, calls).expect("is served"))
    }

    /// Series of the calls to the server, in their order.
    fn series(&self, scrape: &Scrape) -> BTreeMap<(String, Vec<String>), f64> {
        let name = self.books.name();
        let is_meant = |labels: &BTreeMap<String, String>| labels.values().any(|it| it == name);
        let families = [
            "http_server_",
            "http_client_",
            "rpc_server_",
            "rpc_client_",
            "meshtap_rpc_",
            "traces_service_graph_",
        ];
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
    pub fn counted(&self, least: u64) {
        let counted = |scrape: &Scrape| scrape.count("meshtap_kernel_counted_calls_total", &[]);
        let scrape = self.counting.scrape_until(|scrape| counted(scrape) >= least);
        let (counted, other) = (counted(&scrape.expect("is served")), &self.telling);
        assert!(counted >= least, "only {counted} ends were counted in the kernel, not {least}");
        let other = other.scrape().expect("is served");
        assert_eq!(other.count("meshtap_kernel_counted_calls_total", &[]), 0);
    }

    /// Both lanes have the same series. Two agents see a packet one after the other, so
    /// durations differ a little, and a few may be on either side of a bound. Where packets came
    /// so that one of them declares that it missed something, the sums come out.
    pub fn agree(&self, client: &str, calls: u64) {
        let both = self.settled(client, calls);
        let missed =
            |scrape: &Scrape| scrape.count("meshtap_events_total", &[("kind", "desynchronised")]);
        if both.iter().any(|scrape| missed(scrape) > 0) {
            let whole = both.each_ref().map(|scrape| {
                let sides = self.books.sides(scrape, client).map(|side| side.total());
                sides.iter().sum::<u64>() + self.books.unrecognised(scrape, client) + lost(scrape)
            });
            assert_eq!(whole, [2 * calls; 2], "ends seen and ends declared lost");
            let declared = both.each_ref().map(lost);
            assert!(declared.iter().all(|lost| lost * 1000 <= 2 * calls), "{declared:?} lost");
            return;
        }
        let [counting, telling] = both;
        let why = counting.by("meshtap_calls_lost_total", &["reason"], &[]);
        assert_eq!([lost(&counting), lost(&telling)], [0, 0], "nothing is lost: {why:?}");
        let [one, other] = [self.series(&counting), self.series(&telling)];
        let lacks = |one: &BTreeMap<_, f64>, other: &BTreeMap<_, f64>| {
            let lacking = one.iter().filter(|(key, _)| !other.contains_key(*key));
            lacking.map(|(key, value)| format!("{key:?} {value}")).collect::<Vec<_>>()
        };
        let nothing = Vec::<String>::new();
        assert_eq!(lacks(&one, &other), nothing, "only where calls are counted");
        assert_eq!(lacks(&other, &one), nothing, "only where all are told");
        assert!(one.len() > 20, "{one:#?}");
        let other_than_told =
            one.iter().filter(|(key, value)| !is_alike(key, **value, other[*key]));
        let lines: Vec<_> = other_than_told.map(|(key, value)| (key, *value, other[key])).collect();
        assert!(lines.is_empty(), "counted, and told: {lines:#?}");
    }
}

/// Whether two agents can have said this of the same calls.
fn is_alike((name, labels): &(String, Vec<String>), one: f64, other: f64) -> bool {
    let is_whole = labels.iter().any(|label| label == "le=+Inf") || !name.contains("second");
    let is_count = name.ends_with("_count") || name.ends_with("_total");
    if is_whole || is_count {
        return one == other;
    }
    (one - other).abs() <= one.max(other) * 0.05 + 5.0
}
