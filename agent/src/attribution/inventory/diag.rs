//! `sock_diag`: the TCP sockets of one network namespace.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, Nla as _,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, TCP_LISTEN};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::attribution::host::refusal;

/// `INET_DIAG_CGROUP_ID` of the kernel's interface, from 5.8.
const CGROUP_ID: u16 = 21;

/// One socket as the kernel describes it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its cookie, which is never used again.
    pub cookie: u64,
    /// Its cgroup's id; 0: the kernel did not say.
    pub cgroup: u64,
    /// Its inode, by which descriptors name it.
    pub inode: u64,
    /// Whose it is.
    pub uid: u32,
    /// Its own address.
    pub local: SocketAddr,
    /// The other end's.
    pub remote: SocketAddr,
    /// Whether it waits for connections.
    pub listens: bool,
}

/// Enters the namespace at `path`, for good, and dumps it.
pub(super) fn dump_in(path: &Path) -> io::Result<Vec<Row>> {
    let namespace = File::open(path)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    dump(false)
}

/// The TCP sockets of this thread's namespace; all of them, or only listeners.
pub(super) fn dump(only_listeners: bool) -> io::Result<Vec<Row>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddress::new(0, 0))?;
    let mut rows = Vec::new();
    for (family, id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        socket.send(&request(family, id, only_listeners), 0)?;
        receive(&socket, &mut rows)?;
    }
    Ok(rows)
}

fn request(family: u8, socket_id: SocketId, only_listeners: bool) -> Vec<u8> {
    // Sockets in TIME_WAIT and SYN_RECV belong to nobody.
    let states = if only_listeners {
        StateFlags::LISTEN
    } else {
        StateFlags::all() - StateFlags::TIME_WAIT - StateFlags::SYN_RECV - StateFlags::CLOSE
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let body = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states,
        socket_id,
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(body).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn receive(socket: &Socket, rows: &mut Vec<Row>) -> io::Result<()> {
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        if read(&bytes, rows)? {
            return Ok(());
        }
    }
}

/// Reads the messages of one datagram; whether they end the dump.
///
/// # Errors
/// What the kernel refused, or a message that cannot be read; what came before it is kept.
pub fn read(bytes: &[u8], rows: &mut Vec<Row>) -> io::Result<bool> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                rows.push(row(&response));
            }
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => return Err(refusal(&error)),
            _ => {}
        }
        // Messages are aligned to four bytes.
        let length = (message.header.length as usize).next_multiple_of(4);
        if length == 0 {
            break;
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(false)
}

fn row(response: &InetResponse) -> Row {
    let header = &response.header;
    let id = &header.socket_id;
    // Two native words, the low one first.
    let word = |at: usize| {
        let mut word = [0; 4];
        word.copy_from_slice(&id.cookie[at..at + 4]);
        u64::from(u32::from_ne_bytes(word))
    };
    let cgroup = response.nlas.iter().find_map(|attribute| match attribute {
        Nla::Other(other) if other.kind() == CGROUP_ID => {
            let mut value = [0; 8];
            (other.value_len() == value.len()).then(|| {
                other.emit_value(&mut value);
                u64::from_ne_bytes(value)
            })
        }
        _ => None,
    });
    Row {
        cookie: word(0) | word(4) << 32,
        cgroup: cgroup.unwrap_or(0),
        inode: u64::from(header.inode),
        uid: header.uid,
        local: SocketAddr::new(id.source_address.to_canonical(), id.source_port),
        remote: SocketAddr::new(id.destination_address.to_canonical(), id.destination_port),
        listens: header.state == TCP_LISTEN,
    }
}
