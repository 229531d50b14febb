//! [`Tracking`]: look-ups in the connection tracking of the agent's own network namespace,
//! the node's, over netlink.
//!
//! One socket, kept open; the kernel answers a question before the call that asks it
//! returns, so that nothing here ever waits. A question costs 8 µs where there is an entry
//! and 4 µs where there is none (6.18, two cores that others use too).
//!
//! Refuses to ask where nothing is tracked: a question may load netfilter's module. And
//! refuses the kernel's events (`NFNLGRP_CONNTRACK_NEW`, `_DESTROY`). They come for every
//! connection that the node tracks, DNS included: two for each, which took the reader 19 µs
//! and the connection itself, in the kernel, 20 µs of 55. A question is asked only about a
//! connection whose other end is not known. It comes early enough: an entry is there before
//! the handshake ends, and outlives its connection by 120 s, after a reset by 10 s
//! (`nf_conntrack_tcp_timeout_time_wait`, `_close`), while the records of a connection are
//! read within a second.
//!
//! It knows what iptables, nftables and, where `net.ipv4.vs.conntrack` is 1 as kube-proxy sets
//! it, IPVS translate.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};

use super::refusal;
use crate::attribution::translation::Translation;

/// There where the network namespace of who looks tracks connections, or could.
const TRACKS: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
/// An answer has some hundred bytes.
const ANSWER: usize = 4_096;
/// Answers to earlier questions that are passed over.
const STALE: usize = 8;

/// Look-ups of one after the other.
#[derive(Debug, Default)]
pub struct Tracking {
    state: State,
    sequence: u32,
    answer: Vec<u8>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Closed,
    Open(Socket),
    /// The privilege or the interface is missing, and will be.
    Refused,
}

impl Tracking {
    /// The entry of the TCP connection that has packets from `from` to `to`, in whichever of
    /// its two directions. `None` where there is none, and where it cannot be asked for.
    pub fn lookup(&mut self, from: SocketAddr, to: SocketAddr) -> Option<Translation> {
        match self.ask(from, to) {
            Ok(found) => found,
            Err(error) => {
                // Else a fresh socket next time, without what may still lie in this one.
                self.state = if is_final(&error) { State::Refused } else { State::Closed };
                tracing::debug!("connection tracking cannot be asked: {error}");
                None
            }
        }
    }

    fn ask(&mut self, from: SocketAddr, to: SocketAddr) -> io::Result<Option<Translation>> {
        if matches!(self.state, State::Closed) && Path::new(TRACKS).exists() {
            self.state = State::Open(open()?);
        }
        let State::Open(socket) = &self.state else { return Ok(None) };
        self.sequence = self.sequence.wrapping_add(1);
        let Some(question) = question(self.sequence, from, to) else { return Ok(None) };
        socket.send(&question, libc::MSG_DONTWAIT)?;
        for _ in 0..STALE {
            self.answer.clear();
            self.answer.reserve(ANSWER);
            socket.recv(&mut self.answer, libc::MSG_DONTWAIT)?;
            match read(&self.answer, self.sequence)? {
                Answer::Entry(entry) => return Ok(Some(entry)),
                Answer::Nothing => return Ok(None),
                Answer::Stale => {}
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// Whether this network namespace tracks connections and says of them what it translates.
///
/// # Errors
/// Where it tracks them and cannot be asked: without `CAP_NET_ADMIN`, or by a kernel that
/// has no netlink interface to it.
pub fn probe() -> io::Result<bool> {
    if !Path::new(TRACKS).exists() {
        return Ok(false);
    }
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    Tracking::default().ask(nowhere, nowhere).map(|_| true)
}

/// Whether asking again is in vain. Each question of an interface that is not there has the
/// kernel look for its module.
fn is_final(error: &io::Error) -> bool {
    const FINAL: [i32; 6] = [
        libc::EPERM,
        libc::EACCES,
        libc::EINVAL,
        libc::EOPNOTSUPP,
        libc::EPROTONOSUPPORT,
        libc::EAFNOSUPPORT,
    ];
    error.raw_os_error().is_some_and(|code| FINAL.contains(&code))
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddress::new(0, 0))?;
    Ok(socket)
}

/// The question for an entry by one of its two directions: the kernel keeps both in one
/// table, and does not mind which of them it is called (`ctnetlink_get_conntrack`). `None`
/// for addresses of two families.
fn question(sequence: u32, from: SocketAddr, to: SocketAddr) -> Option<Vec<u8>> {
    let family = match (from, to) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) => NetfilterProtoFamily::IPv4,
        (SocketAddr::V6(_), SocketAddr::V6(_)) => NetfilterProtoFamily::IPv6,
        _ => return None,
    };
    let direction = vec![
        Tuple::Ip(vec![IPTuple::SourceAddress(from.ip()), IPTuple::DestinationAddress(to.ip())]),
        Tuple::Proto(vec![
            ProtoTuple::Protocol(Protocol::Tcp),
            ProtoTuple::SourcePort(from.port()),
            ProtoTuple::DestinationPort(to.port()),
        ]),
    ];
    let get = ConntrackMessage::Get(vec![ConntrackAttribute::CtaTupleOrig(direction)]);
    let mut header = NetlinkHeader::default();
    (header.flags, header.sequence_number) = (NLM_F_REQUEST, sequence);
    let message = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), get);
    let mut message = NetlinkMessage::new(header, message.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    Some(bytes)
}

/// What the kernel answered.
#[derive(Debug)]
pub enum Answer {
    /// It knows the connection.
    Entry(Translation),
    /// It does not.
    Nothing,
    /// To an earlier question.
    Stale,
}

/// What the kernel answered to the question with this number.
///
/// # Errors
/// What the kernel refused, or bytes that are no message.
pub fn read(bytes: &[u8], sequence: u32) -> io::Result<Answer> {
    let message = NetlinkMessage::<NetfilterMessage>::deserialize(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    if message.header.sequence_number != sequence {
        return Ok(Answer::Stale);
    }
    match message.payload {
        NetlinkPayload::Error(error) => match refusal(&error) {
            error if error.kind() == io::ErrorKind::NotFound => Ok(Answer::Nothing),
            error => Err(error),
        },
        NetlinkPayload::InnerMessage(NetfilterMessage {
            inner: NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)),
            ..
        }) => Ok(translation(&attributes).map_or(Answer::Nothing, Answer::Entry)),
        _ => Ok(Answer::Nothing),
    }
}

fn translation(attributes: &[ConntrackAttribute]) -> Option<Translation> {
    let (mut original, mut reply) = (None, None);
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(parts) => original = direction(parts),
            ConntrackAttribute::CtaTupleReply(parts) => reply = direction(parts),
            _ => {}
        }
    }
    Some(Translation { original: original?, reply: reply? })
}

/// Source and destination.
fn direction(parts: &[Tuple]) -> Option<(SocketAddr, SocketAddr)> {
    let (mut from, mut to): (Option<IpAddr>, Option<IpAddr>) = (None, None);
    let (mut from_port, mut to_port) = (None, None);
    for part in parts {
        match part {
            Tuple::Ip(addresses) => {
                for address in addresses {
                    match address {
                        IPTuple::SourceAddress(address) => from = Some(*address),
                        IPTuple::DestinationAddress(address) => to = Some(*address),
                        _ => {}
                    }
                }
            }
            Tuple::Proto(ports) => {
                for port in ports {
                    match port {
                        ProtoTuple::SourcePort(port) => from_port = Some(*port),
                        ProtoTuple::DestinationPort(port) => to_port = Some(*port),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some((SocketAddr::new(from?, from_port?), SocketAddr::new(to?, to_port?)))
}

#[cfg(test)]
mod tests;
