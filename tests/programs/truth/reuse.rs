//! One address and port that several servers have, one after the other, and that one client
//! asks from the same few ports: in another cgroup, and in another network namespace. Each
//! call is the server's that answered it.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use meshtap_tests::books::{Books, lost_of};
use meshtap_tests::cgroup::Cgroup;
use meshtap_tests::ledger::Ledger;
use meshtap_tests::netns::{CLIENT, Netns, Place, SERVER};
use meshtap_tests::process::free_port;
use meshtap_tests::scrape::Scrape;

use crate::lane::Watch;
use crate::load::{Load, Speaker};
use crate::row::Row;

/// Namespaces, one after the other; in each both servers have their turn.
const ROUNDS: u32 = 3;
const CALLS: u64 = 2_000;
const CONNECTIONS: u32 = 8;
/// Ports of the client. nginx closes behind some answers, so a turn takes more connections
/// than that, and the ports of one server are those of the next.
const PORTS: u32 = 256;
/// What the second server answers to everything.
const OTHERWISE: &str = "return 418 \"short\\n\";";

struct Shop {
    cgroup: Cgroup,
    lines: &'static str,
    books: Books,
    record: Ledger,
}

impl Shop {
    fn open(load: Load, port: u16, number: usize, lines: &'static str) -> Result<Self> {
        let path = format!("meshtap-truth-{}.slice/shop{number}.service", std::process::id());
        let name = format!("shop-{port}-{number}");
        let books = Books::in_cgroup(load.kind(), port, &name, &path);
        Ok(Self { cgroup: Cgroup::create(&path)?, lines, books, record: Ledger::default() })
    }
}

pub fn examine(load: Load) -> Result<Vec<Row>> {
    let port = free_port();
    let mut shops = [Shop::open(load, port, 1, "")?, Shop::open(load, port, 2, OTHERWISE)?];
    let rules: String = shops.iter().map(|shop| shop.books.rule()).collect();
    let watch = Watch::start(&format!("names:\n{rules}"), "4 MiB")?;
    let client = Netns::create()?;
    let ports = format!("{} {}", 40_000, 40_000 + PORTS - 1);
    client.enter(|| {
        let folder = "/proc/sys/net/ipv4";
        std::fs::write(format!("{folder}/ip_local_port_range"), ports)?;
        std::fs::write(format!("{folder}/tcp_tw_reuse"), "1")
    })??;
    for _ in 0..ROUNDS {
        let server = Netns::create()?;
        client.join(&server, "eth0", CLIENT, SERVER)?;
        for shop in &mut shops {
            let place = Place { netns: Some(&server), cgroup: Some(&shop.cgroup) };
            let speaker = Speaker::start_at(load, place, port, shop.lines)?;
            // A port of the client is free again after a second.
            sleep(Duration::from_millis(1_200));
            let address = format!("{SERVER}:{port}");
            let hands = (CONNECTIONS, 16);
            shop.record.add_all(&speaker.call(Place::netns(&client), &address, CALLS, hands)?);
        }
        client.run("ip link del eth0")?;
    }
    let rows = compare(&watch, &shops, (load.client(), port))?;
    watch.stop()?;
    Ok(rows)
}

fn compare(watch: &Watch, shops: &[Shop; 2], (client, port): (&str, u16)) -> Result<Vec<Row>> {
    let ends = 2 * shops.iter().map(|shop| shop.record.total()).sum::<u64>();
    let names = shops.each_ref().map(|shop| shop.books.name());
    let mut rows = Vec::new();
    for (lane, agent) in watch.each() {
        let scrape = agent.scrape_until(|scrape| {
            let [server, other] = all(scrape, shops, port);
            server + other + lost_of(scrape, &names) >= ends
        })?;
        let mut row = Row { lane: Some(lane), made: ends, ..Row::default() };
        row.declared = lost_of(&scrape, &names);
        for shop in shops {
            let sides =
                [shop.books.at_server(&scrape, client), shop.books.at_client(&scrape, client)];
            for (sum, side) in row.sides.iter_mut().zip(&sides) {
                sum.add_all(side);
            }
            sides.iter().for_each(|side| row.add(side, &shop.record));
        }
        // Whatever has no name, or one of neither shop.
        let unknown = all(&scrape, shops, port).iter().sum::<u64>().saturating_sub(row.seen);
        row.seen += unknown;
        row.unknown += unknown;
        rows.push(row);
    }
    Ok(rows)
}

/// Ends of calls at servers and at clients, whoever is said to have been at the other one.
fn all(scrape: &Scrape, shops: &[Shop; 2], port: u16) -> [u64; 2] {
    let server = "http_server_request_duration_seconds_count";
    let names = shops.iter().map(|shop| shop.books.name()).chain(["unknown"]);
    let port = port.to_string();
    let client = "http_client_request_duration_seconds_count";
    [
        names.map(|name| scrape.count(server, &[("service_name", name)])).sum(),
        scrape.count(client, &[("server_port", &port)]),
    ]
}
