//! [`RoutePattern`]: a route that an operator wrote down.
//!
//! Refuses what could never fit, with the remedy, when it is read and not when it is used.

use std::sync::Arc;

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It does not begin with a slash.
    #[error("route pattern `{0}` does not begin with `/`: paths do, so write `/{0}`")]
    Relative(String),
    /// Query or fragment.
    #[error(
        "route pattern `{0}` has a query or fragment: routes are of paths only, so leave out what follows `?` or `#`"
    )]
    Query(String),
    /// `{` or `}` or `*` inside a segment.
    #[error(
        "segment `{segment}` of route pattern `{pattern}` mixes text with `{{`, `}}` or `*`: a parameter is a whole segment, such as `{{id}}` or `*`"
    )]
    Mixed {
        /// All of it.
        pattern: String,
        /// The segment.
        segment: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    /// `{name}`, or `*` before the end: any one segment that is not empty.
    One,
    /// `*` at the end: one or more segments.
    Rest,
}

/// For which services, and which paths have this route.
///
/// A path fits segment by segment: text is itself, `{name}` and `*` are any one
/// segment, and a `*` at the end is everything that follows, at least one segment. The
/// route is the pattern as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePattern {
    service: Box<str>,
    segments: Vec<Segment>,
    route: Arc<str>,
}

impl RoutePattern {
    /// `service` may hold `*` for any run of characters (`*` alone: every service).
    ///
    /// # Errors
    /// [`PatternError`] where no path could ever fit.
    pub fn new(service: &str, pattern: &str) -> Result<Self, PatternError> {
        let Some(path) = pattern.strip_prefix('/') else {
            return Err(PatternError::Relative(pattern.to_owned()));
        };
        if path.contains(['?', '#']) {
            return Err(PatternError::Query(pattern.to_owned()));
        }
        let last = path.split('/').count() - 1;
        let mut segments = Vec::with_capacity(last + 1);
        for (index, segment) in path.split('/').enumerate() {
            let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let is_mixed = name.unwrap_or(segment).contains(['{', '}', '*']);
            segments.push(match (segment, name) {
                ("*", _) if index == last => Segment::Rest,
                ("*", _) => Segment::One,
                (_, Some(name)) if !is_mixed && !name.is_empty() => Segment::One,
                (_, None) if !is_mixed => Segment::Literal(segment.into()),
                _ => {
                    let (pattern, segment) = (pattern.to_owned(), segment.to_owned());
                    return Err(PatternError::Mixed { pattern, segment });
                }
            });
        }
        Ok(Self { service: service.into(), segments, route: Arc::from(pattern) })
    }

    /// Whether this is the route of `path` at `service`.
    #[must_use]
    pub fn fits(&self, service: &str, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else { return false };
        glob(self.service.as_bytes(), service.as_bytes()) && self.fits_segments(path)
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn route(&self) -> Arc<str> {
        Arc::clone(&self.route)
    }

    fn fits_segments(&self, path: &str) -> bool {
        let mut path = path.split('/');
        for segment in &self.segments {
            let Some(actual) = path.next() else { return false };
            match segment {
                Segment::Literal(expected) if **expected == *actual => {}
                Segment::One if !actual.is_empty() => {}
                Segment::Rest => return !actual.is_empty() || path.next().is_some(),
                Segment::Literal(_) | Segment::One => return false,
            }
        }
        path.next().is_none()
    }
}

/// `*` stands for any run of characters. Linear but for one step back per `*`.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut pos) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while pos < text.len() {
        if pattern.get(at) == Some(&b'*') {
            retry = Some((at + 1, pos));
            at += 1;
        } else if pattern.get(at) == Some(&text[pos]) {
            at += 1;
            pos += 1;
        } else if let Some((after, from)) = retry {
            retry = Some((after, from + 1));
            (at, pos) = (after, from + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}
