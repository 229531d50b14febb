//! An exchange becomes a [`Call`]: both ends named, the way through a mesh told.

use super::mesh::passage::Passed;
use super::{Attributor, Call};
use crate::protocol::{Exchange, Routes};

/// What an exchange turns out to be.
enum Named {
    /// An application's, with the proxy's socket beside it and the proxy's process.
    Call(Call, Option<(u64, u32)>),
    /// At a socket of what only passes it on: of this process, where that is a mesh's proxy.
    Passing(Box<Exchange>, Option<u32>),
    /// A proxy's own question.
    Probe,
}

impl Attributor {
    /// Names both ends of an exchange that is over, and looks for the other end where proxies
    /// stand between; `routes` has the route of its path, for the service that turns out to
    /// answer. `None` for the exchange of a hop: both applications behind it report the call.
    pub fn resolve(&mut self, exchange: Box<Exchange>, routes: &mut Routes) -> Option<Call> {
        match self.name(exchange, routes) {
            Named::Call(mut call, beside) => {
                if let Some(beside) = beside {
                    self.join(&mut call, beside);
                }
                Some(call)
            }
            Named::Passing(exchange, proxy) => {
                if let Some(pid) = proxy {
                    self.note_passing(&exchange, pid);
                }
                None
            }
            Named::Probe => None,
        }
    }

    /// Names both ends of an exchange that goes on, or of those that it stands for, likewise.
    pub fn resolve_progress(
        &mut self,
        exchange: Box<Exchange>,
        routes: &mut Routes,
    ) -> Option<Call> {
        match self.name(exchange, routes) {
            Named::Call(call, _) => Some(call),
            Named::Passing(..) | Named::Probe => None,
        }
    }

    fn name(&mut self, exchange: Box<Exchange>, routes: &mut Routes) -> Named {
        let cookie = exchange.socket;
        self.connections.hear(cookie);
        let Some(connection) = self.connections.get(cookie) else {
            return Named::Call(self.stranger(exchange, routes), None);
        };
        if connection.is_passed_on() {
            let proxy = connection.proxy.map(|_| connection.owner.pid);
            return Named::Passing(exchange, proxy);
        }
        if !self.is_settled(connection, &exchange) {
            self.settle(&exchange);
        }
        let passed = self.has_proxies.then(|| self.passed(&exchange)).flatten();
        let (passage, client, beside) = match passed {
            Some(Passed::Probe) => {
                self.probes += 1;
                return Named::Probe;
            }
            Some(Passed::Call { passage, client, beside }) => (Some(passage), client, Some(beside)),
            None => (None, None, None),
        };
        let Some(connection) = self.connections.get(cookie) else {
            return Named::Call(self.stranger(exchange, routes), None);
        };
        Named::Call(self.call(connection, exchange, (passage, client), routes), beside)
    }
}
