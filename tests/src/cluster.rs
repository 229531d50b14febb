//! A cluster as Kubernetes tells of it, without one: an API server that answers from what a
//! test says there is ([`Api`]), and objects that look real ([`Pod`], [`Service`], [`Node`], …).

mod answer;
pub mod api;
mod ask;
mod container;
pub mod kubelet;
mod names;
mod node;
mod owner;
mod pod;
mod service;
mod status;
mod store;
mod watch;

pub use api::Api;
pub use ask::{Asked, Verb};
pub use container::{Container, Role};
pub use kubelet::{Driver, Quality, Runtime};
pub use names::Marked;
pub use node::Node;
pub use owner::Owner;
pub use pod::Pod;
pub use service::{EndpointSlice, Port, Service};
pub use store::{Key, Resource};

#[cfg(test)]
mod tests;
