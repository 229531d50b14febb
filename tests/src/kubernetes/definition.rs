//! Definitions of kinds that a cluster has from others: out of a module of Go, whose version and
//! checksum lie in the fixtures.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::cache::prepared;
use crate::go::go;
use crate::process::{fixture, output};

const MODULE: &str = "github.com/prometheus-operator/prometheus-operator";
const POD_MONITOR: &str = "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml";

/// The file that defines Prometheus Operator's `PodMonitor`. Fetches it.
pub fn pod_monitor() -> Result<PathBuf> {
    let product = "podmonitors.yaml";
    let folder = prepared("podmonitor", &fixture("components/podmonitor"), product, |folder| {
        let text = output(go(folder)?.args(["mod", "download", "-json", MODULE]))?;
        let found: Value = serde_json::from_str(&text)?;
        let module = found["Dir"].as_str().context("it was not downloaded")?;
        let made = folder.join("unfinished");
        std::fs::copy(Path::new(module).join(POD_MONITOR), &made)?;
        Ok(std::fs::rename(made, folder.join(product))?)
    })?;
    Ok(folder.join(product))
}
