//! [`Reader`]: finds the value of every key in the layers, strongest first.
//!
//! Keys come to it one by one from their definitions; it remembers what it was asked
//! for, so that the reference, the printed configuration and the search for unknown
//! keys all speak of the same keys. It never stops at an error.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Number, Value};

use super::document::{Content, Node, Place};
use super::environment::{Environment, Standard};
use super::problem::{Origin, Problem};
use super::scalar::Size;
use super::value::{Fault, Setting, nearest};

type Predicate<T> = Box<dyn Fn(&T) -> bool>;

/// Which values of its type a key takes.
pub struct Bounds<T> {
    text: String,
    /// Both ends, as shown.
    ends: Option<[String; 2]>,
    holds: Option<Predicate<T>>,
}

impl<T: Setting> Bounds<T> {
    /// What the type looks like, and for numbers both ends.
    fn schema(&self) -> Value {
        let mut schema = T::schema();
        let is_number = matches!(schema["type"].as_str(), Some("integer" | "number"));
        if let (true, Some(ends), Some(map)) = (is_number, &self.ends, schema.as_object_mut()) {
            for (name, end) in ["minimum", "maximum"].into_iter().zip(ends) {
                let number = end.parse::<Number>().ok();
                map.extend(number.map(|number| (name.to_owned(), Value::Number(number))));
            }
        }
        schema
    }

    /// Every value.
    pub fn any() -> Self {
        Self { text: String::new(), ends: None, holds: None }
    }
}

impl<T: Setting + PartialOrd + 'static> Bounds<T> {
    /// Both ends included.
    pub fn between(low: T, high: T) -> Self {
        let ends = [low.show(), high.show()];
        let text = format!("from `{}` to `{}`", ends[0], ends[1]);
        let holds: Predicate<T> = Box::new(move |value| *value >= low && *value <= high);
        Self { text, ends: Some(ends), holds: Some(holds) }
    }
}

impl<T: Setting + PartialOrd + 'static> Bounds<Option<T>> {
    /// Nothing, or both ends included.
    pub fn between_if_given(low: T, high: T) -> Self {
        let Bounds { text, holds, .. } = Bounds::between(low, high);
        let holds = holds.map(|holds| -> Predicate<Option<T>> {
            Box::new(move |value| value.as_ref().is_none_or(&holds))
        });
        Self { text, ends: None, holds }
    }
}

impl Bounds<Size> {
    /// A power of two; both ends included.
    pub fn power_of_two(low: Size, high: Size) -> Self {
        let text = format!("that is a power of two from `{low}` to `{high}`");
        let holds = move |size: &Size| size.0.is_power_of_two() && *size >= low && *size <= high;
        Self { text, ends: None, holds: Some(Box::new(holds)) }
    }
}

/// The one definition of a key.
pub struct Key<T> {
    /// `capture.ring_bytes`
    pub path: String,
    /// What it does.
    pub meaning: &'static str,
    /// Unless given.
    pub default: T,
    /// What it takes.
    pub bounds: Bounds<T>,
    /// Variables of other standards that also give it, strongest first.
    pub standard: Vec<Standard>,
}

/// A value that was given as text.
#[derive(Clone, Debug)]
pub struct Given {
    /// For which key.
    pub path: String,
    /// As given.
    pub text: String,
    /// By what.
    pub origin: Origin,
}

/// A configuration as it was written: nothing is checked yet.
#[derive(Debug, Default)]
pub struct RawConfig {
    /// The file and what stands in it.
    pub file: Option<(Arc<str>, Node)>,
    /// The process's variables.
    pub environment: Environment,
    /// The flags, in the order given; a later one wins.
    pub flags: Vec<Given>,
}

/// A key that was read.
#[derive(Clone, Debug)]
pub struct Entry {
    /// `capture.ring_bytes`
    pub path: String,
    /// What it does.
    pub meaning: String,
    /// Type, for the reference.
    pub kind: String,
    /// Range, for the reference; may be empty.
    pub range: String,
    /// As shown.
    pub default: String,
    /// What it looks like in a file, as JSON Schema.
    pub schema: Value,
    /// Standard variables.
    pub standard: Vec<String>,
    /// As shown; the default where the one given was wrong.
    pub value: String,
    /// By what it was given.
    pub origin: Origin,
}

/// What was read, in the order of the definitions.
#[derive(Clone, Debug)]
pub enum Read {
    /// The keys of a section follow.
    Section {
        /// `capture`
        path: String,
        /// What it is about.
        about: String,
    },
    /// A key.
    Key(Entry),
}

impl Read {
    /// Whether it is the key at `path`, and somebody gave its value.
    #[must_use]
    pub fn gives(&self, path: &str) -> bool {
        matches!(self, Self::Key(entry) if entry.path == path && entry.origin != Origin::Default)
    }
}

/// Reads keys out of a [`RawConfig`].
pub struct Reader<'a> {
    raw: &'a RawConfig,
    read: Vec<Read>,
    problems: Vec<Problem>,
    variables: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    /// Begins to read.
    #[must_use]
    pub fn new(raw: &'a RawConfig) -> Self {
        Self { raw, read: Vec::new(), problems: Vec::new(), variables: BTreeSet::new() }
    }

    /// The keys that follow belong together.
    pub fn section(&mut self, path: &str, about: &str) {
        self.read.push(Read::Section { path: path.to_owned(), about: tidy(about) });
    }

    /// The value of a key; its default where the value given is wrong, which is then a problem.
    pub fn take<T: Setting>(&mut self, key: Key<T>) -> T {
        let default = key.default.show();
        let standard = key.standard.iter().map(|standard| standard.name.to_string()).collect();
        let (value, origin) = match self.find::<T>(&key) {
            None => (key.default, Origin::Default),
            Some((origin, node)) => match node.and_then(|node| check(&node, &key.bounds)) {
                Ok(value) => (value, origin),
                Err(faults) => {
                    let wrong = faults.into_iter();
                    let wrong = wrong.map(|f| Problem::of_value(&origin, &key.path, f));
                    self.problems.extend(wrong);
                    (key.default, Origin::Default)
                }
            },
        };
        self.read.push(Read::Key(Entry {
            path: key.path,
            meaning: tidy(key.meaning),
            kind: T::kind(),
            schema: key.bounds.schema(),
            range: key.bounds.text,
            default,
            standard,
            value: value.show(),
            origin,
        }));
        value
    }

    /// A problem that concerns more than one key; the later of them by name.
    pub fn refuse(&mut self, key: &str, fault: &str, remedy: &str) {
        let origin = self.read.iter().find_map(|read| match read {
            Read::Key(entry) if entry.path == key => Some(entry.origin.clone()),
            _ => None,
        });
        self.problems.push(Problem {
            origin: origin.unwrap_or(Origin::Default),
            key: key.to_owned(),
            fault: fault.to_owned(),
            expected: String::new(),
            remedy: Some(remedy.to_owned()),
        });
    }

    /// Ends the reading: what nobody asked for is unknown.
    ///
    /// # Errors
    /// All problems, sorted by their place.
    pub fn finish(mut self) -> Result<Vec<Read>, Vec<Problem>> {
        let keys: Vec<String> = self.read.iter().filter_map(path_of_key).collect();
        if let Some((file, root)) = &self.raw.file {
            unknown_in_file(file, root, "", &keys, &mut self.problems);
        }
        let unknown = self.raw.environment.unknown(&self.variables, &keys);
        self.problems.extend(unknown);
        for given in self.raw.flags.iter().filter(|given| !keys.contains(&given.path)) {
            self.problems.push(unknown_key(given.origin.clone(), &given.path, &given.path, &keys));
        }
        if self.problems.is_empty() {
            return Ok(self.read);
        }
        self.problems.sort_by(|one, other| one.origin.cmp(&other.origin));
        Err(self.problems)
    }

    /// The strongest layer that gives the key, and what it gives.
    fn find<T: Setting>(&mut self, key: &Key<T>) -> Option<(Origin, Result<Node, Vec<Fault>>)> {
        let own = Environment::name(&key.path);
        let standard = self.raw.environment.standard(&key.standard);
        let environment = self.raw.environment.get(&own).map(str::to_owned);
        self.variables.insert(own.clone());
        if let Some(given) = self.raw.flags.iter().rfind(|given| given.path == key.path) {
            return Some((given.origin.clone(), T::node(&given.text)));
        }
        if let Some(text) = environment {
            return Some((Origin::Environment(own), T::node(&text)));
        }
        if let Some((variable, text)) = standard {
            return Some((Origin::Environment(variable), text.and_then(|text| T::node(&text))));
        }
        let (file, root) = self.raw.file.as_ref()?;
        let node = lookup(root, &key.path)?;
        Some((Origin::File(Arc::clone(file), node.place), Ok(node.clone())))
    }
}

fn path_of_key(read: &Read) -> Option<String> {
    match read {
        Read::Key(entry) => Some(entry.path.clone()),
        Read::Section { .. } => None,
    }
}

/// Doc comments as one text.
fn tidy(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn check<T: Setting>(node: &Node, bounds: &Bounds<T>) -> Result<T, Vec<Fault>> {
    let value = T::read(node)?;
    if bounds.holds.as_ref().is_none_or(|holds| holds(&value)) {
        return Ok(value);
    }
    let fault = format!("{} is not in the range", node.describe());
    Err(vec![Fault::at(node, fault, format!("a {} {}", T::kind(), bounds.text))])
}

fn lookup<'n>(root: &'n Node, path: &str) -> Option<&'n Node> {
    path.split('.').try_fold(root, |node, name| match &node.content {
        Content::Map(map) => map.iter().find(|(key, _)| key.text == name).map(|(_, node)| node),
        _ => None,
    })
}

/// Finds what no definition asked for below `prefix`.
fn unknown_in_file(
    file: &Arc<str>,
    node: &Node,
    prefix: &str,
    keys: &[String],
    problems: &mut Vec<Problem>,
) {
    let at = |place: Place| Origin::File(Arc::clone(file), place);
    let Content::Map(map) = &node.content else {
        if !node.is_null() {
            let what = if prefix.is_empty() { "the configuration" } else { "a section" };
            problems.push(Problem {
                origin: at(node.place),
                key: prefix.to_owned(),
                fault: format!("{} is not {what}", node.describe()),
                expected: "keys with their values below it, as in `key: value`".to_owned(),
                remedy: None,
            });
        }
        return;
    };
    for (name, node) in map {
        let path =
            if prefix.is_empty() { name.text.clone() } else { format!("{prefix}.{}", name.text) };
        let below = format!("{path}.");
        if keys.contains(&path) {
            continue;
        }
        if keys.iter().any(|key| key.starts_with(&below)) {
            unknown_in_file(file, node, &path, keys, problems);
        } else {
            problems.push(unknown_key(at(name.place), &path, &name.text, keys));
        }
    }
}

/// The problem with a key that does not exist, and the one that was probably meant: one
/// beside it, else one that is called so elsewhere.
fn unknown_key(origin: Origin, path: &str, name: &str, keys: &[String]) -> Problem {
    let level = path.matches('.').count();
    let parent = &path[..path.len() - path.rsplit('.').next().unwrap_or(path).len()];
    let here: BTreeSet<String> = keys
        .iter()
        .filter(|key| key.starts_with(parent))
        .map(|key| key.split('.').take(level + 1).collect::<Vec<_>>().join("."))
        .collect();
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let meant = nearest(path, here.iter().map(String::as_str))
        .map(str::to_owned)
        .filter(|meant| nearest(&last(name), std::iter::once(last(meant).as_str())).is_some())
        .or_else(|| {
            keys.iter()
                .find(|key| nearest(&last(name), std::iter::once(last(key).as_str())).is_some())
                .cloned()
        });
    Problem {
        origin,
        key: String::new(),
        fault: format!("unknown key `{}`", path.escape_debug()),
        expected: String::new(),
        remedy: Some(match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "remove it; `meshtap config print` lists every key".to_owned(),
        }),
    }
}
