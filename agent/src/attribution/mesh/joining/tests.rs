//! What holds of joined ends whatever comes.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::attribution::call::{Identity, IdentityKind};
use crate::protocol::exchange::{AgentClass, TraceContext};
use crate::protocol::{Exchange, Protocol, Text};

#[derive(Clone, Debug)]
struct Offered {
    is_client: bool,
    id: u64,
    start: u64,
    end: u64,
    attempt: Option<u32>,
}

impl Offered {
    fn overlaps(&self, other: &Self) -> bool {
        self.id == other.id && self.start <= other.end && other.start <= self.end
    }

    fn exchange(&self) -> Exchange {
        Exchange {
            socket: 1,
            side: if self.is_client { Side::Client } else { Side::Server },
            protocol: Protocol::Http11,
            method: Text::from("GET"),
            path: Text::from("/"),
            authority: Text::default(),
            request_id: None,
            relayed: None,
            trace: Some(TraceContext { trace_id: 1, span_id: self.id + 1, sampled: None }),
            trace_state: None,
            agent: AgentClass::None,
            cut: false,
            status: Some(200),
            error: None,
            start_ns: self.start,
            request_end_ns: None,
            first_byte_ns: None,
            end_ns: self.end,
            request_bytes: 0,
            response_bytes: 0,
            rtt_us: None,
            retransmits: 0,
            sequence: 0,
            acknowledgement: 0,
            tag: None,
            weight: 1,
            rpc: None,
        }
    }
}

fn offered() -> impl Strategy<Value = Offered> {
    let attempt = prop::option::of(1_u32..4);
    (any::<bool>(), 0_u64..4, 0_u64..60, 0_u64..20, attempt).prop_map(
        |(is_client, id, start, length, attempt)| {
            let attempt = attempt.filter(|_| !is_client);
            Offered { is_client, id, start, end: start + length, attempt }
        },
    )
}

/// Nobody whose name contradicts anybody's.
fn nobody() -> Party {
    let identity = Identity {
        name: "unknown".into(),
        namespace: "".into(),
        kind: IdentityKind::Unknown,
        attributes: Vec::new(),
        workload: None,
    };
    Party { identity: identity.into(), endpoint: None, pid: 0 }
}

proptest! {
    #[test]
    fn an_end_is_joined_once_and_never_where_another_may_be_meant(
        all in prop::collection::vec(offered(), 0..60),
    ) {
        let mut joining = Joining::default();
        let mut joined = BTreeSet::new();
        for (place, one) in all.iter().enumerate() {
            let exchange = one.exchange();
            let application = Application {
                beside: 2,
                client: nobody(),
                server: nobody(),
                service: None,
                attempt: one.attempt,
            };
            let end = End::of(&exchange, Ids::of(&exchange).unwrap());
            let (number, found) = joining.offer(end, Some(Box::new(application)), 3);
            prop_assert_eq!(number, place as u64 + 1);
            let Some(found) = found else { continue };
            let Some(other) = found.other else { continue };
            let before = &all[..place];
            let second = &before[usize::try_from(other - 1).unwrap()];
            let (client, server) = if one.is_client { (one, second) } else { (second, one) };
            prop_assert!(client.is_client && !server.is_client && client.id == server.id);
            prop_assert!(client.start <= server.start && server.end <= client.end);
            for end in [number, other].iter().chain(&found.tried) {
                prop_assert!(joined.insert(*end), "{} twice", end);
            }
            let rivals = before.iter().filter(|rival| {
                rival.is_client == one.is_client && rival.overlaps(one)
            });
            let mut rivals = rivals.filter(|rival| {
                let attempts = rival.attempt.zip(one.attempt);
                rival.is_client || attempts.is_none_or(|(rival, own)| rival == own)
            });
            prop_assert!(rivals.next().is_none(), "{:?} beside {:?}", one, before);
        }
    }
}
