//! Who calls whom, and the caller's or the server's own record of it.

use anyhow::{Result, bail};
use meshtap_tests::books::Kind;
use meshtap_tests::ledger::Ledger;
use meshtap_tests::netns::Place;
use meshtap_tests::requirement::program;
use meshtap_tests::workload::grpc::ledger;
use meshtap_tests::workload::{Cart, Grpc, Nginx, h2load, h2load_streams, h2load_with, shop};

/// What nginx is asked for: each path has a status of its own.
const PATHS: [&str; 5] = ["/ok", "/nothing", "/broken", "/moved", "/empty"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// h2load and nginx, which logs.
    Http1,
    /// The same over HTTP/2.
    Http2,
    /// grpc-go, whose client counts.
    Grpc,
}

impl Load {
    pub const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::Grpc];

    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "http/2",
            Self::Grpc => "grpc",
        }
    }

    /// Why it cannot be had here; `None`: it can.
    pub fn missing(self) -> Option<String> {
        if self == Self::Grpc {
            return Grpc::Go.missing();
        }
        let absent = ["nginx", "h2load"].into_iter().find(|name| program(name).is_none())?;
        Some(format!("{absent} is not installed"))
    }

    /// Which metrics count it.
    pub fn kind(self) -> Kind {
        if self == Self::Grpc { Kind::Rpc } else { Kind::Http }
    }

    /// What the caller is called.
    pub fn client(self) -> &'static str {
        if self == Self::Grpc { Grpc::Go.client_name() } else { "h2load" }
    }
}

/// A server under way.
#[derive(Debug)]
pub enum Speaker {
    Http1(Nginx),
    Http2(Nginx),
    Grpc(Cart),
}

impl Speaker {
    pub fn start(load: Load, place: Place<'_>) -> Result<Self> {
        Ok(match load {
            Load::Http1 => Self::Http1(Nginx::start_in(place, 1, "")?),
            Load::Http2 => Self::Http2(Nginx::http2_in(place, "")?),
            Load::Grpc => Self::Grpc(Cart::start_in(Grpc::Go, place, &[])?),
        })
    }

    /// nginx on a port that is known to be free there, with further lines of its `server` block.
    pub fn start_at(load: Load, place: Place<'_>, port: u16, lines: &str) -> Result<Self> {
        Ok(match load {
            Load::Http1 => Self::Http1(Nginx::start_at(place, port, lines)?),
            Load::Http2 => Self::Http2(Nginx::http2_at(place, port, lines)?),
            Load::Grpc => bail!("gRPC is not spoken by nginx"),
        })
    }

    /// nginx, where it is that.
    pub fn nginx(&self) -> Result<&Nginx> {
        match self {
            Self::Http1(nginx) | Self::Http2(nginx) => Ok(nginx),
            Self::Grpc(_) => bail!("not nginx"),
        }
    }

    /// Calls like those of [`Speaker::call`] at a pace: so many a second on each connection.
    pub fn call_at_pace(&self, place: Place<'_>, calls: u64, pace: u32) -> Result<()> {
        let address = format!("127.0.0.1:{}", self.port());
        let mut arguments = vec![format!("--rps={pace}"), "-c8".to_owned()];
        match self {
            Self::Http1(_) => arguments.push("--h1".to_owned()),
            Self::Http2(_) => arguments.push("-m16".to_owned()),
            Self::Grpc(_) => bail!("not nginx"),
        }
        // At a pace h2load does not go on where the server closes, as behind a 500.
        let paths: Vec<&str> = PATHS.into_iter().filter(|path| *path != "/broken").collect();
        h2load_with(place, &address, &paths, &arguments, calls).map(drop)
    }

    pub fn port(&self) -> u16 {
        match self {
            Self::Http1(nginx) | Self::Http2(nginx) => nginx.port(),
            Self::Grpc(cart) => cart.port(),
        }
    }

    /// Makes exactly `calls` calls, and gives the record of them.
    pub fn call(
        &self,
        place: Place<'_>,
        address: &str,
        calls: u64,
        hands: (u32, u32),
    ) -> Result<Ledger> {
        match self {
            Self::Http1(nginx) => {
                h2load(place, address, &PATHS, hands.0, calls)?;
                nginx.ledger()
            }
            Self::Http2(nginx) => {
                h2load_streams(place, address, &PATHS, hands, calls)?;
                nginx.ledger()
            }
            Self::Grpc(_) => Ok(ledger(&shop(place, address, calls, hands)?).without_messages()),
        }
    }
}
