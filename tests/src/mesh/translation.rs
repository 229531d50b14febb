//! Services as rules, the way kube-proxy writes them for iptables: a chain a service, one a
//! backend, chosen by chance, and a mark on what has to be sent on under the host's address.

use std::net::IpAddr;

use super::firewall::PREFIX;
use super::lab::{PODS_V4, PODS_V6};
use crate::cluster::{Pod, Port, Service};

/// A service and the pods behind it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub service: Service,
    pub pods: Vec<Pod>,
}

/// The bit by which a connection is known that has to be masqueraded.
const MARK: &str = "0x4000";

/// Both tables for one family, as `iptables-restore` reads them.
pub(super) fn translate(entries: &[Entry], is_v6: bool) -> String {
    let mut table = Table { chains: Vec::new(), rules: Vec::new(), is_v6 };
    for name in ["SERVICES", "NODEPORTS", "POSTROUTING", "MARK"] {
        table.chain(name);
    }
    table.rule("MARK", &format!("-j MARK --set-xmark {MARK}/{MARK}"));
    table.rule("POSTROUTING", &format!("-m mark ! --mark {MARK}/{MARK} -j RETURN"));
    table.rule("POSTROUTING", &format!("-j MARK --set-xmark 0x0/{MARK}"));
    table.rule("POSTROUTING", "-j MASQUERADE --random-fully");
    let mut number = 0;
    for entry in entries {
        for port in &entry.service.ports {
            number += 1;
            table.service(number, entry, port);
        }
    }
    // Behind the addresses of services, which no host has.
    table.rule("SERVICES", &format!("-m addrtype --dst-type LOCAL -j {PREFIX}NODEPORTS"));
    let pods = if is_v6 { PODS_V6 } else { PODS_V4 };
    format!(
        "*nat\n{}COMMIT\n*filter\n:{PREFIX}FORWARD - [0:0]\n\
         -A {PREFIX}FORWARD -s {pods} -j ACCEPT\n-A {PREFIX}FORWARD -d {pods} -j ACCEPT\nCOMMIT\n",
        table.text()
    )
}

struct Table {
    chains: Vec<String>,
    rules: Vec<String>,
    is_v6: bool,
}

impl Table {
    fn chain(&mut self, name: &str) {
        self.chains.push(format!(":{PREFIX}{name} - [0:0]\n"));
    }

    fn rule(&mut self, chain: &str, rule: &str) {
        self.rules.push(format!("-A {PREFIX}{chain} {rule}\n"));
    }

    fn text(&self) -> String {
        self.chains.concat() + &self.rules.concat()
    }

    fn of_family(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        addresses.iter().copied().filter(|address| address.is_ipv6() == self.is_v6).collect()
    }

    fn service(&mut self, number: usize, entry: &Entry, port: &Port) {
        let own = [&entry.service.addresses, &entry.service.external, &entry.service.balancer];
        let own: Vec<IpAddr> = own.into_iter().flat_map(|list| self.of_family(list)).collect();
        let backends: Vec<IpAddr> = entry
            .pods
            .iter()
            .filter_map(|pod| {
                let own = if pod.host_network { vec![pod.host] } else { pod.addresses.clone() };
                self.of_family(&own).first().copied()
            })
            .collect();
        let chain = format!("SVC-{number}");
        if backends.is_empty() {
            return;
        }
        self.chain(&chain);
        for address in own {
            let number = port.number;
            self.rule(
                "SERVICES",
                &format!("-d {address} -p tcp --dport {number} -j {PREFIX}{chain}"),
            );
        }
        if let Some(node) = port.node {
            // Whoever answers has to answer to the node: only it knows the port.
            let from_outside = format!("EXT-{number}");
            self.chain(&from_outside);
            self.rule(&from_outside, &format!("-j {PREFIX}MARK"));
            self.rule(&from_outside, &format!("-j {PREFIX}{chain}"));
            self.rule("NODEPORTS", &format!("-p tcp --dport {node} -j {PREFIX}{from_outside}"));
        }
        for (index, backend) in backends.iter().enumerate() {
            self.backend(&chain, (index, backends.len() - index), *backend, port.target);
        }
    }

    /// One of `left` backends that remain: each gets the same share.
    fn backend(&mut self, service: &str, (index, left): (usize, usize), to: IpAddr, port: u16) {
        let chain = format!("{service}-{index}");
        self.chain(&chain);
        let chance = if left > 1 {
            format!("-m statistic --mode random --probability {:.10} ", 1.0 / left as f64)
        } else {
            String::new()
        };
        self.rule(service, &format!("{chance}-j {PREFIX}{chain}"));
        // To itself: the answer would not come back by the host otherwise.
        self.rule(&chain, &format!("-s {to} -j {PREFIX}MARK"));
        let to = if to.is_ipv6() { format!("[{to}]:{port}") } else { format!("{to}:{port}") };
        self.rule(&chain, &format!("-p tcp -j DNAT --to-destination {to}"));
    }
}
