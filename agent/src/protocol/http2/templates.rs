//! [`Templates`]: what heads say of which the kernel half may count the calls
//! ([`meshtap_ebpf::streams`]). It knows a block of headers by a tag alone; of a call that it
//! let wait and has told after all, the rest is said here.
//!
//! Bounded: a few for each connection, and all of them by the [`Budget`] of the tables of
//! header compression. A head that is not kept has its calls told one by one.

use std::num::NonZeroU64;

use super::fields::Fields;
use super::hpack::{Budget, Share};

/// Heads of requests that are kept for a connection.
const HEADS: usize = 32;
/// What one counts for, with its answer, beside what others share.
const BYTES: usize = 1_024;
/// Time after which one gives way that the kernel half may still know.
const IDLE_NS: u64 = 60_000_000_000;

/// The heads of one connection.
#[derive(Debug)]
pub(super) struct Templates {
    known: Vec<Template>,
    share: Share,
}

/// A request's head.
#[derive(Debug)]
pub(super) struct Template {
    tag: NonZeroU64,
    /// What it says.
    pub(super) fields: Fields,
    /// The head of the answers that it gets.
    answer: Option<(NonZeroU64, Fields)>,
    /// It was answered so twice in a row, and calls that are answered so may be counted: it
    /// does not change any more.
    is_usual: bool,
    used_ns: u64,
}

impl Template {
    /// What the answers say that are counted.
    pub(super) fn answer(&self) -> Option<&Fields> {
        self.answer.as_ref().map(|(_, fields)| fields)
    }
}

impl Templates {
    /// None yet.
    pub(super) fn new(budget: &Budget) -> Self {
        Self { known: Vec::new(), share: Share::new(budget) }
    }

    /// The head of a tag, if it was kept.
    pub(super) fn get(&mut self, tag: u64) -> Option<&mut Template> {
        self.known.iter_mut().find(|template| template.tag.get() == tag)
    }

    /// Keeps what a request's head says; false: it is none to be counted, or there is no room.
    pub(super) fn keep(&mut self, tag: NonZeroU64, fields: &Fields, now_ns: u64) -> bool {
        if !is_whole(fields) || !fields.relayed.is_empty() {
            return false;
        }
        if let Some(template) = self.get(tag.get()) {
            template.used_ns = now_ns;
            return true;
        }
        if !self.make_room(now_ns) {
            return false;
        }
        let fields = fields.clone();
        self.known.push(Template { tag, fields, answer: None, is_usual: false, used_ns: now_ns });
        true
    }

    /// A call whose request's head has this tag was answered by a head of another one: whether
    /// that is how it is usually answered.
    pub(super) fn answered(&mut self, tag: NonZeroU64, head: NonZeroU64, fields: &Fields) -> bool {
        let Some(template) = self.get(tag.get()) else { return false };
        let is_same = template.answer.as_ref().is_some_and(|(known, _)| *known == head);
        if is_same || template.is_usual {
            template.is_usual = true;
            return is_same;
        }
        template.answer = is_whole(fields).then(|| (head, fields.clone()));
        false
    }

    fn make_room(&mut self, now_ns: u64) -> bool {
        if self.known.len() >= HEADS {
            let old = |template: &Template| {
                !template.is_usual || now_ns.saturating_sub(template.used_ns) > IDLE_NS
            };
            let ages = self.known.iter().enumerate().filter(|(_, template)| old(template));
            let Some((index, _)) = ages.min_by_key(|(_, template)| template.used_ns) else {
                return false;
            };
            self.known.swap_remove(index);
        }
        self.share.hold((self.known.len() + 1) * BYTES)
    }
}

/// Whether all of it is known, and another block may say the same.
fn is_whole(fields: &Fields) -> bool {
    fields.repeat() && !fields.cut && !fields.unknown && !fields.unreadable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(number: u64) -> NonZeroU64 {
        NonZeroU64::new(number).unwrap()
    }

    fn saying(say: impl FnOnce(&mut Fields)) -> Fields {
        let mut fields = Fields::default();
        say(&mut fields);
        fields
    }

    fn templates() -> Templates {
        Templates::new(&Budget::default())
    }

    #[test]
    fn an_answer_is_usual_the_second_time_and_from_then_on() {
        let mut templates = templates();
        assert!(templates.keep(tag(1), &Fields::default(), 0));
        let ok = saying(|fields| fields.status = Some(200));
        let bad = saying(|fields| fields.status = Some(500));
        assert!(!templates.answered(tag(1), tag(8), &bad));
        assert!(!templates.answered(tag(1), tag(9), &ok), "it was another one before");
        assert!(templates.answered(tag(1), tag(9), &ok));
        assert!(!templates.answered(tag(1), tag(8), &bad));
        assert!(!templates.answered(tag(1), tag(8), &bad), "one of them is usual already");
        assert_eq!(templates.get(1).unwrap().answer().unwrap().status, Some(200));
        assert!(!templates.answered(tag(2), tag(9), &ok), "no such head");
    }

    #[test]
    fn what_is_not_whole_is_not_kept() {
        let mut templates = templates();
        let fields = saying(|fields| fields.unknown = true);
        assert!(!templates.keep(tag(1), &fields, 0));
        let fields = saying(|fields| fields.request_id = Some("a".into()));
        assert!(!templates.keep(tag(1), &fields, 0));
    }

    #[test]
    fn the_oldest_that_nothing_waits_for_gives_way() {
        let (mut templates, fields) = (templates(), Fields::default());
        for number in 1..=HEADS as u64 {
            assert!(templates.keep(tag(number), &fields, number));
            templates.answered(tag(number), tag(9), &fields);
            if number != 7 {
                assert!(templates.answered(tag(number), tag(9), &fields));
            }
        }
        assert!(templates.keep(tag(100), &fields, 100));
        assert!(templates.get(7).is_none(), "nothing is counted of it");
        assert!(templates.answered(tag(100), tag(9), &fields) || templates.get(100).is_some());
        templates.answered(tag(100), tag(9), &fields);
        assert!(!templates.keep(tag(101), &fields, 101), "each may be waited for");
        assert!(templates.keep(tag(101), &fields, IDLE_NS + 50));
        assert!(templates.get(1).is_none());
    }

    #[test]
    fn all_connections_share_what_there_is() {
        let budget = Budget::new(BYTES * 2);
        let (mut one, mut other) = (Templates::new(&budget), Templates::new(&budget));
        let fields = Fields::default();
        assert!(one.keep(tag(1), &fields, 0) && other.keep(tag(1), &fields, 0));
        assert!(!one.keep(tag(2), &fields, 0));
        drop(other);
        assert!(one.keep(tag(2), &fields, 0));
    }
}
