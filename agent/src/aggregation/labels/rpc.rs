//! Labels of remote procedure calls.

use std::sync::Arc;

use super::{Labels, Set, Words};
use crate::aggregation::definition::label::{
    ERROR, MESSAGE_DIRECTION, OLD_RPC_SERVICE, OLD_RPC_STATUS, OLD_RPC_SYSTEM, ROLE, RPC_METHOD,
    RPC_STATUS, RPC_SYSTEM,
};
use crate::aggregation::snapshot::Label;
use crate::aggregation::summary::{CallFacts, RpcFacts};
use crate::protocol::Side;
use crate::protocol::exchange::rpc::{CODES, Fault, code_name, split_method};

/// A status that gRPC does not know by name: numbers are the peer's choice.
const OTHER: &str = "_OTHER";

impl Words {
    /// Labels of durations, for either side.
    pub(in crate::aggregation) fn rpc(&mut self, facts: &CallFacts<'_>, rpc: &RpcFacts) -> Labels {
        let mut labels = Set::default();
        match facts.rpc_fault(facts.side) {
            Some(Fault::Code(code)) => labels.push(&ERROR, self.fixed(status(code))),
            Some(Fault::Cause(cause)) => labels.push(&ERROR, self.fixed(cause.name())),
            Some(Fault::Http(status)) => labels.push(&ERROR, self.code(status)),
            None => {}
        }
        labels.text(&RPC_METHOD, facts.route);
        if let Some(code) = rpc.status {
            labels.push(&RPC_STATUS, self.fixed(status(code)));
        }
        labels.push(&RPC_SYSTEM, self.fixed(rpc.system.name()));
        labels.asked(facts);
        labels.peer(facts.peer());
        labels.0.into()
    }

    /// The same by the deprecated convention, which had no errors.
    pub(in crate::aggregation) fn deprecated_rpc(
        &mut self,
        facts: &CallFacts<'_>,
        rpc: &RpcFacts,
    ) -> Labels {
        let mut labels = Set::default();
        let known = |code: &u32| (*code as usize) < CODES.len();
        if let Some(code) = rpc.status.filter(known) {
            labels.push(&OLD_RPC_STATUS, Label::Integer(i64::from(code)));
        }
        let (service, method) = split_method(facts.route);
        labels.text(&RPC_METHOD, &Arc::from(method));
        labels.text(&OLD_RPC_SERVICE, &Arc::from(service));
        labels.push(&OLD_RPC_SYSTEM, self.fixed(rpc.system.deprecated_name()));
        labels.asked(facts);
        labels.peer(facts.peer());
        labels.0.into()
    }

    /// Labels of what `sender` sent, as the observing end sees it.
    pub(in crate::aggregation) fn traffic(
        &mut self,
        facts: &CallFacts<'_>,
        sender: Side,
    ) -> Labels {
        let mut labels = Set::default();
        let direction = if facts.side == sender { "sent" } else { "received" };
        labels.push(&MESSAGE_DIRECTION, self.fixed(direction));
        labels.push(&ROLE, self.role(facts.side));
        labels.text(&RPC_METHOD, facts.route);
        labels.peer(facts.peer());
        labels.0.into()
    }
}

fn status(code: u32) -> &'static str {
    code_name(code).unwrap_or(OTHER)
}
