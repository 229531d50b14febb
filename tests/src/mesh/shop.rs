//! [`Shop`]: buyers that call a cart, through one of the meshes or none. What the
//! laboratory's tests and its command have in common.

use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::ambient::{USE_WAYPOINT, Ztunnel};
use super::lab::{Lab, authority};
use super::relay::Relay;
use super::sandbox::Sandbox;
use super::sidecar::{Guise, Sidecar};
use super::{ambient, istio, linkerd};
use crate::cluster::{Driver, Pod, Role, Service};
use crate::netns::Place;
use crate::process::{free_port, output};
use crate::requirement::program;
use crate::workload::{Cart, Grpc, Nginx, load};

/// What lies between a client and a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mesh {
    /// Nothing.
    None,
    /// A sidecar of Istio on either side.
    Istio,
    /// One for all pods of the node, as ztunnel of Istio's ambient mode.
    Ambient,
    /// The same, with a waypoint of the servers.
    Waypoint,
    /// A proxy as Linkerd's on either side.
    Linkerd,
    /// Envoy on either side that is no mesh's which the agent knows, without encryption.
    Other,
}

impl Mesh {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::None, Self::Istio, Self::Ambient, Self::Waypoint, Self::Linkerd];
}

/// Namespace of all of it.
pub const NAMESPACE: &str = "shop";
/// The clients' Deployment and account.
pub const BUYER: &str = "buyer";
/// The servers' Deployment, account and Service.
pub const CART: &str = "cart";
/// The Service's port for HTTP.
pub const HTTP: u16 = 80;
/// The Service's port for gRPC.
pub const GRPC: u16 = 90;

/// What the servers answer besides what [`Nginx`] does: how the request came, metrics, and
/// 503 to every first attempt.
const LINES: &str = r#"
location = /seen {
    return 200 "$remote_addr|$http_x_forwarded_client_cert|$http_x_envoy_attempt_count|$http_x_request_id|$http_l5d_client_id";
}
location = /metrics { return 200 "up 1\n"; }
location = /flaky {
    if ($http_x_envoy_attempt_count = "1") { return 503; }
    return 200 "at last\n";
}
"#;

/// How a request arrived at the application; empty is what it did not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The other end of the connection.
    pub address: String,
    /// `x-forwarded-client-cert`
    pub certificate: String,
    /// `x-envoy-attempt-count`
    pub attempt: String,
    /// `x-request-id`
    pub request: String,
    /// `l5d-client-id`
    pub client: String,
}

/// Buyers and carts, in the order in which they are taken down.
#[derive(Debug)]
pub struct Shop {
    /// The servers' sidecars, in the order of `servers`, or their waypoint.
    pub inbound: Vec<Sidecar>,
    /// The clients' sidecars, likewise.
    pub outbound: Vec<Sidecar>,
    /// The ztunnel, where there is one.
    pub ztunnel: Option<Ztunnel>,
    /// Linkerd's proxies, those of the servers first.
    pub relays: Vec<Relay>,
    /// The application for HTTP in each of the servers.
    pub nginx: Vec<Nginx>,
    /// The application for gRPC in each of them; none where there is no Go.
    pub grpc: Vec<Cart>,
    /// In front of all of them.
    pub service: Service,
    /// The waypoint's pod, where there is one.
    pub waypoint: Option<Sandbox>,
    /// Pods of the cart.
    pub servers: Vec<Sandbox>,
    /// Pods of the buyer.
    pub clients: Vec<Sandbox>,
    /// Where they are.
    pub lab: Lab,
}

impl Shop {
    /// Why there can be none of this kind; `None`: there can.
    #[must_use]
    pub fn missing(mesh: Mesh) -> Option<String> {
        let needed = ["nginx", "curl", "h2load"];
        let absent: Vec<&str> = needed.into_iter().filter(|name| program(name).is_none()).collect();
        if !absent.is_empty() {
            return Some(format!("not installed: {}", absent.join(", ")));
        }
        match mesh {
            Mesh::Istio | Mesh::Waypoint | Mesh::Other => Sidecar::missing(),
            Mesh::None | Mesh::Ambient | Mesh::Linkerd => Lab::missing(),
        }
    }

    /// Opens one with so many servers and clients.
    pub fn open(mesh: Mesh, servers: usize, clients: usize, driver: Driver) -> Result<Self> {
        let lab = Lab::start(driver)?;
        let ports = [free_port(), free_port()];
        let mut service =
            Service::new(NAMESPACE, CART).port("http", HTTP, ports[0]).port("grpc", GRPC, ports[1]);
        if mesh == Mesh::Waypoint {
            service.labels.insert(USE_WAYPOINT.to_owned(), "waypoint".to_owned());
        }
        let mut shop = Self {
            inbound: Vec::new(),
            outbound: Vec::new(),
            ztunnel: None,
            waypoint: None,
            relays: Vec::new(),
            nginx: Vec::new(),
            grpc: Vec::new(),
            service,
            servers: Vec::new(),
            clients: Vec::new(),
            lab,
        };
        for _ in 0..servers {
            shop.add_server(mesh, ports)?;
        }
        let behind: Vec<&Sandbox> = shop.servers.iter().collect();
        shop.service = shop.lab.serve(shop.service.clone(), &behind)?;
        for _ in 0..clients {
            shop.add_client(mesh, BUYER)?;
        }
        if mesh == Mesh::Waypoint {
            let waypoint = shop.lab.run(ambient::waypoint(NAMESPACE))?;
            shop.inbound.push(Sidecar::waypoint(&shop.lab, &waypoint, &shop.service)?);
            shop.waypoint = Some(waypoint);
        }
        if matches!(mesh, Mesh::Ambient | Mesh::Waypoint) {
            let pods: Vec<&Sandbox> = shop.servers.iter().chain(&shop.clients).collect();
            shop.ztunnel = Some(Ztunnel::start(&shop.lab, &pods, shop.waypoint.as_ref())?);
        }
        Ok(shop)
    }

    fn add_server(&mut self, mesh: Mesh, ports: [u16; 2]) -> Result<()> {
        let server = self.lab.run(pod(mesh, CART))?;
        let place = server.place("app")?;
        self.nginx.push(Nginx::start_at(place, ports[0], LINES)?);
        if Grpc::Go.missing().is_none() {
            self.grpc.push(Cart::start_at(Grpc::Go, place, ports[1], &[])?);
        }
        match mesh {
            Mesh::Istio | Mesh::Other => {
                let guise = guise(mesh);
                self.inbound.push(Sidecar::start(&self.lab, &server, guise, &ports)?);
            }
            Mesh::Linkerd => self.relays.push(linkerd::start(&self.lab, &server)?),
            Mesh::None | Mesh::Ambient | Mesh::Waypoint => {}
        }
        self.servers.push(server);
        Ok(())
    }

    /// One more client, of the Deployment and account of this name, behind the others.
    pub fn add_client(&mut self, mesh: Mesh, name: &str) -> Result<()> {
        let client = self.lab.run(pod(mesh, name))?;
        match mesh {
            Mesh::Istio | Mesh::Other => {
                self.outbound.push(Sidecar::start(&self.lab, &client, guise(mesh), &[])?);
            }
            Mesh::Linkerd => self.relays.push(linkerd::start(&self.lab, &client)?),
            Mesh::None | Mesh::Ambient | Mesh::Waypoint => {}
        }
        self.clients.push(client);
        Ok(())
    }

    /// A further client that has nothing to do with the mesh.
    pub fn stranger(&self, name: &str) -> Result<Sandbox> {
        self.lab.run(pod(Mesh::None, name))
    }

    /// Where the application of a client runs.
    pub fn client(&self, number: usize) -> Result<Place<'_>> {
        self.clients.get(number).context("there is no such client")?.place("app")
    }

    /// Address of the Service, with [`HTTP`] or [`GRPC`].
    pub fn address(&self, port: u16) -> Result<String> {
        let first: &IpAddr = self.service.addresses.first().context("it is headless")?;
        Ok(authority(*first, port))
    }

    /// The applications' port for HTTP.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.nginx.first().map_or(0, Nginx::port)
    }

    /// Calls a path once by curl, from some place, and gives the body.
    pub fn ask(&self, place: Place<'_>, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", self.address(HTTP)?);
        output(load::curl_in(place)?.arg("--fail").arg(url))
    }

    /// Calls a path by curl, from some place, once for each row of headers, up to `at_once`
    /// at a time.
    pub fn ask_each(
        &self,
        place: Place<'_>,
        path: &str,
        rows: &[Vec<String>],
        at_once: usize,
    ) -> Result<()> {
        let url = format!("http://{}{path}", self.address(HTTP)?);
        let mut orders = format!("parallel-max = {at_once}\n");
        if at_once > 1 {
            orders.push_str("parallel\n");
        }
        let sections: Vec<String> = rows
            .iter()
            .map(|headers| {
                let headers: String =
                    headers.iter().map(|header| format!("header = \"{header}\"\n")).collect();
                format!("url = \"{url}\"\noutput = \"/dev/null\"\n{headers}")
            })
            .collect();
        orders.push_str(&sections.join("next\nsilent\nnoproxy = \"*\"\n"));
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), orders)?;
        output(load::curl_in(place)?.arg("-K").arg(file.path()))?;
        Ok(())
    }

    /// How a request from some place arrives.
    pub fn seen(&self, place: Place<'_>) -> Result<Seen> {
        self.seen_by(place, &self.address(HTTP)?)
    }

    /// How a request from some place to an address arrives.
    pub fn seen_by(&self, place: Place<'_>, address: &str) -> Result<Seen> {
        let url = format!("http://{address}/seen");
        let body = output(load::curl_in(place)?.args(["--fail", "-g"]).arg(url))?;
        let mut parts = body.split('|').map(str::to_owned);
        let mut next = || parts.next().with_context(|| format!("not as it was sent: {body}"));
        Ok(Seen {
            address: next()?,
            certificate: next()?,
            attempt: next()?,
            request: next()?,
            client: next()?,
        })
    }

    /// Asks a server's application for a path the way Istio's agent does it for the kubelet:
    /// from the sidecar's container, as the sidecar's user, from its address.
    pub fn probe(&self, server: usize, path: &str) -> Result<String> {
        let own = self.servers.get(server).context("there is no such server")?.address(false)?;
        let mut command = self.beside(server)?;
        command.args(["--interface", "127.0.0.6"]);
        output(command.arg(format!("http://{}{path}", authority(own, self.port()))))
    }

    /// Asks a server's application for its metrics the way Istio's agent does it, to tell them
    /// together with the sidecar's: from the sidecar's container, by the loopback.
    pub fn scrape(&self, server: usize) -> Result<String> {
        let mut command = self.beside(server)?;
        command.args(["-H", "Accept: application/openmetrics-text;version=1.0.0"]);
        command.args(["-H", "X-Prometheus-Scrape-Timeout-Seconds: 10"]);
        output(command.arg(format!("http://localhost:{}/metrics", self.port())))
    }

    /// curl in the sidecar's container of a server, as the sidecar's user.
    fn beside(&self, server: usize) -> Result<Command> {
        let server = self.servers.get(server).context("there is no such server")?;
        let mut command = server.place(istio::CONTAINER)?.inside("setpriv")?;
        command.arg(format!("--reuid={}", istio::USER)).arg(format!("--regid={}", istio::USER));
        command.args(["--clear-groups", "--"]).arg(program("curl").context("no curl")?);
        command.args(["-q", "-sS", "--fail", "--noproxy", "*"]);
        Ok(command)
    }

    /// What all servers logged of a path, by status.
    pub fn served(&self, path: &str, status: u16) -> Result<u64> {
        let mut sum = 0;
        for nginx in &self.nginx {
            sum += nginx.ledger()?.count("GET", path, Some(status));
        }
        Ok(sum)
    }
}

fn guise(mesh: Mesh) -> Guise {
    if mesh == Mesh::Other { Guise::OTHER } else { Guise::ISTIO }
}

fn pod(mesh: Mesh, name: &str) -> Pod {
    let pod = Pod::of_deployment(NAMESPACE, name).account(name);
    match mesh {
        Mesh::None => pod,
        Mesh::Istio => istio::injected(pod, true),
        Mesh::Ambient | Mesh::Waypoint => ambient::enrolled(pod),
        Mesh::Linkerd => linkerd::injected(pod),
        Mesh::Other => pod.with(Guise::OTHER.container, Role::Sidecar),
    }
}
