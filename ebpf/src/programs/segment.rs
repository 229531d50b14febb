//! From a packet to its TCP segment: where the payload stands, what the header says.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use meshtap_ebpf::event::Endpoint;

const ETHERTYPE_IPV4: u32 = 0x0800u16.to_be() as u32;
const ETHERTYPE_IPV6: u32 = 0x86ddu16.to_be() as u32;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Extension headers of IPv6 that are passed over; more is no TCP for us.
const EXTENSIONS: u32 = 6;

/// FIN of [`Segment::flags`].
pub const FIN: u8 = 1;
/// RST of [`Segment::flags`].
pub const RESET: u8 = 4;

/// A TCP segment's header.
#[derive(Clone, Copy)]
pub struct Segment {
    /// Where the TCP header stands in the packet.
    pub header: u32,
    /// Where the payload stands in the packet.
    pub payload: u32,
    /// Payload bytes.
    pub length: u32,
    /// Sequence number of the first payload byte.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// TCP flags.
    pub flags: u8,
}

/// What a packet is.
pub enum Packet {
    /// TCP with payload, FIN or RST.
    Segment(Segment),
    /// UDP that came from port 53; the place of its payload.
    NameAnswer(u32),
    /// Nothing of interest.
    Other,
}

/// Reads the packet's headers. What cannot be read is [`Packet::Other`].
#[inline(always)]
pub fn read(skb: *mut __sk_buff) -> Packet {
    // SAFETY: the context of the program.
    let ethertype = unsafe { (*skb).protocol };
    if ethertype == ETHERTYPE_IPV4 {
        read_ipv4(skb)
    } else if ethertype == ETHERTYPE_IPV6 {
        read_ipv6(skb)
    } else {
        Packet::Other
    }
}

/// Loads `N` bytes from `offset`.
#[inline(always)]
pub fn load<const N: usize>(skb: *mut __sk_buff, offset: u32) -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    // SAFETY: the destination has `N` bytes.
    let status =
        unsafe { bpf_skb_load_bytes(skb.cast(), offset, bytes.as_mut_ptr().cast(), N as u32) };
    (status == 0).then_some(bytes)
}

#[inline(always)]
fn read_ipv4(skb: *mut __sk_buff) -> Packet {
    // SAFETY: the context of the program.
    let (data, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
    if data + 20 > end {
        return Packet::Other;
    }
    let ip = data as *const u8;
    // SAFETY: twenty bytes were just checked.
    let (first, protocol, fragment) =
        unsafe { (*ip, *ip.add(9), u16::from_be(ip.add(6).cast::<u16>().read_unaligned())) };
    // A later fragment carries no transport header.
    if fragment & 0x1fff != 0 {
        return Packet::Other;
    }
    read_transport(skb, u32::from(first & 15) * 4, protocol)
}

#[inline(always)]
fn read_ipv6(skb: *mut __sk_buff) -> Packet {
    // SAFETY: the context of the program.
    let (data, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
    if data + 40 > end {
        return Packet::Other;
    }
    // SAFETY: forty bytes were just checked.
    let mut next = unsafe { *(data as *const u8).add(6) };
    let mut offset = 40u32;
    let mut count = 0;
    // Hop-by-hop, routing, destination options; fragments are not reassembled here.
    while count < EXTENSIONS && (next == 0 || next == 43 || next == 60) {
        let Some(head) = load::<2>(skb, offset) else { return Packet::Other };
        next = head[0];
        offset += (u32::from(head[1]) + 1) * 8;
        count += 1;
    }
    read_transport(skb, offset, next)
}

#[inline(always)]
fn read_transport(skb: *mut __sk_buff, offset: u32, protocol: u8) -> Packet {
    if protocol == UDP {
        return match load::<2>(skb, offset) {
            Some(port) if u16::from_be_bytes(port) == 53 => Packet::NameAnswer(offset + 8),
            _ => Packet::Other,
        };
    }
    if protocol != TCP {
        return Packet::Other;
    }
    let Some(tcp) = read_header(skb, offset) else { return Packet::Other };
    let payload = offset + u32::from(tcp[12] >> 4) * 4;
    // SAFETY: the context of the program. Its length is right where the IP header's is
    // not (super-packets).
    let length = unsafe { (*skb).len }.wrapping_sub(payload);
    let flags = tcp[13];
    let empty = length == 0 || length > 1 << 20;
    if empty && flags & (FIN | RESET) == 0 {
        return Packet::Other;
    }
    Packet::Segment(Segment {
        header: offset,
        payload,
        length: if empty { 0 } else { length },
        sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
        acknowledgement: u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]),
        flags,
    })
}

/// The first bytes of the TCP header: where they lie at hand, as they nearly always do, they
/// are read in place.
#[inline(always)]
fn read_header(skb: *mut __sk_buff, offset: u32) -> Option<[u8; 16]> {
    // SAFETY: the context of the program.
    let (data, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
    // Sixty bytes of IPv4 header at most; farther headers are loaded.
    if offset <= 60 {
        let header = data + offset as usize;
        if header + 16 <= end {
            // SAFETY: sixteen bytes were just checked.
            return Some(unsafe { (header as *const [u8; 16]).read_unaligned() });
        }
    }
    load::<16>(skb, offset)
}

/// Source and destination of the packet whose TCP header stands at `header`.
#[inline(always)]
pub fn endpoints(skb: *mut __sk_buff, header: u32) -> Option<(Endpoint, Endpoint)> {
    let mut source = Endpoint::default();
    let mut destination = Endpoint::default();
    let ports = load::<4>(skb, header)?;
    source.port = u16::from_be_bytes([ports[0], ports[1]]);
    destination.port = u16::from_be_bytes([ports[2], ports[3]]);
    // SAFETY: the context of the program.
    if unsafe { (*skb).protocol } == ETHERTYPE_IPV6 {
        source.address = load::<16>(skb, 8)?;
        destination.address = load::<16>(skb, 24)?;
    } else {
        source.address = mapped(u32::from_ne_bytes(load::<4>(skb, 12)?));
        destination.address = mapped(u32::from_ne_bytes(load::<4>(skb, 16)?));
    }
    Some((source, destination))
}

/// IPv4, as it stands in memory, as IPv4-mapped IPv6.
#[inline(always)]
pub fn mapped(four: u32) -> [u8; 16] {
    super::opened::words([0, 0, 0xffff_u32.to_be(), four])
}
