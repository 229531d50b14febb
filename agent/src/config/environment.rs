//! [`Environment`]: variables as a layer of the configuration.
//!
//! A key's own variable is `MESHTAP_`, then its path in capitals with `_` for every
//! `.`. Beside it stand the variables that OpenTelemetry defines for every program.
//! An empty variable counts as not set, as OpenTelemetry demands.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::problem::{Origin, Problem};
use super::value::{Fault, nearest};

/// What every variable of the program's own begins with.
const PREFIX: &str = "MESHTAP_";
/// Names the file; it is no key.
pub const FILE: &str = "MESHTAP_CONFIG";

/// Variables and their values.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

/// A standard variable as a source of one key.
pub struct Standard {
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`
    pub name: Cow<'static, str>,
    /// Says the same in the key's own terms; `None`: nothing about this key.
    pub translate: fn(&str, &Environment) -> Result<Option<String>, Fault>,
}

impl Standard {
    /// Means the same as the key.
    pub fn same(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), translate: |text, _| Ok(Some(text.trim().to_owned())) }
    }

    /// A whole number of milliseconds.
    pub fn milliseconds(name: impl Into<Cow<'static, str>>) -> Self {
        let translate = |text: &str, _: &Environment| match text.trim().parse::<u64>() {
            Ok(number) => Ok(Some(format!("{number}ms"))),
            Err(_) => Err(fault(text, "a whole number of milliseconds, for example `10000`")),
        };
        Self { name: name.into(), translate }
    }
}

/// What is wrong with a standard variable.
#[must_use]
pub fn fault(text: &str, expected: &str) -> Fault {
    Fault {
        place: None,
        part: String::new(),
        fault: format!("`{}` is not understood", text.escape_debug()),
        expected: expected.to_owned(),
        remedy: None,
    }
}

impl Environment {
    /// Takes the variables that concern the program; values that are not UTF-8 are read
    /// with `U+FFFD` for what is not, and are then refused by what reads them.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| {
                let name = name.into_string().ok()?;
                let ours = name.starts_with(PREFIX) || name.starts_with("OTEL_");
                ours.then(|| (name, value.to_string_lossy().into_owned()))
            })
            .collect()
    }

    /// The variable of the key at `path`.
    #[must_use]
    pub fn name(path: &str) -> String {
        format!("{PREFIX}{}", path.to_ascii_uppercase().replace('.', "_"))
    }

    /// A variable that is set and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The first of the standard variables that says something.
    #[must_use]
    pub fn standard(&self, all: &[Standard]) -> Option<(String, Result<String, Vec<Fault>>)> {
        all.iter().find_map(|standard| {
            let text = self.get(&standard.name)?;
            let said = (standard.translate)(text, self).map_err(|fault| vec![fault]);
            Some((standard.name.to_string(), said.transpose()?))
        })
    }

    /// Our own variables that belong to no key.
    #[must_use]
    pub fn unknown(&self, known: &BTreeSet<String>, keys: &[String]) -> Vec<Problem> {
        let ours = self.0.keys().filter(|name| name.starts_with(PREFIX));
        let unknown =
            ours.filter(|name| !known.contains(*name) && *name != FILE && !is_service_link(name));
        unknown
            .map(|name| Problem {
                origin: Origin::Environment(name.clone()),
                key: String::new(),
                fault: "no key has this variable".to_owned(),
                expected: String::new(),
                remedy: Some(match nearest(name, known.iter().map(String::as_str)) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!(
                        "unset it; `meshtap docs configuration` lists the variables of all {} keys",
                        keys.len()
                    ),
                }),
            })
            .collect()
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

/// Kubernetes sets such variables for a Service called `meshtap` or `meshtap-…`
/// (`MESHTAP_SERVICE_HOST`, `MESHTAP_PORT_9990_TCP_ADDR`): nobody means them as configuration.
fn is_service_link(name: &str) -> bool {
    let service = name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT");
    let port = name.ends_with("_PORT")
        || ["_TCP", "_UDP", "_SCTP"].iter().any(|kind| {
            name.find(kind).is_some_and(|end| {
                let digits = name[..end].trim_end_matches(|c: char| c.is_ascii_digit());
                digits.len() < end && digits.ends_with("_PORT_")
            })
        });
    service || port
}
