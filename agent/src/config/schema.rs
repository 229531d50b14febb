//! The configuration as JSON Schema, for what checks it before the agent sees it: editors,
//! and the chart of Helm.
//!
//! It names every key and refuses any other. Ranges are in it where JSON Schema can say them.

use serde_json::{Map, Value, json};

use super::reader::{Entry, Read};
use super::reference::definitions;

/// The schema of the whole document.
#[must_use]
pub fn json() -> Value {
    let mut root = object("The agent's configuration.");
    for read in definitions() {
        match read {
            Read::Section { path, about } => {
                if let Some((parent, name)) = place(&mut root, &path) {
                    parent.insert(name.to_owned(), object(&about));
                }
            }
            Read::Key(entry) => {
                if let Some((parent, name)) = place(&mut root, &entry.path) {
                    parent.insert(name.to_owned(), key(&entry));
                }
            }
        }
    }
    root
}

fn object(about: &str) -> Value {
    json!({
        "description": about,
        "type": "object",
        "additionalProperties": false,
        "properties": {},
    })
}

fn key(entry: &Entry) -> Value {
    let mut schema = entry.schema.clone();
    let text = format!("{} Default: `{}`.", entry.meaning, entry.default);
    if let Some(map) = schema.as_object_mut() {
        map.insert("description".to_owned(), text.into());
    }
    schema
}

/// The properties that hold the last name of a path, and that name. A section comes before
/// what is in it; `None` where one did not.
fn place<'v, 'p>(
    root: &'v mut Value,
    path: &'p str,
) -> Option<(&'v mut Map<String, Value>, &'p str)> {
    let (sections, name) = path.rsplit_once('.').map_or((None, path), |(s, name)| (Some(s), name));
    let parent = sections
        .iter()
        .flat_map(|sections| sections.split('.'))
        .try_fold(root, |node, section| node.get_mut("properties")?.get_mut(section))?;
    Some((parent.get_mut("properties")?.as_object_mut()?, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_the_schema_and_nothing_else_is_let_in() {
        let schema = json();
        let mut keys = 0;
        for read in definitions() {
            let Read::Key(entry) = read else { continue };
            let pointer = format!("/properties/{}", entry.path.replace('.', "/properties/"));
            let key = schema.pointer(&pointer).unwrap_or_else(|| panic!("{pointer}"));
            assert!(key["description"].as_str().is_some_and(|text| text.contains("Default: `")));
            keys += 1;
        }
        assert!(keys > 60, "{keys}");
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["otlp"]["additionalProperties"], false);
        let limit = &schema["properties"]["series"]["properties"]["limit"];
        assert_eq!(
            (&limit["type"], &limit["minimum"], &limit["maximum"]),
            (&"integer".into(), &10.into(), &10_000_000.into())
        );
        let level = &schema["properties"]["log"]["properties"]["level"]["enum"];
        assert_eq!(level, &json!(["off", "error", "warn", "info", "debug"]));
    }
}
