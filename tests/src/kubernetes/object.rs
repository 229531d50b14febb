//! The objects that a laboratory's pods come from, as `kubectl apply` takes them.

use serde_json::{Value, json};

/// A Deployment `name` of pods with the label `app` of that name, which end at once when they
/// are to end; `metadata` and `spec` are the rest of its pods'.
#[must_use]
pub fn deployment(
    namespace: &str,
    name: &str,
    replicas: u32,
    metadata: &Value,
    spec: &Value,
) -> Value {
    let (mut metadata, mut spec) = (metadata.clone(), spec.clone());
    metadata["labels"]["app"] = name.into();
    spec["terminationGracePeriodSeconds"] = 1.into();
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": metadata, "spec": spec},
        },
    })
}

/// A Service `name` for the pods with the label `app` of that name; HTTP from one port to
/// another.
#[must_use]
pub fn service(namespace: &str, name: &str, port: u16, target: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"app": name},
            "ports": [{"name": "http", "port": port, "targetPort": target}],
        },
    })
}
