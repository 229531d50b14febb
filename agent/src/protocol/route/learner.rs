//! [`Learner`]: the routes of one service as a tree of segments.
//!
//! A position with more names than the bound becomes `{param}`: what was learnt below
//! the names is given up and comes back below the parameter. **At most as many
//! routes stand as the bound says**, and memory follows them: names that found no room
//! leave a number each, and those are bounded by the same count.

use std::collections::HashMap;
use std::sync::Arc;

use super::segment;

/// Segments of a path that make its route; what follows them is [`DEEPER`].
const DEPTH: usize = 12;
/// Stands for everything below [`DEPTH`].
const DEEPER: &str = "*";
/// Stands for a segment at a position with too many names.
const PARAM: &str = "{param}";

/// What a path turned out to be.
#[derive(Debug)]
pub(super) enum Learnt {
    /// Its route.
    Route(Arc<str>),
    /// Its route, or no room; and routes of other paths have changed.
    Changed(Option<Arc<str>>),
    /// The bound is reached.
    NoRoom,
}

/// One service.
#[derive(Debug, Default)]
pub(super) struct Learner {
    root: Node,
    routes: usize,
    /// Reused between paths: the segment under its parameter's name.
    name: String,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, Node, ahash::RandomState>,
    /// Children that stand for themselves.
    names: usize,
    /// Hashes of names that found no room.
    refused: Vec<u64>,
    /// Every name is `{param}`.
    collapsed: bool,
    /// The route that ends here.
    route: Option<Arc<str>>,
}

impl Learner {
    /// How many routes stand.
    pub(super) fn routes(&self) -> usize {
        self.routes
    }

    /// The route of `path`, which begins with a slash. At most `room` routes, at most
    /// `names` at one position.
    pub(super) fn learn(&mut self, path: &str, room: usize, names: usize) -> Learnt {
        if let Some(route) = self.known(path) {
            return Learnt::Route(route);
        }
        let collapsed = self.note_names(path, room, names);
        let route = match self.known(path) {
            Some(route) => Some(route),
            None => (self.routes < room).then(|| self.plant(path)),
        };
        match (route, collapsed) {
            (route, true) => Learnt::Changed(route),
            (Some(route), false) => Learnt::Route(route),
            (None, false) => Learnt::NoRoom,
        }
    }

    fn known(&mut self, path: &str) -> Option<Arc<str>> {
        let mut node = &self.root;
        for segment in segments(path) {
            let name = name(node.collapsed, segment, &mut self.name);
            node = node.children.get(name)?;
        }
        node.route.clone()
    }

    /// The position at which the path leaves what is known gets one name more: whether
    /// that makes it `{param}`.
    fn note_names(&mut self, path: &str, room: usize, names: usize) -> bool {
        let has_room = self.routes < room;
        let mut node = &mut self.root;
        for segment in segments(path) {
            let name = name(node.collapsed, segment, &mut self.name);
            if node.children.contains_key(name) {
                let Some(child) = node.children.get_mut(name) else { return false };
                node = child;
                continue;
            }
            if node.collapsed || is_parameter(name) {
                return false;
            }
            if !has_room {
                let hash = fingerprint(name);
                if !node.refused.contains(&hash) {
                    node.refused.push(hash);
                }
            }
            let seen = node.names + node.refused.len() + usize::from(has_room);
            if seen <= names {
                return false;
            }
            let given_up = node.collapse();
            self.routes -= given_up;
            return true;
        }
        false
    }

    /// Adds the path's route.
    fn plant(&mut self, path: &str) -> Arc<str> {
        let mut route = String::with_capacity(path.len());
        let mut node = &mut self.root;
        for segment in segments(path) {
            let name = name(node.collapsed, segment, &mut self.name);
            route.push('/');
            route.push_str(name);
            if !node.children.contains_key(name) {
                node.names += usize::from(!is_parameter(name));
                if !node.refused.is_empty() {
                    let hash = fingerprint(name);
                    node.refused.retain(|refused| *refused != hash);
                }
                node.children.insert(name.into(), Node::default());
            }
            node = node.children.entry(name.into()).or_default();
        }
        self.routes += 1;
        let route: Arc<str> = Arc::from(route);
        node.route = Some(Arc::clone(&route));
        route
    }
}

impl Node {
    /// Gives up every name below; parameters by their looks stay. How many routes that freed.
    fn collapse(&mut self) -> usize {
        self.collapsed = true;
        self.names = 0;
        self.refused = Vec::new();
        let mut freed = 0;
        self.children.retain(|name, child| {
            let stays = is_parameter(name);
            if !stays {
                freed += child.routes();
            }
            stays
        });
        freed
    }

    fn routes(&self) -> usize {
        usize::from(self.route.is_some()) + self.children.values().map(Self::routes).sum::<usize>()
    }
}

/// At most [`DEPTH`] segments, without what a `;` begins (it may be a session), then [`DEEPER`].
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').skip(1).enumerate().take(DEPTH + 1).map(|(index, segment)| {
        if index == DEPTH { DEEPER } else { segment.split(';').next().unwrap_or_default() }
    })
}

/// The name of the child that `segment` leads to.
fn name<'a>(collapsed: bool, segment: &'a str, buffer: &'a mut String) -> &'a str {
    if segment.is_empty() || segment == DEEPER {
        return segment;
    }
    if let Some(parameter) = segment::parameter(segment) {
        return parameter;
    }
    // A client may not name a parameter of its own.
    if collapsed || segment.starts_with('{') {
        return PARAM;
    }
    let (stem, ending) = segment::split_ending(segment);
    if !ending.is_empty()
        && let Some(parameter) = segment::parameter(stem)
    {
        buffer.clear();
        buffer.push_str(parameter);
        buffer.push_str(ending);
        return buffer;
    }
    segment
}

/// Whether it stands for any number of segments, so that it counts for no name. One
/// with an ending (`{id}.json`) is a name: endings are the client's choice.
fn is_parameter(name: &str) -> bool {
    name.is_empty() || name == DEEPER || (name.starts_with('{') && name.ends_with('}'))
}

/// Equal names have equal numbers; two names of one position with the same number
/// would count as one name, which costs nothing but lateness.
fn fingerprint(name: &str) -> u64 {
    ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(name)
}
