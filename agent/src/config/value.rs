//! [`Setting`]: how one value is written, checked and shown.
//!
//! It knows how types behave, not keys: what a value means, its default and its range belong to
//! the key that holds it.

use std::fmt;

use serde_json::{Value, json};

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

    /// What it looks like in a file, as JSON Schema; it may let pass what [`Setting::read`]
    /// refuses, and never the other way round. Empty: anything.
    fn schema() -> Value {
        json!({})
    }

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

/// A text in YAML: as it is where that is safe, else quoted.
#[must_use]
pub fn quote(text: &str) -> String {
    let first = text.chars().next();
    let safe = first.is_some_and(|first| first.is_ascii_alphanumeric() || first == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+:@".contains(c))
        && !text.ends_with(':')
        && !matches!(text, "null" | "Null" | "NULL" | "true" | "false")
        && text.parse::<f64>().is_err();
    if safe { text.to_owned() } else { Value::from(text).to_string() }
}

impl Setting for String {
    fn kind() -> String {
        "text".to_owned()
    }
    fn expected() -> String {
        "a text".to_owned()
    }
    fn schema() -> Value {
        json!({"type": "string"})
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

impl<T: Setting> Setting for Option<T> {
    fn kind() -> String {
        T::kind()
    }
    fn expected() -> String {
        format!("{}, or `null`", T::expected())
    }
    fn schema() -> Value {
        json!({"anyOf": [T::schema(), {"type": "null"}]})
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
    fn schema() -> Value {
        json!({"type": "array", "items": T::schema()})
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
            fn schema() -> serde_json::Value {
                serde_json::json!({"enum": Self::WORDS})
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
