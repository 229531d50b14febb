//! A workload's identity as OpenTelemetry resource attributes, the same for all signals.

use std::path::Path;
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::common::v1::{self as common, any_value};
use opentelemetry_proto::tonic::resource::v1 as proto;

use crate::attribution::Identity;

/// The version of the semantic conventions that all names come from.
pub(crate) const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.45.0";

/// The host, for what its workloads do not say themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `host.name`.
    pub name: Arc<str>,
    /// `host.id`, if it has one: tells equal workloads on different hosts apart.
    pub id: Option<Arc<str>>,
}

impl Host {
    /// This host, from the kernel's host name and the machine id. An agent in a container has
    /// the host's files below the first process of the host's `proc`.
    #[must_use]
    pub fn read(proc: &Path) -> Self {
        let text = |path: &Path| std::fs::read_to_string(path).ok();
        let line = |text: String| Arc::from(text.trim());
        Self {
            name: text(Path::new("/proc/sys/kernel/hostname"))
                .map_or_else(|| Arc::from("unknown"), line),
            id: text(&proc.join("1/root/etc/machine-id"))
                .or_else(|| text(Path::new("/etc/machine-id")))
                .map(line)
                .filter(|id: &Arc<str>| !id.is_empty()),
        }
    }
}

/// Attributes by name; each name once.
pub type Attributes = Vec<(&'static str, Arc<str>)>;

/// The resource of a workload; of the agent itself where there is no identity.
#[must_use]
pub fn attributes(identity: Option<&Identity>, host: &Host) -> Attributes {
    let mut attributes = match identity {
        Some(identity) => workload(identity),
        None => vec![
            ("service.name", Arc::from("meshtap")),
            ("service.version", Arc::from(env!("CARGO_PKG_VERSION"))),
        ],
    };
    add(&mut attributes, "host.name", || Some(Arc::clone(&host.name)));
    add(&mut attributes, "host.id", || host.id.clone());
    let instance = instance_id(&attributes);
    add(&mut attributes, "service.instance.id", || Some(instance.into()));
    add(&mut attributes, "telemetry.distro.name", || Some(Arc::from("meshtap")));
    add(&mut attributes, "telemetry.distro.version", || Some(Arc::from(env!("CARGO_PKG_VERSION"))));
    attributes
}

fn workload(identity: &Identity) -> Attributes {
    let mut attributes = vec![("service.name", Arc::clone(&identity.name))];
    if !identity.namespace.is_empty() {
        attributes.push(("service.namespace", Arc::clone(&identity.namespace)));
    }
    for (name, value) in &identity.attributes {
        add(&mut attributes, name, || Some(Arc::clone(value)));
    }
    attributes
}

/// Adds what is not said yet.
fn add(attributes: &mut Attributes, name: &'static str, value: impl FnOnce() -> Option<Arc<str>>) {
    if attributes.iter().all(|(known, _)| *known != name)
        && let Some(value) = value()
    {
        attributes.push((name, value));
    }
}

/// A `service.instance.id` that equal attributes always give again, as a UUID of version 8
/// over FNV-1a: no secret, no clock, so it survives the agent's restart.
#[must_use]
pub fn instance_id(attributes: &Attributes) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut sorted: Vec<_> = attributes.iter().collect();
    sorted.sort();
    let mut hash = OFFSET;
    for (name, value) in sorted {
        for byte in name.bytes().chain([0]).chain(value.bytes()).chain([0]) {
            hash = (hash ^ u128::from(byte)).wrapping_mul(PRIME);
        }
    }
    let versioned = hash & !(0xf << 76) | 0x8 << 76;
    let variant = versioned & !(0x3 << 62) | 0x2 << 62;
    let hex = format!("{variant:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// For the SDK's exporters.
#[must_use]
pub fn sdk(attributes: &Attributes) -> opentelemetry_sdk::Resource {
    let pairs = attributes.iter().map(|(name, value)| KeyValue::new(*name, Arc::clone(value)));
    opentelemetry_sdk::Resource::builder_empty().with_schema_url(pairs, SCHEMA_URL).build()
}

/// For requests made by hand.
#[must_use]
pub fn proto(attributes: &Attributes) -> proto::Resource {
    let attributes = attributes.iter().map(|(name, value)| text(name, value)).collect();
    proto::Resource { attributes, ..Default::default() }
}

/// A text attribute.
pub(crate) fn text(name: &str, value: &str) -> common::KeyValue {
    pair(name, any_value::Value::StringValue(value.to_owned()))
}

/// An attribute.
pub(crate) fn pair(name: &str, value: any_value::Value) -> common::KeyValue {
    common::KeyValue {
        key: name.to_owned(),
        value: Some(common::AnyValue { value: Some(value) }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::IdentityKind;

    fn host(name: &str) -> Host {
        Host { name: name.into(), id: None }
    }

    fn identity(name: &str) -> Identity {
        Identity {
            name: name.into(),
            namespace: "shop".into(),
            kind: IdentityKind::Container,
            attributes: vec![("container.id", "abc".into()), ("service.name", "other".into())],
            workload: None,
        }
    }

    fn get<'a>(attributes: &'a Attributes, name: &str) -> Vec<&'a str> {
        attributes.iter().filter(|(key, _)| *key == name).map(|(_, value)| &**value).collect()
    }

    #[test]
    fn a_workload_says_each_thing_once_and_its_name_wins() {
        let attributes = attributes(Some(&identity("cart")), &host("n1"));
        assert_eq!(get(&attributes, "service.name"), ["cart"]);
        assert_eq!(get(&attributes, "service.namespace"), ["shop"]);
        assert_eq!(get(&attributes, "container.id"), ["abc"]);
        assert_eq!(get(&attributes, "host.name"), ["n1"]);
        assert_eq!(get(&attributes, "service.instance.id").len(), 1);
    }

    #[test]
    fn the_instance_is_stable_and_tells_hosts_and_workloads_apart() {
        let id = |name, node| {
            get(&attributes(Some(&identity(name)), &host(node)), "service.instance.id")[0]
                .to_owned()
        };
        let first = id("cart", "n1");
        assert_eq!(first, id("cart", "n1"));
        assert_ne!(first, id("cart", "n2"));
        assert_ne!(first, id("pay", "n1"));
        assert_eq!(first.len(), 36);
        assert_eq!(&first[14..15], "8", "version of {first}");
        assert!(matches!(&first[19..20], "8" | "9" | "a" | "b"), "variant of {first}");
    }

    #[test]
    fn an_instance_that_the_workload_names_is_kept() {
        let mut named = identity("cart");
        named.attributes.push(("service.instance.id", "pod-1".into()));
        let attributes = attributes(Some(&named), &host("n1"));
        assert_eq!(get(&attributes, "service.instance.id"), ["pod-1"]);
    }

    #[test]
    fn the_agent_is_a_resource_too() {
        let attributes = attributes(None, &host("n1"));
        assert_eq!(get(&attributes, "service.name"), ["meshtap"]);
        assert_eq!(get(&attributes, "service.version"), [env!("CARGO_PKG_VERSION")]);
    }
}
