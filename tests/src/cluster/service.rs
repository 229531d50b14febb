//! A Service, and the slices of its endpoints.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::names::{suffix, uid};
use super::owner::Owner;
use super::pod::Pod;
use super::store::{Key, Resource};

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Empty where it is the only one.
    pub name: String,
    /// Of the Service.
    pub number: u16,
    /// Of the pods.
    pub target: u16,
    /// Of the nodes.
    pub node: Option<u16>,
}

/// A Service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Its own labels.
    pub labels: BTreeMap<String, String>,
    /// Which pods; empty: none, somebody else makes the slices.
    pub selector: BTreeMap<String, String>,
    /// Addresses, of each family at most one; none: headless.
    pub addresses: Vec<IpAddr>,
    /// `externalIPs`.
    pub external: Vec<IpAddr>,
    /// Addresses of a load balancer.
    pub balancer: Vec<IpAddr>,
    /// Of an `ExternalName`; empty: it is none.
    pub alias: String,
    /// Ports.
    pub ports: Vec<Port>,
}

impl Service {
    /// One without addresses, which is headless, for pods whose label `app` is its name.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid(),
            labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
            selector: BTreeMap::from([("app".to_owned(), name.to_owned())]),
            addresses: Vec::new(),
            external: Vec::new(),
            balancer: Vec::new(),
            alias: String::new(),
            ports: Vec::new(),
        }
    }

    /// With an address more.
    #[must_use]
    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// With a port more, whose name says what is spoken: `http`, `grpc`.
    #[must_use]
    pub fn port(mut self, name: &str, number: u16, target: u16) -> Self {
        self.ports.push(Port { name: name.to_owned(), number, target, node: None });
        self
    }

    /// Its last port on every node, too.
    #[must_use]
    pub fn node_port(mut self, number: u16) -> Self {
        if let Some(port) = self.ports.last_mut() {
            port.node = Some(number);
        }
        self
    }

    /// Its full name.
    #[must_use]
    pub fn host(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.name, self.namespace)
    }

    /// What names it.
    #[must_use]
    pub fn key(&self) -> Key {
        let (namespace, name) = (self.namespace.clone(), self.name.clone());
        Key { resource: Resource::Services, namespace, name }
    }

    fn kind(&self) -> &'static str {
        if !self.alias.is_empty() {
            "ExternalName"
        } else if !self.balancer.is_empty() {
            "LoadBalancer"
        } else if self.ports.iter().any(|port| port.node.is_some()) {
            "NodePort"
        } else {
            "ClusterIP"
        }
    }

    /// As the API server has it.
    #[must_use]
    pub fn object(&self) -> Value {
        let mut spec = json!({
            "type": self.kind(), "sessionAffinity": "None", "ports": self.ports_object()
        });
        if self.alias.is_empty() {
            let mut addresses: Vec<String> =
                self.addresses.iter().map(ToString::to_string).collect();
            if addresses.is_empty() {
                addresses.push("None".to_owned());
            }
            spec["clusterIP"] = addresses[0].as_str().into();
            spec["clusterIPs"] = addresses.into();
            spec["internalTrafficPolicy"] = "Cluster".into();
            spec["ipFamilyPolicy"] =
                if self.addresses.len() > 1 { "RequireDualStack" } else { "SingleStack" }.into();
            let families: Vec<&str> = self.addresses.iter().map(|ip| family(*ip)).collect();
            spec["ipFamilies"] = if families.is_empty() { vec!["IPv4"] } else { families }.into();
        } else {
            spec["externalName"] = self.alias.as_str().into();
        }
        if !self.selector.is_empty() {
            spec["selector"] = json!(self.selector);
        }
        if !self.external.is_empty() {
            spec["externalIPs"] = json!(self.external);
        }
        let ingress: Vec<Value> =
            self.balancer.iter().map(|ip| json!({ "ip": ip, "ipMode": "VIP" })).collect();
        let balancer = if ingress.is_empty() { json!({}) } else { json!({ "ingress": ingress }) };
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": self.name, "namespace": self.namespace, "uid": self.uid,
                "labels": self.labels
            },
            "spec": spec,
            "status": { "loadBalancer": balancer }
        })
    }

    fn ports_object(&self) -> Vec<Value> {
        let object = |port: &Port| {
            let mut object = json!({
                "port": port.number, "targetPort": port.target, "protocol": "TCP"
            });
            if !port.name.is_empty() {
                object["name"] = port.name.as_str().into();
            }
            if let Some(node) = port.node {
                object["nodePort"] = node.into();
            }
            object
        };
        self.ports.iter().map(object).collect()
    }
}

/// Endpoints of a Service in one family of addresses.
#[derive(Clone, Debug)]
pub struct EndpointSlice {
    /// Name.
    pub name: String,
    service: Service,
    is_v6: bool,
    /// The pods, and whether each is ready.
    pub pods: Vec<(Pod, bool)>,
}

impl EndpointSlice {
    /// Of a Service, with those addresses of its pods that are IPv6, or those that are not.
    #[must_use]
    pub fn new(service: &Service, is_v6: bool, pods: &[Pod]) -> Self {
        let name = format!("{}-{}", service.name, suffix(5));
        let pods = pods.iter().map(|pod| (pod.clone(), true)).collect();
        Self { name, service: service.clone(), is_v6, pods }
    }

    /// What names it.
    #[must_use]
    pub fn key(&self) -> Key {
        let (namespace, name) = (self.service.namespace.clone(), self.name.clone());
        Key { resource: Resource::EndpointSlices, namespace, name }
    }

    /// As the API server has it.
    #[must_use]
    pub fn object(&self) -> Value {
        let service = &self.service;
        let mut owner = Owner::new("v1", "Service", &service.name);
        owner.uid.clone_from(&service.uid);
        let endpoints: Vec<Value> = self.pods.iter().filter_map(|pod| self.endpoint(pod)).collect();
        let ports: Vec<Value> = service
            .ports
            .iter()
            .map(|port| json!({ "name": port.name, "port": port.target, "protocol": "TCP" }))
            .collect();
        let mut labels = service.labels.clone();
        let manager = "endpointslice-controller.k8s.io";
        labels.insert("endpointslice.kubernetes.io/managed-by".to_owned(), manager.to_owned());
        labels.insert("kubernetes.io/service-name".to_owned(), service.name.clone());
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": self.name,
                "generateName": format!("{}-", service.name),
                "namespace": service.namespace,
                "labels": labels,
                "ownerReferences": [owner.object()]
            },
            "addressType": if self.is_v6 { "IPv6" } else { "IPv4" },
            "endpoints": endpoints,
            "ports": ports
        })
    }

    fn endpoint(&self, (pod, is_ready): &(Pod, bool)) -> Option<Value> {
        let own = if pod.host_network { std::slice::from_ref(&pod.host) } else { &pod.addresses };
        let address = own.iter().find(|address| address.is_ipv6() == self.is_v6)?;
        Some(json!({
            "addresses": [address.to_string()],
            "conditions": {
                "ready": is_ready, "serving": is_ready, "terminating": pod.is_terminating
            },
            "nodeName": pod.node,
            "targetRef": {
                "kind": "Pod", "name": pod.name, "namespace": pod.namespace, "uid": pod.uid
            }
        }))
    }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv6() { "IPv6" } else { "IPv4" }
}
