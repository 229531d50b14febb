//! Programs that others wrote, as servers, proxies, clients and load, each on a port of its own.

pub mod apache;
pub mod haproxy;
pub mod load;
pub mod nginx;
pub mod program;

pub use apache::Apache;
pub use haproxy::Haproxy;
pub use load::{Load, ab, curl, h2load, wrk};
pub use nginx::Nginx;
pub use program::{Keeper, Language, Server};
