//! The laboratory without a cluster: network namespaces as pods, cgroups as kubelet lays them
//! out, address translation as kube-proxy makes it, and the proxies of meshes in front of it.
//!
//! What [`Lab`] makes on the host is taken away when it is dropped, and what one that did not
//! end well left behind when the next one begins.

pub mod ambient;
pub mod certificates;
mod firewall;
mod host;
pub mod istio;
pub mod lab;
pub mod linkerd;
pub mod relay;
pub mod sandbox;
pub mod shop;
pub mod sidecar;
mod sweep;
mod translation;

pub use certificates::{Authority, Credentials};
pub use lab::Lab;
pub use sandbox::Sandbox;
pub use shop::{Mesh, Shop};
pub use sidecar::Sidecar;

#[cfg(test)]
mod tests;
