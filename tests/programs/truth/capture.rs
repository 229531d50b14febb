//! What tcpdump saw of one wire, as requests and answers with the times of their bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use etherparse::{SlicedPacket, TransportSlice};
use meshtap_tests::netns::{Netns, Place};
use meshtap_tests::process::{PATIENCE, Running};
use pcap_parser::traits::PcapReaderIterator as _;
use pcap_parser::{LegacyPcapReader, PcapBlockOwned, PcapError};
use rustix::process::Signal;

/// One request and its answer: nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    pub asked: u64,
    pub first: u64,
    pub last: u64,
}

/// A capture under way.
#[derive(Debug)]
pub struct Capture {
    running: Running,
    file: tempfile::NamedTempFile,
    port: u16,
}

/// Bytes of one direction of a connection, and when each packet of them passed.
#[derive(Debug, Default)]
struct Stream {
    bytes: Vec<u8>,
    /// Where in the bytes a packet begins, and when it passed.
    packets: Vec<(usize, u64)>,
    /// The sequence number of the first byte.
    begin: Option<u32>,
    /// What passed, by its place, until it is put together.
    pieces: BTreeMap<u32, (u64, Vec<u8>)>,
}

/// A connection: what its client and its server sent.
#[derive(Debug, Default)]
struct Connection {
    client: Stream,
    server: Stream,
}

impl Capture {
    /// Captures whatever passes `eth0` from or to `port`.
    pub fn start(netns: &Netns, port: u16) -> Result<Self> {
        let file = tempfile::NamedTempFile::new()?;
        let mut command = Place::netns(netns).inside("tcpdump")?;
        command.args(["-i", "eth0", "-n", "-Z", "root", "-B", "65536", "-s", "0", "-w"]);
        command.arg(file.path()).arg("--time-stamp-precision=nano");
        command.arg(format!("tcp port {port}"));
        let mut running = Running::start(&mut command)?;
        running.wait_for_text("listening on")?;
        Ok(Self { running, file, port })
    }

    /// Ends it and gives the exchanges of each connection by the client's port, in order.
    pub fn finish(mut self) -> Result<BTreeMap<u16, Vec<Exchange>>> {
        // What passed last is with tcpdump a moment later.
        std::thread::sleep(Duration::from_secs(2));
        self.running.signal(Signal::INT)?;
        let told = self.running.succeed(PATIENCE)?;
        let dropped = told.lines().find(|line| line.contains("dropped by kernel"));
        ensure!(dropped.is_some_and(|line| line.starts_with("0 ")), "packets are missing: {told}");
        let mut exchanges = BTreeMap::new();
        for (port, mut connection) in read(&self.file, self.port)? {
            connection.client.assemble()?;
            connection.server.assemble()?;
            exchanges.insert(port, connection.exchanges()?);
        }
        Ok(exchanges)
    }
}

fn read(file: &tempfile::NamedTempFile, port: u16) -> Result<BTreeMap<u16, Connection>> {
    let mut connections: BTreeMap<u16, Connection> = BTreeMap::new();
    let mut reader = LegacyPcapReader::new(1 << 20, File::open(file.path())?)
        .map_err(|error| anyhow::anyhow!("not a capture: {error}"))?;
    let mut unit = 1_000;
    loop {
        match reader.next() {
            Ok((length, block)) => {
                match block {
                    PcapBlockOwned::LegacyHeader(header) if header.is_nanosecond_precision() => {
                        unit = 1;
                    }
                    PcapBlockOwned::Legacy(block) => {
                        let time = u64::from(block.ts_sec) * 1_000_000_000;
                        let time = time + u64::from(block.ts_usec) * unit;
                        note(&mut connections, block.data, time, port)?;
                    }
                    _ => {}
                }
                reader.consume(length);
            }
            Err(PcapError::Eof) => return Ok(connections),
            Err(PcapError::Incomplete(_)) => {
                reader.refill().map_err(|error| anyhow::anyhow!("{error}"))?;
            }
            Err(error) => bail!("the capture cannot be read: {error}"),
        }
    }
}

fn note(
    connections: &mut BTreeMap<u16, Connection>,
    data: &[u8],
    time: u64,
    port: u16,
) -> Result<()> {
    let packet = SlicedPacket::from_ethernet(data)?;
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else { return Ok(()) };
    let from_client = tcp.destination_port() == port;
    let client = if from_client { tcp.source_port() } else { tcp.destination_port() };
    let connection = connections.entry(client).or_default();
    let stream = if from_client { &mut connection.client } else { &mut connection.server };
    if tcp.syn() {
        stream.begin = Some(tcp.sequence_number().wrapping_add(1));
    } else if !tcp.payload().is_empty() {
        let begin = stream.begin.context("a connection without its beginning")?;
        let place = tcp.sequence_number().wrapping_sub(begin);
        // What is sent again passed before.
        stream.pieces.entry(place).or_insert_with(|| (time, tcp.payload().to_vec()));
    }
    Ok(())
}

impl Stream {
    /// Puts the pieces together: two processors may have captured them out of their order.
    fn assemble(&mut self) -> Result<()> {
        for (place, (time, piece)) in std::mem::take(&mut self.pieces) {
            let known = self.bytes.len() - usize::try_from(place)?.min(self.bytes.len());
            ensure!(self.bytes.len() >= usize::try_from(place)?, "a hole in a connection");
            let Some(more) = piece.get(known..).filter(|more| !more.is_empty()) else { continue };
            self.packets.push((self.bytes.len(), time));
            self.bytes.extend_from_slice(more);
        }
        Ok(())
    }

    /// When the byte at that place passed.
    fn time(&self, place: usize) -> Option<u64> {
        let after = self.packets.partition_point(|(begin, _)| *begin <= place);
        self.packets.get(after.checked_sub(1)?).map(|(_, time)| *time)
    }

    /// Frames of HTTP/2 from `place` on: where each begins and ends, its kind, its flags.
    fn frames(&self, place: usize) -> Vec<(usize, usize, u8, u8)> {
        let mut frames = Vec::new();
        let mut begin = place;
        while let Some([a, b, c, kind, flags, ..]) = self.bytes.get(begin..begin + 9) {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            frames.push((begin, begin + 9 + length, *kind, *flags));
            begin += 9 + length;
        }
        frames
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Connection {
    /// One after the other: the client asks when it has the answer to what it asked before.
    fn exchanges(&self) -> Result<Vec<Exchange>> {
        if self.client.bytes.starts_with(PREFACE) { self.by_frames() } else { self.by_turns() }
    }

    /// HTTP/1: whatever one end sends until the other one does is a message.
    fn by_turns(&self) -> Result<Vec<Exchange>> {
        let mut exchanges: Vec<Exchange> = Vec::new();
        let mut answers = self.server.packets.iter().map(|(_, time)| *time).peekable();
        let mut requests = self.client.packets.iter().map(|(_, time)| *time).peekable();
        while let Some(asked) = requests.next() {
            let first = answers.peek().copied().context("a request without an answer")?;
            // A request in several packets has only one answer.
            while requests.next_if(|time| *time < first).is_some() {}
            let end = requests.peek().copied().unwrap_or(u64::MAX);
            let mut last = first;
            while let Some(time) = answers.next_if(|time| *time < end) {
                last = time;
            }
            exchanges.push(Exchange { asked, first, last });
        }
        Ok(exchanges)
    }

    /// HTTP/2: a block of headers each way, and the frame that ends the stream.
    fn by_frames(&self) -> Result<Vec<Exchange>> {
        const HEADERS: u8 = 1;
        const END_STREAM: u8 = 1;
        let requests = self.client.frames(PREFACE.len());
        let requests = requests.iter().filter(|(.., kind, _)| *kind == HEADERS);
        // Of other frames none has anything to do with a call's bytes.
        let answers = self.server.frames(0).into_iter().filter(|(.., kind, _)| *kind <= HEADERS);
        let mut answers = answers.collect::<Vec<_>>().into_iter();
        let mut exchanges = Vec::new();
        for (begin, ..) in requests {
            let asked = self.client.time(*begin).context("a byte without a packet")?;
            let mut first = None;
            let last = loop {
                let (begin, end, _, flags) = answers.next().context("no answer")?;
                first = first.or(self.server.time(begin));
                if flags & END_STREAM != 0 {
                    break self.server.time(end - 1).context("a byte without a packet")?;
                }
            };
            exchanges.push(Exchange { asked, first: first.context("no first byte")?, last });
        }
        Ok(exchanges)
    }
}
