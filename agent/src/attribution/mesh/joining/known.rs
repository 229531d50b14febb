//! [`Known`]: which of the ends under one id are the same call's, and what lies between them.

use std::collections::VecDeque;

use super::end::{End, Seen, are_rivals, fit, spent};
use super::id::Id;
use super::{Found, Times};
use crate::protocol::Side;

/// What came under one id.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) ends: &'a VecDeque<Seen>,
    pub(super) first: u64,
    pub(super) numbers: &'a [u64],
}

pub(super) enum Pick {
    Nothing,
    /// Several may be meant.
    Doubt,
    /// A server's ends in the order of attempts, or a client's.
    Ends(Vec<u64>),
}

impl<'a> Known<'a> {
    fn get(&self, number: u64) -> Option<&'a Seen> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.ends.get(place)
    }

    fn all(self) -> impl Iterator<Item = (u64, &'a Seen)> {
        self.numbers.iter().filter_map(move |number| Some((*number, self.get(*number)?)))
    }

    /// Whether a client's end is there within whose time the server's lies.
    pub(super) fn has_client(self, server: &End) -> bool {
        self.all().any(|(_, seen)| {
            let is_clients = seen.application.is_some() && seen.end.side == Side::Client;
            is_clients && seen.end.is_same_request(server) && seen.end.contains(server)
        })
    }

    /// The ends that are the same call's as `new`.
    pub(super) fn pick(&self, new: &Seen, id: &Id) -> Pick {
        let mut picked: Vec<(u64, &Seen)> = Vec::new();
        for (number, seen) in self.all().filter(|(_, seen)| seen.application.is_some()) {
            let Some((client, server)) = new.sides(seen) else {
                if are_rivals(new, seen) {
                    return Pick::Doubt;
                }
                continue;
            };
            if client.0.ids.first() == id && fit(client, server) {
                picked.push((number, seen));
            }
        }
        match new.end.side {
            Side::Server => Self::only_client(&picked),
            Side::Client => Self::attempts(picked),
        }
    }

    /// Where another attempt was the client's already, this is one that came late.
    fn only_client(picked: &[(u64, &Seen)]) -> Pick {
        match picked {
            [] => Pick::Nothing,
            [(number, client)] if !client.is_taken => Pick::Ends(vec![*number]),
            _ => Pick::Doubt,
        }
    }

    /// One server's end, or several that a proxy has numbered.
    fn attempts(mut picked: Vec<(u64, &Seen)>) -> Pick {
        let attempt = |seen: &Seen| seen.application.as_ref().and_then(|one| one.attempt);
        if picked.iter().any(|(_, seen)| seen.is_taken) {
            return Pick::Doubt;
        }
        picked.sort_by_key(|(_, seen)| attempt(seen));
        let are_numbered = picked.windows(2).all(|pair| match pair {
            [(_, one), (_, next)] => attempt(one).is_some() && attempt(one) < attempt(next),
            _ => true,
        });
        match picked.is_empty() {
            true => Pick::Nothing,
            false if are_numbered => {
                Pick::Ends(picked.into_iter().map(|(number, _)| number).collect())
            }
            false => Pick::Doubt,
        }
    }

    /// Which of the ends is the other one, and what lies between the two.
    pub(super) fn tell(&self, new: &Seen, mut tried: Vec<u64>) -> Found {
        let last = tried.last().copied().and_then(|number| Some((number, self.get(number)?)));
        let Some((number, seen)) = last else { return Found::default() };
        let (client, server) = match new.end.side {
            Side::Client => (new, seen),
            Side::Server => (seen, new),
        };
        if !client.end.answers_as(&server.end) {
            // A client's end is none that was tried.
            let tried = if new.end.side == Side::Client { tried } else { Vec::new() };
            return Found { tried, ..Found::default() };
        }
        tried.pop();
        let asking = client.application.as_ref().filter(|_| new.end.side == Side::Server);
        Found {
            other: Some(number),
            tried,
            client: asking.map(|asking| asking.client.clone()),
            by: None,
            times: self.times(client, server),
        }
    }

    fn times(&self, client: &Seen, server: &Seen) -> Times {
        if client.end.has_failed || server.end.has_failed {
            return Times::default();
        }
        let between_ns = spent(&client.end, &server.end);
        let (Some(asking), Some(answering)) = (&client.application, &server.application) else {
            return Times::default();
        };
        let (near, far) = (asking.beside, answering.beside);
        let accepted = self.of_proxy(&client.end, |seen| {
            seen.end.socket == near && client.end.contains(&seen.end)
        });
        let sent = self
            .of_proxy(&client.end, |seen| seen.end.socket == far && seen.end.contains(&server.end));
        let gap = |outer: Option<&End>, inner: Option<&End>| spent(outer?, inner?);
        if client.pid == server.pid {
            // Where somebody else stood between, it is not the proxy's time alone.
            let is_its = !asking.is_behind_another(answering);
            let server_proxy_ns = gap(accepted, sent).filter(|_| is_its);
            return Times { between_ns, client_proxy_ns: None, server_proxy_ns };
        }
        let onwards = accepted.and_then(|accepted| {
            self.of_proxy(&client.end, |seen| {
                let end = &seen.end;
                seen.pid == client.pid && end.side == Side::Client && accepted.contains(end)
            })
        });
        let arrived = sent.and_then(|sent| {
            self.of_proxy(&client.end, |seen| {
                let end = &seen.end;
                seen.pid == server.pid && end.side == Side::Server && end.contains(sent)
            })
        });
        let (client_proxy_ns, server_proxy_ns) = (gap(accepted, onwards), gap(arrived, sent));
        Times { between_ns, client_proxy_ns, server_proxy_ns }
    }

    /// The only end of a proxy's own that carried the request.
    fn of_proxy(&self, request: &End, is_it: impl Fn(&Seen) -> bool) -> Option<&'a End> {
        let own = |seen: &&Seen| {
            seen.application.is_none() && seen.end.is_same_request(request) && is_it(seen)
        };
        let mut found = self.all().map(|(_, seen)| seen).filter(own);
        let first = found.next()?;
        found.next().is_none().then_some(&first.end)
    }
}
