//! [`Listeners`]: who listened when the agent came. What such a listener accepts carries
//! no owner: the kernel half notes one only where it saw the listener made, or where the
//! accepting program asks who connected.
//!
//! **Never a guess**: where listeners of several network namespaces have the address and
//! their cgroups do not tell them apart, nobody is named. Bounded by the inventory.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::inventory::Listener;

/// Listeners from before the agent, by port.
#[derive(Debug, Default)]
pub struct Listeners {
    by_port: HashMap<u16, Vec<Listener>, ahash::RandomState>,
}

impl Listeners {
    /// Those of an inventory.
    #[must_use]
    pub fn new(list: Vec<Listener>) -> Self {
        let mut by_port: HashMap<u16, Vec<Listener>, ahash::RandomState> = HashMap::default();
        for listener in list {
            by_port.entry(listener.local.port()).or_default().push(listener);
        }
        Self { by_port }
    }

    /// The processes that held the listener which accepts at `local` in `cgroup` (0: not
    /// known), the one that the others come from first; nobody where several might be it.
    #[must_use]
    pub fn holders(&self, local: SocketAddr, cgroup: u64) -> &[u32] {
        let there = self.by_port.get(&local.port()).map_or(&[][..], Vec::as_slice);
        let is_near =
            |listener: &&Listener| cgroup == 0 || listener.cgroup == 0 || cgroup == listener.cgroup;
        let address = local.ip().to_canonical();
        // A listener on the address itself takes connections from one on all addresses.
        let exact = |listener: &&Listener| listener.local.ip().to_canonical() == address;
        let any = |listener: &&Listener| {
            let ip = listener.local.ip();
            ip.is_unspecified() && (ip.is_ipv6() || address.is_ipv4())
        };
        let mut found = there.iter().filter(is_near).filter(exact).peekable();
        if found.peek().is_some() {
            return agreed(found);
        }
        agreed(there.iter().filter(is_near).filter(any))
    }
}

/// The holders that all of these have.
fn agreed<'a>(mut listeners: impl Iterator<Item = &'a Listener>) -> &'a [u32] {
    let Some(first) = listeners.next() else { return &[] };
    // Workers with a listener each (SO_REUSEPORT) have a parent that holds them all.
    let same = listeners.all(|other| {
        other.namespace == first.namespace && other.holders.first() == first.holders.first()
    });
    if same { &first.holders } else { &[] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(namespace: u64, cgroup: u64, local: &str, holders: &[u32]) -> Listener {
        let (local, holders) = (local.parse().unwrap(), holders.to_vec());
        Listener { namespace, cgroup, local, holders }
    }

    fn holders(list: &[Listener], local: &str, cgroup: u64) -> Vec<u32> {
        Listeners::new(list.to_vec()).holders(local.parse().unwrap(), cgroup).to_vec()
    }

    #[test]
    fn the_narrowest_address_wins() {
        let list = [
            listener(1, 0, "0.0.0.0:80", &[7]),
            listener(1, 0, "127.0.0.1:80", &[8, 9]),
            listener(1, 0, "[::]:81", &[10]),
            listener(1, 0, "0.0.0.0:82", &[11]),
        ];
        assert_eq!(holders(&list, "10.0.0.1:80", 0), [7]);
        assert_eq!(holders(&list, "127.0.0.1:80", 0), [8, 9]);
        assert_eq!(holders(&list, "[::ffff:127.0.0.1]:80", 0), [8, 9]);
        assert_eq!(holders(&list, "10.0.0.1:81", 0), [10], "dual stack");
        assert!(holders(&list, "[::1]:82", 0).is_empty());
        assert!(holders(&list, "10.0.0.1:83", 0).is_empty());
    }

    #[test]
    fn one_address_in_two_namespaces_is_told_apart_by_cgroup_or_not_at_all() {
        let list = [listener(1, 50, "0.0.0.0:80", &[7]), listener(2, 60, "0.0.0.0:80", &[8])];
        assert_eq!(holders(&list, "10.0.0.1:80", 50), [7]);
        assert_eq!(holders(&list, "10.0.0.1:80", 60), [8]);
        assert!(holders(&list, "10.0.0.1:80", 0).is_empty());
        assert!(holders(&list, "10.0.0.1:80", 70).is_empty());
    }

    #[test]
    fn workers_with_a_listener_each_share_their_parent() {
        let list = [listener(1, 0, "[::]:80", &[5, 6]), listener(1, 0, "[::]:80", &[5, 7])];
        assert_eq!(holders(&list, "[::1]:80", 0), [5, 6]);
        let list = [listener(1, 0, "[::]:80", &[6]), listener(1, 0, "[::]:80", &[7])];
        assert!(holders(&list, "[::1]:80", 0).is_empty(), "two programs share the port");
    }
}
