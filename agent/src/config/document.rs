//! [`Node`]: YAML with the place of every key and value.
//!
//! It knows no key and no type. It refuses what a configuration has no use for and
//! what hides mistakes: anchors, tags, a key written twice, more than one document,
//! nesting without end.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

/// The deepest nesting that is read; the deepest key of a configuration lies at five.
const DEPTH: usize = 16;

/// A place in a text; both count from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl Place {
    fn of(marker: &Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

/// What stands at a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A single value.
    Scalar {
        /// Without quotes.
        text: String,
        /// It was quoted, so it is text whatever it looks like.
        quoted: bool,
    },
    /// `- a`
    List(Vec<Node>),
    /// `a: b`, in the order written.
    Map(Vec<(Name, Node)>),
}

/// A key of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// Without quotes.
    pub text: String,
    /// Where it begins.
    pub place: Place,
}

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub place: Place,
    /// The value.
    pub content: Content,
}

impl Node {
    /// Nothing was written here: `key:` or `key: null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, quoted: false }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// For messages: `a list`, `a map`, or the value in backticks.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.content {
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a map".to_owned(),
            Content::Scalar { .. } if self.is_null() => "nothing".to_owned(),
            Content::Scalar { text, .. } => format!("`{}`", text.escape_debug()),
        }
    }
}

/// Why a text is not a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Unreadable {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub fault: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// A map or list that is still open, and the key that waits for its value.
enum Open {
    List(Place, Vec<Node>),
    Map(Place, Vec<(Name, Node)>, Option<Name>),
}

/// Reads one document; `None` where the text holds nothing but comments.
///
/// # Errors
/// All that is refused, in the order of the text; reading goes on after what is
/// refused and ends only where the text is not YAML.
pub fn parse(text: &str) -> Result<Option<Node>, Vec<Unreadable>> {
    let mut reading = Reading::default();
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => {
                if !reading.take(event, span) {
                    break;
                }
            }
            Err(error) => {
                reading.refuse(
                    Place::of(error.marker()),
                    format!("not YAML: {}", error.info()),
                    "check the indentation and the quotes here and in the line above",
                );
                break;
            }
        }
    }
    if reading.refused.is_empty() { Ok(reading.root) } else { Err(reading.refused) }
}

#[derive(Default)]
struct Reading {
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    refused: Vec<Unreadable>,
}

impl Reading {
    fn refuse(&mut self, place: Place, fault: String, remedy: &'static str) {
        self.refused.push(Unreadable { place, fault, remedy });
    }

    /// Takes an event; `false` ends the reading.
    fn take(&mut self, event: Event<'_>, span: Span) -> bool {
        let place = Place::of(&span.start);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let remedy = "keep one document, remove the line `---` and what follows it";
                    self.refuse(place, "a second document begins here".to_owned(), remedy);
                    return false;
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_marks(place, anchor != 0, tag.is_some());
                let quoted = style != ScalarStyle::Plain;
                let content = Content::Scalar { text: text.into_owned(), quoted };
                return self.put(Node { place, content });
            }
            Event::Alias(_) => {
                self.refuse_marks(place, true, false);
                let content = Content::Scalar { text: String::new(), quoted: false };
                return self.put(Node { place, content });
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_marks(place, anchor != 0, tag.is_some());
                return self.descend(Open::List(place, Vec::new()), place);
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_marks(place, anchor != 0, tag.is_some());
                return self.descend(Open::Map(place, Vec::new(), None), place);
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(place, list)) => {
                    return self.put(Node { place, content: Content::List(list) });
                }
                Some(Open::Map(place, map, _)) => {
                    return self.put(Node { place, content: Content::Map(map) });
                }
                None => return false,
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        true
    }

    fn refuse_marks(&mut self, place: Place, anchor: bool, tag: bool) {
        if anchor {
            let remedy = "write the value out where it is needed";
            self.refuse(place, "anchors and aliases are not read".to_owned(), remedy);
        }
        if tag {
            let remedy = "remove the tag (the word that begins with `!`)";
            self.refuse(place, "tags are not read".to_owned(), remedy);
        }
    }

    fn descend(&mut self, open: Open, place: Place) -> bool {
        if let Some(Open::Map(_, _, waiting @ None)) = self.open.last_mut() {
            // A list or map as a key: its value must have somewhere to go.
            *waiting = Some(Name { text: String::new(), place });
            let remedy = "write the key as a plain word";
            self.refuse(place, "a key has to be a word".to_owned(), remedy);
            return false;
        }
        if self.open.len() == DEPTH {
            let remedy = "no key lies that deep: check the indentation and the brackets";
            self.refuse(place, format!("more than {DEPTH} levels deep"), remedy);
            return false;
        }
        self.open.push(open);
        true
    }

    fn put(&mut self, node: Node) -> bool {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, list)) => list.push(node),
            Some(Open::Map(_, map, waiting)) => match (waiting.take(), node.content) {
                (None, Content::Scalar { text, .. }) => {
                    *waiting = Some(Name { text, place: node.place });
                }
                (None, _) => return false,
                (Some(name), content) => {
                    let first = map.iter().find(|(known, _)| known.text == name.text);
                    let Some(first) = first.map(|(known, _)| known.place.line) else {
                        map.push((name, Node { place: node.place, content }));
                        return true;
                    };
                    let fault = format!("`{}` is written twice, first in line {first}", name.text);
                    self.refuse(name.place, fault, "keep one of the two");
                }
            },
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(node: &Node) -> &[(Name, Node)] {
        match &node.content {
            Content::Map(map) => map,
            other => panic!("{other:?}"),
        }
    }

    fn faults(text: &str) -> Vec<(usize, usize, String)> {
        let refused = parse(text).unwrap_err();
        refused.into_iter().map(|r| (r.place.line, r.place.column, r.fault)).collect()
    }

    #[test]
    fn every_key_and_value_has_its_place() {
        let root = parse("# c\na:\n  b: 7\n  c: [x, 'y']\n").unwrap().unwrap();
        let (a, inner) = &map(&root)[0];
        assert_eq!((a.text.as_str(), a.place), ("a", Place { line: 2, column: 1 }));
        let (b, seven) = &map(inner)[0];
        assert_eq!(b.place, Place { line: 3, column: 3 });
        assert_eq!(seven.place, Place { line: 3, column: 6 });
        let Content::List(list) = &map(inner)[1].1.content else { panic!() };
        assert_eq!(list[1].place, Place { line: 4, column: 10 });
        assert_eq!(list[1].content, Content::Scalar { text: "y".to_owned(), quoted: true });
    }

    #[test]
    fn a_text_without_values_is_nothing() {
        assert_eq!(parse("").unwrap(), None);
        assert_eq!(parse("# only a comment\n").unwrap(), None);
        assert!(parse("~\n").unwrap().unwrap().is_null());
        assert!(!parse("'null'\n").unwrap().unwrap().is_null());
    }

    #[test]
    fn what_hides_mistakes_is_refused_with_its_place_and_all_at_once() {
        assert_eq!(
            faults("a: 1\nb: &x 2\na: 3\n"),
            vec![
                (2, 7, "anchors and aliases are not read".to_owned()),
                (3, 1, "`a` is written twice, first in line 1".to_owned()),
            ]
        );
        assert_eq!(faults("a: !!str 1\n")[0].2, "tags are not read");
        assert_eq!(faults("a: 1\n---\nb: 2\n"), [(2, 1, "a second document begins here".into())]);
        assert_eq!(faults("[a]: 1\n")[0].2, "a key has to be a word");
    }

    #[test]
    fn a_text_that_is_not_yaml_says_where() {
        let (line, _, fault) = faults("a: 1\nb: [1, 2\nc: 3\n").remove(0);
        assert!(fault.starts_with("not YAML: "), "{fault}");
        assert!(line >= 2);
    }

    #[test]
    fn nesting_without_end_is_refused() {
        let deep = |levels| faults(&format!("a: {}", "[".repeat(levels))).remove(0);
        assert_eq!(deep(20), (1, 19, "more than 16 levels deep".to_owned()));
        assert!(deep(100_000).2.contains("limit"), "the parser itself gives up first");
    }
}
