//! [`Setting`]: how one value is written, checked and shown.
//!
//! It knows types, not keys: what a value means, its default and its range belong to
//! the key that holds it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::document::{Content, Node, Place, parse};

/// What is wrong with a value, without knowing whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Where, within the text that the value came from; `None`: no more exact than the whole.
    pub place: Option<Place>,
    /// Which part of the value: `[2].match.port`; empty: all of it.
    pub part: String,
    /// What is wrong.
    pub fault: String,
    /// What would be right; empty where the fault says it.
    pub expected: String,
    /// What to do.
    pub remedy: Option<String>,
}

impl Fault {
    /// The node is not what the type takes.
    #[must_use]
    pub fn not(node: &Node, what: &str, expected: String) -> Self {
        Self::at(node, format!("{} is not {what}", node.describe()), expected)
    }

    /// Something else is wrong with the node.
    #[must_use]
    pub fn at(node: &Node, fault: String, expected: String) -> Self {
        Self { place: Some(node.place), part: String::new(), fault, expected, remedy: None }
    }

    /// With what to do about it.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// As part of something larger.
    #[must_use]
    pub fn within(self, part: &str) -> Self {
        let glue = if self.part.is_empty() || self.part.starts_with('[') { "" } else { "." };
        Self { part: format!("{part}{glue}{}", self.part), ..self }
    }
}

/// A type of value.
pub trait Setting: Clone + fmt::Debug + PartialEq + Sized {
    /// For the reference: `duration`.
    fn kind() -> String;

    /// For messages: "a duration, for example `10s`".
    fn expected() -> String;

    /// Reads what was written.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    fn read(node: &Node) -> Result<Self, Vec<Fault>>;

    /// Turns the text of a variable or flag into what [`Setting::read`] takes.
    ///
    /// # Errors
    /// The text cannot be taken apart.
    fn node(text: &str) -> Result<Node, Vec<Fault>> {
        let content = Content::Scalar { text: text.to_owned(), quoted: false };
        Ok(Node { place: Place { line: 1, column: 1 }, content })
    }

    /// In YAML, on one line, without what must stay secret.
    fn show(&self) -> String;
}

/// Takes the text of a list or map apart: it is YAML in one line.
///
/// # Errors
/// It is not YAML.
pub fn flow(text: &str) -> Result<Node, Vec<Fault>> {
    match parse(text) {
        Ok(Some(node)) => Ok(node),
        Ok(None) => String::node(""),
        Err(refused) => Err(refused
            .into_iter()
            .map(|refused| Fault {
                place: Some(refused.place),
                part: String::new(),
                fault: refused.fault,
                expected: String::new(),
                remedy: Some(refused.remedy.to_owned()),
            })
            .collect()),
    }
}

/// The text of a single value; `None` for lists, maps and nothing.
#[must_use]
pub fn scalar(node: &Node) -> Option<&str> {
    match &node.content {
        Content::Scalar { text, .. } if !node.is_null() => Some(text),
        _ => None,
    }
}

/// The text of a single value that was not quoted: numbers and switches.
fn plain(node: &Node) -> Option<&str> {
    match &node.content {
        Content::Scalar { text, quoted: false } => Some(text),
        _ => None,
    }
}

fn read_plain<T: Setting>(node: &Node, value: impl Fn(&str) -> Option<T>) -> Result<T, Vec<Fault>> {
    if let Some(value) = plain(node).and_then(&value) {
        return Ok(value);
    }
    let fault = Fault::not(node, &format!("a {}", T::kind()), T::expected());
    let unquoted = scalar(node).is_some_and(|text| value(text).is_some());
    Err(vec![if unquoted { fault.remedy("remove the quotes") } else { fault }])
}

/// A text in YAML: as it is where that is safe, else quoted.
#[must_use]
pub fn quote(text: &str) -> String {
    let first = text.chars().next();
    let safe = first.is_some_and(|first| first.is_ascii_alphanumeric() || first == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+:@".contains(c))
        && !text.ends_with(':')
        && !matches!(text, "null" | "Null" | "NULL" | "true" | "false")
        && text.parse::<f64>().is_err();
    if safe { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

impl Setting for String {
    fn kind() -> String {
        "text".to_owned()
    }
    fn expected() -> String {
        "a text".to_owned()
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        match scalar(node) {
            Some(text) => Ok(text.to_owned()),
            None => Err(vec![Fault::not(node, "a text", Self::expected())]),
        }
    }
    fn show(&self) -> String {
        quote(self)
    }
}

impl Setting for bool {
    fn kind() -> String {
        "switch".to_owned()
    }
    fn expected() -> String {
        "`true` or `false`".to_owned()
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        read_plain(node, |text| text.parse().ok())
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for usize {
    fn kind() -> String {
        "whole number".to_owned()
    }
    fn expected() -> String {
        "a whole number, for example `1000`".to_owned()
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        read_plain(node, |text| text.parse().ok())
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for f64 {
    fn kind() -> String {
        "number".to_owned()
    }
    fn expected() -> String {
        "a number, for example `0.01`".to_owned()
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        read_plain(node, |text| text.parse().ok().filter(|number: &f64| number.is_finite()))
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// Binary and decimal units; the binary ones first, so that they are used to show.
    const UNITS: [(&'static str, u64); 7] = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
        ("B", 1),
    ];

    fn from_text(text: &str) -> Option<Self> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let number: u64 = digits.parse().ok()?;
        let unit = unit.trim_start();
        let factor = match unit {
            "" => 1,
            _ => Self::UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
        };
        number.checked_mul(factor).map(Self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = Self::UNITS[..3].iter().find(|(_, bytes)| self.0 > 0 && self.0 % bytes == 0);
        match unit {
            Some((name, bytes)) => write!(formatter, "{} {name}", self.0 / bytes),
            None => write!(formatter, "{} B", self.0),
        }
    }
}

impl Setting for Size {
    fn kind() -> String {
        "size".to_owned()
    }
    fn expected() -> String {
        "a number of bytes, for example `8 MiB`".to_owned()
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        scalar(node)
            .and_then(Self::from_text)
            .ok_or_else(|| vec![Fault::not(node, "a size", Self::expected())])
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for Duration {
    fn kind() -> String {
        "duration".to_owned()
    }
    fn expected() -> String {
        "a duration with its unit, for example `500ms`, `10s` or `5m`".to_owned()
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        let text = scalar(node);
        let value = text.and_then(|text| humantime::parse_duration(text).ok());
        value.ok_or_else(|| {
            let fault = Fault::not(node, "a duration", Self::expected());
            let bare = text.filter(|text| text.parse::<u64>().is_ok());
            vec![match bare {
                Some(number) => fault.remedy(format!("add the unit: `{number}s` or `{number}ms`")),
                None => fault,
            }]
        })
    }
    fn show(&self) -> String {
        quote(&humantime::format_duration(*self).to_string().replace(' ', ""))
    }
}

impl Setting for SocketAddr {
    fn kind() -> String {
        "address and port".to_owned()
    }
    fn expected() -> String {
        "an address and a port, for example `127.0.0.1:9990` or `[::]:9990`".to_owned()
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        let text = scalar(node);
        text.and_then(|text| text.parse().ok()).ok_or_else(|| {
            let fault = Fault::not(node, "an address and a port", Self::expected());
            let port = text.and_then(|text| text.trim_start_matches(':').parse::<u16>().ok());
            vec![match port {
                Some(port) => fault.remedy(format!(
                    "write `0.0.0.0:{port}` for every address or `127.0.0.1:{port}` for this host"
                )),
                None => fault,
            }]
        })
    }
    fn show(&self) -> String {
        quote(&self.to_string())
    }
}

impl Setting for PathBuf {
    fn kind() -> String {
        "path".to_owned()
    }
    fn expected() -> String {
        "a path from the root, for example `/var/lib/docker`".to_owned()
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        let path = scalar(node).map(Self::from).filter(|path| path.is_absolute());
        path.ok_or_else(|| vec![Fault::not(node, "a path from the root", Self::expected())])
    }
    fn show(&self) -> String {
        quote(&self.to_string_lossy())
    }
}

impl<T: Setting> Setting for Option<T> {
    fn kind() -> String {
        T::kind()
    }
    fn expected() -> String {
        format!("{}, or `null`", T::expected())
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        if node.is_null() { Ok(None) } else { T::read(node).map(Some) }
    }
    fn node(text: &str) -> Result<Node, Vec<Fault>> {
        if text == "null" { String::node(text) } else { T::node(text) }
    }
    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "null".to_owned(), T::show)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn kind() -> String {
        format!("list: {}", T::kind())
    }
    fn expected() -> String {
        format!("a list, each entry {}", T::expected())
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        let Content::List(list) = &node.content else {
            return Err(vec![
                Fault::not(node, "a list", Self::expected())
                    .remedy("begin every entry with `- `, or write `[]` for none"),
            ]);
        };
        let mut values = Self::new();
        let mut faults = Vec::new();
        for (index, node) in list.iter().enumerate() {
            match T::read(node) {
                Ok(value) => values.push(value),
                Err(wrong) => {
                    faults.extend(wrong.into_iter().map(|f| f.within(&format!("[{index}]"))));
                }
            }
        }
        if faults.is_empty() { Ok(values) } else { Err(faults) }
    }
    fn node(text: &str) -> Result<Node, Vec<Fault>> {
        flow(text)
    }
    fn show(&self) -> String {
        format!("[{}]", self.iter().map(T::show).collect::<Vec<_>>().join(", "))
    }
}

/// Defines a [`Setting`] that is one of a few words.
macro_rules! choice {
    ($(#[doc = $about:literal])+ $name:ident, $kind:literal {
        $($(#[doc = $meaning:literal])+ $variant:ident = $word:literal,)+
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[doc = $meaning])+ $variant,)+
        }

        impl $name {
            /// Every word, as written.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// As written.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The choice that `word` stands for.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl $crate::config::value::Setting for $name {
            fn kind() -> String {
                format!("one of {}", $crate::config::value::words(Self::WORDS))
            }
            fn expected() -> String {
                Self::kind()
            }
            fn read(
                node: &$crate::config::document::Node,
            ) -> Result<Self, Vec<$crate::config::value::Fault>> {
                $crate::config::value::scalar(node).and_then(Self::from_word).ok_or_else(|| {
                    let fault = $crate::config::value::Fault::not(node, $kind, Self::expected());
                    vec![$crate::config::value::suggest(fault, node, Self::WORDS)]
                })
            }
            fn show(&self) -> String {
                self.word().to_owned()
            }
        }
    };
}
pub(crate) use choice;

/// `a`, `b`, `c`, each in backticks.
#[must_use]
pub fn words(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// Adds the word that was probably meant.
#[must_use]
pub fn suggest(fault: Fault, node: &Node, words: &[&str]) -> Fault {
    match scalar(node).and_then(|text| nearest(text, words.iter().copied())) {
        Some(word) => fault.remedy(format!("did you mean `{word}`?")),
        None => fault,
    }
}

/// The candidate that differs least from `written`, if any is near enough to have been meant.
#[must_use]
pub fn nearest<'a>(written: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_ascii_lowercase().replace('-', "_");
    let limit = (written.chars().count() / 3).max(1);
    candidates
        .map(|candidate| {
            let plain = candidate.to_ascii_lowercase().replace('-', "_");
            (strsim::damerau_levenshtein(&written, &plain), candidate)
        })
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
