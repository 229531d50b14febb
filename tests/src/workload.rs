//! Programs that others wrote, as servers, proxies, clients and load, each on a port of its own.

pub mod apache;
pub mod connect;
pub mod envoy;
pub mod grpc;
pub mod haproxy;
pub mod load;
pub mod nghttpd;
pub mod nginx;
pub mod program;
pub mod shopping;

pub use apache::Apache;
pub use connect::{Connect, connect_buyer};
pub use envoy::Envoy;
pub use grpc::{Cart, Grpc};
pub use haproxy::Haproxy;
pub use load::{Load, ab, curl, h2load, h2load_streams, h2load_with, wrk};
pub use nghttpd::Nghttpd;
pub use nginx::Nginx;
pub use program::{Keeper, Language, Server};
pub use shopping::{Shopping, shop};
