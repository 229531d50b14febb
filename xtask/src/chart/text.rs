//! A schema of values as text: `values.yaml` with its comments, and the table of the README.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_norway::{Mapping, Value};

/// Columns of a line of comment.
const COLUMNS: usize = 98;
const VALUES: &str = "\
# Values of the chart meshtap. Written from values.schema.json by `cargo xtask docs`.
";
const README: &str = "\
# The chart meshtap

<!-- Written from values.schema.json by `cargo xtask docs`. -->

Puts the agent onto every node. What it may do there, and why, is in
[docs/deploy.md](../../../docs/deploy.md).

```sh
cargo xtask image --output meshtap.tar        # then import it on the nodes, or into a registry
helm install meshtap deploy/helm/meshtap --namespace meshtap --create-namespace
kubectl -n meshtap exec daemonset/meshtap -- meshtap doctor
```

`config` is checked key by key before anything is installed. Words that YAML takes for
switches need quotes there: `log: {kernel: \"off\"}`.

| Value | Type | Default | Meaning |
|---|---|---|---|
";

/// `values.yaml`: every value that has a default, with its meaning above it.
pub fn values(schema: &Value) -> Result<String> {
    let mut text = VALUES.to_owned();
    for (name, value) in properties(schema)? {
        if is_written(value) {
            text.push('\n');
            write_value(&mut text, 0, name, value)?;
        }
    }
    Ok(text)
}

fn write_value(text: &mut String, depth: usize, name: &str, value: &Value) -> Result<()> {
    let indent = "  ".repeat(depth);
    let meaning = value.get("description").and_then(Value::as_str);
    let meaning = meaning.with_context(|| format!("the value {name} has no description"))?;
    for line in wrapped(meaning, COLUMNS.saturating_sub(indent.len())) {
        writeln!(text, "{indent}# {line}")?;
    }
    if let Some(default) = value.get("default") {
        writeln!(text, "{indent}{name}: {}", flow(default))?;
        return Ok(());
    }
    writeln!(text, "{indent}{name}:")?;
    for (name, value) in properties(value)?.filter(|(_, value)| is_written(value)) {
        write_value(text, depth + 1, name, value)?;
    }
    Ok(())
}

/// Whether it has a default, or holds something that has one.
fn is_written(value: &Value) -> bool {
    value.get("default").is_some()
        || properties(value).is_ok_and(|mut inner| inner.any(|(_, value)| is_written(value)))
}

/// The README: how to install it, and a line for every value.
pub fn readme(schema: &Value) -> Result<String> {
    let mut text = README.to_owned();
    for (name, value) in properties(schema)? {
        rows(&mut text, name, value)?;
    }
    Ok(text)
}

fn rows(text: &mut String, path: &str, value: &Value) -> Result<()> {
    let meaning = value.get("description").and_then(Value::as_str).unwrap_or_default();
    let default = value.get("default").map(|value| format!("`{}`", flow(value)));
    let cells = [format!("`{path}`"), kind(value), default.unwrap_or_default(), meaning.to_owned()];
    let cells = cells.map(|cell| cell.replace('|', "\\|"));
    writeln!(text, "| {} |", cells.join(" | "))?;
    // The keys of the agent's configuration have a reference of their own.
    if path != "config" && !is_words(value) {
        for (name, value) in properties(value).into_iter().flatten() {
            if value.get("description").is_some() {
                rows(text, &format!("{path}.{name}"), value)?;
            }
        }
    }
    Ok(())
}

/// A map whose names only say what it may hold.
fn is_words(value: &Value) -> bool {
    value.get("default").is_some()
}

fn kind(value: &Value) -> String {
    if let Some(words) = value.get("enum").and_then(Value::as_sequence) {
        let words: Vec<String> = words.iter().map(|word| format!("`{}`", flow(word))).collect();
        return words.join(", ");
    }
    let name = |kind: &Value| {
        Some(match kind.as_str()? {
            "object" => "map".to_owned(),
            "array" => "list".to_owned(),
            "string" => "text".to_owned(),
            "boolean" => "switch".to_owned(),
            "integer" => "whole number".to_owned(),
            other => other.to_owned(),
        })
    };
    match value.get("type") {
        Some(Value::Sequence(kinds)) => {
            kinds.iter().filter_map(name).collect::<Vec<_>>().join(" or ")
        }
        Some(kind) => name(kind).unwrap_or_default(),
        None => String::new(),
    }
}

fn properties(value: &Value) -> Result<impl Iterator<Item = (&str, &Value)>> {
    let map: &Mapping =
        value.get("properties").and_then(Value::as_mapping).context("no properties")?;
    Ok(map.iter().filter_map(|(name, value)| Some((name.as_str()?, value))))
}

/// A value in one line of YAML.
fn flow(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Sequence(list) => {
            format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", "))
        }
        Value::Mapping(map) => {
            let pairs = map.iter().map(|(name, value)| format!("{}: {}", flow(name), flow(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        Value::Tagged(tagged) => flow(&tagged.value),
    }
}

/// As it is where YAML takes it for nothing else.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(plain)
        && !words.contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { format!("{text:?}") }
}

fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"properties": {
        "unset": {"description": "Not written.", "type": "object"},
        "image": {"description": "Which | what.", "type": "object", "properties": {
            "tag": {"description": "Its tag.", "type": "string", "default": ""},
            "policy": {"description": "When.", "enum": ["Always", "Never"], "default": "Never"},
            "extra": {"description": "Only documented.", "type": ["integer", "string"]}}},
        "limits": {"description": "Bounds.", "type": "object", "default": {"cpu": "50m", "on": [1, true, null]}}}}"#;

    #[test]
    fn every_value_is_written_with_its_meaning_and_its_default() {
        let schema: Value = serde_norway::from_str(SCHEMA).unwrap();
        let text = values(&schema).unwrap();
        let written = text.strip_prefix(VALUES).unwrap();
        assert_eq!(
            written,
            "\n# Which | what.\nimage:\n  # Its tag.\n  tag: \"\"\n  # When.\n  policy: Never\n\
             \n# Bounds.\nlimits: {cpu: \"50m\", \"on\": [1, true, null]}\n"
        );
        let read: Value = serde_norway::from_str(&text).unwrap();
        assert_eq!(read["limits"], schema["properties"]["limits"]["default"]);
    }

    #[test]
    fn every_value_has_a_line_in_the_table() {
        let text = readme(&serde_norway::from_str(SCHEMA).unwrap()).unwrap();
        let table = text.strip_prefix(README).unwrap();
        let expected = "\
| `unset` | map |  | Not written. |
| `image` | map |  | Which \\| what. |
| `image.tag` | text | `\"\"` | Its tag. |
| `image.policy` | `Always`, `Never` | `Never` | When. |
| `image.extra` | whole number or text |  | Only documented. |
| `limits` | map | `{cpu: \"50m\", \"on\": [1, true, null]}` | Bounds. |
";
        assert_eq!(table, expected);
    }

    #[test]
    fn a_value_without_a_meaning_is_refused() {
        let schema = r#"{"properties": {"bare": {"default": 1}}}"#;
        assert!(values(&serde_norway::from_str(schema).unwrap()).is_err());
    }
}
