//! [`Problem`]: what is wrong with a configuration, where, and what to do.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::document::{Place, Unreadable};
use super::value::Fault;

/// Where a value comes from, weakest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody gave one.
    Default,
    /// A file, as it was named, and the place of the value.
    File(Arc<str>, Place),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line, with its dashes.
    Flag(String),
}

impl Origin {
    /// The same origin, at a place inside of its text.
    fn at(&self, place: Option<Place>) -> Self {
        match (self, place) {
            (Self::File(file, _), Some(place)) => Self::File(Arc::clone(file), place),
            _ => self.clone(),
        }
    }
}

impl fmt::Display for Origin {
    /// Without the column, which matters in messages only.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File(file, place) => write!(formatter, "{file}:{}", place.line),
            Self::Environment(variable) => write!(formatter, "environment {variable}"),
            Self::Flag(flag) => write!(formatter, "flag {flag}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Where.
    pub origin: Origin,
    /// The key, with the part of its value that is meant; empty where no key is.
    pub key: String,
    /// What is wrong.
    pub fault: String,
    /// What would be right; empty where the fault says it.
    pub expected: String,
    /// What to do.
    pub remedy: Option<String>,
}

impl Problem {
    /// A value's fault becomes a problem of the key and layer that it was read for.
    #[must_use]
    pub fn of_value(origin: &Origin, key: &str, fault: Fault) -> Self {
        let origin = origin.at(fault.place);
        let Fault { part, fault, expected, remedy, .. } = fault.within(key);
        Self { origin, key: part, fault, expected, remedy }
    }

    /// A part of a file that cannot be read as a document.
    #[must_use]
    pub fn of_text(file: &Arc<str>, unreadable: Unreadable) -> Self {
        Self {
            origin: Origin::File(Arc::clone(file), unreadable.place),
            key: String::new(),
            fault: unreadable.fault,
            expected: String::new(),
            remedy: Some(unreadable.remedy.to_owned()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::File(file, place) => {
                write!(formatter, "{file}:{}:{}: ", place.line, place.column)?;
            }
            origin => write!(formatter, "{origin}: ")?,
        }
        if !self.key.is_empty() {
            write!(formatter, "{}: ", self.key)?;
        }
        formatter.write_str(&self.fault)?;
        if !self.expected.is_empty() {
            write!(formatter, "\n  expected: {}", self.expected)?;
        }
        if let Some(remedy) = &self.remedy {
            write!(formatter, "\n  remedy: {remedy}")?;
        }
        Ok(())
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}\n  remedy: check the path given to --config or MESHTAP_CONFIG and its permissions; without a file the defaults apply", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no text.
    #[error("{}: not UTF-8, first at byte {offset}\n  remedy: save the file as UTF-8", .path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Where it ceases to be text.
        offset: usize,
    },
    /// Something in it is wrong; never empty, in the order of files, variables, flags.
    #[error("{}", list(.0))]
    Invalid(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    let mut text: Vec<String> = problems.iter().map(Problem::to_string).collect();
    text.push(match problems.len() {
        1 => "1 error in the configuration".to_owned(),
        count => format!("{count} errors in the configuration"),
    });
    text.join("\n")
}
