//! What of the chart is written by a program: `values.yaml` and the table in its README, both
//! from `values.schema.json`, and in that the schema of the agent's own configuration.
//!
//! **A value is defined once**, in the schema: type, default and meaning.

mod text;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_norway::{Mapping, Value};

use crate::workspace::{read, root};

/// Keys of the agent that the chart sets by other values.
const OWNED: [&[&str]; 3] = [&["listen"], &["host", "proc"], &["kubernetes", "node"]];
/// What the values say of the agent's configuration.
const CONFIG: &str = "The configuration of the agent as it is, any key of docs/configuration.md \
    but those that the chart sets: `listen`, `host.proc` and `kubernetes.node`.";

fn folder() -> PathBuf {
    root().join("deploy/helm/meshtap")
}

/// Writes what is generated.
pub fn write(agent: &Path) -> Result<()> {
    for (file, text) in generated(agent)? {
        fs::write(folder().join(file), text)?;
        println!("deploy/helm/meshtap/{file}");
    }
    Ok(())
}

/// Fails where a committed file is another one, or the chart is of another version.
pub fn check(agent: &Path) -> Result<()> {
    let stale: Vec<&str> = generated(agent)?
        .into_iter()
        .filter(|(file, text)| fs::read_to_string(folder().join(file)).ok().as_ref() != Some(text))
        .map(|(file, _)| file)
        .collect();
    ensure!(
        stale.is_empty(),
        "{} below deploy/helm/meshtap are not what is defined; renew them: cargo xtask docs",
        stale.join(", ")
    );
    versions(&fs::read_to_string(folder().join("Chart.yaml"))?)
}

/// The chart has the version of the agent that it installs.
fn versions(chart: &str) -> Result<()> {
    let chart: Value = serde_norway::from_str(chart)?;
    let version = env!("CARGO_PKG_VERSION");
    for key in ["version", "appVersion"] {
        let found = chart.get(key).and_then(Value::as_str);
        ensure!(found == Some(version), "Chart.yaml: {key} is {found:?}, the agent is {version}");
    }
    Ok(())
}

fn generated(agent: &Path) -> Result<Vec<(&'static str, String)>> {
    let configuration = read(Command::new(agent).args(["docs", "configuration-schema"]))?;
    let written = fs::read_to_string(folder().join("values.schema.json"))?;
    let schema = with_configuration(&written, &configuration)?;
    Ok(vec![
        ("values.schema.json", format!("{}\n", serde_json::to_string_pretty(&schema)?)),
        ("values.yaml", text::values(&schema)?),
        ("README.md", text::readme(&schema)?),
    ])
}

/// The schema of the values with that of the configuration in its place.
fn with_configuration(values: &str, configuration: &str) -> Result<Value> {
    // As YAML, which JSON is: so the order stays as it was written.
    let mut values: Value = serde_norway::from_str(values).context("values.schema.json")?;
    let mut configuration: Value = serde_norway::from_str(configuration)?;
    for path in OWNED {
        remove(&mut configuration, path);
    }
    let generated = configuration.as_mapping_mut().context("the configuration's schema")?;
    generated.insert("description".into(), CONFIG.into());
    generated.insert("default".into(), Mapping::new().into());
    let place = values.get_mut("properties").and_then(|all| all.get_mut("config"));
    *place.context("values.schema.json has no value `config`")? = configuration;
    Ok(values)
}

/// Takes a key out of a schema, if it is there.
fn remove(schema: &mut Value, path: &[&str]) {
    let Some((name, sections)) = path.split_last() else { return };
    let parent = sections.iter().try_fold(schema, |node, section| {
        node.get_mut("properties").and_then(|all| all.get_mut(*section))
    });
    if let Some(Value::Mapping(keys)) = parent.and_then(|parent| parent.get_mut("properties")) {
        keys.remove(*name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_takes_its_place_without_what_the_chart_sets() {
        let configuration = r#"{"type": "object", "additionalProperties": false, "properties": {
            "listen": {"type": "string"},
            "host": {"properties": {"proc": {}, "name": {"type": "string"}}},
            "series": {"properties": {"limit": {"type": "integer"}}}}}"#;
        let values = r#"{"properties": {"zeta": {"default": 1}, "config": {}, "alpha": {}}}"#;
        let schema = with_configuration(values, configuration).unwrap();
        let names: Vec<_> = schema["properties"].as_mapping().unwrap().keys().collect();
        assert_eq!(names, ["zeta", "config", "alpha"], "the order stays");
        let config = &schema["properties"]["config"];
        assert_eq!(config["default"], Value::Mapping(Mapping::new()));
        assert_eq!(config["additionalProperties"], Value::Bool(false));
        let keys = &config["properties"];
        assert!(keys.get("listen").is_none() && keys["host"]["properties"].get("proc").is_none());
        assert!(keys["host"]["properties"].get("name").is_some());
        assert_eq!(keys["series"]["properties"]["limit"]["type"], "integer");
        assert!(with_configuration(r#"{"properties": {}}"#, configuration).is_err());
    }

    #[test]
    fn a_chart_of_another_version_is_refused() {
        let chart =
            |app: &str| format!("version: {}\nappVersion: {app}\n", env!("CARGO_PKG_VERSION"));
        versions(&chart(env!("CARGO_PKG_VERSION"))).unwrap();
        assert!(versions(&chart("99.0.0")).is_err());
        versions(&fs::read_to_string(folder().join("Chart.yaml")).unwrap()).unwrap();
    }
}
