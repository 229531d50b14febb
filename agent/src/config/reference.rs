//! What the keys say of themselves: `docs/configuration.md`, and the configuration in force.

use super::environment::Environment;
use super::reader::{Entry, RawConfig, Read, Reader};
use super::{Config, Origin};

const INTRODUCTION: &str = "\
# Configuration

<!-- Generated from the definitions in agent/src/config by `meshtap docs configuration`. -->

meshtap needs no configuration. What is given comes from four layers, the strongest first:

1. flags: `--listen`, `--log-level`, `--kernel-log`, and `--set KEY=VALUE` for every key
2. the environment: `MESHTAP_` and the key in capitals with `_` for every `.`, so
   `capture.ring_bytes` is `MESHTAP_CAPTURE_RING_BYTES`; where OpenTelemetry defines a
   variable, that too, unless meshtap's own is set. An empty variable counts as not set
3. the file given with `--config FILE` or `MESHTAP_CONFIG`: one YAML document, without
   anchors and tags
4. the defaults below

In flags and variables a list or map is written as YAML on one line:
`MESHTAP_NAMES='[{name: shop, match: {port: 8080}}]'`. Headers are also taken as
OpenTelemetry writes them: `x-tenant=shop,x-other=1`.

`meshtap config print` shows every value in force and where it comes from;
`meshtap config check` only checks. An unknown key, a wrong type or a value out of its
range is refused with exit code 2, and all that is wrong is said at once.

```yaml
listen: 0.0.0.0:9990
names:
  - name: checkout
    namespace: shop
    match: {port: 8080, executable: java}
  - name: payments.example
    match: {address: 203.0.113.0/24}
routes:
  patterns:
    - /users/{id}/orders/{order}
    - {pattern: /static/*, service: frontend}
otlp:
  endpoint: http://collector:4318
```
";

/// Every key with its default, in the order of the definitions.
#[must_use]
pub fn definitions() -> Vec<Read> {
    let raw = RawConfig::default();
    let mut reader = Reader::new(&raw);
    let _ = Config::of(&mut reader);
    reader.finish().unwrap_or_default()
}

/// The reference, in Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n## General\n");
    for read in definitions() {
        match read {
            Read::Section { path, about } => {
                text.push_str(&format!("\n## `{path}`\n\n{about}\n"));
            }
            Read::Key(entry) => text.push_str(&key(&entry)),
        }
    }
    text
}

fn key(entry: &Entry) -> String {
    let range = match entry.range.as_str() {
        "" => String::new(),
        range => format!(" {range}"),
    };
    let mut variables = vec![format!("`{}`", Environment::name(&entry.path))];
    variables.extend(entry.standard.iter().map(|name| format!("`{name}`")));
    format!(
        "\n### `{}`\n\n{}\n\n- Type: {}{range}\n- Default: `{}`\n- Environment: {}\n",
        entry.path,
        entry.meaning,
        entry.kind,
        entry.default,
        variables.join(", ")
    )
}

/// The configuration in force as YAML, each value with where it comes from.
#[must_use]
pub fn print(read: &[Read]) -> String {
    let mut text = String::new();
    for read in read {
        match read {
            Read::Section { path, .. } => {
                let depth = path.matches('.').count();
                let name = path.rsplit('.').next().unwrap_or(path);
                text.push_str(&format!("{}{name}:\n", "  ".repeat(depth)));
            }
            Read::Key(entry) => {
                let depth = entry.path.matches('.').count();
                let name = entry.path.rsplit('.').next().unwrap_or(&entry.path);
                let value = format!("{}{name}: {}", "  ".repeat(depth), entry.value);
                text.push_str(&format!("{value:<44}  # {}\n", origin(&entry.origin)));
            }
        }
    }
    text
}

/// Control characters in a file's name must not end the comment.
fn origin(origin: &Origin) -> String {
    origin.to_string().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
