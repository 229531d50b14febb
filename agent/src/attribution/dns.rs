//! Names of remote addresses, from DNS answers that sockets of this host received.
//!
//! An address maps to the name that was *asked*, through any chain of CNAMEs. Nothing
//! is ever looked up. **Bounded**: addresses by an LRU, names per address by `NAMES`.

use std::collections::HashSet;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use hickory_proto::op::{Header, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use lru::LruCache;

/// Names remembered per address: virtual hosts and content networks share addresses.
const NAMES: usize = 8;
/// Answers read from one message.
const ANSWERS: u16 = 64;
/// Queries read from one message; more than one is not in use.
const QUERIES: u16 = 4;

/// One name of one address.
#[derive(Debug)]
struct Given {
    name: Arc<str>,
    cgroup: u64,
    heard_ns: u64,
    until_ns: u64,
}

/// Addresses and the names by which they were asked for.
#[derive(Debug)]
pub struct Names {
    addresses: LruCache<IpAddr, Vec<Given>, ahash::RandomState>,
    floor_ns: u64,
    ceiling_ns: u64,
    evicted: u64,
    unreadable: u64,
    revision: u64,
}

impl Names {
    /// An empty table of at most `bound` addresses; a name counts for its TTL, held
    /// between `floor_ns` and `ceiling_ns`.
    #[must_use]
    pub fn new(bound: usize, floor_ns: u64, ceiling_ns: u64) -> Self {
        let bound = NonZeroUsize::new(bound).unwrap_or(NonZeroUsize::MIN);
        Self {
            addresses: LruCache::with_hasher(bound, ahash::RandomState::new()),
            floor_ns,
            ceiling_ns: ceiling_ns.max(floor_ns),
            evicted: 0,
            unreadable: 0,
            revision: 0,
        }
    }

    /// Takes the answers of `message`, which a socket of `cgroup` received at `heard_ns`.
    /// A message cut short gives the answers before the cut.
    pub fn hear(&mut self, message: &[u8], cgroup: u64, heard_ns: u64) {
        let Some(answers) = read(message) else {
            self.unreadable += 1;
            return;
        };
        for (address, asked, ttl) in answers {
            let ttl_ns = u64::from(ttl).saturating_mul(1_000_000_000);
            let until_ns = heard_ns.saturating_add(ttl_ns.clamp(self.floor_ns, self.ceiling_ns));
            self.give(address, Given { name: asked, cgroup, heard_ns, until_ns });
        }
    }

    fn give(&mut self, address: IpAddr, given: Given) {
        self.revision += 1;
        if let Some(names) = self.addresses.get_mut(&address) {
            names.retain(|old| !(old.cgroup == given.cgroup && old.name == given.name));
            if names.len() >= NAMES
                && let Some(oldest) = (0..names.len()).min_by_key(|index| names[*index].heard_ns)
            {
                names.swap_remove(oldest);
                self.evicted += 1;
            }
            names.push(given);
            return;
        }
        if self.addresses.push(address, vec![given]).is_some_and(|(old, _)| old != address) {
            self.evicted += 1;
        }
    }

    /// The name that `address` had at `at_ns`: the last one that `cgroup` asked for, else
    /// the last one that anybody did.
    #[must_use]
    pub fn name(&self, address: IpAddr, cgroup: u64, at_ns: u64) -> Option<Arc<str>> {
        let names = self.addresses.peek(&address.to_canonical())?;
        names
            .iter()
            .filter(|given| given.until_ns >= at_ns)
            .max_by_key(|given| (given.cgroup == cgroup, given.heard_ns))
            .map(|given| Arc::clone(&given.name))
    }

    /// Grows with every name learnt, so that others know when to ask again.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Addresses held, and the bound.
    #[must_use]
    pub fn occupancy(&self) -> (usize, usize) {
        (self.addresses.len(), self.addresses.cap().get())
    }

    /// Names forgotten for want of room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Messages that were no DNS answer.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }
}

/// Addresses in the answer section, the name asked for and the least TTL of the chain.
fn read(message: &[u8]) -> Option<Vec<(IpAddr, Arc<str>, u32)>> {
    let mut decoder = BinDecoder::new(message);
    let header = Header::read(&mut decoder).ok()?;
    if header.metadata.message_type != MessageType::Response {
        return None;
    }
    let mut asked: Option<Name> = None;
    for _ in 0..header.counts.queries.min(QUERIES) {
        let query = Query::read(&mut decoder).ok()?;
        if asked.is_none() && matches!(query.query_type, RecordType::A | RecordType::AAAA) {
            asked = Some(query.name);
        }
    }
    // The root has no name to show.
    let Some(asked) = asked.filter(|asked| !asked.is_root()) else { return Some(Vec::new()) };
    if header.metadata.response_code != ResponseCode::NoError {
        return Some(Vec::new());
    }
    let name = shown(&asked);
    let mut chain = HashSet::from([asked.to_lowercase()]);
    let mut least = u32::MAX;
    let mut found = Vec::new();
    for _ in 0..header.counts.answers.min(ANSWERS) {
        // The rest of a message that was cut, or a record of a kind unknown.
        let Ok(record) = Record::<RData>::read(&mut decoder) else { break };
        if !chain.contains(&record.name.to_lowercase()) {
            continue;
        }
        let address = match &record.data {
            RData::CNAME(target) => {
                least = least.min(record.ttl);
                chain.insert(target.0.to_lowercase());
                continue;
            }
            RData::A(address) => IpAddr::V4(address.0),
            RData::AAAA(address) => IpAddr::V6(address.0),
            _ => continue,
        };
        found.push((address.to_canonical(), Arc::clone(&name), least.min(record.ttl)));
    }
    Some(found)
}

/// Lower case, without the root's dot.
fn shown(name: &Name) -> Arc<str> {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').unwrap_or(&text).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Message, OpCode};
    use hickory_proto::rr::rdata::{A, AAAA, CNAME};

    const SECOND: u64 = 1_000_000_000;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn answer(asked: &str, records: &[(&str, u32, RData)]) -> Vec<u8> {
        let mut message = Message::response(7, OpCode::Query);
        message.add_query(Query::query(name(asked), RecordType::A));
        for (owner, ttl, data) in records {
            message.add_answer(Record::from_rdata(name(owner), *ttl, data.clone()));
        }
        message.to_vec().unwrap()
    }

    fn a(last: u8) -> RData {
        RData::A(A::new(192, 0, 2, last))
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn table() -> Names {
        Names::new(4, 10 * SECOND, 100 * SECOND)
    }

    #[test]
    fn the_name_asked_names_the_address_through_cnames() {
        let mut names = table();
        let alias = |target: &str| RData::CNAME(CNAME(name(target)));
        names.hear(
            &answer(
                "API.example.org.",
                &[
                    ("api.example.org.", 60, alias("edge.cdn.net.")),
                    ("edge.cdn.net.", 60, alias("e7.cdn.net.")),
                    ("e7.cdn.net.", 60, a(1)),
                    ("e7.cdn.net.", 60, RData::AAAA(AAAA::new(0xfd00, 0, 0, 0, 0, 0, 0, 1))),
                    ("other.org.", 60, a(2)),
                ],
            ),
            5,
            0,
        );
        assert_eq!(names.name(ip(1), 5, 1).as_deref(), Some("api.example.org"));
        assert_eq!(
            names.name("fd00::1".parse().unwrap(), 0, 1).as_deref(),
            Some("api.example.org")
        );
        assert_eq!(names.name(ip(2), 5, 1), None, "not part of the chain");
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(names.name(mapped, 5, 1).as_deref(), Some("api.example.org"));
    }

    #[test]
    fn the_root_names_no_address() {
        let mut names = table();
        names.hear(&answer(".", &[(".", 60, a(1))]), 5, 0);
        assert_eq!(names.name(ip(1), 5, 1), None);
        assert_eq!((names.unreadable(), names.occupancy().0), (0, 0));
    }

    #[test]
    fn ttl_is_honoured_between_floor_and_ceiling() {
        let mut names = table();
        for (last, ttl) in [(1, 0), (2, 50), (3, 100_000)] {
            names.hear(&answer("x.org.", &[("x.org.", ttl, a(last))]), 0, 0);
        }
        for (last, lives) in [(1, 10), (2, 50), (3, 100)] {
            assert!(names.name(ip(last), 0, lives * SECOND).is_some(), "{last}");
            assert!(names.name(ip(last), 0, lives * SECOND + 1).is_none(), "{last}");
        }
    }

    #[test]
    fn a_shared_address_goes_by_who_asked_last() {
        let mut names = table();
        names.hear(&answer("a.org.", &[("a.org.", 60, a(1))]), 1, 0);
        names.hear(&answer("b.org.", &[("b.org.", 60, a(1))]), 2, 1);
        names.hear(&answer("c.org.", &[("c.org.", 60, a(1))]), 1, 2);
        names.hear(&answer("a.org.", &[("a.org.", 60, a(1))]), 1, 3);
        assert_eq!(names.name(ip(1), 1, 4).as_deref(), Some("a.org"));
        assert_eq!(names.name(ip(1), 2, 4).as_deref(), Some("b.org"));
        assert_eq!(names.name(ip(1), 9, 4).as_deref(), Some("a.org"), "the last of all");
    }

    #[test]
    fn cut_messages_give_what_stands_before_the_cut() {
        let whole = answer("x.org.", &[("x.org.", 60, a(1)), ("x.org.", 60, a(2))]);
        let mut names = table();
        names.hear(&whole[..whole.len() - 3], 0, 0);
        assert!(names.name(ip(1), 0, 0).is_some());
        assert!(names.name(ip(2), 0, 0).is_none());
        for end in 0..whole.len() {
            names.hear(&whole[..end], 0, 0);
        }
        let unreadable = names.unreadable();
        assert!(unreadable > 0);
        names.hear(b"GET / HTTP/1.1\r\n\r\n", 0, 0);
        assert_eq!(names.unreadable(), unreadable + 1);
    }

    #[test]
    fn refusals_and_other_types_name_nothing() {
        let mut names = table();
        let mut message = Message::response(7, OpCode::Query);
        message.add_query(Query::query(name("x.org."), RecordType::A));
        message.add_answer(Record::from_rdata(name("x.org."), 60, a(1)));
        message.metadata.response_code = ResponseCode::NXDomain;
        names.hear(&message.to_vec().unwrap(), 0, 0);
        let mut message = Message::response(7, OpCode::Query);
        message.add_query(Query::query(name("x.org."), RecordType::MX));
        message.add_answer(Record::from_rdata(name("x.org."), 60, a(1)));
        names.hear(&message.to_vec().unwrap(), 0, 0);
        assert_eq!(names.name(ip(1), 0, 0), None);
    }

    #[test]
    fn the_table_is_bounded_and_counts_what_it_forgot() {
        let mut names = table();
        for last in 0..10 {
            names.hear(&answer("x.org.", &[("x.org.", 60, a(last))]), 0, u64::from(last));
        }
        assert_eq!(names.occupancy(), (4, 4));
        assert_eq!(names.evicted(), 6);
        assert!(names.name(ip(0), 0, 0).is_none());
        for cgroup in 0..20 {
            names.hear(&answer("x.org.", &[("x.org.", 60, a(9))]), cgroup, 20 + cgroup);
        }
        assert!(names.addresses.peek(&ip(9)).unwrap().len() <= NAMES);
    }
}
